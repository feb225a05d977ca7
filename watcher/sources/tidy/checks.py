"""Where a row stands, and how it is refused: by file, row and column."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from watcher.errors import DataError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Place:
    """Where rows come from, so that a refused one can be named.

    A frame that was cut out of a larger one keeps its integer index, and rows are named as in the larger one;
    any other index is ignored.
    """

    name: str
    index: pd.Index[Any]
    numbered: bool

    @classmethod
    def of(cls, frame: pd.DataFrame, name: str) -> Place:
        """Return the place of a frame's rows."""
        return cls(name, frame.index, is_numbered(frame))

    def row(self, position: int) -> int:
        """Return the 1-based row below the header."""
        return int(self.index[position] if self.numbered else position) + 1

    def refusal(self, problem: str, column: str | None = None, position: int | None = None) -> DataError:
        """Return the error that names the file, the column and the row."""
        row = None if position is None else self.row(position)
        return DataError(problem, file=self.name, row=row, column=column)

    def refuse_first(self, bad: Mask, column: str, problem: Callable[[int], str]) -> None:
        """Raise for the first bad row, if there is one; `problem` is given its position."""
        if bad.any():
            position = int(np.argmax(bad))
            raise self.refusal(problem(position), column, position)

    def missing(self, wanted: str, columns: Iterable[object], kind: str = "column") -> DataError:
        """Return the error for a name that is not there: what is there, and what may have been meant."""
        names = [str(column) for column in columns]
        lower = {name.lower(): name for name in names}
        near = difflib.get_close_matches(wanted.lower(), lower, n=1)
        meant = f"; did you mean {lower[near[0]]!r}?" if near else ""
        shown = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
        problem = f"there is no {kind} {wanted!r}{meant} (there are: {shown or 'none'})"
        return self.refusal(problem, wanted if kind == "column" else kind)


def is_numbered(frame: pd.DataFrame) -> bool:
    """Tell whether the index of a frame counts the rows of the table it came from."""
    index = frame.index
    return bool(pd.api.types.is_integer_dtype(index.dtype) and index.is_monotonic_increasing and index.is_unique)

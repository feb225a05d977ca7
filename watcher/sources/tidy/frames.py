"""Frames of any shape made flat, and cut into their releases."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from watcher.errors import DataError
from watcher.sources.tidy.checks import Place, is_numbered
from watcher.sources.tidy.columns import RELEASE, text


def split_releases(frame: pd.DataFrame, *, name: str = "<frame>") -> list[tuple[str | None, pd.DataFrame]]:
    """Cut a table into its releases, in order of appearance; a table without the column is one, called None.

    Rows keep their numbers, so that an error in a part names the row of the whole.

    Raises:
        DataError: a row without a release in a table that has the column.
    """
    frame = flat(frame, name)
    column = first_of(RELEASE, frame)
    if column is None:
        return [(None, frame)]
    names = text(frame[column])
    Place.of(frame, name).refuse_first(names.equal_to(""), column, lambda _: "the release is missing")
    order = np.argsort(names.codes, kind="stable")
    sizes = np.bincount(names.codes, minlength=len(names.values))
    parts = np.split(order, np.cumsum(sizes)[:-1])
    found = [(names.values[code], rows) for code, rows in enumerate(parts) if len(rows)]
    return [(release, frame.iloc[rows]) for release, rows in sorted(found, key=lambda part: int(part[1][0]))]


def of_release(frame: pd.DataFrame, release: str | None, name: str) -> pd.DataFrame:
    """Return the rows of one release, or, with None, those of the only one.

    Raises:
        DataError: there is no such release, there are several to choose from, or there are no rows.
    """
    column = first_of(RELEASE, frame)
    if column is not None:
        names = text(frame[column])
        place = Place.of(frame, name)
        if release is not None:
            if release not in names.present:
                raise place.missing(release, names.present, column)
            frame = frame[names.equal_to(release)]
        elif len(names.present) > 1:
            raise place.refusal(f"the table holds {len(names.present)} releases; judge each by itself", column)
    elif release is not None:
        raise Place.of(frame, name).missing("release", frame.columns)
    if frame.empty:
        raise DataError("the table has no rows", file=name)
    return frame


def flat(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the frame with named index levels as columns, string column names and an index that numbers the rows."""
    inside = [level for level in frame.index.names if level is not None and level not in frame.columns]
    if inside:
        frame = frame.reset_index(level=inside)
    if not is_numbered(frame):
        frame = frame.reset_index(drop=True)
    frame = frame.set_axis(frame.columns.map(str), axis=1)
    if not frame.columns.is_unique:
        twice = str(frame.columns[frame.columns.duplicated()][0])
        raise DataError("the table has this column twice", file=name, column=twice)
    return frame


def first_of(names: Sequence[str], frame: pd.DataFrame) -> str | None:
    """Return the first of the names that is a column."""
    return next((name for name in names if name in frame.columns), None)


def values_of(frame: pd.DataFrame, column: str) -> tuple[str, ...]:
    """Return the values of a column of labels that occur, but for the empty one, sorted."""
    return text(frame[column]).present


def said_of_release(frame: pd.DataFrame, column: str, name: str) -> str:
    """Return what a column says of a whole release; empty where it says nothing, or is not there.

    Raises:
        DataError: rows that contradict each other.
    """
    if column not in frame.columns:
        return ""
    said = text(frame[column])
    if len(said.present) <= 1:
        return said.present[0] if said.present else ""
    first = int(np.argmax(said.codes > 0))
    place = Place.of(frame, name)
    other = (said.codes > 0) & (said.codes != said.codes[first])
    row, was = int(np.argmax(other)), said.at(first)
    raise place.refusal(f"{said.at(row)!r} here and {was!r} in row {place.row(first)}: a release has one", column, row)

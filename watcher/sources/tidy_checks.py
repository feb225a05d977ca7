"""Columns of a tidy table turned into arrays, or refused by file, row and column.

Text becomes integer codes and a list of distinct values, so that whatever has to look at a value looks at every
distinct value once and never at every row.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from watcher.errors import DataError
from watcher.model import Floats, Matcher

Codes = NDArray[np.integer[Any]]
Mask = NDArray[np.bool_]

BASELINE, TREATMENT, WHOLE = 0, 1, 2
"""Codes of the arms; WHOLE is a row about the service as a whole."""

RELEASE = ("release", "release_id")
EXPOSED_AT = ("exposed_at", "change_time")
RESERVED = frozenset(
    {"timestamp", "arm", "metric", *RELEASE, *EXPOSED_AT, "label", "group", "unit", "le", "count", "value"}
)
"""Columns with a meaning of their own: never stream labels."""

_ARMS = {"": WHOLE, "baseline": BASELINE, "control": BASELINE, "treatment": TREATMENT, "canary": TREATMENT}
_OFFSET = re.compile(r".*[Tt ]\d[\d:.,]*\s*([Zz]|[+-]\d\d(:?\d\d)?)")
_NO_NUMBER = {"", "NA", "N/A", "NULL", "NAN", "NONE", "<NA>"}
_LATEST = 1e11  # the year 5138; epoch milliseconds of this century lie above it
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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


@dataclass(frozen=True)
class Text:
    """A column of labels: `values[codes[row]]`; a missing label is the empty string, `values[0]`."""

    codes: Codes
    values: tuple[str, ...]

    def equal_to(self, *wanted: str) -> Mask:
        """Tell which rows hold one of the values."""
        return np.array([value in wanted for value in self.values])[self.codes]

    def matched_by(self, matcher: Matcher) -> Mask:
        """Tell which rows a label matcher matches."""
        return np.array([matcher.matches(value) for value in self.values])[self.codes]

    def at(self, row: int) -> str:
        """Return the value of one row."""
        return self.values[int(self.codes[row])]

    @cached_property
    def present(self) -> tuple[str, ...]:
        """The values that occur, but for the empty one, sorted."""
        seen = np.bincount(self.codes, minlength=len(self.values))
        return tuple(sorted(value for value, times in zip(self.values, seen, strict=True) if times and value))


def is_text(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds labels rather than measurements or times."""
    kind = column.dtype
    types = pd.api.types
    return bool(
        isinstance(kind, pd.CategoricalDtype)
        or types.is_string_dtype(kind)
        or types.is_object_dtype(kind)
        or types.is_bool_dtype(kind)
    )


def text(column: pd.Series[Any]) -> Text:
    """Read a column of any type as labels.

    >>> text(pd.Series([200, None, 500.0])).values
    ('', '200', '500')
    """
    codes, distinct = _distinct(column)
    known = {"": 0}
    words = [known.setdefault(_word(value), len(known)) for value in distinct]
    # A missing value has code -1 and so picks the last entry.
    return Text(np.array([*words, 0], dtype=np.int32)[codes], tuple(known))


def _distinct(column: pd.Series[Any]) -> tuple[Codes, list[Any]]:
    if isinstance(column.dtype, pd.CategoricalDtype):
        return np.asarray(column.cat.codes), list(column.cat.categories)
    codes, distinct = pd.factorize(column)
    return codes, list(distinct)


def _word(value: Any) -> str:
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and np.isfinite(value) and value == int(value):
        return str(int(value))
    return str(value)


def arms(column: Text, place: Place) -> NDArray[np.int8]:
    """Return BASELINE, TREATMENT or WHOLE for every row.

    Raises:
        DataError: an arm that is none of baseline, control, treatment, canary or empty.
    """
    codes = np.array([_ARMS.get(value, -1) for value in column.values], dtype=np.int8)[column.codes]
    place.refuse_first(
        codes < 0,
        "arm",
        lambda row: (
            f"unknown arm {column.at(row)!r}; an arm is baseline (or control), treatment (or canary), "
            "or empty for the whole service"
        ),
    )
    return codes


def seconds(column: pd.Series[Any], place: Place, *, optional: bool = False) -> Floats:
    """Return times as epoch seconds; with `optional`, a missing time is NaN.

    Raises:
        DataError: a time that is missing, not a time, naive, infinite or in epoch milliseconds.
    """
    name = str(column.name)
    if isinstance(column.dtype, pd.DatetimeTZDtype):
        times = _from_moments(pd.DatetimeIndex(column))
    elif pd.api.types.is_datetime64_dtype(column.dtype):
        raise place.refusal(_naive(str(column.iloc[0])), name, 0)
    elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_bool_dtype(column.dtype):
        times = column.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        times = _from_words(column, place)
    if not optional:
        place.refuse_first(np.isnan(times), name, lambda _: "the time is missing; every row needs one")
    place.refuse_first(np.isinf(times), name, lambda row: f"{times[row]:g} is not a time")
    place.refuse_first(
        np.abs(times) > _LATEST,
        name,
        lambda row: f"{times[row]:.0f} is too large for epoch seconds; divide milliseconds by 1000",
    )
    return times


def _from_moments(moments: pd.DatetimeIndex) -> Floats:
    # Whole and fractional seconds apart: nanoseconds since 1970 do not fit a float64 exactly.
    whole, rest = np.divmod(moments.asi8, _PER_SECOND[moments.unit])
    return np.asarray(np.where(moments.isna(), np.nan, whole + rest / _PER_SECOND[moments.unit]), dtype=np.float64)


def _from_words(column: pd.Series[Any], place: Place) -> Floats:
    codes, distinct = _distinct(column)
    words = pd.Series([str(value).strip() for value in distinct], dtype=object)
    times = pd.to_numeric(words, errors="coerce").to_numpy(dtype=np.float64, copy=True)
    written = np.isnan(times)
    moments = pd.to_datetime(words[written], utc=True, format="ISO8601", errors="coerce")
    times[written] = _from_moments(pd.DatetimeIndex(moments))
    name = str(column.name)
    blank = (words == "").to_numpy(dtype=bool)
    wrong = np.append(np.isnan(times) & ~blank, False)
    place.refuse_first(
        wrong[codes],
        name,
        lambda row: f"{words[codes[row]]!r} is not a time; write ISO 8601 with an offset, or epoch seconds",
    )
    naive = np.append(
        written & ~blank & ~np.array([bool(_OFFSET.fullmatch(word)) for word in words], dtype=bool), False
    )
    place.refuse_first(naive[codes], name, lambda row: _naive(words[codes[row]]))
    return np.asarray(np.append(times, np.nan)[codes], dtype=np.float64)


def _naive(word: str) -> str:
    return f"{word!r} does not say in which time zone; write the offset, as in 2026-11-20T10:00:00+00:00"


@dataclass(frozen=True)
class Numbers:
    """A column of numbers; NaN where there is none. `garbled` marks text that is not a number."""

    name: str
    values: Floats
    garbled: Mask | None
    words: Callable[[int], str]

    def check(self, rows: Mask, place: Place, *, whole: bool, negative: bool = False) -> None:
        """Refuse what is not a finite number, a negative one, or a fraction where `whole` numbers are meant.

        Raises:
            DataError: the first such row among `rows`. NaN passes.
        """
        values, name = self.values, self.name
        if self.garbled is not None:
            place.refuse_first(rows & self.garbled, name, lambda row: f"{self.words(row)!r} is not a number")
        place.refuse_first(rows & np.isinf(values), name, lambda row: f"{values[row]:g} is not a measurement")
        if not negative:
            what = "a count" if whole else "a duration"
            place.refuse_first(rows & (values < 0), name, lambda row: f"{values[row]:g} is negative; {what} cannot be")
        if whole:
            place.refuse_first(
                rows & (values != np.floor(values)) & ~np.isnan(values),
                name,
                lambda row: f"{values[row]:g} is a fraction; a count is a whole number of events (not a rate)",
            )


def numbers(column: pd.Series[Any]) -> Numbers:
    """Read a column of any type as numbers."""
    name = str(column.name)
    if pd.api.types.is_numeric_dtype(column.dtype):
        return Numbers(
            name, column.to_numpy(dtype=np.float64, na_value=np.nan), None, lambda row: str(column.iloc[row])
        )
    codes, distinct = _distinct(column)
    words = pd.Series([str(value).strip() for value in distinct], dtype=object)
    parsed = pd.to_numeric(words, errors="coerce").to_numpy(dtype=np.float64)
    known = np.array([word.upper() in _NO_NUMBER for word in words], dtype=bool)
    garbled = np.append(np.isnan(parsed) & ~known, False)[codes]
    return Numbers(name, np.append(parsed, np.nan)[codes], garbled, lambda row: str(words[codes[row]]))


def combined(columns: Sequence[tuple[Codes, int]], rows: int) -> tuple[NDArray[np.int64], int]:
    """Fold several columns of codes, each with its number of values, into one key; returns it with its bound.

    >>> combined([(np.array([0, 1, 1]), 2), (np.array([2, 0, 2]), 3)], 3)
    (array([2, 3, 5]), 6)
    """
    key, size = np.zeros(rows, dtype=np.int64), 1
    for codes, values in columns:
        if size > 2**62 // max(values, 1):
            key, seen = pd.factorize(key)
            size = len(seen)
        if values > 1:
            key, size = key * values + codes, size * values
    return key, size


def numbered(key: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return dense ids of a key, and for each id a position at which it occurs."""
    if size <= 4 * len(key) + 1_000_000:
        present = np.flatnonzero(np.bincount(key, minlength=size))
        dense = np.zeros(size, dtype=np.int64)
        dense[present] = np.arange(len(present))
        ids = dense[key]
    else:
        ids, present = pd.factorize(key)
    example = np.empty(len(present), dtype=np.int64)
    example[ids] = np.arange(len(ids))
    return ids, example


def repeated(key: NDArray[np.int64], size: int) -> Mask:
    """Tell which rows repeat the key of an earlier row."""
    if size <= 8 * len(key) and np.bincount(key, minlength=size).max(initial=0) <= 1:
        return np.zeros(len(key), dtype=bool)
    return np.asarray(pd.Series(key).duplicated(), dtype=bool)


class Table:
    """The columns of one release as codes and numbers, each read once."""

    def __init__(self, frame: pd.DataFrame, name: str) -> None:
        self.frame, self.place = frame, Place.of(frame, name)
        if "timestamp" not in frame.columns:
            raise self.place.missing("timestamp", frame.columns)
        times = seconds(frame["timestamp"], self.place)
        codes, distinct = pd.factorize(times)
        order = np.argsort(distinct)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        self.times, self.moments, self.stamps = times, distinct[order], rank[codes]
        self._texts: dict[str, Text] = {}
        self._numbers: dict[str, Numbers] = {}
        self.arms = arms(self.text("arm"), self.place)

    def text(self, column: str) -> Text:
        """Return a column as labels; one that does not exist is empty everywhere."""
        if column not in self._texts:
            absent = Text(np.zeros(len(self.frame), dtype=np.int32), ("",))
            self._texts[column] = text(self.frame[column]) if column in self.frame.columns else absent
        return self._texts[column]

    def numbers(self, column: str) -> Numbers:
        """Return a column as numbers."""
        if column not in self.frame.columns:
            raise self.place.missing(column, self.frame.columns)
        if column not in self._numbers:
            self._numbers[column] = numbers(self.frame[column])
        return self._numbers[column]

    def key(self, columns: Sequence[str], *extra: tuple[Codes, int]) -> tuple[NDArray[np.int64], int]:
        """Fold label columns and further codes into one key per row."""
        folded = [(self.text(column).codes, len(self.text(column).values)) for column in columns]
        return combined([*extra, *folded], len(self.frame))

    @property
    def instants(self) -> tuple[tuple[Codes, int], tuple[Codes, int]]:
        """Codes of time and arm, with their numbers of values."""
        return (self.stamps, len(self.moments)), (self.arms, 3)


@dataclass(frozen=True)
class Histograms:
    """Cumulative buckets of one layout: `rows` [histogram] positions, `edges` [edge], `counts` [histogram, edge]."""

    rows: NDArray[np.int64]
    edges: Floats
    counts: Floats
    dropped: int


def histograms(
    rows: NDArray[np.int64], ids: NDArray[np.int64], le: Text, counts: Numbers, place: Place, *, drop: bool
) -> Histograms:
    """Put the bucket rows of a table together.

    Args:
        rows: positions of the bucket rows, shape [row].
        ids: which histogram each belongs to, dense, shape [row].
        le: upper edges, as text, of the whole table.
        counts: cumulative counts of the whole table.
        drop: leave out histograms with a missing count instead of refusing them.

    Raises:
        DataError: an edge that is not a number, no +Inf, differing edges, counts that are missing or decrease.
    """
    edge = np.array([_edge(value) for value in le.values])[le.codes[rows]]
    _refuse_row(
        np.isnan(edge),
        rows,
        place,
        "le",
        lambda row: f"{le.at(row)!r} is not the upper edge of a bucket; +Inf is the last",
    )
    order = np.lexsort((edge, ids))
    sizes = np.bincount(ids)
    begins = np.cumsum(sizes) - sizes
    _refuse_mixed(begins, sizes, rows[order], edge[order], place)
    shape = (len(sizes), int(sizes[0]))
    where, edges = rows[order].reshape(shape), edge[order][: shape[1]]
    if not np.isinf(edges[-1]):
        raise place.refusal(
            "the histogram has no +Inf bucket, so its requests cannot be counted", "le", int(where[0, -1])
        )
    table = counts.values[where]
    hollow = np.isnan(table)
    if not drop:
        _refuse_row(hollow.ravel(), where.ravel(), place, counts.name, lambda _: no_count())
    keep = np.asarray(~hollow.any(axis=1), dtype=bool)
    falls = table < np.column_stack([np.zeros(len(table)), table[:, :-1]])
    _refuse_row(
        (falls & keep[:, None]).ravel(),
        where.ravel(),
        place,
        counts.name,
        lambda row: (
            f"{counts.values[row]:g} at le={le.at(row)} is below the bucket before it; buckets are cumulative over le"
        ),
    )
    return Histograms(where[keep, 0], edges, table[keep], int(hollow.sum()))


def no_count() -> str:
    """Say that a count is missing."""
    return "the count is missing; fill it in, or leave such rows out with --drop-bad-rows (drop_bad_rows=True)"


def _edge(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return np.nan


def _refuse_row(bad: Mask, rows: NDArray[np.int64], place: Place, column: str, problem: Callable[[int], str]) -> None:
    if bad.any():
        position = int(rows[bad].min())
        raise place.refusal(problem(position), column, position)


def _refuse_mixed(
    begins: NDArray[np.int64], sizes: NDArray[np.int64], rows: NDArray[np.int64], edge: Floats, place: Place
) -> None:
    odd = sizes != sizes[0]
    if not odd.any():
        table = edge.reshape(len(sizes), -1)
        odd = (table != table[0]).any(axis=1)
    if not odd.any():
        return
    at = int(np.argmax(odd))

    def layout(histogram: int) -> str:
        edges = edge[begins[histogram] : begins[histogram] + sizes[histogram]]
        return ", ".join("+Inf" if np.isinf(value) else f"{value:g}" for value in edges)

    raise place.refusal(
        f"mixed bucket layouts: edges {layout(at)} here, edges {layout(0)} at row {place.row(int(rows[begins[0]]))}",
        "le",
        int(rows[begins[at]]),
    )

"""Columns turned into arrays, and what the columns with a meaning of their own are called.

Text becomes integer codes and a list of distinct values, so that whatever has to look at a value looks at every
distinct value once and never at every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from watcher.model import Floats, Matcher
from watcher.sources.tidy.checks import Mask, Place

Codes = NDArray[np.integer[Any]]

BASELINE, TREATMENT, WHOLE = 0, 1, 2
"""Codes of the arms; WHOLE is a row about the service as a whole."""

RELEASE = ("release", "release_id")
EXPOSED_AT = ("exposed_at", "change_time")
RESERVED = frozenset(
    {"timestamp", "arm", "metric", *RELEASE, *EXPOSED_AT, "label", "group", "unit", "le", "count", "value"}
)
"""Columns with a meaning of their own: never stream labels."""

NO_COUNT = "the count is missing; fill it in, or leave such rows out with --drop-bad-rows (drop_bad_rows=True)"

_ARMS = {"": WHOLE, "baseline": BASELINE, "control": BASELINE, "treatment": TREATMENT, "canary": TREATMENT}
_OFFSET = re.compile(r".*[Tt ]\d[\d:.,]*\s*([Zz]|[+-]\d\d(:?\d\d)?)")
_NO_NUMBER = {"", "NA", "N/A", "NULL", "NAN", "NONE", "<NA>"}
_LATEST = 1e11  # the year 5138; epoch milliseconds of this century lie above it
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


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
    whole = moments.asi8 // _PER_SECOND[moments.unit]
    rest = moments.asi8 - whole * _PER_SECOND[moments.unit]
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

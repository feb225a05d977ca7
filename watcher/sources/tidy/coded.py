"""A table as codes: rows are told apart, grouped and found again by integer keys made of several columns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from watcher.sources.tidy.checks import Mask, Place
from watcher.sources.tidy.columns import Codes, Numbers, Text, arms, numbers, seconds, text


class CodedTable:
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

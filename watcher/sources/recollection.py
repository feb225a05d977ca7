"""What an answer must hold because an earlier one did: raw samples do not change, and series do not leave the past.

A server that lost touch with half of its stores answers with what is left, and does not always say so. A counter of
errors that is missing from one arm looks like users who have none.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress
from typing import Final

import numpy as np

from watcher.sources.counters import SampleSet

Series = frozenset[tuple[str, str]]

KEPT: Final = 3600.0
"""Seconds after its last sample in which a series is remembered that is gone, and a selector that nobody asks for."""


class Recollection:
    """Remembers of every selector which series there were, and until when; for several threads."""

    def __init__(self) -> None:
        self._last: dict[str, dict[Series, float]] = {}
        self._names: dict[str, tuple[tuple[Mapping[str, str], ...], list[Series]]] = {}
        self._lock = threading.Lock()

    def checked(self, selector: str, start: float, end: float, found: SampleSet) -> SampleSet:
        """Return an answer about (start, end], with a warning where series are missing that had samples in it.

        They stay remembered, so that an answer is not whole for having been like that before.
        """
        with self._lock:
            there = _last_samples(found, self._names_of(selector, found.labels))
            if selector not in self._last:
                self._forget(start - KEPT)
            before = self._last.get(selector, {})
            gone = {series: at for series, at in before.items() if at > start - KEPT and series not in there}
            # What is only known of another time says nothing of this one.
            missing = [at for at in gone.values() if start < at <= end]
            self._last[selector] = {**gone, **there}
        if not missing:
            return found
        said = f"{len(missing)} of {len(there) + len(missing)} series of {selector} are missing that were there before"
        return replace(found, warnings=(*found.warnings, said))

    def _forget(self, until: float) -> None:
        """Let go of the selectors of releases that have ended."""
        self._last = {name: last for name, last in self._last.items() if max(last.values(), default=0.0) > until}
        self._names = {name: each for name, each in self._names.items() if name in self._last}

    def _names_of(self, selector: str, labels: tuple[Mapping[str, str], ...]) -> list[Series]:
        """Return what series are remembered by; most answers have the same ones as the one before."""
        known, names = self._names.get(selector, ((), []))
        if known != labels:
            names = [frozenset(each.items()) for each in labels]
            self._names[selector] = labels, names
        return names


def _last_samples(found: SampleSet, names: Sequence[Series]) -> dict[Series, float]:
    """Return the time of the last sample of every series that has any."""
    some = np.diff(found.offsets) > 0
    return dict(zip(compress(names, some), found.times[found.offsets[1:][some] - 1].tolist(), strict=True))

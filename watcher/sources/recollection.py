"""What an answer must hold because an earlier one did: raw samples do not change, and series do not leave the past.

A server that lost touch with half of its stores answers with what is left, and does not always say so. A counter of
errors that is missing from one arm looks like users who have none.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
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
        self._lock = threading.Lock()

    def checked(self, selector: str, start: float, end: float, found: SampleSet) -> SampleSet:
        """Return an answer about (start, end], with a warning where series are missing that had samples in it.

        They stay remembered, so that an answer is not whole for having been like that before.
        """
        there = _last_samples(found)
        with self._lock:
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


def _last_samples(found: SampleSet) -> dict[Series, float]:
    """Return the time of the last sample of every series that has any."""
    some = np.diff(found.offsets) > 0
    last = found.times[found.offsets[1:][some] - 1].tolist()
    names: list[Mapping[str, str]] = [labels for labels, has in zip(found.labels, some, strict=True) if has]
    return dict(zip((frozenset(each.items()) for each in names), last, strict=True))

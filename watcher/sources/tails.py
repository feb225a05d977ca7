"""What is still known of samples that were read before, so that a look asks only for what came since.

Of what was read, a later block needs little: the last sample of every series, to take differences from; and both
sides of every reset, because it proves a restart to series that were silent then. What is decided from that and the
blocks themselves is what a read of the whole overlap would have decided. The exceptions are births, resets and series
that fall silent: an answer that left something out, or that came from another replica, looks like one. Who meets one
reads it all again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from watcher.model import Floats, Selector
from watcher.sources.counters import SampleSet, essential
from watcher.sources.prometheus_json import joined

MISSED: Final = 2.5
"""Samples that a series may miss before it counts as silent."""


@dataclass(frozen=True)
class _Tail:
    """What is known of a selector up to a moment, and how often its series are sampled, in seconds."""

    until: float
    samples: SampleSet
    gap: float


class Tails:
    """The tails of all selectors that are read block by block.

    Args:
        overlap: seconds before a block within which samples have a say in it.
    """

    def __init__(self, overlap: float) -> None:
        self._overlap = overlap
        self._known: dict[Selector, tuple[_Tail, ...]] = {}
        """The latest two, as another release may be about to read the blocks that this one has read."""

    def resumed(
        self, selector: Selector, start: float, end: float, read: Callable[[float, float], SampleSet]
    ) -> SampleSet | None:
        """Return what a selector has in (start - overlap, end], as far as it has a say in blocks from `start` on.

        Args:
            read: reads the samples of the selector in a span.

        Returns:
            None where what came before `start` is not known, or a series has fallen silent since.
        """
        tail = next((tail for tail in self._known.get(selector, ()) if tail.until == start), None)
        if tail is None:
            return None
        found = joined([tail.samples.keep(tail.samples.times > start - self._overlap), read(start, end)])
        silent = _last(found) < end - MISSED * tail.gap
        return None if silent.any() else found

    def keep(self, selector: Selector, end: float, samples: SampleSet) -> None:
        """Remember what was read up to `end`: of a whole overlap at least."""
        if samples.warnings:
            self._known.pop(selector, None)
            return
        recent = samples.keep(samples.times > end - self._overlap)
        gap = _gap(recent, next((tail.gap for tail in self._known.get(selector, ())), self._overlap))
        others = [tail for tail in self._known.get(selector, ()) if tail.until != end]
        self._known[selector] = (*others[-1:], _Tail(end, recent.keep(essential(recent)), gap))
        for other, tails in tuple(self._known.items()):
            if tails[-1].until <= end - self._overlap:
                self._known.pop(other, None)


def _last(samples: SampleSet) -> Floats:
    """Return the time of the last sample of every series that has any."""
    return samples.times[samples.offsets[1:][np.diff(samples.offsets) > 0] - 1]


def _gap(samples: SampleSet, otherwise: float) -> float:
    """Return the median of the seconds between two samples of a series."""
    between = np.diff(samples.times)[np.diff(samples.owners) == 0]
    return float(np.median(between)) if between.size else otherwise

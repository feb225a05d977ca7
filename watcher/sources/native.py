"""Native histograms: sparse buckets of exponential width, put on a grid that does not depend on what was met.

Schema s has boundaries at 2^(j 2^-s) for whole j, the upper one belonging to the bucket; a coarser schema keeps every
second one, so that any finer histogram merges into it exactly. The API names no schema, only boundaries: it is read
off their ratio. What is empty is left out, and the bucket around zero may grow, so a bucket is known by its upper
boundary alone.

References:
    Prometheus documentation, "Native Histograms" (schemas, merging) and "HTTP API" (format of results).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from watcher.model import Floats
from watcher.sources.counters import Indices, Mask, SampleSet
from watcher.sources.histograms import Buckets

FINEST = 3
"""The finest schema of a grid: buckets 9 % wide, as fine as any margin needs."""
_STEPS = 256
"""Boundaries from 1 to 2 of the finest schema there is, number 8."""
_EXACT = 1e-6
_BELOW, _ABOVE = 64.0, 16.0


class Sparse(NamedTuple):
    """One histogram: how many it counted, and its buckets [bucket, 4]: boundary rule, left, right, count."""

    total: float
    buckets: Floats


@dataclass(frozen=True)
class NativeSet:
    """Samples of many native histograms.

    `totals` are the numbers observed, a sample each; bucket i holds `counts[i]` of sample `owners[i]`, those above
    `left[i]` and up to `right[i]` (seconds). Empty buckets are not there.
    """

    totals: SampleSet
    owners: Indices
    left: Floats
    right: Floats
    counts: Floats

    @classmethod
    def of(
        cls,
        series: Iterable[tuple[Mapping[str, str], Sequence[float], Sequence[Sparse]]],
        warnings: Sequence[str] = (),
    ) -> NativeSet:
        """Lay out series given as (labels, times, histograms)."""
        rows = list(series)
        histograms = [histogram for _, _, own in rows for histogram in own]
        totals = SampleSet.of(((labels, times, [h.total for h in own]) for labels, times, own in rows), warnings)
        sizes = [len(histogram.buckets) for histogram in histograms]
        table = np.concatenate([np.empty((0, 4)), *(histogram.buckets for histogram in histograms)])
        owners = np.repeat(np.arange(len(sizes)), sizes)
        return cls(totals, owners, table[:, 1], table[:, 2], table[:, 3])

    def __len__(self) -> int:
        return len(self.totals)

    @property
    def size(self) -> int:
        """How many numbers there are: samples, and buckets of them."""
        return self.totals.size + self.counts.size

    def keep(self, samples: Mask) -> NativeSet:
        """Return the samples marked, without the series that lost all of theirs."""
        mine, place = samples[self.owners], np.cumsum(samples) - 1
        return NativeSet(
            self.totals.keep(samples), place[self.owners[mine]], self.left[mine], self.right[mine], self.counts[mine]
        )

    def only(self, series: Mask) -> NativeSet:
        """Return the series marked."""
        return self.keep(np.repeat(series, np.diff(self.totals.offsets)))

    def times(self, factor: float) -> NativeSet:
        """Return the same with every count multiplied: a subtrahend, with -1."""
        totals = self.totals
        scaled = SampleSet(totals.labels, totals.times, factor * totals.values, totals.offsets, totals.warnings)
        return NativeSet(scaled, self.owners, self.left, self.right, factor * self.counts)


def together(parts: Sequence[NativeSet]) -> NativeSet:
    """Put the series of several sets side by side."""
    samples = np.cumsum([0] + [part.totals.times.size for part in parts])
    series = np.concatenate([[0], *(part.totals.offsets[1:] + at for part, at in zip(parts, samples, strict=False))])
    nothing = [np.empty(0)]
    totals = SampleSet(
        tuple(labels for part in parts for labels in part.totals.labels),
        np.concatenate(nothing + [part.totals.times for part in parts]),
        np.concatenate(nothing + [part.totals.values for part in parts]),
        series.astype(np.intp),
        tuple(dict.fromkeys(warning for part in parts for warning in part.totals.warnings)),
    )
    owners = [part.owners + at for part, at in zip(parts, samples, strict=False)]
    return NativeSet(
        totals,
        np.concatenate([np.empty(0, dtype=np.intp), *owners]),
        *(np.concatenate(nothing + [getattr(part, name) for part in parts]) for name in ("left", "right", "counts")),
    )


@dataclass(frozen=True)
class Grid:
    """Boundaries of one schema, numbered: from `first` to `last`, the objective's among them, then infinity."""

    schema: int
    first: int
    objective: int
    last: int

    @classmethod
    def around(cls, objective: float, natives: Iterable[NativeSet]) -> Grid:
        """Return the grid for an objective (seconds) that all these histograms can be merged into.

        The objective becomes the nearest boundary; the grid goes from a 64th of what was asked for to 16 times that.

        Raises:
            ValueError: boundaries of no schema (custom buckets).
        """
        schema = min([FINEST, *(_coarsest(native) for native in natives)])
        steps = 2.0**schema
        lowest, highest = np.log2(objective / _BELOW) * steps, np.log2(objective * _ABOVE) * steps
        nearest = round(np.log2(objective) * steps)
        first, last = int(np.ceil(lowest - _EXACT)), int(np.floor(highest + _EXACT))
        return cls(schema, min(first, nearest), nearest, max(last, nearest))

    @property
    def edges(self) -> tuple[float, ...]:
        """Upper edges of the buckets, seconds; those of a coarser grid are among them to the last bit."""
        return (*(self._edge(j) for j in range(self.first, self.last + 1)), float("inf"))

    @property
    def edge(self) -> float:
        """The objective, as a boundary."""
        return self._edge(self.objective)

    def _edge(self, j: int) -> float:
        return float(np.exp2(j * 2.0**-self.schema))

    def counters(self, native: NativeSet) -> tuple[SampleSet, SampleSet, Buckets]:
        """Return requests within the objective, all requests, and each bucket's own, as counters of every series."""
        totals, edges = native.totals, self.edges
        place = np.zeros(native.right.size, dtype=np.intp)
        above = native.right > 0
        step = np.ceil(np.log2(native.right[above]) * 2.0**self.schema - _EXACT)
        place[above] = np.clip(step - self.first, 0, len(edges) - 1)
        flat = native.owners * len(edges) + place
        cells = np.bincount(flat, weights=native.counts, minlength=totals.times.size * len(edges))
        table = cells.reshape(totals.times.size, len(edges))

        def counter(values: Floats) -> SampleSet:
            return SampleSet(totals.labels, totals.times, values, totals.offsets, totals.warnings)

        filled = np.flatnonzero(table.any(axis=0))
        sets = {edges[k]: counter(np.ascontiguousarray(table[:, k])) for k in filled}
        within = table[:, : self.objective - self.first + 1].sum(axis=1)
        return counter(within), totals, Buckets(edges, sets, cumulative=False)


def _coarsest(native: NativeSet) -> int:
    """Return the coarsest schema among the buckets; the finest where none tells.

    The lowest bucket may be cut off by the one around zero: then its lower boundary is none of the schema.
    """
    left, right = native.left, native.right
    inner = (left >= 0) & (right > 0)
    if np.isinf(left).any() or np.isinf(right).any() or not _regular(right[inner]).all():
        raise ValueError("boundaries of no schema")
    inner &= (left > 0) & (right > left)
    left, right = left[inner], right[inner]
    whole = _regular(left)
    schemas = np.rint(-np.log2(np.log2(right[whole] / left[whole])))
    return int(schemas.min(initial=FINEST))


def _regular(boundaries: Floats) -> Mask:
    """Tell which boundaries any schema has."""
    steps = np.log2(boundaries, where=boundaries > 0, out=np.full_like(boundaries, np.nan)) * _STEPS
    return np.asarray(np.abs(steps - np.rint(steps)) < _EXACT)

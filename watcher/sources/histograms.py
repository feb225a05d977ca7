"""Histograms as counters: which buckets there are, which of them can be compared, and what fell into each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from watcher.model import Arm, Floats
from watcher.sources.counters import MOST_CELLS, SampleSet, series_key

NO_ROOM = "too many buckets to keep apart: of latency only the share over the objective was read"
"""Why there are no buckets where there could be."""
NOTHING = SampleSet.of([])


@dataclass(frozen=True)
class Buckets:
    """Counters of every bucket, by its upper edge in seconds; a bucket without counters stayed empty.

    `edges` ascend and the last is infinite. Where `cumulative`, a bucket counts everything up to its edge.
    """

    edges: tuple[float, ...]
    counters: Mapping[float, SampleSet]
    cumulative: bool

    @property
    def sets(self) -> tuple[SampleSet, ...]:
        """All counters."""
        return tuple(self.counters.values())

    def counted(self, count: Callable[[SampleSet], Floats], total: Floats) -> Floats:
        """Return the requests in each bucket.

        Args:
            count: turns counters into counts [stream, unit, block].
            total: all requests, of the same shape.

        Returns:
            Shape [stream, unit, block, bucket], never negative; cumulative buckets add up to the total.
        """
        finite = self.edges[:-1] if self.cumulative else self.edges
        cells = np.zeros((*total.shape, len(finite)))
        for k, edge in enumerate(finite):
            if edge in self.counters:
                cells[..., k] = count(self.counters[edge])
        if not self.cumulative:
            return np.maximum(cells, 0.0)
        np.minimum(np.maximum.accumulate(cells, axis=-1), total[..., None], out=cells)
        return np.diff(cells, axis=-1, prepend=0.0, append=total[..., None])


def upper_edges(samples: SampleSet) -> Floats:
    """Return the upper edge of the bucket every series counts, shape [series]; NaN where `le` is no number.

    >>> upper_edges(SampleSet.of([({"le": text}, [], []) for text in ("1", "1.0", "1e+00", "+Inf")])).tolist()
    [1.0, 1.0, 1.0, inf]
    """
    return np.array([_number(labels.get("le", "")) for labels in samples.labels], dtype=np.float64)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def edge_spellings(edge: float | None) -> tuple[str, ...]:
    """Return how clients write a bucket's edge in `le`.

    >>> edge_spellings(1.0)
    ('1', '1.0', '1e+00')
    """
    if edge is None:
        return ("no objective",)
    if np.isinf(edge):
        return ("+Inf",)
    exponents = (f"{edge:.{digits}e}" for digits in range(17))
    shortest = next(text for text in exponents if float(text) == edge)
    plain = [str(int(edge))] if edge == int(edge) else []
    return tuple(dict.fromkeys([*plain, repr(float(edge)), shortest]))


def whole_edges(buckets: SampleSet) -> frozenset[float]:
    """Return the edges that every histogram has from its first sample to its last.

    What has no bucket at an edge would seem to have no request below it. A process that comes back with another layout
    has an edge for a part of the time only.
    """
    edges = upper_edges(buckets)
    first, last = buckets.times[buckets.offsets[:-1]], buckets.times[buckets.offsets[1:] - 1]
    spans: dict[Hashable, dict[float, tuple[float, float]]] = {}
    rows = zip(buckets.labels, edges.tolist(), first.tolist(), last.tolist(), strict=True)
    for labels, edge, begin, end in rows:
        own = spans.setdefault(series_key(labels), {})
        before = own.get(edge, (begin, end))
        own[edge] = (min(before[0], begin), max(before[1], end))
    whole = []
    for own in spans.values():
        begin, end = min(first for first, _ in own.values()), max(last for _, last in own.values())
        whole.append({edge for edge, span in own.items() if span == (begin, end)})
    return frozenset(set.intersection(*whole)) if whole else frozenset()


def by_edge(buckets: SampleSet, edges: Iterable[float]) -> Buckets:
    """Return cumulative buckets told apart by their edge, spelled in whatever way."""
    finite = tuple(sorted(edge for edge in edges if np.isfinite(edge)))
    own = upper_edges(buckets)
    return Buckets((*finite, float("inf")), {edge: buckets.only(own == edge) for edge in finite}, cumulative=True)


def fits(arms: Iterable[Arm], buckets: int) -> bool:
    """Tell whether so many buckets of every cell of the arms fit into memory."""
    return all(arm.total.size * buckets <= MOST_CELLS for arm in arms)

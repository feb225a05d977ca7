"""What a rule counts, as rows sorted by time, and the rows of any blocks scattered onto [stream, unit, block]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from watcher.errors import DataError
from watcher.model import Arm, Floats, Kind, Labels, Request, Rule, labels
from watcher.sources.signatures import MOST_SIGNATURES, too_many
from watcher.sources.tidy.buckets import duration_edges
from watcher.sources.tidy.checks import Mask
from watcher.sources.tidy.columns import BASELINE, TREATMENT, WHOLE, Codes, Text

_STEP = 1e-6  # times nearer than a microsecond to a block's end are on it


def block_end(moment: float, block: float) -> float:
    """Return the end of the block that a moment belongs to."""
    return float(np.ceil((moment - _STEP) / block) * block)


@dataclass(frozen=True)
class Side:
    """The rows of one arm, sorted by time. `events` has shape [row], or [row, edge] for buckets.

    `signature` is the signature's stream every row belongs to, -1 for none; None where nothing is told apart.
    """

    times: Floats
    stream: Codes
    unit: Codes
    units: tuple[str, ...]
    events: Floats
    total: Floats | None
    signature: Codes | None

    def within(self, start: float, end: float) -> slice:
        """Return the rows of the blocks that end in (start, end]."""
        first, last = np.searchsorted(self.times, (start + _STEP, end + _STEP), side="right")
        return slice(int(first), int(last))


@dataclass(frozen=True)
class View:
    """The arms of a reading under one selection, on the same streams, and on those of the signatures of events."""

    streams: tuple[Labels, ...]
    signatures: tuple[Labels, ...]
    treatment: Side
    baseline: Side
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Signed:
    """The label that tells bad events apart, and its value in every row; empty where the row holds none."""

    label: str
    value: Text

    def at(self, rows: NDArray[np.int64]) -> Signed:
        """Return some of the rows."""
        return Signed(self.label, replace(self.value, codes=self.value.codes[rows]))


@dataclass(frozen=True)
class Reading:
    """What one rule counts, checked and sorted by time: durations, measurements, counts or buckets by row.

    The signatures of bad events make streams beside `streams`.
    """

    times: Floats
    arm: NDArray[np.int8]
    stream: Codes
    streams: tuple[Labels, ...]
    unit: Text
    labels: Mapping[str, Text]
    other_columns: frozenset[str]
    events: Floats
    total: Floats | None
    edges: Floats | None
    split_by: tuple[str, ...]
    notes: tuple[str, ...]
    signed: Signed | None

    def view(self, select: Labels, concurrent: bool) -> View:
        """Pick the rows of both arms, and the streams that occur in them."""
        selected = np.ones(len(self.times), dtype=bool)
        for label, value in select:
            if label in self.labels:
                selected &= self.labels[label].equal_to(value)
        notes: tuple[str, ...] = ()
        if concurrent:
            treatment, baseline = selected & (self.arm == TREATMENT), selected & (self.arm == BASELINE)
        else:
            treatment, baseline = selected & (self.arm == WHOLE), np.zeros_like(selected)
            if selected.any() and not treatment.any():
                treatment, notes = selected, ("no row is about the whole service: both arms were counted together",)
        used = np.bincount(self.stream[treatment | baseline], minlength=len(self.streams)) > 0
        place = np.cumsum(used) - 1
        streams = tuple(stream for stream, is_used in zip(self.streams, used, strict=True) if is_used)
        signatures: tuple[Labels, ...] = ()
        signature: Codes | None = None
        if self.signed is not None:
            signatures, signature = self._signatures(self.signed, treatment | baseline)
            if len(signatures) > MOST_SIGNATURES:
                signatures, signature, notes = (), None, (*notes, too_many(self.signed.label))
        sides = [self._side(rows, place, signature) for rows in (treatment, baseline)]
        return View(streams, signatures, sides[0], sides[1], notes)

    def _signatures(self, signed: Signed, rows: Mask) -> tuple[tuple[Labels, ...], Codes]:
        """Return the streams of the signatures that occur in some rows, and which one every row belongs to."""
        codes, values = signed.value.codes, signed.value.values
        told = rows & (codes > 0)
        pairs, own = np.unique(self.stream[told].astype(np.int64) * len(values) + codes[told], return_inverse=True)
        names = [
            labels({**dict(self.streams[pair // len(values)]), signed.label: values[pair % len(values)]})
            for pair in pairs.tolist()
        ]
        order = sorted(range(len(names)), key=names.__getitem__)
        rank = np.empty(len(names), dtype=np.int64)
        rank[order] = np.arange(len(names))
        which = np.full(len(self.times), -1)
        which[told] = rank[own]
        return tuple(names[i] for i in order), which

    def _side(self, rows: Mask, place: Codes, signature: Codes | None) -> Side:
        unit = replace(self.unit, codes=self.unit.codes[rows])
        seen = np.flatnonzero(np.bincount(unit.codes, minlength=len(unit.values)))
        order = sorted(seen.tolist(), key=unit.values.__getitem__)
        rank = np.zeros(len(unit.values), dtype=np.int32)
        rank[order] = np.arange(len(order))
        return Side(
            times=self.times[rows],
            stream=place[self.stream[rows]],
            unit=rank[unit.codes],
            units=tuple(unit.values[code] for code in order) or ("",),
            events=self.events[rows],
            total=None if self.total is None else self.total[rows],
            signature=None if signature is None else signature[rows],
        )


def edge_of(rule: Rule, reading: Reading, name: str) -> int | None:
    """Return which bucket edge is the objective; None for raw durations."""
    if rule.objective is None:
        raise DataError(f"latency rule {rule.name!r} has no objective, so nothing says what is slow", file=name)
    if reading.edges is None:
        return None
    same = np.isclose(reading.edges, rule.objective, rtol=1e-9, atol=0.0)
    if not same.any() and len(reading.edges):
        edges = ", ".join(f"{edge:g}" for edge in reading.edges[:-1])
        raise DataError(
            f"objective {rule.objective:g} s of rule {rule.name!r} is not a bucket edge; edges in seconds: {edges}",
            file=name,
            column="le",
        )
    return int(np.argmax(same)) if len(same) else 0


def bucket_edges(rule: Rule, reading: Reading, edge: int | None) -> tuple[float, ...]:
    """Return the upper edges of a latency's buckets in seconds, the objective among them; () where there is nothing."""
    if reading.edges is None:
        return duration_edges(rule)
    edges = reading.edges.tolist()
    if edges and edge is not None and rule.objective is not None:
        edges[edge] = rule.objective
    return tuple(edges)


class Cells:
    """The rows of one arm in the blocks asked for, each with its cell of [stream, unit, block]."""

    def __init__(self, side: Side, stream: Codes, streams: int, request: Request) -> None:
        """`stream` says which stream every row of the side belongs to; rows of a negative one are left out."""
        within = side.within(request.start, request.end)
        there = stream[within] >= 0
        self.rows: slice | NDArray[np.int64] = within if there.all() else within.start + np.flatnonzero(there)
        self.shape = (streams, len(side.units), len(request.ends))
        block = np.ceil((side.times[self.rows] - request.start - _STEP) / request.block).astype(np.int64) - 1
        own = stream[self.rows].astype(np.int64)
        self._cell = (own * self.shape[1] + side.unit[self.rows]) * self.shape[2] + block

    def summed(self, weights: Floats | Mask | None = None) -> Floats:
        """Add up the rows (or a weight each) of every cell, shape [stream, unit, block]."""
        sums = np.bincount(self._cell, weights=weights, minlength=int(np.prod(self.shape)))
        return sums.astype(np.float64).reshape(self.shape)

    def spread(self, bucket: NDArray[np.int64], buckets: int) -> Floats:
        """Count the rows of every cell by the bucket each is in, shape [stream, unit, block, bucket]."""
        sums = np.bincount(self._cell * buckets + bucket, minlength=int(np.prod(self.shape)) * buckets)
        return sums.astype(np.float64).reshape(*self.shape, buckets)


def counted(side: Side, streams: int, request: Request, rule: Rule, edge: int | None) -> Arm:
    """Scatter the rows of the blocks asked for onto [stream, unit, block]."""
    cells = Cells(side, side.stream, streams, request)
    values = side.events[cells.rows]
    if rule.kind == Kind.GAUGE:
        measured = ~np.isnan(values)
        times = cells.summed(measured)
        with np.errstate(invalid="ignore"):
            means = cells.summed(np.where(measured, values, 0.0)) / times
        hollow = (times == 0) & (cells.summed() > 0)
        return Arm(side.units, means, (times > 0).astype(np.float64), hollow=hollow)
    if rule.kind == Kind.LATENCY and edge is not None:
        everything = values[:, -1] if values.shape[1] else np.empty(0)
        faster = values[:, edge] if values.shape[1] else np.empty(0)
        return Arm(side.units, cells.summed(everything - faster), cells.summed(everything))
    if rule.kind == Kind.LATENCY:
        assert rule.objective is not None
        return Arm(side.units, cells.summed(values > rule.objective), cells.summed())
    assert side.total is not None
    return Arm(side.units, cells.summed(values), cells.summed(side.total[cells.rows]))


def in_buckets(side: Side, streams: int, request: Request, edges: tuple[float, ...]) -> Floats:
    """Return the requests in each bucket, shape [stream, unit, block, bucket]; the rows are durations or histograms."""
    cells = Cells(side, side.stream, streams, request)
    values = side.events[cells.rows]
    if values.ndim == 1:
        return cells.spread(np.searchsorted(edges, values), len(edges))
    own = np.diff(values, axis=1, prepend=0.0)
    return np.stack([cells.summed(own[:, k]) for k in range(len(edges))], axis=-1)


def signed_events(view: View, request: Request) -> tuple[list[Labels], dict[str, Floats]]:
    """Return the signatures that occur in the blocks asked for, and their events [signature, unit, block] by arm.

    One that occurs only in other blocks is left out: history must not know what came after it.
    """
    events, seen = {}, np.zeros(len(view.signatures), dtype=bool)
    for arm, side in (("treatment", view.treatment), ("baseline", view.baseline)):
        if side.signature is not None:
            cells = Cells(side, side.signature, len(seen), request)
            events[arm] = cells.summed(side.events[cells.rows])
            seen[side.signature[cells.rows]] = True
    streams = [stream for stream, was_seen in zip(view.signatures, seen, strict=True) if was_seen]
    return streams, {arm: own[seen] for arm, own in events.items()}

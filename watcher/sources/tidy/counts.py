"""What a rule counts, as rows sorted by time, and the rows of any blocks scattered onto [stream, unit, block]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from watcher.errors import DataError
from watcher.model import Arm, Floats, Kind, Labels, Request, Rule
from watcher.sources.tidy.checks import Mask
from watcher.sources.tidy.columns import BASELINE, TREATMENT, WHOLE, Codes, Text

_STEP = 1e-6  # times nearer than a microsecond to a block's end are on it


def block_end(moment: float, block: float) -> float:
    """Return the end of the block that a moment belongs to."""
    return float(np.ceil((moment - _STEP) / block) * block)


@dataclass(frozen=True)
class Side:
    """The rows of one arm, sorted by time. `events` has shape [row], or [row, edge] for buckets."""

    times: Floats
    stream: Codes
    unit: Codes
    units: tuple[str, ...]
    events: Floats
    total: Floats | None

    def within(self, start: float, end: float) -> slice:
        """Return the rows of the blocks that end in (start, end]."""
        first, last = np.searchsorted(self.times, (start + _STEP, end + _STEP), side="right")
        return slice(int(first), int(last))


@dataclass(frozen=True)
class View:
    """The arms of a reading under one selection, on the same streams."""

    streams: tuple[Labels, ...]
    treatment: Side
    baseline: Side
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Reading:
    """What one rule counts, checked and sorted by time: durations, measurements, counts or buckets by row."""

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
        return View(streams, self._side(treatment, place), self._side(baseline, place), notes)

    def _side(self, rows: Mask, place: Codes) -> Side:
        unit = replace(self.unit, codes=self.unit.codes[rows])
        seen = np.flatnonzero(np.bincount(unit.codes, minlength=len(unit.values)))
        order = sorted(seen.tolist(), key=unit.values.__getitem__)
        rank = np.zeros(len(unit.values), dtype=np.int32)
        rank[order] = np.arange(len(order))
        units = tuple(unit.values[code] for code in order) or ("",)
        total = None if self.total is None else self.total[rows]
        return Side(self.times[rows], place[self.stream[rows]], rank[unit.codes], units, self.events[rows], total)


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


def counted(side: Side, streams: int, request: Request, rule: Rule, edge: int | None) -> Arm:
    """Scatter the rows of the blocks asked for onto [stream, unit, block]."""
    rows = side.within(request.start, request.end)
    shape = (streams, len(side.units), len(request.ends))
    block = np.ceil((side.times[rows] - request.start - _STEP) / request.block).astype(np.int64) - 1
    cell = (side.stream[rows].astype(np.int64) * shape[1] + side.unit[rows]) * shape[2] + block
    values = side.events[rows]

    def summed(weights: Floats | Mask | None) -> Floats:
        return np.bincount(cell, weights=weights, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)

    if rule.kind == Kind.GAUGE:
        measured = ~np.isnan(values)
        times = summed(measured)
        with np.errstate(invalid="ignore"):
            return Arm(side.units, summed(np.where(measured, values, 0.0)) / times, (times > 0).astype(np.float64))
    if rule.kind == Kind.LATENCY and edge is not None:
        everything = values[:, -1] if values.shape[1] else np.empty(0)
        faster = values[:, edge] if values.shape[1] else np.empty(0)
        return Arm(side.units, summed(everything - faster), summed(everything))
    if rule.kind == Kind.LATENCY:
        assert rule.objective is not None
        return Arm(side.units, summed(values > rule.objective), summed(None))
    assert side.total is not None
    return Arm(side.units, summed(values), summed(side.total[rows]))

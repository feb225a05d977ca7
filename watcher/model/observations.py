"""What was counted: arrays by stream, unit and block, of one arm or of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from watcher.model.words import Flags, Floats, Labels

NO_SAMPLES: Final = "has no samples"
"""What a note ends with that says that there was nothing."""


@dataclass(frozen=True)
class Arm:
    """One arm of one rule: what was counted, per stream, unit and block.

    `events` and `total` have shape [stream, unit, block]. For counts, `events` of `total` (for latency: requests over
    the objective, of all); a block without samples is zero of zero. For gauges, `events` is the measurement and
    `total` is 1; where `total` is 0 there is a gap, whatever `events` holds. For latency, `buckets` [stream, unit,
    block, bucket] are the requests in each bucket (not cumulative), whose upper edges stand in the Observations;
    None where the source has only the share over the objective. `hollow` [stream, unit, block] tells where a unit
    reported a gauge without a value (NaN): a gap like any other, but no silence; None where nobody knows.
    """

    units: tuple[str, ...]
    events: Floats
    total: Floats
    buckets: Floats | None = None
    hollow: Flags | None = None

    def picked(self, streams: Any = slice(None), blocks: Any = slice(None)) -> Arm:
        """Return some streams and some blocks (indices, masks or slices)."""
        buckets = None if self.buckets is None else self.buckets[streams][:, :, blocks]
        hollow = None if self.hollow is None else self.hollow[streams][:, :, blocks]
        return Arm(self.units, self.events[streams][:, :, blocks], self.total[streams][:, :, blocks], buckets, hollow)

    def of_units(self, names: tuple[str, ...]) -> Arm:
        """Return the arm with exactly these units, in this order; one it does not have is empty. Without buckets."""
        rows = {unit: row for row, unit in enumerate(self.units)}
        pick, missing = np.array([rows.get(name, 0) for name in names]), np.array([name not in rows for name in names])
        events, total = (np.where(missing[:, None], 0.0, each[:, pick]) for each in (self.events, self.total))
        hollow = None if self.hollow is None else self.hollow[:, pick] & ~missing[:, None]
        return Arm(names, events, total, None, hollow)


@dataclass(frozen=True)
class Observations:
    """What one rule saw: the same streams and blocks in both arms. `ends` has shape [block]."""

    streams: tuple[Labels, ...]
    ends: Floats
    treatment: Arm
    baseline: Arm | None = None
    notes: tuple[str, ...] = ()
    """What was odd about the data, for the reader: resets, dropped rows, replicas merged."""
    partial: bool = False
    """The source said that its answer may be incomplete: nothing may be killed on it."""
    edges: tuple[float, ...] = ()
    """Upper edges of the buckets in seconds, ascending, the last infinite; of both arms. () without buckets."""

    def between(self, start: float, end: float) -> Observations:
        """Return the blocks that end in (start, end]."""
        keep = (self.ends > start + 1e-6) & (self.ends <= end + 1e-6)
        return self.picked(keep)

    def picked(self, blocks: Any) -> Observations:
        """Return some blocks (indices, a mask or a slice)."""
        return self._each(lambda arm: arm.picked(blocks=blocks), ends=self.ends[blocks])

    def only(self, stream: Labels) -> Observations:
        """Return one stream of several."""
        return self.of_streams([self.streams.index(stream)])

    def of_streams(self, rows: list[int]) -> Observations:
        """Return some of the streams, by position."""
        return self._each(lambda arm: arm.picked(streams=rows), streams=tuple(self.streams[row] for row in rows))

    def on_edges(self, edges: tuple[float, ...]) -> Observations:
        """Return the same with buckets put together until only these edges are left; () drops the buckets.

        Raises:
            ValueError: an edge that these observations do not have.
        """
        if edges == self.edges:
            return self
        at = [self.edges.index(edge) for edge in edges]

        def merged(arm: Arm) -> Arm:
            if arm.buckets is None or not at:
                return replace(arm, buckets=None)
            cumulative = np.cumsum(arm.buckets, axis=3)[..., at]
            return replace(arm, buckets=np.diff(cumulative, axis=3, prepend=0.0))

        return self._each(merged, edges=edges)

    def then(self, later: Observations) -> Observations:
        """Return these blocks followed by later ones; a stream or unit only one of them knows is empty in the other.

        Buckets are put together until the edges agree; a part in which nothing was counted has no say.
        """
        early, late = self._with_edges_of(later), later._with_edges_of(self)
        common = tuple(edge for edge in early.edges if edge in late.edges)
        early, late = early.on_edges(common), late.on_edges(common)
        streams = tuple(dict.fromkeys(self.streams + later.streams))
        treatment = _glued((early.streams, early.treatment), (late.streams, late.treatment), streams)
        baseline = None
        if early.baseline is not None and late.baseline is not None:
            baseline = _glued((early.streams, early.baseline), (late.streams, late.baseline), streams)
        notes = _noted(self.notes, later.notes)
        ends, partial = np.concatenate([self.ends, later.ends]), self.partial or later.partial
        return Observations(streams, ends, treatment, baseline, notes, partial, common)

    def _with_edges_of(self, other: Observations) -> Observations:
        """Return these observations with empty buckets at the other's edges, if they have none and counted nothing."""
        arms = [arm for arm in (self.baseline, self.treatment) if arm is not None]
        if self.edges or any(arm.total.any() for arm in arms):
            return self
        size = len(other.edges)
        return self._each(
            lambda arm: replace(arm, buckets=np.zeros((*arm.total.shape, size)) if size else None), edges=other.edges
        )

    def _each(self, change: Callable[[Arm], Arm], **changes: Any) -> Observations:
        """Return the observations with both arms changed alike."""
        baseline = None if self.baseline is None else change(self.baseline)
        return replace(self, treatment=change(self.treatment), baseline=baseline, **changes)


def _glued(
    early: tuple[tuple[Labels, ...], Arm], late: tuple[tuple[Labels, ...], Arm], streams: tuple[Labels, ...]
) -> Arm:
    units = tuple(dict.fromkeys(early[1].units + late[1].units))
    place = {stream: row for row, stream in enumerate(streams)}

    def spread(known: tuple[Labels, ...], arm: Arm, values: Floats) -> Floats:
        out = np.zeros((len(streams), len(units), *values.shape[2:]))
        rows, columns = [place[stream] for stream in known], [units.index(unit) for unit in arm.units]
        out[np.ix_(rows, columns)] = values
        return out

    def joined(name: str) -> Floats:
        parts = [spread(known, arm, getattr(arm, name)) for known, arm in (early, late)]
        return np.concatenate(parts, axis=2)

    buckets = None if early[1].buckets is None or late[1].buckets is None else joined("buckets")
    return Arm(units, joined("events"), joined("total"), buckets)


def _noted(early: Sequence[str], late: Sequence[str]) -> tuple[str, ...]:
    """Return what was odd in either part of a time; that there was nothing, only where there was nothing in both.

    >>> _noted(["treatment: errors has no samples", "3 counter resets"], ["3 counter resets"])
    ('3 counter resets',)
    """
    every = dict.fromkeys([*early, *late])
    return tuple(note for note in every if not note.endswith(NO_SAMPLES) or (note in early and note in late))

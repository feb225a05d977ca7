"""Raw samples of cumulative counters, turned into counts per block. Pure; differences only, never an extrapolated rate.

Whatever is decided of a sample at time t is decided from the samples of the `overlap` seconds before t and nothing
else. So the same block gives the same counts however the reads are cut: block by block, or a day at once.

A counter tells of restarts only through its values, and of its own birth not at all:

- a value below the one before it is a reset: the new value is what happened since;
- a reset proves that the process restarted, so every series of that unit starts anew at that sample, also those
  that happen to stand higher than before;
- a series first seen on a process that was already being read counts from 0 (its first sample is events); on a
  process first seen, only if the process started (or the series was created) within the overlap; else it counts from
  its first value, because the events before may be years old.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from watcher.errors import SourceTooLarge
from watcher.model import Floats, Labels

Mask = NDArray[np.bool_]
Indices = NDArray[np.intp]
Across = Literal["median", "mean", "max", "min", "sum"]

SKEW = 5.0
"""Seconds by which the clock of a process may run ahead of the clock that stamps its samples."""
MOST_CELLS = 10_000_000
"""Cells one array may have (80 MB)."""
_ROUNDING = 1e-6
_STAMP = 1e-3
"""Time stamps are whole milliseconds."""

_ACROSS: Mapping[Across, Callable[[Floats], Floats]] = {
    "median": lambda rows: np.nanmedian(rows, axis=0),
    "mean": lambda rows: np.nanmean(rows, axis=0),
    "max": lambda rows: np.nanmax(rows, axis=0),
    "min": lambda rows: np.nanmin(rows, axis=0),
    "sum": lambda rows: np.nansum(rows, axis=0),
}


@dataclass(frozen=True)
class SampleSet:
    """Samples of many series in two flat arrays: series i owns `times[offsets[i]:offsets[i + 1]]`, oldest first.

    `times` (seconds) and `values` have shape [sample], `offsets` has shape [series + 1]. `warnings` is what the server
    said about its own answer; an answer with warnings may be incomplete.
    """

    labels: tuple[Mapping[str, str], ...]
    times: Floats
    values: Floats
    offsets: Indices
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, series: Iterable[tuple[Mapping[str, str], ArrayLike, ArrayLike]], warnings: Sequence[str] = ()
    ) -> SampleSet:
        """Lay out series given as (labels, times, values).

        >>> SampleSet.of([({"code": "500"}, [60.0, 120.0], [1.0, 4.0])]).offsets.tolist()
        [0, 2]
        """
        rows = [(labels, np.asarray(t, dtype=float), np.asarray(v, dtype=float)) for labels, t, v in series]
        offsets = np.cumsum([0] + [times.size for _, times, _ in rows]).astype(np.intp)
        nothing = [np.empty(0)]
        times = np.concatenate([times for _, times, _ in rows] or nothing)
        values = np.concatenate([values for _, _, values in rows] or nothing)
        return cls(tuple(labels for labels, _, _ in rows), times, values, offsets, tuple(warnings))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """How many samples there are."""
        return self.times.size

    @property
    def owners(self) -> Indices:
        """Series every sample belongs to, shape [sample]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def keep(self, samples: Mask) -> SampleSet:
        """Return the samples marked, without the series that lost all of theirs."""
        if samples.all():
            return self
        sizes = np.bincount(self.owners[samples], minlength=len(self))
        left = np.flatnonzero(sizes)
        offsets = np.concatenate([[0], np.cumsum(sizes[left])]).astype(np.intp)
        names = tuple(self.labels[i] for i in left)
        return SampleSet(names, self.times[samples], self.values[samples], offsets, self.warnings)

    def only(self, series: Mask) -> SampleSet:
        """Return the series marked."""
        return self.keep(np.repeat(series, np.diff(self.offsets)))


@dataclass(frozen=True)
class Grouping:
    """Which labels make streams, tell units apart, and differ between replicas that scrape the same targets."""

    by: tuple[str, ...] = ()
    unit: str | None = None
    replica: str | None = None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The labels that make streams, sorted."""
        return tuple(sorted(self.by))

    def stream(self, labels: Mapping[str, str]) -> Labels:
        """Return the stream a series belongs to: its `by` labels, sorted; an absent one is an empty one is none."""
        return tuple([(name, labels[name]) for name in self.names if labels.get(name)])

    def unit_of(self, labels: Mapping[str, str]) -> str:
        """Return the unit a series belongs to; without a unit label everything is one unit."""
        return labels.get(self.unit, "") if self.unit else ""

    def process(self, labels: Mapping[str, str]) -> Hashable:
        """Return what was scraped: the target where there is an `instance`, else the unit; each replica apart.

        A replica that comes up late sees everything for the first time, whatever the others already knew.
        """
        seer = labels.get(self.replica, "") if self.replica else ""
        if labels.get("instance"):
            return seer, labels.get("job", ""), labels["instance"]
        return seer, "", self.unit_of(labels)

    def restarts_with(self, labels: Mapping[str, str]) -> Hashable:
        """Return what restarts as a whole; where nothing names the process, a histogram with all its buckets."""
        tied = (labels.get("job", ""), labels.get("instance", ""), self.unit_of(labels))
        return tied if tied[1] or tied[2] else series_key(labels)


@dataclass(frozen=True)
class Processes:
    """What is known of the processes behind the series, from everything that was read together.

    `seen`: times at which a process was scraped, sorted, for the processes asked about. `restarts`: spans
    (after, until] in which something restarted. `started`: start times by process; `created`: creation times by series.
    """

    seen: Mapping[Hashable, Floats] = field(default_factory=dict)
    restarts: Mapping[Hashable, Sequence[tuple[float, float]]] = field(default_factory=dict)
    started: Mapping[Hashable, Sequence[float]] = field(default_factory=dict)
    created: Mapping[Hashable, Sequence[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class Counts:
    """Counts (or measurements) per stream, unit and block, and what was met on the way.

    `cells` has shape [stream, unit, block]; nothing seen is 0 for counts and NaN for measurements.
    `resets`: samples below the one before; `uncounted`: series whose first value could not be taken for events;
    `merged`: series that repeat another one's through a second replica.
    """

    streams: tuple[Labels, ...]
    units: tuple[str, ...]
    cells: Floats
    resets: int = 0
    uncounted: int = 0
    merged: int = 0

    def on(self, streams: Sequence[Labels], units: Sequence[str], empty: float = 0.0) -> Floats:
        """Return the cells placed on other streams and units (a superset), shape [stream, unit, block]."""
        placed = np.full(_room(len(streams), len(units), self.cells.shape[2]), empty)
        row = {stream: i for i, stream in enumerate(streams)}
        column = {unit: i for i, unit in enumerate(units)}
        rows = [row[stream] for stream in self.streams]
        columns = [column[unit] for unit in self.units]
        placed[np.ix_(rows, columns)] = self.cells
        return placed


def series_key(labels: Mapping[str, str]) -> Hashable:
    """Return what a series shares with its own `_created` series and, in a histogram, with all its buckets.

    >>> series_key({"__name__": "x_bucket", "le": "1"}) == series_key({"__name__": "x_created"})
    True
    """
    name = labels.get("__name__", "")
    for ending in ("_total", "_created", "_bucket", "_count"):
        name = name.removesuffix(ending)
    return name, frozenset((key, value) for key, value in labels.items() if key not in ("__name__", "le"))


def learn(
    sets: Iterable[SampleSet],
    grouping: Grouping,
    overlap: float,
    about: Iterable[Hashable] = (),
    starts: SampleSet | None = None,
) -> Processes:
    """Gather what all sample sets together say of their processes.

    Args:
        about: processes whose scrape times are wanted (collecting all of them would double the work).
        starts: `process_start_time_seconds` and `*_created` series; their values are epoch seconds.
    """
    wanted = set(about)
    seen: dict[Hashable, list[Floats]] = {}
    restarts: dict[Hashable, set[tuple[float, float]]] = {}
    for samples in map(_finite, sets):
        walk = _walk(samples, overlap)
        for at in np.flatnonzero(walk.reset):
            tied = grouping.restarts_with(samples.labels[walk.owner[at]])
            restarts.setdefault(tied, set()).add((float(walk.since[at]), float(samples.times[at])))
        for i, labels in enumerate(samples.labels if wanted else ()):
            process = grouping.process(labels)
            if process in wanted:
                seen.setdefault(process, []).append(samples.times[samples.offsets[i] : samples.offsets[i + 1]])
    started, created = _start_times(starts, grouping)
    times = {process: np.unique(np.concatenate(parts)) for process, parts in seen.items()}
    return Processes(times, {tied: sorted(spans) for tied, spans in restarts.items()}, started, created)


def newborn(samples: SampleSet, ends: Floats, block: float, grouping: Grouping, overlap: float) -> set[Hashable]:
    """Return the processes of series that begin inside the blocks with a value above 0: births to be decided."""
    samples = _finite(samples)
    walk = _walk(samples, overlap)
    inside = _block_of(samples.times, ends, block) >= 0
    born = np.unique(walk.owner[walk.fresh & inside & (samples.values != 0)])
    return {grouping.process(samples.labels[i]) for i in born}


def essential(samples: SampleSet) -> Mask:
    """Mark the samples that blocks to come need: the last one of every series, and both sides of every reset."""
    finite = np.flatnonzero(np.isfinite(samples.values))
    walk = _walk(samples.keep(np.isfinite(samples.values)), np.inf)
    last = np.append(walk.fresh[1:], True)[: finite.size]
    before_reset = np.append(walk.reset[1:], False)[: finite.size]
    marked = np.zeros(samples.times.shape, dtype=np.bool_)
    marked[finite[last | walk.reset | before_reset]] = True
    return marked


def only_grows(samples: SampleSet, ends: Floats, block: float, overlap: float) -> bool:
    """Tell whether the blocks hold neither a reset nor the birth of a series that had counted something."""
    samples = _finite(samples)
    walk = _walk(samples, overlap)
    odd = walk.reset | (walk.fresh & (samples.values != 0))
    return not (odd & (_block_of(samples.times, ends, block) >= 0)).any()


def count(
    samples: SampleSet, ends: Floats, block: float, grouping: Grouping, processes: Processes, overlap: float
) -> Counts:
    """Difference raw counters and book every difference in the block that contains its later sample.

    Args:
        samples: must reach back `overlap` seconds before the first block. NaN samples are dropped.
        ends: end of every block, shape [block], seconds; a block is (end - block, end].
        overlap: seconds after which a gap says nothing any more: the series counts as newly seen.
    """
    samples = _finite(samples)
    walk = _walk(samples, overlap)
    where = _block_of(samples.times, ends, block)
    restart = walk.reset | _restarted(samples, walk, where, grouping, processes)
    born = np.flatnonzero(walk.fresh & (where >= 0) & (samples.values != 0))
    decided = [_counts_from_zero(samples, walk, int(at), grouping, processes, overlap) for at in born]
    counted: Mask = np.array(decided, dtype=np.bool_)
    delta = np.where(restart, samples.values, samples.values - walk.before)
    delta[walk.fresh] = 0.0
    delta[born[counted]] = samples.values[born[counted]]
    inside = where >= 0
    chosen, merged = _one_replica(samples, walk, where, ends, block, grouping)
    used = inside & chosen
    streams, units, cell = _cells(samples, grouping)
    shape = _room(len(streams), len(units), ends.size)
    flat = cell[walk.owner[used]] * ends.size + where[used]
    cells = np.bincount(flat, weights=delta[used], minlength=math.prod(shape)).reshape(shape)
    near = np.rint(cells)
    return Counts(
        streams,
        units,
        np.where(np.abs(cells - near) < _ROUNDING, near, cells),
        resets=int((walk.reset & used).sum()),
        uncounted=int((~counted).sum()),
        merged=merged,
    )


def last_values(samples: SampleSet, ends: Floats, block: float, grouping: Grouping, across: Across) -> Counts:
    """Return the last sample of every block, NaN where there is none; several series of one unit are put together.

    Args:
        across: how several series of the same stream and unit become one measurement.
    """
    samples = _finite(samples)
    walk = _walk(samples, np.inf)
    where = _block_of(samples.times, ends, block)
    chosen, merged = _one_replica(samples, walk, where, ends, block, grouping)
    used = np.flatnonzero((where >= 0) & chosen)
    latest = np.full((len(samples), ends.size), np.nan)
    latest[walk.owner[used], where[used]] = samples.values[used]
    streams, units, cell = _cells(samples, grouping)
    cells = np.full(_room(len(streams), len(units), ends.size), np.nan)
    flat = cells.reshape(len(streams) * len(units), ends.size)
    for one in np.unique(cell):
        flat[one] = _across(latest[cell == one], across)
    return Counts(streams, units, cells, merged=merged)


def placed(samples: SampleSet, ends: Floats, block: float, grouping: Grouping, empty: float = 0.0) -> Counts:
    """Put values that already belong to blocks (stamped at block ends) into cells; those of one cell are added."""
    where = _block_of(samples.times, ends, block)
    streams, units, cell = _cells(samples, grouping)
    shape = _room(len(streams), len(units), ends.size)
    used = (where >= 0) & np.isfinite(samples.values)
    flat = cell[samples.owners[used]] * ends.size + where[used]
    many = np.bincount(flat, minlength=math.prod(shape))
    sums = np.bincount(flat, weights=samples.values[used], minlength=math.prod(shape))
    return Counts(streams, units, np.where(many > 0, sums, empty).reshape(shape))


@dataclass(frozen=True)
class _Walk:
    """Every sample with its predecessor; all arrays have shape [sample]. `fresh`: no predecessor within the overlap."""

    owner: Indices
    fresh: Mask
    since: Floats
    before: Floats
    reset: Mask


def _finite(samples: SampleSet) -> SampleSet:
    return samples.keep(np.isfinite(samples.values))


def _walk(samples: SampleSet, overlap: float) -> _Walk:
    owner = samples.owners
    since, before = np.empty_like(samples.times), np.empty_like(samples.values)
    since[1:], before[1:] = samples.times[:-1], samples.values[:-1]
    first = samples.offsets[:-1][np.diff(samples.offsets) > 0]
    since[first], before[first] = -np.inf, 0.0
    fresh = samples.times - since > overlap + _STAMP
    fresh[first] = True
    return _Walk(owner, fresh, since, before, ~fresh & (samples.values < before))


def _block_of(times: Floats, ends: Floats, block: float) -> Indices:
    """Return the block of every sample, -1 outside; a sample stamped exactly at an end belongs to that block."""
    if not ends.size:
        return np.full(times.shape, -1, dtype=np.intp)
    where = np.searchsorted(ends + _STAMP / 2, times)
    outside = (times <= ends[0] - block + _STAMP / 2) | (where == ends.size)
    return np.where(outside, -1, where)


def _cells(samples: SampleSet, grouping: Grouping) -> tuple[tuple[Labels, ...], tuple[str, ...], Indices]:
    """Return the streams, the units, and the flat (stream, unit) cell of every series."""
    own_stream = list(map(grouping.stream, samples.labels))
    own_unit = list(map(grouping.unit_of, samples.labels))
    streams, units = sorted(set(own_stream)), sorted(set(own_unit))
    row = {stream: i * len(units) for i, stream in enumerate(streams)}
    column = {unit: i for i, unit in enumerate(units)}
    cell = [row[stream] + column[unit] for stream, unit in zip(own_stream, own_unit, strict=True)]
    return tuple(streams), tuple(units), np.array(cell, dtype=np.intp)


def _room(streams: int, units: int, blocks: int) -> tuple[int, int, int]:
    """Return the shape of an array, unless it would take all memory (many streams times many short-lived units)."""
    if streams * units * blocks > MOST_CELLS:
        raise SourceTooLarge(
            f"{streams} streams x {units} units x {blocks} blocks are more than {MOST_CELLS} cells: "
            "use fewer labels in `by`, a coarser `unit`, or a shorter time"
        )
    return streams, units, blocks


def _restarted(samples: SampleSet, walk: _Walk, where: Indices, grouping: Grouping, processes: Processes) -> Mask:
    """Mark the steps across which a restart is proven by any series of the same unit."""
    restarted = np.zeros(samples.times.shape, dtype=bool)
    if not processes.restarts:
        return restarted
    for i, labels in enumerate(samples.labels):
        spans = processes.restarts.get(grouping.restarts_with(labels), ())
        part = slice(int(samples.offsets[i]), int(samples.offsets[i + 1]))
        for after, until in spans:
            restarted[part] |= (walk.since[part] <= after) & (samples.times[part] >= until)
    return restarted & ~walk.fresh & (where >= 0)


def _counts_from_zero(
    samples: SampleSet, walk: _Walk, at: int, grouping: Grouping, processes: Processes, overlap: float
) -> bool:
    """Tell whether the first sample of a series is events: see the module's rules on births."""
    labels, time = samples.labels[walk.owner[at]], samples.times[at]
    process = grouping.process(labels)
    seen = processes.seen.get(process)
    if seen is not None:
        earlier = int(np.searchsorted(seen, time))
        if earlier > 0 and time - seen[earlier - 1] <= overlap + _STAMP:
            return True
    moments = [*processes.started.get(process, ()), *processes.created.get(series_key(labels), ())]
    return any(time - overlap < moment <= time + SKEW for moment in moments)


def _start_times(
    starts: SampleSet | None, grouping: Grouping
) -> tuple[dict[Hashable, tuple[float, ...]], dict[Hashable, tuple[float, ...]]]:
    started: dict[Hashable, tuple[float, ...]] = {}
    created: dict[Hashable, tuple[float, ...]] = {}
    for i, labels in enumerate(starts.labels if starts is not None else ()):
        assert starts is not None
        moments = tuple(np.unique(starts.values[starts.offsets[i] : starts.offsets[i + 1]]).tolist())
        if labels.get("__name__", "").endswith("_created"):
            created[series_key(labels)] = moments
        else:
            process = grouping.process(labels)
            started[process] = started.get(process, ()) + moments
    return started, created


def _one_replica(
    samples: SampleSet, walk: _Walk, where: Indices, ends: Floats, block: float, grouping: Grouping
) -> tuple[Mask, int]:
    """Mark the samples to use where replicas repeat each other, and count the series that are repeats.

    In every block the replica with most samples is used; one sample more or less is only the phase of its scrapes, and
    then the first by name is. A replica back from a gap waits one block: its first difference spans the gap, which the
    other one has already filled.
    """
    every = np.ones(samples.times.shape, dtype=bool)
    if not grouping.replica:
        return every, 0
    twins: dict[Hashable, list[int]] = {}
    for i, labels in enumerate(samples.labels):
        same = frozenset((name, value) for name, value in labels.items() if name != grouping.replica)
        twins.setdefault(same, []).append(i)
    chosen = every
    merged = 0
    for members in twins.values():
        if len(members) > 1:
            merged += len(members) - 1
            members.sort(key=lambda i: samples.labels[i].get(grouping.replica or "", ""))
            best = _best_replica(samples, walk, where, ends, block, members)
            for rank, i in enumerate(members):
                part = slice(int(samples.offsets[i]), int(samples.offsets[i + 1]))
                chosen[part] = (best[where[part]] == rank) & (where[part] >= 0)
    return chosen, merged


def _best_replica(
    samples: SampleSet, walk: _Walk, where: Indices, ends: Floats, block: float, members: Sequence[int]
) -> Indices:
    """Return which member to use in every block, shape [block]."""
    many = np.zeros((len(members), ends.size))
    steady = np.zeros((len(members), ends.size), dtype=bool)
    for rank, i in enumerate(members):
        part = slice(int(samples.offsets[i]), int(samples.offsets[i + 1]))
        own = where[part]
        inside = own >= 0
        many[rank] = np.bincount(own[inside], minlength=ends.size)
        steps = inside & (walk.since[part] > ends[own] - 2 * block - _STAMP)
        steady[rank, own[steps]] = True
        broken = inside & ~steps
        steady[rank, own[broken]] = False
    full = many >= many.max(axis=0) - 1
    best: Indices = np.argmax(4 * (many > 0) + 2 * steady + full, axis=0)
    return best


def _across(rows: Floats, across: Across) -> Floats:
    """Put several measurements of one unit together, ignoring gaps; NaN where all are gaps."""
    there = ~np.isnan(rows).all(axis=0)
    joined = np.full(rows.shape[1], np.nan)
    joined[there] = _ACROSS[across](rows[:, there])
    return joined

"""Histograms of both arms, read alike: classic buckets on the edges they share, or native ones on one grid."""

from __future__ import annotations

from collections.abc import Hashable, Sequence, Set
from dataclasses import replace

import numpy as np

from watcher.errors import SourceRefused
from watcher.sources.counters import Mask, SampleSet, series_key
from watcher.sources.histograms import NO_ROOM, NOTHING, by_edge, upper_edges
from watcher.sources.native import Grid, NativeSet
from watcher.sources.reads import Reads
from watcher.sources.sides import Read, Side


def read_latency(sides: Sequence[Side], reads: Reads) -> list[Read]:
    """Read the histograms of all arms of a rule.

    What has no bucket at the objective is left out, with a note. Classic buckets come before native ones of the same
    name.

    Raises:
        SourceRefused: no histogram, none with a bucket at the objective, or the arms have histograms of two kinds.
    """
    read = [_classic(side, reads) for side in sides]
    absent = [one for one, _ in read if one.absent]
    natives = [reads.native(one.side) for one in absent]
    if not any(map(len, natives)):
        return _on_shared_edges(read, reads)
    if len(absent) < len(sides):
        raise SourceRefused(
            f"rule {sides[0].rule.name}: one arm has classic buckets of {sides[0].rule.events}, the other a native "
            "histogram: they cannot be compared until both have the same"
        )
    return _native(sides, natives)


def _classic(side: Side, reads: Reads) -> tuple[Read, SampleSet | None]:
    """Return what was read of a side, and all its buckets where they could be read."""
    total, buckets = reads.total(side), reads.buckets(side)
    assert total is not None
    objective = np.nan if side.rule.objective is None else side.rule.objective
    events = reads.events(side) if buckets is None else buckets.only(upper_edges(buckets) == objective)
    if not len(total):
        return Read(side, events, total), buckets
    edged = {series_key(labels) for labels in events.labels}
    measured = _of(total, edged)
    if not measured.any():
        raise _no_edge(side, reads)
    left_out = int((~measured).sum())
    note = f"{side.arm}: {left_out} series of {side.total} have no bucket at {side.rule.objective:g}: not counted"
    read = Read(side, events, total.only(measured), notes=(note,) if left_out else ())
    return read, None if buckets is None else buckets.only(_of(buckets, edged))


def _of(samples: SampleSet, histograms: Set[Hashable]) -> Mask:
    """Mark the series that are a part of some histograms."""
    return np.array([series_key(labels) in histograms for labels in samples.labels], dtype=np.bool_)


def _on_shared_edges(read: Sequence[tuple[Read, SampleSet | None]], reads: Reads) -> list[Read]:
    """Give the reads of both arms the buckets that can be compared."""
    present = [(one, buckets) for one, buckets in read if not one.absent]
    if not present:
        return [one for one, _ in read]
    if any(buckets is None for _, buckets in present):
        return [_noted(one, NO_ROOM) for one, _ in read]
    edges = frozenset.intersection(*(reads.shared_edges(one.side, b) for one, b in present if b is not None))
    rule = read[0][0].side.rule
    if rule.objective not in edges:
        note = f"not every series has a bucket at {rule.objective:g} all the time: only the share over it was read"
        return [_noted(one, note) for one, _ in read]
    return [replace(one, buckets=by_edge(NOTHING if buckets is None else buckets, edges)) for one, buckets in read]


def _native(sides: Sequence[Side], natives: Sequence[NativeSet]) -> list[Read]:
    rule = sides[0].rule
    if rule.objective is None or not 0 < rule.objective < np.inf:
        raise SourceRefused(f"rule {rule.name}: the native histogram {rule.events} needs an `objective`, in seconds")
    try:
        grid = Grid.around(rule.objective, natives)
    except ValueError:
        raise SourceRefused(
            f"rule {rule.name}: the native histogram {rule.events} has custom buckets: keep its classic ones, with `le`"
        ) from None
    note = (
        f"native buckets end at {grid.edge:g}, not at the objective {rule.objective:g}: requests over that are counted"
    )
    notes = () if np.isclose(grid.edge, rule.objective, rtol=1e-9, atol=0.0) else (note,)
    found = []
    for side, native in zip(sides, natives, strict=True):
        events, total, buckets = grid.counters(native)
        found.append(Read(side, events, total, buckets, notes))
    return found


def _noted(read: Read, note: str) -> Read:
    return replace(read, notes=(*read.notes, note))


def _no_edge(side: Side, reads: Reads) -> SourceRefused:
    metric, edges, objective = side.histogram, reads.spelled_edges(side), side.rule.objective
    if not edges:
        return SourceRefused(
            f"{metric} has no buckets ({side.buckets.metric} with `le`): it cannot be judged as a latency"
        )
    problem = "has no objective" if objective is None else f"has no bucket at {objective:g} ({side.arm})"
    return SourceRefused(
        f"rule {side.rule.name}: {metric} {problem}; its buckets end at {', '.join(edges)}: "
        "choose one of these as `objective`"
    )

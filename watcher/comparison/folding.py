"""Blocks into evidence: stage by stage, by every method of the rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np

from watcher.calibration import readings
from watcher.comparison.blocks import by_stage
from watcher.comparison.methods import Method, Methods
from watcher.comparison.series import fold_series
from watcher.comparison.state import EvidenceState, Part
from watcher.evidence.buckets import Buckets, BucketState
from watcher.evidence.canaries import Canaries, CanaryState
from watcher.evidence.innovations import Innovations
from watcher.evidence.spikes import Spikes
from watcher.evidence.track import Track
from watcher.evidence.units import FEWEST, offset_scale
from watcher.model import Flags, Labels, Observations


def fold_methods(
    methods: Methods, observations: Observations, state: EvidenceState, counted: Flags
) -> tuple[EvidenceState, Track]:
    """Fold the blocks that count, stage by stage, by every method; a series, by all its blocks."""
    if methods.on_series and not methods.by_unit:
        state, track = fold_series(methods, observations, state, counted)
        # The evidence of a series runs on; that it is healthy has to be earned at each stage.
        for stage, blocks in by_stage(methods.watch, observations.ends, counted):
            state = replace(state, stage=stage, staged=len(blocks) + (state.staged if stage == state.stage else 0))
        return state, track
    track = Track.empty(len(state.streams), int(counted.sum()))
    at = 0
    for stage, blocks in by_stage(methods.watch, observations.ends, counted):
        segment = observations.picked(blocks)
        state = _in_stage(methods, state, stage, segment)
        parts: list[Part] = []
        tracks: dict[str, Track] = {}
        for part in state.parts:
            moved, tracks[part.method] = _fold_part(_laid_out(methods, part, state.streams), part, segment)
            parts.append(replace(part, state=moved))
        state = replace(state, parts=tuple(parts))
        _merge(methods, state, tracks, track, slice(at, at + len(blocks)))
        at += len(blocks)
    return state, track


def _laid_out(methods: Methods, part: Part, streams: tuple[Labels, ...]) -> Method:
    return methods.laid_out(part.method, tuple(streams[row] for row in part.rows))


def _in_stage(methods: Methods, state: EvidenceState, stage: int, segment: Observations) -> EvidenceState:
    """Return the state as it enters a segment: begun anew if its stage is, and with the units it turned out to have."""
    learnt, same = methods.calibration.units >= FEWEST, stage == state.stage
    blocks = segment.ends.size + (state.staged if same else 0)
    if same and (state.scaled or not learnt):
        return replace(state, staged=blocks)
    apart = _apart(segment) if learnt else None
    parts = []
    for part in state.parts:
        method: Any = _laid_out(methods, part, state.streams)
        now = part.state if same else method.restage(part.state)
        if apart is not None:
            scale = apart if part.method == "buckets" else apart * methods.calibration.spread
            now = method.scaled(now, np.full(len(part.rows), scale))
        parts.append(replace(part, state=now))
    return replace(state, parts=tuple(parts), stage=stage, staged=blocks, scaled=apart is not None)


def _apart(segment: Observations) -> float | None:
    """Return what a spread between units does to the arms, from the first block in which both have traffic."""
    assert segment.baseline is not None
    arms = [arm.total.sum(axis=0) for arm in (segment.baseline, segment.treatment)]
    both = np.flatnonzero((arms[0].sum(axis=0) > 0) & (arms[1].sum(axis=0) > 0))
    if not both.size:
        return None
    names = tuple(dict.fromkeys(segment.baseline.units + segment.treatment.units))
    traffic = np.zeros((2, len(names)))
    for side, arm in enumerate((segment.baseline, segment.treatment)):
        traffic[side, [names.index(unit) for unit in arm.units]] = arms[side][:, both[0]]
    return float(offset_scale(1.0, traffic[:1], traffic[1:])[0])


def _fold_part(method: Method, part: Part, segment: Observations) -> tuple[Any, Track]:
    """Fold a segment into one part."""
    assert segment.baseline is not None
    rows, state = list(part.rows), part.state
    arms = [arm.picked(streams=rows) for arm in (segment.baseline, segment.treatment)]
    if isinstance(method, Buckets):
        assert isinstance(state, BucketState)
        empty = np.zeros((len(rows), segment.ends.size, method.tops.size))
        buckets = [empty if arm.buckets is None or not segment.edges else arm.buckets.sum(axis=1) for arm in arms]
        return method.fold(state, buckets[0], buckets[1], segment.ends)
    if isinstance(method, Canaries):
        assert isinstance(state, CanaryState)
        names = tuple(dict.fromkeys(arms[0].units + arms[1].units))
        arms = [arm.of_units(names) for arm in arms]
        hollow = arms[1].hollow
        spoke = None if hollow is None else np.asarray(hollow.any(axis=1))
        return method.fold(state, readings(arms[0]), readings(arms[1]), segment.ends, spoke)
    counts = [(arm.events.sum(axis=1), arm.total.sum(axis=1)) for arm in arms]
    assert not isinstance(method, Innovations | Spikes)
    fold: Any = method.fold
    moved, track = fold(state, counts[0], counts[1], segment.ends)
    return moved, track


def _merge(methods: Methods, state: EvidenceState, found: Mapping[str, Track], track: Track, where: slice) -> None:
    """Write what the methods say of a segment into the rule's track; a latency's two halves are put together."""
    for part in state.parts:
        if part.method != "buckets":
            for field in fields(Track):
                getattr(track, field.name)[list(part.rows), where] = getattr(found[part.method], field.name)
    if "buckets" not in found:
        return
    method = methods.laid_out("buckets", state.streams)
    assert isinstance(method, Buckets)
    other, on_scale = found["buckets"], method.decidable[:, None]
    share = Track(*(getattr(track, field.name)[:, where].copy() for field in fields(Track)))
    # Either may see the harm; the one by which it is worse tells since when, and on the latency scale only quantiles.
    latency = on_scale | (other.harm > share.harm)
    track.regressed[:, where] = np.logaddexp(share.regressed, other.regressed) - np.log(2)
    track.healthy[:, where] = np.where(on_scale, other.healthy, share.healthy)
    track.harm[:, where] = np.where(latency, other.harm, share.harm)
    track.onset[:, where] = np.where(latency, other.onset, share.onset)

"""Observations and Calibration to Evidence: the gates data must pass, and the method for rule and design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from watcher.calibration import on_series, residuals
from watcher.evidence.innovations import Innovations, InnovationState
from watcher.evidence.profile import Profile, ProfileState
from watcher.evidence.track import Snapshot, Track
from watcher.model import (
    Arm,
    Calibration,
    Flags,
    Floats,
    Kind,
    Labels,
    Observations,
    Rule,
    Watch,
    Worse,
    as_streams,
)

CONFIDENCE = 0.95
CLIP = 2.4
"""Standard deviations beyond which an innovation counts no further: one outlier alone never alarms."""


@dataclass(frozen=True)
class EvidenceState:
    """All that is kept of one rule between looks: fixed size per stream, JSON-able, never needs the past again.

    `known` of the streams were there at the first look; the others were born later. `tallies` [stream, 4] sums
    what counted (baseline events, total, treatment events, total; for a gauge: sum of values, points); `idle`
    [stream, 2] counts the latest consecutive blocks without traffic, baseline then treatment; `blocks` that counted.
    """

    streams: tuple[Labels, ...]
    known: int
    tallies: Floats
    idle: Floats
    blocks: int
    units: tuple[int, int]
    method: ProfileState | InnovationState | None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        return {
            "streams": self.streams,
            "known": self.known,
            "tallies": self.tallies.tolist(),
            "idle": self.idle.tolist(),
            "blocks": self.blocks,
            "units": self.units,
            "method": None if self.method is None else self.method.to_json(),
            "kind": None if self.method is None else type(self.method).__name__,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> EvidenceState:
        """Read back what `to_json` wrote."""
        kinds: dict[str, type[ProfileState] | type[InnovationState]] = {
            kind.__name__: kind for kind in (ProfileState, InnovationState)
        }
        return cls(
            streams=as_streams(raw["streams"]),
            known=int(raw["known"]),
            tallies=np.asarray(raw["tallies"], dtype=float).reshape(-1, 4),
            idle=np.asarray(raw["idle"], dtype=float).reshape(-1, 2),
            blocks=int(raw["blocks"]),
            units=(int(raw["units"][0]), int(raw["units"][1])),
            method=None if raw["method"] is None else kinds[raw["kind"]].from_json(raw["method"]),
        )


@dataclass(frozen=True)
class Evidence:
    """What a rule's data say after a look.

    `track` and `ends` cover the blocks this look counted, [stream, block] and [block]; `snapshot` is None where no
    method could be applied (no history to judge a series by). `margin` is the tolerated log ratio of harm.
    """

    state: EvidenceState
    ends: Floats
    track: Track
    snapshot: Snapshot | None
    calibration: Calibration
    margin: float


def fold(
    watch: Watch, rule: Rule, observations: Observations, calibration: Calibration, state: EvidenceState | None
) -> tuple[EvidenceState, Evidence]:
    """Fold newly closed blocks of one rule into its state.

    Args:
        watch: fixes design, warm-up, stages and horizon.
        rule: what counts as worse.
        observations: blocks after exposure, oldest first, each given once.
        calibration: frozen at exposure.
        state: from the last look; None at the first.
    """
    state = _welcome(watch, rule, calibration, state, observations.streams)
    observations = _aligned(observations, state.streams)
    counted = countable(watch, rule, observations.ends)
    method_state, track, snapshot = _judge_by(watch, rule, observations, calibration, state, counted)
    state = replace(state, **_accounts(rule, observations, state, counted), method=method_state)
    margin = tolerated(rule, calibration.margin)
    return state, Evidence(state, observations.ends[counted], track, snapshot, calibration, margin)


def countable(watch: Watch, rule: Rule, ends: Floats) -> Flags:
    """Tell which blocks count, shape [block].

    Not the warm-up after exposure; for a rate, not until what was started under the present exposure had time to
    complete; and never a block inside which exposure changed.
    """
    begins = ends - watch.block
    counted = begins >= watch.release.exposed_at + watch.warm_up + rule.matures - 1e-6
    for stage in watch.release.stages:
        counted &= (begins >= stage.at - 1e-6) | (ends <= stage.at + 1e-6)
        if rule.kind is Kind.RATE:
            counted &= (begins >= stage.at + rule.matures - 1e-6) | (ends <= stage.at + 1e-6)
    return counted


def tolerated(rule: Rule, margin: float) -> float:
    """Return a relative margin as a log ratio of harm."""
    return float(-np.log1p(-margin)) if rule.worse is Worse.LOWER else float(np.log1p(margin))


def profile_of(watch: Watch, rule: Rule, calibration: Calibration) -> Profile:
    """Return the method for counts in two arms."""
    return Profile.of(
        sign=-1 if rule.worse is Worse.LOWER else 1,
        margin=calibration.margin,
        regress_margin=rule.regress_margin,
        dispersion=calibration.dispersion,
        horizon=watch.horizon / watch.block,
    )


def _innovations_of(rule: Rule, calibration: Calibration, streams: tuple[Labels, ...]) -> Innovations | None:
    """Return the method for series, laid out for these streams; None without enough history."""
    if calibration.ar is None or calibration.sigma is None or calibration.drift is None:
        return None
    rows = {stream: row for row, stream in enumerate(calibration.streams)}
    pick = [rows.get(stream, -1) for stream in streams]
    unknown = np.array([row < 0 for row in pick], dtype=bool)
    return Innovations(
        sign=-1 if rule.worse is Worse.LOWER else 1,
        margin=calibration.margin,
        regress_margin=rule.regress_margin,
        clip=CLIP,
        logarithmic=calibration.logarithmic,
        ar=calibration.ar[pick],
        # A stream without history has no baseline: its points are gaps, so any scale will do.
        sigma=np.where(unknown, 1.0, calibration.sigma[pick]),
        drift=np.where(unknown, 0.0, calibration.drift[pick]),
    )


def _fresh(watch: Watch, rule: Rule, calibration: Calibration, streams: tuple[Labels, ...]) -> EvidenceState:
    """Return the state of streams before their first block."""
    method: ProfileState | InnovationState | None = None
    if not streams:
        pass
    elif not on_series(rule, watch.design):
        method = profile_of(watch, rule, calibration).start(len(streams))
    else:
        innovations = _innovations_of(rule, calibration, streams)
        rows = {stream: row for row, stream in enumerate(calibration.streams)}
        tail = calibration.tail
        tails = None if tail is None else np.array([tail[rows[s]] if s in rows else 0 * tail[0] for s in streams])
        method = None if innovations is None else innovations.start(len(streams), tails)
    return EvidenceState(
        streams, len(streams), np.zeros((len(streams), 4)), np.zeros((len(streams), 2)), 0, (0, 0), method
    )


def _welcome(
    watch: Watch, rule: Rule, calibration: Calibration, state: EvidenceState | None, seen: tuple[Labels, ...]
) -> EvidenceState:
    """Return the state with room for every stream: those known before exposure, and those born since."""
    if state is None or not state.streams:
        # The first streams there are, even if they are not there from the first block, are the ones known.
        known = set(calibration.streams)
        born = tuple(stream for stream in seen if stream not in known)
        first = _fresh(watch, rule, calibration, calibration.streams + born)
        return first if state is None else replace(first, blocks=state.blocks)
    known = set(state.streams)
    born = tuple(stream for stream in seen if stream not in known)
    if not born:
        return state
    fresh = _fresh(watch, rule, calibration, born)
    method = state.method
    if method is not None and fresh.method is not None:
        method = method.grown(fresh.method)  # type: ignore[arg-type]
    return replace(
        state,
        streams=state.streams + born,
        tallies=np.vstack([state.tallies, fresh.tallies]),
        idle=np.vstack([state.idle, fresh.idle]),
        method=method,
    )


def _aligned(observations: Observations, streams: tuple[Labels, ...]) -> Observations:
    """Return the observations with exactly these streams, in this order; a stream not seen is empty."""
    if observations.streams == streams:
        return observations
    rows = {stream: row for row, stream in enumerate(observations.streams)}
    pick = np.array([rows.get(stream, -1) for stream in streams], dtype=int)

    def arm(given: Arm) -> Arm:
        if not observations.streams:
            empty = np.zeros((len(streams), max(1, len(given.units)), observations.ends.size))
            return Arm(given.units or ("",), empty, empty)
        missing = (pick < 0)[:, None, None]
        return Arm(given.units, np.where(missing, 0.0, given.events[pick]), np.where(missing, 0.0, given.total[pick]))

    baseline = None if observations.baseline is None else arm(observations.baseline)
    return replace(observations, streams=streams, treatment=arm(observations.treatment), baseline=baseline)


def _judge_by(
    watch: Watch,
    rule: Rule,
    observations: Observations,
    calibration: Calibration,
    state: EvidenceState,
    counted: Flags,
) -> tuple[ProfileState | InnovationState | None, Track, Snapshot | None]:
    """Apply the method for this rule and design."""
    alpha = 1 - CONFIDENCE
    if not state.streams:
        empty = np.zeros((0, int(counted.sum())))
        return None, Track(empty, empty, empty), None
    if isinstance(state.method, ProfileState):
        assert observations.baseline is not None
        arms = [
            (arm.events[:, :, counted].sum(axis=1), arm.total[:, :, counted].sum(axis=1))
            for arm in (observations.baseline, observations.treatment)
        ]
        profile = profile_of(watch, rule, calibration)
        after, track = profile.fold(state.method, arms[0], arms[1], observations.ends[counted])
        return after, track, profile.snapshot(after, alpha)
    innovations = _innovations_of(rule, calibration, state.streams)
    if innovations is None or state.method is None:
        empty = np.zeros((len(state.streams), int(counted.sum())))
        return None, Track(empty, empty, np.full_like(empty, -np.inf)), None
    left = _residuals(rule, observations, calibration, watch.block)
    moved, track = innovations.fold(state.method, left, observations.ends, counted)
    track = Track(track.regressed[:, counted], track.healthy[:, counted], track.harm[:, counted])
    return moved, track, innovations.snapshot(moved, alpha)


def _residuals(rule: Rule, observations: Observations, calibration: Calibration, block: float) -> Floats:
    """Return residuals of the state's streams; streams without history are gaps."""
    rows = {stream: row for row, stream in enumerate(observations.streams)}
    known = [stream for stream in calibration.streams if stream in rows]
    out = np.full((len(observations.streams), observations.ends.size), np.nan)
    if known:
        given = _aligned(observations, calibration.streams)
        out[[rows[stream] for stream in calibration.streams]] = residuals(rule, given, calibration, block)
    return out


def _accounts(rule: Rule, observations: Observations, state: EvidenceState, counted: Flags) -> dict[str, Any]:
    """Return updated tallies, idle counts, counted blocks and units."""
    tallies, idle, units = state.tallies.copy(), state.idle.copy(), list(state.units)
    for side, arm in enumerate((observations.baseline, observations.treatment)):
        if arm is None:
            continue
        total = arm.total[:, :, counted].sum(axis=1)
        tallies[:, 2 * side] += np.nansum(arm.events[:, :, counted], axis=(1, 2))
        tallies[:, 2 * side + 1] += total.sum(axis=1)
        for b in range(total.shape[1]):
            idle[:, side] = np.where(total[:, b] > 0, 0.0, idle[:, side] + 1)
        if arm.units and arm.units != ("",):
            units[side] = max(units[side], int((arm.total.sum(axis=(0, 2)) > 0).sum()))
    return {
        "tallies": tallies,
        "idle": idle,
        "blocks": state.blocks + int(counted.sum()),
        "units": (units[0], units[1]),
    }

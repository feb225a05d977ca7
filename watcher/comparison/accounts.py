"""The books of a rule: what was counted, how long an arm has been silent, and what each unit had in the harm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.comparison.methods import Methods
from watcher.comparison.state import EvidenceState
from watcher.evidence.absence import surprise
from watcher.evidence.canaries import CanaryState
from watcher.evidence.quantiles import middles_of
from watcher.evidence.suspects import MOST
from watcher.evidence.track import Track
from watcher.evidence.units import FEWEST
from watcher.model import Arm, Flags, Floats, Observations


def booked(observations: Observations, state: EvidenceState, counted: Flags) -> EvidenceState:
    """Return the state with updated tallies, idle counts, counted blocks and units."""
    tallies, idle, units = state.tallies.copy(), state.idle.copy(), list(state.units)
    for side, arm in enumerate((observations.baseline, observations.treatment)):
        if arm is None:
            continue
        total = arm.total[:, :, counted].sum(axis=1)
        tallies[:, 2 * side] += np.nansum(arm.events[:, :, counted], axis=(1, 2))
        tallies[:, 2 * side + 1] += total.sum(axis=1)
        spoke = total > 0 if arm.hollow is None else (total > 0) | arm.hollow[:, :, counted].any(axis=1)
        for b in range(total.shape[1]):
            idle[:, side] = np.where(spoke[:, b], 0.0, idle[:, side] + 1)
        if arm.units and arm.units != ("",):
            units[side] = max(units[side], int((arm.total.sum(axis=(0, 2)) > 0).sum()))
    return replace(
        state, tallies=tallies, idle=idle, blocks=state.blocks + int(counted.sum()), units=(units[0], units[1])
    )


def suspected(
    methods: Methods, observations: Observations, state: EvidenceState, counted: Flags, track: Track
) -> EvidenceState:
    """Return the state with what each unit of the treatment counted since harm seems to have begun."""
    if observations.baseline is None or methods.on_series or not counted.any():
        return state
    names = tuple(dict.fromkeys(state.suspects + observations.treatment.units))
    if not FEWEST <= len(names) <= MOST:
        return replace(state, suspects=names, since=None)
    since = np.zeros((len(state.streams), 1 + len(names), 4))
    if state.since is not None:
        since[:, : state.since.shape[1]] = state.since
    cells = np.zeros((*since.shape, int(counted.sum())))
    cells[:, 0] = _sums(observations.baseline, observations.edges, counted).sum(axis=1)
    rows = [1 + names.index(unit) for unit in observations.treatment.units]
    cells[:, rows] = _sums(observations.treatment, observations.edges, counted)
    begun = np.isfinite(track.harm)
    for b in range(cells.shape[3]):
        since = np.where(begun[:, b, None, None], since + cells[..., b], 0.0)
    return replace(state, suspects=names, since=since)


def unheard(methods: Methods, state: EvidenceState) -> Floats | None:
    """Return how surprising it is that the treatment has never reported, [stream]; None if not judged unit by unit."""
    if not methods.by_unit:
        return None
    found = np.zeros(len(state.streams))
    for part in state.parts:
        assert isinstance(part.state, CanaryState)
        own = tuple(state.streams[row] for row in part.rows)
        said = surprise(methods.of_streams(methods.calibration.reports, own, 0.0), part.state.heard[:, 0])
        found[list(part.rows)] = np.where(part.state.heard[:, 1] > 0, np.nan, said)
    return found


def _sums(arm: Arm, edges: tuple[float, ...], counted: Flags) -> Floats:
    """Return events, total, and sums of log latencies and of their squares, [stream, unit, 4, block]."""
    sums = [arm.events[:, :, counted], arm.total[:, :, counted]]
    if arm.buckets is None or not edges:
        return np.stack([*sums, np.zeros_like(sums[0]), np.zeros_like(sums[0])], axis=2)
    buckets, middles = arm.buckets[:, :, counted], middles_of(np.log(edges))
    return np.stack([*sums, buckets @ middles, buckets @ middles**2], axis=2)

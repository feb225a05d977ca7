"""Blocks of a series into evidence: shifts by its innovations, spikes by its deviations, on one scale."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.calibration import aligned, residuals
from watcher.comparison.methods import Methods
from watcher.comparison.state import EvidenceState
from watcher.evidence.innovations import Innovations, InnovationState
from watcher.evidence.spikes import Spikes, SpikeState
from watcher.evidence.track import Snapshot, Track
from watcher.model import Flags, Floats, Labels, Observations


def fold_series(
    methods: Methods, observations: Observations, state: EvidenceState, counted: Flags
) -> tuple[EvidenceState, Track]:
    """Fold all blocks of a series; the track is of the ones that count."""
    track = Track.empty(len(state.streams), int(counted.sum()))
    if not state.parts:
        return state, track
    residual, noise = _residuals(methods, observations, state.streams)
    # A block inside which users were exposed is neither before nor after.
    residual[:, observations.ends - methods.watch.block < methods.watch.release.exposed_at - 1e-6] = np.nan
    temper, parts = methods.tempered(state.streams), []
    for part in state.parts:
        method, own = methods.laid_out(part.method, state.streams), part.state
        if isinstance(method, Innovations):
            assert isinstance(own, InnovationState)
            own, found = method.fold(own, residual, noise, observations.ends, counted)
            track = Track(*(getattr(found, name)[:, counted] for name in ("regressed", "healthy", "harm", "onset")))
            track = replace(track, regressed=temper[:, :1] * track.regressed, healthy=_modest(temper) * track.healthy)
        else:
            assert isinstance(method, Spikes)
            assert isinstance(own, SpikeState)
            deviations = _deviations(methods, state.streams, residual / noise)[:, counted]
            for b, end in enumerate(observations.ends[counted]):
                own = method.step(own, deviations[:, b])
                loud = temper[:, 1] * method.log_e(own)
                louder = loud > track.regressed[:, b]
                since = end - (own.since[:, 1] - 1) * methods.watch.block
                track.regressed[:, b] = np.maximum(track.regressed[:, b], loud)
                harm = np.maximum(_harm(methods, state.streams, method, own), track.harm[:, b])
                track.harm[:, b] = np.where(louder, harm, track.harm[:, b])
                track.onset[:, b] = np.where(louder, since, track.onset[:, b])
        parts.append(replace(part, state=own))
    return replace(state, parts=tuple(parts)), track


def series_snapshot(methods: Methods, state: EvidenceState, alpha: float) -> Snapshot | None:
    """Return what shifts and spikes say now; the effect is that of a shift."""
    merged, temper = None, methods.tempered(state.streams) if state.parts else np.ones((0, 2))
    for part in state.parts:
        method = methods.laid_out(part.method, state.streams)
        if isinstance(method, Innovations):
            assert isinstance(part.state, InnovationState)
            merged = method.snapshot(part.state, alpha)
            worse, healthy = temper[:, 0] * merged.log_regressed, _modest(temper)[:, 0] * merged.log_healthy
            merged = replace(merged, log_regressed=worse, log_healthy=healthy)
        else:
            assert isinstance(method, Spikes)
            assert isinstance(part.state, SpikeState)
            assert merged is not None
            loud = temper[:, 1] * method.log_e(part.state)
            harm = np.maximum(_harm(methods, state.streams, method, part.state), merged.harm)
            harm = np.where(loud > merged.log_regressed, harm, merged.harm)
            merged = replace(merged, log_regressed=np.maximum(merged.log_regressed, loud), harm=harm)
    return merged


def _modest(temper: Floats) -> Floats:
    """Return what evidence of health is multiplied by: placebos may lessen it, and never raise it."""
    return np.minimum(temper[:, :1], 1.0)


def _harm(methods: Methods, streams: tuple[Labels, ...], method: Spikes, state: SpikeState) -> Floats:
    """Return how large deviations are since they are large, on the scale of the effect, [stream]."""
    calibration = methods.calibration
    lately = methods.of_streams(calibration.spread_lately, streams, 1.0)
    return np.asarray(method.harm(state) * lately * methods.of_streams(calibration.unit, streams, 1.0))


def _deviations(methods: Methods, streams: tuple[Labels, ...], scaled: Floats) -> Floats:
    """Return residuals in deviations from the level of the last hours before exposure, [stream, block]."""
    level = methods.of_streams(methods.calibration.level, streams, 0.0)
    lately = methods.of_streams(methods.calibration.spread_lately, streams, 1.0)
    return np.asarray((scaled - level[:, None]) / lately[:, None])


def _residuals(methods: Methods, observations: Observations, streams: tuple[Labels, ...]) -> tuple[Floats, Floats]:
    """Return residuals of the state's streams and their noise; streams without history are gaps."""
    calibration = methods.calibration
    rows = {stream: row for row, stream in enumerate(streams)}
    out, noise = (
        np.full((len(streams), observations.ends.size), np.nan),
        np.ones((len(streams), observations.ends.size)),
    )
    if any(stream in rows for stream in calibration.streams):
        given = aligned(observations, calibration.streams)
        at = [rows[stream] for stream in calibration.streams]
        out[at], noise[at] = residuals(methods.rule, given, calibration, methods.watch.block)
    return out, noise

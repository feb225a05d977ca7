"""What a series (a gauge, or anything held against its own past) needs: what is usual when, its noise, its memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from watcher.calibration.counts import DAY
from watcher.calibration.deviations import across, against, overlapping
from watcher.calibration.usual import expected, in_common, seasonal, told_of_season, with_noise
from watcher.evidence import placebo
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory
from watcher.evidence.spikes import RECENT, Spikes, lately
from watcher.model import PER_STREAM, Arm, Calibration, Design, Floats, Kind, Observations, Rule, Watch, Worse

FEWEST_POINTS = 20
"""Points of history below which a series is not judged."""

CLIPPED = 0.98
"""An innovation counts up to this part of what would alarm alone: one outlier never does."""

UNUSUAL = 2.0
"""The last hours before exposure are no baseline if they deviate so many times as far as any others did."""

TOGETHER = 8
"""Streams calibrated at once: four weeks of them, and what is computed of them, fit into little memory."""


def calibrate_series(
    rule: Rule, watch: Watch, history: Observations, came_from: str, known: Calibration, reach: float = 0.0
) -> Calibration:
    """Learn what is usual and how the series varies about it; replay placebos where the history is long enough.

    A stream of which too little was measured is left out: nothing can be said of it.
    """
    control = history.baseline if watch.design is Design.CONCURRENT else None
    alone = control is not None and not history.treatment.total.any()
    if alone:
        assert control is not None
        history = replace(history, treatment=control, baseline=None)
        known = known.noted(
            "how the arms differed before exposure is unknown; the treatment's noise is taken to be the control's"
        )
    history = _since_measured(history)
    known = replace(known, came_from=came_from, logarithmic=rule.kind is Kind.GAUGE and _positive(history))
    measured = (history.treatment.total > 0).any(axis=1).sum(axis=1)
    enough = np.flatnonzero(measured >= FEWEST_POINTS)
    if not enough.size:
        most = int(measured.max()) if measured.size else 0
        few = f"{most} blocks of history are too few to judge a series (at least {FEWEST_POINTS})"
        return replace(known, streams=history.streams).noted(few)
    found = _joined(
        [_calibrated(rule, watch, history.of_streams(rows), known, reach) for rows in _chunks(enough.tolist())]
    )
    if enough.size < measured.size:
        found = found.noted(f"{measured.size - enough.size} streams have too short a history to be judged")
    return _of_difference(watch, found) if alone else found


def _since_measured(history: Observations) -> Observations:
    """Return the history from the first block on in which anything was measured: a young service has no longer one."""
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    seen = np.any([(arm.total > 0).any(axis=(0, 1)) for arm in arms], axis=0)
    return history.picked(slice(int(seen.argmax()), None)) if seen.any() else history


def _chunks(rows: list[int]) -> Iterator[list[int]]:
    for low in range(0, len(rows), TOGETHER):
        yield rows[low : low + TOGETHER]


def _joined(parts: list[Calibration]) -> Calibration:
    """Return the calibrations of some streams each as one."""
    first = parts[0]
    arrays: dict[str, Any] = {
        name: None if getattr(first, name) is None else np.concatenate([getattr(each, name) for each in parts])
        for name in PER_STREAM
    }
    notes = tuple(dict.fromkeys(note for each in parts for note in each.notes))
    streams = tuple(stream for each in parts for stream in each.streams)
    contaminated = tuple(stream for each in parts for stream in each.contaminated)
    points = min(each.points for each in parts)
    return replace(first, streams=streams, notes=notes, points=points, contaminated=contaminated, **arrays)


def _of_difference(watch: Watch, found: Calibration) -> Calibration:
    """Return what is learnt of one arm as what holds of the difference of two: no level, and twice the noise."""
    assert found.usual is not None
    assert found.unit is not None
    assert found.tail is not None
    assert found.drift is not None
    return replace(
        found,
        usual=np.zeros((len(found.usual), int(np.ceil(watch.horizon / watch.block)))),
        # What is learnt of may lie after exposure: nothing before it is known.
        usual_from=float(np.floor(watch.release.exposed_at / watch.block) * watch.block + watch.block),
        unit=found.unit * np.sqrt(2),
        drift=np.zeros_like(found.drift),
        tail=np.zeros_like(found.tail),
    )


def _calibrated(rule: Rule, watch: Watch, history: Observations, known: Calibration, reach: float) -> Calibration:
    """Calibrate some streams; beforehand, what is usual is kept of the last day and of all days it may be asked of."""
    history, size = without_excluded(watch, history), history.ends.size
    fitted = replace(known, streams=history.streams, scale=_scale(rule, history, known.logarithmic))
    if history.baseline is not None:
        fitted = replace(fitted, beta=in_common(rule, watch, history, fitted))
    ahead = history.ends[-1:] + watch.block * np.arange(1, int(np.ceil((reach + watch.horizon) / watch.block)) + 1)
    whole = expected(rule, watch, history, ahead, fitted)
    fitted = with_noise(rule, history, fitted, whole[:, :size])
    residual, noise = against(rule, history, fitted, whole[:, :size])
    scaled = residual / noise
    back = min(size, int(DAY / watch.block)) if reach else 0
    memory, points = Memory.fit(scaled), np.isfinite(scaled).sum(axis=1)
    error = (memory.sigma / np.maximum(memory.rest, 1e-3)) ** 2 / np.maximum(points, 1)
    fitted = replace(
        fitted,
        points=int(points.min()),
        usual=_rounded(whole[:, size - back :]),
        usual_from=float(ahead[0] - back * watch.block),
        memory=memory.weights,
        sigma=memory.sigma,
        # Of a season, the memory of the last hours knows the level better than a mean of days does.
        drift=np.zeros_like(error) if seasonal(watch, history) else error,
    ).noted(told_of_season(size * watch.block / DAY))
    # Of one arm alone placebos would say nothing of the difference of two.
    if watch.design is Design.BEFORE_AFTER or history.baseline is not None:
        fitted = _with_placebos(rule, watch, fitted, history.ends, residual, noise)
    return with_last_hours(watch, fitted, scaled)


def before(watch: Watch, size: int) -> int:
    """Return how many blocks before an exposure are its last hours: fewer where the history is short."""
    return max(1, min(int(RECENT / watch.block), size // 4))


def laid_out(rule: Rule, watch: Watch, calibration: Calibration) -> Innovations:
    """Return the method for all streams that were calibrated."""
    assert calibration.memory is not None
    assert calibration.sigma is not None
    assert calibration.drift is not None
    assert calibration.unit is not None
    share = rule.weight / sum(each.weight for each in watch.rules)
    return Innovations(
        sign=direction(rule),
        margin=calibration.margin,
        clip=float(CLIPPED * np.sqrt(-2.0 * np.log(watch.alpha_in_effect * share))),
        memory=Memory(calibration.memory, calibration.sigma),
        drift=calibration.drift,
        unit=calibration.unit,
        horizon=watch.horizon / watch.block,
        regress_margin=rule.regress_margin,
        logarithmic=calibration.logarithmic,
        block=watch.block,
    )


def direction(rule: Rule) -> int:
    """Return +1 when more is worse, -1 when less is, 0 when either is."""
    return {Worse.HIGHER: 1, Worse.LOWER: -1, Worse.EITHER: 0}[rule.worse]


def _with_placebos(
    rule: Rule, watch: Watch, fitted: Calibration, ends: Floats, residual: Floats, noise: Floats
) -> Calibration:
    """Replay the release at times when nothing was released, if there is room for any."""
    size, horizon = residual.shape[1], int(np.ceil(watch.horizon / watch.block))
    early = before(watch, size)
    allowed = ~overlapping(watch, ends)
    found = placebo.starts(size, horizon, early, watch.block, allowed)
    if not found.size:
        return fitted
    counted = watch.block * np.arange(horizon) >= watch.warm_up + rule.matures - 1e-6
    method, spikes = laid_out(rule, watch, fitted), Spikes.of(direction(rule), horizon)
    shift, loud = placebo.replay(method, spikes, residual, noise, found, counted, early)
    temper = np.column_stack([placebo.scale_of(shift), placebo.scale_of(loud, placebo.LOUD)])
    seen, there = np.isfinite(shift), placebo.possible(size, horizon, early, allowed)
    there = there[placebo.measured(residual, there, horizon)]
    both = np.maximum(temper[:, :1] * np.where(seen, shift, 0.0), temper[:, 1:] * np.where(seen, loud, 0.0))
    return replace(
        fitted,
        temper=temper,
        unrest=placebo.unrest(residual / noise, found, early).max(axis=1),
        reached=np.where(seen, both, -np.inf),
        apart=min(int(seen.any(axis=0).sum()), placebo.apart(there, horizon)),
    )


def with_last_hours(watch: Watch, found: Calibration, scaled: Floats) -> Calibration:
    """Return the calibration with what was lately: memory, level, spread, and whether it was usual at all.

    Args:
        watch: its block.
        found: what is known of a longer past.
        scaled: deviations up to exposure, in standard deviations, [stream, block].
    """
    assert found.memory is not None
    assert found.sigma is not None
    blocks = before(watch, scaled.shape[1])
    level, spread = lately(scaled[:, -blocks:], np.ones(len(scaled)))
    odd = np.zeros(len(scaled), dtype=bool)
    if found.unrest is not None:
        now = placebo.unrest(scaled, np.array([scaled.shape[1]]), blocks)[:, 0]
        odd = now > UNUSUAL * np.maximum(found.unrest, 1.0)
    return replace(
        found,
        tail=Memory(found.memory, found.sigma).tail(scaled),
        level=level,
        spread_lately=spread,
        contaminated=tuple(stream for stream, is_odd in zip(found.streams, odd, strict=True) if is_odd),
    )


def without_excluded(watch: Watch, history: Observations) -> Observations:
    """Return the history with gaps where something was released or known to be wrong."""
    out = overlapping(watch, history.ends)
    if not out.any():
        return history

    def cut(arm: Arm) -> Arm:
        return replace(arm, events=np.where(out, 0.0, arm.events), total=np.where(out, 0.0, arm.total), buckets=None)

    baseline = None if history.baseline is None else cut(history.baseline)
    return replace(history, treatment=cut(history.treatment), baseline=baseline, edges=())


def _rounded(values: Floats) -> Floats:
    """Return six significant digits: what is kept for long is kept short."""
    with np.errstate(divide="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    unit = 10.0 ** (np.where(np.isfinite(magnitude), magnitude, 0.0) - 5)
    return np.asarray(np.round(values / unit) * unit)


def _positive(history: Observations) -> bool:
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    return all(bool(((arm.events > 0) | (arm.total <= 0)).all()) for arm in arms)


def _scale(rule: Rule, history: Observations, logarithmic: bool) -> Floats:
    """Return what a shift is relative to, [stream]: the mean, and for counts at least half an event in all."""
    arm = history.treatment if history.baseline is None else history.baseline
    if logarithmic:
        return np.ones(len(history.streams))
    if rule.kind is Kind.GAUGE:
        values = across(rule, arm)
        mean = np.abs(np.nan_to_num(np.nansum(values, axis=1) / np.maximum(np.isfinite(values).sum(axis=1), 1)))
        return np.where(mean > 0, mean, 1.0)
    events, total = arm.events.sum(axis=(1, 2)), arm.total.sum(axis=(1, 2))
    return np.asarray(np.maximum(events, 0.5) / np.maximum(total, 1.0))

"""What a series (a gauge, or anything held against its own past) needs: what is usual when, its noise, its memory.

The scale of the effect is the logarithm where a gauge is positive, and otherwise a share: of the level for a gauge, of
the usual rate for counts, whose noise follows from the traffic of the block and what they vary beyond it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.calibration.counts import DAY
from watcher.evidence import placebo
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory, robust_spread
from watcher.evidence.season import FROM, WEEKLY, Calendar, usual, usual_rate
from watcher.evidence.spikes import RECENT, Spikes
from watcher.evidence.spikes import usual as usual_lately
from watcher.model import Arm, Calibration, Design, Flags, Floats, Kind, Observations, Rule, Watch, Worse

FEWEST_POINTS = 20
"""Points of history below which a series is not judged."""

CLIPPED = 0.98
"""An innovation counts up to this part of what would alarm alone: one outlier never does."""

FAR = 25.0
"""Squared deviations, over those of the counts alone, beyond which an incident is not how counts vary."""

SURE = 99
"""Placebos that do not overlap, from which a service may be turned off on what they say."""


def calibrate_series(
    rule: Rule, watch: Watch, history: Observations, came_from: str, known: Calibration
) -> Calibration:
    """Learn what is usual and how the series varies about it; replay placebos where the history is long enough."""
    control = history.baseline if watch.design is Design.CONCURRENT else None
    paired = control is not None and bool(history.treatment.total.any())
    logarithmic = rule.kind is Kind.GAUGE and _positive(history)
    scale = np.ones(len(history.streams)) if logarithmic else _scale(rule, control or history.treatment)
    fitted = replace(known, streams=history.streams, came_from=came_from, logarithmic=logarithmic, scale=scale)
    if control is not None and not paired:
        history = replace(history, treatment=control, baseline=None)
        fitted = fitted.noted(
            "how the arms differed before exposure is unknown; the treatment's noise is taken to be the control's"
        )
    history = _without(watch, history)
    if not history.ends.size:
        return fitted.noted(f"0 blocks of history are too few to judge a series (at least {FEWEST_POINTS})")
    ahead = history.ends[-1:] + watch.block * np.arange(1, int(np.ceil(watch.horizon / watch.block)) + 1)
    whole = _expected(rule, watch, history, ahead, fitted)
    size = history.ends.size
    fitted = _with_noise(rule, history, fitted, whole[:, :size])
    residual, noise = against(rule, history, fitted, whole[:, :size])
    points = int(np.isfinite(residual).sum(axis=1).min()) if residual.size else 0
    if points < FEWEST_POINTS:
        return fitted.noted(f"{points} blocks of history are too few to judge a series (at least {FEWEST_POINTS})")
    scaled = residual / noise
    memory = Memory.fit(scaled)
    rest = np.maximum(memory.rest, 1e-3)
    seasonal = size * watch.block >= FROM * DAY
    drift = (memory.sigma / rest) ** 2 / (np.isfinite(scaled).sum(axis=1))
    level, spread = usual_lately(scaled[:, -before(watch, size) :], np.ones(len(scaled)))
    fitted = replace(
        fitted,
        points=points,
        usual=_rounded(whole[:, size:]),
        usual_from=float(ahead[0]) if ahead.size else 0.0,
        memory=memory.weights,
        sigma=memory.sigma,
        drift=np.zeros_like(drift) if seasonal else drift,
        tail=memory.tail(scaled),
        level=level,
        spread_lately=spread,
    ).noted(_told_of_season(size * watch.block / DAY))
    if control is not None and not paired:
        # Judged on the difference of the arms: its level is zero and its noise twice the control's.
        nothing = np.zeros_like(drift)
        assert fitted.usual is not None
        assert fitted.unit is not None
        assert fitted.tail is not None
        return replace(
            fitted,
            usual=np.zeros_like(fitted.usual),
            # The control may have been read beyond exposure.
            usual_from=float(np.floor(watch.release.exposed_at / watch.block) + 1) * watch.block,
            unit=fitted.unit * np.sqrt(2),
            drift=nothing,
            tail=fitted.tail * 0,
        )
    return _with_placebos(rule, watch, fitted, residual, noise)


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
    )


def direction(rule: Rule) -> int:
    """Return +1 when more is worse, -1 when less is, 0 when either is."""
    return {Worse.HIGHER: 1, Worse.LOWER: -1, Worse.EITHER: 0}[rule.worse]


def _with_placebos(rule: Rule, watch: Watch, fitted: Calibration, residual: Floats, noise: Floats) -> Calibration:
    """Replay the release at times when nothing was released."""
    size, horizon, early = (
        residual.shape[1],
        int(np.ceil(watch.horizon / watch.block)),
        before(watch, residual.shape[1]),
    )
    found = placebo.starts(size, horizon, early, watch.block, _allowed(watch, fitted, size))
    if not found.size:
        return fitted
    counted = watch.block * np.arange(horizon) >= watch.warm_up + rule.matures - 1e-6
    method, spikes = laid_out(rule, watch, fitted), Spikes.of(direction(rule), horizon)
    shift, loud = placebo.replay(method, spikes, residual, noise, found, counted, early)
    temper = np.column_stack([placebo.scale_of(shift), placebo.scale_of(loud, placebo.LOUD)])
    seen = np.isfinite(shift)
    both = np.maximum(temper[:, :1] * np.where(seen, shift, 0.0), temper[:, 1:] * np.where(seen, loud, 0.0))
    reached = np.where(seen, both, -np.inf)
    return replace(fitted, temper=temper, reached=reached, apart=placebo.apart(found, horizon))


def _allowed(watch: Watch, fitted: Calibration, size: int) -> Flags:
    """Tell at which points of the history nothing was released and nothing known went wrong, [point]."""
    ends = fitted.usual_from - watch.block * np.arange(size, 0, -1)
    out = np.ones(size, dtype=bool)
    for start, end in watch.excluded:
        out &= (ends <= start) | (ends - watch.block >= end)
    return out


def across(rule: Rule, arm: Arm) -> Floats:
    """Return one value per stream and block, [stream, block]: NaN is a gap.

    A gauge is put together over units as the rule says; counts become the rate of their sums.
    """
    if rule.kind is not Kind.GAUGE:
        events, total = arm.events.sum(axis=1), arm.total.sum(axis=1)
        return np.asarray(np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0))
    values = np.where(arm.total > 0, arm.events, np.nan)
    some = np.asarray(np.isfinite(values).any(axis=1))
    filled = np.where(some[:, None, :], values, 0.0)
    return np.where(some, getattr(np, f"nan{rule.across}")(filled, axis=1), np.nan)


def series(rule: Rule, observations: Observations, calibration: Calibration) -> Floats:
    """Return the series a gauge is judged on, [stream, block]: treatment, less `beta` of any control."""
    scale = calibration.scale if calibration.scale is not None else np.ones(len(observations.streams))
    values = _transformed(across(rule, observations.treatment), scale, calibration.logarithmic)
    if observations.baseline is None:
        return values
    beta = 1.0 if calibration.beta is None else calibration.beta[:, None]
    return np.asarray(values - beta * _transformed(across(rule, observations.baseline), scale, calibration.logarithmic))


def against(
    rule: Rule, observations: Observations, calibration: Calibration, expected: Floats
) -> tuple[Floats, Floats]:
    """Return the residual on the scale of the effect, and its standard deviation, both [stream, block].

    Args:
        observations: of the calibrated streams.
        expected: what is usual at each block, [stream, block].
    """
    assert calibration.unit is not None
    if rule.kind is Kind.GAUGE or observations.baseline is not None:
        values = series(rule, observations, calibration) - expected
        return values, np.broadcast_to(calibration.unit[:, None], values.shape)
    assert calibration.noise is not None
    total = observations.treatment.total.sum(axis=1)
    values = across(rule, observations.treatment) / expected - 1.0
    varies = calibration.noise[:, :1] * _chance(rule, total, expected) + calibration.noise[:, 1:]
    return values, np.sqrt(np.where(total > 0, varies, calibration.unit[:, None] ** 2))


def residuals(rule: Rule, observations: Observations, calibration: Calibration, block: float) -> tuple[Floats, Floats]:
    """Return the same for blocks after exposure; what lies beyond the horizon is a gap."""
    assert calibration.usual is not None
    at = np.rint((observations.ends - calibration.usual_from) / block).astype(np.intp)
    inside = (at >= 0) & (at < calibration.usual.shape[1])
    expected = np.full((len(calibration.usual), at.size), np.nan)
    expected[:, inside] = calibration.usual[:, at[inside]]
    return against(rule, observations, calibration, expected)


def _expected(rule: Rule, watch: Watch, history: Observations, ahead: Floats, calibration: Calibration) -> Floats:
    """Return what is usual at each point of the history and ahead: by the other days, or a mean."""
    ends = np.concatenate([history.ends, ahead])
    seasonal = history.ends.size * watch.block >= FROM * DAY
    calendar = Calendar.of(ends, watch.block, watch.zone)

    def reaching(values: Floats) -> Floats:
        return np.concatenate([values, np.full((len(values), ahead.size), np.nan)], axis=1)

    if rule.kind is Kind.GAUGE or history.baseline is not None:
        values = series(rule, history, calibration)
        if seasonal:
            return usual(reaching(values), calendar)
        mean = np.nansum(values, axis=1, keepdims=True) / np.maximum(np.isfinite(values).sum(axis=1, keepdims=True), 1)
        return np.broadcast_to(mean, (len(values), ends.size))
    arm = history.treatment
    events, total = (each.sum(axis=1) for each in (arm.events, arm.total))
    if seasonal:
        return usual_rate(reaching(events), reaching(total), calendar)
    assert calibration.scale is not None
    return np.broadcast_to(calibration.scale[:, None], (len(events), ends.size))


def _with_noise(rule: Rule, history: Observations, fitted: Calibration, expected: Floats) -> Calibration:
    """Return the calibration with the noise of the series: of counts, in excess of what their number implies."""
    streams = len(history.streams)
    if rule.kind is Kind.GAUGE or history.baseline is not None:
        values = series(rule, history, fitted) - expected
        return replace(fitted, unit=robust_spread(values))
    total = history.treatment.total.sum(axis=1)
    values = across(rule, history.treatment) / expected - 1.0
    chance = _chance(rule, total, expected)
    noise = np.ones((streams, 2))
    noise[:, 1] = 0.0
    for row in range(streams):
        seen = np.isfinite(values[row]) & (total[row] > 0)
        if seen.sum() >= FEWEST_POINTS:
            noise[row] = _excess(values[row, seen], chance[row, seen])
    usually = np.array(
        [np.median(row[here]) if here.any() else 1.0 for row, here in zip(chance, total > 0, strict=True)]
    )
    return replace(fitted, noise=noise, unit=np.sqrt(noise[:, 0] * usually + noise[:, 1]))


def _excess(values: Floats, chance: Floats) -> Floats:
    """Return how many times their chance variance counts vary, and the variance of their rate itself, both at least.

    The squares over the chance variance are a line in its inverse; fitted with neither part below what is possible.
    """
    squares = np.minimum(values**2 / chance, FAR)
    inverse = 1.0 / chance
    slope = np.cov(squares, inverse)[0, 1] / max(float(inverse.var(ddof=1)), 1e-12)
    slope = max(0.0, min(float(slope), float(np.median(squares / inverse)) * 4))
    return np.array([max(1.0, float(np.mean(squares) - slope * np.mean(inverse))), slope])


def _chance(rule: Rule, total: Floats, expected: Floats) -> Floats:
    """Return the relative variance that the number of events alone implies, [stream, block]."""
    free = 1.0 if rule.kind is Kind.RATE else np.maximum(1.0 - expected, 1e-3)
    return np.asarray(free / np.maximum(expected * np.maximum(total, 1.0), 1e-9))


def _without(watch: Watch, history: Observations) -> Observations:
    """Return the history with gaps where something was released or known to be wrong."""
    out = np.zeros(history.ends.size, dtype=bool)
    for start, end in watch.excluded:
        out |= (history.ends > start) & (history.ends - watch.block < end)
    if not out.any():
        return history

    def cut(arm: Arm) -> Arm:
        return replace(arm, events=np.where(out, 0.0, arm.events), total=np.where(out, 0.0, arm.total), buckets=None)

    baseline = None if history.baseline is None else cut(history.baseline)
    return replace(history, treatment=cut(history.treatment), baseline=baseline, edges=())


def _told_of_season(days: float) -> str:
    """Return what is known of the season, for people."""
    if days < FROM:
        return f"no daily season is known: {24 * days:.3g} h of history"
    kept = "weekdays told apart" if days > WEEKLY else "weekdays not told apart"
    return f"held against the same minutes of {days:.3g} days, {kept}"


def _rounded(values: Floats) -> Floats:
    """Return six significant digits: what is kept for long is kept short."""
    with np.errstate(divide="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    unit = 10.0 ** (np.where(np.isfinite(magnitude), magnitude, 0.0) - 5)
    return np.asarray(np.round(values / unit) * unit)


def _transformed(values: Floats, scale: Floats, logarithmic: bool) -> Floats:
    if not logarithmic:
        return values / scale[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def _positive(history: Observations) -> bool:
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    return all(bool((arm.events[arm.total > 0] > 0).all()) for arm in arms)


def _scale(rule: Rule, arm: Arm) -> Floats:
    """Return what a shift is relative to, [stream]: the mean, and for counts at least half an event in all."""
    if rule.kind is Kind.GAUGE:
        values = across(rule, arm)
        mean = np.abs(np.nan_to_num(np.nansum(values, axis=1) / np.maximum(np.isfinite(values).sum(axis=1), 1)))
        return np.where(mean > 0, mean, 1.0)
    events, total = arm.events.sum(axis=(1, 2)), arm.total.sum(axis=(1, 2))
    return np.asarray(np.maximum(events, 0.5) / np.maximum(total, 1.0))

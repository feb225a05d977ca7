"""What is learnt of a rule before users are exposed, and then frozen.

Counts in two arms need to know how much more than binomial they vary, how units differ, and the usual rates, traffic
and latencies. A series (a gauge, or anything held against its own past) needs a level, a daily season where the history
shows one, and an autoregression.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from watcher.evidence.buckets import middles_of
from watcher.evidence.dispersion import FEWEST_UNITS, Learnt, learn, spread, spread_of
from watcher.model import Arm, Calibration, Design, Floats, Kind, Labels, Observations, Rule, Worse

DAY = 86_400.0
FEWEST_POINTS = 20
"""Points of history below which a series is not judged."""

SEASON_DAYS = 3
"""Whole days of history from which a daily season is learnt."""

LONG = 6.9
"""Days of history from which what it says of dispersion is taken as it is."""

LEARNT_AT = (0.5, 0.1, 0.01)
"""Shares of requests over an edge at which the dispersion of a latency is learnt, beside its objective."""

RECENT = 3 * 3600.0
"""Stretch before exposure from which the level of a seasonal series is taken."""

SMOOTHING = 31
"""Blocks over which a season is smoothed: a few days are too few for every minute of its own."""

LAGS = 30


def on_series(rule: Rule, design: Design) -> bool:
    """Tell whether a rule is judged on a series rather than on counts in two arms."""
    return rule.kind is Kind.GAUGE or design is Design.BEFORE_AFTER


def in_points(rule: Rule, design: Design) -> bool:
    """Tell whether a rule's effect is a difference of shares (percentage points) rather than a ratio."""
    return rule.absolute and rule.kind is Kind.RATIO and design is Design.CONCURRENT


def calibrate(
    rule: Rule, design: Design, history: Observations, came_from: str, rng: np.random.Generator, block: float
) -> Calibration:
    """Learn what a rule needs from the time before exposure.

    Args:
        history: closed blocks before exposure, oldest first; for a table without any, its baseline arm (whose
            outcomes say nothing of the difference between the arms).
        came_from: where the history is from, for people.
        rng: draws the splits between units.
        block: seconds a block lasts.
    """
    margin, notes = _margin(rule, design, history)
    known = Calibration(margin=margin, notes=notes)
    if on_series(rule, design):
        return _calibrate_series(rule, design, history, came_from, block, known)
    return _calibrate_counts(rule, history, came_from, rng, block, known)


def _calibrate_counts(
    rule: Rule, history: Observations, came_from: str, rng: np.random.Generator, block: float, known: Calibration
) -> Calibration:
    """Learn dispersion, spread between units and what is usual from the control's counts."""
    history = _without_unseen(rule, history)
    control = history.baseline if history.baseline is not None else history.treatment
    ordinary = [row for row, stream in enumerate(history.streams) if not signed(rule, stream)]
    whole = control.picked(streams=ordinary)
    days = (np.ptp(history.ends) + block) / DAY if history.ends.size else 0.0
    day = round(DAY / block) if days >= SEASON_DAYS else None
    learning = partial(learn, rng=rng, long=days >= LONG, day=day)
    learnt = learning(whole.events.sum(axis=0), whole.total.sum(axis=0))
    if whole.buckets is not None and whole.buckets.any():
        learnt, spreads, pace = _learn_latency(whole.buckets.sum(axis=0), np.log(history.edges), learnt, learning)
        shape = np.asarray(whole.buckets.sum(axis=(1, 2)))
        known = replace(known, edges=history.edges, shape=shape, spreads=spreads, pace=pace)
    apart, notes = learnt.between_units is not None, known.notes
    # How counts vary over time stands in for how units do only where it is plainly more than chance.
    clear = apart or learnt.clustered
    if not apart:
        why = "fewer than two units" if learnt.units < FEWEST_UNITS else "too short a history"
        notes = (*notes, f"{'units taken to be alike' if clear else 'independent events assumed'} ({why})")
    total = control.total.sum(axis=1)
    return replace(
        known,
        streams=history.streams,
        came_from=came_from if clear else "assumed",
        dispersion=learnt.dispersion if clear else 1.0,
        between_units=learnt.between_units,
        over_time=learnt.over_time,
        spread=learnt.spread,
        units=learnt.units,
        assumed=not apart,
        notes=notes,
        rate=_rates(control),
        traffic=np.asarray(total.sum(axis=1) / np.maximum((total > 0).sum(axis=1), 1)),
    )


def _rates(arm: Arm) -> Floats:
    """Return events per exposure, [stream]; NaN where there was no exposure."""
    events, total = arm.events.sum(axis=(1, 2)), arm.total.sum(axis=(1, 2))
    return np.asarray(np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0))


def _learn_latency(
    buckets: Floats, tops: Floats, share: Learnt, learning: Callable[[Floats, Floats], Learnt]
) -> tuple[Learnt, tuple[float, ...], float]:
    """Learn from whole histograms [unit, block, bucket].

    Args:
        tops: logs of the upper edges.
        share: what the share over the objective said; the larger dispersion counts.
        learning: how dispersion is learnt from events and totals, [unit, block].

    Returns:
        The dispersion, the spread between units of the share over each edge, and that of the mean log latency.
    """
    over = buckets.sum(axis=2, keepdims=True) - np.cumsum(buckets, axis=2)
    total, exceeding = buckets.sum(axis=(1, 2)), over.sum(axis=1)
    part = exceeding.sum(axis=0) / total.sum()
    for edge in sorted({int(np.abs(part - level).argmin()) for level in LEARNT_AT}):
        at = learning(over[:, :, edge], buckets.sum(axis=2))
        between = max(filter(None, (share.between_units, at.between_units)), default=None)
        in_time = max(filter(None, (share.over_time, at.over_time)), default=None)
        share = replace(share, between_units=between, over_time=in_time)
    spreads = tuple(spread(exceeding[:, edge], total, share.dispersion) for edge in range(len(tops) - 1))
    busy, middles = total > 0, middles_of(tops)
    if busy.sum() < FEWEST_UNITS:
        return share, spreads, 0.0
    counts, n = buckets.sum(axis=1)[busy], total[busy]
    means = counts @ middles / n
    variances = np.maximum(counts @ middles**2 / n - means**2, 1e-9) * share.dispersion / n
    return share, spreads, spread_of(means, variances)


def _without_unseen(rule: Rule, history: Observations) -> Observations:
    """Return the history without the error signatures that never occurred in it: their counters only stood at nil."""
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    rows = [
        row
        for row, stream in enumerate(history.streams)
        if not signed(rule, stream) or any(arm.events[row].any() for arm in arms)
    ]
    return history if len(rows) == len(history.streams) else history.of_streams(rows)


def signed(rule: Rule, stream: Labels) -> bool:
    """Tell whether a stream is one error signature of another stream."""
    return rule.signature is not None and rule.signature not in rule.by and rule.signature in dict(stream)


def _margin(rule: Rule, design: Design, history: Observations) -> tuple[float, tuple[str, ...]]:
    """Return the margin as the evidence has it: an absolute one stays so for proportions in two arms.

    Elsewhere it is turned into a relative one at the baseline's rate before exposure.
    """
    if not rule.absolute or in_points(rule, design):
        return rule.margin, ()
    control = history.baseline if history.baseline is not None else history.treatment
    total = float(control.total.sum())
    rate = float(np.nansum(control.events)) / total if total > 0 else 0.0
    if rate <= 0:
        return rule.margin, (f"{rule.name}: no baseline rate to turn {rule.margin * 100:g} pp into a relative margin",)
    relative = rule.margin / rate
    if rule.worse is Worse.LOWER:
        relative = min(relative, 0.99)
    return relative, (f"margin {rule.margin * 100:g} pp is {relative:.0%} of a baseline rate of {rate:.3%}",)


def _calibrate_series(
    rule: Rule, design: Design, history: Observations, came_from: str, block: float, known: Calibration
) -> Calibration:
    """Fit level, season and autoregression to the series before exposure."""
    control = history.baseline if design is Design.CONCURRENT else None
    paired = control is not None and bool(history.treatment.total.any())
    logarithmic = rule.kind is Kind.GAUGE and _positive(history)
    scale = np.ones(len(history.streams)) if logarithmic else _scale(rule, control or history.treatment)
    fitted = replace(known, streams=history.streams, came_from=came_from, logarithmic=logarithmic, scale=scale)
    if control is not None and not paired:
        values = _transformed(across(rule, control), scale, logarithmic)
        fitted = fitted.noted(
            "how the arms differed before exposure is unknown; the treatment's noise is taken to be the control's"
        )
    else:
        values = series(rule, history, fitted)
    points = int(np.isfinite(values).sum(axis=1).min()) if values.size else 0
    if points < FEWEST_POINTS:
        return fitted.noted(f"{points} blocks of history are too few to judge a series (at least {FEWEST_POINTS})")
    level, season, residuals, used = _baseline(values, history.ends, block)
    ar, sigma = _autoregression(residuals)
    drift = (sigma / (1 - ar.sum(axis=1))) ** 2 / used
    tail = np.nan_to_num(residuals[:, ::-1][:, : ar.shape[1]])
    if control is not None and not paired:
        # Judged on the difference of the arms: its level is zero and its noise twice the control's.
        level, season, drift, tail = np.zeros_like(level), None, np.zeros_like(drift), np.zeros_like(tail)
        sigma = sigma * np.sqrt(2)
    return replace(
        fitted.noted("a level shift in autoregressive noise is assumed, not calibrated on placebos"),
        points=points,
        level=level,
        season=season,
        ar=ar,
        sigma=sigma,
        drift=drift,
        tail=tail,
    )


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
    """Return the series a rule is judged on, [stream, block]: treatment, less control where there is one."""
    scale = calibration.scale if calibration.scale is not None else np.ones(len(observations.streams))
    values = _transformed(across(rule, observations.treatment), scale, calibration.logarithmic)
    if observations.baseline is None:
        return values
    return values - _transformed(across(rule, observations.baseline), scale, calibration.logarithmic)


def residuals(rule: Rule, observations: Observations, calibration: Calibration, block: float) -> Floats:
    """Return the series less its calibrated level and season, [stream, block]."""
    assert calibration.level is not None
    values = series(rule, observations, calibration) - calibration.level[:, None]
    if calibration.season is None:
        return values
    return np.asarray(values - calibration.season[:, _phase(observations.ends, block)])


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


def _phase(ends: Floats, block: float) -> NDArray[np.intp]:
    """Return the index of each block within its UTC day."""
    return np.rint((ends - block) % DAY / block).astype(np.intp)


def _baseline(values: Floats, ends: Floats, block: float) -> tuple[Floats, Floats | None, Floats, Floats]:
    """Return level [stream], season [stream, phase] or None, residuals, and how many points the level rests on."""
    if np.ptp(ends) + block < SEASON_DAYS * DAY:
        level = np.nanmean(values, axis=1)
        return level, None, values - level[:, None], np.isfinite(values).sum(axis=1).astype(float)
    phases, season = _phase(ends, block), np.full((len(values), int(DAY // block)), np.nan)
    for phase in range(season.shape[1]):
        here = values[:, phases == phase]
        some = np.isfinite(here).any(axis=1)
        season[some, phase] = np.nanmedian(here[some], axis=1)
    season = _smoothed(season)
    season -= season.mean(axis=1, keepdims=True)
    flat = values - season[:, phases]
    recent = ends > ends[-1] - RECENT
    count = np.isfinite(flat[:, recent]).sum(axis=1)
    whole = np.nanmean(flat, axis=1)
    level = np.where(count > 0, np.nansum(flat[:, recent], axis=1) / np.maximum(count, 1), whole)
    used = np.where(count > 0, count, np.isfinite(flat).sum(axis=1)).astype(float)
    return level, season, flat - whole[:, None], used


def _smoothed(season: Floats) -> Floats:
    """Return a season as a running mean around the clock, gaps filled from their neighbours."""
    width = min(SMOOTHING, season.shape[1] // 2 * 2 - 1)
    half = width // 2
    wrapped = np.concatenate([season[:, -half:], season, season[:, :half]], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(wrapped, width, axis=1)
    some = np.isfinite(windows).any(axis=2)
    means = np.nansum(windows, axis=2) / np.maximum(np.isfinite(windows).sum(axis=2), 1)
    rest = np.nanmean(np.where(some, means, np.nan), axis=1, keepdims=True)
    return np.asarray(np.where(some, means, rest))


def _autoregression(residuals: Floats) -> tuple[Floats, Floats]:
    """Fit by Yule and Walker; return coefficients [stream, lag] and the innovations' standard deviation [stream]."""
    # Here, because it takes a third of a second to import, and only series need it.
    from scipy.linalg import solve_toeplitz

    lags = int(min(LAGS, max(1, residuals.shape[1] // 20)))
    filled = np.nan_to_num(residuals)
    n = np.maximum(np.isfinite(residuals).sum(axis=1), 1)
    size = residuals.shape[1]
    covariance = np.stack([(filled[:, lag:] * filled[:, : size - lag]).sum(axis=1) / n for lag in range(lags + 1)])
    ar = np.zeros((len(residuals), lags))
    for stream, c in enumerate(covariance.T):
        if c[0] > 0:
            ar[stream] = solve_toeplitz(c[:-1] * np.r_[1.0 + 1e-6, np.ones(lags - 1)], c[1:])
    # An autoregression that sums to one has no level; keep a little pull towards it.
    ar *= np.minimum(1.0, 0.995 / np.maximum(ar.sum(axis=1), 1e-9))[:, None]
    variance = covariance[0] - (ar * covariance[1:].T).sum(axis=1)
    degrees = np.maximum(n - lags - 1, 1) / n
    floor = 1e-6 * np.maximum(covariance[0], 1e-12)
    return ar, np.sqrt(np.maximum(variance / degrees, floor))

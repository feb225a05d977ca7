"""What a series (a gauge, or anything held against its own past) needs: level, daily season and autoregression."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from watcher.calibration.counts import DAY, SEASON_DAYS
from watcher.model import Arm, Calibration, Design, Floats, Kind, Observations, Rule

FEWEST_POINTS = 20
"""Points of history below which a series is not judged."""

RECENT = 3 * 3600.0
"""Stretch before exposure from which the level of a seasonal series is taken."""

SMOOTHING = 31
"""Blocks over which a season is smoothed: a few days are too few for every minute of its own."""

LAGS = 30


def calibrate_series(
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
    ar, sigma = autoregression(residuals)
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


def autoregression(residuals: Floats) -> tuple[Floats, Floats]:
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

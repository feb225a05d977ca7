"""What a rule on a series is about: its values block by block, what they are held against, and how far off they are.

The scale of the effect is the logarithm where a gauge is positive, and otherwise a share: of the level for a gauge, of
the usual rate for counts, whose noise follows from the traffic of the block and what they vary beyond it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.model import Arm, Calibration, Flags, Floats, Kind, Labels, Observations, Rule, Watch


def across(rule: Rule, arm: Arm) -> Floats:
    """Return one value per stream and block, [stream, block]: NaN is a gap.

    A gauge is put together over units as the rule says; counts become the rate of their sums.
    """
    if rule.kind is not Kind.GAUGE:
        events, total = arm.events.sum(axis=1), arm.total.sum(axis=1)
        return np.asarray(np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0))
    values = np.where(arm.total > 0, arm.events, np.nan)
    if values.shape[1] == 1:
        return np.asarray(values[:, 0])
    some = np.asarray(np.isfinite(values).any(axis=1))
    filled = np.where(some[:, None, :], values, 0.0)
    return np.where(some, getattr(np, f"nan{rule.across}")(filled, axis=1), np.nan)


def series(rule: Rule, observations: Observations, calibration: Calibration) -> Floats:
    """Return the series a gauge is judged on, [stream, block]: treatment, less `beta` of any control."""
    values = transformed(across(rule, observations.treatment), calibration)
    if observations.baseline is None:
        return values
    beta = 1.0 if calibration.beta is None else calibration.beta[:, None]
    return np.asarray(values - beta * transformed(across(rule, observations.baseline), calibration))


def transformed(values: Floats, calibration: Calibration) -> Floats:
    """Return values on the scale of the effect."""
    if not calibration.logarithmic:
        return values if calibration.scale is None else values / calibration.scale[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(values)
    return np.where(np.isfinite(logs), logs, np.nan)


def against(
    rule: Rule, observations: Observations, calibration: Calibration, expected: Floats
) -> tuple[Floats, Floats]:
    """Return the residual on the scale of the effect, and its standard deviation, both [stream, block].

    Args:
        rule: what is measured.
        observations: of the calibrated streams.
        calibration: scale and noise.
        expected: what is usual at each block, [stream, block].
    """
    assert calibration.unit is not None
    if plain(rule, observations):
        values = series(rule, observations, calibration) - expected
        return values, np.broadcast_to(calibration.unit[:, None], values.shape)
    assert calibration.noise is not None
    total = observations.treatment.total.sum(axis=1)
    values = across(rule, observations.treatment) / expected - 1.0
    varies = calibration.noise[:, :1] * by_chance(rule, total, expected) + calibration.noise[:, 1:]
    return values, np.sqrt(np.where(total > 0, varies, calibration.unit[:, None] ** 2))


def residuals(rule: Rule, observations: Observations, calibration: Calibration, block: float) -> tuple[Floats, Floats]:
    """Return the same for blocks after exposure; what lies beyond the horizon is a gap."""
    assert calibration.usual is not None
    at = np.rint((observations.ends - calibration.usual_from) / block).astype(np.intp)
    inside = (at >= 0) & (at < calibration.usual.shape[1])
    expected = np.full((len(calibration.usual), at.size), np.nan)
    expected[:, inside] = calibration.usual[:, at[inside]]
    return against(rule, observations, calibration, expected)


def plain(rule: Rule, observations: Observations) -> bool:
    """Tell whether a series is of measurements, whose noise does not depend on traffic."""
    return rule.kind is Kind.GAUGE or observations.baseline is not None


def by_chance(rule: Rule, total: Floats, expected: Floats) -> Floats:
    """Return the relative variance that the number of events alone implies, [stream, block]."""
    free = 1.0 if rule.kind is Kind.RATE else np.maximum(1.0 - expected, 1e-3)
    return np.asarray(free / np.maximum(expected * np.maximum(total, 1.0), 1e-9))


def overlapping(watch: Watch, ends: Floats) -> Flags:
    """Tell which blocks lie in a stretch that is excluded from what is usual, [block]."""
    out = np.zeros(ends.size, dtype=bool)
    for start, end in watch.excluded:
        out |= (ends > start + 1e-6) & (ends - watch.block < end - 1e-6)
    return out


def aligned(observations: Observations, streams: tuple[Labels, ...]) -> Observations:
    """Return the observations with exactly these streams, in this order; a stream not seen is empty."""
    if observations.streams == streams:
        return observations
    rows = {stream: row for row, stream in enumerate(observations.streams)}
    pick = np.array([rows.get(stream, -1) for stream in streams], dtype=int)

    def arm(given: Arm) -> Arm:
        if not observations.streams:
            empty = np.zeros((len(streams), max(1, len(given.units)), observations.ends.size))
            return Arm(given.units or ("",), empty, empty)
        cut, missing = given.picked(streams=pick), (pick < 0)[:, None, None]
        buckets = None if cut.buckets is None else np.where(missing[..., None], 0.0, cut.buckets)
        hollow = None if cut.hollow is None else cut.hollow & ~missing
        return Arm(given.units, np.where(missing, 0.0, cut.events), np.where(missing, 0.0, cut.total), buckets, hollow)

    baseline = None if observations.baseline is None else arm(observations.baseline)
    return replace(observations, streams=streams, treatment=arm(observations.treatment), baseline=baseline)

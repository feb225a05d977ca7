"""What a gauge judged unit by unit needs: how units of the baseline differ, block by block and for good."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.calibration.series import FEWEST_POINTS
from watcher.evidence.canaries import Middle, middle_of, on_scale, placebos
from watcher.evidence.units import FEWEST, inflation
from watcher.model import Arm, Calibration, Design, Flags, Floats, Kind, Observations, Rule, Worse

FRESH = 0.2
"""Standard deviation of a fresh unit's own level that is granted at least, as a log ratio: cold caches, another host.

Two of them are the factor 1.5 within which nothing is claimed of units about which nothing is known.
"""

FEWEST_SURE = 100
"""Blocks of history from which a service may be turned off on how its units differ."""

ALIKE = 0.05
"""Part of the readings that one value makes up at most, in a quantity that varies continuously and is rounded."""


def by_unit(rule: Rule, design: Design, history: Observations) -> bool:
    """Tell whether a gauge is judged unit by unit: the treatment has no past, and the baseline units to compare.

    Only what is put together as a mean or a median is the same for one unit as for many: a sum or an extreme is not.
    """
    control = history.baseline
    if rule.kind is not Kind.GAUGE or design is not Design.CONCURRENT or control is None:
        return False
    if rule.across not in ("mean", "median") or history.treatment.total.any():
        return False
    together = (control.total > 0).sum(axis=1)
    return bool((np.where(together >= FEWEST, together, 0).sum(axis=1) >= FEWEST_POINTS).any())


def readings(arm: Arm) -> Floats:
    """Return what each unit read, [stream, unit, block]; NaN is a gap."""
    return np.where(arm.total > 0, arm.events, np.nan)


def calibrate_canaries(rule: Rule, history: Observations, came_from: str, known: Calibration) -> Calibration:
    """Hold each unit of the baseline against the others before exposure."""
    assert history.baseline is not None
    assert rule.across in ("mean", "median")
    raw = readings(history.baseline)
    logarithmic, zeros = _scale_of(rule, raw)
    scale = np.ones(len(raw)) if logarithmic else _level(raw)
    noise, own, units = _learnt(on_scale(raw, scale, logarithmic), rule.across)
    granted = np.full(len(raw), FRESH) if logarithmic else FRESH * _freedom(rule, raw)
    reported = np.isfinite(raw) & ((raw > 0) | (not logarithmic))
    points = int(reported.any(axis=1).sum(axis=1).max())
    said = f"{zeros} readings of exactly 0 taken as gaps: nothing was measured there"
    drift = np.maximum(inflation(units) ** 2 * own, granted**2)
    learnt = replace(
        known,
        streams=history.streams,
        came_from=came_from,
        assumed=points < FEWEST_SURE,
        units=units,
        points=points,
        logarithmic=logarithmic,
        scale=scale,
        sigma=noise,
        drift=drift,
        reports=_reports(reported),
        continuous=_continuous(raw).astype(float),
        notes=(*known.notes, said) if zeros and logarithmic else known.notes,
    )
    return learnt.noted(
        "units of the baseline stand in for those of the treatment, which have no past; "
        f"a fresh unit's own level may differ by {100 * np.sqrt(drift.max()):.2g} % (one standard deviation)"
    )


def _learnt(values: Floats, middle: Middle) -> tuple[Floats, Floats, int]:
    """Return noise (standard deviation) and spread of levels (variance) [stream], and the most units there were."""
    left = np.moveaxis(placebos(np.moveaxis(values, 1, 2), middle), 2, 1)
    count = np.isfinite(left).sum(axis=2)
    means = np.where(count > 0, np.nansum(left, axis=2) / np.maximum(count, 1), np.nan)
    squares = np.nansum((left - means[:, :, None]) ** 2, axis=(1, 2))
    units = (count > 0).sum(axis=1)
    noise = np.sqrt(squares / np.maximum(count.sum(axis=1) - units, 1))
    centre = middle_of(means, "mean")
    apart = np.nansum((means - centre[:, None]) ** 2, axis=1) / np.maximum(units - 1, 1)
    return noise, apart, int(units.max())


def _scale_of(rule: Rule, raw: Floats) -> tuple[bool, int]:
    """Tell whether readings are compared as logarithms, and how many of exactly 0 are then gaps.

    What is worse when lower stays as it is: losing all of it is real, and has no logarithm. What is worse when higher
    and always positive is compared by its logarithm. An exact 0 now and then, in what otherwise varies continuously, is
    not a very small reading but none (the mean latency of no requests): as a reading it would be better than anything.
    Counts (a queue that is empty) repeat their values, so there a 0 is a 0.
    """
    seen = raw[np.isfinite(raw)]
    zeros = int((seen == 0).sum())
    if rule.worse is Worse.LOWER or (seen < 0).any() or not (seen > 0).any():
        return False, zeros
    if not zeros:
        return True, 0
    positive = seen[seen > 0]
    _, times = np.unique(positive, return_counts=True)
    rounded = positive.size >= FEWEST_POINTS and times.max() <= ALIKE * positive.size
    return bool(rounded and zeros < positive.size), zeros


def _level(raw: Floats) -> Floats:
    """Return the mean reading, [stream]; 1 where it is nothing."""
    level = np.abs(np.nan_to_num(middle_of(raw.reshape(len(raw), -1), "mean")))
    return np.where(level > 0, level, 1.0)


def _freedom(rule: Rule, raw: Floats) -> Floats:
    """Return the part of the level by which units may differ as their failures do, [stream].

    A share that should be high (98 %) is that of what did not fail: where failures differ by a fifth between units, it
    differs by a fifth of 2 points. What never fails does not differ at all.
    """
    filled = np.nan_to_num(raw).reshape(len(raw), -1)
    least, highest = filled.min(axis=1), filled.max(axis=1)
    no_share = (least < 0) | (highest > 100) | (rule.worse is not Worse.LOWER)
    most = np.where(no_share, np.inf, np.where(highest <= 1, 1.0, 100.0))
    return np.minimum(1.0, np.maximum(most - _level(raw), 0.0) / _level(raw))


def _reports(reported: Flags) -> Floats:
    """Return blocks in which each unit reported, and those between in which it did not, [stream, unit, 2]."""
    blocks = reported.shape[2]
    count = reported.sum(axis=2)
    span = blocks - reported.argmax(axis=2) - reported[:, :, ::-1].argmax(axis=2)
    return np.stack([count, np.where(count > 0, span - count, 0)], axis=2).astype(float)


def _continuous(raw: Floats) -> Flags:
    """Tell where no two positive readings were ever alike, [stream], of as many as say something."""
    found = [np.unique(each[each > 0], return_counts=True)[1] for each in raw]
    return np.array([times.sum() >= FEWEST_POINTS and times.max(initial=0) == 1 for times in found], dtype=bool)

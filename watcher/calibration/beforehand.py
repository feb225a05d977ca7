"""A calibration made the night before a release, brought up to the hour of its exposure.

What takes long is learnt at night: the season, the memory, the placebos. What only the last hours know (the level, the
spread, what the series remembers) takes a day of blocks, and is learnt when users are exposed.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from watcher.calibration.deviations import aligned, residuals
from watcher.calibration.series import with_last_hours, without_excluded
from watcher.model import Calibration, Observations, Rule, Watch

DAY = 86_400.0

LASTS = DAY + 3600.0
"""Seconds for which what was learnt at night is used: until it has been learnt anew."""

REMEMBERED = DAY
"""Seconds before exposure whose blocks bring it up to date."""


def digest(watch: Watch) -> str:
    """Return a hash of all that a calibration of a watch depends on, but for the past itself."""
    times = (watch.block, watch.warm_up, watch.horizon, watch.history, watch.zone)
    kept = repr((watch.rules, watch.select, times, watch.alpha))
    return hashlib.sha256(kept.encode()).hexdigest()[:16]


def brought_up_to_date(rule: Rule, watch: Watch, learnt: Calibration, recent: Observations) -> Calibration | None:
    """Return a calibration of the night as it is at exposure; None where it does not reach so far.

    Args:
        rule: what was calibrated.
        watch: of the release.
        learnt: at night.
        recent: the blocks of the last day before exposure.
    """
    if learnt.usual is None or learnt.memory is None:
        # Nothing was measured: nothing can be said of the rule, now as little as then.
        return learnt
    first = float(np.floor(watch.release.exposed_at / watch.block) * watch.block + watch.block)
    start, blocks = round((first - learnt.usual_from) / watch.block), int(np.ceil(watch.horizon / watch.block))
    if start < 0 or start + blocks > learnt.usual.shape[1]:
        return None
    usual = without_excluded(watch, aligned(recent, learnt.streams))
    residual, noise = residuals(rule, usual, learnt, watch.block)
    fresh = with_last_hours(watch, learnt, residual / noise)
    return replace(fresh, usual=learnt.usual[:, start : start + blocks], usual_from=first)

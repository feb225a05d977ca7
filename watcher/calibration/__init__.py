"""What is learnt of a rule before users are exposed, and then frozen."""

from __future__ import annotations

import numpy as np

from watcher.calibration.beforehand import LASTS, REMEMBERED, brought_up_to_date, digest
from watcher.calibration.canaries import by_unit, calibrate_canaries, readings
from watcher.calibration.counts import calibrate_counts, signed
from watcher.calibration.deviations import across, aligned, residuals, series
from watcher.calibration.series import calibrate_series, direction, laid_out
from watcher.calibration.together import SURE, together
from watcher.model import Calibration, Design, Kind, Observations, Rule, Watch, Worse

__all__ = [
    "LASTS",
    "REMEMBERED",
    "SURE",
    "across",
    "aligned",
    "brought_up_to_date",
    "calibrate",
    "digest",
    "direction",
    "in_points",
    "laid_out",
    "on_series",
    "readings",
    "residuals",
    "series",
    "signed",
    "together",
]


def on_series(rule: Rule, design: Design) -> bool:
    """Tell whether a rule is judged on a series rather than on counts in two arms."""
    return rule.kind is Kind.GAUGE or design is Design.BEFORE_AFTER


def in_points(rule: Rule, design: Design) -> bool:
    """Tell whether a rule's effect is a difference of shares (percentage points) rather than a ratio."""
    return rule.absolute and rule.kind is Kind.RATIO and design is Design.CONCURRENT


def calibrate(
    rule: Rule,
    watch: Watch,
    history: Observations,
    came_from: str,
    rng: np.random.Generator,
    reach: float = 0.0,
) -> Calibration:
    """Learn what a rule needs from the time before exposure.

    Args:
        rule: what to learn of.
        watch: design, block, horizon, and what of the past is not usual.
        history: closed blocks before exposure, oldest first; for a table without any, its baseline arm (whose
            outcomes say nothing of the difference between the arms).
        came_from: where the history is from, for people.
        rng: draws the splits between units.
        reach: seconds after the history within which a release may still come, for which this is learnt beforehand.
    """
    margin, notes = _margin(rule, watch.design, history)
    known = Calibration(margin=margin, notes=notes)
    if by_unit(rule, watch.design, history):
        return calibrate_canaries(rule, history, came_from, known)
    if on_series(rule, watch.design):
        return calibrate_series(rule, watch, history, came_from, known, reach)
    return calibrate_counts(rule, history, came_from, rng, watch.block, known)


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

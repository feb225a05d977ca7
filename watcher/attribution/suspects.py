"""What a release is suspected on: its verdict, its units, and how far it seems to have left its own past."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from watcher.attribution.ranking import ABSENCE, Alarm, Suspect
from watcher.comparison import EvidenceState
from watcher.model import (
    Arm,
    Calibration,
    Design,
    Floats,
    Kind,
    Observations,
    Outcome,
    ReleaseVerdict,
    Rule,
    Verdict,
    Watch,
    Worse,
)

FEW = 5
"""Blocks that say how much a stream varies, at least."""

LARGEST = 100.0
"""Standard deviations beyond which harm is just large."""


def harmed(watch: Watch, verdict: ReleaseVerdict, states: Mapping[str, Any]) -> frozenset[str]:
    """Return the units of a treatment that are worse than its control, beyond the margin, since harm began.

    Args:
        watch: its rules.
        verdict: of its latest look.
        states: the evidence states of that look, by rule; nothing where they do not tell units apart.
    """
    rules, found = {rule.name: rule for rule in watch.rules}, set()
    for each in verdict.streams:
        rule = rules.get(each.rule)
        if each.outcome is not Outcome.REGRESSED or rule is None or rule.kind is Kind.GAUGE or each.rule not in states:
            continue
        state = EvidenceState.from_json(states[each.rule])
        if state.since is None or each.labels not in state.streams:
            continue
        events, total = state.since[state.streams.index(each.labels), :, :2].T
        rate = np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0)
        side = -1 if rule.worse is Worse.LOWER else 1
        allowed = rate[0] + side * (rule.margin if rule.absolute else rule.margin * rate[0])
        found |= {unit for unit, own in zip(state.suspects, rate[1:], strict=True) if side * (own - allowed) > 0}
    return frozenset(found)


def units_of(states: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the units that serve a treatment, as the evidence states of its latest look have them."""
    named = [state["suspects"] for state in states.values() if "suspects" in state]
    return tuple(dict.fromkeys(unit for each in named for unit in each))


def suspect(
    watch: Watch,
    verdict: ReleaseVerdict,
    calibrations: Mapping[str, Calibration],
    states: Mapping[str, Any] | None = None,
) -> Suspect:
    """Return what a verdict says of a release as the possible cause.

    Args:
        watch: its design, and when users were exposed.
        verdict: at the latest look, or at the one that raised the alarm.
        calibrations: by rule; how much each stream varied before.
        states: the evidence states of that look, by rule.
    """
    rules, concurrent = {rule.name: rule for rule in watch.rules}, watch.design is Design.CONCURRENT
    streams = [each for each in verdict.streams if each.rule in rules and not each.dormant]
    worst = [each for each in streams if each.outcome is Outcome.REGRESSED]
    top = max(worst, key=lambda each: each.log_e_regressed - each.threshold, default=None)
    alarm: Alarm = "regressed" if verdict.outcome is Outcome.REGRESSED and top else ""
    if not alarm and ABSENCE in verdict.alarms:
        alarm = "absent_treatment"
    judged = [each.log_e_regressed - each.threshold for each in (worst or streams)]
    silent = sum(ABSENCE in each.alarms for each in streams)
    return Suspect(
        release=watch.release.id,
        exposed_at=watch.release.exposed_at,
        stages=tuple(stage.at for stage in watch.release.stages[1:]),
        alarm=alarm,
        began_at=_began(top, watch) if alarm else None,
        evidence=max(judged, default=-np.inf),
        harm=max((standardised(rules[each.rule], each, calibrations.get(each.rule)) for each in streams), default=0.0),
        units=units_of(states or {}),
        concurrent=concurrent,
        control_harmed=control_harmed(rules[top.rule], top, calibrations.get(top.rule)) if top and concurrent else None,
        silent=silent / len(streams) if streams else 0.0,
    )


def _began(top: Verdict | None, watch: Watch) -> float:
    """Return when the harm of the worst stream seems to have begun; of an absence, which names no moment, exposure."""
    if top is None:
        return watch.release.exposed_at
    found = top.onset if top.onset is not None else top.decided_at
    return watch.release.exposed_at if found is None else found


def standardised(rule: Rule, verdict: Verdict, calibration: Calibration | None) -> float:
    """Return the estimated harm of a stream in standard deviations, 0 where nothing is estimated or nothing is worse.

    Those of its own past where that is known, else those of the estimate.
    """
    effect = verdict.effect
    ratio = effect.measure == "ratio"
    if effect.estimate is None or (ratio and effect.estimate <= 0):
        return 0.0
    size = float(np.log(effect.estimate)) if ratio else effect.estimate
    size = {Worse.HIGHER: size, Worse.LOWER: -size, Worse.EITHER: abs(size)}[rule.worse]
    spread = _of_the_past(verdict, calibration, ratio)
    if spread is None:
        # Half of what a bound lies away: a confidence sequence is a little wider than two standard deviations.
        bounds = [each for each in (effect.lower, effect.upper) if each is not None and (each > 0 or not ratio)]
        away = [float(np.log(each / effect.estimate)) if ratio else each - effect.estimate for each in bounds]
        spread = max(map(abs, away), default=0.0) / 2
    return max(0.0, size / spread) if spread > 0 else 0.0


def apparent(rule: Rule, seen: Observations, past: Observations | None) -> float | None:
    """Return the largest harm of the streams of a rule as it appears, in standard deviations of their own past.

    For ranking alone, where nothing can be proven: the mean of the treatment's blocks against half way between that of
    the control's same blocks and that of the past, or what there is of the two. Harm that a fault spreads to the
    control shows against the past, and what is common to all shows less.

    Args:
        rule: what is measured, and which way is worse.
        seen: the blocks since exposure.
        past: those before; where they say nothing, the blocks of the control say how much is usual.

    Returns:
        At least 0; None where no stream has both.
    """
    found = []
    for row, stream in enumerate(seen.streams):
        treated, control = _series(rule, seen.treatment, row), _series(rule, seen.baseline, row)
        before = control[:0]
        if past is not None and stream in past.streams:
            at = past.streams.index(stream)
            arms = [_series(rule, arm, at) for arm in (past.baseline, past.treatment)]
            before = max(arms, key=len)
        against, usual = [each for each in (control, before) if each.size], before if before.size >= FEW else control
        if treated.size and against and usual.size >= FEW:
            level = float(np.mean([each.mean() for each in against]))
            off = float(treated.mean()) - level
            off = {Worse.HIGHER: off, Worse.LOWER: -off, Worse.EITHER: abs(off)}[rule.worse]
            # What never varied may vary a little.
            found.append(max(0.0, off) / max(float(usual.std()), 1e-3 * abs(level), 1e-9))
    return min(max(found), LARGEST) if found else None


def _series(rule: Rule, arm: Arm | None, row: int) -> Floats:
    """Return the value of every block in which there is any, over all units."""
    if arm is None:
        return np.empty(0)
    events, total = arm.events[row], arm.total[row]
    some = (total > 0).any(axis=0)
    return np.asarray(np.where(total > 0, events, 0.0).sum(axis=0)[some] / total.sum(axis=0)[some])


def _of_the_past(verdict: Verdict, calibration: Calibration | None, ratio: bool) -> float | None:
    """Return the standard deviation of a stream's past on the scale of its effect, where both are the same."""
    if calibration is None or calibration.unit is None or verdict.labels not in calibration.streams:
        return None
    if calibration.logarithmic is not ratio:
        return None
    return _row(calibration.unit, calibration, verdict)


def _row(values: Floats, calibration: Calibration, verdict: Verdict) -> float | None:
    found = float(values[calibration.streams.index(verdict.labels)])
    return found if np.isfinite(found) and found > 0 else None


def control_harmed(rule: Rule, verdict: Verdict, calibration: Calibration | None) -> bool | None:
    """Tell whether the control of a stream got worse than its own past, too, by more than the rule allows.

    None where there is no control, or its past is not known.
    """
    if calibration is None or calibration.rate is None or verdict.labels not in calibration.streams:
        return None
    usual, seen = _row(calibration.rate, calibration, verdict), verdict.baseline
    if usual is None or rule.kind is Kind.GAUGE or seen.total <= 0:
        return None
    share = seen.events / seen.total
    # A handful of events says nothing: three standard deviations of chance have to lie beyond the margin.
    chance = 3.0 * float(np.sqrt(calibration.dispersion * usual * seen.total)) / seen.total
    allowed = rule.margin if rule.absolute else calibration.margin * usual
    worse = share - usual if rule.worse is not Worse.LOWER else usual - share
    return worse > allowed + chance

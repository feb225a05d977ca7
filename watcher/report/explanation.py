"""The parts of a report in sentences: alarms, warnings, what was assumed, and the details of one stream."""

from __future__ import annotations

import math

import numpy as np

from watcher import reasons
from watcher.evidence import placebo
from watcher.model import Design, Kind, Outcome, QuantileShift, Rule, Tally, Verdict
from watcher.report.cells import moment, printable
from watcher.report.findings import Findings

_ALARMS = {
    "absent_treatment": "the treatment sends nothing while the baseline has traffic",
    "absent_baseline": "the baseline sends nothing while the treatment has traffic",
}
MOMENTS = 6
"""Moments at which a derivation tells the evidence."""

_MOST_NAMED = 3


def alarms(findings: Findings) -> list[str]:
    """Return one sentence an alarm, naming the streams that raise it."""
    said = []
    for alarm in findings.verdict.alarms:
        raised = [verdict for verdict in findings.streams if alarm in verdict.alarms]
        names = [subject(findings, verdict) for verdict in raised[:_MOST_NAMED]]
        more = f" and {len(raised) - _MOST_NAMED} more" if len(raised) > _MOST_NAMED else ""
        where = f" ({', '.join(names)}{more})" if names else ""
        said.append(f"{alarm}: {_ALARMS.get(alarm, 'see the streams')}{where}")
    return said


def warnings(findings: Findings) -> list[str]:
    """Return the warnings, printable."""
    return [printable(warning) for warning in findings.warnings]


def assumptions(findings: Findings) -> list[str]:
    """Return what the verdict rests on: the calibrations, and what they noted that no warning says."""
    told = set(findings.warnings)
    return [printable(line) for line in findings.verdict.assumptions if line not in told]


def subject(findings: Findings, verdict: Verdict) -> str:
    """Return what a verdict is about, in words."""
    rule = findings.rule(verdict.rule)
    return printable(verdict.rule if rule is None else reasons.subject(rule, verdict.labels))


def details(findings: Findings, verdict: Verdict) -> list[tuple[str, str]]:
    """Return the facts behind one verdict as (name, sentence), for a reader who asks why."""
    rule, calibration = findings.rule(verdict.rule), findings.calibrations.get(verdict.rule)
    facts = [("why", verdict.reason), ("counts", _counts(findings, rule, verdict))]
    if rule is not None:
        on_scale = bool(verdict.effect.of)
        facts.append(("margin", reasons.tolerated(rule, findings.margin(rule), on_scale)))
    facts += [
        ("evidence of harm", _harm(findings, verdict)),
        ("evidence of health", _health(findings, verdict)),
        ("how it grew", _growth(findings, verdict)),
        ("quantiles", "; ".join(map(_quantile, verdict.quantiles))),
        ("one unit", "" if verdict.sick_unit is None else f"most of the evidence is on {verdict.sick_unit} alone"),
        (
            "calibration",
            "none" if calibration is None else f"{reasons.learnt(calibration)}; digest {calibration.digest}",
        ),
        ("blocks", _blocks(findings)),
        ("would change it", reasons.would_change(findings.watch, verdict)),
    ]
    return [(name, printable(text)) for name, text in facts if text]


def _counts(findings: Findings, rule: Rule | None, verdict: Verdict) -> str:
    treatment = _arm(rule, verdict.treatment)
    if findings.watch.design is Design.BEFORE_AFTER:
        return f"since exposure {treatment}; held against the time before"
    return f"baseline {_arm(rule, verdict.baseline)}; treatment {treatment}"


def _arm(rule: Rule | None, tally: Tally) -> str:
    if not tally.total:
        return "nothing"
    units = f" from {tally.units} {'units' if tally.units > 1 else 'unit'}" if tally.units else ""
    if rule is not None and rule.kind is Kind.GAUGE:
        measured = f" {rule.measured_in}" if rule.measured_in else ""
        return f"mean {tally.events:.4g}{measured} of {tally.total:,.0f} measurements{units}"
    share = tally.events / tally.total
    rate = f"{100 * share:.3g} %" if share <= 1 else f"{share:.3g} each"
    over = f" over {rule.objective:g} s" if rule is not None and rule.objective is not None else ""
    return f"{tally.events:,.0f} of {tally.total:,.0f}{over} ({rate}){units}"


def _harm(findings: Findings, verdict: Verdict) -> str:
    if not verdict.threshold:
        return "none: nothing was compared"
    whole, calibration = findings.watch.alpha_in_effect, findings.calibrations.get(verdict.rule)
    spent = f"alpha {math.exp(-verdict.threshold):.2g}, its share of {whole:g}"
    if calibration is not None and calibration.bar is not None and calibration.placebos is not None:
        priced = verdict.log_e_regressed - (verdict.threshold - calibration.bar)
        further = int((calibration.placebos >= priced).sum())
        p = placebo.p_value(calibration.placebos, priced)
        spent = (
            f"set by placebos, for alpha {whole:g}: {further} of {calibration.placebos.size} reached as far, p {p:.2g}"
        )
    held = f"; held for {verdict.held} blocks" if verdict.held else ""
    return f"log e {verdict.log_e_regressed:.1f} of {verdict.threshold:.1f} needed ({spent}){held}"


def _health(findings: Findings, verdict: Verdict) -> str:
    alpha = findings.watch.alpha.healthy
    return f"log e {verdict.log_e_healthy:.1f} of {-math.log(alpha):.1f} needed (alpha {alpha:g})"


def _blocks(findings: Findings) -> str:
    start, end = (moment(findings, at) for at in (findings.start, findings.end))
    return f"{findings.blocks} of {findings.watch.block:g} s counted, {start} to {end} UTC"


def _growth(findings: Findings, verdict: Verdict) -> str:
    """Return log e at a few moments, and what it had to reach: of health where that is proven, else of harm."""
    trace = findings.traces.get((verdict.rule, verdict.labels))
    if trace is None or not trace.ends.size:
        return ""
    healthy = verdict.outcome is Outcome.HEALTHY
    log_e = trace.log_healthy if healthy else trace.log_regressed
    need = -math.log(findings.watch.alpha.healthy) if healthy else trace.threshold
    points = np.linspace(0, trace.ends.size - 1, MOMENTS).round().astype(int)
    shown = [f"{log_e[at]:.1f} at {moment(findings, float(trace.ends[at]))}" for at in sorted(set(points.tolist()))]
    line = f"log e of {'health' if healthy else 'harm'} {', '.join(shown)}".replace(" -0.0", " 0.0")
    if verdict.decided_at is None or verdict.outcome not in (Outcome.HEALTHY, Outcome.REGRESSED):
        return f"{line}; {need:.1f} is needed"
    return f"{line}; it reached {need:.1f} at {moment(findings, verdict.decided_at)}"


def _quantile(shift: QuantileShift) -> str:
    low, high = ("?" if x is None else f"{x:.2f}" for x in (shift.lower, shift.upper))
    return f"{shift.name} {shift.seconds}: {shift.ratio:.2f} times ({low} to {high})"

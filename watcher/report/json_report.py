"""JSON for programs: what `--format json` prints. The format is a promise; see schemas/comparison.schema.json."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any, overload

from watcher import reasons
from watcher.model import Calibration, Effect, Needs, QuantileShift, Tally, Verdict
from watcher.report.findings import Findings

SCHEMA = "watcher/comparison/1"
_DIGITS = 6


def comparison(findings: Findings) -> dict[str, Any]:
    """Return one comparison as plain JSON types: no NaN, no infinity, times in ISO 8601 with Z.

    `calibration` at the top is the largest dispersion of all rules and where it was learnt; each stream carries
    its own rule's beside it.
    """
    verdict = findings.verdict
    return {
        "schema": SCHEMA,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "design": "both" if _both(findings) else findings.watch.design.value,
        "alpha": findings.watch.alpha_in_effect,
        "alarms": list(verdict.alarms),
        "calibration": _calibration(_widest(list(findings.calibrations.values()))),
        "from": iso(findings.start),
        "to": iso(findings.end),
        "exposed_at": iso(findings.exposed_at),
        "blocks": findings.blocks,
        "took_seconds": _rounded(findings.took_seconds, 3),
        "warnings": list(findings.warnings),
        "streams": [_stream(findings, each) for each in findings.streams],
    }


def _both(findings: Findings) -> bool:
    """Tell whether a rule is held against the control and against its own past at once."""
    return any(each.beta is not None for each in findings.calibrations.values())


def releases(several: Sequence[Findings]) -> dict[str, Any]:
    """Return the comparisons of several releases."""
    return {"releases": [comparison(findings) for findings in several]}


@overload
def iso(at: float) -> str: ...
@overload
def iso(at: float | None) -> str | None: ...
def iso(at: float | None) -> str | None:
    """Return a moment (epoch seconds) as ISO 8601 in UTC.

    >>> iso(1_795_000_000.0)
    '2026-11-18T11:06:40Z'
    """
    if at is None:
        return None
    text = dt.datetime.fromtimestamp(at, dt.UTC).isoformat(timespec="seconds" if at == int(at) else "milliseconds")
    return text.replace("+00:00", "Z")


def _stream(findings: Findings, verdict: Verdict) -> dict[str, Any]:
    said: dict[str, Any] = {
        "rule": verdict.rule,
        "labels": dict(verdict.labels),
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "decided_at": iso(verdict.decided_at),
        "effect": _effect(verdict.effect),
        "baseline": _tally(verdict.baseline),
        "treatment": _tally(verdict.treatment),
        "log_e_regressed": _rounded(verdict.log_e_regressed, 3),
        "log_e_healthy": _rounded(verdict.log_e_healthy, 3),
        "needs": _needs(verdict.needs),
    }
    said["would_change"] = reasons.would_change(findings.watch, verdict)
    calibration = findings.calibrations.get(verdict.rule)
    if calibration is not None:
        digest = {"digest": calibration.digest, "learnt": reasons.learnt(calibration)}
        said["calibration"] = {**_calibration(calibration), **digest}
    if verdict.effect.of:
        said["effect"]["of"] = verdict.effect.of
    if verdict.quantiles:
        said["quantiles"] = [_quantile(each) for each in verdict.quantiles]
    if verdict.sick_unit is not None:
        said["sick_unit"] = verdict.sick_unit
    if verdict.dormant:
        said["dormant"] = True
    return said


def _effect(effect: Effect) -> dict[str, Any]:
    return {
        "measure": effect.measure,
        "estimate": _significant(effect.estimate),
        "lower": _significant(effect.lower),
        "upper": _significant(effect.upper),
        "confidence": effect.confidence,
    }


def _quantile(shift: QuantileShift) -> dict[str, Any]:
    numbers = {"baseline": shift.baseline, "treatment": shift.treatment, "lower": shift.lower, "upper": shift.upper}
    return {"level": shift.level, **{name: _significant(value) for name, value in numbers.items()}}


def _tally(tally: Tally) -> dict[str, Any]:
    return {"events": _significant(tally.events), "total": _significant(tally.total), "units": tally.units}


def _needs(needs: Needs | None) -> dict[str, Any] | None:
    if needs is None:
        return None
    return {
        "events": None if needs.events is None or not math.isfinite(needs.events) else math.ceil(needs.events),
        "minutes": None if needs.minutes is None else _rounded(needs.minutes, 1),
        "minutes_90": None if needs.minutes_90 is None else _rounded(needs.minutes_90, 1),
        "limit": needs.limit,
    }


def _widest(calibrations: Sequence[Calibration]) -> Calibration:
    """Return the calibration with the largest dispersion; series have none, so they speak only for themselves."""
    counts = [each for each in calibrations if each.memory is None] or list(calibrations) or [Calibration()]
    return max(counts, key=lambda each: (each.dispersion, each.came_from == "assumed"))


def _calibration(calibration: Calibration) -> dict[str, Any]:
    return {"dispersion": _rounded(calibration.dispersion, 3), "from": calibration.came_from}


def _significant(number: float | None) -> float | int | None:
    """Return whole numbers as they are, others with six significant digits; null for what JSON cannot say."""
    if number is None or not math.isfinite(number):
        return None
    return int(number) if number == int(number) and abs(number) < 2**53 else float(f"{number:.{_DIGITS}g}")


def _rounded(number: float, digits: int) -> float | None:
    return round(float(number), digits) if math.isfinite(number) else None

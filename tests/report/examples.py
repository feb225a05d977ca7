"""Findings for the report tests: made by hand, so that a test decides what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from watcher.model import (
    Arm,
    Calibration,
    Effect,
    Kind,
    Labels,
    Needs,
    Observations,
    Outcome,
    Release,
    ReleaseVerdict,
    Rule,
    Selector,
    Stage,
    Strategy,
    Tally,
    Verdict,
    Watch,
    Worse,
    labels,
)
from watcher.report import Findings, Trace

EXPOSED = 1_795_000_200.0 - 3000.0
"""2026-11-18 10:20 UTC."""

ERRORS = Rule(
    "request-errors",
    Kind.RATIO,
    Selector("errors"),
    Selector("requests"),
    title="Requests that failed",
    by=("feature",),
)
COMPLETION = Rule(
    "checkout-completion",
    Kind.RATE,
    Selector("completed"),
    Selector("started"),
    title="Checkouts completed",
    worse=Worse.LOWER,
    margin=0.02,
)
PAGE_LOAD = Rule("page-load", Kind.LATENCY, Selector("load"), title="Page load time", objective=2.5, margin=0.1)
LCP = Rule("lcp-p75", Kind.GAUGE, Selector("lcp"), title="Largest paint p75", measured_in="seconds", margin=0.1)
RULES = (ERRORS, COMPLETION, PAGE_LOAD, LCP)

CALIBRATIONS = {
    "request-errors": Calibration(came_from="file", dispersion=1.8, assumed=False),
    "checkout-completion": Calibration(came_from="file", dispersion=1.2, assumed=False, margin=0.02),
    "page-load": Calibration(came_from="file", dispersion=1.2, assumed=False, margin=0.1),
    "lcp-p75": Calibration(came_from="history 24h", margin=0.1, points=1440, level=np.array([0.9])),
}


def watch(rules: tuple[Rule, ...] = RULES, **changes: Any) -> Watch:
    release = Release("shop", "production", "new-checkout", "1.2.0", Strategy.FLAG, (Stage(EXPOSED),))
    arms: dict[str, Any] = {"baseline": labels({"variant": "off"}), "treatment": labels({"variant": "on"})}
    return replace(Watch(release, rules, warm_up=0.0, **arms), **changes)


REGRESSED = Verdict(
    rule="request-errors",
    labels=labels({"feature": "checkout"}),
    outcome=Outcome.REGRESSED,
    reason="Requests that failed on checkout: 2.1 times the baseline's (1.4 to 3.2); more than the margin allows "
    "(50 % more); decided after 14 min.",
    effect=Effect("ratio", 2.14, 1.43, 3.2),
    baseline=Tally(61, 6000, 3),
    treatment=Tally(128, 5990, 3),
    log_e_regressed=9.2041,
    log_e_healthy=-8.0,
    threshold=5.2983,
    decided_at=EXPOSED + 840,
    held=12,
)
HEALTHY = Verdict(
    rule="request-errors",
    labels=labels({"feature": "search"}),
    outcome=Outcome.HEALTHY,
    reason="Requests that failed on search: proven within the margin (50 % more); 3.0 % lower than the baseline.",
    effect=Effect("ratio", 0.97, 0.84, 1.12),
    baseline=Tally(612, 61_200, 3),
    treatment=Tally(598, 61_900, 3),
    log_e_regressed=-1.1,
    log_e_healthy=6.5,
    threshold=5.2983,
    decided_at=EXPOSED + 1800,
)
INCONCLUSIVE = Verdict(
    rule="checkout-completion",
    labels=(),
    outcome=Outcome.INCONCLUSIVE,
    reason="Checkouts completed: not decided yet; 1.1 % lower than the baseline (-4.0 % to +1.9 %); needs about 220 "
    "more events, about 35 min.",
    effect=Effect("ratio", 0.989, 0.96, 1.019),
    baseline=Tally(8412, 9950, 3),
    treatment=Tally(8290, 9921, 3),
    log_e_regressed=0.4,
    log_e_healthy=1.2,
    threshold=4.6052,
    needs=Needs(220.0, 35.0, "events"),
)
ABSENT = Verdict(
    rule="page-load",
    labels=(),
    outcome=Outcome.NO_DATA,
    reason="Page load time (requests over 2.5 s): the treatment has sent nothing for 9 blocks while the baseline "
    "had traffic.",
    effect=Effect("ratio", None, None, None),
    baseline=Tally(40, 5000, 3),
    treatment=Tally(),
    threshold=4.6052,
    alarms=("absent_treatment",),
)
SLOW_PAINT = Verdict(
    rule="lcp-p75",
    labels=(),
    outcome=Outcome.HEALTHY,
    reason="Largest paint p75: proven within the margin (10 % more).",
    effect=Effect("ratio", 1.012, 0.98, 1.044),
    baseline=Tally(2.31, 50),
    treatment=Tally(2.34, 50),
    log_e_regressed=-0.3,
    log_e_healthy=7.0,
    threshold=4.6052,
    decided_at=EXPOSED + 2400,
)
DORMANT = replace(
    ABSENT,
    rule="request-errors",
    labels=labels({"feature": "gift-cards"}),
    reason="Requests that failed on gift-cards: idle in both arms, so it blocks nothing.",
    baseline=Tally(),
    dormant=True,
    alarms=(),
)


def findings(*verdicts: Verdict, outcome: Outcome | None = None, reason: str = "", **changes: Any) -> Findings:
    """Return findings on these streams; the outcome is that of the first unless it is given."""
    first = verdicts[0] if verdicts else None
    said = ReleaseVerdict(
        outcome or (first.outcome if first else Outcome.NO_DATA),
        reason or (first.reason if first else "No traffic for any required rule."),
        verdicts,
        tuple(sorted({alarm for verdict in verdicts for alarm in verdict.alarms})),
    )
    made: dict[str, Any] = {
        "watch": watch(),
        "verdict": said,
        "calibrations": CALIBRATIONS,
        "start": EXPOSED - 600,
        "end": EXPOSED + 3000,
        "blocks": 50,
        "took_seconds": 0.41234,
        "exposed_at": EXPOSED,
    }
    return Findings(**(made | changes))


def everything(**changes: Any) -> Findings:
    """Return findings with every outcome but invalid, in no helpful order."""
    made = findings(HEALTHY, DORMANT, INCONCLUSIVE, REGRESSED, ABSENT, SLOW_PAINT, outcome=Outcome.REGRESSED, **changes)
    return replace(made, verdict=replace(made.verdict, reason=REGRESSED.reason))


def many(number: int) -> Findings:
    """Return findings on so many streams of one rule, the first of them regressed."""
    streams = [replace(HEALTHY, labels=labels({"feature": f"part-{n:03d}"}), log_e_regressed=-n) for n in range(number)]
    return findings(*streams[1:], replace(REGRESSED, labels=streams[0].labels), outcome=Outcome.REGRESSED)


def counts(
    rate: Mapping[str, tuple[float, float]], stream: Labels, start: float, blocks: int, per_block: int = 400
) -> Observations:
    """Return counts of two units an arm; the rate of an arm goes from the first number to the second at exposure."""
    rng = np.random.default_rng(5)
    ends = start + 60.0 * np.arange(1, blocks + 1)

    def arm(before: float, after: float) -> Arm:
        total = np.full((1, 2, blocks), float(per_block))
        return Arm(
            ("a", "b"), rng.binomial(per_block, np.where(ends <= EXPOSED, before, after), total.shape) * 1.0, total
        )

    return Observations(
        (stream,), ends, arm(*rate["treatment"]), arm(*rate["baseline"]) if "baseline" in rate else None
    )


def gauge(level: tuple[float, float], start: float, blocks: int) -> Observations:
    """Return a gauge of three units with a gap; its level goes from the first number to the second at exposure."""
    rng = np.random.default_rng(6)
    ends = start + 60.0 * np.arange(1, blocks + 1)
    values = np.where(ends <= EXPOSED, *level) + 0.08 * rng.standard_normal((1, 3, blocks))
    total = np.ones_like(values)
    values[:, :, 20:24], total[:, :, 20:24] = np.nan, 0.0
    return Observations(((),), ends, Arm(("a", "b", "c"), values, total))


def trace(effect: float = 2.1, blocks: int = 50, open_until: int = 4) -> Trace:
    """Return a trace that closes in on an effect; bounds are open for the first blocks."""
    n = np.arange(1, blocks + 1)
    ends = EXPOSED + 60.0 * n
    rng = np.random.default_rng(7)
    centre = np.log(effect) + rng.normal(0, 0.5, blocks) / np.sqrt(n)
    reach = 1.6 / np.sqrt(n)
    lower, upper = np.exp(centre - reach), np.exp(centre + reach)
    lower[:open_until], upper[:open_until] = 0.0, np.inf
    estimate = np.exp(centre)
    estimate[0] = np.nan
    harm = np.log(effect)
    return Trace(ends, estimate, lower, upper, n * harm * 0.3 - 0.5, 3 - n * harm * 0.25, 5.3)

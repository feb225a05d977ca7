"""Findings for the report tests: made by hand, so that a test decides what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from watcher import reasons
from watcher.model import (
    Arm,
    Calibration,
    Effect,
    Kind,
    Labels,
    Needs,
    Observations,
    Outcome,
    QuantileShift,
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

REFUSED = Rule(
    "refused",
    Kind.RATIO,
    Selector("refused"),
    Selector("payments"),
    title="Payments refused",
    margin=0.005,
    absolute=True,
)
"""Its margin is in percentage points, and so is its effect."""


def counted(dispersion: float, **learnt: Any) -> Calibration:
    """Return what was learnt from six pods that differ by 4 %."""
    apart: dict[str, Any] = {"units": 6, "between_units": dispersion, "over_time": 1.1, "spread": 0.04}
    return Calibration(came_from="history 7 d", dispersion=dispersion, assumed=False, **apart, **learnt)


CALIBRATIONS = {
    "request-errors": counted(1.8),
    "checkout-completion": counted(1.2, margin=0.02),
    "page-load": counted(1.2, margin=0.1),
    "lcp-p75": Calibration(came_from="history 24h", margin=0.1, points=1440, memory=np.array([[0.9]])),
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
    "more events, about 35 min (9 times in 10 at most 72 min).",
    effect=Effect("ratio", 0.989, 0.96, 1.019),
    baseline=Tally(8412, 9950, 3),
    treatment=Tally(8290, 9921, 3),
    log_e_regressed=0.4,
    log_e_healthy=1.2,
    threshold=4.6052,
    needs=Needs(220.0, 35.0, "events", 72.0),
)
ABSENT = Verdict(
    rule="page-load",
    labels=(),
    outcome=Outcome.NO_DATA,
    reason="Page load time: the treatment has sent nothing for 9 blocks while the baseline had traffic.",
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
SLOWER = Verdict(
    rule="page-load",
    labels=(),
    outcome=Outcome.REGRESSED,
    reason="Page load time: typical latency is 13.9 % higher than the baseline (+10.2 % to +17.7 %); p99 is 1.27 times "
    "(947 ms, not 748 ms), p50 1.12 times; more than the margin allows (10 % slower); decided after 6 min.",
    effect=Effect("ratio", 1.139, 1.102, 1.177, of="typical latency"),
    baseline=Tally(40, 5000, 3),
    treatment=Tally(71, 5100, 3),
    log_e_regressed=11.0,
    log_e_healthy=-6.0,
    threshold=4.6052,
    decided_at=EXPOSED + 360,
    quantiles=(
        QuantileShift(0.5, 0.21, 0.2352, 1.04, 1.31),
        QuantileShift(0.95, 0.52, 0.5205, 0.81, 1.28),
        QuantileShift(0.99, 0.748, 0.947, 0.9, None),
    ),
)
"""A latency whose buckets are fine enough for a margin on the latency scale."""

OFTEN_REFUSED = Verdict(
    rule="refused",
    labels=(),
    outcome=Outcome.REGRESSED,
    reason="Payments refused: 0.87 pp higher than the baseline (+0.63 to ? pp); more than the margin allows (0.5 pp "
    "more); decided after 14 min.",
    effect=Effect("difference", 0.0087, 0.0063, None),
    baseline=Tally(100, 10_000, 3),
    treatment=Tally(187, 10_000, 3),
    log_e_regressed=9.0,
    log_e_healthy=-6.0,
    threshold=4.6052,
    decided_at=EXPOSED + 840,
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
    calibrations = changes.get("calibrations", CALIBRATIONS)
    learnt = {rule.label: (reasons.learnt(calibrations[rule.name]),) for rule in RULES if rule.name in calibrations}
    said = ReleaseVerdict(
        outcome or (first.outcome if first else Outcome.NO_DATA),
        reason or (first.reason if first else "No traffic for any required rule."),
        verdicts,
        tuple(sorted({alarm for verdict in verdicts for alarm in verdict.alarms})),
        reasons.assumed(learnt),
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


def in_points() -> Findings:
    """Return findings on a rule whose margin and effect are in percentage points."""
    learnt = CALIBRATIONS | {"refused": counted(1.2, margin=0.005)}
    return findings(OFTEN_REFUSED, watch=watch((*RULES, REFUSED)), calibrations=learnt)


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

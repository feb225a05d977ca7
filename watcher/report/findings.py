"""What every report is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from watcher.model import (
    Calibration,
    Effect,
    Floats,
    Labels,
    Observations,
    Outcome,
    ReleaseVerdict,
    Rule,
    Tally,
    Verdict,
    Watch,
)

SEVERITY = {outcome: place for place, outcome in enumerate(Outcome)}
"""Outcomes in the order in which people want to read them: the worst first."""


@dataclass(frozen=True)
class Findings:
    """A judged release with all that a reader may ask about it.

    `calibrations` and `observations` are by rule name. `start` and `end` (epoch seconds) enclose the `blocks`
    that counted. `exposed_at` is None where a table does not say when users were exposed, `killed_at` where nothing
    was turned off.
    """

    watch: Watch
    verdict: ReleaseVerdict
    calibrations: Mapping[str, Calibration]
    start: float
    end: float
    blocks: int
    took_seconds: float
    warnings: tuple[str, ...] = ()
    exposed_at: float | None = None
    killed_at: float | None = None
    observations: Mapping[str, Observations] = field(default_factory=dict)
    traces: Mapping[tuple[str, Labels], Trace] = field(default_factory=dict)
    """How the evidence of streams grew, where somebody asked for the derivation."""

    @property
    def streams(self) -> tuple[Verdict, ...]:
        """The verdicts, worst first."""
        return worst_first(self.verdict.streams)

    def rule(self, name: str) -> Rule | None:
        """Return the rule of this name; None for a verdict on something that is no rule (the traffic split)."""
        return next((rule for rule in self.watch.rules if rule.name == name), None)

    def margin(self, rule: Rule) -> float:
        """Return the relative margin in effect: calibrated where the rule's own is absolute."""
        calibration = self.calibrations.get(rule.name)
        return rule.margin if calibration is None else calibration.margin


def worst_first(verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """Return verdicts by outcome, then by the evidence of harm; dormant streams come last."""

    def place(verdict: Verdict) -> tuple[bool, int, bool, float]:
        return verdict.dormant, SEVERITY[verdict.outcome], not verdict.alarms, -verdict.log_e_regressed

    return tuple(sorted(verdicts, key=place))


@dataclass(frozen=True)
class Trace:
    """How one stream's evidence grew, block by block; all arrays have shape [block].

    `estimate`, `lower` and `upper` are ratios of treatment to baseline (1 is no change), NaN where unknown and
    infinite where open. `log_regressed` and `log_healthy` are log e-values in nats; `threshold` is what the first
    must reach. `ends` are epoch seconds.
    """

    ends: Floats
    estimate: Floats
    lower: Floats
    upper: Floats
    log_regressed: Floats
    log_healthy: Floats
    threshold: float


def ratios(effect: Effect, baseline: Tally) -> tuple[float | None, float | None, float | None]:
    """Return estimate and bounds as ratios, for axes that show ratios: a difference is held against the baseline.

    >>> ratios(Effect("difference", 0.01, 0.005, None), Tally(200, 10_000))
    (1.5, 1.25, None)
    """
    values = (effect.estimate, effect.lower, effect.upper)
    if effect.measure == "ratio":
        return values
    share = baseline.events / baseline.total if baseline.total else 0.0
    estimate, lower, upper = (None if x is None or share <= 0 else 1 + x / share for x in values)
    return estimate, lower, upper

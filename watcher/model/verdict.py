"""What is said of a stream and of a release, and what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from watcher.model.words import Labels, Outcome


@dataclass(frozen=True)
class Effect:
    """Treatment against baseline, with its confidence sequence.

    `measure` is "ratio" (1 is no change) or "difference" of shares (0 is no change). A bound that the data leave open
    is None. `of` names what is compared where that is not the rate or share a rule counts: "typical latency".
    """

    measure: Literal["ratio", "difference"]
    estimate: float | None
    lower: float | None
    upper: float | None
    confidence: float = 0.95
    of: str = ""

    def __str__(self) -> str:
        """Small changes read as percentages, large ones as multiples.

        >>> str(Effect("ratio", 2.14, 1.43, 3.2)), str(Effect("ratio", 0.97, 0.94, 1.01))
        ("2.1 times the baseline's (1.4 to 3.2)", '3.0 % lower than the baseline (-6.0 % to +1.0 %)')
        >>> str(Effect("difference", 0.0087, 0.0063, None)), str(Effect("ratio", 1.2, 1.1, None, of="typical latency"))
        ('0.87 pp higher than the baseline (+0.63 to ? pp)', "typical latency is 1.2 times the baseline's (1.1 to ?)")
        """
        said = self._said()
        return f"{self.of} is {said}" if self.of and self.estimate is not None else said

    def _said(self) -> str:
        if self.estimate is None:
            return "not estimable yet"
        if self.measure == "difference":
            bounds = [_bound(None if x is None else 100 * x, "+.3g") for x in (self.lower, self.upper)]
            side = "higher" if self.estimate >= 0 else "lower"
            return f"{abs(100 * self.estimate):.3g} pp {side} than the baseline ({' to '.join(bounds)} pp)"
        close = all(0.5 < x < 1.5 for x in (self.estimate, self.lower or 0.0, self.upper or 0.0))
        if close:
            low, high = (None if x is None else 100 * (x - 1) for x in (self.lower, self.upper))
            side = "higher" if self.estimate >= 1 else "lower"
            return (
                f"{abs(self.estimate - 1) * 100:.1f} % {side} than the baseline "
                f"({_bound(low, '+.1f', ' %')} to {_bound(high, '+.1f', ' %')})"
            )
        times = f"{self.estimate:.1f}" if 0.95 <= self.estimate < 1.05 else f"{self.estimate:.2g}"
        return f"{times} times the baseline's ({_bound(self.lower, '.2g')} to {_bound(self.upper, '.2g')})"


def _bound(value: float | None, form: str, after: str = "") -> str:
    return "?" if value is None else f"{value:{form}}{after}"


@dataclass(frozen=True)
class Tally:
    """What one arm of one stream has counted so far; for a gauge, `events` is the mean and `total` the points."""

    events: float = 0.0
    total: float = 0.0
    units: int = 0


@dataclass(frozen=True)
class QuantileShift:
    """A quantile of a latency in both arms, in seconds, and the bounds of their ratio (a confidence sequence)."""

    level: float
    baseline: float
    treatment: float
    lower: float | None
    upper: float | None

    @property
    def name(self) -> str:
        """As people write it: p95."""
        return f"p{100 * self.level:g}"

    @property
    def ratio(self) -> float:
        """Treatment over baseline."""
        return self.treatment / self.baseline

    @property
    def seconds(self) -> str:
        """Both, as people say them.

        >>> QuantileShift(0.95, 0.42, 0.6, 1.2, None).seconds
        '600 ms, not 420 ms'
        """
        treatment, baseline = (f"{1000 * x:.3g} ms" if x < 1 else f"{x:.3g} s" for x in (self.treatment, self.baseline))
        return f"{treatment}, not {baseline}"


@dataclass(frozen=True)
class Needs:
    """What an undecided stream is waiting for, and about how long that takes at the present pace.

    `minutes` is the median, `minutes_90` the 90th percentile.
    """

    events: float | None
    minutes: float | None
    limit: Literal["events", "units", "buckets", "placebos", "window"]
    minutes_90: float | None = None


@dataclass(frozen=True)
class Verdict:
    """What is said of one stream, and why.

    `decided_at` is the end of the first block at which the outcome was reached. Of a regression that began late,
    `onset` is when it seems to have begun and `since_onset` the treatment's ratio since. `held` counts the latest
    consecutive blocks in which the evidence of regression stood above its threshold. `assumed` is True when the
    dispersion was not learnt from data: nothing may be killed on such a verdict. `quantiles` name what became slower.
    `sick_unit` is the one unit without which most of the evidence is gone, if there is one.
    """

    rule: str
    labels: Labels
    outcome: Outcome
    reason: str
    effect: Effect
    baseline: Tally
    treatment: Tally
    log_e_regressed: float = 0.0
    log_e_healthy: float = 0.0
    threshold: float = 0.0
    decided_at: float | None = None
    onset: float | None = None
    since_onset: float | None = None
    held: int = 0
    needs: Needs | None = None
    assumed: bool = False
    critical: bool = False
    dormant: bool = False
    alarms: tuple[str, ...] = ()
    quantiles: tuple[QuantileShift, ...] = ()
    sick_unit: str | None = None


@dataclass(frozen=True)
class ReleaseVerdict:
    """What is said of a release: the worst of its streams, and the streams."""

    outcome: Outcome
    reason: str
    streams: tuple[Verdict, ...] = ()
    alarms: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()

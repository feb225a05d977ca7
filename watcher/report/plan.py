"""What a plan says: of every stream, how long it will take to prove it healthy or to find harm, and what would help.

Times are minutes from the end of the warm-up, None where something is never reached. Whether a rule can be decided is a
matter of its proof of health: nine times in ten it must fit into the watch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from watcher import reasons
from watcher.evidence.planning import Limit
from watcher.model import Floats, Kind, Labels, Rule, Worse
from watcher.report.json_report import iso

SCHEMA = "watcher/plan/1"


@dataclass(frozen=True)
class Wait:
    """Minutes: the median, and what nine in ten stay within; None: less often than that, however long one waits."""

    median: float | None
    p90: float | None

    def to_json(self) -> dict[str, float | None]:
        """Return plain JSON types."""
        return {"median": _number(self.median), "p90": _number(self.p90)}


@dataclass(frozen=True)
class Curve:
    """The smallest effect found within so many minutes, as ratios of treatment to baseline; NaN: none. All [time]."""

    minutes: Floats
    watcher: Floats
    oracle: Floats


@dataclass(frozen=True)
class Forecast:
    """How long one stream will take.

    `found` is the smallest ratio found within each of some minutes (None: none); `floor` the ratio below which nothing
    is, however long one waits; `shares` how long the proof of health takes at other shares of the traffic.
    """

    healthy: Wait
    margin: Wait
    double: Wait
    found: Mapping[float, float | None]
    floor: float
    curve: Curve
    limit: Limit
    shares: Mapping[float, Wait] = field(default_factory=dict)
    helps: str = ""


@dataclass(frozen=True)
class StreamPlan:
    """One stream: its own traffic and baseline in the history, and the forecast that follows from them.

    `rate` is events per exposure, or the mean of a gauge; `per_minute` exposure, or points, of both arms together.
    `margin` is the relative margin in effect. Without a forecast, `why_not` says why there is none.
    """

    rule: Rule
    labels: Labels
    rate: float
    per_minute: float
    margin: float
    units: int
    dispersion: float
    came_from: str
    window: float
    """Minutes in which a watch can decide it: without the warm-up, and for a rate without the time it matures."""
    forecast: Forecast | None = None
    why_not: str = ""
    idle: bool = False
    """It had no traffic: nothing is expected of it."""

    @property
    def subject(self) -> str:
        """What a sentence about it begins with."""
        return reasons.subject(self.rule, self.labels)

    @property
    def decidable(self) -> bool:
        """Whether the watch is long enough to prove it healthy, nine times in ten."""
        late = np.inf if self.forecast is None or self.forecast.healthy.p90 is None else self.forecast.healthy.p90
        return late <= self.window

    @property
    def worst_ratio(self) -> float:
        """The ratio of treatment to baseline at the margin."""
        return 1 - self.margin if self.rule.worse is Worse.LOWER else 1 + self.margin

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; infinities and NaN do not occur."""
        said: dict[str, Any] = {
            "rule": self.rule.name,
            "labels": dict(self.labels),
            "kind": self.rule.kind.value,
            "decidable": self.decidable,
            "baseline": {"rate": _number(self.rate), "per_minute": _number(self.per_minute), "units": self.units},
            "calibration": {"dispersion": _number(self.dispersion), "from": self.came_from},
            "margin": {"relative": _number(self.margin), "ratio": _number(self.worst_ratio)},
            "window": _number(self.window),
            "not_planned": self.why_not or None,
        }
        plan = self.forecast
        if plan is None:
            return said
        return said | {
            "healthy": plan.healthy.to_json(),
            "finds_margin": plan.margin.to_json(),
            "finds_double": plan.double.to_json(),
            "smallest_found": [{"minutes": _number(at), "ratio": _number(r)} for at, r in plan.found.items()],
            "floor": _number(plan.floor),
            "limit": plan.limit,
            "shares": [{"share": _number(share), **wait.to_json()} for share, wait in plan.shares.items()],
            "helps": plan.helps or None,
            "curve": {
                "minutes": [_number(x) for x in plan.curve.minutes],
                "watcher": [_number(x) for x in plan.curve.watcher],
                "oracle": [_number(x) for x in plan.curve.oracle],
            },
        }


@dataclass(frozen=True)
class Plan:
    """What a rule pack can decide. `watch_for` and `warm_up` are minutes; `start` and `end` enclose the history."""

    streams: tuple[StreamPlan, ...]
    share: float
    watch_for: float
    warm_up: float
    alpha: float
    start: float
    end: float
    warnings: tuple[str, ...] = ()

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that have a stream with traffic, or must have one."""
        each = {stream.rule.name: stream.rule for stream in self.streams}
        alive = {stream.rule.name for stream in self.streams if not stream.idle}
        return tuple(rule for name, rule in each.items() if rule.required or name in alive)

    @property
    def undecided(self) -> tuple[StreamPlan, ...]:
        """The streams with traffic that the watch cannot decide, and the rules without any."""
        alive = {stream.rule.name for stream in self.streams if not stream.idle}
        return tuple(
            stream
            for stream in self.streams
            if not stream.decidable and (not stream.idle or (stream.rule.required and stream.rule.name not in alive))
        )

    @property
    def decidable(self) -> int:
        """How many rules can be decided: all their streams with traffic can."""
        return len(self.rules) - len({stream.rule.name for stream in self.undecided})

    @property
    def slowest(self) -> StreamPlan | None:
        """The decidable stream whose proof of health takes longest."""
        able = [(stream.forecast.healthy.p90 or 0.0, n, stream) for n, stream in enumerate(self.streams)
                if stream.forecast is not None and stream.decidable]  # fmt: skip
        return max(able)[2] if able else None

    @property
    def answer(self) -> str:
        """The verdict in words."""
        able, of = self.decidable, len(self.rules)
        if not of:
            return "There are no rules to plan."
        many = "the rule" if able == of == 1 else f"all {of} rules" if able == of else f"{able} of {of} rules"
        where = "" if self.share == 1 else f", at {100 * self.share:.3g} % of the traffic"
        return f"Can decide {many} within {reasons.span(self.watch_for)}{where}."

    def to_json(self) -> dict[str, Any]:
        """Return the plan as `watcher plan --format json` prints it."""
        return {
            "schema": SCHEMA,
            "answer": self.answer,
            "rules": len(self.rules),
            "decidable": self.decidable,
            "design": "before_after" if self.share == 1 else "concurrent",
            "share": _number(self.share),
            "watch_for": _number(self.watch_for),
            "warm_up": _number(self.warm_up),
            "alpha": self.alpha,
            "from": iso(self.start),
            "to": iso(self.end),
            "warnings": list(self.warnings),
            "streams": [stream.to_json() for stream in self.streams],
        }


def baseline_cell(stream: StreamPlan) -> str:
    """Return the baseline as people write it: a share of requests in per cent, a measurement as it is."""
    if not np.isfinite(stream.rate):
        return "-"
    return f"{stream.rate:.3g}" if stream.rule.kind is Kind.GAUGE else f"{100 * stream.rate:.3g} %"


def change_cell(ratio: float | None) -> str:
    """Return a ratio of treatment to baseline: near one a percentage, beyond a multiple.

    >>> change_cell(1.25), change_cell(3.14), change_cell(0.98), change_cell(None)
    ('+25 %', '3.1x', '-2 %', 'none')
    """
    if ratio is None:
        return "none"
    return f"{ratio:.2g}x" if ratio >= 2 else f"{100 * (ratio - 1):+.2g} %"


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.4g}")

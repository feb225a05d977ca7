"""From what a person asked for (columns, margins, directions, a pack) to rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from watcher.config import (
    load_rules,
    parse_duration,
    parse_interval,
    parse_margin,
    parse_worse,
    parse_zone,
    rule_pack_path,
)
from watcher.errors import DataError
from watcher.model import Alpha, Kind, Matcher, Rule, Selector, Worse
from watcher.sources.tidy import values_of

Directions = tuple[tuple[str, Worse], ...]
"""Globs over the names of rules, each with the direction of harm: the first that matches holds."""

Said = str | Iterable[str] | Mapping[str, str] | None
"""A direction of harm as people give it: "lower", ["*_pct=lower", "higher"] or {"*_pct": "lower"}."""


@dataclass(frozen=True)
class Usual:
    """What is known of the usual: the zone of the days users live by, and stretches that were not usual."""

    zone: str = "UTC"
    excluded: tuple[tuple[float, float], ...] = ()


def asked_usual(timezone: str | None, exclude: Sequence[str]) -> Usual:
    """Return the zone and the stretches asked for.

    Raises:
        ValueError: no such zone, or no stretch of time.
    """
    return Usual("UTC" if timezone is None else parse_zone(timezone), tuple(map(parse_interval, exclude)))


def asked_alpha(alpha: float | Alpha | None) -> Alpha:
    """Return the error rates asked for: one for either design, or (None) the defaults of each.

    Raises:
        ValueError: not between 0 and 1.
    """
    if alpha is None or isinstance(alpha, Alpha):
        return alpha or Alpha()
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is an error rate between 0 and 1, found {alpha!r}")
    return Alpha(regressed=alpha, before_after=alpha)


@dataclass(frozen=True)
class Asked:
    """The rules asked for, before a table has said which metrics it holds.

    `rules` are a pack's, or the one that column options describe. Such a gauge (`each_metric`) becomes a rule for every
    value of the column `metric`, where there is one. `otherwise` is the direction of a gauge of which nobody said any;
    None refuses it.
    """

    rules: tuple[Rule, ...]
    directions: Directions = ()
    each_metric: bool = False
    otherwise: Worse | None = None

    def of_each(self, parts: Sequence[pd.DataFrame], name: str) -> list[tuple[Rule, ...]]:
        """Return the rules for each release of a table, given its rows.

        Raises:
            DataError: nobody says which way is worse for a gauge, or a glob speaks of nothing in the whole table.
        """
        found = [self._named(part) for part in parts]
        names = list(dict.fromkeys(rule.name for rules in found for rule in rules))
        for glob, side in self.directions:
            if not any(fnmatchcase(each, glob) for each in names):
                there = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
                raise DataError(f"{side} is said to be worse for {glob!r}, which is no metric ({there})", file=name)
        if not self.each_metric:
            return found
        return [tuple(replace(rule, worse=self._direction(rule.name, name)) for rule in rules) for rules in found]

    def _named(self, frame: pd.DataFrame) -> tuple[Rule, ...]:
        if not self.each_metric:
            return self.rules
        (rule,) = self.rules
        return tuple(_on_metric(rule, metric, frame) for metric in _metrics(rule, frame)) or self.rules

    def _direction(self, rule: str, name: str) -> Worse:
        side = direction(rule, self.directions) or self.otherwise
        if side is None:
            which = "a gauge" if rule == self.rules[0].name else f"the gauge {rule}"
            raise DataError(f"say which way is worse for {which}: higher or lower", file=name)
        return side


def direction(rule: str, said: Directions) -> Worse | None:
    """Return what is said of a rule: the first glob that matches its name.

    >>> direction("cart/success_pct", (("*_pct", Worse.LOWER), ("*", Worse.HIGHER)))
    <Worse.LOWER: 'lower'>
    """
    return next((side for glob, side in said if fnmatchcase(rule, glob)), None)


def directions(said: Said) -> Directions:
    """Read directions of harm.

    >>> directions({"*_pct": "lower"}) == directions(["*_pct=lower"])
    True

    Raises:
        ValueError: no direction.
    """
    if isinstance(said, Mapping):
        said = [f"{glob}={side}" for glob, side in said.items()]
    each = [said] if isinstance(said, str) else said or ()
    return tuple((glob, Worse(side)) for glob, side in map(parse_worse, each))


def labels_named(rules: Sequence[Rule], by: str | Sequence[str] | None) -> set[str]:
    """Return the columns that are labels because somebody says so: they must not be read as numbers."""
    named = {by} if isinstance(by, str) else set(by or ())
    for rule in rules:
        named |= {*rule.by} | ({rule.unit} if rule.unit else set())
        for selector in (rule.events, rule.total):
            named |= {matcher.label for matcher in selector.matchers} if selector else set()
    return named


def asked(
    spec: Mapping[str, str | None],
    *,
    rules: str | Path | Sequence[Rule] | None,
    worse: Said,
    margin: float | str | None,
    regress_margin: float | str,
    matures: float | str,
    objective: float | str | None,
    otherwise: Worse | None = None,
) -> Asked:
    """Return what is asked for: a pack's rules, or the one that the column options describe.

    Args:
        spec: columns by kind of rule.
        otherwise: direction of a gauge of which nobody says any.

    Raises:
        DataError: not exactly one thing is asked for.
        ConfigError: the pack is wrong.
        ValueError: a quantity or a direction cannot be read.
    """
    chosen = [(Kind(kind), text) for kind, text in spec.items() if text is not None]
    if rules is not None and chosen:
        raise DataError("give either a rule pack or one of ratio, rate, latency and gauge, not both")
    if rules is not None:
        if not isinstance(rules, str | Path):
            return Asked(tuple(rules))
        return Asked(load_rules(rule_pack_path(str(rules), Path.cwd())))
    if len(chosen) != 1:
        raise DataError("say what to compare: one of ratio, rate, latency and gauge, or a rule pack")
    kind, text = chosen[0]
    said = directions(worse)
    gauge = kind is Kind.GAUGE
    if gauge and not said and otherwise is None:
        raise DataError("say which way is worse for a gauge: higher or lower")
    rule = _rule(kind, text, direction(text, said), margin)
    rule = replace(
        rule,
        regress_margin=_margin(regress_margin)[0],
        matures=parse_duration(matures),
        objective=None if objective is None else parse_duration(objective),
    )
    return Asked((rule,), said, gauge, otherwise)


def _rule(kind: Kind, text: str, side: Worse | None, margin: float | str | None) -> Rule:
    events, slash, total = text.partition("/")
    if (kind in (Kind.RATIO, Kind.RATE)) != bool(slash):
        raise DataError(f"{kind.value} takes {'two columns, as in errors/requests' if not slash else 'one column'}")
    if side is Worse.EITHER and kind is not Kind.GAUGE:
        raise DataError(f"a {kind.value} is worse when it is higher or when it is lower; only a gauge may be either")
    side = side or (Worse.LOWER if kind is Kind.RATE else Worse.HIGHER)
    usual = 0.1 if kind in (Kind.LATENCY, Kind.GAUGE) else 0.5 if side is Worse.HIGHER else 0.02
    relative, absolute = _margin(margin) if margin is not None else (usual, False)
    return Rule(
        name=text,
        kind=kind,
        events=Selector(events.strip()),
        total=Selector(total.strip()) if slash else None,
        worse=side,
        margin=relative,
        absolute=absolute,
    )


def _metrics(rule: Rule, frame: pd.DataFrame) -> tuple[str, ...]:
    """Return the metrics that a column of numbers holds; none where the rule names one of them, or there are none."""
    if "metric" not in frame.columns or rule.events.metric not in frame.columns:
        return ()
    return values_of(frame, "metric")


def _on_metric(rule: Rule, metric: str, frame: pd.DataFrame) -> Rule:
    """Return the rule on one metric of a column, named by it."""
    if rule.events.metric == "value" and metric not in frame.columns:
        return replace(rule, name=metric, events=Selector(metric))
    return replace(rule, name=metric, events=replace(rule.events, matchers=(Matcher("metric", "=", metric),)))


def _margin(value: float | str) -> tuple[float, bool]:
    return (float(value), False) if isinstance(value, int | float) else parse_margin(value)

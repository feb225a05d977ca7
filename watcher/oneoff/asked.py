"""From what a person asked for (columns, margins, a pack) to rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from watcher.config import load_rules, parse_duration, parse_margin, rule_pack_path
from watcher.errors import DataError
from watcher.model import Kind, Rule, Selector, Worse


def labels_named(rules: Sequence[Rule], by: str | Sequence[str] | None) -> set[str]:
    """Return the columns that are labels because somebody says so: they must not be read as numbers."""
    named = {by} if isinstance(by, str) else set(by or ())
    for rule in rules:
        named |= {*rule.by} | ({rule.unit} if rule.unit else set())
        for selector in (rule.events, rule.total):
            named |= {matcher.label for matcher in selector.matchers} if selector else set()
    return named


def asked_rules(
    spec: Sequence[tuple[str, str | None]],
    rules: str | Path | Sequence[Rule] | None,
    worse: str | None,
    margin: float | str | None,
    regress_margin: float | str,
    matures: float | str,
    objective: float | str | None,
) -> tuple[Rule, ...]:
    """Return the rules asked for: a pack's, or the one that the column options describe."""
    chosen = [(Kind(kind), text) for kind, text in spec if text is not None]
    if rules is not None and chosen:
        raise DataError("give either a rule pack or one of ratio, rate, latency and gauge, not both")
    if rules is not None:
        if not isinstance(rules, str | Path):
            return tuple(rules)
        return load_rules(rule_pack_path(str(rules), Path.cwd()))
    if len(chosen) != 1:
        raise DataError("say what to compare: one of ratio, rate, latency and gauge, or a rule pack")
    kind, text = chosen[0]
    return (_rule(kind, text, worse, margin, regress_margin, matures, objective),)


def _rule(
    kind: Kind,
    text: str,
    worse: str | None,
    margin: float | str | None,
    regress_margin: float | str,
    matures: float | str,
    objective: float | str | None,
) -> Rule:
    events, slash, total = text.partition("/")
    if (kind in (Kind.RATIO, Kind.RATE)) != bool(slash):
        raise DataError(f"{kind.value} takes {'two columns, as in errors/requests' if not slash else 'one column'}")
    if kind is Kind.GAUGE and worse is None:
        raise DataError("say which way is worse for a gauge: higher or lower")
    if worse not in (None, "higher", "lower"):
        raise DataError(f"worse is {worse!r}; choose higher or lower")
    side = Worse(worse) if worse else Worse.LOWER if kind is Kind.RATE else Worse.HIGHER
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
        regress_margin=_margin(regress_margin)[0],
        matures=parse_duration(matures),
        objective=None if objective is None else parse_duration(objective),
    )


def _margin(value: float | str) -> tuple[float, bool]:
    return (float(value), False) if isinstance(value, int | float) else parse_margin(value)

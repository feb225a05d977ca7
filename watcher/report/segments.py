"""Where harm is: what each value of each label adds to the bad events of the treatment, by rule.

A value carries a regression when it has more of what the release added than of the traffic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watcher.model import Kind, Outcome, Rule, Verdict, Worse
from watcher.report.findings import Findings

MOST_VALUES = 12
"""Values of a label that are shown; the rest is put together."""

REST = "all others"


@dataclass(frozen=True)
class Segment:
    """One value of a label: of its streams together, what the treatment counted, and what the baseline's rate expects.

    `added` is what is worse than expected in events, and `share` its part of all that the label's values add; None
    where nothing is added.
    """

    value: str
    outcome: Outcome
    events: float
    total: float
    expected: float
    added: float
    share: float | None = None


@dataclass(frozen=True)
class Split:
    """A rule by one of its labels, the value that adds most first."""

    rule: Rule
    label: str
    segments: tuple[Segment, ...]


def segments(findings: Findings) -> list[Split]:
    """Return every rule that counts, by each of its labels that has several values; rules that regressed come first.

    Means of gauges cannot be added up, and without a baseline beside it nothing says what to expect: both are left out.
    """
    order = {name: place for place, name in enumerate(dict.fromkeys(each.rule for each in findings.streams))}
    rules = sorted(findings.watch.rules, key=lambda rule: order.get(rule.name, len(order)))
    return [
        found
        for rule in rules
        if rule.kind is not Kind.GAUGE
        for label in (*rule.by, *([rule.signature] if rule.signature and rule.signature not in rule.by else ()))
        if len((found := _split(findings, rule, label)).segments) > 1
    ]


def _split(findings: Findings, rule: Rule, label: str) -> Split:
    own = [each for each in findings.streams if each.rule == rule.name and dict(each.labels).get(label)]
    # A signature's streams are parts of those without it: no event counts twice.
    whole = [each for each in own if rule.signature in (None, label) or rule.signature not in dict(each.labels)]
    values: dict[str, list[Verdict]] = {}
    for each in whole:
        if each.baseline.total and each.treatment.total:
            values.setdefault(dict(each.labels)[label], []).append(each)
    found = sorted((_segment(rule, *each) for each in values.items()), key=lambda each: -each.added)
    if len(found) > MOST_VALUES:
        found = [*found[: MOST_VALUES - 1], _together(found[MOST_VALUES - 1 :])]
    added = sum(max(each.added, 0.0) for each in found)
    return Split(rule, label, tuple(_shared(each, added) for each in found))


def _segment(rule: Rule, value: str, streams: Sequence[Verdict]) -> Segment:
    events, total = (sum(getattr(each.treatment, name) for each in streams) for name in ("events", "total"))
    expected = sum(each.treatment.total * each.baseline.events / each.baseline.total for each in streams)
    added = expected - events if rule.worse is Worse.LOWER else events - expected
    return Segment(value, _worst(streams), events, total, expected, added)


def _worst(streams: Sequence[Verdict | Segment]) -> Outcome:
    return min((each.outcome for each in streams), key=list(Outcome).index)


def _together(rest: Sequence[Segment]) -> Segment:
    sums = (sum(getattr(each, name) for each in rest) for name in ("events", "total", "expected", "added"))
    return Segment(f"{REST} ({len(rest)})", _worst(rest), *sums)


def _shared(segment: Segment, added: float) -> Segment:
    share = max(segment.added, 0.0) / added if added > 0 else None
    return replace(segment, share=share)

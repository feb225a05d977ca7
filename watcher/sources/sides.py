"""One arm of one rule: what to ask a Prometheus server for, what came back, and what was counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from watcher.errors import ConfigError
from watcher.model import Kind, Labels, Matcher, Request, Rule, Selector
from watcher.sources.counters import Counts, SampleSet
from watcher.sources.histograms import Buckets, edge_spellings


@dataclass(frozen=True)
class Side:
    """One arm of one rule, as selectors."""

    rule: Rule
    arm: str
    where: Labels

    @property
    def histogram(self) -> Selector:
        """The histogram of a latency."""
        own = self.rule.events
        return replace(own, metric=own.metric.removesuffix("_bucket")).where(self.where)

    @property
    def buckets(self) -> Selector:
        """All classic buckets of a latency."""
        return replace(self.histogram, metric=f"{self.histogram.metric}_bucket")

    @property
    def events(self) -> Selector:
        """What is counted; for a latency, the requests within the objective."""
        if self.rule.kind is not Kind.LATENCY:
            return self.rule.events.where(self.where)
        edge = Matcher("le", "=~", "|".join(map(re.escape, edge_spellings(self.rule.objective))))
        return replace(self.buckets, matchers=(edge, *self.buckets.matchers))

    @property
    def total(self) -> Selector | None:
        """What it is counted against; None for a gauge."""
        if self.rule.kind is Kind.GAUGE:
            return None
        if self.rule.kind is Kind.LATENCY:
            return replace(self.histogram, metric=f"{self.histogram.metric}_count")
        if self.rule.total is None:
            raise ConfigError(f"a {self.rule.kind} needs two counters, and rule {self.rule.name} names one")
        return self.rule.total.where(self.where)


def sides_of(rule: Rule, request: Request) -> list[Side]:
    """Return the arms of a rule that are asked for."""
    sides = [Side(rule, "treatment", request.select + (request.treatment or ()))]
    if request.baseline is not None:
        sides.append(Side(rule, "baseline", request.select + request.baseline))
    return sides


@dataclass(frozen=True)
class Read:
    """What was read for a side; for a latency, `events` are the requests within the objective."""

    side: Side
    events: SampleSet
    total: SampleSet | None
    buckets: Buckets | None = None
    notes: tuple[str, ...] = ()

    @property
    def absent(self) -> bool:
        """Whether there is nothing that events could be counted against."""
        return self.total is None or not len(self.total)

    @property
    def counters(self) -> tuple[SampleSet, ...]:
        """All counters among it."""
        if self.total is None:
            return ()
        return (self.events, self.total, *(self.buckets.sets if self.buckets else ()))


@dataclass(frozen=True)
class Tallied:
    """The same, counted. `count` counts any samples of this side in the same way, given the labels of streams."""

    read: Read
    events: Counts
    total: Counts | None
    count: Callable[[SampleSet, tuple[str, ...]], Counts]

    @classmethod
    def of(cls, read: Read, count: Callable[[SampleSet, tuple[str, ...]], Counts]) -> Tallied:
        """Count what was read by the rule's own labels."""
        by = read.side.rule.by
        return cls(read, count(read.events, by), None if read.total is None else count(read.total, by), count)

    @property
    def parts(self) -> tuple[Counts, ...]:
        """All that was counted."""
        return (self.events,) if self.total is None else (self.events, self.total)

    @property
    def uncounted(self) -> int:
        """Series whose first value could not be taken for events."""
        return sum(part.uncounted for part in self.parts)


def start_times(sides: Sequence[Side], select: Labels) -> Selector:
    """Return the selector of everything that tells when a process started or a series was created."""
    metrics = {selector.metric for side in sides for selector in (side.events, side.total) if selector is not None}
    stems = {re.sub("_(total|bucket|count)$", "", metric) for metric in metrics}
    names = "|".join(["process_start_time_seconds", *(f"{stem}_created" for stem in sorted(stems))])
    return Selector("", (Matcher("__name__", "=~", names),)).where(select)

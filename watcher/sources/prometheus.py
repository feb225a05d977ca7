"""Metrics from a Prometheus-compatible server: one query per arm and counter, whatever the number of streams.

What is judged comes from raw samples (`observe`). What is only learnt from (`history`) is differenced by the server
at block ends, which books the same events in the same blocks, but for restarts and births.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from watcher.errors import ConfigError, SourceRefused, SourceTooLarge
from watcher.model import Arm, Floats, Kind, Labels, Matcher, Observations, Request, Rule, Selector
from watcher.sources.counters import (
    Counts,
    Grouping,
    Processes,
    SampleSet,
    count,
    last_values,
    learn,
    newborn,
    placed,
    series_key,
)
from watcher.sources.prometheus_http import PrometheusHTTP, TooManySeries, milliseconds

WARNED = "the metrics server warned: "
"""How a note begins that repeats a warning of the server: the answer may be incomplete."""
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")

Ask = Callable[[Selector], SampleSet]


class PrometheusSource:
    """Reads the counters of both arms of a release.

    Both reads raise SourceDown, SourceRefused or SourceTooLarge (see watcher.errors), and ConfigError for a label name
    that is none. A metric that does not exist is no error: it is zero of zero, with a note.

    Args:
        client: where to ask.
        replica_label: the label in which servers that scrape the same targets differ; their series count once.
        overlap: seconds read before the first block, so that its first difference is known. A series silent for
            longer counts as new. At least two scrape intervals.
    """

    def __init__(self, client: PrometheusHTTP, replica_label: str | None = None, overlap: float = 300.0) -> None:
        self._client, self._overlap = client, overlap
        self._replica = None if replica_label is None else _label(replica_label)

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the raw counts of the blocks asked for, by rule name.

        An answer beyond the caps is read in two halves; the counts do not depend on where a read is cut.
        """
        try:
            return self._observe(request)
        except TooManySeries:
            raise
        except SourceTooLarge:
            blocks = request.ends.size
            if blocks < 2:
                raise
        middle = request.start + blocks // 2 * request.block
        early, late = self.observe(replace(request, end=middle)), self.observe(replace(request, start=middle))
        return {name: early[name].then(late[name]) for name in early}

    def history(self, request: Request) -> dict[str, Observations]:
        """Return the same shape for calibration, differenced by the server, a day at a time.

        Too many short-lived units for one array are summed up; a note says so.
        """
        found = {}
        for rule in request.rules:
            try:
                found[rule.name] = self._history(rule, request)
            except SourceTooLarge:
                if rule.unit is None:
                    raise
                whole = self._history(replace(rule, unit=None), request)
                note = f"too many values of {rule.unit} to keep them apart: history has one unit"
                found[rule.name] = replace(whole, notes=(*whole.notes, note))
        return found

    def labels_with_traffic(self, selector: Selector, label: str, at: float, window: float) -> dict[str, float]:
        """Return about how much a counter grew in the last `window` seconds, by value of a label; growing ones only.

        It is there to notice a new version that carries traffic. The window must hold at least two scrapes.
        """
        growth = self._once(f"increase({selector}[{milliseconds(window)}])")
        grown = self._client.instant(f"sum by ({_label(label)}) ({growth})", at)
        pairs = zip(grown.labels, grown.values.tolist(), strict=True)
        return {labels[label]: amount for labels, amount in pairs if labels.get(label) and amount > 0}

    def _observe(self, request: Request) -> dict[str, Observations]:
        ask = self._raw(request)
        sides = [_Side(rule, arm, where) for rule in request.rules for arm, where in _arms(request).items()]
        reads = [self._read(side, ask, request) for side in sides]
        tallied = self._count(reads, request, None)
        undecided = [read.side for read, counts in zip(reads, tallied, strict=True) if counts.uncounted]
        if undecided:
            # Most looks meet no births; only those that do pay for a look at start times.
            tallied = self._count(reads, request, ask(_start_times(undecided, request.select)))
        return _observations(request, reads, tallied)

    def _raw(self, request: Request) -> Ask:
        """Return how to read a selector's raw samples over the blocks and the overlap before, each selector once."""
        start, known = request.start - self._overlap, dict[Selector, SampleSet]()

        def ask(selector: Selector) -> SampleSet:
            if selector not in known:
                wanted = request.ends.size > 0
                known[selector] = (
                    self._client.samples(str(selector), start, request.end) if wanted else SampleSet.of([])
                )
            return known[selector]

        return ask

    def _count(self, reads: Sequence[_Read], request: Request, starts: SampleSet | None) -> list[_Tallied]:
        ends, block, overlap = request.ends, request.block, self._overlap
        counters = {id(part): part for read in reads if read.total is not None for part in (read.events, read.total)}
        processes: dict[str | None, Processes] = {}
        for unit in {read.side.rule.unit for read in reads}:
            grouping = Grouping((), unit, self._replica)
            about = set[object]().union(*(newborn(s, ends, block, grouping, overlap) for s in counters.values()))
            processes[unit] = learn(counters.values(), grouping, overlap, about, starts)

        def one(read: _Read) -> _Tallied:
            rule = read.side.rule
            grouping, known = Grouping(rule.by, rule.unit, self._replica), processes[rule.unit]
            if read.total is None:
                return _Tallied(last_values(read.events, ends, block, grouping, rule.across), None)
            events = count(read.events, ends, block, grouping, known, overlap)
            return _Tallied(events, count(read.total, ends, block, grouping, known, overlap))

        return [one(read) for read in reads]

    def _history(self, rule: Rule, request: Request) -> Observations:
        names = dict.fromkeys(map(_label, (*rule.by, *((rule.unit,) if rule.unit else ()))))
        request = replace(request, rules=(rule,))
        start, end, block = request.start, request.end, request.block

        def ask(selector: Selector) -> SampleSet:
            if rule.kind is Kind.GAUGE:
                # The last value of a block, as in `observe`: a mean would look calmer than what is judged.
                value = self._once(f"last_over_time({selector}[{milliseconds(block)}])", "avg")
                query = _aggregated(rule.across, names, value)
            else:
                # increase() would extrapolate, and see nothing where scrapes are as far apart as blocks.
                before = self._once(f"{selector} offset {milliseconds(block)}")
                query = _aggregated("sum", names, f"clamp_min({self._once(str(selector))} - {before}, 0)")
            return self._client.values_range(query, start, end, block)

        reads = [self._read(_Side(rule, arm, where), ask, request) for arm, where in _arms(request).items()]
        grouping, gap = Grouping(rule.by, rule.unit), np.nan if rule.kind is Kind.GAUGE else 0.0

        def place(samples: SampleSet) -> Counts:
            return placed(samples, request.ends, block, grouping, gap)

        tallied = [_Tallied(place(read.events), None if read.total is None else place(read.total)) for read in reads]
        return _observations(request, reads, tallied)[rule.name]

    def _once(self, expression: str, how: str = "max") -> str:
        """Return an expression with the replicas of a series put together; of counters the largest missed least."""
        return f"{how} without ({self._replica}) ({expression})" if self._replica else expression

    def _read(self, side: _Side, ask: Ask, request: Request) -> _Read:
        """Read the counters of one arm of one rule."""
        total = None if side.total is None else ask(side.total)
        events = ask(side.events)
        if side.rule.kind is not Kind.LATENCY or total is None or not request.ends.size:
            return _Read(side, events, total)
        if not len(total):
            self._refuse_other_shapes(side, request.end)
        edged = {series_key(labels) for labels in events.labels}
        measured = np.array([series_key(labels) in edged for labels in total.labels], dtype=np.bool_)
        if len(total) and not measured.any():
            raise self._no_edge(side, request)
        left_out = int((~measured).sum())
        note = f"{side.arm}: {left_out} series of {side.total} have no bucket at {side.rule.objective:g}: not counted"
        return _Read(side, events, total.only(measured), (note,) if left_out else ())

    def _refuse_other_shapes(self, side: _Side, at: float) -> None:
        """Tell a histogram that is not there from one that cannot be read.

        Raises:
            SourceRefused: a native histogram (by the client), or another kind of metric.
        """
        metric = side.histogram
        if len(self._client.instant(str(metric), at)):
            raise SourceRefused(f"{metric.metric} is not a histogram: there is no {metric.metric}_bucket and no _count")

    def _no_edge(self, side: _Side, request: Request) -> SourceRefused:
        metric = side.histogram
        window = milliseconds(request.end - request.start + self._overlap)
        bucket = replace(metric, metric=f"{metric.metric}_bucket")
        found = self._client.instant(f"count by (le) (last_over_time({bucket}[{window}]))", request.end)
        edges = sorted({labels["le"] for labels in found.labels if "le" in labels}, key=float)
        if not edges:
            return SourceRefused(
                f"{metric} has no buckets ({bucket.metric} with `le`): it cannot be judged as a latency"
            )
        objective = side.rule.objective
        problem = "has no objective" if objective is None else f"has no bucket at {objective:g} ({side.arm})"
        return SourceRefused(
            f"rule {side.rule.name}: {metric} {problem}; its buckets end at {', '.join(edges)}: "
            "choose one of these as `objective`"
        )


@dataclass(frozen=True)
class _Side:
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
    def events(self) -> Selector:
        """What is counted; for a latency, the requests within the objective."""
        if self.rule.kind is not Kind.LATENCY:
            return self.rule.events.where(self.where)
        edge = Matcher("le", "=~", "|".join(map(re.escape, edge_spellings(self.rule.objective))))
        own = self.histogram
        return replace(own, metric=f"{own.metric}_bucket", matchers=(edge, *own.matchers))

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


@dataclass(frozen=True)
class _Read:
    """What was read for a side."""

    side: _Side
    events: SampleSet
    total: SampleSet | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Tallied:
    """The same, counted."""

    events: Counts
    total: Counts | None

    @property
    def parts(self) -> tuple[Counts, ...]:
        return (self.events,) if self.total is None else (self.events, self.total)

    @property
    def uncounted(self) -> int:
        return sum(part.uncounted for part in self.parts)


def edge_spellings(edge: float | None) -> tuple[str, ...]:
    """Return how clients write a bucket's edge in `le`.

    >>> edge_spellings(1.0)
    ('1', '1.0', '1e+00')
    """
    if edge is None:
        return ("no objective",)
    if np.isinf(edge):
        return ("+Inf",)
    exponents = (f"{edge:.{digits}e}" for digits in range(17))
    shortest = next(text for text in exponents if float(text) == edge)
    plain = [str(int(edge))] if edge == int(edge) else []
    return tuple(dict.fromkeys([*plain, repr(float(edge)), shortest]))


def _label(name: str) -> str:
    if not _LABEL.fullmatch(name):
        raise ConfigError(f"{name!r} is not the name of a label")
    return name


def _arms(request: Request) -> dict[str, Labels]:
    """Return the label equalities of every arm asked for."""
    arms = {"treatment": request.select + (request.treatment or ())}
    if request.baseline is not None:
        arms["baseline"] = request.select + request.baseline
    return arms


def _aggregated(across: str, names: Iterable[str], value: str) -> str:
    by = ", ".join(names)
    if across == "median":
        return f"quantile by ({by}) (0.5, {value})"
    return f"{'avg' if across == 'mean' else across} by ({by}) ({value})"


def _start_times(sides: Sequence[_Side], select: Labels) -> Selector:
    """Return the selector of everything that tells when a process started or a series was created."""
    metrics = {selector.metric for side in sides for selector in (side.events, side.total) if selector is not None}
    stems = {re.sub("_(total|bucket|count)$", "", metric) for metric in metrics}
    names = "|".join(["process_start_time_seconds", *(f"{stem}_created" for stem in sorted(stems))])
    return Selector("", (Matcher("__name__", "=~", names),)).where(select)


def _observations(request: Request, reads: Sequence[_Read], tallied: Sequence[_Tallied]) -> dict[str, Observations]:
    """Put both arms of every rule on the same streams."""
    found = {}
    for rule in request.rules:
        own = {
            read.side.arm: (read, counts) for read, counts in zip(reads, tallied, strict=True) if read.side.rule == rule
        }
        parts = [part for _, counts in own.values() for part in counts.parts]
        streams = tuple(sorted({stream for part in parts for stream in part.streams})) if rule.by else ((),)
        notes = [note for read, counts in own.values() for note in _notes(read, counts)]
        arms = {arm: _arm(rule, counts, streams, notes, arm, request.ends) for arm, (_, counts) in own.items()}
        found[rule.name] = Observations(
            streams,
            request.ends,
            arms["treatment"],
            arms.get("baseline"),
            tuple(dict.fromkeys(notes)),
            partial=any(note.startswith(WARNED) for note in notes),
        )
    return found


def _arm(rule: Rule, counts: _Tallied, streams: Sequence[Labels], notes: list[str], arm: str, ends: Floats) -> Arm:
    units = tuple(sorted({unit for part in counts.parts for unit in part.units})) or ("",)
    if counts.total is None:
        values = counts.events.on(streams, units, np.nan)
        return Arm(units, values, np.where(np.isnan(values), 0.0, 1.0))
    events, total = counts.events.on(streams, units), counts.total.on(streams, units)
    if rule.kind is Kind.LATENCY:
        events = total - events
        if (events < 0).any():
            notes.append(f"{arm}: more requests within the objective than requests in {int((events < 0).sum())} cells")
        events = np.maximum(events, 0.0)
    return Arm(units, events, total)


def _notes(read: _Read, counts: _Tallied) -> list[str]:
    """Say what was odd about what was read."""
    arm, side, parts = read.side.arm, read.side, (read.events, *(() if read.total is None else (read.total,)))
    notes = [WARNED + warning for part in parts for warning in part.warnings] + list(read.notes)
    for selector, part in ((side.events, read.events), (side.total, read.total)):
        if part is not None and not part.times.size:
            notes.append(f"{arm}: {selector} has no samples")
    resets, merged = (sum(getattr(part, name) for part in counts.parts) for name in ("resets", "merged"))
    if resets:
        notes.append(f"{arm}: {resets} counter resets")
    if merged:
        notes.append(f"{arm}: {merged} series repeat others through a replica and count once")
    if counts.uncounted:
        notes.append(
            f"{arm}: {counts.uncounted} series began in the window with no proof that their process did: "
            "what they had counted before is left out"
        )
    return notes

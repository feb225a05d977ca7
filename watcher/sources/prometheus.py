"""Metrics from a Prometheus-compatible server: one query per arm and counter, whatever the number of streams.

What is judged comes from raw samples (`observe`). What is only learnt from (`history`) is differenced by the server
at block ends, which books the same events in the same blocks, but for restarts and births.

From a rule to counts: `sides` (an arm of a rule, as selectors) -> `reads` (raw, or differenced by the server), for
histograms by way of `latency` (`histograms`, `native`) -> `counters` (counts per block) -> `signatures`.
`prometheus_http` asks and `prometheus_json` decodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from watcher.errors import SourceTooLarge
from watcher.model import NO_SAMPLES, Arm, Floats, Kind, Labels, Observations, Request, Rule, Selector
from watcher.sources.counters import (
    Counts,
    Grouping,
    Processes,
    SampleSet,
    count,
    last_values,
    learn,
    newborn,
    only_grows,
    placed,
)
from watcher.sources.histograms import NO_ROOM, NOTHING, fits
from watcher.sources.latency import read_latency
from watcher.sources.prometheus_http import PrometheusHTTP, TooManySeries, milliseconds
from watcher.sources.reads import DifferencedReads, RawReads, Reads, label_name, once
from watcher.sources.recollection import Recollection
from watcher.sources.sides import Read, Tallied, sides_of, start_times
from watcher.sources.signatures import MOST_SIGNATURES, signature_of, too_many, with_parents_totals, with_signatures
from watcher.sources.tails import Tails

WARNED = "the metrics server warned: "
"""How a note begins that repeats a warning of the server: the answer may be incomplete."""


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
        self._tails, self._recollection = Tails(overlap), Recollection()
        self._replica = None if replica_label is None else label_name(replica_label)

    @property
    def url(self) -> str:
        """Where the server is, without what is secret."""
        return self._client.url

    def answers(self) -> None:
        """Ask what costs the server nothing.

        Raises:
            SourceError: it does not answer, or not as a metrics server does.
        """
        self._client.instant("vector(1)", 0.0)

    def clock(self) -> float:
        """Return what time it is by the server's clock, in epoch seconds.

        Raises:
            SourceError: it does not answer, or not as a metrics server does.
        """
        return self._client.clock()

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
        return {rule.name: _joined(rule, early[rule.name], late[rule.name]) for rule in request.rules}

    def history(self, request: Request) -> dict[str, Observations]:
        """Return the same shape for calibration, differenced by the server, a day at a time.

        Too many short-lived units for one array are summed up, and too many signatures are not told apart; a note
        says so. Which series there were at the end of it is remembered: a first `observe` misses those that it lacks.
        """
        found = {rule.name: self._history_within_caps(rule, request) for rule in request.rules}
        with suppress(SourceTooLarge):
            latest = RawReads(self._client, _last_block(request), self._replica, self._overlap, self._recollection)
            for rule in request.rules:
                _read(rule, request, latest)
        return found

    def labels_with_traffic(self, selector: Selector, label: str, at: float, window: float) -> dict[str, float]:
        """Return about how much a counter grew in the last `window` seconds, by value of a label; growing ones only.

        It is there to notice a new version that carries traffic. The window must hold at least two scrapes.
        """
        growth = once(f"increase({selector}[{milliseconds(window)}])", self._replica)
        grown = self._client.instant(f"sum by ({label_name(label)}) ({growth})", at)
        pairs = zip(grown.labels, grown.values.tolist(), strict=True)
        return {labels[label]: amount for labels, amount in pairs if labels.get(label) and amount > 0}

    def traffic_by_label(
        self, selector: Selector, label: str, start: float, end: float, step: float
    ) -> tuple[Floats, dict[str, Floats]]:
        """Return what `labels_with_traffic` says at every step of (start, end], a day at a time.

        Returns:
            The moments [step], and by value of the label about how much the counter grew in the step before each.
        """
        growth = once(f"increase({selector}[{milliseconds(step)}])", self._replica)
        grown = self._client.values_range(f"sum by ({label_name(label)}) ({growth})", start, end, step)
        moments = np.arange(start + step, end + step / 2, step)
        found: dict[str, Floats] = {}
        for row, labels in enumerate(grown.labels):
            own = slice(grown.offsets[row], grown.offsets[row + 1])
            at = np.rint((grown.times[own] - start) / step).astype(int) - 1
            if labels.get(label):
                found.setdefault(labels[label], np.zeros(moments.size))[at] += grown.values[own]
        return moments, {value: amounts for value, amounts in found.items() if (amounts > 0).any()}

    def _observe(self, request: Request) -> dict[str, Observations]:
        raw = RawReads(self._client, request, self._replica, self._overlap, self._recollection, self._tails)
        reads = [read for rule in request.rules for read in _read(rule, request, raw)]
        counters = [part for read in reads for part in read.counters]
        if raw.resumed and not all(only_grows(each, request.ends, request.block, self._overlap) for each in counters):
            raw = RawReads(self._client, request, self._replica, self._overlap, self._recollection)
            reads = [read for rule in request.rules for read in _read(rule, request, raw)]
        raw.kept(self._tails)
        tallied = self._count(reads, request, None)
        undecided = [counts.read.side for counts in tallied if counts.uncounted]
        if undecided:
            # Most looks meet no births; only those that do pay for a look at start times.
            tallied = self._count(reads, request, raw.samples(start_times(undecided, request.select)))
        return {rule.name: _observations(rule, request.ends, tallied) for rule in request.rules}

    def _count(self, reads: Sequence[Read], request: Request, starts: SampleSet | None) -> list[Tallied]:
        ends, block, overlap = request.ends, request.block, self._overlap
        counters = {id(part): part for read in reads for part in read.counters}
        processes: dict[str | None, Processes] = {}
        for unit in {read.side.rule.unit for read in reads}:
            grouping = Grouping((), unit, self._replica)
            about = set[object]().union(*(newborn(s, ends, block, grouping, overlap) for s in counters.values()))
            processes[unit] = learn(counters.values(), grouping, overlap, about, starts)

        def one(read: Read) -> Tallied:
            rule, known = read.side.rule, processes[read.side.rule.unit]

            def counted(samples: SampleSet, by: tuple[str, ...]) -> Counts:
                grouping = Grouping(by, rule.unit, self._replica)
                if read.total is None:
                    return last_values(samples, ends, block, grouping, rule.across)
                return count(samples, ends, block, grouping, known, overlap)

            return Tallied.of(read, counted)

        return [one(read) for read in reads]

    def _history_within_caps(self, rule: Rule, request: Request) -> Observations:
        plainer: list[tuple[Rule, tuple[str, ...]]] = [(rule, ())]
        if rule.unit is not None:
            note = f"too many values of {rule.unit} to keep them apart: history has one unit"
            plainer.append((replace(rule, unit=None), (note,)))
        if signature_of(rule, rule.by) is not None:
            note = f"too many values of {rule.signature} to keep them apart"
            plainer += [(replace(less, signature=None), (*notes, note)) for less, notes in plainer]
        *preferred, (last, said) = plainer
        for less, notes in preferred:
            with suppress(SourceTooLarge):
                return self._history(less, request, notes)
        return self._history(last, request, said)

    def _history(self, rule: Rule, request: Request, notes: tuple[str, ...]) -> Observations:
        reads = _read(rule, request, DifferencedReads(self._client, request, self._replica, self._overlap))
        gap = np.nan if rule.kind is Kind.GAUGE else 0.0

        def counted(samples: SampleSet, by: tuple[str, ...]) -> Counts:
            return placed(samples, request.ends, request.block, Grouping(by, rule.unit), gap)

        found = _observations(rule, request.ends, [Tallied.of(read, counted) for read in reads])
        return replace(found, notes=(*found.notes, *notes))


def _last_block(request: Request) -> Request:
    return replace(request, start=max(request.start, request.end - request.block))


def _read(rule: Rule, request: Request, reads: Reads) -> list[Read]:
    """Read the counters of all arms of a rule."""
    sides = sides_of(rule, request)
    if not request.ends.size:
        return [Read(side, NOTHING, None if rule.kind is Kind.GAUGE else NOTHING) for side in sides]
    if rule.kind is Kind.LATENCY:
        return read_latency(sides, reads)
    return [Read(side, reads.events(side), reads.total(side)) for side in sides]


def _observations(rule: Rule, ends: Floats, tallied: Sequence[Tallied]) -> Observations:
    """Put both arms of a rule on the same streams."""
    own = {counts.read.side.arm: counts for counts in tallied if counts.read.side.rule == rule}
    parts = [part for counts in own.values() for part in counts.parts]
    streams = tuple(sorted({stream for part in parts for stream in part.streams})) if rule.by else ((),)
    notes = [note for counts in own.values() for note in _notes(counts)]
    arms = {arm: _arm(rule, counts, streams, notes) for arm, counts in own.items()}
    edges, arms = _with_buckets(own, arms, streams, notes)
    found = Observations(streams, ends, arms["treatment"], arms.get("baseline"), edges=edges)
    found = _with_signatures(rule, own, found, notes)
    partial = any(note.startswith(WARNED) for note in notes)
    return replace(found, notes=tuple(dict.fromkeys(notes)), partial=partial)


def _arm(rule: Rule, counts: Tallied, streams: Sequence[Labels], notes: list[str]) -> Arm:
    units = tuple(sorted({unit for part in counts.parts for unit in part.units})) or ("",)
    if counts.total is None:
        values = counts.events.on(streams, units, np.nan)
        return Arm(units, values, np.where(np.isnan(values), 0.0, 1.0))
    events, total = counts.events.on(streams, units), counts.total.on(streams, units)
    if rule.kind is Kind.LATENCY:
        events = total - events
        odd = int((events < 0).sum())
        if odd:
            notes.append(f"{counts.read.side.arm}: more requests within the objective than requests in {odd} cells")
        events = np.maximum(events, 0.0)
    return Arm(units, events, total)


def _with_buckets(
    own: Mapping[str, Tallied], arms: Mapping[str, Arm], streams: Sequence[Labels], notes: list[str]
) -> tuple[tuple[float, ...], dict[str, Arm]]:
    """Return the arms with their buckets, and the edges; without, when they were not read or there is no room."""
    plain = (), dict(arms)
    buckets = {arm: counts.read.buckets for arm, counts in own.items()}
    edges = next((each.edges for each in buckets.values() if each is not None), ())
    if not edges:
        return plain
    if not fits(arms.values(), len(edges)):
        notes.append(NO_ROOM)
        return plain

    def filled(arm: Arm, counts: Tallied) -> Arm:
        by = counts.read.side.rule.by
        assert counts.read.buckets is not None
        cells = counts.read.buckets.counted(lambda one: counts.count(one, by).on(streams, arm.units), arm.total)
        return replace(arm, buckets=cells)

    return edges, {name: filled(arm, own[name]) for name, arm in arms.items()}


def _with_signatures(rule: Rule, own: Mapping[str, Tallied], found: Observations, notes: list[str]) -> Observations:
    """Add a stream for every value of the rule's signature among the bad events."""
    signature = signature_of(rule, rule.by)
    if signature is None:
        return found
    by = (*rule.by, signature)
    events = {arm: _labelled(counts.read.events, signature) for arm, counts in own.items()}
    streams = sorted({Grouping(by).stream(labels) for samples in events.values() for labels in samples.labels})
    if len(streams) > MOST_SIGNATURES:
        notes.append(too_many(signature))
        return found
    units = {"treatment": found.treatment.units, "baseline": found.baseline.units if found.baseline else ()}
    counted = {arm: own[arm].count(samples, by).on(streams, units[arm]) for arm, samples in events.items()}
    return with_signatures(found, signature, streams, counted) if streams else found


def _joined(rule: Rule, early: Observations, late: Observations) -> Observations:
    """Return what one read of both parts would have found."""
    signature, whole = signature_of(rule, rule.by), early.then(late)
    return whole if signature is None else with_parents_totals(whole, signature)


def _labelled(samples: SampleSet, label: str) -> SampleSet:
    return samples.only(np.array([bool(labels.get(label)) for labels in samples.labels], dtype=np.bool_))


def _notes(counts: Tallied) -> list[str]:
    """Say what was odd about what was read."""
    read, side = counts.read, counts.read.side
    parts = (read.events, *(() if read.total is None else (read.total,)))
    notes = [WARNED + warning for part in parts for warning in part.warnings] + list(read.notes)
    for selector, part in ((side.events, read.events), (side.total, read.total)):
        if part is not None and not part.times.size:
            notes.append(f"{side.arm}: {selector} {NO_SAMPLES}")
    resets, merged = (sum(getattr(part, name) for part in counts.parts) for name in ("resets", "merged"))
    if resets:
        notes.append(f"{side.arm}: {resets} counter resets")
    if merged:
        notes.append(f"{side.arm}: {merged} series repeat others through a replica and count once")
    if counts.uncounted:
        notes.append(
            f"{side.arm}: {counts.uncounted} series began in the window with no proof that their process did: "
            "what they had counted before is left out"
        )
    return notes

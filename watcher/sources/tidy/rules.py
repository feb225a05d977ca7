"""How rules find their rows: which numbers a selector means, which rows it picks, and how these fall into streams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from watcher.model import Floats, Kind, Rule, Selector, labels
from watcher.sources.signatures import signature_of
from watcher.sources.tidy.buckets import histograms
from watcher.sources.tidy.checks import Mask
from watcher.sources.tidy.coded import CodedTable, numbered, repeated
from watcher.sources.tidy.columns import NO_COUNT, RELEASE, RESERVED, Numbers, Text, is_text
from watcher.sources.tidy.counts import Reading, Signed

_NOT_MEASURED = RESERVED - {"value", "count"}


class _Found(NamedTuple):
    """The numbers a selector means, the rows it picks, and whether it named a column."""

    numbers: Numbers
    rows: Mask
    direct: bool


class _Split(NamedTuple):
    """How rows fall into streams and units."""

    columns: tuple[str, ...]
    unit: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """What is the same for all rules of a table; `read` finds and checks what one rule counts."""

    table: CodedTable
    by: tuple[str, ...] | None
    drop: bool
    per_second: float
    named: frozenset[str]

    def read(self, rule: Rule) -> Reading:
        """Find and check what one rule counts.

        Raises:
            DataError: no such metric, or a row that cannot be counted.
        """
        if rule.kind == Kind.LATENCY:
            return self._read_latency(rule)
        if rule.kind == Kind.GAUGE:
            return self._read_gauge(rule)
        return self._read_counts(rule)

    @cached_property
    def label_columns(self) -> tuple[str, ...]:
        """Every column that is text or is used as a label."""
        columns = self.table.frame.columns
        return tuple(c for c in columns if c in self.named or (c not in RESERVED and is_text(self.table.frame[c])))

    @cached_property
    def selectable(self) -> tuple[str, ...]:
        """Every column that a request may select rows by."""
        frame = self.table.frame
        named = [c for c in ("metric", "group", *RELEASE) if c in frame.columns]
        return (*self.label_columns, *(c for c in named if c not in self.label_columns))

    @cached_property
    def repeats(self) -> Mask:
        """Which rows repeat time, arm and all labels of an earlier one."""
        columns = sorted({*self.label_columns, "metric", "le"})
        return repeated(*self.table.key(columns, *self.table.instants))

    def _read_gauge(self, rule: Rule) -> Reading:
        found = self._find(rule, rule.events)
        found.numbers.check(found.rows, self.table.place, whole=False, negative=True)
        self._refuse_repeats(found.rows)
        split = self._split(rule, direct=found.direct)
        return self._reading(np.flatnonzero(found.rows), split, found.numbers.values, None)

    def _read_counts(self, rule: Rule) -> Reading:
        assert rule.total is not None, rule.name
        events, total = self._find(rule, rule.events), self._find(rule, rule.total)
        for found in (events, total):
            found.numbers.check(found.rows, self.table.place, whole=True)
            self._refuse_repeats(found.rows)
        split = self._split(rule, direct=events.direct and total.direct)
        # The two stand in one row, or in rows that belong together by time, arm, stream and unit.
        paired = events.numbers is not total.numbers and bool((events.rows == total.rows).all())
        if paired:
            groups = np.arange(len(events.rows))
        else:
            groups, _ = numbered(*self.table.key((*split.columns, split.unit), *self.table.instants))
        kept, notes = self._without_missing([events, total], groups)
        part = np.where(events.rows & kept, events.numbers.values, 0.0)
        whole = np.where(total.rows & kept, total.numbers.values, 0.0)
        if rule.kind == Kind.RATIO:
            self._refuse_excess(rule, events, part, whole, groups if not paired else None)
        rows = np.flatnonzero((events.rows | total.rows) & kept)
        split = split._replace(notes=split.notes + notes)
        return self._reading(rows, split, part, whole, signed=self._signed(rule, split, events.rows & kept))

    def _signed(self, rule: Rule, split: _Split, rows: Mask) -> Signed | None:
        """Return the signatures of the rows that hold bad events."""
        label = signature_of(rule, split.columns)
        if label is None:
            return None
        column = self.table.text(label)
        return Signed(label, replace(column, codes=np.where(rows, column.codes, 0)))

    def _read_latency(self, rule: Rule) -> Reading:
        metric, columns = rule.events.metric, self.table.frame.columns
        bucketed = "le" in columns
        if metric in columns and metric not in _NOT_MEASURED and not (bucketed and metric in ("count", "value")):
            return self._read_durations(rule, self._find(rule, rule.events))
        counts = self.table.numbers("count" if "count" in columns else "value") if bucketed else None
        if counts is not None:
            edged = ~self.table.text("le").equal_to("")
            rows = edged | ~np.isnan(counts.values)
            direct = metric in ("count", "value", "le") or "metric" not in columns
            if not direct:
                rows = self.table.text("metric").equal_to(metric, f"{metric}_bucket")
            if (rows & edged).any():
                return self._read_buckets(rule, _Found(counts, rows, direct))
        return self._read_durations(rule, self._find(rule, rule.events))

    def _read_durations(self, rule: Rule, found: _Found) -> Reading:
        found.numbers.check(found.rows, self.table.place, whole=False)
        split = self._split(rule, direct=found.direct)
        kept, notes = self._without_missing([found], np.arange(len(found.rows)))
        split = split._replace(notes=split.notes + notes)
        return self._reading(np.flatnonzero(found.rows & kept), split, found.numbers.values / self.per_second, None)

    def _read_buckets(self, rule: Rule, found: _Found) -> Reading:
        place, le = self.table.place, self.table.text("le")
        mask = self._matched(rule.events, found.rows)
        place.refuse_first(mask & le.equal_to(""), "le", lambda _: "a bucket needs its upper edge; +Inf is the last")
        found.numbers.check(mask, place, whole=True)
        self._refuse_repeats(mask)
        split = self._split(rule, direct=found.direct)
        rows = np.flatnonzero(mask)
        if len(rows) == 0:
            return self._reading(rows, split, np.empty((0, 0)), None, np.empty(0))
        key, size = self.table.key(sorted({*self.label_columns, "metric"}), *self.table.instants)
        ids, _ = numbered(key[rows], size)
        whole = histograms(rows, ids, le, found.numbers, place, drop=self.drop)
        if whole.dropped:
            split = split._replace(notes=(*split.notes, _dropped(whole.dropped, found.numbers.name)))
        return self._reading(whole.rows, split, whole.counts, None, whole.edges / self.per_second)

    def _find(self, rule: Rule, selector: Selector) -> _Found:
        table, metric = self.table, selector.metric
        columns = table.frame.columns
        direct = metric in columns and metric not in _NOT_MEASURED
        if direct:
            rows, column = np.ones(len(table.frame), dtype=bool), metric
        elif "metric" in columns:
            rows = table.text("metric").equal_to(metric)
            column = "count" if "count" in columns and "value" not in columns else "value"
            if not rows.any():
                raise table.place.missing(metric, table.text("metric").present, "metric")
        else:
            raise table.place.missing(metric, columns)
        picked = table.numbers(column)
        rows = self._matched(selector, rows)
        if "le" in columns and all(matcher.label != "le" for matcher in selector.matchers):
            plain = rows & table.text("le").equal_to("")
            if rows.any() and not plain.any():
                problem = f"every row of {metric!r} is a histogram bucket; {rule.kind} rule {rule.name!r} reads others"
                raise table.place.refusal(problem, "le", int(np.argmax(rows)))
            rows = plain
        return _Found(picked, rows, direct)

    def _matched(self, selector: Selector, rows: Mask) -> Mask:
        for matcher in selector.matchers:
            rows = rows & self.table.text(matcher.label).matched_by(matcher)
        return rows

    def _split(self, rule: Rule, *, direct: bool) -> _Split:
        present = self.table.frame.columns
        unit = rule.unit if rule.unit and rule.unit in present else "unit"
        wanted = rule.by if self.by is None else self.by
        notes = tuple(
            f"rule {rule.name}: there is no column {c}, so streams are not told apart by it"
            for c in wanted
            if c not in present
        )
        if wanted or self.by is not None:
            chosen = [c for c in wanted if c in present and c not in RESERVED]
        else:
            selectors = [s for s in (rule.events, rule.total) if s is not None]
            taken = {m.label for s in selectors for m in s.matchers} | {s.metric for s in selectors}
            taken |= {unit, rule.unit or "", rule.signature or ""} | RESERVED
            chosen = [
                c for c in self.label_columns if c not in taken and (c == "feature" or is_text(self.table.frame[c]))
            ]
        # One column that holds several metrics: each is a stream, unless the rule is about one of them.
        if direct and "metric" in present and all(matcher.label != "metric" for matcher in rule.events.matchers):
            chosen.append("metric")
        return _Split(tuple(sorted(chosen)), unit, notes)

    def _refuse_repeats(self, rows: Mask) -> None:
        again = self.repeats & rows
        if not again.any():
            return
        key, _ = self.table.key(sorted({*self.label_columns, "metric", "le"}), *self.table.instants)
        at = int(np.argmax(again))
        first = self.table.place.row(int(np.argmax(key == key[at])))
        same = [c for c in ("arm", "metric", *self.label_columns, "le") if c in self.table.frame]
        problem = f"duplicate of row {first}: the same {', '.join(['timestamp', *same])}"
        problem += "; delete one, or, if another column tells them apart, name it with by"
        raise self.table.place.refusal(problem, "timestamp", at)

    def _without_missing(self, found: Sequence[_Found], groups: NDArray[np.int64]) -> tuple[Mask, tuple[str, ...]]:
        """Return the rows left when missing counts, and what belongs with them, are dropped; or refuse them."""
        kept = np.ones(len(groups), dtype=bool)
        notes = []
        columns = {numbers_.name: numbers_ for numbers_, _, _ in found}
        for name, numbers_ in columns.items():
            used = np.logical_or.reduce([rows for other, rows, _ in found if other.name == name])
            missing = used & np.isnan(numbers_.values)
            if not missing.any():
                continue
            if not self.drop:
                self.table.place.refuse_first(missing, name, lambda _: NO_COUNT)
            spoiled = np.zeros(int(groups.max()) + 1, dtype=bool)
            spoiled[groups[missing]] = True
            kept &= ~spoiled[groups]
            notes.append(_dropped(int(missing.sum()), name))
        return kept, tuple(notes)

    def _refuse_excess(
        self, rule: Rule, events: _Found, part: Floats, whole: Floats, groups: NDArray[np.int64] | None
    ) -> None:
        if groups is not None:
            part = np.bincount(groups, weights=part)[groups].astype(np.float64)
            whole = np.bincount(groups, weights=whole)[groups].astype(np.float64)
        self.table.place.refuse_first(
            events.rows & (part > whole),
            events.numbers.name,
            lambda row: (
                f"{part[row]:g} {rule.events} of {whole[row]:g} {rule.total}: a part cannot exceed its total "
                "(for events counted at another moment than what they are held against, use a rate)"
            ),
        )

    def _reading(
        self,
        rows: NDArray[np.int64],
        split: _Split,
        events: Floats,
        total: Floats | None,
        edges: Floats | None = None,
        signed: Signed | None = None,
    ) -> Reading:
        """Gather the rows, sorted by time; `events` has a row per table row, or, with edges, per histogram."""
        table = self.table
        key, size = table.key(split.columns)
        ids, example = numbered(key[rows], size)
        names = [
            labels({c: table.text(c).at(row) for c in split.columns if table.text(c).at(row)})
            for row in rows[example].tolist()
        ]
        rank = np.empty(len(names), dtype=np.int32)
        order = sorted(range(len(names)), key=names.__getitem__)
        rank[order] = np.arange(len(names))
        by_time = _time_order(table.stamps[rows], len(table.moments))
        sorted_rows = rows if by_time is None else rows[by_time]
        cut = events[rows] if edges is None else events
        return Reading(
            times=table.times[sorted_rows],
            arm=table.arms[sorted_rows],
            stream=rank[ids if by_time is None else ids[by_time]],
            streams=tuple(names[position] for position in order),
            unit=Text(table.text(split.unit).codes[sorted_rows], table.text(split.unit).values),
            labels={c: Text(table.text(c).codes[sorted_rows], table.text(c).values) for c in self.selectable},
            other_columns=frozenset(table.frame.columns) - {*self.selectable},
            events=cut if by_time is None else cut[by_time],
            total=None if total is None else total[sorted_rows],
            edges=edges,
            split_by=split.columns,
            notes=split.notes,
            signed=None if signed is None else signed.at(sorted_rows),
        )


def _dropped(count: int, column: str) -> str:
    return f"dropped {count} row{'s' if count != 1 else ''} without a number in column {column}"


def _time_order(stamps: NDArray[np.int64], moments: int) -> NDArray[np.int64] | None:
    """Return the order that sorts rows by time, or None when they are."""
    if (stamps[1:] >= stamps[:-1]).all():
        return None
    # numpy sorts 16-bit integers by radix, ten times as fast.
    return np.argsort(stamps.astype(np.uint16) if moments < 2**16 else stamps, kind="stable")

"""One release's table as a source of observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from watcher.errors import DataError
from watcher.model import Floats, Kind, Labels, Observations, Request, Rule
from watcher.sources.histograms import NO_ROOM, fits
from watcher.sources.signatures import too_many, with_signatures
from watcher.sources.tidy.coded import CodedTable
from watcher.sources.tidy.columns import EXPOSED_AT, RESERVED, WHOLE, seconds
from watcher.sources.tidy.counts import (
    Reading,
    Side,
    View,
    block_end,
    bucket_edges,
    counted,
    edge_of,
    in_buckets,
    signed_events,
)
from watcher.sources.tidy.frames import first_of, flat, of_release
from watcher.sources.tidy.rules import Reader

_UNITS_OF_TIME = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_MOST_CELLS = 50_000_000
"""Stream x unit x block cells of one arm: 400 MB an array."""


@dataclass(frozen=True)
class TidyTable:
    """One release's table as a source of observations.

    `start` and `end` are the start of the first block and the end of the last one; `columns` are the ones that make
    streams; `metrics` are the values of the column `metric`. All times are epoch seconds.
    """

    name: str
    block: float
    start: float
    end: float
    has_arms: bool
    exposed_at: float | None = None
    metrics: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    _readings: Mapping[str, Reading] = field(default_factory=dict, repr=False)
    _views: dict[tuple[str, Labels, bool], View] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        rules: Sequence[Rule],
        *,
        block: float | None = None,
        by: str | Sequence[str] | None = None,
        name: str = "<frame>",
        drop_bad_rows: bool = False,
        unit_of_time: str = "s",
        at: float | None = None,
        release: str | None = None,
    ) -> TidyTable:
        """Check a table and keep what the rules count.

        Args:
            frame: the table; rows are named by its index where that counts rows, else by position.
            rules: what to read; only these can be asked for.
            block: length of a block in seconds; None: as the rows are spaced, at least 60.
            by: label columns that make streams, in place of what the rules say; () adds them all up; None leaves it to
                the rules, and where they are silent to all other text columns.
            name: the file, for messages.
            drop_bad_rows: leave out rows whose count or duration is missing, and say how many.
            unit_of_time: of durations and `le` in the table: s, ms, us or ns.
            at: when users were exposed; None: what the table says.
            release: which release to read from a table with several.

        Raises:
            DataError: the table is wrong; the message names file, row and column.
        """
        if unit_of_time not in _UNITS_OF_TIME:
            raise DataError(f"unknown unit of time {unit_of_time!r}; one of {', '.join(_UNITS_OF_TIME)}", file=name)
        if block is not None and not block > 0:
            raise DataError(f"a block lasts more than {block:g} s", file=name)
        table = CodedTable(of_release(flat(frame, name), release, name), name)
        by = None if by is None else _checked_by((by,) if isinstance(by, str) else tuple(by), table)
        reader = Reader(table, by, drop_bad_rows, _UNITS_OF_TIME[unit_of_time], _named_by(rules, by or ()))
        readings = {rule.name: reader.read(rule) for rule in rules}
        block = float(block or _spacing(table.moments))
        return cls(
            name=name,
            block=block,
            start=block_end(table.moments[0], block) - block,
            end=block_end(table.moments[-1], block),
            has_arms=bool((table.arms != WHOLE).any()),
            exposed_at=_exposed_at(table) if at is None else at,
            metrics=table.text("metric").present,
            columns=tuple(sorted({column for reading in readings.values() for column in reading.split_by})),
            notes=tuple(dict.fromkeys(note for reading in readings.values() for note in reading.notes)),
            _readings=readings,
        )

    def observe(self, request: Request) -> dict[str, Observations]:
        """Count the blocks that end in (start, end], by rule name.

        With `request.baseline` the arms are those of the column `arm`; without it, everybody is treatment: the
        rows about the whole service, or, where there are none, the rows of both arms together. `select` filters rows
        by the columns that exist.

        Raises:
            DataError: a rule the table was not read for, an objective that is no bucket edge, a baseline asked of
                a table without arms, or more streams, units and blocks than fit into memory.
        """
        if request.baseline is not None and not self.has_arms:
            raise DataError(
                "no row says baseline or treatment, so there are no arms to compare", file=self.name, column="arm"
            )
        return {rule.name: self._observations(rule, request) for rule in request.rules}

    def history(self, request: Request) -> dict[str, Observations]:
        """Count earlier blocks of the same table, for calibration."""
        return self.observe(request)

    def objective_from(self, rule: Rule, start: float, end: float, share: float = 0.1) -> float | None:
        """Return the duration in seconds that about `share` of the baseline's requests in (start, end] exceed.

        Without arms, everybody's requests. With buckets it is the nearest edge. None where nothing was counted.
        """
        reading = self._reading(rule)
        view = self._view(rule, (), self.has_arms)
        side = view.baseline if self.has_arms else view.treatment
        rows = side.within(start, end)
        counted = side.events[rows]
        if len(counted) == 0:
            return None
        if reading.edges is None:
            return float(np.quantile(counted, 1 - share, method="higher"))
        totals = counted.sum(axis=0)
        if totals[-1] == 0 or len(totals) == 1:
            return None
        exceeded = 1 - totals[:-1] / totals[-1]
        return float(reading.edges[np.argmin(np.abs(exceeded - share))])

    def _observations(self, rule: Rule, request: Request) -> Observations:
        reading, view = self._reading(rule), self._view(rule, request.select, request.baseline is not None)
        edge = edge_of(rule, reading, self.name) if rule.kind == Kind.LATENCY else None
        baseline = None if request.baseline is None else view.baseline
        for side in (view.treatment, baseline):
            cells = 0 if side is None else len(view.streams) * len(side.units) * len(request.ends)
            if side is not None and cells > _MOST_CELLS:
                raise self._too_many(view, side, request)
        size = len(view.streams)
        found = Observations(
            view.streams,
            request.ends,
            counted(view.treatment, size, request, rule, edge),
            None if baseline is None else counted(baseline, size, request, rule, edge),
            reading.notes + view.notes,
        )
        if rule.kind == Kind.LATENCY:
            return _with_buckets(found, view, request, bucket_edges(rule, reading, edge))
        if reading.signed is None or not view.signatures:
            return found
        arms = [arm for arm in (found.treatment, found.baseline) if arm is not None]
        if any(len(view.signatures) * arm.total[0].size > _MOST_CELLS for arm in arms):
            return replace(found, notes=(*found.notes, too_many(reading.signed.label)))
        return with_signatures(found, reading.signed.label, *signed_events(view, request))

    def _reading(self, rule: Rule) -> Reading:
        if rule.name not in self._readings:
            raise DataError(f"the table was not read for rule {rule.name!r}", file=self.name)
        return self._readings[rule.name]

    def _view(self, rule: Rule, select: Labels, concurrent: bool) -> View:
        key = (rule.name, select, concurrent)
        if key not in self._views:
            reading = self._reading(rule)
            for label, value in select:
                if label in reading.other_columns:
                    problem = f"rows cannot be selected by {label}={value!r}: the column is not a label"
                    raise DataError(problem, file=self.name, column=label)
            self._views[key] = reading.view(select, concurrent)
        return self._views[key]

    def _too_many(self, view: View, side: Side, request: Request) -> DataError:
        values: dict[str, set[str]] = {}
        for stream in view.streams:
            for label, value in stream:
                values.setdefault(label, set()).add(value)
        most = max(values, key=lambda label: len(values[label]), default=None)
        hint = "" if most is None else f"; column {most} alone has {len(values[most])} values: name the labels with by"
        return DataError(
            f"{len(view.streams)} streams x {len(side.units)} units x {len(request.ends)} blocks are too many{hint}",
            file=self.name,
            column=most,
        )


def _with_buckets(found: Observations, view: View, request: Request, edges: tuple[float, ...]) -> Observations:
    """Return the observations with the requests of every bucket, where there is room for them."""
    arms = [arm for arm in (found.treatment, found.baseline) if arm is not None]
    if not edges:
        return found
    if not fits(arms, len(edges)):
        return replace(found, notes=(*found.notes, NO_ROOM))
    size = len(view.streams)
    treatment = replace(found.treatment, buckets=in_buckets(view.treatment, size, request, edges))
    baseline = found.baseline
    if baseline is not None:
        baseline = replace(baseline, buckets=in_buckets(view.baseline, size, request, edges))
    return replace(found, treatment=treatment, baseline=baseline, edges=edges)


def _checked_by(by: tuple[str, ...], table: CodedTable) -> tuple[str, ...]:
    for column in by:
        if column not in table.frame.columns:
            raise table.place.missing(column, table.frame.columns)
        if column in RESERVED:
            raise table.place.refusal("this column has a meaning of its own and cannot make streams", column)
    return by


def _named_by(rules: Sequence[Rule], by: Sequence[str]) -> frozenset[str]:
    """Return the columns that rules or the caller use as labels, whatever their type."""
    selectors = [selector for rule in rules for selector in (rule.events, rule.total) if selector is not None]
    named = {matcher.label for selector in selectors for matcher in selector.matchers}
    named.update(by, *(rule.by for rule in rules))
    named.update(label for rule in rules for label in (rule.unit, rule.signature) if label)
    return frozenset(named | {"feature", "unit"})


def _spacing(moments: Floats) -> float:
    """Return the smallest spacing, in whole seconds, that a tenth of the neighbours share; at least a minute."""
    gaps = np.rint(np.diff(moments))
    if len(gaps) == 0:
        return 60.0
    lengths, times = np.unique(gaps, return_counts=True)
    common = lengths[times >= len(gaps) / 10]
    return float(max(60.0, common[0] if len(common) else lengths[0]))


def _exposed_at(table: CodedTable) -> float | None:
    column = first_of(EXPOSED_AT, table.frame)
    if column is None:
        return None
    times = seconds(table.frame[column], table.place, optional=True)
    known = np.flatnonzero(~np.isnan(times))
    if len(known) == 0:
        return None
    first = float(times[known[0]])
    table.place.refuse_first(
        ~np.isnan(times) & (times != first),
        column,
        lambda row: (
            f"exposed at {times[row]:.0f} here and at {first:.0f} in row {table.place.row(int(known[0]))}; a "
            "release has one time of exposure (tell releases apart with the column release)"
        ),
    )
    return first

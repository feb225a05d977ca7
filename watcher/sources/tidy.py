"""Tidy tables: one row per time, arm and label set, from CSV, Parquet or a DataFrame.

A selector's metric is a column, or a value of the column `metric`; its matchers pick rows by label columns, and an
absent label is the empty string, as in Prometheus. A table is checked once, when a `TidyTable` is made of it; what is
kept are arrays sorted by time, from which any interval is counted without looking at the rest.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from watcher.errors import DataError
from watcher.model import Arm, Floats, Kind, Labels, Observations, Request, Rule, Selector, labels
from watcher.sources.tidy_checks import (
    BASELINE,
    EXPOSED_AT,
    RELEASE,
    RESERVED,
    TREATMENT,
    WHOLE,
    Codes,
    Mask,
    Numbers,
    Place,
    Table,
    Text,
    histograms,
    is_numbered,
    is_text,
    no_count,
    numbered,
    repeated,
    seconds,
    text,
)

_ALWAYS_TEXT = ("arm", "metric", "feature", "unit", "release", "release_id", "group", "le", "version")
_NULLS = ["", "NaN", "nan", "NAN", "null", "NULL"]
_NOT_MEASURED = RESERVED - {"value", "count"}
_UNITS_OF_TIME = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_MOST_CELLS = 50_000_000
"""Stream x unit x block cells of one arm: 400 MB an array."""
_STEP = 1e-6  # times nearer than a microsecond to a block's end are on it


# --- reading files ---------------------------------------------------------------------------------------------------


def read_table(path: str | Path, *, text: Collection[str] = ()) -> pd.DataFrame:
    """Read a tidy table from `.csv`, `.csv.gz` or `.parquet`.

    Args:
        path: the file.
        text: further columns of a CSV to read as text, where `1.10` and `007` must not become numbers.

    Raises:
        DataError: the file cannot be read, or is of no known kind, or needs the extra `parquet`.
    """
    path, name = Path(path), str(path)
    kind = path.name.lower()
    try:
        path.open("rb").close()
        if kind.endswith((".csv", ".csv.gz")):
            return _read_csv(path, {*_ALWAYS_TEXT, *text})
        if kind.endswith(".parquet"):
            return _read_parquet(path)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", file=name) from error
    except (ValueError, TypeError, EOFError, zlib.error, NotImplementedError) as error:
        raise DataError(f"cannot be read: {str(error).strip().splitlines()[0]}", file=name) from error
    raise DataError("is of no known kind; a table is a .csv, .csv.gz or .parquet file", file=name)


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        problem = "a Parquet file needs the extra `parquet`: pip install 'release-watcher[parquet]'"
        raise DataError(problem, file=str(path)) from error
    schema = pq.read_schema(path)
    words = [entry.name for entry in schema if pa.types.is_string(entry.type) or pa.types.is_large_string(entry.type)]
    frame: pd.DataFrame = pq.read_table(path, read_dictionary=words).to_pandas(ignore_metadata=True)
    return frame.drop(columns=[column for column in frame if str(column).startswith("__index_level_")])


def _read_csv(path: Path, words: Collection[str]) -> pd.DataFrame:
    try:
        import pyarrow as pa
        import pyarrow.csv
    except ImportError:
        return _read_csv_slowly(path, words)
    options = pyarrow.csv.ConvertOptions(
        column_types={word: pa.dictionary(pa.int32(), pa.string()) for word in words},
        auto_dict_encode=True,
        auto_dict_max_cardinality=100_000,
        null_values=_NULLS,
        strings_can_be_null=True,
    )
    try:
        frame: pd.DataFrame = pyarrow.csv.read_csv(path, convert_options=options).to_pandas()
    except pa.ArrowInvalid:
        # Types are guessed from the first megabyte only; the slow reader sees all, and names the line that is wrong.
        return _read_csv_slowly(path, words)
    return frame


def _read_csv_slowly(path: Path, words: Collection[str]) -> pd.DataFrame:
    return pd.read_csv(
        path,
        dtype=dict.fromkeys(words, str),
        keep_default_na=False,
        na_values=_NULLS,
        index_col=False,
        low_memory=False,
    )


def split_releases(frame: pd.DataFrame, *, name: str = "<frame>") -> list[tuple[str | None, pd.DataFrame]]:
    """Cut a table into its releases, in order of appearance; a table without the column is one, called None.

    Rows keep their numbers, so that an error in a part names the row of the whole.

    Raises:
        DataError: a row without a release in a table that has the column.
    """
    frame = _flat(frame, name)
    column = _first_of(RELEASE, frame)
    if column is None:
        return [(None, frame)]
    names = text(frame[column])
    Place.of(frame, name).refuse_first(names.equal_to(""), column, lambda _: "the release is missing")
    order = np.argsort(names.codes, kind="stable")
    sizes = np.bincount(names.codes, minlength=len(names.values))
    parts = np.split(order, np.cumsum(sizes)[:-1])
    found = [(names.values[code], rows) for code, rows in enumerate(parts) if len(rows)]
    return [(release, frame.iloc[rows]) for release, rows in sorted(found, key=lambda part: int(part[1][0]))]


def _flat(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the frame with named index levels as columns, string column names and an index that numbers the rows."""
    inside = [level for level in frame.index.names if level is not None and level not in frame.columns]
    if inside:
        frame = frame.reset_index(level=inside)
    if not is_numbered(frame):
        frame = frame.reset_index(drop=True)
    frame = frame.set_axis(frame.columns.map(str), axis=1)
    if not frame.columns.is_unique:
        twice = str(frame.columns[frame.columns.duplicated()][0])
        raise DataError("the table has this column twice", file=name, column=twice)
    return frame


def _first_of(names: Sequence[str], frame: pd.DataFrame) -> str | None:
    return next((name for name in names if name in frame.columns), None)


# --- the source ------------------------------------------------------------------------------------------------------


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
    _readings: Mapping[str, _Reading] = field(default_factory=dict, repr=False)
    _views: dict[tuple[str, Labels, bool], _View] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls,
        frame: pd.DataFrame,
        rules: Sequence[Rule],
        *,
        block: float | None = None,
        by: Sequence[str] = (),
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
            by: label columns that make streams, in place of what the rules say; () leaves it to the rules, and where
                they are silent to all other text columns.
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
        table = Table(_of_release(_flat(frame, name), release, name), name)
        by = _checked_by((by,) if isinstance(by, str) else tuple(by), table)
        reader = _Reader(table, by, drop_bad_rows, _UNITS_OF_TIME[unit_of_time], _named_by(rules, by))
        readings = {rule.name: reader.read(rule) for rule in rules}
        block = float(block or _spacing(table.moments))
        return cls(
            name=name,
            block=block,
            start=_block_end(table.moments[0], block) - block,
            end=_block_end(table.moments[-1], block),
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
        edge = _edge_of(rule, reading, self.name) if rule.kind == Kind.LATENCY else None
        baseline = None if request.baseline is None else view.baseline
        for side in (view.treatment, baseline):
            cells = 0 if side is None else len(view.streams) * len(side.units) * len(request.ends)
            if side is not None and cells > _MOST_CELLS:
                raise self._too_many(view, side, request)
        size = len(view.streams)
        return Observations(
            view.streams,
            request.ends,
            _counted(view.treatment, size, request, rule, edge),
            None if baseline is None else _counted(baseline, size, request, rule, edge),
            reading.notes + view.notes,
        )

    def _reading(self, rule: Rule) -> _Reading:
        if rule.name not in self._readings:
            raise DataError(f"the table was not read for rule {rule.name!r}", file=self.name)
        return self._readings[rule.name]

    def _view(self, rule: Rule, select: Labels, concurrent: bool) -> _View:
        key = (rule.name, select, concurrent)
        if key not in self._views:
            reading = self._reading(rule)
            for label, value in select:
                if label in reading.other_columns:
                    problem = f"rows cannot be selected by {label}={value!r}: the column is not a label"
                    raise DataError(problem, file=self.name, column=label)
            self._views[key] = reading.view(select, concurrent)
        return self._views[key]

    def _too_many(self, view: _View, side: _Side, request: Request) -> DataError:
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


def _of_release(frame: pd.DataFrame, release: str | None, name: str) -> pd.DataFrame:
    column = _first_of(RELEASE, frame)
    if column is not None:
        names = text(frame[column])
        place = Place.of(frame, name)
        if release is not None:
            if release not in names.present:
                raise place.missing(release, names.present, column)
            frame = frame[names.equal_to(release)]
        elif len(names.present) > 1:
            raise place.refusal(f"the table holds {len(names.present)} releases; judge each by itself", column)
    elif release is not None:
        raise Place.of(frame, name).missing("release", frame.columns)
    if frame.empty:
        raise DataError("the table has no rows", file=name)
    return frame


def _checked_by(by: tuple[str, ...], table: Table) -> tuple[str, ...]:
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


def _block_end(moment: float, block: float) -> float:
    return float(np.ceil((moment - _STEP) / block) * block)


def _exposed_at(table: Table) -> float | None:
    column = _first_of(EXPOSED_AT, table.frame)
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


# --- how rules find their rows ---------------------------------------------------------------------------------------


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
class _Reader:
    """What is the same for all rules of a table; `read` finds and checks what one rule counts."""

    table: Table
    by: tuple[str, ...]
    drop: bool
    per_second: float
    named: frozenset[str]

    def read(self, rule: Rule) -> _Reading:
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
        columns = sorted({*self.label_columns, "metric", "le"})
        return repeated(*self.table.key(columns, *self.table.instants))

    def _read_gauge(self, rule: Rule) -> _Reading:
        found = self._find(rule, rule.events)
        found.numbers.check(found.rows, self.table.place, whole=False, negative=True)
        self._refuse_repeats(found.rows)
        split = self._split(rule, direct=found.direct)
        return self._reading(np.flatnonzero(found.rows), split, found.numbers.values, None)

    def _read_counts(self, rule: Rule) -> _Reading:
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
        return self._reading(rows, split._replace(notes=split.notes + notes), part, whole)

    def _read_latency(self, rule: Rule) -> _Reading:
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

    def _read_durations(self, rule: Rule, found: _Found) -> _Reading:
        found.numbers.check(found.rows, self.table.place, whole=False)
        split = self._split(rule, direct=found.direct)
        kept, notes = self._without_missing([found], np.arange(len(found.rows)))
        split = split._replace(notes=split.notes + notes)
        return self._reading(np.flatnonzero(found.rows & kept), split, found.numbers.values / self.per_second, None)

    def _read_buckets(self, rule: Rule, found: _Found) -> _Reading:
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
        wanted = self.by or rule.by
        notes = tuple(
            f"rule {rule.name}: there is no column {c}, so streams are not told apart by it"
            for c in wanted
            if c not in present
        )
        if wanted:
            chosen = [c for c in wanted if c in present and c not in RESERVED]
        else:
            selectors = [s for s in (rule.events, rule.total) if s is not None]
            taken = {m.label for s in selectors for m in s.matchers} | {s.metric for s in selectors}
            taken |= {unit, rule.unit or "", rule.signature or ""} | RESERVED
            chosen = [
                c for c in self.label_columns if c not in taken and (c == "feature" or is_text(self.table.frame[c]))
            ]
        # One column that holds several metrics: each is a stream.
        if direct and "metric" in present:
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
                self.table.place.refuse_first(missing, name, lambda _: no_count())
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
        self, rows: NDArray[np.int64], split: _Split, events: Floats, total: Floats | None, edges: Floats | None = None
    ) -> _Reading:
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
        return _Reading(
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
        )


def _dropped(count: int, column: str) -> str:
    return f"dropped {count} row{'s' if count != 1 else ''} without a number in column {column}"


def _time_order(stamps: NDArray[np.int64], moments: int) -> NDArray[np.int64] | None:
    """Return the order that sorts rows by time, or None when they are."""
    if (stamps[1:] >= stamps[:-1]).all():
        return None
    # numpy sorts 16-bit integers by radix, ten times as fast.
    return np.argsort(stamps.astype(np.uint16) if moments < 2**16 else stamps, kind="stable")


# --- counting --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Side:
    """The rows of one arm, sorted by time. `events` has shape [row], or [row, edge] for buckets."""

    times: Floats
    stream: Codes
    unit: Codes
    units: tuple[str, ...]
    events: Floats
    total: Floats | None

    def within(self, start: float, end: float) -> slice:
        """Return the rows of the blocks that end in (start, end]."""
        first, last = np.searchsorted(self.times, (start + _STEP, end + _STEP), side="right")
        return slice(int(first), int(last))


@dataclass(frozen=True)
class _View:
    """The arms of a reading under one selection, on the same streams."""

    streams: tuple[Labels, ...]
    treatment: _Side
    baseline: _Side
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Reading:
    """What one rule counts, checked and sorted by time: durations, measurements, counts or buckets by row."""

    times: Floats
    arm: NDArray[np.int8]
    stream: Codes
    streams: tuple[Labels, ...]
    unit: Text
    labels: Mapping[str, Text]
    other_columns: frozenset[str]
    events: Floats
    total: Floats | None
    edges: Floats | None
    split_by: tuple[str, ...]
    notes: tuple[str, ...]

    def view(self, select: Labels, concurrent: bool) -> _View:
        """Pick the rows of both arms, and the streams that occur in them."""
        selected = np.ones(len(self.times), dtype=bool)
        for label, value in select:
            if label in self.labels:
                selected &= self.labels[label].equal_to(value)
        notes: tuple[str, ...] = ()
        if concurrent:
            treatment, baseline = selected & (self.arm == TREATMENT), selected & (self.arm == BASELINE)
        else:
            treatment, baseline = selected & (self.arm == WHOLE), np.zeros_like(selected)
            if selected.any() and not treatment.any():
                treatment, notes = selected, ("no row is about the whole service: both arms were counted together",)
        used = np.bincount(self.stream[treatment | baseline], minlength=len(self.streams)) > 0
        place = np.cumsum(used) - 1
        streams = tuple(stream for stream, is_used in zip(self.streams, used, strict=True) if is_used)
        return _View(streams, self._side(treatment, place), self._side(baseline, place), notes)

    def _side(self, rows: Mask, place: Codes) -> _Side:
        unit = replace(self.unit, codes=self.unit.codes[rows])
        seen = np.flatnonzero(np.bincount(unit.codes, minlength=len(unit.values)))
        order = sorted(seen.tolist(), key=unit.values.__getitem__)
        rank = np.zeros(len(unit.values), dtype=np.int32)
        rank[order] = np.arange(len(order))
        units = tuple(unit.values[code] for code in order) or ("",)
        total = None if self.total is None else self.total[rows]
        return _Side(self.times[rows], place[self.stream[rows]], rank[unit.codes], units, self.events[rows], total)


def _edge_of(rule: Rule, reading: _Reading, name: str) -> int | None:
    """Return which bucket edge is the objective; None for raw durations."""
    if rule.objective is None:
        raise DataError(f"latency rule {rule.name!r} has no objective, so nothing says what is slow", file=name)
    if reading.edges is None:
        return None
    same = np.isclose(reading.edges, rule.objective, rtol=1e-9, atol=0.0)
    if not same.any() and len(reading.edges):
        edges = ", ".join(f"{edge:g}" for edge in reading.edges[:-1])
        raise DataError(
            f"objective {rule.objective:g} s of rule {rule.name!r} is not a bucket edge; edges in seconds: {edges}",
            file=name,
            column="le",
        )
    return int(np.argmax(same)) if len(same) else 0


def _counted(side: _Side, streams: int, request: Request, rule: Rule, edge: int | None) -> Arm:
    """Scatter the rows of the blocks asked for onto [stream, unit, block]."""
    rows = side.within(request.start, request.end)
    shape = (streams, len(side.units), len(request.ends))
    block = np.ceil((side.times[rows] - request.start - _STEP) / request.block).astype(np.int64) - 1
    cell = (side.stream[rows].astype(np.int64) * shape[1] + side.unit[rows]) * shape[2] + block
    values = side.events[rows]

    def summed(weights: Floats | Mask | None) -> Floats:
        return np.bincount(cell, weights=weights, minlength=int(np.prod(shape))).astype(np.float64).reshape(shape)

    if rule.kind == Kind.GAUGE:
        measured = ~np.isnan(values)
        times = summed(measured)
        with np.errstate(invalid="ignore"):
            return Arm(side.units, summed(np.where(measured, values, 0.0)) / times, (times > 0).astype(np.float64))
    if rule.kind == Kind.LATENCY and edge is not None:
        everything = values[:, -1] if values.shape[1] else np.empty(0)
        faster = values[:, edge] if values.shape[1] else np.empty(0)
        return Arm(side.units, summed(everything - faster), summed(everything))
    if rule.kind == Kind.LATENCY:
        assert rule.objective is not None
        return Arm(side.units, summed(values > rule.objective), summed(None))
    assert side.total is not None
    return Arm(side.units, summed(values), summed(side.total[rows]))

"""One comparison, now: the daemon's look over all blocks at once, for files, notebooks, CI and Prometheus."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from watcher import reasons
from watcher.calibration import calibrate
from watcher.comparison import EvidenceState, fold
from watcher.config import load_rules, parse_duration, parse_margin, parse_moment, rule_pack_path
from watcher.errors import DataError, SourceError
from watcher.judge import ORDER, judge
from watcher.look import Source, look, prepare, read_history, request, rng
from watcher.model import (
    Alpha,
    Arm,
    Calibration,
    Design,
    Kind,
    Look,
    Observations,
    Outcome,
    Release,
    Rule,
    Selector,
    Stage,
    Strategy,
    Verdict,
    Watch,
    Worse,
    labels,
)
from watcher.report import Findings, Trace, frames, json_report
from watcher.sources.tidy import TidyTable, read_table, split_releases

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DAY = 86_400.0
UNNAMED = "<frame>"
"""What messages call a table that has no file."""

POINTS = 240
"""Points of an effect chart: as many as can be told apart."""

ARMS = (labels({"arm": "baseline"}), labels({"arm": "treatment"}))
Chart = Literal["effect", "arms", "forest"]


@dataclass(frozen=True)
class Comparison:
    """The verdict on one release, and everything it rests on. Shows itself in a notebook."""

    findings: Findings
    look: Look

    @property
    def outcome(self) -> Outcome:
        """The worst of the streams."""
        return self.findings.verdict.outcome

    @property
    def reason(self) -> str:
        """One sentence with numbers."""
        return self.findings.verdict.reason

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as `watcher compare --format json` prints it."""
        return json_report.comparison(self.findings)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per stream."""
        return frames.streams(self.findings)

    def chart(self, kind: Chart = "effect", stream: int = 0) -> Figure:
        """Draw the effect over time, both arms, or all effects against their margins.

        Args:
            kind: "effect", "arms" or "forest".
            stream: row of `to_frame()` to draw; the forest shows all.

        Raises:
            ValueError: no such chart.
        """
        # Most comparisons draw nothing, and matplotlib takes longer to import than they take.
        from watcher.report import charts

        if kind == "forest":
            return charts.forest(self.findings)
        verdict = self.findings.streams[stream]
        rule = next(rule for rule in self.findings.watch.rules if rule.name == verdict.rule)
        if kind == "arms":
            return charts.arms(self.findings, rule, verdict)
        if kind == "effect":
            return charts.effect(self.findings, rule, verdict, self.trace(rule, verdict))
        raise ValueError(f"there is no chart {kind!r}: choose effect, arms or forest")

    def trace(self, rule: Rule, verdict: Verdict) -> Trace:
        """Return effect, confidence sequence and evidence of one stream over time."""
        findings = self.findings
        calibration = findings.calibrations[rule.name].only(verdict.labels)
        seen = findings.observations[rule.name].only(verdict.labels).between(self.first, findings.end)
        edges = np.unique(np.linspace(0, seen.ends.size, min(POINTS, seen.ends.size) + 1).astype(int))
        state: EvidenceState | None = None
        points: list[tuple[float, ...]] = []
        for low, high in pairwise(edges):
            part = seen.between(seen.ends[low] - findings.watch.block, seen.ends[high - 1])
            state, evidence = fold(findings.watch, rule, part, calibration, state)
            if evidence.snapshot is None or not evidence.ends.size:
                continue
            (judged,) = judge(findings.watch, rule, evidence)
            effect = (judged.effect.estimate, judged.effect.lower, judged.effect.upper)
            values = (np.nan if x is None else x for x in effect)
            points.append((float(evidence.ends[-1]), *values, judged.log_e_regressed, judged.log_e_healthy))
        ends, estimate, lower, upper, regressed, healthy = np.array(points, dtype=float).reshape(-1, 6).T
        return Trace(ends, estimate, lower, upper, regressed, healthy, verdict.threshold)

    @property
    def first(self) -> float:
        """Start of the first block after exposure, epoch seconds."""
        watch = self.findings.watch
        return float(np.floor(watch.release.exposed_at / watch.block) * watch.block)

    def _repr_html_(self) -> str:
        from watcher.report import html

        return html.snippet(self.findings)

    def __repr__(self) -> str:
        return f"<Comparison {self.outcome.value}: {self.reason}>"


@dataclass(frozen=True)
class Comparisons(Sequence[Comparison]):
    """Several releases of one table, each judged with an alpha of its own."""

    releases: tuple[Comparison, ...]

    @property
    def outcome(self) -> Outcome:
        """The worst of the releases."""
        return min((each.outcome for each in self.releases), key=ORDER.index)

    @property
    def reason(self) -> str:
        """How many of the releases that is said of."""
        those = sum(each.outcome is self.outcome for each in self.releases)
        return f"{those} of {len(self)} releases {self.outcome.value}"

    def to_json(self) -> dict[str, Any]:
        """Return all verdicts, as `watcher compare --format json` prints them."""
        return json_report.releases([each.findings for each in self.releases])

    def to_frame(self) -> pd.DataFrame:
        """Return one row per release and stream."""
        parts = [each.to_frame().assign(release=each.findings.watch.release.feature) for each in self.releases]
        return pd.concat(parts, ignore_index=True)

    def __len__(self) -> int:
        return len(self.releases)

    def __getitem__(self, index: Any) -> Any:
        return self.releases[index]

    def __iter__(self) -> Iterator[Comparison]:
        return iter(self.releases)


def compare(
    data: pd.DataFrame | str | Path,
    *,
    ratio: str | None = None,
    rate: str | None = None,
    latency: str | None = None,
    gauge: str | None = None,
    rules: str | Path | Sequence[Rule] | None = None,
    worse: str | None = None,
    at: dt.datetime | float | str | None = None,
    by: str | Sequence[str] | None = None,
    margin: float | str | None = None,
    regress_margin: float | str = 0.0,
    alpha: float = 0.01,
    warm_up: float | str = 0.0,
    matures: float | str = 0.0,
    objective: float | str | None = None,
    unit_of_time: str = "s",
    block: float | str | None = None,
    drop_bad_rows: bool = False,
) -> Any:
    """Judge the release (or releases) in a tidy table, as the daemon would have.

    Args:
        data: a DataFrame, or the path of a CSV or Parquet file; columns as in the README.
        ratio: "bad/total" columns, one counting a part of the other.
        rate: "events/exposure" columns, counted at different moments.
        latency: a duration column, or the metric of a histogram's buckets.
        gauge: a column with one measurement per interval.
        rules: a rule pack, in place of the four above.
        worse: "higher" or "lower"; ratio and latency default to higher, rate to lower, a gauge must say.
        at: time of exposure (aware; ISO 8601 or epoch seconds); before it is history.
        by: label columns that make streams.
        margin: how much worse is tolerable: 0.5, "50%" or "0.5pp".
        regress_margin: how much worse must be proven before `regressed`.
        alpha: error rate of `regressed`, over all rules, streams and looks of a release.
        warm_up: seconds (or "5m") after exposure that do not count; likewise `matures` and `block`.
        matures: for a rate, the 99th percentile of the delay between exposure and event.
        objective: latency above which a request is slow; None: what a tenth of the baseline's first requests exceed.
        unit_of_time: of durations: s, ms, us or ns.
        block: seconds a block lasts; None: as the rows are spaced, at least 60.
        drop_bad_rows: leave out rows with missing counts instead of refusing the table.

    Returns:
        A `Comparison`; for a table with several releases, `Comparisons`.

    Raises:
        DataError: the table is wrong; the message names file, row and column.
        ConfigError: the rules are wrong.
        ValueError: an argument cannot be read: a margin, a duration, an alpha.

    Example:
        >>> import pandas as pd
        >>> minutes = pd.date_range("2026-11-20T10:00Z", periods=30, freq="1min")
        >>> arm = lambda name, errors: pd.DataFrame(
        ...     {"timestamp": minutes, "arm": name, "errors": errors, "requests": 1000})
        >>> found = compare(pd.concat([arm("baseline", 10), arm("treatment", 30)]), ratio="errors/requests")
        >>> found.outcome.value, round(found.findings.verdict.streams[0].effect.estimate, 1)
        ('regressed', 3.0)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is an error rate between 0 and 1, found {alpha!r}")
    spec = [("ratio", ratio), ("rate", rate), ("latency", latency), ("gauge", gauge)]
    wanted = _rules(spec, rules, worse, margin, regress_margin, matures, objective)
    name = UNNAMED if isinstance(data, pd.DataFrame) else str(data)
    frame = data if isinstance(data, pd.DataFrame) else read_table(data, text=_labels_named(wanted, by))
    options: dict[str, Any] = {
        "by": () if by is None else (by,) if isinstance(by, str) else tuple(by),
        "block": None if block is None else parse_duration(block),
        "unit_of_time": unit_of_time,
        "drop_bad_rows": drop_bad_rows,
        "at": None if at is None else parse_moment(at),
        "name": name,
    }
    found = [
        _compare_table(part, wanted, release, alpha, parse_duration(warm_up), options)
        for release, part in split_releases(frame, name=name)
    ]
    return found[0] if len(found) == 1 else Comparisons(tuple(found))


def _labels_named(rules: Sequence[Rule], by: str | Sequence[str] | None) -> set[str]:
    """Return the columns that are labels because somebody says so: they must not be read as numbers."""
    named = {by} if isinstance(by, str) else set(by or ())
    for rule in rules:
        named |= {*rule.by} | ({rule.unit} if rule.unit else set())
        for selector in (rule.events, rule.total):
            named |= {matcher.label for matcher in selector.matchers} if selector else set()
    return named


def _rules(
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


def _compare_table(
    frame: pd.DataFrame,
    rules: tuple[Rule, ...],
    release: str | None,
    alpha: float,
    warm_up: float,
    options: Mapping[str, Any],
) -> Comparison:
    began = time.monotonic()
    rules, left_out = _present(rules, frame)
    table = TidyTable.of(frame, rules, **options)
    exposed = options["at"] if options["at"] is not None else table.exposed_at
    if exposed is None and not table.has_arms:
        raise DataError(
            "without an arm column this is before/after: give the time of exposure (--at, at=, or a column exposed_at)",
            file=options["name"],
        )
    said = exposed is not None
    exposed = table.start if exposed is None else exposed
    file = "" if options["name"] == UNNAMED else Path(options["name"]).stem
    watch = Watch(
        release=Release("", "", release or file, "", Strategy.FLAG, (Stage(exposed),)),
        rules=rules,
        baseline=ARMS[0] if table.has_arms else None,
        treatment=ARMS[1] if table.has_arms else None,
        block=table.block,
        settle=0.0,
        warm_up=warm_up,
        horizon=max(DAY, table.end - exposed),
        history=max(0.0, exposed - table.start),
        alpha=Alpha(regressed=alpha),
    )
    watch = replace(watch, rules=tuple(_with_objective(rule, table, watch) for rule in rules))
    table = TidyTable.of(frame, watch.rules, **options) if watch.rules != rules else table
    history = read_history(watch, table)
    learnt, notes = _calibrations(watch, table, history), (*left_out, *table.notes)
    return compare_source(watch, table, table.end, history, learnt, notes, began, said)


def _present(rules: tuple[Rule, ...], frame: pd.DataFrame) -> tuple[tuple[Rule, ...], list[str]]:
    """Leave out rules that are not required and whose metric the table does not have."""
    names = {str(column) for column in frame.columns}
    if "metric" in frame:
        names |= {str(name) for name in frame["metric"].unique()}
    missing = [
        rule
        for rule in rules
        if not rule.required and any(s.metric not in names for s in (rule.events, rule.total) if s is not None)
    ]
    notes = [f"{rule.label}: not in the table, and not required, so left out" for rule in missing]
    return tuple(rule for rule in rules if rule not in missing), notes


def _with_objective(rule: Rule, table: TidyTable, watch: Watch) -> Rule:
    """Give a latency rule without an objective the one the baseline's own past suggests."""
    if rule.kind is not Kind.LATENCY or rule.objective is not None:
        return rule
    exposed = watch.release.exposed_at
    until = exposed if watch.history > 0 else table.start + (table.end - table.start) / 10
    found = table.objective_from(rule, table.start, until)
    if found is None:
        raise DataError(f"no requests to learn an objective for {rule.name} from; give one with --objective")
    return replace(rule, objective=float(f"{found:.3g}"))


def _calibrations(watch: Watch, table: TidyTable, history: Mapping[str, Observations]) -> dict[str, Calibration]:
    """Learn from the rows before exposure; where they do not suffice, from the baseline arm of the whole table."""
    learnt = prepare(watch, history, "file")
    if watch.design is Design.BEFORE_AFTER:
        return learnt
    whole = table.observe(request(watch, table.start, table.end))
    for rule in watch.rules:
        enough = learnt[rule.name].points if rule.kind is Kind.GAUGE else not learnt[rule.name].assumed
        if not enough:
            control = _control_only(whole[rule.name])
            learnt[rule.name] = calibrate(rule, watch.design, control, "file", rng(), watch.block)
    return learnt


def _control_only(seen: Observations) -> Observations:
    silent = np.zeros_like(seen.treatment.total)
    return replace(seen, treatment=Arm(seen.treatment.units, silent, silent))


def compare_source(
    watch: Watch,
    source: Source,
    now: float,
    history: Mapping[str, Observations],
    calibrations: Mapping[str, Calibration],
    warnings: Sequence[str] = (),
    began: float | None = None,
    said: bool = True,
) -> Comparison:
    """Judge a release on any source, by one look at every block closed by now.

    Args:
        watch: what to look at.
        source: read for the blocks after exposure.
        now: epoch seconds.
        history: what there was before exposure, by rule, for the reader.
        calibrations: by rule.
        warnings: what to tell the reader beside what the source notes.
        began: monotonic seconds at which work began, for `took_seconds`.
        said: whether anybody said when users were exposed; else it is the first block there is.

    Raises:
        SourceError: the source cannot be read.
    """
    began = time.monotonic() if began is None else began
    found = look(watch, source, calibrations, None, now)
    if found.problem is not None:
        raise SourceError(found.problem)
    seen = {name: history[name].then(each) for name, each in found.observations.items()} or dict(history)
    notes = [note for each in seen.values() for note in each.notes]
    assumed = reasons.assumed({rule.label: calibrations[rule.name].notes for rule in watch.rules})
    findings = Findings(
        watch=watch,
        verdict=found.verdict,
        calibrations=calibrations,
        start=watch.release.exposed_at - watch.history,
        end=found.through,
        blocks=found.blocks,
        took_seconds=time.monotonic() - began,
        warnings=tuple(dict.fromkeys([*warnings, *notes, *assumed])),
        exposed_at=watch.release.exposed_at if said else None,
        observations=seen,
    )
    return Comparison(findings, found)

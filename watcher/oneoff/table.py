"""`watcher.compare`, and `watcher compare FILE`: the look over all blocks of a tidy table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from watcher.calibration import calibrate
from watcher.config import parse_duration, parse_moment
from watcher.errors import DataError
from watcher.look import prepare, read_history, request, rng
from watcher.model import (
    Alpha,
    Arm,
    Calibration,
    Design,
    Kind,
    Observations,
    Release,
    Rule,
    Stage,
    Strategy,
    Watch,
    labels,
)
from watcher.oneoff.asked import asked_rules, labels_named
from watcher.oneoff.found import Comparison, Comparisons, compare_source
from watcher.sources.tidy import TidyTable, read_table, split_releases

DAY = 86_400.0
UNNAMED = "<frame>"
"""What messages call a table that has no file."""

ARMS = (labels({"arm": "baseline"}), labels({"arm": "treatment"}))


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
    wanted = asked_rules(spec, rules, worse, margin, regress_margin, matures, objective)
    name = UNNAMED if isinstance(data, pd.DataFrame) else str(data)
    frame = data if isinstance(data, pd.DataFrame) else read_table(data, text=labels_named(wanted, by))
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


def _compare_table(
    frame: pd.DataFrame,
    rules: tuple[Rule, ...],
    release: str | None,
    alpha: float,
    warm_up: float,
    options: Mapping[str, Any],
) -> Comparison:
    began = time.monotonic()
    rules, left_out = present(rules, frame)
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
    watch = replace(watch, rules=tuple(with_objective(rule, table, watch) for rule in rules))
    table = TidyTable.of(frame, watch.rules, **options) if watch.rules != rules else table
    history = read_history(watch, table)
    learnt, notes = _calibrations(watch, table, history), (*left_out, *table.notes)
    return compare_source(watch, table, table.end, history, learnt, notes, began, said)


def present(rules: tuple[Rule, ...], frame: pd.DataFrame) -> tuple[tuple[Rule, ...], list[str]]:
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


def with_objective(rule: Rule, table: TidyTable, watch: Watch) -> Rule:
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
            learnt[rule.name] = calibrate(rule, watch, control, "file", rng())
    return learnt


def _control_only(seen: Observations) -> Observations:
    silent = np.zeros_like(seen.treatment.total)
    return replace(seen, treatment=Arm(seen.treatment.units, silent, silent))

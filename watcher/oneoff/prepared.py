"""A release in a table, ready to be looked at: what `watcher compare FILE` and `watcher backtest FILE` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from watcher.calibration import calibrate
from watcher.errors import DataError
from watcher.look import Source, prepare, read_history, request, rng
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
from watcher.oneoff.asked import Usual
from watcher.sources.tidy import TidyTable

DAY = 86_400.0
HORIZON = 2 * 3600.0
"""Seconds a release without a control is watched for, at least: harm comes soon, and more dilutes the past."""

NOTHING_SAID = Usual()

UNNAMED = "<frame>"
"""What messages call a table that has no file."""

ARMS = (labels({"arm": "baseline"}), labels({"arm": "treatment"}))


@dataclass(frozen=True)
class Reading:
    """A table read for some rules; `notes` say what was left out of it."""

    table: TidyTable
    rules: tuple[Rule, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, frame: pd.DataFrame, rules: tuple[Rule, ...], options: Mapping[str, Any]) -> Reading:
        """Read a table for the rules it has the metrics of.

        Args:
            frame: the rows of one release.
            rules: as asked for.
            options: of `TidyTable.of`.

        Raises:
            DataError: the table is wrong.
        """
        rules, left_out = present(rules, frame)
        table = TidyTable.of(frame, rules, **options)
        return cls(table, rules, (*left_out, *table.notes))


@dataclass(frozen=True)
class Prepared:
    """A past release before its first look: what is frozen at exposure, and what is looked at.

    `until` is the end of what may be seen, epoch seconds; `said` tells whether anybody said when users were exposed.
    """

    watch: Watch
    source: Source
    history: Mapping[str, Observations]
    calibrations: Mapping[str, Calibration]
    until: float
    said: bool
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        reading: Reading,
        release: str | None,
        *,
        alpha: Alpha,
        warm_up: float,
        at: float | None = None,
        usual: Usual = NOTHING_SAID,
        horizon: float | None = None,
    ) -> Prepared:
        """Learn what there is to learn before exposure.

        Args:
            reading: the table.
            release: its name; None: that of the file.
            alpha: error rates of either design.
            warm_up: seconds after exposure that do not count.
            usual: the days users live by, and stretches that were not usual.
            at: when users were exposed; None: what the table says, or its start where there are arms.
            horizon: seconds after exposure that may be seen; None: all there are.

        Raises:
            DataError: nothing says when users were exposed and there are no arms, or there is no objective to learn.
        """
        table, rules = reading.table, reading.rules
        exposed = table.exposed_at if at is None else at
        if exposed is None and not table.has_arms:
            problem = "without an arm column this is before/after: give the time of exposure (--at, at=, or a column"
            raise DataError(f"{problem} exposed_at)", file=table.name)
        said = exposed is not None
        exposed = table.start if exposed is None else exposed
        until = table.end if horizon is None else min(table.end, exposed + horizon)
        file = "" if table.name == UNNAMED else Path(table.name).stem
        watch = Watch(
            release=Release("", "", release or file, "", Strategy.FLAG, (Stage(exposed),)),
            rules=rules,
            baseline=ARMS[0] if table.has_arms else None,
            treatment=ARMS[1] if table.has_arms else None,
            block=table.block,
            settle=0.0,
            warm_up=warm_up,
            horizon=max(DAY if table.has_arms else HORIZON, until - exposed) if horizon is None else horizon,
            history=max(0.0, exposed - table.start),
            zone=usual.zone,
            excluded=usual.excluded,
            alpha=alpha,
        )
        watch = replace(watch, rules=tuple(with_objective(rule, table, watch, until) for rule in rules))
        history = read_history(watch, table)
        return cls(watch, table, history, _calibrations(watch, table, history, until), until, said, reading.notes)


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


def with_objective(rule: Rule, table: TidyTable, watch: Watch, until: float) -> Rule:
    """Give a latency rule without an objective the one the baseline's own past suggests.

    Without a past, the first tenth of what there is until then does.
    """
    if rule.kind is not Kind.LATENCY or rule.objective is not None:
        return rule
    end = watch.release.exposed_at if watch.history > 0 else table.start + (until - table.start) / 10
    found = table.objective_from(rule, table.start, end)
    if found is None:
        raise DataError(f"no requests to learn an objective for {rule.name} from; give one with --objective")
    return replace(rule, objective=float(f"{found:.3g}"))


def _calibrations(
    watch: Watch, table: TidyTable, history: Mapping[str, Observations], until: float
) -> dict[str, Calibration]:
    """Learn from the rows before exposure; where they do not suffice, from the baseline arm of all rows until then."""
    learnt = prepare(watch, history, "file")
    if watch.design is Design.BEFORE_AFTER:
        return learnt
    poor = [rule for rule in watch.rules if not _enough(rule, learnt[rule.name])]
    if not poor:
        return learnt
    end = float(np.floor(until / watch.block + 1e-9) * watch.block)
    whole = table.observe(replace(request(watch, table.start, end), rules=tuple(poor)))
    for rule in poor:
        control = _control_only(whole[rule.name])
        learnt[rule.name] = calibrate(rule, watch, control, "file", rng())
    return learnt


def _enough(rule: Rule, learnt: Calibration) -> bool:
    return learnt.points > 0 if rule.kind is Kind.GAUGE else not learnt.assumed


def _control_only(seen: Observations) -> Observations:
    silent = np.zeros_like(seen.treatment.total)
    return replace(seen, treatment=Arm(seen.treatment.units, silent, silent))


def table_options(
    name: str,
    by: str | Sequence[str] | None,
    block: float | None,
    unit_of_time: str,
    drop_bad_rows: bool,
) -> dict[str, Any]:
    """Return how the rows of a table are read, as `TidyTable.of` takes it."""
    return {
        "by": by,
        "block": block,
        "unit_of_time": unit_of_time,
        "drop_bad_rows": drop_bad_rows,
        "name": name,
    }

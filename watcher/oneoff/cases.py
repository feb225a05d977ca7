"""Which past releases a table holds: its own, or placebos where it knows of none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from watcher.calibration.series import FEWEST_POINTS
from watcher.errors import DataError, WatcherError
from watcher.model import Alpha, Rule, Worse
from watcher.oneoff.asked import Asked, Usual
from watcher.oneoff.found import Comparison
from watcher.oneoff.prepared import DAY, NOTHING_SAID, UNNAMED, Prepared, Reading
from watcher.oneoff.replay import Case, replayed
from watcher.oneoff.table import compare_prepared
from watcher.report.json_report import iso
from watcher.report.past import ERROR, FINE, LABELS, PastRelease
from watcher.sources.tidy import said_of_release, split_releases

HISTORY = 3 * DAY
"""History a placebo release should have before it: enough for a daily season, and half of the table at most."""

MOST_PLACEBOS = 500

UNTOLD = ("nobody says when anything was released (--at): if something was, its harm counts as a false alarm",)


@dataclass(frozen=True)
class Part:
    """The rows of one release, and the rules for them."""

    release: str | None
    frame: pd.DataFrame
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Task:
    """One release to look at: which part of the table, and, of a placebo, when it is taken to have been exposed."""

    part: int
    at: float | None = None


@dataclass(frozen=True)
class Cases:
    """All past releases of a table, each to be judged by itself.

    `options` are those of `TidyTable.of`; `every` and `horizon` are seconds. `placebos` is the one table, read, where
    nothing was released at the times of the tasks; else None.
    """

    parts: tuple[Part, ...]
    tasks: tuple[Task, ...]
    alpha: Alpha
    warm_up: float
    every: float
    horizon: float
    options: Mapping[str, Any]
    placebos: Reading | None = None
    warnings: tuple[str, ...] = ()
    usual: Usual = NOTHING_SAID

    @property
    def name(self) -> str:
        """What the table is called; empty where it has no file."""
        return "" if self.options["name"] == UNNAMED else str(self.options["name"])

    @property
    def are_placebos(self) -> bool:
        """Whether nothing was released at the times that are judged."""
        return self.placebos is not None

    def replay(self, task: Task) -> PastRelease:
        """Return what would have been said of one release; wrong data are an outcome of their own."""
        case = Case(self._named(task))
        try:
            case = self._case(task)
            # A bound of an effect that overflows is open; nobody has to be told.
            with np.errstate(over="ignore"):
                return replayed(case, self.prepared(task), self.every)
        except WatcherError as error:
            return PastRelease(case.release, ERROR, case.label, case.group, reason=str(error))

    def compared(self, task: Task) -> Comparison:
        """Return the comparison of one release at its horizon, for its charts.

        Raises:
            DataError: its data are wrong.
        """
        with np.errstate(over="ignore"):
            return compare_prepared(self.prepared(task))

    def prepared(self, task: Task) -> Prepared:
        """Return one release before its first look.

        Raises:
            DataError: its data are wrong.
        """
        part = self.parts[task.part]
        return Prepared.of(
            self.placebos or Reading.of(part.frame, part.rules, self.options),
            self._named(task) or None,
            alpha=self.alpha,
            warm_up=self.warm_up,
            at=task.at,
            usual=self.usual,
            horizon=self.horizon,
        )

    def with_margins(self, times: float) -> Cases:
        """Return the same releases, every margin so many times as large."""

        parts = tuple(replace(part, rules=scaled(part.rules, times)) for part in self.parts)
        placebos = None if self.placebos is None else replace(self.placebos, rules=scaled(self.placebos.rules, times))
        return replace(self, parts=parts, placebos=placebos)

    def _named(self, task: Task) -> str:
        if self.placebos is not None:
            return f"placebo {iso(task.at)}"
        return self.parts[task.part].release or ""

    def _case(self, task: Task) -> Case:
        name = self._named(task)
        if self.placebos is not None:
            return Case(name, FINE)
        frame, file = self.parts[task.part].frame, str(self.options["name"])
        return Case(name, label_of(frame, file), said_of_release(frame, "group", file))


def scaled(rules: tuple[Rule, ...], times: float) -> tuple[Rule, ...]:
    """Return rules with every margin so many times as large."""
    # Nothing falls by more than all of it, and no share rises by more.
    most = [np.inf if rule.worse is Worse.HIGHER and not rule.absolute else 0.99 for rule in rules]
    return tuple(replace(rule, margin=min(rule.margin * times, top)) for rule, top in zip(rules, most, strict=True))


def label_of(frame: pd.DataFrame, name: str) -> int | None:
    """Return what a release turned out to be: 1 bad, 0 fine, None unknown.

    Raises:
        DataError: a label that is neither, or rows that contradict each other.
    """
    said = said_of_release(frame, "label", name).lower()
    if said not in LABELS:
        raise DataError(f"{said!r} is no label: 1 is bad, 0 is fine, empty is unknown", file=name, column="label")
    return LABELS[said]


def past_cases(
    frame: pd.DataFrame,
    asked: Asked,
    *,
    at: float | None,
    alpha: Alpha,
    warm_up: float,
    every: float,
    horizon: float,
    options: Mapping[str, Any],
) -> Cases:
    """Return the past releases of a table; of one that knows of no labels and of one release at most, placebos.

    Args:
        frame: the table.
        asked: the rules.
        at: when users were exposed to the one release there is.
        alpha: error rate of `regressed`.
        warm_up: seconds after exposure that do not count.
        every: seconds between looks.
        horizon: seconds after exposure that are looked at.
        options: of `TidyTable.of`.

    Raises:
        DataError: the table is wrong, or has no room for a placebo.
    """
    name = str(options["name"])
    cut = split_releases(frame, name=name)
    rules = asked.of_each([rows for _, rows in cut], name)
    parts = tuple(Part(release, rows, own) for (release, rows), own in zip(cut, rules, strict=True))
    cases = Cases(parts, tuple(map(Task, range(len(parts)))), alpha, warm_up, every, horizon, options)
    if len(parts) > 1 or label_of(parts[0].frame, name) is not None:
        if at is not None and len(parts) > 1:
            raise DataError("--at is of one release; a table with several says when each was exposed", file=name)
        return replace(cases, tasks=(Task(0, at),)) if len(parts) == 1 else cases
    reading = Reading.of(parts[0].frame, parts[0].rules, options)
    exposed = reading.table.exposed_at if at is None else at
    table = reading.table
    # Arms of which nobody says since when they differ are taken to have differed all along.
    untold = exposed is None and table.has_arms
    moments = [] if untold else placebo_moments(table.start, table.end, table.block, horizon, exposed, table.has_arms)
    if not moments:
        raise DataError(
            f"no label, and no room for placebo releases: each takes {horizon / 3600:g} h, history before it, and no "
            "release near it (a shorter --horizon needs less)",
            file=name,
        )
    tasks = tuple(Task(0, moment) for moment in moments)
    return replace(cases, tasks=tasks, placebos=reading, warnings=UNTOLD if exposed is None else ())


def placebo_moments(
    start: float, end: float, block: float, horizon: float, exposed: float | None = None, has_arms: bool = False
) -> list[float]:
    """Return times at which nothing was released, a horizon apart, as far as the data reach, from `start` to `end`.

    Each has history before it. None comes within a horizon of the real release, and, where there are arms, none after
    it: from then on the arms differ.
    """
    end = end if exposed is None or not has_arms else min(end, exposed)
    needed = max(horizon, FEWEST_POINTS * block, min(HISTORY, (end - start) / 2))
    first = np.ceil((start + needed) / block) * block
    moments = np.arange(first, end - horizon + 1e-6, horizon)
    if exposed is not None:
        moments = moments[(moments + horizon <= exposed - horizon) | (moments >= exposed + horizon)]
    if len(moments) > MOST_PLACEBOS:
        moments = moments[np.linspace(0, len(moments) - 1, MOST_PLACEBOS).round().astype(int)]
    return [float(moment) for moment in moments]

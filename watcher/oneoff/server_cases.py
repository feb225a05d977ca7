"""Which past releases a server holds, each to be judged by itself: the counterpart of `cases` for tables."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from watcher.errors import DataError, WatcherError
from watcher.look import prepare, read_history
from watcher.model import UNSETTLED, Watch
from watcher.oneoff.cases import placebo_moments, scaled
from watcher.oneoff.exposures import PastExposure
from watcher.oneoff.found import Comparison
from watcher.oneoff.kept import Horizon, Kept
from watcher.oneoff.prepared import Prepared
from watcher.oneoff.replay import Case, replayed
from watcher.oneoff.table import compare_prepared
from watcher.report.json_report import iso
from watcher.report.past import BAD, ERROR, FINE, PastRelease


class Planner(Protocol):
    """How a past release is watched."""

    def watch(self, exposure: PastExposure) -> Watch:
        """Return everything that is fixed before the first look. Raises ConfigError where something is missing."""
        ...


@dataclass(frozen=True)
class ServerCases:
    """Past releases on a server. `every` and `horizon` are seconds, `now` is when the reading ends.

    `kept` is what was read so far, `times` how many times as large as planned every margin is.
    """

    tasks: tuple[PastExposure, ...]
    planner: Planner
    kept: Kept[Any]
    now: float
    every: float
    horizon: float
    name: str
    are_placebos: bool = False
    warnings: tuple[str, ...] = ()
    times: float = 1.0

    def replay(self, task: PastExposure) -> PastRelease:
        """Return what would have been said of one release; what goes wrong with it is an outcome of its own."""
        case = Case(task.release, task.label, task.group)
        try:
            with np.errstate(over="ignore"):
                return replayed(case, self.prepared(task), self.every)
        except WatcherError as error:
            wrong = PastRelease(case.release, ERROR, case.label, case.group, exposed_at=task.exposed_at)
            return replace(wrong, reason=str(error))

    def read_ahead(self) -> None:
        """Read all that will be looked at, so that copies of this process find it; a failure is told by its release.

        As much as fits: of what is let go again, every process reads what it needs by itself.
        """
        for task in self.tasks:
            with suppress(WatcherError):
                watch = self.planner.watch(task)
                read_history(watch, self.kept)
                Horizon.of(self.kept, watch, min(task.exposed_at + self.horizon, self.now))

    def compared(self, task: PastExposure) -> Comparison:
        """Return the comparison of one release at its horizon, for its charts.

        Raises:
            WatcherError: it cannot be judged.
        """
        with np.errstate(over="ignore"):
            return compare_prepared(self.prepared(task))

    def prepared(self, task: PastExposure) -> Prepared:
        """Return one release before its first look: history by days, the horizon in one read.

        Raises:
            ConfigError: its arms cannot be told.
            DataError: it was exposed too lately for anything to be seen of it.
            SourceError: the server cannot be read.
        """
        watch = self.planner.watch(task)
        watch = replace(
            watch, rules=scaled(watch.rules, self.times), excluded=(*watch.excluded, *self._disturbed(task))
        )
        until = min(task.exposed_at + self.horizon, self.now)
        if until < task.exposed_at + watch.block + watch.settle:
            raise DataError(f"{task.release}: exposed at {iso(task.exposed_at)}, of which nothing can be seen yet")
        history = read_history(watch, self.kept)
        seen = Horizon.of(self.kept, watch, until)
        notes = dict.fromkeys(note for each in seen.held.values() for note in each.notes)
        return Prepared(watch, seen, history, prepare(watch, history), until, True, tuple(notes))

    def _disturbed(self, task: PastExposure) -> list[tuple[float, float]]:
        """Return the stretches of a release's past that earlier ones made unusual: a bad one, for as long as looked at.

        As the daemon leaves them out (see `intake.disturbed`).
        """
        earlier = [] if self.are_placebos else [each for each in self.tasks if each.exposed_at < task.exposed_at]
        lasted = [self.horizon if each.label == BAD else UNSETTLED for each in earlier]
        return [
            (each.exposed_at, min(each.exposed_at + length, task.exposed_at))
            for each, length in zip(earlier, lasted, strict=True)
        ]

    def with_margins(self, times: float) -> ServerCases:
        """Return the same releases, every margin so many times as large."""
        return replace(self, times=self.times * times)


def placebos(since: float, until: float, block: float, horizon: float) -> tuple[PastExposure, ...]:
    """Return releases at times when nothing was released.

    Raises:
        DataError: there is no room for any.
    """
    moments = placebo_moments(since, until, block, horizon)
    if not moments:
        raise DataError(
            f"no release was found, and there is no room for placebo releases: each takes {horizon / 3600:g} h and "
            "history before it (a longer --since or a shorter --horizon helps)"
        )
    return tuple(PastExposure(f"placebo {iso(moment)}", moment, FINE) for moment in moments)


def in_time(exposures: Sequence[PastExposure]) -> tuple[PastExposure, ...]:
    """Return releases in order of exposure, so that those that share history are read one after the other."""
    return tuple(sorted(exposures, key=lambda each: each.exposed_at))

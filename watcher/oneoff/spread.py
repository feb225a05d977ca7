"""Work on past releases, spread over processes: each release is judged by itself, so the order does not matter."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, Protocol, TypeVar

from watcher.errors import DataError
from watcher.oneoff.backtested import Backtest
from watcher.oneoff.found import Comparison
from watcher.report.past import ERROR, PastRelease

T = TypeVar("T")
W = TypeVar("W")

Progress = Callable[[int, int], None]
"""Told how many releases are done, and of how many."""

_MOST_NOTES = 5


class PastCases(Protocol):
    """Past releases, each to be judged by itself: those of a table (`cases`), or of a server (`server_cases`).

    `tasks` are what the methods take.
    """

    @property
    def tasks(self) -> Sequence[Any]:
        """One a release."""
        ...

    @property
    def every(self) -> float:
        """Seconds between looks."""
        ...

    @property
    def horizon(self) -> float:
        """Seconds a release is looked at."""
        ...

    @property
    def name(self) -> str:
        """Where they are from."""
        ...

    @property
    def are_placebos(self) -> bool:
        """Whether nothing was released at their times."""
        ...

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader has to know."""
        ...

    def replay(self, task: Any, /) -> PastRelease:
        """Return what would have been said of one release; what goes wrong with it is an outcome of its own."""
        ...

    def compared(self, task: Any, /) -> Comparison:
        """Return the comparison of one release at its horizon. Raises WatcherError."""
        ...

    def with_margins(self, times: float, /) -> PastCases:
        """Return the same releases, every margin so many times as large."""
        ...


_held: list[PastCases] = []
"""In a worker: the releases, which it got when it started and not with every task."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge_all(cases: PastCases, processes: int | None = None, progress: Progress | None = None) -> Backtest:
    """Judge all past releases.

    Raises:
        DataError: not one of them can be judged.
    """
    began = time.monotonic()
    rows = spread(_replay, cases, cases.tasks, processes, progress)
    wrong = [row for row in rows if row.outcome == ERROR]
    if len(wrong) == len(rows):
        more = f" (and so on, for all {len(wrong)} releases)" if len(wrong) > 1 else ""
        raise DataError(wrong[0].reason + more)
    return Backtest(
        rows=tuple(rows),
        alpha=max(row.alpha for row in rows),
        looks_every=cases.every,
        horizon=cases.horizon,
        name=cases.name,
        placebos=cases.are_placebos,
        warnings=(*cases.warnings, *_notes(rows)),
        took_seconds=time.monotonic() - began,
    )


def _replay(cases: PastCases, task: Any) -> PastRelease:
    return cases.replay(task)


def _notes(rows: Sequence[PastRelease]) -> list[str]:
    """Return what is odd about the data of several releases, each note once, the most frequent first."""
    told = Counter(note for row in rows for note in row.notes).most_common()
    said = [f"{note} ({times} releases)" if times > 1 else note for note, times in told[:_MOST_NOTES]]
    return said + ([f"and {len(told) - _MOST_NOTES} more notes on the data"] if len(told) > _MOST_NOTES else [])


def spread(
    work: Callable[[PastCases, W], T],
    cases: PastCases,
    tasks: Sequence[W],
    processes: int | None = None,
    progress: Progress | None = None,
) -> list[T]:
    """Do some work on every task, in as many processes as are worth it; return what came of it, in order.

    Args:
        work: a function of a module; it raises nothing that a person should see as one release's.
        cases: the releases.
        tasks: which of them.
        processes: None: the cores this process may use; 1: here.
        progress: told at the beginning, and whenever some are done.
    """
    if progress is not None:
        progress(0, len(tasks))
    processes = min(processes or cores(), len(tasks))
    if processes <= 1:
        return _here(work, cases, tasks, progress)
    pool = ProcessPoolExecutor(processes, mp_context=_context(), initializer=_hold, initargs=(cases,))
    try:
        futures = [pool.submit(_there, work, task) for task in tasks]
        for done, future in enumerate(as_completed(futures), 1):
            # What is no release's fault is raised at once, not when all the others are done.
            future.result()
            if progress is not None:
                progress(done, len(tasks))
        return [future.result() for future in futures]
    finally:
        # Waited for: a pool still closing when Python ends is said to have failed to.
        pool.shutdown(cancel_futures=True)


def _here(
    work: Callable[[PastCases, W], T], cases: PastCases, tasks: Sequence[W], progress: Progress | None
) -> list[T]:
    found = []
    for done, task in enumerate(tasks, 1):
        found.append(work(cases, task))
        if progress is not None:
            progress(done, len(tasks))
    return found


def _context() -> multiprocessing.context.BaseContext:
    """Return how workers start: as copies where the system can, so that nothing has to be sent to them."""
    return multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)


def _hold(cases: PastCases) -> None:
    # An interruption ends a worker at once and in silence: the parent says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _held[:] = [cases]


def _there(work: Callable[[PastCases, W], T], task: W) -> T:
    return work(_held[0], task)

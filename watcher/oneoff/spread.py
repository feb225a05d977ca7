"""Work on past releases, spread over processes: each release is judged by itself, so the order does not matter."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

from watcher.errors import DataError
from watcher.oneoff.backtested import Backtest
from watcher.oneoff.cases import Cases
from watcher.oneoff.prepared import UNNAMED
from watcher.report.past import ERROR, PastRelease

T = TypeVar("T")
W = TypeVar("W")

Progress = Callable[[int, int], None]
"""Told how many releases are done, and of how many."""

_MOST_NOTES = 5

_held: list[Cases] = []
"""In a worker: the releases, which it got when it started and not with every task."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def judge_all(cases: Cases, processes: int | None = None, progress: Progress | None = None) -> Backtest:
    """Judge all past releases of a table.

    Raises:
        DataError: not one of them can be judged.
    """
    began = time.monotonic()
    rows = spread(Cases.replay, cases, cases.tasks, processes, progress)
    wrong = [row for row in rows if row.outcome == ERROR]
    if len(wrong) == len(rows):
        more = f" (and so on, for all {len(wrong)} releases)" if len(wrong) > 1 else ""
        raise DataError(wrong[0].reason + more)
    return Backtest(
        rows=tuple(rows),
        alpha=max(row.alpha for row in rows),
        looks_every=cases.every,
        horizon=cases.horizon,
        name="" if cases.options["name"] == UNNAMED else str(cases.options["name"]),
        placebos=cases.placebos is not None,
        warnings=(*cases.warnings, *_notes(rows)),
        took_seconds=time.monotonic() - began,
    )


def _notes(rows: Sequence[PastRelease]) -> list[str]:
    """Return what is odd about the data of several releases, each note once, the most frequent first."""
    told = Counter(note for row in rows for note in row.notes).most_common()
    said = [f"{note} ({times} releases)" if times > 1 else note for note, times in told[:_MOST_NOTES]]
    return said + ([f"and {len(told) - _MOST_NOTES} more notes on the data"] if len(told) > _MOST_NOTES else [])


def spread(
    work: Callable[[Cases, W], T],
    cases: Cases,
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
        progress: told whenever some are done.
    """
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
        pool.shutdown(wait=False, cancel_futures=True)


def _here(work: Callable[[Cases, W], T], cases: Cases, tasks: Sequence[W], progress: Progress | None) -> list[T]:
    found = []
    for done, task in enumerate(tasks, 1):
        found.append(work(cases, task))
        if progress is not None:
            progress(done, len(tasks))
    return found


def _context() -> multiprocessing.context.BaseContext:
    """Return how workers start: as copies where the system can, so that nothing has to be sent to them."""
    return multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else None)


def _hold(cases: Cases) -> None:
    # An interruption ends a worker at once and in silence: the parent says what there is to say.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    _held[:] = [cases]


def _there(work: Callable[[Cases, W], T], task: W) -> T:
    return work(_held[0], task)

"""How far a long computation is, on a terminal: nothing where nobody looks, and nothing for what is soon done."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PATIENCE = 2.0
"""Seconds before a bar is shown."""


@contextmanager
def bar(what: str, console: Console | None = None) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is to be called with how many are done, and of how many; None away from a terminal.

    Until it is first called, and where it never is, the bar says that there is work, and for how long.

    Args:
        what: is done or counted, for people.
        console: where it is shown; None: on standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    began, moving = time.monotonic(), _Moving(what, console)
    # Drawn when something is done, and by no thread: processes are forked meanwhile.
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    counted = Progress(*columns, console=console, auto_refresh=False, transient=True)
    task = counted.add_task(what)

    def told(done: int, of: int) -> None:
        moving.stop()
        if time.monotonic() - began < PATIENCE:
            return
        counted.start()
        counted.update(task, completed=done, total=of, refresh=True)

    try:
        yield told
    finally:
        moving.stop()
        counted.stop()


class _Moving:
    """A bar that nobody tells anything: a thread shows it, once patience is over, and moves it."""

    def __init__(self, what: str, console: Console) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._shown = Progress(*columns, console=console, transient=True)
        self._shown.add_task(what, total=None)
        self._patience = threading.Timer(PATIENCE, self._shown.start)
        self._patience.daemon = True
        self._patience.start()

    def stop(self) -> None:
        """Take it away, and leave no thread behind."""
        self._patience.cancel()
        self._patience.join()
        self._shown.stop()

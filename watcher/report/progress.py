"""How far a long computation is, on a terminal: nothing where nobody looks, and nothing for what is soon done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PATIENCE = 2.0
"""Seconds before a bar is shown."""


@contextmanager
def bar(what: str, console: Console | None = None) -> Iterator[Callable[[int, int], None] | None]:
    """Yield what is to be called with how many are done, and of how many; None away from a terminal.

    Args:
        what: is counted, for people.
        console: where it is shown; None: on standard error.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    began, columns = time.monotonic(), (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Drawn when something is done, and by no thread: processes are forked meanwhile.
    shown = Progress(*columns, TimeRemainingColumn(), console=console, auto_refresh=False, transient=True)
    task = shown.add_task(what)

    def told(done: int, of: int) -> None:
        if time.monotonic() - began < PATIENCE:
            return
        shown.start()
        shown.update(task, completed=done, total=of, refresh=True)

    try:
        yield told
    finally:
        shown.stop()

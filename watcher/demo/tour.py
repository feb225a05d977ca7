"""`watcher demo`: says at once what will happen, then loads the rest and lets it happen."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from watcher.demo.folder import DemoFolder

WIDTH: Final = 100
"""Columns away from a terminal, and at most on one."""


def run(folder: Path | str, seed: int) -> None:
    """Show a good release proven healthy and a bad one turned off, and leave everything in a folder.

    Args:
        folder: made, or started anew where an earlier demo made it.
        seed: the same seed tells the same story.

    Raises:
        Refused: the folder holds something that no demo made.
    """
    place = DemoFolder.fresh(Path(folder))
    console = _console()
    console.print(Text("A shop opens two features to some of its users. watcher watches both.", style="bold"))
    console.print("Real: the daemon, its rules, its journal, and the kill switch on the flags file.")
    console.print("Simulated: the users and the clock. Boxes are what Slack would have shown.\n")
    # Slow to load, and somebody waits to see something.
    from watcher.demo import story

    story.tell(console, place, seed)


def _console() -> Console:
    """Return where the tour is told: no wider than can be read, and without colour away from a terminal."""
    console = Console(file=sys.stdout, highlight=False, force_jupyter=False)
    if console.is_terminal and console.width <= WIDTH:
        return console
    return Console(file=sys.stdout, highlight=False, width=WIDTH, force_jupyter=False)

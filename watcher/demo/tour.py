"""The tour: a shop opens two flags, and the real daemon watches. Only the shop's users and the clock are simulated."""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from watcher import reasons
from watcher.act import Outbox
from watcher.alerts.console import ConsoleAlerter
from watcher.config import load_installation
from watcher.daemon import FINAL, Daemon
from watcher.demo.folder import DemoFolder
from watcher.demo.shop import MINUTE, Shop, ShopSource, table
from watcher.journal import Journal
from watcher.model import Alert, Look, Outcome, Verdict, Watch
from watcher.report.terminal import COLOURS, effect_cell
from watcher.switches import switch

START: Final = dt.datetime(2026, 11, 19, 20, 30, tzinfo=dt.UTC).timestamp()
"""A Thursday evening; the first flag opens after a night, which is what watcher learns from."""

NIGHT, LONGEST = 12.5 * 3600, 22 * 3600
"""Seconds from the start to the first flag, and to the end of everything simulated."""

PROOF, HARM = 6 * 3600.0, 2 * 3600.0
"""Seconds the tour waits for the first release to be proven, and for the second to be caught."""

GOOD, GOOD_SHARE = "quick-pay", 50
BAD, BAD_SHARE, BREAKS_AFTER = "new-checkout", 20, 12
"""Percent of users; minutes from the flag's opening to the fault."""

WIDE: Final = 100


def run(folder: Path, seed: int) -> None:
    """Show a good release proven healthy and a bad one turned off, and leave everything in a folder.

    Raises:
        Refused: the folder holds something that no demo made.
    """
    place = DemoFolder.fresh(folder)
    console = Console(file=sys.stdout, highlight=False, soft_wrap=not sys.stdout.isatty())
    console = console if console.is_terminal and console.width <= WIDE else Console(file=sys.stdout, highlight=False, width=WIDE)
    _introduce(console, place)
    installation = load_installation(place.config)
    shop = Shop(place.flags, START, round(LONGEST / MINUTE), seed)
    with Journal.open(installation.journal) as journal, _quiet_log(), Live(
        console=console, transient=True, auto_refresh=False
    ) as live:
        # The clock of the outbox stands still within a step, so that a seed always tells the same story.
        outbox = Outbox(journal, switch, {"console": Told(console)}, jitter=lambda: 0.0, stopwatch=lambda: 0.0)
        tour = Tour(place, shop, console, live)
        tour.daemon = Daemon(installation, journal, ShopSource(shop), outbox, tour.looked)
        tour.play()
    _conclude(console, place, tour)

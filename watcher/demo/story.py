"""The story: a shop opens two flags, and the real daemon watches. Only the users and the clock are simulated."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from watcher.act import Outbox
from watcher.config import load_installation
from watcher.daemon import FINAL, Daemon
from watcher.demo.folder import DemoFolder
from watcher.demo.screen import Screen, Told, conclude
from watcher.demo.shop import MINUTE, Shop, ShopSource, table
from watcher.journal import Journal
from watcher.model import Outcome
from watcher.switches import switch

OPENING: Final = dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC).timestamp()
"""A Friday morning: the first flag opens."""

BEFORE, AFTER = 13 * 3600.0, 10 * 3600.0
"""Seconds simulated before, of which watcher learns, and at most after."""

GOOD, GOOD_SHARE = "quick-pay", 50
BAD, BAD_SHARE, BREAKS_AFTER = "new-checkout", 20, 12 * MINUTE
"""Percent of users; seconds from the flag's opening to the fault."""

PROOF, HARM = 7 * 3600.0, 2 * 3600.0
"""Seconds the tour waits for the first release to be proven, and for the second to be caught."""


def tell(console: Console, place: DemoFolder, seed: int) -> None:
    """Let it happen, show it, and leave tables of what was compared."""
    shop = Shop(place.flags, OPENING - BEFORE, round((BEFORE + AFTER) / MINUTE), seed)
    installation = load_installation(place.config)
    with Journal.open(installation.journal) as journal, _errors_shown(), Screen.on(console) as screen:
        # Within a step the clock stands still, so that a seed always tells the same story.
        outbox = Outbox(journal, switch, {"console": Told(screen)}, jitter=lambda: 0.0, stopwatch=lambda: 0.0)
        daemon = Daemon(installation, journal, ShopSource(shop), outbox, screen.looked)
        before = Story(place, shop, daemon, screen).play()
    for feature, (watch, _) in screen.looks.items():
        table(shop, watch, screen.compared[feature]).to_csv(place.table(feature), index=False)
    conclude(console, place, screen, before, shop.breaks)


@contextmanager
def _errors_shown() -> Iterator[None]:
    """Show what the daemon logs as an error; what it does is told by its alerts."""
    log, handler = logging.getLogger("watcher"), logging.StreamHandler(sys.stderr)
    handler.setLevel(logging.ERROR)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@dataclass
class Story:
    """What happens, a minute at a time."""

    place: DemoFolder
    shop: Shop
    daemon: Daemon
    screen: Screen

    def play(self) -> str:
        """Tell the story; return the flags file as it was with both flags open."""
        self.shop.advance(OPENING - 2 * MINUTE)
        self._until(lambda: self.shop.now >= OPENING - MINUTE, 2 * MINUTE)
        self._open(GOOD, GOOD_SHARE)
        self._until(lambda: self._outcome(GOOD) in (Outcome.HEALTHY, Outcome.REGRESSED), PROOF)
        self._until(lambda: False, 5 * MINUTE)
        self._open(BAD, BAD_SHARE)
        opened = self.place.flags.read_text(encoding="utf-8")
        self.shop.breaks[BAD] = self.shop.now + BREAKS_AFTER
        self._until(lambda: False, BREAKS_AFTER)
        self.screen.say(self.shop.now, f"{BAD} breaks for those who have it: errors, slow pages. Nobody tells watcher.")
        self._until(lambda: self._phase(BAD) in FINAL, HARM)
        return opened

    def _open(self, feature: str, percentage: int) -> None:
        """Let users come for another minute, then edit the flags file."""
        self.shop.advance(self.shop.now + MINUTE)
        self.screen.say(
            self.shop.now, f"Somebody opens {feature} to {percentage} % of users, in {self.place.flags.name}."
        )
        self.place.open_flag(feature, percentage)
        self.daemon.step(self.shop.now)

    def _until(self, done: Callable[[], bool], longest: float) -> None:
        """Let minutes pass, one step of the daemon each, until something is so, or the time (seconds) is up."""
        end = self.shop.now + longest
        while self.shop.now < end and not done():
            self.shop.advance(self.shop.now + MINUTE)
            self.daemon.step(self.shop.now)

    def _outcome(self, feature: str) -> Outcome | None:
        found = self.screen.looks.get(feature)
        return None if found is None else found[1].verdict.outcome

    def _phase(self, feature: str) -> str:
        found = self.screen.looks.get(feature)
        return "" if found is None else found[1].phase

"""The tour: a shop opens two flags, and the real daemon watches. Only the shop's users and the clock are simulated."""

from __future__ import annotations

import datetime as dt
import difflib
import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

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
from watcher.model import Alert, Look, Outcome, Watch
from watcher.report.terminal import COLOURS, effect_cell
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

WIDTH: Final = 100
"""Columns away from a terminal, and at most on one."""

EXIT_CODES = {Outcome.HEALTHY: 0, Outcome.REGRESSED: 1}


def run(folder: Path, seed: int) -> None:
    """Show a good release proven healthy and a bad one turned off, and leave everything in a folder.

    Args:
        folder: made, or started anew where an earlier demo made it.
        seed: the same seed tells the same story.

    Raises:
        Refused: the folder holds something that no demo made.
    """
    place = DemoFolder.fresh(folder)
    console = _console()
    console.print(Text("A shop opens two features to some of its users. watcher watches both.", style="bold"))
    console.print("Real: the daemon's step, rules, journal, outbox, and the kill switch on the flags file.")
    console.print("Simulated: the users, their counters and the clock. Boxes are what Slack would have shown.\n")
    shop = Shop(place.flags, OPENING - BEFORE, round((BEFORE + AFTER) / MINUTE), seed)
    installation = load_installation(place.config)
    with Journal.open(installation.journal) as journal, _errors_shown(), Screen.on(console) as screen:
        # Within a step the clock stands still, so that a seed always tells the same story.
        outbox = Outbox(journal, switch, {"console": Told()}, jitter=lambda: 0.0, stopwatch=lambda: 0.0)
        daemon = Daemon(installation, journal, ShopSource(shop), outbox, screen.looked)
        before = Tour(place, shop, daemon, screen).play()
    for feature, (watch, _) in screen.looks.items():
        table(shop, watch, screen.compared[feature]).to_csv(place.table(feature), index=False)
    _conclude(console, place, screen, before)


def _console() -> Console:
    """Return where the tour is told: no wider than can be read, and without colour away from a terminal."""
    console = Console(file=sys.stdout, highlight=False)
    if console.is_terminal and console.width <= WIDTH:
        return console
    return Console(file=sys.stdout, highlight=False, width=WIDTH)


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


class Told:
    """Shows each message once: the first of a release, which Slack would edit in place, and what comes below it."""

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Print the alert. Raises AlertError when nobody reads standard output any more."""
        if alert.kind == "headline" and headline is not None:
            return {}
        # Asked for anew each time: a live display puts itself in front of standard output.
        return ConsoleAlerter(sys.stdout).deliver(replace(alert, kind="headline"), headline)


@dataclass
class Screen:
    """What is shown while time passes, and what the last look at each release said, by feature."""

    console: Console
    live: Live | None
    looks: dict[str, tuple[Watch, Look]] = field(default_factory=dict)
    compared: dict[str, float] = field(default_factory=dict)
    """End of the last block that was compared (epoch seconds): after a kill nothing is."""

    @classmethod
    @contextmanager
    def on(cls, console: Console) -> Iterator[Screen]:
        """Open a display on a terminal; elsewhere only lines are printed."""
        if not console.is_terminal:
            yield cls(console, None)
            return
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield cls(console, live)

    def looked(self, watch: Watch, look: Look) -> None:
        """Keep a look, and show it."""
        feature = watch.release.feature
        if feature not in self.looks or self.looks[feature][1].phase == "watching":
            self.compared[feature] = look.through
        self.looks[feature] = (watch, look)
        if self.live is not None:
            self.live.update(_now(watch, look), refresh=True)

    def say(self, at: float, text: str) -> None:
        """Print what happens in the shop."""
        self.console.print(Text(f"{reasons.clock(at)}  ", style="bold").append(text, style="not bold"))


def _now(watch: Watch, look: Look) -> Table:
    """Return the present state of one release, a line a rule."""
    left = (look.at - watch.release.exposed_at) / 60
    title = Text(f"{reasons.clock(look.at)}  ", style="bold")
    title.append(f"{watch.release.feature}, {reasons.span(left)} after users were exposed", style="not bold")
    shown = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    titles = {rule.name: rule.label for rule in watch.rules}
    for stream in look.verdict.streams:
        waits = "" if stream.outcome is not Outcome.INCONCLUSIVE else reasons.waiting(stream.needs)
        outcome = Text(stream.outcome.value, style=COLOURS[stream.outcome])
        shown.add_row(f"  {titles[stream.rule]}", outcome, Text(waits, style="dim", overflow="ellipsis"))
    return shown


@dataclass
class Tour:
    """The story, a minute at a time."""

    place: DemoFolder
    shop: Shop
    daemon: Daemon
    screen: Screen

    def play(self) -> str:
        """Tell the story; return the flags file as it was with both flags open."""
        self.shop.advance(OPENING - 2 * MINUTE)
        self._until(lambda: self.shop.now >= OPENING - MINUTE, 2 * MINUTE)
        self._open(GOOD, GOOD_SHARE)
        self._until(lambda: self._outcome(GOOD) in EXIT_CODES, PROOF)
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
        """Let minutes pass, one step of the daemon each, until something is so or the time (seconds) is up."""
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


def _conclude(console: Console, place: DemoFolder, screen: Screen, before: str) -> None:
    """Print the verdicts, what became of the flags file, and how to see for oneself."""
    console.print(Text("\nWhat was decided", style="bold"))
    for watch, look in screen.looks.values():
        console.print(_decision(watch, look))
        console.print(_streams(watch, look))
    console.print(Text(f"\nWhat watcher changed in {place.flags}", style="bold"))
    after = place.flags.read_text(encoding="utf-8")
    for line in list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2))[3:]:
        console.print(Text(f"  {line}", style={"-": "red", "+": "green"}.get(line[:1], "")), soft_wrap=True)
    console.print(Text("\nJudge the same numbers yourself: the same outcomes at the same minutes", style="bold"))
    for feature, (_, look) in screen.looks.items():
        code = EXIT_CODES.get(look.verdict.outcome, 3)
        console.print(Text(f"  {compare_command(place, feature)}  # exit {code}"), soft_wrap=True)
    console.print(
        Text(f"\nEverything is in {place.path}: watcher.yaml, config, rules, data, the journal", style="bold")
    )
    history = shlex.join(["watcher", "history", "--actions", "--config", str(place.config)])
    console.print(Text(f"  {history}  # what was done and refused"), soft_wrap=True)


def compare_command(place: DemoFolder, feature: str) -> str:
    """Return the command that judges the table of a release as the daemon did."""
    words = ["watcher", "compare", str(place.table(feature)), "--rules", str(place.rules), "--warm-up", "5m"]
    return shlex.join(words)


def _decision(watch: Watch, look: Look) -> Text:
    """Return what became of a release, and when."""
    outcome, exposed = look.verdict.outcome, watch.release.exposed_at
    counting = {rule.name for rule in watch.rules if rule.required or outcome is Outcome.REGRESSED}
    decisive = [s for s in look.verdict.streams if s.outcome is outcome and s.rule in counting]
    times = [s.decided_at for s in decisive if s.decided_at is not None]
    said = Text(f"{watch.release.feature} ", style="bold").append(outcome.value.upper(), style=COLOURS[outcome])
    if times:
        # The first harm decides, and the last proof.
        at = max(times) if outcome is Outcome.HEALTHY else min(times)
        said.append(f" {reasons.clock(at)}, {reasons.span((at - exposed) / 60)} after users were exposed", "not bold")
    if look.killed_at is not None:
        said.append(f"; turned off {reasons.clock(look.killed_at)}, {look.phase}", "not bold")
    return said


def _streams(watch: Watch, look: Look) -> Table:
    """Return a line for each rule of a release."""
    shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading, width in (("  rule", 30), ("outcome", 12), ("effect (interval)", 24), ("decided", 0)):
        shown.add_column(heading, min_width=width, no_wrap=True)
    titles = {rule.name: rule.label for rule in watch.rules}
    for stream in look.verdict.streams:
        decided = "-" if stream.decided_at is None else reasons.clock(stream.decided_at)
        outcome = Text(stream.outcome.value, style=COLOURS[stream.outcome])
        shown.add_row(f"  {titles[stream.rule]}", outcome, Text(effect_cell(stream.effect)), decided)
    return shown

"""What the tour shows: the present state of a release while time passes, messages in boxes, and what it all came to."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from watcher import reasons
from watcher.alerts.console import ConsoleAlerter
from watcher.demo.folder import DemoFolder
from watcher.model import Alert, Look, Outcome, Watch
from watcher.report.terminal import COLOURS, effect_cell

EXIT_CODES = {Outcome.HEALTHY: 0, Outcome.REGRESSED: 1}


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
        screen = cls(console, _display(console) if console.is_terminal else None)
        try:
            yield screen
        finally:
            if screen.live is not None:
                screen.live.stop()

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the display away while something else prints; a new one opens below it."""
        if self.live is None:
            yield
            return
        self.live.stop()
        try:
            yield
        finally:
            self.live = _display(self.console)

    def looked(self, watch: Watch, look: Look) -> None:
        """Keep a look, and show how the newest release stands."""
        feature = watch.release.feature
        if feature not in self.looks or self.looks[feature][1].phase == "watching":
            self.compared[feature] = look.through
        self.looks[feature] = (watch, look)
        if self.live is not None:
            self.live.start()
            newest = max(self.looks.values(), key=lambda each: each[0].release.exposed_at)
            self.live.update(_now(*newest), refresh=True)

    def say(self, at: float, text: str) -> None:
        """Print what happens in the shop."""
        with self.aside():
            self.console.print(Text(f"{reasons.clock(at)}  ", style="bold").append(text, style="not bold"))


def _display(console: Console) -> Live:
    return Live(console=console, transient=True, auto_refresh=False)


def _now(watch: Watch, look: Look) -> Group:
    """Return the present state of one release, a line a rule."""
    exposed = (look.at - watch.release.exposed_at) / 60
    title = Text(f"{reasons.clock(look.at)}  ", style="bold")
    title.append(f"{watch.release.feature}, {reasons.span(exposed)} after users were exposed", style="not bold")
    shown = Table(box=None, show_header=False, pad_edge=False)
    for width in (30, 12, 0):
        shown.add_column(min_width=width, no_wrap=True)
    titles = {rule.name: rule.label for rule in watch.rules}
    for stream in look.verdict.streams:
        minutes = None if stream.needs is None else stream.needs.minutes
        outcome = Text(stream.outcome.value, style=COLOURS[stream.outcome])
        waits = "" if minutes is None else f"about {reasons.span(minutes)} more"
        shown.add_row(f"  {titles[stream.rule]}", outcome, Text(waits, style="dim"))
    return Group(title, shown)


@dataclass(frozen=True)
class Told:
    """Shows each message once: the first of a release, which Slack would edit in place, and what comes below it."""

    screen: Screen

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Print the alert. Raises AlertError when nobody reads standard output any more."""
        if alert.kind == "headline" and headline is not None:
            return {}
        with self.screen.aside():
            return ConsoleAlerter(sys.stdout).deliver(replace(alert, kind="headline"), headline)


def conclude(console: Console, place: DemoFolder, screen: Screen, before: str, breaks: Mapping[str, float]) -> None:
    """Print the verdicts, what became of the flags file, and how to see for oneself.

    Args:
        before: the flags file as people left it.
        breaks: when features broke (epoch seconds), by name.
    """
    console.print(Text("\nWhat was decided", style="bold"))
    for watch, look in screen.looks.values():
        console.print(_decision(watch, look, breaks.get(watch.release.feature)))
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


def _decision(watch: Watch, look: Look, broke: float | None) -> Text:
    """Return what became of a release, and when."""
    outcome, exposed = look.verdict.outcome, watch.release.exposed_at
    counting = {rule.name for rule in watch.rules if rule.required or outcome is Outcome.REGRESSED}
    decisive = [s for s in look.verdict.streams if s.outcome is outcome and s.rule in counting]
    times = [s.decided_at for s in decisive if s.decided_at is not None]
    said = Text(f"{watch.release.feature} ", style="bold").append(outcome.value.upper(), style=COLOURS[outcome])
    if times:
        # The first harm decides, and the last proof.
        at = max(times) if outcome is Outcome.HEALTHY else min(times)
        since, what = (exposed, "users were exposed") if broke is None else (broke, "it broke")
        said.append(f" {reasons.clock(at)}, {reasons.span((at - since) / 60)} after {what}", "not bold")
    if look.killed_at is not None:
        said.append(f"; turned off {reasons.clock(look.killed_at)}, {look.phase}", "not bold")
    return said


def _streams(watch: Watch, look: Look) -> Table:
    """Return a line for each rule of a release."""
    shown = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for heading, width in (("  rule", 30), ("outcome", 12), ("effect (interval)", 24), ("decided UTC", 0)):
        shown.add_column(heading, min_width=width, no_wrap=True)
    titles = {rule.name: rule.label for rule in watch.rules}
    for stream in look.verdict.streams:
        decided = "-" if stream.decided_at is None else reasons.clock(stream.decided_at).removesuffix(" UTC")
        outcome = Text(stream.outcome.value, style=COLOURS[stream.outcome])
        shown.add_row(f"  {titles[stream.rule]}", outcome, Text(effect_cell(stream.effect)), decided)
    return shown

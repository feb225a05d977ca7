"""Commands that follow a release until it is decided, or its watch is over."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from watcher.cli.answers import exit_code, formatted, write_report
from watcher.options import CONFIG, FORMATS, REPORT, quantity

if TYPE_CHECKING:
    from rich.console import Console

    from watcher.model import Look

OFTEN = 1.0
"""Seconds between two looks into the journal."""


def _ids(context: click.Context, _: click.Parameter, begun: str) -> list[str]:
    """Return releases to choose from, the latest first: those of watcher.yaml's journal, where there is one."""
    from watcher import assembly
    from watcher.errors import WatcherError

    try:
        return [each for each in assembly.release_ids(context.params.get("config") or "watcher.yaml") if begun in each]
    except WatcherError:
        return []


RELEASE = click.argument("release", metavar="RELEASE", shell_complete=_ids)


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands, options and releases.

    \b
    bash: eval "$(watcher completion bash)"           in ~/.bashrc
    zsh:  eval "$(watcher completion zsh)"            in ~/.zshrc
    fish: watcher completion fish | source            in ~/.config/fish/config.fish
    """
    from click.shell_completion import get_completion_class

    root, made = click.get_current_context().find_root(), get_completion_class(shell)
    assert made is not None
    click.echo(made(root.command, {}, "watcher", "_WATCHER_COMPLETE").source())


@click.command()
@CONFIG
@RELEASE
@quantity("--timeout", "duration", default="30m", show_default=True, help="How long to wait.")
def wait(config: str, release: str, timeout: str) -> None:
    """Wait until RELEASE is decided: exit 0 healthy, 1 regressed, 3 not decided in time.

    RELEASE is an id, or the name of a feature: then of the newest release of it that is being watched, or of the next
    one, so that a pipeline may wait for what it has just begun.
    """
    from watcher import assembly, following
    from watcher.config import parse_duration
    from watcher.report import live

    until, seen, said = time.monotonic() + parse_duration(timeout), following.Sight(), None

    def rest() -> bool:
        left = until - time.monotonic()
        time.sleep(max(min(OFTEN, left), 0.0))
        return left <= 0

    for seen in assembly.follow(config, release, rest):
        if seen.watched is None:
            click.echo(f"{release}: no such release is being watched yet", err=True)
        elif seen.look is not None and (seen.look.verdict.outcome, seen.look.phase) != said:
            said = seen.look.verdict.outcome, seen.look.phase
            click.echo(f"{_clock(seen.look)} {live.line(seen.look)}", err=not seen.decided)
        if seen.decided:
            break
    if not seen.decided:
        over = "its watch is over" if seen.over else f"not decided within {timeout}"
        click.echo(f"{release}: {over}", err=True)
    outcome = "inconclusive" if seen.look is None else seen.look.verdict.outcome.value
    raise click.exceptions.Exit(exit_code(outcome, "inconclusive"))


@click.command()
@CONFIG
@RELEASE
def watch(config: str, release: str) -> None:
    """Watch RELEASE being watched, until that is over: how far each rule is, and what was done.

    RELEASE is an id, or the name of a feature: then of the newest release of it that is being watched, or of the next
    one.
    """
    from contextlib import suppress

    from rich.console import Console

    console = Console()
    # To look away is no failure.
    with suppress(KeyboardInterrupt):
        (_shown if console.is_terminal else _printed)(config, release, console)


@click.command()
@CONFIG
@RELEASE
@click.argument("rule", metavar="[RULE]", required=False)
@click.option("--format", type=click.Choice(FORMATS), default="table", show_default=True, help="As `compare`.")
@REPORT
def explain(config: str, release: str, rule: str | None, report: str | None, **given: str) -> None:
    """Show what the daemon found of RELEASE, of one RULE or of all, and everything that rests on, from the journal."""
    from watcher import assembly
    from watcher.errors import Refused
    from watcher.report.progress import bar

    with bar("judging again"):
        found = assembly.comparison(config, release)
    if rule is not None:
        own = tuple(each for each in found.findings.verdict.streams if each.rule == rule)
        if not own:
            there = ", ".join(sorted({each.rule for each in found.findings.verdict.streams}))
            raise Refused(f"{release} has no rule {rule!r}; it has: {there or 'none yet'}")
        found = replace(found, findings=replace(found.findings, verdict=replace(found.findings.verdict, streams=own)))
    if report:
        write_report(report, found, assembly.beside(config, found.look))
    click.echo(formatted(found, given["format"], explain=True, plain=False), nl=False)


def _shown(config: str, release: str, console: Console) -> None:
    """Show the present state, for as long as there is a next one."""
    from rich.live import Live
    from rich.text import Text

    from watcher import assembly, reasons
    from watcher.report import live

    with Live(Text(f"waiting for {release}"), console=console, auto_refresh=False) as shown:
        for seen in assembly.follow(config, release, _rest):
            if seen.watched is not None and seen.look is not None:
                done = [f"{reasons.clock(each.at)} {each.said}" for each in seen.done if each.what != "told"]
                view = live.view(seen.watched.watch, seen.look, done, console.width, console.height)
                shown.update(view, refresh=True)


def _printed(config: str, release: str, _: Console) -> None:
    """Print a line for each look at which something changed."""
    from watcher import assembly
    from watcher.report import live

    said = None
    for seen in assembly.follow(config, release, _rest):
        if seen.watched is None:
            click.echo(f"{release}: no such release is being watched yet", err=True)
        elif seen.look is not None and (told := live.line(seen.look)) != said:
            said = told
            click.echo(f"{_clock(seen.look)} {told}")


def _rest() -> bool:
    time.sleep(OFTEN)
    return False


def _clock(look: Look) -> str:
    from watcher import reasons

    return reasons.clock(look.at)

"""Commands on kill switches, by hand: a drill that anyone can run before it is needed."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.installation import user
from watcher.options import CONFIG, FORMAT, options

if TYPE_CHECKING:
    from watcher.drill import PastKill, Reading, Status, TurnedOff

WHICH = options(
    CONFIG,
    click.option("--service", metavar="NAME", help="Whose flag, where several services have one of that name."),
    click.option(
        "--strategy", type=click.Choice(["flag", "canary", "blue_green"]), help="Where a service has several."
    ),
    click.option("--previous", metavar="VERSION", help="What {previous} stands for. [default: the latest release's]"),
    click.option("--version", metavar="VERSION", help="What {version} stands for. [default: the latest release's]"),
)


@click.group()
def flags() -> None:
    """See what the kill switches say, rehearse a kill, and turn a flag off by hand."""


@flags.command("list")
@CONFIG
@FORMAT
def flags_list(config: str, form: str) -> None:
    """List the flags that watcher.yaml can turn off, and what their switches say now."""
    from watcher import drill
    from watcher.report.progress import bar

    with bar("asking"), drill.opened(config) as (known, _):
        found = drill.read_all(known)
    if form == "json":
        _print_json({"schema": "watcher/flags/1", "flags": [each.to_json() for each in found]})
        return
    if not found:
        click.echo("nothing can be turned off: no release in watcher.yaml has a `kill`")
        return
    _print_aligned([("flag", "service", "strategy", "switch", "state", "share", "says"), *map(_row, found)])


def _row(reading: Reading) -> Sequence[str]:
    flag, state = reading.flag, reading.state
    place = f"{flag.service.name}/{flag.service.environment}"
    says = f"error: {reading.problem}" if state is None else state.shown
    on, share = ("?", "-") if state is None else ("on" if state.on else "off", _share(state.share))
    return flag.feature, place, flag.strategy, flag.switch, on, share, says


@flags.command("status")
@click.argument("flag")
@WHICH
@FORMAT
def flags_status(config: str, flag: str, form: str, **which: str | None) -> None:
    """Show all that is known of a FLAG.

    What its switch says, what a kill would do, whether it is watched, and the last kills: who, why, what was read back.
    Exit code: 0, or 2 where its switch cannot be read.
    """
    from watcher import drill
    from watcher.report.progress import bar

    with bar("asking"), drill.opened(config) as (known, journal):
        found = drill.status(drill.find(known, flag, **which), journal)
    if form == "json":
        _print_json(found.to_json())
    else:
        own = found.reading.flag
        click.echo(_shown(f"{flag} on {own.service.name}/{own.service.environment} ({own.strategy})"))
        _print_aligned([(f"  {name}", says) for name, says in _known(found)])
    if found.reading.state is None:
        raise click.exceptions.Exit(2)


def _known(status: Status) -> Iterable[tuple[str, str]]:
    flag, state = status.reading.flag, status.reading.state
    yield "state", f"error: {status.reading.problem}" if state is None else _state(status.reading)
    if state is not None:
        sticky = {True: "users who got it keep it", False: "users may lose it again", None: ""}
        told = {"serving": state.serving, "revision": state.revision, "sticky": sticky[state.sticky]}
        yield from ((name, says) for name, says in told.items() if says)
    yield "switch", status.key or flag.switch
    yield "a kill", status.would or f"would fail: {status.would_not}"
    if not flag.reversible:
        yield "caution", _IRREVERSIBLE
    watched = "not now"
    if flag.watched is not None:
        said = "not looked at yet" if status.last is None else status.last.verdict.outcome.value
        watched = f"{flag.owner}: {said}"
    yield "watched", watched
    mode = flag.service.mode.value
    does = "watcher may turn it off" if mode == "armed" else "only a person turns it off"
    if mode == "armed" and not flag.allowed:
        does = "but only a person turns it off: may_turn_off in watcher.yaml does not name it"
    yield "mode", f"{mode}: {does}"
    drilled = status.drilled
    yield "drilled", "never" if drilled is None else f"{_when(drilled.at)} by {drilled.detail['by']}"
    for each in reversed(status.kills):
        yield "killed", _past(each)
    if not status.kills:
        yield "killed", "never"


_IRREVERSIBLE = "its release is marked as not reversible: turning it off may not undo what it changed"


def _state(reading: Reading) -> str:
    assert reading.state is not None
    state = reading.state
    on = ("on" if state.share is None else f"on, {_share(state.share)}") if state.on else "off"
    return f"{on} ({state.shown})" if state.shown else on


def _past(kill: PastKill) -> str:
    entry = kill.entry
    receipt = dict(entry.receipt or {})
    read_back = receipt.get("after") or receipt.get("read_back")
    told = entry.error or receipt.get("note") or (read_back and f"read back {read_back}")
    why = f" ({kill.reason})" if kill.reason else ""
    return f"{_when(entry.created_at)} by {kill.by}{why}: {entry.state}{f', {told}' if told else ''}"


@flags.command("kill")
@click.argument("flag")
@click.option("--confirm", metavar="FLAG", help="The name of the flag again: without it, nothing is turned off.")
@click.option("--dry-run", is_flag=True, help="Say exactly what would be done, and do nothing.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the record.")
@WHICH
def flags_kill(config: str, flag: str, confirm: str | None, dry_run: bool, reason: str, **which: str | None) -> None:
    """Turn a FLAG off now, whatever the mode, or rehearse that.

    \b
      watcher flags kill new-checkout --dry-run
      watcher flags kill new-checkout --confirm new-checkout --reason 'payments time out'

    Works while kills are paused, too, and whether or not the daemon runs. Who did it and why is recorded first; then
    the flag is turned off, and read back. watcher turns nothing on again.

    Exit code: 0 it is off (or was already), 2 it is not.
    """
    from watcher import drill
    from watcher.errors import Refused
    from watcher.report.progress import bar

    with drill.opened(config) as (known, journal):
        found = drill.find(known, flag, **which)
        if not found.reversible:
            click.echo(f"caution: {_IRREVERSIBLE}", err=True)
        if dry_run:
            with bar("rehearsing"):
                would = drill.rehearse(found, journal, user(), time.time())
            click.echo(_shown(would))
            click.echo("this was a drill: nothing was changed")
            return
        if confirm != flag:
            typed = {"config": config, "reason": reason, **which}
            why = "" if confirm is None else f"--confirm says {confirm}; "
            raise Refused(f"{why}nothing was turned off. To turn {flag} off, type: {_to_type(flag, typed)}")
        with bar("turning off"):
            off = drill.kill(found, journal, user(), reason, time.time())
        for line in _done(off):
            click.echo(_shown(line))


def _to_type(flag: str, given: dict[str, str | None]) -> str:
    """Return the command that turns a flag off, with what was given beside."""
    more = [word for name, value in given.items() if value and value != "watcher.yaml" for word in (f"--{name}", value)]
    return shlex.join(["watcher", "flags", "kill", flag, "--confirm", flag, *more])


def _done(off: TurnedOff) -> Iterable[str]:
    flag = off.flag
    if off.already:
        yield f"{flag.feature} was off already"
        return
    yield f"{flag.feature} is off{f' (was: {off.was})' if off.was else ''}"
    notice = flag.entry.notice
    noticed = "; the daemon takes that for a new release" if notice.flags_file or notice.switch else ""
    yield f"To re-open it, turn it on yourself where it is kept ({flag.switch}){noticed}."
    if flag.watched is not None:
        yield f"The daemon ends its watch of {flag.owner} when it sees that."


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:g} %"


def _when(at: float) -> str:
    import datetime as dt

    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M:%SZ}"


def _shown(text: str) -> str:
    """Return text that a terminal shows and does not obey, without secrets: what switches say is not ours."""
    from watcher.report.cells import printable
    from watcher.secrets import redacted

    return printable(redacted(text))


def _print_aligned(rows: Sequence[Sequence[str]]) -> None:
    """Print rows whose columns begin below each other; the last may be of any length."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        click.echo(_shown("  ".join(cells).rstrip()))


def _print_json(found: dict[str, Any]) -> None:
    import json

    from watcher.secrets import redacted

    click.echo(redacted(json.dumps(found, indent=2)))

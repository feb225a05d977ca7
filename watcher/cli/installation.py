"""Commands of an installation: the daemon, what it sees, and the releases it is told of."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from watcher.options import CONFIG, FORMAT, quantity


@click.command()
@CONFIG
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json: a line an event.",
)
def run(config: str, log_format: str) -> None:
    """Run the daemon: notice releases, watch them, tell people, and act where armed."""
    from watcher import logs, running

    logs.events(sys.stderr, log_format, debug=bool(os.environ.get("WATCHER_DEBUG")))
    running.run(config)


@click.command()
@click.option(
    "--folder", type=click.Path(file_okay=False), default="watcher-demo", show_default=True, help="Its files."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Of its users: the same seed, the same story.")
def demo(folder: str, seed: int) -> None:
    """Watch a good and a bad release of a small shop, in simulated time: no servers, half a minute."""
    from watcher.demo import tour

    tour.run(Path(folder), seed)


@click.group()
def release() -> None:
    """Tell watcher of a release, and see what it says."""


@release.command("start")
@CONFIG
@click.argument("service")
@click.argument("feature")
@click.option("--version", required=True, help="What users get: a version or a flag revision.")
@click.option("--strategy", type=click.Choice(["flag", "canary", "blue_green"]), help="Where a service has several.")
@quantity("--share", "share", help="Share of users exposed, e.g. 5%.")
@quantity("--exposed-at", "time", help="When users were exposed (2026-11-20T10:00:00Z; default now).")
@click.option("--previous", help="The version users had.")
@click.option("--not-reversible", is_flag=True, help="Cannot be undone (schema change): never killed.")
def release_start(config: str, service: str, feature: str, **given: Any) -> None:
    """Start watching a release of FEATURE on SERVICE."""
    from watcher import assembly
    from watcher.secrets import redacted

    found, odd = assembly.start_release(config, service, feature, now=time.time(), by=user(), **given)
    click.echo(found)
    if odd:
        click.echo(redacted(f"caution: {odd}"), err=True)


@release.command("list")
@CONFIG
def release_list(config: str) -> None:
    """List releases, the latest last."""
    from watcher import assembly

    for line in assembly.list_releases(config):
        click.echo(line)


@release.command("show")
@CONFIG
@click.argument("release_id", metavar="RELEASE")
def release_show(config: str, release_id: str) -> None:
    """Show what is known of a release: its outcome, looks and actions."""
    from watcher import assembly

    for line in assembly.show_release(config, release_id):
        click.echo(line)


@release.command("accept")
@CONFIG
@click.argument("release_id", metavar="RELEASE")
@click.argument("rule")
@click.option("--reason", required=True, help="Why the harm is intended.")
def release_accept(config: str, release_id: str, rule: str, reason: str) -> None:
    """Accept the harm of a RULE as intended: it no longer counts as regressed."""
    from watcher import assembly

    assembly.accept_release(config, release_id, rule, reason, now=time.time(), by=user())
    click.echo(f"{rule} of {release_id} accepted")


@release.command("stop")
@CONFIG
@click.argument("release_id", metavar="RELEASE")
@click.option("--reason", required=True, help="Why the watch ends.")
def release_stop(config: str, release_id: str, reason: str) -> None:
    """Stop watching a release. Nothing is turned off."""
    from watcher import assembly

    assembly.stop_release(config, release_id, reason, now=time.time(), by=user())
    click.echo(f"{release_id} is not watched any more")


@click.command()
@CONFIG
def status(config: str) -> None:
    """Show what is being watched now, and first what holds watcher back."""
    from watcher import assembly

    for line in assembly.status(config, time.time()):
        click.echo(line)


@click.command()
@CONFIG
@click.argument("release_id", metavar="[RELEASE]", required=False)
@click.option("--actions", is_flag=True, help="What was done, refused and told, instead of looks.")
@FORMAT
def history(config: str, release_id: str | None, actions: bool, form: str) -> None:
    """Show past looks, or everything that was done, refused and told: when, by whom, and why."""
    from watcher import assembly

    told = assembly.history(config, release_id, actions, form)
    if told:
        click.echo(told)


def user() -> str:
    """Return who runs the command, for the record."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"  # a process whose user has no name, as in a container

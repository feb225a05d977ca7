"""Commands that hold watcher back, and let it act again."""

from __future__ import annotations

import time

import click

from watcher.cli.installation import user
from watcher.options import CONFIG, quantity


@click.command()
@CONFIG
@quantity("--for", "duration", required=True, help="How long, e.g. 1h; 7d at most. It ends by itself.")
@click.option("--reason", metavar="TEXT", required=True, help="Why, for whoever asks why nothing was turned off.")
def pause(config: str, reason: str, **given: str) -> None:
    """Pause what watcher does by itself: it judges and tells, and turns nothing off or up.

    \b
      watcher pause --for 1h --reason 'a migration'

    It holds over restarts, for all services, in place of a pause there was. Kills by hand (`watcher flags kill`) go on
    working.
    """
    from watcher import assembly

    click.echo(assembly.pause(config, given["for"], reason, now=time.time(), by=user()))


@click.command()
@CONFIG
@click.option("--latch", is_flag=True, help="Open the latch instead; a pause stays.")
@click.option("--reason", metavar="TEXT", help="With --latch: why there were so many kills.")
def resume(config: str, latch: bool, reason: str | None) -> None:
    """End a pause before its time; or open the latch.

    \b
      watcher resume
      watcher resume --latch --reason 'the load test is over'

    The latch closes by itself after three kills of watcher's own within an hour. It stays closed, over restarts, until
    somebody opens it.
    """
    from watcher import assembly

    if latch:
        click.echo(assembly.open_latch(config, reason or "", now=time.time(), by=user()))
    elif reason is not None:
        raise click.UsageError("--reason goes with --latch; a pause ends with `watcher resume` alone")
    else:
        click.echo(assembly.resume(config, now=time.time(), by=user()))

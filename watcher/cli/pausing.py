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
def resume(config: str) -> None:
    """End a pause before its time."""
    from watcher import assembly

    click.echo(assembly.resume(config, now=time.time(), by=user()))

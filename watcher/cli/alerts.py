"""Commands about what people are told."""

from __future__ import annotations

import json
import time

import click

from watcher.cli.installation import user
from watcher.options import CONFIG

STATES = (
    "watching", "healthy", "regressed", "global_event", "killed", "turned_off", "kill_failed", "recovered",
    "unrecovered", "no_data", "invalid", "ended",
)  # fmt: skip
"""States that are worth to be seen beforehand."""


@click.group()
def alerts() -> None:
    """Show what people are told of releases, or try whether it reaches them."""


@alerts.command()
@CONFIG
def test(config: str) -> None:
    """Send everybody a message that says that it is a test: exit 2 where somebody did not get it.

    \b
      watcher alerts test

    It goes to Slack, Alertmanager and every webhook that watcher.yaml names, and is no part of any release.
    """
    from watcher import assembly
    from watcher.report.progress import bar

    with bar("telling"):
        sent = assembly.send_sample(config, now=time.time(), by=user())
    for each in sent:
        click.echo(
            f"{each.alerter}: NOT told: {each.problem}" if each.problem else f"{each.alerter}: told {each.where}"
        )
    if any(each.problem for each in sent):
        raise click.exceptions.Exit(2)


@alerts.command()
@CONFIG
@click.argument("release", metavar="[RELEASE]", required=False)
@click.option("--state", type=click.Choice(STATES), default="regressed", show_default=True, help="Of the sample.")
@click.option("--format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="How.")
def render(config: str, release: str | None, state: str, **given: str) -> None:
    """Show what would be sent, and send nothing: of RELEASE what it is now, else a sample.

    \b
      watcher alerts render --state killed
      watcher alerts render shop/production/new-checkout@1.2.0 --format json

    As text, it is what people read; as JSON, exactly what Slack, Alertmanager and webhooks are sent.
    """
    from watcher import assembly

    alert, found = assembly.rendered(config, release, state, now=time.time())
    if given["format"] == "json":
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    from watcher.alerts.console import text

    click.echo(text(alert))
    if alert.buttons:
        click.echo(f"    [{'] ['.join(alert.buttons)}]")
    click.echo(f"goes to: {', '.join(found)}")

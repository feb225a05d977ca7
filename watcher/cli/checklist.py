"""What the commands that go through a checklist have in common: its formats, and the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import click

if TYPE_CHECKING:
    from watcher.report.preflight import Checklist

FORM = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Of the answer.",
)


def show(found: Checklist, form: str) -> NoReturn:
    """Print a checklist, and end with 1 where something failed, else with 0."""
    from watcher.report import preflight_table
    from watcher.secrets import redacted

    if form == "json":
        import json

        click.echo(redacted(json.dumps(found.to_json(), indent=2)))
    else:
        printed = preflight_table.markdown if form == "markdown" else preflight_table.text
        click.echo(redacted(printed(found)), nl=False)
    raise click.exceptions.Exit(1 if found.failed else 0)

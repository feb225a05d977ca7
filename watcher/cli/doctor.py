"""`watcher doctor`: the checklist of an installation, executed."""

from __future__ import annotations

import time

import click

from watcher.cli.checklist import FORM, show
from watcher.options import CONFIG


@click.command()
@CONFIG
@FORM
def doctor(config: str, form: str) -> None:
    """Check an installation, and say how to mend what is wrong with it.

    Asks everything that watcher.yaml names: files of secrets, the metrics server and its clock, kill switches (reading
    only), Slack, the journal, the daemon. Nothing is changed, and nobody is told. Run it as the user of the daemon.

    \b
      watcher doctor
      watcher doctor --config /etc/watcher/watcher.yaml --format markdown

    Exit code: 0 passed (there may be warnings), 1 something failed, 2 error.
    """
    from watcher.doctor import examine
    from watcher.report.progress import bar

    with bar("checking"):
        found = examine(config, time.time())
    show(found, form)

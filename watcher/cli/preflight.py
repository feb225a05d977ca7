"""`watcher preflight`: the release checklist, executed."""

from __future__ import annotations

import time
from typing import Any

import click

from watcher.cli.checklist import FORM, show
from watcher.options import CONFIG, quantity


@click.command()
@CONFIG
@click.argument("release_id", metavar="RELEASE")
@click.option("--strategy", type=click.Choice(["flag", "canary", "blue_green"]), help="Where a service has several.")
@click.option("--previous", help="The version users have. [default: the one with most traffic]")
@quantity("--share", "share", help="Share of users that will get it, e.g. 5%. [default: what flag or switch say]")
@click.option("--not-reversible", is_flag=True, help="It cannot be undone (schema change).")
@FORM
def preflight(config: str, release_id: str, form: str, **given: Any) -> None:
    """Go through the checklist of a release: can it be rolled back, and would harm be seen?

    RELEASE is a release that watcher knows (see `watcher release list`), or one that nobody has made yet:
    SERVICE/FEATURE or SERVICE/FEATURE@VERSION. Nothing is changed, and nobody is told.

    \b
      watcher preflight shop/new-checkout --share 5%
      watcher preflight shop/new-checkout@1.2.0 --strategy canary --previous 1.1.0
      watcher preflight shop/production/new-checkout@2026-11-20T10:00:00Z --format markdown

    Exit code: 0 passed (there may be warnings), 1 something failed, 2 error.
    """
    from watcher import assembly
    from watcher.report.progress import bar

    with bar("checking"):
        found = assembly.preflight(config, release_id, now=time.time(), **given)
    show(found, form)

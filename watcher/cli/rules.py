"""Commands on rule packs."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def rules() -> None:
    """Work with rule packs."""


@rules.command("check")
@click.argument("packs", nargs=-1, required=True, metavar="PACK...")
def rules_check(packs: tuple[str, ...]) -> None:
    """Check rule packs and say what each rule measures."""
    from watcher.config import check_rules, rule_pack_path

    for pack in packs:
        for line in check_rules(rule_pack_path(pack, Path.cwd())):
            click.echo(line)

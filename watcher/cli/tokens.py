"""Tokens for whoever asks watcher over HTTP."""

from __future__ import annotations

import click

from watcher.options import CONFIG


@click.group()
def token() -> None:
    """Tokens of who may tell watcher of releases, or pause it, over HTTP."""


@token.command("new")
@CONFIG
@click.argument("name")
@click.option(
    "--may",
    multiple=True,
    type=click.Choice(["releases", "pause"]),
    help="What it may do; both, where it is given twice.  [default: releases]",
)
def token_new(config: str, name: str, may: tuple[str, ...]) -> None:
    """Make a token, print it once, and add what knows it again to the file of `http.tokens_file`.

    \b
      watcher token new ci
      watcher token new on-call --may pause

    The file holds a hash: who reads it can ask for nothing. A line that is taken out of it ends its token at once.
    """
    from watcher import assembly

    made, where = assembly.new_token(config, name, may or ("releases",))
    click.echo(made)
    click.echo(f"{name} is known by {where}; the token is shown here and nowhere else", err=True)

"""The command line: parses and prints, nothing else. Heavy libraries load only when a command needs them."""

from __future__ import annotations

import os
import sys
import traceback

import click

from watcher import __version__
from watcher.cli import alerts, doctor, flags, following, installation, judging, pausing, preflight, rules, tokens
from watcher.cli.answers import exit_code

__all__ = ["cli", "exit_code", "main"]

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WATCHER", "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="watcher")
def cli() -> None:
    """Watch a release from the moment users are exposed: prove it healthy, or say it regressed and turn it off."""


for command in (
    judging.compare,
    judging.backtest,
    judging.plan,
    preflight.preflight,
    doctor.doctor,
    installation.run,
    installation.demo,
    installation.release,
    installation.status,
    following.watch,
    following.wait,
    following.explain,
    installation.history,
    flags.flags,
    alerts.alerts,
    pausing.pause,
    pausing.resume,
    tokens.token,
    rules.rules,
    following.completion,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line; whatever unexpected happens exits with 2, never with 1 (which means regressed)."""
    sys.exit(_code())


def _code() -> int:
    from watcher import logs
    from watcher.errors import WatcherError
    from watcher.secrets import redacted

    logs.warnings()
    try:
        # Outside its own main, click returns the code of an Exit; commands return nothing.
        return int(cli(prog_name="watcher", standalone_mode=False) or 0)
    except SystemExit as stop:
        # The daemon's own end is 0; click's, when nobody reads the answer any more, is 1.
        return 2 if stop.code else 0
    except click.Abort:
        click.echo("stopped", err=True)
    except click.ClickException as error:
        error.show()
    except WatcherError as error:
        click.echo(redacted(f"watcher: {error}"), err=True)
    except Exception as error:  # noqa: BLE001
        # One of the two places for it: a crash must not read as a regression.
        said = f"watcher: unexpected {type(error).__name__}: {error} (WATCHER_DEBUG=1 shows where)"
        click.echo(redacted(traceback.format_exc() if os.environ.get("WATCHER_DEBUG") else said), err=True)
    return 2

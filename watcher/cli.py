"""The command line: parses and prints, nothing else. Heavy libraries load only when a command needs them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from watcher import __version__
from watcher.options import (
    ANSWER,
    HOW,
    IN_INSTALLATION,
    IN_PACK,
    ON_FILE,
    ON_SERVER,
    PAST,
    PAST_ANSWER,
    PAST_SERVER,
    PLAN,
    SERVER,
    WHAT,
    Sectioned,
    options,
    quantity,
)

if TYPE_CHECKING:
    from watcher.oneoff import Backtest, Comparison, Comparisons
    from watcher.oneoff.spread import Progress

CONTEXT = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WATCHER", "max_content_width": 100}


@click.group(context_settings=CONTEXT)
@click.version_option(__version__, prog_name="watcher")
def cli() -> None:
    """Watch a release from the moment users are exposed: prove it healthy, or say it regressed and turn it off."""


@cli.command(cls=Sectioned)
@click.argument("file", required=False)
@options(WHAT, HOW, SERVER, ANSWER)
@click.pass_context
def compare(context: click.Context, /, file: str | None, **given: Any) -> None:
    """Judge one release, in a tidy CSV or Parquet FILE or on a Prometheus.

    A FILE has a row per time and arm: timestamp (the end of the interval counted), arm (baseline or treatment),
    counts or measurements; other columns are labels. Without arms it is before/after: say when with --at.

    \b
      watcher compare shop.csv --ratio errors/requests
      watcher compare shop.csv --rate completed/started --matures 25m
      watcher compare shop.parquet --latency duration --by feature
      watcher compare load.csv --gauge load_time --worse higher --at 2026-11-20T10:00:00Z
      watcher compare --prometheus http://127.0.0.1:9090 --rules http-prometheus --since 2h \\
          --baseline 'version="1.1"' --treatment 'version="1.2"'

    Exit code: 0 healthy, 1 regressed, 2 error, 3 inconclusive, no_data or invalid. Every option can be given by the
    environment, too: --format as WATCHER_COMPARE_FORMAT.
    """
    if (file is None) == (given["prometheus"] is None):
        raise click.UsageError("give a FILE or --prometheus URL")
    _refuse_unused(context)
    from watcher import oneoff

    if file is not None:
        found = oneoff.compare(file, **_of_file(given), warm_up=given["warm_up"] or 0)
    else:
        found = _compare_prometheus(given)
    _answer(found, given)


def _of_file(given: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked of a table: the same for one release and for many."""
    wanted = {key: given[key] for key in ("ratio", "rate", "latency", "gauge", "rules", "margin", "at")}
    wanted |= {key: given[key] for key in ("regress_margin", "matures", "objective", "unit_of_time", "alpha")}
    wanted |= {key: given[key] for key in ("block", "drop_bad_rows", "timezone", "exclude")}
    return {**wanted, "worse": given["worse"] or None, "by": given["by"] or None}


def _refuse_unused(context: click.Context) -> None:
    """Refuse options that would change nothing: whoever gave a margin believes that it holds."""
    written = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    for names, why in _unused(context.params):
        for name in sorted(written & names):
            raise click.UsageError(f"--{name.replace('_', '-')} {why}")


def _unused(params: dict[str, Any]) -> Iterator[tuple[set[str], str]]:
    """Yield options that mean nothing beside the others, and why."""
    if params.get("config") is not None:
        yield IN_INSTALLATION | ON_FILE, "is said by watcher.yaml, or does not go with it"
    elif "config" in params:
        yield {"service", "strategy"}, "goes with --config"
    if params.get("prometheus") is not None:
        yield ON_FILE, "goes with a FILE; on a Prometheus the rule pack says what is compared"
    elif params.get("config") is None or params["file"] is not None:
        yield ON_SERVER | {"releases", "version_label"}, "goes with --prometheus"
    if params["rules"] is not None:
        yield IN_PACK, "is a matter of each rule: set it in the rule pack"
        return
    if params["rate"] is None:
        yield {"matures"}, "goes with --rate"
    if params["latency"] is None:
        yield {"objective", "unit_of_time"}, "goes with --latency"


def _compare_prometheus(given: dict[str, Any]) -> Comparison:
    from watcher.oneoff import prometheus

    keys = ["prometheus", "rules", "baseline", "treatment", "select", "since", "at", "history", "alpha", "warm_up"]
    keys += ["timezone", "exclude"]
    return prometheus.compare(
        **{key: given[key] for key in (*keys, "block", "bearer_file", "ca_file", "replica_label")}, now=time.time()
    )


def _answer(found: Comparison | Comparisons, given: dict[str, Any]) -> None:
    """Print the answer in the format asked for, and exit with its code."""
    if not given["quiet"] or given["output"]:
        text = _formatted(found, given["format"], given["explain"], bool(given["output"]))
        if given["output"]:
            _write(given["output"], text)
        if not given["quiet"]:
            click.echo(text, nl=False)
    raise click.exceptions.Exit(exit_code(found.outcome.value, given["fail_on"]))


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(path, error.strerror) from error


def _formatted(found: Comparison | Comparisons, form: str, explain: bool, plain: bool) -> str:
    import json

    parts = list(found) if isinstance(found, Sequence) else [found]
    if form == "json":
        return json.dumps(found.to_json(), indent=2) + "\n"
    if form == "jsonl":
        return "".join(json.dumps(part.to_json()) + "\n" for part in parts)
    from watcher.report.cells import word

    if form == "markdown":
        from watcher.report import markdown

        first = f"**{word(found.outcome)}** {markdown.escaped(found.reason)}\n\n" if len(parts) > 1 else ""
        return first + "\n".join(markdown.render(part.findings) for part in parts)
    from watcher.report import terminal

    first = f"{word(found.outcome)}  {found.reason}\n\n" if len(parts) > 1 else ""
    return first + "\n".join(
        terminal.text(part.explained() if explain else part.findings, explain=explain, plain=plain) for part in parts
    )


def exit_code(outcome: str, fail_on: str) -> int:
    """Return 0 healthy, 1 regressed, 3 undecided; `--fail-on` forgives what it says.

    >>> exit_code("inconclusive", "inconclusive"), exit_code("inconclusive", "regressed"), exit_code("no_data", "never")
    (3, 0, 0)
    """
    if outcome == "healthy" or fail_on == "never":
        return 0
    if outcome == "regressed":
        return 1
    return 0 if fail_on == "regressed" and outcome == "inconclusive" else 3


@cli.command(cls=Sectioned)
@click.argument("file", required=False)
@options(WHAT, PAST, PAST_SERVER, PAST_ANSWER)
@click.pass_context
def backtest(context: click.Context, /, file: str | None, output: str | None, **given: Any) -> None:
    """Try rules on past releases: what they would have found, and when they would have cried wolf.

    A FILE has the columns of `watcher compare`, and tells releases apart by the column release: exposed_at says when
    users were exposed, label what it turned out to be (1 bad, 0 fine, empty unknown), group what was released together.
    Every release is looked at as it would have been then, from exposure to the horizon. Without labels and with one
    release at most, times at which nothing was released are judged instead.

    On a Prometheus the releases are those listed in --releases, or the new values of --version-label; in --baseline and
    --treatment {version} and {previous} stand for theirs. With --config they are those in the journal, or the versions
    the metrics show, judged by the present rules of watcher.yaml: that this was done is recorded, and lets a service
    with require_backtest: true be armed until its rules change.

    \b
      watcher backtest releases.csv --ratio errors/requests
      watcher backtest kpis.parquet --gauge value --worse '*_pct=lower' --worse '*_ms=higher'
      watcher backtest load.csv --gauge load_time --horizon 1h --report backtest.html
      watcher backtest --prometheus http://127.0.0.1:9090 --rules http-prometheus --version-label version \\
          --baseline 'version="{previous}"' --treatment 'version="{version}"'
      watcher backtest --config watcher.yaml --service shop

    Exit code: 0, or 2 on an error.
    """
    if given["config"] is None and (file is None) == (given["prometheus"] is None):
        raise click.UsageError("give a FILE, --prometheus URL or --config watcher.yaml")
    _refuse_unused(context)
    from watcher.report import past_table
    from watcher.report.progress import bar

    with bar("releases") as progress:
        found = _past(file, given, progress)
    if given["format"] == "json":
        import json

        text = json.dumps(found.to_json(), indent=2) + "\n"
    else:
        text = past_table.text(found, plain=bool(output))
    if output:
        _write(output, text)
    click.echo(text, nl=False)


def _past(file: str | None, given: dict[str, Any], progress: Progress | None) -> Backtest:
    """Judge past releases where they are asked for: in a table, on a server, or by an installation."""
    own = {key: given[key] for key in ("looks_every", "horizon", "processes", "report")}
    found = {key: given[key] for key in ("since", "releases", "version_label")}
    if given["config"] is not None:
        from watcher import rehearsal

        named = {key: given[key] for key in ("config", "service", "strategy", "at")}
        return rehearsal.backtest(**named, **own, **found, file=file, now=time.time(), progress=progress)
    if file is None:
        from watcher.oneoff import past_server

        asked = (
            "prometheus",
            "rules",
            "at",
            "alpha",
            "warm_up",
            "block",
            "timezone",
            "exclude",
            *(ON_SERVER - {"since"}),
        )
        server = {key: given[key] for key in asked}
        return past_server.backtest_prometheus(**server, **own, **found, now=time.time(), progress=progress)
    from watcher import oneoff

    return oneoff.backtest(file, **_of_file(given), **own, warm_up=given["warm_up"] or 0, progress=progress)


@cli.command()
@click.argument("rules")
@click.argument("file", required=False)
@options(PLAN)
@click.pass_context
def plan(context: click.Context, /, rules: str, file: str | None, chart: str | None, **given: Any) -> None:
    """Say what a rule pack can decide about a release before it starts, and how soon.

    RULES is a rule pack: a file, or the name of a shipped one. Traffic and baseline rates are those of a tidy FILE
    (all its rows; of its baseline arm, if it has arms) or of the last hours on a Prometheus. A release that everybody
    gets (--share 100%) is held against its own past.

    \b
      watcher plan rules/checkout.yaml shop.csv --share 5%
      watcher plan http-prometheus --prometheus http://127.0.0.1:9090 --watch-for 6h --chart plan.png

    Exit code: 0, or 2 on an error.
    """
    if (file is None) == (given["prometheus"] is None):
        raise click.UsageError("give a FILE or --prometheus URL")
    if chart is not None and Path(chart).suffix not in (".png", ".svg"):
        raise click.BadParameter("a chart is FILE.png or FILE.svg", param_hint="--chart")
    _refuse_unused(context)
    from watcher.oneoff import plan as planning

    asked = {key: given[key] for key in ("share", "watch_for", "alpha", "at", "block")}
    if file is not None:
        asked |= {key: given[key] for key in ("by", "unit_of_time", "drop_bad_rows")}
        found = planning.plan_table(file, rules=rules, **asked)
    else:
        asked |= {key: given[key] for key in ON_SERVER - {"since"}}
        found = planning.plan_prometheus(given["prometheus"], rules=rules, now=time.time(), **asked)
    if chart is not None:
        from watcher.report import plan_chart

        try:
            Path(chart).write_bytes(plan_chart.image(found, Path(chart).suffix))
        except OSError as error:
            raise click.FileError(chart, error.strerror) from error
    if given["format"] == "json":
        import json

        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        from watcher.report import plan_table

        click.echo(plan_table.text(found), nl=False)


CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    default="watcher.yaml",
    show_default=True,
    help="The installation's watcher.yaml.",
)


@cli.command()
@CONFIG
def run(config: str) -> None:
    """Run the daemon: notice releases, watch them, tell people, and act where armed."""
    import logging

    from watcher.assembly import daemon

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    with daemon(config) as running:
        running.run(time.time)


@cli.command()
@click.option(
    "--folder", type=click.Path(file_okay=False), default="watcher-demo", show_default=True, help="Its files."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Of its users: the same seed, the same story.")
def demo(folder: str, seed: int) -> None:
    """Watch a good and a bad release of a small shop, in simulated time: no servers, half a minute."""
    from watcher.demo import tour

    tour.run(Path(folder), seed)


@cli.group()
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

    found = assembly.start_release(config, service, feature, now=time.time(), by=_user(), **given)
    click.echo(found)


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

    assembly.accept_release(config, release_id, rule, reason, now=time.time(), by=_user())
    click.echo(f"{rule} of {release_id} accepted")


@release.command("stop")
@CONFIG
@click.argument("release_id", metavar="RELEASE")
@click.option("--reason", required=True, help="Why the watch ends.")
def release_stop(config: str, release_id: str, reason: str) -> None:
    """Stop watching a release. Nothing is turned off."""
    from watcher import assembly

    assembly.stop_release(config, release_id, reason, now=time.time(), by=_user())
    click.echo(f"{release_id} is not watched any more")


@cli.command()
@CONFIG
def status(config: str) -> None:
    """Show what is being watched now."""
    from watcher import assembly

    for line in assembly.status(config):
        click.echo(line)


@cli.command()
@CONFIG
@click.argument("release_id", metavar="[RELEASE]", required=False)
@click.option("--actions", is_flag=True, help="What was done and refused, instead of looks.")
def history(config: str, release_id: str | None, actions: bool) -> None:
    """Show past looks, or everything that was done and refused."""
    from watcher import assembly

    for line in assembly.history(config, release_id, actions):
        click.echo(line)


@cli.group()
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


@cli.command()
@CONFIG
@click.argument("release_id", metavar="RELEASE")
@click.option("--strategy", type=click.Choice(["flag", "canary", "blue_green"]), help="Where a service has several.")
@click.option("--previous", help="The version users have. [default: the one with most traffic]")
@quantity("--share", "share", help="Share of users that will get it, e.g. 5%. [default: what flag or switch say]")
@click.option("--not-reversible", is_flag=True, help="It cannot be undone (schema change).")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "markdown"]),
    default="table",
    show_default=True,
    help="Of the answer.",
)
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
    from watcher.report import preflight_table

    found = assembly.preflight(config, release_id, now=time.time(), **given)
    if form == "json":
        import json

        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show = preflight_table.markdown if form == "markdown" else preflight_table.text
        click.echo(show(found), nl=False)
    raise click.exceptions.Exit(1 if found.failed else 0)


def _user() -> str:
    return os.environ.get("USER") or os.environ.get("LOGNAME") or "somebody"


def main() -> None:
    """Run the command line; whatever unexpected happens exits with 2, never with 1 (which means regressed)."""
    sys.exit(_code())


def _code() -> int:
    from watcher.errors import WatcherError

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
        click.echo(f"watcher: {error}", err=True)
    except Exception as error:
        # One of the two places for it: a crash must not read as a regression.
        if os.environ.get("WATCHER_DEBUG"):
            raise
        click.echo(f"watcher: unexpected {type(error).__name__}: {error} (WATCHER_DEBUG=1 shows where)", err=True)
    return 2

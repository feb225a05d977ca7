"""Commands that judge: one release, past ones, and what can be decided about the next before it starts."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from watcher.cli.answers import answer, write
from watcher.cli.unused import ON_SERVER, refuse_unused
from watcher.options import (
    ANSWER,
    HOW,
    PAST,
    PAST_ANSWER,
    PAST_SERVER,
    PLAN,
    SERVER,
    WHAT,
    Sectioned,
    options,
)

if TYPE_CHECKING:
    from watcher.oneoff import Backtest, Comparison
    from watcher.oneoff.spread import Progress


@click.command(cls=Sectioned)
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
    refuse_unused(context)
    from watcher import oneoff
    from watcher.report.progress import bar

    with bar("judging") as progress:
        if file is not None:
            found = oneoff.compare(file, **_of_file(given), warm_up=given["warm_up"] or 0, progress=progress)
        else:
            found = _compare_prometheus(given, progress)
    answer(found, given)


def _of_file(given: dict[str, Any]) -> dict[str, Any]:
    """Return what is asked of a table: the same for one release and for many."""
    wanted = {key: given[key] for key in ("ratio", "rate", "latency", "gauge", "rules", "margin", "at")}
    wanted |= {key: given[key] for key in ("regress_margin", "matures", "objective", "unit_of_time", "alpha")}
    wanted |= {key: given[key] for key in ("block", "drop_bad_rows", "timezone", "exclude")}
    return {**wanted, "worse": given["worse"] or None, "by": _by(given)}


def _by(given: dict[str, Any]) -> list[str] | None:
    return [label for label in given["by"] if label] if given["by"] else None


def _compare_prometheus(given: dict[str, Any], progress: Progress | None) -> Comparison:
    from watcher.oneoff import prometheus

    keys = ["prometheus", "rules", "baseline", "treatment", "select", "since", "at", "history", "alpha", "warm_up"]
    keys += ["timezone", "exclude"]
    return prometheus.compare(
        **{key: given[key] for key in (*keys, "block", "bearer_file", "ca_file", "replica_label")},
        now=time.time(),
        progress=progress,
    )


@click.command(cls=Sectioned)
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
    refuse_unused(context)
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
        write(output, text)
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


@click.command()
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
    refuse_unused(context)
    from watcher.oneoff import plan as planning
    from watcher.report.progress import bar

    asked = {key: given[key] for key in ("share", "watch_for", "alpha", "at", "block")}
    with bar("planning"):
        if file is not None:
            asked |= {"by": _by(given), **{key: given[key] for key in ("unit_of_time", "drop_bad_rows")}}
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

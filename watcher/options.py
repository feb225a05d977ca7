"""The options of the commands: in groups, how they are checked, and how they are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("table", "json", "jsonl", "markdown", "junit", "github")


def quantity(name: str, kind: str, **settings: Any) -> Callable[[F], F]:
    """Return an option such as 25m or 50%, refused where it is given; what is passed on is the text."""

    def check(_context: click.Context, _param: click.Parameter, value: Any) -> Any:
        from watcher import config

        known: dict[str, Callable[[object], object]] = {
            "share": config.parse_share,
            "margin": config.parse_margin,
            "time": config.parse_moment,
            "direction": config.parse_worse,
            "zone": config.parse_zone,
            "from/to": config.parse_interval,
        }
        parse = known.get(kind, config.parse_duration)
        try:
            for each in value if isinstance(value, tuple) else () if value is None else (value,):
                parse(each)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
        return value

    return click.option(name, metavar=kind.upper(), callback=check, **settings)


class Sectioned(click.Command):
    """A command with many options, listed under the headings of `SECTIONS`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each under the last heading that came before it."""
        sections: dict[str, list[tuple[str, str]]] = {}
        heading = "Options"
        for param in self.get_params(ctx):
            heading = SECTIONS.get(param.name or "", heading)
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections.setdefault(heading, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


SECTIONS = {
    "ratio": "What to compare (one of the first five)",
    "at": "How",
    "prometheus": "On a Prometheus, with --rules",
    "config": "Of an installation, and recorded there",
    "format": "The answer",
}
"""Headings, by the first option below each."""


def options(*decorators: Callable[[Any], Any]) -> Callable[[F], F]:
    """Apply several click decorators, the first uppermost in the help."""

    def apply(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return apply


ALPHA = click.option(
    "--alpha",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="RATE",
    help="Chance of calling a good release regressed. [default: 0.01; 0.05 without a control]",
)

BY = click.option("--by", multiple=True, metavar="LABEL", help="Label that makes streams (repeatable); '' for none.")

GRID = options(
    quantity("--block", "duration", help="Grid of time. [default: as rows are spaced, at least 60s]"),
    click.option("--drop-bad-rows", is_flag=True, help="Leave out rows with missing counts, and say how many."),
)

UNIT_OF_TIME = click.option(
    "--unit-of-time",
    type=click.Choice(["s", "ms", "us", "ns"]),
    default="s",
    show_default=True,
    help="Of durations.",
)

WORSE = quantity(
    "--worse",
    "direction",
    multiple=True,
    help="higher, lower or (gauge) either; or by metric: '*_pct=lower' (repeatable, the first that matches holds).",
)

WHAT = options(
    click.option("--ratio", metavar="BAD/TOTAL", help="Columns: events, and the total they are a part of."),
    click.option("--rate", metavar="EVENTS/PER", help="Columns: events, and what they follow later (orders/starts)."),
    click.option("--latency", metavar="COLUMN", help="Durations, one row each; or the metric of a histogram."),
    click.option("--gauge", metavar="COLUMN", help="One measurement per interval; a rule for each of several metrics."),
    click.option("--rules", metavar="PACK", help="A rule pack: a file, or the name of a shipped one."),
    WORSE,
    quantity("--margin", "margin", help="How much worse is tolerable: 50%, or 0.5pp of a ratio."),
    quantity(
        "--regress-margin",
        "margin",
        default="0%",
        show_default=True,
        help="How much worse must be proven before regressed.",
    ),
    quantity("--matures", "duration", default="0s", help="For --rate: 99th percentile of the delay, e.g. 25m."),
    quantity("--objective", "duration", help="For --latency: what counts as slow, e.g. 2.5s."),
    UNIT_OF_TIME,
)

AT = quantity("--at", "time", help="Exposure (2026-11-20T10:00:00Z); what lies before it is history.")

USUAL = options(
    quantity("--timezone", "zone", help="Whose days and weeks users live by, e.g. Europe/Berlin. [default: UTC]"),
    quantity("--exclude", "from/to", multiple=True, help="A stretch of the past that was not usual (repeatable)."),
)

HOW = options(
    AT,
    USUAL,
    BY,
    ALPHA,
    quantity("--warm-up", "duration", help="After exposure, not counted. [default: 0s; 5m on a Prometheus]"),
    GRID,
)

PAST = options(
    AT,
    USUAL,
    BY,
    ALPHA,
    quantity("--warm-up", "duration", help="After exposure, not counted. [default: 0s; 5m on a Prometheus]"),
    quantity("--looks-every", "duration", default="60s", show_default=True, help="Time between looks."),
    quantity(
        "--horizon",
        "duration",
        default="2h",
        show_default=True,
        help="How long it is watched: `watch_for` of watcher.yaml.",
    ),
    GRID,
    click.option(
        "--processes", type=click.IntRange(min=1), metavar="N", help="To spread the work over. [default: all cores]"
    ),
)

PAST_ANSWER = options(
    click.option(
        "--format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the answer."
    ),
    click.option("--output", type=click.Path(dir_okay=False), help="Write the answer to a file, too."),
    click.option(
        "--report",
        type=click.Path(dir_okay=False),
        help="Write FILE.html: figures, other alphas and margins, charts of single releases.",
    ),
)

ARMS = options(
    click.option("--prometheus", metavar="URL", help="Read this server instead of a FILE."),
    click.option("--baseline", metavar="LABELS", help="""The control, e.g. 'version="1.1"'."""),
    click.option("--treatment", metavar="LABELS", help="""The release, e.g. 'version="1.2"'."""),
    click.option("--select", metavar="LABELS", help="""Added to every selector, e.g. 'job="shop"'."""),
)

ACCESS = options(
    quantity("--history", "duration", help="The past to learn from. [default: 24h; 28d before/after]"),
    click.option("--bearer-file", type=click.Path(dir_okay=False), help="File with a bearer token."),
    click.option("--ca-file", type=click.Path(dir_okay=False), help="CA bundle of the server."),
    click.option("--replica-label", metavar="LABEL", help="Label in which only replicas of a Prometheus differ."),
)

PAST_SERVER = options(
    ARMS,
    quantity("--since", "duration", help="Look through the last 30d, say. [default: 30d]"),
    click.option(
        "--releases",
        type=click.Path(dir_okay=False),
        metavar="CSV",
        help="What was released when: exposed_at, release; optional label, group, previous, version, feature.",
    ),
    click.option("--version-label", metavar="LABEL", help="Releases are the values of it that first get traffic."),
    ACCESS,
    click.option(
        "--config",
        type=click.Path(dir_okay=False),
        help="watcher.yaml: its rules and metrics; recorded in its journal, for require_backtest.",
    ),
    click.option("--service", metavar="NAME", help="Which service of watcher.yaml. [default: the only one]"),
    click.option(
        "--strategy",
        type=click.Choice(["flag", "canary", "blue_green"]),
        help="How releases are watched, where the service has several ways.",
    ),
)

SERVER = options(
    ARMS,
    quantity("--since", "duration", help="Compare the arms over the last 2h, say."),
    ACCESS,
)

REPORT = click.option(
    "--report", type=click.Path(dir_okay=False), help="Write FILE.html: verdict, rules, pictures, and why."
)

ANSWER = options(
    click.option(
        "--format",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="jsonl: one line a release; github: annotations, and a summary of the job.",
    ),
    click.option("--output", type=click.Path(dir_okay=False), help="Write the answer to a file, too."),
    REPORT,
    click.option(
        "--fail-on",
        type=click.Choice(["inconclusive", "regressed", "never"]),
        default="inconclusive",
        show_default=True,
        help="regressed: exit 0 when inconclusive; never: exit 0 whatever the outcome.",
    ),
    click.option("--explain", is_flag=True, help="Show the whole derivation."),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing; the exit code is the answer."),
)

PLAN = options(
    quantity("--share", "share", default="50%", show_default=True, help="Share of users the release will get."),
    quantity("--watch-for", "duration", default="24h", show_default=True, help="How long it will be watched."),
    ALPHA,
    quantity("--at", "time", help="Plan as of then; what lies before it is history. [default: now, or all of FILE]"),
    BY,
    GRID,
    UNIT_OF_TIME,
    ARMS,
    ACCESS,
    click.option(
        "--format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the answer."
    ),
    click.option("--chart", type=click.Path(dir_okay=False), help="Draw what is found how soon: FILE.png or FILE.svg."),
)

CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False),
    default="watcher.yaml",
    show_default=True,
    help="The installation's watcher.yaml.",
)

FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "json"]), default="table", show_default=True, help="Of the answer."
)

"""The plan on a terminal: the verdict first, then the streams, then what would help."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from watcher import reasons
from watcher.report.cells import MOST_ROWS, clipped, count, printable
from watcher.report.plan import Plan, StreamPlan, Wait, baseline_cell, change_cell

_AWAY = 120
"""Columns where nobody says how many there are."""


def text(plan: Plan) -> str:
    """Return what a terminal shows: fitted to standard output, or plain text for a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(file=io.StringIO(), width=_AWAY, color_system=None)
    with console.capture() as printed:
        render(plan, console)
    return "\n".join(line.rstrip() for line in printed.get().splitlines()) + "\n"


def render(plan: Plan, console: Console) -> None:
    """Print a plan; everything as `Text`, because label values are not ours."""
    style = "green" if plan.rules and plan.decidable == len(plan.rules) else "yellow"
    _say(console, Text(plan.answer, style=f"bold {style}"))
    slowest = plan.slowest
    if slowest is not None and slowest.forecast is not None:
        _say(console, Text(printable(f"{slowest.subject} takes longest: {_in_words(slowest.forecast.healthy)}.")))
    console.print()
    console.print(_table(plan, console))
    if len(plan.streams) > MOST_ROWS:
        _say(console, Text(f"and {len(plan.streams) - MOST_ROWS} more streams", style="dim"))
    _say(console, Text(_reading(plan), style="dim"))
    told = list(plan.undecided) or ([slowest] if slowest is not None else [])
    lines = [(stream.subject, _advice(stream)) for stream in told if _advice(stream)]
    lines += [("Warning", warning) for warning in plan.warnings]
    if lines:
        console.print()
    for subject, advice in lines[:MOST_ROWS]:
        line = Text(f"{printable(subject)}: ", style="bold")
        _say(console, line.append(printable(advice), style="not bold"))


def _say(console: Console, line: Text) -> None:
    console.print(line, highlight=False)


def _in_words(wait: Wait) -> str:
    return f"{span(wait.median)} to prove it healthy, {span(wait.p90)} nine times in ten"


def _reading(plan: Plan) -> str:
    """Return how the table is to be read."""
    after = f"after the {reasons.span(plan.warm_up)} of warm-up" if plan.warm_up else "after exposure"
    return f"Times {after}: the median, and below it what nine in ten stay within. Found: alpha {plan.alpha:g}."


def _advice(stream: StreamPlan) -> str:
    if stream.forecast is None:
        return f"not planned: {stream.why_not}"
    return stream.forecast.helps


def _table(plan: Plan, console: Console) -> Table:
    """Return the streams, two lines each; on a narrow console without the smallest effects found."""
    moments = next((list(s.forecast.found) for s in plan.streams if s.forecast is not None), [])
    table = _columns(plan, moments)
    if Measurement.get(console, console.options.update(width=1000), table).maximum <= console.width:
        return table
    return _columns(plan, [])


def _columns(plan: Plan, moments: list[float]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("rule\n  stream", overflow="fold")
    table.add_column("baseline\nper min", justify="right", no_wrap=True)
    for heading in ("proven\nhealthy", "margin\nfound", "2x\nfound"):
        table.add_column(heading, no_wrap=True)
    for minutes in moments:
        table.add_column(f"found in\n{reasons.span(minutes)}", no_wrap=True)
    table.add_column("margin\nlimit", no_wrap=True)
    for stream in plan.streams[:MOST_ROWS]:
        table.add_row(*_row(stream, moments), style="dim" if stream.idle else "")
    return table


def _row(stream: StreamPlan, moments: list[float]) -> list[Text]:
    named = ", ".join(value for _, value in stream.labels if value)
    name = Text(clipped(stream.rule.name) + (f"\n  {clipped(named)}" if named else ""))
    baseline = Text(f"{baseline_cell(stream)}\n{count(stream.per_minute)}")
    margin, plan = change_cell(stream.worst_ratio), stream.forecast
    if plan is None:
        return [name, baseline, *[Text("-")] * (3 + len(moments)), Text(f"{margin}\nnot planned")]
    waits = [Text(f"{span(wait.median)}\n{span(wait.p90)}") for wait in (plan.healthy, plan.margin, plan.double)]
    waits[0].stylize("green" if stream.decidable else "yellow")
    found = [Text(change_cell(plan.found[minutes])) for minutes in moments]
    return [name, baseline, *waits, *found, Text(f"{margin}\n{plan.limit}")]


def span(minutes: float | None) -> str:
    """Return a wait as people say it.

    >>> span(34.0), span(None)
    ('34 min', 'never')
    """
    return "never" if minutes is None else reasons.span(minutes)

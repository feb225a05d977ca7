"""The answer on a terminal: the verdict first, then why, then the streams.

Everything is printed as `Text`: a plain string would be read as markup, and label values are not ours.
"""

from __future__ import annotations

import io

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from watcher.model import Outcome, Verdict
from watcher.report import explanation
from watcher.report.cells import (
    MOST_ROWS,
    NOTHING,
    Row,
    effect_cell,
    headings,
    headline,
    printable,
    rows,
    stream_heading,
    word,
)
from watcher.report.findings import Findings

__all__ = ["effect_cell", "render", "text"]

COLOURS = {
    Outcome.REGRESSED: "red",
    Outcome.INVALID: "magenta",
    Outcome.NO_DATA: "yellow",
    Outcome.INCONCLUSIVE: "cyan",
    Outcome.HEALTHY: "green",
}
_AWAY = 120
"""Columns where nobody says how many there are: a file, a pipe, the log of a build."""

_WIDEST = 140
"""Columns beyond which prose is hard to follow."""


def render(findings: Findings, console: Console, explain: bool = False) -> None:
    """Print a report; colours only where the console has them.

    Args:
        findings: what was found.
        console: decides width and colour; away from a terminal, or with NO_COLOR set, the text is plain.
        explain: add the facts behind every stream shown.
    """
    verdict = findings.verdict
    first = Text(word(verdict.outcome), style=f"bold {COLOURS[verdict.outcome]}")
    first.append(f"  {headline(findings)}", style="not bold default")
    _say(console, first)
    _say(console, Text(printable(verdict.reason)))
    shown = rows(findings)[:MOST_ROWS]
    if shown:
        console.print()
        console.print(_table(findings, shown, console))
    if len(findings.streams) > len(shown):
        left = len(findings.streams) - len(shown)
        _say(console, Text(f"and {left} more {'streams' if left > 1 else 'stream'}, none worse", style="dim"))
    _closing(findings, console)
    if explain:
        for each in findings.streams[:MOST_ROWS]:
            _explain(findings, each, console)


def text(findings: Findings, explain: bool = False, plain: bool = False) -> str:
    """Return what `render` prints: fitted to standard output, or plain text for a file."""
    console = Console()
    if plain or not console.is_terminal:
        console = Console(file=io.StringIO(), width=_AWAY, color_system=None)
    with console.capture() as printed:
        render(findings, console, explain)
    return "\n".join(line.rstrip() for line in printed.get().splitlines()) + "\n"


def _say(console: Console, text: Text) -> None:
    console.print(text, width=min(console.width, _WIDEST), highlight=False)


def _table(findings: Findings, shown: list[Row], console: Console) -> Table:
    """Return one line a stream where the console is wide enough, two otherwise."""
    table = _wide(shown, stream_heading(findings))
    if Measurement.get(console, console.options.update(width=1000), table).maximum <= console.width:
        return table
    return _narrow(shown, stream_heading(findings))


def _empty_table() -> Table:
    return Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)


def _wide(shown: list[Row], stream: str) -> Table:
    table = _empty_table()
    for heading in headings(stream):
        right = heading in ("baseline", "treatment")
        table.add_column(Text(heading), justify="right" if right else "left", no_wrap=True)
    for row in shown:
        cells = [Text(cell) for cell in row.cells(bool(stream))]
        cells[2 if stream else 1] = _outcome(row)
        table.add_row(*cells, style=_style(row))
    return table


def _narrow(shown: list[Row], stream: str) -> Table:
    """Return a table whose rows are two lines: the stream below its rule, the interval below the effect."""
    table = _empty_table()
    table.add_column(Text(f"rule\n  {stream}" if stream else "rule"), overflow="fold")
    for heading in ("outcome\ndecided UTC", "effect\n(interval)", "margin"):
        table.add_column(heading, no_wrap=True)
    table.add_column("baseline\ntreatment", justify="right", no_wrap=True)
    for row in shown:
        below = "" if row.stream == NOTHING else f"\n  {row.stream}"
        outcome = _outcome(row).append(f"\n{row.decided}", style="default")
        effect = row.effect.replace(" (", "\n(")
        texts = [Text(text) for text in (row.rule + below, effect, row.margin, f"{row.baseline}\n{row.treatment}")]
        table.add_row(texts[0], outcome, *texts[1:], style=_style(row))
    return table


def _outcome(row: Row) -> Text:
    return Text(row.outcome.value, style="" if row.dormant else COLOURS[row.outcome])


def _style(row: Row) -> str:
    return "dim" if row.dormant else ""


def _closing(findings: Findings, console: Console) -> None:
    """Print alarms, warnings and assumptions, each kind beside its name."""
    groups = (
        ("Alarm", "bold red", explanation.alarms(findings)),
        ("Warning", "yellow", explanation.warnings(findings)),
        ("Assumes", "dim", explanation.assumptions(findings)),
    )
    if any(lines for _, _, lines in groups):
        console.print()
    for name, style, lines in groups:
        if lines:
            named = [(name if place == 0 else "", line) for place, line in enumerate(lines)]
            console.print(_hanging(named, 8, style), width=min(console.width, _WIDEST), highlight=False)


def _hanging(lines: list[tuple[str, str]], width: int, style: str) -> Table:
    """Return names with sentences that hang beside them."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=width, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, line in lines:
        grid.add_row(Text(name, style=style), Text(line))
    return grid


def _explain(findings: Findings, verdict: Verdict, console: Console) -> None:
    console.print()
    title = Text(explanation.subject(findings, verdict), style="bold")
    title.append(f"  {verdict.outcome.value}", style=f"not bold {COLOURS[verdict.outcome]}")
    _say(console, title)
    grid = Padding(_hanging(explanation.details(findings, verdict), 18, "dim"), (0, 0, 0, 2))
    console.print(grid, width=min(console.width, _WIDEST), highlight=False)

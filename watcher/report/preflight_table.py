"""The checklist on a terminal and in Markdown: the verdict first, then line by line what was found and what to do."""

from __future__ import annotations

import io
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher.report.cells import printable
from watcher.report.markdown import escaped, to_copy
from watcher.report.preflight import Checklist, Line

MARKS = {"pass": "✓", "warn": "!", "fail": "✗"}
_STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}

_AWAY = 120
"""Columns where nobody says how many there are."""

_WIDEST = 140
"""Columns beyond which prose is hard to follow."""


def text(found: Checklist) -> str:
    """Return what a terminal shows: fitted to standard output, or plain text for a pipe."""
    console = Console()
    if not console.is_terminal:
        console = Console(file=io.StringIO(), width=_AWAY, color_system=None)
    with console.capture() as printed:
        render(found, console)
    return "\n".join(line.rstrip() for line in printed.get().splitlines()) + "\n"


def render(found: Checklist, console: Console) -> None:
    """Print a checklist; everything as `Text`, because names and errors are not ours."""
    width = min(console.width, _WIDEST)
    first = Text(_word(found), style=f"bold {_STYLES['fail' if found.failed else 'pass']}")
    console.print(first.append(f"  {printable(found.answer)}", style="not bold default"), width=width, highlight=False)
    for check, lines in _by_check(found):
        console.print()
        console.print(Text(found.titles.get(check, check), style="bold"), highlight=False)
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=8, no_wrap=True)
        grid.add_column(overflow="fold")
        for line in lines:
            grid.add_row(Text(f"  {MARKS[line.status]} {line.status}", style=_STYLES[line.status]), _said(line))
        console.print(grid, width=width, highlight=False)


def markdown(found: Checklist) -> str:
    """Return the checklist in GitHub-flavoured Markdown."""
    rows = ["| check | | found | to do |", "| --- | --- | --- | --- |"]
    for check, lines in _by_check(found):
        for place, line in enumerate(lines):
            title = "" if place else found.titles.get(check, check)
            cells = (escaped(title), f"{MARKS[line.status]} {line.status}", escaped(line.said), to_copy(line.do))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join([f"**{_word(found)}** {escaped(found.answer)}", "", *rows]) + "\n"


def _word(found: Checklist) -> str:
    return "FAILED" if found.failed else "PASSED"


def _by_check(found: Checklist) -> Iterator[tuple[str, list[Line]]]:
    for check in dict.fromkeys(line.check for line in found.lines):
        yield check, [line for line in found.lines if line.check == check]


def _said(line: Line) -> Text:
    said = Text(printable(line.said))
    return said.append(f"\n→ {printable(line.do)}", style="cyan") if line.do else said

"""A release while it is being watched: on a terminal how far each rule is, elsewhere a line for each change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from watcher import reasons
from watcher.model import Look, Outcome, Verdict, Watch
from watcher.report import explanation
from watcher.report.cells import clipped, decided_cell, effect_cell, headline, printable, word
from watcher.report.findings import Findings
from watcher.report.terminal import COLOURS

WIDTH = 8
"""Columns of a bar."""

WIDE = 110
"""Columns from which numbers fit beside bars, and intervals beside effects."""


def line(look: Look) -> str:
    """Return a look in one line, without its time."""
    phase = "" if look.phase == "watching" else f" ({look.phase})"
    return printable(f"{word(look.verdict.outcome)}{phase}  {look.verdict.reason}")


def view(watch: Watch, look: Look, done: Sequence[str], width: int, height: int) -> RenderableType:
    """Return the present state of a release.

    Args:
        watch: what is being watched.
        look: the last one at it.
        done: what was done and refused, oldest first; the latest are shown.
        width, height: columns and lines there are.
    """
    findings = Findings(
        watch, look.verdict, {}, watch.release.exposed_at, look.through, look.blocks, 0.0, exposed_at=None
    )
    outcome = look.verdict.outcome
    first = Text(word(outcome), style=f"bold {COLOURS[outcome]}").append(
        f"  {headline(findings)}", style="not bold default"
    )
    since, ends = (reasons.span(x / 60) for x in (look.at - watch.release.exposed_at, watch.horizon))
    state = f"{look.phase}, {since} of {ends}; mode {watch.mode.value}; last look {reasons.clock(look.at)}"
    shown, told = findings.streams[: max(height - 12, 3)], done[-4:]
    left = len(findings.streams) - len(shown)
    parts: list[RenderableType] = [
        first,
        Text(state, style="dim"),
        Text(printable(look.verdict.reason)),
        Text(),
        _table(findings, shown, width >= WIDE) if shown else Text("nothing is compared yet", style="dim"),
        *([Text(f"and {left} more, none worse", style="dim")] if left else []),
        *([Text(f"metrics: {printable(look.problem)}", style="yellow")] if look.problem else []),
        *(
            [Text(), *(Text(printable(each), style="dim", no_wrap=True, overflow="ellipsis") for each in told)]
            if told
            else []
        ),
    ]
    return Group(*parts)


def _table(findings: Findings, shown: Sequence[Verdict], wide: bool) -> Table:
    """Return a line a stream: its outcome, and how far the evidence of harm and that of health are."""
    proof, lines = float(np.log(1 / findings.watch.alpha.healthy)), []
    for verdict in shown:
        effect = effect_cell(verdict.effect)
        lines.append(
            (
                Text(clipped(explanation.subject(findings, verdict))),
                Text(verdict.outcome.value, style="" if verdict.dormant else COLOURS[verdict.outcome]),
                Text(effect if wide else effect.partition(" (")[0]),
                _bar(verdict.log_e_regressed, verdict.threshold, COLOURS[Outcome.REGRESSED], wide),
                _bar(verdict.log_e_healthy, proof, COLOURS[Outcome.HEALTHY], wide),
                Text(decided_cell(findings, verdict)),
            )
        )
    table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    # What a rule is called gives way; numbers cut short would say something else.
    table.add_column("rule", ratio=1, no_wrap=True, overflow="ellipsis")
    others = ("outcome", "effect (interval)" if wide else "effect", "harm", "health", "decided")
    for heading, cells in zip(others, zip(*(each[1:] for each in lines), strict=True), strict=True):
        table.add_column(heading, no_wrap=True, min_width=max(len(heading), *(cell.cell_len for cell in cells)))
    for verdict, each in zip(shown, lines, strict=True):
        table.add_row(*each, style="dim" if verdict.dormant else "")
    return table


def _bar(log_e: float, needed: float, colour: str, numbered: bool) -> Text:
    """Return how much of the evidence that is needed there is, in nats; nothing where none is asked for.

    >>> _bar(3.0, 6.0, "red", True).plain, _bar(9.0, 6.0, "red", False).plain
    ('━━━━····  3.0/6.0', '━━━━━━━━')
    """
    if needed <= 0:
        return Text()
    full = round(WIDTH * min(max(log_e / needed, 0.0), 1.0))
    bar = Text("━" * full, style=colour).append("·" * (WIDTH - full), style="dim")
    return bar.append(f" {log_e:4.1f}/{needed:.1f}", style="default") if numbered else bar

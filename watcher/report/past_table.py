"""Past releases on a terminal: what the rules are worth first, then what they missed and what they cried wolf over."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from watcher import reasons
from watcher.report.cells import clipped, printable
from watcher.report.past import PastRelease, PastReleases, Share, Tallied

MOST_ROWS = 20
"""Releases of a kind that a table shows; the rest is counted."""

LISTED = {
    "missed": "Missed",
    "false_alarm": "False alarms",
    "alarm": "Alarms without a label",
    "error": "Could not be judged",
}
"""Kinds of releases that are listed, and what people call them."""

_AWAY = 120
_LONGEST_REASON = 300


def headline(found: PastReleases) -> str:
    """Return what the rules are worth, in one sentence.

    >>> rows = [PastRelease("a", "regressed", label=1, alarm="regressed"), PastRelease("b", "healthy", label=0)]
    >>> headline(PastReleases(tuple(rows), 0.01, 60.0, 7200.0))
    'Found 1 of 1 bad release (100 %), false alarms on 0 of 1 fine one (0 %, 0 to 97.5 %)'
    """
    tallied, parts = found.tallied(), []
    if found.placebos:
        return f"False alarms on {_false_alarms(found, 'placebo release')}, at times when nothing was released"
    if tallied.bad:
        those = _of(tallied.found, tallied.bad, "bad release")
        parts.append(f"found {those} ({percent(tallied.recall)})")
    if tallied.fine:
        parts.append(f"false alarms on {_false_alarms(found, 'fine one' if tallied.bad else 'fine release')}")
    if not parts:
        alarms = sum(row.positive for row in found.rows)
        parts.append(f"alarms on {_of(alarms, len(found.rows), 'release')}; no label says which of them are right")
    text = ", ".join(parts)
    return text[0].upper() + text[1:]


def _false_alarms(found: PastReleases, what: str) -> str:
    share = found.false_alarms
    return f"{_of(share.hits, share.of, what)} ({percent(share.rate)}, {interval(share)})"


def _of(hits: int, of: int, what: str) -> str:
    return f"{hits} of {of} {what}{'' if of == 1 else 's'}"


def interval(share: Share) -> str:
    """Return the bounds of a rate, in percent."""
    if share.interval is None:
        return "-"
    low, high = (f"{100 * bound:.1f}".removesuffix(".0") for bound in share.interval)
    return f"{low} to {high} %"


def percent(rate: float | None) -> str:
    """Return a rate as people say it.

    >>> percent(0.912), percent(0.052), percent(0.0), percent(None)
    ('91 %', '5.2 %', '0 %', '-')
    """
    if rate is None:
        return "-"
    return f"{100 * rate:.1f} %" if 0 < rate < 0.1 else f"{100 * rate:.0f} %"


def wait(minutes: float | None) -> str:
    """Return a time to detect as people say it."""
    return "-" if minutes is None else reasons.span(minutes)


def number(figure: float | None) -> str:
    """Return a figure between 0 and 1."""
    return "-" if figure is None else f"{figure:.3f}"


def figures(found: PastReleases) -> list[tuple[str, str]]:
    """Return the figures that are defined, by name."""
    tallied, groups = found.tallied(), found.groups
    told = [(name, number(each)) for name, each in _rates(tallied) if each is not None]
    if found.best_f1 is not None:
        told.append(("best F1", f"{number(found.best_f1)} over all thresholds, to compare with published figures only"))
    if found.waits:
        ninety = f"9 in 10 within {wait(found.minutes_to_detect(0.9))}"
        told.append(("time to detect", f"{wait(found.minutes_to_detect(0.5))} (median), {ninety}"))
    if groups.cases:
        first = (
            f"the bad release ranks first in {_of(groups.first, groups.cases, 'group')} ({percent(groups.hit_rate_1)})"
        )
        told.append(("groups", f"{first}, among the first three in {groups.third} ({percent(groups.hit_rate_3)})"))
    told.append(("alarms", alarms(found)))
    every, horizon = reasons.span(found.looks_every / 60), reasons.span(found.horizon / 60)
    told.append(("looks", f"every {every} for {horizon} after exposure, alpha {found.alpha:g} a release"))
    return told


def _rates(tallied: Tallied) -> list[tuple[str, float | None]]:
    return [("precision", tallied.precision), ("recall", tallied.recall), ("F1", tallied.f1)]


def alarms(found: PastReleases) -> str:
    """Return how the alarms split into what was proven worse and what went silent."""
    split = []
    for alarm, name in (("regressed", "regressed"), ("absent_treatment", "absent treatment")):
        those = [row for row in found.rows if row.alarm == alarm]
        right = [row for row in those if row.kind == "found"]
        known = f" ({len(right)} right)" if any(row.label is not None for row in those) else ""
        split.append(f"{len(those)} {name}{known}")
    return ", ".join(split)


def text(found: PastReleases, plain: bool = False) -> str:
    """Return what a terminal shows: fitted to standard output, or plain text for a file or a pipe."""
    console = Console()
    if plain or not console.is_terminal:
        console = Console(file=io.StringIO(), width=_AWAY, color_system=None)
    with console.capture() as printed:
        render(found, console)
    return "\n".join(line.rstrip() for line in printed.get().splitlines()) + "\n"


def render(found: PastReleases, console: Console) -> None:
    """Print a backtest; everything as `Text`, because the names of releases are not ours."""
    console.print(Text(headline(found), style="bold"), highlight=False)
    console.print()
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, said in figures(found):
        grid.add_row(Text(name), Text(said))
    console.print(grid)
    for kind, name in LISTED.items():
        those = found.of(kind)
        if those:
            console.print()
            console.print(Text(f"{name} ({len(those)})", style="bold"), highlight=False)
            console.print(_listed(those[:MOST_ROWS]))
        if len(those) > MOST_ROWS:
            console.print(Text(f"and {len(those) - MOST_ROWS} more", style="dim"), highlight=False)
    for warning in found.warnings:
        console.print(Text(f"Warning  {printable(warning)}", style="yellow"), highlight=False)


def _listed(rows: Sequence[PastRelease]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    table.add_column("release", overflow="fold", max_width=40)
    for heading in ("outcome", "after"):
        table.add_column(heading, no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        cells = (clipped(row.release), row.alarm or row.outcome, wait(row.minutes_to_detect), score_cell(row))
        table.add_row(*map(Text, cells), Text(clipped(row.reason, _LONGEST_REASON)))
    return table


def score_cell(row: PastRelease) -> str:
    """Return how far the evidence got; of what went silent, or was never judged, no number says more."""
    return "-" if row.alarm == "absent_treatment" or not row.score > -1e6 else f"{row.score:+.1f}"

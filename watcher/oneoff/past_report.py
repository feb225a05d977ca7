"""The HTML report of a backtest: what it takes to look again, with other margins, and closely at single releases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from watcher.errors import DataError, WatcherError
from watcher.oneoff.backtested import Backtest
from watcher.oneoff.replay import stream_name
from watcher.oneoff.spread import PastCases, Progress, judge_all, spread
from watcher.report import charts, pages, past_page

MOST_CHARTS = 40
"""Releases that are drawn; the others are listed."""

MARGINS = (0.5, 2.0)
"""Times the margins asked for."""


def write(
    path: Path, cases: PastCases, found: Backtest, processes: int | None = None, progress: Progress | None = None
) -> None:
    """Write the report of a backtest.

    Args:
        path: the file.
        cases: what was judged.
        found: what came of it.
        processes: as for the backtest.
        progress: told how far each of the reruns is.

    Raises:
        DataError: the file cannot be written.
    """
    margins = [past_page.Margin(times, _with_margins(cases, times, processes, progress)) for times in MARGINS]
    margins.insert(1, past_page.Margin(1.0, found))
    text = past_page.page(found, margins, _pictures(cases, found, processes))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=str(path)) from error


def _with_margins(cases: PastCases, times: float, processes: int | None, progress: Progress | None) -> Backtest:
    return judge_all(cases.with_margins(times), processes, progress)


def _pictures(cases: PastCases, found: Backtest, processes: int | None) -> dict[str, str]:
    """Return a chart of the top stream of the most telling releases, by name."""
    tasks = {row.release: task for row, task in zip(found.rows, cases.tasks, strict=True)}
    chosen = [row for kind in past_page.SECTIONS for row in found.of(kind)][:MOST_CHARTS]
    drawn = [(tasks[row.release], row.top_stream) for row in chosen]
    pictures = spread(_picture, cases, drawn, processes)
    return {row.release: picture for row, picture in zip(chosen, pictures, strict=True) if picture}


def _picture(cases: PastCases, drawn: tuple[Any, str]) -> str:
    """Return the chart of both arms of one stream, as far as the horizon; empty where there is nothing to draw."""
    task, stream = drawn
    try:
        findings = cases.compared(task).findings
        for verdict in findings.streams:
            rule = findings.rule(verdict.rule)
            if rule is not None and stream_name(findings.watch, verdict) == stream:
                drawing = charts.arms(findings, rule, verdict)
                return pages.picture(charts.to_svg(drawing), f"{stream} over time: {verdict.reason}")
    except WatcherError:
        pass
    return ""

"""Past releases as HTML: a whole page in one file, and the piece of it that a notebook shows; no scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from watcher import reasons
from watcher.report import past_chart, past_templates
from watcher.report.cells import clipped
from watcher.report.drawing import to_svg
from watcher.report.json_report import iso
from watcher.report.pages import beside_others, picture
from watcher.report.past import PastRelease, PastReleases, Tallied
from watcher.report.past_table import LISTED, figures, headline, number, percent, score_cell, wait

SECTIONS = {
    "missed": ("Missed", "Known to be bad, and no alarm was raised before the horizon."),
    "false_alarm": ("False alarms", "Known to be fine, and an alarm was raised."),
    "alarm": ("Alarms without a label", "An alarm was raised, and nobody says what the release turned out to be."),
    "found": ("Found", "Known to be bad, and an alarm was raised."),
}
"""Kinds of releases that are shown one by one, in the order in which people want to see them."""


@dataclass(frozen=True)
class Margin:
    """What the same releases give with every margin so many times as large."""

    times: float
    found: PastReleases


def page(found: PastReleases, margins: Sequence[Margin] = (), pictures: Mapping[str, str] | None = None) -> str:
    """Return a page of HTML that needs nothing beside itself.

    Args:
        found: the backtest.
        margins: what other margins would have given.
        pictures: SVGs by name of release; one without a picture is listed in a table.
    """
    charts = (
        picture(to_svg(past_chart.alpha(found)), "Recall and false alarms against alpha"),
        picture(to_svg(past_chart.delay(found)), "Share of bad releases found against minutes"),
    )
    alpha_chart, delay_chart, *rest = beside_others([*charts, *(pictures or {}).values()])
    sections = _sections(found, dict(zip(pictures or {}, rest, strict=True)))
    return past_templates.PAGE.render(
        title=f"Backtest of {clipped(PurePath(found.name).name)}" if found.name else "Backtest",
        headline=headline(found),
        placebos=found.placebos,
        figures=figures(found),
        alphas=[(f"{each.alpha:g}", each.alpha == found.alpha, _outcome(each.tallied)) for each in found.alternatives],
        margins=[
            (_times(each.times), each.times == 1, [*_outcome(each.found.tallied()), _median(each.found)])
            for each in margins
        ],
        alpha_chart=alpha_chart,
        delay_chart=delay_chart,
        sections=sections,
        errors=[(clipped(row.release), row.reason) for row in found.of("error")],
        passed=[_cells(row) for row in found.of("passed", "unlabelled")],
        warnings=found.warnings,
    )


def _sections(found: PastReleases, drawn: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the kinds of releases that are shown one by one, with their charts as far as there are any."""
    sections: list[dict[str, Any]] = []
    for kind, (title, meaning) in SECTIONS.items():
        rows = found.of(kind)
        if rows:
            shown = [(_cells(row), drawn[row.release]) for row in rows if row.release in drawn]
            rest = [_cells(row) for row in rows if row.release not in drawn]
            texts = {"id": kind.replace("_", "-"), "title": title, "meaning": meaning}
            sections.append({**texts, "count": len(rows), "shown": shown, "rest": rest})
    return sections


def snippet(found: PastReleases) -> str:
    """Return summary, figures, misses and false alarms as one HTML element, for notebooks."""
    listed = [
        (name, [_cells(row) for row in found.of(kind)[:10]], len(found.of(kind)))
        for kind, name in LISTED.items()
        if found.of(kind)
    ]
    return past_templates.SNIPPET.render(headline=headline(found), figures=figures(found), listed=listed)


def _cells(row: PastRelease) -> dict[str, str]:
    return {
        "release": clipped(row.release),
        "outcome": row.alarm.replace("_", " ") or row.outcome.replace("_", " "),
        "exposed": (iso(row.exposed_at) or "").replace("T", " ").removesuffix("Z"),
        "after": wait(row.minutes_to_detect),
        "score": score_cell(row),
        "stream": clipped(row.top_stream),
        "reason": row.reason,
        "group": clipped(row.group),
    }


def _outcome(tallied: Tallied) -> list[str]:
    rate = tallied.false_alarms / tallied.fine if tallied.fine else None
    known = f"{tallied.found} of {tallied.bad}" if tallied.bad else "-"
    wrong = f"{tallied.false_alarms} of {tallied.fine}" if tallied.fine else "-"
    return [known, percent(tallied.recall), wrong, percent(rate), number(tallied.precision), number(tallied.f1)]


def _median(found: PastReleases) -> str:
    middle = found.minutes_to_detect(0.5)
    return "-" if middle is None else reasons.span(middle)


def _times(times: float) -> str:
    return {0.5: "half as large", 1: "as given", 2: "twice as large"}.get(times, f"{times:g} times as large")

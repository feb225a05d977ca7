"""Past releases for programs and analysts. The JSON is a promise; see schemas/backtest.schema.json."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from watcher.report.json_report import iso
from watcher.report.past import PastRelease, PastReleases, Tallied

SCHEMA = "watcher/backtest/1"
_TYPES = {
    "release": "str",
    "label": "Int64",
    "outcome": "str",
    "decided_at": "datetime64[ms, UTC]",
    "minutes_to_detect": "float64",
    "top_stream": "str",
    "positive": "bool",
    "alarm": "str",
    "score": "float64",
    "group": "str",
    "exposed_at": "datetime64[ms, UTC]",
    "reason": "str",
}
COLUMNS = tuple(_TYPES)
"""Columns every frame has, in this order."""


def to_json(found: PastReleases) -> dict[str, Any]:
    """Return a backtest as plain JSON types: what is undefined is null, times are ISO 8601 with Z."""
    tallied, groups = found.tallied(), found.groups
    interval = found.false_alarms.interval
    waits = {"median": found.minutes_to_detect(0.5), "p90": found.minutes_to_detect(0.9)}
    return {
        "schema": SCHEMA,
        "releases": len(found.rows),
        "precision": _rounded(tallied.precision),
        "recall": _rounded(tallied.recall),
        "f1": _rounded(tallied.f1),
        "false_alarm_rate": _rounded(found.false_alarm_rate),
        "minutes_to_detect": {name: _rounded(wait, 2) for name, wait in waits.items()},
        "best_f1": _rounded(found.best_f1),
        "rows": [_row(row) for row in found.rows],
        "false_alarm_interval": None if interval is None else [_rounded(bound) for bound in interval],
        "groups": {
            "cases": groups.cases,
            "hit_rate_1": _rounded(groups.hit_rate_1),
            "hit_rate_3": _rounded(groups.hit_rate_3),
        },
        "attributions": [
            {
                "group": group,
                "release": each.best,
                "ranking": [{"release": one.release, "reason": one.reason} for one in each.ranking],
            }
            for group, each in found.attributions.items()
        ],
        "alternatives": [{"alpha": each.alpha, **_figures(each.tallied)} for each in found.alternatives],
        "alpha": found.alpha,
        "looks_every": found.looks_every,
        "horizon": found.horizon,
        "placebos": found.placebos,
        "errors": len(found.of("error")),
        "took_seconds": _rounded(found.took_seconds, 3),
        "warnings": list(found.warnings),
    }


def to_frame(found: PastReleases) -> pd.DataFrame:
    """Return one row per release, in the order of the table; times as UTC timestamps."""
    frame = pd.DataFrame([_row(row) for row in found.rows], columns=list(COLUMNS))
    for name in ("decided_at", "exposed_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    frame["score"] = [row.score for row in found.rows]
    return frame.astype(_TYPES)


def _row(row: PastRelease) -> dict[str, Any]:
    return {
        "release": row.release,
        "label": row.label,
        "outcome": row.outcome,
        "decided_at": iso(row.decided_at),
        "minutes_to_detect": _rounded(row.minutes_to_detect, 2),
        "top_stream": row.top_stream,
        "positive": row.positive,
        "alarm": row.alarm,
        "score": _rounded(row.score),
        "group": row.group,
        "exposed_at": iso(row.exposed_at),
        "reason": row.reason,
    }


def _figures(tallied: Tallied) -> dict[str, Any]:
    return {
        "recall": _rounded(tallied.recall),
        "precision": _rounded(tallied.precision),
        "f1": _rounded(tallied.f1),
        "found": tallied.found,
        "false_alarms": tallied.false_alarms,
        "false_alarm_rate": _rounded(tallied.false_alarms / tallied.fine if tallied.fine else None),
    }


def _rounded(number: float | None, digits: int = 6) -> float | None:
    return None if number is None or not math.isfinite(number) else round(float(number), digits)

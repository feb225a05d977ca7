"""DataFrames for analysts: the JSON report, one row per stream."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

import pandas as pd

from watcher.model import Look
from watcher.report.findings import Findings, worst_first
from watcher.report.json_report import comparison

_TYPES = {
    "rule": "str",
    "outcome": "str",
    "reason": "str",
    "decided_at": "datetime64[ms, UTC]",
    "effect_measure": "str",
    "effect_estimate": "float64",
    "effect_lower": "float64",
    "effect_upper": "float64",
    "effect_confidence": "float64",
    "effect_of": "str",
    "baseline_events": "float64",
    "baseline_total": "float64",
    "baseline_units": "int64",
    "treatment_events": "float64",
    "treatment_total": "float64",
    "treatment_units": "int64",
    "log_e_regressed": "float64",
    "log_e_healthy": "float64",
    "needs_events": "float64",
    "needs_minutes": "float64",
    "needs_minutes_90": "float64",
    "needs_limit": "str",
    "calibration_dispersion": "float64",
    "calibration_from": "str",
    "calibration_digest": "str",
    "sick_unit": "str",
    "would_change": "str",
    "dormant": "bool",
}
COLUMNS = tuple(_TYPES)
"""Columns every frame has, in this order; the labels stand after `rule`."""


def streams(findings: Findings) -> pd.DataFrame:
    """Return one row per stream, worst first: the JSON fields flattened, times as UTC timestamps.

    A label is a column of its own name, or `label_NAME` where that name is taken.
    """
    said = comparison(findings)["streams"]
    names = sorted({name for stream in said for name in stream["labels"]})
    columns = {name: _column(name, _TYPES) for name in names}
    rows = [dict(_flat(stream)) | {columns[key]: text for key, text in stream["labels"].items()} for stream in said]
    frame = pd.DataFrame(rows, columns=[COLUMNS[0], *columns.values(), *COLUMNS[1:]])
    frame["decided_at"] = pd.to_datetime(frame["decided_at"], utc=True, format="ISO8601")
    frame["dormant"] = frame["dormant"].eq(True)
    return frame.astype(_TYPES)


def look(found: Look) -> pd.DataFrame:
    """Return one row per stream of a look, the worst first; labels are columns as in `streams`."""
    rows = [
        {
            "rule": each.rule,
            **{_column(name, {*COLUMNS, "threshold"}): value for name, value in each.labels},
            "outcome": each.outcome.value,
            "effect_estimate": each.effect.estimate,
            "effect_lower": each.effect.lower,
            "effect_upper": each.effect.upper,
            "log_e_regressed": each.log_e_regressed,
            "log_e_healthy": each.log_e_healthy,
            "threshold": each.threshold,
            "reason": each.reason,
        }
        for each in worst_first(found.verdict.streams)
    ]
    return pd.DataFrame(rows)


def _column(label: str, taken: Container[str]) -> str:
    """Return the column of a label: its own name, unless that is taken."""
    return f"label_{label}" if label in taken else label


def _flat(stream: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in stream.items():
        if key == "labels":
            continue
        if isinstance(value, dict):
            yield from ((f"{key}_{inner}", each) for inner, each in value.items())
        elif key != "needs":
            yield key, value

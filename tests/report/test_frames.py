from __future__ import annotations

from dataclasses import replace

import pandas as pd

from tests.report.examples import REGRESSED, everything, findings
from watcher.model import labels
from watcher.report import frames


def test_a_frame_has_a_row_per_stream_the_worst_first() -> None:
    frame = frames.streams(everything())
    assert frame["outcome"].tolist() == ["regressed", "no_data", "inconclusive", "healthy", "healthy", "no_data"]
    assert frame["feature"].tolist()[0] == "checkout"
    assert pd.isna(frame["feature"][1])
    first = frame.iloc[0]
    assert (first["effect_estimate"], first["baseline_events"], first["treatment_total"]) == (2.14, 61.0, 5990.0)
    assert first["decided_at"] == pd.Timestamp("2026-11-18T10:34:00Z")
    assert frame["needs_minutes"].tolist()[2] == 35.0
    assert frame["dormant"].tolist() == [False] * 5 + [True]


def test_a_frame_has_the_same_columns_and_types_whatever_is_in_it() -> None:
    full, empty = frames.streams(everything()), frames.streams(findings())
    assert list(empty.columns) == list(frames.COLUMNS)
    assert full.drop(columns="feature").dtypes.equals(empty.dtypes)


def test_a_label_that_is_called_like_a_column_is_set_apart() -> None:
    frame = frames.streams(findings(replace(REGRESSED, labels=labels({"outcome": "paid", "region": "eu"}))))
    assert (frame["outcome"][0], frame["label_outcome"][0], frame["region"][0]) == ("regressed", "paid", "eu")

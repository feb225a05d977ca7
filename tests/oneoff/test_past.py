"""`watcher.backtest`: what it would have said of past releases, and that it says it as the shipped pipeline does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import watcher
from tests.oneoff.past import EXPOSED, canaries, canary, load_times
from watcher.errors import DataError
from watcher.model import Outcome
from watcher.report.past import ABSENT

RATIO = {"ratio": "errors/requests", "processes": 1}
GAUGE = {"gauge": "load_time", "worse": "higher", "processes": 1}


def test_all_of_15_releases_with_tripled_errors_are_found_and_at_most_one_of_15_fine_ones_is_a_false_alarm() -> None:
    found = watcher.backtest(canaries(30), ratio="errors/requests", horizon="30m", looks_every="2m")
    assert (found.recall, found.tallied().bad, found.tallied().fine) == (1.0, 15, 15)
    assert found.false_alarms.hits <= 1
    assert found.minutes_to_detect(0.9) < 15
    assert found.groups.cases == 15
    assert found.groups.hit_rate_1 >= 14 / 15


def test_looking_every_minute_decides_when_one_comparison_at_the_end_says_it_was_decided() -> None:
    frame = canaries(4)
    rows = {row.release: row for row in watcher.backtest(frame, **RATIO, horizon="1h").rows}
    for comparison in watcher.compare(frame, ratio="errors/requests"):
        (stream,) = comparison.findings.verdict.streams
        row = rows[comparison.findings.watch.release.feature]
        assert (row.outcome, row.decided_at) == (stream.outcome, stream.decided_at)
        if stream.outcome is Outcome.REGRESSED:
            assert stream.decided_at is not None
            assert row.minutes_to_detect == (stream.decided_at - EXPOSED) / 60
            assert (row.top_stream, row.alarm) == ("errors/requests", "regressed")


def test_nothing_that_comes_after_the_alarm_changes_what_was_said() -> None:
    whole = watcher.backtest(load_times(label=1, worse=1.5), **GAUGE).rows[0]
    frame = load_times(label=1, worse=1.5)
    (cut,) = watcher.backtest(frame[frame["timestamp"] <= whole.decided_at], **GAUGE).rows
    assert whole.alarm == "regressed"
    assert (cut.decided_at, cut.reason, cut.minutes_to_detect) == (
        whole.decided_at,
        whole.reason,
        whole.minutes_to_detect,
    )


def test_the_horizon_cuts_what_begins_after_it() -> None:
    late = load_times(label=1, worse=2.0, hours=3, onset=100)
    (short,), (long,) = (watcher.backtest(late, **GAUGE, horizon=each).rows for each in ("90m", "3h"))
    assert not short.positive
    assert long.positive
    assert 100 < long.minutes_to_detect < 130
    (same,) = watcher.backtest(late[late["timestamp"] <= EXPOSED + 90 * 60], **GAUGE, horizon="90m").rows
    assert same == short


def test_looks_that_are_rarer_alarm_at_their_own_time() -> None:
    frame = load_times(label=1, worse=1.5)
    (minutely,), (rarely,) = (watcher.backtest(frame, **GAUGE, looks_every=each).rows for each in ("60s", "10m"))
    assert rarely.decided_at == minutely.decided_at
    assert rarely.minutes_to_detect == 10 * np.ceil(minutely.minutes_to_detect / 10)


def test_a_silent_treatment_is_an_alarm_of_its_own_kind() -> None:
    frame = canary("v1", 1)
    silent = (frame["arm"] == "treatment") & (frame["timestamp"] > EXPOSED + 600)
    found = watcher.backtest(pd.concat([frame[~silent], canary("v2", 0, seed=2)]), **RATIO)
    row = found.rows[0]
    assert (row.outcome, row.alarm, row.kind, row.score) == ("no_data", "absent_treatment", "found", ABSENT)
    assert 10 < row.minutes_to_detect <= 20
    assert "has sent nothing" in row.reason
    assert (found.recall, found.false_alarm_rate) == (1.0, 0.0)


def test_a_release_with_broken_rows_is_told_and_does_not_stop_the_others() -> None:
    frame = canaries(4)
    spoiled = frame.index[(frame["release"] == "v1") & (frame["arm"] == "treatment")][3]
    frame.loc[spoiled, "errors"] = -5
    found = watcher.backtest(frame, **RATIO, horizon="30m")
    (broken,) = found.of("error")
    assert broken.release == "v1"
    assert f"row {spoiled + 1}, column errors: -5 is negative" in broken.reason
    assert (found.tallied().bad, found.tallied().fine, found.recall) == (1, 2, 1.0)
    assert found.groups.cases == 1
    assert found.to_json()["errors"] == 1


def test_where_no_release_can_be_judged_the_first_reason_is_the_error() -> None:
    with pytest.raises(DataError, match=r"no column 'request'.*for all 2 releases"):
        watcher.backtest(canaries(2), ratio="errors/request", processes=1)


def test_releases_that_contradict_themselves_are_errors() -> None:
    frame = canaries(6)
    first = {release: rows.index[0] for release, rows in frame.groupby("release")}
    frame["label"] = frame["label"].astype(object)
    frame.loc[first["v1"], "label"] = 0
    frame.loc[frame["release"] == "v2", "label"] = "maybe"
    frame.loc[first["v3"], "exposed_at"] += 60
    frame.loc[first["v4"], "group"] = "other"
    found = watcher.backtest(frame, **RATIO, horizon="5m")
    reasons = {row.release: row.reason for row in found.of("error")}
    assert list(reasons) == ["v1", "v2", "v3", "v4"]
    assert "a release has one" in reasons["v1"]
    assert "'maybe' is no label" in reasons["v2"]
    assert "one time of exposure" in reasons["v3"]
    assert "column group" in reasons["v4"]


def test_several_processes_say_what_one_does() -> None:
    frame, told = canaries(6), []
    alone = watcher.backtest(frame, **RATIO, horizon="20m")
    shared = watcher.backtest(
        frame, ratio="errors/requests", horizon="20m", processes=2, progress=lambda *now: told.append(now)
    )
    assert shared.rows == alone.rows
    assert told == [(done, 6) for done in range(7)]


def test_releases_without_labels_are_judged_but_nothing_is_known_of_misses_and_false_alarms() -> None:
    found = watcher.backtest(canaries(4).drop(columns=["label", "group"]), **RATIO, horizon="30m")
    assert [row.positive for row in found.rows] == [False, True, False, True]
    said = found.to_json()
    undefined = ("precision", "recall", "f1", "false_alarm_rate", "best_f1", "false_alarm_interval")
    assert [said[name] for name in undefined] == [None] * len(undefined)
    assert said["minutes_to_detect"] == {"median": None, "p90": None}
    assert repr(found) == "<Backtest: Alarms on 2 of 4 releases; no label says which of them are right>"


def test_each_release_has_the_rules_of_its_own_metrics_and_a_direction_by_glob() -> None:
    slow = load_times("v1", 1, 1.5).rename(columns={"load_time": "value"}).assign(metric="load_ms")
    calm = load_times("v2", 0, 1.0, seed=2).rename(columns={"load_time": "value"}).assign(metric="paint_ms")
    more = load_times("v3", 0, 1.5, seed=3).rename(columns={"load_time": "value"}).assign(metric="success_pct")
    worse = ["*_pct=lower", "*_ms=higher"]
    found = watcher.backtest(pd.concat([slow, calm, more]), gauge="value", worse=worse, processes=1)
    assert [(row.top_stream, row.positive) for row in found.rows] == [
        ("load_ms", True),
        ("paint_ms", False),
        ("success_pct", False),
    ]
    with pytest.raises(DataError, match=r"higher is said to be worse for '\*_s', which is no metric"):
        watcher.backtest(pd.concat([slow, calm]), gauge="value", worse="*_s=higher")


def test_what_stays_within_its_margin_is_no_alarm_however_strong_the_evidence() -> None:
    frame = pd.concat([load_times(f"v{n}", 1, 1.5, seed=n) for n in range(3)])
    tight, wide = (watcher.backtest(frame, **GAUGE, margin=each) for each in ("10%", "100%"))
    assert (tight.recall, wide.recall) == (1.0, 0.0)
    assert all(row.score > 0 for row in tight.rows)
    assert all(-0.001 < row.score < 0 for row in wide.rows)


# --- without labels and releases: placebos ---------------------------------------------------------------------------


def test_without_labels_and_releases_the_false_alarm_rate_is_that_of_placebos_in_the_own_history() -> None:
    frame = load_times(history=48, hours=0.02).drop(columns=["release", "label", "exposed_at"])
    found = watcher.backtest(frame, gauge="load_time", worse="higher", looks_every="5m", processes=1)
    assert (found.placebos, len(found.rows)) == (True, 12)
    assert {row.label for row in found.rows} == {0}
    assert found.false_alarms.hits <= 1
    assert (found.recall, found.precision, found.f1) == (None, None, None)
    assert repr(found).startswith(f"<Backtest: False alarms on {found.false_alarms.hits} of 12 placebo releases")
    assert found.warnings[0].startswith("nobody says when anything was released")


def test_placebos_keep_away_from_the_release_there_was_and_have_history_before_them() -> None:
    frame = load_times(worse=3.0, hours=12, history=24).drop(columns=["release", "label"])
    found = watcher.backtest(frame, **GAUGE, horizon="1h", looks_every="5m")
    hours = (np.array([row.exposed_at for row in found.rows]) - EXPOSED) / 3600
    assert found.false_alarms.of == len(hours) > 10
    assert not ((hours > -2) & (hours < 1)).any()
    assert hours.min() >= -24 + 18  # half of the table
    assert np.diff(np.sort(hours)).min() >= 1
    assert found.warnings == ()


def test_the_time_of_the_release_may_be_given() -> None:
    frame = load_times(worse=3.0, hours=6, history=24).drop(columns=["release", "label", "exposed_at"])
    with_it = watcher.backtest(frame, **GAUGE, at=EXPOSED, horizon="1h", looks_every="5m")
    without = watcher.backtest(frame, **GAUGE, horizon="1h", looks_every="5m")
    assert with_it.false_alarms.hits < without.false_alarms.hits


def test_arms_that_differ_since_the_release_are_no_place_for_placebos() -> None:
    frame = canary("v1", None, 3.0, minutes=600).drop(columns=["label", "release"])
    found = watcher.backtest(frame, **RATIO, horizon="30m")
    assert len(found.rows) > 0
    assert max(row.exposed_at for row in found.rows) <= EXPOSED - 3600
    with pytest.raises(DataError, match="no room for placebo releases"):
        watcher.backtest(frame.drop(columns="exposed_at"), **RATIO, horizon="30m")


def test_a_single_release_with_a_label_is_no_placebo() -> None:
    found = watcher.backtest(load_times(label=1, worse=1.5), **GAUGE)
    assert (found.placebos, found.recall, len(found.rows)) == (False, 1.0, 1)


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0.0}, {"looks_every": 0}, {"horizon": 0}, {"horizon": "soon"}, {"worse": "sideways"}]
)
def test_an_argument_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|alpha|looks"):
        watcher.backtest(canaries(2), **{**RATIO, **wrong})


def test_one_time_of_exposure_cannot_be_that_of_several_releases() -> None:
    with pytest.raises(DataError, match="--at is of one release"):
        watcher.backtest(canaries(2), **RATIO, at=EXPOSED)


def test_the_report_is_one_file_with_other_margins_and_a_chart_of_every_release_that_tells_something(
    tmp_path: Path,
) -> None:
    page = tmp_path / "report.html"
    found = watcher.backtest(canaries(4, worse=1.9), **RATIO, horizon="20m", looks_every="5m", report=page)
    text = page.read_text(encoding="utf-8")
    assert found.false_alarms.of == 2
    for said in ("Found 2 of 2 bad releases", "half as large", "twice as large", "Time to detect", "Found (2)"):
        assert said in text
    assert text.count('<svg role="img"') == 4
    assert "errors/requests over time" in text
    with pytest.raises(DataError, match="cannot be written"):
        watcher.backtest(canaries(2), **RATIO, horizon="5m", report=tmp_path / "nowhere" / "report.html")

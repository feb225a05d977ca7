"""What a tidy table is refused for, and that the message names the file, the row and the column."""

from __future__ import annotations

import builtins
import gzip
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watcher.errors import DataError
from watcher.model import Kind, Request, Rule, Selector, labels
from watcher.sources.tidy import TidyTable, read_table, split_releases

T0 = 1_763_632_800.0

RATIO = Rule("errors/requests", Kind.RATIO, Selector("errors"), Selector("requests"))
RATE = replace(RATIO, name="rate", kind=Kind.RATE)
GAUGE = Rule("load_time", Kind.GAUGE, Selector("load_time"))
LATENCY = Rule("duration", Kind.LATENCY, Selector("duration"), objective=0.5)


def shop(**columns: object) -> pd.DataFrame:
    rows = {
        "timestamp": [T0 + 60, T0 + 60, T0 + 120, T0 + 120],
        "arm": ["baseline", "treatment", "baseline", "treatment"],
        "errors": [1, 2, 3, 4],
        "requests": [10, 20, 30, 40],
        "load_time": [1.0, 2.0, 3.0, 4.0],
        "duration": [0.1, 0.2, 0.3, 0.7],
    }
    return pd.DataFrame({**rows, **columns})


def buckets(**columns: object) -> pd.DataFrame:
    rows = {
        "timestamp": [T0 + 60] * 3 + [T0 + 120] * 3,
        "le": ["0.1", "0.5", "+Inf"] * 2,
        "count": [1, 2, 3, 4, 5, 6],
    }
    return pd.DataFrame({**rows, **columns})


def refused(call: Callable[[], object], row: int | None, column: str | None, says: str) -> DataError:
    with pytest.raises(DataError, match=says) as caught:
        call()
    assert (caught.value.row, caught.value.column) == (row, column)
    return caught.value


def table(frame: pd.DataFrame, *rules: Rule, **options: Any) -> Callable[[], TidyTable]:
    return lambda: TidyTable.of(frame, rules, name="shop.csv", **options)


def test_the_message_names_the_file_the_row_and_the_column():
    error = refused(table(shop(errors=[1, 2, -3, 4]), RATIO), 3, "errors", "-3 is negative")
    assert str(error).startswith("shop.csv, row 3, column errors: ")


# --- arms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arm", ["Baseline", "test", " canary"])
def test_an_unknown_arm(arm: str):
    refused(table(shop(arm=["baseline", "canary", arm, "control"]), RATIO), 3, "arm", f"unknown arm '{arm}'")


def test_a_baseline_asked_of_a_table_without_arms():
    made = table(shop(arm="", timestamp=T0 + 60 * np.arange(4)), RATIO)()
    request = Request((RATIO,), made.start, made.end, 60, baseline=labels({"arm": "baseline"}))
    refused(lambda: made.observe(request), None, "arm", "no arms to compare")


# --- timestamps ------------------------------------------------------------------------------------------------------

GOOD = "2025-11-20T10:01:00Z"


@pytest.mark.parametrize(
    ("times", "row", "says"),
    [
        ([T0, np.nan, T0, T0], 2, "the time is missing"),
        ([GOOD, GOOD, None, GOOD], 3, "the time is missing"),
        ([GOOD, GOOD, "", GOOD], 3, "the time is missing"),
        (pd.to_datetime([T0, T0, T0, None], unit="s", utc=True), 4, "the time is missing"),
        ([GOOD, "yesterday", GOOD, GOOD], 2, "'yesterday' is not a time"),
        ([GOOD, GOOD, GOOD, "2025-13-20T10:01:00Z"], 4, "is not a time"),
        ([GOOD, GOOD, "2025-11-20T10:01:00", GOOD], 3, "does not say in which time zone; write the offset"),
        ([GOOD, "2025-11-20", GOOD, GOOD], 2, "does not say in which time zone"),
        ([GOOD, "now", GOOD, GOOD], 2, "now"),
        (pd.to_datetime([T0, T0, T0, T0], unit="s"), 1, "does not say in which time zone"),
        ([T0, T0, np.inf, T0], 3, "inf is not a time"),
        ([T0, T0 * 1000, T0, T0], 2, "too large for epoch seconds; divide milliseconds by 1000"),
    ],
)
def test_a_timestamp_that_is_missing_unparsable_or_naive(times: object, row: int, says: str):
    refused(table(shop(timestamp=times), RATIO), row, "timestamp", says)


def test_an_exposure_time_that_is_naive():
    frame = shop(exposed_at=[None, "2025-11-20T10:01:00", None, None])
    refused(table(frame, RATIO), 2, "exposed_at", "does not say in which time zone")


def test_several_exposure_times_in_one_release():
    refused(table(shop(change_time=[T0, np.nan, T0, T0 + 60]), RATIO), 4, "change_time", "one time of exposure")


# --- counts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [RATIO, RATE], ids=["ratio", "rate"])
@pytest.mark.parametrize(
    ("column", "values", "row", "says"),
    [
        ("errors", [1, 2, 3, -4], 4, "-4 is negative; a count cannot be"),
        ("requests", [10, 20.5, 30, 40], 2, "20.5 is a fraction; a count is a whole number"),
        ("errors", [1, 2, np.inf, 4], 3, "inf is not a measurement"),
        ("requests", [10, -np.inf, 30, 40], 2, "-inf is not a measurement"),
        ("requests", ["10", "20", "thirty", "40"], 3, "'thirty' is not a number"),
        ("errors", [np.nan, 2, 3, 4], 1, "the count is missing.*--drop-bad-rows"),
        ("requests", ["10", "20", "30", "NA"], 4, "the count is missing"),
    ],
)
def test_a_count_that_is_none(rule: Rule, column: str, values: list[object], row: int, says: str):
    refused(table(shop(**{column: values}), rule), row, column, says)


def test_events_above_their_total():
    refused(table(shop(errors=[1, 21, 3, 4]), RATIO), 2, "errors", "21 errors of 20 requests: a part cannot exceed")
    table(shop(errors=[1, 21, 3, 4]), RATE)()


def test_events_above_their_total_in_a_long_table():
    frame = shop(unit="a").melt(["timestamp", "arm", "unit"], ["requests", "errors"], "metric")
    frame.loc[6, "value"] = 31
    refused(table(frame, RATIO), 7, "value", "31 errors of 30 requests")


def test_events_whose_total_is_not_there():
    frame = shop().melt(["timestamp", "arm"], ["errors", "requests"], "metric").drop(index=7)
    refused(table(frame, RATIO), 4, "value", "4 errors of 0 requests")


@pytest.mark.parametrize("bad", [-1, 0.5, np.inf])
def test_dropping_bad_rows_drops_missing_counts_only(bad: float):
    frame = shop(errors=[np.nan, 2, bad, 4])
    refused(table(frame, RATIO, drop_bad_rows=True), 3, "errors", "negative|fraction|measurement")


def test_a_rule_does_not_refuse_rows_it_does_not_read():
    frame = shop().melt(["timestamp", "arm"], ["errors", "requests"], "metric")
    other = shop().melt(["timestamp", "arm"], ["load_time"], "metric").assign(value=[-1, 0.5, np.inf, np.nan])
    table(pd.concat([frame, other]), RATIO)()


# --- gauges and durations --------------------------------------------------------------------------------------------


def test_an_infinite_gauge():
    refused(table(shop(load_time=[1, -2, np.nan, np.inf]), GAUGE), 4, "load_time", "inf is not a measurement")


def test_a_gauge_that_is_text():
    refused(table(shop(load_time=["1", "fast", "2", "3"]), GAUGE), 2, "load_time", "'fast' is not a number")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (-0.1, "-0.1 is negative; a duration cannot be"),
        (np.inf, "inf is not"),
        (np.nan, "the count is missing|missing"),
    ],
)
def test_a_duration_that_is_none(bad: float, says: str):
    refused(table(shop(duration=[0.1, 0.2, bad, 0.4]), LATENCY), 3, "duration", says)


def test_a_latency_without_an_objective():
    made = table(shop(), replace(LATENCY, objective=None))()
    request = Request((replace(LATENCY, objective=None),), made.start, made.end, 60)
    refused(lambda: made.observe(request), None, None, "'duration' has no objective")


def test_an_unknown_unit_of_time():
    refused(table(shop(), LATENCY, unit_of_time="min"), None, None, "unknown unit of time 'min'; one of s, ms, us, ns")


# --- histograms ------------------------------------------------------------------------------------------------------


def test_an_objective_that_is_no_edge():
    made = table(buckets(), LATENCY)()
    request = Request((replace(LATENCY, objective=0.3),), made.start, made.end, 60)
    refused(
        lambda: made.observe(request), None, "le", r"objective 0.3 s .* not a bucket edge; edges in seconds: 0.1, 0.5"
    )


@pytest.mark.parametrize("les", [["0.1", "0.5", "+Inf", "0.1", "0.9", "+Inf"], ["0.1", "0.5", "+Inf", "0.1", "+Inf"]])
def test_mixed_bucket_layouts(les: list[str]):
    frame = buckets().iloc[: len(les)].assign(le=les)
    refused(
        table(frame, LATENCY), 4, "le", r"mixed bucket layouts: edges 0.1, (0.9, )?\+Inf here, edges 0.1, 0.5, \+Inf"
    )


def test_mixed_bucket_layouts_between_arms():
    frame = pd.concat(
        [buckets(arm="baseline"), buckets(arm="treatment", le=["0.1", "1", "+Inf"] * 2)], ignore_index=True
    )
    refused(table(frame, LATENCY), 7, "le", "mixed bucket layouts")


def test_buckets_that_are_not_cumulative():
    refused(table(buckets(count=[1, 2, 3, 4, 3, 6]), LATENCY), 5, "count", "3 at le=0.5 is below the bucket before it")


def test_buckets_without_infinity():
    frame = buckets().query("le != '+Inf'").reset_index(drop=True)
    refused(table(frame, LATENCY), 2, "le", r"no \+Inf bucket")


@pytest.mark.parametrize(
    ("le", "says"),
    [("fast", "'fast' is not the upper edge"), (None, "needs its upper edge"), ("", "needs its upper edge")],
)
def test_a_bucket_edge_that_is_none(le: str | None, says: str):
    refused(table(buckets(le=["0.1", "0.5", "+Inf", "0.1", le, "+Inf"]), LATENCY), 5, "le", says)


@pytest.mark.parametrize(
    ("count", "says"),
    [(-1, "negative"), (1.5, "fraction"), (np.inf, "not a measurement"), (np.nan, "count is missing")],
)
def test_a_bucket_count_that_is_none(count: float, says: str):
    refused(table(buckets(count=[1, 2, 3, count, 5, 6]), LATENCY), 4, "count", says)


def test_a_count_rule_that_would_add_up_buckets():
    frame = buckets(metric="errors")
    rule = replace(RATIO, total=Selector("errors"))
    refused(table(frame, rule), 1, "le", "every row of 'errors' is a histogram bucket")


# --- duplicates ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [RATIO, RATE, GAUGE], ids=["ratio", "rate", "gauge"])
def test_duplicate_rows(rule: Rule):
    frame = pd.concat([shop(feature="a"), shop(feature="b"), shop(feature="a").iloc[[2]]], ignore_index=True)
    refused(table(frame, rule), 9, "timestamp", "duplicate of row 3: the same timestamp, arm, feature; .* with by")


def test_duplicate_rows_when_the_labels_left_are_summed_over():
    frame = pd.concat([shop(feature="a", unit="x"), shop(feature="a", unit="x").iloc[[0]]], ignore_index=True)
    refused(table(frame, RATIO, by=("feature",)), 5, "timestamp", "duplicate of row 1")


def test_duplicate_buckets():
    frame = buckets(le=["0.1", "0.5", "+Inf", "0.1", "+Inf", "+Inf"])
    refused(table(frame, LATENCY), 6, "timestamp", "duplicate of row 5")


def test_duplicate_rows_by_names_of_arms_that_mean_the_same():
    refused(table(shop(arm=["baseline", "control", "baseline", "canary"]), RATIO), 2, "timestamp", "duplicate of row 1")


@pytest.mark.parametrize("change", [{"unit": ["a", "b", "c", "d"]}, {"feature": [1, 2, 3, 4]}, {"zone": list("abcd")}])
def test_rows_that_differ_in_a_label_or_unit_are_not_duplicates(change: dict[str, object]):
    table(shop(arm="baseline", timestamp=T0, **change), RATIO)()


def test_rows_that_differ_in_a_number_are_duplicates_until_it_is_named():
    frame = shop(arm="baseline", timestamp=T0, shard=[1, 2, 3, 4])
    refused(table(frame, RATIO), 2, "timestamp", "duplicate of row 1")
    table(frame, RATIO, by=("shard",))()


# --- columns, metrics, releases --------------------------------------------------------------------------------------


def test_a_table_without_timestamps():
    refused(
        table(shop().rename(columns={"timestamp": "time_stamp"}), RATIO),
        None,
        "timestamp",
        r"no column 'timestamp'; did you mean 'time_stamp'\? \(there are: time_stamp, arm, errors, requests",
    )


def test_a_rule_whose_column_is_missing():
    refused(
        table(shop().drop(columns="requests"), RATIO), None, "requests", "no column 'requests'.*there are: timestamp"
    )
    refused(
        table(shop().rename(columns={"errors": "Error"}), RATIO),
        None,
        "errors",
        "no column 'errors'; did you mean 'Error'",
    )


def test_a_rule_whose_metric_never_occurs():
    frame = shop().melt(["timestamp", "arm"], ["requests", "duration"], "metric")
    refused(table(frame, RATIO), None, "metric", r"no metric 'errors'.*there are: duration, requests")


def test_a_metric_without_values():
    frame = shop().melt(["timestamp", "arm"], ["requests", "errors"], "metric", "amount")
    refused(table(frame, RATIO), None, "value", "no column 'value'")


def test_by_a_column_that_is_missing_or_reserved():
    refused(table(shop(feature="a"), RATIO, by=("features",)), None, "features", "did you mean 'feature'")
    refused(table(shop(), RATIO, by=("arm",)), None, "arm", "cannot make streams")


@pytest.mark.parametrize("frame", [pd.DataFrame(), shop().iloc[:0]], ids=["nothing", "no rows"])
def test_an_empty_table(frame: pd.DataFrame):
    refused(table(frame, RATIO), None, None, "the table has no rows")


def test_a_column_that_occurs_twice():
    frame = pd.concat([shop(), shop()[["errors"]]], axis=1)
    refused(table(frame, RATIO), None, "errors", "this column twice")


def test_several_releases_at_once():
    frame = shop(release=["v1", "v1", "v2", "v2"])
    refused(table(frame, RATIO), None, "release", "holds 2 releases; judge each by itself")
    refused(table(frame, RATIO, release="v3"), None, "release", r"no release 'v3' \(there are: v1, v2\)")


def test_a_row_without_a_release():
    frame = shop(release_id=["v1", "", "v2", "v2"])
    refused(lambda: split_releases(frame, name="shop.csv"), 2, "release_id", "the release is missing")


def test_a_rule_the_table_was_not_read_for():
    made = table(shop(), RATIO)()
    refused(
        lambda: made.observe(Request((GAUGE,), made.start, made.end, 60)), None, None, "not read for rule 'load_time'"
    )


def test_more_streams_than_fit_into_memory():
    count = 2000
    frame = pd.DataFrame(
        {
            "timestamp": T0 + 3600 * np.arange(count),
            "errors": 1,
            "requests": 2,
            "trace": [f"id-{row}" for row in range(count)],
            "zone": "a",
        }
    )
    made = table(frame, RATIO, block=60)()
    request = Request((RATIO,), made.start, made.end, 60)
    refused(lambda: made.observe(request), None, "trace", "2000 streams .* column trace alone has 2000 values")


# --- rows ------------------------------------------------------------------------------------------------------------


def test_rows_of_a_filtered_frame_keep_the_numbers_they_had():
    frame = shop(errors=[1, 2, 3, -4])
    refused(table(frame.query("arm == 'treatment'"), RATIO), 4, "errors", "negative")


def test_rows_of_a_frame_whose_index_is_no_count_are_numbered_by_position():
    frame = shop(errors=[1, 2, 3, -4]).set_axis(["a", "b", "c", "d"])
    refused(table(frame, RATIO), 4, "errors", "negative")
    refused(table(frame.iloc[::-1], RATIO), 1, "errors", "negative")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("absent.csv", None, "cannot be read: No such file"),
        ("empty.csv", b"", "cannot be read"),
        ("ragged.csv", b"timestamp,errors\n1,2\n1,2,3\n", "cannot be read.*line 3"),
        ("latin.csv", b"timestamp,feature\n1,caf\xe9\n", "cannot be read"),
        ("plain.csv.gz", b"timestamp\n1\n", "cannot be read"),
        ("cut.csv.gz", gzip.compress(b"timestamp\n" + b"1\n" * 9999, mtime=0)[:-20], "cannot be read"),
        ("broken.parquet", b"PAR1 no", "cannot be read"),
        ("absent.parquet", None, "cannot be read: No such file"),
        ("shop.xlsx", b"", "no known kind; a table is a .csv, .csv.gz or .parquet file"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_file_that_cannot_be_read(tmp_path, name: str, content: bytes | None, says: str):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=says) as caught:
        read_table(path)
    assert caught.value.file == str(path)


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    shop().to_parquet(tmp_path / "shop.parquet")
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> object:
        if name.split(".")[0] == "pyarrow" and rest[0]["__name__"] == "watcher.sources.tidy.files":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r"extra `parquet`: pip install 'release-watcher\[parquet\]'") as caught:
        read_table(tmp_path / "shop.parquet")
    assert caught.value.file == str(tmp_path / "shop.parquet")


def test_rows_of_a_csv_are_named_below_the_header(tmp_path):
    path = tmp_path / "shop.csv"
    path.write_text(
        "timestamp,arm,errors,requests\n2025-11-20T10:01:00Z,baseline,1,2\n2025-11-20T10:01:00,canary,1,2\n"
    )
    frame = read_table(path)
    refused(lambda: TidyTable.of(frame, [RATIO], name=str(path)), 2, "timestamp", "time zone")

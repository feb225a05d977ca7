from __future__ import annotations

import builtins
import gzip
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from watcher.errors import DataError
from watcher.model import Kind, Matcher, Observations, Request, Rule, Selector, Worse, labels
from watcher.sources.tidy import TidyTable, read_table, split_releases
from watcher.sources.tidy.buckets import duration_edges

T0 = 1_763_632_800.0  # 2025-11-20T10:00:00Z
BASELINE, TREATMENT = labels({"arm": "baseline"}), labels({"arm": "treatment"})

RATIO = Rule("errors/requests", Kind.RATIO, Selector("errors"), Selector("requests"))
RATE = Rule("completed/started", Kind.RATE, Selector("completed"), Selector("started"))
GAUGE = Rule("load_time", Kind.GAUGE, Selector("load_time"))
LATENCY = Rule("duration", Kind.LATENCY, Selector("duration"), objective=0.5)


def observed(table: TidyTable, rule: Rule, *, arms: bool = True, **changes: object) -> Observations:
    request = Request(
        (rule,),
        table.start,
        table.end,
        table.block,
        baseline=BASELINE if arms else None,
        treatment=TREATMENT if arms else None,
    )
    return table.observe(replace(request, **changes))[rule.name]  # type: ignore[arg-type]


def shop(**columns: object) -> pd.DataFrame:
    """Two blocks, two arms, one row each."""
    rows = {
        "timestamp": [T0 + 60, T0 + 60, T0 + 120, T0 + 120],
        "arm": ["baseline", "treatment", "baseline", "treatment"],
        "errors": [1, 2, 3, 4],
        "requests": [10, 20, 30, 40],
    }
    return pd.DataFrame({**rows, **columns})


def traffic(seed: int = 1, units: bool = True) -> pd.DataFrame:
    """Random counts for 3 features, 2 arms, 2 pods and 5 blocks, in random order."""
    rng = np.random.default_rng(seed)
    grid = pd.MultiIndex.from_product(
        [T0 + 60 * np.arange(1, 6), ["control", "canary"], ["cart", "pay", "search"], ["a", "b"]],
        names=["timestamp", "arm", "feature", "unit"],
    )
    frame = grid.to_frame(index=False)
    frame["requests"] = rng.poisson(40, len(frame))
    frame["errors"] = rng.binomial(frame["requests"], 0.1)
    if not units:
        frame = frame.groupby(["timestamp", "arm", "feature"], as_index=False)[["errors", "requests"]].sum()
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def same(one: Observations, other: Observations) -> None:
    assert one.streams == other.streams
    np.testing.assert_array_equal(one.ends, other.ends)
    for mine, theirs in ((one.treatment, other.treatment), (one.baseline, other.baseline)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert mine.units == theirs.units
            np.testing.assert_array_equal(mine.events, theirs.events)
            np.testing.assert_array_equal(mine.total, theirs.total)


# --- time and blocks -------------------------------------------------------------------------------------------------


def test_a_row_belongs_to_the_block_that_ends_at_or_after_its_time():
    frame = pd.DataFrame(
        {"timestamp": [T0, T0 + 0.5, T0 + 60, T0 + 60.001], "errors": [1, 2, 4, 8], "requests": [8, 8, 8, 8]}
    )
    table = TidyTable.of(frame, [RATIO], block=60)
    assert (table.start, table.end) == (T0 - 60, T0 + 120)
    seen = observed(table, RATIO, arms=False)
    np.testing.assert_array_equal(seen.ends, [T0, T0 + 60, T0 + 120])
    np.testing.assert_array_equal(seen.treatment.events, [[[1, 6, 8]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[8, 16, 8]]])


@pytest.mark.parametrize(
    "timestamps",
    [
        ["2025-11-20T10:01:00Z", "2025-11-20T11:01:00+01:00", "2025-11-20T10:02:00+00:00", "2025-11-20 10:02:00Z"],
        [T0 + 60, T0 + 60, T0 + 120, T0 + 120],
        [str(int(T0 + 60)), str(int(T0 + 60)), str(T0 + 120), str(T0 + 120)],
        pd.to_datetime([T0 + 60, T0 + 60, T0 + 120, T0 + 120], unit="s", utc=True).tz_convert("Asia/Tokyo"),
        pd.to_datetime([T0 + 60, T0 + 60, T0 + 120, T0 + 120], unit="s", utc=True).as_unit("ns"),
        pd.Categorical(
            ["2025-11-20T10:01:00Z", "2025-11-20T10:01:00Z", "2025-11-20T10:02:00Z", "2025-11-20T10:02:00Z"]
        ),
    ],
    ids=["iso", "epoch", "epoch as text", "aware", "nanoseconds", "categories"],
)
def test_times_are_iso_with_offset_or_epoch_seconds(timestamps: object):
    same(
        observed(TidyTable.of(shop(timestamp=timestamps), [RATIO]), RATIO),
        observed(TidyTable.of(shop(), [RATIO]), RATIO),
    )


def test_fractions_of_a_second_of_an_aware_time_count():
    late = pd.to_datetime([T0 + 60.25, T0 + 60.5, T0 + 120], unit="s", utc=True)
    frame = pd.DataFrame({"timestamp": late, "load_time": [1.0, 3.0, 5.0]})
    for unit in ("us", "ns"):
        table = TidyTable.of(frame.assign(timestamp=late.as_unit(unit)), [GAUGE])
        assert table.start == T0 + 60
        assert observed(table, GAUGE, arms=False).treatment.events.tolist() == [[[3.0]]]


def test_a_named_index_is_a_column():
    same(
        observed(TidyTable.of(shop().set_index("timestamp"), [RATIO]), RATIO),
        observed(TidyTable.of(shop(), [RATIO]), RATIO),
    )


@pytest.mark.parametrize(
    ("offsets", "block"),
    [
        ([0, 300, 600, 1200, 1500], 300),
        ([0, 0.2, 1, 3], 60),
        ([0, 1, 60, 61, 120, 121], 60),
        ([0], 60),
        ([day * 86400 for day in range(20)] + [20 * 86400 - 3600], 86400),
        ([0, 7, 30], 60),
        ([0, 299.8, 600.1, 900], 300),
    ],
)
def test_the_block_is_the_smallest_common_spacing_and_at_least_a_minute(offsets: list[float], block: float):
    frame = pd.DataFrame({"timestamp": np.array(offsets) + T0, "load_time": 1.0})
    assert TidyTable.of(frame, [GAUGE]).block == block


def test_only_the_blocks_asked_for_are_counted():
    frame, whole = traffic(), TidyTable.of(traffic(), [RATIO])
    everything = observed(whole, RATIO)
    for start in range(5):
        for stop in range(start + 1, 6):
            some = observed(TidyTable.of(frame, [RATIO]), RATIO, start=T0 + 60 * start, end=T0 + 60 * stop)
            same(some, everything.between(T0 + 60 * start, T0 + 60 * stop))


def test_blocks_outside_the_table_are_zero_of_zero():
    seen = observed(TidyTable.of(shop(), [RATIO]), RATIO, start=T0 - 600, end=T0 - 480)
    assert seen.treatment.total.shape == (1, 1, 2)
    assert not seen.treatment.events.any()
    assert not seen.treatment.total.any()


def test_a_longer_block_sums_the_shorter_ones():
    table = TidyTable.of(traffic(), [RATIO])
    start, end = T0 - T0 % 300, T0 + 300
    long = observed(table, RATIO, block=300.0, start=start, end=end)
    short = observed(table, RATIO, start=start, end=end)
    assert len(long.ends) == (end - start) / 300
    np.testing.assert_array_equal(long.treatment.total.sum(axis=2), short.treatment.total.sum(axis=2))


def test_history_is_the_same_table_earlier():
    table = TidyTable.of(traffic(), [RATIO])
    request = Request((RATIO,), T0, T0 + 120, 60, baseline=BASELINE, treatment=TREATMENT)
    same(table.history(request)[RATIO.name], observed(table, RATIO).between(T0, T0 + 120))


# --- arms ------------------------------------------------------------------------------------------------------------


def test_control_and_canary_are_baseline_and_treatment():
    renamed = shop(arm=["control", "canary", "baseline", "treatment"])
    seen = observed(TidyTable.of(renamed, [RATIO]), RATIO)
    same(seen, observed(TidyTable.of(shop(), [RATIO]), RATIO))
    assert seen.baseline is not None
    np.testing.assert_array_equal(seen.baseline.events, [[[1, 3]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[20, 40]]])


@pytest.mark.parametrize("arm", [None, "", np.nan])
def test_an_empty_arm_is_the_whole_service_before_and_after(arm: object):
    frame = shop(arm=arm, timestamp=T0 + 60 * np.arange(1, 5))
    table = TidyTable.of(frame, [RATIO], at=T0 + 120)
    assert not table.has_arms
    assert table.exposed_at == T0 + 120
    seen = observed(table, RATIO, arms=False)
    assert seen.baseline is None
    np.testing.assert_array_equal(seen.treatment.events, [[[1, 2, 3, 4]]])


def test_no_arm_column_is_before_after_too():
    frame = shop(timestamp=T0 + 60 * np.arange(1, 5)).drop(columns="arm")
    seen = observed(TidyTable.of(frame, [RATIO]), RATIO, arms=False)
    np.testing.assert_array_equal(seen.treatment.total, [[[10, 20, 30, 40]]])


def test_rows_about_the_whole_service_stay_out_of_the_arms_and_the_arms_out_of_them():
    frame = pd.concat([shop(), shop(arm="", errors=100, requests=1000).iloc[[0, 2]]], ignore_index=True)
    table = TidyTable.of(frame, [RATIO])
    same(observed(table, RATIO), observed(TidyTable.of(shop(), [RATIO]), RATIO))
    np.testing.assert_array_equal(observed(table, RATIO, arms=False).treatment.events, [[[100, 100]]])


def test_both_arms_together_are_the_whole_service_when_nothing_else_is():
    seen = observed(TidyTable.of(shop(), [RATIO]), RATIO, arms=False)
    np.testing.assert_array_equal(seen.treatment.events, [[[3, 7]]])
    assert "both arms were counted together" in seen.notes[0]


def test_an_absent_treatment_is_zero_of_zero_on_the_streams_of_the_baseline():
    frame = traffic().query("arm == 'control'")
    seen = observed(TidyTable.of(frame, [RATIO]), RATIO)
    assert len(seen.streams) == 3
    assert seen.treatment.units == ("",)
    assert seen.treatment.total.shape == (3, 1, 5)
    assert not seen.treatment.total.any()


def test_each_arm_has_its_own_units_and_both_have_the_same_sorted_streams():
    frame = pd.DataFrame(
        {
            "timestamp": T0 + 60,
            "arm": ["baseline", "baseline", "treatment"],
            "feature": ["pay", "cart", "zoom"],
            "unit": ["pod-2", "pod-1", "pod-9"],
            "errors": 1,
            "requests": [3, 5, 7],
        }
    )
    seen = observed(TidyTable.of(frame, [RATIO]), RATIO)
    assert seen.streams == ((("feature", "cart"),), (("feature", "pay"),), (("feature", "zoom"),))
    assert seen.baseline is not None
    assert (seen.baseline.units, seen.treatment.units) == (("pod-1", "pod-2"), ("pod-9",))
    np.testing.assert_array_equal(seen.baseline.total[:, :, 0], [[5, 0], [0, 3], [0, 0]])
    np.testing.assert_array_equal(seen.treatment.total[:, :, 0], [[0], [0], [7]])


# --- labels and streams ----------------------------------------------------------------------------------------------


def test_every_combination_of_text_columns_is_a_stream_unless_reserved_or_numeric():
    frame = shop(feature=["a", "a", "b", "b"], region=["x", "x", "y", "y"], shard=7, label=1, group="g", unit="pod")
    table = TidyTable.of(frame, [RATIO])
    assert table.columns == ("feature", "region")
    assert observed(table, RATIO).streams == (
        (("feature", "a"), ("region", "x")),
        (("feature", "b"), ("region", "y")),
    )


def test_a_feature_is_a_label_even_when_it_is_a_number():
    assert observed(TidyTable.of(shop(feature=[7, 7, 8, 8]), [RATIO]), RATIO).streams == (
        (("feature", "7"),),
        (("feature", "8"),),
    )


def test_an_empty_label_is_no_label():
    seen = observed(TidyTable.of(shop(feature=["a", "a", None, None]), [RATIO]), RATIO)
    assert seen.streams == ((), (("feature", "a"),))


def test_by_names_the_labels_and_the_rest_is_summed():
    frame = traffic()
    seen = observed(TidyTable.of(frame.assign(region=frame["feature"].str[0]), [RATIO], by=["region"]), RATIO)
    assert seen.streams == ((("region", "c"),), (("region", "p"),), (("region", "s"),))
    total = frame.query("arm == 'canary'").groupby("feature")["requests"].sum()
    np.testing.assert_array_equal(seen.treatment.total.sum(axis=(1, 2)), total.to_numpy())


@pytest.mark.parametrize("rule", [RATIO, replace(RATIO, by=("feature",))])
def test_by_nothing_sums_up_everything(rule):
    frame = traffic()
    seen = observed(TidyTable.of(frame, [rule], by=()), rule)
    assert seen.streams == ((),)
    assert seen.treatment.total.sum() == frame.query("arm == 'canary'")["requests"].sum()


def test_by_may_name_a_column_of_numbers():
    assert len(observed(TidyTable.of(shop(code=[200, 200, 500, 500]), [RATIO], by=("code",)), RATIO).streams) == 2


def test_a_label_that_a_rule_pack_wants_and_the_table_lacks_is_a_note():
    rule = replace(RATIO, by=("feature", "region"))
    table = TidyTable.of(traffic(), [rule])
    assert table.columns == ("feature",)
    assert "no column region" in table.notes[0]
    assert observed(table, rule).notes == table.notes


def test_the_unit_label_of_a_rule_is_used_where_the_table_has_it():
    rule = replace(RATIO, unit="instance")
    one = observed(TidyTable.of(traffic().rename(columns={"unit": "instance"}), [rule]), rule)
    same(one, observed(TidyTable.of(traffic(), [RATIO]), RATIO))
    same(one, observed(TidyTable.of(traffic(), [rule]), rule))


def test_select_filters_rows_by_the_columns_that_exist():
    table = TidyTable.of(traffic(), [RATIO])
    some = observed(table, RATIO, select=labels({"feature": "pay", "namespace": "prod"}))
    everything = observed(table, RATIO)
    assert some.streams == ((("feature", "pay"),),)
    np.testing.assert_array_equal(some.treatment.total[0], everything.treatment.total[1])


def test_select_by_a_column_that_is_no_label_is_refused_rather_than_ignored():
    with pytest.raises(DataError, match=r"column requests: rows cannot be selected"):
        observed(TidyTable.of(traffic(), [RATIO]), RATIO, select=labels({"requests": "3"}))


def test_counts_equal_those_of_a_plain_group_by():
    frame = traffic()
    seen = observed(TidyTable.of(frame, [RATIO]), RATIO)
    slow = frame.set_index(["arm", "feature", "unit", "timestamp"])
    for arm, counted in (("control", seen.baseline), ("canary", seen.treatment)):
        assert counted is not None
        for s, stream in enumerate(seen.streams):
            for u, unit in enumerate(counted.units):
                for b, end in enumerate(seen.ends):
                    row = slow.loc[(arm, dict(stream)["feature"], unit, end)]
                    assert (counted.events[s, u, b], counted.total[s, u, b]) == (row["errors"], row["requests"])


# --- metrics ---------------------------------------------------------------------------------------------------------


def long(frame: pd.DataFrame, value: str = "value") -> pd.DataFrame:
    keys = [column for column in frame.columns if column not in ("errors", "requests")]
    return frame.melt(id_vars=keys, value_vars=["errors", "requests"], var_name="metric", value_name=value)


@pytest.mark.parametrize("value", ["value", "count"])
def test_a_wide_and_a_long_table_say_the_same(value: str):
    table = TidyTable.of(long(traffic(), value), [RATIO])
    assert table.metrics == ("errors", "requests")
    same(observed(table, RATIO), observed(TidyTable.of(traffic(), [RATIO]), RATIO))


def test_a_rule_pack_reads_a_long_table_as_it_reads_prometheus():
    rows = []
    for minute in (1, 2):
        for arm in ("baseline", "treatment"):
            for code, count in (("200", 90), ("404", 4), ("500", 5), ("503", 1)):
                rows.append(("http_requests_total", arm, minute, code, "", count))
            for le, count in (("0.1", 50), ("2.5", 80), ("+Inf", 100)):
                rows.append(("page_load_seconds_bucket", arm, minute, "", le, count))
            rows.append(("checkouts_total", arm, minute, "", "", 7))
            rows.append(("started_total", arm, minute, "", "", 5))
    frame = pd.DataFrame(rows, columns=["metric", "arm", "minute", "code", "le", "value"])
    frame["timestamp"] = T0 + 60 * frame.pop("minute")
    frame["feature"], frame["instance"] = "checkout", "pod-1"
    pack = {"by": ("feature",), "unit": "instance"}
    failed = Rule(
        "failed",
        Kind.RATIO,
        Selector.parse('http_requests_total{code=~"5.."}'),
        Selector("http_requests_total"),
        **pack,
    )
    done = Rule("done", Kind.RATE, Selector("checkouts_total"), Selector("started_total"), **pack)
    load = Rule("load", Kind.LATENCY, Selector("page_load_seconds"), objective=2.5, **pack)
    table = TidyTable.of(frame, [failed, done, load])
    for rule, events, total in ((failed, 6, 100), (done, 7, 5), (load, 20, 100)):
        seen = observed(table, rule)
        assert seen.streams == ((("feature", "checkout"),),)
        assert seen.treatment.units == ("pod-1",)
        assert seen.treatment.events.tolist() == [[[events, events]]]
        assert seen.treatment.total.tolist() == [[[total, total]]]


def test_columns_that_a_rule_matches_on_make_no_streams_for_it():
    frame = long(shop(feature="pay")).query("metric == 'requests'").assign(code=["200", "200", "500", "500"])
    rule = Rule("failed", Kind.RATIO, Selector.parse('requests{code=~"5.."}'), Selector("requests"))
    assert observed(TidyTable.of(frame, [rule]), rule).streams == ((("feature", "pay"),),)


@pytest.mark.parametrize("codes", [["200", "200", "500", "500"], [200, 200, 500, 500], [200.0, 200.0, 500.0, 500.0]])
def test_matchers_see_numbers_as_text_and_absent_columns_as_empty(codes: list[object]):
    frame = shop(code=codes)
    events = Selector("errors", (Matcher("code", "=~", "5.."), Matcher("zone", "=", ""), Matcher("zone", "!=", "a")))
    rule = Rule("failed", Kind.RATIO, events, Selector("requests"))
    seen = observed(TidyTable.of(frame, [rule]), rule)
    np.testing.assert_array_equal(seen.treatment.events, [[[0, 4]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[20, 40]]])


def test_each_metric_of_one_value_column_is_a_stream():
    frame = pd.concat([shop(metric="lcp", value=[1.0, 2, 3, 4]), shop(metric="fid", value=[5.0, 6, 7, 8])])
    rule = Rule("value", Kind.GAUGE, Selector("value"))
    seen = observed(TidyTable.of(frame, [rule]), rule)
    assert seen.streams == ((("metric", "fid"),), (("metric", "lcp"),))
    np.testing.assert_array_equal(seen.treatment.events, [[[6, 8]], [[2, 4]]])


def test_events_of_a_rate_need_not_be_part_of_the_total():
    frame = shop().rename(columns={"errors": "started", "requests": "completed"})
    np.testing.assert_array_equal(observed(TidyTable.of(frame, [RATE]), RATE).treatment.events, [[[20, 40]]])


# --- signatures ------------------------------------------------------------------------------------------------------


FAILED = replace(RATIO, signature="error_type", by=("feature",))


def failures() -> pd.DataFrame:
    """Requests and their failures in one long table: a total has no error type, and so have some failures."""
    rows = []
    for block, (timeouts, crashes) in enumerate(((2, 0), (1, 0), (3, 4)), start=1):
        for arm in ("baseline", "treatment"):
            rows.append((block, arm, "pay", "", "requests", 50))
            rows.append((block, arm, "search", "", "requests", 20))
            rows.append((block, arm, "pay", "", "errors", 1))
            rows.append((block, arm, "pay", "timeout", "errors", timeouts))
            if crashes and arm == "treatment":
                rows.append((block, arm, "pay", "crash", "errors", crashes))
    frame = pd.DataFrame(rows, columns=["timestamp", "arm", "feature", "error_type", "metric", "value"])
    return frame.assign(timestamp=T0 + 60 * frame["timestamp"])


def test_every_signature_of_bad_events_is_a_stream_beside_all_of_them():
    seen = observed(TidyTable.of(failures(), [FAILED]), FAILED)
    pay = ("feature", "pay")
    crash, timeout = (("error_type", "crash"), pay), (("error_type", "timeout"), pay)
    assert seen.streams == (crash, timeout, (pay,), (("feature", "search"),))
    assert seen.baseline is not None
    np.testing.assert_array_equal(seen.treatment.events[:, 0], [[0, 0, 4], [2, 1, 3], [3, 2, 8], [0, 0, 0]])
    np.testing.assert_array_equal(seen.treatment.total[:, 0], [[50] * 3, [50] * 3, [50] * 3, [20] * 3])
    np.testing.assert_array_equal(seen.baseline.events[:, 0], [[0, 0, 0], [2, 1, 3], [3, 2, 4], [0, 0, 0]])
    without = replace(FAILED, signature=None)
    plain = observed(TidyTable.of(failures(), [without]), without)
    for stream in plain.streams:
        same(seen.only(stream), plain.only(stream))


def test_history_does_not_know_the_signatures_that_came_after_it():
    table = TidyTable.of(failures(), [FAILED])
    request = Request((FAILED,), T0, T0 + 120, 60.0, baseline=BASELINE, treatment=TREATMENT)
    streams = table.history(request)[FAILED.name].streams
    assert (("error_type", "timeout"), ("feature", "pay")) in streams
    assert (("error_type", "crash"), ("feature", "pay")) not in streams


def test_signatures_may_stand_in_the_rows_of_a_wide_table():
    frame = shop(error_type=["", "timeout", "timeout", None])
    rule = replace(FAILED, by=())
    seen = observed(TidyTable.of(frame, [rule]), rule)
    assert seen.streams == ((), (("error_type", "timeout"),))
    np.testing.assert_array_equal(seen.treatment.events[:, 0], [[2, 4], [2, 0]])
    np.testing.assert_array_equal(seen.treatment.total[:, 0], [[20, 40], [20, 40]])


@pytest.mark.parametrize(
    "rule",
    [
        replace(FAILED, by=("feature", "error_type")),
        replace(FAILED, worse=Worse.LOWER),
        replace(FAILED, signature="no_such_column"),
    ],
)
def test_a_signature_makes_no_streams_where_it_tells_nothing_new(rule: Rule):
    frame, plain = shop(feature="pay", error_type=["", "timeout", "timeout", None]), replace(rule, signature=None)
    same(observed(TidyTable.of(frame, [rule]), rule), observed(TidyTable.of(frame, [plain]), plain))


def test_a_signature_with_too_many_values_makes_no_streams_and_a_note(monkeypatch: pytest.MonkeyPatch):
    rows = [(T0 + 60, "treatment", f"kind {i}", 1, 2) for i in range(201)]
    frame = pd.DataFrame(rows, columns=["timestamp", "arm", "error_type", "errors", "requests"])
    rule = replace(FAILED, by=())
    seen = observed(TidyTable.of(frame, [rule]), rule)
    assert seen.streams == ((),)
    assert seen.treatment.events.tolist() == [[[201]]]
    assert any("error_type has too many values" in note for note in seen.notes)
    assert len(observed(TidyTable.of(frame[1:], [rule]), rule).streams) == 201
    monkeypatch.setattr("watcher.sources.tidy.table._MOST_CELLS", 199)
    assert observed(TidyTable.of(frame[1:], [rule]), rule).streams == ((),)


# --- gauges ----------------------------------------------------------------------------------------------------------


def test_a_missing_or_nan_gauge_is_a_gap_and_never_a_zero():
    frame = pd.DataFrame({"timestamp": T0 + 60 * np.array([1, 2, 4]), "load_time": [2.0, np.nan, 0.0]})
    seen = observed(TidyTable.of(frame, [GAUGE]), GAUGE, arms=False)
    np.testing.assert_array_equal(seen.treatment.events, [[[2.0, np.nan, np.nan, 0.0]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[1, 0, 0, 1]]])


def test_several_measurements_of_a_unit_in_a_block_are_averaged_over_those_that_exist():
    frame = pd.DataFrame({"timestamp": T0 + np.array([5, 20, 40, 70]), "load_time": [1.0, np.nan, -4.0, 3.0]})
    seen = observed(TidyTable.of(frame, [GAUGE]), GAUGE, arms=False)
    np.testing.assert_array_equal(seen.treatment.events, [[[-1.5, 3.0]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[1, 1]]])


def test_a_stream_of_gaps_is_still_a_stream():
    frame = shop(feature=["a", "a", "b", "b"], load_time=[np.nan, np.nan, 1, 2])
    assert len(observed(TidyTable.of(frame, [GAUGE]), GAUGE).streams) == 2


# --- latency ---------------------------------------------------------------------------------------------------------


def events(seed: int = 3, count: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    durations = np.round(rng.lognormal(-1, 1, count), 1)  # rounded, so that many lie exactly on an edge
    when = T0 + rng.uniform(0, 300, count).round(2) + 0.01
    return pd.DataFrame({"timestamp": when, "arm": rng.choice(["baseline", "treatment"], count), "duration": durations})


def bucketed(frame: pd.DataFrame, edges: list[float]) -> pd.DataFrame:
    rows = []
    for (end, arm), group in frame.groupby([np.ceil(frame["timestamp"] / 60) * 60, "arm"]):
        for edge in [*edges, np.inf]:
            name = "+Inf" if edge == np.inf else f"{edge:g}"
            rows.append((end, arm, name, int((group["duration"] <= edge).sum())))
    return pd.DataFrame(rows, columns=["timestamp", "arm", "le", "count"]).sample(frac=1, random_state=1)


@pytest.mark.parametrize("objective", [0.1, 0.5, 1.0])
def test_raw_and_bucketed_latency_of_the_same_events_agree_at_an_edge(objective: float):
    rule, frame = replace(LATENCY, objective=objective), events()
    raw = TidyTable.of(frame, [rule], block=60)
    table = TidyTable.of(bucketed(frame, [0.1, 0.5, 1.0, 2.5]), [rule])
    same(observed(raw, rule), observed(table, rule))
    slow = (frame["duration"] > objective) & (frame["arm"] == "treatment")
    assert observed(raw, rule).treatment.events.sum() == slow.sum() > 0


@pytest.mark.parametrize(("unit", "per_second"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_durations_and_edges_are_in_the_unit_of_time_of_the_table(unit: str, per_second: float):
    frame = events()
    scaled = frame.assign(duration=(frame["duration"] * per_second).round())
    if unit == "s":
        scaled = frame
    raw = observed(TidyTable.of(scaled, [LATENCY], unit_of_time=unit), LATENCY)
    same(raw, observed(TidyTable.of(frame, [LATENCY]), LATENCY))
    table = TidyTable.of(bucketed(scaled, [0.5 * per_second]), [LATENCY], unit_of_time=unit)
    same(raw, observed(table, LATENCY))


@pytest.mark.parametrize("per_second", [1.0, 1e3])
def test_bucket_rows_are_the_requests_of_every_bucket(per_second: float):
    frame, edges = events(), [0.1, 0.5, 1.0]
    scaled = bucketed(frame.assign(duration=frame["duration"] * per_second), [edge * per_second for edge in edges])
    seen = observed(TidyTable.of(scaled, [LATENCY], unit_of_time="s" if per_second == 1 else "ms"), LATENCY)
    assert seen.edges == (0.1, 0.5, 1.0, np.inf)
    assert seen.baseline is not None
    for name, arm in (("treatment", seen.treatment), ("baseline", seen.baseline)):
        own = frame[frame["arm"] == name]
        assert arm.buckets is not None
        assert arm.buckets.shape == (1, 1, 5, 4)
        expected = np.bincount(np.searchsorted(edges, own["duration"]), minlength=4)
        np.testing.assert_array_equal(arm.buckets.sum(axis=(0, 1, 2)), expected)
        np.testing.assert_array_equal(arm.buckets.sum(axis=-1), arm.total)
        np.testing.assert_array_equal(arm.buckets[..., 2:].sum(axis=-1), arm.events)


def test_raw_durations_are_put_into_buckets_around_the_objective():
    frame = events().assign(pod=lambda rows: np.where(rows.index % 3 == 0, "a", "b"))
    rule = replace(LATENCY, margin=0.2, unit="pod", by=())
    seen = observed(TidyTable.of(frame, [rule], block=60), rule)
    at = seen.edges.index(0.5)
    assert seen.edges[-1] == np.inf
    assert seen.edges[0] == pytest.approx(0.5 / 64, rel=0.1)
    assert seen.edges[-2] == pytest.approx(0.5 * 16, rel=0.1)
    assert seen.edges[at + 2] == pytest.approx(0.5 * 1.2)  # two steps of less than 10 % are the margin
    assert seen.treatment.units == ("a", "b")
    assert seen.treatment.buckets is not None
    slow_way = np.zeros_like(seen.treatment.buckets)
    for row in frame[frame["arm"] == "treatment"].itertuples():
        block = int(np.ceil((row.timestamp - T0) / 60)) - 1
        bucket = next(i for i, edge in enumerate(seen.edges) if row.duration <= edge)
        slow_way[0, ("a", "b").index(row.pod), block, bucket] += 1
    np.testing.assert_array_equal(seen.treatment.buckets, slow_way)
    np.testing.assert_array_equal(seen.treatment.buckets[..., at + 1 :].sum(axis=-1), seen.treatment.events)


@pytest.mark.parametrize(
    ("changes", "steps"), [({"margin": 0.1}, 1), ({"margin": 0.05}, 1), ({"margin": 0.5}, 5), ({"margin": 0.21}, 2)]
)
def test_the_margin_is_a_whole_number_of_buckets(changes: dict[str, Any], steps: int):
    rule = replace(LATENCY, **changes)
    edges = duration_edges(rule)
    assert edges[edges.index(0.5) + steps] == pytest.approx(0.5 * (1 + rule.margin))
    assert edges[1] / edges[0] <= 1.1 + 1e-9
    assert edges[0] >= 0.5 / 64 * (1 - 1e-9)
    assert edges[-2] <= 0.5 * 16 * (1 + 1e-9)


@pytest.mark.parametrize("changes", [{"absolute": True, "margin": 0.02}, {"worse": Worse.LOWER}, {"margin": 0.0}])
def test_a_margin_that_is_no_longer_duration_leaves_buckets_of_a_tenth(changes: dict[str, Any]):
    edges = duration_edges(replace(LATENCY, **changes))
    assert edges[1] / edges[0] == pytest.approx(1.1)


@pytest.mark.parametrize("bucket_rows", [True, False])
def test_too_many_buckets_leave_the_share_over_the_objective_and_a_note(
    bucket_rows: bool, monkeypatch: pytest.MonkeyPatch
):
    frame = bucketed(events(), [0.5]) if bucket_rows else events()
    whole = observed(TidyTable.of(frame, [LATENCY]), LATENCY)
    monkeypatch.setattr("watcher.sources.histograms.MOST_CELLS", 9)
    seen = observed(TidyTable.of(frame, [LATENCY]), LATENCY)
    same(seen, whole)
    assert seen.edges == ()
    assert seen.treatment.buckets is None
    assert any("too many buckets" in note for note in seen.notes)


def test_raw_events_may_repeat():
    frame = pd.concat([events(), events()], ignore_index=True)
    seen = observed(TidyTable.of(frame, [LATENCY]), LATENCY)
    once = observed(TidyTable.of(events(), [LATENCY]), LATENCY)
    np.testing.assert_array_equal(seen.treatment.events, 2 * once.treatment.events)


def test_a_histogram_may_be_told_apart_by_metric_and_others_are_left_alone():
    one = bucketed(events(), [0.5]).assign(metric="duration")
    other = bucketed(events(4), [0.1, 7.0]).assign(metric="size_bytes")
    table = TidyTable.of(pd.concat([one, other], ignore_index=True), [LATENCY])
    same(observed(table, LATENCY), observed(TidyTable.of(bucketed(events(), [0.5]), [LATENCY]), LATENCY))


def test_raw_durations_may_be_values_of_a_metric():
    frame = events().rename(columns={"duration": "value"}).assign(metric="duration")
    same(observed(TidyTable.of(frame, [LATENCY]), LATENCY), observed(TidyTable.of(events(), [LATENCY]), LATENCY))


def test_the_objective_may_be_chosen_after_the_table_was_read():
    table = TidyTable.of(events(), [replace(LATENCY, objective=None)])
    same(observed(table, LATENCY), observed(TidyTable.of(events(), [LATENCY]), LATENCY))


def test_the_objective_from_the_baseline_is_exceeded_by_about_a_tenth_of_its_requests():
    frame, rule = events(count=4000), replace(LATENCY, objective=None)
    frame.loc[frame["arm"] == "treatment", "duration"] += 5
    before = frame[(frame["arm"] == "baseline") & (frame["timestamp"] <= T0 + 120)]["duration"]
    raw = TidyTable.of(frame, [rule], block=60)
    objective = raw.objective_from(rule, T0, T0 + 120)
    assert objective is not None
    assert 0.07 < (before > objective).mean() <= 0.1
    edges = [0.1, 0.5, 1.0, 1.3, 2.5]
    table = TidyTable.of(bucketed(frame, edges), [rule])
    chosen = table.objective_from(rule, T0, T0 + 120)
    assert chosen == min(edges, key=lambda edge: abs((before > edge).mean() - 0.1)) == 1.3
    assert table.objective_from(rule, T0, T0 + 120, share=0.9) == 0.1


def test_the_objective_of_a_table_without_arms_is_from_everybody():
    frame, rule = events().drop(columns="arm"), replace(LATENCY, objective=None)
    objective = TidyTable.of(frame, [rule]).objective_from(rule, T0, T0 + 300)
    assert objective == np.quantile(frame["duration"], 0.9, method="higher")


def test_no_requests_before_exposure_give_no_objective():
    rule = replace(LATENCY, objective=None)
    assert TidyTable.of(events(), [rule]).objective_from(rule, T0 - 600, T0 - 60) is None


# --- releases --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["release", "release_id"])
def test_releases_are_cut_apart_in_order_of_appearance(column: str):
    frame = pd.concat([shop(**{column: "v2"}), shop(**{column: "v1", "errors": [5, 6, 7, 8]})], ignore_index=True)
    frame = frame.iloc[[0, 4, 1, 5, 2, 6, 3, 7]].reset_index(drop=True)
    parts = split_releases(frame)
    assert [release for release, _ in parts] == ["v2", "v1"]
    seen = [observed(TidyTable.of(part, [RATIO]), RATIO) for _, part in parts]
    same(seen[0], observed(TidyTable.of(shop(), [RATIO]), RATIO))
    np.testing.assert_array_equal(seen[1].treatment.events, [[[6, 8]]])
    same(observed(TidyTable.of(frame, [RATIO], release="v1"), RATIO), seen[1])


def test_a_table_without_releases_is_one_without_a_name():
    ((release, frame),) = split_releases(shop())
    assert release is None
    assert len(frame) == 4


def test_an_error_in_a_part_names_the_row_of_the_whole():
    frame = shop(release=["v1", "v2", "v1", "v2"], errors=[1, 1, 1, -1])
    with pytest.raises(DataError) as caught:
        TidyTable.of(split_releases(frame)[1][1], [RATIO])
    assert (caught.value.row, caught.value.column) == (4, "errors")


@pytest.mark.parametrize("column", ["exposed_at", "change_time"])
@pytest.mark.parametrize("when", [T0 + 60, "2025-11-20T10:01:00Z", "2025-11-20T12:01:00+02:00"])
def test_the_time_of_exposure_is_read_from_the_table_unless_it_is_given(column: str, when: object):
    frame = shop(**{column: [when, None, when, when]})
    assert TidyTable.of(frame, [RATIO]).exposed_at == T0 + 60
    assert TidyTable.of(frame, [RATIO], at=T0).exposed_at == T0
    assert TidyTable.of(shop(), [RATIO]).exposed_at is None


# --- files -----------------------------------------------------------------------------------------------------------


def without_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the module under test, and nobody else, find no pyarrow."""
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> object:
        if name.split(".")[0] == "pyarrow" and rest[0]["__name__"] == "watcher.sources.tidy.files":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.mark.parametrize("pyarrow", [True, False], ids=["pyarrow", "pandas"])
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
@pytest.mark.parametrize("times", ["iso", "epoch"])
def test_a_csv_says_what_its_frame_says(tmp_path, monkeypatch, pyarrow: bool, ending: str, times: str):
    frame = traffic()
    written = frame.copy()
    if times == "iso":
        written["timestamp"] = pd.to_datetime(frame["timestamp"], unit="s", utc=True).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    path = tmp_path / f"shop{ending}"
    written.to_csv(path, index=False)
    expected = observed(TidyTable.of(frame, [RATIO]), RATIO)
    if not pyarrow:
        without_pyarrow(monkeypatch)
    same(observed(TidyTable.of(read_table(path), [RATIO]), RATIO), expected)


@pytest.mark.parametrize("index", [None, "timestamp"])
@pytest.mark.parametrize("aware", [True, False])
def test_a_parquet_file_says_what_its_frame_says(tmp_path, index: str | None, aware: bool):
    written = traffic()
    if aware:
        written["timestamp"] = pd.to_datetime(written["timestamp"], unit="s", utc=True)
    if index:
        written = written.set_index(index)
    written.to_parquet(tmp_path / "shop.parquet")
    read = read_table(tmp_path / "shop.parquet")
    assert isinstance(read["feature"].dtype, pd.CategoricalDtype)
    same(observed(TidyTable.of(read, [RATIO]), RATIO), observed(TidyTable.of(traffic(), [RATIO]), RATIO))


@pytest.mark.parametrize("pyarrow", [True, False], ids=["pyarrow", "pandas"])
def test_labels_of_a_csv_stay_as_they_are_written(tmp_path, monkeypatch, pyarrow: bool):
    path = tmp_path / "shop.csv"
    path.write_text(
        "timestamp,arm,version,region,zip,feature,errors,requests\n"
        "1763632860,baseline,1.10,NA,007,12,1,2\n1763632860,treatment,1.9,EU,008,,1,2\n"
    )
    if not pyarrow:
        without_pyarrow(monkeypatch)
    seen = observed(
        TidyTable.of(read_table(path, text={"zip"}), [RATIO], by=("version", "region", "zip", "feature")), RATIO
    )
    assert [dict(stream) for stream in seen.streams] == [
        {"feature": "12", "region": "NA", "version": "1.10", "zip": "007"},
        {"region": "EU", "version": "1.9", "zip": "008"},
    ]


@pytest.mark.parametrize("pyarrow", [True, False], ids=["pyarrow", "pandas"])
def test_an_empty_cell_of_a_csv_is_missing_and_so_are_nan_and_na_in_a_column_of_numbers(
    tmp_path, monkeypatch, pyarrow: bool
):
    path = tmp_path / "load.csv"
    path.write_text("timestamp,load_time\n1763632860,1.5\n1763632920,\n1763632980,NaN\n1763633040,NA\n1763633100,2.5\n")
    if not pyarrow:
        without_pyarrow(monkeypatch)
    seen = observed(TidyTable.of(read_table(path), [GAUGE]), GAUGE, arms=False)
    np.testing.assert_array_equal(seen.treatment.events, [[[1.5, np.nan, np.nan, np.nan, 2.5]]])


def test_a_type_that_changes_late_in_a_csv_is_read_all_the_same(tmp_path):
    path = tmp_path / "load.csv"
    rows = [f"{int(T0) + 60 * row},1" for row in range(1, 120_000)] + [f"{int(T0) + 60 * 120_000},1.5"]
    path.write_text("timestamp,load_time\n" + "\n".join(rows))
    assert read_table(path)["load_time"].iloc[-1] == 1.5


def test_a_gzipped_csv_is_recognised_by_its_ending(tmp_path):
    path = tmp_path / "SHOP.CSV.GZ"
    path.write_bytes(gzip.compress(b"timestamp,load_time\n1763632860,1.5\n"))
    assert len(read_table(path)) == 1


# --- dropped rows ----------------------------------------------------------------------------------------------------


def test_dropped_rows_are_counted_and_said():
    frame = shop(errors=[1, np.nan, 3, 4])
    table = TidyTable.of(frame, [RATIO], drop_bad_rows=True)
    assert table.notes == ("dropped 1 row without a number in column errors",)
    seen = observed(table, RATIO)
    np.testing.assert_array_equal(seen.treatment.events, [[[0, 4]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[0, 40]]])
    assert seen.notes == table.notes


@pytest.mark.parametrize("metric", ["errors", "requests"])
def test_what_belongs_to_a_dropped_row_of_a_long_table_goes_with_it(metric: str):
    frame = long(shop()).astype({"value": float})
    frame.loc[
        (frame["metric"] == metric) & (frame["timestamp"] == T0 + 60) & (frame["arm"] == "treatment"), "value"
    ] = np.nan
    seen = observed(TidyTable.of(frame, [RATIO], drop_bad_rows=True), RATIO)
    np.testing.assert_array_equal(seen.treatment.events, [[[0, 4]]])
    np.testing.assert_array_equal(seen.treatment.total, [[[0, 40]]])


def test_a_histogram_with_a_missing_bucket_count_is_dropped_whole():
    frame = bucketed(events(), [0.5]).reset_index(drop=True).astype({"count": float})
    hole = frame.index[(frame["arm"] == "treatment") & (frame["timestamp"] == T0 + 60) & (frame["le"] == "0.5")]
    frame.loc[hole, "count"] = np.nan
    table = TidyTable.of(frame, [LATENCY], drop_bad_rows=True)
    seen = observed(table, LATENCY)
    assert seen.treatment.total[0, 0, 0] == 0
    assert seen.treatment.total[0, 0, 1:].all()
    assert table.notes == ("dropped 1 row without a number in column count",)


def test_a_missing_duration_is_dropped():
    frame = events()
    frame.loc[3, "duration"] = np.nan
    table = TidyTable.of(frame, [LATENCY], drop_bad_rows=True)
    seen = observed(table, LATENCY)
    assert seen.baseline is not None
    assert seen.treatment.total.sum() + seen.baseline.total.sum() == len(frame) - 1

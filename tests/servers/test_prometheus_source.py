"""The Prometheus source against a real Prometheus."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.servers.prometheus_server import STALE, PrometheusServer
from watcher.errors import ConfigError, SourceDown, SourceRefused, SourceTooLarge
from watcher.model import Arm, Kind, Labels, Observations, Request, Rule, Selector, Worse, labels
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

pytestmark = pytest.mark.servers

SCRAPE, BLOCK = 15.0, 60.0
OLD, NEW = labels({"version": "1"}), labels({"version": "2"})


@pytest.fixture(scope="module")
def end() -> float:
    """A block end an hour ago: everything before it is closed and stored."""
    return time.time() // 3600 * 3600 - 3600.0


@pytest.fixture
def source(prometheus: PrometheusServer) -> PrometheusSource:
    return PrometheusSource(PrometheusHTTP(prometheus.url))


def ratio(events: str, total: str, **more: Any) -> Rule:
    return Rule("rule", Kind.RATIO, Selector.parse(events), Selector.parse(total), **{"unit": "instance", **more})


def asked(rule: Rule, end: float, blocks: int = 10, **more: Any) -> Request:
    return Request((rule,), end - blocks * BLOCK, end, BLOCK, **{"baseline": OLD, "treatment": NEW, **more})


def counter(name: str, **more: str) -> dict[str, str]:
    return {"__name__": name, "job": "shop", "instance": "a:1", "version": "2", **more}


def scrapes(end: float, blocks: int = 10, before: int = 4) -> np.ndarray:
    """Scrape times from some blocks before the first to the end, off the grid of blocks."""
    return np.arange(end - (blocks + before) * BLOCK + 3.0, end + 1.0, SCRAPE)


def stair(times: np.ndarray, per_scrape: float, start: float = 1000.0) -> np.ndarray:
    return start + per_scrape * np.arange(times.size)


def sums(arm: Arm | None) -> tuple[float, float]:
    assert arm is not None
    return float(np.nansum(arm.events)), float(arm.total.sum())


def test_raw_counters_give_exact_counts_in_both_arms(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    prometheus.remote_write(
        [
            (counter("exact_total", code="200", version="1"), at, stair(at, 10)),
            (counter("exact_total", code="500", version="1"), at, stair(at, 1)),
            (counter("exact_total", code="200", instance="b:1"), at, stair(at, 8)),
            (counter("exact_total", code="500", instance="b:1"), at, stair(at, 3)),
        ]
    )
    rule = ratio('exact_total{code=~"5.."}', "exact_total")
    got = source.observe(asked(rule, end))["rule"]
    assert got.baseline is not None
    assert got.streams == ((),)
    assert (got.baseline.units, got.treatment.units) == (("a:1",), ("b:1",))
    assert got.baseline.events[0, 0].tolist() == [4.0] * 10
    assert got.baseline.total[0, 0].tolist() == [44.0] * 10
    assert got.treatment.events[0, 0].tolist() == [12.0] * 10
    assert got.treatment.total[0, 0].tolist() == [44.0] * 10
    assert got.notes == ()


def test_events_survive_restarts_and_births_in_exact_numbers(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    """True events are drawn per scrape interval; the exported counters start again from 0 at the restart."""
    rng = np.random.default_rng(3)
    at = scrapes(end)
    fine, bad = rng.poisson(20, at.size), rng.poisson(2, at.size)
    bad[:22] = 0  # no error has happened yet: the series does not exist
    bad[22] = 3
    restart = at.size - 16
    value = np.concatenate([np.cumsum(fine[:restart]), np.cumsum(fine[restart:])])
    errors = np.concatenate([np.cumsum(bad[:restart]), np.cumsum(bad[restart:])])
    prometheus.remote_write(
        [
            (counter("births_total", code="200"), at, value + np.where(np.arange(at.size) < restart, 5000, 0)),
            (counter("births_total", code="500"), at[22:], errors[22:]),
        ]
    )
    got = source.observe(asked(ratio('births_total{code="500"}', "births_total"), end))["rule"]
    inside = at > end - 10 * BLOCK
    assert sums(got.treatment) == (bad[inside].sum(), fine[inside].sum() + bad[inside].sum())
    assert any("resets" in note for note in got.notes)


def test_a_new_pod_counts_from_zero_only_if_its_process_started(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    late = at[at > end - 5 * BLOCK]
    prometheus.remote_write(
        [
            (counter("pods_total", instance="new:1"), late, stair(late, 1, start=7)),
            (counter("pods_total", instance="found:1"), late, stair(late, 1, start=4000)),
            (counter("process_start_time_seconds", instance="new:1"), late, np.full(late.size, late[0] - 5.0)),
            (counter("process_start_time_seconds", instance="found:1"), late, np.full(late.size, late[0] - 9e5)),
        ]
    )
    got = source.observe(asked(ratio("pods_total", "pods_total"), end))["rule"]
    grown = late.size - 1
    found, new = got.treatment.total[0].sum(axis=1)
    assert (found, new) == (grown, grown + 7)
    assert any("no proof" in note for note in got.notes)


def test_a_created_series_tells_its_own_birth(prometheus: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    late = at[at > end - 5 * BLOCK]
    prometheus.remote_write(
        [
            (counter("made_total"), late, stair(late, 1, start=7)),
            (counter("made_created"), late, np.full(late.size, late[0] - 5.0)),
        ]
    )
    got = source.observe(asked(ratio("made_total", "made_total"), end))["rule"]
    assert sums(got.treatment)[1] == late.size - 1 + 7


def test_replicas_that_scrape_the_same_pods_count_once(prometheus: PrometheusServer, end: float):
    at = scrapes(end)
    true = stair(at, 5)
    holes = (at > end - 7 * BLOCK) & (at < end - 4 * BLOCK)
    prometheus.remote_write(
        [
            (counter("twice_total", replica="a"), at[~holes], true[~holes]),
            (counter("twice_total", replica="b"), at, true),
        ]
    )
    source = PrometheusSource(PrometheusHTTP(prometheus.url), replica_label="replica")
    rule = ratio("twice_total", "twice_total")
    got = source.observe(asked(rule, end))["rule"]
    assert got.treatment.total[0, 0].tolist() == [20.0] * 10
    assert any("replica" in note for note in got.notes)
    assert source.history(asked(rule, end))["rule"].treatment.total[0, 0].tolist() == [20.0] * 10
    grown = source.labels_with_traffic(Selector.parse("twice_total"), "version", end, 300.0)
    assert grown == {"2": pytest.approx(100, rel=0.1)}


def test_both_arms_are_put_on_the_same_streams(prometheus: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    prometheus.remote_write(
        [
            (counter("streams_total", feature="pay", version="1"), at, stair(at, 1)),
            (counter("streams_total", feature="search"), at, stair(at, 2)),
            (counter("streams_total"), at, stair(at, 3)),
        ]
    )
    got = source.observe(asked(ratio("streams_total", "streams_total", by=("feature",)), end))["rule"]
    assert got.baseline is not None
    assert got.streams == ((), (("feature", "pay"),), (("feature", "search"),))
    assert got.treatment.total.sum(axis=(1, 2)).tolist() == [120, 0, 80]
    assert got.baseline.total.sum(axis=(1, 2)).tolist() == [0, 40, 0]


def test_reading_block_by_block_counts_the_same_as_reading_at_once(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    rng = np.random.default_rng(11)
    at = scrapes(end)
    rows = []
    for pod in ("a:1", "b:1"):
        for code in ("200", "500"):
            value = np.cumsum(rng.poisson(3, at.size)).astype(float)
            value[30:] -= value[30] - 1
            kept = rng.random(at.size) > 0.2
            rows.append((counter("cut_total", instance=pod, code=code), at[kept], value[kept]))
    prometheus.remote_write(rows)
    rule = ratio('cut_total{code="500"}', "cut_total")
    whole = source.observe(asked(rule, end))["rule"].treatment
    single = [source.observe(asked(rule, end - i * BLOCK, 1))["rule"].treatment for i in reversed(range(10))]
    np.testing.assert_array_equal(whole.total, np.concatenate([arm.total for arm in single], axis=2))
    np.testing.assert_array_equal(whole.events, np.concatenate([arm.events for arm in single], axis=2))


def test_an_answer_beyond_the_caps_is_read_in_parts_and_counts_the_same(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    rows = [(counter("parts_total", instance=f"{i}:1"), at, stair(at, i)) for i in range(20)]
    prometheus.remote_write([*rows, (counter("parts_total", instance="late:1"), at[-12:], stair(at[-12:], 5))])
    rule = ratio("parts_total", "parts_total")
    small = PrometheusSource(PrometheusHTTP(prometheus.url, max_bytes=20_000))
    one, many = source.observe(asked(rule, end))["rule"], small.observe(asked(rule, end))["rule"]
    assert one.treatment.units == many.treatment.units
    assert one.baseline is not None
    assert many.baseline is not None
    assert one.baseline.units == many.baseline.units == ("",)
    np.testing.assert_array_equal(one.treatment.total, many.treatment.total)
    np.testing.assert_array_equal(one.ends, many.ends)
    with pytest.raises(SourceTooLarge):
        PrometheusSource(PrometheusHTTP(prometheus.url, max_bytes=2_000)).observe(asked(rule, end))
    with pytest.raises(SourceTooLarge, match="series"):
        PrometheusSource(PrometheusHTTP(prometheus.url, max_series=5)).observe(asked(rule, end))


@pytest.fixture(scope="module")
def histogram(prometheus: PrometheusServer, end: float) -> str:
    """Per scrape: 10 requests of version 2, of which 6 within 1 s and 9 within 2.5 s; half as many of version 1."""
    at = scrapes(end)
    rows = []
    for version, share in (("1", 0.5), ("2", 1.0)):
        for edge, many in (("1.0", 6), ("2.5", 9), ("+Inf", 10)):
            rows.append((counter("load_seconds_bucket", le=edge, version=version), at, stair(at, share * 2 * many)))
        rows.append((counter("load_seconds_count", version=version), at, stair(at, share * 20)))
    prometheus.remote_write(rows)
    return "load_seconds"


@pytest.mark.parametrize(("objective", "over"), [(1.0, 8), (2.5, 2), (float("inf"), 0)])
def test_a_latency_counts_requests_over_its_objective(
    source: PrometheusSource, histogram: str, end: float, objective: float, over: float
):
    rule = Rule(
        "rule", Kind.LATENCY, Selector.parse(f'{histogram}{{job="shop"}}'), objective=objective, unit="instance"
    )
    for got in (source.observe(asked(rule, end))["rule"], source.history(asked(rule, end))["rule"]):
        assert sums(got.treatment) == (over * 40, 20 * 40)
        assert sums(got.baseline) == (over * 20, 20 * 20)


def buckets_of(
    metric: str, edges: Mapping[str, Any], at: np.ndarray, count: Any, **more: str
) -> list[tuple[Mapping[str, str], Any, Any]]:
    """Return the series of a histogram; `edges` holds the cumulative counter by `le`, but for +Inf."""
    rows = [(counter(f"{metric}_bucket", le=le, **more), at, value) for le, value in {**edges, "+Inf": count}.items()]
    return [*rows, (counter(f"{metric}_count", **more), at, count)]


def latency(metric: str, objective: float = 1.0, **more: Any) -> Rule:
    return Rule("rule", Kind.LATENCY, Selector.parse(metric), objective=objective, **{"unit": "instance", **more})


@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_latency_has_the_requests_of_every_bucket(source: PrometheusSource, histogram: str, end: float, read: str):
    got = getattr(source, read)(asked(latency(histogram), end))["rule"]
    assert got.edges == (1.0, 2.5, np.inf)
    assert got.baseline is not None
    assert got.treatment.buckets[0, 0].tolist() == [[48.0, 24.0, 8.0]] * 10
    assert got.baseline.buckets[0, 0].tolist() == [[24.0, 12.0, 4.0]] * 10
    np.testing.assert_array_equal(got.treatment.buckets.sum(axis=-1), got.treatment.total)


@pytest.mark.parametrize("read", ["observe", "history"])
def test_buckets_end_where_every_pod_of_both_arms_has_an_edge_however_it_is_spelled(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at = scrapes(end)
    layouts = {"a:1": ("0.1", "0.5", "1"), "b:1": ("0.1", "1.0", "5"), "c:1": ("0.1", "0.5", "1e+00", "5")}
    metric = f"spelled_{read}_seconds"
    for instance, edges in layouts.items():
        arm = "1" if instance == "c:1" else "2"
        own = {le: stair(at, 2.0 * (1 + k)) for k, le in enumerate(edges)}
        prometheus.remote_write(buckets_of(metric, own, at, stair(at, 20.0), instance=instance, version=arm))
    for unit in ("instance", None):
        got = getattr(source, read)(asked(latency(metric, unit=unit), end))["rule"]
        assert got.edges == (0.1, 1.0, np.inf)
        assert got.treatment.buckets.sum(axis=1)[0, 0].tolist() == [16.0, 24.0, 120.0]
        assert got.baseline.buckets[0, 0, 0].tolist() == [8.0, 16.0, 56.0]
        assert got.treatment.events.sum() == got.treatment.buckets[..., 2].sum()


def test_a_pod_that_comes_back_with_other_buckets_leaves_those_it_always_had(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    cut = at.size - 18
    before, after = at[:cut], at[cut:]
    old = {"0.1": np.append(stair(before, 1), STALE), "1": stair(before, 2)}
    new = {"0.2": stair(after, 1, start=1), "1": stair(after, 2, start=2)}
    series: dict[str, tuple[Any, Any]] = {}
    for le in ("0.1", "0.2", "1"):
        spans = (at[: cut + 1] if le == "0.1" else before, after)
        parts = [(t, own[le]) for t, own in zip(spans, (old, new), strict=True) if le in own]
        series[le] = (np.concatenate([t for t, _ in parts]), np.concatenate([v for _, v in parts]))
    count = np.concatenate([stair(before, 4), stair(after, 4, start=4)])
    rows: list[Any] = [(counter("layout_seconds_bucket", le=le), t, v) for le, (t, v) in series.items()]
    rows += [(counter("layout_seconds_bucket", le="+Inf"), at, count), (counter("layout_seconds_count"), at, count)]
    prometheus.remote_write(rows)
    rule = latency("layout_seconds")
    got = source.observe(asked(rule, end))["rule"]
    assert got.edges == (1.0, np.inf)
    assert got.treatment.buckets is not None
    assert got.treatment.buckets[0, 0].tolist() == [[8.0, 8.0]] * 10
    assert source.history(asked(rule, end))["rule"].edges == (1.0, np.inf)
    parts = [source.observe(asked(rule, end - i * BLOCK, 1))["rule"] for i in reversed(range(10))]
    assert parts[0].edges == (0.1, 1.0, np.inf)
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.then(part)
    assert joined.edges == got.edges
    np.testing.assert_array_equal(joined.treatment.buckets, got.treatment.buckets)


def test_buckets_survive_restarts_and_births_and_do_not_depend_on_where_a_read_is_cut(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    rng = np.random.default_rng(23)
    at = scrapes(end)
    truth = np.zeros((10, 3))
    for instance, first, restart in (("a:1", 0, 30), ("b:1", 0, None), ("young:1", 25, None)):
        met = rng.poisson((9, 3, 1), (at.size, 3))
        met[:first] = 0
        total = np.cumsum(met, axis=0)
        if restart is not None:
            total[restart:] -= total[restart - 1]
        block = np.ceil((at - (end - 10 * BLOCK)) / BLOCK).astype(int) - 1
        np.add.at(truth, block[block >= 0], met[block >= 0])
        cumulative = np.cumsum(total, axis=1)[first:]
        own = {"0.5": cumulative[:, 0], "1": cumulative[:, 1]}
        prometheus.remote_write(buckets_of("whole_seconds", own, at[first:], cumulative[:, 2], instance=instance))
        began = counter("process_start_time_seconds", instance=instance, job="shop")
        prometheus.remote_write([(began, at[first:], np.full(at.size - first, at[first] - 4.0 if first else 1.0))])
    rule = latency("whole_seconds")
    got = source.observe(asked(rule, end))["rule"]
    assert got.treatment.buckets is not None
    np.testing.assert_array_equal(got.treatment.buckets.sum(axis=(0, 1)), truth)
    parts = [source.observe(asked(rule, end - i * BLOCK, 1))["rule"] for i in reversed(range(10))]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.then(part)
    assert joined.treatment.units == ("a:1", "b:1", "young:1")
    np.testing.assert_array_equal(joined.treatment.buckets, got.treatment.buckets)


def test_too_many_buckets_leave_the_share_over_the_objective_and_a_note(
    prometheus: PrometheusServer, source: PrometheusSource, histogram: str, end: float, monkeypatch: pytest.MonkeyPatch
):
    few = PrometheusSource(PrometheusHTTP(prometheus.url, max_series=2))
    rule = latency(histogram)
    whole = source.observe(asked(rule, end))["rule"]
    monkeypatch.setattr("watcher.sources.histograms.MOST_CELLS", 29)
    for reader in (source, few):
        for got in (reader.observe(asked(rule, end))["rule"], reader.history(asked(rule, end))["rule"]):
            assert got.edges == ()
            assert got.treatment.buckets is None
            assert any("too many buckets" in note for note in got.notes)
            np.testing.assert_array_equal(got.treatment.events, whole.treatment.events)
            np.testing.assert_array_equal(got.treatment.total, whole.treatment.total)


@pytest.mark.parametrize(("objective", "what"), [(2.0, "no bucket at 2"), (None, "no objective")])
def test_an_objective_that_is_no_edge_is_refused_with_the_edges_there_are(
    source: PrometheusSource, histogram: str, end: float, objective: float | None, what: str
):
    rule = Rule("rule", Kind.LATENCY, Selector.parse(histogram), objective=objective)
    for read in (source.observe, source.history):
        with pytest.raises(SourceRefused, match=rf"{what}.*1\.0, 2\.5, \+Inf.*choose one of these as `objective`"):
            read(asked(rule, end))


def test_requests_without_a_bucket_at_the_objective_are_not_called_slow(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    prometheus.remote_write(
        [
            (counter("mixed_seconds_bucket", le="1"), at, stair(at, 9)),
            (counter("mixed_seconds_count"), at, stair(at, 10)),
            (counter("mixed_seconds_bucket", le="2", instance="b:1"), at, stair(at, 10)),
            (counter("mixed_seconds_count", instance="b:1"), at, stair(at, 10)),
        ]
    )
    rule = Rule("rule", Kind.LATENCY, Selector.parse("mixed_seconds"), objective=1.0, unit="instance")
    got = source.observe(asked(rule, end))["rule"]
    assert sums(got.treatment) == (40, 400)
    assert any("no bucket at 1" in note for note in got.notes)


@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_summary_or_a_gauge_is_refused_as_a_latency(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at = scrapes(end)
    prometheus.remote_write(
        [(counter("summary_seconds_count"), at, stair(at, 1)), (counter("plain_seconds"), at, stair(at, 1))]
    )
    for metric, why in (("summary_seconds", "has no buckets"), ("plain_seconds", "is not a histogram")):
        with pytest.raises(SourceRefused, match=why):
            getattr(source, read)(asked(Rule("rule", Kind.LATENCY, Selector.parse(metric), objective=1.0), end))


@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_gauge_is_its_last_value_in_each_block(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at = scrapes(end)
    silent = (at > end - 5 * BLOCK) & (at < end - 4 * BLOCK + 1)
    values = np.floor((at - end) / BLOCK) + 100
    gone = int(np.flatnonzero(silent)[0])
    values[gone] = STALE
    keep = ~silent
    keep[gone] = True
    prometheus.remote_write([(counter(f"gauge_{read}"), at[keep], values[keep])])
    rule = Rule("rule", Kind.GAUGE, Selector.parse(f"gauge_{read}"), unit="instance")
    got = getattr(source, read)(asked(rule, end))["rule"]
    expected = [90.0, 91, 92, 93, 94, np.nan, 96, 97, 98, 99]
    np.testing.assert_array_equal(got.treatment.events[0, 0], expected)
    np.testing.assert_array_equal(got.treatment.total[0, 0], np.isfinite(expected))
    assert np.isnan(got.baseline.events).all()
    assert got.baseline.total.sum() == 0


@pytest.mark.parametrize("kind", [Kind.RATIO, Kind.RATE, Kind.LATENCY])
@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_metric_that_does_not_exist_is_zero_of_zero_with_a_note(
    source: PrometheusSource, end: float, kind: Kind, read: str
):
    selector = Selector.parse("never_seen")
    rule = Rule("rule", kind, selector, None if kind is Kind.LATENCY else selector, objective=1.0, unit="instance")
    got = getattr(source, read)(asked(rule, end))["rule"]
    assert got.treatment.total.shape == (1, 1, 10)
    assert sums(got.treatment) == sums(got.baseline) == (0, 0)
    assert any("treatment: never_seen" in note and "no samples" in note for note in got.notes)


def signed(prometheus: PrometheusServer, metric: str, at: np.ndarray, kinds: Mapping[str, float], **more: str) -> None:
    """Write requests without a signature, and failures of the kinds given per scrape; "" has none either."""
    rows: list[Any] = [(counter(f"{metric}_total", **more), at, stair(at, 10))]
    for kind, many in kinds.items():
        own = {"error_type": kind} if kind else {}
        rows.append((counter(f"{metric}_failed_total", **own, **more), at, stair(at, many)))
    prometheus.remote_write(rows)


def failures(metric: str, **more: Any) -> Rule:
    return ratio(f"{metric}_failed_total", f"{metric}_total", **{"signature": "error_type", "by": ("feature",), **more})


@pytest.mark.parametrize("read", ["observe", "history"])
def test_every_signature_of_bad_events_is_a_stream_beside_all_of_them(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at, metric = scrapes(end), f"signed_{read}"
    signed(prometheus, metric, at, {"timeout": 1, "": 2}, feature="pay", version="1")
    signed(prometheus, metric, at, {"timeout": 1, "crash": 3}, feature="pay", instance="b:1")
    signed(prometheus, metric, at, {"timeout": 1}, feature="pay", instance="c:1")
    signed(prometheus, metric, at, {}, feature="search")
    got = getattr(source, read)(asked(failures(metric), end))["rule"]
    pay = ("feature", "pay")
    assert got.streams == (
        (("error_type", "crash"), pay),
        (("error_type", "timeout"), pay),
        (pay,),
        (("feature", "search"),),
    )
    assert got.treatment.events.sum(axis=(1, 2)).tolist() == [120, 80, 200, 0]
    assert got.treatment.total.sum(axis=(1, 2)).tolist() == [800, 800, 800, 400]
    assert got.baseline.events.sum(axis=(1, 2)).tolist() == [0, 40, 120, 0]
    assert got.baseline.total.sum(axis=(1, 2)).tolist() == [400, 400, 400, 0]
    plain = getattr(source, read)(asked(failures(metric, signature=None), end))["rule"]
    for stream in plain.streams:
        np.testing.assert_array_equal(got.only(stream).treatment.events, plain.only(stream).treatment.events)
        np.testing.assert_array_equal(got.only(stream).treatment.total, plain.only(stream).treatment.total)


def test_a_signature_that_tells_streams_apart_already_or_has_no_bad_events_makes_none(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    signed(prometheus, "told", at, {"timeout": 1})
    already = source.observe(asked(failures("told", by=("error_type",)), end))["rule"]
    assert already.streams == ((), (("error_type", "timeout"),))
    assert already.treatment.total.sum(axis=(1, 2)).tolist() == [400, 0]
    good = source.observe(asked(failures("told", by=(), worse=Worse.LOWER), end))["rule"]
    assert good.streams == ((),)


@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_signature_with_too_many_values_makes_no_streams_and_a_note(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, read: str, monkeypatch: pytest.MonkeyPatch
):
    at, metric = scrapes(end), f"chatty_{read}"
    signed(prometheus, metric, at, {f"kind {i}": 1 for i in range(201)})
    got = getattr(source, read)(asked(failures(metric, by=()), end))["rule"]
    assert got.streams == ((),)
    assert got.treatment.events.sum() == 201 * 40
    assert any("error_type has too many values" in note for note in got.notes)
    few = PrometheusSource(PrometheusHTTP(prometheus.url, max_series=100))
    if read == "history":
        got = few.history(asked(failures(metric, by=()), end))["rule"]
        assert got.treatment.units == ("a:1",)
        assert got.treatment.events.sum() == 201 * 40
        assert any("too many values of error_type" in note for note in got.notes)


def test_signatures_do_not_depend_on_where_a_read_is_cut(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    signed(prometheus, "late", at, {"timeout": 1})
    young = counter("late_failed_total", error_type="crash")
    prometheus.remote_write([(young, at[-10:], stair(at[-10:], 1, start=1))])
    rule = failures("late", by=())
    whole = source.observe(asked(rule, end))["rule"]
    small = PrometheusSource(PrometheusHTTP(prometheus.url, max_bytes=2_000))
    assert small.observe(asked(rule, end - 9 * BLOCK, 1))["rule"].streams == ((), (("error_type", "timeout"),))
    parts = small.observe(asked(rule, end))["rule"]
    assert set(parts.streams) == set(whole.streams) == {(), (("error_type", "timeout"),), (("error_type", "crash"),)}
    for stream in whole.streams:
        np.testing.assert_array_equal(parts.only(stream).treatment.events, whole.only(stream).treatment.events)
        np.testing.assert_array_equal(parts.only(stream).treatment.total, whole.only(stream).treatment.total)
    assert whole.only((("error_type", "crash"),)).treatment.events.sum() == 10


def test_before_and_after_read_one_arm(prometheus: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    rows = [(counter("all_total", version=v, instance=f"{v}:1"), at, stair(at, 1)) for v in ("1", "2")]
    prometheus.remote_write(rows)
    request = asked(ratio("all_total", "all_total"), end, baseline=None, treatment=None, select=labels({"job": "shop"}))
    got = source.observe(request)["rule"]
    assert got.baseline is None
    assert sums(got.treatment)[1] == 80


@pytest.mark.parametrize(
    "hostile",
    ['x"}[5m])) or vector(1)#', 'x"} or exact_total{version="1', "\\", '\\"', "x\n", "{{}}", "☃", ".*", "1|2"],
)
def test_a_hostile_label_value_finds_nothing_else(
    prometheus: PrometheusServer, source: PrometheusSource, end: float, hostile: str
):
    at = scrapes(end)
    prometheus.remote_write([(counter("guarded_total", version=v), at, stair(at, 1)) for v in ("1", "2")])
    rule = ratio("guarded_total", "guarded_total")
    arm: Labels = labels({"version": hostile})
    for read in (source.observe, source.history):
        assert sums(read(asked(rule, end, treatment=arm))["rule"].treatment) == (0, 0)


def test_a_hostile_label_value_that_exists_is_found(prometheus: PrometheusServer, source: PrometheusSource, end: float):
    at, hostile = scrapes(end), 'x"}[5m])) or vector(1)#\\ ]]}'
    prometheus.remote_write([(counter("odd_total", version=hostile), at, stair(at, 1))])
    got = source.observe(
        asked(ratio("odd_total", "odd_total", by=("version",)), end, treatment=labels({"version": hostile}))
    )
    assert got["rule"].streams == ((("version", hostile),),)
    assert sums(got["rule"].treatment)[1] == 40


def test_a_label_name_that_is_none_never_reaches_a_query(source: PrometheusSource, end: float):
    rule = ratio("exact_total", "exact_total", by=("a) (vector(1",))
    with pytest.raises(ConfigError, match="not the name of a label"):
        source.history(asked(rule, end))
    with pytest.raises(ConfigError):
        source.labels_with_traffic(rule.events, "a) (vector(1", end, 300)
    with pytest.raises(ConfigError):
        PrometheusSource(PrometheusHTTP("http://127.0.0.1:9"), replica_label="a b")


def test_a_query_that_times_out_keeps_the_words_of_the_server(strict_prometheus: PrometheusServer, end: float):
    at = np.arange(end - 7200, end, SCRAPE)
    rows: list[tuple[Mapping[str, str], Any, Any]] = [
        (counter("slow_total", instance=f"{i}:1"), at, stair(at, 1)) for i in range(300)
    ]
    strict_prometheus.remote_write(rows)
    source = PrometheusSource(PrometheusHTTP(strict_prometheus.url))
    with pytest.raises(SourceRefused, match=r"query timed out|context deadline exceeded"):
        source.history(asked(ratio("slow_total", "slow_total"), end, 120))


def test_a_refused_port_is_down(end: float):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    source = PrometheusSource(PrometheusHTTP(f"http://127.0.0.1:{port}"))
    with pytest.raises(SourceDown, match="Connection refused"):
        source.observe(asked(ratio("x", "x"), end))


def test_eight_days_of_history_have_every_minute_once(fresh_prometheus: PrometheusServer, end: float):
    blocks = 8 * 1440
    at = np.arange(
        end - (blocks + 10) * BLOCK + 7, end + 1, BLOCK
    )  # scraped once a block: increase() would see nothing
    per_block = np.random.default_rng(5).poisson(6, at.size)
    pods = ("a:1", "b:1", "c:1")
    fresh_prometheus.remote_write([(counter("long_total", instance=pod), at, np.cumsum(per_block)) for pod in pods])
    source = PrometheusSource(PrometheusHTTP(fresh_prometheus.url))
    got: Observations = source.history(asked(ratio("long_total", "long_total"), end, blocks))["rule"]
    assert got.ends.size == blocks
    assert got.treatment.units == pods
    np.testing.assert_array_equal(got.treatment.total[0, 1], per_block[-blocks:])


def test_history_books_the_same_counts_as_observing(prometheus: PrometheusServer, source: PrometheusSource, end: float):
    rng = np.random.default_rng(17)
    at = scrapes(end)
    rows = [(counter("alike_total", instance=f"{i}:1"), at, np.cumsum(rng.poisson(9, at.size))) for i in range(3)]
    prometheus.remote_write(rows)
    request = asked(ratio("alike_total", "alike_total"), end)
    raw, learnt = source.observe(request)["rule"], source.history(request)["rule"]
    np.testing.assert_array_equal(raw.treatment.total, learnt.treatment.total)


def test_history_with_too_many_units_gives_them_up_and_says_so(
    prometheus: PrometheusServer, end: float, monkeypatch: pytest.MonkeyPatch
):
    at = scrapes(end)
    rows = [(counter("churn_total", instance=f"{i}:1"), at, stair(at, 1)) for i in range(30)]
    prometheus.remote_write(rows)
    monkeypatch.setattr("watcher.sources.counters.MOST_CELLS", 200)
    source = PrometheusSource(PrometheusHTTP(prometheus.url))
    got = source.history(asked(ratio("churn_total", "churn_total"), end))["rule"]
    assert got.treatment.units == ("",)
    assert got.treatment.total[0, 0].tolist() == [120.0] * 10
    assert any("one unit" in note for note in got.notes)


def test_a_new_version_that_carries_traffic_is_noticed(
    prometheus: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    young = at[-8:]
    prometheus.remote_write(
        [
            (counter("seen_total", version="1"), at, stair(at, 10)),
            (counter("seen_total", version="2", instance="b:1"), young, stair(young, 1, start=0)),
            (counter("seen_total", version="3", instance="c:1"), at, np.full(at.size, 7.0)),
            ({"__name__": "seen_total", "instance": "d:1"}, at, stair(at, 1)),
        ]
    )
    grown = source.labels_with_traffic(Selector.parse("seen_total"), "version", end, 300.0)
    assert set(grown) == {"1", "2"}
    assert grown["1"] == pytest.approx(200, rel=0.1)


def test_no_blocks_asked_for_is_no_question(source: PrometheusSource, end: float):
    rule = ratio("exact_total", "exact_total")
    request = replace(asked(rule, end), start=end)
    assert source.observe(request)["rule"].treatment.total.shape == (1, 1, 0)
    assert source.history(request)["rule"].treatment.total.shape == (1, 1, 0)

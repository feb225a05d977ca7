"""Native histograms in a real Prometheus, written into it as an agent would."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from tests.servers import prometheus_server
from tests.servers.conftest import require
from tests.servers.prometheus_server import PrometheusServer, _field, _varint
from watcher.errors import SourceRefused
from watcher.model import Kind, Observations, Request, Rule, Selector, labels
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

pytestmark = pytest.mark.servers

SCRAPE, BLOCK, BLOCKS = 15.0, 60.0, 10
OLD, NEW = labels({"version": "1"}), labels({"version": "2"})
LOAD = Rule("load", Kind.LATENCY, Selector.parse("load_seconds"), objective=1.0, unit="instance")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    require(prometheus_server.missing())
    folder = tmp_path_factory.mktemp("native")
    with prometheus_server.running(folder, "--enable-feature=native-histograms") as server:
        yield server


@pytest.fixture
def source(server: PrometheusServer) -> PrometheusSource:
    return PrometheusSource(PrometheusHTTP(server.url))


@pytest.fixture(scope="module")
def end() -> float:
    return time.time() // 3600 * 3600 - 3600.0


def _zigzag(number: int) -> bytes:
    return _varint(2 * number if number >= 0 else -2 * number - 1)


def _histogram(at: float, schema: int, buckets: Mapping[int, int]) -> bytes:
    """Encode one sample as a field of a TimeSeries; a span per bucket is allowed, if not short."""
    total, spans, deltas, place, before = sum(buckets.values()), b"", b"", 0, 0
    for j, many in sorted(buckets.items()):
        spans += _field(11, b"\x08" + _zigzag(j - place) + b"\x10\x01")
        deltas += _zigzag(many - before)
        place, before = j + 1, many
    numbers = b"\x08" + _varint(total) + b"\x19" + struct.pack("<d", 1.0) + b"\x20" + _zigzag(schema)
    numbers += b"\x29" + struct.pack("<d", 2.0**-128) + b"\x30\x00"
    return _field(4, numbers + spans + _field(12, deltas) + b"\x78" + _varint(round(at * 1000)))


def write(server: PrometheusServer, series: Mapping[str, str], samples: Sequence[bytes]) -> None:
    named = b"".join(_field(1, _field(1, n.encode()) + _field(2, v.encode())) for n, v in sorted(series.items()))
    server._post(_field(1, named + b"".join(samples)))


def scrapes(end: float) -> np.ndarray:
    return np.arange(end - (BLOCKS + 4) * BLOCK + 3.0, end + 1.0, SCRAPE)


def pod(metric: str, instance: str, version: str = "2", **more: str) -> dict[str, str]:
    return {"__name__": metric, "job": "shop", "instance": instance, "version": version, **more}


def expose(
    server: PrometheusServer,
    series: Mapping[str, str],
    at: np.ndarray,
    durations: Sequence[np.ndarray],
    schema: int = 3,
    restart: int | None = None,
) -> None:
    """Write what a process exposes: durations[i] were met in the interval that ends with scrape i."""
    met: dict[int, int] = {}
    samples = []
    for i, (when, own) in enumerate(zip(at, durations, strict=True)):
        if i == restart:
            met = {}
        for j in np.ceil(np.log2(own) * 2.0**schema - 1e-9).astype(int).tolist():
            met[j] = met.get(j, 0) + 1
        samples.append(_histogram(when, schema, met))
    write(server, series, samples)


def drawn(at: np.ndarray, seed: int, slower: float = 1.0) -> list[np.ndarray]:
    dice = np.random.default_rng(seed)
    return [slower * dice.lognormal(-0.5, 0.7, dice.poisson(20)) for _ in at]


def asked(rule: Rule, end: float, blocks: int = BLOCKS, **more: Any) -> Request:
    return Request((rule,), end - blocks * BLOCK, end, BLOCK, **{"baseline": OLD, "treatment": NEW, **more})


def truth(at: np.ndarray, durations: Sequence[np.ndarray], end: float, edges: Sequence[float]) -> np.ndarray:
    """Count durations by block and bucket the slow way, shape [block, bucket]."""
    table = np.zeros((BLOCKS, len(edges)))
    for when, own in zip(at, durations, strict=True):
        block = int(np.ceil((when - (end - BLOCKS * BLOCK)) / BLOCK)) - 1
        if block >= 0:
            table[block] += np.bincount(np.searchsorted(edges, own), minlength=len(edges))
    return table


def seen(source: PrometheusSource, rule: Rule, end: float, **more: Any) -> Observations:
    return source.observe(asked(rule, end, **more))[rule.name]


def named(metric: str, **more: Any) -> Rule:
    return Rule("load", Kind.LATENCY, Selector.parse(metric), **{"objective": 1.0, "unit": "instance", **more})


def test_buckets_are_those_of_the_durations_in_both_arms(
    server: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    old, new = drawn(at, 1), drawn(at, 2, slower=1.3)
    expose(server, pod("load_seconds", "a", "1"), at, old, schema=3)
    expose(server, pod("load_seconds", "b"), at, new, schema=2)
    for got in (seen(source, LOAD, end), source.history(asked(LOAD, end))["load"]):
        # The coarser of the two schemas, and from 1/64 s to 16 s.
        assert got.edges == (*np.exp2(np.arange(-24, 17) / 4).tolist(), np.inf)
        assert got.notes == ()
        assert got.baseline is not None
        assert got.baseline.buckets is not None
        assert got.treatment.buckets is not None
        np.testing.assert_array_equal(got.baseline.buckets[0, 0], truth(at, old, end, got.edges))
        np.testing.assert_array_equal(got.treatment.buckets[0, 0], truth(at, new, end, got.edges))
        np.testing.assert_array_equal(got.treatment.buckets.sum(axis=-1), got.treatment.total)
        slow = [edge > 1.0 for edge in got.edges]
        np.testing.assert_array_equal(got.treatment.buckets[..., slow].sum(axis=-1), got.treatment.events)


def test_a_restart_counts_from_zero_in_every_bucket(server: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    durations = drawn(at, 3)
    expose(server, pod("again_seconds", "a"), at, durations, restart=at.size - 14)
    got = seen(source, named("again_seconds"), end)
    assert got.treatment.buckets is not None
    np.testing.assert_array_equal(got.treatment.buckets[0, 0], truth(at, durations, end, got.edges))
    assert any("resets" in note for note in got.notes)
    learnt = source.history(asked(named("again_seconds"), end))["load"].treatment
    assert learnt.buckets is not None
    assert (learnt.buckets >= 0).all()
    same = (learnt.buckets == got.treatment.buckets).all(axis=(0, 1, 3))
    assert same.sum() == BLOCKS - 1  # the block of the restart, which the server cannot tell


def test_a_restart_that_only_a_bucket_tells_of_is_noticed(
    server: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    samples = [_histogram(when, 0, {0: 5, 1: 4} if i < at.size - 2 else {0: 12}) for i, when in enumerate(at)]
    write(server, pod("quiet_seconds", "a"), samples)
    got = seen(source, named("quiet_seconds"), end)
    assert got.treatment.total[0, 0, -1] == 12.0
    assert got.treatment.events.sum() == 0.0


def test_reading_block_by_block_finds_the_same_buckets(server: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    for i, (name, schema) in enumerate((("a", 3), ("b", 1), ("c", 5))):
        expose(server, pod("cut_seconds", name), at, drawn(at, 10 + i), schema, restart=30 + i if i else None)
    rule = named("cut_seconds")
    whole = seen(source, rule, end)
    parts = [source.observe(asked(rule, end - i * BLOCK, 1))["load"] for i in reversed(range(BLOCKS))]
    joined = parts[0]
    for part in parts[1:]:
        joined = joined.then(part)
    assert joined.edges == whole.edges
    assert joined.treatment.buckets is not None
    assert whole.treatment.buckets is not None
    np.testing.assert_array_equal(joined.treatment.buckets, whole.treatment.buckets)
    np.testing.assert_array_equal(joined.treatment.events, whole.treatment.events)


def test_an_objective_between_boundaries_moves_to_the_nearest_and_says_so(
    server: PrometheusServer, source: PrometheusSource, end: float
):
    at = scrapes(end)
    durations = drawn(at, 4)
    expose(server, pod("moved_seconds", "a"), at, durations)
    got = seen(source, named("moved_seconds", objective=0.9), end)
    inside = np.concatenate([own for when, own in zip(at, durations, strict=True) if when > end - BLOCKS * BLOCK])
    edge = 2.0 ** (-1 / 8)
    assert edge in got.edges
    assert got.treatment.events.sum() == (inside > edge).sum()
    assert any("0.917" in note and "0.9:" in note for note in got.notes)


def test_replicas_that_scrape_the_same_pod_count_once(server: PrometheusServer, end: float):
    at = scrapes(end)
    durations = drawn(at, 5)
    for replica, since in (("x", 0), ("y", 20)):
        # A replica that came up later misses the first samples of the same process.
        met: dict[int, int] = {}
        samples = []
        for when, own in zip(at, durations, strict=True):
            for j in np.ceil(np.log2(own) * 8).astype(int).tolist():
                met[j] = met.get(j, 0) + 1
            samples.append(_histogram(when, 3, met))
        write(server, pod("twice_seconds", "a", replica=replica), samples[since:])
    source = PrometheusSource(PrometheusHTTP(server.url), replica_label="replica")
    rule = named("twice_seconds")
    for got in (seen(source, rule, end), source.history(asked(rule, end))["load"]):
        assert got.treatment.buckets is not None
        np.testing.assert_array_equal(got.treatment.buckets[0, 0], truth(at, durations, end, got.edges))


@pytest.mark.parametrize("read", ["observe", "history"])
def test_an_arm_with_classic_buckets_cannot_be_compared_with_a_native_one(
    server: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at = scrapes(end)
    name = f"mixed_{read}_seconds"
    expose(server, pod(name, "a"), at, drawn(at, 6))
    many = np.arange(at.size, dtype=float)
    old = {"instance": "b", "job": "shop", "version": "1"}
    server.remote_write(
        [
            ({"__name__": f"{name}_bucket", "le": "1", **old}, at, many),
            ({"__name__": f"{name}_bucket", "le": "+Inf", **old}, at, many),
            ({"__name__": f"{name}_count", **old}, at, many),
        ]
    )
    with pytest.raises(SourceRefused, match=r"rule load: one arm has classic buckets.*the other a native"):
        getattr(source, read)(asked(named(name), end))


@pytest.mark.parametrize("read", ["observe", "history"])
def test_a_native_histogram_needs_an_objective(
    server: PrometheusServer, source: PrometheusSource, end: float, read: str
):
    at = scrapes(end)
    expose(server, pod(f"aimless_{read}_seconds", "a"), at, drawn(at, 7))
    with pytest.raises(SourceRefused, match="needs an `objective`"):
        getattr(source, read)(asked(named(f"aimless_{read}_seconds", objective=None), end))


def test_a_native_histogram_is_no_counter(server: PrometheusServer, source: PrometheusSource, end: float):
    at = scrapes(end)
    expose(server, pod("counted_seconds", "a"), at, drawn(at, 8))
    selector = Selector.parse("counted_seconds")
    with pytest.raises(SourceRefused, match=r"counted_seconds is a native histogram.*kind latency"):
        source.observe(asked(Rule("rule", Kind.RATIO, selector, selector), end))

"""Native histograms as the HTTP API writes them, and the grid they are put on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from watcher.sources.native import FINEST, Grid, NativeSet, together
from watcher.sources.prometheus_json import NoHistogram, ServerError, read_native

Bucket = tuple[int, str, str, str]


def answer(*series: tuple[Mapping[str, str], Sequence[tuple[float, Sequence[Bucket]]]], **more: Any) -> bytes:
    """Write an answer to a range selector: an empty histogram has no `buckets`, and an empty bucket is not there."""
    result = []
    for labels, samples in series:
        points = []
        for at, buckets in samples:
            count = sum(float(bucket[3]) for bucket in buckets)
            own: dict[str, Any] = {"count": f"{count:g}", "sum": "1.5"}
            points.append([at, {**own, "buckets": [list(bucket) for bucket in buckets]} if buckets else own])
        result.append({"metric": dict(labels), "histograms": points})
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}, **more}).encode()


def exponential(schema: int, counts: Mapping[int, float]) -> list[Bucket]:
    """Return the buckets of a schema by number: j ends at 2^(j 2^-schema)."""

    def edge(j: int) -> str:
        return repr(2.0 ** (float(j) * 2.0**-schema))

    return [(0, edge(j - 1), edge(j), f"{many:g}") for j, many in sorted(counts.items())]


def one(*histograms: Sequence[Bucket]) -> NativeSet:
    return read_native(answer(({"__name__": "x"}, [(60.0 * i, own) for i, own in enumerate(histograms)])))


def on_grid(native: NativeSet, grid: Grid) -> np.ndarray:
    """Return the count in every bucket, shape [sample, bucket]."""
    buckets = grid.counters(native)[2]
    empty = np.zeros(native.totals.times.size)
    return np.column_stack([buckets.counters[e].values if e in buckets.counters else empty for e in buckets.edges])


def test_an_answer_is_read_sample_by_sample_and_empty_histograms_have_no_buckets():
    zero: Bucket = (3, "-2.938735877055719e-39", "2.938735877055719e-39", "2")
    body = answer(
        ({"__name__": "x", "count": "1", "sum": "2"}, [(60, [zero, (0, "0.5", "1", "3")]), (75.5, [])]),
        ({"__name__": "x"}, [(60, [(0, "1", "2", "4")])]),
        warnings=["odd"],
    )
    got = read_native(body)
    assert got.totals.labels == ({"__name__": "x", "count": "1", "sum": "2"}, {"__name__": "x"})
    assert got.totals.times.tolist() == [60, 75.5, 60]
    assert got.totals.values.tolist() == [5, 0, 4]
    assert got.totals.warnings == ("odd",)
    assert got.owners.tolist() == [0, 0, 2]
    assert got.right.tolist() == [2.938735877055719e-39, 1, 2]
    assert got.counts.tolist() == [2, 3, 4]


def test_an_answer_without_samples_is_empty_and_one_of_plain_numbers_is_no_histogram():
    assert len(read_native(answer())) == 0
    plain = {"status": "success", "data": {"result": [{"metric": {}, "values": [[60, "1"]]}]}}
    with pytest.raises(NoHistogram):
        read_native(json.dumps(plain).encode())
    with pytest.raises(ServerError):
        read_native(b'{"status": "error", "error": "no"}')
    with pytest.raises(ValueError, match="shape"):
        read_native(b'{"status": "success", "data": {"result": [{"metric": {}, "histograms": 7}]}}')


def test_series_of_both_kinds_leave_their_histograms():
    body = json.loads(answer(({}, [(60, [(0, "1", "2", "4")])])))
    body["data"]["result"][0]["values"] = [[45, "1"]]
    assert read_native(json.dumps(body).encode()).totals.times.tolist() == [60]


def test_keeping_samples_keeps_their_buckets():
    native = one([(0, "0.5", "1", "3")], [(0, "0.5", "1", "4"), (0, "1", "2", "1")], [])
    kept = native.keep(np.array([False, True, True]))
    assert kept.totals.values.tolist() == [5, 0]
    assert kept.owners.tolist() == [0, 0]
    assert kept.counts.tolist() == [4, 1]
    both = together([kept, native])
    assert both.owners.tolist() == [0, 0, 2, 3, 3]
    assert both.totals.offsets.tolist() == [0, 2, 5]


@pytest.mark.parametrize("schema", range(-4, 9))
def test_the_schema_is_read_off_the_boundaries_and_at_most_the_finest_of_a_grid(schema: int):
    native = one(exponential(schema, {-2: 1, 0: 2, 1: 3, 5: 1}))
    assert Grid.around(1.0, [native]).schema == min(schema, FINEST)


def test_the_grid_is_that_of_the_coarsest_and_does_not_depend_on_what_was_met():
    fine, coarse = one(exponential(3, {0: 1})), one(exponential(1, {-7: 1}))
    empty = one([])
    assert Grid.around(1.0, [empty]).schema == FINEST
    grid = Grid.around(0.5, [fine, coarse, empty])
    assert grid == Grid.around(0.5, [one(exponential(1, {9: 5}))])
    assert grid.edges[0] == 0.5 / 64
    assert grid.edges[-2:] == (8.0, np.inf)
    assert len(grid.edges) == 2 * 10 + 2


def test_the_edges_of_a_coarser_grid_are_among_the_finer_ones_to_the_last_bit():
    grids = [set(Grid.around(0.3, [one(exponential(schema, {0: 1}))]).edges) for schema in (-1, 0, 1, 2, 3)]
    for coarse, fine in pairwise(grids):
        assert coarse < fine


@pytest.mark.parametrize(("objective", "edge"), [(1.0, 1.0), (0.9, 2 ** (-1 / 8)), (1.05, 2 ** (1 / 8)), (1.04, 1.0)])
def test_the_objective_becomes_the_nearest_boundary(objective: float, edge: float):
    grid = Grid.around(objective, [])
    assert grid.edge == edge
    assert edge in grid.edges


def test_finer_buckets_merge_into_coarser_ones_exactly():
    dice = np.random.default_rng(7)
    durations = dice.lognormal(-1, 1.5, 5000)
    coarse = np.ceil(np.log2(durations) * 2).astype(int)
    fine = np.ceil(np.log2(durations) * 64).astype(int)
    both = [
        one(exponential(schema, dict(zip(*np.unique(numbers, return_counts=True), strict=True))))
        for schema, numbers in ((1, coarse), (6, fine))
    ]
    grid = Grid.around(0.5, both)
    merged = [on_grid(native, grid)[0] for native in both]
    np.testing.assert_array_equal(merged[0], merged[1])
    np.testing.assert_array_equal(
        merged[0], np.bincount(np.searchsorted(grid.edges, durations), minlength=len(grid.edges))
    )
    within, total, _ = grid.counters(both[1])
    assert within.values.tolist() == [(durations <= 0.5).sum()]
    assert total.values.tolist() == [5000]


def test_the_bucket_around_zero_is_the_lowest_and_may_cut_off_the_next():
    zero: Bucket = (3, "-0.001", "0.001", "5")
    cut: Bucket = (0, "0.001", repr(2.0 ** (-79 / 8)), "2")
    native = one([zero, cut, *exponential(3, {-8: 1, 40: 3})], [])
    grid = Grid.around(1.0, [native])
    assert grid.schema == 3
    table = on_grid(native, grid)
    assert table[0, 0] == 7
    assert table[0, -1] == 3
    assert table.sum(axis=1).tolist() == [11, 0]


def test_custom_buckets_are_no_schema():
    with pytest.raises(ValueError, match="no schema"):
        Grid.around(1.0, [one([(0, "-Inf", "0.1", "1"), (0, "0.1", "0.25", "3"), (0, "0.25", "+Inf", "1")])])

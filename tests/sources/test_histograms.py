from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from watcher.sources.counters import SampleSet
from watcher.sources.histograms import Buckets, by_edge, whole_edges


def buckets(*series: tuple[str, str, Sequence[float]]) -> SampleSet:
    """Series of histograms, given as (pod, le, times); their values count up."""
    return SampleSet.of([({"pod": pod, "le": le}, times, np.arange(len(times))) for pod, le, times in series])


def test_an_edge_that_a_pod_lacks_is_none_of_the_edges_they_share():
    found = buckets(
        ("a", "0.1", [0, 15]),
        ("a", "1", [0, 15]),
        ("a", "+Inf", [0, 15]),
        ("b", "1.0", [0, 15]),
        ("b", "+Inf", [0, 15]),
    )
    assert whole_edges(found) == {1.0, np.inf}
    assert whole_edges(SampleSet.of([])) == frozenset()


def test_an_edge_that_a_pod_has_for_a_part_of_the_time_is_none_of_them_either():
    found = buckets(("a", "0.1", [0, 15]), ("a", "0.2", [30, 45]), ("a", "1", [0, 15, 30, 45]))
    assert whole_edges(found) == {1.0}


def test_an_edge_spelled_in_two_ways_one_after_the_other_is_one_edge():
    found = buckets(("a", "1", [0, 15]), ("a", "1.0", [30, 45]), ("a", "+Inf", [0, 15, 30, 45]))
    assert whole_edges(found) == {1.0, np.inf}
    split = by_edge(found, {1.0, np.inf})
    assert split.edges == (1.0, np.inf)
    assert len(split.counters[1.0]) == 2


def test_what_is_no_edge_is_ignored():
    assert whole_edges(buckets(("a", "huge", [0]), ("a", "1", [0]))) >= {1.0}
    assert by_edge(buckets(("a", "huge", [0])), {float("nan"), 1.0}).edges == (1.0, np.inf)


def test_cumulative_counts_become_requests_per_bucket_that_add_up_and_are_never_negative():
    sets = {edge: SampleSet.of([({}, [0.0], [value])]) for edge, value in ((0.1, 3.0), (0.5, 2.0), (1.0, 9.0))}
    found = Buckets((0.1, 0.5, 1.0, np.inf), sets, cumulative=True)
    cells = found.counted(lambda one: one.values.reshape(1, 1, 1), np.array([[[8.0]]]))
    assert cells[0, 0, 0].tolist() == [3, 0, 5, 0]

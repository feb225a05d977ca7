"""What is remembered of samples decides the same as what a read of the whole overlap says."""

from __future__ import annotations

import numpy as np
import pytest

from watcher.model import Selector
from watcher.sources.counters import Grouping, SampleSet, count, learn, only_grows
from watcher.sources.tails import Tails

OVERLAP, BLOCK, END = 60.0, 5.0, 400.0
ALL = Selector("requests_total")
GROUPING = Grouping(("route",), "pod")


def shop(seed: int) -> SampleSet:
    """Return counters of pods that restart, fall silent and come back, and of routes that are born."""
    draw, rows = np.random.default_rng(seed), []
    for pod in "abc":
        times = np.arange(draw.uniform(0, 2), END, 2.0)
        restarts = draw.uniform(100, END, 2)
        for route in range(4):
            there = np.ones(times.size, dtype=bool)
            silent = draw.uniform(80, END)
            there[(times > silent) & (times < silent + draw.uniform(5, 90))] = False
            there[times < draw.choice([0.0, 0.0, 200.0])] = False
            grown = np.cumsum(draw.poisson(3, times.size)).astype(float)
            for at in np.sort(restarts):
                after = times >= at
                grown[after] -= grown[after][0] - draw.poisson(2)
            labels = {"__name__": ALL.metric, "route": f"/{route}", "pod": pod, "instance": pod}
            rows.append((labels, times[there], grown[there]))
    return SampleSet.of(rows)


def between(whole: SampleSet, start: float, end: float) -> SampleSet:
    return whole.keep((whole.times > start) & (whole.times <= end))


def counted(samples: SampleSet, end: float) -> dict[tuple[object, str], float]:
    ends = np.array([end])
    about = {GROUPING.process(labels) for labels in samples.labels}
    found = count(samples, ends, BLOCK, GROUPING, learn([samples], GROUPING, OVERLAP, about), OVERLAP)
    names = [(stream, unit) for stream in found.streams for unit in found.units]
    return dict(zip(names, found.cells.ravel().tolist(), strict=True))


@pytest.mark.parametrize("seed", range(20))
def test_what_is_remembered_counts_as_the_whole_overlap_does(seed: int) -> None:
    whole, tails, resumed = shop(seed), Tails(OVERLAP), 0
    for end in np.arange(100.0, END, BLOCK).tolist():
        full = between(whole, end - BLOCK - OVERLAP, end)
        samples = tails.resumed(ALL, end - BLOCK, end, lambda start, until: between(whole, start, until))
        if samples is not None:
            resumed += 1
            assert counted(samples, end) == counted(full, end)
            assert samples.size < full.size / 2
        tails.keep(ALL, end, full if samples is None else samples)
    assert resumed >= 2, "until a series falls silent, and once that is a whole overlap ago"


def test_a_tail_is_known_at_its_own_end_only_and_to_two_that_read_the_same_blocks() -> None:
    whole, tails = shop(1), Tails(OVERLAP)
    for end in (100.0, 105.0):
        tails.keep(ALL, end, between(whole, end - OVERLAP, end))
    for start, known in ((95.0, False), (100.0, True), (102.0, False), (105.0, True)):
        found = tails.resumed(ALL, start, start + BLOCK, lambda after, until: between(whole, after, until))
        assert (found is not None) == known


def test_an_answer_that_may_be_incomplete_is_not_remembered() -> None:
    whole, tails = shop(1), Tails(OVERLAP)
    tails.keep(ALL, 100.0, between(whole, 40.0, 100.0))
    part = between(whole, 45.0, 105.0)
    tails.keep(ALL, 105.0, SampleSet(part.labels, part.times, part.values, part.offsets, ("a node is away",)))
    assert tails.resumed(ALL, 105.0, 110.0, lambda start, until: between(whole, start, until)) is None


def test_births_and_resets_inside_the_blocks_are_more_than_growth() -> None:
    steady = ({"pod": "a"}, [1.0, 3.0, 6.0, 8.0], [5.0, 6.0, 7.0, 9.0])
    for further, grows in (
        (({"pod": "b"}, [1.0, 6.0], [3.0, 3.0]), True),
        (({"pod": "b"}, [6.0], [0.0]), True),
        (({"pod": "b"}, [1.0, 3.0], [3.0, 1.0]), True),
        (({"pod": "b"}, [6.0], [7.0]), False),
        (({"pod": "b"}, [1.0, 6.0], [3.0, 1.0]), False),
    ):
        assert only_grows(SampleSet.of([steady, further]), np.array([10.0]), BLOCK, OVERLAP) is grows

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from watcher.errors import SourceTooLarge
from watcher.sources.counters import Counts, Grouping, SampleSet, count, last_values, learn, newborn, placed

START, BLOCK, OVERLAP = 600_000.0, 60.0, 300.0
Series = tuple[Mapping[str, str], Sequence[float], Sequence[float]]


def ends(blocks: int = 5) -> np.ndarray:
    return START + BLOCK * np.arange(1, blocks + 1)


def counted(
    series: Sequence[Series],
    grouping: Grouping | None = None,
    starts: Sequence[Series] = (),
    others: Sequence[Series] = (),
    over: np.ndarray | None = None,
) -> Counts:
    """Count series; times are seconds after START."""
    grouping = grouping or Grouping((), "instance")
    grid = ends() if over is None else over
    samples, more, began = (
        SampleSet.of([(labels, np.asarray(times) + START, values) for labels, times, values in rows])
        for rows in (series, others, starts)
    )
    about = newborn(samples, grid, BLOCK, grouping, OVERLAP)
    processes = learn([samples, more], grouping, OVERLAP, about, began)
    return count(samples, grid, BLOCK, grouping, processes, OVERLAP)


def pod(name: str = "a", **more: str) -> dict[str, str]:
    return {"instance": name, "job": "shop", **more}


def test_a_difference_is_booked_in_the_block_of_its_later_sample():
    got = counted([(pod(), [-15, 45, 75, 130], [10, 14, 20, 21])])
    assert got.cells[0, 0].tolist() == [4, 6, 1, 0, 0]


def test_a_sample_stamped_at_the_end_of_a_block_belongs_to_it():
    got = counted([(pod(), [0, 60, 120], [10, 11, 13])])
    assert got.cells[0, 0].tolist() == [1, 2, 0, 0, 0]


def test_a_lower_value_is_a_restart_and_all_of_it_is_new():
    got = counted([(pod(), [-10, 50, 110], [100, 3, 7])])
    assert got.cells[0, 0].tolist() == [3, 4, 0, 0, 0]
    assert got.resets == 1


def test_a_restart_seen_in_one_series_restarts_every_series_of_the_unit():
    errors, fine = pod(code="500"), pod(code="200")
    got = counted([(errors, [-10, 50], [2, 5]), (fine, [-10, 50], [900, 40])], Grouping(("code",), "instance"))
    assert got.cells[:, 0, 0].tolist() == [40, 5]


def test_a_restart_seen_in_another_counter_restarts_the_unit_too():
    got = counted([(pod(code="500"), [-10, 50], [2, 5])], others=[(pod(code="200"), [-10, 50], [900, 40])])
    assert got.cells[0, 0, 0] == 5


def test_a_series_silent_during_the_restart_of_its_unit_starts_anew_when_it_is_back():
    errors, fine = pod(code="500"), pod(code="200")
    got = counted(
        [(errors, [-10, 110], [2, 5]), (fine, [-10, 50, 110], [900, 40, 80])], Grouping(("code",), "instance")
    )
    assert got.cells[1, 0].tolist() == [0, 5, 0, 0, 0]


def test_a_restart_of_one_unit_leaves_the_others_alone():
    got = counted([(pod("a"), [-10, 50], [900, 40]), (pod("b"), [-10, 50], [900, 905])])
    assert got.cells[0, :, 0].tolist() == [40, 5]


def test_series_without_a_target_do_not_restart_each_other():
    got = counted(
        [({"code": "500"}, [-10, 50], [2, 5]), ({"code": "200"}, [-10, 50], [900, 40])], Grouping(("code",), None)
    )
    assert got.cells[:, 0, 0].tolist() == [40, 3]


def test_a_histogram_without_a_target_restarts_with_all_its_buckets():
    rows = [({"__name__": "x_bucket", "le": "1"}, [-10, 50], [2, 5]), ({"__name__": "x_count"}, [-10, 50], [900, 40])]
    assert counted(rows, Grouping(("le",), None)).cells[:, 0, 0].tolist() == [40, 5]


def test_the_first_error_of_a_pod_already_read_is_an_error():
    got = counted([(pod(code="200"), [-10, 50, 110], [9, 9, 9]), (pod(code="500"), [110], [3])])
    assert got.cells[0, 0].tolist() == [0, 3, 0, 0, 0]
    assert got.uncounted == 0


def test_the_first_error_counts_when_only_another_counter_knew_the_pod():
    got = counted([(pod(code="500"), [110], [3])], others=[(pod(code="200"), [-10, 50, 110], [9, 9, 9])])
    assert got.cells[0, 0, 1] == 3


def test_a_pod_first_seen_counts_from_its_first_value_for_its_past_may_be_long():
    got = counted([(pod(), [50, 110], [4000, 4007])])
    assert got.cells[0, 0].tolist() == [0, 7, 0, 0, 0]
    assert got.uncounted == 1


@pytest.mark.parametrize(("began", "events"), [(30.0, 40), (-200.0, 40), (-260.0, 0), (90.0, 0)])
def test_a_pod_first_seen_counts_from_zero_if_its_process_just_started(began: float, events: float):
    starts = [({**pod(), "__name__": "process_start_time_seconds"}, [50], [START + began])]
    assert counted([(pod(), [50], [40])], starts=starts).cells[0, 0, 0] == events


def test_a_series_just_created_counts_from_zero_on_a_process_never_seen():
    series = [({**pod(), "__name__": "orders_total"}, [50], [40])]
    starts = [({**pod(), "__name__": "orders_created"}, [50], [START + 20])]
    assert counted(series, starts=starts).cells[0, 0, 0] == 40


def test_a_series_born_with_zero_has_nothing_to_decide():
    got = counted([(pod(), [50, 110], [0, 2])])
    assert got.cells[0, 0].tolist() == [0, 2, 0, 0, 0]
    assert got.uncounted == 0


def test_a_gap_longer_than_the_overlap_makes_a_series_new():
    got = counted([(pod(), [-10, 295], [5, 90])])
    assert got.cells.sum() == 0
    assert counted([(pod(), [-4, 295], [5, 90])]).cells.sum() == 85


def test_samples_that_are_not_numbers_are_dropped():
    got = counted([(pod(), [-10, 20, 50], [5, np.nan, 9])])
    assert got.cells[0, 0, 0] == 4


def test_fractions_stay_fractions_but_for_the_noise_of_adding():
    assert counted([(pod(), [-10, 50], [0.0, 2.5])]).cells[0, 0, 0] == 2.5
    whole = counted([(pod(), [-10, 20, 50], [0.1, 0.2, 3.1])]).cells[0, 0, 0]
    assert whole == 3.0


def test_replicas_of_one_server_count_once():
    got = counted(
        [
            (pod(replica="x"), [-10, 20, 50, 80, 110], [0, 5, 10, 15, 20]),
            (pod(replica="y"), [-5, 25, 55, 85, 115], [0, 5, 10, 15, 20]),
        ],
        Grouping((), "instance", "replica"),
    )
    assert got.cells[0, 0].tolist() == [10, 10, 0, 0, 0]
    assert got.merged == 1


def test_the_other_replica_fills_the_blocks_one_has_missed_and_nothing_counts_twice():
    at = np.arange(-10.0, 300.0, 20.0)
    values = at + 10
    holes = (at > 60) & (at < 180)
    got = counted(
        [(pod(replica="x"), at[~holes], values[~holes]), (pod(replica="y"), at, values)],
        Grouping((), "instance", "replica"),
    )
    assert got.cells[0, 0].tolist() == [60, 60, 60, 60, 60]


def test_a_replica_that_comes_up_sees_nothing_new():
    at = np.arange(-10.0, 300.0, 20.0)
    got = counted(
        [(pod(replica="x"), at, at + 1000), (pod(replica="w"), at[8:] + 3, at[8:] + 1003)],
        Grouping((), "instance", "replica"),
    )
    assert got.cells.sum() == pytest.approx(300, abs=20)


def test_a_replica_that_takes_over_does_not_count_what_was_counted_before_it_came():
    at = np.arange(-10.0, 300.0, 20.0)
    got = counted(
        [(pod(replica="x"), at[at < 110], at[at < 110] + 1000), (pod(replica="w"), at[at > 125], at[at > 125] + 1000)],
        Grouping((), "instance", "replica"),
    )
    assert got.cells.sum() == 100 + 160
    assert got.uncounted == 1


def test_replicas_out_of_phase_do_not_take_turns():
    at = np.arange(-10.0, 300.0, 7.0)
    one = (pod(replica="x"), at, at)
    two = (pod(replica="y"), at + 3, at + 3)
    alone, both = (counted(rows, Grouping((), "instance", "replica")) for rows in ([one], [one, two]))
    assert both.cells.tolist() == alone.cells.tolist()


def test_streams_carry_exactly_the_labels_asked_for():
    got = counted(
        [({"instance": "a", "feature": "pay"}, [-10, 50], [0, 1]), (pod("b"), [-10, 50], [0, 2])],
        Grouping(("feature",), "instance"),
    )
    assert got.streams == ((), (("feature", "pay"),))
    assert got.units == ("a", "b")
    assert got.cells[:, :, 0].tolist() == [[0, 2], [1, 0]]


def test_counts_can_be_placed_on_more_streams_and_units():
    got = counted([(pod("b"), [-10, 50], [0, 2])])
    assert got.on(((),), ("a", "b"))[0, :, 0].tolist() == [0, 2]


def test_too_many_cells_are_refused_before_they_take_the_memory():
    rows = [({"instance": str(i), "path": str(i)}, [50], [1]) for i in range(1500)]
    with pytest.raises(SourceTooLarge, match="1500 streams x 1500 units"):
        counted(rows, Grouping(("path",), "instance"))


def test_nothing_at_all_counts_as_nothing():
    got = counted([])
    assert got.cells.shape == (0, 0, 5)
    assert got.on(((),), ("",)).tolist() == [[[0, 0, 0, 0, 0]]]


def slow_count(series: Sequence[Series], over: np.ndarray) -> dict[str, list[float]]:
    """The same rules, one sample at a time, for series that each have an instance of their own."""
    found = {}
    for labels, times, values in series:
        cells = [0.0] * len(over)
        before: tuple[float, float] | None = None
        for time, value in zip(np.asarray(times) + START, values, strict=True):
            if np.isnan(value):
                continue
            if before is None or time - before[0] > OVERLAP:
                delta = 0.0
            else:
                delta = value if value < before[1] else value - before[1]
            for block, end in enumerate(over):
                if end - BLOCK < time <= end:
                    cells[block] += delta
            before = (time, value)
        found[labels["instance"]] = cells
    return found


def random_series(rng: np.random.Generator) -> list[Series]:
    rows: list[Series] = []
    for i in range(12):
        times = np.sort(rng.choice(np.arange(-290.0, 600.0, 5.0), size=rng.integers(1, 60), replace=False))
        values = np.cumsum(rng.integers(0, 5, times.size)).astype(float)
        for at in rng.integers(0, times.size, 2):
            values[at:] -= values[at] - rng.integers(0, 3)
        values[rng.random(times.size) < 0.05] = np.nan
        rows.append((pod(str(i)), times.tolist(), values.tolist()))
    return rows


@pytest.mark.parametrize("seed", range(20))
def test_the_vectorised_count_agrees_with_one_sample_at_a_time(seed: int):
    series, over = random_series(np.random.default_rng(seed)), ends(10)
    got = counted(series, over=over)
    slow = slow_count(series, over)
    for unit, name in enumerate(got.units):
        assert got.cells[0, unit].tolist() == slow[name]


@pytest.mark.parametrize("seed", range(20))
def test_the_counts_of_a_block_do_not_depend_on_where_the_reads_are_cut(seed: int):
    rng = np.random.default_rng(seed)
    series = [
        ({**labels, "instance": labels["instance"][:1], "code": str(i)}, t, v)
        for i, (labels, t, v) in enumerate(random_series(rng))
    ]
    starts = [({**pod("1"), "__name__": "process_start_time_seconds"}, [0.0], [START + 100])]
    grouping = Grouping(("code",), "instance")
    codes = tuple((("code", str(i)),) for i in range(12))
    units = tuple(sorted({labels["instance"] for labels, _, _ in series}))

    def cells(first: int, last: int) -> np.ndarray:
        low, high = first * BLOCK - OVERLAP, last * BLOCK
        part = [
            (lb, [x for x in t if low < x <= high], [y for x, y in zip(t, v, strict=True) if low < x <= high])
            for lb, t, v in series
        ]
        part = [row for row in part if row[1]]
        return counted(part, grouping, starts, over=ends(10)[first:last]).on(codes, units)

    whole = cells(0, 10)
    pieces = np.concatenate([cells(0, 1), cells(1, 4), cells(4, 5), cells(5, 10)], axis=2)
    assert whole.sum() > 0
    np.testing.assert_array_equal(whole, pieces)


def test_a_gauge_is_the_last_sample_of_each_block_and_a_gap_is_not_zero():
    samples = SampleSet.of([(pod(), START + np.array([10, 50, 130]), [1.0, 2.0, 7.0])])
    got = last_values(samples, ends(3), BLOCK, Grouping((), "instance"), "median")
    np.testing.assert_array_equal(got.cells[0, 0], [2.0, np.nan, 7.0])


@pytest.mark.parametrize(
    ("across", "value"), [("median", 2.0), ("mean", 4.0), ("max", 9.0), ("min", 1.0), ("sum", 12.0)]
)
def test_several_gauges_of_one_unit_become_one(across, value: float):
    rows = [(pod(path=str(i)), [START + 10], [v]) for i, v in enumerate([1.0, 2.0, 9.0])]
    got = last_values(SampleSet.of(rows), ends(1), BLOCK, Grouping((), "instance"), across)
    assert got.cells[0, 0, 0] == value


def test_values_stamped_at_block_ends_go_into_those_blocks():
    samples = SampleSet.of([(pod(), START + np.array([60.0, 180.0]), [3.0, 4.0])])
    assert placed(samples, ends(3), BLOCK, Grouping((), "instance")).cells[0, 0].tolist() == [3, 0, 4]


def test_placed_values_of_one_cell_are_added_and_cells_without_any_stay_empty():
    rows = [({"le": "1"}, [60.0], [3.0]), ({"le": "1.0"}, [60.0, 120.0], [4.0, -1.0])]
    samples = SampleSet.of([(labels, np.array(times) + START, values) for labels, times, values in rows])
    np.testing.assert_array_equal(placed(samples, ends(3), BLOCK, Grouping(), np.nan).cells[0, 0], [7, -1, np.nan])

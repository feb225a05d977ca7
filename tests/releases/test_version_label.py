from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from watcher.model import Exposure
from watcher.releases.version_label import exposures

AT = 1_795_168_800.0


def test_a_version_never_seen_is_held_against_the_busiest_known_one() -> None:
    told, known = exposures({"1.0": 5.0, "1.1": 900.0}, {"1.0": 4.0, "1.1": 850.0, "1.2": 40.0}, AT, "checkout")
    assert told == [Exposure("checkout", "1.2", AT, previous="1.1")]
    assert known == {"1.0": 4.0, "1.1": 850.0, "1.2": 40.0}


def test_traffic_now_counts_before_traffic_remembered() -> None:
    told, _ = exposures({"1.0": 900.0, "1.1": 5.0}, {"1.0": 3.0, "1.1": 880.0, "1.2": 10.0}, AT, "checkout")
    assert [exposure.previous for exposure in told] == ["1.1"]


def test_going_back_to_a_known_version_is_not_a_release() -> None:
    _, known = exposures({"1.1": 900.0}, {"1.2": 900.0}, AT, "checkout")
    told, _ = exposures(known, {"1.1": 900.0}, AT, "checkout")
    assert told == []


def test_a_switch_over_is_held_against_who_served_last_not_who_was_once_busiest() -> None:
    _, known = exposures({"1.0": 5_000.0}, {"1.0": 5_000.0, "1.1": 10.0}, AT, "checkout")
    _, known = exposures(known, {"1.1": 800.0}, AT, "checkout")
    told, _ = exposures(known, {"1.2": 790.0}, AT, "checkout")
    assert [exposure.previous for exposure in told] == ["1.1"]


def test_the_versions_of_the_first_start_are_adopted() -> None:
    assert exposures(None, {"1.1": 9.0, "1.2": 1.0}, AT, "checkout") == ([], {"1.1": 9.0, "1.2": 1.0})


def test_the_first_traffic_ever_is_adopted_too() -> None:
    _, known = exposures(None, {}, AT, "checkout")
    assert exposures(known, {"1.1": 9.0}, AT, "checkout") == ([], {"1.1": 9.0})


def test_a_version_without_traffic_is_released_once_it_has_some() -> None:
    told, known = exposures({"1.1": 9.0}, {"1.1": 9.0, "1.2": 0.0}, AT, "checkout")
    assert (told, known) == ([], {"1.1": 9.0})
    told, _ = exposures(known, {"1.1": 9.0, "1.2": 1.0}, AT, "checkout")
    assert [exposure.version for exposure in told] == ["1.2"]


def test_a_window_without_traffic_forgets_nothing() -> None:
    _, known = exposures({"1.0": 1.0, "1.1": 9.0}, {"1.1": 0.0, "1.2": float("nan")}, AT, "checkout")
    told, _ = exposures(known, {"1.2": 9.0}, AT, "checkout")
    assert [exposure.previous for exposure in told] == ["1.1"]


def test_the_empty_version_is_nobody() -> None:
    told, known = exposures({"1.1": 9.0}, {"": 5.0, "1.1": 9.0}, AT, "checkout")
    assert (told, known) == ([], {"1.1": 9.0})


def test_two_new_versions_are_two_releases_the_busier_first() -> None:
    told, _ = exposures({"1.1": 9.0}, {"1.1": 9.0, "1.2": 1.0, "1.3": 2.0}, AT, "checkout")
    assert [(exposure.version, exposure.previous) for exposure in told] == [("1.3", "1.1"), ("1.2", "1.1")]


WINDOWS = st.lists(st.dictionaries(st.sampled_from(["", "1", "2", "3", "4"]), st.floats(0, 1e6)), max_size=12)


@given(WINDOWS)
def test_over_any_history_each_version_is_released_at_most_once_and_never_against_itself(
    windows: list[dict[str, float]],
) -> None:
    known = None
    released: list[str] = []
    for window in windows:
        told, known = exposures(known, window, AT, "checkout")
        assert all(exposure.previous not in (None, exposure.version) for exposure in told)
        released += [exposure.version for exposure in told]
    assert len(released) == len(set(released))
    assert "" not in released

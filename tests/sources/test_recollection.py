"""What an answer must hold because an earlier one did."""

from __future__ import annotations

from collections.abc import Sequence

from watcher.sources.counters import SampleSet
from watcher.sources.recollection import Recollection


def answer(*series: str, times: Sequence[float] = (60.0, 120.0)) -> SampleSet:
    return SampleSet.of([({"code": name}, times, range(len(times))) for name in series])


def test_a_series_that_is_missing_from_a_stretch_in_which_it_was_makes_an_answer_doubtful() -> None:
    known = Recollection()
    assert known.checked("x", 0.0, 120.0, answer("200", "500")).warnings == ()
    found = known.checked("x", 90.0, 180.0, answer("200", times=(120.0, 180.0)))
    assert found.warnings == ("1 of 2 series of x are missing that were there before",)
    assert known.checked("x", 90.0, 180.0, answer("200")).warnings == found.warnings, "however often it is asked"
    assert known.checked("x", 90.0, 180.0, answer("200", "500")).warnings == ()


def test_a_series_that_ended_before_the_stretch_or_is_new_in_it_is_none_of_it() -> None:
    known = Recollection()
    known.checked("x", 0.0, 120.0, answer("200", "500"))
    assert known.checked("x", 120.0, 180.0, answer("200", "404", times=(180.0,))).warnings == ()


def test_selectors_do_not_know_of_each_other_and_a_series_without_samples_is_not_there() -> None:
    known = Recollection()
    known.checked("x", 0.0, 120.0, answer("200", "500"))
    assert known.checked("y", 0.0, 120.0, answer("200")).warnings == ()
    found = known.checked("x", 0.0, 120.0, SampleSet.of([({"code": "200"}, [60.0], [1.0]), ({"code": "500"}, [], [])]))
    assert len(found.warnings) == 1


def test_what_a_server_warned_of_itself_is_kept() -> None:
    known = Recollection()
    known.checked("x", 0.0, 120.0, answer("200", "500"))
    rows = [({"code": "200"}, [60.0], [1.0])]
    assert known.checked("x", 0.0, 120.0, SampleSet.of(rows, ["a store is down"])).warnings[0] == "a store is down"


def test_selectors_that_nobody_asks_for_any_more_are_forgotten_when_new_ones_come() -> None:
    known = Recollection()
    for hour in range(100):
        known.checked(f"x{hour}", 3600.0 * hour, 3600.0 * hour + 60.0, answer("200", times=(3600.0 * hour + 60.0,)))
    assert len(known._last) <= 3


def test_what_is_known_of_later_says_nothing_of_earlier_and_is_not_forgotten() -> None:
    known = Recollection()
    known.checked("x", 0.0, 240.0, answer("200", "500", times=(180.0, 240.0)))
    assert known.checked("x", 0.0, 120.0, answer("200")).warnings == ()
    assert len(known.checked("x", 60.0, 300.0, answer("200", times=(240.0, 300.0))).warnings) == 1


def test_a_series_that_a_short_read_did_not_have_is_still_known_to_a_longer_one() -> None:
    known = Recollection()
    known.checked("x", 0.0, 120.0, answer("200", "500"))
    assert known.checked("x", 120.0, 180.0, answer("200", times=(180.0,))).warnings == ()
    assert len(known.checked("x", 0.0, 180.0, answer("200", times=(60.0, 120.0, 180.0))).warnings) == 1

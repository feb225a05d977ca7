"""Everything that was done, refused and told is one readable line each, in the order in which it happened."""

from __future__ import annotations

from pathlib import Path

from watcher.deeds import Deed, deeds
from watcher.journal import Journal
from watcher.model import Kill

T = 1_700_000_000.0


def test_a_kill_is_followed_from_its_intent_through_each_failure_to_its_end_though_the_clock_steps_back(
    tmp_path: Path,
) -> None:
    with Journal.open(f"sqlite:///{tmp_path}/journal.db") as journal:
        journal.intend([Kill("r1|kill", "r1", "memory", "cart", "errors tripled", T)], T)
        for tried, error, again in ((T + 60, "refused", T + 120), (T - 3600, "gone", None)):
            assert journal.claim("r1|kill", tried)
            journal.failed("r1|kill", error, again, tried)
        said = [str(deed) for deed in deeds(journal, "r1")]
        assert deeds(journal, "r2") == []
    assert said == [
        "2023-11-14 22:13:20Z  r1  kill intended: cart by memory: errors tripled",
        "2023-11-14 22:14:20Z  r1  kill failed: refused; to be tried again",
        "2023-11-14 21:13:20Z  r1  kill failed: gone; given up",
    ]


def test_a_line_stays_one_line_whatever_was_told_from_outside() -> None:
    said = str(Deed(T, None, "paused", {"until": T + 60, "by": "ana", "reason": "one\ntwo\x1b[31m"}))
    assert said == "2023-11-14 22:13:20Z  -  paused: until 2023-11-14 22:14:20Z by ana: one two [31m"


def test_what_has_no_wording_of_its_own_is_said_as_it_was_written_down() -> None:
    assert str(Deed(T, "r1", "something new", {"a": 1})).endswith("r1  something new: a 1")

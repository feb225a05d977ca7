"""Everything that was done, refused and told is one readable line each, in the order in which it happened."""

from __future__ import annotations

import json
from pathlib import Path

from watcher import assembly
from watcher.deeds import Deed, deeds
from watcher.journal import Journal
from watcher.model import Alert, Kill, Promote

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


def test_a_row_of_an_older_journal_that_lacks_a_part_of_its_wording_is_said_as_it_was_written_down() -> None:
    assert str(Deed(T, "r1", "kill intended", {"feature": "cart"})).endswith("kill intended: feature cart")


def test_what_was_told_stands_beside_what_was_done_and_what_still_waits_says_why(tmp_path: Path) -> None:
    alerts = [
        Alert(f"r1|{kind}", "r1", kind, "regressed", "REGRESSED: cart", at=T, urgent=True)
        for kind in ("headline", "detail")
    ]
    raised = Promote("r1|promote|0.25", "r1", "unleash:http://flags", "cart", 0.05, 0.25, "proven healthy", T)
    with Journal.open(f"sqlite:///{tmp_path}/journal.db") as journal:
        journal.intend([*alerts, raised], T)
        journal.address([alert.key for alert in alerts], ["slack"], T)
        first, second = [entry.key for entry in journal.unfinished() if entry.alerter]
        assert journal.take([first, second], T + 1) == {first, second}
        journal.delivered([first], {"ts": "1"}, T + 2)
        journal.undelivered([second], "HTTP 503", T + 60, T + 3)
        found = deeds(journal, "r1")
        as_json = json.loads(assembly_history(tmp_path))
    said = [str(deed).partition("r1  ")[2] for deed in found]
    assert said == [
        "promote intended: cart from 5 % to 25 % by unleash: proven healthy",
        "not told yet: slack: REGRESSED: cart [urgent] (after 1 attempts: HTTP 503)",
        "told: slack: REGRESSED: cart [urgent]",
    ]
    assert as_json["schema"] == "watcher/history/1"
    assert [each["what"] for each in as_json["actions"]] == ["promote intended", "not told yet", "told"]
    assert as_json["actions"][0]["at"] == "2023-11-14T22:13:20Z"


def test_a_message_that_is_edited_and_told_below_itself_is_one_line(tmp_path: Path) -> None:
    alerts = [
        Alert(f"r1|{state}|{at}|{kind}", "r1", kind, state, f"{state}: cart", at=at)
        for state, at in (("regressed", T), ("killed", T + 60), ("regressed", T + 120))
        for kind in ("headline", "detail")
    ]
    with Journal.open(f"sqlite:///{tmp_path}/journal.db") as journal:
        journal.intend(alerts, T)
        journal.address([alert.key for alert in alerts], ["slack", "hook"], T)
        keys = [entry.key for entry in journal.unfinished() if entry.alerter]
        assert journal.take(keys, T + 1) == set(keys)
        journal.delivered(keys, {"ts": "1"}, T + 130)
        said = sorted(deed.said for deed in deeds(journal, "r1"))
    assert said == sorted(
        f"told: {alerter}: {state}: cart"
        for alerter in ("slack", "hook")
        for state in ("regressed", "killed", "regressed")
    )


def assembly_history(folder: Path) -> str:
    """What `watcher history --actions --format json` prints."""
    (folder / "rules.yaml").write_text("pack: p\nrules: [{name: errors, kind: ratio, bad: errors, total: requests}]\n")
    (folder / "watcher.yaml").write_text(
        "journal: sqlite:///journal.db\nmetrics: {prometheus: http://127.0.0.1:9}\n"
        "services: {shop: {rules: [rules.yaml], releases: [{strategy: flag, notice: {http: true}}]}}\n"
    )
    return assembly.history(str(folder / "watcher.yaml"), None, True, "json")

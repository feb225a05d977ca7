"""Actions reach the outside once, in order, and however often the process dies on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.performing import perform
from watcher.act import DECISION_TTL, Outbox
from watcher.errors import AlertError, JournalError, SwitchError
from watcher.journal import Journal, Pending
from watcher.model import Alert, Kill, SwitchState

T = 1_000_000.0


class Died(BaseException):
    """Stands for the process ending right here."""


@dataclass
class FlagSwitch:
    """A flag store that counts its changes of state; `script` runs before each reading or turning."""

    on: bool = True
    changes: int = 0
    reasons: list[str] = field(default_factory=list)
    script: list[Callable[[str], None]] = field(default_factory=list)

    def _play(self, step: str) -> None:
        if self.script:
            self.script.pop(0)(step)

    def read(self, feature: str) -> SwitchState:
        self._play("read")
        return SwitchState(self.on)

    def kill(self, feature: str, reason: str) -> None:
        self._play("turn")
        self.changes += self.on
        self.reasons.append(reason)
        self.on = False


@dataclass
class Channel:
    """Keeps what was delivered, after raising what it was told to raise."""

    troubles: list[BaseException] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    headlines: list[Mapping[str, str] | None] = field(default_factory=list)
    asked: int = 0
    dies_after: bool = False
    after: Callable[[], None] = lambda: None

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        self.asked += 1
        if self.troubles:
            raise self.troubles.pop(0)
        self.told.append(alert.key)
        self.headlines.append(headline)
        self.after()
        if self.dies_after:
            raise Died
        return {"ts": str(len(self.told))}


def a_kill(key: str = "k", at: float = T) -> Kill:
    return Kill(key, "r1", "flags/config", "new-checkout", "errors tripled", at)


def an_alert(
    key: str, kind: Literal["headline", "detail"] = "headline", release: str = "r1", urgent: bool = False
) -> Alert:
    return Alert(key, release, kind, "watching", key, urgent=urgent)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


@pytest.fixture
def journal(file: Path) -> Iterator[Journal]:
    with Journal.open(f"sqlite:///{file}") as journal:
        yield journal


def an_outbox(journal: Journal, switch: FlagSwitch | None = None, **alerters: Channel) -> Outbox:
    return Outbox(journal, lambda _: switch or FlagSwitch(), alerters, jitter=lambda: 1.0, stopwatch=lambda: 0.0)


def fate(journal: Journal, key: str) -> Pending:
    return next(entry for entry in journal.actions() if entry.key == key)


def fail(error: BaseException) -> Callable[[str], None]:
    def step(_: str) -> None:
        raise error

    return step


def go_on(_: str) -> None:
    """Let a step of a script pass."""


# Kills


def test_a_kill_turns_the_switch_off_and_reads_it_back(journal: Journal) -> None:
    switch = FlagSwitch()
    journal.intend([a_kill()], T)
    assert perform(an_outbox(journal, switch), T + 1) == [("k", "done")]
    assert (switch.on, switch.changes, switch.reasons) == (False, 1, ["errors tripled"])
    assert fate(journal, "k").receipt == {"read_back": "off"}
    assert [(line.what, line.at) for line in journal.audit_trail()] == [("kill intended", T), ("kill done", T + 1)]
    assert perform(an_outbox(journal, switch), T + 2) == []


def test_a_switch_that_is_off_already_is_left_alone(journal: Journal) -> None:
    switch = FlagSwitch(on=False)
    journal.intend([a_kill()], T)
    assert perform(an_outbox(journal, switch), T) == [("k", "done")]
    assert switch.reasons == []
    assert fate(journal, "k").receipt == {"read_back": "off", "note": "already off"}


def test_a_switch_that_reads_back_as_on_is_turned_again_until_it_is_off(journal: Journal) -> None:
    class Stuck(FlagSwitch):
        def kill(self, feature: str, reason: str) -> None:
            self.reasons.append(reason)
            if len(self.reasons) == 3:
                self.on, self.changes = False, 1

    switch = Stuck()
    journal.intend([a_kill()], T)
    outbox = an_outbox(journal, switch)
    assert perform(outbox, T) == [("k", "intended")]
    assert "still on" in str(fate(journal, "k").error)
    assert perform(outbox, T + 1) == []
    assert perform(outbox, T + 2) == [("k", "intended")]
    assert perform(outbox, T + 5) == []
    assert perform(outbox, T + 6) == [("k", "done")]
    assert fate(journal, "k").attempts == 3


def test_a_kill_is_retried_with_spread_and_bounded_pauses(journal: Journal) -> None:
    journal.intend([a_kill()], T)
    switch = FlagSwitch(script=[fail(SwitchError("no answer"))] * 100)
    dice = iter([0.0, 1.0] * 50)
    outbox = Outbox(journal, lambda _: switch, {}, jitter=lambda: next(dice), stopwatch=lambda: 0.0)
    now, pauses = T, []
    for _ in range(8):
        assert perform(outbox, now) == [("k", "intended")]
        due = fate(journal, "k").not_before
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses == [1.0, 4.0, 4.0, 16.0, 15.0, 30.0, 15.0, 30.0]


def test_a_decision_too_old_is_not_carried_out(journal: Journal) -> None:
    switch = FlagSwitch(script=[fail(SwitchError("no answer"))])
    journal.intend([a_kill()], T)
    outbox = an_outbox(journal, switch)
    assert perform(outbox, T + DECISION_TTL - 1) == [("k", "intended")]
    assert perform(outbox, T + DECISION_TTL + 1) == [("k", "failed")]
    assert (switch.on, switch.reasons) == (True, [])
    assert "decision too old" in str(fate(journal, "k").error)
    assert perform(outbox, T + 2 * DECISION_TTL) == []
    assert [line.detail["final"] for line in journal.audit_trail() if line.what == "kill failed"] == [False, True]


def test_a_kill_that_worked_before_a_crash_is_done_however_late_it_is_seen(journal: Journal) -> None:
    journal.intend([a_kill()], T)
    assert perform(an_outbox(journal, FlagSwitch(on=False)), T + 10 * DECISION_TTL) == [("k", "done")]


@pytest.mark.parametrize("dies_at", ["turn", "read back", "recording"])
def test_a_crash_anywhere_turns_the_switch_off_once(file: Path, dies_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = FlagSwitch()
    with Journal.open(f"sqlite:///{file}") as journal:
        journal.intend([a_kill()], T)
        if dies_at == "turn":
            switch.script = [go_on, fail(Died())]
        elif dies_at == "read back":
            switch.script = [go_on, go_on, fail(Died())]
        else:
            monkeypatch.setattr(Journal, "done", lambda *_: (_ for _ in ()).throw(Died()))
        with pytest.raises(Died):
            perform(an_outbox(journal, switch), T)
    monkeypatch.undo()
    with Journal.open(f"sqlite:///{file}") as journal:
        assert perform(an_outbox(journal, switch), T + 1) == []
        journal.release_claims()
        assert perform(an_outbox(journal, switch), T + 1) == [("k", "done")]
        assert fate(journal, "k").attempts == 2
    assert (switch.on, switch.changes) == (False, 1)


def test_a_switch_nobody_configured_is_a_recorded_failure(journal: Journal) -> None:
    def nobody(name: str) -> Any:
        raise SwitchError(f"no switch is called {name}")

    journal.intend([a_kill()], T)
    assert perform(Outbox(journal, nobody, {}), T) == [("k", "intended")]
    assert fate(journal, "k").error == "no switch is called flags/config"


def test_one_broken_switch_does_not_hold_up_another_kill(journal: Journal) -> None:
    journal.intend([a_kill("k/1"), a_kill("k/2")], T)
    switch = FlagSwitch(script=[fail(SwitchError("no answer"))])
    assert perform(an_outbox(journal, switch), T) == [("k/1", "intended"), ("k/2", "done")]


def test_no_kill_without_a_journal_that_takes_the_claim(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> bool:
        raise JournalError("disk is full")

    switch = FlagSwitch()
    journal.intend([a_kill()], T)
    monkeypatch.setattr(journal, "claim", full)
    with pytest.raises(JournalError):
        perform(an_outbox(journal, switch), T)
    assert switch.on


# Alerts


def test_kills_come_before_alerts_that_waited_longer(journal: Journal) -> None:
    slack = Channel()
    journal.intend([an_alert("a"), an_alert("d", "detail")], T - 100)
    journal.intend([a_kill()], T)
    assert perform(an_outbox(journal, slack=slack), T) == [("k", "done"), ("a#slack", "done"), ("d#slack", "done")]


def test_kills_can_be_done_while_telling_waits(journal: Journal) -> None:
    slack = Channel()
    journal.intend([an_alert("a"), a_kill()], T)
    outbox = an_outbox(journal, slack=slack)
    assert outbox.turn_off(T) == [("k", "done")]
    assert slack.told == []
    assert outbox.tell(T) == [("a#slack", "done")]


def test_one_kill_can_be_done_while_others_stay_intended(journal: Journal) -> None:
    switch = FlagSwitch()
    journal.intend([a_kill("k1"), a_kill("k2")], T)
    outbox = an_outbox(journal, switch)
    assert outbox.turn_off(T, lambda action: action.key == "k2") == [("k2", "done")]
    assert (switch.changes, fate(journal, "k1").state, fate(journal, "k1").attempts) == (1, "intended", 0)
    assert outbox.turn_off(T) == [("k1", "done")]


def test_every_alerter_gets_every_alert_once_whatever_happens_to_the_others(journal: Journal) -> None:
    broken, fine = Channel(troubles=[AlertError("500")] * 3), Channel()
    journal.intend([an_alert("a"), an_alert("d", "detail")], T)
    outbox = an_outbox(journal, broken=broken, fine=fine)
    now = T
    for _ in range(6):
        perform(outbox, now)
        now += 300.0
    journal.intend([an_alert("a")], now)
    perform(outbox, now)
    assert fine.told == broken.told == ["a", "d"]
    assert fate(journal, "a").receipt == {"addressed_to": "broken, fine"}


def test_an_alerter_added_later_is_not_told_what_is_past(journal: Journal) -> None:
    journal.intend([an_alert("a")], T)
    assert perform(an_outbox(journal), T) == []
    late = Channel()
    assert perform(an_outbox(journal, late=late), T + 1) == []
    assert late.told == []


def test_an_alerter_taken_away_fails_for_good(journal: Journal) -> None:
    journal.intend([an_alert("a")], T)
    perform(an_outbox(journal, old=Channel(troubles=[AlertError("500")])), T)
    assert perform(an_outbox(journal, new=Channel()), T + 600) == [("a#old", "failed")]


def test_of_several_headlines_that_wait_only_the_newest_is_told(journal: Journal) -> None:
    slack = Channel()
    journal.intend([an_alert("h1"), an_alert("d1", "detail"), an_alert("h2"), an_alert("d2", "detail")], T)
    journal.intend([an_alert("h3"), an_alert("other", release="r2")], T + 1)
    perform(an_outbox(journal, slack=slack), T + 1)
    assert slack.told == ["h3", "d1+1", "other"]
    assert [fate(journal, f"{key}#slack").state for key in ("h1", "h2", "h3")] == ["superseded", "superseded", "done"]


def test_headlines_are_superseded_for_the_alerter_that_missed_them_only(journal: Journal) -> None:
    slow, fine = Channel(troubles=[AlertError("500")]), Channel()
    outbox = an_outbox(journal, slow=slow, fine=fine)
    journal.intend([an_alert("h1")], T)
    perform(outbox, T)
    journal.intend([an_alert("h2")], T + 1)
    perform(outbox, T + 1)
    assert (slow.told, fine.told) == (["h2"], ["h1", "h2"])


def test_what_follows_a_headline_gets_the_receipt_of_the_latest_one(journal: Journal) -> None:
    slack = Channel()
    outbox = an_outbox(journal, slack=slack)
    journal.intend([an_alert("h1"), an_alert("d1", "detail")], T)
    perform(outbox, T)
    journal.intend([an_alert("h2"), an_alert("other", release="r2")], T + 1)
    perform(outbox, T + 1)
    assert slack.headlines == [None, {"ts": "1"}, {"ts": "1"}, None]
    journal.intend([an_alert("d2", "detail")], T + 2)
    perform(outbox, T + 2)
    assert slack.headlines[-1] == {"ts": "3"}


def test_details_wait_for_their_headline_and_keep_their_order(journal: Journal) -> None:
    slack = Channel(troubles=[AlertError("500")])
    outbox = an_outbox(journal, slack=slack)
    journal.intend([an_alert("d0", "detail"), an_alert("h"), an_alert("d1", "detail")], T)
    perform(outbox, T)
    assert perform(outbox, T + 1) == []
    slack.troubles = [AlertError("500")]
    perform(outbox, T + 5)
    assert slack.told == []
    perform(outbox, T + 600)
    assert slack.told == ["h", "d0+1"]
    slack.troubles = [AlertError("500")]
    journal.intend([an_alert("d2", "detail"), an_alert("d3", "detail")], T + 601)
    perform(outbox, T + 601)
    perform(outbox, T + 602)
    assert slack.told == ["h", "d0+1"]
    perform(outbox, T + 700)
    assert slack.told == ["h", "d0+1", "d2+1"]


def test_details_do_not_wait_for_an_edit_of_a_headline_people_can_see(journal: Journal) -> None:
    slack = Channel()
    outbox = an_outbox(journal, slack=slack)
    journal.intend([an_alert("h1")], T)
    perform(outbox, T)
    slack.troubles = [AlertError("500")]
    journal.intend([an_alert("h2"), an_alert("d", "detail")], T + 1)
    perform(outbox, T + 1)
    assert perform(outbox, T + 2) == [("d#slack", "done")]


def test_details_are_told_even_when_their_headline_never_can_be(journal: Journal) -> None:
    slack = Channel(troubles=[AlertError("invalid_blocks", permanent=True)])
    journal.intend([an_alert("h"), an_alert("d", "detail")], T)
    assert perform(an_outbox(journal, slack=slack), T) == [("h#slack", "failed"), ("d#slack", "done")]
    assert slack.headlines == [None]


def test_urgent_releases_are_told_first(journal: Journal) -> None:
    slack = Channel()
    journal.intend([an_alert("a"), an_alert("b", release="r2", urgent=True), an_alert("c", "detail", "r2")], T)
    perform(an_outbox(journal, slack=slack), T)
    assert slack.told == ["b", "c", "a"]


@pytest.mark.parametrize("restarted", [False, True])
def test_retry_after_is_honoured_by_everything_that_goes_there(journal: Journal, restarted: bool) -> None:
    slack, other = Channel(troubles=[AlertError("429", retry_after=30.0)]), Channel()
    outbox = an_outbox(journal, slack=slack, other=other)
    journal.intend([an_alert("h1"), an_alert("x", release="r2")], T)
    perform(outbox, T)
    assert (slack.asked, other.told) == (1, ["h1", "x"])
    journal.intend([an_alert("h2"), a_kill()], T + 10)
    outbox = an_outbox(journal, slack=slack, other=other) if restarted else outbox
    assert perform(outbox, T + 29) == [("k", "done"), ("h2#other", "done")]
    assert slack.asked == 1
    perform(outbox, T + 30)
    assert slack.told == ["h2", "x"]


def test_retry_after_counts_from_the_answer_not_from_the_start_of_the_round(journal: Journal) -> None:
    watch = iter([0.0] + [20.0] * 100)
    slack = Channel(troubles=[AlertError("429", retry_after=30.0)])
    journal.intend([an_alert("h")], T)
    Outbox(journal, lambda _: FlagSwitch(), {"slack": slack}, stopwatch=lambda: next(watch)).tell(T)
    assert fate(journal, "h#slack").not_before == T + 50


def test_a_failing_alerter_is_asked_once_a_round_and_one_bad_message_starves_nobody(journal: Journal) -> None:
    class Picky(Channel):
        def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
            self.troubles = [AlertError("500")] if alert.key == "bad" else []
            return super().deliver(alert, headline)

    slack = Picky()
    journal.intend([an_alert("bad"), an_alert("x", release="r2"), an_alert("y", release="r3")], T)
    outbox = an_outbox(journal, slack=slack)
    perform(outbox, T)
    assert (slack.asked, slack.told) == (1, [])
    perform(outbox, T + 1)
    assert slack.told == ["x", "y"]


def test_alerts_are_retried_with_growing_pauses_of_five_minutes_at_most_and_given_up(journal: Journal) -> None:
    slack = Channel(troubles=[AlertError("500")] * 10_000)
    lifetime = 3600.0
    outbox = Outbox(
        journal, lambda _: FlagSwitch(), {"slack": slack}, alert_ttl=lifetime, jitter=lambda: 1.0, stopwatch=lambda: 0.0
    )
    journal.intend([an_alert("h")], T)
    now, pauses = T, []
    while perform(outbox, now) != [("h#slack", "failed")]:
        due = fate(journal, "h#slack").not_before
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:8] == [5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]
    assert max(pauses) == 300.0
    assert lifetime < now - T <= lifetime + 300.0
    assert [line.what for line in journal.audit_trail()] == ["alert failed"]


def test_a_permanent_failure_is_final_at_once(journal: Journal) -> None:
    slack = Channel(troubles=[AlertError("invalid_auth", permanent=True)])
    journal.intend([an_alert("h")], T)
    outbox = an_outbox(journal, slack=slack)
    assert perform(outbox, T) == [("h#slack", "failed")]
    assert perform(outbox, T + 9999) == []
    assert fate(journal, "h#slack").error == "invalid_auth"


def test_a_crash_after_telling_tells_at_most_twice_and_loses_nothing(file: Path) -> None:
    slack = Channel(dies_after=True)
    with Journal.open(f"sqlite:///{file}") as journal:
        journal.intend([an_alert("h"), an_alert("d", "detail")], T)
        with pytest.raises(Died):
            perform(an_outbox(journal, slack=slack), T)
    slack.dies_after = False
    with Journal.open(f"sqlite:///{file}") as journal:
        journal.release_claims()
        perform(an_outbox(journal, slack=slack), T + 1)
        perform(an_outbox(journal, slack=slack), T + 2)
    assert slack.told == ["h", "h", "d"]


def test_a_crash_while_addressing_loses_and_doubles_nothing(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    slack, console = Channel(), Channel()
    journal.intend([an_alert("h1"), an_alert("d1", "detail")], T)
    address = journal.address

    def die_before(keys: Sequence[str], alerters: tuple[str, ...], now: float) -> None:
        raise Died

    def die_after(keys: Sequence[str], alerters: tuple[str, ...], now: float) -> None:
        address(keys, alerters, now)
        raise Died

    for die in (die_before, die_after):
        monkeypatch.setattr(journal, "address", die)
        with pytest.raises(Died):
            perform(an_outbox(journal, slack=slack, console=console), T)
    perform(an_outbox(journal, slack=slack, console=console), T + 1)
    assert slack.told == console.told == ["h1", "d1"]


def test_two_outboxes_on_one_journal_tell_once(journal: Journal) -> None:
    other_slack = Channel()
    slack = Channel(after=lambda: perform(other, T) and None)
    other = an_outbox(journal, slack=other_slack)
    journal.intend([an_alert("h"), an_alert("d", "detail"), an_alert("x", release="r2")], T)
    perform(an_outbox(journal, slack=slack), T)
    assert sorted(slack.told + other_slack.told) == ["d", "h", "x"]
    assert other_slack.told == ["x"]

"""An outage of where people are told costs nothing but that: no storm when it ends, no alert, and no kill."""

from __future__ import annotations

import itertools
import random
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest

from tests.alerts.slack_server import Fault, SlackServer
from tests.servers.postgres_server import fresh_database
from tests.test_act import Channel, Died, FlagSwitch, a_kill, an_alert, fate
from tests.timeline import EXPOSED, watch
from watcher.act import Outbox
from watcher.alerts import Alerter
from watcher.alerts.slack import SlackAlerter, slack_alerter
from watcher.backlog import ROOM, STALE, together
from watcher.daemon import FINAL
from watcher.delivery import AT_ONCE
from watcher.errors import AlertError
from watcher.journal import Journal
from watcher.model import Alert, Effect, Kill, Mode, Outcome, ReleaseVerdict, Tally, Verdict
from watcher.policy import HELD, Decision, Situation, decide
from watcher.telling import kill_done

T = 1_700_000_000.0
"""14 November 2023, 22:13:20 UTC."""


@pytest.fixture
def journal() -> Iterator[Journal]:
    with Journal.open("sqlite://") as journal:
        yield journal


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer() as server:
        yield server


def bot(slack: SlackServer) -> SlackAlerter:
    made = slack_alerter(token=slack.token, channel="#releases", mention="<@U1>", base_url=slack.base_url)
    assert isinstance(made, SlackAlerter)
    return made


def an_outbox(journal: Journal, switch: FlagSwitch | None = None, **alerters: Alerter) -> Outbox:
    return Outbox(journal, lambda _: switch or FlagSwitch(), alerters, jitter=lambda: 1.0, stopwatch=lambda: 0.0)


def detail(key: str, *lines: str, at: float = T, urgent: bool = False, state: str = "regressed") -> Alert:
    return Alert(key, "r1", "detail", state, f"Title of {key}", lines, at, urgent)


# Together


def test_details_that_wait_become_one_message_in_their_order_each_with_its_time(
    journal: Journal, slack: SlackServer
) -> None:
    outbox = an_outbox(journal, slack=bot(slack))
    journal.intend([an_alert("h")], T)
    slack.fail(*[Fault(503)] * 2)
    outbox.tell(T)
    journal.intend([detail("a", "errors tripled", urgent=True)], T)
    journal.intend([detail("b", "it is off"), detail("c", state="recovered")], T + 120)
    outbox.tell(T + 5)
    assert outbox.tell(T + 180) == [("h#slack", "done"), ("a#slack", "done"), ("b#slack", "done"), ("c#slack", "done")]
    [headline, broadcast] = slack.messages()
    assert slack.thread(headline) == [broadcast]
    assert broadcast.calls == ["@U1"]
    assert broadcast.shown.splitlines()[:-1] == [
        "💚 Recovered: 3 updates of r1",
        "@U1",
        "22:13 UTC  Title of a",
        "errors tripled",
        "22:15 UTC  Title of b",
        "it is off",
        "22:15 UTC  Title of c",
    ]
    receipts = [fate(journal, f"{key}#slack").receipt for key in "abc"]
    assert receipts == [{"channel": broadcast.channel, "ts": broadcast.ts}] * 3


def test_what_has_no_room_is_counted_and_any_number_fits_into_one_message(journal: Journal, slack: SlackServer) -> None:
    outbox = an_outbox(journal, slack=bot(slack))
    journal.intend([detail(f"d{number}", *["<&>" * 40] * 5) for number in range(300)], T)
    fates = outbox.tell(T)
    assert [state for _, state in fates] == ["done"] * 300
    [message] = slack.messages()
    assert "300 updates of r1" in message.shown
    assert "more before these, the first of 22:13 UTC: see `watcher history --actions`." in message.shown
    told = together([(T, detail(f"d{number}", *["x" * 120] * 5)) for number in range(300)], T)
    assert sum(map(len, told.lines)) < ROOM + 200
    assert told.lines[0].startswith("And 294 more before these")
    assert told.lines[1] == "22:13 UTC  Title of d294"
    assert told.lines[-6] == "22:13 UTC  Title of d299"


def test_one_detail_is_told_as_it_is_however_long() -> None:
    long = detail("d", "x" * 9000)
    assert together([(T, long)], T) == long


def test_what_is_older_than_a_day_is_one_line() -> None:
    old, new = [(T - STALE - 60 + n, detail(f"o{n}", urgent=n == 1)) for n in range(3)], (T - 60, detail("n", "said"))
    told = together([*old, new], T)
    assert told.lines == (
        "And 3 more before these, the first of 2023-11-13 22:12 UTC: see `watcher history --actions`.",
        "22:12 UTC  Title of n",
        "said",
    )
    assert told.urgent
    alone = together(old[:1], T)
    assert alone.title == "1 update of r1"
    assert alone.lines == (
        "And 1 that could not be told in time, 2023-11-13 22:12 UTC: see `watcher history --actions`.",
    )


def test_one_detail_that_can_never_be_told_does_not_take_the_others_along(journal: Journal) -> None:
    class Picky(Channel):
        def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
            if alert.key != "a" and alert.key != "c":
                raise AlertError("invalid_blocks", permanent=True)
            return super().deliver(alert, headline)

    picky = Picky()
    journal.intend([detail("a"), detail("bad"), detail("c")], T)
    fates = an_outbox(journal, picky=picky).tell(T)
    assert fates == [("a#picky", "done"), ("bad#picky", "failed"), ("c#picky", "done")]
    assert picky.told == ["a", "c"]


def test_what_is_left_when_the_channel_fails_while_one_by_one_is_told_later(journal: Journal) -> None:
    channel = Channel([AlertError("invalid_blocks", permanent=True), AlertError("429", retry_after=30.0)])
    journal.intend([detail("a"), detail("b")], T)
    outbox = an_outbox(journal, channel=channel)
    assert outbox.tell(T) == [("a#channel", "intended")]
    assert [fate(journal, f"{key}#channel").state for key in "ab"] == ["intended", "intended"]
    outbox.tell(T + 30)
    assert channel.told == ["a+1"]


def test_details_past_their_time_are_given_up_and_the_others_tried_again(journal: Journal) -> None:
    channel = Channel([AlertError("500"), AlertError("500")])
    outbox = Outbox(journal, lambda _: FlagSwitch(), {"channel": channel}, alert_ttl=3600.0, stopwatch=lambda: 0.0)
    journal.intend([detail("old")], T)
    outbox.tell(T)
    journal.intend([detail("new")], T + 3000)
    assert outbox.tell(T + 3700) == [("old#channel", "failed"), ("new#channel", "intended")]
    outbox.tell(T + 4500)
    assert channel.told == ["new"]


# No storm


def test_after_an_outage_a_channel_gets_a_message_a_second_and_nothing_waits_for_it_here(journal: Journal) -> None:
    times: list[float] = []
    now = T
    channel = Channel(after=lambda: times.append(now))
    outbox = an_outbox(journal, channel=channel)
    for number in range(60):
        alerts = an_alert(f"h{number}", release=f"r{number}"), an_alert(f"d{number}", "detail", f"r{number}")
        journal.intend(alerts, T)
    for now in [T + 0.25 * step for step in range(600)]:
        outbox.tell(now)
    assert sorted(channel.told) == sorted(f"{kind}{number}" for kind in "hd" for number in range(60))
    assert times.count(T) == AT_ONCE
    for place, at in enumerate(times):
        assert at - T >= place + 1 - AT_ONCE
    assert times[-1] - T <= 120.0


def test_slack_itself_never_has_to_ask_for_a_pause(journal: Journal) -> None:
    with SlackServer(per_second=1.0, burst=AT_ONCE) as limited:
        outbox = an_outbox(journal, slack=bot(limited))
        journal.intend([an_alert(f"h{number}", release=f"r{number}") for number in range(20)], T)
        assert [state for _, state in outbox.tell(T)] == ["done"] * AT_ONCE
        assert outbox.tell(T + 0.5) == []
    assert fate(journal, "h19#slack").attempts == 0


def test_a_clock_that_steps_back_neither_opens_the_gates_nor_closes_them(journal: Journal) -> None:
    channel = Channel()
    outbox = an_outbox(journal, channel=channel)
    journal.intend([an_alert(f"h{number}", release=f"r{number}") for number in range(20)], T)
    outbox.tell(T)
    outbox.tell(T - 3600)
    assert len(channel.told) == AT_ONCE
    outbox.tell(T - 3598)
    assert len(channel.told) == AT_ONCE + 2


@pytest.mark.parametrize(("mode", "details"), [(Mode.ARMED, 3), (Mode.RECOMMEND, 1)])
def test_a_day_of_500_regressed_streams_is_one_headline_and_three_details_at_most(
    journal: Journal, slack: SlackServer, mode: Mode, details: int
) -> None:
    made = watch(mode=mode)
    effect, counted = Effect("ratio", 4.8, 3.0, 7.0), (Tally(10, 1000, 3), Tally(48, 1000, 3))
    streams = tuple(
        Verdict(
            "errors", (("route", f"/{number}"),), Outcome.REGRESSED, f"Requests that failed on /{number}: 4.8 times.",
            effect, *counted, held=HELD, critical=True, decided_at=EXPOSED,
        )
        for number in range(500)
    )  # fmt: skip
    verdict = ReleaseVerdict(Outcome.REGRESSED, "It is worse.", streams)
    outbox, decision, killed_at = an_outbox(journal, slack=bot(slack)), Decision("watching", "watching"), None
    journal.intend([an_alert("first", release=made.release.message)], EXPOSED)
    for now in (EXPOSED + 60.0 * minute for minute in range(1440)):
        outbox.tell(now)
        if decision.phase in FINAL or now >= made.ends_at:
            continue
        recovered = None if killed_at is None or now < killed_at + 300 else True
        decision = decide(made, verdict, Situation(now, decision.phase, decision.told, killed_at, recovered))
        journal.intend(decision.actions, now)
        for entry in journal.pending(now, alerts=False):
            killed_at = now
            journal.done(entry.key, {"read_back": "off"}, now)
            assert isinstance(entry.action, Kill)
            journal.intend(kill_done(entry.action, made, {"read_back": "off"}, now), now)
    headline = slack.messages()[0]
    assert headline.shown.startswith("💚 Recovered" if mode is Mode.ARMED else "🔴 REGRESSED")
    assert 1 <= len(slack.thread(headline)) <= details
    assert [message for message in slack.messages() if message.thread_ts is None] == [headline]
    assert sum(each.kind == "detail" for each in journal.actions() if each.alerter) == details


# Once, and at least once


@dataclass
class Flaky:
    """Fails in every way that tells nobody, and keeps what it told."""

    dice: random.Random
    told: Counter[str] = field(default_factory=Counter)
    dies: float = 0.0

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        chance = self.dice.random()
        if chance < 0.02:
            raise AlertError("429", retry_after=1.0 + 9.0 * self.dice.random())
        if chance < 0.06:
            raise AlertError("503")
        self.told.update(alert.title.split() if " updates of " not in alert.title else _titles(alert))
        if self.dice.random() < self.dies:
            raise Died
        return {"ts": str(self.told.total())}


def _titles(alert: Alert) -> list[str]:
    return [line.partition("UTC  ")[2] for line in alert.lines if "UTC  " in line]


def some_alert(number: int, dice: random.Random) -> Alert:
    kind: Literal["headline", "detail"] = "headline" if dice.random() < 0.4 else "detail"
    return replace(an_alert(f"k{number}", kind, f"r{dice.randrange(60)}"), title=f"k{number}")


def test_without_a_crash_no_alert_of_ten_thousand_is_told_twice_and_none_is_lost(journal: Journal) -> None:
    dice = random.Random(11)
    channel, now, known = Flaky(dice), T, 0
    outbox = Outbox(journal, lambda _: FlagSwitch(), {"c": channel}, jitter=dice.random, stopwatch=lambda: 0.0)
    while known < 10_000 or journal.unfinished():
        journal.intend([some_alert(number, dice) for number in range(known, min(known + 500, 10_000))], now)
        known = min(known + 500, 10_000)
        for _ in range(20):
            outbox.tell(now)
            now += 5.0
    fates = {entry.key.partition("#")[0]: entry.state for entry in journal.actions() if entry.alerter}
    assert len(fates) == 10_000
    assert set(fates.values()) == {"done", "superseded"}
    assert set(channel.told.values()) == {1}
    assert channel.told.keys() == {key for key, state in fates.items() if state == "done"}


def test_every_crash_between_telling_and_recording_doubles_one_message_and_loses_none(journal: Journal) -> None:
    dice = random.Random(12)
    channel, now, crashes = Flaky(dice, dies=0.2), T, 0
    for number in range(0, 600, 6):
        journal.intend([replace(some_alert(number + more, dice), kind="detail") for more in range(6)], now)
        outbox = Outbox(journal, lambda _: FlagSwitch(), {"c": channel}, jitter=dice.random, stopwatch=lambda: 0.0)
        try:
            outbox.tell(now)
        except Died:
            crashes += 1
            journal.release_claims()
        now += 20.0
    channel.dies = 0.0
    while journal.unfinished():
        an_outbox(journal, c=channel).tell(now)
        now += 20.0
    assert crashes > 20
    assert channel.told.keys() == {f"k{number}" for number in range(600)}
    assert sum(count - 1 for count in channel.told.values()) <= 6 * crashes


# Kills do not wait


class Hanging(Channel):
    """Takes a message and does not answer until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.busy, self.answer = threading.Event(), threading.Event()

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        self.busy.set()
        assert self.answer.wait(10)
        return super().deliver(alert, headline)


@pytest.fixture(params=["sqlite://", "sqlite:///{}/watcher.db", pytest.param("postgresql", marks=pytest.mark.servers)])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """A journal in memory, in a file, and in PostgreSQL."""
    on_server = request.param == "postgresql"
    url = fresh_database(request.getfixturevalue("postgres")) if on_server else request.param.format(tmp_path)
    with Journal.open(url) as journal:
        yield journal


def test_a_kill_is_decided_and_done_while_slack_hangs(shared: Journal) -> None:
    slack, switch = Hanging(), FlagSwitch()
    outbox = an_outbox(shared, switch, slack=slack)
    shared.intend([an_alert("h1"), an_alert("x", release="r2")], T)
    teller = threading.Thread(target=outbox.tell, args=(T,))
    teller.start()
    assert slack.busy.wait(10)
    # Everything below is done before Slack answers, or fails within the time it may take.
    shared.intend([a_kill(at=T), an_alert("h2"), an_alert("d", "detail")], T)
    assert outbox.turn_off(T) == [("k", "done")]
    assert (switch.on, slack.told) == (False, [])
    assert outbox.tell(T) == []
    slack.answer.set()
    teller.join(10)
    assert slack.told == ["h1", "x"]
    outbox.tell(T + 1)
    assert slack.told == ["h1", "x", "h2", "d"]


def test_threads_that_tell_intend_and_turn_off_at_once_lose_and_double_nothing(shared: Journal) -> None:
    channel, switch, over = Channel(), FlagSwitch(), threading.Event()
    outbox, failures = an_outbox(shared, switch, channel=channel), []
    seconds = itertools.count()

    def tell() -> None:
        try:
            while not over.wait(0.001) or shared.unfinished():
                outbox.tell(T + next(seconds))
        except BaseException as error:
            failures.append(error)
            raise

    tellers = [threading.Thread(target=tell) for _ in range(2)]
    for teller in tellers:
        teller.start()
    for number in range(40):
        shared.intend([a_kill(f"k{number}", T), an_alert(f"h{number}", release=f"r{number}")], T)
        assert outbox.turn_off(T) == [(f"k{number}", "done")]
    over.set()
    for teller in tellers:
        teller.join(30)
    assert not failures
    assert sorted(channel.told) == sorted(f"h{number}" for number in range(40))

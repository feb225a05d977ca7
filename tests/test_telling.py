"""What people read: the words of each way of releasing, and nothing that is not so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.test_policy import CANARY, GOOD, NOW, kills, stream, verdict
from tests.timeline import EXPOSED, release, watch
from watcher.model import Alert, Outcome, Promote, ReleaseVerdict, Stage, Strategy, Watch
from watcher.policy import AFTERMATH, Situation, Standing, decide
from watcher.telling import kill_delayed, kill_done, kill_failed, promotion_done, turned_on

WORDS = {
    Strategy.FLAG: (
        "turn checkout off",
        "Turning checkout off. To re-open it, turn the flag on again",
        "checkout is off",
    ),
    Strategy.CANARY: (
        "take all traffic from checkout 1.2",
        "Taking all traffic from checkout 1.2. Deploy a mended version and give it traffic",
        "checkout 1.2 gets no traffic any more",
    ),
    Strategy.BLUE_GREEN: (
        "switch checkout back to blue",
        "Switching checkout back to blue. Once it is mended, switch over again",
        "checkout is switched back to blue",
    ),
}


def said(alerts: tuple[Alert, ...]) -> str:
    return "\n".join(alerts[0].lines)


@pytest.mark.parametrize("strategy", WORDS)
def test_taking_users_off_is_called_what_it_is_and_never_sounds_as_if_the_service_were_turned_off(
    strategy: Strategy,
) -> None:
    do, doing, done = WORDS[strategy]
    made = watch(release=release(strategy=strategy, previous="blue"))
    killed = decide(made, verdict(), Situation(NOW, told="watching"))
    (kill,) = kills(killed)
    assert f"{doing}: a new watch starts." in said(killed.actions[1:])
    assert (
        said(kill_done(kill, made, {"read_back": "off", "after": "weight 0 of 95"}, NOW))
        == f"{done}, read back: weight 0 of 95."
    )
    assert f"to be quicker, {do} by hand." in said(kill_delayed(made, "no answer within 5 s", NOW))
    assert f"Please {do} by hand." in said(kill_failed(kill, made, "blue is gone", NOW))
    observed = decide(replace(made, release=replace(made.release, reversible=False)), verdict(), Situation(NOW))
    assert f"Recommended: {do}. Not done automatically: the release is marked as not reversible." in said(
        observed.actions
    )
    assert "again (5 %), 2 min after" in said(turned_on(kill, made, "5 %", 2.0, NOW))


def test_what_was_before_a_release_and_the_shares_it_goes_through_are_told_when_it_starts() -> None:
    waiting = verdict(stream(outcome=Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE)
    made = watch(**CANARY)
    made = replace(made, release=replace(made.release, previous="1.1"))
    lines = decide(made, waiting, Situation(NOW)).actions[0].lines
    assert "Before it: 1.1." in lines
    assert "5 % of the users have it; once it is proven healthy: 25 %, then 100 %." in lines


def test_a_later_stage_is_told_by_its_share_and_not_as_if_the_watch_began_anew() -> None:
    later = release(stages=(Stage(EXPOSED, 0.05), Stage(NOW - 60, 0.25)), strategy=Strategy.CANARY)
    waiting = verdict(stream(outcome=Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE)
    headline, _ = decide(watch(release=later), waiting, Situation(NOW, told="healthy")).actions
    assert headline.lines[1:] == ("25 % of the users have it now: health is proven anew at each share.",)


def test_a_share_that_was_raised_is_told_with_what_the_switch_says_now() -> None:
    made = watch(release=release(strategy=Strategy.CANARY))
    promote = Promote("key", made.release.id, "haproxy:x", "checkout", 0.05, 0.25, "healthy", NOW)
    [alert] = promotion_done(made, promote, {"read_back": "0.25", "before": "weight 5", "after": "weight 25"}, NOW)
    assert (alert.kind, alert.title) == ("detail", "Raised: checkout 1.2 on shop/production")
    assert alert.lines == ("checkout 1.2 from 5 % to 25 % of the users, read back: weight 25.", "Before: weight 5.")


def test_a_healthy_release_that_cannot_be_raised_because_nobody_says_its_share_says_so() -> None:
    made = watch(**CANARY | {"release": release(stages=(Stage(EXPOSED),))})
    headline = decide(made, GOOD, Situation(NOW, told="watching")).actions[0]
    assert "Not raised: nobody says what share of the users it has; can its switch be read?" in headline.lines


@pytest.mark.parametrize(
    ("recovered", "off", "title"),
    [
        (None, True, "Unrecovered: turned off, and NOT better"),
        (None, False, "Unrecovered: NOT turned off, and NOT better"),
        (True, True, "Recovered, turned off"),
        (True, False, "Recovered, though it could not be turned off"),
    ],
)
def test_what_follows_a_kill_that_never_took_effect_is_not_told_as_if_it_had(
    recovered: bool | None, off: bool, title: str
) -> None:
    after = Situation(
        NOW,
        phase="killed",
        told="killed",
        killed_at=NOW - AFTERMATH,
        recovered=recovered,
        standing=Standing(turned_off=off),
    )
    headline = decide(watch(), verdict(), after).actions[0]
    assert headline.title == f"{title}: checkout 1.2 on shop/production"


def test_what_a_verdict_is_based_on_is_not_called_assumed_where_it_was_learnt() -> None:
    learnt = ReleaseVerdict(Outcome.HEALTHY, "It is as good.", assumptions=("dispersion 1.3 learnt from 2 units",))
    headline = decide(watch(), learnt, Situation(NOW)).actions[0]
    assert "Based on: dispersion 1.3 learnt from 2 units." in headline.lines


def test_the_words_are_those_of_the_watch_of_a_release_that_has_no_version_before_it() -> None:
    made: Watch = watch(release=release(strategy=Strategy.BLUE_GREEN))
    (kill,) = kills(decide(made, verdict(), Situation(NOW)))
    assert "checkout is switched back, read back: off." in said(kill_done(kill, made, {"read_back": "off"}, NOW))

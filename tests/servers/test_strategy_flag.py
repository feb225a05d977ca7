"""Releases by a flag in Unleash, from the first user to the last, with everything real but Slack."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.servers import flagged, prometheus_server
from tests.servers.conftest import Say, require
from tests.servers.flagged import FEATURE, Flagged
from tests.servers.installation import says
from tests.servers.unleash_server import UnleashServer
from tests.servers.withdrawal import Withdrawal

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("strategy-flag")]

ON, OFF = "feature-environment-enabled production", "feature-environment-disabled production"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory, unleash: UnleashServer) -> Iterator[Flagged]:
    """One installation for one release after the other: what takes long is the past before the first."""
    require(prometheus_server.missing())
    with flagged.running(tmp_path_factory.mktemp("flagged"), unleash) as running:
        running.begin()
        yield running


@pytest.fixture(scope="module")
def withdrawal(here: Flagged) -> Withdrawal:
    """Of a release that was bad from its first user on, and has been turned off."""
    return here.be_withdrawn()


def shows(here: Flagged, release: int, state: str) -> bool:
    """Tell whether the message of a release, counted from 0, stands at a state now."""
    return len(here.parents()) > release and says(here.parents()[release].shown, state)


def test_a_good_release_is_proven_healthy_at_the_share_it_was_raised_to_and_told_and_left_on(
    here: Flagged, say: Say
) -> None:
    assert here.served("on") == 0
    logged = here.unleash.events(FEATURE)
    here.unleash.roll_out(FEATURE, 20)
    began = time.time()
    here.unleash.turn_on(FEATURE)
    here.eventually(lambda: here.parents() and here.last_look().blocks >= 2, "some blocks were counted at 20 %")
    here.unleash.roll_out(FEATURE, 50)
    raised = time.time()

    def split() -> bool:
        return any("50 % is configured" in text for text in here.last_look().verdict.assumptions)

    here.eventually(lambda: shows(here, 0, "healthy") and split(), "it was proven healthy, and told")
    now = time.time()
    say(
        f"turned on for 20 % -> {raised - began:.1f} s: raised to 50 % -> {now - began:.1f} s: proven healthy, and told"
    )

    [release], look = here.releases(), here.last_look()
    assert release.noticed_by == "switch"
    assert [stage.share for stage in release.watch.release.stages] == [0.2, 0.5]
    assert look.verdict.outcome == "healthy"
    assert "Requests that failed on new-checkout: proven within the margin" in here.parents()[0].shown
    assert here.served("on") > 1000
    assert (here.kills(), here.alarms()) == ([], [])

    # That a person ends it is told, and neither an alarm nor a kill.
    here.unleash.turn_off(FEATURE)
    here.eventually(lambda: shows(here, 0, "ended"), "the end of its exposure was told")
    assert here.releases()[0].status == "ended"
    assert (here.kills(), here.alarms()) == ([], [])
    raises = ["feature-strategy-update production"]
    assert here.unleash.events(FEATURE) == [*logged, *raises, ON, *raises, OFF]


def test_a_bad_release_is_turned_off_and_its_users_are_back_on_the_old_variant_and_this_is_told(
    here: Flagged, withdrawal: Withdrawal, say: Say
) -> None:
    say(f"errors 4 % -> 16 %, from the first user on: {withdrawal}")
    assert withdrawal.bad < withdrawal.decided < withdrawal.off < withdrawal.last
    new, old = here.served("on"), here.served("off")
    here.eventually(lambda: here.served("off") > old + 500, "all users get the old variant")
    assert here.served("on") == new

    *_, message = here.parents()
    here.eventually(lambda: says(message.shown, "recovered"), "the recovery was told")
    assert any(says(text, "killed") for text in message.before)

    def details(of: str) -> int:
        return sum(of in reply.shown for reply in here.slack.thread(message))

    # What is told below a message may come later than its edit: Slack takes one a second.
    here.eventually(lambda: details("back within the margin"), "the recovery was told below the message, too")
    assert (details("Turning new-checkout off"), details("back within the margin")) == (1, 1)
    [kill] = here.kills()
    assert (kill.state, kill.attempts) == ("done", 1)
    assert dict(kill.receipt or {}) == {
        "read_back": "off",
        "before": "production: on, flexibleRollout 50 %, stickiness default",
        "after": "production: off",
    }
    assert here.unleash.events(FEATURE)[-2:] == [ON, OFF]
    assert here.releases()[-1].status == "recovered"


def test_a_release_turned_on_again_after_a_kill_is_told_at_once_and_not_turned_off_by_that_alone(
    here: Flagged, withdrawal: Withdrawal, say: Say
) -> None:
    *before, killed = here.parents()
    logged = here.unleash.events(FEATURE)
    # What was bad is mended, so that nothing speaks against it but that it was killed before.
    here.fail()
    began = time.time()
    here.unleash.turn_on(FEATURE)
    here.eventually(lambda: says(killed.shown, "turned_on"), "it was told that the flag is on again")
    say(f"turned on again -> {time.time() - began:.1f} s: told")
    again = len(before) + 1
    here.eventually(lambda: len(here.parents()) > again and here.last_look().blocks >= 3, "it is watched anew")
    assert here.unleash.events(FEATURE) == [*logged, ON]
    assert len(here.kills()) == 1
    assert [says(message.shown, "turned_on") for message in here.parents()].count(True) == 1
    assert len(here.parents()) == again + 1

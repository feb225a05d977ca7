from __future__ import annotations

import pytest

from tests.alerts.slack_server import SlackServer
from tests.preflight.world import World
from watcher.alerts import alerter
from watcher.model import Alert
from watcher.preflight import Line
from watcher.testing import MemoryAlerter


class Mute:
    """An alerter of another package, which cannot be asked."""

    def deliver(self, alert: Alert, headline: object) -> dict[str, str]:
        raise AssertionError("nobody is told anything")


def test_channels_and_everybody_who_needs_to_know_are_named(world: World) -> None:
    assert world.lines("people") == [
        Line("people", "pass", "memory takes messages"),
        Line("people", "pass", "stakeholders: #support"),
        Line("people", "pass", "runbook: https://wiki.example/shop"),
        Line("people", "pass", "on call: <!subteam^S012AB>"),
    ]


def test_a_channel_that_nobody_reaches_fails(world: World) -> None:
    world.alerters = {"slack": MemoryAlerter(broken="invalid_auth; check the bot token")}
    [line] = world.missing("people")
    assert (line.status, line.said) == ("fail", "slack reaches nobody: invalid_auth; check the bot token")


def test_a_real_channel_is_asked_and_gets_no_message(world: World) -> None:
    with SlackServer("#releases") as slack:
        told = alerter("slack", token=slack.token, channel="#releases", base_url=slack.base_url)
        world.alerters = {"slack": told}
        assert world.lines("people")[0] == Line("people", "pass", "Slack, #releases takes messages")
        slack.scopes = {"chat:write"}
        [line] = world.missing("people")
        assert line.status == "warn"
        assert line.said.startswith("Slack, #releases: the token is good, but whether #releases takes messages")
        assert slack.messages() == []


def test_a_webhook_that_cannot_be_asked_is_a_warning(world: World) -> None:
    world.alerters = {"slack": alerter("slack", webhook_url="http://127.0.0.1:9/services/T/B/x")}
    [line] = world.missing("people")
    assert (line.status, "cannot be asked anything without posting" in line.said) == ("warn", True)
    assert line.do.startswith("use a bot token and a channel")


def test_an_alerter_that_offers_no_question_is_a_warning(world: World) -> None:
    world.alerters = {"pager": Mute()}
    [line] = world.missing("people")
    assert (line.status, line.do) == ("warn", "see that its last message arrived")


def test_the_console_alone_tells_hardly_anybody(world: World) -> None:
    world.without('slack: {token_file: bot, channel: "#releases", mention: "<!subteam^S012AB>"}\n').alerters = {
        "console": alerter("console")
    }
    said = [line.said for line in world.missing("people")]
    assert said == ["the console: only who reads the output of `watcher run` is told", "#support cannot be told"]


def test_an_incoming_webhook_tells_those_who_have_to_know_nothing(world: World) -> None:
    [line] = world.without('token_file: bot, channel: "#releases"', "webhook_file: hook").missing("people")
    assert (line.status, line.said) == ("warn", "#support cannot be told")
    assert "slack.token_file" in line.do


def test_without_any_alerter_nobody_is_told(world: World) -> None:
    world.alerters = {}
    assert [line.status for line in world.missing("people")] == ["fail"]


@pytest.mark.parametrize(
    ("text", "instead", "said"),
    [
        ('    tell: ["#support"]\n', "", "no stakeholders are named in `tell`"),
        ("{runbook: https://wiki.example/shop}", "{board: https://x.example}", "no message will link to a runbook"),
        (', mention: "<!subteam^S012AB>"', "", "nobody is called when a release regresses"),
    ],
)
def test_who_is_not_named_is_a_warning(world: World, text: str, instead: str, said: str) -> None:
    [line] = world.without(text, instead).missing("people")
    assert (line.status, line.said) == ("warn", said)

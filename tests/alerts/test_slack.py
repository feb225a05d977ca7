from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from urllib.request import Request, urlopen

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from tests.alerts.slack_server import Fault, SlackServer, all_blocks, limits
from tests.planted import MARK
from watcher.alerts import alerter
from watcher.alerts.slack import SlackAlerter, SlackWebhookAlerter, message, slack_alerter
from watcher.errors import AlertError, ConfigError
from watcher.model import Alert, Reach

HEADLINE = Alert(
    "k1",
    "shop/production/new-checkout@1.2.0",
    "headline",
    "watching",
    "new-checkout 1.2.0 at 5 %",
    ("3 rules, nothing decided",),
    at=1_795_000_000.0,
    links=(("dashboard", "https://grafana.example/d/shop?a=1&b=2"),),
)
REGRESSED = replace(HEADLINE, key="k2", state="regressed", lines=("request-errors: 3.1 times the baseline",))
DETAIL = replace(REGRESSED, key="k3", kind="detail", title="Requests that failed", urgent=True)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer("#releases", "#support") as server:
        yield server


@pytest.fixture
def bot(slack: SlackServer) -> SlackAlerter:
    made = slack_alerter(token=slack.token, channel="#releases", mention="<!subteam^S012AB>", base_url=slack.base_url)
    assert isinstance(made, SlackAlerter)
    return made


@pytest.fixture
def hook(slack: SlackServer) -> SlackWebhookAlerter:
    made = slack_alerter(webhook_url=slack.webhook_url, mention="<@U1>")
    assert isinstance(made, SlackWebhookAlerter)
    return made


def test_a_release_is_one_message_that_is_edited_in_place(slack: SlackServer, bot: SlackAlerter) -> None:
    receipt = bot.deliver(HEADLINE, None)
    assert bot.deliver(REGRESSED, receipt) == receipt
    assert bot.deliver(replace(REGRESSED, state="killed"), receipt) == receipt
    [posted] = slack.messages()
    assert posted.shown.splitlines()[0] == "⛔ Killed: new-checkout 1.2.0 at 5 %"
    assert [text.split(":")[0] for text in posted.before] == ["👀 Watching", "🔴 Regressed"]
    assert receipt == {"channel": slack.channels["#releases"], "ts": posted.ts}


def test_a_message_says_the_state_first_then_lines_links_and_when(slack: SlackServer, bot: SlackAlerter) -> None:
    bot.deliver(REGRESSED, None)
    [posted] = slack.messages("#releases")
    assert posted.shown == (
        "🔴 Regressed: new-checkout 1.2.0 at 5 %\nrequest-errors: 3.1 times the baseline\ndashboard\n"
        "shop/production/new-checkout@1.2.0 · 2026-11-18 11:06 UTC"
    )
    assert posted.notification.startswith("🔴 Regressed: new-checkout 1.2.0")
    assert "<https://grafana.example/d/shop?a=1&amp;b=2|dashboard>" in str(all_blocks(posted.body))


def test_a_detail_goes_to_the_thread_and_calls_nobody(slack: SlackServer, bot: SlackAlerter) -> None:
    receipt = bot.deliver(HEADLINE, None)
    bot.deliver(replace(DETAIL, urgent=False), receipt)
    [headline] = slack.messages()
    [detail] = slack.thread(headline)
    assert not detail.broadcast
    assert detail.calls == headline.calls == []


def test_an_urgent_detail_is_broadcast_and_calls_the_mention(slack: SlackServer, bot: SlackAlerter) -> None:
    receipt = bot.deliver(HEADLINE, None)
    bot.deliver(DETAIL, receipt)
    headline, detail = slack.messages()
    assert slack.thread(headline) == [detail]
    assert detail.calls == ["!subteam^S012AB"]


def test_a_detail_stands_alone_when_its_headline_is_missing_or_deleted(slack: SlackServer, bot: SlackAlerter) -> None:
    bot.deliver(DETAIL, None)
    receipt = bot.deliver(HEADLINE, None)
    slack.delete(slack.messages()[-1])
    bot.deliver(DETAIL, receipt)
    assert [(m.thread_ts, m.calls) for m in slack.messages()] == [(None, ["!subteam^S012AB"])] * 2


def test_editing_a_deleted_headline_is_permanent(slack: SlackServer, bot: SlackAlerter) -> None:
    receipt = bot.deliver(HEADLINE, None)
    slack.delete(slack.messages()[0])
    with pytest.raises(AlertError, match="message_not_found; somebody deleted") as raised:
        bot.deliver(REGRESSED, receipt)
    assert raised.value.permanent


def test_a_receipt_of_the_webhook_makes_the_bot_start_a_message_of_its_own(
    slack: SlackServer, bot: SlackAlerter
) -> None:
    bot.deliver(REGRESSED, {"state": "watching"})
    assert len(slack.messages()) == 1


def test_a_label_value_calls_nobody_and_shows_as_it_stands(slack: SlackServer, bot: SlackAlerter) -> None:
    bot.deliver(replace(REGRESSED, lines=('feature="<!channel> & <https://evil.example|here>"',)), None)
    [posted] = slack.messages()
    assert posted.calls == []
    assert 'feature="<!channel> & <https://evil.example|here>"' in posted.shown


def test_a_title_that_says_the_state_says_it_once() -> None:
    said = message(replace(REGRESSED, title="Regressed within 4 minutes"))["blocks"][0]["text"]["text"]
    assert said == "🔴 Regressed within 4 minutes"


def test_too_many_lines_are_counted_not_sent(slack: SlackServer, bot: SlackAlerter) -> None:
    lines = tuple(f"stream {number}: " + "<" * 40 for number in range(500))
    bot.deliver(replace(REGRESSED, lines=lines), None)
    [posted] = slack.messages()
    kept = [line for line in posted.shown.splitlines() if line.startswith("stream")]
    assert kept == list(lines[: len(kept)])
    assert f"… and {500 - len(kept)} more" in posted.shown.splitlines()


def test_a_title_beyond_a_header_is_told_in_full_below_it() -> None:
    title = "errors of " + "new-checkout, " * 20
    sent = message(replace(REGRESSED, title=title))
    assert len(sent["blocks"][0]["text"]["text"]) == 150
    assert title.strip() in sent["blocks"][1]["text"]["text"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.text(max_size=300),
    st.lists(st.text(max_size=30) | st.integers(0, 9000).map(lambda size: "&" * size), max_size=60),
    st.lists(st.tuples(st.text(max_size=120), st.text(max_size=4000)), max_size=12),
    st.sampled_from(["regressed", "", "something_new"]),
)
def test_every_message_is_within_the_limits(
    title: str, lines: list[str], links: list[tuple[str, str]], state: str
) -> None:
    alert = replace(REGRESSED, title=title, lines=tuple(lines), links=tuple(links), state=state)
    assert limits(message(alert, "<!here>"), longest_text=4_000) is None


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("Fri, 20 Nov 2026 10:00:00 GMT", 30.0), ("-3", 30.0), (None, 30.0)]
)
def test_a_rate_limit_says_how_long_to_wait(
    slack: SlackServer, bot: SlackAlerter, hook: SlackWebhookAlerter, header: str | None, seconds: float
) -> None:
    for sender in (bot, hook):
        slack.fail(Fault(429, b'{"ok": false, "error": "ratelimited"}', retry_after=header))
        with pytest.raises(AlertError, match="asks to wait") as raised:
            sender.deliver(HEADLINE, None)
        assert (raised.value.retry_after, raised.value.permanent) == (seconds, False)
    assert len(slack.requests) == 2


@pytest.mark.parametrize(
    "fault",
    [
        Fault(500),
        Fault(503, b'{"ok": false, "error": "service_unavailable"}'),
        Fault(502, b"<html>bad gateway</html>"),
        Fault(200, b"<html>log in to the proxy</html>"),
        Fault(200, b"[1, 2]"),
        Fault(200, b"\xff\xfe\x00"),
        Fault(200, b'{"ok": false, "error": "internal_error"}'),
        Fault(200, b""),
        Fault(drop=True),
    ],
)
def test_what_passes_is_temporary_and_is_tried_once(
    slack: SlackServer, bot: SlackAlerter, hook: SlackWebhookAlerter, fault: Fault
) -> None:
    for sender in (bot, hook):
        slack.fail(fault)
        with pytest.raises(AlertError) as raised:
            sender.deliver(HEADLINE, None)
        assert not raised.value.permanent
    assert slack.requests == ["chat.postMessage", "webhook"]
    assert slack.messages() == []


def test_a_connection_lost_after_acceptance_is_not_sent_twice(slack: SlackServer, bot: SlackAlerter) -> None:
    slack.fail(Fault(drop=True, kept=True))
    with pytest.raises(AlertError):
        bot.deliver(HEADLINE, None)
    assert len(slack.messages()) == 1


def test_silence_is_a_time_out_that_may_have_arrived(
    slack: SlackServer, bot: SlackAlerter, hook: SlackWebhookAlerter
) -> None:
    bot.client.timeout = hook.client.timeout = 0.2  # type: ignore[assignment]
    for sender in (bot, hook):
        slack.fail(Fault(hang=True))
        with pytest.raises(AlertError, match="may have arrived") as raised:
            sender.deliver(HEADLINE, None)
        assert not raised.value.permanent


def test_nobody_listening_is_temporary() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/"
        for sender in (
            slack_alerter(token=f"xoxb-{MARK}-t", channel="#c", base_url=url),
            slack_alerter(webhook_url=url),
        ):
            with pytest.raises(AlertError, match="could not be reached: Connection refused") as raised:
                sender.deliver(HEADLINE, None)
            assert not raised.value.permanent


def test_what_slack_refuses_for_good_is_permanent_and_says_the_fix(slack: SlackServer) -> None:
    refused = {
        slack_alerter(
            token=f"xoxb-{MARK}-wrong", channel="#releases", base_url=slack.base_url
        ): "invalid_auth; check the bot",
        slack_alerter(token=slack.token, channel="#nowhere", base_url=slack.base_url): "channel_not_found; check the",
        slack_alerter(webhook_url=slack.webhook_url + "-old"): "no_service; the webhook was removed",
    }
    for sender, words in refused.items():
        with pytest.raises(AlertError, match=words) as raised:
            sender.deliver(HEADLINE, None)
        assert raised.value.permanent


def test_a_secret_is_in_no_error_and_no_log(slack: SlackServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = (slack.token, slack.webhook_url.rsplit("/", 1)[1])
    senders = (
        slack_alerter(token=slack.token, channel="#releases", base_url=slack.base_url),
        slack_alerter(webhook_url=slack.webhook_url),
        # Made by somebody else, with a token that no header can hold.
        SlackAlerter(WebClient(slack.token + "\nX: 1", slack.base_url, logger=logging.Logger("x", 50)), "#releases"),
    )
    told = []
    echo = Fault(200, f'{{"ok": false, "error": "bad {slack.token} {slack.webhook_url}"}}'.encode())
    for fault in (echo, Fault(500), Fault(drop=True), Fault(403, slack.token.encode())):
        for sender in senders:
            slack.fail(fault)
            with pytest.raises(AlertError) as raised:
                sender.deliver(HEADLINE, None)
            told.append("".join(traceback.format_exception(raised.value)))
    assert len(told) == 12
    for secret in secrets:
        assert secret not in "".join(told) + caplog.text


def test_a_webhook_sends_one_message_per_transition(slack: SlackServer, hook: SlackWebhookAlerter) -> None:
    receipt = None
    for alert in (HEADLINE, HEADLINE, REGRESSED, replace(REGRESSED, lines=("still",)), replace(REGRESSED, urgent=True)):
        receipt = hook.deliver(alert, receipt)
    assert receipt == {"state": "regressed"}
    assert [posted.shown.split(":")[0] for posted in slack.messages()] == ["👀 Watching", "🔴 Regressed"]


def test_a_webhook_folds_details_away_and_calls_on_urgent_headlines(
    slack: SlackServer, hook: SlackWebhookAlerter
) -> None:
    assert hook.deliver(DETAIL, {"state": "watching"}) == {}
    hook.deliver(replace(REGRESSED, urgent=True), {"state": "watching"})
    [posted] = slack.messages()
    assert posted.calls == ["@U1"]


@pytest.mark.parametrize(
    ("given_", "words"),
    [
        ({}, "either a bot token or a webhook"),
        ({"token": MARK, "webhook_url": "http://x/"}, "either a bot token or a webhook"),
        ({"token": MARK}, "needs a channel"),
        ({"token": f"{MARK}\n{MARK}", "channel": "#c"}, "white space"),
        ({"token": f"{MARK}é", "channel": "#c"}, "no token has"),
        ({"webhook_url": "ftp://s3cret"}, "not a URL"),
        ({"token": MARK, "channel": "#c", "base_url": "slack"}, "'slack' is not a URL"),
    ],
)
def test_settings_that_make_no_alerter_are_refused_without_repeating_secrets(
    given_: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        slack_alerter(**given_)
    assert "s3cr" not in str(raised.value)


def test_an_unknown_alerter_lists_what_there_is() -> None:
    with pytest.raises(ConfigError, match="no alerter 'pager'; there is: alertmanager, console, slack, webhook"):
        alerter("pager")
    assert isinstance(alerter("slack", token=f"xoxb-{MARK}-t", channel="#c"), SlackAlerter)


def test_the_stand_in_limits_a_channel_to_its_pace() -> None:
    with SlackServer(per_second=0.001, burst=2) as slow:
        sender = slack_alerter(token=slow.token, channel="#releases", base_url=slow.base_url)
        sender.deliver(HEADLINE, None)
        sender.deliver(HEADLINE, None)
        with pytest.raises(AlertError, match="wait 1 s"):
            sender.deliver(HEADLINE, None)


def test_the_stand_in_refuses_what_slack_refuses(slack: SlackServer) -> None:
    client = WebClient(slack.token, base_url=slack.base_url, retry_handlers=[])
    assert client.auth_test()["ok"]
    ts = str(client.chat_postMessage(channel="releases", text="hello")["ts"])
    block = {"type": "section", "text": {"type": "mrkdwn", "text": "x"}}
    refused: dict[str, Callable[[], object]] = {
        "invalid_blocks": lambda: client.chat_postMessage(channel="#releases", text="x", blocks=[block] * 51),
        "msg_too_long": lambda: client.chat_postMessage(channel="#releases", text="x" * 40_001),
        "channel_not_found": lambda: client.chat_update(channel="#releases", ts=ts, text="by name"),
        "message_not_found": lambda: client.chat_update(channel=slack.channels["#releases"], ts="1.1", text="x"),
        "thread_not_found": lambda: client.chat_postMessage(channel="#releases", text="x", thread_ts="1.1"),
        "unknown_method": lambda: client.api_call("chat.delete", json={}),
    }
    for code, call in refused.items():
        with pytest.raises(SlackApiError, match=code):
            call()
    request = Request(f"{slack.base_url}chat.postMessage", b"not json", {"Authorization": f"Bearer {slack.token}"})
    with urlopen(request, timeout=5) as answer:
        assert b"invalid_json" in answer.read()


# Whether a message would arrive, without one


def test_the_bot_proves_its_token_and_its_channel_without_a_message(slack: SlackServer, bot: SlackAlerter) -> None:
    by_id = slack_alerter(token=slack.token, channel=slack.channels["#support"], base_url=slack.base_url)
    assert isinstance(by_id, SlackAlerter)
    assert (bot.reach(), by_id.reach()) == (Reach("Slack, #releases"), Reach("Slack, #support"))
    assert slack.requests == ["auth.test", "users.conversations", "auth.test", "conversations.info"]
    assert slack.messages() == []


def test_a_channel_is_found_on_a_later_page(slack: SlackServer) -> None:
    slack.page = 1
    second = slack_alerter(token=slack.token, channel="support", base_url=slack.base_url)
    assert isinstance(second, SlackAlerter)
    assert second.reach() == Reach("Slack, #support")


def test_a_token_that_slack_does_not_know_reaches_nobody(slack: SlackServer) -> None:
    stranger = slack_alerter(token=f"xoxb-{MARK}-else", channel="#releases", base_url=slack.base_url)
    with pytest.raises(AlertError, match="refused the question: invalid_auth; check the bot token") as caught:
        stranger.reach()
    assert caught.value.permanent
    assert "xoxb" not in str(caught.value)


def test_a_bot_that_may_not_write_reaches_nobody(slack: SlackServer, bot: SlackAlerter) -> None:
    slack.scopes = {"channels:read"}
    with pytest.raises(AlertError, match="give it the scope chat:write"):
        bot.reach()


@pytest.mark.parametrize(
    ("left", "archived", "channel", "said"),
    [
        ({"#releases"}, set(), "#releases", "the bot is not in the channel"),
        (set(), {"#releases"}, "#releases", "is archived; choose another"),
        (set(), set(), "C99999999", "there is no channel C99999999 that the bot can see"),
    ],
)
def test_a_channel_by_its_id_that_takes_no_message_is_told(
    slack: SlackServer, left: set[str], archived: set[str], channel: str, said: str
) -> None:
    slack.left, slack.archived = left, archived
    asked = slack_alerter(token=slack.token, channel=slack.channels.get(channel, channel), base_url=slack.base_url)
    with pytest.raises(AlertError, match=said):
        asked.reach()


def test_a_bot_that_may_write_to_any_public_channel_need_not_be_in_it(slack: SlackServer) -> None:
    slack.left, slack.scopes = {"#releases"}, {"chat:write", "chat:write.public", "channels:read"}
    asked = slack_alerter(token=slack.token, channel=slack.channels["#releases"], base_url=slack.base_url)
    assert asked.reach() == Reach("Slack, #releases")


def test_a_name_that_the_bot_is_not_seen_with_leaves_a_doubt(slack: SlackServer, bot: SlackAlerter) -> None:
    slack.left = {"#releases"}
    found = bot.reach()
    assert "#releases is not among the channels" in found.doubt
    assert "/invite the bot" in found.do


def test_without_the_scope_to_ask_a_doubt_is_left_that_names_it(slack: SlackServer, bot: SlackAlerter) -> None:
    slack.scopes = {"chat:write"}
    by_id = slack_alerter(token=slack.token, channel=slack.channels["#releases"], base_url=slack.base_url)
    for each in (bot, by_id):
        assert each.reach().doubt.startswith("the token is good, but whether")
        assert "scope channels:read" in each.reach().do


def test_a_webhook_is_not_asked_anything(slack: SlackServer, hook: SlackWebhookAlerter) -> None:
    assert hook.reach().doubt == "an incoming webhook cannot be asked anything without posting"
    assert slack.requests == []


def test_a_slack_that_is_down_or_is_not_slack_is_told_as_such(slack: SlackServer, bot: SlackAlerter) -> None:
    slack.fail(Fault(status=503), Fault(status=200, body=b"<html>sign in</html>"), Fault(drop=True))
    said = []
    for _ in range(3):
        with pytest.raises(AlertError) as caught:
            bot.reach()
        said.append(str(caught.value))
    assert said[0] == "Slack could not take the question (HTTP 503)"
    assert said[1] == "what answered is not Slack: check the proxy in between"
    assert said[2].startswith("Slack could not be reached: ")

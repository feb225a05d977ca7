"""Alerts in Slack: one message a release, edited in place, with the details in its thread.

With a bot token everything is possible (`SlackAlerter`); an incoming webhook can neither edit nor thread
(`SlackWebhookAlerter`). Neither tries again by itself: the outbox that calls them does, and knows about restarts.
"""

from __future__ import annotations

import http.client
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.webhook import WebhookClient

from watcher.addresses import refused
from watcher.alerts.message import message
from watcher.alerts.picture import Picture
from watcher.alerts.slack_http import StayingClient, StayingHook
from watcher.alerts.slack_reach import reach
from watcher.errors import AlertError, ConfigError
from watcher.model import Alert, Reach

TIMEOUT = 10
"""Seconds to wait for Slack."""
RETRY_AFTER, LONGEST_RETRY_AFTER = 30.0, 3600.0
"""Seconds to wait when Slack limits us without saying for how long, and at most."""

_PASSING = {
    "ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout",
    "team_added_to_org", "rollup_error",
}  # fmt: skip
_NO_THREAD = {"thread_not_found", "cannot_reply_to_message"}
_FIXES = {
    "invalid_auth": "check the bot token",
    "token_revoked": "make a new bot token",
    "missing_scope": "give the bot the scope chat:write, and files:write for pictures",
    "channel_not_found": "check the channel, and invite the bot to it",
    "not_in_channel": "invite the bot to the channel",
    "is_archived": "the channel is archived; choose another",
    "message_not_found": "somebody deleted the message of this release",
    "no_service": "the webhook was removed; make a new one",
}


class SlackAlerter:
    """Tells a channel through a bot token with the scope `chat:write`.

    The first headline of a release is posted, later ones edit it. Details go to its thread; an urgent one is shown
    in the channel as well and carries the mention (an edit would notify nobody).

    Args:
        client: use one without retry handlers (as `slack_alerter` makes it): the sdk's own sends a message again when
            the connection breaks after Slack has taken it.
        channel: id or name of the channel.
        mention: whom an urgent detail calls, as Slack writes it: `<!subteam^S012AB>`, `<@U012AB>`.
        clickable: whether somebody hears of clicks: only then there are buttons.
    """

    def __init__(self, client: WebClient, channel: str, mention: str | None = None, clickable: bool = False) -> None:
        self.client, self.channel, self.mention, self.clickable = client, channel, mention, clickable

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Post or edit; the receipt is the message: `channel` (its id, which an edit needs) and `ts`.

        A detail whose headline was deleted by somebody, or never delivered, stands in the channel by itself.

        Raises:
            AlertError: Slack refused, or could not be reached. After a broken connection or a time-out the message
                may have arrived all the same.
        """
        posted = headline if headline and {"channel", "ts"} <= headline.keys() else None
        if alert.channel:
            return self._post(message(alert), alert.channel)
        if alert.kind == "detail":
            return self._post_detail(alert, posted)
        body = message(alert, clickable=self.clickable)
        if posted is None:
            return self._post(body)
        with slack_errors():
            self.client.chat_update(channel=posted["channel"], ts=posted["ts"], **body)
        return {"channel": posted["channel"], "ts": posted["ts"]}

    def illustrate(self, pictures: Sequence[Picture], headline: Mapping[str, str]) -> None:
        """Put pictures into the thread of a headline; the bot needs the scope `files:write`.

        Raises:
            AlertError: they are not there.
        """
        uploads = [
            {"file": each.png, "filename": each.name, "title": each.title, "alt_txt": each.says} for each in pictures
        ]
        with slack_errors("the pictures"):
            self.client.files_upload_v2(
                file_uploads=uploads, channel=headline["channel"], thread_ts=headline["ts"], request_file_info=False
            )

    def reach(self) -> Reach:
        """Return where people would be told: the token is proven, the channel as far as the bot may ask about it.

        Raises:
            AlertError: no message would arrive; or Slack could not be asked.
        """
        with slack_errors("the question"):
            return reach(self.client, self.channel)

    def rendered(self, alert: Alert) -> dict[str, Any]:
        """Return the message that would be sent."""
        mention = self.mention if alert.urgent and alert.kind == "detail" else None
        return message(alert, mention, self.clickable and alert.kind == "headline")

    def _post_detail(self, alert: Alert, posted: Mapping[str, str] | None) -> dict[str, str]:
        body = message(alert, self.mention if alert.urgent else None)
        if posted is None:
            return self._post(body)
        try:
            thread = {"thread_ts": posted["ts"], "reply_broadcast": alert.urgent}
            return self._post(body | thread, posted["channel"])
        except _ThreadGone:
            return self._post(body, posted["channel"])

    def _post(self, body: Mapping[str, Any], channel: str | None = None) -> dict[str, str]:
        with slack_errors():
            answer = self.client.chat_postMessage(channel=channel or self.channel, unfurl_links=False, **body).data
        if not isinstance(answer, dict) or not isinstance(answer.get("ts"), str):
            raise AlertError("Slack took the message but its answer names none")
        return {"channel": str(answer.get("channel", channel or self.channel)), "ts": answer["ts"]}


class SlackWebhookAlerter:
    """Tells a channel through an incoming webhook, which can neither edit nor thread: one message per transition.

    A headline is sent when its `state` differs from the one in the receipt of the latest headline, and carries the
    mention when it is urgent. Details are folded away: there is no thread to put them in, and the channel would be
    flooded. Whoever needs them sets up a bot token.
    """

    def __init__(self, client: WebhookClient, mention: str | None = None) -> None:
        self.client, self.mention = client, mention

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Send, or fold away; the receipt of a headline is the `state` the channel knows, that of a detail is empty.

        Raises:
            AlertError: as for `SlackAlerter.deliver`.
        """
        # A webhook has one channel: those who have to know, and of nothing more, are told by a bot.
        if alert.kind == "detail" or alert.channel:
            return {}
        if headline is None or headline.get("state") != alert.state:
            body = message(alert, self.mention if alert.urgent else None)
            with slack_errors():
                response = self.client.send(**body, unfurl_links=False)
            # The client never raises on a status, and a proxy may answer 200 for Slack.
            if response.status_code != 200 or response.body.strip() != "ok":
                raise _refusal(response.status_code, response.body.strip(), response.headers)
        return {"state": alert.state}

    def rendered(self, alert: Alert) -> dict[str, Any]:
        """Return the message that would be sent; a detail is folded away."""
        return {} if alert.kind == "detail" else message(alert, self.mention if alert.urgent else None)

    def reach(self) -> Reach:
        """Return that nothing can be proven: a webhook takes messages, and answers no question."""
        return Reach(
            "Slack, by an incoming webhook",
            "an incoming webhook cannot be asked anything without posting",
            "use a bot token and a channel, which can be asked; a webhook cannot edit, and drops details, too",
        )


def slack_alerter(
    *,
    token: str | None = None,
    webhook_url: str | None = None,
    channel: str | None = None,
    mention: str | None = None,
    base_url: str | None = None,
    clickable: bool = False,
) -> SlackAlerter | SlackWebhookAlerter:
    """Return the alerter for a bot token and a channel, or for an incoming webhook.

    Args:
        token: bot token (`xoxb-...`); white space around it is dropped.
        webhook_url: URL of an incoming webhook, instead of `token` and `channel`.
        channel: where to post, with a token.
        mention: whom urgent alerts call.
        base_url: of the Web API, where it is not Slack's own.
        clickable: whether somebody hears of clicks on buttons.

    Raises:
        ConfigError: what is given does not make one of the two, or nothing is sent there. Secrets are not repeated.
    """
    if (token is None) == (webhook_url is None):
        raise ConfigError("give either a bot token or a webhook URL", key="slack")
    if webhook_url is not None:
        if re.fullmatch(r"https?://[!-~]+", webhook_url.strip()) is None:
            raise ConfigError("the webhook is not a URL such as https://hooks.slack.com/services/...", key="slack")
        if why := refused(webhook_url.strip()):
            raise ConfigError(why, key="slack")
        hook = StayingHook(webhook_url.strip(), timeout=TIMEOUT, retry_handlers=[], logger=_silent())
        return SlackWebhookAlerter(hook, mention)
    assert token is not None
    if not channel:
        raise ConfigError('a bot token needs a channel: add `channel: "#releases"`', key="slack")
    return SlackAlerter(bot(token, base_url), channel, mention, clickable)


def bot(token: str, base_url: str | None = None) -> WebClient:
    """Return a client for a bot token, which tries nothing again by itself and follows nobody elsewhere.

    Raises:
        ConfigError: the token or the address cannot be one. Secrets are not repeated.
    """
    if re.fullmatch(r"[!-~]+", token.strip()) is None:
        raise ConfigError("the bot token is empty, or holds white space or other characters no token has", key="slack")
    if base_url is not None and re.fullmatch(r"https?://[!-~]+", base_url) is None:
        raise ConfigError(f"{base_url!r} is not a URL", key="slack")
    url = base_url or StayingClient.BASE_URL
    return StayingClient(token.strip(), url, timeout=TIMEOUT, retry_handlers=[], logger=_silent())


def _silent() -> logging.Logger:
    """Return where the sdk may log: it writes webhook URLs, which are secrets."""
    return logging.Logger("slack", logging.CRITICAL)


class _ThreadGone(AlertError):
    """The message that a detail belongs to does not exist any more."""


@contextmanager
def slack_errors(sent: str = "the message") -> Iterator[None]:
    """Turn everything that sending can raise into AlertError; from None, as the sdk's errors may carry the secret."""
    try:
        yield
    except SlackApiError as error:
        answer = error.response.data if isinstance(error.response.data, dict) else {}
        raise _refusal(error.response.status_code, str(answer.get("error")), error.response.headers, sent) from None
    except (UnicodeDecodeError, AttributeError):
        # The sdk expects UTF-8, and an object in the JSON.
        raise AlertError("what answered is not Slack: check the proxy in between") from None
    except (SlackClientError, ValueError):
        raise AlertError("the token or URL holds characters that cannot be sent", permanent=True) from None
    except TimeoutError:
        raise AlertError(f"Slack did not answer within {TIMEOUT} s; {sent} may have arrived") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        said = getattr(reason, "strerror", None) or type(reason).__name__
        raise AlertError(f"Slack could not be reached: {said}") from None


def _refusal(status: int, said: str, headers: Mapping[str, str], sent: str = "the message") -> AlertError:
    """Tell apart what waiting cures from what it does not. Only Slack's own error codes are repeated."""
    code = said if re.fullmatch(r"[a-z][a-z0-9_]{1,60}", said) else ""
    wait = next((str(value) for name, value in headers.items() if name.lower() == "retry-after"), None)
    if status == 429 or code in {"ratelimited", "rate_limited"}:
        seconds = _seconds(wait)
        return AlertError(f"Slack asks to wait {seconds:g} s", retry_after=seconds)
    if status >= 500 or status == 408 or code in _PASSING:
        retry_after = None if wait is None else _seconds(wait)
        return AlertError(f"Slack could not take {sent} ({code or f'HTTP {status}'})", retry_after=retry_after)
    if 300 <= status < 400:
        return AlertError(
            "what answered sends watcher elsewhere, which is not followed: give the final address", permanent=True
        )
    if not code and status == 200:
        return AlertError("what answered is not Slack: check the proxy in between")
    gone = _ThreadGone if code in _NO_THREAD else AlertError
    fix = _FIXES.get(code, "")
    return gone(f"Slack refused {sent}: {code or f'HTTP {status}'}{fix and f'; {fix}'}", permanent=True)


def _seconds(wait: str | None) -> float:
    """Read Retry-After; an HTTP date or garbage is the default.

    >>> _seconds("7"), _seconds("Fri, 20 Nov 2026 10:00:00 GMT"), _seconds(None)
    (7.0, 30.0, 30.0)
    """
    if wait is None or re.fullmatch(r"[0-9]{1,9}", wait.strip()) is None:
        return RETRY_AFTER
    return min(float(wait), LONGEST_RETRY_AFTER)

"""Whether a Slack channel would get messages, asked without posting one.

`auth.test` proves the token and, in a header, names its scopes. The channel can be asked about only with scopes that
posting does not need (`channels:read`, of private channels `groups:read`): without them a doubt is left.
"""

from __future__ import annotations

import re
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from watcher.errors import AlertError
from watcher.model import Reach

MOST_PAGES = 5
"""Pages of the bot's channels that are looked through for a name, a thousand channels each."""

_ID = re.compile(r"[CG][A-Z0-9]{7,}")


def reach(client: WebClient, channel: str) -> Reach:
    """Return where messages would arrive, and what of that cannot be proven.

    Args:
        client: with the bot's token.
        channel: id or name.

    Raises:
        AlertError: they would not: no right to write, no such channel, an archived one, or the bot is not in it.
        SlackApiError: Slack refuses the token; likewise everything else that asking can raise.
    """
    answer = client.auth_test()
    scopes = _scopes(answer)
    if scopes and "chat:write" not in scopes:
        raise AlertError("the bot may not write: give it the scope chat:write", permanent=True)
    try:
        asked = _by_id if _ID.fullmatch(channel) else _by_name
        return asked(client, channel, scopes)
    except SlackApiError as error:
        if _said(error) != "missing_scope":
            raise
    return Reach(
        f"Slack, {channel}",
        f"the token is good, but whether {channel} takes messages cannot be asked",
        f"give the bot the scope channels:read (groups:read for a private channel), and see that it is in {channel}",
    )


def _by_id(client: WebClient, channel: str, scopes: frozenset[str]) -> Reach:
    try:
        found = _data(client.conversations_info(channel=channel)).get("channel", {})
    except SlackApiError as error:
        if _said(error) == "channel_not_found":
            raise AlertError(
                f"there is no channel {channel} that the bot can see; check the id, and invite the bot", permanent=True
            ) from None
        raise
    if found.get("is_archived"):
        raise AlertError(f"the channel {channel} is archived; choose another", permanent=True)
    if found.get("is_member") is False and "chat:write.public" not in scopes:
        raise AlertError(f"the bot is not in the channel {channel}; invite it", permanent=True)
    name = str(found.get("name") or "")
    return Reach(f"Slack, {f'#{name}' if name else channel}")


def _by_name(client: WebClient, channel: str, scopes: frozenset[str]) -> Reach:
    """Look for the name among the channels the bot is in: what takes a name posts, and nothing else takes one."""
    types = ["public_channel"] + (["private_channel"] if "groups:read" in scopes else [])
    cursor, name = "", channel.removeprefix("#")
    for _ in range(MOST_PAGES):
        page = _data(client.users_conversations(types=types, exclude_archived=True, limit=999, cursor=cursor or None))
        if any(each.get("name") == name for each in page.get("channels", ())):
            return Reach(f"Slack, #{name}")
        cursor = str(page.get("response_metadata", {}).get("next_cursor") or "")
        if not cursor:
            break
    return Reach(
        f"Slack, #{name}",
        f"the token is good, but #{name} is not among the channels that the bot is seen to be in",
        f"check the name, and /invite the bot in #{name} (a private channel shows with the scope groups:read)",
    )


def _scopes(answer: SlackResponse) -> frozenset[str]:
    """Return the scopes of the token; none where Slack did not name them."""
    found = next((str(value) for name, value in answer.headers.items() if name.lower() == "x-oauth-scopes"), "")
    return frozenset(scope.strip() for scope in found.split(",") if scope.strip())


def _data(answer: SlackResponse) -> dict[str, Any]:
    return answer.data if isinstance(answer.data, dict) else {}


def _said(error: SlackApiError) -> str:
    return str(error.response.data.get("error")) if isinstance(error.response.data, dict) else ""

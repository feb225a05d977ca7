"""What watcher says in Slack to one person: a dialog that asks them why, and words that nobody else sees."""

from __future__ import annotations

from dataclasses import dataclass

from slack_sdk import WebClient

from watcher.alerts.message import accepting, escape
from watcher.alerts.slack import slack_errors

LONGEST = 2900
"""Characters of what is said to one person."""


@dataclass(frozen=True)
class Dialogue:
    """Speaks to who clicked; a bot with the scope `chat:write` may."""

    client: WebClient

    def ask_why(self, trigger: str, release: str) -> None:
        """Open the dialog that asks why harm is intended; `trigger` is of a click of the last three seconds.

        Raises:
            AlertError: it is not open.
        """
        with slack_errors("the dialog"):
            self.client.views_open(trigger_id=trigger, view=accepting(release))

    def whisper(self, channel: str, user: str, text: str) -> None:
        """Say something that only one member sees.

        Raises:
            AlertError: it was not said.
        """
        with slack_errors():
            self.client.chat_postEphemeral(channel=channel, user=user, text=escape(text, LONGEST))

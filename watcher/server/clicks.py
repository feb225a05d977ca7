"""Clicks on the buttons of a message in Slack, and what was typed into the dialog that one of them opens."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from watcher.alerts.message import ACTION
from watcher.alerts.slack import bot
from watcher.alerts.slack_dialogue import Dialogue
from watcher.config import SlackSettings
from watcher.errors import AlertError, Refused
from watcher.journal import Journal
from watcher.model import Button
from watcher.replying import reply
from watcher.secrets import redacted, secret

log = logging.getLogger("watcher")

MAY_NOT: Final = "You are not among those who may: `slack.users` in watcher.yaml."


class _Part(BaseModel):
    """A part of what Slack sends; the rest of it is of no account."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Named(_Part):
    id: str = ""


class _Clicked(_Part):
    action_id: str = ""
    value: str = ""


class _Typed(_Part):
    value: str | None = None


class _State(_Part):
    values: dict[str, dict[str, _Typed]] = {}


class _View(_Part):
    callback_id: str = ""
    private_metadata: str = ""
    state: _State = _State()


class Interaction(_Part):
    """What a member did: clicked on a button, or sent a dialog."""

    kind: str = Field(alias="type")
    user: _Named
    trigger_id: str = ""
    channel: _Named = _Named()
    actions: list[_Clicked] = []
    view: _View = _View()


@dataclass(frozen=True)
class Answer:
    """What is answered at once, as JSON (None: nothing), and what is done after that, while nobody waits."""

    content: dict[str, Any] | None = None
    after: Callable[[], None] | None = None


NOTHING: Final = Answer()


@dataclass(frozen=True)
class Clicks:
    """Does what members ask for whom watcher.yaml names."""

    settings: SlackSettings
    journal: Journal
    dialogue: Dialogue | None = None

    def answer(self, raw: str, now: float) -> Answer:
        """Return the answer to what Slack sends, which was proven to be Slack's; what it names is proven here."""
        try:
            given = Interaction.model_validate_json(raw)
        except ValidationError:
            log.warning("Slack sent an interaction that is none")
            return NOTHING
        if given.user.id not in self.settings.users:
            log.warning("a click in Slack: %s is not among slack.users of watcher.yaml", given.user.id[:30] or "nobody")
            return Answer(after=self._whisper(given, MAY_NOT))
        if given.kind == "view_submission" and given.view.callback_id == f"{ACTION}accept":
            return self._accepted(given, now)
        if given.kind == "block_actions" and given.actions:
            return self._clicked(given, given.actions[0], now)
        return NOTHING

    def _clicked(self, given: Interaction, clicked: _Clicked, now: float) -> Answer:
        what, release = clicked.action_id.removeprefix(ACTION), clicked.value
        if ACTION + what != clicked.action_id or what not in get_args(Button):
            return NOTHING
        if what == "accept":
            return Answer(after=lambda: self._said(lambda one: one.ask_why(given.trigger_id, release)))
        _, said = self._done(release, cast(Button, what), given.user.id, "", now)
        return Answer(after=self._whisper(given, said))

    def _accepted(self, given: Interaction, now: float) -> Answer:
        typed = given.view.state.values.get("reason", {}).get("reason", _Typed()).value or ""
        good, said = self._done(given.view.private_metadata, "accept", given.user.id, typed, now)
        return Answer(None if good else {"response_action": "errors", "errors": {"reason": said}})

    def _done(self, release: str, what: Button, by: str, reason: str, now: float) -> tuple[bool, str]:
        """Return whether it is so now, and what to tell whoever asked."""
        try:
            said = reply(self.journal, release, what, by, redacted(reason), now)
        except Refused as error:
            return False, f"{error}."
        log.warning("a click in Slack: %s", said)
        return True, f"{said}."

    def _whisper(self, given: Interaction, text: str) -> Callable[[], None]:
        return lambda: self._said(lambda one: one.whisper(given.channel.id, given.user.id, redacted(text)))

    def _said(self, say: Callable[[Dialogue], None]) -> None:
        if self.dialogue is None:
            return
        try:
            say(self.dialogue)
        except AlertError as error:
            log.warning("who clicked in Slack could not be told: %s", error)


def dialogue(settings: SlackSettings) -> Dialogue | None:
    """Return who speaks to members for an installation; None where there is no bot.

    Raises:
        ConfigError: its token cannot be read.
    """
    if settings.token_file is None:
        return None
    return Dialogue(bot(secret(settings.token_file), settings.base_url))

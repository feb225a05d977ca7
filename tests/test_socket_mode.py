"""Clicks and commands through Socket Mode: taken as over HTTP, confirmed, each once, over broken connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.alerts.slack_server import APP_TOKEN
from tests.alerts.socket_server import SocketServer
from tests.planted import plant
from tests.test_clicks import YAML, Here, clicked, opened
from watcher import interlocks
from watcher.assembly import _socket_mode
from watcher.config import load_installation
from watcher.errors import ConfigError

HTTP = 'http: {{listen: "127.0.0.1:8080", tokens_file: tokens, url: "https://watcher.example"}}\n'


@dataclass
class There:
    """An installation that listens on no address, and Slack's end of its connection."""

    here: Here
    socket: SocketServer
    sent: int = 0

    def send(self, kind: str, payload: dict[str, Any], envelope: str | None = None) -> dict[str, Any]:
        """Let Slack send something, and return what it got back."""
        before, self.sent = len(self.socket.answers), self.sent + 1
        self.socket.send(kind, payload, envelope or f"E{self.sent}")
        eventually(lambda: len(self.socket.answers) > before)
        return self.socket.answers[-1]

    def click(self, name: str, user: str = "U0ANA") -> dict[str, Any]:
        return clicked(self.here.headline.buttons[f"watcher:{name}"], user, self.here.headline)


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def there(tmp_path: Path) -> Iterator[There]:
    with ExitStack() as stack:
        here, socket = stack.enter_context(opened(tmp_path)), stack.enter_context(SocketServer())
        here.slack.socket = socket.url
        plant(tmp_path / "app", APP_TOKEN)
        assert HTTP in YAML
        quiet = YAML.replace(HTTP, "").replace("signing_secret_file: signing", "app_token_file: app")
        (tmp_path / "socket.yaml").write_text(quiet.format(slack=here.slack.base_url))
        found = load_installation(tmp_path / "socket.yaml")
        stack.enter_context(_socket_mode(found, here.journal, lambda: here.now))
        eventually(lambda: socket.connections == 1)
        yield There(here, socket)


def test_a_click_kills_and_is_confirmed_and_the_same_envelope_is_taken_once(there: There) -> None:
    click = there.click("kill")
    for _ in range(2):
        assert there.send("interactive", click, "same") == {"envelope_id": "same"}
    eventually(lambda: len(there.here.slack.whispers) == 1)
    there.here.work()
    assert there.here.switch.kills == ["checkout"]


def test_a_reason_that_is_missing_is_asked_for_in_the_dialog(there: There) -> None:
    there.send("interactive", there.click("accept"))
    eventually(lambda: len(there.here.slack.dialogs) == 1)
    [view] = there.here.slack.dialogs

    def typed(reason: str | None) -> dict[str, Any]:
        state = {"values": {"reason": {"reason": {"value": reason}}}}
        return {"type": "view_submission", "user": {"id": "U0ANA"}, "view": {**view, "state": state}}

    assert there.send("interactive", typed(None))["payload"]["response_action"] == "errors"
    assert "payload" not in there.send("interactive", typed("meant"))
    assert dict(there.here.journal.watch(there.here.watch.release.id).accepted) == {"errors": "meant, U0ANA"}


def test_a_command_is_answered_and_who_is_not_named_may_nothing(there: There) -> None:
    told = there.send("slash_commands", {"command": "/watcher", "text": "pause 1h a migration", "user_id": "U0EVE"})
    assert "slack.users" in told["payload"]["text"]
    assert interlocks.paused(there.here.journal, there.here.now) is None
    told = there.send("slash_commands", {"command": "/watcher", "text": "pause 1h a migration", "user_id": "U0ANA"})
    assert told["payload"]["response_type"] == "in_channel"
    assert interlocks.paused(there.here.journal, there.here.now) is not None


def test_a_connection_that_breaks_is_made_again(there: There) -> None:
    there.socket.drop()
    eventually(lambda: there.socket.connections == 2, 40.0)
    assert there.send("interactive", there.click("acknowledge"))
    there.here.work()
    assert "watcher:acknowledge" not in there.here.headline.buttons


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("signing_secret_file: signing", "signing_secret_file: signing\n  app_token_file: app", "one of the two"),
        ("signing_secret_file: signing\n  users: [U0ANA, W0BEN]", "app_token_file: app", "slack.users: is missing"),
        ("token_file: token", "webhook_file: token\n  app_token_file: app", "one of the two"),
    ],
)
def test_half_a_connection_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    yaml = YAML.format(slack="http://127.0.0.1:9")
    assert old in yaml
    (tmp_path / "watcher.yaml").write_text(yaml.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        load_installation(tmp_path / "watcher.yaml")

"""`watcher alerts`: what people would be told, shown and tried."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.alerts.slack_server import SlackServer, limits
from tests.cli.conftest import Watcher
from tests.planted import plant, signing_key
from watcher.cli.alerts import STATES
from watcher.telling import TITLES

YAML = """\
metrics: {{prometheus: "http://127.0.0.1:9"}}
slack: {{token_file: token, channel: "#releases", base_url: "{slack}"}}
alertmanager: {{url: "http://127.0.0.1:9"}}
webhooks: [{{name: own, url: "http://127.0.0.1:9/x", secret_file: key}}]
services: {{shop: {{rules: [checkout], releases: [{{strategy: flag, notice: {{http: true}}}}]}}}}
"""


@pytest.fixture
def slack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SlackServer]:
    monkeypatch.chdir(tmp_path)
    with SlackServer("#releases") as slack:
        (tmp_path / "watcher.yaml").write_text(YAML.format(slack=slack.base_url))
        plant(tmp_path / "token", slack.token)
        plant(tmp_path / "key", signing_key("alerts"))
        yield slack


@pytest.mark.parametrize("state", STATES)
def test_every_state_can_be_seen_as_everybody_would_get_it_and_nothing_is_sent(
    watcher: Watcher, slack: SlackServer, state: str
) -> None:
    shown = watcher("alerts", "render", "--state", state)
    assert shown.exit == 0
    assert TITLES[state] in shown.out
    assert shown.out.endswith("goes to: slack, alertmanager, webhook own\n")
    sent = json.loads(watcher("alerts", "render", "--state", state, "--format", "json").out)
    assert limits(sent["slack"], longest_text=4_000) is None
    assert sent["webhook own"]["data"]["state"] == state
    assert sent["alertmanager"][0]["labels"]["feature"] == "new-checkout"
    assert slack.requests == []


def test_a_test_reaches_whom_it_can_and_says_whom_it_did_not_and_why(watcher: Watcher, slack: SlackServer) -> None:
    answer = watcher("alerts", "test")
    assert answer.exit == 2
    told, manager, webhook = answer.out.splitlines()
    assert told == "slack: told Slack, #releases"
    assert manager.startswith("alertmanager: NOT told: POST http://127.0.0.1:9/api/v2/alerts: no answer")
    assert webhook.startswith("webhook own: NOT told: ")
    [message] = slack.messages("#releases")
    assert message.shown.startswith("🔵 Test: nothing has happened")


def test_a_release_of_which_nobody_was_told_is_said_to_be_none(watcher: Watcher, slack: SlackServer) -> None:
    answer = watcher("alerts", "render", "cart")
    assert (answer.exit, answer.out) == (2, "")
    assert "nobody was told anything of 'cart' yet; `watcher release list` lists releases" in answer.err

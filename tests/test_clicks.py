"""Buttons in Slack, from the message with the click to what it does: signed, by those who may, once, and told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.alerts.slack_server import Fault, Message, SlackServer
from tests.performing import perform
from tests.planted import MARK, plant
from tests.test_doors import SIGNING, signed_by_slack
from tests.timeline import EXPOSED, MINUTE, looks, ratio, watch
from watcher import afterwards, replies
from watcher.act import Outbox
from watcher.assembly import alerters
from watcher.config import Installation, load_installation
from watcher.illustrating import illustrate
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import Kill, Mode, Watch
from watcher.secrets import conceal
from watcher.server import application
from watcher.testing import MemorySource, MemorySwitch

YAML = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "http://127.0.0.1:9"}}
http: {{listen: "127.0.0.1:8080", tokens_file: tokens, url: "https://watcher.example"}}
slack:
  token_file: token
  channel: "#releases"
  mention: <!subteam^S012AB>
  base_url: {slack}
  signing_secret_file: signing
  users: [U0ANA, W0BEN]
services:
  shop:
    rules: [checkout]
    releases: [{{strategy: flag, notice: {{http: true}}}}]
"""


@dataclass
class Here:
    """An installation with one release that regressed and was not killed, its people and their Slack."""

    installation: Installation
    journal: Journal
    slack: SlackServer
    client: TestClient
    watch: Watch
    switch: MemorySwitch = field(default_factory=lambda: MemorySwitch({"checkout": 1.0}))
    now: float = EXPOSED + 30 * MINUTE
    clicks: int = 0

    def __post_init__(self) -> None:
        page = None if self.installation.http is None else self.installation.http.url
        self.outbox = Outbox(
            self.journal, lambda _: self.switch, alerters(self.installation), stopwatch=lambda: 0.0, page=page
        )

    def work(self, seconds: float = 5.0) -> None:
        """Let the daemon do what there is to do."""
        self.now += seconds
        perform(self.outbox, self.now)
        afterwards.report(self.journal, self.journal.switched(), self.now)
        perform(self.outbox, self.now)

    @property
    def headline(self) -> Message:
        return self.slack.messages("#releases")[0]

    def send(self, payload: dict[str, Any]) -> Any:
        self.clicks += 1
        body = urlencode({"payload": json.dumps(payload), "n": self.clicks}).encode()
        return self.client.post("/v1/slack", content=body, headers=signed_by_slack(body, self.now))

    def click(self, name: str, user: str = "U0ANA", **changed: Any) -> Any:
        """Click on a button as it stands in the message."""
        button = self.headline.buttons[f"watcher:{name}"]
        return self.send(clicked(button, user, self.headline, **changed))


def clicked(button: dict[str, Any], user: str, message: Message, **changed: Any) -> dict[str, Any]:
    action = {"action_id": button["action_id"], "value": button["value"], "type": "button", **changed}
    return {
        "type": "block_actions",
        "user": {"id": user, "name": "ana"},
        "trigger_id": "123.456",
        "channel": {"id": message.channel},
        "container": {"message_ts": message.ts},
        "actions": [action],
    }


@contextmanager
def opened(folder: Path, **changes: Any) -> Iterator[Here]:
    with SlackServer("#releases", "#support") as slack:
        slack.scopes |= {"files:write"}
        (folder / "watcher.yaml").write_text(YAML.format(slack=slack.base_url))
        (folder / "tokens").touch()
        plant(folder / "token", slack.token)
        plant(folder / "signing", SIGNING)
        installation = load_installation(folder / "watcher.yaml")
        made = watch(mode=Mode.RECOMMEND, **changes)
        with Journal.open(installation.journal) as journal:
            app = application(installation, journal, lambda: here.now)
            here = Here(installation, journal, slack, TestClient(app), made)
            journal.add_release(made, EXPOSED, "a test")
            source = MemorySource({"errors": ratio(treated={5: 0.06})})
            journal.record_calibrations(made.release.id, prepare(made, read_history(made, source)), EXPOSED)
            for look in looks(made, source, range(5, 31, 5)):
                journal.record_look(look)
                perform(here.outbox, look.at)
            yield here


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with opened(tmp_path) as here:
        yield here


def said(here: Here) -> str:
    return here.headline.shown


def test_the_message_has_what_there_is_to_decide_where_to_look_and_a_colour(here: Here) -> None:
    assert list(here.headline.buttons) == [
        "watcher:kill", "watcher:accept", "watcher:silence", "watcher:acknowledge"
    ]  # fmt: skip
    kill = here.headline.buttons["watcher:kill"]
    assert kill["style"] == "danger"
    assert "shop/production/checkout@1.2" in kill["confirm"]["text"]["text"]
    assert here.headline.colour == "#d55e00"
    assert said(here).startswith("🔴 REGRESSED: checkout 1.2")
    assert "https://watcher.example/releases/shop/production/checkout%401.2|page" in str(here.headline.body)


def test_kill_turns_it_off_and_the_button_gives_way_to_who_did_it(here: Here) -> None:
    assert here.click("kill").status_code == 200
    [entry] = here.journal.switched()
    assert isinstance(entry.action, Kill)
    assert (entry.state, entry.action.by_hand) == ("intended", True)
    here.work()
    assert here.switch.kills == ["checkout"]
    assert "watcher:kill" not in here.headline.buttons
    assert "Turned off by hand by " in said(here)
    assert "<@U0ANA>" in str(here.headline.body)
    assert {"kill by hand", "reply: kill", "kill done"} <= {line.what for line in here.journal.audit_trail()}
    assert here.slack.whispers[-1][0] == "U0ANA"


def test_a_second_click_is_harmless_whoever_clicks_and_says_who_was_first(here: Here) -> None:
    button, message = here.headline.buttons["watcher:kill"], here.headline
    for user in ("U0ANA", "U0ANA", "W0BEN"):
        assert here.send(clicked(button, user, message)).status_code == 200
    here.work()
    here.work()
    assert here.send(clicked(button, "W0BEN", message)).status_code == 200
    assert here.switch.kills == ["checkout"]
    assert len(here.journal.switched()) == 1
    user, text = here.slack.whispers[-1]
    assert (user, "by hand by U0ANA" in text) == ("W0BEN", True)


def test_a_kill_that_failed_for_good_can_be_asked_for_again(here: Here) -> None:
    here.switch.broken = "the flag server is gone"
    here.click("kill")
    here.work()
    here.work(700.0)
    [first] = here.journal.switched()
    assert first.state == "failed"
    here.switch.broken = None
    here.work()
    here.click("kill", user="W0BEN")
    here.work()
    assert here.switch.kills == ["checkout"]


def test_accepting_asks_why_and_what_is_accepted_no_longer_counts(here: Here) -> None:
    here.click("accept")
    [view] = here.slack.dialogs
    assert view["private_metadata"] == here.watch.release.id

    def typed(reason: str) -> Any:
        values = {"reason": {"reason": {"type": "plain_text_input", "value": reason}}}
        state = {"values": values}
        return here.send({"type": "view_submission", "user": {"id": "U0ANA"}, "view": {**view, "state": state}})

    assert typed("  ").json() == {"response_action": "errors", "errors": {"reason": "say why this harm is intended."}}
    assert here.journal.watch(here.watch.release.id).accepted == ()
    assert typed("bots are turned away now").content == b""
    ((rule, why),) = here.journal.watch(here.watch.release.id).accepted
    assert (rule, why) == ("errors", "bots are turned away now, U0ANA")
    here.work()
    assert "Accepted as intended by" in said(here)
    assert "bots are turned away now" in said(here)
    assert "watcher:accept" not in here.headline.buttons
    typed("again")
    assert len(here.journal.watch(here.watch.release.id).accepted) == 1


def test_who_looks_is_shown_and_silence_lasts_an_hour_but_for_a_kill(here: Here) -> None:
    here.click("acknowledge", user="W0BEN")
    here.click("silence")
    here.work()
    assert "Being looked at by" in said(here)
    assert "Silenced by" in said(here)
    assert list(here.headline.buttons) == ["watcher:kill", "watcher:accept"]
    before = len(here.slack.messages("#releases"))
    [alert] = [each for each in here.journal.actions(here.watch.release.id) if each.kind == "detail"][-1:]

    def post(state: str, key: str) -> None:
        made = replace(alert.action, key=key, state=state, urgent=True)
        here.journal.intend([made], here.now)
        here.work()

    post("no_data", "quiet")
    assert len(here.slack.messages("#releases")) == before, "in the thread, and aloud nowhere"
    post("unrecovered", "loud")
    assert len(here.slack.messages("#releases")) == before + 1
    here.now += 3600.0
    post("no_data", "later")
    assert len(here.slack.messages("#releases")) == before + 2
    here.work()
    given = replies.replies(here.journal, here.watch.release.id)
    assert [each.what for each in given] == ["acknowledge", "silence"]


@pytest.mark.parametrize("user", ["U0EVE", "", "U0ANA "])
def test_who_is_not_named_may_nothing_and_is_told_so(here: Here, user: str) -> None:
    for name in ("kill", "accept", "silence", "acknowledge"):
        assert here.click(name, user=user).status_code == 200
    here.work()
    assert here.journal.switched() == []
    assert here.slack.dialogs == []
    assert replies.replies(here.journal, here.watch.release.id) == []
    assert all("slack.users" in text for _, text in here.slack.whispers)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"value": "shop/production/other@9"}, "there is no release"),
        ({"value": ""}, "there is no release"),
        ({"action_id": "watcher:promote"}, None),
        ({"action_id": "kill"}, None),
    ],
)
def test_what_a_button_carries_is_not_believed(here: Here, changed: dict[str, Any], told: str | None) -> None:
    assert here.click("kill", **changed).status_code == 200
    assert here.journal.switched() == []
    assert [told in text for _, text in here.slack.whispers] == ([True] if told else [])


@pytest.mark.parametrize("payload", ["", "[]", "{}", "null", '{"type": "block_actions", "user": {"id": 1}}', "{" * 999])
def test_what_is_no_click_is_answered_and_does_nothing(here: Here, payload: str) -> None:
    body = urlencode({"payload": payload}).encode()
    assert here.client.post("/v1/slack", content=body, headers=signed_by_slack(body, here.now)).status_code == 200
    assert here.journal.switched() == []


def test_a_click_that_is_not_signed_or_was_taken_is_refused(here: Here) -> None:
    body = urlencode({"payload": json.dumps(clicked(here.headline.buttons["watcher:kill"], "U0ANA", here.headline))})
    sent = signed_by_slack(body.encode(), here.now)
    other = {**sent, "X-Slack-Signature": "v0=" + 64 * "0"}
    assert here.client.post("/v1/slack", content=body, headers=other).status_code == 401
    assert here.journal.switched() == []
    assert here.client.post("/v1/slack", content=body, headers=sent).status_code == 200
    assert here.client.post("/v1/slack", content=body, headers=sent).status_code == 409


def test_where_slack_cannot_be_spoken_to_the_click_counts_all_the_same(here: Here) -> None:
    here.slack.fail(Fault(status=500))
    assert here.click("kill").status_code == 200
    here.work()
    assert here.switch.kills == ["checkout"]


def test_once_its_watch_is_over_there_is_nothing_to_click(here: Here) -> None:
    button, message = here.headline.buttons["watcher:kill"], here.headline
    here.journal.end_release(here.watch.release.id, "stopped", "enough", here.now)
    here.send(clicked(button, "U0ANA", message))
    here.work()
    assert here.journal.switched() == []
    assert "cannot be turned off by hand any more" in here.slack.whispers[-1][1]


def test_a_release_that_cannot_be_undone_has_no_button_for_it(tmp_path: Path) -> None:
    with opened(tmp_path, switch=None) as here:
        assert "watcher:kill" not in here.headline.buttons


def test_without_somebody_who_hears_there_are_no_buttons(tmp_path: Path) -> None:
    with opened(tmp_path) as here:
        text = (tmp_path / "watcher.yaml").read_text()
        quiet = text.replace("  signing_secret_file: signing\n  users: [U0ANA, W0BEN]\n", "")
        (tmp_path / "quiet.yaml").write_text(quiet)
        made = alerters(load_installation(tmp_path / "quiet.yaml"))["slack"]
        alert = next(
            each.action for each in here.journal.actions(here.watch.release.id) if each.kind == "headline"
        )  # fmt: skip
        made.deliver(here.outbox._deliveries._replies.told(alert, here.now), None)  # type: ignore[arg-type]
        assert here.slack.messages("#releases")[-1].buttons == {}


def test_a_reason_that_holds_a_secret_is_not_told(here: Here) -> None:
    conceal(f"xoxb-{MARK}-typed")
    here.click("accept")
    [view] = here.slack.dialogs
    state = {"values": {"reason": {"reason": {"value": f"because xoxb-{MARK}-typed"}}}}
    here.send({"type": "view_submission", "user": {"id": "U0ANA"}, "view": {**view, "state": state}})
    here.work()
    assert "because ***" in said(here)


# --- pictures -------------------------------------------------------------------------------------------------------


def test_pictures_of_the_worst_rule_stand_in_the_thread_once_and_again_after_a_kill(here: Here) -> None:
    for _ in range(3):
        illustrate(here.journal, here.outbox.alerters, here.now)
    assert [(each.name, each.thread_ts) for each in here.slack.files] == [
        ("effect.png", here.headline.ts),
        ("arms.png", here.headline.ts),
    ]
    for each in here.slack.files:
        assert each.content.startswith(b"\x89PNG")
        assert "Requests that failed" in each.alt
    last = here.journal.last_look(here.watch.release.id)
    assert last is not None
    here.journal.record_look(replace(last, at=last.at + 60.0, killed_at=last.at + 60.0, phase="killed"))
    for _ in range(2):
        illustrate(here.journal, here.outbox.alerters, here.now)
    assert len(here.slack.files) == 4


@pytest.mark.parametrize("scopes", [{"chat:write"}, {"chat:write", "files:write"}])
def test_pictures_that_cannot_be_sent_are_left_out_and_not_tried_for_ever(here: Here, scopes: set[str]) -> None:
    here.slack.scopes = scopes
    if "files:write" in scopes:
        here.slack.fail(Fault(status=500))
    asked = len(here.slack.requests)
    for _ in range(3):
        illustrate(here.journal, here.outbox.alerters, here.now)
    assert here.slack.files == []
    assert len(here.slack.requests) == asked + 1
    here.click("acknowledge")
    here.work()
    assert "Being looked at" in said(here)

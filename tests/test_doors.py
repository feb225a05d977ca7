"""Signed requests: what the specifications sign passes, and nothing else; what was taken is not taken again."""

from __future__ import annotations

import ast
import datetime as dt
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook
from starlette.testclient import TestClient

from tests.planted import MARK, plant, signing_key
from watcher import interlocks
from watcher.config import load_installation
from watcher.errors import ConfigError
from watcher.journal import Journal
from watcher.secrets import conceal
from watcher.server import application
from watcher.signing import slack_signed
from watcher.tokens import entry

NOW = 1_800_000_000.0
KEYS = [signing_key(str(n)) for n in (1, 2, 3)]
SIGNING = f"{MARK}-8f742231b10e8888abcd99"
RELEASE = {"service": "shop", "feature": "new-checkout", "version": "1.2.0"}
YAML = """\
metrics: {prometheus: "http://127.0.0.1:9"}
journal: sqlite:///watcher.db
http: {listen: 127.0.0.1:8080, tokens_file: tokens, webhook_secrets_file: hooks}
slack: {webhook_file: hook, signing_secret_file: signing, users: [U0ANA, W0BEN]}
services:
  shop: {rules: [rules.yaml], releases: [{strategy: flag, notice: {http: true}}]}
"""
PACK = "pack: shop\nrules: [{name: errors, kind: ratio, bad: errors, total: requests}]\n"


@dataclass
class Here:
    client: TestClient
    journal: Journal
    folder: Path

    def hook(self, body: bytes = json.dumps(RELEASE).encode(), **headers: str) -> httpx2.Response:
        sent = {**signed_webhook(body), "Content-Type": "application/json", **headers}
        return self.client.post(
            "/v1/releases", content=body, headers=[(k.encode(), v.encode()) for k, v in sent.items()]
        )

    def command(self, text: str, user: str = "U0ANA", at: float = NOW, **headers: str) -> httpx2.Response:
        body = urlencode({"command": "/watcher", "text": text, "user_id": user, "token": "legacy"}).encode()
        sent = {**signed_by_slack(body, at), **headers}
        return self.client.post("/v1/slack", content=body, headers=[(k.encode(), v.encode()) for k, v in sent.items()])


def signed_webhook(body: bytes, message: str = "msg_1", at: float = NOW, key: str = KEYS[0]) -> dict[str, str]:
    """Sign as the reference library does."""
    signature = Webhook(key).sign(message, dt.datetime.fromtimestamp(at, dt.UTC), body.decode())
    return {"webhook-id": message, "webhook-timestamp": str(int(at)), "webhook-signature": signature}


def signed_by_slack(body: bytes, at: float = NOW) -> dict[str, str]:
    """Sign as Slack's own library says."""
    signature = SignatureVerifier(SIGNING).generate_signature(timestamp=str(int(at)), body=body)
    assert signature is not None
    return {
        "X-Slack-Request-Timestamp": str(int(at)),
        "X-Slack-Signature": signature,
        "Content-Type": "application/x-www-form-urlencoded",
    }


@contextmanager
def opened(folder: Path) -> Iterator[Here]:
    """An installation that takes webhooks, and commands of Slack's."""
    (folder / "watcher.yaml").write_text(YAML)
    (folder / "rules.yaml").write_text(PACK)
    (folder / "tokens").write_text(entry("ci", ["releases"], f"{MARK}-tok"))
    plant(folder / "hooks", "\n".join(KEYS[:2]))
    plant(folder / "hook", f"https://hooks.slack.com/services/T/B/{MARK}")
    plant(folder / "signing", SIGNING)
    installation = load_installation(folder / "watcher.yaml")
    with Journal.open(installation.journal) as journal:
        yield Here(TestClient(application(installation, journal, lambda: NOW)), journal, folder)


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    with opened(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    with opened(tmp_path_factory.mktemp("doors")) as made:
        yield made


def test_a_signed_webhook_tells_of_a_release_once(here: Here) -> None:
    first = here.hook()
    assert (first.status_code, first.json()) == (201, {"release": "shop/production/new-checkout@1.2.0"})
    again = here.hook()
    assert (again.status_code, len(here.journal.watches())) == (409, 1)
    assert "taken before" in again.json()["error"]


def test_a_webhook_that_was_taken_is_refused_by_the_next_process_too_and_as_long_as_its_time_would_pass(
    here: Here,
) -> None:
    early = signed_webhook(json.dumps(RELEASE).encode(), at=NOW + 299)
    assert here.hook(**early).status_code == 201
    installation = load_installation(here.folder / "watcher.yaml")
    with Journal.open(installation.journal) as journal:
        next_one = Here(TestClient(application(installation, journal, lambda: NOW + 599)), journal, here.folder)
        assert next_one.hook(**early).status_code == 409


def test_what_was_not_taken_may_come_again_with_its_id(here: Here) -> None:
    wrong = json.dumps({**RELEASE, "service": "shoop"}).encode()
    assert here.hook(wrong).status_code == 404
    assert here.hook().status_code == 201


def test_keys_are_replaced_one_after_another(here: Here) -> None:
    body = json.dumps(RELEASE).encode()
    assert here.hook(**signed_webhook(body, "msg_2", key=KEYS[1])).status_code == 201
    assert here.hook(**signed_webhook(body, "msg_3", key=KEYS[2])).status_code == 401
    both = " ".join(signed_webhook(body, "msg_4", key=key)["webhook-signature"] for key in (KEYS[2], KEYS[0]))
    sent = {**signed_webhook(body, "msg_4"), "webhook-signature": f"v2,abc {both}"}
    assert here.hook(**sent).status_code == 200
    plant(here.folder / "hooks", KEYS[2])
    assert here.hook(**signed_webhook(body, "msg_5", key=KEYS[2])).status_code == 200


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_a_webhook_of_another_time_is_none(here: Here, seconds: float) -> None:
    body = json.dumps(RELEASE).encode()
    assert here.hook(**signed_webhook(body, at=NOW + seconds)).status_code == 401


ODD = st.one_of(
    st.text(max_size=40), st.sampled_from(["", "v1,", "v1,====", "v0=", "1e5", "-1", "٣", "9" * 40, "\x00"])
)


def _odd(value: str) -> str:
    return value.encode("latin-1", "replace").decode("latin-1").translate({10: " ", 13: " ", 0: " "})


@settings(max_examples=150)
@given(name=st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature"]), value=ODD)
def test_whatever_stands_in_a_webhook_s_headers_is_401_and_never_500(shared: Here, name: str, value: str) -> None:
    body = json.dumps(RELEASE).encode()
    sent = {**signed_webhook(body), "Content-Type": "application/json", name: _odd(value)}
    headers = [(k.encode(), v.encode("latin-1")) for k, v in sent.items()]
    assert shared.client.post("/v1/releases", content=body, headers=headers).status_code == 401


@settings(max_examples=150)
@given(name=st.sampled_from(["X-Slack-Request-Timestamp", "X-Slack-Signature"]), value=ODD, body=st.binary(max_size=60))
def test_whatever_stands_in_slack_s_headers_or_body_is_401_and_never_500(
    shared: Here, name: str, value: str, body: bytes
) -> None:
    sent = {**signed_by_slack(b"text=status&user_id=U0ANA"), name: _odd(value)}
    headers = [(k.encode(), v.encode("latin-1")) for k, v in sent.items()]
    assert shared.client.post("/v1/slack", content=body, headers=headers).status_code == 401


def test_a_signed_body_that_is_no_text_is_answered(here: Here) -> None:
    body = b"text=\xff\xfe&user_id=U0ANA"
    # Slack's own library cannot sign this.
    sent = {**signed_by_slack(b""), "X-Slack-Signature": slack_signed(SIGNING, str(int(NOW)), body)}
    answer = here.client.post("/v1/slack", content=body, headers=sent)
    assert answer.status_code == 200
    assert "/watcher status" in answer.json()["text"]


def test_a_member_who_may_pauses_and_resumes_and_the_channel_sees_it(here: Here) -> None:
    answer = here.command("pause 1h a migration")
    found = interlocks.paused(here.journal, NOW)
    assert found is not None
    assert (found.by, found.reason, found.until) == ("U0ANA in Slack", "a migration", NOW + 3600)
    assert answer.json() == {"response_type": "in_channel", "text": str(found)}
    assert str(found) in here.command("status").json()["text"]
    assert here.command("resume", user="W0BEN").json()["text"] == "The pause is over, by W0BEN in Slack."
    assert interlocks.paused(here.journal, NOW) is None


def test_a_member_who_ends_a_pause_is_told_of_a_file_that_pauses_all_the_same(here: Here) -> None:
    assert here.command("pause 1h a migration").status_code == 200
    (here.folder / "watcher.pause").write_text("the shop is being moved\n")
    said = here.command("resume").json()["text"]
    assert said.startswith("The pause is over, by U0ANA in Slack. But kills are paused while there is a file ")
    assert said.endswith("watcher.pause: the shop is being moved.")


@pytest.mark.parametrize("user", ["U0EVE", "", "U0ANA "])
def test_who_is_not_named_may_nothing(here: Here, user: str) -> None:
    answer = here.command("pause 1h mischief", user=user)
    assert answer.status_code == 200
    assert answer.json()["response_type"] == "ephemeral"
    assert "slack.users" in answer.json()["text"]
    assert interlocks.paused(here.journal, NOW) is None


def test_a_command_that_was_taken_is_not_taken_again(here: Here) -> None:
    assert here.command("pause 1h a migration").status_code == 200
    assert here.command("resume").status_code == 200
    assert here.command("pause 1h a migration").status_code == 409
    assert interlocks.paused(here.journal, NOW) is None


def test_of_the_same_request_at_the_same_moment_one_is_taken(here: Here) -> None:
    body = json.dumps(RELEASE).encode()
    with ThreadPoolExecutor(8) as pool:
        for nth in range(5):
            sent = signed_webhook(body, f"msg_{nth}")
            for ask in (lambda _: here.hook(body, **sent), lambda _: here.command(f"pause 1h {nth}")):  # noqa: B023
                found = sorted(each.status_code for each in pool.map(ask, range(8)))
                assert found[0] in (200, 201)
                assert found[1:] == [409] * 7


def test_a_secret_that_somebody_typed_is_not_shown_to_the_channel(here: Here) -> None:
    conceal(f"xoxb-{MARK}-not-for-the-channel")
    said = here.command(f"pause 1h xoxb-{MARK}-not-for-the-channel").json()["text"]
    assert said.endswith("by U0ANA in Slack: ***")


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_command_of_another_time_is_none(here: Here, seconds: float) -> None:
    assert here.command("status", at=NOW + seconds).status_code == 401


@pytest.mark.parametrize(
    "text",
    [
        "",
        "help",
        "pause",
        "pause 1h",
        "pause soon x",
        "pause 8d x",
        f"pause 1h {'x' * 201}",
        "kill everything",
        "resume now",
    ],
)
def test_what_is_no_command_is_answered_with_those_there_are(here: Here, text: str) -> None:
    answer = here.command(text).json()
    assert "/watcher pause 1h REASON" in answer["text"]
    assert answer["response_type"] == "ephemeral"
    assert interlocks.paused(here.journal, NOW) is None


def test_what_people_wrote_is_no_markup_in_slack(here: Here) -> None:
    assert "&lt;!channel&gt;" in here.command("pause 1h <!channel> & all").json()["text"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", users: [U0ANA, W0BEN]", "", "slack.users: is missing"),
        (", signing_secret_file: signing", "", "slack.signing_secret_file: is missing"),
        ("[U0ANA, W0BEN]", "[ana]", "slack.users"),
        ("http: {listen: 127.0.0.1:8080, tokens_file: tokens, webhook_secrets_file: hooks}", "", "comes over HTTP"),
    ],
)
def test_half_a_door_is_refused(here: Here, old: str, new: str, said: str) -> None:
    assert old in YAML
    path = here.folder / "watcher.yaml"
    path.write_text(YAML.replace(old, new))
    with pytest.raises(ConfigError, match=said):
        load_installation(path)


def test_every_answer_there_is_stands_in_the_documentation() -> None:
    here = Path(__file__).resolve().parents[1]
    told = {int(each) for each in re.findall(r"^\| (\d{3}) \|", (here / "docs" / "http.md").read_text(), re.MULTILINE)}
    nodes = [
        node for path in (here / "watcher" / "server").glob("*.py") for node in ast.walk(ast.parse(path.read_text()))
    ]
    values = [node.value for node in nodes if isinstance(node, ast.Constant)]
    said = {value for value in values if type(value) is int and 200 <= value < 600}
    # Starlette says these two itself.
    assert told == said | {200, 405}


def test_what_is_told_is_not_read(here: Here) -> None:
    for path in ("/v1/pause", "/v1/resume", "/v1/slack"):
        answer = here.client.get(path)
        assert (answer.status_code, list(answer.json())) == (405, ["error"])


def test_a_key_that_is_none_is_named_by_its_file_and_not_repeated(here: Here) -> None:
    plant(here.folder / "hooks", f"whsec_{MARK}")
    http = load_installation(here.folder / "watcher.yaml").http
    assert http is not None
    with pytest.raises(ConfigError, match="hooks: ") as error:
        http.webhook_keys()
    assert MARK not in str(error.value)
    assert here.hook().status_code == 503

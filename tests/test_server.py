"""Releases told over HTTP: what is taken, what is refused and how, and who may tell at all."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from tests.github import SHA, deployment_status, signed
from tests.planted import MARK, made_by_others, plant
from tests.servers.shop import free_port
from watcher import deployments, intake, interlocks
from watcher.config import Installation, load_installation
from watcher.errors import ConfigError
from watcher.journal import Journal
from watcher.model import Deployment
from watcher.server import application, incoming, serving
from watcher.tokens import entry

NOW = 1_800_000_000.0
TOKEN = f"{MARK}-4f9a1c"
SECRET = f"{MARK}-77b0e2"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

YAML = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: http://127.0.0.1:9090}}
http: {{listen: "127.0.0.1:{port}", tokens_file: token, github_secret_file: github}}
services:
  shop:
    rules: [checkout]
    releases:
      - {{strategy: flag, notice: {{http: true}}}}
      - strategy: canary
        notice: {{label: version}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
  shop-staging:
    environment: staging
    repository: acme/shop
    rules: [checkout]
    releases:
      - {{strategy: flag, notice: {{http: true}}}}
  search:
    repository: Acme/Monorepo
    rules: [checkout]
    releases:
      - {{strategy: canary, notice: {{label: version, features: [ranking]}}}}
"""

RELEASE = {"service": "shop", "feature": "new-checkout", "version": "1.2.0", "strategy": "flag"}
NAME = "shop/production/new-checkout@1.2.0"


@dataclass
class Here:
    """An installation that listens, as its clients and its journal see it."""

    installation: Installation
    journal: Journal
    client: TestClient
    folder: Path

    def tell(self, **changed: Any) -> Any:
        """Tell of a release, with the token; a key that is None is left out."""
        told = {key: value for key, value in {**RELEASE, **changed}.items() if value is not None}
        return self.client.post("/v1/releases", json=told, headers=BEARER)

    def deliver(self, content: Any, event: str = "deployment_status", secret: str = SECRET, **headers: str) -> Any:
        """Deliver a webhook as GitHub does."""
        body, sent = signed(event, content, secret)
        return self.client.post("/v1/releases", content=body, headers={**sent, **headers})

    def waits(self, version: str, feature: str = "new-checkout", service: str = "shop") -> bool:
        """Tell whether a version was recorded as waiting for exposure."""
        owner = self.installation.services[service]
        return not deployments.noted(self.journal, owner, Deployment(feature, version, NOW), "a test")

    def releases(self) -> list[str]:
        return [each.watch.release.id for each in self.journal.watches()]


def installed(folder: Path, port: int = 8080, yaml: str = YAML) -> Installation:
    (folder / "watcher.yaml").write_text(yaml.format(port=port))
    (folder / "token").write_text(entry("ci", ["releases"], TOKEN) + "\n")
    plant(folder / "github", SECRET + "\n")
    return load_installation(folder / "watcher.yaml")


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Here]:
    installation = installed(tmp_path)
    with (
        Journal.open(installation.journal) as journal,
        TestClient(application(installation, journal, lambda: NOW)) as client,
    ):
        yield Here(installation, journal, client, tmp_path)


# --- releases in JSON of our own ------------------------------------------------------------------------------------


def test_a_release_is_recorded_once_and_told_twice(here: Here) -> None:
    first, again = here.tell(share=0.05, previous="1.1.0", reversible=False), here.tell(share=0.05)
    assert (first.status_code, first.json()) == (201, {"release": NAME})
    assert (again.status_code, again.json()) == (200, {"release": NAME})
    [watched] = here.journal.watches()
    release = watched.watch.release
    assert (watched.noticed_by, release.previous, release.reversible) == ("POST /v1/releases", "1.1.0", False)
    assert [(stage.at, stage.share) for stage in release.stages] == [(NOW, 0.05)]


def test_a_key_that_is_null_is_one_that_is_left_out(here: Here) -> None:
    told = {**RELEASE, "share": None, "exposed_at": None, "previous": None}
    assert here.client.post("/v1/releases", json=told, headers=BEARER).status_code == 201
    [watched] = here.journal.watches()
    assert (watched.watch.release.stages[0].share, watched.watch.release.previous) == (None, None)


@pytest.mark.parametrize(
    ("said", "ago"),
    [("2027-01-15T07:00:00Z", 3600.0), ("2027-01-15T09:00:00+02:00", 3600.0), (NOW - 60, 60.0), (NOW + 200, -200.0)],
)
def test_users_may_have_been_exposed_earlier_and_clocks_may_differ_a_little(here: Here, said: Any, ago: float) -> None:
    assert here.tell(exposed_at=said).status_code == 201
    assert here.journal.watches()[0].watch.release.exposed_at == NOW - ago


def test_a_share_of_nobody_is_a_deployment_that_waits_for_exposure(here: Here) -> None:
    for _ in range(2):
        answer = here.tell(share=0)
        assert (answer.status_code, answer.json()) == (202, {"deployment": NAME, "waiting_for": "exposure"})
    assert here.releases() == []
    assert here.waits("1.2.0")
    assert not here.waits("1.2.1")


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"exposd_at": NOW}, 422, "exposd_at: unknown key; did you mean `exposed_at`?"),
        ({"color": "blue"}, 422, "color: unknown key; there is: service, feature, version, strategy, share"),
        ({"version": None}, 422, "version: is missing"),
        ({"version": 1.2}, 422, "version: expected text, in quotes"),
        ({"version": ""}, 422, "version: expected 1 to 200 printable characters"),
        ({"version": "1.2\n2027-01-15 ERROR"}, 422, "version: expected 1 to 200 printable characters"),
        ({"version": "1" * 201}, 422, "version: expected 1 to 200 printable characters"),
        ({"feature": " new"}, 422, "feature: expected 1 to 200 printable characters, without spaces around"),
        ({"reversible": "no"}, 422, "reversible: expected true or false"),
        ({"share": "5%"}, 422, "share: expected a fraction from 0 to 1, such as 0.05 for 5 %"),
        ({"share": 5}, 422, "share: expected a fraction"),
        ({"share": True}, 422, "share: expected a fraction"),
        ({"strategy": "blue-green"}, 422, "strategy: input should be 'flag', 'canary' or 'blue_green'"),
        ({"strategy": "blue_green"}, 422, "shop has no blue_green releases in watcher.yaml (it has: canary, flag)"),
        ({"strategy": "blue_green", "share": 0}, 422, "shop has no blue_green releases in watcher.yaml"),
        ({"strategy": None}, 422, "shop has several kinds of release (canary, flag)"),
        ({"strategy": "canary"}, 422, "has no {previous}"),
        ({"strategy": "canary", "previous": "1.2.0"}, 422, "there is nothing to compare"),
        ({"service": "shoop"}, 404, "no service 'shoop'; it has: search, shop, shop-staging"),
        ({"exposed_at": "2027-01-15T07:00:00"}, 422, "exposed_at: '2027-01-15T07:00:00' has no time zone; write"),
        ({"exposed_at": "yesterday"}, 422, "exposed_at: expected a time such as"),
        ({"exposed_at": {"at": 1}}, 422, "exposed_at: expected a time such as"),
        ({"exposed_at": 10**400}, 422, "exposed_at: expected a time such as"),
        ({"exposed_at": NOW + 301}, 422, "exposed_at: lies in the future (here it is 2027-01-15T08:00:00Z); check"),
        ({"exposed_at": NOW - 30 * 86_400 - 1}, 422, "exposed_at: is more than 30 days ago"),
        ({"exposed_at": NOW + 301, "share": 0}, 422, "exposed_at: lies in the future"),
    ],
)
def test_what_is_wrong_is_named_with_the_fix_and_nothing_is_recorded(
    here: Here, changed: dict[str, Any], status: int, said: str
) -> None:
    answer = here.tell(**changed)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]
    assert said in answer.json()["error"]
    assert here.releases() == []
    assert not here.waits("1.2.0")


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "the body is not JSON"),
        (b"{", 400, "the body is not JSON"),
        (b'{"service": "\xff"}', 400, "the body is not JSON"),
        (b'{"version": "\\ud800"}', 400, "the body is not JSON"),
        (b'{"share": NaN}', 400, "the body is not JSON"),
        (b"[" * 60_000, 400, "the body is not JSON"),
        (b"[]", 422, "expected a JSON object with service, feature, version"),
        (b'"shop"', 422, "expected a JSON object"),
        (b"null", 422, "expected a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(here: Here, body: bytes, status: int, said: str) -> None:
    answer = here.client.post("/v1/releases", content=body, headers={**BEARER, "Content-Type": "application/json"})
    assert answer.status_code == status
    assert said in answer.json()["error"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", None])
def test_another_content_type_is_refused(here: Here, kind: str | None) -> None:
    sent = BEARER if kind is None else {**BEARER, "Content-Type": kind}
    answer = here.client.post("/v1/releases", content=json.dumps(RELEASE).encode(), headers=sent)
    assert (answer.status_code, here.releases()) == (415, [])
    assert "send Content-Type: application/json" in answer.json()["error"]


def test_a_content_type_may_name_its_charset(here: Here) -> None:
    sent = {**BEARER, "Content-Type": "Application/JSON; charset=utf-8"}
    body = json.dumps(RELEASE).encode()
    assert here.client.post("/v1/releases", content=body, headers=sent).status_code == 201


def test_a_body_of_64_kib_is_read_and_one_byte_more_is_not(here: Here) -> None:
    def post(size: int) -> int:
        body = json.dumps(RELEASE).encode().ljust(size)
        sent = {**BEARER, "Content-Type": "application/json"}
        return int(here.client.post("/v1/releases", content=body, headers=sent).status_code)

    assert post((64 << 10) + 1) == 413
    assert here.releases() == []
    assert post(64 << 10) == 201


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN}c",
        f"Bearer {TOKEN.upper()}",
        f"Basic {TOKEN}",
        TOKEN,
        f"Bearer {SECRET}",
        "Bearer töken",
    ],
)
def test_without_the_token_nobody_is_heard_or_told_what_is_wrong(here: Here, authorization: str | None) -> None:
    sent = {} if authorization is None else {"Authorization": authorization.encode()}
    for body in (json.dumps(RELEASE).encode(), b"{", json.dumps({"service": "shoop"}).encode()):
        answer = here.client.post("/v1/releases", content=body, headers=sent)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "http.tokens_file" in answer.json()["error"]
    assert here.releases() == []


def test_the_name_of_the_scheme_may_be_written_in_any_case(here: Here) -> None:
    sent = {"Authorization": f"bearer {TOKEN}"}
    assert here.client.post("/v1/releases", json=RELEASE, headers=sent).status_code == 201


def test_a_new_token_holds_at_once(here: Here) -> None:
    (here.folder / "token").write_text(f"# of the pipeline\n\n{entry('ci', ['releases'], f'{TOKEN}-new')}\n")
    assert here.tell().status_code == 401
    assert here.client.post("/v1/releases", json=RELEASE, headers={"Authorization": f"Bearer {TOKEN}-new"}).is_success


def test_a_token_that_may_only_pause_tells_of_no_release_and_is_told_what_would(here: Here) -> None:
    (here.folder / "token").write_text(entry("on-call", ["pause"], TOKEN))
    answer = here.tell()
    assert answer.status_code == 403
    assert answer.json()["error"].startswith("the token on-call may not do this (releases); `watcher token new NAME")
    assert here.releases() == []


def test_what_the_file_holds_lets_nobody_in(here: Here) -> None:
    kept = (here.folder / "token").read_text().strip()
    assert TOKEN not in kept
    for part in (kept, kept.rpartition(":")[2], kept.split()[0]):
        sent = {"Authorization": f"Bearer {part}"}
        assert here.client.post("/v1/releases", json=RELEASE, headers=sent).status_code == 401


def pause(here: Here, at: str = "pause", token: str = f"{MARK}-oncall", **told: object) -> httpx2.Response:
    return here.client.post(f"/v1/{at}", json=told, headers={"Authorization": f"Bearer {token}"})


def test_a_pause_over_http_is_one_by_the_token_s_name_and_ends_by_itself_or_when_told(here: Here) -> None:
    lines = [entry("ci", ["releases"], TOKEN), entry("on-call", ["releases", "pause"], f"{MARK}-oncall")]
    (here.folder / "token").write_text("\n".join(lines))
    wanted = {"for": "1h", "reason": "a migration"}
    assert pause(here, token=TOKEN, **wanted).status_code == 403
    assert interlocks.paused(here.journal, NOW) is None
    answer = pause(here, **wanted)
    assert answer.status_code == 200
    found = interlocks.paused(here.journal, NOW)
    assert found is not None
    assert (found.by, found.reason, found.until) == ("on-call", "a migration", NOW + 3600)
    assert answer.json() == {"paused": str(found), "until": "2027-01-15T09:00:00Z"}
    assert pause(here, "resume").json() == {"resumed": True, "paused": None}
    assert interlocks.paused(here.journal, NOW) is None
    assert pause(here, "resume").json() == {"resumed": False, "paused": None}
    assert {line.detail["by"] for line in here.journal.audit_trail()} == {"on-call"}


def test_who_ends_a_pause_is_told_of_a_file_that_pauses_all_the_same(here: Here) -> None:
    (here.folder / "token").write_text(entry("on-call", ["pause"], f"{MARK}-oncall"))
    pause(here, **{"for": "1h", "reason": "a migration"})
    (here.folder / "watcher.pause").write_text(f"\x1b[2Jthe shop is being moved{'!' * 300}\nsecond line\n")
    told = pause(here, "resume").json()
    assert told["resumed"] is True
    assert "[2Jthe shop is being moved!!!" in told["paused"]
    assert told["paused"].isprintable()
    assert len(told["paused"].partition("watcher.pause: ")[2]) < 200


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"reason": "x"}, "for: is missing"),
        ({"for": "1h"}, "reason: is missing"),
        ({"for": "1h", "reason": " "}, "reason: expected 1 to 200 printable characters"),
        ({"for": "1h", "reason": "\x1b[2J"}, "reason: expected 1 to 200 printable characters"),
        ({"for": "1h", "reason": "x" * 201}, "reason: expected 1 to 200 printable characters"),
        ({"for": "soon", "reason": "x"}, "for: expected a duration"),
        ({"for": "0s", "reason": "x"}, "for: a pause must last: give a length such as 1h"),
        ({"for": "8d", "reason": "x"}, "for: a pause lasts 7 days at most: give 7d or less"),
        ({"for": "1h", "reason": "x", "until": 1}, "until: unknown key; there is: for, reason"),
        ({"for": "1h", "reason": "x", "reasn": "x"}, "reasn: unknown key; did you mean `reason`?"),
        ({"for": "1h", "reason": "x", "length": "1h"}, "length: unknown key; there is: for, reason"),
    ],
)
def test_a_pause_that_is_none_is_refused_with_the_key_and_the_fix(
    here: Here, told: dict[str, object], said: str
) -> None:
    (here.folder / "token").write_text(entry("on-call", ["pause"], f"{MARK}-oncall"))
    answer = pause(here, **told)
    assert answer.status_code == 422
    assert said in answer.json()["error"]
    assert interlocks.paused(here.journal, NOW) is None


def test_where_only_one_kind_of_credentials_is_configured_the_other_never_passes(tmp_path: Path) -> None:
    for left, taken_out in (("token", ", github_secret_file: github"), ("github", ", tokens_file: token")):
        installation = installed(tmp_path, yaml=YAML.replace(taken_out, ""))
        with Journal.open(installation.journal) as journal:
            client = TestClient(application(installation, journal, lambda: NOW))
            here = Here(installation, journal, client, tmp_path)
            own, hook = here.tell(version=left), here.deliver(deployment_status(at=NOW))
        assert (own.status_code, hook.status_code) == ((201, 401) if left == "token" else (401, 202))


def test_a_secret_that_is_gone_lets_nobody_in_and_the_log_says_why(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    (here.folder / "token").unlink()
    answer = here.tell()
    assert answer.status_code == 503
    assert answer.json() == {"error": "credentials cannot be checked now; watcher's log says why"}
    assert (
        f"{here.folder}/token: cannot be read (No such file or directory): `watcher token new NAME` makes it"
        in caplog.text
    )


def test_a_journal_that_cannot_be_read_is_503_and_the_log_says_why(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(sqlite3.connect(here.folder / "watcher.db")) as connection:
        connection.execute("ALTER TABLE releases RENAME TO lost")
        connection.execute("ALTER TABLE memory RENAME TO forgotten")
    for answer in (here.tell(), here.tell(share=0), here.deliver(deployment_status(at=NOW))):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "10")
        assert "nothing was recorded: send it again later" in answer.json()["error"]
        assert "watcher.db" not in answer.text
    assert "no such table" in caplog.text


def test_every_release_that_was_told_is_one_line_of_the_log(here: Here, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "watcher")
    here.tell()
    here.tell()
    here.tell(version="1.3.0", share=0)
    here.tell(version=None)
    here.client.post("/v1/releases", json=RELEASE)
    assert [each.getMessage() for each in caplog.records if each.name == "watcher"] == [
        f"POST /v1/releases: {NAME}",
        f"POST /v1/releases: {NAME} (known already)",
        "POST /v1/releases: shop/production/new-checkout@1.3.0 waits for exposure",
    ]


# --- deployments as GitHub tells them -------------------------------------------------------------------------------


def test_a_successful_deployment_is_no_release_and_waits_for_exposure(
    here: Here, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "watcher")
    for _ in range(2):
        answer = here.deliver(deployment_status(at=NOW - 30))
        assert answer.status_code == 202
        assert answer.json() == {"deployments": ["shop/production/shop@v1.2.0"], "waiting_for": "exposure"}
    assert here.releases() == []
    assert here.waits("v1.2.0", feature="shop")
    lines = [each.getMessage() for each in caplog.records if each.name == "watcher"]
    assert lines[0] == "GitHub deployment: shop/production/shop@v1.2.0 waits for exposure"
    assert lines[1:] == [f"{lines[0]} (known already)"]


@pytest.mark.parametrize(
    ("ref", "payload", "version"),
    [
        ("v1.2.0", None, "v1.2.0"),
        ("refs/tags/v1.2.0", None, "v1.2.0"),
        ("v1.2.0", {"version": "1.2.0", "build": 7}, "1.2.0"),
        (SHA, {"version": None}, SHA[:12]),
        (SHA, "", SHA[:12]),
        # A branch moves on: its name would be the version of everything that is ever deployed from it.
        ("main", None, SHA[:12]),
        ("refs/heads/release", None, SHA[:12]),
    ],
)
def test_the_version_is_the_one_named_or_the_tag_or_the_commit(
    here: Here, ref: str, payload: Any, version: str
) -> None:
    answer = here.deliver(deployment_status(ref=ref, payload=payload, at=NOW))
    assert answer.json()["deployments"] == [f"shop/production/shop@{version}"]


@pytest.mark.parametrize(
    ("repository", "environment", "deployed"),
    [
        ("acme/shop", "staging", "shop-staging/staging/shop-staging@v1.2.0"),
        ("ACME/Shop", "Production", "shop/production/shop@v1.2.0"),
        ("acme/monorepo", "production", "search/production/ranking@v1.2.0"),
    ],
)
def test_the_service_is_found_by_repository_and_environment(
    here: Here, repository: str, environment: str, deployed: str
) -> None:
    answer = here.deliver(deployment_status(repository=repository, environment=environment, at=NOW))
    assert (answer.status_code, answer.json()["deployments"]) == (202, [deployed])


def test_a_repository_of_several_services_deploys_all_of_them(tmp_path: Path) -> None:
    installation = installed(tmp_path, yaml=YAML.replace("environment: staging", "environment: production"))
    with Journal.open(installation.journal) as journal:
        here = Here(installation, journal, TestClient(application(installation, journal, lambda: NOW)), tmp_path)
        deployed = here.deliver(deployment_status(at=NOW)).json()["deployments"]
    assert deployed == ["shop/production/shop@v1.2.0", "shop-staging/production/shop-staging@v1.2.0"]


def test_a_status_may_change_the_environment_of_its_deployment(here: Here) -> None:
    event = deployment_status(environment="staging", at=NOW)
    event["deployment"]["environment"] = "production"
    assert here.deliver(event).json()["deployments"] == ["shop-staging/staging/shop-staging@v1.2.0"]


@pytest.mark.parametrize("state", ["pending", "queued", "in_progress", "failure", "error", "inactive", "waiting"])
def test_a_deployment_that_did_not_succeed_is_ignored_with_the_reason(here: Here, state: str) -> None:
    answer = here.deliver(deployment_status(state, at=NOW))
    assert answer.status_code == 200
    assert answer.json() == {"ignored": f"the state of the deployment is '{state}', not 'success'"}
    assert not here.waits("v1.2.0", feature="shop")


def test_a_deployment_to_where_nobody_watches_is_ignored_with_the_reason(here: Here) -> None:
    answer = here.deliver(deployment_status(environment="preview", at=NOW))
    assert answer.status_code == 200
    assert answer.json()["ignored"] == "'acme/shop' was deployed to 'preview'; watched there is: production, staging"


def test_a_ping_is_answered_and_other_events_are_ignored(here: Here) -> None:
    ping = here.deliver({"zen": "Keep it logically awesome.", "hook_id": 1}, "ping")
    push = here.deliver({"ref": "refs/heads/main"}, "push")
    assert (ping.status_code, ping.json()) == (200, {"ignored": "a ping"})
    assert (push.status_code, push.json()) == (200, {"ignored": "'push' is no event of a deployment's status"})


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        (lambda event: event.pop("deployment"), 422, "deployment: is missing"),
        (lambda event: event.update(deployment=[]), 422, "deployment: expected an object"),
        (lambda event: event["deployment"].update(ref=None), 422, "deployment.ref: expected text, in quotes"),
        (lambda event: event["deployment"].update(ref="a\nb"), 422, "deployment.ref: expected 1 to 200 printable"),
        (lambda event: event["deployment"].update(payload={"version": 1.2}), 422, "deployment.payload.version"),
        (lambda event: event["deployment_status"].update(created_at="2027-01-15T08:00:00"), 422, "has no time zone"),
        (lambda event: event["deployment_status"].update(created_at=NOW + 3600), 422, "lies in the future"),
        (lambda event: event["deployment_status"].update(created_at="2026-11-20T10:00:00Z"), 422, "30 days ago"),
        (lambda event: event["repository"].update(full_name="acme/blog"), 404, "search, shop, shop-staging"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused(
    here: Here, change: Callable[[dict[str, Any]], object], status: int, said: str
) -> None:
    event = deployment_status(at=NOW)
    change(event)
    answer = here.deliver(event)
    assert answer.status_code == status
    assert said in answer.json()["error"]


def test_the_form_that_github_also_offers_is_refused_with_the_fix(here: Here) -> None:
    answer = here.deliver(b"payload=%7B%7D", **{"Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_the_signature_is_the_one_of_github_s_own_example(here: Here) -> None:
    plant(here.folder / "github", made_by_others("It's a Secret to Everybody"))
    right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    def post(body: bytes) -> int:
        sent = {"X-GitHub-Event": "push", "X-Hub-Signature-256": right, "Content-Type": "application/json"}
        return int(here.client.post("/v1/releases", content=body, headers=sent).status_code)

    assert post(b"Hello, World!") == 400  # it passes, and is no JSON
    assert post(b"Hello, World?") == 401


RIGHT = signed("deployment_status", deployment_status(at=NOW), SECRET)[1]["X-Hub-Signature-256"]


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        RIGHT[:-1],
        RIGHT + "0",
        RIGHT.removeprefix("sha256="),
        RIGHT.replace("sha256=", "sha1="),
        RIGHT.upper(),
        f"{RIGHT}, {RIGHT}",
        "sha256=" + "0" * 64,
        "sha256=" + "ü" * 64,
        SECRET,
    ],
)
def test_a_signature_that_is_not_the_one_of_the_body_is_401(here: Here, signature: str) -> None:
    event = deployment_status(at=NOW)
    assert here.deliver(event, **{"X-Hub-Signature-256": signature.encode()}).status_code == 401  # type: ignore[arg-type]
    assert not here.waits("v1.2.0", feature="shop")
    assert here.deliver(event).status_code == 202


def test_a_webhook_with_another_secret_or_the_token_is_401(here: Here) -> None:
    event = deployment_status(at=NOW)
    assert here.deliver(event, secret=TOKEN).status_code == 401
    assert here.deliver(event, secret="", Authorization=f"Bearer {TOKEN}").status_code == 401
    body, sent = signed("ping", {}, SECRET)
    assert here.client.post("/v1/releases", content=body + b" ", headers=sent).status_code == 401


# --- the rest of the address space ----------------------------------------------------------------------------------


def test_health_is_ok_for_everybody(here: Here) -> None:
    answer = here.client.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/favicon.ico", 404),
        ("GET", "/v1/releases/", 404),
        ("GET", "/releases/shop/production/none@1", 404),
        ("POST", "/v1/release", 404),
        ("POST", "/", 405),
        ("DELETE", "/v1/releases", 405),
        ("POST", "/healthz", 405),
    ],
)
def test_what_is_not_there_is_said_in_json(here: Here, method: str, path: str, status: int) -> None:
    answer = here.client.request(method, path, headers=BEARER, follow_redirects=False)
    assert answer.status_code == status
    assert list(answer.json()) == ["error"]


# --- whatever comes -------------------------------------------------------------------------------------------------


def asked(app: ASGIApp, headers: list[tuple[bytes, bytes]], parts: list[bytes]) -> tuple[int, bytes]:
    """Send a request byte by byte as given, past any client that would put it right."""
    parts = parts or [b""]
    coming: list[Message] = [
        {"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/releases", "query_string": b"", "headers": headers}
    asyncio.run(app({**scope, "http_version": "1.1", "scheme": "http", "client": None, "server": None}, receive, send))
    return int(sent[0]["status"]), b"".join(each.get("body", b"") for each in sent[1:])


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ASGIApp, Journal]]:
    installation = installed(tmp_path_factory.mktemp("fuzzed"))
    with Journal.open(installation.journal) as journal:
        yield application(installation, journal, lambda: NOW), journal


HEADER = st.sampled_from(
    [b"authorization", b"x-github-event", b"x-hub-signature-256", b"content-type", b"content-length", b"x-a"]
)
VALUE = st.one_of(
    st.binary(max_size=80),
    st.sampled_from(
        [
            b"application/json",
            b"deployment_status",
            b"ping",
            b"Bearer ",
            b"Basic dG9r",
            b"sha256=\xff\xfe",
            RIGHT.encode(),
            b"9" * 5000,
        ]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=12,
)
KEYED = st.dictionaries(
    st.sampled_from([*RELEASE, "share", "exposed_at", "previous", "reversible", "shaer"]), JSON, max_size=8
).map(lambda changed: {**RELEASE, **changed})
BODY = st.one_of(st.binary(max_size=200), (JSON | KEYED).map(lambda raw: json.dumps(raw).encode()))


@given(st.lists(st.tuples(HEADER, VALUE), max_size=6), st.lists(BODY, max_size=3))
@settings(max_examples=300)
def test_whatever_comes_without_credentials_is_refused_and_nothing_breaks(
    fuzzed: tuple[ASGIApp, Journal], headers: list[tuple[bytes, bytes]], parts: list[bytes]
) -> None:
    app, journal = fuzzed
    before = len(journal.watches())
    status, body = asked(app, headers, parts)
    assert status == 401
    assert list(json.loads(body)) == ["error"]
    assert TOKEN.encode() not in body
    assert SECRET.encode() not in body
    assert len(journal.watches()) == before


@given(BODY, st.sampled_from([b"application/json", b"application/json;", b"text/plain"]))
@settings(max_examples=300)
def test_whatever_comes_with_the_token_is_taken_or_refused_and_nothing_breaks(
    fuzzed: tuple[ASGIApp, Journal], body: bytes, kind: bytes
) -> None:
    sent = [(b"authorization", f"Bearer {TOKEN}".encode()), (b"content-type", kind)]
    status, answer = asked(fuzzed[0], sent, [body])
    assert status in (200, 201, 202, 400, 404, 415, 422)
    assert isinstance(json.loads(answer), dict)


PARTS = st.sampled_from(["deployment_status", "deployment", "repository"])
KEYS = st.sampled_from(
    ["state", "environment", "created_at", "ref", "sha", "payload", "full_name", "default_branch", "version"]
)


@given(st.lists(st.tuples(PARTS, KEYS, JSON), max_size=4), st.sampled_from(["deployment_status", "ping", "", "push"]))
@settings(max_examples=300)
def test_whatever_github_signs_is_taken_or_refused_and_nothing_breaks(
    fuzzed: tuple[ASGIApp, Journal], changes: list[tuple[str, str, Any]], event: str
) -> None:
    content = deployment_status(at=NOW)
    for part, key, value in changes:
        content[part][key] = value
    body, sent = signed(event, content, SECRET)
    headers = [(key.lower().encode(), value.encode()) for key, value in sent.items()]
    status, answer = asked(fuzzed[0], headers, [body[:100], body[100:]])
    assert status in (200, 202, 400, 404, 422)
    assert isinstance(json.loads(answer), dict)


# --- over a real socket ---------------------------------------------------------------------------------------------


@dataclass
class Listening:
    """A server on a port of its own."""

    port: int
    journal: Journal

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@contextmanager
def started(folder: Path) -> Iterator[Listening]:
    installation = installed(folder, free_port())
    assert installation.http is not None
    with Journal.open(installation.journal) as journal, serving(installation, journal, lambda: NOW):
        yield Listening(installation.http.port, journal)


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    with started(tmp_path) as server:
        yield server


HEAD = (
    f"POST /v1/releases HTTP/1.1\r\nHost: watcher\r\nAuthorization: Bearer {TOKEN}\r\n"
    "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
).encode()
CHUNK = b"1000\r\n" + b" " * 4096 + b"\r\n"


def answered(connection: socket.socket) -> bytes:
    """Read until the server hangs up."""
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def test_a_release_is_told_over_a_real_socket(listening: Listening) -> None:
    answer = requests.post(f"{listening.url}/v1/releases", json=RELEASE, headers=BEARER, timeout=10)
    assert (answer.status_code, answer.json()) == (201, {"release": NAME})
    assert "server" not in answer.headers
    assert requests.get(f"{listening.url}/healthz", timeout=10).text == "ok"
    [watched] = listening.journal.watches()
    assert watched.noticed_by == "POST /v1/releases"


def test_an_endless_body_is_not_read_to_its_end(listening: Listening) -> None:
    with listening.connect() as connection:
        connection.sendall(HEAD)
        sent = 0
        try:
            for _ in range(25_000):  # 100 MB, of which sockets and buffers take some before anybody reads
                connection.sendall(CHUNK)
                sent += 4096
        except OSError:
            pass
        assert sent < 20 << 20
    with listening.connect() as connection:
        connection.sendall(HEAD + 16 * CHUNK + b"1\r\n \r\n")
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"connection: close" in answer.lower()
    assert b'{"error":"the body is larger than 64 KiB"}' in answer


def test_a_body_that_does_not_come_is_not_waited_for(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "PATIENCE", 0.3)
    with listening.connect() as connection:
        connection.sendall(HEAD + b"1\r\n{\r\n")
        answer = answered(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"the body did not come within 0.3 s" in answer


def test_clients_that_go_or_send_anything_but_http_disturb_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with started(tmp_path) as listening:
        for half in (HEAD + b"1\r\n{", HEAD, b"\x16\x03\x01\x02\x00\x01", b"GET\r\n\r\n", HEAD + b"zzz\r\n"):
            with listening.connect() as connection:
                connection.sendall(half)
                time.sleep(0.05)
        with listening.connect() as connection:
            connection.sendall(f"POST /v1/releases {TOKEN}\r\n\r\n".encode())
            assert answered(connection).startswith(b"HTTP/1.1 400 ")
        assert requests.get(f"{listening.url}/healthz", timeout=10).text == "ok"
    assert [each for each in caplog.records if each.levelno > logging.INFO] == []


def test_a_mistake_of_watcher_itself_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise KeyError(TOKEN)

    monkeypatch.setattr(intake, "told", broken)
    with started(tmp_path) as listening:
        answer = requests.post(f"{listening.url}/v1/releases", json=RELEASE, headers=BEARER, timeout=10)
    assert (answer.status_code, answer.json()) == (500, {"error": "watcher made a mistake; its log says where"})
    [record] = [each for each in caplog.records if each.levelno > logging.INFO]
    assert "unexpected KeyError in test_server.py" in record.getMessage()
    assert TOKEN not in caplog.text
    assert "Traceback" not in caplog.text


def test_more_clients_than_the_daemon_can_spare_files_for_are_sent_away(listening: Listening) -> None:
    crowd = [listening.connect() for _ in range(100)]
    try:
        assert requests.get(f"{listening.url}/healthz", timeout=10).status_code == 503
    finally:
        for connection in crowd:
            connection.close()
    assert eventually(lambda: requests.get(f"{listening.url}/healthz", timeout=10).status_code == 200)


def eventually(holds: Callable[[], bool]) -> bool:
    return any(holds() or time.sleep(0.05) for _ in range(1200))


def test_a_release_that_many_tell_at_once_is_new_once(listening: Listening) -> None:
    together = threading.Barrier(8)

    def tell(_: int) -> int:
        together.wait()
        return requests.post(f"{listening.url}/v1/releases", json=RELEASE, headers=BEARER, timeout=30).status_code

    with ThreadPoolExecutor(8) as clients:
        assert sorted(clients.map(tell, range(8))) == [200] * 7 + [201]
    assert len(listening.journal.watches()) == 1


def test_a_port_that_is_taken_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        installation = installed(tmp_path, port)
        with Journal.open(installation.journal) as journal, pytest.raises(ConfigError) as caught:
            serving(installation, journal).__enter__()
    assert str(caught.value).startswith(f"http.listen: 127.0.0.1:{port} is in use: stop what listens there")


@pytest.mark.parametrize("host", ["192.0.2.7", "nowhere.invalid", "[2001:db8::7]"])
def test_an_address_of_another_machine_is_said(tmp_path: Path, host: str) -> None:
    installation = installed(tmp_path, yaml=YAML.replace("127.0.0.1:{port}", host + ":{port}"))
    with Journal.open(installation.journal) as journal, pytest.raises(ConfigError) as caught:
        serving(installation, journal).__enter__()
    assert f"http.listen: {host}:8080 cannot be listened on (" in str(caught.value)


def test_a_secret_that_cannot_be_read_is_said_before_anything_starts(tmp_path: Path) -> None:
    installation = installed(tmp_path, free_port())
    (tmp_path / "github").unlink()
    with Journal.open(installation.journal) as journal, pytest.raises(ConfigError, match=r"github: the secret cannot"):
        serving(installation, journal).__enter__()


def test_the_end_waits_for_no_client_and_the_port_is_free_afterwards(tmp_path: Path) -> None:
    installation = installed(tmp_path, free_port())
    assert installation.http is not None
    address = ("127.0.0.1", installation.http.port)
    with Journal.open(installation.journal) as journal:
        with serving(installation, journal), requests.Session() as kept:
            kept.get(f"http://127.0.0.1:{address[1]}/healthz", timeout=10)
            slow, idle = socket.create_connection(address), socket.create_connection(address)
            slow.sendall(HEAD + CHUNK)
            time.sleep(0.1)
            began = time.monotonic()
        assert time.monotonic() - began < 2
        assert [each for each in threading.enumerate() if each.name == "http"] == []
        slow.close()
        idle.close()
        with serving(installation, journal):
            assert requests.get(f"http://127.0.0.1:{address[1]}/healthz", timeout=10).text == "ok"


def test_who_goes_without_http_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "watcher")
    without = "".join(line for line in YAML.splitlines(keepends=True) if not line.startswith("http:"))
    installation = installed(tmp_path, yaml=without)
    with Journal.open(installation.journal) as journal:
        with serving(installation, journal):
            pass
        assert "only `watcher release start` tells of releases of shop, shop-staging" in caplog.text
        with pytest.raises(ConfigError, match="http: is missing"):
            application(installation, journal, lambda: NOW)

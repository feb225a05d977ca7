"""A secret is planted wherever watcher takes one, and every server quotes what it was sent: nobody ever reads one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from tests.loopback import Loopback, answer
from tests.planted import MARK, plant
from tests.servers.postgres_server import fresh_database
from tests.servers.shop import free_port, stop_process
from watcher.alerts import alerter
from watcher.cli import cli
from watcher.config import Metrics
from watcher.errors import AlertError, SourceError
from watcher.journal import Journal
from watcher.model import Alert
from watcher.secrets import redacted
from watcher.sources.prometheus_http import PrometheusHTTP
from watcher.tokens import entry

PLANTED = {
    "bearer": f"{MARK}-bearer-9f1/c0+de=",
    "header_file": f"{MARK}-header-file-77b3",
    "header_variable": f"{MARK}-header-variable-0d1a",
    "slack": f"xoxb-{MARK}-slack-5a5a",
    "http": f"{MARK}-http-token-41cc",
    "github": f"{MARK}-github-secret-b00b",
    "signing": f"{MARK}-webhook-signing-3e3e",
    "webhook_file": f"{MARK}-webhook-header-8c2d",
    "webhook_variable": f"{MARK}-webhook-variable-6f60",
    "unleash": f"{MARK}:unleash.token-1b1b",
    "ping": f"{MARK}-ping-path-c4c4",
    "journal": f"{MARK}-journal-password-2d2d",
}
SENT = ("bearer", "header_file", "header_variable", "slack", "webhook_file", "webhook_variable", "unleash")
"""What goes out and is quoted at once; the rest is compared or signed with here, or is sent only when all is well."""

CONFIG = """\
journal: {journal}
metrics:
  prometheus: "{metrics}"
  bearer_file: secrets/bearer
  headers: {{X-Api-Key_file: secrets/header_file, X-Other-Key: "${{HEADER_VARIABLE}}"}}
block: 1s
settle: 0s
slack: {{token_file: secrets/slack, channel: "#releases", base_url: "{slack}/api/"}}
http: {{listen: "127.0.0.1:{port}", tokens_file: secrets/http, github_secret_file: secrets/github}}
ping: {{url_file: secrets/ping}}
services:
  shop:
    rules: [rules.yaml]
    releases:
      - strategy: flag
        notice: {{flags_file: flags.yaml, features: [new-checkout]}}
        kill:
          webhook:
            url: "{switch}/off/{{feature}}"
            read: "{switch}/flags/{{feature}}"
            secret_file: secrets/signing
            headers: {{X-Token_file: secrets/webhook_file, X-Key: "${{WEBHOOK_VARIABLE}}"}}
      - strategy: canary
        notice: {{switch: true, features: [search]}}
        kill: {{unleash: {{url: "{switch}", environment: production, token_file: secrets/unleash}}}}
"""
PACK = "pack: shop\nrules: [{name: errors, kind: ratio, bad: errors_total, total: requests_total, critical: true}]\n"
FLAGS = "features:\n  new-checkout: {enabled: false, rollout_percentage: 0}\n"
NOTHING = {"status": "success", "data": {"resultType": "vector", "result": []}}


class Quoting(Loopback):
    """Answers with an error that quotes the request: its path, its headers and its body. Slack's is `invalid_auth`.

    `well` is what it answers instead to a question whose body holds that text, so that a ping comes about.
    """

    def __init__(self, status: int, slack: bool = False, well: bytes = b"nothing holds this") -> None:
        super().__init__()
        self._status, self._slack, self._well = status, slack, well
        self.heard = ""

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        said = f"you sent {request.path} {dict(request.headers)} {body.decode('utf-8', 'replace')}"
        self.heard += said
        error = {"errorType": "internal", "error": said}
        found: dict[str, Any] = {"ok": False, "error": f"invalid_auth {said}"} if self._slack else error
        well = self._well in body
        answer(request, 200 if well else self._status, json.dumps(NOTHING if well else found).encode())


@dataclass
class Here:
    """`watcher run` with everything around it quoting secrets; `read` is all that people could ever read of it."""

    folder: Path
    journal: str
    process: subprocess.Popen[bytes]
    address: str
    servers: tuple[Quoting, ...]
    read: dict[str, str] = field(default_factory=dict)

    @property
    def said(self) -> str:
        return (self.folder / "stderr").read_text() + (self.folder / "stdout").read_text()

    @property
    def heard(self) -> str:
        return "".join(server.heard for server in self.servers)

    def until(self, happened: Callable[[], bool], what: str) -> None:
        for _ in range(2400):
            if happened():
                return
            assert self.process.poll() is None, self.said
            time.sleep(0.1)
        raise AssertionError(f"not within a minute: {what}\n{self.said[-6000:]}")

    def ask(self, method: str, path: str, **more: Any) -> None:
        found = requests.request(method, self.address + path, timeout=60, **more)
        self.read[f"{method} {path}, question {len(self.read)}"] = f"{found.status_code} {found.headers} {found.text}"

    def kept(self) -> str:
        """Return all that the journal holds, as it lies on the disk or in its tables."""
        if self.journal.startswith("sqlite"):
            return "".join(path.read_bytes().decode("latin-1") for path in sorted(self.folder.glob("watcher.db*")))
        with Journal.open(self.journal) as journal, journal._reading() as connection:
            names = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
            return "".join(str(connection.exec_driver_sql(f"SELECT * FROM {name}").all()) for name in names.all())


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def here(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Here]:
    sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/watcher.db" if sqlite else fresh_database(request.getfixturevalue("postgres"))
    with ExitStack() as stack:
        made = (Quoting(500, well=b"vector"), Quoting(200, slack=True), Quoting(401), Quoting(503))
        metrics, slack, switch, pinged = (stack.enter_context(each) for each in made)
        (tmp_path / "secrets").mkdir()
        for name, text in PLANTED.items():
            plant(tmp_path / "secrets" / name, f"{pinged.url}/{text}\n" if name == "ping" else f"{text}\n")
        (tmp_path / "secrets" / "http").write_text(entry("ci", ["releases"], PLANTED["http"]))
        port = free_port()
        (tmp_path / "rules.yaml").write_text(PACK)
        (tmp_path / "flags.yaml").write_text(FLAGS)
        config = tmp_path / "watcher.yaml"
        addresses = {"metrics": metrics.url, "slack": slack.url, "switch": switch.url}
        config.write_text(CONFIG.format(journal=url, port=port, **addresses))
        environment = os.environ | {
            "HEADER_VARIABLE": PLANTED["header_variable"],
            "WEBHOOK_VARIABLE": PLANTED["webhook_variable"],
            "PGPASSWORD": PLANTED["journal"],
            "WATCHER_DEBUG": "1",
            "WATCHER_RUN_LOG_FORMAT": "json" if sqlite else "text",
        }
        with (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
            command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
            process = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
        stack.callback(stop_process, process)
        yield Here(tmp_path, url, process, f"http://127.0.0.1:{port}", made)


def go_through_everything(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every secret be sent and quoted, and read whatever there is to read."""
    here.until(lambda: "the ping was not taken" in here.said, "a ping")
    (here.folder / "flags.yaml").write_text(FLAGS.replace("false", "true").replace("0}", "50}"))
    here.until(lambda: all(PLANTED[name] in here.heard for name in SENT), "everything was sent")
    bearer = {"Authorization": f"Bearer {PLANTED['http']}"}
    for path in ("/metrics", "/readyz", "/healthz", "/v1/releases", "/"):
        here.ask("GET", path, headers=bearer)
    here.ask("POST", "/v1/releases", headers=bearer, json={"service": "shop", "feature": PLANTED["http"]})
    here.ask("POST", "/v1/releases", headers={"Authorization": f"Bearer {PLANTED['http']}x"}, json={})
    signed = {"X-GitHub-Event": "deployment_status", "X-Hub-Signature-256": "sha256=00"}
    here.ask("POST", "/v1/releases", headers=signed, data="{}")
    with Journal.open(here.journal) as journal:
        here.until(lambda: any(each.error for each in journal.actions()), "an alert that was refused")
        [release] = [each.watch.release.id for each in journal.watches()]
        quoted = "a look that quotes what the metrics server said"
        here.until(lambda: any("you sent" in str(look.problem) for look in journal.looks(release)), quoted)
    here.read["journal"] = here.kept()
    here.read["said"] = here.said
    for name in ("HEADER_VARIABLE", "WEBHOOK_VARIABLE"):
        monkeypatch.setenv(name, PLANTED[name.lower()])
    commands = (
        ["status"], ["history"], ["history", "--actions"], ["release", "list"], ["release", "show", release],
        ["flags", "list"], ["preflight", release], ["preflight", release, "--format", "json"], ["doctor"],
    )  # fmt: skip
    for command in commands:
        found = CliRunner().invoke(cli, [*command, "--config", str(here.folder / "watcher.yaml")])
        here.read[" ".join(command)] = f"{found.output} {found.exception}"


def test_no_secret_is_ever_read_by_anybody(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    go_through_everything(here, monkeypatch)
    assert [(what, name) for what, text in here.read.items() for name in PLANTED if PLANTED[name] in text] == []
    # What libraries say was in the log, and so were the answers that quote.
    assert "urllib3" in here.read["said"] or "Starting new HTTP connection" in here.read["said"]
    assert "you sent" in here.read["said"]
    assert "you sent" in here.read["journal"]


def test_basic_authentication_is_not_read_either(tmp_path: Path) -> None:
    plant(tmp_path / "password", f"{MARK}-password-f00d")
    sent = b64encode(f"ali:{MARK}-password-f00d".encode()).decode()
    metrics = Metrics("http://127.0.0.1:9", username="ali", password_file=tmp_path / "password")
    with Quoting(500) as server:
        with pytest.raises(SourceError) as error:
            PrometheusHTTP(server.url, auth=metrics.basic_auth()).instant("up", 0.0)
        assert f"Basic {sent}" in server.heard
    assert sent not in str(error.value)
    assert sent not in redacted(server.heard)


def test_the_address_of_a_webhook_of_slack_is_not_read_either() -> None:
    with Quoting(500) as server:
        hook = alerter("slack", webhook_url=f"{server.url}/services/T0/B0/{MARK}-hook-d1d1")
        with pytest.raises(AlertError) as error:
            hook.deliver(Alert("k", "shop/production/cart@2", "headline", "healthy", "Healthy: cart 2"), None)
        assert f"{MARK}-hook-d1d1" in server.heard
    assert MARK not in str(error.value)

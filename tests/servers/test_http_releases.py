"""The daemon as a process, told of releases over its socket while it watches others."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.alerts.slack_server import SlackServer
from tests.github import deployment_status, signed
from tests.planted import MARK, plant
from tests.servers.installation import CONFIG, Daemon, Installation, write_configuration
from tests.servers.prometheus_server import PrometheusServer
from tests.servers.shop import free_port
from watcher.config import load_installation
from watcher.tokens import entry

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("idle")]

TOKEN, SECRET = f"{MARK}-81c0", f"{MARK}-5d2f"
NOTICE = "{{flags_file: feature-flags.yaml, features: [new-checkout]}}"
TOLD = {"service": "shop", "feature": "new-checkout", "version": "1.2.0", "share": 0.05}


@pytest.fixture
def here(tmp_path: Path, prometheus: PrometheusServer) -> Iterator[Installation]:
    """An installation that listens, and whose metrics are empty."""
    assert NOTICE in CONFIG
    listens = f'http: {{{{listen: "127.0.0.1:{free_port()}", tokens_file: token, github_secret_file: github}}}}\n'
    (tmp_path / "token").write_text(entry("ci", ["releases"], TOKEN))
    plant(tmp_path / "github", SECRET)
    with SlackServer("#releases") as slack:
        config = write_configuration(
            tmp_path, prometheus.url, slack, listens + CONFIG.replace(NOTICE, "{{http: true}}")
        )
        daemon = Daemon(config)
        try:
            yield Installation(tmp_path, config, slack, daemon)
        finally:
            daemon.stop()


def address(here: Installation) -> tuple[str, int]:
    settings = load_installation(here.config).http
    assert settings is not None
    return settings.host, settings.port


def url(here: Installation) -> str:
    return "http://{}:{}/v1/releases".format(*address(here))


def run(here: Installation) -> subprocess.CompletedProcess[str]:
    """Run a daemon that is expected to end by itself."""
    command = [sys.executable, "-m", "watcher", "run", "--config", str(here.config)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


def test_a_release_told_over_http_is_taken_up_by_the_running_daemon(here: Installation) -> None:
    here.daemon.start()
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(url(here), json=TOLD, headers={"Authorization": "Bearer no"}, timeout=240).status_code == 401
    body, sent = signed("deployment_status", deployment_status(at=time.time()), SECRET)
    assert requests.post(url(here), data=body, headers=sent, timeout=240).status_code == 202
    with here.journal() as journal:
        assert journal.watches() == []

    first = requests.post(url(here), json=TOLD, headers=allowed, timeout=240)
    assert (first.status_code, first.json()) == (201, {"release": "shop/production/new-checkout@1.2.0"})
    here.eventually(here.is_watched, "the daemon took the release up")
    [message] = here.parents()
    assert "new-checkout 1.2.0 on shop/production" in message.shown
    assert requests.post(url(here), json=TOLD, headers=allowed, timeout=240).status_code == 200
    with here.journal() as journal:
        [watched] = journal.watches()
        assert watched.noticed_by == "POST /v1/releases"
        assert watched.watch.release.stages[0].share == 0.05
        assert journal.looks(watched.watch.release.id)

    command = [sys.executable, "-m", "watcher", "release", "start", "shop", "new-checkout", "--version", "1.3.0"]
    command += ["--share", "0%", "--config", str(here.config)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout.strip()
    assert said == "shop/production/new-checkout@1.3.0 waits for exposure"
    again = requests.post(url(here), json={**TOLD, "version": "1.3.0", "share": 0}, headers=allowed, timeout=240)
    assert (again.status_code, again.json()["waiting_for"]) == (202, "exposure")
    here.eventually(lambda: "1.3.0 waits for exposure (known already)" in here.daemon.talk, "both ways are one")
    assert not [line for line in here.daemon.talk.splitlines() if TOKEN in line or SECRET in line]


def test_sigterm_ends_the_daemon_whoever_is_connected(here: Installation) -> None:
    here.daemon.start()
    with requests.Session() as kept, socket.create_connection(address(here)) as slow:
        kept.post(url(here), timeout=240)
        slow.sendall(b"POST /v1/releases HTTP/1.1\r\nHost: watcher\r\nContent-Length: 9\r\n\r\n{")
        began = time.monotonic()
        here.daemon.stop()
        assert time.monotonic() - began < 8, "and not when it is made to end"
    assert "Traceback" not in here.daemon.talk
    here.daemon.start()
    assert requests.post(url(here), timeout=240).status_code == 401


def test_a_second_daemon_on_the_same_address_ends_at_once_and_the_first_goes_on(here: Installation) -> None:
    here.daemon.start()
    here.config.write_text(here.config.read_text().replace("sqlite:///watcher.db", "sqlite:///second.db"))
    second = run(here)
    host, port = address(here)
    assert second.returncode == 2
    assert f"watcher: http.listen: {host}:{port} is in use: stop what listens there" in second.stderr
    assert "watching shop" not in second.stderr
    here.daemon.check()
    assert requests.post(url(here), timeout=240).status_code == 401


def test_the_running_daemon_tells_prometheus_of_itself_and_that_it_is_ready(here: Installation) -> None:
    here.daemon.start()
    at = "http://{}:{}".format(*address(here))
    assert requests.get(f"{at}/readyz", timeout=240).text == "ready"
    allowed = {"Authorization": f"Bearer {TOKEN}"}
    assert requests.post(url(here), json=TOLD, headers=allowed, timeout=240).status_code == 201
    here.eventually(here.is_watched, "the daemon took the release up")

    def told() -> dict[str, float]:
        lines = requests.get(f"{at}/metrics", timeout=240).text.splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}

    release = '{release="shop/production/new-checkout@1.2.0",service="shop"}'
    here.eventually(
        lambda: time.time() - told().get(f"watcher_last_success_timestamp_seconds{release}", 0.0) < 10,
        "a look succeeded",
    )
    seen = told()
    assert 0 <= time.time() - seen["watcher_last_step_timestamp_seconds"] < 10
    assert seen["watcher_look_duration_seconds_count"] >= 1
    assert seen['watcher_actions_total{kind="headline",state="done"}'] >= 1
    assert seen["watcher_watches"] == 1
    stop = [
        sys.executable,
        "-m",
        "watcher",
        "release",
        "stop",
        "shop/production/new-checkout@1.2.0",
        "--reason",
        "done",
    ]
    subprocess.run([*stop, "--config", str(here.config)], check=True, capture_output=True, timeout=240)
    here.eventually(lambda: not any(release in name for name in told()), "the series of the watch ended with it")

"""watcher as a service: what systemd is told, by a real process on a real socket, and the unit that asks for it."""

from __future__ import annotations

import configparser
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.loopback import Loopback
from tests.servers.conftest import require
from tests.servers.shop import stop_process
from tests.test_running import FLAGS, PACK, YAML
from watcher.notify import Unit

UNIT = Path(__file__).resolve().parents[1] / "packaging" / "watcher.service"


class Systemd:
    """The socket that systemd listens on; `said` are the lines that came, in order."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address[0] == "@" else address)
        self.said: list[str] = []

    def close(self) -> None:
        self._socket.close()

    def hear(self, seconds: float = 0.0) -> list[str]:
        """Return what came within so many seconds."""
        until, found = time.monotonic() + seconds, len(self.said)
        while True:
            self._socket.settimeout(max(until - time.monotonic(), 0.001))
            try:
                self.said += self._socket.recv(4096).decode().split("\n")
            except (TimeoutError, BlockingIOError):
                return self.said[found:]

    def until(self, happened: Callable[[list[str]], bool]) -> list[str]:
        """Return what came until something had happened, within a minute."""
        found: list[str] = []
        for _ in range(2400):
            found += self.hear(0.1)
            if happened(found):
                return found
        raise AssertionError(f"not within a minute: {found}")


def run(folder: Path, address: str, prometheus: str = "http://127.0.0.1:1") -> subprocess.Popen[bytes]:
    (folder / "watcher.yaml").write_text(YAML.replace("http://127.0.0.1:1", prometheus))
    (folder / "rules.yaml").write_text(PACK)
    (folder / "flags.yaml").write_text(FLAGS)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "watcher", "run", "--config", str(folder / "watcher.yaml")]
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | {"NOTIFY_SOCKET": address})


def test_systemd_hears_that_it_is_ready_alive_reloading_and_stopping(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with closing(Systemd(address)) as here:
        process = run(tmp_path, address)
        try:
            hear_a_life(here, process, tmp_path)
        finally:
            stop_process(process)


def hear_a_life(here: Systemd, process: subprocess.Popen[bytes], tmp_path: Path) -> None:
    assert here.until(lambda said: len(said) >= 3)[:3] == ["READY=1", "WATCHDOG=1", "STATUS=watching 0 releases"]
    assert here.until(lambda said: len(said) >= 2)[:2] == ["WATCHDOG=1", "STATUS=watching 0 releases"]
    process.send_signal(signal.SIGHUP)
    said = here.until(lambda said: "READY=1" in said)
    reloading = said.index("RELOADING=1")
    assert said[reloading + 1].startswith("MONOTONIC_USEC=")
    assert reloading < said.index("READY=1")
    (tmp_path / "watcher.yaml").write_text("journal: 7")
    process.send_signal(signal.SIGHUP)
    here.until(lambda said: "RELOADING=1" in said and "READY=1" in said[said.index("RELOADING=1") :])
    process.send_signal(signal.SIGTERM)
    assert here.until(lambda said: "STOPPING=1" in said)[-1] == "STATUS=ending"
    assert process.wait(20) == 0


class Hanging(Loopback):
    """A metrics server that takes questions, and answers none."""

    def handle(self, request: object, body: bytes) -> None:
        time.sleep(60)


def test_a_step_that_hangs_lets_the_watchdog_run_out(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with closing(Systemd(address)) as here, Hanging() as prometheus:
        process = run(tmp_path, address, prometheus.url)
        try:
            here.until(lambda said: said.count("WATCHDOG=1") >= 2)
            (tmp_path / "flags.yaml").write_text(FLAGS.replace("false", "true").replace("0}", "50}"))
            log = tmp_path / "log"
            here.until(lambda _: "noticed by" in log.read_text())
            here.hear(1.0)
            assert here.hear(3.0) == []
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_step_that_came_to_nothing_is_alive_and_not_ready(tmp_path: Path, kind: str) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@watcher-test-{os.getpid()}"
    with closing(Systemd(address)) as here:
        unit = Unit(address)
        unit.turned(False)
        assert here.hear() == ["WATCHDOG=1", "STATUS=the last step came to nothing; the log says why"]
        unit.turned(True)
        assert here.hear()[0] == "READY=1"


def test_without_systemd_or_with_one_that_is_gone_nothing_happens(tmp_path: Path) -> None:
    Unit(None).turned(True)
    Unit(str(tmp_path / "nobody")).turned(True)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit with the watcher of these tests in it, so that systemd finds what it runs."""
    path = tmp_path / "watcher.service"
    path.write_text(UNIT.read_text().replace("/opt/watcher/bin/watcher", "/bin/true"))
    return path


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    require(None if shutil.which("systemd-analyze") else "there is no systemd-analyze (Debian: apt install systemd)")
    return subprocess.run(["systemd-analyze", *arguments], check=False, capture_output=True, text=True, timeout=60)


def test_systemd_finds_nothing_wrong_with_the_unit(installed: Path) -> None:
    found = analyze("verify", "--man=no", "--recursive-errors=no", str(installed))
    assert (found.returncode, [line for line in found.stderr.splitlines() if "watcher.service" in line]) == (0, [])


def test_systemd_finds_little_that_the_unit_is_exposed_to(installed: Path) -> None:
    found = analyze("security", "--offline=true", "--threshold=20", "--no-pager", str(installed))
    assert found.returncode == 0, found.stdout


def test_the_unit_is_one_that_waits_for_readiness_restarts_what_hangs_and_keeps_secrets_to_itself() -> None:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    service = parser["Service"]
    assert (service["Type"], service["Restart"]) == ("notify", "on-failure")
    assert service["ExecStart"].endswith("watcher run --config /etc/watcher/watcher.yaml")
    assert service["ExecReload"].endswith("kill -HUP $MAINPID")
    assert service["WatchdogSec"] == "5min"
    assert service["LoadCredential"].startswith("secrets:")
    for hardening in ("NoNewPrivileges", "DynamicUser", "ProtectHome", "PrivateTmp"):
        assert service[hardening] == "yes"
    assert (service["ProtectSystem"], service["StateDirectory"]) == ("strict", "watcher")
    assert parser["Install"]["WantedBy"] == "multi-user.target"

"""A real Alertmanager for tests: on 127.0.0.1, with nobody to notify."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.servers.shop import free_port

CONFIG = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def missing() -> str | None:
    """Return why no server can be started, None when one can."""
    there = shutil.which("prometheus-alertmanager")
    return None if there else "prometheus-alertmanager is missing (Debian: apt install prometheus-alertmanager)"


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """Start a server, yield its URL, and stop it."""
    port = free_port()
    (directory / "alertmanager.yml").write_text(CONFIG)
    command = [
        "prometheus-alertmanager",
        f"--config.file={directory / 'alertmanager.yml'}",
        f"--storage.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    url = f"http://127.0.0.1:{port}"
    with (directory / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_until_ready(url, process, directory / "alertmanager.log")
            yield url
        finally:
            os.kill(process.pid, signal.SIGTERM)
            process.wait(10)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120.0
    while time.monotonic() < until and process.poll() is None:
        try:
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.05)
    raise AssertionError(f"Alertmanager did not start: {log.read_text()[-2000:]}")

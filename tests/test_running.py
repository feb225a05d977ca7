"""The daemon as a process: it reads watcher.yaml anew or not at all, tells beside its steps, and ends when told to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.shop import stop_process
from watcher.journal import Journal
from watcher.running import PATIENCE, _beside

YAML = """\
journal: sqlite:///watcher.db
metrics: {prometheus: "http://127.0.0.1:1"}
block: 1s
services:
  shop:
    rules: [rules.yaml]
    mode: observe
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        kill: {yaml_flags: flags.yaml}
"""
PACK = """\
pack: shop
rules:
  - {name: errors, kind: ratio, bad: errors_total, total: requests_total, critical: true}
"""
FLAGS = "features:\n  new-checkout: {enabled: false, rollout_percentage: 0}\n"


class Process:
    """`watcher run` on a folder of its own; `said` is its log so far."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "watcher.yaml"
        self.config.write_text(YAML)
        (folder / "rules.yaml").write_text(PACK)
        (folder / "flags.yaml").write_text(FLAGS)
        self._log = folder / "log"
        with self._log.open("wb") as log:
            command = [sys.executable, "-m", "watcher", "run", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.until(lambda: "watching shop" in self.said, "it started")

    @property
    def said(self) -> str:
        return self._log.read_text()

    def until(self, happened: Callable[[], bool], what: str) -> None:
        """Wait until something happened, for a minute."""
        for _ in range(2400):
            if happened():
                return
            assert self.process.poll() is None, f"it ended with {self.process.returncode}:\n{self.said}"
            time.sleep(0.05)
        raise AssertionError(f"{what}: not within a minute\n{self.said}")

    def reload(self, config: str) -> None:
        """Write watcher.yaml anew, and say so."""
        self.config.write_text(config)
        os.kill(self.process.pid, signal.SIGHUP)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    running = Process(tmp_path)
    yield running
    stop_process(running.process)


def test_watcher_yaml_is_read_anew_on_sighup_and_refused_whole_where_it_is_wrong(process: Process) -> None:
    process.reload(YAML.replace("mode: observe", "mode: amred").replace("shop:", "store:"))
    process.until(lambda: "its new version is refused" in process.said, "it was refused")
    assert "watcher.yaml:7: services.store.mode" in process.said
    assert "watching store" not in process.said
    process.reload(YAML.replace("shop:", "store:"))
    process.until(lambda: "watching store" in process.said, "it was taken")


def test_what_is_well_written_but_cannot_be_run_leaves_the_daemon_as_it_was(process: Process) -> None:
    (process.folder / "other.db").write_bytes(b"no database" * 1000)
    process.reload(YAML.replace("watcher.db", "other.db"))
    process.until(lambda: "its new version cannot be run" in process.said, "it was tried")
    process.until(lambda: process.said.count("watching shop") == 2, "it went on")
    assert "not a database" in process.said
    with Journal.open(f"sqlite:///{process.folder}/watcher.db") as journal:
        process.config.write_text(YAML)
        (process.folder / "flags.yaml").write_text(FLAGS.replace("false", "true").replace("0}", "50}"))
        process.until(lambda: len(journal.watches()) == 1, "it notices releases")


def test_sigterm_ends_the_daemon_with_0(process: Process) -> None:
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(20) == 0


def test_a_receiver_that_hangs_keeps_nobody_from_ending_nor_from_what_is_done_beside() -> None:
    hung, done = threading.Event(), []

    def hang(_: float) -> None:
        hung.set()
        time.sleep(30)

    began = time.monotonic()
    with _beside("telling", hang, time.time, 0.01, PATIENCE):
        assert hung.wait(10)
        done.append("a step")
    assert done == ["a step"]
    assert time.monotonic() - began < 25


def test_what_is_done_beside_goes_on_after_it_failed(caplog: pytest.LogCaptureFixture) -> None:
    times: list[float] = []
    twice = threading.Event()

    def fail(now: float) -> None:
        times.append(now)
        if len(times) == 2:
            twice.set()
        raise ZeroDivisionError("unexpected")

    with _beside("telling", fail, lambda: 7.0, 0.01, PATIENCE):
        assert twice.wait(10)
    assert times[:2] == [7.0, 7.0]
    assert "telling failed" in caplog.text

"""The daemon as a process whose wall clock is set while it runs: a real Prometheus says what time it is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers.prometheus_server import PrometheusServer
from tests.servers.shop import stop_process
from watcher.journal import Journal
from watcher.model import Look
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("idle")]

YAML = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{url}"}}
block: 1s
settle: 1s
services:
  shop:
    rules: [rules.yaml]
    warm_up: 0s
    releases: [{{strategy: flag, notice: {{flags_file: flags.yaml, features: [checkout]}}, history: 60s}}]
"""
PACK = "pack: shop\nrules: [{name: errors, kind: ratio, bad: errors_total, total: requests_total}]\n"
FLAGS = "features:\n  checkout: {enabled: false, rollout_percentage: 50}\n"
RUN = """
import logging, os, sys, time
from watcher.running import run
real, by = time.time, float(sys.argv[2])
time.time = lambda: real() + (by if os.path.exists("set") else 0.0)
logging.basicConfig(level=logging.INFO)
run(sys.argv[1])
"""


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def until(happened: Callable[[], bool]) -> None:
    for _ in range(2400):
        if happened():
            return
        time.sleep(0.1)
    raise AssertionError("not within a minute")


@pytest.fixture
def config(tmp_path: Path, prometheus: PrometheusServer) -> Path:
    (tmp_path / "rules.yaml").write_text(PACK)
    (tmp_path / "flags.yaml").write_text(FLAGS)
    made = tmp_path / "watcher.yaml"
    made.write_text(YAML.format(url=prometheus.url))
    return made


@pytest.fixture(params=[3600.0, -3600.0])
def said(request: pytest.FixtureRequest, config: Path) -> Iterator[Path]:
    """The log of a daemon whose wall clock is set by an hour once there is a file `set`."""
    path = config.with_name("log")
    with path.open("wb") as log:
        command = [sys.executable, "-c", RUN, str(config), str(request.param)]
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=config.parent, env=ENVIRONMENT)
    try:
        yield path
    finally:
        stop_process(process)


def test_a_wall_clock_that_is_set_wrong_is_told_and_looks_go_on_at_their_times(said: Path) -> None:
    def looks() -> list[Look]:
        with Journal.open(f"sqlite:///{said.parent}/watcher.db") as journal:
            return [look for each in journal.watches() for look in journal.looks(each.watch.release.id)]

    until(lambda: "watching shop" in said.read_text())
    (said.parent / "flags.yaml").write_text(FLAGS.replace("false", "true"))
    until(lambda: len(looks()) > 1)
    (said.parent / "set").touch()
    until(lambda: "; kept, as the metrics server says" in said.read_text())
    before = len(looks())
    until(lambda: len(looks()) > before + 3)
    assert all(abs(each.at - time.time()) < 300 for each in looks())


def test_prometheus_says_what_time_it_is(prometheus: PrometheusServer) -> None:
    assert abs(PrometheusSource(PrometheusHTTP(prometheus.url)).clock() - time.time()) < 5

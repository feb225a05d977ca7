"""20 releases of 200 streams each, looked at every 5 seconds for 20 minutes: is each look on time, and is memory flat?

    PYTHONPATH=. python tests/soak/soak_scale.py [--minutes 20] [--releases 20] [--streams 200]

A real Prometheus scrapes one page of counters, whose rates are the same in both arms; a real daemon watches them. Read
every few seconds: the lag of the looks and the blocks missed from `GET /metrics`, memory and processor time from /proc.
A look is due once its block has settled, and a moment later that is the installation's own (`watcher.clock.phase`).
Only prints: whether the lag stays below a second depends on the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.alerts.slack_server import SlackServer
from tests.loopback import Loopback, answer
from tests.servers import killed, prometheus_server
from watcher import assembly
from watcher.clock import phase

BLOCK, SETTLE, HISTORY = 5, 2, 120
SCRAPED = 2
"""Seconds between two scrapes."""

RULES = """
pack: shop
by: [route]
unit: pod
rules:
  - {name: errors, kind: ratio, bad: 'http_requests_total{code="500"}', total: http_requests_total, critical: true}
"""


class Page(Loopback):
    """Counters that grow with the clock: of every release and route, two arms, two pods, two codes."""

    def __init__(self, releases: int, streams: int) -> None:
        super().__init__()
        self._rows = [
            (f'feature="{killed.feature(nth)}",route="/{route}",variant="{variant}",pod="{pod}"', variant == "on")
            for nth in range(releases)
            for route in range(streams)
            for variant in ("off", "on")
            for pod in ("a", "b")
        ]
        self._began = time.time()
        self.exposed_at = float("inf")

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        now = time.time()
        both, alone = now - self._began, max(0.0, now - self.exposed_at)
        lines = ["# TYPE http_requests_total counter"]
        for row, treated in self._rows:
            seconds = alone if treated else both
            lines.append(f'http_requests_total{{{row},code="200"}} {int(40 * seconds)}')
            lines.append(f'http_requests_total{{{row},code="500"}} {int(0.4 * seconds)}')
        answer(request, 200, "\n".join([*lines, ""]).encode(), Content_Type="text/plain; version=0.0.4")


@dataclass
class Seen:
    """What was read of the daemon, once every few seconds."""

    due: float
    """Seconds after the end of a block at which its look is due."""
    lags: list[float] = field(default_factory=list)
    """Seconds from when the look at the newest block was due until it was recorded; of every release."""
    memory: list[tuple[float, float]] = field(default_factory=list)
    """When, and how many megabytes."""
    missed: float = 0.0
    failed: float = 0.0

    def read(self, port: int, process: int, at: float) -> None:
        text = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        found = {family.name: family.samples for family in text_string_to_metric_families(text)}
        self.lags += [sample.value - self.due for sample in found["watcher_look_lag_seconds"]]
        self.missed = sum(sample.value for sample in found["watcher_looks_missed"] if sample.name.endswith("_total"))
        self.failed = sum(sample.value for sample in found["watcher_look_failures"] if sample.name.endswith("_total"))
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
        self.memory.append((at, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    @property
    def slope(self) -> float:
        """Megabytes an hour, over the second half."""
        half = np.array(self.memory[len(self.memory) // 2 :])
        return float(np.polyfit(half[:, 0] / 3600, half[:, 1], 1)[0])


def processor(process: int) -> float:
    """Return the seconds of processor time a process took."""
    return sum(map(int, Path(f"/proc/{process}/stat").read_text().split()[13:15])) / os.sysconf("SC_CLK_TCK")


def configure(daemon: killed.Daemon) -> None:
    """Watch many streams in blocks of a few seconds, and turn nothing off."""
    (daemon.folder / "rules.yaml").write_text(RULES)
    config = Path(daemon.config)
    text = config.read_text().replace("block: 1s\nsettle: 0s", f"block: {BLOCK}s\nsettle: {SETTLE}s")
    config.write_text(text.replace("history: 40s", f"history: {HISTORY}s").replace("mode: armed", "mode: observe"))


def begin(daemon: killed.Daemon, nth: int, at: float) -> None:
    """Tell it of a release."""
    assembly.start_release(
        daemon.config, killed.feature(nth), killed.feature(nth), now=at, by="soak",
        version="1", exposed_at=None, share="50%", previous=None, not_reversible=False, strategy=None,
    )  # fmt: skip


def watched(releases: int, streams: int, minutes: float) -> Iterator[str]:
    """Watch it all for so long, and yield what was seen, line by line."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        page = stack.enter_context(Page(releases, streams))
        server = stack.enter_context(prometheus_server.running(folder / "prometheus"))
        target = {"targets": [page.url.removeprefix("http://")]}
        job = {"job_name": "shop", "scrape_interval": f"{SCRAPED}s", "scrape_timeout": f"{SCRAPED}s"}
        with (folder / "prometheus" / "prometheus.yml").open("a") as file:
            file.write(f"scrape_configs: {json.dumps([{**job, 'static_configs': [target]}])}\n")
        os.kill(server.pid, signal.SIGHUP)
        slack = stack.enter_context(SlackServer("#releases"))
        daemon = killed.Daemon(folder, slack)
        daemon.write(server.url, releases)
        configure(daemon)
        time.sleep(HISTORY + 2 * BLOCK)
        page.exposed_at = time.time()
        for nth in range(releases):
            begin(daemon, nth, page.exposed_at)
        stack.callback(killed.put_down, daemon)
        yield f"{releases} releases x {streams} streams, blocks of {BLOCK} s; ready after {daemon.until_ready():.1f} s"
        process = daemon.process
        assert process is not None
        # The first looks read the history and learn; what counts is how it goes on.
        time.sleep(6 * BLOCK)
        own = phase(socket.gethostname() + assembly.installed(daemon.config).journal, BLOCK)
        seen, began, used = Seen(SETTLE + own), time.monotonic(), processor(process.pid)
        seen.read(daemon.port, process.pid, 0.0)
        before = (seen.missed, seen.failed)
        while (at := time.monotonic() - began) < 60 * minutes:
            seen.read(daemon.port, process.pid, at)
            time.sleep(1.7)
        busy, blocks = (processor(process.pid) - used) / at, at / BLOCK
        lags = np.round(np.quantile(seen.lags, [0.5, 0.99, 1.0]), 2)
        yield f"lag, s (p50, p99, most): {lags}, from {own:.2f} s after a block has settled"
        yield f"blocks without a look of their own: {seen.missed - before[0]:g} of {blocks * releases:.0f}"
        yield f"looks failed: {seen.failed - before[1]:g}; {100 * busy:.0f} % of one processor"
        yield f"memory: {seen.memory[-1][1]:.0f} MB, {seen.slope:+.1f} MB an hour over the second half"
        daemon.end()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=20.0)
    options.add_argument("--releases", type=int, default=20)
    options.add_argument("--streams", type=int, default=200)
    given = options.parse_args()
    for line in watched(given.releases, given.streams, given.minutes):
        print(line, flush=True)


if __name__ == "__main__":
    main()

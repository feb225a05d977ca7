"""A watch on a real Prometheus behind a proxy that fails in every way that servers do; run as a process of its own.

    python -m tests.servers.outages PROMETHEUS SCRIPTS

The release is as good as what was there before. Prints, as JSON, how often what happened, and the most memory it took.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import requests

from tests.servers.prometheus_server import PrometheusServer
from watcher.look import look, prepare, read_history
from watcher.model import Kill, Kind, Look, Mode, Release, Rule, Selector, Stage, Strategy, Watch, labels
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

BLOCK, SCRAPE = 60.0, 15.0
BEFORE, BLOCKS = 60, 12
DEADLINE = 0.4
"""Seconds a read may take here, where the server answers in a few milliseconds."""

FAULTS = (
    "hang", "drip", "503", "page", "truncated", "endless", "empty", "stale", "half the series", "resets", "warning",
    "gzip", "nothing of the control", "no errors of the control", "not numbers",
)  # fmt: skip


@dataclass
class Faulty:
    """Passes queries on, and spoils the answer while there is a fault."""

    prometheus: str
    fault: str = ""
    seed: int = 0
    since: float = 0.0
    """What is missing or wrong in the answers is so from this moment on, epoch seconds."""
    ended: threading.Event = field(default_factory=threading.Event)

    def answer(self, path: str, body: bytes) -> bytes:
        return requests.post(
            self.prometheus + path,
            data=body,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            timeout=30,
        ).content

    def spoilt(self, whole: bytes, query: str) -> bytes:
        """Return an answer that can be read, and is wrong."""
        found = json.loads(whole)
        result = found["data"]["result"]
        if self.fault == "empty":
            result = []
        elif self.fault == "half the series":
            result = [
                each for each in result if random.Random(f"{self.seed} {sorted(each['metric'].items())}").random() < 0.5
            ]
        elif self.fault == "no errors of the control":
            result = [
                each for each in result if (each["metric"].get("variant"), each["metric"].get("code")) != ("off", "500")
            ]
        elif self.fault == "nothing of the control":
            result = [each for each in result if 'variant="off"' not in query]
        elif self.fault == "warning":
            found["warnings"] = ["some of the stores did not answer"]
            result = result[::2]
        else:
            result = [{**each, "values": self._values(each["values"])} for each in result if "values" in each]
        found["data"]["result"] = result
        return json.dumps(found).encode()

    def _values(self, values: list[list[Any]]) -> list[list[Any]]:
        if self.fault == "stale":
            return [pair for pair in values if pair[0] <= self.since]
        if self.fault == "not numbers":
            return [[at, "NaN"] if at > self.since else [at, value] for at, value in values]
        late = [float(value) for at, value in values if at > self.since]
        return [[at, value if at <= self.since else str(float(value) - late[0])] for at, value in values]


@contextmanager
def proxy(prometheus: str) -> Iterator[tuple[str, Faulty]]:
    """Serve on 127.0.0.1; yield the address, and what to spoil answers with."""
    faulty = Faulty(prometheus)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with suppress(OSError):
                self._answer(faulty.fault, body)

        def _answer(self, fault: str, body: bytes) -> None:
            if fault == "hang":
                faulty.ended.wait(5 * DEADLINE)
                return
            if fault == "503":
                self._send(503, b"upstream connect error")
                return
            if fault == "page":
                self._send(200, b"<html>Please sign in</html>", "text/html")
                return
            whole = faulty.answer(self.path, body)
            if fault in ("drip", "endless", "truncated", "gzip"):
                self._badly(fault, whole)
                return
            query = parse_qs(body.decode())["query"][0]
            self._send(200, faulty.spoilt(whole, query) if fault else whole)

        def _badly(self, fault: str, whole: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            if fault == "gzip":
                self.send_header("Content-Encoding", "gzip")
            self.end_headers()
            if fault == "truncated":
                self.wfile.write(whole[: len(whole) // 2])
            elif fault == "gzip":
                self.wfile.write(b"\x1f\x8b" + whole)
            elif fault == "drip":
                for i in range(len(whole)):
                    self.wfile.write(whole[i : i + 1])
                    time.sleep(0.02)
            else:
                self.wfile.write(b'{"status":"success","data":{"resultType":"matrix","result":[')
                while not faulty.ended.is_set():
                    self.wfile.write(b'{"metric":{"a":"b"},"values":[[1,"1"]]},' * 20_000)

        def _send(self, status: int, body: bytes, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", faulty
    finally:
        faulty.ended.set()
        server.shutdown()
        server.server_close()


def written(server: PrometheusServer, name: str) -> float:
    """Write the counters of two arms that are alike, and return when users were exposed to one of them."""
    rng = np.random.default_rng(1)
    exposed = time.time() // 3600 * 3600 - 7200.0
    at = np.arange(exposed - BEFORE * BLOCK - 300.0, exposed + (BLOCKS + 2) * BLOCK, SCRAPE)
    series = []
    for variant in ("off", "on"):
        for unit in range(3):
            grown = rng.poisson(60.0, at.size)
            bad = rng.binomial(grown, 0.02)
            for code, counts in (("200", grown - bad), ("500", bad)):
                own = {"__name__": name, "variant": variant, "instance": f"{variant}-{unit}", "code": code}
                series.append((own, at, 1000.0 + np.cumsum(counts)))
    server.remote_write(series)
    return exposed


def watched(name: str, exposed: float) -> Watch:
    """Return an armed watch on one critical rule."""
    bad, total = Selector.parse(f'{name}{{code="500"}}'), Selector.parse(name)
    return Watch(
        release=Release("shop", "production", "checkout", "2", Strategy.FLAG, (Stage(exposed),)),
        rules=(Rule("errors", Kind.RATIO, bad, total, critical=True, unit="instance"),),
        baseline=labels({"variant": "off"}),
        treatment=labels({"variant": "on"}),
        settle=0.0,
        warm_up=0.0,
        history=BEFORE * BLOCK,
        mode=Mode.ARMED,
        switch="yaml_flags:flags.yaml",
    )


def lived(watch: Watch, url: str, faulty: Faulty, seed: int) -> Iterator[Look]:
    """Look at every minute; outages of one to six minutes, of which every kind comes first in some script."""
    rng, exposed = random.Random(seed), watch.release.exposed_at
    source, last = PrometheusSource(PrometheusHTTP(url, deadline=DEADLINE)), None
    faulty.seed = seed
    script = [""] * rng.randint(0, 2) + [FAULTS[seed % len(FAULTS)]] * rng.randint(1, 6)
    while len(script) < BLOCKS:
        script += [""] * rng.randint(1, 3) + [rng.choice(FAULTS)] * rng.randint(1, 6)
    calibrations = prepare(watch, read_history(watch, source))
    for minute, fault in enumerate(script[:BLOCKS], 1):
        now = exposed + minute * BLOCK
        if fault != faulty.fault:
            faulty.fault, faulty.since = fault, now - BLOCK
        last = look(watch, source, calibrations, last, now)
        yield last
    faulty.fault = ""


def main(prometheus: str, scripts: int) -> None:
    """Live so many scripts."""
    name = f"outages_{int(time.time())}_total"
    exposed = written(PrometheusServer(prometheus, 0), name)
    watch, found = watched(name, exposed), Counter[str]()
    with proxy(prometheus) as (url, faulty):
        for seed in range(scripts):
            for seen in lived(watch, url, faulty, seed):
                found["looks"] += 1
                found[seen.verdict.outcome.value] += 1
                found["unread"] += seen.problem is not None
                found["not whole"] += "may be incomplete" in (seen.problem or "")
                for action in seen.actions:
                    if isinstance(action, Kill):
                        found["kills"] += 1
                        print(seed, faulty.fault, seen.verdict.reason, file=sys.stderr)
    print(json.dumps({**found, "kills": found["kills"], "most_mib": most_memory()}))


def most_memory() -> int:
    """Return the most memory this process ever held, in MiB; what getrusage says begins with its parent's."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) // 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

"""What a step of the daemon costs that looks at many releases of many streams.

    PYTHONPATH=. python tests/benchmarks/bench_scale.py [--releases 20] [--streams 200] [--steps 6] [--profile]

A real Prometheus holds what would have been scraped every two seconds; the daemon's own steps run here, one block of
5 s after the other, by a clock that does not wait. Of each step: CPU seconds of this process, by what they went into,
and of the server. The first step, which reads the history, is left out of the medians. `--profile` prints where the
time goes instead.

Nothing here asserts: figures depend on the machine.
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import itertools
import os
import pstats
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.alerts.slack_server import SlackServer  # noqa: E402
from tests.servers import killed, prometheus_server  # noqa: E402
from tests.soak import soak_scale  # noqa: E402
from watcher import assembly, look  # noqa: E402
from watcher.journal import Journal  # noqa: E402
from watcher.sources.prometheus import PrometheusSource  # noqa: E402
from watcher.sources.prometheus_http import PrometheusHTTP  # noqa: E402

PAST = 480.0
"""Seconds measured before the first step."""

PARTS = (
    (PrometheusHTTP, "_fetch", "waiting for answers"),
    (PrometheusHTTP, "_decoded", "decoding them"),
    (PrometheusSource, "observe", "counting"),
    (look, "_judged", "comparing and judging"),
    (Journal, "last_look", "last look, read"),
    (Journal, "record_look", "look, recorded"),
)


class Spent:
    """CPU seconds of this process by part, each without what it called of the others."""

    def __init__(self) -> None:
        self.by = Counter[str]()
        self._inner = [0.0]

    def watch(self, owner: Any, name: str, part: str) -> None:
        whole = getattr(owner, name)

        @functools.wraps(whole)
        def timed(*given: Any, **named: Any) -> Any:
            began = time.process_time()
            self._inner.append(0.0)
            try:
                return whole(*given, **named)
            finally:
                took = time.process_time() - began
                self.by[part] += took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, name, timed)


def measured(nth: int, streams: int, start: float, end: float) -> Iterator[prometheus_server.Series]:
    """Yield what both arms of a release count, at the same rates."""
    draw, times = np.random.default_rng(nth), np.arange(start, end, soak_scale.SCRAPED)
    for route, variant, pod in itertools.product(range(streams), ("off", "on"), ("a", "b")):
        own = {"feature": killed.feature(nth), "route": f"/{route}", "variant": variant, "pod": pod}
        for code, rate in (("200", 40), ("500", 0.4)):
            counted = np.cumsum(draw.poisson(rate * soak_scale.SCRAPED, times.size))
            yield {"__name__": "http_requests_total", "code": code, **own}, times, counted


def steps(releases: int, streams: int, many: int, profiler: cProfile.Profile | None) -> Iterator[dict[str, float]]:
    """Yield the seconds of every step by part."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = stack.enter_context(prometheus_server.running(folder / "prometheus"))
        slack = stack.enter_context(SlackServer("#releases"))
        block = soak_scale.BLOCK
        exposed = float(time.time() // block * block) - (many + 1) * block
        for nth in range(releases):
            # A release at a time, so that memory tells of the daemon.
            server.remote_write(list(measured(nth, streams, exposed - PAST, exposed + (many + 1) * block)))
        installation = killed.Daemon(folder, slack)
        installation.write(server.url, releases)
        soak_scale.configure(installation)
        for nth in range(releases):
            soak_scale.begin(installation, nth, exposed)
        made = stack.enter_context(assembly.daemon(assembly.installed(installation.config)))
        spent = Spent()
        for owner, name, part in PARTS if profiler is None else ():
            spent.watch(owner, name, part)
        for step in range(1, many + 1):
            spent.by.clear()
            began, cpu, theirs = time.monotonic(), time.process_time(), soak_scale.processor(server.pid)
            if profiler is not None and step > 1:
                profiler.enable()
            made.advance(exposed + step * block + soak_scale.SETTLE)
            if profiler is not None:
                profiler.disable()
            whole = time.process_time() - cpu
            parts = {part: spent.by[part] for _, _, part in PARTS}
            yield {
                **parts,
                "the rest": whole - sum(parts.values()),
                "CPU seconds a step": whole,
                "CPU seconds of the server": soak_scale.processor(server.pid) - theirs,
                "wall seconds a step": time.monotonic() - began,
            }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--releases", type=int, default=20)
    options.add_argument("--streams", type=int, default=200)
    options.add_argument("--steps", type=int, default=6)
    options.add_argument("--profile", action="store_true")
    given = options.parse_args()
    profiler = cProfile.Profile() if given.profile else None
    found = list(steps(given.releases, given.streams, given.steps, profiler))
    if profiler is not None:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(60)
        return
    print(
        f"{given.releases} releases x {given.streams} streams, blocks of {soak_scale.BLOCK} s, {given.steps} steps; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for name in found[0]:
        values = [step[name] for step in found[1:]]
        print(f"{name:28}{statistics.median(values):8.2f}   first {found[0][name]:8.2f}")
    print(f"{'memory at most, MB':28}{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8.0f}")


if __name__ == "__main__":
    main()

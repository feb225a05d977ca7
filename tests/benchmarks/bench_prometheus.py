"""How long, and how much memory, it takes to read a day of 1,000 series at one minute into arrays.

    python tests/benchmarks/bench_prometheus.py

starts a real Prometheus on the loopback, writes the day into it, and reads it in child processes of their own:

    watcher       raw samples: PrometheusHTTP.samples, into flat arrays
    range-data    prometheus-api-client: get_metric_range_data, into a MetricRangeDataFrame
    query-range   prometheus-api-client: custom_query_range, into a MetricRangeDataFrame

Every read is done once to warm the server, then timed. Memory is the peak of the child above what it had after its
imports. Nothing here asserts: figures depend on the machine.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.servers import prometheus_server  # noqa: E402

SERIES, POINTS, STEP, RUNS = 1_000, 1_440, 60.0, 3
METHODS = ("watcher", "range-data", "query-range")


def write_a_day(url: str, end: float) -> None:
    rng = np.random.default_rng(1)
    at = end - STEP * np.arange(POINTS)[::-1]
    rows = []
    for i in range(SERIES):
        labels = {
            "__name__": "bench_total",
            "job": "shop",
            "instance": f"10.0.0.{i % 50}:8080",
            "feature": f"f{i // 50}",
        }
        rows.append((labels, at, np.cumsum(rng.poisson(30, POINTS)) + 1e6))
    prometheus_server.PrometheusServer(url, 0).remote_write(rows)


def reader(method: str, url: str, end: float) -> Callable[[], int]:
    """Import what a method needs; return the read, which returns how many samples it got."""
    start = end - STEP * POINTS
    if method == "watcher":
        from watcher.sources.prometheus_http import PrometheusHTTP

        client = PrometheusHTTP(url)
        return lambda: client.samples("bench_total", start, end).values.size
    import pandas  # noqa: F401
    from prometheus_api_client import MetricRangeDataFrame, PrometheusConnect

    theirs = PrometheusConnect(url)
    first, last = (datetime.fromtimestamp(at, UTC) for at in (start + STEP, end))
    if method == "range-data":
        return lambda: len(
            MetricRangeDataFrame(theirs.get_metric_range_data("bench_total", start_time=first, end_time=last))
        )
    return lambda: len(MetricRangeDataFrame(theirs.custom_query_range("bench_total", first, last, "60")))


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(method: str, url: str, end: float) -> None:
    """Run in a child: print the seconds of one read, its extra peak memory and the number of samples."""
    read = reader(method, url, end)
    baseline = peak_mib()
    began = time.perf_counter()
    samples = read()
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "mib": peak_mib() - baseline, "samples": samples}))


def in_a_child(method: str, url: str, end: float) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", __file__, method, url, repr(end)]
    return dict(json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout))


def main() -> None:
    problem = prometheus_server.missing()
    if problem:
        sys.exit(problem)
    end = time.time() // 3600 * 3600 - 3600.0
    with tempfile.TemporaryDirectory() as scratch, prometheus_server.running(Path(scratch)) as server:
        # A child's peak memory starts at that of its parent, so that even the writing is left to a child.
        in_a_child("write", server.url, end)
        for method in METHODS:
            in_a_child(method, server.url, end)
        # One read a child, so none profits from another's heap; in turns, so a slow spell of the machine hits all.
        found: dict[str, list[dict[str, Any]]] = {method: [] for method in METHODS}
        for _ in range(RUNS):
            for method in METHODS:
                found[method].append(in_a_child(method, server.url, end))
    print(f"{SERIES} series x {POINTS} points, median of {RUNS} runs, each in a process of its own")
    print(f"{'':12}{'seconds':>9}{'peak MiB':>10}{'samples':>11}")
    rows = {}
    for method, runs in found.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        mib = statistics.median(run["mib"] for run in runs)
        rows[method] = (seconds, mib)
        print(f"{method:12}{seconds:9.2f}{mib:10.0f}{runs[0]['samples']:11,}")
    for method in METHODS[1:]:
        faster, leaner = rows[method][0] / rows["watcher"][0], rows["watcher"][1] / rows[method][1]
        print(f"watcher against {method}: {faster:.1f} times as fast, {leaner:.2f} of the memory")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    elif sys.argv[1] == "write":
        write_a_day(sys.argv[2], float(sys.argv[3]))
        print("{}")
    else:
        measure(sys.argv[1], sys.argv[2], float(sys.argv[3]))

"""How long it takes to judge a day of 1,000 streams, and to start.

    python tests/benchmarks/bench_engine.py [--profile]

    fold      1,000 streams x 1,440 blocks of counts through Profile.fold: the statistics alone, CPU seconds
    block     one block of 100,000 streams through Profile.fold, units known, CPU seconds; and the state of a stream
    compare   `watcher compare` on a Parquet file of the same day, both arms (2.88 million rows), as a user would run it
    start     `watcher --help`: what every command waits for before it does anything

Nothing here asserts: figures depend on the machine. `--profile` runs the comparison under cProfile instead, and
prints where the time goes.
"""

from __future__ import annotations

import cProfile
import os
import pstats
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from watcher.evidence.profile import Profile  # noqa: E402

STREAMS, BLOCKS, BLOCK, START = 1_000, 1_440, 60.0, 1_763_596_800.0
REQUESTS, ERROR_RATE = 1_000, 0.01
STARTS = 10
MANY = 100_000


def counts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw errors and requests of one arm, [stream, block]."""
    rng = np.random.default_rng(seed)
    requests = rng.poisson(REQUESTS, (STREAMS, BLOCKS))
    return rng.binomial(requests, ERROR_RATE), requests


def fold_seconds() -> float:
    """Return the CPU seconds of one fold of a whole day."""
    arms = [tuple(each.astype(float) for each in counts(seed)) for seed in (1, 2)]
    ends = START + BLOCK * np.arange(1, BLOCKS + 1)
    method = Profile.of(sign=1, margin=0.5)
    state = method.start(STREAMS)
    began = time.process_time()
    method.fold(state, (arms[0][0], arms[0][1]), (arms[1][0], arms[1][1]), ends)
    return time.process_time() - began


def block_seconds() -> tuple[float, float]:
    """Return the CPU seconds of one block of many streams, half an hour into the watch, and kB of state a stream."""
    rng, method = np.random.default_rng(3), Profile.of(sign=1, margin=0.5, units=6)
    state = method.start(MANY, np.full(MANY, 0.1))
    spent = 0.0
    for minute in range(30):
        total = rng.poisson(100, (2, MANY, 1)).astype(float)
        events = rng.binomial(total.astype(int), ERROR_RATE).astype(float)
        began = time.process_time()
        counts = (events[0], total[0]), (events[1], total[1])
        state, _ = method.fold(state, *counts, np.array([START + BLOCK * (minute + 1)]))
        spent = time.process_time() - began
    return spent, sum(array.nbytes for array in vars(state).values()) / MANY / 1000


def write_a_day(path: Path) -> int:
    """Write both arms as one tidy table; return its rows."""
    at = pd.to_datetime(np.tile(START + BLOCK * np.arange(1, BLOCKS + 1), STREAMS), unit="s", utc=True)
    feature = np.repeat([f"feature-{i:04d}" for i in range(STREAMS)], BLOCKS)
    parts = []
    for seed, arm in enumerate(("baseline", "treatment"), start=1):
        errors, requests = (each.ravel() for each in counts(seed))
        parts.append(
            pd.DataFrame({"timestamp": at, "arm": arm, "feature": feature, "errors": errors, "requests": requests})
        )
    frame = pd.concat(parts, ignore_index=True)
    frame.to_parquet(path)
    return len(frame)


def command(*arguments: str) -> Callable[[], tuple[float, float]]:
    """Return what runs watcher in a process of its own and returns wall and CPU seconds."""

    def run() -> tuple[float, float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "watcher", *arguments], cwd=ROOT, capture_output=True, text=True)
        wall = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode == 2:
            sys.exit(done.stderr)
        return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return run


def comparing(path: Path) -> list[str]:
    return ["compare", str(path), "--ratio", "errors/requests", "--by", "feature"]


def profiled(path: Path) -> None:
    """Print where a comparison spends its time."""
    from watcher import cli

    profiler = cProfile.Profile()
    sys.argv = ["watcher", *comparing(path), "--quiet"]
    try:
        profiler.runcall(cli.main)
    except SystemExit:
        pstats.Stats(profiler).sort_stats("cumulative").print_stats(45)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "day.parquet"
        rows = write_a_day(path)
        if "--profile" in sys.argv:
            profiled(path)
            return
        folds = [fold_seconds() for _ in range(3)]
        blocks = [block_seconds() for _ in range(3)]
        compares = [command(*comparing(path))() for _ in range(3)]
        starts = [command("--help")() for _ in range(STARTS)]
    wall, cpu = ([each[side] for each in compares] for side in (0, 1))
    startup = [1_000 * each[0] for each in starts]
    print(
        f"{STREAMS:,} streams x {BLOCKS:,} blocks; {rows:,} rows; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    print(f"{'':26}{'best':>9}{'median':>9}{'target':>9}")
    for name, values, target in (
        ("fold, CPU s", folds, "2"),
        (f"a block of {MANY:,}, CPU s", [each[0] for each in blocks], "1"),
        ("state a stream, kB", [each[1] for each in blocks], "1.5"),
        ("compare, wall s", wall, "5"),
        ("compare, CPU s", cpu, ""),
        ("watcher --help, wall ms", startup, "150"),
    ):
        print(f"{name:26}{min(values):9.2f}{statistics.median(values):9.2f}{target:>9}")


if __name__ == "__main__":
    main()

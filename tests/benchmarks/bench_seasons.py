"""What before and after costs: a thousand seasonal gauges, four weeks of minutes, and the looks that follow.

    python tests/benchmarks/bench_seasons.py

Ten rules of a hundred streams are calibrated as the daemon does it at night, one rule's history in memory at a time,
and then watched for six hours.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.seasons import DAY, GAUGE, MONDAY, as_gauge, gauge, watch_of  # noqa: E402
from watcher.look import look, prepare  # noqa: E402
from watcher.model import Look, Observations, Selector  # noqa: E402
from watcher.testing import MemorySource  # noqa: E402

RULES, STREAMS, LOOKS = 10, 100, 10
MINUTES = 28 * 1440
EXPOSED = MONDAY + 28 * DAY + 10 * 3600


def values(rule: int) -> tuple[Observations, Observations]:
    """Return the history of a rule, and its first minutes after exposure; always the same."""
    rng, ends = np.random.default_rng(rule), EXPOSED - 60 * MINUTES + 60 * np.arange(1, MINUTES + LOOKS + 1)
    drawn = gauge(rng, ends, STREAMS)
    return as_gauge(drawn[:, :MINUTES], ends[:MINUTES]), as_gauge(drawn[:, MINUTES:], ends[MINUTES:])


class Drawn(Mapping[str, Observations]):
    """Histories by rule, drawn when they are asked for and kept by nobody; `took` sums up the seconds."""

    took = 0.0

    def __getitem__(self, name: str) -> Observations:
        began = time.process_time()
        found = values(int(name.removeprefix("load")))[0]
        self.took += time.process_time() - began
        return found

    def __iter__(self) -> Iterator[str]:
        return (f"load{rule}" for rule in range(RULES))

    def __len__(self) -> int:
        return RULES


def main() -> None:
    """Print what it costs to learn, and to look."""
    rules = tuple(replace(GAUGE, name=f"load{n}", events=Selector(f"load{n}"), by=("run",)) for n in range(RULES))
    watch = replace(watch_of(GAUGE, EXPOSED, 6, 28), rules=rules)
    history, began, spent = Drawn(), time.monotonic(), time.process_time()
    learnt = prepare(watch, history)
    wall, cpu = time.monotonic() - began, time.process_time() - spent - history.took
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{RULES} x {STREAMS} streams, 28 days of minutes, {learnt['load0'].placebos.size} placebos of 6 h:")
    print(f"  learnt in {wall:.0f} s ({cpu:.0f} s CPU, {history.took:.0f} s more to draw them), {most:.2f} GB at most")
    source = MemorySource({name: values(n)[1] for n, name in enumerate(history)})
    before: Look | None = None
    times = []
    for minute in range(1, LOOKS + 1):
        spent = time.process_time()
        before = look(watch, source, learnt, before, EXPOSED + 60 * minute + watch.settle)
        times.append(time.process_time() - spent)
    print(f"  a look: {np.median(times):.2f} s CPU (median of {LOOKS})")


if __name__ == "__main__":
    main()

"""How good the defaults are, on past releases of real systems and on simulated seasons.

    make bench-quality DATA=path/to/a/folder

DATA holds kontrast.parquet and changerca.parquet, tidy tables of past releases with a label; what is absent is said and
left out. One configuration for everything: the shipped defaults, and no option but the direction of harm.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import watcher  # noqa: E402
from tests.seasons import DAY, GAUGE, MONDAY, Judged, as_counts, as_gauge, counts, gauge, judged, watch_of  # noqa: E402
from watcher.model import Floats, Kind, Rule, Selector, Worse  # noqa: E402

REAL: dict[str, dict[str, Any]] = {
    "kontrast": {"gauge": "value"},
    "changerca": {"gauge": "value", "worse": ["*success_pct=lower", "*latency_ms=higher"]},
}
"""Tables, and how each is asked about."""

TOGETHER = 25
"""Runs that share a time of exposure."""


def real(folder: Path) -> None:
    """Print what the defaults find in tables of past releases."""
    print(
        "| past releases | F1 | precision | recall | false alarms | best F1 | HR@1 | HR@3 | minutes to detect | took |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, asked in REAL.items():
        path = folder / f"{name}.parquet"
        if not path.exists():
            print(f"| {name} | not in {folder}: left out |")
            continue
        began = time.monotonic()
        found = watcher.backtest(path, **asked)
        groups, waits = found.groups, [found.minutes_to_detect(each) for each in (0.5, 0.9)]
        hits = ["" if each is None else f"{each:.3f}" for each in (groups.hit_rate_1, groups.hit_rate_3)]
        print(
            f"| {name}, {len(found.rows)} | {found.f1:.3f} | {found.precision:.3f} | {found.recall:.3f} | "
            f"{found.false_alarms.hits} of {found.false_alarms.of} ({100 * found.false_alarm_rate:.1f} %) | "
            f"{found.best_f1:.3f} | {hits[0]} | {hits[1]} | {waits[0]:.1f}, 90 %: {waits[1]:.1f} | "
            f"{time.monotonic() - began:.0f} s |",
            flush=True,
        )


def seasonal(runs: int, seed: int) -> None:
    """Print false alarms, power and delays on a seasonal gauge: four weeks of history, six hours watched."""
    rng = np.random.default_rng(seed)
    minutes: dict[float, list[Floats]] = {0.0: [], 0.05: [], 0.1: []}
    for _ in range(runs // TOGETHER):
        exposed = MONDAY + 28 * DAY + 60 * rng.integers(0, 7 * 1440)
        ends = exposed - 28 * DAY + 60 * np.arange(1, 28 * 1440 + 361)
        values, size = gauge(rng, ends, TOGETHER), 28 * 1440
        after = [as_gauge(values[:, size:] * (1 + each), ends[size:]) for each in minutes]
        watch = watch_of(GAUGE, exposed, 6, 28)
        for kept, found in zip(
            minutes.values(), judged(watch, as_gauge(values[:, :size], ends[:size]), *after), strict=True
        ):
            kept.append(found.minutes)
    print(f"\n| seasonal gauge, {runs} runs, alpha 5 % | alarms | median delay, minutes |\n|---|---|---|")
    for added, each in minutes.items():
        found = Judged(np.concatenate(each))
        print(f"| {100 * added:+.0f} % | {found.rate:.3f} | {found.median:.0f} |", flush=True)


AT = {
    "on the morning upswing": ("2026-02-04T07:30+00:00", "UTC"),
    "as the weekend begins": ("2026-02-07T00:30+00:00", "UTC"),
    "on the first morning of the weekend": ("2026-02-07T07:30+00:00", "UTC"),
    "the night clocks go back": ("2026-10-25T00:30+02:00", "Europe/Berlin"),
    "the morning after they went forward": ("2026-03-29T07:30+02:00", "Europe/Berlin"),
}
"""Times at which a naive baseline is wrong."""

RULES = {
    "gauge": GAUGE,
    "ratio": Rule("errors", Kind.RATIO, Selector("errors"), Selector("requests"), margin=0.1),
    "rate": Rule("orders", Kind.RATE, Selector("orders"), Selector("starts"), worse=Worse.LOWER, margin=0.02),
    "latency": Rule("slow", Kind.LATENCY, Selector("slow"), objective=1.0, margin=0.1),
}
TRAFFIC = {"ratio": (0.01, 300.0), "rate": (0.5, 100.0), "latency": (0.1, 300.0)}
"""Of counts: events per exposure, and exposures a minute on average."""


def awkward(runs: int, seed: int) -> None:
    """Print false alarms where the season moves most: two weeks of history, two hours watched."""
    print(f"\n| false alarms at alpha 5 %, {runs} runs | {' | '.join(RULES)} |\n|---|{'---|' * len(RULES)}")
    for when, (moment, zone) in AT.items():
        exposed, rates = dt.datetime.fromisoformat(moment).timestamp(), []
        ends, size = exposed - 14 * DAY + 60 * np.arange(1, 14 * 1440 + 121), 14 * 1440
        for kind, rule in RULES.items():
            rng, alarms = np.random.default_rng(seed), []
            for _ in range(runs // TOGETHER):
                if kind == "gauge":
                    values = gauge(rng, ends, TOGETHER, zone)
                    parts = [as_gauge(values[:, each], ends[each]) for each in (slice(size), slice(size, None))]
                else:
                    events, total = counts(rng, ends, TOGETHER, *TRAFFIC[kind], zone)
                    parts = [
                        as_counts(events[:, each], total[:, each], ends[each])
                        for each in (slice(size), slice(size, None))
                    ]
                (found,) = judged(watch_of(rule, exposed, 2, 14, zone=zone), *parts)
                alarms.append(found.minutes)
            rates.append(f"{Judged(np.concatenate(alarms)).rate:.3f}")
        print(f"| {when} | {' | '.join(rates)} |", flush=True)


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the tables of past releases")
    parser.add_argument("--runs", type=int, default=1000, help="of every simulation (0: none)")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    if asked.data is None:
        print("no --data: past releases of real systems are left out")
    else:
        real(asked.data)
    if asked.runs:
        seasonal(asked.runs, asked.seed)
        awkward(max(TOGETHER, asked.runs // 5), asked.seed)


if __name__ == "__main__":
    main()

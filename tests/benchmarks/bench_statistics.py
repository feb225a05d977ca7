"""How often watcher is wrong, and how fast it is, beside the best possible test and the tests people use instead.

    python tests/benchmarks/bench_statistics.py [--runs N] [--only NAME]

    false alarms   24 h of arms that differ in nothing but noise, looked at every minute: share of runs called
                   regressed, with its exact 95 % interval
    delays         arms that do differ: minutes from onset to alarm, and how many times as long as the oracle took on
                   the same streams
    cold caches    a treatment that is worse for its first three minutes, with the warm-up left out and without
    health         how often it is certified of a treatment exactly on the margin, and how long it takes to be proven of
                   one that changed nothing, as a multiple of the formula's minutes

watcher spends the whole of alpha on one rule. Its dispersion and the spread of units are learnt from the week before,
one history a run; in the columns "given" they are 1 and 0, as where they are known. The oracle is told the true ratio
(2 on arms that do not differ; a tenth for latencies) and the onset, and knows nothing of dispersion or units: where
those are at work its false alarms are what independence costs. N null runs (2,000 unless said otherwise) and a quarter
as many of the others; NAME is a part of a row's name. Nothing here asserts.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.random import Generator

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.simulation import (  # noqa: E402
    COLD_CACHES,
    COLD_LATENCY,
    DAY,
    EDGES,
    LATENCIES,
    LATENCY_NULL,
    NULLS,
    REGRESSIONS,
    UNITS,
    Arms,
    Latency,
    Ranks,
    Scenario,
    Share,
    delay,
    first,
    kayenta,
    latency_oracle,
    mann_whitney,
    oracle,
    z_test,
)
from watcher.evidence.buckets import Buckets  # noqa: E402
from watcher.evidence.dispersion import learn  # noqa: E402
from watcher.evidence.profile import Profile  # noqa: E402
from watcher.evidence.units import offset_scale  # noqa: E402
from watcher.model import Flags, Floats  # noqa: E402

SEED, RUNS, BATCH = 20_260_101, 2_000, 100
ALPHAS = (0.05, 0.01)
HEALTHY = 0.05
WARM_UP = 5
"""Minutes left out after exposure, where they are."""

TESTS = (
    "watcher .05", "watcher .01", "given .05", "given .01", "MW 98 % tol .25", "MW p<.05", "z p<.05", "oracle .05",
    "oracle .01",
)  # fmt: skip
MARGINS = (0.25, 0.5, 1.0)
LEARNT = ("dispersion", "spread")

Found = dict[str, Floats]
"""By test, the minute of each run's first alarm; by what was learnt, its value: all [run]."""

SECONDS: defaultdict[str, float] = defaultdict(float)


@contextmanager
def timed(part: str) -> Iterator[None]:
    began = time.process_time()
    yield
    SECONDS[part] += time.process_time() - began


def learnt(scenario: Scenario, runs: int, rng: Generator) -> tuple[Floats, Floats, int]:
    """Return dispersion and log-sd between units, [run], learnt from the week before each run; and how many units."""
    found = []
    # What learning draws is kept apart, so that the streams stay the same whatever it does.
    splits = rng.spawn(1)[0]
    for _ in range(runs):
        with timed("histories of counts"):
            errors, requests = scenario.history(rng)
        with timed("learning"):
            found.append(learn(errors, requests, splits, long=True, day=DAY, part=True))
    dispersion, spread = (np.array([getattr(each, name) for each in found]) for name in LEARNT)
    return dispersion, spread, found[0].units


def watched(arms: Arms, dispersion: Floats, spread: Floats, units: int) -> Floats:
    """Return log e for "regressed", [run, minute]."""
    runs, minutes = arms.control.shape
    traffic = np.repeat(np.eye(2), UNITS, axis=1)
    tau = spread * offset_scale(1.0, traffic[:1], traffic[1:])
    method = Profile.of(sign=1, margin=0.5, dispersion=dispersion, units=units)
    ends = 60.0 * np.arange(1, minutes + 1)
    counts = (arms.control, arms.n_control), (arms.treated, arms.n_treated)
    _, track = method.fold(method.start(runs, tau), *counts, ends)
    return track.regressed


def watched_latency(control: Floats, treated: Floats, histories: Sequence[Floats], splits: Generator) -> Floats:
    """Return log e for "slower", [run, minute], from buckets [run, minute, bucket] and weeks before.

    A week is [unit, minute, bucket]; the dispersion is that of requests over 0.25 s.
    """
    over = EDGES.index(0.25) + 1
    learnt = [
        learn(x[:, :, over:].sum(axis=2), x.sum(axis=2), splits, long=True, day=DAY, part=True) for x in histories
    ]
    method = Buckets.of(
        edges=EDGES,
        margin=0.1,
        shape=np.array([x.sum(axis=(0, 1)) for x in histories], dtype=float),
        dispersion=np.array([each.dispersion for each in learnt]),
    )
    ends = 60.0 * np.arange(1, control.shape[1] + 1)
    _, track = method.fold(method.start(len(control)), control.astype(float), treated.astype(float), ends)
    return track.regressed


def at_each_alpha(test: str, log_e: Floats) -> dict[str, Flags]:
    return {f"{test} {alpha:g}".replace("0.", "."): log_e >= np.log(1 / alpha) for alpha in ALPHAS}


def watch_counts(scenario: Scenario, runs: int, warm_up: int, rng: Generator) -> Found:
    """Draw days of counts, and let every test watch them."""
    with timed("streams of counts"):
        arms = scenario.arms(runs, rng).since(warm_up)
    dispersion, spread, units = learnt(scenario, runs, rng)
    with timed("watcher on counts"):
        alarms = at_each_alpha("watcher", watched(arms, dispersion, spread, units))
        nothing = np.zeros(runs)
        alarms |= at_each_alpha("given", watched(arms, nothing + 1.0, nothing, 0))
    with timed("rivals"):
        ranks = Ranks.of(arms)
        alarms["MW 98 % tol .25"], alarms["MW p<.05"] = kayenta(ranks), mann_whitney(ranks, 0.05)
        alarms["z p<.05"] = z_test(arms, 0.05)
    with timed("oracle"):
        told = scenario.ratio if scenario.ratio > 1 else 2.0
        alarms |= at_each_alpha("oracle", oracle(arms, told, scenario.onset))
    firsts = {test: first(each) + warm_up for test, each in alarms.items()}
    return firsts | dict(zip(LEARNT, (dispersion, spread), strict=True))


def watch_latencies(latency: Latency, runs: int, warm_up: int, rng: Generator) -> Found:
    """Draw days of latencies, and let watcher and the oracle watch them."""
    with timed("streams of latencies"):
        control, treated = (each[:, warm_up:] for each in latency.arms(runs, rng))
    splits = rng.spawn(1)[0]
    with timed("histories of latencies"):
        histories = [latency.history(rng) for _ in range(runs)]
    with timed("watcher on latencies"):
        alarms = at_each_alpha("watcher", watched_latency(control, treated, histories, splits))
    with timed("oracle of latencies"):
        told = LATENCIES[0] if latency == LATENCY_NULL else latency
        alarms |= at_each_alpha("oracle", latency_oracle(told, control, treated))
    return {test: first(each) + warm_up for test, each in alarms.items()}


def certified(truth: float, margin: float, runs: int, rng: Generator) -> Floats:
    """Return the minute at which health is proven at 5 %, [run], of a treatment with `truth` times the errors."""
    arms = Scenario("", ratio=truth).arms(runs, rng)
    method = Profile.of(sign=1, margin=margin)
    counts = (arms.control, arms.n_control), (arms.treated, arms.n_treated)
    _, track = method.fold(method.start(runs), *counts, 60.0 * np.arange(1, arms.control.shape[1] + 1))
    return first(track.healthy >= np.log(1 / HEALTHY))


def print_health(runs: int) -> None:
    """Print wrong certificates and the time of right ones, by margin; 2 errors a minute in both arms."""
    print(f"{'margin':>12}{'wrongly certified':>28}{'minutes, median':>18}{'formula':>10}{'ratio':>8}")
    for margin in MARGINS:
        rng = np.random.default_rng([SEED, int(100 * margin)])
        share = Share.of(np.isfinite(certified(1 + margin, margin, runs, rng)))
        wrong = f"{100 * share.share:.1f} [{100 * share.lower:.1f}-{100 * share.upper:.1f}] %"
        minutes = float(np.median(certified(1.0, margin, runs // 4, rng)))
        formula = np.log(1 / HEALTHY) / (0.5 * np.log((2 + margin) ** 2 / (4 * (1 + margin)))) / 2
        print(f"{100 * margin:10.0f} %{wrong:>28}{minutes:18.0f}{formula:10.0f}{minutes / formula:8.2f}")


def in_batches(scenario: Scenario | Latency, runs: int, warm_up: int = 0) -> Found:
    """Run a scenario a batch at a time: all ranks and buckets at once would not fit into memory."""
    parts = []
    for done in range(0, runs, BATCH):
        rng = np.random.default_rng([SEED, zlib.crc32(scenario.name.encode()), done])
        size = min(BATCH, runs - done)
        if isinstance(scenario, Scenario):
            parts.append(watch_counts(scenario, size, warm_up, rng))
        else:
            parts.append(watch_latencies(scenario, size, warm_up, rng))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def print_alarms(name: str, found: Found) -> None:
    """Print the share of runs with an alarm, in percent, by test, and the median of what was learnt."""
    cells = []
    for test in TESTS:
        if test in found:
            share = Share.of(np.isfinite(found[test]))
            cells.append(f"{100 * share.share:.1f} [{100 * share.lower:.1f}-{100 * share.upper:.1f}]")
        else:
            cells.append("-")
    cells += [f"{np.median(found[name]):.2f}" if name in found else "-" for name in LEARNT]
    print_row(name, cells)


def print_row(name: str, cells: Sequence[str]) -> None:
    print(f"{name:32}" + "".join(f"{cell:>20}" for cell in cells[:-2]) + "".join(f"{cell:>12}" for cell in cells[-2:]))


def print_delays(scenario: Scenario | Latency, found: Found) -> None:
    """Print delays by test, beside the oracle at the same alpha (at .05 for tests that have none)."""
    print(f"{scenario.name:32}{'mean':>9}{'median':>9}{'x oracle':>10}{'never':>9}{'early':>9}")
    for test in TESTS:
        if test in found:
            read = delay(found[test], scenario)
            best = delay(found["oracle .01" if test.endswith(".01") else "oracle .05"], scenario)
            print(
                f"  {test:30}{read.mean:9.1f}{read.median:9.1f}{read.mean / best.mean:10.2f}"
                f"{read.never:9.1%}{read.early:9.1%}"
            )


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--runs", type=int, default=RUNS, help="null runs; a quarter as many of the others")
    options.add_argument("--only", default="", metavar="NAME", help="rows whose name contains this")
    given = options.parse_args()
    some = max(1, given.runs // 4)

    def wanted(scenarios: Iterable[Scenario | Latency]) -> list[Scenario | Latency]:
        return [each for each in scenarios if given.only in each.name]

    began = time.perf_counter()
    print(f"False alarms in 24 h, % of {given.runs:,} runs [exact 95 % interval]; medians of what was learnt")
    print_row("", [*TESTS, *LEARNT])
    for scenario in wanted([*NULLS, LATENCY_NULL]):
        print_alarms(scenario.name, in_batches(scenario, given.runs))
    print(f"\nWorse for its first 3 minutes only: alarms in 24 h, % of {some:,} runs")
    for scenario in wanted([COLD_CACHES, COLD_LATENCY]):
        for warm_up in (0, WARM_UP):
            print_alarms(f"{scenario.name}, warm-up {warm_up}", in_batches(scenario, some, warm_up))
    print(f"\nMinutes from onset to alarm, {some:,} runs; 'early' alarmed before the onset, and is left out")
    for scenario in wanted([*REGRESSIONS, *LATENCIES]):
        print_delays(scenario, in_batches(scenario, some))
    if given.only in "health":
        print(f"\nHealth within the margin at 5 %, {given.runs:,} runs on the margin, {some:,} without a change")
        print_health(given.runs)
    print(f"\nCPU seconds, of {time.perf_counter() - began:.0f} s in all")
    for part, seconds in SECONDS.items():
        print(f"  {part:24}{seconds:9.1f}")


if __name__ == "__main__":
    main()

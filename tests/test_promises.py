"""What the statistics promise, on simulated days looked at every minute: seeds fixed, bounds stated.

A rate that should be at most alpha may by chance be seen a little above it; a bound is what a true rate of alpha
exceeds one time in a thousand. `make bench BENCH=bench_statistics` measures the same on more runs, beside rivals.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom

from tests.simulation import (
    COLD_CACHES,
    COLD_LATENCY,
    DAY,
    EDGES,
    LATENCIES,
    LATENCY_NULL,
    NO_CHANGE,
    NULLS,
    REGRESSIONS,
    UNITS,
    Arms,
    Latency,
    Scenario,
    delay,
    first,
    oracle,
    z_test,
)
from watcher.evidence.buckets import Buckets
from watcher.evidence.dispersion import learn
from watcher.evidence.profile import Profile
from watcher.evidence.units import offset_scale
from watcher.model import Floats

MINUTES = 60.0 * np.arange(1, DAY + 1)
ALPHAS = (0.05, 0.01)
KNOWN, MODELLED = NULLS[:5], NULLS[5:]


def at_most(rate: float, runs: int) -> int:
    return int(binom.ppf(0.999, runs, rate))


def watched(arms: Arms, dispersion: Floats | float = 1.0, spread: Floats | None = None, warm_up: int = 0) -> Floats:
    """Return log e for "regressed", [run, minute]; `spread` is that of six units."""
    arms = arms.since(warm_up)
    runs = len(arms.control)
    traffic = np.repeat(np.eye(2), UNITS, axis=1)
    tau = None if spread is None else spread * offset_scale(1.0, traffic[:1], traffic[1:])
    method = Profile.of(sign=1, margin=0.5, dispersion=dispersion, units=0 if spread is None else 2 * UNITS)
    counts = (arms.control, arms.n_control), (arms.treated, arms.n_treated)
    return method.fold(method.start(runs, tau), *counts, MINUTES[warm_up:])[1].regressed


def learnt(scenario: Scenario, runs: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return dispersion and spread learnt from the week before each run, [run]: six units, of which none is new."""
    found = [learn(*scenario.history(rng), rng, long=True, day=DAY) for _ in range(runs)]
    return np.array([each.dispersion for each in found]), np.array([each.spread for each in found])


@pytest.mark.parametrize("scenario", KNOWN, ids=[each.name for each in KNOWN])
def test_arms_that_do_not_differ_are_called_regressed_at_most_at_alpha(scenario: Scenario):
    runs = 2000
    log_e = watched(scenario.arms(runs, np.random.default_rng(101))).max(axis=1)
    for alpha in ALPHAS:
        assert int((log_e >= math.log(1 / alpha)).sum()) <= at_most(alpha, runs), alpha


def test_an_arm_that_is_scraped_a_minute_late_raises_no_alarm():
    """Its errors and requests come late together, so that the time of day is met a minute apart."""
    runs = 1000
    arms = NULLS[1].arms(runs, np.random.default_rng(111))
    late = Arms(arms.control, np.roll(arms.treated, 1, axis=1), arms.n_control, np.roll(arms.n_treated, 1, axis=1))
    log_e = watched(late).max(axis=1)
    for alpha in ALPHAS:
        assert int((log_e >= math.log(1 / alpha)).sum()) <= at_most(alpha, runs), alpha


@pytest.mark.parametrize("scenario", MODELLED, ids=[each.name for each in MODELLED])
def test_clusters_bursts_and_pods_stay_within_a_fifth_of_alpha_when_learnt_from_a_week_before(scenario: Scenario):
    """Bursts strike a whole arm, and the treatment's pods are new: neither is seen by comparing the old pods alone."""
    runs, rng = 1000, np.random.default_rng(102)
    arms = scenario.arms(runs, rng)
    log_e = watched(arms, *learnt(scenario, runs, rng)).max(axis=1)
    naive = watched(arms).max(axis=1)
    for alpha in ALPHAS:
        assert int((log_e >= math.log(1 / alpha)).sum()) <= at_most(1.2 * alpha, runs), alpha
        assert (naive >= math.log(1 / alpha)).mean() > 4 * alpha, alpha


def test_a_test_that_starts_afresh_every_minute_cries_wolf_on_the_same_streams():
    arms = NO_CHANGE.arms(500, np.random.default_rng(103))
    assert z_test(arms, 0.05).any(axis=1).mean() > 0.2


@pytest.mark.parametrize(
    ("scenario", "most"), [(each, 2.2 if each.onset else 1.25) for each in REGRESSIONS], ids=lambda x: str(x)[:30]
)
def test_the_delay_is_near_that_of_the_oracle_that_is_told_the_ratio(scenario: Scenario, most: float):
    """On the same streams, alpha .01; for a late onset the oracle starts afresh when it begins."""
    arms = scenario.arms(500, np.random.default_rng(104))
    ours, best = (
        delay(first(log_e >= math.log(100)), scenario).mean
        for log_e in (watched(arms), oracle(arms, scenario.ratio, scenario.onset))
    )
    assert ours <= most * best


def test_a_dispersion_learnt_from_independent_data_costs_little():
    doubled, rng = REGRESSIONS[1], np.random.default_rng(105)
    arms = doubled.arms(500, rng)
    ours = delay(first(watched(arms, *learnt(doubled, 500, rng)) >= math.log(100)), doubled).mean
    best = delay(first(oracle(arms, 2.0) >= math.log(100)), doubled).mean
    assert ours <= 1.45 * best


@pytest.mark.parametrize("margin", [0.25, 0.5, 1.0])
def test_health_is_certified_wrongly_at_most_at_its_alpha_and_about_as_fast_as_the_formula_says(margin: float):
    rng = np.random.default_rng(106)
    for alpha in (0.05, 0.01):
        minutes = {}
        for truth, runs in ((1 + margin, 1000), (1.0, 300)):
            arms = Scenario("", ratio=truth).arms(runs, rng)
            method = Profile.of(sign=1, margin=margin)
            counts = (arms.control, arms.n_control), (arms.treated, arms.n_treated)
            track = method.fold(method.start(runs), *counts, MINUTES)[1]
            minutes[truth] = first(track.healthy >= math.log(1 / alpha))
        assert int(np.isfinite(minutes[1 + margin]).sum()) <= at_most(alpha, 1000)
        events = math.log(1 / alpha) / (0.5 * math.log((2 + margin) ** 2 / (4 * (1 + margin))))
        assert np.median(minutes[1.0]) <= 1.2 * events / 2


def slower(latency: Latency, runs: int, seed: int, warm_up: int = 0) -> Floats:
    """Return the minute at which a latency is found slower at 1 %, [run]; the usual shape is known."""
    rng = np.random.default_rng(seed)
    control, treated = (each[:, warm_up:].astype(float) for each in latency.arms(runs, rng))
    usual = np.tile(1e6 * LATENCY_NULL.probabilities()[0][0], (runs, 1))
    method = Buckets.of(edges=EDGES, margin=0.1, shape=usual)
    track = method.fold(method.start(runs), control, treated, MINUTES[warm_up:])[1]
    return first(track.regressed >= math.log(100))


@pytest.mark.parametrize(("latency", "minutes"), [(LATENCIES[0], 30), (LATENCIES[2], 13)], ids=lambda x: str(x)[:30])
def test_a_slower_latency_is_found_in_default_buckets(latency: Latency, minutes: int):
    assert np.median(slower(latency, 60, 107)) <= minutes


def test_a_latency_that_did_not_change_is_called_slower_at_most_at_alpha():
    assert int(np.isfinite(slower(LATENCY_NULL, 300, 108)).sum()) <= at_most(0.01, 300)


def test_cold_caches_are_no_regression_under_the_default_warm_up():
    """Worse for the first three minutes, then as ever: no more alarms than where nothing was cold."""
    runs = 1000
    cold = watched(COLD_CACHES.arms(runs, np.random.default_rng(109)), warm_up=5).max(axis=1)
    assert int((cold >= math.log(100)).sum()) <= at_most(0.01, runs)
    assert int(np.isfinite(slower(COLD_LATENCY, 200, 110, warm_up=5)).sum()) <= at_most(0.01, 200)

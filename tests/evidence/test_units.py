"""Promises of the allowance for units: pods differ for good, and that must not look like a regression."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binom, norm
from scipy.stats import t as student

from watcher.evidence import units
from watcher.evidence.profile import Profile
from watcher.model import Floats

SPREAD, PODS, RUNS, BLOCKS = 0.2, 3, 500, 1440


@pytest.mark.parametrize("information", [0.1, 1.0, 5.0, 20.0, 1e3, 1e6])
@pytest.mark.parametrize("peak", [0.0, 0.3, 1.1, 2.5])
def test_the_mixture_over_nodes_is_the_integral_it_stands_for(information: float, peak: float):
    fine = np.linspace(-12, 12, 400_001)
    likelihood = -information * (fine - peak) ** 2 / 2
    expected = math.log(np.trapezoid(student.pdf(fine, 5) * np.exp(likelihood), fine))
    found, mean = units.marginal(-information * (units.NODES - peak)[None] ** 2 / 2, units.log_weights(6))
    assert float(found[0]) == pytest.approx(expected, abs=0.02)
    assert abs(float(mean[0])) <= abs(peak) + 1e-9


def test_units_that_serve_both_arms_cancel_and_others_add_up():
    three, none = np.full((1, 3), 100.0), np.zeros((1, 3))
    apart = units.offset_scale(0.2, np.hstack([three, none]), np.hstack([none, three]))
    assert apart[0] == pytest.approx(0.2 * math.sqrt(2 / 3))
    assert units.offset_scale(0.2, three, 9 * three)[0] == pytest.approx(0.0, abs=1e-9)
    noisy = np.random.default_rng(1).poisson(5.0, (2, 1, 6)).astype(float)
    assert units.offset_scale(0.2, noisy[0], noisy[1])[0] < 0.12


def test_the_floor_falls_with_more_units_and_with_a_better_known_spread():
    tau = np.array([0.2 * math.sqrt(2 / 3)])
    assert units.lowest(tau, 6, math.log(100))[0] > units.lowest(tau, 60, math.log(100))[0]
    assert units.lowest(tau / 2, 6, math.log(100))[0] == pytest.approx(units.lowest(tau, 6, math.log(100))[0] / 2)
    well_known = units.lowest(tau, 100_000, math.log(100))[0]
    assert well_known == pytest.approx(tau[0] * math.sqrt(2 * math.log(100)), rel=1e-3)


def learnt_spread(rng: np.random.Generator, known: int) -> Floats:
    """What a week of so many units, 1 % of 100 requests a minute in all, says of their spread."""
    n = 100 / known * 10_080
    events = rng.poisson(0.01 * n * np.exp(rng.normal(0, SPREAD, (RUNS, known))))
    excess = np.log(events).var(axis=1, ddof=1) - (1 / events).mean(axis=1)
    return np.sqrt(np.maximum(excess, 0.0))


def arms(rng: np.random.Generator, ratio: float = 1.0, onset: int = 0) -> tuple[Floats, Floats]:
    control, treated = (np.exp(rng.normal(0, SPREAD, (RUNS, PODS))).mean(axis=1)[:, None] for _ in range(2))
    rate = np.where(np.arange(BLOCKS) < onset, 1.0, ratio)
    return rng.poisson(control * np.ones(BLOCKS)).astype(float), rng.poisson(treated * rate).astype(float)


def watched(control: Floats, treated: Floats, known: int, spread: Floats):
    method = Profile.of(sign=1, margin=0.5, units=known)
    full, ends = np.full(control.shape, 100.0), 60.0 * np.arange(1, BLOCKS + 1)
    return method.fold(method.start(RUNS, spread * math.sqrt(2 / PODS)), (control, full), (treated, full), ends)[1]


def test_identical_releases_on_three_pods_are_called_regressed_at_most_at_alpha():
    rng = np.random.default_rng(11)
    control, treated = arms(rng)
    naive = watched(control, treated, 0, np.zeros(RUNS))
    track = watched(control, treated, 6, learnt_spread(rng, 6))
    for alpha in (0.05, 0.01):
        limit = int(binom.ppf(0.999, RUNS, 1.2 * alpha))
        assert int((track.regressed.max(axis=1) >= math.log(1 / alpha)).sum()) <= limit
        assert int((naive.regressed.max(axis=1) > math.log(1 / alpha)).sum()) > 2 * limit


def test_a_regression_that_begins_late_is_found_fast_because_the_pods_are_known_by_then():
    rng = np.random.default_rng(12)
    control, treated = arms(rng, 2.0, onset=360)
    track = watched(control, treated, 6, learnt_spread(rng, 6))
    hit = track.regressed >= math.log(100)
    assert hit.any(axis=1).mean() > 0.98
    assert np.median(hit.argmax(axis=1) + 1 - 360) <= 90


def test_health_is_not_proven_of_a_treatment_on_the_margin_because_its_pods_happen_to_be_good():
    rng = np.random.default_rng(13)
    control, treated = arms(rng, 1.5)
    for known in (6, 40):
        track = watched(control, treated, known, learnt_spread(rng, known))
        wrong = int((track.healthy.max(axis=1) >= math.log(20)).sum())
        assert wrong <= int(binom.ppf(0.999, RUNS, 1.2 * 0.05)), known


def test_the_normal_tail_is_what_the_floor_is_about():
    """At the floor the units alone would reach the threshold: so rarely, as a normal has it, that alpha is kept."""
    tau = 0.2 * math.sqrt(2 / 3)
    floor = units.lowest(np.array([tau]), 10_000, math.log(100))[0]
    assert norm.sf(floor / tau) < 0.01


def test_a_canary_that_grows_from_one_pod_to_nine_is_called_regressed_at_most_at_alpha():
    """Four stages of six hours, each with other pods and some of the old ones: offsets neither stay nor begin anew."""
    runs, blocks, rng = 1000, 360, np.random.default_rng(14)
    pods = np.exp(rng.normal(0, SPREAD, (runs, 20)))
    learnt = rng.normal(0, SPREAD, (runs, 6)).std(axis=1, ddof=1)
    method = Profile.of(sign=1, margin=0.5, units=6)
    state, highest = method.start(runs), np.zeros(runs)
    for stage, (size, left) in enumerate(((1, 9), (3, 7), (5, 5), (9, 1))):
        traffic = np.zeros((2, 1, 20))
        traffic[0, 0, :left], traffic[1, 0, 10 : 10 + size] = 1.0, 1.0
        state = method.restage(state) if stage else state
        state = method.scaled(state, learnt * units.offset_scale(1.0, traffic[0], traffic[1]))
        arms = []
        for side in traffic:
            requests = 200 * side.sum() / traffic.sum()
            rate = 0.01 * requests * (pods * side).sum(axis=1) / side.sum()
            counted = rng.poisson(rate[:, None] * np.ones(blocks)).astype(float)
            arms.append((counted, np.full((runs, blocks), requests)))
        state, track = method.fold(state, arms[0], arms[1], 60.0 * (stage * blocks + np.arange(1, blocks + 1)))
        highest = np.maximum(highest, track.regressed.max(axis=1))
    for alpha in (0.05, 0.01):
        assert int((highest >= math.log(1 / alpha)).sum()) <= int(binom.ppf(0.999, runs, alpha)), alpha

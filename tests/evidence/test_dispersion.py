"""Promises of the dispersion estimate."""

from __future__ import annotations

import numpy as np

from watcher.evidence.dispersion import dispersion


def estimate(events, total, upper=0.9, seed=1):
    return dispersion(np.asarray(events, float), np.asarray(total, float), np.random.default_rng(seed), upper)


def test_independent_events_cost_little():
    rng = np.random.default_rng(2)
    total = np.full((6, 7 * 1440), 100.0)
    assert estimate(rng.binomial(100, 0.01, total.shape), total, upper=None) < 1.2


def test_clusters_of_three_are_found():
    rng = np.random.default_rng(3)
    total = np.full((6, 1440), 100.0)
    found = estimate(3 * rng.poisson(1 / 3, total.shape), total)
    assert 2.9 <= found <= 5.0


def test_bursts_that_last_minutes_need_the_longer_batches():
    rng = np.random.default_rng(4)
    burst = np.repeat(rng.gamma(0.2, 5.0, (6, 192)), 15, axis=1)
    total = np.full(burst.shape, 100.0)
    events = rng.poisson(burst)
    assert estimate(events, total) > 4.0
    assert estimate(events, total) > 1.5 * estimate(rng.permuted(events, axis=1), total)


def test_a_lasting_difference_between_units_is_not_dispersion():
    rng = np.random.default_rng(5)
    rate = 0.01 * np.array([1, 1, 1.5, 0.7, 1.2, 0.8])[:, None]
    total = np.full((6, 1440), 100.0)
    assert estimate(rng.binomial(100, np.broadcast_to(rate, total.shape)), total) < 2.0


def test_one_unit_or_a_few_minutes_say_nothing():
    assert estimate(np.ones((1, 500)), np.full((1, 500), 100.0)) is None
    assert estimate(np.ones((4, 10)), np.full((4, 10), 100.0)) is None
    assert estimate(np.zeros((4, 500)), np.full((4, 500), 100.0)) is None

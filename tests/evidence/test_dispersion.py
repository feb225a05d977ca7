"""Promises of what is learnt of counts before exposure: dispersion between units and over time, and their spread."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from watcher.evidence.dispersion import Learnt, learn, spread, spread_of

WEEK, DAY = 7 * 1440, 1440


def learnt(events, total=100.0, *, long: bool = False, day: int | None = None, seed: int = 1) -> Learnt:
    events = np.asarray(events, float)
    return learn(events, np.broadcast_to(total, events.shape) * 1.0, np.random.default_rng(seed), long, day)


def bursts(minutes: int, rng: np.random.Generator, dispersion: float = 9.5, memory: float = 15.0):
    """An intensity of mean 1 that makes one event a minute vary over long stretches as so many would."""
    a, lags = math.exp(-1 / memory), np.arange(-600, 601)
    low, high = 0.0, 3.0
    for _ in range(50):
        middle = (low + high) / 2
        wide = 1 + np.expm1(middle**2 * a ** np.abs(lags)).sum() > dispersion
        low, high = (low, middle) if wide else (middle, high)
    shocks = rng.normal(0, low * math.sqrt(1 - a * a), minutes + 300)
    return np.exp(lfilter([1.0], [1.0, -a], shocks)[300:] - low**2 / 2)


def test_independent_events_cost_little_after_a_week():
    rng = np.random.default_rng(2)
    found = [learnt(rng.poisson(np.full((6, WEEK), 1 / 6)), long=True, day=DAY).dispersion for _ in range(10)]
    assert 1.0 <= np.mean(found) < 1.2


def test_a_short_history_gives_its_upper_bound():
    rng = np.random.default_rng(3)
    events = rng.poisson(np.full((6, 600), 1.0))
    assert learnt(events).dispersion > learnt(events, long=True).dispersion


def test_clusters_of_three_are_found_between_units_and_over_time():
    rng = np.random.default_rng(3)
    found = [learnt(3 * rng.poisson(1 / 3, (6, WEEK)), long=True) for _ in range(8)]
    assert np.mean([each.between_units for each in found]) == pytest.approx(3.1, rel=0.15)
    assert np.mean([each.over_time for each in found]) == pytest.approx(3.3, rel=0.2)
    assert all(each.clustered for each in found)


def test_bursts_that_strike_units_apart_need_the_longer_batches():
    rng = np.random.default_rng(4)
    burst = np.repeat(rng.gamma(0.2, 5.0, (6, 192)), 15, axis=1)
    events = rng.poisson(burst)
    assert learnt(events).between_units > 4.0
    assert learnt(events).between_units > 1.5 * learnt(rng.permuted(events, axis=1)).between_units


def test_bursts_common_to_all_units_are_seen_over_time_and_not_between_units():
    rng = np.random.default_rng(5)
    found = [learnt(rng.poisson(bursts(WEEK, rng) / 6 * np.ones((6, 1))), long=True, day=DAY) for _ in range(12)]
    assert np.mean([each.between_units for each in found]) < 1.3
    assert 7.0 < np.mean([each.over_time for each in found]) < 11.0


def test_what_comes_back_every_day_is_no_dispersion():
    rng = np.random.default_rng(6)
    rate = 1 + 0.8 * np.sin(2 * np.pi * np.arange(WEEK) / DAY)
    events = rng.poisson(5 * rate * np.ones((6, 1)))
    assert learnt(events, long=True, day=DAY).dispersion < 1.5


def test_one_day_of_a_busy_service_is_too_little_to_take_the_time_of_day_for_bursts():
    rng = np.random.default_rng(12)
    rate = 1 + 0.8 * np.sin(2 * np.pi * np.arange(DAY) / DAY)
    found = [learnt(rng.poisson(20 * rate * np.ones((6, 1)))).over_time for _ in range(5)]
    assert np.mean(found) < 1.4


def test_a_lasting_difference_between_units_is_spread_and_not_dispersion():
    rng = np.random.default_rng(7)
    found = []
    for _ in range(20):
        rate = np.exp(rng.normal(0, 0.2, (6, 1)))
        each = learnt(rng.poisson(rate / 6 * np.ones((1, WEEK))), long=True, day=DAY)
        assert each.dispersion < 1.6
        found.append(each.spread)
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.2, abs=0.05)


def test_units_alike_have_no_spread_but_by_chance():
    rng = np.random.default_rng(8)
    found = [learnt(rng.poisson(np.full((6, WEEK), 1 / 6)), long=True).spread for _ in range(20)]
    assert np.mean(found) < 0.03


def test_the_spread_of_units_with_unequal_traffic_is_that_of_their_rates():
    """The slow twin: every unit's rate measured so well that the plain standard deviation is right."""
    total = np.array([1e9, 2e9, 1e9, 4e9, 1e9])
    rates = 0.01 * np.exp(np.array([0.1, -0.1, 0.05, -0.05, 0.0]))
    found = spread(total * rates, total, 1.0)
    assert found == pytest.approx(np.std(np.log(rates), ddof=1), rel=0.25)
    means, variances = np.array([0.1, 0.3, 0.2]), np.full(3, 1e-12)
    assert spread_of(means, variances) == pytest.approx(np.std(means, ddof=1), rel=1e-3)


def test_a_share_is_held_against_the_binomial_so_that_common_outcomes_hide_nothing():
    """Nine in ten complete; they come and go in groups of four, which counted as rare events would look like .4."""
    rng = np.random.default_rng(11)
    total = np.full((6, WEEK), 80.0)
    for size in (1, 4):
        events = size * rng.binomial(80 // size, 0.9, total.shape)
        found = learn(events.astype(float), total, rng, long=True, part=True)
        assert found.between_units == pytest.approx(size, rel=0.2)
        assert found.over_time == pytest.approx(size, rel=0.4)


def test_one_unit_says_nothing_of_units_and_a_few_minutes_nothing_at_all():
    rng = np.random.default_rng(9)
    one = learnt(rng.poisson(np.full((1, 500), 1.0)))
    assert (one.between_units, one.units, one.spread) == (None, 1, 0.0)
    assert one.over_time is not None
    few = learnt(np.ones((4, 10)))
    assert (few.between_units, few.over_time, few.dispersion) == (None, None, 1.0)
    assert learnt(np.zeros((4, 500))).between_units is None


def test_independent_events_rarely_look_clustered():
    rng = np.random.default_rng(10)
    looked = [learnt(rng.poisson(np.full((1, 240), 2.0))).clustered for _ in range(100)]
    assert sum(looked) <= 5

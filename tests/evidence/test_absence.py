"""Promises of absence: silence is told quickly where traffic is heavy, and hardly ever by chance where it is light."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from watcher.evidence.absence import FALSE_SILENCE, FIRST_BLOCKS, SCHEDULED, absent, reserved, silent, surprise
from watcher.model import Flags, Floats

DAY = 1440
RUNS = 1500


def over_time(traffic: Floats) -> tuple[Floats, Floats, Floats]:
    """Return idle blocks and traffic so far after each block, [run, block], and how many blocks that were."""
    block = np.arange(1.0, traffic.shape[1] + 1)
    last = np.maximum.accumulate(np.where(traffic > 0, block, 0.0), axis=1)
    return block - last, np.cumsum(traffic, axis=1).astype(float), block


def called(traffic: Floats, dispersion: float = 1.0) -> int:
    """Return in how many runs an arm that has spoken is called silent, at any block."""
    idle, so_far, blocks = over_time(traffic)
    return int((silent(idle, so_far, blocks, dispersion) & (so_far > 0)).any(axis=1).sum())


def allowed(rate: float) -> int:
    """What a rate gives at most in all runs, but for one time in a thousand."""
    return int(binom.ppf(0.999, RUNS, rate))


class TestFalseSilence:
    """Steady traffic, looked at every minute of a day: called silent even once at most one time in a hundred."""

    @pytest.mark.parametrize("rate", [0.05, 0.2, 0.5, 1.0, 2.0, 4.0])
    def test_of_poisson_traffic_stays_within_its_bound(self, rate):
        traffic = np.random.default_rng(1).poisson(rate, (RUNS, DAY))
        assert called(traffic) <= allowed(FALSE_SILENCE)

    @pytest.mark.parametrize("varied", [False, True])
    @pytest.mark.parametrize("rate", [0.2, 0.5, 1.0])
    def test_of_clusters_needs_their_dispersion(self, rate, varied):
        rng = np.random.default_rng(2)
        clusters = rng.poisson(rate, (RUNS, DAY))
        # Clusters of 3, or geometric ones of 2 on average: the variance of either is three times its mean.
        more = np.where(clusters > 0, rng.negative_binomial(np.maximum(clusters, 1), 0.5), 0)
        traffic = clusters + more if varied else 3 * clusters
        assert called(traffic) > 5 * allowed(FALSE_SILENCE)
        assert called(traffic, dispersion=3.0) <= allowed(FALSE_SILENCE)

    @pytest.mark.parametrize("come", [0.95, 0.99])
    def test_of_points_on_a_schedule_stays_within_its_bound(self, come):
        points = (np.random.default_rng(3).random((RUNS, DAY)) < come).astype(float)
        assert called(points, SCHEDULED) <= allowed(FALSE_SILENCE)

    @pytest.mark.parametrize("past", [1, 2, 10, 100, 1440])
    def test_of_each_silence_costs_no_more_than_its_share_by_exact_enumeration(self, past):
        """A silence that begins after block `past` may follow any past: summed over them, for every steady rate."""
        events = np.arange(1.0, 401.0)
        # The first block at which a silence after so many events is called one, by bisection.
        early, late = np.zeros(400), np.full(400, 2.0**62)
        for _ in range(62):
            middle = np.floor((early + late) / 2)
            found = silent(middle, events, past + middle)
            early, late = np.where(found, early, middle), np.where(found, middle, late)
        for mean in np.geomspace(0.01, 280, 100):
            chance = (poisson.pmf(events, mean) * np.exp(-mean / past * late)).sum()
            assert chance <= FALSE_SILENCE * reserved(np.array(past))


@pytest.mark.parametrize("rate", [5.0, 100.0, 1e6])
def test_a_busy_arm_is_silent_on_the_fourth_block_without_traffic_at_any_time_of_the_day(rate):
    for past in (1.0 + 3 / rate, 10.0, 60.0, 1000.0):
        idle = np.arange(0.0, 8.0)
        found = silent(idle, np.full(8, rate * past + 10), past + idle)
        assert found.tolist() == [False] * FIRST_BLOCKS + [True] * FIRST_BLOCKS


def test_an_arm_that_never_spoke_is_silent_from_the_fourth_block_on():
    blocks = np.arange(1.0, 7.0)
    assert silent(blocks, np.zeros(6), blocks).tolist() == [False, False, False, True, True, True]


@pytest.mark.parametrize(("rate", "minutes"), [(1.0, 20), (2.0, 10), (0.5, 40)])
def test_a_quiet_arm_is_called_silent_after_about_twenty_events_missed(rate, minutes):
    idle = np.arange(1.0, 100.0)
    found = silent(idle, np.full(99, rate * DAY), DAY + idle)
    assert abs(int(found.argmax()) + 1 - minutes) <= 1


def test_either_arm_is_absent_only_while_the_other_had_traffic():
    quiet = np.array([[False, True], [True, False], [True, True], [False, True], [False, False]])
    idle = np.array([[0.0, 9.0], [9.0, 2.0], [9.0, 5.0], [9.0, 9.0], [0.0, 1.0]])
    expected = [[False, True], [True, False], [False, False], [False, False], [False, False]]
    assert absent(quiet, idle).tolist() == expected


class TestSurprise:
    """A fresh unit that was never heard of, beside units that report as often as they do."""

    @pytest.mark.parametrize("past", [5, 20, 200])
    def test_a_unit_like_one_of_the_others_is_called_missing_no_more_often_than_is_said(self, past):
        rng = np.random.default_rng(6)
        come = rng.beta(0.5, 0.5, (20_000, 3))
        reported = rng.binomial(past, come).astype(float)
        reports = np.stack([reported, past - reported], axis=2)
        silent_for = rng.geometric(np.maximum(come[:, 0], 1e-9)) - 1.0
        called = np.zeros(len(come), dtype=bool)
        for blocks in range(1, 200):
            surprised = surprise(reports, np.full(len(come), float(blocks))) >= -math.log(FALSE_SILENCE)
            called |= surprised & (silent_for >= blocks)
        heard = reported[:, 0] > 0
        assert int(called[heard].sum()) <= int(binom.ppf(0.999, int(heard.sum()), FALSE_SILENCE))

    @pytest.mark.parametrize(("streams", "past", "enough"), [(1, 15, 2), (10, 15, 3), (50, 20, 3)])
    def test_beside_units_that_always_report_two_or_three_blocks_are_enough(self, streams, past, enough):
        always = np.tile([float(past), 0.0], (1, 3, 1))
        said = [surprise(always, np.array([n]))[0] >= -math.log(FALSE_SILENCE / streams) for n in (1.0, 2.0, 3.0)]
        assert said == [n >= enough for n in (1, 2, 3)]

    def test_it_equals_its_definition_block_by_block(self):
        rng = np.random.default_rng(7)
        reports = rng.integers(0, 9, (5, 4, 2)).astype(float)
        reports[0, :, 0] = 0.0
        found = surprise(reports, np.full(5, 6.0))
        for stream in range(5):
            chances = []
            for spoke, missed in reports[stream]:
                if spoke > 0:
                    each = [(missed + 0.5 + n) / (spoke + missed + 1.0 + n) for n in range(6)]
                    chances.append(math.prod(each))
            expected = -math.log(np.mean(chances)) if chances else 0.0
            assert found[stream] == pytest.approx(expected, abs=1e-9)


cells = st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(0, 100_000))


@given(st.lists(cells, min_size=1, max_size=8), st.floats(0.25, 10))
def test_the_vectorised_rule_equals_its_definition(drawn, dispersion):
    """For one arm at a time, as it is said: the probability of such a silence, against its share of the bound."""

    def one(past: int, idle: int, traffic: int) -> bool:
        if idle < FIRST_BLOCKS:
            return False
        if traffic == 0:
            return True
        chance = math.exp(-traffic / dispersion * math.log((past + idle) / past))
        return chance <= FALSE_SILENCE * 6 / (math.pi * past) ** 2

    arms = [(past if traffic else 0, idle, min(traffic, past * 1000)) for past, idle, traffic in drawn]
    past, idle, traffic = np.array(arms, float).T
    expected = [one(max(p, 1), i, t) for p, i, t in arms]
    assert silent(idle[:, None], traffic[:, None], (past + idle)[:, None], dispersion)[:, 0].tolist() == expected


@given(st.integers(1, 500), st.integers(0, 60), st.integers(1, 5000))
def test_a_longer_silence_of_a_busier_arm_is_never_less_of_one(past, idle, traffic):
    def said(blocks: int, events: int) -> Flags:
        return silent(np.array([[float(blocks)]]), np.array([[float(events)]]), float(past + blocks))

    assert said(idle, traffic) <= said(idle + 1, traffic)
    assert said(idle, traffic) <= said(idle, traffic + 1)
    assert not said(0, traffic)


def test_reserved_shares_of_however_many_add_up_to_no_more_than_one_and_the_first_gets_most():
    shares = reserved(np.arange(1.0, 1e6))
    assert 0.999 < shares.sum() < 1
    assert (np.diff(shares) < 0).all()
    assert shares[0] == pytest.approx(6 / math.pi**2)

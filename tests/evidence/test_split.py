"""Promises of the split test: false alarms, delay against the oracle, and what a stage is."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from watcher.errors import ShapeError
from watcher.evidence.split import STRENGTH, SplitState, SplitTest
from watcher.model import Floats


def run(method: SplitTest, share: float, baseline: Floats, treatment: Floats) -> tuple[SplitState, Floats]:
    baseline, treatment = np.asarray(baseline, float), np.asarray(treatment, float)
    return method.fold(method.start(np.full(len(baseline), share)), baseline, treatment)


def divided(total: Floats, share: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Assign users to the arms: baseline and treatment."""
    treatment = rng.binomial(total.astype(int), share)
    return total - treatment, treatment.astype(float)


def alarms(log_e: Floats, alpha: float) -> int:
    return int((log_e.max(axis=1) >= math.log(1 / alpha)).sum())


def allowed(alpha: float, runs: int) -> int:
    """What a rate of alpha gives at most, but for one time in a thousand."""
    return int(binom.ppf(0.999, runs, alpha))


def delay(log_e: Floats, alpha: float = 1e-4) -> Floats:
    """Return the block of the alarm, counted from 1; the last where there is none."""
    hit = log_e >= math.log(1 / alpha)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, log_e.shape[1])


class TestFalseAlarms:
    """A split that is as configured, looked at 200 times, is called off at most alpha of the time."""

    RUNS, BLOCKS = 20_000, 200

    @pytest.mark.parametrize(("share", "per_block"), [(0.5, 100), (0.05, 100), (0.01, 1000), (0.5, 1)])
    def test_stay_within_alpha(self, share, per_block):
        rng = np.random.default_rng(1)
        total = rng.poisson(per_block, (self.RUNS, self.BLOCKS)).astype(float)
        _, log_e = run(SplitTest(), share, *divided(total, share, rng))
        for alpha in (1e-2, 1e-3, 1e-4):
            assert alarms(log_e, alpha) <= allowed(alpha, self.RUNS), alpha

    @pytest.mark.parametrize("varied", [False, True])
    @pytest.mark.parametrize("share", [0.5, 0.05])
    def test_of_users_who_come_in_clusters_need_their_dispersion(self, share, varied):
        """Clusters of 3, or geometric ones of 2 on average: either makes the variance three times the binomial."""
        rng, runs = np.random.default_rng(2), 4000
        arms = divided(rng.poisson(50, (runs, 100)).astype(float), share, rng)

        def clustered(arm: Floats) -> Floats:
            more = rng.negative_binomial(np.maximum(arm, 1), 0.5)
            return np.where(arm > 0, arm + more, 0.0) if varied else 3 * arm

        baseline, treatment = clustered(arms[0]), clustered(arms[1])
        _, naive = run(SplitTest(), share, baseline, treatment)
        _, tempered = run(SplitTest(dispersion=3.0), share, baseline, treatment)
        assert alarms(naive, 1e-4) > 0.02 * runs
        for alpha in (1e-2, 1e-3, 1e-4):
            assert alarms(tempered, alpha) <= allowed(alpha, runs), alpha

    def test_over_five_stages_stay_within_the_one_alpha(self):
        rng, runs = np.random.default_rng(3), 5000
        method = SplitTest()
        state, highest = method.start(np.full(runs, 0.01)), np.full(runs, -np.inf)
        for share in (0.01, 0.05, 0.25, 0.5, 0.9):
            state = method.restage(state, np.full(runs, share))
            state, log_e = method.fold(state, *divided(np.full((runs, 40), 50.0), share, rng))
            highest = np.maximum(highest, log_e.max(axis=1))
        for alpha in (1e-2, 1e-3):
            assert alarms(highest[:, None], alpha) <= allowed(alpha, runs)


class TestDelay:
    """Against the sequential test that is told the true share, on the same users, alpha .0001."""

    @pytest.mark.parametrize(
        ("configured", "true", "per_block"),
        [(0.5, 0.47, 100), (0.5, 0.45, 100), (0.5, 0.49, 1000), (0.05, 0.06, 200), (0.05, 0.04, 200)],
    )
    def test_is_within_a_third_of_the_oracle(self, configured, true, per_block):
        baseline, treatment = divided(np.full((500, 400), float(per_block)), true, np.random.default_rng(4))
        _, log_e = run(SplitTest(), configured, baseline, treatment)
        gain = math.log(true / configured), math.log((1 - true) / (1 - configured))
        oracle = np.cumsum(treatment * gain[0] + baseline * gain[1], axis=1)
        assert delay(log_e).mean() <= 1.35 * delay(oracle).mean()

    def test_of_47_percent_where_half_is_configured_is_about_an_hour_at_a_hundred_users_a_minute(self):
        users = np.full((500, 300), 100.0)
        _, log_e = run(SplitTest(), 0.5, *divided(users, 0.47, np.random.default_rng(5)))
        assert 50 <= np.median(delay(log_e)) <= 70
        assert np.quantile(delay(log_e), 0.9) <= 120

    def test_of_a_treatment_that_nobody_reaches_is_a_matter_of_sixty_users(self):
        _, log_e = run(SplitTest(), 0.5, np.ones((1, 100)), np.zeros((1, 100)))
        assert delay(log_e)[0] <= 60

    def test_in_a_second_stage_grows_by_a_quarter_after_a_hundred_thousand_users_as_configured(self):
        rng, runs = np.random.default_rng(6), 300
        method = SplitTest()
        fresh = method.start(np.full(runs, 0.5))
        state, _ = method.fold(fresh, *divided(np.full((runs, 1), 1e5), 0.5, rng))
        users = divided(np.full((runs, 300), 100.0), 0.47, rng)
        _, first = method.fold(fresh, *users)
        _, second = method.fold(method.restage(state, np.full(runs, 0.5)), *users)
        assert delay(second).mean() <= 1.35 * delay(first).mean()


def slow_twin(share: float, users: list[int]) -> float:
    """Log e of one stage, user by user: what the bet expected of each (1 treatment), against the configured share."""
    weight = [STRENGTH * (1 - share), STRENGTH * share]
    log_e = 0.0
    for arm in users:
        log_e += math.log(weight[arm] / sum(weight)) - math.log([1 - share, share][arm])
        weight[arm] += 1
    return log_e


@pytest.mark.parametrize("share", [0.5, 0.05, 0.9])
def test_the_vectorised_e_process_equals_its_definition(share):
    users = np.random.default_rng(7).random((3, 200)) < 0.4
    _, log_e = run(SplitTest(), share, ~users, users)
    for row in range(3):
        for n in (1, 2, 17, 200):
            assert log_e[row, n - 1] == pytest.approx(slow_twin(share, users[row, :n].astype(int).tolist()), abs=1e-9)


def test_of_small_counts_it_equals_the_closed_form_in_fractions():
    """The ratio of gamma functions for 3 and 1 users at a half: (50 51 52)(50) / (100 101 102 103) * 2^4."""
    exact = Fraction(50 * 51 * 52 * 50 * 2**4, 100 * 101 * 102 * 103)
    _, log_e = run(SplitTest(), 0.5, [[3]], [[1]])
    assert math.exp(log_e[0, 0]) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize("users", [1e8, 1e12])
@pytest.mark.parametrize("deviation", [0.0, 3.0, 8.0])
def test_of_many_users_it_is_the_normal_mixture_it_tends_to(users, deviation):
    """z^2 / 2 less half the log of how much narrower the counts are than the bet."""
    treatment = users / 2 + deviation * math.sqrt(users / 4)
    _, log_e = run(SplitTest(), 0.5, [[users - treatment]], [[treatment]])
    limit = deviation**2 / 2 - 0.5 * math.log1p(users / STRENGTH)
    assert log_e[0, 0] == pytest.approx(limit, abs=0.02)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.9])
@pytest.mark.parametrize("dispersion", [1.0, 2.0])
def test_the_expected_e_value_is_at_most_one_by_exact_enumeration(share, dispersion):
    """Of eight users in two stages of four, the second at another share, stopped at any user or at the end."""
    method = SplitTest(dispersion)
    paths = np.array(list(itertools.product((0, 1), repeat=8)), dtype=float)
    state, first = run(method, share, 1 - paths[:, :4], paths[:, :4])
    state = method.restage(state, np.full(len(paths), 0.3))
    _, second = method.fold(state, 1 - paths[:, 4:], paths[:, 4:])
    chance = (share**paths * (1 - share) ** (1 - paths))[:, :4].prod(axis=1)
    chance *= (0.3**paths * 0.7 ** (1 - paths))[:, 4:].prod(axis=1)
    log_e = np.hstack([first, second])
    for stop in (0.005, 0.02, 0.1, np.inf):
        hit = log_e >= stop
        at = np.where(hit.any(axis=1), hit.argmax(axis=1), 7)
        mean = float((chance * np.exp(log_e[np.arange(len(paths)), at])).sum())
        assert mean == pytest.approx(1, abs=1e-12) if dispersion == 1 else mean <= 1


class TestStages:
    def test_each_has_fresh_counts_and_its_own_share_and_they_multiply(self):
        method = SplitTest()
        state, _ = run(method, 0.05, [[900]], [[100]])
        state, log_e = method.fold(method.restage(state, np.array([0.5])), np.array([[480.0]]), np.array([[520.0]]))
        parts = [run(method, 0.05, [[900]], [[100]])[1], run(method, 0.5, [[480]], [[520]])[1]]
        assert log_e[0, 0] == pytest.approx(parts[0][0, 0] + parts[1][0, 0])
        assert state.counts.tolist() == [[480.0, 520.0]]
        assert method.snapshot(state, 0.05).estimate[0] == pytest.approx(0.52)

    def test_a_ramp_that_is_as_configured_is_not_called_off_though_its_pooled_share_is(self):
        rng = np.random.default_rng(8)
        method, ramp = SplitTest(), [(0.05, 4000), (0.5, 4000)]
        state = method.start(np.full(200, 0.05))
        for share, users in ramp:
            state = method.restage(state, np.full(200, share))
            state, log_e = method.fold(state, *divided(np.full((200, 1), float(users)), share, rng))
        assert alarms(log_e, 1e-3) == 0
        pooled = run(method, 0.5, [[3800 + 2000]], [[200 + 2000]])[1]
        assert pooled[0, 0] > 100

    @pytest.mark.parametrize("share", [np.nan, 0.0, 1.0])
    def test_one_without_a_split_to_test_adds_nothing_and_still_shows_the_share(self, share):
        method = SplitTest()
        state, _ = run(method, 0.5, [[300]], [[200]])
        before = method.snapshot(state, 0.05).log_e
        state, log_e = method.fold(method.restage(state, np.array([share])), np.array([[60.0]]), np.array([[20.0]]))
        seen = method.snapshot(state, 0.05)
        assert log_e[0] == before == seen.log_e
        assert seen.lower[0] < 0.25 < seen.upper[0]

    def test_a_split_that_was_off_in_one_stays_said_in_the_next(self):
        method = SplitTest()
        state, _ = run(method, 0.5, [[7000]], [[3000]])
        state, log_e = method.fold(method.restage(state, np.array([0.5])), np.array([[500.0]]), np.array([[500.0]]))
        assert log_e[0, -1] > math.log(1e4)


class TestObservedShare:
    def test_is_covered_by_its_confidence_sequence_at_every_look(self):
        rng, runs, true = np.random.default_rng(9), 1000, 0.08
        method = SplitTest()
        state, missed = method.start(np.full(runs, 0.05)), np.zeros(runs, dtype=bool)
        for _ in range(100):
            state, _ = method.fold(state, *divided(np.full((runs, 1), 50.0), true, rng))
            seen = method.snapshot(state, 0.05)
            missed |= (seen.lower > true) | (seen.upper < true)
        assert int(missed.sum()) <= allowed(0.05, runs)
        assert float(np.median(seen.upper - seen.lower)) < 0.04

    @given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.5, 0.05, 0.9]), st.floats(1, 4))
    def test_excludes_the_configured_share_exactly_when_the_test_refutes_it(
        self, baseline, treatment, share, dispersion
    ):
        method = SplitTest(dispersion)
        state, log_e = run(method, share, [[baseline]], [[treatment]])
        seen = method.snapshot(state, 0.01)
        outside = bool(share < seen.lower[0] or share > seen.upper[0])
        assert outside == bool(log_e[0, 0] > math.log(100))
        assert 0 <= seen.lower[0] <= seen.upper[0] <= 1

    def test_is_open_before_the_first_user_and_on_the_side_of_an_empty_arm(self):
        method = SplitTest()
        nobody = method.snapshot(method.start(np.array([0.5])), 0.05)
        assert np.isnan(nobody.estimate[0])
        assert (nobody.lower[0], nobody.upper[0], nobody.log_e[0]) == (0.0, 1.0, 0.0)
        alone = method.snapshot(run(method, 0.5, [[40]], [[0]])[0], 0.05)
        assert (alone.estimate[0], alone.lower[0]) == (0.0, 0.0)
        assert alone.upper[0] < 0.5


counts = st.integers(0, 50)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(counts, counts), max_size=30), st.sampled_from([0.5, 0.05, math.nan]), st.data())
def test_the_same_blocks_give_the_same_state_whatever_the_looks(blocks, share, data):
    method = SplitTest(dispersion=1.3)
    cells = np.array(blocks, dtype=float).reshape(-1, 2).T[:, None]
    whole, at_once = method.fold(method.start(np.array([share])), *cells)
    cuts = sorted({0, len(blocks), *data.draw(st.lists(st.integers(0, len(blocks)), max_size=5))})
    state, pieces = method.start(np.array([share])), []
    for low, high in itertools.pairwise(cuts):
        state, log_e = method.fold(state, *cells[:, :, low:high])
        state = SplitState.from_json(state.to_json())
        pieces.extend(log_e[0])
    assert pieces == list(at_once[0])
    assert state.to_json() == whole.to_json()


@given(counts, counts, st.sampled_from([0.5, 0.05, 0.9]))
def test_swapping_the_arms_and_their_shares_changes_nothing(x, y, share):
    there, here = run(SplitTest(), share, [[x]], [[y]])[1], run(SplitTest(), 1 - share, [[y]], [[x]])[1]
    assert there[0, 0] == pytest.approx(here[0, 0], abs=1e-9)


def test_counts_that_do_not_fit_are_refused():
    method = SplitTest()
    with pytest.raises(ShapeError, match="do not fit 2 streams"):
        method.fold(method.start(np.full(2, 0.5)), np.ones((3, 4)), np.ones((3, 4)))
    with pytest.raises(ShapeError):
        method.fold(method.start(np.full(2, 0.5)), np.ones((2, 4)), np.ones((2, 3)))

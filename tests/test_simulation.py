"""The streams are what they claim to be, and the rivals are what they are called."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from tests.simulation import (
    BURSTS,
    DAY,
    HISTORY,
    LATENCIES,
    NO_CHANGE,
    NULLS,
    REGRESSIONS,
    UNITS,
    Arms,
    Latency,
    Ranks,
    Scenario,
    Share,
    bursts,
    delay,
    first,
    hodges_lehmann,
    kayenta,
    latency_oracle,
    mann_whitney,
    oracle,
    z_test,
)

BY_NAME = {scenario.name: scenario for scenario in (*NULLS, *REGRESSIONS)}


def rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def ratio(arms: Arms) -> float:
    return (arms.treated.sum() / arms.n_treated.sum()) / (arms.control.sum() / arms.n_control.sum())


def dispersion_of_days(events) -> float:
    days = events.sum(axis=1)
    return float(days.var(ddof=1) / days.mean())


class TestStreams:
    @pytest.mark.parametrize("scenario", NULLS, ids=lambda scenario: scenario.name)
    def test_without_a_change_have_one_error_rate_in_both_arms(self, scenario):
        assert ratio(scenario.arms(600, rng(1))) == pytest.approx(1.0, abs=0.03)

    @pytest.mark.parametrize("scenario", REGRESSIONS, ids=lambda scenario: scenario.name)
    def test_with_a_change_have_its_ratio_from_its_onset_on(self, scenario):
        arms = scenario.arms(100, rng(2))
        assert ratio(arms.since(scenario.onset)) == pytest.approx(scenario.ratio, rel=0.02)
        before = arms.treated[:, : scenario.onset]
        assert before.size == 0 or before.mean() == pytest.approx(1.0, rel=0.02)

    @pytest.mark.parametrize(
        ("name", "claimed"), [("no change", 1.0), ("dispersion 3", 3.0), ("bursts", 9.5), ("diurnal", 1.0)]
    )
    def test_vary_between_days_as_they_claim(self, name, claimed):
        arms = BY_NAME[name].arms(1500, rng(3))
        assert dispersion_of_days(arms.treated) == pytest.approx(claimed, rel=0.15)
        assert np.corrcoef(arms.treated.sum(axis=1), arms.control.sum(axis=1))[0, 1] == pytest.approx(0.0, abs=0.1)

    def test_of_pods_differ_by_the_spread_of_their_pods_for_good(self):
        arms = BY_NAME["pods"].arms(1500, rng(4))
        log_ratio = np.log(arms.treated.sum(axis=1) / arms.control.sum(axis=1))
        assert log_ratio.std() == pytest.approx(np.sqrt(0.2**2 * 2 / UNITS + 2 / DAY), rel=0.08)

    def test_share_their_incidents(self):
        arms = BY_NAME["shared incidents"].arms(200, rng(5))
        high = arms.control > 4
        assert arms.treated[high].mean() > 2 * arms.treated[~high].mean()
        assert arms.control.mean() == pytest.approx(1 + 4 * 60 / DAY, rel=0.03)

    def test_burst_with_mean_one_and_a_memory_of_a_quarter_of_an_hour(self):
        intensity = bursts(BURSTS, (400, DAY), rng(6))
        assert intensity.mean() == pytest.approx(1.0, abs=0.03)
        log = np.log(intensity)
        assert np.corrcoef(log[:, :-15].ravel(), log[:, 15:].ravel())[0, 1] == pytest.approx(np.exp(-1), abs=0.03)


class TestHistory:
    @pytest.mark.parametrize("scenario", NULLS, ids=lambda scenario: scenario.name)
    def test_is_a_week_of_six_units_at_the_rate_of_an_arm(self, scenario):
        errors, requests = scenario.history(rng(7))
        assert errors.shape == requests.shape == (2 * UNITS, HISTORY)
        assert requests.sum(axis=0)[0] == pytest.approx(sum(scenario.requests) / 2)
        expected = 0.01 * (1 + 4 * 60 / DAY if scenario.name == "shared incidents" else 1.0)
        assert errors.sum() / requests.sum() == pytest.approx(expected, rel=0.25)

    def test_bursts_in_all_units_at_once(self):
        errors, _ = BY_NAME["bursts"].history(rng(8))
        hours = errors.reshape(2 * UNITS, -1, 60).sum(axis=2)
        assert np.corrcoef(hours)[np.triu_indices(2 * UNITS, 1)].mean() > 0.3

    def test_of_pods_has_units_that_differ(self):
        apart = [np.log(BY_NAME["pods"].history(rng(seed))[0].sum(axis=1)).std(ddof=1) for seed in range(40)]
        assert np.sqrt(np.mean(np.square(apart))) == pytest.approx(0.2, rel=0.2)


class TestOracle:
    @pytest.mark.parametrize("alpha", [0.05, 0.01])
    def test_holds_its_alpha(self, alpha):
        arms = NO_CHANGE.arms(1500, rng(9))
        assert Share.of(oracle(arms, 2.0).max(axis=1) >= np.log(1 / alpha)).lower <= alpha

    def test_takes_as_long_as_theory_says(self):
        doubled = BY_NAME["2x"]
        found = first(oracle(doubled.arms(1000, rng(10)), 2.0) >= np.log(100))
        wald = np.log(100) / (2 * np.log(4 / 3) + np.log(2 / 3))
        assert wald <= delay(found, doubled).mean <= 1.15 * wald

    def test_that_starts_at_the_onset_knows_nothing_before(self):
        late = BY_NAME["2x from 6 h on"]
        evidence = oracle(late.arms(50, rng(11)), 2.0, late.onset)
        assert not evidence[:, : late.onset].any()
        assert delay(first(evidence >= np.log(100)), late).median < 60

    def test_of_latencies_holds_its_alpha_and_finds_a_shift(self):
        slower = LATENCIES[0]
        same = Latency("no change").arms(150, rng(12))
        assert Share.of(latency_oracle(slower, *same).max(axis=1) >= np.log(20)).lower <= 0.05
        found = first(latency_oracle(slower, *slower.arms(50, rng(13))) >= np.log(100))
        assert delay(found, slower).never == 0


class TestRivals:
    def test_are_wrong_far_more_often_than_they_say_when_repeated_every_minute(self):
        arms = NO_CHANGE.arms(400, rng(14))
        assert Share.of(z_test(arms, 0.05).any(axis=1)).lower > 0.2
        assert Share.of(mann_whitney(Ranks.of(arms), 0.05).any(axis=1)).lower > 0.15

    def test_are_right_about_as_often_as_they_say_when_asked_once(self):
        arms = NO_CHANGE.arms(2000, rng(15))
        once = z_test(arms, 0.05)[:, -1]
        assert Share.of(once).lower <= 0.025 <= Share.of(once).upper

    @pytest.mark.parametrize("minute", [10, 60, 1000])
    def test_mann_whitney_is_the_published_one(self, minute):
        arms = Scenario("1.2x", ratio=1.2, requests=(190.0, 10.0)).arms(30, rng(16))
        ranks = Ranks.of(arms)
        percent = arms.treated[:, :minute] / 10, arms.control[:, :minute] / 190
        asymptotic = {"method": "asymptotic", "use_continuity": False}
        known = mannwhitneyu(*percent, axis=1, alternative="greater", **asymptotic)
        for alpha in (0.5, 0.05):
            found = mann_whitney(ranks, alpha)[:, minute - 1]
            assert found.tolist() == (known.pvalue < alpha / 2).tolist()

    def test_hodges_lehmann_is_the_median_of_all_differences(self):
        arms = Scenario("2x", ratio=2.0, requests=(50.0, 100.0)).arms(20, rng(17))
        shift, lower = hodges_lehmann(Ranks.of(arms), 0.98)
        for minute in (10, 75):
            n = minute
            kth = int(np.ceil(n * n / 2 - norm.isf(0.01) * n * np.sqrt((2 * n + 1) / 12)))
            for run in range(20):
                percent = 100 * arms.treated[run, :n] / 100, 100 * arms.control[run, :n] / 50
                gaps = np.sort(np.subtract.outer(*percent).ravel())
                assert shift[run, n - 1] == pytest.approx(gaps[int(np.ceil(n * n / 2)) - 1])
                assert lower[run, n - 1] == pytest.approx(gaps[kth - 1])

    def test_kayenta_rarely_cries_wolf_and_sees_doubling_late(self):
        assert not kayenta(Ranks.of(NO_CHANGE.arms(40, rng(18)))).any()
        doubled = BY_NAME["2x"]
        arms = doubled.arms(40, rng(19))
        known = delay(first(oracle(arms, 2.0) >= np.log(20)), doubled)
        assert delay(first(kayenta(Ranks.of(arms))), doubled).mean > 2 * known.mean


class TestLatency:
    @pytest.mark.parametrize("latency", [*LATENCIES, Latency("cold", slower=1.6, until=3)], ids=lambda it: it.name)
    def test_falls_into_buckets_with_the_stated_probabilities(self, latency):
        control, treated = latency.probabilities()
        assert control.sum(axis=1) == pytest.approx(1.0)
        assert treated.sum(axis=1) == pytest.approx(1.0)
        assert (np.cumsum(treated[0]) <= np.cumsum(control[0]) + 1e-12).all()
        counts = latency.arms(20, rng(20))[1]
        assert (counts.sum(axis=2) == 100).all()
        assert counts.mean(axis=(0, 1)) / 100 == pytest.approx(treated.mean(axis=0), abs=0.002)

    def test_of_a_late_share_lies_beyond_two_seconds_and_the_rest_is_untouched(self):
        control, treated = Latency("late", late=0.02).probabilities()
        # 2.5 s is an edge: half a second after the two they wait, few of the late ones are below it.
        assert treated[0, 10:].sum() - control[0, 10:].sum() == pytest.approx(0.02, rel=0.05)

    def test_of_cold_caches_is_back_to_normal_after_three_minutes(self):
        control, treated = Latency("cold", slower=1.6, until=3).probabilities()
        assert (treated[3:] == control[3:]).all()
        assert not np.allclose(treated[2], control[2])

    def test_history_is_the_same_service_on_six_units(self):
        counts = Latency("any").history(rng(21))
        assert counts.shape == (2 * UNITS, HISTORY, 15)
        assert (counts.sum(axis=(0, 2)) == 100).all()


class TestReading:
    def test_a_run_without_an_alarm_counts_to_the_end_and_one_before_the_onset_not_at_all(self):
        found = delay(np.array([10.0, 400.0, np.inf, 380.0]), Scenario("late", onset=360))
        assert (found.early, found.never) == (0.25, 0.25)
        assert found.mean == pytest.approx((40 + 20 + (DAY - 360)) / 3)
        assert found.median == 40

    def test_a_share_has_its_exact_interval(self):
        none = Share.of(np.zeros(100, dtype=bool))
        assert (none.share, none.lower) == (0.0, 0.0)
        assert none.upper == pytest.approx(1 - 0.025 ** (1 / 100))

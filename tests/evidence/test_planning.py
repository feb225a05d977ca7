"""Promises about time, held against the simulated walk, the methods themselves and published tables; all seeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import invgauss

from watcher.evidence import planning, units
from watcher.evidence.buckets import Buckets
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory
from watcher.evidence.paces import Counts, Latency, Level, Pace, information
from watcher.evidence.planning import arrived, passage, time_to_find, time_to_prove
from watcher.evidence.profile import Profile
from watcher.evidence.proportion import Proportion
from watcher.evidence.track import CAP, Track
from watcher.model import Floats

FIND, PROVE = float(np.log(1 / 0.01)), float(np.log(1 / 0.05))
RUNS = 400


def first(reached: np.ndarray) -> Floats:
    """Return the first block at which each run has arrived, counted from 1; infinity where none has."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)


def quantiles(times: Floats) -> list[float]:
    return [float(np.quantile(times, q, method="higher")) for q in (0.5, 0.9)]


# --- the walk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("distance", "drift", "variance"), [(6.0, 0.1, 0.2), (3.0, 0.5, 1.0), (10.0, 0.2, 0.1)])
def test_the_passage_is_the_inverse_gaussian(distance: float, drift: float, variance: float) -> None:
    mean, shape = distance / drift, distance**2 / variance
    exact = [invgauss.ppf(q, mean / shape, scale=shape) for q in (0.5, 0.9)]
    assert passage(distance, drift, variance) == pytest.approx(exact, rel=1e-6)


def test_the_passage_agrees_with_a_simulated_walk() -> None:
    rng, fine = np.random.default_rng(1), 20
    steps = rng.normal(0.1 / fine, np.sqrt(0.2 / fine), (2000, 300 * fine))
    found = quantiles(first(np.cumsum(steps, axis=1) >= 6.0) / fine)
    assert passage(6.0, 0.1, 0.2) == pytest.approx(found, rel=0.06)


def test_a_walk_that_drifts_away_never_arrives_and_one_that_is_there_has_arrived() -> None:
    median, late = passage(np.full(3, 5.0), np.array([-0.1, 0.0, 0.1]), np.array([0.2, 0.0, 0.2]))
    assert np.isinf(median).tolist() == np.isinf(late).tolist() == [True, True, False]
    assert passage(-1.0, 0.1, 0.2) == pytest.approx((0.0, 0.0), abs=1e-5)


def test_many_walks_at_once_are_each_of_them() -> None:
    distance, drift = np.array([[4.0], [8.0]]), np.array([0.05, 0.2, 1.0])
    together = passage(distance, drift, 2 * drift)
    for row, column in np.ndindex(2, 3):
        alone = [float(each) for each in passage(distance[row, 0], drift[column], 2 * drift[column])]
        assert [each[row, column] for each in together] == pytest.approx(alone)


def test_units_that_differ_for_good_keep_some_releases_from_ever_being_decided() -> None:
    # The likelihood ratio of N(x, tau^2) against N(0, tau^2), by simulation of its definition.
    rng, effect, each, tau = np.random.default_rng(2), np.log(2.0), 0.1, 0.163
    score = np.cumsum(rng.normal(each * (effect + rng.normal(0, tau, (4000, 1))), np.sqrt(each), (4000, 1500)), axis=1)
    known = each * np.arange(1, 1501)
    log_e = (effect * score - known * effect**2 / 2) / (1 + known * tau**2)
    pace, distance = Level(precision=each, tau=tau), FIND + Counts.overhead
    for blocks in (100, 500, 1500):
        # As looked at in steps, which is what the overshoot allows for.
        expected = arrived(float(blocks), *planning._walk(pace, effect, 0.0, distance, np.inf))
        assert (log_e[:, :blocks] >= distance).any(axis=1).mean() == pytest.approx(float(expected), abs=0.03)
    assert np.isinf(time_to_find(pace, effect, FIND)[1])


# --- information -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "ratio", "share", "treated"),
    [
        (0.001, 1.1, 0.5, 1_931_411),
        (0.01, 1.5, 0.5, 9_035),
        (0.01, 2.0, 0.5, 2_671),
        (0.01, 2.0, 0.05, 1_256),
        (0.1, 5.0, 0.5, 23),
        (0.1, 1.1, 0.05, 8_992),
    ],
)
def test_the_oracle_needs_as_many_requests_as_it_must(rate: float, ratio: float, share: float, treated: int) -> None:
    """Requests of the treatment at alpha 1 %: log(1/alpha) over the divergence, to the next whole one."""
    each = information(rate, ratio, share, bernoulli=True)
    assert share * FIND / float(each) == pytest.approx(treated, abs=0.51)


def test_rare_outcomes_are_poisson_events() -> None:
    ratios = np.array([0.5, 1.25, 2.0, 5.0])
    exact, poisson = (information(1e-5, ratios, 0.2, 1.5, bernoulli=each) for each in (True, False))
    assert exact == pytest.approx(poisson, rel=1e-3)


@pytest.mark.parametrize("against", [1.0, 1.5, 0.9])
@pytest.mark.parametrize("bernoulli", [True, False])
def test_information_is_the_divergence_to_the_closest_point_of_the_null(against: float, bernoulli: bool) -> None:
    rate, ratio, share = 0.3, 1.2, 0.25
    null = np.linspace(1e-4, 0.9999, 200_001)
    null = null[against * null < 1]

    def divergence(p: float, q: Floats) -> Floats:
        rest = (1 - p) * np.log((1 - p) / (1 - q)) if bernoulli else q - p
        return p * np.log(p / q) + rest

    every = share * divergence(rate * ratio, against * null) + (1 - share) * divergence(rate, null)
    found = information(rate, ratio, share, against, bernoulli=bernoulli)
    assert float(found) == pytest.approx(float(every.min()), rel=1e-6)


# --- the methods themselves ------------------------------------------------------------------------------------------


def simulated(pace: Counts, effect: float, margin: float, proof: bool) -> list[float]:
    """Return median and 90th percentile of the blocks a method takes, on Poisson clusters or on single outcomes."""
    rng, tolerated = np.random.default_rng(3), pace.effect(1 + pace.sign * margin)
    blocks = int(4 * (FIND + 3) / float(pace.gain(0.0, tolerated) if proof else pace.gain(effect, 0.0))) + 40
    n = np.rint([pace.traffic * (1 - pace.share), pace.traffic * pace.share])
    rates, cluster, shape = (pace.rate, pace.rate * float(pace.ratio(effect))), pace.dispersion, (RUNS, blocks)
    method: Profile | Proportion
    if pace.bernoulli:
        method = Proportion.of(sign=pace.sign, margin=margin, rate=np.full(RUNS, pace.rate))
        counts = [rng.binomial(int(of), p, shape).astype(float) for of, p in zip(n, rates, strict=True)]
    else:
        method = Profile.of(sign=pace.sign, margin=margin, dispersion=cluster)
        counts = [cluster * rng.poisson(of * p / cluster, shape) for of, p in zip(n, rates, strict=True)]
    arms = [(events, np.full(shape, of)) for events, of in zip(counts, n, strict=True)]
    _, track = method.fold(method.start(RUNS), arms[0], arms[1], 60.0 * np.arange(1, blocks + 1))
    return quantiles(first(track.healthy >= PROVE if proof else track.regressed >= FIND))


PACES = {
    "2 errors a minute, half the traffic": Counts(0.01, 200.0, 0.5),
    "5 % of the traffic": Counts(0.01, 2000.0, 0.05),
    "clusters of three": Counts(0.01, 600.0, 0.5, dispersion=3.0),
    "worse is lower": Counts(0.02, 2000.0, 0.5, sign=-1),
    "every tenth request": Counts(0.1, 20.0, 0.5, bernoulli=True),
    "nearly all requests, and worse is lower": Counts(0.8, 10.0, 0.5, sign=-1, bernoulli=True),
}


@pytest.mark.parametrize("ratio", [1.5, 2.0, 5.0])
@pytest.mark.parametrize("name", PACES)
def test_harm_is_found_when_the_plan_says(name: str, ratio: float) -> None:
    """Within 25 %, or two blocks."""
    effect = float(np.log(ratio))
    found = simulated(PACES[name], effect, 0.5, proof=False)
    assert time_to_find(PACES[name], effect, FIND) == pytest.approx(found, rel=0.25, abs=2.0)


@pytest.mark.parametrize("margin", [0.25, 0.5])
@pytest.mark.parametrize("name", PACES)
def test_health_is_proven_when_the_plan_says(name: str, margin: float) -> None:
    """Within 25 %, or two blocks."""
    pace = PACES[name]
    found = simulated(pace, 0.0, margin, proof=True)
    planned = time_to_prove(pace, pace.effect(1 + pace.sign * margin), PROVE)
    assert planned == pytest.approx(found, rel=0.25, abs=2.0)


def test_units_slow_the_profile_down_as_planned() -> None:
    """Ten units an arm that differ by 20 %: medians within 25 % (35 % near the floor), or two blocks."""
    rng, each, tau, learnt = np.random.default_rng(5), 10.0, 0.2 * np.sqrt(2 / 10), 20
    pace, full = Counts(0.01, 2 * each / 0.01, 0.5), np.full((RUNS, 600), each / 0.01)
    distance, offsets = FIND + Counts.overhead, np.exp(rng.normal(0, tau, (RUNS, 1)))
    lowest = float(units.lowest(np.array(tau), learnt, distance))
    finding, proving = (replace(pace, tau=t) for t in (lowest / np.sqrt(2 * distance), tau * units.inflation(learnt)))
    method, ends = Profile.of(sign=1, margin=0.5, units=learnt), 60.0 * np.arange(1, 601)

    def track(ratio: float) -> Track:
        control, treated = rng.poisson(each, full.shape), rng.poisson(each * ratio * offsets, full.shape)
        return method.fold(method.start(RUNS, np.full(RUNS, tau)), (control, full), (treated, full), ends)[1]

    for ratio in (1.5, 2.0):
        found = first(track(ratio).regressed >= FIND)
        planned = time_to_find(finding, np.log(ratio), FIND)[0]
        assert float(planned) == pytest.approx(quantiles(found)[0], rel=0.35 if ratio < 2 else 0.25, abs=2.0)
        chance = arrived(600.0, *planning._walk(finding, np.log(ratio), 0.0, distance, CAP))
        assert np.isfinite(found).mean() == pytest.approx(float(chance), abs=0.1)
    proven = quantiles(first(track(1.0).healthy >= PROVE))[0]
    assert float(time_to_prove(proving, np.log(1.5), PROVE)[0]) == pytest.approx(proven, rel=0.25, abs=2.0)


@pytest.mark.parametrize("drift", [0.0, 0.1**2 / 100])
@pytest.mark.parametrize("kept", [0.0, 0.7])
def test_a_series_is_decided_when_the_plan_says(kept: float, drift: float) -> None:
    """Harm as large as the margin, and none: medians within 25 %."""
    rng, margin, whole, skipped = np.random.default_rng(4), 0.1, 1 - kept, 5
    sigma = 0.2 * whole
    noise = lfilter([1.0], [1.0, -kept], rng.normal(0, sigma, (RUNS, 700)), axis=1)
    noise += rng.normal(0, np.sqrt(drift), (RUNS, 1))
    # In units of a fifth: deviations, their memory, and the error of the level.
    memory, unit = Memory(np.full((RUNS, 1), kept), np.full(RUNS, whole)), np.full(RUNS, 0.2)
    method = Innovations(1, margin, 2.4, memory, np.full(RUNS, drift / 0.2**2), unit, 600, logarithmic=False)
    start, scale = method.start(RUNS, noise[:, 99:100] / 0.2), np.full((RUNS, 600), 0.2)
    counted = np.arange(600) >= skipped
    tracks = [
        method.fold(start, noise[:, 100:] + shift, scale, np.arange(600.0), counted)[1] for shift in (margin, 0.0)
    ]
    pace = Level.of(method, 1.0)
    assert (pace.precision, pace.tau) == pytest.approx(((whole / sigma) ** 2, np.sqrt(drift)))
    found = quantiles(first(tracks[0].regressed >= FIND) - skipped)[0]
    assert float(time_to_find(pace, margin, FIND)[0]) == pytest.approx(found, rel=0.25)
    proven = quantiles(first(tracks[1].healthy >= PROVE) - skipped)[0]
    assert float(time_to_prove(pace, margin, PROVE)[0]) == pytest.approx(proven, rel=0.25)


SHAPE = np.array([1.0, 4.0, 9.0, 15.0, 20.0, 19.0, 14.0, 9.0, 5.0, 2.5, 1.0, 0.5]) / 100
EDGES = (*np.round(0.05 * 1.2 ** np.arange(11), 4).tolist(), np.inf)


@pytest.mark.parametrize("slower", [1.1, 1.25, 1.0])
def test_a_latency_is_decided_when_the_plan_says(slower: float) -> None:
    """Within 25 %, or two blocks: all requests slower as the method has it, and none, proven to be within 25 %."""
    rng, blocks, requests = np.random.default_rng(6), 160, 60
    method = Buckets.of(edges=EDGES, margin=0.25, shape=np.tile(20_000 * SHAPE, (RUNS // 2, 1)))
    centred = method.middles - SHAPE @ method.middles
    tilted = SHAPE * np.exp(np.log(slower) * centred / (SHAPE @ centred**2))
    arms = [rng.multinomial(requests, p / p.sum(), (RUNS // 2, blocks)).astype(float) for p in (SHAPE, tilted)]
    _, track = method.fold(method.start(RUNS // 2), arms[0], arms[1], 60.0 * np.arange(1, blocks + 1))
    pace = Latency.of(method, 2.0 * requests, 0.5)
    # Half of the evidence of a latency rule is that of the share over its objective.
    found = first(track.healthy >= PROVE if slower == 1 else track.regressed >= FIND + np.log(2))
    planned = time_to_prove(pace, 0.25, PROVE) if slower == 1 else time_to_find(pace, np.log(slower), FIND)
    assert [float(each) for each in planned] == pytest.approx(quantiles(found), rel=0.25, abs=2.0)


# --- what can be found, and what stands in the way -------------------------------------------------------------------


def test_the_smallest_effect_found_shrinks_with_time_and_stays_above_the_oracle_s() -> None:
    pace, blocks = Counts(0.01, 200.0, 0.5), np.geomspace(2, 2000, 12)
    ours, oracle = (planning.detectable(pace, blocks, FIND, oracle=each) for each in (False, True))
    assert (np.diff(ours) < 0).all()
    assert (ours > oracle).all()
    again = [float(time_to_find(pace, effect, FIND)[0]) for effect in ours]
    assert again == pytest.approx(np.ceil(blocks).tolist(), abs=1.0)


def test_nothing_is_found_where_nothing_happens_in_time() -> None:
    few = Counts(0.001, 10.0, 0.5, sign=-1)
    assert np.isinf(planning.detectable(few, np.array([10.0]), FIND)).all()


def test_units_put_a_floor_on_what_is_found_and_on_what_is_proven() -> None:
    """The floor is where the walk has no drift on average: luck finds a little less than that."""
    pace, forever = replace(PACES["2 errors a minute, half the traffic"], tau=0.2), np.array([1e8])
    lowest = planning.floor(0.2, FIND + Counts.overhead)
    assert 0.9 * lowest < float(planning.detectable(pace, forever, FIND)[0]) < lowest
    margin = planning.floor(0.2, PROVE + planning.HEALTH_OVERHEAD)
    assert np.isinf(time_to_prove(pace, 0.8 * margin, PROVE)[0])
    assert np.isfinite(time_to_prove(pace, margin, PROVE)[0])


@pytest.mark.parametrize(
    ("pace", "blocks", "limit"),
    [
        (PACES["5 % of the traffic"], 100.0, "events"),
        (PACES["5 % of the traffic"], 2000.0, "window"),
        (replace(PACES["5 % of the traffic"], tau=0.3), np.inf, "units"),
        (Level(25.0, 0.1), np.inf, "placebos"),
        (Level(25.0, 0.1), 30.0, "events"),
    ],
)
def test_what_stands_in_the_way_has_a_name(pace: Pace, blocks: float, limit: str) -> None:
    assert planning.binding(pace, blocks, window=1440.0) == limit


def test_as_many_units_as_are_asked_for_suffice() -> None:
    pace, margin, spread = PACES["5 % of the traffic"], float(np.log(1.5)), 0.3
    needed = planning.units_needed(pace, spread, margin, PROVE, 600.0)
    with_them, with_fewer = (replace(pace, tau=spread * np.sqrt(2 / units)) for units in (needed, 0.9 * needed))
    assert time_to_prove(with_them, margin, PROVE)[1] <= 600.0 < time_to_prove(with_fewer, margin, PROVE)[1]
    assert np.isinf(planning.units_needed(pace, spread, margin, PROVE, 10.0))


def test_the_smallest_margin_that_is_proven_takes_as_long_as_there_is() -> None:
    pace = PACES["2 errors a minute, half the traffic"]
    margin = float(planning.provable(pace, np.array(480.0), PROVE))
    assert float(time_to_prove(pace, margin, PROVE)[1]) == pytest.approx(480.0, abs=1.0)


def test_effects_and_ratios_are_each_other_s_inverse() -> None:
    for pace in (*PACES.values(), Level(1.0, 0.0, -1), Level(1.0, 0.0, 1, logarithmic=False)):
        worse = 1.2 if pace.sign > 0 else 0.8
        assert pace.effect(worse) > 0
        assert float(pace.ratio(pace.effect(worse))) == pytest.approx(worse)

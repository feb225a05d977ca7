"""Promises of the method for whole latency distributions, each with a seed and a stated bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, multinomial, norm

from watcher.errors import ShapeError
from watcher.evidence.buckets import Buckets, BucketState
from watcher.evidence.onset import NOTHING
from watcher.evidence.track import unpacked
from watcher.model import Floats

EDGES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, math.inf)
"""Those of Prometheus clients."""

FINE = (*(0.5 * 1.1 ** np.arange(-30, 20)).tolist(), math.inf)
RUNS, BLOCKS = 200, 240


def shape(slower: float = 1.0, late: float = 0.0, edges: tuple[float, ...] = EDGES) -> Floats:
    """Log-normal latencies, median 120 ms, sigma .8; `late` of the requests take two seconds more."""
    tops = np.array(edges)
    below = norm.cdf((np.log(tops) - math.log(0.12 * slower)) / 0.8)
    beyond = np.where(tops > 2, norm.cdf((np.log(np.maximum(tops - 2, 1e-9)) - math.log(0.12 * slower)) / 0.8), 0.0)
    return np.diff((1 - late) * below + late * beyond, prepend=0.0)


def method(edges: tuple[float, ...] = EDGES, runs: int = RUNS, **given: object) -> Buckets:
    known = 1e6 * np.tile(shape(edges=edges), (runs, 1))
    return Buckets.of(**{"edges": edges, "margin": 0.1, "shape": known, **given})


def drawn(rng: np.random.Generator, p: Floats, runs: int = RUNS, blocks: int = BLOCKS, requests: int = 100) -> Floats:
    return rng.multinomial(requests, p, (runs, blocks)).astype(float)


def run(laid: Buckets, control: Floats, treated: Floats, scale: Floats | None = None):
    return laid.fold(laid.start(len(control), scale), control, treated, 60.0 * np.arange(1, control.shape[1] + 1))


def first(track, alpha: float = 0.01) -> Floats:
    hit = track.regressed >= math.log(1 / alpha)
    return np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, np.inf)


def test_identical_latencies_are_called_slower_at_most_at_alpha_whatever_is_known_of_them():
    rng = np.random.default_rng(1)
    for known in (
        1e6 * np.tile(shape(), (RUNS, 1)),
        np.zeros((RUNS, len(EDGES))),
        1e6 * np.tile(shape(0.7), (RUNS, 1)),
    ):
        control, treated = drawn(rng, shape(), blocks=480), drawn(rng, shape(), blocks=480)
        _, track = run(Buckets.of(edges=EDGES, margin=0.1, shape=known), control, treated)
        for alpha in (0.05, 0.01):
            assert int(np.isfinite(first(track, alpha)).sum()) <= binom.ppf(0.999, RUNS, alpha)


def test_faster_is_never_slower():
    rng = np.random.default_rng(2)
    _, track = run(method(), drawn(rng, shape()), drawn(rng, shape(0.9)))
    assert int(np.isfinite(first(track, 0.05)).sum()) <= 1


@pytest.mark.parametrize(
    ("slower", "late", "minutes"), [(1.1, 0.0, 30), (1.25, 0.0, 8), (1.0, 0.02, 13), (1.0, 0.01, 35)]
)
def test_what_is_slower_is_found_in_the_buckets_everybody_has(slower: float, late: float, minutes: int):
    """Alpha .01, 100 requests a minute and arm: a shift of all requests, or a slow tail with the median as ever."""
    rng = np.random.default_rng(3)
    _, track = run(method(), drawn(rng, shape()), drawn(rng, shape(slower, late)))
    assert np.median(first(track)) <= minutes


def test_the_expected_e_value_is_at_most_one_on_the_null_by_exact_enumeration():
    """Four requests an arm in three buckets: all outcomes, for many distributions both arms may share."""
    outcomes = np.array([x for x in itertools.product(range(5), repeat=3) if sum(x) == 4], float)
    pairs = np.array(list(itertools.product(range(len(outcomes)), repeat=2)))
    laid = Buckets.of(edges=(0.1, 0.5, math.inf), margin=0.1, shape=np.tile([600.0, 300.0, 100.0], (len(pairs), 1)))
    control, treated = outcomes[pairs[:, 0]][:, None], outcomes[pairs[:, 1]][:, None]
    _, track = run(laid, control, treated)
    for a, b in itertools.product(np.linspace(0.05, 0.9, 12), repeat=2):
        if a + b < 0.98:
            weight = multinomial.pmf(outcomes, 4, [a, b, 1 - a - b])
            expected = (weight[pairs[:, 0]] * weight[pairs[:, 1]] * np.exp(track.regressed[:, 0])).sum()
            assert expected <= 1 + 1e-9


def test_the_slower_the_treatment_the_more_every_bet_is_paid():
    """Scores rise with latency, so that the null is one-sided: moving a request to a slower bucket never pays less."""
    laid, usual = method(runs=1), shape()[None] + 1e-6
    control, half = 100 * shape()[None], np.array([0.5])
    for bucket in range(len(EDGES) - 1):
        pays = []
        for at in (bucket, bucket + 1):
            treated = 100 * shape()[None]
            treated[0, at] += 1.0
            pays.append(np.concatenate([f(usual, control, treated, half).gain for f in (laid._tilted, laid._stepped)]))
        assert (pays[1] >= pays[0] - 1e-9).all()


def test_default_buckets_cannot_decide_ten_per_cent_and_fine_ones_can():
    assert not method().decidable.any()
    assert method(FINE).decidable.all()
    assert method(margin=1.5).decidable.all()
    assert not method(FINE, shape=np.zeros((RUNS, len(FINE)))).decidable.any()


def test_health_on_the_latency_scale_is_proven_within_the_hour_and_not_of_what_is_slower_by_the_margin():
    rng = np.random.default_rng(4)
    laid = method(FINE, runs=100)
    control = drawn(rng, shape(edges=FINE), 100)
    _, same = run(laid, control, drawn(rng, shape(edges=FINE), 100))
    proven = same.healthy >= math.log(20)
    assert np.median(np.where(proven.any(axis=1), proven.argmax(axis=1) + 1, np.inf)) <= 60
    _, edge = run(laid, control, drawn(rng, shape(1.1, edges=FINE), 100))
    assert int((edge.healthy.max(axis=1) >= math.log(20)).sum()) <= binom.ppf(0.999, 100, 0.05)
    state, nothing = run(method(), drawn(rng, shape()), drawn(rng, shape()))
    assert (nothing.healthy == NOTHING).all()
    assert np.isfinite(method().snapshot(state, 0.05).estimate).all()


def test_quantiles_are_named_and_their_bounds_hold_at_every_look():
    rng = np.random.default_rng(5)
    laid, missed = method(FINE, runs=100), np.zeros(100, dtype=bool)
    state = laid.start(100)
    for block in range(60):
        one, other = drawn(rng, shape(edges=FINE), 100, 1), drawn(rng, shape(1.2, edges=FINE), 100, 1)
        state, _ = laid.fold(state, one, other, np.array([60.0 * (block + 1)]))
        for level, found in laid.quantiles(state, 0.05).items():
            assert np.isnan(found.ratio).all() or level <= 0.99
            missed |= (found.lower > 1.2 * 1.1) | (found.upper < 1.2 / 1.1)
    assert int(missed.sum()) <= binom.ppf(0.999, 100, 3 * 0.05)
    found = laid.quantiles(state, 0.05)
    assert np.median(found[0.95].ratio) == pytest.approx(1.2, abs=0.02)
    assert np.median(found[0.95].baseline) == pytest.approx(0.12 * math.exp(1.645 * 0.8), rel=0.03)
    snapshot = laid.snapshot(state, 0.05)
    covered = (snapshot.lower < math.log(1.2)) & (snapshot.upper > math.log(1.2))
    assert covered.mean() >= 0.95
    assert np.median(snapshot.upper - snapshot.lower) < 0.12


def test_a_slow_tail_is_harm_at_the_tail_while_typical_requests_are_as_fast_as_ever():
    rng = np.random.default_rng(6)
    state, track = run(method(), drawn(rng, shape()), drawn(rng, shape(1.0, 0.02)))
    found = method().quantiles(state, 0.05)
    assert np.median(found[0.5].ratio) < 1.05
    assert np.median(found[0.99].ratio) > 1.7
    assert (track.harm[:, -1] > math.log(1.1)).mean() > 0.9


def test_pods_that_differ_in_pace_leave_room():
    rng = np.random.default_rng(7)
    spread, pods = 0.1, 3

    def arm() -> Floats:
        paces = np.exp(rng.normal(0, spread, (RUNS, pods)))
        mixed = np.stack([np.mean([shape(pace) for pace in row], axis=0) for row in paces])
        return np.stack([rng.multinomial(100, p, BLOCKS) for p in mixed]).astype(float)

    control, treated = arm(), arm()
    spreads = tuple(np.full(len(EDGES) - 1, 0.25))
    naive = run(method(), control, treated)[1]
    scale = np.full(RUNS, math.sqrt(2 / pods))
    roomy = run(method(units=40, spreads=spreads, pace=spread), control, treated, scale)[1]
    assert int(np.isfinite(first(roomy, 0.05)).sum()) <= binom.ppf(0.999, RUNS, 1.2 * 0.05)
    assert int(np.isfinite(first(naive, 0.05)).sum()) > 3 * RUNS * 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 20), max_size=4))
def test_the_same_blocks_give_the_same_state_whatever_the_looks(seed: int, cuts: list[int]):
    rng = np.random.default_rng(seed)
    laid = method(runs=2, units=3, spreads=tuple(np.full(len(EDGES) - 1, 0.1)), pace=0.05)
    arms = [drawn(rng, shape(), 2, 20, int(rng.integers(0, 60))) for _ in range(2)]
    arms[1][:, 3:5] = 0
    ends, scale = 60.0 * np.arange(1, 21), np.full(2, 0.8)
    whole, at_once = laid.fold(laid.start(2, scale), *arms, ends)
    state, pieces = laid.start(2, scale), []
    for low, high in itertools.pairwise(sorted({0, 20, *cuts})):
        state, track = laid.fold(state, *(arm[:, low:high] for arm in arms), ends[low:high])
        state = BucketState.from_json(state.to_json())
        pieces.append(track.regressed)
    assert np.concatenate(pieces, axis=1) == pytest.approx(at_once.regressed, abs=1e-9)
    for name, value in whole.to_json().items():
        assert np.allclose(unpacked(value), unpacked(state.to_json()[name]), equal_nan=True), name


def test_a_new_stage_proves_anew_and_keeps_the_evidence_of_harm():
    rng = np.random.default_rng(8)
    laid = method(FINE, runs=5)
    state, track = run(laid, drawn(rng, shape(edges=FINE), 5), drawn(rng, shape(1.3, edges=FINE), 5))
    staged = laid.restage(state)
    assert (staged.counts == 0).all()
    assert (staged.proof == 0).all()
    assert laid.onset.log_e(staged) == pytest.approx(track.regressed[:, -1])


def test_buckets_that_do_not_fit_are_refused():
    laid = method(runs=2)
    with pytest.raises(ShapeError):
        laid.fold(laid.start(2), np.ones((2, 3, 4)), np.ones((2, 3, 4)), np.arange(3.0))

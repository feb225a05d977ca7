"""Promises of the conditional likelihood profile, each with a seed and a stated bound."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, poisson

from watcher.errors import ShapeError
from watcher.evidence.onset import NOW
from watcher.evidence.profile import Profile, ProfileState
from watcher.evidence.track import CAP, unpacked
from watcher.model import Floats

MINUTE = 60.0


def ends(blocks: int) -> Floats:
    return MINUTE * np.arange(1, blocks + 1)


def run(method: Profile, control: Floats, treated: Floats, n_control: Floats, n_treated: Floats):
    return method.fold(
        method.start(len(control)),
        (np.asarray(control, float), np.asarray(n_control, float)),
        (np.asarray(treated, float), np.asarray(n_treated, float)),
        ends(np.asarray(control).shape[1]),
    )


def false_alarms(track, alpha: float) -> int:
    return int((track.regressed.max(axis=1) >= math.log(1 / alpha)).sum())


def allowed(alpha: float, runs: int) -> int:
    """What a rate of alpha gives at most, but for one time in a thousand."""
    return int(binom.ppf(0.999, runs, alpha))


def test_a_completion_share_is_called_regressed_at_most_at_alpha_where_lower_is_worse():
    rng = np.random.default_rng(12)
    full = np.full((600, 720), 50.0)
    method = Profile.of(sign=-1, margin=0.02)
    _, track = run(method, rng.binomial(50, 0.9, full.shape), rng.binomial(50, 0.9, full.shape), full, full)
    assert false_alarms(track, 0.05) <= allowed(0.05, 600)


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize(("n_control", "n_treated"), [(6, 6), (9, 2)])
def test_the_expected_e_value_is_at_most_one_on_the_null_by_exact_enumeration(rate, n_control, n_treated):
    method = Profile.of(sign=1, margin=0.5)
    cells = list(itertools.product(range(n_control + 1), range(n_treated + 1)))
    control, treated = np.array(cells, float).T[:, :, None]
    full = np.ones_like(control)
    _, track = run(method, control, treated, n_control * full, n_treated * full)
    weight = binom.pmf(control, n_control, rate) * binom.pmf(treated, n_treated, rate)
    assert float((weight * np.exp(track.regressed)).sum()) <= 1 + 1e-9
    worse = binom.pmf(control, n_control, rate / 1.5) * binom.pmf(treated, n_treated, rate)
    assert float((worse * np.exp(track.healthy)).sum()) <= 1 + 1e-9


def test_the_confidence_sequence_covers_the_truth_at_every_look():
    rng = np.random.default_rng(41)
    runs, blocks, truth = 400, 240, math.log(1.3)
    method = Profile.of(sign=1, margin=0.5)
    state, full = method.start(runs), np.full((runs, 1), 100.0)
    missed = np.zeros(runs, dtype=bool)
    for block in range(blocks):
        control, treated = rng.poisson(2.0, (runs, 1)).astype(float), rng.poisson(2.6, (runs, 1)).astype(float)
        state, _ = method.fold(state, (control, full), (treated, full), np.array([MINUTE * (block + 1)]))
        found = method.snapshot(state, 0.05)
        missed |= (found.lower > truth) | (found.upper < truth)
    assert int(missed.sum()) <= allowed(0.05, runs)
    assert abs(float(np.median(found.estimate)) - truth) < 0.02


def slow_twin(method: Profile, control: Floats, treated: Floats, n_control: Floats, n_treated: Floats) -> list[float]:
    """The same e-process for one stream, written as it is defined: a sum over bets and onsets."""
    null = method.null
    bets = [(theta, math.exp(w)) for theta, w in zip(method.bets, method.onset.log_weights, strict=True)]

    def log_likelihood(theta: float, b: int) -> float:
        share = n_treated[b] / (n_treated[b] + n_control[b])
        return treated[b] * theta - (treated[b] + control[b]) * math.log(share * math.exp(theta) + 1 - share)

    out = []
    for now in range(len(control)):
        total = 0.0
        for onset in range(now + 1):
            prior = NOW if onset == 0 else (1 - NOW) / (method.onset.horizon - 1)
            for theta, weight in bets:
                gain = sum(min(log_likelihood(theta, b) - log_likelihood(null, b), CAP) for b in range(onset, now + 1))
                total += prior * weight * math.exp(gain)
        out.append(math.log(total + 1 - NOW - now * (1 - NOW) / (method.onset.horizon - 1)))
    return out


def test_the_vectorised_e_process_equals_its_definition():
    rng = np.random.default_rng(51)
    method = Profile.of(sign=1, margin=0.5, horizon=100)
    control, treated = rng.poisson(2.0, (3, 30)), rng.poisson(3.0, (3, 30))
    n_control, n_treated = rng.integers(50, 150, (2, 3, 30))
    _, track = run(method, control, treated, n_control, n_treated)
    for row in range(3):
        expected = slow_twin(method, control[row], treated[row], n_control[row], n_treated[row])
        assert track.regressed[row] == pytest.approx(expected, abs=1e-9)


counts = st.integers(0, 30)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(counts, counts, st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=40), st.data()
)
def test_the_same_blocks_give_the_same_state_whatever_the_looks(blocks, data):
    method = Profile.of(sign=1, margin=0.5, dispersion=1.3)
    cells = np.array(blocks, dtype=float)
    control, treated = np.minimum(cells[:, 0], cells[:, 2]), np.minimum(cells[:, 1], cells[:, 3])

    def fold(state: ProfileState, part: slice) -> tuple[ProfileState, Floats]:
        arms = (control[None, part], cells[None, part, 2]), (treated[None, part], cells[None, part, 3])
        state, track = method.fold(state, *arms, ends(len(cells))[part])
        return state, track.regressed[0]

    whole, at_once = fold(method.start(1), slice(0, len(cells)))
    cuts = sorted({0, len(cells), *data.draw(st.lists(st.integers(0, len(cells)), max_size=5))})
    state, pieces = method.start(1), []
    for low, high in itertools.pairwise(cuts):
        state, part = fold(state, slice(low, high))
        state = ProfileState.from_json(state.to_json())
        pieces.extend(part)
    assert pieces == pytest.approx(list(at_once), abs=1e-9)
    for name, value in whole.to_json().items():
        assert np.allclose(unpacked(value), unpacked(state.to_json()[name]), equal_nan=True), name


@settings(max_examples=40, deadline=None)
@given(counts, counts, st.integers(40, 400), st.integers(40, 400), st.integers(2, 6))
def test_the_profile_adds_up_over_blocks_of_constant_share(x, y, n, m, parts):
    method = Profile.of(sign=1, margin=0.5)
    one, _ = run(method, [[x * parts]], [[y * parts]], [[n * parts]], [[m * parts]])
    many, _ = run(method, [[x] * parts], [[y] * parts], [[n] * parts], [[m] * parts])
    assert one.points == pytest.approx(many.points, abs=1e-8)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(100, 900), st.integers(100, 900))
def test_swapping_the_arms_flips_the_sign_of_the_effect(x, y, n, m):
    method = Profile.of(sign=1, margin=0.5)
    there, _ = run(method, [[x]], [[y]], [[n]], [[m]])
    back, _ = run(method, [[y]], [[x]], [[m]], [[n]])
    one, two = method.snapshot(there, 0.05), method.snapshot(back, 0.05)
    assert one.estimate[0] == pytest.approx(-two.estimate[0], abs=1e-6)
    assert one.lower[0] == pytest.approx(-two.upper[0], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 20))
def test_more_harm_never_looks_healthier(x, y, more):
    method = Profile.of(sign=1, margin=0.5)
    full = [[1000] * 5]
    less, _ = run(method, [[x] * 5], [[y] * 5], full, full)
    worse, _ = run(method, [[x] * 5], [[y + more] * 5], full, full)
    first, second = method.snapshot(less, 0.05), method.snapshot(worse, 0.05)
    assert second.log_healthy[0] <= first.log_healthy[0] + 1e-9
    assert second.log_regressed[0] >= first.log_regressed[0] - 1e-9


def test_blocks_without_exposure_in_an_arm_are_carried_to_the_next():
    method = Profile.of(sign=1, margin=0.5)
    split, _ = run(method, [[3, 2]], [[0, 4]], [[300, 200]], [[0, 500]])
    joined, _ = run(method, [[5]], [[4]], [[500]], [[500]])
    assert split.points == pytest.approx(joined.points)
    assert split.blocks.tolist() == [1.0]


def test_billions_of_events_give_finite_numbers():
    method = Profile.of(sign=1, margin=0.5)
    full = np.full((1, 3), 4e12)
    state, track = run(method, full * 1e-3, full * 1e-3 * 1.001, full, full)
    found = method.snapshot(state, 0.05)
    assert np.isfinite(track.regressed).all()
    assert found.lower[0] <= math.log(1.001) <= found.upper[0]
    assert found.estimate[0] == pytest.approx(math.log(1.001), abs=1e-3)


def test_eleven_errors_against_none_alarm_at_one_percent_and_four_in_a_five_percent_canary():
    """The published counts hold within the price of the onset prior: a few errors more, never a handful."""
    method = Profile.of(sign=1, margin=0.5)
    for n_control, n_treated, few in ((1000, 1000, 14), (9500, 500, 6)):
        blocks = few
        full = np.ones((1, blocks))
        _, track = run(method, 0 * full, full, n_control * full, n_treated * full)
        assert track.regressed[0, -1] >= math.log(100)
        assert track.regressed[0, 2] < math.log(100)


def test_counts_that_do_not_fit_are_refused():
    method = Profile.of(sign=1, margin=0.5)
    with pytest.raises(ShapeError):
        run(method, np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 4)))


def test_a_ramp_that_changes_the_share_between_blocks_does_not_bend_the_effect():
    """A share going from 5 to 50 % while errors fall threefold: pooled totals would show half the true ratio."""
    rng = np.random.default_rng(61)
    n_treated = np.repeat([50.0, 500.0], 60)[None] * np.ones((200, 1))
    n_control = 1000 - n_treated
    rate = np.repeat([0.03, 0.01], 60)
    control, treated = rng.poisson(n_control * rate), rng.poisson(n_treated * rate)
    method = Profile.of(sign=1, margin=0.5)
    state, _ = run(method, control, treated, n_control, n_treated)
    assert float(np.exp(np.median(method.snapshot(state, 0.05).estimate))) == pytest.approx(1.0, abs=0.05)
    pooled = (treated.sum() / n_treated.sum()) / (control.sum() / n_control.sum())
    assert pooled < 0.8


def test_an_exact_poisson_null_spends_no_more_than_one():
    """Two blocks, enumerated: the onset mixture is an e-value at the second block too."""
    method = Profile.of(sign=1, margin=0.5, horizon=10)
    cells = np.array(list(itertools.product(range(9), repeat=4)), dtype=float)
    weight = poisson.pmf(cells, 0.7).prod(axis=1)
    full = np.full((len(cells), 2), 10.0)
    _, track = run(method, cells[:, :2], cells[:, 2:], full, full)
    assert float((weight * np.exp(track.regressed[:, -1])).sum()) <= 1 + 1e-9

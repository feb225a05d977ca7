"""Placebos: where they may begin, what they say, and that the release is judged as they were; all seeded."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from watcher.evidence import placebo
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory
from watcher.evidence.placebo import (
    LEAST,
    LOUD,
    MOST,
    STEP,
    USUAL,
    apart,
    bar,
    p_value,
    replay,
    scale_of,
    starts,
    unusual,
)
from watcher.evidence.spikes import Spikes, lately
from watcher.model import Flags, Floats

EVIDENCE = st.sampled_from([-1.0, 0.0, 0.0, 0.5, 1.0, 2.0, 2.0, 3.5])
"""A few values, so that there are ties."""

# --- where they begin ------------------------------------------------------------------------------------------------


@given(
    st.integers(0, MOST),
    st.integers(1, 60),
    st.integers(1, 40),
    st.sampled_from([60.0, 600.0, 1800.0, 3600.0]),
    st.lists(st.tuples(st.integers(0, MOST - 1), st.integers(1, 30)), max_size=4),
)
def test_placebos_have_their_horizon_after_them_their_hours_before_them_and_nothing_wrong_in_either(
    size: int, horizon: int, before: int, block: float, stretches: list[tuple[int, int]]
) -> None:
    allowed = np.ones(size, dtype=bool)
    for start, length in stretches:
        allowed[start : start + length] = False
    found = starts(size, horizon, before, block, allowed).tolist()
    assert found == sorted(found, reverse=True)
    for start in found:
        assert before <= start <= size - horizon
        assert allowed[start - before : start + horizon].all()
    assert all(block * (later - earlier) >= STEP for later, earlier in pairwise(found))
    # And nothing on their grid, which ends where the release begins, was left out without a reason.
    step = max(1, int(np.ceil(STEP / block)))
    for start in range(size - horizon, before - 1, -step):
        assert (start in found) == bool(allowed[start - before : start + horizon].all())


@pytest.mark.parametrize("days", [1, 7, 28, 365])
def test_there_are_at_most_so_many_placebos_spread_over_the_whole_history(days: int) -> None:
    size = 1440 * days
    found = starts(size, 120, 180, 60.0, np.ones(size, dtype=bool))
    assert found.size <= MOST
    assert found[0] == size - 120
    assert found[-1] - 180 < max(STEP / 60, size / MOST + 1)


def most_apart(found: list[int], horizon: int) -> int:
    """The slow twin: the largest set of which no two overlap."""
    for count in range(len(found), 0, -1):
        for some in combinations(sorted(found), count):
            if all(b - a >= horizon for a, b in pairwise(some)):
                return count
    return 0


@given(st.sets(st.integers(0, 40), max_size=8), st.integers(1, 15))
def test_as_many_are_apart_as_the_largest_set_without_overlap_has(found: set[int], horizon: int) -> None:
    ordered = np.array(sorted(found, reverse=True), dtype=int)
    assert apart(ordered, horizon) == most_apart(list(found), horizon)


# --- bar and p -------------------------------------------------------------------------------------------------------


@given(st.lists(EVIDENCE, min_size=0, max_size=60), EVIDENCE, st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.2, 1 / 3, 0.5]))
def test_evidence_exceeds_the_bar_exactly_when_its_p_is_at_most_alpha(
    placebos: list[float], now: float, alpha: float
) -> None:
    reached = np.array(placebos)
    limit, p = bar(reached, alpha), p_value(reached, now)
    assert (limit is not None and now > limit) == (p <= alpha + 1e-12)
    if limit is None:
        assert 1 / (reached.size + 1) > alpha


@given(st.lists(EVIDENCE, min_size=1, max_size=30), EVIDENCE)
def test_p_is_the_share_of_all_of_them_that_reached_as_far(placebos: list[float], now: float) -> None:
    everyone = [*placebos, now]
    assert p_value(np.array(placebos), now) == pytest.approx(sum(each >= now for each in everyone) / len(everyone))


def test_p_is_at_most_alpha_at_most_as_often_as_alpha_when_all_are_exchangeable() -> None:
    """Exactly so: whichever of 40 is the release, two of them are below 1/20."""
    reached = np.random.default_rng(1).normal(size=40)
    alarms = [p_value(np.delete(reached, each), reached[each]) <= 0.05 + 1e-12 for each in range(40)]
    assert sum(alarms) == 2


@given(st.lists(st.one_of(st.just(-np.inf), EVIDENCE), min_size=0, max_size=50), st.sampled_from([0.05, 0.2, 0.5]))
def test_at_most_a_share_of_the_placebos_exceeds_what_is_unusual(placebos: list[float], share: float) -> None:
    finite = [each for each in placebos if np.isfinite(each)]
    (found,) = unusual(np.array([placebos], dtype=float), share)
    if not finite:
        assert np.isnan(found)
        return
    assert found in finite
    assert sum(each > found for each in finite) <= share * (len(finite) + 1)
    if np.ceil((1 - share) * (len(finite) + 1)) > len(finite):
        assert found == max(finite)


def test_unusual_evidence_of_either_kind_becomes_the_same_and_nothing_where_there_was_none() -> None:
    reached = np.random.default_rng(2).exponential(2.0, (3, 200))
    reached[1] *= 10
    reached[2] = -np.inf
    scale = scale_of(reached)
    assert (scale[:2] * unusual(reached)[:2]) == pytest.approx(np.full(2, np.log(1 / USUAL)))
    assert scale[2] == 0.0
    assert scale_of(reached, LOUD) == pytest.approx(LOUD * scale)
    assert scale_of(1e-9 * reached[:1]) == pytest.approx([np.log(1 / USUAL) / LEAST])
    assert scale_of(np.empty((2, 0))).tolist() == [0.0, 0.0]


# --- the replay ------------------------------------------------------------------------------------------------------


def a_method(streams: int, sign: int, horizon: int, seed: int = 3) -> Innovations:
    rng = np.random.default_rng(seed)
    memory = Memory(rng.uniform(0, 0.2, (streams, 4)), rng.uniform(0.7, 1.0, streams))
    drift, unit = rng.uniform(0, 0.02, streams), rng.uniform(0.02, 0.1, streams)
    return Innovations(sign, 0.1, 2.4, memory, drift, unit, horizon)


def a_history(method: Innovations, points: int, seed: int = 4) -> tuple[Floats, Floats]:
    """Return residuals with gaps, and noise that varies."""
    rng, shape = np.random.default_rng(seed), (len(method.unit), points)
    noise = method.unit[:, None] * rng.uniform(0.5, 2.0, shape)
    residuals = noise * rng.standard_t(3, shape)
    residuals[rng.random(shape) < 0.03] = np.nan
    return residuals, noise


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_a_placebo_is_judged_as_a_release_at_its_moment_would_be(sign: int) -> None:
    """Folded block by block from what the series remembers then; its evidence is the most at any block that counts."""
    horizon, before, streams = 70, 30, 3
    method, found, counted = a_method(streams, sign, horizon), np.array([200, 140, 40]), np.arange(horizon) >= 5
    residuals, noise = a_history(method, 300)
    residuals[2, 140:160] = np.nan
    spikes = Spikes.of(sign, horizon)
    shift, loud = replay(method, spikes, residuals, noise, found, counted, before)
    for stream in range(streams):
        one = placebo._rows(method, [stream])
        for each, start in enumerate(found.tolist()):
            window, past = slice(start, start + horizon), slice(0, start)
            scaled = residuals[[stream]] / noise[[stream]]
            state = one.start(1, one.memory.tail(scaled[:, past]))
            _, track = one.fold(
                state, residuals[[stream], window], noise[[stream], window], 60.0 * np.arange(horizon), counted
            )
            level, spread = lately(scaled[:, start - before : start], np.ones(1))
            bets, most = spikes.start(1), -np.inf
            for block in np.flatnonzero(counted).tolist():
                bets = spikes.step(bets, (scaled[:, start + block] - level) / spread)
                most = max(most, float(spikes.log_e(bets)[0]))
            if np.isfinite(residuals[stream, window]).mean() < placebo.WHOLE:
                assert (stream, start) == (2, 140)
                assert np.isneginf(shift[stream, each])
                assert np.isneginf(loud[stream, each])
            else:
                assert shift[stream, each] == pytest.approx(float(track.regressed[0, counted].max()))
                assert loud[stream, each] == pytest.approx(most)


def test_how_many_are_replayed_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    method, found, counted = a_method(7, 0, 40), np.arange(400, 60, -30), np.ones(40, dtype=bool)
    residuals, noise = a_history(method, 450)
    together = replay(method, Spikes.of(0, 40), residuals, noise, found, counted, 20)
    for rows in (1, 3 * found.size):
        monkeypatch.setattr(placebo, "ROWS", rows)
        apiece = replay(method, Spikes.of(0, 40), residuals, noise, found, counted, 20)
        assert all((a == b).all() for a, b in zip(together, apiece, strict=True))


def reached(residuals: Floats, found: list[int], counted: Flags) -> tuple[Floats, Floats]:
    """Return what a method reached that takes the noise for Gaussian and forgotten at once."""
    streams = len(residuals)
    white = Memory(np.zeros((streams, 1)), np.ones(streams))
    method = Innovations(1, 0.1, 2.4, white, np.zeros(streams), np.ones(streams), counted.size)
    noise = np.ones_like(residuals)
    return replay(method, Spikes.of(1, counted.size), residuals, noise, np.array(found), counted, 20)


def test_however_wrong_the_noise_is_taken_to_be_a_release_like_its_placebos_alarms_at_most_at_alpha() -> None:
    """200 series of 40 windows, each with a level of its own and heavy tails; the last of them is the release."""
    rng, horizon, windows, runs = np.random.default_rng(5), 30, 40, 200
    levels = np.repeat(rng.normal(0, 0.7, (runs, windows)), horizon + 20, axis=1)
    series = levels + rng.standard_t(3, levels.shape)
    found = [window * (horizon + 20) + 20 for window in range(windows)]
    shift, loud = reached(series, found, np.ones(horizon, dtype=bool))
    by_model = (shift[:, -1] >= np.log(20)).mean()
    both = np.maximum(scale_of(shift)[:, None] * shift, scale_of(loud, LOUD)[:, None] * loud)
    for evidence in (shift, loud, both):
        alarms = sum(p_value(row[:-1], row[-1]) <= 0.05 + 1e-12 for row in evidence)
        assert alarms <= int(binom.ppf(0.999, runs, 0.05))
    assert by_model > 0.2


def test_an_early_look_compares_with_the_whole_horizon_of_the_placebos_and_alarms_no_more_often() -> None:
    """The most evidence until any look is at most that until the last, so p at any look is at most as rarely small."""
    rng, horizon, runs = np.random.default_rng(6), 30, 200
    series = rng.standard_t(3, (runs, 40 * 50))
    found = [window * 50 + 20 for window in range(40)]
    whole, _ = reached(series, found, np.ones(horizon, dtype=bool))
    early, _ = reached(series, found[-1:], np.ones(10, dtype=bool))
    p_early = np.array([p_value(row[:-1], now) for row, now in zip(whole, early[:, 0], strict=True)])
    assert int((p_early <= 0.05 + 1e-12).sum()) <= int(binom.ppf(0.999, runs, 0.05))

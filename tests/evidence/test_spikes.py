"""Spikes: held against the mixture by its definition, and what they say of minutes that are loud; all seeded."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from watcher.evidence.onset import NOW
from watcher.evidence.spikes import FAR, LONG, TIMES, Spikes, SpikeState, lately
from watcher.model import Floats


def folded(deviations: Floats, sign: int = 1, horizon: float = 120) -> tuple[Floats, Floats, SpikeState]:
    """Return log e and harm after each block, both [stream, block], and the state at the end."""
    spikes = Spikes.of(sign, horizon)
    state, log_e, harm = spikes.start(len(deviations)), [], []
    for block in deviations.T:
        state = spikes.step(state, block)
        log_e.append(spikes.log_e(state))
        harm.append(spikes.harm(state))
    return np.array(log_e).T, np.array(harm).T, state


def by_definition(deviations: list[float], sign: int, horizon: int) -> float:
    """The slow twin: capital over every onset and every size, each the likelihood ratio of a larger deviation."""
    seen = [each for each in deviations if not math.isnan(each)]
    total = 0.0
    for onset in range(len(seen)):
        stake = NOW if onset == 0 else (1 - NOW) / (horizon - 1)
        for times in TIMES:
            capital = stake / len(TIMES)
            for each in seen[onset:]:
                size = max(sign * each, 0.0) if sign else abs(each)
                size = min(size, FAR)
                capital *= math.exp(-(size**2) / (2 * times**2)) / times / math.exp(-(size**2) / 2)
            total += capital
    return math.log(total + (1 - NOW) * (1 - (len(seen) - 1) / (horizon - 1)) if seen else 1.0)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_spikes_one_block_onset_and_size_at_a_time_with_gaps(sign: int) -> None:
    deviations = np.random.default_rng(1).normal(0, 1.8, (3, 25))
    deviations[0, [3, 4]], deviations[1, 0], deviations[2, :] = np.nan, np.nan, np.nan
    found, _, _ = folded(deviations, sign, 60)
    for stream in range(3):
        for block in range(25):
            expected = by_definition(deviations[stream, : block + 1].tolist(), sign, 60)
            assert found[stream, block] == pytest.approx(expected, abs=1e-9)


def test_a_likelihood_ratio_of_two_sided_noise_has_a_mean_of_one() -> None:
    """What a unit of capital becomes in a block, by integration: a fair bet on Gaussian deviations of either sign."""
    x = np.linspace(-60, 60, 20_001)
    log_density = -(x**2) / 2 - math.log(2 * math.pi) / 2
    spikes = Spikes.of(0, 2)
    state = spikes.step(spikes.start(x.size), x)
    became = np.exp(state.capital - math.log(NOW / len(TIMES)) + log_density[:, None])
    assert became.sum(axis=0) * (x[1] - x[0]) == pytest.approx(np.ones(len(TIMES)), abs=1e-6)


def test_one_side_counts_only_what_is_worse_and_two_sides_count_both() -> None:
    up = np.zeros((1, 60))
    up[0, 30:33] = 8.0
    for sign, deviations, loud in [(1, up, True), (1, -up, False), (-1, up, False), (-1, -up, True)]:
        found = float(folded(deviations, sign)[0].max())
        assert (found > 20) == loud
    assert folded(up, 0)[0] == pytest.approx(folded(-up, 0)[0])
    assert folded(up, 0)[0] == pytest.approx(folded(up, 1)[0])


def test_a_gap_changes_nothing_and_is_not_counted() -> None:
    deviations = np.random.default_rng(2).normal(0, 2, (1, 30))
    gaps = np.insert(deviations, [5, 5, 20], np.nan, axis=1)
    _, _, whole = folded(deviations)
    _, _, state = folded(gaps)
    for name in ("capital", "unspent", "blocks", "since"):
        assert getattr(state, name) == pytest.approx(getattr(whole, name))


def test_harm_is_the_root_mean_square_since_deviations_are_large() -> None:
    deviations = np.zeros((1, 60))
    deviations[0, 40:44] = [6.0, 8.0, 6.0, 8.0]
    _, harm, state = folded(deviations)
    assert np.isneginf(harm[0, 39])
    assert harm[0, 43] == pytest.approx(math.sqrt(50), rel=0.1)
    assert state.since[0, 1] >= 16
    assert harm[0, 59] < harm[0, 43]


def test_harm_is_over_when_the_capital_is_spent() -> None:
    """A loud minute, then a hundred quiet ones: nothing is large any more, and the next loud minute begins anew."""
    deviations = np.zeros((1, 120))
    deviations[0, [5, 110]] = 4.0
    _, harm, _ = folded(deviations, horizon=120)
    assert harm[0, 5] > 1.0
    assert np.isneginf(harm[0, 100])
    assert harm[0, 110] == pytest.approx(4.0)


def test_however_far_a_minute_is_the_evidence_stays_a_number() -> None:
    log_e, harm, _ = folded(np.array([[1e300, np.inf, -np.inf, 0.0]]), 0)
    # Infinities are no measurements.
    assert np.isfinite(log_e).all()
    assert np.isfinite(harm[0, 0])
    assert harm[0, 0] == FAR


def test_the_state_survives_json_between_blocks() -> None:
    spikes, deviations = Spikes.of(0, 50), np.random.default_rng(3).normal(0, 2, (2, 30))
    state: Any = spikes.start(2)
    for block in deviations.T:
        state = SpikeState.from_json(json.loads(json.dumps(spikes.step(state, block).to_json())))
    assert spikes.log_e(state) == pytest.approx(folded(deviations, 0, 50)[0][:, -1])


# --- what is usual lately --------------------------------------------------------------------------------------------


def test_the_last_hours_are_told_by_their_median_and_their_median_deviation_one_at_a_time() -> None:
    rng = np.random.default_rng(4)
    recent, whole = rng.normal(2.0, 0.5, (3, 181)), np.array([1.0, 2.0, 3.0])
    level, spread = lately(recent, whole)
    for stream in range(3):
        middle = float(np.median(recent[stream]))
        around = 1.4826 * float(np.median(np.abs(recent[stream] - middle)))
        expected = math.sqrt(LONG * whole[stream] ** 2 + (1 - LONG) * around**2)
        assert (level[stream], spread[stream]) == (pytest.approx(middle), pytest.approx(expected))


def test_gaps_in_the_last_hours_have_no_say() -> None:
    recent = np.random.default_rng(5).normal(2.0, 0.5, (1, 100))
    gappy = np.insert(recent, np.arange(0, 100, 2), np.nan, axis=1)
    for found, expected in zip(lately(gappy, np.ones(1)), lately(recent, np.ones(1)), strict=True):
        assert found == pytest.approx(expected)


def test_hours_without_a_measurement_leave_what_is_usual_of_the_whole_history() -> None:
    level, spread = lately(np.full((1, 10), np.nan), np.array([2.0]))
    assert (level[0], spread[0]) == (0.0, 2.0)

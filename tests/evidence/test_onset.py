"""Promises of the mixture over the time a regression begins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.evidence.onset import NOW, STAGE, Onset, OnsetState, log_add, log_of


def slow_twin(weights: list[float], horizon: float, growth: np.ndarray, stages: set[int]) -> float:
    """Log e by definition: for every onset and bet, its stake times everything it met since."""
    unspent, total = 1.0, 0.0
    for onset in range(len(growth)):
        part = NOW if onset == 0 else STAGE if onset in stages else 1 / max(horizon - onset, 1)
        stake = unspent * part
        unspent -= stake
        for bet, weight in enumerate(weights):
            total += stake * weight * math.exp(growth[onset:, bet].sum())
    return math.log(total + unspent)


@given(st.sets(st.integers(1, 19), max_size=3), st.integers(0, 1000))
def test_it_equals_its_definition_at_every_stage(stages: set[int], seed: int):
    growth = np.random.default_rng(seed).normal(0, 0.5, (20, 3))
    onset = Onset.of([0.5, 0.3, 0.2], horizon=100)
    state = onset.start(1)
    for b in range(20):
        if b in stages:
            state = onset.restage(state)
        state = onset.step(state, growth[b][:, None], np.ones(1, dtype=bool))
    assert float(onset.log_e(state)[0]) == pytest.approx(slow_twin([0.5, 0.3, 0.2], 100, growth, stages), abs=1e-9)


def test_it_never_stakes_more_than_it_has_however_many_stages_there_are():
    onset = Onset.of([1.0], horizon=50)
    state, quiet = onset.start(1), np.zeros((1, 1))
    for b in range(200):
        if b % 7 == 0:
            state = onset.restage(state)
        state = onset.step(state, quiet, np.ones(1, dtype=bool))
        assert 0.0 <= state.unspent[0] <= 1.0
    assert float(onset.log_e(state)[0]) == pytest.approx(0.0, abs=1e-9)


def test_an_empty_block_stakes_nothing_and_changes_nothing():
    onset = Onset.of([0.5, 0.5], horizon=50)
    state = onset.step(onset.start(2), np.full((2, 2), 0.3), np.array([True, False]))
    assert state.unspent.tolist() == [1 - NOW, 1.0]
    assert onset.log_e(state)[1] == 0.0


def test_a_later_stage_buys_a_faster_find_of_what_begins_with_it():
    onset = Onset.of([1.0], horizon=1440)
    growth = np.where(np.arange(400) < 360, -0.3, 0.3)

    def found(restage: bool) -> int:
        state = onset.start(1)
        for b in range(400):
            if restage and b == 360:
                state = onset.restage(state)
            state = onset.step(state, growth[b].reshape(1, 1), np.ones(1, dtype=bool))
            if onset.log_e(state)[0] > math.log(100):
                return b - 360
        return 400

    assert found(True) < found(False) - 5


def test_states_survive_json_and_logs_of_nothing_stay_numbers():
    state = Onset.of([0.5, 0.5], horizon=50).start(2)
    assert OnsetState.from_json(state.to_json()).to_json() == state.to_json()
    assert np.isfinite(log_of(np.zeros(2))).all()
    assert log_add(np.zeros(1), np.zeros(1))[0] == pytest.approx(math.log(2))

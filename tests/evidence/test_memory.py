"""How a series remembers: held against a loop over points, closed forms, and noise that is known; all seeded."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import lfilter

from watcher.errors import ShapeError
from watcher.evidence.memory import SPANS, Memory, decay, filled, robust_spread, running_means
from watcher.model import Floats

GAPPY = arrays(
    float, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=st.sampled_from([np.nan, -2.0, 0.5, 3.0])
)


def autoregressive(rng: np.random.Generator, streams: int, points: int, kept: tuple[float, ...]) -> Floats:
    """Noise whose innovations have a standard deviation of one."""
    shocks = rng.normal(size=(streams, points + 2000))
    return np.asarray(lfilter([1.0], np.r_[1.0, -np.array(kept)], shocks, axis=1)[:, 2000:])


def some_memory(streams: int = 2, spans: int = len(SPANS)) -> Memory:
    rng = np.random.default_rng(1)
    return Memory(rng.uniform(-0.1, 0.2, (streams, spans)), rng.uniform(0.5, 1.0, streams))


# --- one point at a time ---------------------------------------------------------------------------------------------


def means_before(past: list[float], start: list[float]) -> list[list[float]]:
    """The slow twin: the running means before each point, and after the last."""
    means, out = list(start), [list(start)]
    for value in past:
        for each, span in enumerate(SPANS[: len(start)]):
            left = math.exp(-1 / span) if span else 0.0
            means[each] = left * means[each] + (1 - left) * value
        out.append(list(means))
    return out


def test_running_means_one_point_at_a_time() -> None:
    rng = np.random.default_rng(2)
    past, start = rng.normal(size=(3, 40)), rng.normal(size=(3, len(SPANS)))
    found = running_means(past, start)
    for stream in range(3):
        slow = means_before(past[stream].tolist(), start[stream].tolist())
        assert found[stream] == pytest.approx(np.array(slow[:-1]))


def test_innovations_and_the_tail_one_point_at_a_time_with_gaps() -> None:
    """A gap is bridged by the last value, and has no innovation."""
    memory, values = some_memory(), np.random.default_rng(3).normal(size=(2, 40))
    values[0, [0, 1, 7]], values[1, 20:] = np.nan, np.nan
    found, tail = memory.innovations(values), memory.tail(values)
    for stream in range(2):
        means, last = [0.0] * len(SPANS), 0.0
        for t, value in enumerate(values[stream].tolist()):
            last = last if math.isnan(value) else value
            foretold = sum(w * m for w, m in zip(memory.weights[stream].tolist(), means, strict=True))
            assert found[stream, t] == pytest.approx(value - foretold, nan_ok=True)
            means = means_before([last], means)[-1]
        assert tail[stream] == pytest.approx(np.array(means))


def test_a_value_after_another_is_as_the_whole_history() -> None:
    memory, values = some_memory(), np.random.default_rng(4).normal(size=(2, 30))
    means = np.zeros((2, len(SPANS)))
    for t in range(30):
        means = memory.after(means, values[:, t])
    assert means == pytest.approx(memory.tail(values))


@given(GAPPY)
def test_a_gap_is_filled_by_the_last_value_before_it(values: Floats) -> None:
    found = filled(values)
    for stream, row in enumerate(values.tolist()):
        last = 0.0
        for t, value in enumerate(row):
            last = last if math.isnan(value) else value
            assert found[stream, t] == last


def test_running_means_of_other_streams_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 streams, and running means of 3"):
        running_means(np.zeros((2, 5)), np.zeros((3, 1)))


# --- what a shift leaves in the innovations --------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["shift", "drift"])
@pytest.mark.parametrize("spans", [1, 3, len(SPANS)])
def test_the_weight_of_a_shift_and_of_a_rise_is_what_they_leave_in_the_innovations(shape: str, spans: int) -> None:
    """By linearity: the innovations of the series that is nothing but the shift, from its onset at the fifth block."""
    memory, size, onset = some_memory(spans=spans), 700, 4
    since = np.arange(size) - float(onset)
    alone = np.where(since >= 0, 1.0 if shape == "shift" else since + 1.0, 0.0)
    expected = memory.innovations(np.tile(alone, (2, 1)))
    assert getattr(memory, shape)(since) == pytest.approx(expected, abs=1e-9)


def test_a_lasting_shift_ends_up_with_the_weight_of_a_level() -> None:
    memory = some_memory()
    assert memory.shift(np.array([0.0]))[:, 0].tolist() == [1.0, 1.0]
    assert memory.shift(np.array([1e5]))[:, 0] == pytest.approx(memory.rest)
    assert memory.rest == pytest.approx(1 - memory.weights.sum(axis=1))


def test_decay_is_the_exponential_of_a_block_over_the_span() -> None:
    assert decay(3).tolist() == [0.0, math.exp(-1 / 2), math.exp(-1 / 5)]


# --- the fit ---------------------------------------------------------------------------------------------------------

NOISES = {
    "white": (0.0,),
    "forgets in five minutes": (math.exp(-1 / 5),),
    "forgets in an hour": (math.exp(-1 / 60),),
    "of two speeds": (1.2, -0.25),
}


@pytest.mark.parametrize("name", NOISES)
def test_the_innovations_of_a_known_noise_are_recovered_within_two_percent_and_are_white(name: str) -> None:
    """A week of minutes: the best forecast has an error of one; neighbours' correlation is within .1 of none."""
    values = autoregressive(np.random.default_rng(5), 20, 7 * 1440, NOISES[name])
    memory = Memory.fit(values)
    assert memory.sigma.mean() == pytest.approx(1.0, rel=0.02)
    left = memory.innovations(values)[:, 500:]
    assert left.std() == pytest.approx(1.0, rel=0.02)
    assert abs(float(np.mean(left[:, 1:] * left[:, :-1]))) < 0.1


def test_the_noise_of_an_hour_and_of_five_minutes_together_is_foretold_as_well_as_a_long_autoregression_does() -> None:
    """Within two per cent of sixty fitted lags, on a week that was not fitted."""
    rng, parts = np.random.default_rng(6), ((math.exp(-1 / 60),), (math.exp(-1 / 5),), (0.0,))
    values = sum(
        autoregressive(rng, 1, 14 * 1440, kept) * scale for kept, scale in zip(parts, (0.2, 0.6, 1.0), strict=True)
    )
    week = 7 * 1440
    past, rows = values[0, :week], np.lib.stride_tricks.sliding_window_view(values[0], 61)
    lags = np.linalg.lstsq(rows[: week - 60, :60], rows[: week - 60, 60], rcond=None)[0]
    long = (rows[week - 60 :, 60] - rows[week - 60 :, :60] @ lags).std()
    ours = Memory.fit(past[None]).innovations(values)[0, week:].std()
    assert ours < 1.02 * long


@pytest.mark.parametrize(("points", "spans"), [(1, 1), (15, 1), (16, 2), (119, 3), (120, 4), (4000, 7)])
def test_a_short_history_is_fitted_fewer_running_means(points: int, spans: int) -> None:
    memory = Memory.fit(autoregressive(np.random.default_rng(7), 2, points, (0.5,)))
    assert memory.weights.shape == (2, spans)
    assert np.isfinite(memory.weights).all()
    assert (memory.sigma > 0).all()


def test_a_short_history_of_two_hours_has_its_innovations_within_a_tenth() -> None:
    memory = Memory.fit(autoregressive(np.random.default_rng(8), 200, 120, (0.6,)))
    assert memory.sigma.mean() == pytest.approx(1.0, abs=0.1)
    assert memory.shift(np.array([5.0])).mean() == pytest.approx(0.4, abs=0.12)


def test_gaps_are_left_out_of_the_fit() -> None:
    """A third of a week missing in pieces of three hours: innovations within five per cent."""
    values = autoregressive(np.random.default_rng(9), 10, 7 * 1440, (0.6,))
    values[:, np.arange(values.shape[1]) % 540 < 180] = np.nan
    memory = Memory.fit(values)
    assert memory.sigma.mean() == pytest.approx(1.0, rel=0.05)
    assert memory.weights.sum(axis=1).mean() == pytest.approx(0.6, abs=0.05)


def test_an_incident_is_not_how_a_series_remembers() -> None:
    """Ten minutes fifty deviations away move what is fitted to the rest of the week by less than a tenth."""
    values = autoregressive(np.random.default_rng(10), 10, 7 * 1440, (0.6,))
    incident = values.copy()
    incident[:, 3000:3010] += 50.0
    quiet, loud = Memory.fit(values), Memory.fit(incident)
    assert loud.sigma == pytest.approx(quiet.sigma, rel=0.1)
    assert loud.shift(np.array([0.0, 1.0, 30.0])) == pytest.approx(quiet.shift(np.array([0.0, 1.0, 30.0])), abs=0.1)


def test_a_series_that_stands_still_has_a_memory_all_the_same() -> None:
    memory = Memory.fit(np.zeros((1, 100)))
    assert memory.sigma[0] > 0
    assert np.isfinite(memory.innovations(np.zeros((1, 100)))).all()


def test_the_robust_spread_is_the_standard_deviation_of_noise_and_hardly_moved_by_an_incident() -> None:
    values = np.random.default_rng(11).normal(0, 2.0, (4, 5000))
    assert robust_spread(values) == pytest.approx(np.full(4, 2.0), rel=0.05)
    values[:, :50], values[:, 50:100] = 1e6, np.nan
    assert robust_spread(values) == pytest.approx(np.full(4, 2.0), rel=0.15)
    steps = np.where(np.arange(1000) % 10 == 0, 1.0, 0.0)[None]
    assert robust_spread(steps) == pytest.approx([math.sqrt(0.1)])

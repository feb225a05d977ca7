"""Promises of the innovations method: a series against its own past or against a control."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom

from watcher.calibration import calibrate
from watcher.comparison import fold
from watcher.errors import ShapeError
from watcher.evidence.innovations import Innovations, InnovationState
from watcher.evidence.memory import Memory
from watcher.model import (
    Arm,
    Floats,
    Kind,
    Observations,
    Release,
    Rule,
    Selector,
    Stage,
    Strategy,
    Watch,
    Worse,
)


def autoregressive(rng: np.random.Generator, runs: int, points: int, memory: float, sd: float) -> Floats:
    """AR(1) noise of standard deviation sd."""
    shocks = rng.normal(0, sd * math.sqrt(1 - memory**2), (runs, points + 500))
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks, axis=1)[:, 500:])


def judged(series: Floats, before: int, shift: float = 0.0, margin: float = 0.1):
    """Fit on the first `before` points, shift the rest, and fold it."""
    level = series[:, :before].mean(axis=1, keepdims=True)
    past, after = series[:, :before] - level, series[:, before:] - level + shift
    unit = past.std(axis=1)
    memory = Memory.fit(past / unit[:, None])
    drift = (memory.sigma / memory.rest) ** 2 / before
    method = Innovations(1, margin, 2.4, memory, drift, unit, horizon=after.shape[1])
    start, noise = (
        method.start(len(series), memory.tail(past / unit[:, None])),
        np.broadcast_to(unit[:, None], after.shape),
    )
    return method, method.fold(start, after, noise, 60.0 * np.arange(after.shape[1]))


def plain(weights: list[list[float]], drift: float = 0.0, **changes: Any) -> Innovations:
    """A method with a given memory, of series that deviate by one."""
    streams = len(weights)
    known = Memory(np.array(weights), np.ones(streams)), np.full(streams, drift), np.ones(streams)
    return replace(Innovations(1, 0.1, 2.4, *known, horizon=40), **changes)


def test_autocorrelated_noise_is_called_regressed_at_most_at_alpha_where_a_naive_test_would_be_wrong_half_the_time():
    rng = np.random.default_rng(1)
    noise = autoregressive(rng, 400, 3000, 0.9, 0.05)
    _, (_, track) = judged(noise, 2640)
    alarms = int((track.regressed.max(axis=1) >= math.log(20)).sum())
    assert alarms <= int(binom.ppf(0.999, 400, 0.05))
    watched = noise[:, 2640:] - noise[:, :2640].mean(axis=1, keepdims=True)
    n = np.arange(1, watched.shape[1] + 1)
    z = np.cumsum(watched, axis=1) / (watched.std() * np.sqrt(n))
    assert ((z > 1.645).any(axis=1)).mean() > 0.5


def test_a_shift_beyond_the_margin_is_found_within_minutes():
    rng = np.random.default_rng(2)
    _, (_, track) = judged(autoregressive(rng, 200, 2000, 0.8, 0.03), 1640, shift=math.log(1.2))
    hit = track.regressed >= math.log(100)
    assert hit.any(axis=1).mean() > 0.98
    assert np.median(hit.argmax(axis=1) + 1) <= 10


def test_an_unchanged_series_is_proven_within_the_margin_and_a_series_on_the_margin_rarely_is():
    rng = np.random.default_rng(3)
    noise = autoregressive(rng, 300, 2400, 0.5, 0.04)
    _, (_, same) = judged(noise, 2040)
    assert (same.healthy.max(axis=1) >= math.log(20)).mean() > 0.95
    _, (_, edge) = judged(noise, 2040, shift=math.log(1.1))
    assert int((edge.healthy.max(axis=1) >= math.log(20)).sum()) <= int(binom.ppf(0.999, 300, 0.05))


def test_one_outlier_alone_never_alarms():
    series = np.random.default_rng(4).normal(0, 0.01, (50, 1060))
    series[:, 1003] += 5.0
    _, (_, track) = judged(series, 1000)
    assert (track.regressed[:, 3] < math.log(20)).all()


def test_the_effect_is_what_was_added():
    method, (state, _) = judged(autoregressive(np.random.default_rng(5), 200, 2400, 0.6, 0.03), 1800, shift=0.05)
    found = method.snapshot(state, 0.05)
    assert float(np.median(found.estimate)) == pytest.approx(0.05, abs=0.004)
    covered = (found.lower < 0.05) & (found.upper > 0.05)
    assert covered.mean() >= 0.95


def test_gaps_and_looks_change_nothing():
    rng = np.random.default_rng(6)
    series = rng.normal(0, 1, (2, 40))
    series[0, 5:9] = np.nan
    noise, method = rng.uniform(0.5, 1.5, (2, 40)), plain([[0.4, 0.1], [0.2, 0.0]], drift=0.01, sign=-1)
    whole, at_once = method.fold(method.start(2), series, noise, 60.0 * np.arange(40))
    state, pieces = method.start(2), []
    for low, high in ((0, 1), (1, 7), (7, 30), (30, 40)):
        state, part = method.fold(state, series[:, low:high], noise[:, low:high], 60.0 * np.arange(low, high))
        state = InnovationState.from_json(state.to_json())
        pieces.append(part.regressed)
    assert np.concatenate(pieces, axis=1) == pytest.approx(at_once.regressed)
    assert state.sums == pytest.approx(whole.sums)
    assert whole.points.tolist() == [36.0, 40.0]


def test_warm_up_points_are_context_but_no_evidence():
    series, method = np.full((1, 10), 3.0), plain([[0.5]])
    counted = np.arange(10) >= 6
    state, track = method.fold(method.start(1), series, np.ones((1, 10)), 60.0 * np.arange(10), counted)
    assert (track.regressed[0, :6] == 0).all()
    assert (state.points[0], state.exposed[0], state.means[0, 0]) == (4, 10, 3.0)
    assert state.first[0] == 360.0


def test_residuals_that_do_not_fit_are_refused():
    method = plain([[0.0], [0.0]])
    with pytest.raises(ShapeError):
        method.fold(method.start(2), np.zeros((3, 4)), np.ones((3, 4)), np.arange(4.0))


def test_a_shift_either_way_is_found_where_either_is_worse_at_the_price_of_one_bet_in_two():
    rng = np.random.default_rng(7)
    series = rng.normal(0, 1, (1, 60)) + np.array([[1.0], [-1.0]])
    up, down, either = (
        method.fold(method.start(2), series, np.ones((2, 60)), 60.0 * np.arange(60))[1].regressed[:, -1]
        for method in (plain([[0.0], [0.0]], sign=sign) for sign in (1, -1, 0))
    )
    assert (either > math.log(100)).all()
    assert either == pytest.approx(np.logaddexp(up, down) - math.log(2), abs=0.5)
    assert np.maximum(up, down) - either == pytest.approx(math.log(2), abs=0.01)


def test_a_shift_that_begins_later_or_rises_slowly_is_found_too():
    """By log(20) nats 60 blocks after it began; a series that did nothing is not there at alpha."""
    rng = np.random.default_rng(8)
    noise, since = rng.normal(0, 1, (200, 240)), np.arange(240.0)
    shifts = {"at once": since >= 0, "later": since >= 120, "rising": since / 120, "never": 0 * since}
    found = {}
    for name, shift in shifts.items():
        method = plain([[0.0]] * 200, horizon=240)
        _, track = method.fold(method.start(200), noise + shift, np.ones((200, 240)), 60.0 * since)
        found[name] = track.regressed >= math.log(20)
    assert found["at once"][:, :60].any(axis=1).mean() >= 0.95
    assert found["later"][:, :180].any(axis=1).mean() >= 0.95
    assert found["rising"].any(axis=1).mean() >= 0.95
    assert int(found["never"].any(axis=1).sum()) <= int(binom.ppf(0.999, 200, 0.05))


def test_a_block_of_little_traffic_says_little():
    """A shift of one unit, in blocks whose noise is four times as large, is a quarter of a deviation in each."""
    method, noise = plain([[0.0]]), np.full((1, 20), 4.0)
    loud, _ = method.fold(method.start(1), np.ones((1, 20)), noise, 60.0 * np.arange(20))
    quiet, _ = method.fold(method.start(1), np.ones((1, 20)), noise / 4, 60.0 * np.arange(20))
    assert loud.sums[0, 1, 0] == pytest.approx(quiet.sums[0, 1, 0] / 16)
    assert method.snapshot(loud, 0.05).estimate == pytest.approx(1.0)


def gauges(rng: np.random.Generator, runs: int, before: int, after: int, shift: float):
    """A gauge in two arms: a season and slow swings both share, and noise of a quarter of an hour of their own."""
    points = before + after
    season = 0.3 * np.sin(2 * np.pi * np.arange(points) / 1440)
    shared = season + autoregressive(rng, runs, points, math.exp(-1 / 60), 0.05)
    own = [autoregressive(rng, runs, points, math.exp(-1 / 15), 0.03) for _ in range(2)]
    treated = shared + own[0] + np.where(np.arange(points) >= before, shift, 0.0)
    ends = 1_800_000_000.0 - 60.0 * before + 60.0 * np.arange(1, points + 1)
    streams = tuple((("run", f"{run:04d}"),) for run in range(runs))
    arms = [Arm(("",), np.exp(x)[:, None], np.ones((runs, 1, points))) for x in (shared + own[1], treated)]
    return Observations(streams, ends, arms[1], arms[0])


def found(shift: float, runs: int, seed: int) -> Floats:
    """Return log e [run, minute] along the whole path, from a day before exposure."""
    seen = gauges(np.random.default_rng(seed), runs, 1440, 360, shift)
    rule = Rule("load", Kind.GAUGE, Selector("load"), worse=Worse.HIGHER, margin=0.1, by=("run",))
    release = Release("shop", "production", "checkout", "1", Strategy.CANARY, (Stage(1_800_000_000.0),))
    made = Watch(release, (rule,), baseline=(("v", "1"),), treatment=(("v", "2"),), warm_up=0.0)
    history = seen.between(0, 1_800_000_000.0)
    learnt = calibrate(rule, made, history, "history", np.random.default_rng(1))
    return fold(made, rule, seen.between(1_800_000_000.0, np.inf), learnt, None)[1].track.regressed


def test_a_gauge_against_its_control_is_a_difference_of_differences_and_alarms_at_most_at_alpha():
    """What both arms share (season, swings) cancels; what is their own is whitened, and its level is uncertain."""
    alarms = int((found(0.0, 400, 21).max(axis=1) >= math.log(20)).sum())
    assert alarms <= int(binom.ppf(0.999, 400, 0.05))


@pytest.mark.parametrize(("shift", "share", "minutes"), [(0.05, 0.8, 120), (0.10, 0.97, 30)])
def test_a_gauge_that_shifts_against_its_control_is_found(shift: float, share: float, minutes: int):
    hit = found(math.log1p(shift), 200, 22) >= math.log(20)
    assert hit.any(axis=1).mean() >= share
    assert np.median(np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, np.inf)) <= minutes


def test_the_harm_of_a_large_shift_that_begins_late_is_what_was_added():
    """Innovations are clipped for the evidence, and not for the estimate: a doubling is called one, within a tenth."""
    series = np.random.default_rng(9).normal(0, 0.04, (20, 1120))
    series[:, 1030:] += math.log(2)
    _, (_, track) = judged(series, 1000)
    assert track.harm[:, -1] == pytest.approx(np.full(20, math.log(2)), rel=0.1)

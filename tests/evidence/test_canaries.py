"""Promises of canaries: units beside units, where the treatment has no past."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import binom, norm

from tests.timeline import watch
from watcher.calibration import calibrate
from watcher.comparison.methods import Methods, tolerated
from watcher.errors import ShapeError
from watcher.evidence.canaries import Canaries, CanaryState, error, middle_of, placebos
from watcher.evidence.track import CAP
from watcher.model import Arm, Floats, Kind, Labels, Observations, Rule, Selector, Worse, labels

BEFORE, AFTER, CONTROL = 20, 120, 4
SLOW = Rule("slow", Kind.GAUGE, Selector("slow"), margin=0.1)
GOOD = Rule("good", Kind.GAUGE, Selector("good"), worse=Worse.LOWER, margin=0.1)


def autoregressive(rng: np.random.Generator, shape: tuple[int, ...], memory: float, sd: float) -> Floats:
    """AR(1) noise of standard deviation sd along the last axis."""
    shocks = rng.normal(0, sd * math.sqrt(1 - memory**2), (*shape[:-1], shape[-1] + 200))
    return np.asarray(lfilter([1.0], [1.0, -memory], shocks, axis=-1)[..., 200:])


def readings(seed: int, runs: int, memory: float = 0.6, sd: float = 0.1, tau: float = 0.2) -> Floats:
    """Log readings of four units and, last, a canary, with shocks all share, [run, unit, block]."""
    rng = np.random.default_rng(seed)
    shared = autoregressive(rng, (runs, 1, BEFORE + AFTER), 0.9, 0.3)
    return shared + rng.normal(0, tau, (runs, 5, 1)) + autoregressive(rng, (runs, 5, BEFORE + AFTER), memory, sd)


def alarms(rule: Rule, values: Floats, alpha: float = 0.05) -> tuple[Floats, Floats]:
    """Learn from the control's past, watch the canary, and return where it is regressed and the log e of health."""
    runs, names = len(values), tuple(f"unit-{i}" for i in range(5))
    streams: tuple[Labels, ...] = tuple(labels({"run": str(i)}) for i in range(runs))
    ends, ones = 60.0 * np.arange(1, BEFORE + AFTER + 1), np.ones_like(values)
    control = Arm(names[:CONTROL], values[:, :CONTROL], ones[:, :CONTROL])
    silent = Arm(names[CONTROL:], 0 * values[:, CONTROL:], 0 * ones[:, CONTROL:])
    history = Observations(streams, ends, silent, control).between(0.0, 60.0 * BEFORE)
    learnt = calibrate(rule, watch(rule), history, "history", np.random.default_rng(1))
    methods = Methods(watch(rule), rule, learnt)
    assert set(methods.chosen(streams)) == {"canaries"}
    method = methods.laid_out("canaries", streams)
    assert isinstance(method, Canaries)
    canary = np.arange(5)[None, :, None] == CONTROL
    after = values[:, :, BEFORE:]
    arms = np.where(canary, np.nan, after), np.where(canary, after, np.nan)
    _, track = method.fold(method.start(runs), *arms, ends[BEFORE:])
    worse = (track.regressed >= -math.log(alpha)) & (track.harm > tolerated(rule, learnt.margin))
    return worse, track.healthy


@pytest.mark.parametrize(("memory", "sd", "tau"), [(0.0, 0.1, 0.2), (0.6, 0.1, 0.2), (0.8, 0.2, 0.2), (0.6, 0.3, 0.4)])
def test_a_canary_like_its_neighbours_is_called_regressed_at_most_at_alpha(memory, sd, tau):
    worse, _ = alarms(SLOW, np.exp(readings(1, 600, memory, sd, tau)))
    assert int(worse.any(axis=1).sum()) <= int(binom.ppf(0.999, 600, 0.05))


def test_a_share_that_wanders_by_a_few_points_is_called_regressed_at_most_at_alpha():
    noise = autoregressive(np.random.default_rng(2), (600, 5, BEFORE + AFTER), 0.8, 5.0)
    worse, _ = alarms(GOOD, np.minimum(100.0, 90.0 + noise))
    assert int(worse.any(axis=1).sum()) <= int(binom.ppf(0.999, 600, 0.05))


def test_twice_as_slow_beside_like_units_is_mostly_found_and_four_times_within_minutes():
    for factor, share, minutes in ((2.0, 0.55, 30), (4.0, 0.97, 4)):
        values = np.exp(readings(3, 300, tau=0.05))
        values[:, CONTROL, BEFORE:] *= factor
        worse, _ = alarms(SLOW, values)
        assert worse.any(axis=1).mean() > share
        assert np.median(worse[worse.any(axis=1)].argmax(axis=1) + 1) <= minutes


def test_twenty_points_fewer_that_succeed_are_found_in_the_second_block_at_the_earliest_and_the_fifth_at_the_latest():
    values = np.minimum(100.0, 98.0 + np.random.default_rng(4).normal(0, 0.5, (300, 5, BEFORE + AFTER)))
    values[:, CONTROL, BEFORE:] -= 20
    worse, _ = alarms(GOOD, values, alpha=0.01)
    first = np.where(worse.any(axis=1), worse.argmax(axis=1) + 1, np.inf)
    assert first.min() >= 2
    assert np.quantile(first, 0.99) <= 5


def test_one_block_alone_never_alarms():
    values = np.exp(readings(5, 100, memory=0.0, tau=0.05))
    values[:, CONTROL, BEFORE + 7] *= 50
    worse, _ = alarms(SLOW, values)
    assert not worse[:, 7].any()


def test_a_lone_canary_on_the_margin_is_rarely_certified_and_a_like_share_soon():
    values = np.exp(readings(6, 600))
    values[:, CONTROL, BEFORE:] *= 1.1
    _, healthy = alarms(SLOW, values)
    assert int((healthy.max(axis=1) >= math.log(20)).sum()) <= int(binom.ppf(0.999, 600, 0.05))
    good = 99.0 + np.random.default_rng(6).normal(0, 0.3, (300, 5, BEFORE + AFTER))
    _, same = alarms(GOOD, np.minimum(100.0, good))
    assert (same.max(axis=1) >= math.log(20)).mean() > 0.95


def laid(sign: int = 1, middle: str = "mean", streams: int = 1, logarithmic: bool = True) -> Canaries:
    return Canaries(
        sign=sign,
        margin=0.1,
        noise=np.full(streams, 0.05),
        own=np.full(streams, 0.04),
        scale=np.full(streams, 2.0),
        middle=middle,
        logarithmic=logarithmic,
    )


def gaps(rng: np.random.Generator, streams: int = 1, blocks: int = 30) -> tuple[Floats, Floats]:
    """Readings of three units and two canaries that come and go."""
    values = np.exp(rng.normal(0, 0.3, (streams, 5, blocks)))
    values[:, 3:] *= 1.6
    values[rng.random(values.shape) < 0.3] = np.nan
    canary = np.arange(5)[None, :, None] >= 3
    return np.where(canary, np.nan, values), np.where(canary, values, np.nan)


@pytest.mark.parametrize("sign", [1, -1, 0])
@pytest.mark.parametrize("middle", ["mean", "median"])
def test_evidence_equals_its_definition_one_unit_and_block_at_a_time(sign, middle):
    baseline, treatment = gaps(np.random.default_rng(7))
    _, track = laid(sign, middle).fold(laid(sign, middle).start(1), baseline, treatment, 60.0 * np.arange(30))
    put = {"mean": np.mean, "median": np.median}[middle]

    def variance(n: int) -> float:
        return 1 / n if middle == "mean" or n < 3 else math.pi / (2 * n + (1 if n % 2 else 2.6))

    def lam(s: float, n: int, v: float) -> float:
        return -0.5 * math.log(1 + n * v) + s * s * v / (2 * (1 + n * v))

    directions, up, down = [1, -1] if sign == 0 else [sign], math.log1p(0.1), -math.log1p(-0.1)
    shifts = {1: up, -1: down}
    floor = min(shifts[d] for d in directions)
    scores: dict[tuple[int, str], list[float]] = {(d, what): [] for d in directions for what in ("harm", "health")}
    held = dict.fromkeys(scores, 0.0)
    squares: list[float] = []
    harm = health = 0.0
    for b in range(30):
        ours = [math.log(x) for x in baseline[0, :, b] if x == x]
        theirs = [math.log(x) for x in treatment[0, :, b] if x == x]
        for i, x in enumerate(ours):
            rest = ours[:i] + ours[i + 1 :]
            if rest:
                squares.append((x - put(rest)) ** 2 / (1 + variance(len(rest))))
        if ours and theirs:
            now = np.mean(squares) if len(squares) >= 4 else 0.0
            noise = math.sqrt(max(0.05**2, now, floor**2) * (variance(len(ours)) + variance(len(theirs))))
            own = 0.04 * (variance(len(ours)) + variance(len(theirs))) / noise**2
            z = (put(theirs) - put(ours)) / noise
            for (d, what), found in scores.items():
                found.append(d * z if what == "harm" else shifts[d] / noise - d * z)

            def log_e(key: tuple[int, str], found: list[float], noise: float = noise, own: float = own) -> float:
                wide = own + (shifts[key[0]] * (3 if key[1] == "harm" else 1) / noise) ** 2
                s, n = sum(found), len(found)
                ahead = norm.logcdf(s * math.sqrt(wide / (1 + n * wide)))
                return lam(s, n, wide) + math.log(2) + ahead - lam(s, n, own)

            said = {}
            for key, found in scores.items():
                held[key] = min(log_e(key, found), held[key] + CAP)
                said[key] = min(held[key], log_e(key, sorted(found)[:-1]))
            harm = np.logaddexp.reduce([said[d, "harm"] for d in directions]) - math.log(len(directions))
            health = min(said[d, "health"] for d in directions)
        assert track.regressed[0, b] == pytest.approx(harm, abs=1e-9)
        assert track.healthy[0, b] == pytest.approx(health, abs=1e-9)


@pytest.mark.parametrize("logarithmic", [True, False])
def test_looks_restarts_and_neighbouring_streams_change_nothing(logarithmic):
    baseline, treatment = gaps(np.random.default_rng(8), streams=3)
    method, ends = laid(0, "median", 3, logarithmic), 60.0 * np.arange(30)
    whole, at_once = method.fold(method.start(3), baseline, treatment, ends)
    state, pieces = method.start(3), []
    for low, high in ((0, 1), (1, 2), (2, 17), (17, 30)):
        state, part = method.fold(state, baseline[..., low:high], treatment[..., low:high], ends[low:high])
        state = CanaryState.from_json(json.loads(json.dumps(state.to_json())))
        pieces.append(part.regressed)
    assert np.concatenate(pieces, axis=1) == pytest.approx(at_once.regressed)
    assert state.to_json() == whole.to_json()
    one = laid(0, "median", 1, logarithmic)
    _, alone = one.fold(one.start(1), baseline[1:2], treatment[1:2], ends)
    assert alone.regressed[0] == pytest.approx(at_once.regressed[1])


def test_a_later_stage_keeps_the_harm_and_proves_health_anew():
    baseline, treatment = gaps(np.random.default_rng(9))
    method = laid()
    state, _ = method.fold(method.start(1), baseline, treatment, 60.0 * np.arange(30))
    before, after = method.snapshot(state, 0.05), method.snapshot(method.restage(state), 0.05)
    assert after.log_regressed == before.log_regressed
    assert after.log_healthy[0] == 0.0


def test_units_that_serve_both_arms_alike_are_not_taken_to_differ():
    values = np.exp(np.random.default_rng(10).normal(0, 0.02, (1, 6, 60)))
    method = laid()
    state, track = method.fold(method.start(1), values[:, :3], values[:, 3:], 60.0 * np.arange(60))
    assert method.snapshot(state, 0.05).scale[0] == 0.0
    assert track.healthy[0, -1] > math.log(20)


def test_the_effect_is_what_was_done_and_its_interval_allows_for_the_unit():
    values = readings(11, 400, memory=0.0)[:, :, BEFORE:]
    values[:, CONTROL] += math.log(1.5)
    canary, method = np.arange(5)[None, :, None] == CONTROL, laid(streams=400)
    arms = (np.where(mask, np.nan, np.exp(values)) for mask in (canary, ~canary))
    state, _ = method.fold(method.start(400), *arms, 60.0 * np.arange(AFTER))
    found = method.snapshot(state, 0.05)
    assert float(np.median(found.estimate)) == pytest.approx(math.log(1.5), abs=0.04)
    assert ((found.lower < math.log(1.5)) & (found.upper > math.log(1.5))).mean() >= 0.95


def test_noise_that_grows_counts_at_once_and_noise_that_shrinks_does_not():
    method = laid()
    calm, wild = np.ones((1, 4, 1)), np.array([[[1.0], [2.0], [0.5], [1.5]]])
    canary = np.array([[[np.nan], [np.nan], [np.nan], [1.2]]])
    state, _ = method.fold(method.start(1), calm, canary, np.zeros(1))
    least = state.errors[0, 0]
    state, _ = method.fold(state, wild, canary, np.ones(1))
    assert state.errors[0, 0] > 3 * least
    state, _ = method.fold(state, np.repeat(calm, 5000, axis=2), np.repeat(canary, 5000, axis=2), np.arange(5000.0))
    assert state.errors[0, 0] == pytest.approx(least)


@pytest.mark.parametrize("middle", ["mean", "median"])
def test_placebos_are_each_unit_against_the_middle_of_the_others(middle):
    values = np.random.default_rng(12).normal(0, 1, (40, 7))
    values[np.random.default_rng(13).random(values.shape) < 0.4] = np.nan
    found, put = placebos(values, middle), {"mean": np.mean, "median": np.median}[middle]
    for row, each in zip(found, values, strict=True):
        for unit in range(7):
            rest = np.delete(each, unit)
            rest = rest[np.isfinite(rest)]
            if np.isnan(each[unit]) or not rest.size:
                assert np.isnan(row[unit])
            else:
                spread = math.sqrt(1 + float(error(np.array(rest.size), middle)))
                assert row[unit] == pytest.approx((each[unit] - put(rest)) / spread)
    whole = [put(each[np.isfinite(each)]) if np.isfinite(each).any() else np.nan for each in values]
    assert middle_of(values, middle) == pytest.approx(np.array(whole), nan_ok=True)


@pytest.mark.parametrize("units", range(1, 13))
def test_the_variance_of_a_median_is_right_within_two_per_cent(units):
    drawn = np.median(np.random.default_rng(14).normal(0, 1, (200_000, units)), axis=1).var()
    assert float(error(np.array(units), "median")) == pytest.approx(drawn, rel=0.02)


def test_readings_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError):
        laid().fold(laid().start(1), np.zeros((1, 2, 3)), np.zeros((1, 3, 3)), np.zeros(3))

"""The slow, obvious twins of what is vectorised: loops over blocks, buckets and units, as the definitions say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import betaln

from watcher.evidence.buckets import _MEMORY, _TILTS, Buckets
from watcher.evidence.dispersion import _between_units, _over_time
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory
from watcher.evidence.onset import NOW
from watcher.evidence.proportion import Proportion, project
from watcher.evidence.quantiles import bounds
from watcher.evidence.suspects import left
from watcher.evidence.track import CAP

ENDS = 60.0 * np.arange(1, 13)


def mixture(gains: list[list[float]], weights: list[float], horizon: float) -> float:
    """Log e of bets [block][bet] over onsets, by definition."""
    total, blocks = 0.0, len(gains)
    for onset in range(blocks):
        stake = NOW if onset == 0 else (1 - NOW) / (horizon - 1)
        for bet, weight in enumerate(weights):
            total += stake * weight * math.exp(sum(min(gains[b][bet], CAP) for b in range(onset, blocks)))
    return math.log(total + (1 - NOW) * (1 - (blocks - 1) / (horizon - 1)))


def test_proportions_against_their_projections_one_block_and_bet_at_a_time():
    rng = np.random.default_rng(1)
    n, m = rng.integers(50, 150, (2, 12)).astype(float)
    x, y = rng.binomial(n.astype(int), 0.3).astype(float), rng.binomial(m.astype(int), 0.4).astype(float)
    method = Proportion.of(sign=1, margin=0.5, rate=np.array([0.25]), dispersion=1.5, horizon=100)
    _, track = method.fold(method.start(1), (x[None], n[None]), (y[None], m[None]), ENDS)
    events, exposure, gains = 50 * 0.25, 50.0, []
    for b in range(12):
        usual = events / exposure
        row = []
        for bet in method.bets:
            share = min(usual * math.exp(bet), 1 - 0.1 * (1 - usual))
            p, q = (float(v) for v in project(*(np.array(v) for v in (share, usual, m[b], n[b], 0.0)), False))
            gain = y[b] * math.log(share / p) + (m[b] - y[b]) * math.log((1 - share) / (1 - p))
            gain += x[b] * math.log(usual / q) + (n[b] - x[b]) * math.log((1 - usual) / (1 - q))
            row.append(gain / 1.5)
        gains.append(row)
        events, exposure = 0.97 * events + x[b], 0.97 * exposure + n[b]
        expected = mixture(gains, np.exp(method.onset.log_weights).tolist(), 100)
        assert track.regressed[0, b] == pytest.approx(expected, abs=1e-9)


def test_buckets_one_request_at_a_time():
    rng = np.random.default_rng(2)
    edges, usual = (0.1, 0.2, 0.4, math.inf), [500.0, 300.0, 150.0, 50.0]
    method = Buckets.of(edges=edges, margin=0.1, shape=np.array([usual]), dispersion=2.0, horizon=100)
    control = rng.multinomial(40, [0.5, 0.3, 0.15, 0.05], 12).astype(float)
    treated = rng.multinomial(40, [0.3, 0.3, 0.25, 0.15], 12).astype(float)
    _, track = method.fold(method.start(1), control[None], treated[None], ENDS)
    gains = []
    for b in range(12):
        q = [(each + 0.125) / (sum(usual) + 0.5) for each in usual]
        middle = method.middles
        mean = sum(p * v for p, v in zip(q, middle, strict=True))
        variance = sum(p * (v - mean) ** 2 for p, v in zip(q, middle, strict=True))
        scores = []
        for ratio, _ in _TILTS:
            raw = [math.log(ratio) * (v - mean) / variance for v in middle]
            scores.append([r - math.log(sum(p * math.exp(s) for p, s in zip(q, raw, strict=True))) for r in raw])
        for edge, ratios in zip(method.steps[0].astype(int), _ratios(), strict=True):
            over = sum(q[edge + 1 :])
            for ratio in ratios:
                raised = min(ratio * over, 0.5 * (1 + over))
                up, down = math.log(raised / over), math.log((1 - raised) / (1 - over))
                scores.append([up if bucket > edge else down for bucket in range(4)])
        row = []
        for score in scores:
            gain = 0.0
            for bucket in range(4):
                mixed = math.log(0.5 * math.exp(score[bucket]) + 0.5)
                gain += treated[b, bucket] * (score[bucket] - mixed) - control[b, bucket] * mixed
            row.append(gain / 2.0)
        gains.append(row)
        usual = [_MEMORY * each + more for each, more in zip(usual, control[b], strict=True)]
        expected = mixture(gains, np.exp(method.onset.log_weights).tolist(), 100)
        assert track.regressed[0, b] == pytest.approx(expected, abs=1e-9)


def _ratios() -> list[tuple[float, ...]]:
    from watcher.evidence.buckets import _STEPS, _STEPS_AT

    return [next(ratios for over, ratios in _STEPS if 1 - level > over) for level in _STEPS_AT]


def test_bounds_of_a_quantile_one_edge_at_a_time():
    edges = (0.1, 0.2, 0.4, 0.8, math.inf)
    counts = np.array([[100.0, 300.0, 400.0, 150.0, 50.0]])
    low, high = bounds(np.log(edges), counts, 0.5, 0.05)
    below, above = -math.inf, math.inf
    for at in range(4):
        x, n, p = counts[0, : at + 1].sum(), counts.sum(), 0.5
        log_e = betaln(10 + x, 10 + n - x) - betaln(10, 10) - x * math.log(p) - (n - x) * math.log(1 - p)
        if log_e >= math.log(2 / 0.05):
            if x < p * n:
                below = math.log(edges[at])
            else:
                above = min(above, math.log(edges[at]))
    assert (low[0], high[0]) == (below, above)


def test_dispersion_between_units_one_split_and_batch_at_a_time():
    rng = np.random.default_rng(3)
    events, total = rng.poisson(2.0, (4, 30)).astype(float), rng.integers(80, 120, (4, 30)).astype(float)
    halves = np.array([[1.0, 1, 0, 0], [1, 0, 1, 0]])
    found, degrees = _between_units(events, total, halves, 1.0)
    splits = []
    for half in halves:
        excess, variance = [], []
        for b in range(30):
            m, share = events[:, b].sum(), half @ total[:, b] / total[:, b].sum()
            excess.append(half @ events[:, b] - m * share)
            variance.append(m * share * (1 - share))
        lasting = sum(excess) / sum(variance)
        splits.append(sum((e - lasting * v) ** 2 / v for e, v in zip(excess, variance, strict=True)) / 29)
    assert (found, degrees) == (pytest.approx(np.mean(splits)), 29)


def test_dispersion_over_time_three_stretches_at_a_time():
    rng = np.random.default_rng(4)
    events, expected = rng.poisson(3.0, 100).astype(float), rng.uniform(90, 110, 100)
    found, _ = _over_time(events, expected, 5, 0.8)
    squares, variances = 0.0, 0.0
    for start in range(86):
        middle, all_three = events[start + 5 : start + 10].sum(), events[start : start + 15].sum()
        share = expected[start + 5 : start + 10].sum() / expected[start : start + 15].sum()
        squares += (middle - all_three * share) ** 2
        variances += all_three * share * (1 - share)
    assert found == pytest.approx(squares / variances / 0.8)


def half_normal(score: float, information: float, scale: float) -> float:
    """Log e of a half-normal mixture of shifts, by its closed form."""
    spread = 1 + information * scale**2
    below = 0.5 * math.erfc(-score * scale / math.sqrt(spread) / math.sqrt(2))
    return -0.5 * math.log(spread) + score**2 * scale**2 / (2 * spread) + math.log(2 * below)


@pytest.mark.parametrize("sign", [1, -1, 0])
def test_innovations_one_point_at_a_time(sign: int):
    rng, points, horizon, unit, sigma, drift, margin = np.random.default_rng(5), 70, 90, 0.5, 0.8, 0.02, 0.6
    weights, left = [0.4, 0.3], [0.0, math.exp(-1 / 2)]
    memory = Memory(np.array([weights]), np.array([sigma]))
    method = Innovations(
        sign, margin, 2.0, memory, np.array([drift]), np.array([unit]), horizon, regress_margin=0.05, logarithmic=False
    )
    series, noise = rng.normal(0.1, 0.6, points), rng.uniform(0.4, 0.6, points)
    _, track = method.fold(
        method.start(1, np.array([[0.1, -0.2]])), series[None], noise[None], 60.0 * np.arange(points)
    )
    # A unit shift from each moment on and a steady rise, as the series would show them, remembered as the series is.
    shapes = [[float(t >= onset) for t in range(points)] for onset in (0, 30, 60)]
    shapes.append([(t + 1) / horizon for t in range(points)])
    priors = [0.6, 0.15, 0.15, 0.1]
    known = [[0.0, 0.0] for _ in shapes]
    means, sums, level = [0.1, -0.2], [[0.0, 0.0, 0.0] for _ in shapes], [0.0, 0.0]
    for t in range(points):
        value, size = series[t] / noise[t], unit / noise[t]
        e = value - sum(w * m for w, m in zip(weights, means, strict=True))
        e = min(max(e, -2 * sigma), 2 * sigma)
        c, total = 1 - sum(weights), 0.0
        level = [level[0] + c * e / sigma**2, level[1] + c * c / sigma**2]
        for each, shape in enumerate(shapes):
            w = (shape[t] - sum(a * m for a, m in zip(weights, known[each], strict=True))) * size
            sums[each] = [a + b / sigma**2 for a, b in zip(sums[each], (w * e, w * w, c * w), strict=True)]
            s, v, x = sums[each]
            s, v = s - drift * x * level[0] / (1 + drift * level[1]), v - drift * x**2 / (1 + drift * level[1])
            sides = []
            for side in (sign,) if sign else (1, -1):
                score = side * s - 0.05 / unit * v
                pair = (half_normal(score, v, scale) for scale in (0.5, margin / unit))
                sides.append(sum(p * math.exp(log_e) for p, log_e in zip((0.75, 0.25), pair, strict=True)))
            total += priors[each] * sum(sides) / len(sides)
            known[each] = [a * m + (1 - a) * shape[t] for a, m in zip(left, known[each], strict=True)]
        means = [a * m + (1 - a) * value for a, m in zip(left, means, strict=True)]
        assert track.regressed[0, t] == pytest.approx(min(math.log(total), CAP * (t + 1)), abs=1e-9)


def test_what_is_left_without_each_unit_one_unit_at_a_time():
    rng = np.random.default_rng(6)
    cells = np.concatenate([rng.poisson(20.0, (3, 4, 1)), rng.poisson(1000.0, (3, 4, 1)), np.zeros((3, 4, 2))], axis=2)
    found = left(cells.astype(float), 1.3, 1)
    for stream in range(3):
        for unit in range(3):
            rest = cells[stream, 1:].sum(axis=0) - cells[stream, 1 + unit]
            p, q = ((x[0] + 0.5) / (x[1] + 1) for x in (rest, cells[stream, 0]))
            noise = (1 - p) / (rest[0] + 0.5) + (1 - q) / (cells[stream, 0, 0] + 0.5)
            z = max(0.0, math.log(p / q) / math.sqrt(1.3 * noise))
            assert found[stream, unit] == pytest.approx(z**2 / 2)

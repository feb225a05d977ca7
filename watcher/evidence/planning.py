"""How long until a release can be decided: before it starts, and while it runs.

Evidence is a random walk: it drifts towards its threshold by the information each block brings, and how long it takes
to get there has an inverse Gaussian distribution. So a baseline rate, the traffic and its share say beforehand what
can be found or proven, and when (see `paces`). Nobody can beat the oracle, who knows the size of the harm:
log(1/alpha) over the information. watcher bets on several sizes and onsets, which costs an overhead.

Quoted are the times at which evidence suffices. `regressed` also asks that the estimate lie beyond the margin, which
for harm as large as the margin itself is so about every other time.

References:
    Wald (1947), Sequential Analysis: the expected time. Tweedie (1957), Ann. Math. Statist. 28(2): the inverse
    Gaussian distribution. Siegmund (1985), Sequential Analysis, chapter 10: the overshoot.

Example:
    One request in a hundred fails, 100 a minute in each arm. That they have doubled is found in half an hour, where
    the oracle needs 27 minutes; that they have not grown by half is proven in little more than one.

    >>> pace = Counts(rate=0.01, traffic=200.0, share=0.5)
    >>> round(float(time_to_find(pace, np.log(2), np.log(100))[0]))
    33
    >>> round(np.log(100) / float(pace.gain(np.log(2), 0.0)))
    27
    >>> round(float(time_to_prove(pace, np.log(1.5), np.log(20))[0]))
    67
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import log_ndtr, ndtr

from watcher.evidence.paces import Counts, Level, Number, Pace
from watcher.evidence.track import CAP
from watcher.model import Flags, Floats

HEALTH_OVERHEAD = 0.3
"""Nats that a proof on several guesses costs: measured 0.1 to 0.5 for counts, 0.8 for series."""

_OVERSHOOT = 0.583
"""Standard deviations of a step by which a walk that is looked at in steps overshoots."""

Limit = Literal["events", "units", "buckets", "placebos", "window"]

_MOST = float(np.log(1000.0))
"""Effects beyond a thousandfold are not looked for."""

_LONGEST = 1e9
_HALVINGS = 45
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(31)
_WEIGHTS = _WEIGHTS / _WEIGHTS.sum()


def arrived(blocks: Number, distance: Number, drift: Number, variance: Number, wander: Number = 0.0) -> Floats:
    """Return the chance that a random walk has reached a distance within so many blocks.

    Args:
        blocks: at least 0; all arguments broadcast.
        distance: nats.
        drift: nats a block, on average; where it is not positive the walk may never arrive.
        variance: nats squared a block; of a log likelihood ratio under its own alternative, twice the drift.
        wander: standard deviation of the drift itself, drawn once (units that differ for good).
    """
    nodes, weights = (_NODES, _WEIGHTS) if np.any(wander) else (np.zeros(1), np.ones(1))
    t, d, v, s2, w = (np.asarray(x, dtype=float)[..., None] for x in (blocks, distance, drift, variance, wander))
    v = v + w * nodes
    t, moving = np.maximum(t, 1e-12), s2 > 0
    s2 = np.where(moving, s2, 1.0)
    width = np.sqrt(s2 * t)
    # The second term is a large number times a small one: only their logs fit.
    late = np.exp(np.minimum(2 * v * d / s2 + log_ndtr(-(d + v * t) / width), 0.0))
    chance = np.where(moving, ndtr((v * t - d) / width) + late, 0.0)
    return np.asarray(np.where(d > 0, np.minimum(chance, 1.0), 1.0) @ weights)


def passage(distance: Number, drift: Number, variance: Number, wander: Number = 0.0) -> tuple[Floats, Floats]:
    """Return the median and the 90th percentile of the time until a random walk reaches a distance, in blocks.

    Infinite where the walk arrives less often than that. While a release runs, `distance` is what is still missing.

    >>> [round(float(blocks), 1) for blocks in passage(6.0, 0.1, 0.2)]
    [51.6, 104.7]

    Args:
        distance: nats; likewise `drift`, `variance` and `wander`, see `arrived`.
    """
    walks = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (distance, drift, variance, wander)))
    found = np.full((2, *walks[0].shape), np.inf)
    # Most walks of a look never arrive; only the others are worth a search.
    arrive = np.asarray(arrived(_LONGEST, *walks) >= 0.5)
    if arrive.any():
        own = [walk[arrive] for walk in walks]
        quantiles = np.array([[0.5], [0.9]])
        found[:, arrive] = _smallest(lambda blocks: arrived(blocks, *own) >= quantiles, (2, own[0].size), _LONGEST)
    return found[0], found[1]


def _smallest(enough: Callable[[Floats], Flags], shape: tuple[int, ...], most: float) -> Floats:
    """Return the smallest number that is enough, by halving on a log scale; infinite where `most` is not."""
    low, high = np.full(shape, np.log(1e-6)), np.full(shape, np.log(most))
    reachable = enough(np.exp(high))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = enough(np.exp(middle))
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return np.asarray(np.where(reachable, np.exp(high), np.inf))


def time_to_find(pace: Pace, effect: Number, threshold: float) -> tuple[Floats, Floats]:
    """Return median and 90th percentile of the blocks until harm of a size is proven.

    Args:
        pace: of the stream.
        effect: the true one, above 0.
        threshold: log(1/alpha) of the stream, nats.
    """
    return _whole(passage(*_walk(pace, effect, 0.0, threshold + pace.overhead, CAP)))


def time_to_prove(pace: Pace, margin: Number, threshold: float) -> tuple[Floats, Floats]:
    """Return median and 90th percentile of the blocks until "not worse than the margin" is proven, if nothing changed.

    Args:
        pace: of the stream.
        margin: an effect.
        threshold: log(1/alpha), nats.
    """
    return _whole(passage(*_walk(pace, 0.0, margin, threshold + HEALTH_OVERHEAD, CAP)))


def _whole(blocks: tuple[Floats, Floats]) -> tuple[Floats, Floats]:
    return np.ceil(blocks[0]), np.ceil(blocks[1])


def detectable(pace: Pace, blocks: Floats, threshold: float, *, oracle: bool = False) -> Floats:
    """Return the smallest effect that is found within so many blocks as likely as not; infinite where none is.

    Args:
        pace: of the stream.
        blocks: any shape, which is that of the answer.
        threshold: log(1/alpha) of the stream, nats.
        oracle: as the test would that is told the effect and when it began.
    """
    distance, cap = (threshold, np.inf) if oracle else (threshold + pace.overhead, CAP)
    return _smallest(
        lambda effect: arrived(blocks, *_walk(pace, effect, 0.0, distance, cap)) >= 0.5, np.shape(blocks), _MOST
    )


def provable(pace: Pace, blocks: Floats, threshold: float) -> Floats:
    """Return the smallest margin within which health is proven in so many blocks, nine times in ten."""
    return _smallest(
        lambda margin: arrived(blocks, *_walk(pace, 0.0, margin, threshold + HEALTH_OVERHEAD, CAP)) >= 0.9,
        np.shape(blocks),
        _MOST,
    )


def floor(tau: float, threshold: float) -> float:
    """Return the effect below which evidence does not grow, however long one waits: units alone could cause it.

    >>> round(float(np.exp(floor(0.2 * np.sqrt(2 / 10), np.log(1 / 0.01)))), 2)
    1.31
    """
    return float(tau * np.sqrt(2 * threshold))


def units_needed(pace: Counts, spread: float, margin: float, threshold: float, blocks: float) -> float:
    """Return how many units an arm needs for health to be proven in so many blocks, nine times in ten.

    Args:
        pace: of the stream; infinite where it is too slow however many units there are.
        spread: standard deviation of the log rate between units.
        margin: an effect.
        threshold: log(1/alpha) of the proof, nats.
        blocks: that there are.
    """

    def enough(units: Floats) -> Flags:
        apart = replace(pace, tau=float(spread * np.sqrt(2 / units)))
        return arrived(blocks, *_walk(apart, 0.0, margin, threshold + HEALTH_OVERHEAD, CAP)) >= 0.9

    return float(np.ceil(_smallest(enough, (), 1e6)))


def binding(pace: Pace, blocks: float, window: float) -> Limit:
    """Return what keeps health from being proven sooner: more of it would help, and more of the others would not.

    Args:
        pace: of the stream.
        blocks: that the proof takes; infinite where it is too often out of reach, however long one waits.
        window: blocks that the watch lasts.
    """
    if not np.isfinite(blocks):
        # What a series is held against is known no better than its history allows.
        return "placebos" if isinstance(pace, Level) else "units"
    return "window" if blocks > window else "events"


def _walk(
    pace: Pace, effect: Number, null: Number, distance: float, cap: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Return the random walk of evidence: distance, drift, variance and wander.

    Units that differ for good add u ~ N(0, tau^2) to the effect x, and the null allows for it: with score S and
    information V, log e is (x S - V x^2/2) / (1 + V tau^2). It reaches `distance` when x S - V (x^2/2 + distance tau^2)
    does, which is again a random walk, with a drift that depends on u.
    """
    drift = np.minimum(pace.gain(effect, null), cap)
    apart = np.abs(np.asarray(effect) - null)
    wander = 2 * drift * pace.tau / np.where(apart > 0, apart, 1.0)
    lost = distance * pace.tau * wander / np.where(apart > 0, apart, 1.0)
    return distance + _OVERSHOOT * np.sqrt(2 * drift), drift - lost, 2 * drift, wander

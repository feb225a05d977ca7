"""Quantiles of a histogram: where they lie within its buckets, and bounds that hold at every look.

A fixed quantile is below an edge exactly if more than its share of the requests is; that is a proportion, tested by the
beta-binomial mixture at every edge. The true quantile lies between two fixed edges, so only the tests at those two can
go wrong, however many edges and looks there are.

References:
    Howard and Ramdas (2022), Bernoulli 28(3): time-uniform bounds on quantiles. Robbins (1970), Ann. Math. Statist. 41.

Example:
    The median of a thousand requests lies in the bucket from 0.1 to 0.2 s, and is known to.

    >>> tops, counts = np.log([0.1, 0.2, 0.4, np.inf]), np.array([[300.0, 450.0, 200.0, 50.0]])
    >>> round(float(np.exp(quantile(tops, counts, 0.5))[0]), 3)
    0.136
    >>> [round(float(np.exp(x)[0]), 1) for x in bounds(tops, counts, 0.5, 0.05)]
    [0.1, 0.2]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaln

from watcher.model import Floats

LEVELS = (0.5, 0.95, 0.99)
"""Quantiles that are named."""

_MIXED = 20.0
"""Observations the beta mixture of a bound is worth."""


@dataclass(frozen=True)
class Quantile:
    """A quantile in both arms, in seconds, and the treatment's over the baseline's with its confidence sequence.

    All [stream]; NaN where there are too few requests to say, infinite bounds where the buckets leave them open.
    """

    baseline: Floats
    treatment: Floats
    ratio: Floats
    lower: Floats
    upper: Floats


def sides(tops: Floats) -> tuple[Floats, Floats]:
    """Return logs of the lower and upper edges, those at the ends as far away as their neighbours."""
    if tops.size < 3:
        return tops[0] + np.array([-1.0, 0.0])[: tops.size], tops[0] + np.array([0.0, 1.0])[: tops.size]
    high = np.append(tops[:-1], 2 * tops[-2] - tops[-3])
    return np.append(2 * tops[0] - tops[1], high[:-1]), high


def middles_of(tops: Floats) -> Floats:
    """Return the logs of the buckets' middles from those of their upper edges."""
    low, high = sides(tops)
    return (low + high) / 2


def bucket_of(shape: Floats, levels: Sequence[float]) -> Floats:
    """Return the bucket in which each quantile of a shape lies, [stream, level]; never the last."""
    total = shape.sum(axis=1, keepdims=True)
    part = np.cumsum(shape, axis=1) / np.where(total > 0, total, 1.0)
    flat = np.linspace(0, 1, shape.shape[1] + 1)[1:]
    part = np.where(total > 0, part, flat)
    found = (part[:, None] < np.array(levels)[:, None] - 1e-12).sum(axis=2)
    return np.asarray(np.minimum(found, shape.shape[1] - 2))


def quantile(tops: Floats, counts: Floats, level: float) -> Floats:
    """Return a quantile of the log latency, [stream], interpolated within its bucket; NaN without requests.

    Args:
        tops: logs of the buckets' upper edges, [bucket].
        counts: requests by bucket, [stream, bucket].
        level: between 0 and 1.
    """
    reached, n = np.cumsum(counts, axis=1), counts.sum(axis=1)
    at = np.minimum((reached < level * n[:, None]).sum(axis=1), tops.size - 1)
    rows = np.arange(len(counts))
    inside = counts[rows, at]
    part = np.where(inside > 0, (level * n - reached[rows, at] + inside) / np.where(inside > 0, inside, 1.0), 0.5)
    low, high = sides(tops)
    return np.asarray(np.where(n > 0, low[at] + part * (high[at] - low[at]), np.nan))


def bounds(
    tops: Floats, counts: Floats, level: float, alpha: float, dispersion: Floats | float = 1.0
) -> tuple[Floats, Floats]:
    """Return bounds of the log of a quantile that hold at all times: edges proven below it and above it, [stream].

    Args:
        tops, counts, level: as for `quantile`.
        alpha: chance that either is ever wrong.
        dispersion: of the counts; a number, or one for each stream.
    """
    phi = np.reshape(dispersion, (-1, 1))
    reached, n = np.cumsum(counts, axis=1)[:, :-1] / phi, counts.sum(axis=1, keepdims=True) / phi
    a, b = _MIXED * level, _MIXED * (1 - level)
    log_e = betaln(a + reached, b + n - reached) - betaln(a, b)
    proven = log_e - reached * np.log(level) - (n - reached) * np.log1p(-level) >= np.log(2 / alpha)
    low, high = proven & (reached < level * n), proven & (reached > level * n)
    return np.where(low, tops[:-1], -np.inf).max(axis=1), np.where(high, tops[:-1], np.inf).min(axis=1)

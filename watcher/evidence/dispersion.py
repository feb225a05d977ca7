"""How much more than binomial counts vary: the long-run dispersion, from splits between units.

Retries, bursts and bad clients make events come in clusters, and a test that takes them for independent cries wolf.
Units that serve the same traffic are split in two halves again and again; what the halves differ by, beyond the
binomial, is the dispersion. Batches of several lengths are tried, because clusters that last minutes do not show
within one.

References:
    McCullagh and Nelder (1989), Generalized Linear Models, section 4.5 (dispersion by Pearson's statistic).

Example:
    Six units with independent errors: close to one, and never below.

    >>> import numpy as np
    >>> rng = np.random.default_rng(3)
    >>> events = rng.binomial(1000, 0.01, (6, 600)).astype(float)
    >>> 1.0 <= dispersion(events, np.full((6, 600), 1000.0), rng) < 1.4
    True
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv

from watcher.model import Floats

BATCHES = (1, 5, 15, 60, 120)
"""Lengths of a batch, in blocks."""

FEWEST = 20
"""Batches needed before a length says anything."""

SPLITS = 20


def dispersion(events: Floats, total: Floats, rng: np.random.Generator, upper: float | None = 0.9) -> float | None:
    """Return the largest dispersion over batch lengths, at least 1.

    Args:
        events: of units that serve alike, shape [unit, block].
        total: exposures, same shape.
        rng: draws the splits.
        upper: level of the one-sided upper bound; None for the point estimate (7 days of history and more).

    Returns:
        None when fewer than two units, or too few blocks with events, allow no estimate.
    """
    busy = total.sum(axis=1) > 0
    events, total = events[busy], total[busy]
    if len(events) < 2:
        return None
    halves = _halves(len(events), rng)
    found = [
        value
        for length in BATCHES
        if (value := _one_length(_batch(events, length), _batch(total, length), halves, upper)) is not None
    ]
    return max(1.0, *found) if found else None


def _halves(units: int, rng: np.random.Generator) -> Floats:
    """Return 0/1 rows, each putting half of the units on one side: [split, unit]."""
    order = np.argsort(rng.random((SPLITS, units)), axis=1)
    return (order < units // 2).astype(float)


def _batch(values: Floats, length: int) -> Floats:
    whole = values.shape[1] // length * length
    return np.asarray(values[:, :whole].reshape(len(values), -1, length).sum(axis=2))


def _one_length(events: Floats, total: Floats, halves: Floats, upper: float | None) -> float | None:
    """Return the mean Pearson dispersion over splits at one batch length, each split's own mean difference removed."""
    counts, exposure = events.sum(axis=0), total.sum(axis=0)
    usable = (counts > 0) & (exposure > 0)
    degrees = int(usable.sum()) - 1
    if degrees + 1 < FEWEST:
        return None
    one, share = halves @ events[:, usable], halves @ total[:, usable] / exposure[usable]
    variance = counts[usable] * share * (1 - share)
    excess = one - counts[usable] * share
    # A lasting difference between units is their spread, not dispersion.
    excess -= excess.sum(axis=1, keepdims=True) / variance.sum(axis=1, keepdims=True) * variance
    live = variance > 0
    pearson = (np.where(live, excess, 0.0) ** 2 / np.where(live, variance, 1.0)).sum(axis=1) / degrees
    estimate = float(pearson.mean())
    if upper is None:
        return estimate
    # The quantile of chi-square; scipy.stats has it by name, and takes a second to import.
    return float(estimate * degrees / (2.0 * gammaincinv(degrees / 2.0, 1.0 - upper)))

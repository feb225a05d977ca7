"""How much more than independent events counts vary, and by how much units differ: learnt before exposure.

Retries, bursts and bad clients make events come in clusters, and a test that takes them for independent cries wolf.
Two comparisons in which nothing was released show by how much:

- *between units*: units that serve the same traffic are split in two halves again and again; what the halves differ
  by, beyond the binomial, is the dispersion. It sees what strikes a unit alone.
- *over time*: each stretch of the whole service against the two around it, which forgives a steady drift. It sees
  what strikes all units of an arm together, which may or may not strike the other arm of a release as well; the history
  of one arm cannot tell, so it is counted. What comes back every day is taken out first; where there are too few days
  to know it, only short stretches are looked at, within which the time of day does not matter.

Both are tried over batches of several lengths, because clusters that last minutes do not show within one, and on what
two lengths say of longer ones; the largest counts. What units differ by for good is not dispersion but their *spread*,
and is returned apart (see `units`).

References:
    McCullagh and Nelder (1989), Generalized Linear Models, section 4.5 (dispersion by Pearson's statistic).
    Barnes et al. (1971), IEEE Trans. Instrum. Meas. 20: differences of neighbouring stretches, which forgive drift.
    DerSimonian and Laird (1986), Control. Clin. Trials 7(3): spread by the method of moments.

Example:
    Six units with independent errors: close to one, and never below.

    >>> import numpy as np
    >>> rng = np.random.default_rng(3)
    >>> events = rng.binomial(1000, 0.01, (6, 600)).astype(float)
    >>> learnt = learn(events, np.full((6, 600), 1000.0), rng)
    >>> bool(1.0 <= learnt.dispersion < 1.4), learnt.units, bool(learnt.spread < 0.1)
    (True, 6, True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.special import gammaincinv

from watcher.model import Floats

BATCHES = (1, 5, 15, 60, 120)
"""Lengths of a batch, in blocks."""

SHORT = 15
"""Longest of them that is looked at over time while it is not known what comes back every day."""

FEWEST = 20
"""Batches needed before a length says anything."""

FEWEST_UNITS = 2
SPLITS = 20
UPPER, UPPER_LONG = 0.75, 0.6
"""Level of the one-sided upper bound that is taken, of a short history and of a long one: too small a dispersion costs
false alarms, and an estimate is too small about every other time."""


@dataclass(frozen=True)
class Learnt:
    """What a history says of its counts: `dispersion` is the larger of the two parts (None: could not be learnt), at
    least 1; `clustered` whether counts vary over time by more than chance alone; `spread` the standard deviation of the
    log rate between `units` units.
    """

    between_units: float | None
    over_time: float | None
    clustered: bool
    spread: float
    units: int

    @property
    def dispersion(self) -> float:
        """What the evidence is to be tempered by."""
        return max(1.0, self.between_units or 1.0, self.over_time or 1.0)


CHANCE = 0.002
"""Level of the lower bound above which variation over time is more than chance."""


def learn(
    events: Floats,
    total: Floats,
    rng: np.random.Generator,
    long: bool = False,
    day: int | None = None,
    part: bool = False,
    upper: float | None = None,
) -> Learnt:
    """Learn from counts before exposure.

    Args:
        events: of units that serve alike, shape [unit, block].
        total: exposures, same shape.
        rng: draws the splits.
        long: 7 days of history and more.
        day: blocks in a day, for what comes back every day; None where there are fewer than three days.
        part: whether events are a part of their total, so that independent ones vary the less the more of it they are.
        upper: level of the upper bound that is taken; None for the usual one.
    """
    busy = total.sum(axis=1) > 0
    events, total = events[busy], total[busy]
    whole, expected = events.sum(axis=0), total.sum(axis=0) * _daily(events.sum(axis=0), total.sum(axis=0), day)
    free = max(1e-3, 1.0 - float(whole.sum() / max(float(total.sum()), 1.0))) if part else 1.0
    in_time = {n: _over_time(whole, expected, n, free) for n in BATCHES if day is not None or n <= SHORT}
    upper = upper or (UPPER_LONG if long else UPPER)
    over = _long_run(in_time, upper, long)
    clustered = any(_bounded(*found, CHANCE) > 1.0 for found in in_time.values() if found is not None)
    if len(events) < FEWEST_UNITS:
        return Learnt(None, over, clustered, 0.0, len(events))
    halves = _halves(len(events), rng)
    between = _long_run(
        {n: _between_units(_batch(events, n), _batch(total, n), halves, free) for n in BATCHES}, upper, long
    )
    apart = spread(events.sum(axis=1), total.sum(axis=1), max(1.0, between or 1.0) * free)
    return Learnt(between, over, clustered, apart, len(events))


def _long_run(found: Mapping[int, tuple[float, int] | None], upper: float, long: bool) -> float | None:
    """Return the largest upper bound over batch lengths; of a long history also over what pairs of lengths point to.

    A batch of n blocks misses the clusters it cuts, a share of 1/n; two lengths show what is missed.

    Args:
        found: by length, the estimate and its degrees of freedom; None where a length says nothing.
        upper: level of the bound.
        long: whether there is enough of it to tell what lies beyond the longest batch.
    """
    known = [(length, *value) for length, value in found.items() if value is not None]
    pointed = [
        ((long * at_long - short * at_short) / (long - short), degrees)
        for (short, at_short, _), (long, at_long, degrees) in pairwise(known)
    ]
    tried = [(value, degrees) for _, value, degrees in known] + (pointed if long else [])
    values = [_bounded(value, degrees, upper) for value, degrees in tried]
    return max(values) if values else None


def _halves(units: int, rng: np.random.Generator) -> Floats:
    """Return 0/1 rows, each putting half of the units on one side: [split, unit]."""
    order = np.argsort(rng.random((SPLITS, units)), axis=1)
    return (order < units // 2).astype(float)


def _batch(values: Floats, length: int) -> Floats:
    whole = values.shape[1] // length * length
    return np.asarray(values[:, :whole].reshape(len(values), -1, length).sum(axis=2))


def _between_units(events: Floats, total: Floats, halves: Floats, free: float) -> tuple[float, int] | None:
    """Return the mean Pearson dispersion over splits of batches, each split's own mean difference removed.

    Args:
        free: variance of an independent event over its mean: what is left of the total.
    """
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
    return float(pearson.mean()) / free, degrees


def _over_time(events: Floats, expected: Floats, length: int, free: float) -> tuple[float, int] | None:
    """Return the dispersion of stretches of one length against the two around each, at every start there is."""
    stretches = events.size // length
    if stretches < FEWEST:
        return None
    counts, weights = (
        np.lib.stride_tricks.sliding_window_view(np.cumsum(np.r_[0.0, x]), 3 * length + 1)[:, ::length].T
        for x in (events, expected)
    )
    three, exposed = counts[3] - counts[0], weights[3] - weights[0]
    usable = (three > 0) & (exposed > 0)
    share = np.divide(weights[2] - weights[1], exposed, out=np.zeros_like(exposed), where=usable)
    variance = three * share * (1 - share)
    if not variance.sum() > 0:
        return None
    excess = counts[2] - counts[1] - three * share
    # Neighbours share stretches: about two thirds as many say something of their own.
    return float((excess[usable] ** 2).sum() / variance.sum()) / free, int(0.67 * stretches)


def _daily(events: Floats, total: Floats, day: int | None) -> Floats:
    """Return the rate at each block's time of day, over two hours, relative to no particular level; ones without."""
    if day is None:
        return np.ones_like(total)
    phase, width = np.arange(events.size) % day, max(1, day // 12)
    around = np.ones(width)
    sums = [np.bincount(phase, weights=x, minlength=day) for x in (events, total)]
    near, of = (np.convolve(np.r_[x[-width:], x, x[:width]], around, "same")[width:-width] for x in sums)
    return np.asarray(np.where(near > 0, near / np.maximum(of, 1e-300), 1e-12)[phase])


def _bounded(estimate: float, degrees: int, level: float) -> float:
    """Return a one-sided bound of a mean of squares: the upper one at levels near one, the lower one near nil."""
    # The quantile of chi-square; scipy.stats has it by name, and takes a second to import.
    return float(estimate * degrees / (2.0 * gammaincinv(degrees / 2.0, 1.0 - level)))


def spread(events: Floats, total: Floats, variance: float) -> float:
    """Return the standard deviation of the log rate between units [unit], beyond what their counts vary by anyway.

    Args:
        variance: of a count over its mean.
    """
    rate = events.sum() / max(float(total.sum()), 1e-300)
    some = total > 0
    if rate <= 0 or some.sum() < FEWEST_UNITS:
        return 0.0
    return spread_of(events[some] / total[some] / rate, variance / (total[some] * rate))


def spread_of(means: Floats, variances: Floats) -> float:
    """Return the standard deviation of what is measured [unit], beyond its own variance, by the method of moments."""
    weights = 1.0 / variances
    excess = weights @ (means - weights @ means / weights.sum()) ** 2 - (len(means) - 1)
    return float(np.sqrt(max(0.0, excess / (weights.sum() - (weights**2).sum() / weights.sum()))))

"""Units (pods, hosts) differ for good, and no amount of time averages that away: a random effect.

The treatment runs on other units than the baseline, so part of the difference between the arms is the difference
between their units. What can be said of its size comes from how units differed before exposure: the log ratio that
units alone cause has standard deviation tau, known to be about right from a handful of units only, so it is given
Student's t rather than the normal distribution. A null hypothesis that allows for it is a mixture over that offset; it
is kept as the log likelihood at a few nodes, in multiples of tau.

It puts a floor on what can be found, however long one watches.

References:
    Robbins (1970), Ann. Math. Statist. 41(5): mixtures, here of the null. Gosset (1908) for the unknown spread.

Example:
    Three units an arm whose log rates differ by 0.2, as learnt from six: twice as much could be the units alone, at
    alpha 1 %.

    >>> traffic = np.full((1, 3), 9.0), np.full((1, 3), 9.0)
    >>> apart = np.hstack([traffic[0], 0 * traffic[0]]), np.hstack([0 * traffic[1], traffic[1]])
    >>> round(float(np.exp(lowest(offset_scale(0.2, *apart), 6, np.log(100)))[0]), 1)
    2.0
"""

from __future__ import annotations

import numpy as np

from watcher.model import Floats

_STEP = 0.4
NODES = np.arange(-12, 13) * _STEP
"""Offsets at which the null is kept, in multiples of tau."""

FEWEST = 2
"""Units needed before anything is known of how they differ."""


def offset_scale(spread: float, baseline: Floats, treatment: Floats) -> Floats:
    """Return tau, the standard deviation of the log ratio that units alone cause, [stream].

    Every unit weighs as much as its part of its arm's traffic. One that serves both arms alike (a flag inside one
    process) cancels; then what chance alone makes of the parts is taken off.

    Args:
        spread: standard deviation of a unit's log rate.
        baseline: exposure, [stream, unit]; `treatment` likewise, the same column for the same unit.
    """
    arms = (baseline, treatment)
    weights = [arm / np.maximum(arm.sum(axis=1, keepdims=True), 1e-300) for arm in arms]
    apart = ((weights[0] - weights[1]) ** 2).sum(axis=1)
    chance = [
        (1 - (w**2).sum(axis=1)) / np.maximum(arm.sum(axis=1) - 1, 1) for w, arm in zip(weights, arms, strict=True)
    ]
    shared = ((baseline > 0) & (treatment > 0)).any(axis=1)
    return np.asarray(spread * np.sqrt(np.where(shared, np.maximum(apart - sum(chance), 0.0), apart)))


def lowest(scale: Floats, units: int, threshold: Floats | float) -> Floats:
    """Return the log ratio below which nothing is ever found, [stream]: units alone would reach the threshold."""
    degrees = _degrees(units)
    return np.asarray(scale * np.sqrt(degrees * np.expm1(2.0 * threshold / (degrees + 1))))


def inflation(units: int) -> float:
    """Return what a spread learnt from few units is multiplied by, where it must serve as if it were known."""
    return 1.3 if units <= 6 else 1.15 if units < 20 else 1.0


def _degrees(units: int) -> int:
    return max(units - 1, 1)


def log_weights(units: int) -> Floats:
    """Return log weights of the nodes: Student's t with as many degrees of freedom as the units it was learnt from."""
    degrees = _degrees(units)
    weights = (1 + NODES**2 / degrees) ** (-(degrees + 1) / 2)
    return np.asarray(np.log(weights / weights.sum()))


def marginal(likelihood: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Return the log of the mixture over nodes, [stream], and the mean offset given the data, in multiples of tau.

    Where the likelihood is sharper than the nodes are apart, the sum over nodes would miss its peak; there the peak is
    found by the parabola through the three best nodes (Laplace's method).

    Args:
        likelihood: log likelihood at the nodes, [stream, node].
        weights: log weights, [node].
    """
    joint = likelihood + weights
    top = joint.max(axis=1)
    mass = np.exp(joint - top[:, None])
    total = mass.sum(axis=1)
    at, rows = np.clip(joint.argmax(axis=1), 1, NODES.size - 2), np.arange(len(joint))
    low, mid, high = (joint[rows, at + step] for step in (-1, 0, 1))
    bend = np.minimum(low - 2 * mid + high, -1e-12)
    shift = np.clip((low - high) / (2 * bend), -1.0, 1.0)
    peak = mid + (high - low) * shift / 4
    sharp = -bend > 6.0
    laplace = peak + 0.5 * np.log(2 * np.pi / -bend)
    mean = np.where(sharp, NODES[at] + _STEP * shift, mass @ NODES / total)
    return np.where(sharp, laplace, top + np.log(total)), mean

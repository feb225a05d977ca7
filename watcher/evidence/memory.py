"""How a series remembers: its next value foretold by running means of its past, over minutes to hours.

An autoregression with a lag for every minute needs hundreds of them to know the level of the last hours. A handful of
exponential running means, from the last value to eight hours, says as much with a weight each, fits a short history,
and is updated in place: what is kept of a series is one number a mean. What a foretelling leaves over is an
innovation, close to white noise; a lasting shift of the series shows in each innovation with a weight that is known
beforehand, one at the first block and then falling as the means catch up.

References:
    Corsi (2009), J. Financial Econometrics 7(2): the heterogeneous autoregression.
    Box, Tiao (1975), JASA 70: interventions in autoregressive noise.

Example:
    Of a series that forgets half its deviation each minute, a shift is new at once, and half known afterwards.

    >>> import numpy as np
    >>> noise = np.random.default_rng(1).normal(size=(1, 20_000))
    >>> values = np.zeros_like(noise)
    >>> for t in range(1, noise.shape[1]):
    ...     values[:, t] = 0.5 * values[:, t - 1] + noise[:, t]
    >>> memory = Memory.fit(values)
    >>> np.round(memory.shift(np.array([0, 1, 50]))[0], 1).tolist(), round(float(memory.sigma[0]), 1)
    ([1.0, 0.5, 0.5], 1.0)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from watcher.errors import ShapeError
from watcher.model import Floats

SPANS = (0.0, 2.0, 5.0, 15.0, 50.0, 150.0, 500.0)
"""Blocks over which the running means reach; 0 is the last value."""

SHORTEST = 8.0
"""A history is at least so many times as long as the longest running mean fitted to it."""

CLIP = 5.0
"""Robust standard deviations at which values are clipped for the fit: incidents are not how a series remembers."""

RIDGE = 1e-3
"""Part of their mean variance that is added to the running means': they resemble each other."""

ROBUST = 1.4826
"""Standard deviations in a median absolute deviation, of Gaussian noise."""


def decay(spans: int) -> Floats:
    """Return the part of a running mean that is left after a block, for the first so many of them."""
    reach = np.array(SPANS[:spans])
    return np.asarray(np.where(reach > 0, np.exp(-1.0 / np.maximum(reach, 1e-9)), 0.0))


@dataclass(frozen=True)
class Memory:
    """What was fitted: `weights` [stream, mean] of the running means, `sigma` [stream] of an innovation."""

    weights: Floats
    sigma: Floats

    @classmethod
    def fit(cls, values: Floats) -> Memory:
        """Fit to a history by ridge regression.

        Args:
            values: about zero, [stream, point]; NaN is a gap.
        """
        size = values.shape[1]
        spans = max(1, sum(span * SHORTEST <= size for span in SPANS))
        spread = robust_spread(values)[:, None]
        past = filled(np.clip(values, -CLIP * spread, CLIP * spread))
        means = running_means(past, np.zeros((len(values), spans)))
        skip = int(min(SPANS[spans - 1], size // 4))
        seen = np.isfinite(values)[:, skip:]
        rows, targets = means[:, skip:] * seen[..., None], past[:, skip:] * seen
        gram = np.einsum("spk,spl->skl", rows, rows)
        ridge = RIDGE * np.trace(gram, axis1=1, axis2=2) / spans + 1e-12
        gram += ridge[:, None, None] * np.eye(spans)
        weights = np.linalg.solve(gram, np.einsum("spk,sp->sk", rows, targets)[..., None])[..., 0]
        left = (targets - (rows * weights[:, None, :]).sum(axis=2)) * seen
        degrees = np.maximum(seen.sum(axis=1) - spans, 1)
        return cls(weights, np.maximum(np.sqrt((left**2).sum(axis=1) / degrees), 1e-6 * np.maximum(spread[:, 0], 1e-9)))

    def innovations(self, values: Floats) -> Floats:
        """Return what a whole history leaves over when it is foretold, [stream, point]; NaN in a gap."""
        means = running_means(filled(values), np.zeros_like(self.weights))
        return np.where(np.isfinite(values), filled(values) - (means * self.weights[:, None, :]).sum(axis=2), np.nan)

    def tail(self, values: Floats) -> Floats:
        """Return the running means at the end of a history, [stream, mean]."""
        past = np.concatenate([filled(values), np.zeros((len(values), 1))], axis=1)
        # A copy: a view would keep the means of the whole history alive.
        return running_means(past, np.zeros_like(self.weights))[:, -1].copy()

    def after(self, means: Floats, value: Floats) -> Floats:
        """Return the running means [stream, mean] after one more value [stream]."""
        left = decay(means.shape[1])
        return means * left + value[:, None] * (1.0 - left)

    def shift(self, since: Floats) -> Floats:
        """Return the weight in an innovation of a lasting shift by one, [stream, when].

        Args:
            since: blocks since its onset, [when]; 0 is the first block it shows in, negative ones are before it.
        """
        left = decay(self.weights.shape[1])
        known = 1.0 - left ** np.maximum(since, 0.0)[:, None]
        # The last value has span 0: it knows the shift from the second block on.
        known[:, left == 0.0] = (since > 0)[:, None]
        return np.where(since >= 0, 1.0 - self.weights @ known.T, 0.0)

    def drift(self, since: Floats) -> Floats:
        """Return the same for a rise by one every block."""
        left, steps = decay(self.weights.shape[1]), np.maximum(since, 0.0)[:, None]
        known = steps - left * (1.0 - np.where(steps > 0, left**steps, 1.0)) / (1.0 - left)
        return np.where(since >= 0, since + 1.0 - self.weights @ known.T, 0.0)

    @property
    def rest(self) -> Floats:
        """The weight of a level that was always there, [stream]: what the running means never know."""
        return np.asarray(1.0 - self.weights.sum(axis=1))


def running_means(past: Floats, start: Floats) -> Floats:
    """Return the running means before each point, [stream, point, mean].

    Args:
        past: without gaps, [stream, point].
        start: the running means before the first point, [stream, mean].

    Raises:
        ShapeError: they are of other streams.
    """
    # Here, because it takes a quarter of a second to import, and only series need it.
    from scipy.signal import lfilter

    if len(past) != len(start):
        raise ShapeError(f"{len(past)} streams, and running means of {len(start)}")
    out = np.empty((*past.shape, start.shape[1]))
    for mean, left in enumerate(decay(start.shape[1]).tolist()):
        first = start[:, mean]
        out[:, 0, mean] = first
        filtered = lfilter([1.0 - left], [1.0, -left], past[:, :-1], axis=1, zi=(left * first)[:, None])[0]
        out[:, 1:, mean] = filtered
    return out


def filled(values: Floats) -> Floats:
    """Return a series with each gap filled by the last value before it; zero where there is none."""
    seen = np.isfinite(values)
    if seen.all():
        return values
    last = np.maximum.accumulate(np.where(seen, np.arange(values.shape[1]), -1), axis=1)
    kept = np.take_along_axis(np.where(seen, values, 0.0), np.maximum(last, 0), axis=1)
    return np.where(last >= 0, kept, 0.0)


def robust_spread(values: Floats) -> Floats:
    """Return the standard deviation about zero as the bulk of a history has it, [stream]."""
    seen = np.isfinite(values)
    count = np.maximum(seen.sum(axis=1), 1)
    usual = np.array(
        [np.median(np.abs(row[there])) if there.any() else 0.0 for row, there in zip(values, seen, strict=True)]
    )
    # A series that mostly stands still has no bulk but its steps.
    reach = np.where(usual > 0, CLIP * ROBUST * usual, np.inf)[:, None]
    return np.asarray(np.sqrt((np.clip(np.where(seen, values, 0.0), -reach, reach) ** 2).sum(axis=1) / count)) + 1e-12

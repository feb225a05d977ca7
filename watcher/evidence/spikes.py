"""Incidents that are short or loud: a series that leaves the range of its last hours.

Real incidents are often a burst of minutes, gone before a shift of the mean stands out. The bet here is that a
block's deviation is several times as large as usual, from some moment on that is not known (see `onset`). What is
usual is the level and the spread of the last hours before exposure, mostly: a series is calmer at night, and a
deviation is judged against the hour it happens in.

Deviations of neighbouring minutes resemble each other, so this is no e-process by itself: it counts only where
placebos say how much of it there is when nothing was released.

References:
    Shiryaev (1963), Theory Probab. Appl. 8(1): a change of unknown onset.
    Basseville, Nikiforov (1993), Detection of Abrupt Changes, ch. 2: a change of variance.

Example:
    Three minutes ten deviations away count for more than a hundred minutes one deviation away count against.

    >>> import numpy as np
    >>> spikes = Spikes.of(1, horizon=120)
    >>> state = spikes.start(2)
    >>> for minute in range(120):
    ...     state = spikes.step(state, np.array([1.0 if minute % 2 else -1.0, 10.0 if 50 <= minute < 53 else 1.0]))
    >>> (spikes.log_e(state) > 50).tolist()
    [False, True]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from watcher.evidence.memory import ROBUST
from watcher.evidence.onset import Onset, OnsetState
from watcher.model import Flags, Floats

TIMES = (1.5, 3.0, 10.0)
"""How many times as large as usual deviations may have become; equally likely."""

RECENT = 3 * 3600.0
"""Seconds before exposure whose level and spread are usual."""

LONG = 0.1
"""Part of the usual variance that is the whole history's; the rest is the last hours'."""

FAR = 1e3
"""Deviations beyond so many count as so many: a number stays a number."""


@dataclass(frozen=True)
class SpikeState(OnsetState):
    """The capital of each bet, and since when deviations are large: `since` [stream, 2] their squares' sum, blocks."""

    since: Floats


@dataclass(frozen=True)
class Spikes:
    """The bets of one rule; `sign` is +1 where more is worse, -1 where less is, 0 where either is."""

    sign: int
    onset: Onset

    @classmethod
    def of(cls, sign: int, horizon: float) -> Spikes:
        """Lay out the bets for a watch of so many blocks."""
        return cls(sign, Onset.of([1.0] * len(TIMES), horizon))

    def start(self, streams: int) -> SpikeState:
        """Return the state at exposure."""
        fresh = self.onset.start(streams)
        return SpikeState(fresh.capital, fresh.unspent, fresh.due, fresh.blocks, np.zeros((streams, 2)))

    def step(self, state: SpikeState, deviation: Floats) -> SpikeState:
        """Fold the deviations of one block, in usual deviations, [stream]; NaN is a gap."""
        seen = np.isfinite(deviation)
        size = np.asarray(np.maximum(self.sign * deviation, 0.0) if self.sign else np.abs(deviation))
        size = np.minimum(np.where(seen, size, 0.0), FAR)
        times = np.array(TIMES)[:, None]
        growth = np.where(seen, -np.log(times) + 0.5 * size**2 * (1 - 1 / times**2), 0.0)
        moved = self.onset.step(state, growth, seen)
        # As a cumulated sum is restarted when it is down to nothing.
        nothing = self.onset.log_weights.max() - np.log(self.onset.horizon)
        alive: Flags = np.max(moved.capital, axis=1) > nothing
        since = np.where(np.reshape(alive, (-1, 1)), state.since + np.column_stack([size**2, seen]), 0.0)
        return SpikeState(moved.capital, moved.unspent, moved.due, moved.blocks, since)

    def log_e(self, state: SpikeState) -> Floats:
        """Return the log of what one unit of capital became, [stream]."""
        return self.onset.log_e(state)

    def harm(self, state: SpikeState) -> Floats:
        """Return the root mean square deviation since deviations are large, [stream]; -inf where they are not."""
        total, blocks = state.since.T
        return np.where(blocks > 0, np.sqrt(total / np.maximum(blocks, 1.0)), -np.inf)


def lately(recent: Floats, whole: Floats) -> tuple[Floats, Floats]:
    """Return the level and the spread that deviations are held against, both [..., stream].

    Args:
        recent: residuals of the last hours, [..., stream, point]; NaN is a gap.
        whole: the spread of the whole history, [stream].
    """
    some = np.isfinite(recent).any(axis=-1)
    padded = np.where(np.expand_dims(some, -1), recent, 0.0)
    level: Floats = np.asarray(np.nanmedian(padded, axis=-1))
    around = ROBUST * np.nanmedian(np.abs(padded - level[..., None]), axis=-1)
    around = np.where(some, around, whole)
    return np.where(some, level, 0.0), np.sqrt(LONG * whole**2 + (1 - LONG) * around**2)

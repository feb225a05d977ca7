"""When a regression begins is not known: capital spread over onsets, as a mixture.

A bet placed at exposure has lost its capital to the healthy hours by the time a regression begins six hours in. So only
a part of the capital is staked at exposure; some of what is left is staked at every later block, and half of it when
exposure changes, which is when regressions begin. A mixture of e-processes is one, whatever the prior, as long as
every stake is fixed before its block is seen; the price of an onset is the log of its stake, and does not grow with
the healthy time before.

References:
    Shiryaev (1963), Theory Probab. Appl. 8(1): a prior on the time of change. Ville (1939).

Example:
    A bet that loses a nat a block for six hours, and then wins one, is at 3 nats eleven blocks after the turn.

    >>> import numpy as np
    >>> onset = Onset.of([1.0], horizon=1440)
    >>> state, waited = onset.start(1), 0
    >>> for growth in np.where(np.arange(400) < 360, -1.0, 1.0):
    ...     waited += int(growth > 0 and onset.log_e(state)[0] < 3)
    ...     state = onset.step(state, np.full((1, 1), growth), np.array([True]))
    >>> waited
    11
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from watcher.evidence.track import ArrayState
from watcher.model import Flags, Floats

NOW = 0.7
"""Prior probability that a regression begins with exposure."""

STAGE = 0.5
"""Part of what is left that is staked when a later stage begins; the rest is spread evenly over the horizon."""

NOTHING = -1e9
"""Log of no capital: finite, so that differences stay numbers."""


@dataclass(frozen=True)
class OnsetState(ArrayState):
    """`capital` [stream, bet] in nats; `unspent` [stream] prior on an onset still to come; `due` [stream] the part of
    it that the next block stakes (0: an even share); `blocks` [stream] so far.
    """

    capital: Floats
    unspent: Floats
    due: Floats
    blocks: Floats


State = TypeVar("State", bound=OnsetState)
"""A method's own state holds that of its onsets, and more."""


@dataclass(frozen=True)
class Onset:
    """The mixture over onsets for a number of bets; `horizon` is in blocks."""

    log_weights: Floats
    horizon: float

    @classmethod
    def of(cls, weights: Sequence[float], horizon: float) -> Onset:
        """Share the capital between bets as `weights` say."""
        return cls(np.log(np.asarray(weights) / np.sum(weights)), max(2.0, horizon))

    def start(self, streams: int) -> OnsetState:
        """Return the state at exposure."""
        return OnsetState(
            capital=np.full((streams, self.log_weights.size), NOTHING),
            unspent=np.ones(streams),
            due=np.full(streams, NOW),
            blocks=np.zeros(streams),
        )

    def restage(self, state: State) -> State:
        """Return the state at the beginning of a later stage."""
        return replace(state, due=np.maximum(state.due, STAGE))

    def stake(self, state: OnsetState, active: Flags) -> Floats:
        """Return what the next block stakes, as a part of the whole capital, [stream]; nothing where it is empty."""
        left = self.horizon - state.blocks
        even = np.where(left > 0, 1.0 / np.maximum(left, 1.0), 0.0)
        return np.where(active, state.unspent * np.where(state.due > 0, state.due, even), 0.0)

    def step(self, state: State, growth: Floats, active: Flags) -> State:
        """Stake, then let one block pay.

        Args:
            state: of S streams.
            growth: log of what one unit of capital becomes, [bet, stream].
            active: which streams have the block, [stream].
        """
        stake = self.stake(state, active)
        capital = log_add(state.capital.T, log_of(stake) + self.log_weights[:, None]) + growth
        return replace(
            state,
            capital=np.maximum(capital, NOTHING).T,
            unspent=state.unspent - stake,
            due=np.where(active, 0.0, state.due),
            blocks=state.blocks + active,
        )

    def log_e(self, state: OnsetState) -> Floats:
        """Return log e, [stream]: all capital, staked or not."""
        top = state.capital.max(axis=1)
        staked = top + np.log(np.exp(state.capital - top[:, None]).sum(axis=1))
        return log_add(staked, log_of(state.unspent))


def log_of(values: Floats) -> Floats:
    """Return the log, with a large negative number for the log of nothing."""
    return np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), NOTHING)


def log_add(a: Floats, b: Floats) -> Floats:
    """Return log(exp(a) + exp(b)), a few times as fast as numpy's, which minds infinities."""
    high = np.maximum(a, b)
    return np.asarray(high + np.log(1.0 + np.exp(np.minimum(a, b) - high)))

"""What the two methods for counts in two arms share: bets, onsets and units; empty arms; stages; harm since its onset.

An effect is a log ratio (`profile`, `proportion`) or a difference of shares (`proportion`), treatment against baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

import numpy as np

from watcher.errors import ShapeError
from watcher.evidence import units
from watcher.evidence.onset import Onset, OnsetState, log_add, log_of
from watcher.evidence.track import CAP
from watcher.model import Flags, Floats

Counts = tuple[Floats, Floats]
"""Events and exposure (total), each of shape [stream, block]."""

_WIDE_BETS = ((1.25, 0.08), (1.5, 0.25), (2.0, 0.27), (3.0, 0.08), (5.0, 0.27), (10.0, 0.05))
"""Ratios bet on, with weights, for margins of 25 % and more: near-optimal for 1.5 to 5 times the errors."""

KEPT = 0.5
"""Part of the offset between the arms that is expected to stay when their units change."""


PROOF_LOG_WEIGHTS = np.log([0.25, 0.5, 0.25])
"""Weights of the alternatives for health: as much better as the margin is worse, unchanged, half the margin."""


@dataclass(frozen=True)
class CountState(OnsetState):
    """Fixed size per stream, whatever the length of the watch.

    Of the release, beside the onsets: `since` [stream, 5], see `follow`; `carried` [stream, 4] counts held back
    (baseline events, total, treatment events, total). Of the stage: `points` [stream, point] log likelihood or log e of
    each effect on the grid; `proof` [stream, 3]; `information` [stream] about the effect; `sums` [stream, 4]; `staged`
    [stream] blocks. Of the units: `scale` [stream] tau; `centre` [stream] of the offsets they may cause; `null`
    [stream, node] log likelihoods around the null; `spent` [stream] the log of their mixture; `offsets` [stream, bet]
    the part of the effect that each bet leaves to the units.
    """

    since: Floats
    carried: Floats
    points: Floats
    proof: Floats
    information: Floats
    sums: Floats
    staged: Floats
    scale: Floats
    centre: Floats
    null: Floats
    spent: Floats
    offsets: Floats


State = TypeVar("State", bound=CountState)


class Cells(Protocol):
    """A few blocks of counts, as a method sees them."""

    @property
    def active(self) -> Flags:
        """Which blocks can be compared, [block, stream]."""
        ...

    def edge(self, block: int, effect: Floats) -> Floats:
        """Return the tempered log likelihood of effects [bet, stream or 1] against the null, [bet, stream]."""
        ...

    def around_null(self, block: int, offset: Floats) -> Floats:
        """Return that of offsets [node, stream] from the null, against the null itself."""
        ...


@dataclass(frozen=True)
class TwoArms(Generic[State]):
    """What a method for counts is laid out with, before the watch.

    `theta` [point] is the grid of effects, ascending; `bets`, `proofs`, `null` and `margin` are effects too, signed.
    `sign` is +1 when more is worse. `dispersion` is a number, or one for each stream. `units` is how many units their
    spread was learnt from; 0 where nothing is known of it.
    """

    theta: Floats
    sign: int
    dispersion: Floats
    onset: Onset
    bets: Floats
    proofs: Floats
    null: float
    margin: float
    units: int

    def _begun(self, streams: int, scale: Floats | None) -> dict[str, Floats]:
        """Return the fields of a state before the first block."""

        def zeros(*width: int) -> Floats:
            return np.zeros((streams, *width))

        return {
            **vars(self.onset.start(streams)),
            "since": never(streams),
            "carried": zeros(4),
            "points": zeros(self.theta.size),
            "proof": zeros(self.proofs.size),
            "information": zeros(),
            "sums": zeros(4),
            "staged": zeros(),
            "scale": zeros() if scale is None else scale,
            "centre": zeros(),
            "null": zeros(self._nodes.size),
            "spent": zeros(),
            "offsets": zeros(self.bets.size),
        }

    def restage(self, state: State) -> State:
        """Return the state at the beginning of a later stage: what is of the stage starts anew."""
        fresh = self._begun(state.blocks.size, None)
        anew = {name: fresh[name] for name in ("points", "proof", "information", "sums", "staged")}
        return self.onset.restage(replace(state, **anew))

    def scaled(self, state: State, scale: Floats) -> State:
        """Return the state with tau [stream] as the units of this stage have it.

        Other units bring another offset, but some of the old ones are often among them: it is looked for half way
        between none and the one there was.
        """
        other = np.abs(scale - state.scale) > 0.1 * state.scale
        _, mean = units.marginal(state.null, units.log_weights(self.units))
        old = np.where(state.scale > 0, state.scale, 1.0)
        centre = KEPT * (state.centre + state.scale * mean) * np.where(state.scale > 0, scale / old, 0.0)
        return replace(
            state,
            scale=np.where(other, scale, state.scale),
            centre=np.where(other, centre, state.centre),
            null=np.where(other[:, None], 0.0, state.null),
            spent=np.where(other, 0.0, state.spent),
            offsets=np.where(other[:, None], centre[:, None], state.offsets),
        )

    @property
    def _nodes(self) -> Floats:
        return np.asarray(units.NODES if self.units >= units.FEWEST else np.zeros(1))

    def _bet(self, state: State, cells: Cells) -> tuple[State, Floats]:
        """Run the e-process for "worse": bets on effects and onsets, against a null that leaves room for the units."""
        path, bets = np.empty(cells.active.shape), self.bets[:, None]
        if self._nodes.size == 1:
            for b, active in enumerate(cells.active):
                state = self.onset.step(state, np.minimum(cells.edge(b, bets), CAP), active)
                path[b] = self.onset.log_e(state)
            return state, path
        weights = units.log_weights(self.units)
        _, mean = units.marginal(state.null, weights)
        for b, active in enumerate(cells.active):
            placed = log_of(self.onset.stake(state, active)) + self.onset.log_weights[:, None]
            fresh = np.exp(placed - log_add(state.capital.T, placed))
            # Fresh capital takes the units as they look now; what they look like later may already be the regression.
            offsets = state.offsets.T + np.where(
                active, fresh * (state.centre + state.scale * mean - state.offsets.T), 0.0
            )
            null = state.null + cells.around_null(b, state.centre + state.scale * self._nodes[:, None]).T
            spent, mean = units.marginal(null, weights)
            growth = np.minimum(cells.edge(b, bets + offsets) - (spent - state.spent), CAP)
            state = self.onset.step(replace(state, null=null, spent=spent, offsets=offsets.T), growth, active)
            path[b] = self.onset.log_e(state)
        return state, path

    def _prove(self, state: State, wins: Floats, information: Floats) -> tuple[State, Floats]:
        """Run the e-process for "not worse than the margin".

        Args:
            state: of S streams.
            wins: log likelihood of each alternative for health against the margin, [block, proof, stream].
            information: of each block about the effect, [block, stream].
        """
        capital = state.proof.T + np.cumsum(np.minimum(wins, CAP), axis=0)
        known = state.information + np.cumsum(information, axis=0)
        worth = capital / self._room(state.scale, known)[:, None]
        path = logsumexp(worth + PROOF_LOG_WEIGHTS[:, None], axis=1)
        return replace(state, proof=capital[-1].T, information=known[-1]), path

    def _room(self, scale: Floats, information: Floats) -> Floats:
        """Return by how much the units dilute what is known of the effect: 1 + I tau^2."""
        return np.asarray(1.0 + information * (scale * units.inflation(self.units)) ** 2)


def bets(tolerated: float) -> tuple[Floats, Floats]:
    """Return log ratios of harm to bet on, and their weights, for a tolerated log ratio."""
    if tolerated >= np.log(1.25):
        ratios, weights = zip(*_WIDE_BETS, strict=True)
        return np.log(ratios), np.array(weights)
    return np.geomspace(tolerated, np.log(5.0), 8), np.full(8, 1 / 8)


def stacked(streams: int, baseline: Counts, treatment: Counts, ends: Floats) -> Floats:
    """Return counts as [4, block, stream]: baseline events, total, treatment events, total.

    Time comes before stream so that each step of a recursion reads and writes one stretch of memory.

    Raises:
        ShapeError: states, counts and ends disagree.
    """
    wrong = {counts.shape for counts in (*baseline, *treatment)} - {(streams, ends.size)}
    if wrong:
        raise ShapeError(f"counts of shape {wrong} do not fit {streams} streams x {ends.size} blocks")
    return np.ascontiguousarray(np.stack([*baseline, *treatment]).swapaxes(1, 2), dtype=float)


def carry(carried: Floats, counts: Floats) -> tuple[Floats, Floats]:
    """Hold back blocks in which an arm had no exposure, and add their counts to the next block that can be compared.

    Args:
        carried: [4, stream] from earlier folds.
        counts: [4, block, stream].

    Returns:
        Counts with nothing (0 of 0) in blocks held back, and what is still held back.
    """
    if (counts[1] > 0).all() and (counts[3] > 0).all() and not carried.any():
        return counts, carried
    out = np.empty_like(counts)
    for b in range(counts.shape[1]):
        waiting = carried + counts[:, b]
        hold = (waiting[1] <= 0) | (waiting[3] <= 0)
        out[:, b] = np.where(hold, 0.0, waiting)
        carried = np.where(hold, waiting, 0.0)
    return out, carried


def never(streams: int) -> Floats:
    """Return what is kept of harm that has not begun, [stream, 5]."""
    return np.tile([0.0, 0.0, 0.0, 0.0, np.nan], (streams, 1))


def follow(since: Floats, rise: Floats, counts: Floats, ends: Floats) -> tuple[Floats, Floats, Floats]:
    """Follow what was counted since the evidence of harm beyond the margin was last nil (a CUSUM).

    Args:
        since: [5, stream]: that evidence in nats; sums, in the manner of Mantel and Haenszel, of treatment events,
            baseline events and exposure, each weighed by the other arm's traffic; and when they began.
        rise: log likelihood of the margin against that of no harm, [block, stream].
        counts: [4, block, stream].
        ends: [block].

    Returns:
        The same after the last block; and after each the three sums, [3, block, stream], and when they began.
    """
    n = np.maximum(counts[1] + counts[3], 1.0)
    steps = np.stack([rise, counts[2] * counts[1] / n, counts[0] * counts[3] / n, counts[1] * counts[3] / n], axis=1)
    sums, began = since[:4], since[4]
    path, onsets = np.empty_like(steps), np.empty(rise.shape)
    for b, end in enumerate(ends):
        began = np.where(sums[0] > 0, began, end)
        sums = sums + steps[b]
        alive = sums[0] > 0
        path[b] = sums = sums * alive
        onsets[b] = began = np.where(alive, began, np.nan)
    return np.vstack([sums, began]), path[:, 1:].swapaxes(0, 1), onsets


def log_ratio(sums: Floats) -> Floats:
    """Return the log ratio treatment : baseline from the sums of `follow`; NaN without exposure."""
    return np.where(sums[2] > 0, log_of(sums[0]) - log_of(sums[1]), np.nan)


def difference(sums: Floats) -> Floats:
    """Return the difference treatment - baseline from the sums of `follow`; NaN without exposure."""
    some = sums[2] > 0
    return np.where(some, (sums[0] - sums[1]) / np.where(some, sums[2], 1.0), np.nan)


def logsumexp(values: Floats, axis: int = -1) -> Floats:
    """Return log sum exp over an axis, several times as fast as scipy's, which minds infinities and signs."""
    top = values.max(axis=axis, keepdims=True)
    return np.asarray((top + np.log(np.exp(values - top).sum(axis=axis, keepdims=True))).squeeze(axis))


def cross(theta: Floats, depth: Floats, level: Floats, beyond: float) -> Floats:
    """Return where each row of an ascending function of theta crosses a level; `beyond` where the grid ends first."""
    below = (depth < level[:, None]).sum(axis=1)
    i = np.clip(below, 1, theta.size - 1)
    rows = np.arange(len(depth))
    low, high = depth[rows, i - 1], depth[rows, i]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.nan_to_num(np.clip((level - low) / (high - low), 0.0, 1.0))
    at = theta[i - 1] + part * (theta[i] - theta[i - 1])
    return np.where((below == 0) | (below == theta.size), beyond, at)


def grid(tolerated: float, coarse: Floats, exact: Floats) -> Floats:
    """Return a symmetric grid of effects around 0 that holds the exact points, and is fine within the margin."""
    # Small margins are decided by many events, whose likelihood is too sharp for the coarse grid.
    fine = tolerated * np.arange(0.25, 2.1, 0.25)
    half = np.concatenate([coarse, fine[fine < 0.25], exact])
    theta = np.unique(np.round(np.concatenate([half, -half]), 12))
    return np.asarray(theta[np.concatenate([[True], np.diff(theta) > 1e-9])])

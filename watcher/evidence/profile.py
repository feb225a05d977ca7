"""Counts in two concurrent arms: the conditional likelihood profile.

Given the m events both arms had in a block, how many fell to the treatment is binomial with a probability that
depends only on the ratio of the two rates and on the exposures: whatever common cause moved both arms that minute
cancels. The log likelihood of that ratio, on a fixed grid, adds up over blocks; from it come the evidence for
"worse", the evidence for "not worse than the margin" and the confidence sequence. Exact for Poisson counts,
conservative for Bernoulli outcomes at any rate and any ratio margin.

References:
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS (arXiv 2011.03567).
    Ville (1939). Mantel and Haenszel (1959) for the estimate since onset. Shiryaev (1963) for the prior on onset.

Example:
    Errors double in the treatment. Twenty minutes later the evidence stands far above log(1/0.01) = 4.6 nats.

    >>> import numpy as np
    >>> method = Profile.of(sign=1, margin=0.5)
    >>> count = lambda x: np.full((1, 20), float(x))
    >>> state, track = method.fold(
    ...     method.start(1), (count(10), count(1000)), (count(20), count(1000)), 60.0 * np.arange(1, 21))
    >>> bool(track.regressed[0, -1] > 20), round(float(np.exp(method.snapshot(state, 0.05).estimate[0])), 2)
    (True, 2.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from watcher.errors import ShapeError
from watcher.evidence.track import CAP, ArrayState, Snapshot, Track
from watcher.model import Floats

ONSET_NOW = 0.65
"""Prior probability that a regression begins with exposure; the rest is spread evenly over the horizon."""

_WIDE_BETS = ((1.25, 0.10), (1.5, 0.25), (2.0, 0.30), (3.0, 0.10), (5.0, 0.20), (10.0, 0.05))
"""Ratios bet on, with weights, for margins of 25 % and more: near-optimal for 1.5 to 5 times the errors."""

_EDGE = 4.0
"""The grid ends at e^4 = 55 times: beyond it a ratio is "more than"."""

_NOTHING = -1e9
"""Log of no capital: finite, so that differences stay numbers."""

_PROOF_LOG_WEIGHTS = np.log([0.25, 0.5, 0.25])
_CHUNK = 64

Counts = tuple[Floats, Floats]
"""Events and exposure (total), each of shape [stream, block]."""


@dataclass(frozen=True)
class ProfileState(ArrayState):
    """Fixed size per stream, whatever the length of the watch.

    `profile` [stream, point]; `bets` [stream, bet] log of capital by bet, onset mixed in; `proof` [stream, 3];
    `carried` and `sums` [stream, 4] (baseline events, total, treatment events, total); `recent` [stream, 4]
    cumulated log likelihood ratio, numerator and denominator of the Mantel-Haenszel ratio since it was last zero,
    and when that was; `blocks` [stream].
    """

    profile: Floats
    bets: Floats
    proof: Floats
    carried: Floats
    sums: Floats
    recent: Floats
    blocks: Floats


@dataclass(frozen=True)
class Profile:
    """The method for one rule.

    `theta` [point] is the grid of log ratios treatment : baseline, ascending; the `at_*` are indices into it;
    `sign` is +1 when a higher ratio is worse. `horizon` is in blocks.
    """

    theta: Floats
    sign: int
    dispersion: float
    horizon: float
    log_weights: Floats
    bet_log_weights: Floats
    at_null: int
    at_margin: int
    at_bets: tuple[int, ...]
    at_proofs: tuple[int, ...]

    @classmethod
    def of(
        cls, *, sign: int, margin: float, regress_margin: float = 0.0, dispersion: float = 1.0, horizon: float = 1440.0
    ) -> Profile:
        """Lay out the grid, fixed before the watch.

        Args:
            sign: +1 when higher is worse, -1 when lower is.
            margin: relative; 0.5 tolerates half as much again (or, when lower is worse, half as much less).
            regress_margin: relative harm that must be proven exceeded before `regressed`.
            dispersion: long-run variance of the counts over their binomial variance, at least 1.
            horizon: blocks over which the onset of a regression is expected.
        """
        tolerated = np.log1p(margin) if sign > 0 else -np.log1p(-margin)
        null = np.log1p(regress_margin) if sign > 0 else -np.log1p(-regress_margin)
        bets, weights = _bets(float(tolerated))
        bets = bets + null
        proofs = np.array([-tolerated, 0.0, tolerated / 2])
        coarse = np.concatenate(
            [np.arange(0, 0.525, 0.05), np.arange(0.6, 1.05, 0.1), np.arange(1.5, _EDGE + 0.1, 0.5)]
        )
        # Small margins are decided by many events, whose likelihood is too sharp for the coarse grid.
        fine = tolerated * np.arange(0.25, 2.1, 0.25)
        half = np.concatenate([coarse, fine[fine < 0.25]])
        exact = np.concatenate([[null, tolerated], bets, proofs])
        theta = np.unique(np.round(np.concatenate([half, -half, exact, -exact]), 12))
        keep = np.concatenate([[True], np.diff(theta) > 1e-9])
        theta = theta[keep]

        def index(harm: float) -> int:
            return int(np.abs(theta - sign * harm).argmin())

        return cls(
            theta=theta,
            sign=sign,
            dispersion=max(1.0, dispersion),
            horizon=max(2.0, horizon),
            log_weights=_diffuse(theta, float(tolerated)),
            bet_log_weights=np.log(weights),
            at_null=index(float(null)),
            at_margin=index(float(tolerated)),
            at_bets=tuple(index(bet) for bet in bets),
            at_proofs=tuple(index(proof) for proof in proofs),
        )

    def start(self, streams: int) -> ProfileState:
        """Return the state before the first block."""

        def zeros(width: int) -> Floats:
            return np.zeros((streams, width))

        return ProfileState(
            profile=zeros(self.theta.size),
            bets=np.full((streams, len(self.at_bets)), _NOTHING),
            proof=zeros(3),
            carried=zeros(4),
            sums=zeros(4),
            recent=np.tile([0.0, 0.0, 0.0, np.nan], (streams, 1)),
            blocks=np.zeros(streams),
        )

    def fold(
        self, state: ProfileState, baseline: Counts, treatment: Counts, ends: Floats
    ) -> tuple[ProfileState, Track]:
        """Fold closed blocks into the state.

        Args:
            state: of S streams.
            baseline: events and totals, shape [stream, block]; likewise `treatment`.
            ends: epoch seconds at which the blocks end, shape [block].

        Returns:
            The new state, and the evidence after each block.

        Raises:
            ShapeError: states, counts and ends disagree.
        """
        shape = (state.blocks.size, ends.size)
        wrong = {counts.shape for counts in (*baseline, *treatment)} - {shape}
        if wrong:
            raise ShapeError(f"counts of shape {wrong} do not fit {shape[0]} streams x {shape[1]} blocks")
        given = np.stack([*baseline, *treatment])
        track = Track(*(np.empty(given.shape[1:]) for _ in range(3)))
        for first in range(0, ends.size, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            # Time before stream: each step of the recursions then reads and writes one stretch of memory.
            cells = np.ascontiguousarray(given[:, :, chunk].swapaxes(1, 2))
            state, regressed, healthy, harm = self._fold_chunk(state, cells, ends[chunk])
            track.regressed[:, chunk], track.healthy[:, chunk], track.harm[:, chunk] = regressed.T, healthy.T, harm.T
        return state, track

    def _fold_chunk(
        self, state: ProfileState, given: Floats, ends: Floats
    ) -> tuple[ProfileState, Floats, Floats, Floats]:
        """Fold a few blocks, [4, block, stream]; return the state, and log e's and harm as [block, stream]."""
        counts, carried = _carry(state.carried.T, given)
        treated, events, exposure = counts[2], counts[0] + counts[2], counts[1] + counts[3]
        share = np.divide(counts[3], exposure, out=np.full_like(exposure, 0.5), where=exposure > 0)
        blocks = np.vstack([state.blocks, state.blocks + np.cumsum(exposure > 0, axis=0)])
        gains = self._gains(treated, events, share)
        regressed, bets = self._bet(state.bets.T, gains, blocks)
        healthy, proof = self._prove(state.proof.T, gains)
        recent, harm = self._since(state.recent.T, gains, counts, ends)
        folded = ProfileState(
            profile=state.profile + self._log_likelihood(treated, events, share),
            bets=bets.T,
            proof=proof.T,
            carried=carried.T,
            sums=state.sums + given.sum(axis=1).T,
            recent=recent.T,
            blocks=blocks[-1],
        )
        return folded, regressed, healthy, harm

    def _log_likelihood(self, treated: Floats, events: Floats, share: Floats) -> Floats:
        """Return the log likelihood of each grid point, summed over the blocks: [stream, point]."""
        total, cost = np.outer(treated.sum(axis=0), self.theta), np.empty_like(share)
        for point, growth in enumerate(np.expm1(self.theta)):
            np.multiply(share, growth, out=cost)
            cost += 1.0
            np.log(cost, out=cost)
            total[:, point] -= np.einsum("bs,bs->s", events, cost)
        return total / self.dispersion

    def _gains(self, treated: Floats, events: Floats, share: Floats) -> Mapping[int, Floats]:
        """Return the tempered log likelihood, [block, stream], of the grid points the e-processes use, by index."""
        points = {self.at_null, self.at_margin, *self.at_bets, *self.at_proofs}
        return {
            point: (treated * self.theta[point] - events * np.log(share * np.expm1(self.theta[point]) + 1.0))
            / self.dispersion
            for point in points
        }

    def _bet(self, bets: Floats, gains: Mapping[int, Floats], blocks: Floats) -> tuple[Floats, Floats]:
        """Run the e-process for "worse": capital by bet, with a prior on when the regression begins."""
        growth = np.exp(np.stack([np.minimum(gains[at] - gains[self.at_null], CAP) for at in self.at_bets], axis=1))
        before, after = blocks[:-1], blocks[1:]
        later = (1.0 - ONSET_NOW) / (self.horizon - 1.0)
        prior = np.where(before == 0, ONSET_NOW, np.where(before < self.horizon, later, 0.0)) * (after > before)
        # Capital is kept as a share of what the best bet had at the start, so that a few blocks cannot overflow.
        scale = np.maximum(bets.max(axis=0), 0.0)
        stake = (prior * np.exp(-scale))[:, None] * np.exp(self.bet_log_weights)[:, None]
        capital, path = np.exp(bets - scale), np.empty_like(growth)
        for b in range(len(growth)):
            capital = path[b] = (capital + stake[b]) * growth[b]
        return scale + _log(path.sum(axis=1) + self._unspent(after) * np.exp(-scale)), scale + _log(capital)

    def _unspent(self, blocks: Floats) -> Floats:
        """Return the prior on an onset still to come."""
        left = 1.0 - ONSET_NOW - (1.0 - ONSET_NOW) / (self.horizon - 1.0) * (blocks - 1.0)
        return np.where(blocks == 0, 1.0, np.clip(left, 0.0, 1.0))

    def _prove(self, proof: Floats, gains: Mapping[int, Floats]) -> tuple[Floats, Floats]:
        """Run the e-process for "not worse than the margin"."""
        wins = np.stack([np.minimum(gains[point] - gains[self.at_margin], CAP) for point in self.at_proofs], axis=1)
        capital = proof + np.cumsum(wins, axis=0)
        return _logsumexp(capital + _PROOF_LOG_WEIGHTS[:, None], axis=1), capital[-1]

    def _since(
        self, recent: Floats, gains: Mapping[int, Floats], counts: Floats, ends: Floats
    ) -> tuple[Floats, Floats]:
        """Follow the harm since the evidence for it was last nil (a CUSUM at the margin)."""
        n = np.maximum(counts[1] + counts[3], 1.0)
        rise = (gains[self.at_margin] - gains[self.at_null]) * self.dispersion
        steps = np.stack([rise, counts[2] * counts[1] / n, counts[0] * counts[3] / n], axis=1)
        sums, since = recent[:3], recent[3].copy()
        path = np.empty_like(steps)
        for b, end in enumerate(ends):
            since[sums[0] <= 0] = end
            sums = sums + steps[b]
            sums *= sums[0] > 0
            path[b] = sums
        since[sums[0] <= 0] = np.nan
        return np.vstack([sums, since]), self._harm(path.swapaxes(0, 1))

    def _harm(self, sums: Floats) -> Floats:
        """Return the log ratio of harm since onset (Mantel-Haenszel); minus infinity where none seems to have begun."""
        return np.where(sums[0] > 0, self.sign * (_log(sums[1]) - _log(sums[2])), -np.inf)

    def snapshot(self, state: ProfileState, alpha: float) -> Snapshot:
        """Return estimate, confidence sequence at level 1 - alpha, and evidence."""
        peak, top = _vertex(self.theta, state.profile)
        depth = np.sqrt(np.maximum(top[:, None] - state.profile, 0.0))
        depth = np.where(self.theta < peak[:, None], -depth, depth)
        reach = np.sqrt(np.log(1 / alpha) - _logsumexp(state.profile + self.log_weights) + top)
        baseline_events, baseline_total, treated, treated_total = state.sums.T
        events, total = baseline_events + treated, baseline_total + treated_total
        known = (events > 0) & (baseline_total > 0) & (treated_total > 0)
        peak = np.where(treated == 0, -np.inf, np.where(baseline_events == 0, np.inf, peak))
        per_block = np.divide(events, state.blocks, out=np.zeros_like(events), where=state.blocks > 0)
        share = np.divide(treated_total, total, out=np.full_like(total, 0.5), where=total > 0)
        truth = np.clip(np.nan_to_num(peak), -_EDGE, _EDGE)
        return Snapshot(
            measure="ratio",
            estimate=np.where(known, peak, np.nan),
            lower=np.where(known, _cross(self.theta, depth, -reach, -np.inf), np.nan),
            upper=np.where(known, _cross(self.theta, depth, reach, np.inf), np.nan),
            harm=self._harm(state.recent.T),
            onset=state.recent[:, 3],
            log_regressed=_log_add(_logsumexp(state.bets), _log(self._unspent(state.blocks))),
            log_healthy=_logsumexp(state.proof + _PROOF_LOG_WEIGHTS),
            blocks=state.blocks,
            toward_healthy=np.minimum(per_block * self._gain(share, 0.0, self.theta[self.at_margin]), CAP),
            toward_regressed=np.minimum(per_block * self._gain(share, truth, self.theta[self.at_null]), CAP),
            events_per_block=per_block,
        )

    def _gain(self, share: Floats, truth: Floats | float, against: float) -> Floats:
        """Return the expected log e per event, in nats: [stream]."""
        odds = share * np.exp(truth)
        treated = odds / (odds + 1 - share)
        gain = treated * (truth - against) - np.log((odds + 1 - share) / (share * np.exp(against) + 1 - share))
        return np.asarray(gain / self.dispersion)


def _bets(tolerated: float) -> tuple[Floats, Floats]:
    """Return log ratios of harm to bet on, and their weights."""
    if tolerated >= np.log(1.25):
        ratios, weights = zip(*_WIDE_BETS, strict=True)
        return np.log(ratios), np.array(weights)
    ladder = np.geomspace(tolerated, np.log(5.0), 8)
    return ladder, np.full(8, 1 / 8)


def _diffuse(theta: Floats, tolerated: float) -> Floats:
    """Return log weights of the confidence sequence: half N(0, 1), half as wide as twice the margin."""
    widths = np.gradient(theta)
    weights = sum(np.exp(-0.5 * (theta / s) ** 2) * widths / (s * np.sqrt(2 * np.pi)) for s in (1.0, 2 * tolerated))
    return np.asarray(np.log(np.maximum(weights, 1e-300) / np.sum(weights)))


def _carry(carried: Floats, counts: Floats) -> tuple[Floats, Floats]:
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


def _log(values: Floats) -> Floats:
    """Return the log, with a large negative number for the log of nothing."""
    return np.where(values > 0, np.log(np.where(values > 0, values, 1.0)), _NOTHING)


def _log_add(a: Floats, b: Floats) -> Floats:
    """Return log(exp(a) + exp(b))."""
    high = np.maximum(a, b)
    return np.asarray(high + np.log(1.0 + np.exp(np.minimum(a, b) - high)))


def _logsumexp(values: Floats, axis: int = -1) -> Floats:
    """Return log sum exp over an axis."""
    top = values.max(axis=axis, keepdims=True)
    return np.asarray((top + np.log(np.exp(values - top).sum(axis=axis, keepdims=True))).squeeze(axis))


def _vertex(theta: Floats, profile: Floats) -> tuple[Floats, Floats]:
    """Return where the profile peaks and how high, by the parabola through the best point and its neighbours."""
    i = np.clip(profile.argmax(axis=1), 1, theta.size - 2)
    rows = np.arange(len(profile))
    x0, x1, x2 = theta[i - 1], theta[i], theta[i + 1]
    y0, y1, y2 = (profile[rows, i + d] for d in (-1, 0, 1))
    slope_left, slope_right = (y1 - y0) / (x1 - x0), (y2 - y1) / (x2 - x1)
    bend = (slope_right - slope_left) / (x2 - x0)
    slope = slope_left + bend * (x1 - x0)
    step = np.where(bend < 0, -slope / np.where(bend < 0, 2 * bend, 1.0), 0.0)
    step = np.clip(step, x0 - x1, x2 - x1)
    return x1 + step, np.maximum(y1 + slope * step + bend * step**2, profile.max(axis=1))


def _cross(theta: Floats, depth: Floats, level: Floats, beyond: float) -> Floats:
    """Return where each row of an ascending function of theta crosses a level; `beyond` where the grid ends first."""
    below = (depth < level[:, None]).sum(axis=1)
    i = np.clip(below, 1, theta.size - 1)
    rows = np.arange(len(depth))
    low, high = depth[rows, i - 1], depth[rows, i]
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.nan_to_num(np.clip((level - low) / (high - low), 0.0, 1.0))
    at = theta[i - 1] + part * (theta[i] - theta[i - 1])
    return np.where((below == 0) | (below == theta.size), beyond, at)

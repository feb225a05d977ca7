"""Counts in two concurrent arms: the conditional likelihood profile.

Given the m events both arms had in a block, how many fell to the treatment is binomial with a probability that
depends only on the ratio of the two rates and on the exposures: whatever common cause moved both arms that minute
cancels. The log likelihood of that ratio, on a fixed grid, adds up over blocks; from it come the evidence for
"worse", the evidence for "not worse than the margin" and the confidence sequence. Exact for Poisson counts,
conservative for Bernoulli outcomes at any rate and any ratio margin; above about 5 % `proportion` needs fewer events.

Evidence for "worse" runs through all stages of a release. The profile, and with it the proof of health and the
confidence sequence, start anew with each stage.

References:
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS (arXiv 2011.03567).
    Ville (1939). Mantel and Haenszel (1959) for the estimate since onset. See `onset` and `units` for theirs.

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

from dataclasses import dataclass, replace

import numpy as np

from watcher.evidence import counting
from watcher.evidence.counting import PROOF_LOG_WEIGHTS, Counts, CountState, TwoArms, cross, logsumexp
from watcher.evidence.onset import Onset
from watcher.evidence.track import CAP, Snapshot, Track
from watcher.model import Flags, Floats

_EDGE = 4.0
"""The grid ends at e^4 = 55 times: beyond it a ratio is "more than"."""

_COARSE = np.concatenate([np.arange(0, 0.525, 0.05), np.arange(0.6, 1.05, 0.1), np.arange(1.5, _EDGE + 0.1, 0.5)])
_CHUNK = 64


class ProfileState(CountState):
    """Fixed size per stream; `points` [stream, point] is the log likelihood profile of the stage."""


@dataclass(frozen=True)
class Profile(TwoArms[ProfileState]):
    """The method for one rule; effects are log ratios. `log_weights` [point] are those of the confidence sequence."""

    log_weights: Floats

    @classmethod
    def of(
        cls,
        *,
        sign: int,
        margin: float,
        regress_margin: float = 0.0,
        dispersion: float | Floats = 1.0,
        horizon: float = 1440.0,
        units: int = 0,
    ) -> Profile:
        """Lay out the grid, fixed before the watch.

        Args:
            sign: +1 when higher is worse, -1 when lower is.
            margin: relative; 0.5 tolerates half as much again (or, when lower is worse, half as much less).
            regress_margin: relative harm that must be proven exceeded before `regressed`.
            dispersion: long-run variance of the counts over their binomial variance, at least 1.
            horizon: blocks over which the onset of a regression is expected.
            units: how many units their spread was learnt from.
        """
        tolerated, null = (np.log1p(m) if sign > 0 else -np.log1p(-m) for m in (margin, regress_margin))
        bets, weights = counting.bets(float(tolerated))
        theta = counting.grid(float(tolerated), _COARSE, np.concatenate([[null, tolerated], bets + null]))
        return cls(
            theta=theta,
            log_weights=_diffuse(theta, float(tolerated)),
            sign=sign,
            dispersion=np.maximum(1.0, dispersion),
            onset=Onset.of(weights.tolist(), horizon),
            bets=sign * (bets + null),
            proofs=sign * np.array([-tolerated, 0.0, tolerated / 2]),
            null=float(sign * null),
            margin=float(sign * tolerated),
            units=units,
        )

    def start(self, streams: int, scale: Floats | None = None) -> ProfileState:
        """Return the state before the first block; `scale` [stream] is tau, the units' part in the log ratio."""
        return ProfileState(**self._begun(streams, scale))

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
        given = counting.stacked(state.blocks.size, baseline, treatment, ends)
        track = Track.empty(state.blocks.size, ends.size)
        for first in range(0, ends.size, _CHUNK):
            chunk = slice(first, first + _CHUNK)
            state, found = self._fold_chunk(state, given[:, chunk], ends[chunk])
            for name, values in vars(found).items():
                getattr(track, name)[:, chunk] = values
        return state, track

    def _fold_chunk(self, state: ProfileState, given: Floats, ends: Floats) -> tuple[ProfileState, Track]:
        """Fold a few blocks, [4, block, stream]."""
        counts, carried = counting.carry(state.carried.T, given)
        cells = _Cells.of(counts, self.dispersion, self.null)
        at_margin = cells.gain(self.margin)
        state, regressed = self._bet(state, cells)
        wins = np.stack([cells.gain(point) - at_margin for point in self.proofs], axis=1)
        state, healthy = self._prove(state, wins, cells.information)
        # Against no effect, whose gain is nil, whatever must be exceeded.
        rise = at_margin * self.dispersion
        since, sums, onset = counting.follow(state.since.T, rise, counts, ends)
        folded = replace(
            state,
            since=since.T,
            carried=carried.T,
            points=state.points + cells.profile(self.theta),
            sums=state.sums + given.sum(axis=1).T,
            staged=state.staged + cells.active.sum(axis=0),
        )
        return folded, Track(regressed.T, healthy.T, self._harm(sums).T, onset.T)

    def _harm(self, sums: Floats) -> Floats:
        ratio = counting.log_ratio(sums)
        return np.where(np.isnan(ratio), -np.inf, self.sign * np.nan_to_num(ratio))

    def snapshot(self, state: ProfileState, alpha: float) -> Snapshot:
        """Return estimate, confidence sequence at level 1 - alpha, and evidence."""
        room = self._room(state.scale, state.information)
        peak, top = _vertex(self.theta, state.points)
        below = np.maximum(top[:, None] - state.points, 0.0) / room[:, None]
        depth = np.where(self.theta < peak[:, None], -np.sqrt(below), np.sqrt(below))
        reach = np.sqrt(np.log(1 / alpha) - logsumexp(self.log_weights - below))
        baseline_events, baseline_total, treated, treated_total = state.sums.T
        events, total = baseline_events + treated, baseline_total + treated_total
        known = (events > 0) & (baseline_total > 0) & (treated_total > 0)
        peak = np.where(treated == 0, -np.inf, np.where(baseline_events == 0, np.inf, peak))
        per_block = np.divide(events, state.staged, out=np.zeros_like(events), where=state.staged > 0)
        share = np.divide(treated_total, total, out=np.full_like(total, 0.5), where=total > 0)
        truth = np.clip(np.nan_to_num(peak), -_EDGE, _EDGE)
        return Snapshot(
            measure="ratio",
            estimate=np.where(known, peak, np.nan),
            lower=np.where(known, cross(self.theta, depth, -reach, -np.inf), np.nan),
            upper=np.where(known, cross(self.theta, depth, reach, np.inf), np.nan),
            harm=self._harm(state.since.T[1:4]),
            log_regressed=self.onset.log_e(state),
            log_healthy=logsumexp(state.proof / room[:, None] + PROOF_LOG_WEIGHTS),
            toward_healthy=np.minimum(per_block * self._drift(share, 0.0, self.margin) / room, CAP),
            toward_regressed=np.minimum(per_block * self._drift(share, truth, self.null), CAP),
            events_per_block=per_block,
            scale=state.scale,
        )

    def _drift(self, share: Floats, truth: Floats | float, against: float) -> Floats:
        """Return the expected log e per event, in nats: [stream]."""
        odds = share * np.exp(truth)
        treated = odds / (odds + 1 - share)
        gain = treated * (truth - against) - np.log((odds + 1 - share) / (share * np.exp(against) + 1 - share))
        return np.asarray(gain / self.dispersion)


@dataclass(frozen=True)
class _Cells:
    """Blocks that can be compared, [block, stream]: treatment events, events of both arms, the treatment's share of
    the traffic, whether there was any, and the log likelihood of the null.
    """

    treated: Floats
    events: Floats
    share: Floats
    active: Flags
    dispersion: Floats
    null: float
    at_null: Floats

    @classmethod
    def of(cls, counts: Floats, dispersion: Floats, null: float) -> _Cells:
        exposure = counts[1] + counts[3]
        share = np.divide(counts[3], exposure, out=np.full_like(exposure, 0.5), where=exposure > 0)
        cells = cls(counts[2], counts[0] + counts[2], share, exposure > 0, dispersion, null, exposure)
        return replace(cells, at_null=cells.gain(null))

    def gain(self, theta: Floats | float, block: int | slice = slice(None)) -> Floats:
        """Return the tempered log likelihood of log ratios that broadcast against the cells."""
        cost = self.events[block] * np.log(self.share[block] * np.expm1(theta) + 1.0)
        return np.asarray((self.treated[block] * theta - cost) / self.dispersion)

    def edge(self, block: int, effect: Floats) -> Floats:
        return np.asarray(self.gain(effect, block) - self.at_null[block])

    def around_null(self, block: int, offset: Floats) -> Floats:
        return np.asarray(self.gain(self.null + offset, block) - self.at_null[block])

    @property
    def information(self) -> Floats:
        """Return what the cells tell about the log ratio (the inverse of a variance)."""
        return np.asarray(self.events * self.share * (1 - self.share) / self.dispersion)

    def profile(self, theta: Floats) -> Floats:
        """Return the log likelihood of each grid point, summed over the blocks: [stream, point]."""
        total, cost = np.outer(self.treated.sum(axis=0), theta), np.empty_like(self.share)
        for point, growth in enumerate(np.expm1(theta)):
            np.multiply(self.share, growth, out=cost)
            cost += 1.0
            np.log(cost, out=cost)
            total[:, point] -= np.einsum("bs,bs->s", self.events, cost)
        return np.asarray(total.T / self.dispersion).T


def _diffuse(theta: Floats, tolerated: float) -> Floats:
    """Return log weights of the confidence sequence: half N(0, 1), half as wide as twice the margin."""
    widths = np.gradient(theta)
    weights = sum(np.exp(-0.5 * (theta / s) ** 2) * widths / (s * np.sqrt(2 * np.pi)) for s in (1.0, 2 * tolerated))
    return np.asarray(np.log(np.maximum(weights, 1e-300) / np.sum(weights)))


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

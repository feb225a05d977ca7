"""Units beside units: the readings of a canary against those of the units that serve the baseline, block by block.

A canary has no past of its own. What it does have is neighbours: the units of the baseline read the same gauge in the
same minutes, so whatever moves all of them cancels in the difference. How much such a difference moves for no reason
is read from placebos, each unit of the baseline held against the others, before exposure and since. Two things are
learnt of them: the noise of a block, and how far a unit's own level lies from the others' for good. The second never
averages out, so it stays in the null hypothesis as a random effect, and one canary rarely proves anything small.

Noise may turn out larger while one watches, never smaller than it was, and never below the margin: what is tolerated is
no evidence. Evidence rises by no more than `CAP` nats a block, and whatever is claimed must hold without the block
that speaks for it most. So nothing is found in a single block.

Limits: Gaussian noise, independent from block to block but for what a unit's own level absorbs.

References:
    Howard, Ramdas, McAuliffe, Sekhon (2021), Ann. Statist. 49(2): one-sided normal mixtures.
    Robbins (1970), Ann. Math. Statist. 41(5): mixtures, here of the null too.
    Abadie, Diamond, Hainmueller (2010), JASA 105: placebos among the untreated.

Example:
    Four units read 10 give or take 3 %. One canary beside them reads the same, another three times as much.

    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> readings = 10 * np.exp(rng.normal(0, 0.03, (2, 5, 20)))
    >>> readings[1, 4] *= 3
    >>> method = Canaries(1, 0.1, noise=np.full(2, 0.03), own=np.full(2, 0.04), scale=np.ones(2))
    >>> canary = np.arange(5)[None, :, None] == 4
    >>> arms = np.where(canary, np.nan, readings), np.where(canary, readings, np.nan)
    >>> _, track = method.fold(method.start(2), *arms, 60.0 * np.arange(20))
    >>> (track.regressed >= np.log(100)).argmax(axis=1).tolist()
    [0, 1]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import log_ndtr

from watcher.errors import ShapeError
from watcher.evidence.track import CAP, ArrayState, Snapshot, Track
from watcher.model import Flags, Floats

Middle = Literal["mean", "median"]

REACH = 3.0
"""Scale of the harm that is bet on, in margins: what is released by mistake is worse than barely intolerable."""

FEWEST_PLACEBOS = 4
"""Placebos since exposure before they have a say in the noise."""

WHOLE = 1 - 1e-5
"""Most of the level that counts as lost: all of it has no logarithm."""


@dataclass(frozen=True)
class CanaryState(ArrayState):
    """Fixed size per stream, however many units there are.

    `sums` [stream, 2, 3]: differences over their noise, one over the noise, and blocks; of the release, and of the
    present stage. `bets` [stream, bet, 2]: log e, held back to what it may rise by in a block, and the
    largest score of a block; bets on harm first, then on health, one for each direction. `placebos` [stream, 2]: how
    many there were since exposure, and their sum of squares. `errors` [stream, 2]: standard deviation of the latest
    difference by noise, and by units alone. `heard` [stream, 2]: blocks in which the baseline reported, and in which
    the treatment did. `first` [stream]: when the first block with both was (epoch seconds).
    """

    sums: Floats
    bets: Floats
    placebos: Floats
    errors: Floats
    heard: Floats
    first: Floats


@dataclass(frozen=True)
class Canaries:
    """The method for one rule: readings of units in, evidence of a difference between the arms out.

    `sign` is +1 when more is worse, -1 when less is and 0 when either is: then two bets share the capital. Margins are
    relative. Per stream: `noise` standard deviation of a unit's block about what the others have, `own` variance of a
    fresh unit's own level, and `scale`, the level readings are shares of where they are not `logarithmic` (NaN where
    none is known: such a stream is not judged). `middle` is how the units of an arm are put together.
    """

    sign: int
    margin: float
    noise: Floats
    own: Floats
    scale: Floats
    middle: Middle = "median"
    regress_margin: float = 0.0
    logarithmic: bool = True

    def start(self, streams: int) -> CanaryState:
        """Return the state at exposure."""
        return CanaryState(
            sums=np.zeros((streams, 2, 3)),
            bets=np.zeros((streams, 2 * len(self._directions), 2)),
            placebos=np.zeros((streams, 2)),
            errors=np.zeros((streams, 2)),
            heard=np.zeros((streams, 2)),
            first=np.full(streams, np.nan),
        )

    def restage(self, state: CanaryState) -> CanaryState:
        """Return the state at the beginning of a later stage: health has to be proven anew."""
        sums, bets = state.sums.copy(), state.bets.copy()
        sums[:, 1], bets[:, len(self._directions) :] = 0.0, 0.0
        return replace(state, sums=sums, bets=bets)

    def scaled(self, state: CanaryState, offsets: Floats) -> CanaryState:
        """Return the state as it is: which units there are is seen in every block."""
        return state

    def fold(
        self, state: CanaryState, baseline: Floats, treatment: Floats, ends: Floats, spoke: Flags | None = None
    ) -> tuple[CanaryState, Track]:
        """Fold readings into the state.

        Args:
            state: of S streams.
            baseline: reading of each unit, [stream, unit, block]; NaN is a gap. Units may come and go.
            treatment: likewise, the same column for the same unit: what serves both arms alike cancels.
            ends: epoch seconds, shape [block].
            spoke: where the treatment was heard of, if only to say that it has no reading, [stream, block].

        Raises:
            ShapeError: state, readings and calibration disagree.
        """
        streams, blocks = state.first.size, ends.size
        fits = baseline.shape == treatment.shape == (streams, baseline.shape[1], blocks)
        if not fits or len(self.noise) != streams:
            raise ShapeError(
                f"readings {baseline.shape} and {treatment.shape} do not fit {streams} streams x {blocks} blocks"
            )
        track = Track.empty(streams, blocks)
        arms = [on_scale(arm, self.scale, self.logarithmic) for arm in (baseline, treatment)]
        # A reading that has no logarithm is none, and yet a sign of life; of the baseline only what can be compared is.
        alive = np.isfinite(treatment).any(axis=1) | (False if spoke is None else spoke)
        heard = np.stack([np.isfinite(arms[0]).any(axis=1), alive], axis=1).cumsum(axis=2) + state.heard[:, :, None]
        for b, end in enumerate(ends):
            state = self._fold_block(state, arms[0][:, :, b], arms[1][:, :, b], end)
            state = replace(state, heard=heard[:, :, b])
            track.regressed[:, b], track.healthy[:, b] = self._evidence(state)
            track.harm[:, b] = self._harm(state)
            track.onset[:, b] = state.first
        return state, track

    def _fold_block(self, state: CanaryState, baseline: Floats, treatment: Floats, end: float) -> CanaryState:
        has = [np.isfinite(arm) for arm in (baseline, treatment)]
        counts = [each.sum(axis=1) for each in has]
        left = placebos(baseline, self.middle)
        seen = np.isfinite(left)
        so_far = state.placebos + np.stack([seen.sum(axis=1), np.where(seen, left**2, 0.0).sum(axis=1)], axis=1)
        both = (counts[0] > 0) & (counts[1] > 0)
        share = sum(error(np.maximum(count, 1), self.middle) for count in counts)
        # Units that serve both arms differ from nobody: of what others add, the part by which weights differ.
        weights = [each / np.maximum(count, 1)[:, None] for each, count in zip(has, counts, strict=True)]
        apart = ((weights[0] - weights[1]) ** 2).sum(axis=1) / sum(1 / np.maximum(count, 1) for count in counts)
        now = np.stack([self._noise(so_far) * np.sqrt(share), np.sqrt(self.own * share * apart)], axis=1)
        errors = np.where(both[:, None], now, state.errors)
        shift = middle_of(treatment, self.middle) - middle_of(baseline, self.middle)
        noise = np.where(both, errors[:, 0], 1.0)
        steps = np.stack([np.where(both, shift, 0.0) / noise, both / noise, both.astype(float)], axis=1)
        sums = state.sums + steps[:, None]
        scores, points = self._scores(sums)
        last = self._scores(np.stack([steps, steps], axis=1))[0]
        before = self._scores(state.sums)[1]
        top = np.where(before > 0, np.maximum(state.bets[:, :, 1], last), last)
        log_e = self._log_e(scores, points, errors)
        bets = np.stack([np.minimum(log_e, state.bets[:, :, 0] + CAP), top], axis=2)
        return CanaryState(
            sums=sums,
            bets=np.where(both[:, None, None], bets, state.bets),
            placebos=so_far,
            errors=errors,
            heard=state.heard,
            first=np.where(np.isnan(state.first) & both, end, state.first),
        )

    @property
    def _directions(self) -> tuple[int, ...]:
        return (1, -1) if self.sign == 0 else (self.sign,)

    def _shift(self, margin: float, direction: int) -> float:
        """Turn a relative margin into a shift of readings in a direction of harm."""
        if not self.logarithmic:
            return margin
        return float(np.log1p(margin) if direction > 0 else -np.log1p(-margin))

    @property
    def _tolerated(self) -> Floats:
        """Shift that is tolerated, in each direction."""
        return np.array([self._shift(self.margin, direction) for direction in self._directions], dtype=float)

    @property
    def least_noise(self) -> Floats:
        """Standard deviation of a unit's block, [stream]: as it was before exposure, and the margin at least."""
        return np.asarray(np.maximum(self.noise, self._tolerated.min()))

    def _noise(self, so_far: Floats) -> Floats:
        """Return the standard deviation of a unit's block, [stream]: what it turns out to be, if that is more."""
        count, squares = so_far.T
        now = np.where(count >= FEWEST_PLACEBOS, squares / np.maximum(count, 1.0), 0.0)
        return np.asarray(np.maximum(self.least_noise, np.sqrt(now)))

    def _scores(self, sums: Floats) -> tuple[Floats, Floats]:
        """Return by how much the sums speak for each bet, and in how many blocks, [stream, bet]."""
        directions = np.array(self._directions, dtype=float)
        null = np.array([self._shift(self.regress_margin, direction) for direction in self._directions])
        harm = directions * sums[:, 0, :1] - null * sums[:, 0, 1:2]
        health = self._tolerated * sums[:, 1, 1:2] - directions * sums[:, 1, :1]
        points = np.repeat(sums[:, :, 2], directions.size, axis=1)
        return np.concatenate([harm, health], axis=1), points

    def _log_e(self, scores: Floats, points: Floats, errors: Floats) -> Floats:
        """Return log e of each bet, [stream, bet]: a half-normal over what is bet on, against units that differ."""
        noise = np.where(errors[:, :1] > 0, errors[:, :1], 1.0)
        own = (errors[:, 1:] / noise) ** 2
        wide = own + (np.concatenate([REACH * self._tolerated, self._tolerated]) / noise) ** 2
        ahead = log_ndtr(scores * np.sqrt(wide / (1 + points * wide)))
        return np.asarray(_mixed(scores, points, wide) + np.log(2.0) + ahead - _mixed(scores, points, own))

    def _evidence(self, state: CanaryState) -> tuple[Floats, Floats]:
        """Return log e of harm and of health, [stream]."""
        scores, points = self._scores(state.sums)
        without = self._log_e(scores - state.bets[:, :, 1], np.maximum(points - 1, 0.0), state.errors)
        log_e = np.where(points > 0, np.minimum(state.bets[:, :, 0], without), 0.0)
        harm, health = np.split(log_e, 2, axis=1)
        shared = np.asarray(np.logaddexp.reduce(harm, axis=1)) - np.log(len(self._directions))
        return shared, health.min(axis=1)

    def _estimate(self, state: CanaryState) -> Floats:
        """Return treatment less baseline, [stream]; NaN before the first block with both."""
        total, weight, points = state.sums[:, 0].T
        return np.where(points > 0, total / np.where(points > 0, weight, 1.0), np.nan)

    def _harm(self, state: CanaryState) -> Floats:
        """Return the difference as harm, a log ratio whatever the scale; -inf where there is none yet."""
        apart = self._estimate(state)
        if not self.logarithmic:
            apart = np.log1p(np.maximum(apart, -WHOLE))
        return np.where(np.isnan(apart), -np.inf, np.abs(apart) if self.sign == 0 else self.sign * apart)

    def snapshot(self, state: CanaryState, alpha: float) -> Snapshot:
        """Return the difference with its confidence sequence at level 1 - alpha, and the evidence."""
        estimate, (_, weight, points) = self._estimate(state), state.sums[:, 0].T
        known = points > 0
        noise = np.where(known, state.errors[:, 0], 1.0)
        margin = float(self._tolerated.min())
        own = (state.errors[:, 1] / noise) ** 2
        wide = own + (margin / noise) ** 2
        spread = np.log((1 + points * wide) / (1 + points * own)) + 2 * np.log(1 / alpha)
        gained = wide / (1 + points * wide) - own / (1 + points * own)
        reach = np.sqrt(spread / gained) / np.where(known, weight, 1.0)
        regressed, healthy = self._evidence(state)
        harm = np.where(known, np.abs(estimate) if self.sign == 0 else self.sign * estimate, 0.0)
        return Snapshot(
            measure="ratio" if self.logarithmic else "relative",
            estimate=estimate,
            lower=estimate - reach,
            upper=estimate + reach,
            harm=self._harm(state),
            log_regressed=regressed,
            log_healthy=healthy,
            toward_healthy=np.where(known, (margin / noise) ** 2 / 2, 0.0),
            toward_regressed=np.where(known, (np.maximum(harm, 0.0) / noise) ** 2 / 2, 0.0),
            events_per_block=np.ones_like(noise),
            scale=state.errors[:, 1],
        )


def _mixed(scores: Floats, points: Floats, variance: Floats) -> Floats:
    """Return log likelihood of scores under a normal effect of this variance, against none."""
    spread = 1 + points * variance
    return np.asarray(-np.log(spread) / 2 + scores**2 * variance / (2 * spread))


def on_scale(readings: Floats, scale: Floats, logarithmic: bool) -> Floats:
    """Return readings [stream, unit, block] as logarithms, or as shares of the level; what has none is a gap."""
    if not logarithmic:
        return np.asarray(readings / scale[:, None, None])
    return np.log(np.where(readings > 0, readings, np.nan))


def middle_of(values: Floats, middle: Middle) -> Floats:
    """Return the middle over units, the last axis; NaN where there are none.

    >>> values = np.array([[1.0, np.nan, 2.0, 9.0], [np.nan] * 4])
    >>> middle_of(values, "median").tolist(), middle_of(values, "mean").tolist()
    ([2.0, nan], [4.0, nan])
    """
    count = np.isfinite(values).sum(axis=-1)
    if middle == "mean":
        return np.asarray(np.where(count > 0, np.nansum(values, axis=-1) / np.maximum(count, 1), np.nan))
    ordered = np.sort(values, axis=-1)
    pair = np.stack([np.maximum(count - 1, 0) // 2, count // 2], axis=-1)
    pair = np.minimum(pair, values.shape[-1] - 1)
    return np.where(count > 0, np.take_along_axis(ordered, pair, axis=-1).mean(axis=-1), np.nan)


def placebos(values: Floats, middle: Middle) -> Floats:
    """Return each unit less the middle of the others, in a unit's standard deviations; units are the last axis.

    NaN where a unit has no reading, or no other has.

    >>> placebos(np.array([[1.0, 2.0, 4.0]]), "mean").round(3).tolist()
    [[-1.633, -0.408, 2.041]]
    """
    count = np.isfinite(values).sum(axis=-1, keepdims=True)
    others = np.maximum(count - 1, 1)
    if middle == "mean":
        rest = (np.nansum(values, axis=-1, keepdims=True) - values) / others
    else:
        # Without the unit of rank r, what was at rank i or above moves down by one if r <= i.
        order = np.argsort(values, axis=-1)
        rank = np.argsort(order, axis=-1)
        ordered = np.take_along_axis(values, order, axis=-1)
        at = [np.broadcast_to(i, rank.shape) for i in ((others - 1) // 2, others // 2)]
        top = values.shape[-1] - 1
        rest = sum(np.take_along_axis(ordered, np.minimum(i + (rank <= i), top), axis=-1) for i in at) / 2
    return np.where(count > 1, (values - rest) / np.sqrt(1 + error(others, middle)), np.nan)


def error(count: Floats, middle: Middle) -> Floats:
    """Return the variance of the middle of so many units, each of variance one.

    For the median of three or more normal values a formula that is right within one part in a hundred.

    >>> error(np.array([1.0, 2.0, 3.0, 4.0]), "median").round(3).tolist()
    [1.0, 0.5, 0.449, 0.296]
    """
    if middle == "mean":
        return np.asarray(1 / count)
    return np.where(count < 3, 1 / count, np.pi / (2 * count + np.where(count % 2 == 1, 1.0, 2.6)))

"""Latency as a whole distribution: histogram buckets in two concurrent arms.

The share of requests over one objective is blind to what happens elsewhere. Here the treatment's buckets are compared
with the control's usual shape, learnt from its past: bets that all requests became slower by a factor (an exponential
tilt in log latency, which for log-normal latencies is exactly that), and bets that more of them exceed one of a few
edges (a slow tail), averaged. Each bet's score rises with latency, so that the null is one-sided: "not slower".

Health on the latency scale is proven by shifted thresholds: if no more of the treatment's requests exceed v than of
the control's exceed u, where v is at most (1 + margin) u, then at that quantile it is slower by less than the margin.
That takes edges at most (1 + margin) apart; the usual buckets of Prometheus clients are not, and there the margin is
on the share of requests over the objective.

References:
    Turner, Ly, Gruenwald (2024), J. Statist. Plann. Inference (arXiv 2106.02693): the two-sample e-value for any score.
    Lindon, Sanden, Shirikian (2022), KDD (arXiv 2205.14762): sequential tests of stochastic order for canaries.
    Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas (2024), Ann. Statist.: the asymptotic confidence sequence of a mean.

Example:
    Requests become 20 % slower, in buckets whose edges double: found within minutes, named as about a fifth.

    >>> import numpy as np
    >>> edges = (0.05, 0.1, 0.2, 0.4, 0.8, np.inf)
    >>> usual, slower = np.array([[14.0, 27, 33, 19, 6, 1]]), np.array([[9.0, 22, 34, 24, 9, 2]])
    >>> method = Buckets.of(edges=edges, margin=0.1, shape=1000 * usual)
    >>> blocks = lambda counts: np.repeat(counts[:, None], 30, axis=1)
    >>> state, track = method.fold(method.start(1), blocks(usual), blocks(slower), 60.0 * np.arange(1, 31))
    >>> bool(track.regressed[0, -1] > 4.6), round(float(method.quantiles(state, 0.05)[0.5].ratio[0]), 1)
    (True, 1.2)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from watcher.errors import ShapeError
from watcher.evidence import units
from watcher.evidence.onset import NOTHING, Onset, OnsetState
from watcher.evidence.quantiles import LEVELS, Quantile, bounds, bucket_of, middles_of, quantile
from watcher.evidence.track import CAP, Snapshot, Track
from watcher.model import Flags, Floats

PROVEN_AT = (0.5, 0.95)
"""Quantiles at which health must be proven."""

FEWEST = 50.0
"""Requests the control's past must hold before anything is bet."""

_TILTS = ((1.05, 0.1), (1.1, 0.25), (1.25, 0.25), (1.5, 0.15), (2.0, 0.1), (3.0, 0.1), (5.0, 0.05))
"""Factors by which all requests may have become slower, with weights."""

_STEPS_AT = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999)
"""Quantiles of the usual shape near which more requests may exceed an edge."""

_STEPS = ((0.2, (1.05, 1.15, 1.35)), (0.02, (1.15, 1.5, 2.5)), (0.0, (1.5, 3.0, 8.0)))
"""Ratios of exceedances bet on, where more than such a share exceeds the edge."""

_MEMORY = 0.99
"""Weight of the control's past against each new block."""

_PRIOR = 3000.0
"""Requests that the shape known beforehand is worth, at most."""


@dataclass(frozen=True)
class BucketState(OnsetState):
    """Fixed size per stream, whatever the length of the watch; B buckets.

    Of the release, beside the onsets: `usual` [stream, B] discounted control's past; `since` [stream, 2 + 2 B] evidence
    of harm beyond the margin since it was last nil, when that was, and the counts of both arms since (baseline first).
    Of the stage: `counts` [stream, 2 B]; `proof` and `information` [stream, level]; `staged` [stream] blocks. Of the
    units: `scale` [stream] what multiplies a spread between units; `score` and `known` [stream, bet].
    """

    usual: Floats
    since: Floats
    counts: Floats
    proof: Floats
    information: Floats
    staged: Floats
    scale: Floats
    score: Floats
    known: Floats


@dataclass(frozen=True)
class Buckets:
    """The method for one rule.

    `middles` and `tops` [bucket] are logs of a bucket's middle and upper edge. `shape` [stream, bucket] is the
    control's usual one; `steps` [stream, step] are the edges whose exceedance is bet on; `pairs` [stream, level, 2] the
    edges (u, v) that prove health, -1 where the edges do not allow the margin. `spreads` [edge] is the standard
    deviation between units of the log share over each edge, `pace` that of the mean log latency; both 0 where nothing
    is known.
    """

    middles: Floats
    tops: Floats
    margin: float
    shape: Floats
    steps: Floats
    pairs: Floats
    dispersion: Floats
    onset: Onset
    units: int
    spreads: Floats
    pace: float

    @classmethod
    def of(
        cls,
        *,
        edges: tuple[float, ...],
        margin: float,
        shape: Floats,
        dispersion: float | Floats = 1.0,
        horizon: float = 1440.0,
        units: int = 0,
        spreads: tuple[float, ...] = (),
        pace: float = 0.0,
    ) -> Buckets:
        """Choose what to bet on and what can prove health, before the watch.

        Args:
            edges: upper edges in seconds, ascending, the last infinite.
            margin: how much slower is tolerable, relative.
            shape: the control's usual counts, [stream, bucket]; zeros where nothing is known.
            dispersion: long-run variance of the counts over their binomial variance, at least 1.
            horizon: blocks over which the onset of a regression is expected.
            units: how many units `spreads` and `pace` were learnt from.
        """
        tops = np.log(edges)
        steps = _steps(shape)
        weights = [w / 2 for _, w in _TILTS] + [0.5 / (3 * steps.shape[1])] * (3 * steps.shape[1])
        return cls(
            middles=middles_of(tops),
            tops=tops,
            margin=float(np.log1p(margin)),
            shape=shape,
            steps=steps,
            pairs=_pairs(tops, shape, float(np.log1p(margin))),
            dispersion=np.maximum(1.0, dispersion),
            onset=Onset.of(weights, horizon),
            units=units,
            spreads=np.asarray(spreads or np.zeros(len(edges) - 1)),
            pace=pace,
        )

    @property
    def decidable(self) -> Flags:
        """Whether the edges allow health to be proven on the latency scale, [stream]."""
        return np.asarray((self.pairs[:, :, 0] >= 0).any(axis=1), dtype=np.bool_)

    def start(self, streams: int, scale: Floats | None = None) -> BucketState:
        """Return the state before the first block; `scale` [stream] multiplies a spread between units (see `units`)."""
        buckets, bets = self.tops.size, self.onset.log_weights.size
        known = np.minimum(1.0, _PRIOR / np.maximum(self.shape.sum(axis=1, keepdims=True), 1.0))
        return BucketState(
            **vars(self.onset.start(streams)),
            usual=self.shape * known,
            since=np.concatenate([np.tile([0.0, np.nan], (streams, 1)), np.zeros((streams, 2 * buckets))], axis=1),
            counts=np.zeros((streams, 2 * buckets)),
            proof=np.zeros((streams, len(PROVEN_AT))),
            information=np.zeros((streams, len(PROVEN_AT))),
            staged=np.zeros(streams),
            scale=np.zeros(streams) if scale is None else scale,
            score=np.zeros((streams, bets)),
            known=np.zeros((streams, bets)),
        )

    def restage(self, state: BucketState) -> BucketState:
        """Return the state at the beginning of a later stage."""
        fresh = self.start(state.blocks.size)
        anew = {name: getattr(fresh, name) for name in ("counts", "proof", "information", "staged")}
        return self.onset.restage(replace(state, **anew))

    def scaled(self, state: BucketState, scale: Floats) -> BucketState:
        """Return the state with the units of this stage; other units begin anew."""
        other = (np.abs(scale - state.scale) > 0.1 * state.scale)[:, None]
        return replace(
            state,
            scale=np.where(other[:, 0], scale, state.scale),
            score=np.where(other, 0.0, state.score),
            known=np.where(other, 0.0, state.known),
        )

    def fold(self, state: BucketState, baseline: Floats, treatment: Floats, ends: Floats) -> tuple[BucketState, Track]:
        """Fold closed blocks into the state.

        Args:
            state: of S streams.
            baseline: requests by bucket (not cumulative), [stream, block, bucket]; likewise `treatment`.
            ends: epoch seconds at which the blocks end, [block].

        Raises:
            ShapeError: states, counts and ends disagree.
        """
        shape = (state.blocks.size, ends.size, self.tops.size)
        if baseline.shape != shape or treatment.shape != shape:
            raise ShapeError(f"buckets {baseline.shape} and {treatment.shape} are not {shape}, stream x block x bucket")
        track = Track.empty(*shape[:2])
        for b, end in enumerate(ends):
            state = self._fold_block(state, baseline[:, b], treatment[:, b], end)
            track.regressed[:, b], track.healthy[:, b] = self.onset.log_e(state), self._health(state)
            track.harm[:, b], track.onset[:, b] = self._harm(state), state.since[:, 1]
        return state, track

    def _fold_block(self, state: BucketState, control: Floats, treated: Floats, end: float) -> BucketState:
        n_control, n_treated = control.sum(axis=1), treated.sum(axis=1)
        past = state.usual.sum(axis=1)
        active = (n_control > 0) & (n_treated > 0) & (past >= FEWEST)
        usual = (state.usual + 0.5 / self.tops.size) / (past[:, None] + 0.5)
        share = np.where(active, n_treated / np.maximum(n_control + n_treated, 1.0), 0.5)
        paid = _Pay.joined(self._tilted(usual, control, treated, share), self._stepped(usual, control, treated, share))
        score = state.score.T + np.where(active, paid.score[1:] / self.dispersion, 0.0)
        known = state.known.T + np.where(active, paid.known[1:] / self.dispersion, 0.0)
        room = self._units_part(state.scale, score, known)
        room -= self._units_part(state.scale, state.score.T, state.known.T)
        growth = np.where(active, np.minimum(paid.gain[1:] / self.dispersion - room, CAP), 0.0)
        wins, information = self._wins(usual, share, control, treated)
        both = np.concatenate([control, treated], axis=1)
        return replace(
            self.onset.step(state, growth, active),
            usual=np.where(n_control[:, None] > 0, _MEMORY * state.usual + control, state.usual),
            since=_followed(state.since, np.where(active, paid.gain[0], 0.0), both, end),
            counts=state.counts + both,
            proof=state.proof + np.where(active[:, None], np.minimum(wins, CAP), 0.0),
            information=state.information + np.where(active[:, None], information, 0.0),
            staged=state.staged + active,
            score=score.T,
            known=known.T,
        )

    def _tilted(self, usual: Floats, control: Floats, treated: Floats, share: Floats) -> _Pay:
        """Return what the tilts are paid, [tilt, stream]: first the margin, on which nothing is staked."""
        slower = np.append(self.margin, np.log([ratio for ratio, _ in _TILTS]))
        mean = (usual * self.middles).sum(axis=1, keepdims=True)
        variance = (usual * (self.middles - mean) ** 2).sum(axis=1, keepdims=True)
        tilt = (self.middles - mean) / np.maximum(variance, 1e-6)
        scores = np.clip(slower[:, None, None] * tilt, -20.0, 20.0)
        scores -= np.log((usual * np.exp(scores)).sum(axis=2, keepdims=True))
        return _Pay.of(scores, usual, control, treated, share)

    def _stepped(self, usual: Floats, control: Floats, treated: Floats, share: Floats) -> _Pay:
        """Return what the steps are paid, [step, stream]: of each edge only what lies below and above it matters."""
        above = np.arange(self.tops.size) > self.steps.T[:, :, None]

        def sides(counts: Floats) -> Floats:
            over = (counts * above).sum(axis=2)
            return np.stack([counts.sum(axis=1) - over, over], axis=2)[:, None]

        exceed = np.clip(sides(usual)[..., 1], 1e-9, 1 - 1e-9)
        raised = np.minimum(exceed * _step_ratios()[..., None], 0.5 * (1 + exceed))
        scores = np.stack([np.log((1 - raised) / (1 - exceed)), np.log(raised / exceed)], axis=3)
        paid = _Pay.of(scores, sides(usual), sides(control), sides(treated), share)
        return _Pay(*(values.reshape(-1, share.size) for values in vars(paid).values()))

    def _units_part(self, scale: Floats, score: Floats, known: Floats) -> Floats:
        """Return the log by which a null that leaves room for the units exceeds the point null, [bet, stream]."""
        if self.units < units.FEWEST:
            return np.zeros_like(score)
        ratios = _step_ratios()
        strengths = np.log([*(ratio for ratio, _ in _TILTS), *ratios.ravel()])
        at_steps = np.repeat(self.spreads[self.steps], ratios.shape[1], axis=1).T
        spread = np.concatenate([np.full((len(_TILTS), scale.size), self.pace), at_steps])
        variance = (units.inflation(self.units) * scale * spread / strengths[:, None]) ** 2
        room = 1.0 + known * variance
        return np.asarray(score**2 * variance / (2 * room) - 0.5 * np.log(room))

    def _wins(self, usual: Floats, share: Floats, control: Floats, treated: Floats) -> tuple[Floats, Floats]:
        """Return log e against "slower than the margin" of one block, and the information in it, [stream, level]."""

        def above(counts: Floats, edges: Floats) -> Floats:
            return np.asarray((counts[:, None] * (np.arange(self.tops.size) > edges[:, :, None])).sum(axis=2))

        u, v = self.pairs[:, :, 0], self.pairs[:, :, 1]
        p_control, p_treated = (np.clip(above(usual, edge), 1e-9, 1 - 1e-9) for edge in (u, v))
        w, n_control, n_treated = share[:, None], control.sum(axis=1)[:, None], treated.sum(axis=1)[:, None]
        null = w * p_treated + (1 - w) * p_control
        x, y = above(treated, v), above(control, u)
        gain = x * np.log(p_treated / null) + (n_treated - x) * np.log((1 - p_treated) / (1 - null))
        gain += y * np.log(p_control / null) + (n_control - y) * np.log((1 - p_control) / (1 - null))
        phi = np.reshape(self.dispersion, (-1, 1))
        return np.where(u >= 0, gain / phi, 0.0), n_control * w * null / (1 - null) / phi

    def _health(self, state: BucketState) -> Floats:
        """Return log e of health, [stream]: the least over the quantiles decided; nothing where none can be."""
        decided = self.pairs[:, :, 0] >= 0
        spread = units.inflation(self.units) * state.scale[:, None] * self.spreads[self.pairs[:, :, 0]]
        worth = state.proof / (1.0 + state.information * spread**2)
        return np.where(decided.any(axis=1), np.where(decided, worth, np.inf).min(axis=1), NOTHING)

    def _harm(self, state: BucketState) -> Floats:
        """Return by how much the quantile that is worst is slower since harm began, as a log ratio; -inf without."""
        control, treated = np.split(state.since[:, 2:], 2, axis=1)
        harm = np.full(len(control), -np.inf)
        for level in LEVELS:
            enough = np.minimum(control.sum(axis=1), treated.sum(axis=1)) * (1 - level) >= 10
            ratio = quantile(self.tops, treated, level) - quantile(self.tops, control, level)
            harm = np.maximum(harm, np.where(enough, ratio, -np.inf))
        return harm

    def quantiles(self, state: BucketState, alpha: float, levels: Sequence[float] = LEVELS) -> Mapping[float, Quantile]:
        """Return quantiles of the stage, each with the confidence sequence of its ratio at level 1 - alpha."""
        control, treated = np.split(state.counts, 2, axis=1)
        found = {}
        for level in levels:
            enough = np.minimum(control.sum(axis=1), treated.sum(axis=1)) * min(level, 1 - level) >= 5
            one, other = quantile(self.tops, control, level), quantile(self.tops, treated, level)
            (low, high), (treated_low, treated_high) = (
                bounds(self.tops, counts, level, alpha / 2, self.dispersion) for counts in (control, treated)
            )
            values = (one, other, other - one, treated_low - high, treated_high - low)
            found[level] = Quantile(*(np.exp(np.where(enough, value, np.nan)) for value in values))
        return found

    def snapshot(self, state: BucketState, alpha: float) -> Snapshot:
        """Return the typical latency (geometric mean) of treatment against baseline, and the evidence.

        Its interval is an asymptotic confidence sequence at level 1 - alpha, as wide as the buckets are coarse.
        """
        n, means, variances = self._moments(state)
        noise = self.dispersion * (variances / np.maximum(n, 1.0)).sum(axis=0)
        noise = noise + (state.scale * units.inflation(self.units) * self.pace) ** 2
        known, noise = (n > 0).all(axis=0) & (noise > 0), np.where(noise > 0, noise, 1.0)
        estimate, spread = means[1] - means[0], 1.0 + self.margin**2 / noise
        reach = np.sqrt(noise**2 * spread / self.margin**2 * (np.log(spread) + 2 * np.log(1 / alpha)))
        per_block = np.divide(n, state.staged, out=np.zeros_like(n), where=state.staged > 0)
        information = 1.0 / (noise * np.maximum(state.staged, 1.0))
        return Snapshot(
            measure="ratio",
            estimate=np.where(known, estimate, np.nan),
            lower=np.where(known, estimate - reach, np.nan),
            upper=np.where(known, estimate + reach, np.nan),
            harm=self._harm(state),
            log_regressed=self.onset.log_e(state),
            log_healthy=self._health(state),
            toward_healthy=self._toward_healthy(state, per_block),
            toward_regressed=np.where(known, np.minimum(information * estimate**2 / 2, CAP), 0.0),
            events_per_block=per_block.sum(axis=0),
            scale=state.scale * self.pace,
        )

    def _moments(self, state: BucketState) -> tuple[Floats, Floats, Floats]:
        """Return requests, and mean and variance of their log latency, of both arms in this stage, [arm, stream]."""
        counts = np.stack(np.split(state.counts, 2, axis=1))
        n = counts.sum(axis=2)
        means = counts @ self.middles / np.maximum(n, 1.0)
        return n, means, np.maximum(counts @ self.middles**2 / np.maximum(n, 1.0) - means**2, 0.0)

    def _toward_healthy(self, state: BucketState, per_block: Floats) -> Floats:
        """Return the log e of health a block is expected to add if nothing changed, [stream]."""
        usual = (state.usual + 0.5 / self.tops.size) / (state.usual.sum(axis=1, keepdims=True) + 0.5)
        total = per_block.sum(axis=0)
        share = np.divide(per_block[1], total, out=np.full_like(total, 0.5), where=total > 0)
        wins, _ = self._wins(usual, share, usual * per_block[0][:, None], usual * per_block[1][:, None])
        decided = self.pairs[:, :, 0] >= 0
        return np.where(decided.any(axis=1), np.where(decided, wins, np.inf).min(axis=1), 0.0)


@dataclass(frozen=True)
class _Pay:
    """What bets are paid in a block, [bet, stream], untempered: the log of what capital becomes; and score of and
    information about how much of each bet is true, for the part that units may have in it.
    """

    gain: Floats
    score: Floats
    known: Floats

    @classmethod
    def of(cls, scores: Floats, usual: Floats, control: Floats, treated: Floats, share: Floats) -> _Pay:
        """Return what scores [bet, stream, bin] are paid by counts [stream, bin] or [bet, stream, bin].

        Each request's likelihood ratio is scaled so that over both arms it averages one, whatever the distribution.
        """
        mixed = np.log(share[:, None] * np.exp(scores) + (1 - share[:, None]))
        ours, theirs = (treated * scores).sum(axis=-1), (control * scores).sum(axis=-1)
        spread = (usual * scores**2).sum(axis=-1) - (usual * scores).sum(axis=-1) ** 2
        pooled = control.sum(axis=-1) * share
        return cls(
            ours - ((treated + control) * mixed).sum(axis=-1), ours * (1 - share) - theirs * share, pooled * spread
        )

    @classmethod
    def joined(cls, *parts: _Pay) -> _Pay:
        return cls(*(np.concatenate(each) for each in zip(*(vars(part).values() for part in parts), strict=True)))


def _step_ratios() -> Floats:
    """Return the ratios bet on at each step, [step, ratio]."""
    return np.array([next(ratios for over, ratios in _STEPS if 1 - level > over) for level in _STEPS_AT])


def _steps(shape: Floats) -> Floats:
    return bucket_of(shape, _STEPS_AT)


def _pairs(tops: Floats, shape: Floats, margin: float) -> Floats:
    """Return for each quantile the smallest edge u above it and the largest v within the margin of u, or -1, -1."""
    u = bucket_of(shape, PROVEN_AT)
    v = (tops <= tops[u][..., None] + margin + 1e-9).sum(axis=2) - 1
    usable = (v > u) & (shape.sum(axis=1, keepdims=True) >= FEWEST)
    return np.where(usable[..., None], np.stack([u, v], axis=2), -1)


def _followed(since: Floats, rise: Floats, counts: Floats, end: float) -> Floats:
    """Follow the counts since the evidence of harm beyond the margin was last nil (a CUSUM)."""
    evidence, began = since[:, 0], np.where(since[:, 0] > 0, since[:, 1], end)
    evidence = evidence + rise
    alive = evidence > 0
    return np.column_stack(
        [
            np.where(alive, evidence, 0.0),
            np.where(alive, began, np.nan),
            np.where(alive[:, None], since[:, 2:] + counts, 0.0),
        ]
    )

"""Shares above about 5 %, and margins in percentage points: growth-rate-optimal e-values for two proportions.

The conditional profile treats outcomes as Poisson, which costs power once a share is no longer rare, and it knows ratio
margins only. Here a block's e-value is the likelihood of an alternative (the control at its usual rate, the treatment
worse by so much) over that of its projection on the null: the point of "not worse" that is nearest in relative
entropy. That is an e-value for every point of the null, because both halves (p_T at most, at least so much) are
convex. The usual rate may come from anywhere in the past: it buys power, never validity.

The null is a line, p_T = r p_C for relative margins or p_T = p_C + d for absolute ones; a family of such lines gives
the confidence sequence, with what the arms have shown so far as the alternative.

References:
    Turner, Ly, Gruenwald (2024), J. Statist. Plann. Inference (arXiv 2106.02693); Turner and Gruenwald (2022),
    arXiv 2203.09785, for general margins. Miettinen and Nurminen (1985), Statist. Med. 4, and Farrington and Manning
    (1990), Statist. Med. 9, for the projections in closed form. See `onset` and `units` for theirs.

Example:
    Completions fall from 90 % to 85 %: proven in half an hour at 100 a minute.

    >>> import numpy as np
    >>> method = Proportion.of(sign=-1, margin=0.02, rate=np.array([0.9]))
    >>> of = lambda x: (np.full((1, 30), float(x)), np.full((1, 30), 100.0))
    >>> state, track = method.fold(method.start(1), of(90), of(85), 60.0 * np.arange(1, 31))
    >>> bool(track.regressed[0, -1] > 4.6), round(float(np.exp(method.snapshot(state, 0.05).estimate[0])), 3)
    (True, 0.944)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from watcher.evidence import counting
from watcher.evidence.counting import PROOF_LOG_WEIGHTS, Counts, CountState, TwoArms, cross, logsumexp
from watcher.evidence.onset import Onset
from watcher.evidence.track import CAP, Snapshot, Track
from watcher.model import Flags, Floats

FROM = 0.05
"""Baseline share from which this is worth it."""

_SURE = 1e-4
"""Shares are kept this far from 0 and 1."""

_MEMORY = 0.97
"""Weight of the control's past against each new block: about half an hour at a minute a block."""

_PRIOR = 50.0
"""Exposure that the rate known beforehand is worth."""

_FARTHEST = 0.95
"""Differences of shares beyond this are not looked for."""

_COARSE = np.concatenate([np.arange(0, 0.525, 0.05), np.arange(0.6, 1.05, 0.1), np.arange(1.5, 4.1, 0.5)])
_ABSOLUTE_BETS = ((1.0, 0.2), (2.0, 0.3), (4.0, 0.2), (8.0, 0.15), (16.0, 0.1), (32.0, 0.05))
"""Differences bet on, in multiples of the margin, with weights."""


@dataclass(frozen=True)
class ProportionState(CountState):
    """Fixed size per stream; `points` [stream, point] is log e of the stage against each line of the grid.

    `usual` [stream, 2] are discounted events and exposure of the control; `effects` [stream, 3] are sums over the
    stage, as in `counting.follow`.
    """

    usual: Floats
    effects: Floats


@dataclass(frozen=True)
class Proportion(TwoArms[ProportionState]):
    """The method for one rule; effects are log ratios, or differences of shares when `absolute`.

    `rate` [stream] is the baseline's share as known before exposure.
    """

    rate: Floats
    absolute: bool

    @classmethod
    def of(
        cls,
        *,
        sign: int,
        margin: float,
        rate: Floats,
        absolute: bool = False,
        regress_margin: float = 0.0,
        dispersion: float | Floats = 1.0,
        horizon: float = 1440.0,
        units: int = 0,
    ) -> Proportion:
        """Lay out the bets and the lines, fixed before the watch.

        Args:
            sign: +1 when a higher share is worse, -1 when a lower one is.
            margin: relative, or a difference of shares when `absolute`; likewise `regress_margin`.
            rate: the baseline's share as known beforehand, [stream].
            absolute: whether margins and effects are differences.
            dispersion: long-run variance of the counts over their binomial variance, at least 1.
            horizon: blocks over which the onset of a regression is expected.
            units: how many units their spread was learnt from.
        """

        def effect(m: float) -> float:
            return m if absolute else float(np.log1p(m) if sign > 0 else -np.log1p(-m))

        tolerated, null = effect(margin), effect(regress_margin)
        bets, weights = counting.bets(tolerated)
        if absolute:
            bets, weights = (np.array(x) for x in zip(*_ABSOLUTE_BETS, strict=True))
            bets = np.minimum(bets * tolerated, _FARTHEST - null)
        coarse = (
            np.append(np.minimum(tolerated * np.arange(2.0, 12.5), _FARTHEST), np.linspace(0, _FARTHEST, 20))
            if absolute
            else _COARSE
        )
        return cls(
            theta=counting.grid(tolerated, coarse, np.append(bets + null, [null, tolerated])),
            sign=sign,
            dispersion=np.maximum(1.0, dispersion),
            onset=Onset.of(weights.tolist(), horizon),
            bets=sign * (bets + null),
            proofs=sign * np.array([-tolerated, 0.0, tolerated / 2]),
            null=sign * null,
            margin=sign * tolerated,
            units=units,
            rate=np.clip(rate, _SURE, 1 - _SURE),
            absolute=absolute,
        )

    def start(self, streams: int, scale: Floats | None = None) -> ProportionState:
        """Return the state before the first block; `scale` [stream] is tau, the units' part in the log ratio."""
        begun = self._begun(streams, None if scale is None else self._in_effect(scale))
        usual = np.stack([_PRIOR * self.rate, np.full(streams, _PRIOR)], axis=1)
        return ProportionState(**begun, usual=usual, effects=np.zeros((streams, 3)))

    def restage(self, state: ProportionState) -> ProportionState:
        """Return the state at the beginning of a later stage."""
        return replace(super().restage(state), effects=np.zeros_like(state.effects))

    def scaled(self, state: ProportionState, scale: Floats) -> ProportionState:
        """Return the state with tau [stream] as the units of this stage have it; other units begin anew."""
        return super().scaled(state, self._in_effect(scale))

    def _in_effect(self, scale: Floats) -> Floats:
        return np.asarray(scale * self.rate if self.absolute else scale)

    def fold(
        self, state: ProportionState, baseline: Counts, treatment: Counts, ends: Floats
    ) -> tuple[ProportionState, Track]:
        """Fold closed blocks into the state; arguments, result and errors as in `Profile.fold`."""
        given = counting.stacked(state.blocks.size, baseline, treatment, ends)
        counts, carried = counting.carry(state.carried.T, given)
        cells, usual = _Cells.of(self, state.usual.T, counts)
        state, regressed = self._bet(state, cells)
        wins, lines, effects = self._each_block(state, cells)
        state, healthy = self._prove(state, wins, cells.information)
        # Against no effect, whatever must be exceeded.
        none, margin = (np.array([[x]]) for x in (0.0, self.margin))
        rise = np.array([cells.against(b, margin, none)[0] for b in range(ends.size)]).reshape(cells.active.shape)
        since, sums, onset = counting.follow(state.since.T, rise * self.dispersion, counts, ends)
        folded = replace(
            state,
            since=since.T,
            carried=carried.T,
            points=state.points + lines.T,
            sums=state.sums + given.sum(axis=1).T,
            staged=state.staged + cells.active.sum(axis=0),
            usual=usual.T,
            effects=effects.T,
        )
        return folded, Track(regressed.T, healthy.T, self._harm(sums).T, onset.T)

    def _each_block(self, state: ProportionState, cells: _Cells) -> tuple[Floats, Floats, Floats]:
        """Return the wins of the proofs [block, proof, stream], log e by line [line, stream], and effects so far."""
        wins = np.empty((len(cells.active), self.proofs.size, state.blocks.size))
        lines, effects = np.zeros((self.theta.size, state.blocks.size)), state.effects.T
        margin = np.array([[self.margin]])
        for b in range(len(wins)):
            wins[b] = cells.against(b, self.proofs[:, None], margin)
            lines += cells.against(b, self._shown(effects, cells.usual[b])[None], self.theta[:, None])
            effects = effects + cells.effects(b)
        return wins, lines, effects

    def _shown(self, effects: Floats, usual: Floats) -> Floats:
        """Return what the arms have shown so far, [stream]: the effect, drawn to none by a little exposure without."""
        prior = _PRIOR / 4 * np.array([usual, usual, np.ones_like(usual)])
        return self._effect(effects + prior)

    def _effect(self, sums: Floats) -> Floats:
        return counting.difference(sums) if self.absolute else counting.log_ratio(sums)

    def _harm(self, sums: Floats) -> Floats:
        effect = self._effect(sums)
        return np.where(np.isnan(effect), -np.inf, self.sign * np.nan_to_num(effect))

    def snapshot(self, state: ProportionState, alpha: float) -> Snapshot:
        """Return estimate, confidence sequence at level 1 - alpha, and evidence."""
        room = self._room(state.scale, state.information)
        effect = self._effect(state.effects.T)
        known, middle = np.isfinite(effect), np.nan_to_num(effect)
        below = np.sqrt(np.maximum(state.points, 0.0) / room[:, None])
        depth = np.where(self.theta < middle[:, None], -below, below)
        reach = np.full(len(middle), np.sqrt(np.log(1 / alpha)))
        lower, upper = cross(self.theta, depth, -reach, -np.inf), cross(self.theta, depth, reach, np.inf)
        per_block = np.divide(state.sums, state.staged[:, None], out=np.zeros_like(state.sums),
                              where=state.staged[:, None] > 0)  # fmt: skip
        usual = _usual(state.usual.T)
        typical = _Cells(self, per_block.T[:, None], usual[None], (state.staged > 0)[None])
        limits = self.theta[[0, -1]]
        return Snapshot(
            measure="difference" if self.absolute else "ratio",
            estimate=np.where(known, np.clip(effect, lower, upper), np.nan),
            lower=np.where(known, lower, np.nan),
            upper=np.where(known, upper, np.nan),
            harm=self._harm(state.since.T[1:4]),
            log_regressed=self.onset.log_e(state),
            log_healthy=logsumexp(state.proof / room[:, None] + PROOF_LOG_WEIGHTS),
            toward_healthy=np.minimum(typical.drift(0.0 * middle, self.margin) / room, CAP),
            toward_regressed=np.minimum(typical.drift(np.clip(middle, *limits), self.null), CAP),
            events_per_block=per_block[:, 0] + per_block[:, 2],
            scale=state.scale,
        )


@dataclass(frozen=True)
class _Cells:
    """Blocks of counts [4, block, stream] (baseline events, total, treatment events, total), and the usual share of the
    control as its past has it, [block, stream].
    """

    method: Proportion
    counts: Floats
    usual: Floats
    active: Flags

    @classmethod
    def of(cls, method: Proportion, past: Floats, counts: Floats) -> tuple[_Cells, Floats]:
        """Return the cells, and the control's past after them."""
        usual = np.empty(counts.shape[1:])
        for b in range(len(usual)):
            usual[b] = _usual(past)
            past = np.where(counts[1, b] > 0, _MEMORY * past + counts[:2, b], past)
        return cls(method, counts, usual, counts[1] + counts[3] > 0), past

    def shares(self, block: int, effect: Floats) -> Floats:
        """Return the treatment's share for effects [point, stream or 1], the control's being the usual."""
        usual = self.usual[block]
        share = usual + effect if self.method.absolute else usual * np.exp(effect)
        return np.asarray(np.clip(share, _SURE, 1 - 0.1 * (1 - usual)))

    def against(self, block: int, effect: Floats, line: Floats) -> Floats:
        """Return the tempered log likelihood of effects against their projections on lines, [point, stream]."""
        bad, total, treated_bad, treated_total = self.counts[:, block]
        usual, share = self.usual[block], self.shares(block, effect)
        on_line = project(share, usual, treated_total, total, line, self.method.absolute)
        gain = _gain(treated_bad, treated_total, share, on_line[0]) + _gain(bad, total, usual, on_line[1])
        return np.asarray(gain / self.method.dispersion)

    def edge(self, block: int, effect: Floats) -> Floats:
        return self.against(block, effect, np.array([[self.method.null]]))

    def around_null(self, block: int, offset: Floats) -> Floats:
        null = self.method.null
        return -self.against(block, np.array([[null]]), null + offset)

    def effects(self, block: int) -> Floats:
        """Return the sums of `counting.follow` of one block, [3, stream]."""
        bad, total, treated_bad, treated_total = self.counts[:, block]
        n = np.maximum(total + treated_total, 1.0)
        return np.stack([treated_bad * total / n, bad * treated_total / n, total * treated_total / n])

    @property
    def information(self) -> Floats:
        """Return what each block tells about the effect near none (the inverse of a variance), [block, stream]."""
        _, total, _, treated_total = self.counts
        both = np.divide(total * treated_total, total + treated_total, out=np.zeros_like(total), where=self.active)
        one = self.usual * (1 - self.usual) if self.method.absolute else (1 - self.usual) / self.usual
        return np.asarray(both / one / self.method.dispersion)

    def drift(self, truth: Floats, line: float) -> Floats:
        """Return the log e a block is expected to add against a line when an effect [stream] is true."""
        _, total, _, treated_total = self.counts[:, 0]
        usual, share = self.usual[0], self.shares(0, truth[None])[0]
        one, other = project(share, usual, treated_total, total, np.array(line), self.method.absolute)
        gain = _gain(share * treated_total, treated_total, share, one) + _gain(usual * total, total, usual, other)
        return np.asarray(np.where(self.active[0], gain, 0.0) / self.method.dispersion)


def _usual(past: Floats) -> Floats:
    return np.asarray(np.clip(past[0] / past[1], _SURE, 1 - _SURE))


def _gain(events: Floats, total: Floats, share: Floats, null: Floats) -> Floats:
    return np.asarray(events * np.log(share / null) + (total - events) * np.log((1 - share) / (1 - null)))


def project(
    treated: Floats, control: Floats, n_treated: Floats, n_control: Floats, line: Floats, absolute: bool
) -> tuple[Floats, Floats]:
    """Return the point of a line that is nearest to two shares in relative entropy, weighed by exposure.

    Args:
        treated, control: shares; all arguments broadcast.
        n_treated, n_control: exposures.
        line: the effect that holds on it: a log ratio, or a difference when `absolute`.
        absolute: which of the two.

    Returns:
        The treatment's share and the control's.
    """
    n = n_treated + n_control
    w = np.where(n > 0, n_treated / np.where(n > 0, n, 1.0), 0.5)
    v = 1.0 - w
    if not absolute:
        ratio = np.exp(line)
        b = ratio * w + w * treated + v + ratio * v * control
        c = w * treated + v * control
        root = np.sqrt(np.maximum(b**2 - 4 * ratio * c, 0.0))
        on_line = np.asarray(np.clip(2 * c / (b + root), _SURE / 2, 1 - _SURE / 2))
        return np.asarray(np.clip(ratio * on_line, _SURE / 2, 1 - _SURE / 2)), on_line
    share = _project_difference(treated, control, w, v, line)
    return share, share - line


def _project_difference(treated: Floats, control: Floats, w: Floats, v: Floats, line: Floats) -> Floats:
    """Return the treatment's share: the middle root of the cubic of Farrington and Manning."""
    theta = v / np.maximum(w, 1e-12)
    a = 1 + theta
    b = -(1 + theta + treated + theta * control + line * (theta + 2))
    c = line**2 + line * (2 * treated + theta + 1) + treated + theta * control
    d = -treated * line * (1 + line)
    q = b**3 / (3 * a) ** 3 - b * c / (6 * a**2) + d / (2 * a)
    p = np.where(q >= 0, 1.0, -1.0) * np.sqrt(np.maximum(b**2 / (3 * a) ** 2 - c / (3 * a), 1e-30))
    angle = (np.pi + np.arccos(np.clip(q / p**3, -1.0, 1.0))) / 3
    share = 2 * p * np.cos(angle) - b / (3 * a)
    low, high = _SURE / 2 + np.maximum(0.0, line), 1 - _SURE / 2 + np.minimum(0.0, line)
    return np.asarray(np.clip(share, low, high))

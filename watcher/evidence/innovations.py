"""A series judged against its own past, or against a control: the innovations of its memory.

Minutes of one series are not independent: a slow minute follows a slow minute. What the series remembers of its own
deviations is fitted before exposure; what is left of each block is an innovation. A lasting shift shows in every
innovation with a known weight, the jump itself most of all; so does a slow rise. When it begins is not known, so the
evidence is a mixture: of a shift from exposure on, of one at each of several later moments, of a steady rise. The
level the series is held against was estimated too, and its error enters as a random effect, so that a long watch of a
quiet series does not turn that error into evidence.

Of a noise that is Gaussian and remembered as fitted this is an e-process. Real noise is neither quite, so innovations
are clipped, and where the history allows the evidence is calibrated on placebos (see `placebo`).

References:
    Howard, Ramdas, McAuliffe, Sekhon (2021), Ann. Statist. 49(2): one-sided normal mixtures.
    Box, Tiao (1975), JASA 70: interventions in autoregressive noise.

Example:
    White noise of standard deviation 1, then a shift of one standard deviation.

    >>> import numpy as np
    >>> memory = Memory(np.zeros((1, 1)), np.ones(1))
    >>> method = Innovations(1, 0.5, 2.5, memory, drift=np.zeros(1), unit=np.ones(1), horizon=120, logarithmic=False)
    >>> rng = np.random.default_rng(1)
    >>> _, track = method.fold(method.start(1), rng.normal(1.0, 1.0, (1, 60)), np.ones((1, 60)), 60.0 * np.arange(60))
    >>> bool(track.regressed[0, -1] > np.log(100))
    True
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import ndtr

from watcher.errors import ShapeError
from watcher.evidence.memory import Memory
from watcher.evidence.onset import log_add
from watcher.evidence.track import CAP, ArrayState, Snapshot, Track
from watcher.model import Flags, Floats

AT_ONCE, LATER, RISING = 0.6, 0.3, 0.1
"""Prior of a shift from exposure on, of one at some later moment, and of a steady rise."""

LEAST = -30.0
"""Standard deviations below zero beyond which the evidence for a shift above it is taken to stay."""

APART = 30
"""Blocks between the later moments at which a shift may begin."""

MOST = 8
"""Later moments, at most."""

SMALL, SMALL_WEIGHT = 0.5, 0.75
"""The smaller of a shift's two scales, in standard deviations of the series, and its weight; the other: the margin."""


@dataclass(frozen=True)
class InnovationState(ArrayState):
    """Fixed size per stream.

    `means` [stream, mean] what the series remembers; `sums` [stream, 4, alternative]: the score of clipped
    innovations, the information, the information shared with the level, and the unclipped score; `level` [stream, 3]:
    score, information and unclipped score of the level itself; `exposed` [stream] blocks since exposure, `points`
    [stream] how many of them counted as evidence; `first` [stream] when the first of those was (epoch seconds).
    """

    means: Floats
    sums: Floats
    level: Floats
    exposed: Floats
    points: Floats
    first: Floats


@dataclass(frozen=True)
class Innovations:
    """The method for one rule: residuals in, evidence of a shift out.

    `sign` is +1 where more is worse, -1 where less is, 0 where either is. `margin` and `regress_margin` are relative;
    `clip` is in standard deviations of an innovation. Per stream: `memory` and `drift` [stream], the variance of the
    level's own error, are of residuals in units of `unit` [stream], the standard deviation of the series on the scale
    of the effect (log ratios, or shares of the level). `horizon` is in blocks, which last `block` seconds.
    """

    sign: int
    margin: float
    clip: float
    memory: Memory
    drift: Floats
    unit: Floats
    horizon: float
    regress_margin: float = 0.0
    logarithmic: bool = True
    block: float = 60.0

    @cached_property
    def onsets(self) -> Floats:
        """When a shift may begin, in blocks since exposure, [alternative - 1]; the first is at once."""
        later = int(min(MOST, max(0, self.horizon // APART - 1)))
        apart = max(APART, self.horizon / (later + 1)) if later else APART
        return np.asarray(np.round(apart * np.arange(later + 1)))

    @cached_property
    def _log_prior(self) -> Floats:
        later = self.onsets.size - 1
        prior = np.r_[AT_ONCE, np.full(later, LATER / max(later, 1)), RISING]
        return np.asarray(np.log(prior / prior.sum()))

    def start(self, streams: int, tail: Floats | None = None, partial: bool = False) -> InnovationState:
        """Return the state at exposure.

        Args:
            streams: how many.
            tail: what the series remembers then, [stream, mean].
            partial: whether the first block began before exposure: a shift shows from the one after it on.
        """
        return InnovationState(
            means=np.zeros((streams, self.memory.weights.shape[1])) if tail is None else tail,
            sums=np.zeros((streams, 4, self.onsets.size + 1)),
            level=np.zeros((streams, 3)),
            exposed=np.full(streams, -1.0 if partial else 0.0),
            points=np.zeros(streams),
            first=np.full(streams, np.nan),
        )

    def fold(
        self, state: InnovationState, residuals: Floats, noise: Floats, ends: Floats, counted: Flags | None = None
    ) -> tuple[InnovationState, Track]:
        """Fold residuals (observed minus baseline; NaN is a gap) into the state.

        Args:
            state: of S streams.
            residuals: on the scale of the effect, [stream, point].
            noise: their standard deviation, which of counts varies with traffic, [stream, point].
            ends: epoch seconds, [point].
            counted: [point]; False for points that follow exposure but are no evidence (warm-up).

        Raises:
            ShapeError: state, residuals and calibration disagree.
        """
        if residuals.shape != (state.points.size, ends.size) or len(self.unit) != state.points.size:
            raise ShapeError(f"residuals {residuals.shape} do not fit {state.points.size} streams x {ends.size} points")
        track = Track.empty(*residuals.shape)
        for b, end in enumerate(ends):
            evidence = counted is None or bool(counted[b])
            state = self.step(state, residuals[:, b] / noise[:, b], self.unit / noise[:, b], end, evidence)
            track.regressed[:, b] = self.log_worse(state)
            track.healthy[:, b] = self._log_healthy(state)
            track.harm[:, b], began = self._harm(state)
            onset = end - (state.exposed - 1 - began) * self.block
            track.onset[:, b] = np.where(began > 0, onset, state.first)
        return state, track

    def step(
        self, state: InnovationState, value: Floats, size: Floats, end: float, counted: bool = True
    ) -> InnovationState:
        """Fold one point.

        Args:
            state: of S streams.
            value: the residual in its own standard deviations, [stream]; NaN is a gap.
            size: of a shift by one `unit` in it, [stream].
            end: epoch seconds.
            counted: whether it is evidence.
        """
        seen = np.isfinite(value)
        evidence = seen & counted
        value = np.where(seen, value, state.means[:, 0])
        innovation = value - (self.memory.weights * state.means).sum(axis=1)
        variance = self.memory.sigma**2
        clipped = np.clip(innovation, -self.clip * self.memory.sigma, self.clip * self.memory.sigma)
        # All streams of a rule are exposed together.
        now = state.exposed[:1] if state.exposed.size else np.zeros(1)
        weights = np.concatenate([self.memory.shift(now - self.onsets), self.memory.drift(now) / self.horizon], axis=1)
        weights *= np.where(seen, size, 1.0)[:, None]
        rest = self.memory.rest
        scale = np.where(evidence, 1.0 / variance, 0.0)
        steps = np.stack(
            [weights * clipped[:, None], weights**2, rest[:, None] * weights, weights * innovation[:, None]], axis=1
        )
        return InnovationState(
            means=self.memory.after(state.means, value),
            sums=state.sums + scale[:, None, None] * steps,
            level=state.level + scale[:, None] * np.column_stack([rest * clipped, rest**2, rest * innovation]),
            exposed=state.exposed + 1,
            points=state.points + evidence,
            first=np.where(np.isnan(state.first) & evidence, end, state.first),
        )

    def log_worse(self, state: InnovationState) -> Floats:
        """Return log e against "not worse than the regress margin", [stream]."""
        shrink = (self.drift / (1.0 + self.drift * state.level[:, 1]))[:, None]
        score, information, shared = (state.sums[:, each] for each in range(3))
        score = score - shrink * shared * state.level[:, :1]
        information = information - shrink * shared**2
        tolerated = self._in_units(self.regress_margin)[:, None]
        sides = [
            self._mixture(side * score - tolerated * information, information) + self._log_prior for side in self._sides
        ]
        found = np.concatenate(sides, axis=1)
        top = found.max(axis=1)
        log_e = top + np.log(np.exp(found - top[:, None]).sum(axis=1)) - np.log(len(sides))
        return np.asarray(np.minimum(log_e, CAP * state.points))

    @property
    def _sides(self) -> tuple[int, ...]:
        return (self.sign,) if self.sign else (1, -1)

    def _mixture(self, score: Floats, information: Floats) -> Floats:
        """Return log e of a shift above zero, [stream, alternative]: half-normal mixtures of two scales."""
        small = _half_normal(score, information, np.full((len(score), 1), SMALL))
        large = _half_normal(score, information, self._large)
        return log_add(np.log(SMALL_WEIGHT) + small, np.log(1 - SMALL_WEIGHT) + large)

    @cached_property
    def _large(self) -> Floats:
        return np.maximum(SMALL, self._in_units(self.margin))[:, None]

    def _in_units(self, margin: float) -> Floats:
        """Turn a relative margin into a shift in units of the series, in the direction of harm, [stream]."""
        if not self.logarithmic:
            return np.asarray(margin / self.unit)
        return np.asarray((np.log1p(margin) if self.sign >= 0 else -np.log1p(-margin)) / self.unit)

    def _at_once(self, state: InnovationState) -> tuple[Floats, Floats, Floats]:
        """Return clipped score and information of a shift at once, the level integrated out; and the raw score."""
        shrink = self.drift / (1.0 + self.drift * state.level[:, 1])
        score, information, shared, raw = state.sums[:, :, 0].T
        left = shrink * shared
        return score - left * state.level[:, 0], information - left * shared, raw - left * state.level[:, 2]

    def _log_healthy(self, state: InnovationState) -> Floats:
        """Return log e against "worse than the margin", [stream].

        Clipping hides spikes of either sign; health must be proven with and without it, and in both directions where
        either is worse.
        """
        score, information, raw = self._at_once(state)
        tolerated = self._in_units(self.margin)
        sides = [
            _half_normal(tolerated * information - np.maximum(side * score, side * raw), information, self._large[:, 0])
            for side in self._sides
        ]
        return np.minimum(np.minimum.reduce(sides), CAP * state.points)

    def _harm(self, state: InnovationState) -> tuple[Floats, Floats]:
        """Return the estimated shift on the scale of the effect, more being worse, and when it began, both [stream].

        It is that of the moment at which a shift explains the innovations best, in blocks since exposure; -inf where
        unknown.
        """
        score, information = state.sums[:, 0, :-1], state.sums[:, 1, :-1]
        known = information > 0
        gain = np.where(known, (self.sign * score if self.sign else np.abs(score)), -np.inf)
        gain = np.where(known, np.maximum(gain, 0.0) ** 2 / np.where(known, information, 1.0), -np.inf)
        best, score = gain.argmax(axis=1)[:, None], state.sums[:, 3, :-1]
        estimate = np.take_along_axis(score / np.where(known, information, 1.0), best, axis=1)[:, 0]
        _, v, raw = self._at_once(state)
        at_once = raw / np.where(v > 0, v, 1.0)
        estimate = np.where(best[:, 0] == 0, at_once, estimate) * self.unit
        harm = self.sign * estimate if self.sign else np.abs(estimate)
        return np.where(known.any(axis=1), harm, -np.inf), self.onsets[best[:, 0]]

    def snapshot(self, state: InnovationState, alpha: float) -> Snapshot:
        """Return the shift with its confidence sequence at level 1 - alpha, and the evidence."""
        _, information, raw = self._at_once(state)
        known = information > 0
        v, scale = np.where(known, information, 1.0), self._large[:, 0]
        estimate = raw / v
        spread = 1.0 + v * scale**2
        reach = np.sqrt(spread / (v**2 * scale**2) * (np.log(spread) + 2 * np.log(1 / alpha)))
        now = state.exposed[:1] if state.exposed.size else np.zeros(1)
        per_point = self.memory.shift(now)[:, 0] ** 2 / self.memory.sigma**2
        harm, _ = self._harm(state)
        return Snapshot(
            measure="ratio" if self.logarithmic else "relative",
            estimate=np.where(known, estimate * self.unit, np.nan),
            lower=np.where(known, (estimate - reach) * self.unit, np.nan),
            upper=np.where(known, (estimate + reach) * self.unit, np.nan),
            harm=harm,
            log_regressed=self.log_worse(state),
            log_healthy=self._log_healthy(state),
            toward_healthy=per_point * self._in_units(self.margin) ** 2 / 2,
            toward_regressed=per_point * (np.maximum(harm, 0.0) / self.unit) ** 2 / 2,
            events_per_block=np.ones_like(v),
            scale=np.zeros_like(v),
        )


def _half_normal(score: Floats, information: Floats, scale: Floats) -> Floats:
    """Return log e of a shift above zero whose size is half-normal."""
    spread = 1.0 + information * scale**2
    # Below that the sum changes by no more than a logarithm, and the chance has no number any more.
    slope = np.maximum(score * scale / np.sqrt(spread), LEAST)
    return np.asarray(-0.5 * np.log(spread) + slope**2 / 2 + np.log(2.0 * ndtr(slope)))

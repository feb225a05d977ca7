"""A series judged against its own past, or against a control: autoregressive innovations.

Minutes of one gauge are not independent: a slow minute follows a slow minute. The series is whitened by an
autoregression fitted before exposure; a level shift of size d then shows in each innovation with a known weight, the
jump itself most of all. The level the series is held against was estimated too, and its error enters as a random
effect, so that a long watch of a quiet series does not turn that error into evidence.

Limits, said in every verdict that rests on this: Gaussian innovations (clipped), a level shift from exposure on, a
stable autoregression. Nothing here is calibrated on placebos.

References:
    Howard, Ramdas, McAuliffe, Sekhon (2021), Ann. Statist. 49(2): one-sided normal mixtures.
    Box and Tiao (1975), JASA 70: intervention effects in autoregressive noise.

Example:
    White noise of standard deviation 1, then a shift of one standard deviation.

    >>> import numpy as np
    >>> method = Innovations(sign=1, margin=0.5, clip=2.5, ar=np.zeros((1, 1)), sigma=np.ones(1), drift=np.zeros(1))
    >>> rng = np.random.default_rng(1)
    >>> _, track = method.fold(method.start(1), rng.normal(1.0, 1.0, (1, 60)), 60.0 * np.arange(60))
    >>> bool(track.regressed[0, -1] > np.log(100))
    True
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr

from watcher.errors import ShapeError
from watcher.evidence.track import CAP, ArrayState, Snapshot, Track
from watcher.model import Flags, Floats


@dataclass(frozen=True)
class InnovationState(ArrayState):
    """Fixed size per stream.

    `lags` [stream, lag] the latest residuals, newest first; `sums` [stream, 7]: weighted and plain sums of clipped
    innovations, the same of raw ones (all over the variance), and the three information sums V_w, V_c, V_x;
    `exposed` [stream] points since exposure, `points` [stream] how many of them counted as evidence; `first`
    [stream] when the first of those was (epoch seconds).
    """

    lags: Floats
    sums: Floats
    exposed: Floats
    points: Floats
    first: Floats


@dataclass(frozen=True)
class Innovations:
    """The method for one rule: residuals in, evidence of a level shift out.

    `margin` and `regress_margin` are shifts in units of the residual (log ratios, or shares of the level);
    `clip` is in standard deviations of an innovation. Per stream: `ar` [stream, lag], `sigma` [stream], `drift`
    [stream] variance of the baseline's own error.
    """

    sign: int
    margin: float
    clip: float
    ar: Floats
    sigma: Floats
    drift: Floats
    regress_margin: float = 0.0
    logarithmic: bool = True

    def start(self, streams: int, tail: Floats | None = None) -> InnovationState:
        """Return the state at exposure; `tail` [stream, lag] holds the last residuals before it, newest first."""
        return InnovationState(
            lags=np.zeros((streams, self.ar.shape[1])) if tail is None else tail,
            sums=np.zeros((streams, 7)),
            exposed=np.zeros(streams),
            points=np.zeros(streams),
            first=np.full(streams, np.nan),
        )

    def fold(
        self, state: InnovationState, residuals: Floats, ends: Floats, counted: Flags | None = None
    ) -> tuple[InnovationState, Track]:
        """Fold residuals (observed minus baseline; NaN is a gap) into the state.

        Args:
            state: of S streams.
            residuals: shape [stream, point].
            ends: epoch seconds, shape [point].
            counted: shape [point]; False for points that follow exposure but are no evidence (warm-up).

        Raises:
            ShapeError: state, residuals and calibration disagree.
        """
        if residuals.shape != (state.points.size, ends.size) or len(self.sigma) != state.points.size:
            raise ShapeError(f"residuals {residuals.shape} do not fit {state.points.size} streams x {ends.size} points")
        track = Track.empty(*residuals.shape)
        for b, end in enumerate(ends):
            state = self._fold_point(state, residuals[:, b], end, counted is None or bool(counted[b]))
            shift, information, raw = self._adjusted(state.sums)
            track.regressed[:, b] = self._log_e(shift - self._null * information, information, state.points)
            # Clipping hides spikes of either sign; health must be proven with and without it.
            track.healthy[:, b] = self._log_e(
                self._tolerated * information - np.maximum(shift, raw), information, state.points
            )
            track.harm[:, b] = np.where(information > 0, raw / np.where(information > 0, information, 1.0), -np.inf)
            track.onset[:, b] = state.first
        return state, track

    def _fold_point(self, state: InnovationState, residual: Floats, end: float, counted: bool) -> InnovationState:
        seen = np.isfinite(residual)
        evidence = seen & counted
        expected = (self.ar * state.lags).sum(axis=1)
        value = np.where(seen, residual, expected)
        innovation = self.sign * (value - expected)
        lags = self.ar.shape[1]
        used = np.arange(lags) < state.exposed[:, None]
        weight = 1.0 - (self.ar * used).sum(axis=1)
        rest = 1.0 - self.ar.sum(axis=1)
        variance = self.sigma**2
        clipped = np.clip(innovation, -self.clip * self.sigma, self.clip * self.sigma)
        steps = np.column_stack(
            [
                weight * clipped,
                rest * clipped,
                weight * innovation,
                rest * innovation,
                weight**2,
                rest**2,
                rest * weight,
            ]
        )
        return InnovationState(
            lags=np.column_stack([value, state.lags[:, :-1]]),
            sums=state.sums + np.where(evidence[:, None], steps / variance[:, None], 0.0),
            exposed=state.exposed + 1,
            points=state.points + evidence,
            first=np.where(np.isnan(state.first) & evidence, end, state.first),
        )

    @property
    def _tolerated(self) -> float:
        return self._shift(self.margin)

    @property
    def _null(self) -> float:
        return self._shift(self.regress_margin)

    def _shift(self, margin: float) -> float:
        """Turn a relative margin into a shift of the residual, in the direction of harm."""
        if not self.logarithmic:
            return margin
        return float(np.log1p(margin) if self.sign > 0 else -np.log1p(-margin))

    def _adjusted(self, sums: Floats) -> tuple[Floats, Floats, Floats]:
        """Return score and information of the shift, the uncertain baseline integrated out; and the unclipped score."""
        clipped_w, clipped_c, raw_w, raw_c, v_w, v_c, v_x = sums.T
        shrink = self.drift / (1.0 + self.drift * v_c)
        information = v_w - shrink * v_x**2
        return clipped_w - shrink * v_x * clipped_c, information, raw_w - shrink * v_x * raw_c

    def _log_e(self, score: Floats, information: Floats, points: Floats) -> Floats:
        """Return log e of a shift above zero: half-normal mixture with the margin as its scale, capped a point."""
        spread = 1.0 + information * self._tolerated**2
        log_e = np.asarray(
            -0.5 * np.log(spread)
            + score**2 * self._tolerated**2 / (2 * spread)
            + np.log(2.0)
            + log_ndtr(score * self._tolerated / np.sqrt(spread))
        )
        return np.asarray(np.minimum(log_e, CAP * points))

    def snapshot(self, state: InnovationState, alpha: float) -> Snapshot:
        """Return the shift with its confidence sequence at level 1 - alpha, and the evidence."""
        score, information, raw = self._adjusted(state.sums)
        known = information > 0
        v = np.where(known, information, 1.0)
        estimate = raw / v
        spread = 1.0 + v * self._tolerated**2
        reach = np.sqrt(spread / (v**2 * self._tolerated**2) * (np.log(spread) + 2 * np.log(1 / alpha)))
        sides = np.sort(np.stack([self.sign * (estimate - reach), self.sign * (estimate + reach)]), axis=0)
        per_point = v / np.maximum(state.points, 1.0)
        return Snapshot(
            measure="ratio" if self.logarithmic else "relative",
            estimate=np.where(known, self.sign * estimate, np.nan),
            lower=np.where(known, sides[0], np.nan),
            upper=np.where(known, sides[1], np.nan),
            harm=np.where(known, estimate, -np.inf),
            log_regressed=self._log_e(score - self._null * information, information, state.points),
            log_healthy=self._log_e(self._tolerated * information - np.maximum(score, raw), information, state.points),
            toward_healthy=per_point * self._tolerated**2 / 2,
            toward_regressed=per_point * np.maximum(estimate, 0.0) ** 2 / 2,
            events_per_block=np.ones_like(v),
            scale=np.zeros_like(v),
        )

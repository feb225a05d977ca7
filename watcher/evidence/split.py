"""The traffic split: whether the arms got the shares of users that the flag or the load balancer claims.

Arms that differ in who is in them differ in everything, so a comparison of arms whose split is off says nothing about
the release. The counts of users in the two arms are held against the configured share by a Dirichlet mixture: what a
bettor wins who spreads a stake over the shares around the configured one, and lets the users decide. Under the
configured share the stake is a martingale, so an alarm at log e >= log(1 / alpha) is false with probability alpha at
most, however often it is looked at.

It holds for users or sessions, each assigned once and on its own. Requests come in clusters, and a test that takes
them for independent finds every split off: either count users, or temper by the dispersion. Tempering is exact for
clusters of one size; for clusters of varied sizes it is an approximation. Every block counts, those in which an arm
got nobody among them: to leave those out would be to choose by the outcome.

References:
    Lindon and Malek (2022), Anytime-valid inference for multinomial count data, NeurIPS (arXiv 2011.03567).
    Ville (1939) for the bound. Robbins (1970), Ann. Math. Statist. 41(5), for confidence sequences from mixtures.

Example:
    Half of the users should get the treatment, and 47 % do. After 20,000 of them that is no longer chance.

    >>> import numpy as np
    >>> method = SplitTest()
    >>> state, log_e = method.fold(method.start(np.array([0.5])), np.array([[5300.0] * 2]), np.array([[4700.0] * 2]))
    >>> bool(log_e[0, -1] > np.log(10_000))
    True
    >>> seen = method.snapshot(state, alpha=0.05)
    >>> [round(float(x[0]), 3) for x in (seen.lower, seen.estimate, seen.upper)]
    [0.458, 0.47, 0.482]
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import betaln, xlog1py, xlogy

from watcher.errors import ShapeError
from watcher.evidence.track import ArrayState
from watcher.model import Floats

STRENGTH = 100.0
"""Users the bet is worth: it looks for shares about 5 points beside a half, 2 points beside 5 %."""

_HALVINGS = 50


@dataclass(frozen=True)
class SplitState(ArrayState):
    """Fixed size per stream: `carried` [stream] log e of finished stages, and of the present one the `counts`
    [stream, 2], baseline then treatment, and the treatment's configured `share` [stream] (NaN: nobody knows it).
    """

    carried: Floats
    counts: Floats
    share: Floats


@dataclass(frozen=True)
class SplitSnapshot:
    """What the state says now; all arrays have shape [stream].

    `estimate` is the treatment's share in the present stage (NaN before the first user), `lower` and `upper` its
    confidence sequence; `log_e` is the evidence of all stages that the split is off.
    """

    estimate: Floats
    lower: Floats
    upper: Floats
    log_e: Floats


@dataclass(frozen=True)
class SplitTest:
    """The test of two arms. `dispersion`, at least 1, is how many users come and go as one."""

    dispersion: float = 1.0

    def start(self, share: Floats) -> SplitState:
        """Return the state before the first user.

        Args:
            share: of the treatment as configured, [stream]. Where it is NaN (unknown), 0 or 1 there is no split to
                test, and the stage adds no evidence.
        """
        return SplitState(np.zeros(share.shape), np.zeros((*share.shape, 2)), share.astype(float))

    def fold(self, state: SplitState, baseline: Floats, treatment: Floats) -> tuple[SplitState, Floats]:
        """Fold closed blocks of the present stage into the state.

        Args:
            state: of S streams.
            baseline: users that came to the arm, shape [stream, block]; likewise `treatment`.

        Returns:
            The new state, and log e in nats after each block, [stream, block].

        Raises:
            ShapeError: state and counts disagree.
        """
        if baseline.shape != treatment.shape or len(baseline) != state.share.size:
            raise ShapeError(f"counts {baseline.shape}, {treatment.shape} do not fit {state.share.size} streams")
        given = np.stack([baseline, treatment], axis=2)
        counts = state.counts[:, None] + np.cumsum(given, axis=1)
        log_e = state.carried[:, None] + self._log_e(counts, state.share[:, None])
        return replace(state, counts=state.counts + given.sum(axis=1)), log_e

    def restage(self, state: SplitState, share: Floats) -> SplitState:
        """Begin a stage: fresh counts against its own share, [stream]; the evidence of those before is kept."""
        kept = state.carried + self._log_e(state.counts, state.share)
        return replace(self.start(share), carried=kept)

    def snapshot(self, state: SplitState, alpha: float) -> SplitSnapshot:
        """Return the observed share with its confidence sequence at level 1 - alpha, and the evidence.

        The interval holds the shares that the same bet does not refute: the configured one lies outside exactly when
        the present stage alone refutes it at alpha.
        """
        counts, total = state.counts / self.dispersion, state.counts.sum(axis=1)
        level = _mixture(counts, _proper(state.share)) - np.log(1 / alpha)
        estimate = np.divide(state.counts[:, 1], total, out=np.full_like(total, np.nan), where=total > 0)
        peak = np.where(total > 0, estimate, 0.5)
        lower, upper = (_reach(counts, level, peak, end) for end in (0.0, 1.0))
        return SplitSnapshot(estimate, lower, upper, state.carried + self._log_e(state.counts, state.share))

    def _log_e(self, counts: Floats, share: Floats) -> Floats:
        """Return log e of one stage: counts [..., 2] against shares [...]."""
        counts, proper = counts / self.dispersion, _proper(share)
        return np.where(proper == share, _mixture(counts, proper) - _log_likelihood(counts, proper), 0.0)


def _proper(share: Floats) -> Floats:
    """Return shares, with a half where there is nothing to split."""
    return np.where((share > 0) & (share < 1), share, 0.5)


def _log_likelihood(counts: Floats, share: Floats) -> Floats:
    """Return the log likelihood of a share of the treatment, for users in the order they came."""
    return np.asarray(xlog1py(counts[..., 0], -share) + xlogy(counts[..., 1], share))


def _mixture(counts: Floats, share: Floats) -> Floats:
    """Return the log likelihood under the bet: shares drawn from a beta distribution around the configured one."""
    a, b = STRENGTH * (1 - share), STRENGTH * share
    return np.asarray(betaln(a + counts[..., 0], b + counts[..., 1]) - betaln(a, b))


def _reach(counts: Floats, level: Floats, peak: Floats, end: float) -> Floats:
    """Return how far from the likeliest share towards 0 or 1 the log likelihood stays above a level, by bisection."""
    inside, outside = peak, np.full_like(peak, end)
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        above = _log_likelihood(counts, middle) >= level
        inside, outside = np.where(above, middle, inside), np.where(above, outside, middle)
    return outside

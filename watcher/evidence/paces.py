"""How fast evidence grows: the nats a block adds, for counts in two arms, for latencies, and for series.

A pace knows a stream's rate and traffic, and how much of what they say dispersion and units take away. Effects are
positive where they are worse, whichever way that is, on the log scale (of a series, maybe as shares of its level).

References:
    Kullback and Leibler (1951), Ann. Math. Statist. 22(1). Farrington and Manning (1990), Stat. Med. 9: the closest
    rates under a margin.

Example:
    The smaller the treatment's share, the slower: at 5 % of the traffic, a fifth of what half of it gives.

    >>> nats = [float(Counts(rate=0.01, traffic=200.0, share=share).gain(np.log(2), 0.0)) for share in (0.5, 0.05)]
    >>> [round(each, 3) for each in nats]
    [0.17, 0.036]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import rel_entr

from watcher.evidence.buckets import Buckets
from watcher.evidence.innovations import Innovations
from watcher.model import Floats

Number = Floats | float

_BETS = 1.4
"""Nats that bets on several sizes and onsets cost: measured 0.9 to 1.6 at 1.5 to 3 times the errors (about 1.0 for the
sizes, 0.4 for the onset), 2 at the ends of the range and for margins of a few per cent."""

_TWO_WAYS = float(np.log(2))
"""Nats that averaging two ways to look at a latency costs."""


def information(
    rate: Number, ratio: Number, share: Number, against: Number = 1.0, *, bernoulli: bool = False
) -> Floats:
    """Return the nats one exposure brings against "the ratio is `against`" while it is `ratio` (J).

    It is the smallest Kullback-Leibler divergence to any pair of rates with that ratio: no test learns faster.

    Args:
        rate: baseline events per exposure.
        ratio: the treatment's rate over the baseline's.
        share: of all exposures, the treatment's.
        against: the ratio to be ruled out: 1 to find harm, what the margin allows to prove health.
        bernoulli: each exposure has one outcome; else events are Poisson, as rare ones are either way.
    """
    treated = np.minimum(rate * np.asarray(ratio), 1.0) if bernoulli else rate * np.asarray(ratio)
    events = share * treated + (1 - share) * rate
    if not bernoulli:
        closest = events / (share * against + 1 - share)
        return np.asarray(share * rel_entr(treated, against * closest) + (1 - share) * rel_entr(rate, closest))
    linear = against * (share + (1 - share) * rate) + share * treated + 1 - share
    closest = 2 * events / (linear + np.sqrt(np.maximum(linear**2 - 4 * against * events, 0.0)))

    def divergence(truth: Number, null: Number) -> Floats:
        return np.asarray(rel_entr(truth, null) + rel_entr(1 - truth, np.maximum(1 - null, 0.0)))

    return np.asarray(share * divergence(treated, against * closest) + (1 - share) * divergence(rate, closest))


@dataclass(frozen=True)
class Counts:
    """The pace of evidence from events of two arms at the same time.

    Effects are log ratios of harm: positive is worse, whichever way (`sign` is +1 when a higher rate is). `traffic` is
    the exposure of both arms a block, of which the treatment has `share`. `dispersion` divides what events say;
    `tau` is the standard deviation of the log ratio that units alone cause.
    """

    rate: float
    traffic: float
    share: float
    sign: int = 1
    dispersion: float = 1.0
    tau: float = 0.0
    bernoulli: bool = False
    overhead: ClassVar[float] = _BETS

    def gain(self, effect: Number, null: Number) -> Floats:
        """Return the nats a block adds against a null effect while the true one is `effect`."""
        each = information(self.rate, self.ratio(effect), self.share, self.ratio(null), bernoulli=self.bernoulli)
        return np.asarray(self.traffic * each / self.dispersion)

    def ratio(self, effect: Number) -> Floats:
        """Return the treatment's rate over the baseline's for an effect."""
        return np.asarray(np.exp(self.sign * np.asarray(effect)))

    def effect(self, ratio: Number) -> float:
        """Return the effect of a ratio."""
        return float(self.sign * np.log(ratio))


@dataclass(frozen=True)
class Level:
    """The pace of evidence from a series that keeps a new level: one value a block, autoregressive noise.

    Effects are shifts of the series in the direction of harm: log ratios where it is `logarithmic`, shares of the
    level otherwise. `precision` is what a block tells of the shift, (1 - sum of the autoregression)^2 over the
    variance of an innovation: the jump itself tells more, but falls into the warm-up. `tau` is the standard deviation
    of the error of the level before exposure.
    """

    precision: float
    tau: float
    sign: int = 1
    logarithmic: bool = True
    overhead: ClassVar[float] = _BETS

    @classmethod
    def of(cls, method: Innovations, present: float) -> Level:
        """Return the pace at which a method laid out for one stream goes, if so many of its blocks have a value."""
        unit = float(method.unit[0])
        whole = float(method.memory.rest[0]) / (float(method.memory.sigma[0]) * unit)
        error = unit * float(np.sqrt(method.drift[0]))
        return cls(present * whole**2, error, method.sign or 1, method.logarithmic)

    def gain(self, effect: Number, null: Number) -> Floats:
        """Return the nats a block adds against a null effect while the true one is `effect`."""
        return np.asarray(self.precision * (np.asarray(effect) - null) ** 2 / 2)

    def ratio(self, effect: Number) -> Floats:
        """Return the level over the baseline's for an effect."""
        moved = self.sign * np.asarray(effect, dtype=float)
        return np.asarray(np.exp(moved) if self.logarithmic else np.maximum(1.0 + moved, 0.0))

    def effect(self, ratio: Number) -> float:
        """Return the effect of a ratio."""
        return float(self.sign * (np.log(ratio) if self.logarithmic else ratio - 1.0))


@dataclass(frozen=True)
class Latency:
    """The pace of evidence from the whole histograms of two arms, one stream; effects are log ratios of latency.

    `usual` and `middles` [bucket] are the baseline's shape and the logs of the buckets' middles. `proofs` are pairs of
    shares that prove health within the margin: of the baseline above an edge, and above the one that the margin allows
    the treatment. `tau` is the standard deviation of the log ratio that units alone cause.
    """

    usual: Floats
    middles: Floats
    proofs: tuple[tuple[float, float], ...]
    traffic: float
    share: float
    dispersion: float = 1.0
    tau: float = 0.0
    sign: ClassVar[int] = 1
    overhead: ClassVar[float] = _BETS + _TWO_WAYS

    @classmethod
    def of(cls, method: Buckets, traffic: float, share: float) -> Latency:
        """Return the pace at which a method laid out for one stream goes, whatever the units."""
        usual = method.shape[0] / method.shape[0].sum()
        over = 1.0 - np.cumsum(usual)
        proofs = tuple((float(over[int(u)]), float(over[int(v)])) for u, v in method.pairs[0] if u >= 0)
        return cls(usual, method.middles, proofs, traffic, share, float(np.max(method.dispersion)))

    def offset(self, method: Buckets) -> float:
        """Return tau of the proof for a spread between units of 1: theirs is of the share above an edge."""
        edges = [int(u) for u, _ in method.pairs[0] if u >= 0]
        pairs = zip(edges, self.proofs, strict=True)
        return max(float(method.spreads[u] * method.margin / np.log(p / max(q, 1e-12))) for u, (p, q) in pairs)

    def gain(self, effect: Number, null: Number) -> Floats:
        """Return the nats a block adds against "not slower" (null 0), or against "slower than the margin"."""
        if np.any(null):
            each = [information(above, allowed / above, self.share, bernoulli=True) for above, allowed in self.proofs]
            return np.full(np.shape(null), self.traffic * float(min(each)) / self.dispersion)
        centred = self.middles - self.usual @ self.middles
        tilt = np.asarray(effect)[..., None] * centred / (self.usual @ centred**2)
        slower = self.usual * np.exp(np.clip(tilt, -20.0, 20.0))
        slower /= slower.sum(axis=-1, keepdims=True)
        mixed = self.share * slower + (1 - self.share) * self.usual
        apart = self.share * rel_entr(slower, mixed) + (1 - self.share) * rel_entr(self.usual, mixed)
        return np.asarray(self.traffic * apart.sum(axis=-1) / self.dispersion)

    def ratio(self, effect: Number) -> Floats:
        """Return the treatment's latency over the baseline's for an effect."""
        return np.asarray(np.exp(effect))

    def effect(self, ratio: Number) -> float:
        """Return the effect of a ratio."""
        return float(np.log(ratio))


Pace = Counts | Level | Latency

"""Which method judges which stream of a rule, and how it is laid out: fixed before the watch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from watcher.calibration import direction, in_points, laid_out, on_series
from watcher.calibration.canaries import FRESH
from watcher.evidence.buckets import Buckets
from watcher.evidence.canaries import Canaries
from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory
from watcher.evidence.profile import Profile
from watcher.evidence.proportion import FROM, Proportion
from watcher.evidence.spikes import Spikes
from watcher.model import Calibration, Floats, Kind, Labels, Rule, Watch, Worse

UNKNOWN_SHARE = 0.9
"""What a good share is taken to be where nothing is known of it: it buys power, never validity."""


def tolerated(rule: Rule, margin: float, points: bool = False) -> float:
    """Return a margin as harm on the scale of the effect: a log ratio, or a difference of shares (`points`)."""
    if points:
        return margin
    return float(-np.log1p(-margin)) if rule.worse is Worse.LOWER else float(np.log1p(margin))


Method = Profile | Proportion | Buckets | Innovations | Spikes | Canaries


@dataclass(frozen=True)
class Methods:
    """The methods for one rule of a watch, as its calibration has them."""

    watch: Watch
    rule: Rule
    calibration: Calibration

    @property
    def sign(self) -> int:
        """+1 when more is worse, -1 when less is, 0 when either is."""
        return direction(self.rule)

    @property
    def in_points(self) -> bool:
        """Whether effects are differences of shares."""
        return in_points(self.rule, self.watch.design)

    @property
    def on_series(self) -> bool:
        """Whether the rule is judged on a series."""
        return on_series(self.rule, self.watch.design)

    @property
    def by_unit(self) -> bool:
        """Whether the rule is judged on readings of single units."""
        return self.calibration.reports is not None

    def chosen(self, streams: tuple[Labels, ...]) -> dict[str, tuple[int, ...]]:
        """Return the rows of these streams that each method judges: by kind, design and the baseline's rate."""
        everyone = tuple(range(len(streams)))
        if not streams:
            return {}
        if self.by_unit:
            return {"canaries": everyone}
        if self.on_series:
            if self.calibration.memory is None:
                return {}
            # Spikes count only where placebos say how many of them there always are.
            return {"innovations": everyone, "spikes": everyone} if self.loud else {"innovations": everyone}
        # What is counted at another moment than its total may exceed it: no proportion.
        part = self.rule.kind is not Kind.RATE
        common = [self.in_points or (part and bool(rate >= FROM)) for rate in self._rates(streams)]
        chosen = {
            "profile": tuple(row for row in everyone if not common[row]),
            "proportion": tuple(row for row in everyone if common[row]),
            "buckets": everyone if self.calibration.edges else (),
        }
        return {method: rows for method, rows in chosen.items() if rows}

    def laid_out(self, name: str, streams: tuple[Labels, ...]) -> Method:
        """Return a method laid out for some streams."""
        calibration, rule = self.calibration, self.rule
        if name == "innovations":
            return self._innovations(streams)
        if name == "spikes":
            return Spikes.of(self.sign, self.watch.horizon / self.watch.block)
        if name == "canaries":
            return self._canaries(streams)
        laid: dict[str, Any] = {
            "margin": calibration.margin,
            "dispersion": calibration.dispersion,
            "horizon": self.watch.horizon / self.watch.block,
            "units": calibration.units,
        }
        if name == "buckets":
            nothing = np.zeros((len(calibration.streams), len(calibration.edges)))
            shape = self.of_streams(nothing if calibration.shape is None else calibration.shape, streams, 0.0)
            return Buckets.of(
                **laid, edges=calibration.edges, shape=shape, spreads=calibration.spreads, pace=calibration.pace
            )
        laid |= {"sign": self.sign, "regress_margin": rule.regress_margin}
        if name == "profile":
            return Profile.of(**laid)
        rates = self._rates(streams)
        if self.in_points:
            laid["regress_margin"] = rule.regress_margin * float(np.mean(rates))
        return Proportion.of(**laid, rate=rates, absolute=self.in_points)

    @property
    def loud(self) -> bool:
        """Whether a series is judged by spikes, too."""
        return self.calibration.bar is not None

    def tempered(self, streams: tuple[Labels, ...]) -> Floats:
        """Return what evidence of shifts and of spikes is multiplied by, [stream, 2]."""
        plain = np.ones((len(self.calibration.streams), 2))
        temper = plain if self.calibration.temper is None else self.calibration.temper
        return self.of_streams(temper, streams, 1.0)

    @property
    def partial(self) -> bool:
        """Whether users were exposed inside a block, which then is neither before nor after."""
        since = self.watch.release.exposed_at / self.watch.block
        return bool(abs(since - round(since)) * self.watch.block > 1e-6)

    def tails(self, streams: tuple[Labels, ...]) -> Floats | None:
        """Return what a series remembers at exposure, [stream, mean]."""
        return None if self.calibration.tail is None else self.of_streams(self.calibration.tail, streams, 0.0)

    def of_streams(self, array: Floats | None, streams: tuple[Labels, ...], unknown: float) -> Floats:
        """Return the rows of a calibrated array for these streams; `unknown` where none was calibrated."""
        if array is None:
            return np.full(len(streams), unknown)
        if streams == self.calibration.streams:
            return array
        rows = {stream: row for row, stream in enumerate(self.calibration.streams)}
        out = np.full((len(streams), *array.shape[1:]), unknown)
        for row, stream in enumerate(streams):
            if stream in rows:
                out[row] = array[rows[stream]]
        return out

    def _rates(self, streams: tuple[Labels, ...]) -> Floats:
        """Return what is known of each stream's baseline share; where nothing is, what is usual of such a rule."""
        usual = UNKNOWN_SHARE if self.rule.worse is Worse.LOWER else 0.0
        return np.nan_to_num(self.of_streams(self.calibration.rate, streams, np.nan), nan=usual)

    def _innovations(self, streams: tuple[Labels, ...]) -> Innovations:
        method = laid_out(self.rule, self.watch, self.calibration)
        # A stream without history has no baseline: its points are gaps, so any scale will do.
        weights, sigma = method.memory.weights, method.memory.sigma
        return replace(
            method,
            memory=Memory(self.of_streams(weights, streams, 0.0), self.of_streams(sigma, streams, 1.0)),
            drift=self.of_streams(method.drift, streams, 0.0),
            unit=self.of_streams(method.unit, streams, 1.0),
        )

    def _canaries(self, streams: tuple[Labels, ...]) -> Canaries:
        calibration, middle = self.calibration, self.rule.across
        assert middle in ("mean", "median")
        # Of a stream without history the noise is learnt as it comes; what its readings are shares of is not known.
        return Canaries(
            sign=self.sign,
            margin=calibration.margin,
            regress_margin=self.rule.regress_margin,
            middle=middle,
            logarithmic=calibration.logarithmic,
            noise=self.of_streams(calibration.sigma, streams, 0.0),
            own=self.of_streams(calibration.drift, streams, FRESH**2),
            scale=self.of_streams(calibration.scale, streams, 1.0 if calibration.logarithmic else np.nan),
        )

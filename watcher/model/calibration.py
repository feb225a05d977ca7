"""What is learnt before exposure, and then frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from watcher.model.words import Floats, Labels

PER_STREAM = (
    "rate", "shape", "scale", "usual", "noise", "unit", "memory", "sigma", "drift", "tail", "level", "spread_lately",
    "beta", "temper", "reached", "unrest", "reports", "continuous",
)  # fmt: skip
_ARRAYS = (*PER_STREAM, "placebos")


@dataclass(frozen=True)
class Calibration:
    """What is learnt of one rule before exposure, and then frozen.

    `dispersion` multiplies the variance of counts: the larger of what halves of the units differ by (`between_units`)
    and what counts vary by over time (`over_time`), each None where it could not be learnt. `spread` is the standard
    deviation of the log rate between units, learnt from `units` of them (0 of 0: unknown). `came_from` says where all
    this was learnt ("history 24h", "file", "assumed"). `margin` is the rule's margin, relative unless the rule's is
    absolute. Of the baseline, per stream: `rate` [stream] events per exposure, and
    for latency `shape` [stream, bucket] requests per bucket, with upper `edges`, the `spreads` of the
    share over each edge and that of the mean log latency (`pace`).

    The rest serves rules judged on a series (gauges, before/after): of logarithms, or of shares of `scale` [stream].
    `usual` [stream, block] is what is expected of each block from the one that ends at `usual_from` on; the control
    counts `beta` [stream] of itself (None: all). Deviations are measured in `unit` [stream], their standard deviation;
    of counts also by `noise` [stream, 2], how many times their chance variance they vary, and the variance of their
    rate itself. `memory` [stream, mean] foretells a deviation, `sigma` [stream] is what is left, `drift` [stream] the
    variance of the level's own error, `tail` [stream, mean] what is remembered at exposure, `level` and
    `spread_lately` [stream] those of the last hours before it. `points` is how many the series had; with none it
    cannot be judged. `temper` [stream, 2] puts the evidence of shifts and of spikes on the scale of placebos, of which
    `apart` do not overlap; `placebos` [placebo] is what each reached over all rules, and `bar` what a release must
    exceed (None: the history supports no such alpha, and the noise model alone decides).

    A gauge judged unit by unit has no level to be held against: its `sigma` is the standard deviation of a unit's
    reading about those of the others, and its `drift` the variance of a fresh unit's own level. Of the baseline's
    units it knows `reports` [stream, unit, 2], blocks in which each reported and in which it did not, and whether
    readings are `continuous` [stream], so that no two are ever alike by chance (1) or not (0).
    """

    streams: tuple[Labels, ...] = ()
    came_from: str = "assumed"
    dispersion: float = 1.0
    assumed: bool = True
    between_units: float | None = None
    over_time: float | None = None
    spread: float = 0.0
    units: int = 0
    margin: float = 0.5
    notes: tuple[str, ...] = ()
    rate: Floats | None = None
    edges: tuple[float, ...] = ()
    spreads: tuple[float, ...] = ()
    pace: float = 0.0
    shape: Floats | None = None
    logarithmic: bool = True
    points: int = 0
    scale: Floats | None = None
    usual: Floats | None = None
    usual_from: float = 0.0
    beta: Floats | None = None
    noise: Floats | None = None
    unit: Floats | None = None
    memory: Floats | None = None
    sigma: Floats | None = None
    drift: Floats | None = None
    tail: Floats | None = None
    level: Floats | None = None
    spread_lately: Floats | None = None
    temper: Floats | None = None
    reached: Floats | None = None
    """What every placebo reached on each stream, [stream, placebo]; not kept once `placebos` are put together."""
    placebos: Floats | None = None
    unrest: Floats | None = None
    """How far the hours before any placebo deviated at most, [stream]."""
    apart: int = 0
    bar: float | None = None
    contaminated: tuple[Labels, ...] = ()
    """Streams whose last hours before exposure were not usual: there is nothing to hold a release against."""
    reports: Floats | None = None
    continuous: Floats | None = None

    def noted(self, note: str) -> Calibration:
        """Return the calibration with a note added."""
        return replace(self, notes=(*self.notes, note))

    def only(self, stream: Labels) -> Calibration:
        """Return what concerns one stream; for a stream that was not there, what concerns all."""
        rows = [self.streams.index(stream)] if stream in self.streams else []
        arrays = {name: getattr(self, name) for name in PER_STREAM}
        kept: dict[str, Any] = {
            name: None if array is None or not rows else array[rows] for name, array in arrays.items()
        }
        return replace(self, streams=(stream,) if rows else (), **kept)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        raw = asdict(self)
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in raw.items()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Calibration:
        """Read back what `to_json` wrote."""
        fields: dict[str, Any] = {
            key: np.asarray(value, dtype=float) if key in _ARRAYS and value is not None else value
            for key, value in raw.items()
        }
        fields["streams"] = as_streams(raw["streams"])
        fields["contaminated"] = as_streams(raw.get("contaminated", ()))
        for name in ("notes", "edges", "spreads"):
            fields[name] = tuple(raw.get(name, ()))
        return cls(**fields)

    @cached_property
    def digest(self) -> str:
        """A short hash of everything that was learnt, shown with every verdict that used it."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]


def as_streams(raw: Any) -> tuple[Labels, ...]:
    """Read streams back from JSON lists."""
    return tuple(tuple((str(name), str(value)) for name, value in stream) for stream in raw)

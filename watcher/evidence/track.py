"""What every method of evidence hands to the judge."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

import numpy as np

from watcher.model import Floats

CAP = 3.0
"""Most nats one block may add, after tempering: what tempers it is itself an estimate."""


@dataclass(frozen=True)
class Track:
    """Evidence after each folded block; all arrays have shape [stream, block].

    `regressed` is log e against "not worse than the regress margin", `healthy` log e against "worse than the
    margin", `harm` the estimated effect since `onset`, when harm seems to have begun (epoch seconds), turned so that
    more is worse; -inf and NaN where none seems to have.
    """

    regressed: Floats
    healthy: Floats
    harm: Floats
    onset: Floats

    @classmethod
    def empty(cls, streams: int, blocks: int) -> Track:
        """Return a track that says nothing yet."""
        shape = (streams, blocks)
        return cls(np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf), np.full(shape, np.nan))


@dataclass(frozen=True)
class Snapshot:
    """What an evidence state says now; all arrays have shape [stream].

    `estimate`, `lower` and `upper` are the effect of treatment against baseline on the log scale (`measure`
    "ratio"), as a share of the level ("relative") or as such ("difference"), NaN where unknown and infinite where the
    data leave a bound open; the interval is a confidence sequence. `harm` is the effect since harm
    seems to have begun, turned so that more is worse; -inf when none has. `toward_*` is the log e each block is
    expected to add: towards `healthy` if nothing changed, towards `regressed` if the estimate is true. `scale` is the
    standard deviation of the effect that units alone cause.
    """

    measure: Literal["ratio", "relative", "difference"]
    estimate: Floats
    lower: Floats
    upper: Floats
    harm: Floats
    log_regressed: Floats
    log_healthy: Floats
    toward_healthy: Floats
    toward_regressed: Floats
    events_per_block: Floats
    scale: Floats


@dataclass(frozen=True)
class ArrayState:
    """A fixed-size evidence state: arrays whose first axis is the stream, and nothing else."""

    def to_json(self) -> dict[str, Any]:
        """Return arrays as texts: exact, strict JSON whatever is infinite, and half as long as digits."""
        return {field.name: packed(getattr(self, field.name)) for field in fields(self)}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """Read back what `to_json` wrote, or the lists of numbers that were written before."""
        return cls(**{field.name: unpacked(raw[field.name]) for field in fields(cls)})

    def grown(self, fresh: Self) -> Self:
        """Return this state with the streams of a fresh one appended: streams born during the watch."""
        pairs = {f.name: (getattr(self, f.name), getattr(fresh, f.name)) for f in fields(self)}
        return type(self)(**{name: np.concatenate(pair) for name, pair in pairs.items()})


def packed(array: Floats) -> str:
    """Return an array as its shape and, in base64, its numbers as little-endian doubles.

    >>> packed(np.array([[1.0, np.inf]]))
    '1x2:AAAAAAAA8D8AAAAAAADwfw=='
    """
    numbers = np.ascontiguousarray(array, dtype="<f8")
    return f"{'x'.join(map(str, array.shape))}:{b64encode(numbers.tobytes()).decode()}"


def unpacked(raw: Any) -> Floats:
    """Return the array that `packed` wrote; lists, whose numbers may be texts, become arrays, too.

    >>> unpacked(packed(np.array([[1.0, np.inf]]))).tolist(), unpacked([[1.0, "inf"]]).tolist()
    ([[1.0, inf]], [[1.0, inf]])
    """
    if not isinstance(raw, str):
        return np.asarray(raw, dtype=float)
    shape, _, numbers = raw.partition(":")
    found = np.frombuffer(b64decode(numbers, validate=True), dtype="<f8").astype(float)
    return found.reshape([int(each) for each in shape.split("x") if each])

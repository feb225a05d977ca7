"""What is kept of a rule between looks, and what a look says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from watcher.evidence.buckets import BucketState
from watcher.evidence.canaries import CanaryState
from watcher.evidence.innovations import InnovationState
from watcher.evidence.profile import ProfileState
from watcher.evidence.proportion import ProportionState
from watcher.evidence.quantiles import Quantile
from watcher.evidence.spikes import SpikeState
from watcher.evidence.track import ArrayState, Snapshot, Track, packed, unpacked
from watcher.model import Calibration, Flags, Floats, Labels, as_streams

STATES: dict[str, type[ArrayState]] = {
    "profile": ProfileState,
    "proportion": ProportionState,
    "buckets": BucketState,
    "innovations": InnovationState,
    "spikes": SpikeState,
    "canaries": CanaryState,
}
"""Methods by name, and what they keep."""


@dataclass(frozen=True)
class Part:
    """What one method keeps, for the streams whose positions are `rows`."""

    method: str
    rows: tuple[int, ...]
    state: ArrayState


@dataclass(frozen=True)
class EvidenceState:
    """All that is kept of one rule between looks: fixed size per stream, JSON-able, never needs the past again.

    `known` of the streams were there at the first look; the others were born later. `tallies` [stream, 4] sums
    what counted (baseline events, total, treatment events, total; for a gauge: sum of values, points); `idle`
    [stream, 2] counts the latest consecutive blocks without traffic, baseline then treatment; `blocks` that counted.
    `stage` is the latest stage that counted, `staged` how many blocks of it did, and `scaled` whether its units have
    been seen. `suspects` are the
    treatment's units, and `since` [stream, 1 + suspect, 4] what the baseline, and each of them, counted since harm
    seems to have begun.
    """

    streams: tuple[Labels, ...]
    known: int
    tallies: Floats
    idle: Floats
    blocks: int
    units: tuple[int, int]
    parts: tuple[Part, ...] = ()
    stage: int = 0
    staged: int = 0
    scaled: bool = False
    suspects: tuple[str, ...] = ()
    since: Floats | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON types; `from_json` is the inverse."""
        return {
            "streams": self.streams,
            "known": self.known,
            "tallies": packed(self.tallies),
            "idle": packed(self.idle),
            "blocks": self.blocks,
            "units": self.units,
            "parts": [{"method": part.method, "rows": part.rows, "state": part.state.to_json()} for part in self.parts],
            "stage": self.stage,
            "staged": self.staged,
            "scaled": self.scaled,
            "suspects": self.suspects,
            "since": None if self.since is None else packed(self.since),
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> EvidenceState:
        """Read back what `to_json` wrote."""
        parts = [
            Part(part["method"], tuple(part["rows"]), STATES[part["method"]].from_json(part["state"]))
            for part in raw["parts"]
        ]
        return cls(
            streams=as_streams(raw["streams"]),
            known=int(raw["known"]),
            tallies=unpacked(raw["tallies"]).reshape(-1, 4),
            idle=unpacked(raw["idle"]).reshape(-1, 2),
            blocks=int(raw["blocks"]),
            units=(int(raw["units"][0]), int(raw["units"][1])),
            parts=tuple(parts),
            stage=int(raw["stage"]),
            staged=int(raw["staged"]),
            scaled=bool(raw["scaled"]),
            suspects=tuple(raw["suspects"]),
            since=None if raw["since"] is None else unpacked(raw["since"]),
        )


@dataclass(frozen=True)
class Evidence:
    """What a rule's data say after a look.

    `track` and `ends` cover the blocks this look counted, [stream, block] and [block]; `snapshot` is None where no
    method could be applied (no history to judge a series by). `margin` is the tolerated harm, on the scale of the
    effect. `quantiles` name how much slower a latency is; `on_scale` [stream] tells where its health is decided on the
    latency scale. `alone` [stream, suspect] is about the log e that is left without each of the units. `faults` say
    why the comparison itself is broken, if it is. `unheard` [stream] is how surprising it is, in nats, that a treatment
    judged unit by unit has never been heard of; NaN once it has.
    """

    state: EvidenceState
    ends: Floats
    track: Track
    snapshot: Snapshot | None
    calibration: Calibration
    margin: float
    quantiles: Mapping[float, Quantile] | None = None
    on_scale: Flags | None = None
    alone: Floats | None = None
    faults: tuple[str, ...] = ()
    unheard: Floats | None = None

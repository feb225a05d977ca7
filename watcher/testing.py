"""In-memory source, switch, alerter and clock: for tests, notebooks and the demo. Public.

They stand in for the outside where no real server can be had, and for faults that a real one does not produce on
demand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from watcher.errors import AlertError, SourceDown, SourceRefused, SwitchError
from watcher.model import Alert, Arm, Floats, Labels, Observations, Reach, Request, SwitchState


@dataclass
class Clock:
    """A clock that goes only when told."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time, epoch seconds."""
        return self.now

    def advance(self, seconds: float) -> float:
        """Let time pass and return it."""
        self.now += seconds
        return self.now


@dataclass
class MemorySource:
    """Observations held in memory, by rule name; `down` makes every read fail."""

    observations: Mapping[str, Observations]
    down: str | None = None
    reads: int = 0

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the blocks asked for; those that were never written are empty."""
        if self.down is not None:
            raise SourceDown(self.down)
        unknown = [rule.name for rule in request.rules if rule.name not in self.observations]
        if unknown:
            raise SourceRefused(f"nothing is held of {', '.join(unknown)}")
        self.reads += 1
        return {rule.name: _window(self.observations[rule.name], request) for rule in request.rules}

    history = observe


def _window(held: Observations, request: Request) -> Observations:
    ends = request.ends
    at = {round(end, 6): i for i, end in enumerate(held.ends)}
    pick = np.array([at.get(round(end, 6), -1) for end in ends], dtype=int)

    def arm(given: Arm | None) -> Arm | None:
        if given is None:
            return None
        known = pick >= 0
        if not held.ends.size:
            empty = np.zeros((len(held.streams), len(given.units), ends.size))
            return Arm(given.units, empty, empty)
        cut = given.picked(blocks=pick)
        buckets = None if cut.buckets is None else np.where(known[:, None], cut.buckets, 0.0)
        return Arm(given.units, np.where(known, cut.events, 0.0), np.where(known, cut.total, 0.0), buckets)

    treatment = arm(held.treatment)
    assert treatment is not None
    return replace(held, ends=ends, treatment=treatment, baseline=arm(held.baseline))


def counts(
    ends: Floats, baseline: tuple[Floats, Floats] | None, treatment: tuple[Floats, Floats], stream: Labels = ()
) -> Observations:
    """Return one stream's observations from events and totals per block, each [block] or [unit, block].

    >>> counts(np.array([60.0]), None, (np.array([2.0]), np.array([9.0]))).treatment.total.shape
    (1, 1, 1)
    """

    def arm(given: tuple[Floats, Floats]) -> Arm:
        events, total = (np.atleast_2d(np.asarray(x, dtype=float))[None] for x in given)
        units = ("",) if events.shape[1] == 1 else tuple(f"unit-{i}" for i in range(events.shape[1]))
        return Arm(units, events, total)

    return Observations((stream,), ends, arm(treatment), None if baseline is None else arm(baseline))


@dataclass
class MemorySwitch:
    """Features that are on, in memory, each with its share of the users.

    `broken` makes every call fail; `stuck` makes it accept a kill and do nothing.
    """

    on: dict[str, float] = field(default_factory=dict)
    kills: list[str] = field(default_factory=list)
    promotions: list[tuple[str, float]] = field(default_factory=list)
    broken: str | None = None
    stuck: bool = False

    def read(self, feature: str) -> SwitchState:
        """Tell whether users get the feature."""
        if self.broken is not None:
            raise SwitchError(self.broken)
        share = self.on.get(feature, 0.0)
        return SwitchState(feature in self.on, share, shown=f"{100 * share:g} % in memory")

    def dry_run(self, feature: str) -> str:
        """Say what a kill would do."""
        return f"{feature}: {self.read(feature).shown} -> off"

    def kill(self, feature: str, reason: str) -> None:
        """Turn the feature off."""
        if self.broken is not None:
            raise SwitchError(self.broken)
        if not self.stuck and feature in self.on:
            del self.on[feature]
            self.kills.append(feature)

    def promote(self, feature: str, since: float, share: float) -> None:
        """Raise the share."""
        if self.read(feature).share != since:
            raise SwitchError(f"{feature} is not at {100 * since:g} % any more", permanent=True)
        self.on[feature] = share
        self.promotions.append((feature, share))


@dataclass
class MemoryAlerter:
    """Keeps what was delivered; `broken` makes every call fail."""

    delivered: list[Alert] = field(default_factory=list)
    broken: str | None = None

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Keep the alert."""
        if self.broken is not None:
            raise AlertError(self.broken)
        self.delivered.append(alert)
        return {"n": str(len(self.delivered))}

    def reach(self) -> Reach:
        """Tell that whoever holds this is told."""
        if self.broken is not None:
            raise AlertError(self.broken)
        return Reach("memory")

"""Outages of metrics, generated: what a source may do to a watch whose release is as good as what was there before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tests.timeline import EXPOSED, MINUTE, ratio, watch
from watcher.errors import SourceDown, SourceRefused, SourceTooLarge
from watcher.look import look, prepare, read_history
from watcher.model import Arm, Kill, Look, Observations, Request
from watcher.testing import MemorySource

FAULTS = (
    "down", "refused", "too large", "empty", "no control", "no treatment", "half the units of the control",
    "half the units of the treatment", "stale", "partial", "restarted under new names", "counted twice",
)  # fmt: skip
LENGTH = 20
"""Minutes of a watch, of which outages take a third or so."""
GOOD = ratio(LENGTH, rate=0.02)
WATCH = watch()
CALIBRATIONS = prepare(WATCH, read_history(WATCH, MemorySource({"errors": GOOD})))


@dataclass
class Outage(MemorySource):
    """Metrics in memory, with a fault in force or none."""

    fault: str = ""

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return what is left of the metrics, or raise what a source raises."""
        if self.fault == "down":
            raise SourceDown("HTTP 503")
        if self.fault == "refused":
            raise SourceRefused("it answered with a web page")
        if self.fault == "too large":
            raise SourceTooLarge("the answer is larger than 64 MiB")
        seen = super().observe(request)["errors"]
        return {"errors": self._spoilt(seen)}

    def _spoilt(self, seen: Observations) -> Observations:
        control, treatment = seen.baseline, seen.treatment
        assert control is not None
        if self.fault == "partial":
            return replace(seen, partial=True)
        if self.fault in ("empty", "no control", "stale"):
            control = _scaled(control, np.zeros(3))
        if self.fault in ("empty", "no treatment", "stale"):
            treatment = _scaled(treatment, np.zeros(3))
        if self.fault == "half the units of the control":
            control = _scaled(control, np.array([1.0, 0.0, 0.0]))
        if self.fault == "half the units of the treatment":
            treatment = _scaled(treatment, np.array([0.0, 1.0, 0.0]))
        if self.fault == "counted twice":
            control = _scaled(control, np.full(3, 2.0))
        if self.fault == "restarted under new names":
            treatment = replace(treatment, units=tuple(f"{unit}-again" for unit in treatment.units))
        return replace(seen, baseline=control, treatment=treatment)


def _scaled(arm: Arm, by: np.ndarray) -> Arm:
    """Return an arm whose units count so many times; 0: they are not there."""
    return replace(arm, events=arm.events * by[:, None], total=arm.total * by[:, None])


def script(rng: np.random.Generator) -> list[str]:
    """Return the fault of every minute: outages of one to eight minutes, of any kind, some right after another."""
    found: list[str] = []
    while len(found) < LENGTH:
        found += [""] * int(rng.geometric(0.2))
        found += [str(rng.choice(FAULTS))] * int(rng.integers(1, 9))
    return found[:LENGTH]


def lived(seed: int) -> Iterator[Look]:
    """Look at every minute of a script; now and then a look is missed, so that the next one reads several blocks."""
    rng = np.random.default_rng(seed)
    source, last = Outage({"errors": GOOD}), None
    for minute, fault in enumerate(script(rng), 1):
        if rng.random() < 0.15:
            continue
        source.fault = fault
        last = look(WATCH, source, CALIBRATIONS, last, EXPOSED + minute * MINUTE)
        yield last


def run(seeds: range) -> Counter[str]:
    """Live scripts; count what happened: scripts, looks, outcomes, kills, and refusals of kills."""
    found: Counter[str] = Counter()
    for seed in seeds:
        found["scripts"] += 1
        for seen in lived(seed):
            found["looks"] += 1
            found[seen.verdict.outcome.value] += 1
            found["unread"] += seen.problem is not None
            found["kills"] += sum(isinstance(action, Kill) for action in seen.actions)
    return found

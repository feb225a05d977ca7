"""Doubles: units of the baseline that are units of the treatment under another name.

Pods are replaced slot by slot, and what labels them lags behind. Two units never measure exactly the same of a quantity
that varies continuously, so one that reads, in the same minute, the treatment's very number is the treatment. From then
on it says nothing of the baseline, in any rule: it is no longer counted, and that is said. One coincidence is enough,
for readings of which no two were alike before exposure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from watcher.calibration import readings
from watcher.model import Arm, Calibration, Flags, Observations

DOUBLES = "doubles"
"""Name under which they are kept beside the states of rules."""

Doubles = Mapping[str, float]
"""Units by name, and the end of the block since which each is one (epoch seconds)."""


def doubles_in(seen: Mapping[str, Observations], calibrations: Mapping[str, Calibration], known: Doubles) -> Doubles:
    """Return the doubles known already, and those these blocks give away.

    Args:
        seen: newly closed blocks, by rule.
        calibrations: by rule; those that know which streams are continuous.
        known: as of the last look.
    """
    found = dict(known)
    for name, observations in seen.items():
        calibration = calibrations.get(name)
        if observations.baseline is None or calibration is None or calibration.continuous is None:
            continue
        sure = dict(zip(calibration.streams, calibration.continuous > 0, strict=True))
        rows = [row for row, stream in enumerate(observations.streams) if sure.get(stream, False)]
        same = _same(observations.baseline.picked(streams=rows), observations.treatment.picked(streams=rows))
        for unit, blocks in zip(observations.baseline.units, same, strict=True):
            if blocks.any():
                since = float(observations.ends[int(blocks.argmax())])
                found[unit] = min(found.get(unit, since), since)
    return found


def _same(baseline: Arm, treatment: Arm) -> Flags:
    """Tell where a unit of the baseline reads what one of the treatment does, in any stream, [unit, block]."""
    alike = np.zeros(baseline.total.shape, dtype=bool)
    ours, theirs = readings(baseline), readings(treatment)
    for unit in range(theirs.shape[1]):
        alike |= (ours > 0) & (ours == theirs[:, [unit]])
    return np.asarray(alike.any(axis=0))


def without(seen: Mapping[str, Observations], doubles: Doubles) -> dict[str, Observations]:
    """Return the blocks with doubles taken out of the baseline, each since it is one."""
    return {name: _without(each, doubles) for name, each in seen.items()} if doubles else dict(seen)


def _without(observations: Observations, doubles: Doubles) -> Observations:
    arm = observations.baseline
    if arm is None or not set(arm.units) & set(doubles):
        return observations
    since = np.array([doubles.get(unit, np.inf) for unit in arm.units])
    gone = observations.ends >= since[:, None]
    buckets = None if arm.buckets is None else np.where(gone[..., None], 0.0, arm.buckets)
    hollow = None if arm.hollow is None else arm.hollow & ~gone
    cleaned = Arm(arm.units, np.where(gone, 0.0, arm.events), np.where(gone, 0.0, arm.total), buckets, hollow)
    return replace(observations, baseline=cleaned)

"""Noticing releases in what says who gets a feature: a flags file, or a kill switch that can be read.

Reading is apart from deciding what a change means (`exposures`), so that the second is pure and what was last read can
be kept in the journal (`to_json`, `from_json`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from watcher.model import Exposure, SwitchState

NOBODY = SwitchState(on=False, share=0.0)


def share_of(state: SwitchState) -> float:
    """Return the fraction of users exposed; everybody where a feature is on and nobody says of how many.

    >>> share_of(SwitchState(on=False, share=0.5)), share_of(SwitchState(on=True))
    (0.0, 1.0)
    """
    if not state.on:
        return 0.0
    return 1.0 if state.share is None else state.share


def exposures(
    before: Mapping[str, SwitchState] | None, after: Mapping[str, SwitchState], at: float, features: Collection[str]
) -> list[Exposure]:
    """Tell what a change did to users.

    A feature that nobody had and somebody has now is a release; its version is the revision of the flag, as its
    system counts its changes (`r42`), else the time: `2026-11-20T10:00:00Z`. So is one whose traffic goes to another
    version now. A share that moved while the feature stayed on is `more` or `fewer`: a new stage of the running
    release; so is, where nobody can say the share, a change that its system counted. A feature that is off, at 0 % or
    gone has `off`. What is on already at the first start is adopted, not released.

    >>> off, on = SwitchState(False, 0.0), SwitchState(True, 0.05)
    >>> [was] = exposures({"checkout": off}, {"checkout": on}, 1794909600.0, ["checkout"])
    >>> was.version, was.share
    ('2026-11-17T10:00:00Z', 0.05)

    Args:
        before: of every feature at the last look, None at the first start.
        after: of every feature now.
        at: when the change was seen, epoch seconds.
        features: the features to tell about, and no others; none means nothing is told.
    """
    if before is None:
        return []
    time = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    told = []
    for feature in dict.fromkeys(features):
        was, now = before.get(feature, NOBODY), after.get(feature, NOBODY)
        had, has = share_of(was), share_of(now)
        known = now.share if now.on else 0.0
        switched = bool(was.serving and now.serving and was.serving != now.serving)
        unseen = was.on and now.on and was.share is None and now.share is None and now.revision != was.revision
        changed = unseen and bool(was.revision and now.revision)
        if had == has and not switched and not changed:
            continue
        told.append(
            Exposure(
                feature,
                f"r{now.revision}" if now.revision and now.revision != was.revision else time,
                at,
                share=known,
                previous=was.serving or None,
                serving=now.serving,
                off=has == 0,
                more=(0 < had < has or changed) and not switched,
                fewer=0 < has < had and not switched,
                named=False,
            )
        )
    return told


def to_json(states: Mapping[str, SwitchState]) -> dict[str, Any]:
    """Return plain JSON types; `from_json` is the inverse."""
    return {feature: asdict(state) for feature, state in states.items()}


def from_json(raw: Mapping[str, Any]) -> dict[str, SwitchState]:
    """Read back what `to_json` wrote; of what another version of watcher wrote, what can be read."""
    return {
        feature: SwitchState(**state)
        if "on" in state
        else SwitchState(state["enabled"], _fraction(state["rollout_percentage"]))
        for feature, state in raw.items()
    }


def _fraction(percentage: float | None) -> float:
    return 1.0 if percentage is None else percentage / 100

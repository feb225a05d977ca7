"""How users become exposed: what was noticed, what was merely deployed, and what a kill switch says of it."""

from __future__ import annotations

from dataclasses import dataclass

SAME_SHARE = 0.005
"""Difference below which two shares are the same: whole-numbered weights cannot express every one."""


@dataclass(frozen=True)
class Exposure:
    """Something noticed: users of a feature became exposed, or more or fewer of them than before.

    `version` is the version or flag revision the users got; `named` tells that somebody named it, rather than that the
    moment stands for it. `serving` is the one of several versions that gets all traffic now, where a switch chooses
    between such, and `previous` the one before. `more` and `fewer` tell that the feature was on before and its share
    moved; `off` that exposure ended. `since` is when it was last seen as it was before (None: nobody knows).
    """

    feature: str
    version: str
    at: float
    share: float | None = None
    previous: str | None = None
    serving: str = ""
    off: bool = False
    more: bool = False
    fewer: bool = False
    reversible: bool = True
    named: bool = True
    since: float | None = None


@dataclass(frozen=True)
class Deployment:
    """A version that is on servers and in front of nobody yet: it waits for exposure."""

    feature: str
    version: str
    at: float
    previous: str | None = None
    reversible: bool = True


@dataclass(frozen=True)
class SwitchState:
    """What a kill switch says of a feature, read from the system that decides who gets it.

    `on` tells whether anybody gets it. `share` is the fraction of users or traffic that does (None: nobody says).
    `serving` names the version that gets all traffic, where the switch chooses one of several. `sticky` tells whether
    a user who got it keeps it (None: nobody says). `revision` differs whenever the state was changed, where the system
    counts its changes. `shown` says it in the system's own words: `weight 5 of 100, stable 95`.
    """

    on: bool
    share: float | None = None
    serving: str = ""
    sticky: bool | None = None
    revision: str = ""
    shown: str = ""

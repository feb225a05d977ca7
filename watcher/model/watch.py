"""What is watched: rules, releases and their stages, and everything that is fixed before the first look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from watcher.model.exposures import SAME_SHARE
from watcher.model.selectors import Selector
from watcher.model.words import Design, Floats, Kind, Labels, Mode, Strategy, Worse


@dataclass(frozen=True)
class Rule:
    """One user-facing metric and what counts as worse.

    `events` is the counter of bad (worse is higher) or good (worse is lower) events of a ratio, the events
    of a rate, the histogram of a latency or the value of a gauge; `total` is what they are counted against
    (None for latency and gauge). `margin` is how much worse is tolerable: relative, or in units of the ratio
    when `absolute`. `regress_margin` is how much worse must be proven before `regressed` (relative).
    """

    name: str
    kind: Kind
    events: Selector
    total: Selector | None = None
    title: str = ""
    help: str = ""
    measured_in: str = ""
    worse: Worse = Worse.HIGHER
    margin: float = 0.5
    absolute: bool = False
    regress_margin: float = 0.0
    weight: float = 1.0
    critical: bool = False
    required: bool = True
    matures: float = 0.0
    objective: float | None = None
    across: Literal["median", "mean", "max", "min", "sum"] = "median"
    by: tuple[str, ...] = ()
    unit: str | None = None
    signature: str | None = None

    @property
    def label(self) -> str:
        """What people read: the title, or the name."""
        return self.title or self.name


@dataclass(frozen=True)
class Stage:
    """A moment at which exposure changed, and the share of users on the release from then on.

    It may have changed up to `unsure` seconds before: nobody looked in between.
    """

    at: float
    share: float | None = None
    unsure: float = 0.0


@dataclass(frozen=True)
class Release:
    """Users becoming exposed to a change.

    `named` tells that somebody named the version, rather than that a moment stands for it. `everyone` is the part of a
    release from when everybody has it: there is no control any more. `earlier` is how often the same version was
    released before, and its watch ended. `also` are the versions that others call it by.
    """

    service: str
    environment: str
    feature: str
    version: str
    strategy: Strategy
    stages: tuple[Stage, ...]
    previous: str | None = None
    reversible: bool = True
    named: bool = True
    everyone: bool = False
    earlier: int = 0
    also: tuple[str, ...] = ()

    def is_called(self, version: str) -> bool:
        """Tell whether a version is this one, by whichever of its names; `v1.2.0` is `1.2.0`."""
        return version.removeprefix("v") in {name.removeprefix("v") for name in (self.version, *self.also)}

    @property
    def id(self) -> str:
        """`service/environment/feature@version`, and `+everyone` from when everybody has it."""
        return self.message + "+everyone" * self.everyone

    @property
    def message(self) -> str:
        """The release whose one message people read: both parts of it share one; `#2` where it is the second time."""
        return f"{self.service}/{self.environment}/{self.feature}@{self.version}{self.time}"

    @property
    def time(self) -> str:
        """`#2` of what is released a second time; empty the first time."""
        return f"#{self.earlier + 1}" if self.earlier else ""

    @property
    def share(self) -> float | None:
        """The share of users in the present stage; None where nobody says."""
        return self.stages[-1].share

    @property
    def exposed_at(self) -> float:
        """When users were first exposed."""
        return self.stages[0].at


@dataclass(frozen=True)
class Alpha:
    """Error rates a release may spend, over all its rules, streams, looks and stages.

    `before_after` is that of `regressed` where there is no control: what a few days of history can support.
    """

    regressed: float = 0.01
    before_after: float = 0.05
    healthy: float = 0.05
    split: float = 0.0001


@dataclass(frozen=True)
class Split:
    """How traffic should be split between the arms: `assigned` counts users or sessions, not requests.

    `share` says who knows the configured share: "notice" (the stage, e.g. a flag's rollout percentage) or "switch".
    """

    assigned: Selector
    share: Literal["notice", "switch"] = "notice"


@dataclass(frozen=True)
class Target:
    """Something that may be turned off: a feature, by a kind of kill switch, in an environment."""

    switch: str
    feature: str
    environment: str

    def __str__(self) -> str:
        """As watcher.yaml names it."""
        return f"{{switch: {self.switch}, feature: {self.feature}, environment: {self.environment}}}"


UNSETTLED = 1800.0
"""Seconds after any exposure in which a service is not its usual self: its caches are cold."""


@dataclass(frozen=True)
class Watch:
    """A release being looked at: everything that is fixed before the first look.

    `select` is ANDed into every selector; `baseline` and `treatment` tell the arms apart (None: everybody is
    treatment, held against its own past). `horizon` is how long the watch lasts after exposure. `focus`
    streams must be healthy; the others only guard.
    """

    release: Release
    rules: tuple[Rule, ...]
    select: Labels = ()
    baseline: Labels | None = None
    treatment: Labels | None = None
    block: float = 60.0
    settle: float = 45.0
    warm_up: float = 300.0
    horizon: float = 86_400.0
    history: float = 86_400.0
    alpha: Alpha = Alpha()
    focus: Labels = ()
    zone: str = "UTC"
    """IANA time zone of the days and weeks that users live by."""
    excluded: tuple[tuple[float, float], ...] = ()
    """Stretches of the past that are not what is usual: earlier releases, incidents, holidays."""
    split: Split | None = None
    mode: Mode = Mode.OBSERVE
    switch: str | None = None
    """Key of the kill switch, `name:target`; None when there is none."""
    promote: tuple[float, ...] = ()
    """Shares of the users to go through, each once the one before is proven healthy; none: people do that."""
    accepted: Labels = ()
    """Rules whose harm a person accepted as intended, with the reason: they no longer count as regressed."""
    links: Labels = ()
    tell: tuple[str, ...] = ()
    """Channels of those who have to know that it began, and how it ended."""

    @property
    def design(self) -> Design:
        """Concurrent when there is a control, before_after otherwise."""
        return Design.BEFORE_AFTER if self.baseline is None else Design.CONCURRENT

    @property
    def dilution(self) -> float:
        """The share of all users that a release's harm is seen in: below 1 where nothing tells apart who has it."""
        share = self.release.share
        hidden = self.design is Design.BEFORE_AFTER and share is not None and 0.0 < share < 1.0 - SAME_SHARE
        return share if hidden and share is not None else 1.0

    @property
    def target(self) -> Target | None:
        """What a kill turns off; None where there is no kill switch."""
        release, name = self.release, (self.switch or "").partition(":")[0]
        return Target(name, release.feature, release.environment) if name else None

    @property
    def ends_at(self) -> float:
        """When the watch is over: its horizon after the latest stage (after exposure, where there is no control)."""
        latest = self.release.exposed_at if self.design is Design.BEFORE_AFTER else self.release.stages[-1].at
        return latest + self.horizon

    @property
    def alpha_in_effect(self) -> float:
        """The chance of calling a good release regressed: without a control the larger of the two that are set."""
        alone = self.design is Design.BEFORE_AFTER
        return max(self.alpha.regressed, self.alpha.before_after) if alone else self.alpha.regressed


@dataclass(frozen=True)
class Request:
    """What a source is asked for: the blocks that end in (start, end], both multiples of `block`."""

    rules: tuple[Rule, ...]
    start: float
    end: float
    block: float
    select: Labels = ()
    baseline: Labels | None = None
    treatment: Labels | None = None

    @property
    def ends(self) -> Floats:
        """End of every block asked for, shape [block]."""
        return np.arange(self.start + self.block, self.end + self.block / 2, self.block)

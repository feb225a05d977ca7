"""What is done about it, and the record of one evaluation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from watcher.model.observations import Observations
from watcher.model.verdict import ReleaseVerdict
from watcher.model.words import Labels

Button = Literal["kill", "accept", "silence", "acknowledge"]
"""What people may do where they are told."""


@dataclass(frozen=True)
class Reply:
    """What somebody did about a release where they were told of it, and until when that holds (None: for good)."""

    what: Button
    by: str
    at: float
    reason: str = ""
    until: float | None = None


@dataclass(frozen=True)
class Alert:
    """Something to tell people. A headline is the one message of a release, edited in place; a detail goes below it.

    `channel` is where else it is told than everything is: to those who have to know of a release, and of nothing more.
    `replies` and `buttons` are what people did about the release, and what they may do: they are known when it is
    delivered.
    """

    key: str
    release: str
    kind: Literal["headline", "detail"]
    state: str
    """What the release is now: watching, healthy, regressed, killed, no_data ..."""
    title: str
    lines: tuple[str, ...] = ()
    at: float = 0.0
    urgent: bool = False
    links: Labels = ()
    channel: str = ""
    replies: tuple[Reply, ...] = ()
    buttons: tuple[Button, ...] = ()


BY_HAND = "|kill by hand|"
"""What the key of a kill holds that a person decided, before the moment: each such decision is one of its own."""


@dataclass(frozen=True)
class Reach:
    """Where an alerter would tell people, asked without telling them anything.

    `doubt` says what of it cannot be proven that way (empty: all of it is), and `do` what would take the doubt away.
    """

    where: str
    doubt: str = ""
    do: str = ""


@dataclass(frozen=True)
class Kill:
    """Turn the release off."""

    key: str
    release: str
    switch: str
    feature: str
    reason: str
    decided_at: float = 0.0

    @property
    def by_hand(self) -> bool:
        """Whether a person decided it."""
        return BY_HAND in self.key


@dataclass(frozen=True)
class Promote:
    """Give the release a larger share of the users: `share`, where it has `since` now. Shares are fractions."""

    key: str
    release: str
    switch: str
    feature: str
    since: float
    share: float
    reason: str
    decided_at: float = 0.0


Action = Alert | Kill | Promote


@dataclass(frozen=True)
class Refusal:
    """An action that was considered and not taken, with the interlock that stopped it."""

    action: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Look:
    """The record of one evaluation of a release: kept in the journal and replayable.

    `states` are the evidence states by rule, JSON-able; `observations` are the blocks this look folded.
    """

    release: str
    at: float
    through: float
    """End of the last block folded."""
    blocks: int
    """Blocks counted so far."""
    verdict: ReleaseVerdict
    phase: str = "watching"
    """Where the watch stands after this look: watching, killed, recovered, unrecovered, ended."""
    told: str = ""
    """The state people were last told."""
    killed_at: float | None = None
    """When the kill was decided, if it was."""
    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    states: Mapping[str, Any] = field(default_factory=dict)
    observations: Mapping[str, Observations] = field(default_factory=dict)
    problem: str | None = None
    """Why the source could not be read at this look, if it could not."""

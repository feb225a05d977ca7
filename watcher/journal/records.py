"""What the journal hands out besides the nouns of `watcher.model`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from watcher.model import Action, Outcome, Watch

LEASE: Final = 60.0
"""Seconds after which a claim that nobody finished may be taken over."""


@dataclass(frozen=True)
class Watched:
    """A watch and what became of it; `status` is "active" until it ends."""

    watch: Watch
    status: str
    noticed_by: str
    at: float
    ended_at: float | None = None
    end_reason: str | None = None


@dataclass(frozen=True)
class Listed:
    """A release, by its number and its id, and how it stands. What a look says is None until there was one."""

    n: int
    release: str
    status: str
    at: float
    ended_at: float | None
    end_reason: str | None
    looked_at: float | None
    outcome: Outcome | None
    reason: str | None
    phase: str | None


@dataclass(frozen=True)
class LookLine:
    """A look without its streams: enough to list."""

    at: float
    through: float
    blocks: int
    outcome: Outcome
    reason: str
    phase: str
    problem: str | None = None


@dataclass(frozen=True)
class Pending:
    """A row of the outbox.

    `alerter` names the one addressee of a delivery; it is None for a kill and for an alert as it was decided,
    which is done once it has been addressed to every alerter. `claimed_at` is when it was last tried.
    """

    key: str
    release: str
    kind: str
    action: Action
    state: str
    created_at: float
    alerter: str | None = None
    attempts: int = 0
    not_before: float | None = None
    claimed_at: float | None = None
    receipt: Mapping[str, str] | None = None
    error: str | None = None
    finished_at: float | None = None

    def due(self, now: float) -> bool:
        """Tell whether it may be tried now; a clock that stepped back does not hold it up."""
        stepped_back = self.claimed_at is not None and now < self.claimed_at - LEASE
        if self.state == "claimed":
            return stepped_back or self.claimed_at is None or now >= self.claimed_at + LEASE
        return self.state == "intended" and (stepped_back or self.not_before is None or now >= self.not_before)


@dataclass(frozen=True)
class Tally:
    """How many rows of the outbox are of one kind and in one state, and when the first of them was intended."""

    kind: str
    state: str
    count: int
    oldest: float


@dataclass(frozen=True)
class AuditLine:
    """One line of what happened, and to which release."""

    at: float
    release: str | None
    what: str
    detail: Mapping[str, Any]

"""What the journal says that stands against every kill of watcher's own: a pause that a person ordered.

Kills by people go on working.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from watcher import reasons
from watcher.errors import Refused
from watcher.journal import AuditLine, Journal

DAY: Final = 86_400.0

LONGEST_PAUSE: Final = 7 * DAY
"""Seconds a pause may last: one that is forgotten must not leave users without protection for ever."""


@dataclass(frozen=True)
class Pause:
    """Watcher turns nothing, off or up, until a moment; `by` ordered it at `at`."""

    until: float
    reason: str
    by: str = ""
    at: float = 0.0

    def __str__(self) -> str:
        """As people read it: the same sentence as long as the pause lasts.

        >>> str(Pause(1_800_014_400.0, "a migration", "ana", 1_800_010_800.0))
        'kills are paused until 12:00 UTC by ana: a migration'
        """
        until = reasons.clock(self.until)
        if self.until - self.at >= DAY:
            until = f"{dt.datetime.fromtimestamp(self.until, dt.UTC):%Y-%m-%d} {until}"
        return f"kills are paused until {until}{f' by {self.by}' if self.by else ''}: {self.reason}"


def paused(journal: Journal, now: float) -> Pause | None:
    """Return the pause that is in force, if one is."""
    found = journal.recall("pause")
    return None if found is None or found["until"] <= now else Pause(**found)


def pause(journal: Journal, seconds: float, reason: str, by: str, now: float) -> Pause:
    """Pause watcher's own kills and promotions, in place of a pause there was; it ends by itself.

    Args:
        journal: keeps it over restarts.
        seconds: how long.
        reason: why, for whoever asks why nothing was turned off.
        by: who orders it.
        now: epoch seconds.

    Raises:
        Refused: it would never be in force, would last too long, or nobody says why.
    """
    if seconds <= 0:
        raise Refused("a pause must last: give --for a length such as 1h")
    if seconds > LONGEST_PAUSE:
        raise Refused(
            f"a pause lasts {LONGEST_PAUSE / DAY:g} days at most: give --for 7d or less, and pause again when it is "
            "over; to turn nothing off for good, set `mode: recommend`"
        )
    if not reason.strip():
        raise Refused("say why with --reason, for whoever asks why nothing was turned off")
    made = Pause(now + seconds, " ".join(reason.split()), by, now)
    told = {"until": made.until, "reason": made.reason, "by": by}
    journal.remember("pause", {**told, "at": now}, AuditLine(now, None, "paused", told))
    return made


def resume(journal: Journal, by: str, now: float) -> Pause | None:
    """End the pause that is in force, and return it; None, and nothing changes, where there is none."""
    found = paused(journal, now)
    if found is not None:
        told = {"until": found.until, "reason": found.reason, "by": by}
        journal.remember("pause", None, AuditLine(now, None, "resumed", told))
    return found

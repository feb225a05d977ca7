"""What the journal says that stands against kills of watcher's own: a pause, a latch, and when a flag was killed last.

The latch closes by itself once watcher has decided several kills within an hour, and only a person opens it. That it is
closed follows from the intents in the journal, which are durable before anything is done: no process has to survive
for it to close, or to stay closed. Kills by people go on working.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from watcher import policy, reasons, telling
from watcher.errors import Refused
from watcher.journal import AuditLine, Journal, Pending
from watcher.model import Kill, Watch

DAY: Final = 86_400.0

PAUSE_FILE: Final = "watcher.pause"

LONGEST_REASON: Final = 200
"""Characters; it stands in every message, line of the log and answer that says why nothing is done."""

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
    """Return the pause that somebody ordered, while it is in force."""
    found = journal.recall("pause")
    return None if found is None or found["until"] <= now else Pause(**found)


def held_back(journal: Journal, beside: Path, now: float) -> str | None:
    """Return why watcher does nothing by itself, as people read it; None where it may.

    Args:
        journal: which pause was ordered.
        beside: watcher.yaml. A file `watcher.pause` beside it pauses, too, for as long as it is there: for who cannot
            reach anything else. Its first line says why.
        now: epoch seconds.
    """
    found = paused(journal, now)
    if found is not None:
        return str(found)
    file = beside.with_name(PAUSE_FILE)
    try:
        with open(file, encoding="utf-8", errors="replace") as opened:
            first = opened.readline(LONGEST_REASON)
        why = "".join(each if each.isprintable() else " " for each in first).strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        why = f"it cannot be read ({error.strerror})"
    return f"kills are paused while there is a file {file}{f': {why}' if why else ''}"


def pause(journal: Journal, seconds: float, reason: str, by: str, now: float) -> Pause:
    """Pause watcher's own kills and promotions, in place of a pause there was; it ends by itself.

    Args:
        journal: keeps it over restarts.
        seconds: how long.
        reason: why, for whoever asks why nothing was turned off.
        by: who orders it.
        now: epoch seconds.

    Raises:
        Refused: it would never be in force, would last too long, or nobody says why in a short line.
    """
    if seconds <= 0:
        raise Refused("a pause must last: give a length such as 1h")
    if seconds > LONGEST_PAUSE:
        raise Refused(
            f"a pause lasts {LONGEST_PAUSE / DAY:g} days at most: give 7d or less, and pause again when it is "
            "over; to turn nothing off for good, set `mode: recommend`"
        )
    why = " ".join(reason.split())
    if not why:
        raise Refused("say why with --reason, for whoever asks why nothing was turned off")
    if len(why) > LONGEST_REASON or not why.isprintable():
        raise Refused(f"say why in a line of {LONGEST_REASON} printable characters at most")
    made = Pause(now + seconds, why, by, now)
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


def standing(journal: Journal, watch: Watch, now: float, *, allowed: bool, paused: str | None) -> policy.Standing:
    """Return what is on record of kills, and what people ordered, as policy needs it for one release.

    Args:
        paused: why watcher does nothing by itself, as `held_back` says it.
        allowed: whether watcher.yaml names its flag among those that may be turned off.
    """
    found = _all(journal)
    own = [each for each in found if each.release == watch.release.id]
    return policy.Standing(
        allowed=allowed,
        paused=paused,
        turned_off=_took_effect(own),
        kills=_since_opened(journal, found),
        flag_killed_at=_killed_last(found, watch),
    )


def _took_effect(own: Sequence[Pending]) -> bool | None:
    """Tell whether a kill of a release took effect, by hand or not; True without any, None while one is being tried."""
    if not own or any(each.state == "done" for each in own):
        return True
    return False if all(each.state == "failed" for each in own) else None


def _killed_last(found: Sequence[Pending], watch: Watch) -> float | None:
    """Return when the flag of a release was turned off last, by watcher or a person; None where it never was.

    A kill that is still being tried counts from when it was decided, one that was given up turned nothing off.
    """
    flag = (watch.switch, watch.release.feature)
    ended = (
        each.finished_at or each.created_at
        for each in found
        if isinstance(each.action, Kill)
        and (each.action.switch, each.action.feature) == flag
        and each.state != "failed"
    )
    return max(ended, default=None)


def latched(journal: Journal) -> str:
    """Return what the latch is, and how to open it, while it is closed; else nothing."""
    return policy.latched(policy.latch(_since_opened(journal, _all(journal))))


def fit_latch(journal: Journal, now: float) -> None:
    """Begin to count, once: kills of a time before there was a latch close none."""
    if journal.recall("latch") is None:
        journal.remember("latch", {"seen": len(_own(_all(journal))), "by": "watcher", "at": now})


def tell_of_latch(journal: Journal, now: float) -> None:
    """Tell people that the latch closed, and audit it, once; a process that died before it could is made up for."""
    closed_by = policy.latch(_since_opened(journal, _all(journal)))
    if closed_by:
        alert = telling.latched(_seen(journal), policy.latched(closed_by), now)
        journal.intend([alert], now, AuditLine(now, None, "latched", {"kills": list(closed_by)}))


def open_latch(journal: Journal, reason: str, by: str, now: float) -> bool:
    """Open the latch; False, and nothing changes, where it was not closed.

    Raises:
        Refused: nobody says why there were so many kills.
    """
    if not reason.strip():
        raise Refused("say with --reason why there were so many kills, and why there will not be more")
    decided, closed = len(_own(_all(journal))), bool(latched(journal))
    if closed:
        told = {"reason": " ".join(reason.split()), "by": by}
        journal.remember("latch", {"seen": decided, **told, "at": now}, AuditLine(now, None, "latch opened", told))
    return closed


def _seen(journal: Journal) -> int:
    """Return how many of watcher's own kills there were when a person last opened the latch."""
    found = journal.recall("latch")
    return 0 if found is None else int(found["seen"])


def _since_opened(journal: Journal, found: Sequence[Pending]) -> tuple[float, ...]:
    """Return when watcher decided kills of its own since a person last opened the latch, as they were decided."""
    # By number, not by time: clocks step back.
    return _own(found)[_seen(journal) :]


def _own(found: Sequence[Pending]) -> tuple[float, ...]:
    return tuple(each.created_at for each in found if not _by_hand(each))


def _by_hand(entry: Pending) -> bool:
    return isinstance(entry.action, Kill) and entry.action.by_hand


def _all(journal: Journal) -> list[Pending]:
    """Return every kill there was, whoever decided it, oldest first."""
    return [each for each in journal.switched() if isinstance(each.action, Kill)]

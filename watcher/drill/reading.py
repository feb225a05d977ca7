"""What is known of a flag: what its switch says, what a kill would do, and what kills did before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from watcher.drill.flags import Flag
from watcher.errors import ConfigError, Refused, SwitchError
from watcher.journal import AuditLine, Journal, Pending
from watcher.model import Kill, Look, SwitchState
from watcher.report.json_report import iso
from watcher.switches import switch

DRILL: Final = "drill"
"""What the audit calls a kill that was rehearsed."""
ASKED: Final = "kill by hand"
"""What the audit calls a kill that a person asked for."""
LAST: Final = 5
"""Kills that a status shows."""
_AT_ONCE: Final = 8
"""Switches that are read at the same time: one that hangs holds up no other."""


@dataclass(frozen=True)
class Reading:
    """What the switch of a flag says; `problem` where that cannot be said."""

    flag: Flag
    state: SwitchState | None = None
    problem: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types; what nobody says is null."""
        flag, state = self.flag, self.state
        return {
            "flag": flag.feature,
            "service": flag.service.name,
            "environment": flag.service.environment,
            "strategy": flag.strategy,
            "switch": flag.switch,
            "on": state and state.on,
            "share": state and state.share,
            "serving": state and (state.serving or None),
            "sticky": state and state.sticky,
            "revision": state and (state.revision or None),
            "shown": state and (state.shown or None),
            "error": self.problem,
        }


@dataclass(frozen=True)
class PastKill:
    """A kill of a flag: who decided it and why, and what became of it."""

    entry: Pending
    by: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        entry = self.entry
        return {
            "decided_at": iso(entry.created_at),
            "finished_at": iso(entry.finished_at),
            "by": self.by,
            "reason": self.reason,
            "release": entry.release,
            "state": entry.state,
            "receipt": None if entry.receipt is None else dict(entry.receipt),
            "error": entry.error,
        }


@dataclass(frozen=True)
class Status:
    """All that is known of a flag.

    `key` is that of its switch. `would` says what a kill would do, `would_not` why it would fail. `last` is the last
    look at the release that is being watched, `kills` are the last ones, and `drilled` the last drill.
    """

    reading: Reading
    key: str | None = None
    would: str | None = None
    would_not: str | None = None
    last: Look | None = None
    kills: tuple[PastKill, ...] = ()
    drilled: AuditLine | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        flag, last, drilled = self.reading.flag, self.last, self.drilled
        watched = None
        if flag.watched is not None:
            outcome = {"outcome": last and last.verdict.outcome.value, "reason": last and last.verdict.reason}
            watched = {"release": flag.owner, **outcome}
        return {
            "schema": "watcher/flag/1",
            **self.reading.to_json(),
            "key": self.key,
            "mode": flag.service.mode.value,
            "reversible": flag.reversible,
            "kill": {"would": self.would, "error": self.would_not},
            "watched": watched,
            "drilled": drilled and {"at": iso(drilled.at), **drilled.detail},
            "kills": [each.to_json() for each in self.kills],
        }


def read_all(flags: Sequence[Flag]) -> list[Reading]:
    """Read the switches of all flags; one that is broken hides no other."""
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(_read, flags))


def _read(flag: Flag) -> Reading:
    try:
        return Reading(flag, switch(flag.key(to_read=True)).read(flag.feature))
    except (Refused, ConfigError, SwitchError) as error:
        return Reading(flag, problem=str(error))


def status(flag: Flag, journal: Journal) -> Status:
    """Return all that is known of a flag; what its switch says, and what a kill would do, are asked now."""
    key = would = would_not = None
    try:
        key = flag.key()
        would = switch(key).dry_run(flag.feature)
    except (Refused, ConfigError, SwitchError) as error:
        would_not = str(error)
    return Status(
        reading=_read(flag),
        key=key,
        would=would,
        would_not=would_not,
        last=None if flag.watched is None else journal.last_look(flag.owner),
        kills=tuple(_kills(flag, journal))[-LAST:],
        drilled=next((line for line in reversed(_trail(flag, journal)) if line.what == DRILL), None),
    )


def _names(flag: Flag) -> list[str]:
    """Return whose the kills of a flag may be."""
    return [flag.place, *(each.watch.release.id for each in flag.releases)]


def _trail(flag: Flag, journal: Journal) -> list[AuditLine]:
    lines = [line for name in _names(flag) for line in journal.audit_trail(name)]
    return sorted(lines, key=lambda line: line.at)


def _kills(flag: Flag, journal: Journal) -> Iterator[PastKill]:
    """Yield the kills of a flag, oldest first."""
    asked = {line.detail["key"]: line.detail for line in _trail(flag, journal) if line.what == ASKED}
    entries = [entry for name in _names(flag) for entry in journal.actions(name)]
    for entry in sorted(entries, key=lambda entry: entry.created_at):
        if isinstance(entry.action, Kill):
            who = asked.get(entry.key, {})
            by = who.get("by", "somebody" if entry.action.by_hand else "watcher")
            yield PastKill(entry, by, who.get("reason", "" if who else entry.action.reason))

"""Turning a flag off by hand: rehearsed, or done through the journal's outbox, as the daemon does it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from watcher.act import DECISION_TTL, Outbox
from watcher.drill.flags import Flag
from watcher.drill.reading import ASKED, DRILL
from watcher.errors import ConfigError, Refused, SwitchError
from watcher.journal import Journal, Pending
from watcher.model import BY_HAND, Kill
from watcher.switches import switch
from watcher.telling import kill_failed

PATIENCE: Final = 30.0
"""Seconds to wait for a daemon that took the kill up first: as long as a slow switch takes."""
_TURN: Final = 0.1
"""Seconds between two looks at what became of it."""


@dataclass(frozen=True)
class TurnedOff:
    """A flag that is off; `was` says what it was before, in its system's words, and `already` that it was off then."""

    flag: Flag
    was: str = ""
    already: bool = False


def rehearse(flag: Flag, journal: Journal, by: str, now: float) -> str:
    """Return what a kill would do, exactly, and change nothing; that this was tried, and what came out, is audited.

    Raises:
        SwitchError: a kill would fail.
        ConfigError: the switch cannot be made.
        Refused: the switch needs something that nobody says.
    """
    told = {"by": by, "flag": flag.feature}
    try:
        said = switch(flag.key()).dry_run(flag.feature)
    except (Refused, ConfigError, SwitchError) as error:
        journal.audit(now, flag.owner, DRILL, {**told, "error": str(error)})
        raise
    journal.audit(now, flag.owner, DRILL, {**told, "would": said})
    return said


def kill(flag: Flag, journal: Journal, by: str, reason: str, now: float) -> TurnedOff:
    """Turn a flag off, because a person decided so: in every mode, and while kills are paused.

    Args:
        flag: what to turn off.
        journal: keeps the intent, before anything is done, and what became of it.
        by: who decides.
        reason: why, in their words; may be empty.
        now: epoch seconds.

    Raises:
        SwitchError: it is still on, and why; whether it will be tried again.
        Refused: the switch needs something that nobody says.
    """
    said = f"by hand by {by}{f': {reason}' if reason else ''}"
    made = Kill(f"{flag.owner}{BY_HAND}{now:.3f}", flag.owner, flag.key(), flag.feature, said, now)
    journal.audit(now, flag.owner, ASKED, {"key": made.key, "by": by, "reason": reason})
    journal.intend([made], now)
    entry = _performed(made, journal, now)
    receipt = entry.receipt or {}
    if entry.state == "done":
        return TurnedOff(flag, receipt.get("before", ""), already="note" in receipt)
    if entry.state != "failed" and entry.error is None:
        raise SwitchError(
            f"{flag.feature}: a daemon has been turning it off for {PATIENCE:g} s and is not done; see what became of "
            f"it with `watcher flags status {flag.feature}`"
        )
    problem = f"{flag.feature} is NOT turned off: {entry.error}"
    if entry.state == "failed":
        # Not only whoever typed this should know: a daemon tells it.
        watch, at = None if flag.watched is None else flag.watched.watch, entry.finished_at or now
        journal.intend(kill_failed(made, watch, entry.error or "", at), at)
        raise SwitchError(problem, permanent=True)
    raise SwitchError(f"{problem}; a daemon that runs on this journal tries again for {DECISION_TTL / 60:g} minutes")


def _performed(made: Kill, journal: Journal, now: float) -> Pending:
    """Do this one action, whatever else is due, or wait for the daemon that took it up first; return its fate."""
    outbox, until = Outbox(journal, switch, {}), time.monotonic() + PATIENCE
    while True:
        outbox.turn_off(now, lambda action: action.key == made.key)
        [entry] = [each for each in journal.actions(made.release) if each.key == made.key]
        tried = entry.state != "claimed" and (entry.state != "intended" or entry.error is not None)
        if tried or time.monotonic() > until:
            return entry
        time.sleep(_TURN)

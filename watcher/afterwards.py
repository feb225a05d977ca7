"""After a kill was performed: what became of it, and whether somebody turns the release on again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from watcher import telling
from watcher.errors import JournalError
from watcher.journal import Journal, Pending
from watcher.model import Alert, Kill, Promote, SwitchState, Watch

log = logging.getLogger("watcher")

REREAD: Final = 600.0
"""Seconds after a kill for which the switch is read again."""


def report(journal: Journal, entries: list[Pending], now: float) -> None:
    """Log what became of kills and promotions, and tell people of it: twice is once."""
    for entry in entries:
        if not isinstance(entry.action, Alert):
            error = f" ({entry.error})" if entry.error else ""
            level = logging.INFO if (entry.kind, entry.state) == ("promote", "done") else logging.WARNING
            log.log(level, "%s of %s: %s%s", entry.kind, entry.action.feature, entry.state, error)
        watch, action = _watch(journal, entry), entry.action
        if watch is not None and isinstance(action, Kill) and entry.state == "done":
            journal.intend(telling.kill_done(action, watch, entry.receipt or {"read_back": "off"}, now), now)
        elif watch is not None and isinstance(action, Promote) and entry.state == "done":
            receipt = entry.receipt or {"read_back": f"{action.share:g}"}
            journal.intend(telling.promotion_done(watch, action, receipt, now), now)
    tell_of_failures(journal, entries, now)


def tell_of_failures(journal: Journal, entries: list[Pending], now: float) -> None:
    """Intend the alerts of what was given up, and of kills that did not work at the first try."""
    for entry in entries:
        if entry.error is None or entry.state not in ("failed", "intended"):
            continue
        watch, action = _watch(journal, entry), entry.action
        at, failed = entry.finished_at or now, entry.state == "failed"
        if isinstance(action, Kill) and failed:
            journal.intend(telling.kill_failed(action, watch, entry.error, at), at)
        elif isinstance(action, Kill) and watch is not None and not action.by_hand:
            journal.intend(telling.kill_delayed(watch, entry.error, at), at)
        elif isinstance(action, Promote) and watch is not None and failed:
            journal.intend(telling.promotion_failed(watch, entry.error, at), at)


def turned_on_again(journal: Journal, read: Callable[[str, str, float], SwitchState | None], now: float) -> None:
    """Read the switch of everything killed in the last minutes again; tell people at once where it is on."""
    for entry in journal.switched(finished_since=now - REREAD):
        kill = entry.action
        if not isinstance(kill, Kill) or entry.state != "done":
            continue
        state = read(kill.switch, kill.feature, now)
        watch = _watch(journal, entry)
        if state is None or not state.on or watch is None:
            continue
        minutes = (now - (entry.finished_at or now)) / 60
        if journal.intend(telling.turned_on(watch, state.shown, minutes, now), now):
            journal.audit(now, entry.release, "turned on again", {"feature": kill.feature, "shown": state.shown})


def _watch(journal: Journal, entry: Pending) -> Watch | None:
    """Return the watch that a kill belongs to; None for one by hand, of something that is not watched."""
    try:
        return journal.watch(entry.release)
    except JournalError:
        return None

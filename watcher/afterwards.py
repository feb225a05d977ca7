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
            about = {"release": entry.action.release, "switch": entry.action.switch.partition(":")[0]}
            log.log(level, "%s of %s: %s%s", entry.kind, entry.action.feature, entry.state, error, extra=about)
        journal.intend(_told(entry, _watch(journal, entry), entry.finished_at or now), now)


def catch_up(journal: Journal, now: float) -> None:
    """Tell people what a process that died did not come to: of what was given up, and of what was done lately."""
    for entry in journal.switched():
        if entry.state != "done" or (entry.finished_at or now) > now - REREAD:
            journal.intend(_told(entry, _watch(journal, entry), entry.finished_at or now), now)


def _told(entry: Pending, watch: Watch | None, at: float) -> tuple[Alert, ...]:
    """Return what there is to say of a kill or a promotion as it stands; nothing of one that was not tried yet."""
    action, error, receipt = entry.action, entry.error or "", entry.receipt or {}
    if isinstance(action, Kill) and entry.state == "failed":
        return telling.kill_failed(action, watch, error, at)
    if watch is None:
        return ()
    tried = entry.state == "intended" and bool(error)
    if isinstance(action, Kill) and entry.state == "done":
        return telling.kill_done(action, watch, receipt, at)
    if isinstance(action, Kill) and tried and not action.by_hand:
        return telling.kill_delayed(watch, error, at)
    if isinstance(action, Promote) and entry.state == "done":
        return telling.promotion_done(watch, action, receipt, at)
    if isinstance(action, Promote) and entry.state == "failed":
        return telling.promotion_failed(watch, error, at)
    return ()


def turned_on_again(journal: Journal, read: Callable[[str, str, float], SwitchState | None], now: float) -> None:
    """Read the switch of everything killed in the last minutes again; tell people at once where it is on."""
    done = [each for each in journal.switched(finished_since=now - REREAD) if each.state == "done"]
    # What was turned off twice is told once.
    latest = {(each.release, each.action.feature): each for each in done if isinstance(each.action, Kill)}
    for entry in latest.values():
        kill = entry.action
        assert isinstance(kill, Kill)
        state = read(kill.switch, kill.feature, now)
        watch = _watch(journal, entry)
        if state is None or not state.on:
            continue
        minutes = (now - (entry.finished_at or now)) / 60
        if journal.intend(telling.turned_on(kill, watch, state.shown, minutes, now), now):
            journal.audit(now, entry.release, "turned on again", {"feature": kill.feature, "shown": state.shown})


def _watch(journal: Journal, entry: Pending) -> Watch | None:
    """Return the watch that a kill belongs to; None for one by hand, of something that is not watched."""
    try:
        return journal.watch(entry.release)
    except JournalError:
        return None

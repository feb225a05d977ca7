"""How an installation stands, in a few lines: what holds watcher back, and what it watches."""

from __future__ import annotations

from watcher import interlocks
from watcher.config import Installation
from watcher.journal import Journal


def overview(installation: Installation, journal: Journal, now: float) -> list[str]:
    """Return what holds watcher back, then one line per release being watched."""
    held = [interlocks.held_back(journal, installation.file, now), interlocks.latched(journal)]
    lines, watched = [str(each) for each in held if each], []
    for each in journal.watches(active=True):
        last = journal.last_look(each.watch.release.id, states=False)
        said = "not looked at yet" if last is None else f"{last.verdict.outcome.value}: {last.verdict.reason}"
        watched.append(f"{each.watch.release.id}  {said}")
    return lines + (watched or ["nothing is being watched"])

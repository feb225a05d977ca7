"""A kill as the daemon performs it: intended in a real journal, carried out and retried by the real outbox."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.performing import perform
from watcher.act import Outbox, Switch
from watcher.afterwards import report
from watcher.journal import Journal, Pending
from watcher.model import Alert, Kill, Release, Stage, Strategy, Watch

DECIDED = 1_000_000.0


@dataclass
class Killing:
    """What became of one decision to kill, and the pauses that retries took (simulated seconds)."""

    entry: Pending
    pauses: list[float]
    told: set[str]
    """States of what people were told."""

    @property
    def state(self) -> str:
        return self.entry.state

    @property
    def error(self) -> str:
        return self.entry.error or ""


def kill(
    switch: Switch, feature: str, journal: Path, tries: int = 3, after: Callable[[], None] = lambda: None
) -> Killing:
    """Decide to kill a feature, and let the outbox try: at most so often, and only while it wants to try again.

    `after` runs after each try. The clock is simulated: pauses between tries take no time.
    """
    now, pauses = DECIDED, []
    release = Release("shop", "production", feature, "1", Strategy.FLAG, (Stage(DECIDED - 600.0),))
    with Journal.open(f"sqlite:///{journal}") as store:
        store.add_release(Watch(release, ()), DECIDED - 600.0, "test")
        store.intend([Kill("k", release.id, "any", feature, "errors tripled", now)], now)
        outbox = Outbox(store, lambda _: switch, {}, stopwatch=lambda: 0.0)
        for _ in range(tries):
            perform(outbox, now)
            after()
            [entry] = store.switched()
            report(store, [entry], now)
            if entry.state != "intended":
                break
            assert "kill_delayed" in _told(store), "people hear of the first failure at once"
            assert entry.not_before is not None
            pauses.append(entry.not_before - now)
            now = entry.not_before
        told = _told(store)
    # Whatever went wrong, people hear of it: of the first failure at once, and of the end.
    heard = {"kill_delayed"} if pauses else set()
    heard |= {"done": {"turned_off"}, "failed": {"kill_failed"}}.get(entry.state, set())
    assert told == heard, (entry.state, entry.error, told)
    return Killing(entry, pauses, told)


def at(nth: int, do: Callable[[], None]) -> Callable[[], None]:
    """Return what `kill` is to run after each try, where something happens after the nth alone."""
    tries = itertools.count(1)
    return lambda: do() if next(tries) == nth else None


def _told(store: Journal) -> set[str]:
    return {each.action.state for each in store.actions() if isinstance(each.action, Alert)}

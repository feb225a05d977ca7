"""The only door to the outside: performs the actions of the journal's outbox.

Each action is claimed, done, read back and recorded. A crash at any point leaves an intent that the next process
takes up again: a switch that is off already is not turned a second time, an alert comes at most twice.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol, runtime_checkable

from watcher.delivery import ALERT_TTL, Alerter, Clock, Deliveries
from watcher.errors import AlertError, ConfigError, SwitchError
from watcher.journal import Journal, Pending
from watcher.model import SAME_SHARE, Alert, Kill, Promote, SwitchState

log = logging.getLogger("watcher")

__all__ = ["DECISION_TTL", "Alerter", "Dial", "Outbox", "Switch"]

DECISION_TTL: Final = 600.0
"""Seconds after which a decision to kill is too old to be carried out."""
SAID_FOR: Final = 3600.0
"""Seconds for which `Outbox.say` has said enough."""

_KILL_BACKOFF: Final = (2.0, 30.0)


class Switch(Protocol):
    """Something that users can be taken off by."""

    def read(self, feature: str) -> SwitchState:
        """Return whether users get the feature, and how many. Raises SwitchError when unknown or unreadable."""
        ...

    def kill(self, feature: str, reason: str) -> None:
        """Take users off the feature; doing it again changes nothing. Raises SwitchError."""
        ...


@runtime_checkable
class Dial(Protocol):
    """A switch that can also give a release a larger share."""

    def promote(self, feature: str, since: float, share: float) -> None:
        """Raise the share from `since` to `share`; refuse where it is another. Raises SwitchError."""
        ...


class Outbox:
    """Performs what the journal intends: kills first, then promotions, then messages.

    Safe to use from several threads: one that tells, however long that takes, holds up none that turns off.

    Args:
        journal: where intents are, and where receipts go.
        switches: finds the switch that `Kill.switch` names; raises SwitchError when there is none.
        alerters: every alerter by name; each gets every alert, and none waits for another.
        decision_ttl: seconds a kill may be carried out after it was decided.
        alert_ttl: seconds after which an undelivered alert is given up.
        jitter: uniform numbers in [0, 1), which spread retries.
        page: address of the page, for links to it.
        stopwatch: monotonic seconds; only differences count, so that leases stay true while others are slow.
    """

    def __init__(
        self,
        journal: Journal,
        switches: Callable[[str], Switch],
        alerters: Mapping[str, Alerter],
        *,
        decision_ttl: float = DECISION_TTL,
        alert_ttl: float = ALERT_TTL,
        jitter: Callable[[], float] = random.random,
        stopwatch: Callable[[], float] = time.monotonic,
        page: str | None = None,
    ) -> None:
        self._journal, self._switches, self.alerters = journal, switches, alerters
        self._decision_ttl, self._jitter, self._stopwatch = decision_ttl, jitter, stopwatch
        self._deliveries, self._telling = (
            Deliveries(journal, alerters, alert_ttl, self._backoff, page),
            threading.Lock(),
        )
        self._said_at: float | None = None

    def turn_off(self, now: float, which: Callable[[Kill | Promote], bool] = lambda _: True) -> list[tuple[str, str]]:
        """Do the kills and promotions that are due.

        Args:
            now: epoch seconds.
            which: tells whether an action is to be done now; the others stay intended.

        Returns:
            Key and state of every action tried, in the order in which it was: `done`, `failed` (for good), `intended`
            (to be tried again).

        Raises:
            JournalError: the journal cannot be read or written. A failing switch raises nothing here.
        """
        return list(self._turn_offs(self._clock(now), which))

    def tell(self, now: float) -> list[tuple[str, str]]:
        """Do the alerts that are due; returns and raises as `turn_off`.

        One thread at a time: while one tells, others that ask return at once, and what is new waits for the next call.
        """
        if not self._telling.acquire(blocking=False):
            return []
        try:
            return list(self._deliveries.tell(self._clock(now)))
        finally:
            self._telling.release()

    def say(self, alert: Alert, now: float) -> bool:
        """Tell every alerter at once, past the journal; False where nobody could be told, or was within the hour.

        The single exception to the rule that whatever is told was recorded first: it says that nothing can be. Where
        it is not heard, or watcher dies on the way, it is told again at the next trouble, for nobody keeps it.
        """
        if self._said_at is not None and 0.0 <= now - self._said_at < SAID_FOR:
            return False
        for name, alerter in self.alerters.items():
            try:
                alerter.deliver(alert, None)
            except AlertError as error:
                log.error("%s could not be told: %s (%s)", name, alert.title, error)
            else:
                self._said_at = now
        return self._said_at == now

    def _clock(self, now: float) -> Clock:
        started = self._stopwatch()
        return lambda: now + (self._stopwatch() - started) // 1.0

    def _backoff(self, attempts: int, bounds: tuple[float, float]) -> float:
        first, most = bounds
        return min(most, first * 2.0 ** min(attempts, 30)) * (0.5 + 0.5 * self._jitter())

    def _turn_offs(self, clock: Clock, which: Callable[[Kill | Promote], bool]) -> Iterator[tuple[str, str]]:
        for entry in self._journal.pending(clock(), alerts=False):
            # What has grown too old is taken up whatever `which` says: to be given up, and told.
            if isinstance(entry.action, Alert) or not (self._too_old(entry, clock()) or which(entry.action)):
                continue
            if self._journal.claim(entry.key, clock()):
                yield entry.key, self._switch(entry, entry.action, clock)

    def _switch(self, entry: Pending, action: Kill | Promote, clock: Clock) -> str:
        too_old = self._too_old(entry, clock())
        try:
            switch = self._switches(action.switch)
            receipt = self._off(switch, action, too_old) if isinstance(action, Kill) else _up(switch, action, too_old)
        except (SwitchError, ConfigError) as error:
            permanent = too_old or isinstance(error, ConfigError) or error.permanent
            wait = getattr(error, "retry_after", None)
            pause = self._backoff(entry.attempts, _KILL_BACKOFF) if wait is None else max(wait, 1.0)
            return self._fail(entry, str(error), None if permanent else clock() + pause, clock)
        self._journal.done(entry.key, receipt, clock())
        return "done"

    def _too_old(self, entry: Pending, now: float) -> bool:
        decided_at = getattr(entry.action, "decided_at", 0.0)
        return now - (decided_at or entry.created_at) > self._decision_ttl

    def _off(self, switch: Switch, kill: Kill, too_old: bool) -> dict[str, str]:
        before = switch.read(kill.feature)
        if not before.on:
            return {"read_back": "off", "note": "already off", **({"after": before.shown} if before.shown else {})}
        if too_old:
            raise SwitchError(
                f"decision too old: {kill.feature} is still on, and was to be turned off by {kill.switch} more than "
                f"{self._decision_ttl:g} s ago; turn it off by hand if it should be"
            )
        switch.kill(kill.feature, kill.reason)
        after = switch.read(kill.feature)
        if after.on:
            raise SwitchError(f"{kill.switch} was told to turn {kill.feature} off, and reads back as still on")
        told = {"before": before.shown, "after": after.shown}
        return {"read_back": "off", **{name: shown for name, shown in told.items() if shown}}

    def _fail(self, entry: Pending, problem: str, retry: float | None, clock: Clock) -> str:
        self._journal.failed(entry.key, problem, retry, clock())
        return "failed" if retry is None else "intended"


def _up(switch: Switch, action: Promote, too_old: bool) -> dict[str, str]:
    """Raise the share, unless somebody changed it since that was decided: then it is theirs to decide."""
    before = switch.read(action.feature)
    if before.on and _same(before.share, action.share):
        return {"read_back": f"{action.share:g}", "note": "already there"}
    if too_old or not before.on or not _same(before.share, action.since):
        why = "the decision is too old" if too_old else f"it is not at {100 * action.since:g} % any more"
        raise SwitchError(f"{action.feature} is not promoted: {why} ({before.shown})", permanent=True)
    if not isinstance(switch, Dial):
        raise SwitchError(f"{action.switch} can only turn off: it cannot raise a share", permanent=True)
    switch.promote(action.feature, action.since, action.share)
    after = switch.read(action.feature)
    if not after.on or not _same(after.share, action.share):
        raise SwitchError(f"{action.feature} was to get {100 * action.share:g} %, and reads back as {after.shown}")
    return {"read_back": f"{action.share:g}", "before": before.shown, "after": after.shown}


def _same(share: float | None, other: float) -> bool:
    """Tell whether two shares are the same, as far as weights can express them."""
    return share is not None and abs(share - other) < SAME_SHARE

"""The only door to the outside: performs the actions of the journal's outbox.

Each action is claimed, done, read back and recorded. A crash at any point leaves an intent that the next process
takes up again: a switch that is off already is not turned a second time, an alert comes at most twice.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Protocol, runtime_checkable

from watcher.errors import AlertError, ConfigError, SwitchError
from watcher.journal import Journal, Pending
from watcher.model import SAME_SHARE, Alert, Kill, Promote, SwitchState

DECISION_TTL: Final = 600.0
"""Seconds after which a decision to kill is too old to be carried out."""
ALERT_TTL: Final = 3 * 86_400.0
"""Seconds after which an alert that could not be delivered is given up: longer than a weekend."""

_KILL_BACKOFF: Final = (2.0, 30.0)
_ALERT_BACKOFF: Final = (5.0, 300.0)

Clock = Callable[[], float]


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


class Alerter(Protocol):
    """Somewhere people are told."""

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Deliver an alert and return a receipt. Raises AlertError.

        Args:
            alert: what to tell.
            headline: the receipt of the latest headline of the release delivered here; None when there is none. A
                receipt thus says what the next headline and details need: what to edit, or what was told last.
        """
        ...


class Outbox:
    """Performs what the journal intends: kills first, then promotions, then messages.

    Args:
        journal: where intents are, and where receipts go.
        switches: finds the switch that `Kill.switch` names; raises SwitchError when there is none.
        alerters: every alerter by name; each gets every alert, and none waits for another.
        decision_ttl: seconds a kill may be carried out after it was decided.
        alert_ttl: seconds after which an undelivered alert is given up.
        jitter: uniform numbers in [0, 1), which spread retries.
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
    ) -> None:
        self._journal, self._switches, self.alerters = journal, switches, alerters
        self._decision_ttl, self._alert_ttl = decision_ttl, alert_ttl
        self._jitter, self._stopwatch = jitter, stopwatch

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
        """Do the alerts that are due; returns and raises as `turn_off`."""
        return list(self._tellings(self._clock(now)))

    def _clock(self, now: float) -> Clock:
        started = self._stopwatch()
        return lambda: now + (self._stopwatch() - started) // 1.0

    def _backoff(self, attempts: int, bounds: tuple[float, float]) -> float:
        first, most = bounds
        return min(most, first * 2.0 ** min(attempts, 30)) * (0.5 + 0.5 * self._jitter())

    # Kills and promotions

    def _turn_offs(self, clock: Clock, which: Callable[[Kill | Promote], bool]) -> Iterator[tuple[str, str]]:
        for entry in self._journal.pending(clock()):
            if isinstance(entry.action, Alert) or not which(entry.action):
                continue
            if self._journal.claim(entry.key, clock()):
                yield entry.key, self._switch(entry, entry.action, clock)

    def _switch(self, entry: Pending, action: Kill | Promote, clock: Clock) -> str:
        too_old = clock() - (action.decided_at or entry.created_at) > self._decision_ttl
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

    # Alerts

    def _tellings(self, clock: Clock) -> Iterator[tuple[str, str]]:
        alerts = [entry for entry in self._journal.unfinished() if isinstance(entry.action, Alert)]
        for entry in alerts:
            if entry.alerter is None:
                self._journal.address(entry.key, tuple(self.alerters), clock())
        queues: dict[str, list[Pending]] = {}
        for entry in self._journal.unfinished():
            if entry.alerter is not None:
                queues.setdefault(entry.alerter, []).append(entry)
        for alerter, queue in queues.items():
            yield from self._drain(alerter, queue, clock)

    def _drain(self, alerter: str, queue: Sequence[Pending], clock: Clock) -> Iterator[tuple[str, str]]:
        """Deliver one alerter's queue until it is empty or the alerter fails."""
        if self._held(alerter, clock()):
            return
        for line in self._lines(queue, clock):
            told = line[0].kind != "headline" or self._journal.receipt_of_headline(line[0].release, alerter) is not None
            for entry in line:
                state = self._deliver(alerter, entry, clock) if entry.due(clock()) else "waiting"
                if state in ("done", "failed", "intended"):
                    yield entry.key, state
                if state == "intended":
                    return
                # Below a headline that people can see already, details need not wait for its next edit.
                if state not in ("done", "failed") and not (entry.kind == "headline" and told):
                    break

    def _lines(self, queue: Sequence[Pending], clock: Clock) -> list[list[Pending]]:
        """Return what to tell of each release: the newest headline, then details in order; urgent releases first."""
        lines: dict[str, list[Pending]] = {}
        for entry in queue:
            lines.setdefault(entry.release, []).append(entry)
        for release, entries in lines.items():
            headlines = [entry for entry in entries if entry.kind == "headline"]
            self._journal.supersede([entry.key for entry in headlines[:-1]], clock())
            lines[release] = headlines[-1:] + [entry for entry in entries if entry.kind != "headline"]
        return sorted(lines.values(), key=lambda line: not any(_urgent(entry) for entry in line))

    def _deliver(self, alerter: str, entry: Pending, clock: Clock) -> str:
        if not isinstance(entry.action, Alert) or not self._journal.claim(entry.key, clock()):
            return "taken"
        if alerter not in self.alerters:
            return self._fail(entry, f"alerter {alerter} is not configured any more", None, clock)
        headline = self._journal.receipt_of_headline(entry.release, alerter)
        try:
            receipt = self.alerters[alerter].deliver(entry.action, headline)
        except AlertError as error:
            return self._fail(entry, str(error), self._retry(alerter, entry, error, clock()), clock)
        self._journal.done(entry.key, receipt, clock())
        return "done"

    def _retry(self, alerter: str, entry: Pending, error: AlertError, now: float) -> float | None:
        """Return when to try again, or None when that is pointless."""
        if error.permanent or now - entry.created_at > self._alert_ttl:
            return None
        if error.retry_after is None:
            return now + self._backoff(entry.attempts, _ALERT_BACKOFF)
        until = now + max(error.retry_after, 1.0)
        # The limit is the receiver's, not this message's: everything else for it waits as well, restarts included.
        self._journal.remember(_hold(alerter), [now, until])
        return until

    def _held(self, alerter: str, now: float) -> bool:
        since, until = self._journal.recall(_hold(alerter)) or (0.0, 0.0)
        return bool(since - 60.0 <= now < until)


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


def _hold(alerter: str) -> str:
    return f"alerter/{alerter}/held"


def _urgent(entry: Pending) -> bool:
    return isinstance(entry.action, Alert) and entry.action.urgent

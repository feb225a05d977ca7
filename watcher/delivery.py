"""The alerts of the outbox: addressed to every alerter, delivered in order, and together where they waited.

Every alert is told at least once: a crash between telling and recording tells the same message again, once.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Final, Protocol

from watcher.backlog import together
from watcher.errors import AlertError
from watcher.journal import Journal, Pending
from watcher.model import Alert
from watcher.replies import Replies

ALERT_TTL: Final = 3 * 86_400.0
"""Seconds after which an alert that could not be delivered is given up: longer than a weekend."""

AT_ONCE: Final = 5
"""Messages to one alerter without a pause; from then on one a second, which is what Slack takes for a channel."""

_BACKOFF: Final = (5.0, 300.0)

Clock = Callable[[], float]
Backoff = Callable[[int, tuple[float, float]], float]
Fates = Generator[tuple[str, str], None, str]
"""Key and state of every delivery tried, and in the end the state of all: `intended` says to try nothing else now."""


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


class Deliveries:
    """Delivers the alerts that the journal intends; every alerter gets every alert, and none waits for another.

    Nothing of the journal is held while an alerter is busy: it may take its time, and kills go on.

    Args:
        journal: where intents are, and where receipts go.
        alerters: every alerter by name.
        ttl: seconds after which an undelivered alert is given up.
        backoff: seconds to wait after so many attempts, between a first pause and the longest one.
        page: address of the page, for links to it.
    """

    def __init__(
        self, journal: Journal, alerters: Mapping[str, Alerter], ttl: float, backoff: Backoff, page: str | None = None
    ) -> None:
        self._journal, self._alerters, self._ttl, self._backoff = journal, alerters, ttl, backoff
        self._replies = Replies(journal, page)
        self._paces: dict[str, _Pace] = {}

    def tell(self, clock: Clock) -> Iterator[tuple[str, str]]:
        """Do what is due, and yield key and state of every delivery tried."""
        entries = self._journal.unfinished()
        new = [entry.key for entry in entries if isinstance(entry.action, Alert) and entry.alerter is None]
        if new:
            self._journal.address(new, tuple(self._alerters), clock())
            entries = self._journal.unfinished()
        queues: dict[str, list[Pending]] = {}
        for entry in entries:
            if entry.alerter is not None:
                queues.setdefault(entry.alerter, []).append(entry)
        for alerter, queue in queues.items():
            yield from self._drain(alerter, queue, clock)

    def _drain(self, alerter: str, queue: Sequence[Pending], clock: Clock) -> Iterator[tuple[str, str]]:
        """Deliver one alerter's queue until it is empty, the alerter fails, or has had enough for now."""
        if self._held(alerter, clock()):
            return
        for headlines, details in self._lines(queue, clock):
            if (yield from self._release(alerter, headlines, details, clock)) == "intended":
                return

    def _lines(self, queue: Sequence[Pending], clock: Clock) -> list[tuple[list[Pending], list[Pending]]]:
        """Return what to tell of each release: the newest headline, and details in order; urgent releases first."""
        lines: dict[str, list[Pending]] = {}
        for entry in queue:
            lines.setdefault(entry.release, []).append(entry)
        found = []
        for line in sorted(lines.values(), key=lambda line: not any(_urgent(entry) for entry in line)):
            headlines = [entry for entry in line if entry.kind == "headline"]
            if headlines[:-1]:
                self._journal.supersede([entry.key for entry in headlines[:-1]], clock())
            found.append((headlines[-1:], [entry for entry in line if entry.kind != "headline"]))
        return found

    def _release(self, alerter: str, headlines: list[Pending], details: list[Pending], clock: Clock) -> Fates:
        """Deliver what one release has: its headline, then its details in one message."""
        # Below a headline that people can see already, details need not wait for its next edit.
        shown = not headlines or self._journal.receipt_of_headline(headlines[0].release, alerter) is not None
        state = yield from self._due(alerter, headlines, clock)
        if state == "intended" or not (shown or state in ("done", "failed")):
            return state
        return (yield from self._due(alerter, details, clock))

    def _due(self, alerter: str, entries: Sequence[Pending], clock: Clock) -> Fates:
        """Deliver the first of them that are due: what waits for its turn holds up what came after it."""
        due = list(takewhile(lambda entry: entry.due(clock()), entries))
        if not due:
            return "waiting"
        if not self._paces.setdefault(alerter, _Pace()).allows(clock()):
            return "intended"
        taken = self._journal.take([entry.key for entry in due], clock())
        batch = [entry for entry in due if entry.key in taken]
        if not batch:
            return "taken"
        if alerter not in self._alerters:
            gone = AlertError(f"alerter {alerter} is not configured any more", permanent=True)
            return (yield from self._failed(alerter, batch, gone, clock))
        return (yield from self._send(alerter, batch, clock))

    def _send(self, alerter: str, batch: Sequence[Pending], clock: Clock) -> Fates:
        headline = self._journal.receipt_of_headline(batch[0].release, alerter)
        said = [(entry.created_at, entry.action) for entry in batch if isinstance(entry.action, Alert)]
        alert = said[0][1] if batch[0].kind == "headline" else together(said, clock())
        alert = self._replies.told(alert, clock())
        try:
            receipt = self._alerters[alerter].deliver(alert, headline)
        except AlertError as error:
            alone = error.permanent and len(batch) > 1
            return (yield from (self._one_by_one if alone else self._failed)(alerter, batch, error, clock))
        self._journal.delivered([entry.key for entry in batch], receipt, clock())
        yield from ((entry.key, "done") for entry in batch)
        return "done"

    def _one_by_one(self, alerter: str, batch: Sequence[Pending], error: AlertError, clock: Clock) -> Fates:
        """Deliver each alone what was refused together: one that can never be told must not take the others along."""
        for place, entry in enumerate(batch):
            if (yield from self._send(alerter, [entry], clock)) == "intended":
                self._journal.undelivered([left.key for left in batch[place + 1 :]], str(error), clock(), clock())
                return "intended"
        return "done"

    def _failed(self, alerter: str, batch: Sequence[Pending], error: AlertError, clock: Clock) -> Fates:
        """Record that they were not delivered: to be tried again, or given up where that is pointless."""
        lost = [entry for entry in batch if error.permanent or clock() - entry.created_at > self._ttl]
        again = [entry for entry in batch if entry not in lost]
        if lost:
            self._journal.undelivered([entry.key for entry in lost], str(error), None, clock())
            yield from ((entry.key, "failed") for entry in lost)
        if not again:
            return "failed"
        retry = self._retry(alerter, max(entry.attempts for entry in again), error.retry_after, clock())
        self._journal.undelivered([entry.key for entry in again], str(error), retry, clock())
        yield from ((entry.key, "intended") for entry in again)
        return "intended"

    def _retry(self, alerter: str, attempts: int, wait: float | None, now: float) -> float:
        """Return when to try again."""
        if wait is None:
            return now + self._backoff(attempts, _BACKOFF)
        until = now + max(wait, 1.0)
        # The limit is the receiver's, not this message's: everything else for it waits as well, restarts included.
        self._journal.remember(_hold(alerter), [now, until])
        return until

    def _held(self, alerter: str, now: float) -> bool:
        since, until = self._journal.recall(_hold(alerter)) or (0.0, 0.0)
        return bool(since - 60.0 <= now < until)


class _Pace:
    """Lets through some messages at once, and one a second from then on."""

    def __init__(self) -> None:
        self._left, self._at = float(AT_ONCE), 0.0

    def allows(self, now: float) -> bool:
        """Tell whether a message may go now, and count it."""
        # A clock that stepped back refills nothing, and holds nothing up.
        self._left, self._at = min(AT_ONCE, self._left + max(0.0, now - self._at)), now
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True


def _hold(alerter: str) -> str:
    return f"alerter/{alerter}/held"


def _urgent(entry: Pending) -> bool:
    return isinstance(entry.action, Alert) and entry.action.urgent

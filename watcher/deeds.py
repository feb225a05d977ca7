"""What was done, refused and told, a line each: the audit, and the messages that reached people, as they read them."""

from __future__ import annotations

import datetime as dt
import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from watcher.journal import Journal, Pending
from watcher.model import Alert
from watcher.report.json_report import iso

Detail = Mapping[str, Any]


@dataclass(frozen=True)
class Deed:
    """One thing that happened, to which release (None: to none), and all that is known of it."""

    at: float
    release: str | None
    what: str
    detail: Detail

    def __str__(self) -> str:
        """As a person reads it, on one line, whatever was told from outside.

        >>> print(Deed(1.8e9, "shop/production/cart@2", "kill intended", {
        ...     "feature": "cart", "switch": "unleash:http://flags", "reason": "errors tripled"}))
        2027-01-15 08:00:00Z  shop/production/cart@2  kill intended: cart by unleash: errors tripled
        """
        return f"{stamp(self.at)}  {self.release or '-'}  {self.said}"

    @property
    def said(self) -> str:
        """What was done, in words, on one line."""
        try:
            says = _SAYS.get(self.what, _everything)(self.detail)
        except KeyError:
            # Written by a version that said less of it.
            says = _everything(self.detail)
        return "".join(char if char.isprintable() else " " for char in f"{self.what}{says and f': {says}'}")

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {"at": iso(self.at), "release": self.release, "what": self.what, **self.detail}


def deeds(journal: Journal, release: str | None) -> list[Deed]:
    """Return everything that was done, refused and told, of one release or (None) of all, oldest first.

    The audit keeps the order in which it was written, whatever the clock said meanwhile. Both parts of a release share
    one message: of the part from when everybody has it, what was told from then on is its own. What was told by editing
    the message and below it, too, is told once.
    """
    watched = None if release is None else journal.watched(release)
    message = release if watched is None else watched.watch.release.message
    since = watched.watch.release.exposed_at if watched is not None and message != release else 0.0
    audited = [Deed(line.at, line.release, line.what, line.detail) for line in journal.audit_trail(release)]
    told = [deed for deed in _told(journal.actions(message)) if deed.at >= since]
    return list(heapq.merge(audited, sorted(told, key=lambda deed: deed.at), key=lambda deed: deed.at))


def stamp(at: float) -> str:
    """Return a moment as a day and a time, UTC.

    >>> stamp(1_700_000_000.0)
    '2023-11-14 22:13:20Z'
    """
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M:%SZ}"


def _told(entries: Iterable[Pending]) -> Iterable[Deed]:
    """Return what deliveries came to; one that was given up is in the audit, one that was replaced is nothing."""
    found: dict[tuple[Any, ...], Deed] = {}
    for entry in entries:
        alert = entry.action
        if not isinstance(alert, Alert) or entry.alerter is None:
            continue
        said = {"alerter": entry.alerter, "title": alert.title, "urgent": alert.urgent, "attempts": entry.attempts}
        if entry.state == "done":
            deed = Deed(entry.finished_at or entry.created_at, entry.release, "told", said)
        elif entry.state in ("intended", "claimed"):
            deed = Deed(entry.created_at, entry.release, "not told yet", {**said, "error": entry.error})
        else:
            continue
        found.setdefault((deed.what, entry.alerter, alert.channel, alert.title, alert.at), deed)
    return found.values()


def _by(detail: Detail) -> str:
    return ": ".join(filter(None, (f"by {detail['by']}", detail.get("reason"))))


def _promoted(detail: Detail) -> str:
    shares = f"from {100 * detail['since']:g} % to {100 * detail['share']:g} %"
    return f"{detail['feature']} {shares} by {_kind(detail)}: {detail['reason']}"


def _kind(detail: Detail) -> str:
    return str(detail["switch"]).partition(":")[0]


def _read_back(detail: Detail) -> str:
    receipt = detail["receipt"]
    before = f", before {receipt['before']}" if receipt.get("before") else ""
    note = f" ({receipt['note']})" if receipt.get("note") else ""
    return f"read back {receipt.get('after') or receipt.get('read_back', 'nothing')}{before}{note}"


def _failed(detail: Detail) -> str:
    return f"{detail['error']}; {'given up' if detail['final'] else 'to be tried again'}"


def _message(detail: Detail) -> str:
    error = f" (after {detail['attempts']} attempts: {detail['error']})" if detail.get("error") else ""
    return f"{detail['alerter']}: {detail['title']}{' [urgent]' if detail['urgent'] else ''}{error}"


def _drilled(detail: Detail) -> str:
    said = f"would do: {detail['would']}" if "would" in detail else f"would fail: {detail['error']}"
    return f"{detail['flag']} by {detail['by']}, {said}"


def _said_share(detail: Detail) -> str:
    return f", for {100 * detail['share']:.3g} % of the users, which is not what was known" if "share" in detail else ""


def _everything(detail: Detail) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items())


_SAYS: Final[Mapping[str, Callable[[Detail], str]]] = {
    "release noticed": lambda detail: f"by {detail['by']}",
    "release noticed again": lambda detail: f"by {detail['by']}, version {detail['version']}{_said_share(detail)}",
    "deployment noticed": lambda detail: f"{detail['deployment']} by {detail['by']}",
    "release ended": lambda detail: f"{detail['status']}: {detail['reason']}",
    "accepted": lambda detail: f"{detail['rule']} {_by(detail)}",
    "refused": lambda detail: f"{detail['action']}, {detail['reason']}: {detail['detail']}",
    "kill by hand": _by,
    "kill intended": lambda detail: f"{detail['feature']} by {_kind(detail)}: {detail['reason']}",
    "kill done": _read_back,
    "kill failed": _failed,
    "promote intended": _promoted,
    "promote done": _read_back,
    "promote failed": _failed,
    "alert failed": lambda detail: f"{detail['error']}; given up ({detail['key']})",
    "told": _message,
    "not told yet": _message,
    "turned on again": lambda detail: f"{detail['feature']}, reads {detail['shown'] or 'on'}",
    "drill": _drilled,
    "reply: kill": _by,
    "reply: accept": _by,
    "reply: silence": _by,
    "reply: acknowledge": _by,
    "paused": lambda detail: f"until {stamp(detail['until'])} {_by(detail)}",
    "resumed": lambda detail: f"{_by(detail)} (it would have lasted until {stamp(detail['until'])})",
    "latched": lambda detail: f"after kills at {', '.join(map(stamp, detail['kills']))}",
    "latch opened": _by,
}
"""How what the audit calls by a name is said; all else is said as it was written down."""

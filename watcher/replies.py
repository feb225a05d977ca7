"""What people did about a release where they were told of it, and what they may still do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote

from watcher.journal import Journal, Watched
from watcher.model import Alert, Button, Kill, Reply

TROUBLED: Final = frozenset(
    {
        "regressed",
        "global_event",
        "killed",
        "kill_delayed",
        "kill_failed",
        "unrecovered",
        "turned_on",
        "no_data",
        "invalid",
    }
)
"""States in which somebody should look."""
HARMED: Final = frozenset({"regressed", "global_event"})
"""States of harm that a person may take as intended."""
KILLS: Final = frozenset({"killed", "kill_delayed", "kill_failed", "turned_off", "turned_on", "unrecovered"})
"""States that are about a kill: they are told aloud whoever asked for silence."""


@dataclass(frozen=True)
class Replies:
    """Puts what people did, and what they may do, into what is told.

    `page` is where the page is, for a link to the release; None: nowhere that people could go.
    """

    journal: Journal
    page: str | None = None

    def told(self, alert: Alert, now: float) -> Alert:
        """Return an alert as it is to be delivered now."""
        if alert.channel:
            return alert
        given = replies(self.journal, alert.release)
        if alert.urgent and alert.state not in KILLS and in_force("silence", given, now):
            alert = replace(alert, urgent=False)
        watched = part(self.journal, alert.release)
        if watched is None:
            return alert
        if self.page is not None:
            links = (*alert.links, ("page", f"{self.page.rstrip('/')}/releases/{quote(alert.release)}"))
            alert = replace(alert, links=links)
        if alert.kind != "headline":
            return alert
        return replace(alert, replies=tuple(given), buttons=buttons(self.journal, watched, alert.state, given, now))


def part(journal: Journal, release: str) -> Watched | None:
    """Return the release that a message is about: from when everybody has it, that part of it."""
    return journal.watched(f"{release}+everyone") or journal.watched(release)


def headline(journal: Journal, release: str) -> Alert | None:
    """Return the latest headline of a release as it was decided; None where there is none."""
    found = [entry.action for entry in journal.actions(release) if entry.alerter is None]
    headlines = [each for each in found if isinstance(each, Alert) and each.kind == "headline"]
    return headlines[-1] if headlines else None


def replies(journal: Journal, release: str) -> list[Reply]:
    """Return what people did about a release, oldest first."""
    kept: list[dict[str, Any]] = journal.recall(memory(release)) or []
    return [Reply(**each) for each in kept]


def remembered(given: Sequence[Reply]) -> list[dict[str, Any]]:
    """Return replies as the journal keeps them."""
    return [dict(each.__dict__) for each in given]


def in_force(what: Button, given: Sequence[Reply], now: float) -> Reply | None:
    """Return the reply that made something be so now, if there is one."""
    found = [each for each in given if each.what == what and (each.until is None or now < each.until)]
    return found[-1] if found else None


def buttons(journal: Journal, watched: Watched, state: str, given: Sequence[Reply], now: float) -> tuple[Button, ...]:
    """Return what there is to decide about a release now; nothing once its watch is over."""
    if watched.status != "active":
        return ()
    watch = watched.watch
    may: dict[Button, bool] = {
        "kill": watch.switch is not None and watch.release.reversible and killed(journal, watch.release.id) is None,
        "accept": state in HARMED,
        "silence": state in TROUBLED,
        "acknowledge": state in TROUBLED,
    }
    # A kill that was given up may be asked for again.
    return tuple(what for what, there in may.items() if there and (what == "kill" or not in_force(what, given, now)))


def killed(journal: Journal, release: str) -> Kill | None:
    """Return the kill of a release that was done or is to be done, by watcher or by hand."""
    found = [entry for entry in journal.switched() if entry.release == release and entry.state != "failed"]
    return next((entry.action for entry in found if isinstance(entry.action, Kill)), None)


def memory(release: str) -> str:
    """Return under which name the journal remembers what people did about a release."""
    return f"replies/{release}"

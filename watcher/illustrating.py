"""Pictures below the message of a release that regressed: what the worst rule did, for those who are about to decide.

They take time to draw and to send, and nothing waits for them: neither a kill nor a word. One that cannot be drawn or
sent is left out.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from watcher import recorded
from watcher.alerts import Illustrated
from watcher.alerts.picture import Picture
from watcher.delivery import Alerter
from watcher.errors import AlertError, DataError
from watcher.journal import Journal
from watcher.model import Look, Outcome, Watch
from watcher.oneoff.found import Chart
from watcher.oneoff.report import SHOWS
from watcher.report.drawing import to_png
from watcher.report.explanation import subject

log = logging.getLogger("watcher")

_CHARTS: Final[tuple[Chart, ...]] = ("effect", "arms")


def illustrate(journal: Journal, alerters: Mapping[str, Alerter], now: float) -> None:
    """Put pictures below every message that says that a release regressed, and again once it was killed; once each.

    Args:
        journal: where releases, and what was told of them, are.
        alerters: by name; those that cannot show pictures are left out.
        now: epoch seconds.
    """
    able = {name: each for name, each in alerters.items() if isinstance(each, Illustrated)}
    for watched in journal.watches(active=True) if able else ():
        watch, last = watched.watch, journal.last_look(watched.watch.release.id, states=False)
        if last is None or last.verdict.outcome is not Outcome.REGRESSED:
            continue
        for name, alerter in able.items():
            _show(journal, watch, last, name, alerter, now)


def _show(journal: Journal, watch: Watch, last: Look, name: str, alerter: Illustrated, now: float) -> None:
    state = "regressed" if last.killed_at is None else "killed"
    key = f"pictures/{watch.release.id}/{name}/{state}"
    headline = journal.receipt_of_headline(watch.release.message, name)
    if headline is None or journal.recall(key) is not None:
        return
    # Before they are drawn: what cannot be drawn or sent must not be tried for ever.
    journal.remember(key, now)
    pictures = _drawn(journal, watch)
    try:
        if pictures:
            alerter.illustrate(pictures, headline)
    except AlertError as error:
        log.warning("no pictures of %s: %s", watch.release.id, error)


def _drawn(journal: Journal, watch: Watch) -> list[Picture]:
    """Draw the worst stream."""
    known = recorded.verdict(journal, watch)
    worst = known.findings.streams[0] if known is not None and known.findings.streams else None
    found = None if worst is None else recorded.comparison(journal, watch, (worst.rule, worst.labels))
    if found is None or worst is None:
        return []
    place = found.findings.streams.index(worst)
    pictures = []
    for kind in _CHARTS:
        says = f"{subject(found.findings, worst)}: {SHOWS[kind]}"
        try:
            png = to_png(found.chart(kind, place))
        except (DataError, LookupError, StopIteration, ValueError) as error:
            log.warning("no picture of %s: %s", watch.release.id, error)
            continue
        pictures.append(Picture(f"{kind}.png", says, f"{says}. {worst.reason}", png))
    return pictures

"""What waited for one release, told as one message: an outage of where people are told does not end in a storm."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from watcher import reasons
from watcher.model import Alert

STALE: Final = 86_400.0
"""Seconds after which a detail is only counted: by then the headline says what matters."""

ROOM: Final = 4000
"""Characters of details in one message, more or less: people read it on a telephone, and Slack takes some 12,000."""


def together(details: Sequence[tuple[float, Alert]], now: float) -> Alert:
    """Return one alert that says what several say, in their order and each with its time; one alone is told as it is.

    What is stale, or has no room beside what came after it, is counted in the first line.

    Args:
        details: when each was decided, and what it says; of one release, oldest first.
        now: epoch seconds.
    """
    kept = _kept(details, now)
    (first, oldest), (_, latest), folded = details[0], details[-1], len(details) - len(kept)
    if len(details) == len(kept) == 1:
        return latest
    lines = [line for at, alert in kept for line in (f"{_clock(at, now)}  {alert.title}", *alert.lines)]
    if folded:
        told = "more before these" if kept else "that could not be told in time"
        since = f", {'the first of ' * (folded > 1)}{_clock(first, now)}"
        lines.insert(0, f"And {folded} {told}{since}: see `watcher history --actions`.")
    return replace(
        latest,
        key=f"{oldest.key}+{len(details) - 1}",
        title=f"{len(details)} update{'s' * (len(details) > 1)} of {latest.release}",
        lines=tuple(lines),
        urgent=any(alert.urgent for _, alert in details),
        links=tuple(dict.fromkeys(link for _, alert in details for link in alert.links)),
    )


def _kept(details: Sequence[tuple[float, Alert]], now: float) -> Sequence[tuple[float, Alert]]:
    """Return the latest of them that are not stale and have room; the last one always, unless it is stale."""
    first, used = len(details), 0
    for place in reversed(range(len(details))):
        at, alert = details[place]
        used += sum(len(line) + 1 for line in (alert.title, *alert.lines)) + 12
        if now - at > STALE or (used > ROOM and first < len(details)):
            break
        first = place
    return details[first:]


def _clock(at: float, now: float) -> str:
    """Return a time of day, with the day where it is another.

    >>> _clock(1_700_000_000.0, 1_700_000_600.0), _clock(1_700_000_000.0, 1_700_100_000.0)
    ('22:13 UTC', '2023-11-14 22:13 UTC')
    """
    day, today = (dt.datetime.fromtimestamp(moment, dt.UTC).date() for moment in (at, now))
    return reasons.clock(at) if day == today else f"{day} {reasons.clock(at)}"

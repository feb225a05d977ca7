"""What those are told who have to know of a release and do not watch it: that it began, and how it ended; once each.

In words without statistics: support, documentation, sales read it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from watcher.model import Alert, Outcome, Watch

_ENDED: Final[Mapping[str, str]] = {
    "recovered": "was turned off: users were worse off with it. They are as well as before now.",
    "unrecovered": "was turned off because users were worse off, and they still are: those who watch it are looking.",
    "superseded": "gave way to a newer version.",
    "stopped": "is not watched any more.",
    Outcome.HEALTHY.value: "is well: users fare no worse with it.",
    Outcome.REGRESSED.value: "is still on, and users are worse off with it: those who watch it decide.",
    Outcome.INCONCLUSIVE.value: "is not watched any more: no harm was found, though it could not be ruled out.",
    Outcome.NO_DATA.value: "is not watched any more: nothing was measured that would say how users fare.",
    Outcome.INVALID.value: "is not watched any more: what was measured cannot be compared.",
}
"""How it ended, by the state of the release, or else by its last outcome."""
_STILL_ON: Final = (
    "was to be turned off because users were worse off, and could not be: those who watch it are looking."
)


def begun(watch: Watch, now: float) -> tuple[Alert, ...]:
    """Return what everybody who has to know is told when users get a release; nothing of its later parts."""
    release = watch.release
    if release.everyone:
        return ()
    share = "Users have it now." if release.share is None else f"{100 * release.share:.3g} % of the users have it now."
    until = f"{dt.datetime.fromtimestamp(watch.ends_at, dt.UTC):%d %b %H:%M} UTC"
    lines = (share, f"How they fare is watched until {until} at the latest; then you hear how it ended.")
    return _told(watch, "started", f"Started: {_name(watch)}", lines, now)


def over(watch: Watch, state: str, outcome: Outcome | None, now: float, turned_off: bool = True) -> tuple[Alert, ...]:
    """Return what they are told when the watch on a release is over.

    Args:
        watch: that is over.
        state: how it ended.
        outcome: the last one; None where it was never looked at.
        now: epoch seconds.
        turned_off: whether a kill took effect, where there was one.
    """
    known = state if state in _ENDED else (outcome or Outcome.NO_DATA).value
    said = _ENDED[known] if turned_off or state not in ("recovered", "unrecovered") else _STILL_ON
    return _told(watch, "over", f"Over: {_name(watch)}", (f"{watch.release.feature} {said}",), now)


def _name(watch: Watch) -> str:
    release = watch.release
    return f"{release.feature} {release.version}{release.time} on {release.service}/{release.environment}"


def _told(watch: Watch, state: str, title: str, lines: tuple[str, ...], now: float) -> tuple[Alert, ...]:
    """Return a message for each channel, each of its own: nobody is told by an edit."""

    def told(channel: str) -> Alert:
        about = f"{watch.release.message} ({channel}, {state})"
        return Alert(
            f"{about}|headline", about, "headline", state, title, lines, now, links=watch.links, channel=channel
        )

    return tuple(map(told, watch.tell))

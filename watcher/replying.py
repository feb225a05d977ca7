"""Doing what somebody asks for where they were told of a release: recorded first, and once, however often they ask."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from watcher import intake, reasons
from watcher.errors import Refused
from watcher.journal import AuditLine, Journal, Watched
from watcher.model import BY_HAND, Button, Kill, Outcome, Reply
from watcher.replies import buttons, headline, in_force, killed, memory, part, remembered, replies

SILENCE: Final = 3600.0
"""Seconds of silence that somebody asks for with one click."""
LONGEST_REASON: Final = 200
"""Characters of a reason."""

SAID: Final[dict[Button, str]] = {
    "kill": "turned off by hand",
    "accept": "accepted as intended",
    "silence": "silenced",
    "acknowledge": "acknowledged",
}
"""What a reply is called when it is told."""


def reply(journal: Journal, release: str, what: Button, by: str, reason: str, now: float) -> str:
    """Do what somebody asks for, and return what to tell them: that it is so now, or that it was so already.

    The one message of the release is edited to say it, in the place of the button.

    Args:
        journal: where the release is, and where this is recorded before anything is done.
        release: what its message is called.
        what: is asked for.
        by: who asks.
        reason: why; what is accepted takes one.
        now: epoch seconds.

    Raises:
        Refused: there is no such release, or nothing like that to decide about it any more.
    """
    watched = part(journal, release)
    if watched is None:
        raise Refused(f"there is no release {release!r}")
    given = replies(journal, release)
    before = in_force(what, given, now)
    if what == "kill" and (kill := killed(journal, watched.watch.release.id)) is not None:
        return f"{release} is being turned off, or is off already: {kill.reason}"
    if what != "kill" and before is not None:
        return f"{release} was {SAID[what]} by {before.by} at {reasons.clock(before.at)} already"
    latest = headline(journal, release)
    if what not in buttons(journal, watched, "" if latest is None else latest.state, given, now):
        raise Refused(f"{release} cannot be {SAID[what]} any more: see what it is now with `watcher release show`")
    reason = " ".join(reason.split())[:LONGEST_REASON]
    made = Reply(what, by, now, reason, now + SILENCE if what == "silence" else None)
    _do(journal, watched, made)
    journal.remember(memory(release), remembered([*given, made]), _audited(release, made))
    if latest is not None:
        # The message says it as soon as it can be edited; what it says beside was true before.
        journal.intend([replace(latest, key=f"{release}|{what}|{now:.3f}|headline")], now)
    return f"{release} is {SAID[what]} by {by}"


def _do(journal: Journal, watched: Watched, made: Reply) -> None:
    """Record what has an effect beyond words: the daemon does it at its next tick."""
    watch = watched.watch
    if made.what == "kill":
        assert watch.switch is not None
        said = f"by hand by {made.by}{f': {made.reason}' if made.reason else ''}"
        key = f"{watch.release.id}{BY_HAND}{made.at:.3f}"
        asked = AuditLine(made.at, watch.release.id, "kill by hand", {"key": key, "by": made.by, "reason": made.reason})
        journal.intend(
            [Kill(key, watch.release.id, watch.switch, watch.release.feature, said, made.at)], made.at, asked
        )
    elif made.what == "accept":
        if not made.reason:
            raise Refused("say why this harm is intended")
        last = journal.last_look(watch.release.id, states=False)
        streams = () if last is None else last.verdict.streams
        for rule in sorted({each.rule for each in streams if each.outcome is Outcome.REGRESSED}):
            intake.accept(journal, watch.release.id, rule, made.reason, made.at, made.by)


def _audited(release: str, made: Reply) -> AuditLine:
    until = {} if made.until is None else {"until": made.until}
    return AuditLine(made.at, release, f"reply: {made.what}", {"by": made.by, "reason": made.reason, **until})

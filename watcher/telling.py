"""What people are told of a release, and when: every message, from the first to how it ended.

A release has one headline, which is edited as its state changes, and details below it. Both parts of a release that
everybody has in the end share that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from watcher import reasons, stakeholders
from watcher.model import SAME_SHARE, Alert, Kill, Outcome, Promote, Refusal, ReleaseVerdict, Watch
from watcher.wording import wording

TITLES = {
    "watching": "Watching",
    "healthy": "Healthy, proven",
    "regressed": "REGRESSED",
    "global_event": "REGRESSED, and so is what does not have it: NOT turned off",
    "raised": "Raised",
    "killed": "Killed: REGRESSED, turning it off",
    "turned_off": "Turned off",
    "kill_delayed": "Kill delayed: REGRESSED, and NOT turned off yet",
    "kill_failed": "Kill failed: REGRESSED, and NOT turned off",
    "recovered": "Recovered, turned off",
    "unrecovered": "Unrecovered: turned off, and NOT better",
    "turned_on": "Turned ON AGAIN after the kill",
    "not_raised": "Not raised: healthy, but the share could not be changed",
    "no_data": "No data",
    "invalid": "Invalid comparison",
    "ended": "Ended watching",
    "superseded": "Superseded",
    "stopped": "Stopped watching",
    "everyone": "Everyone has it",
    "unwatched": "NOT watched: users have it, and nobody judges how they fare",
    "latched": "Latched: watcher turns nothing off any more",
    "not_recording": "Not recording, and therefore NOT acting: watcher cannot write its journal",
}
"""The first words people read, by state."""

_STILL_ON = {
    "recovered": "Recovered, though it could not be turned off",
    "unrecovered": "Unrecovered: NOT turned off, and NOT better",
}
"""The same of a release whose kill never took effect, as far as is known."""

ENDINGS = {"recovered", "unrecovered", "ended"}
"""States in which a watch is over."""

_KINDS: tuple[Literal["headline", "detail"], Literal["headline", "detail"]] = ("headline", "detail")


@dataclass(frozen=True)
class Seen:
    """What a message needs beside the verdict.

    `before` tells that people have had a message of this watch, `beside` which other releases could be the cause of
    harm, `aftermath` what the blocks since a kill say, and `turned_off` that the kill took effect.
    """

    now: float
    before: bool = False
    beside: str = ""
    aftermath: str = ""
    turned_off: bool = True


def next_step(watch: Watch) -> float | None:
    """Return the share that comes next; None where people raise it, or nobody says what it is now."""
    now = watch.release.share
    return None if now is None else next((step for step in watch.promote if step > now + SAME_SHARE), None)


def transition(
    watch: Watch, verdict: ReleaseVerdict, state: str, seen: Seen, refusals: Sequence[Refusal]
) -> tuple[Alert, ...]:
    """Return the headline edited to a new state, and the transition as a detail below it.

    The first message is the headline itself; what comes later edits it and is told below it.
    """
    urgent = state in {"regressed", "global_event", "killed", "unrecovered"} or "absent_treatment" in verdict.alarms
    lines = tuple(_lines(watch, verdict, state, seen, refusals))
    kinds = _KINDS if seen.before else _KINDS[:1]
    title = None if seen.turned_off else _STILL_ON.get(state)
    told = _alerts(watch, state, lines, f"{state}|{seen.now:.0f}", seen.now, urgent, kinds, title)
    if not seen.before:
        told += stakeholders.begun(watch, seen.now)
    if state in ENDINGS:
        told += stakeholders.over(watch, state, verdict.outcome, seen.now, seen.turned_off)
    return told


def _alerts(
    watch: Watch,
    state: str,
    lines: tuple[str, ...],
    key: str,
    now: float,
    urgent: bool,
    kinds: Sequence[Literal["headline", "detail"]] = _KINDS,
    title: str | None = None,
) -> tuple[Alert, ...]:
    release, title = watch.release, f"{title or TITLES[state]}: {_name(watch)}"
    return tuple(
        Alert(f"{release.id}|{key}|{kind}", release.message, kind, state, title, lines, now, urgent, watch.links)
        for kind in kinds
    )


def _name(watch: Watch) -> str:
    release = watch.release
    whom = ", for everyone" * release.everyone
    return f"{release.feature} {release.version}{release.time} on {release.service}/{release.environment}{whom}"


def _lines(watch: Watch, verdict: ReleaseVerdict, state: str, seen: Seen, refusals: Sequence[Refusal]) -> list[str]:
    """Return the body of a message: the worst first, then what watcher does about it."""
    if state in {"recovered", "unrecovered"}:
        return [seen.aftermath, *([wording(watch.release).again] if seen.turned_off else [])]
    lines = [verdict.reason]
    if state == "ended":
        minutes = (seen.now - watch.release.exposed_at) / 60
        lines.insert(0, f"Last outcome after {reasons.span(minutes)}: {verdict.outcome.value}.")
    others = [s for s in verdict.streams if s.outcome is Outcome.REGRESSED and s.reason not in verdict.reason]
    lines += [stream.reason for stream in others[:10]]
    if seen.beside and state in {"regressed", "global_event", "killed"}:
        lines.append(seen.beside)
    if state == "killed":
        words = wording(watch.release)
        lines.append(f"{words.doing}. {words.again}")
    elif state in {"regressed", "global_event"}:
        lines.append(_not_killed(watch, refusals))
    elif state == "healthy":
        lines += _raising(watch, refusals)
    elif state == "watching":
        lines += _watching(watch)
    elif state == "invalid":
        lines.append("Nothing is raised or turned off on a comparison that is broken: please look.")
    based = state in {"healthy", "regressed", "global_event", "killed"}
    return lines + [f"Based on: {text}." for text in verdict.assumptions[:3] if based]


def _not_killed(watch: Watch, refusals: Sequence[Refusal]) -> str:
    lasting = [refusal for refusal in refusals if refusal.reason != "not_held"]
    why = "; ".join(refusal.detail for refusal in lasting or refusals)
    if not lasting:
        return f"Turned off if the next block says the same: {why}."
    if {"not_the_cause", "cause_unclear", "global_event"} & {refusal.reason for refusal in refusals}:
        return f"Not turned off: {why}. Please look, and decide."
    return f"Recommended: {wording(watch.release).do}. Not done automatically: {why}."


def _raising(watch: Watch, refusals: Sequence[Refusal]) -> list[str]:
    """Return what is done, or recommended, about the share of a healthy release."""
    step, now = next_step(watch), watch.release.share
    if watch.promote and now is None:
        return ["Not raised: nobody says what share of the users it has; can its switch be read?"]
    if step is None or now is None:
        return []
    target = f"{wording(watch.release).what} from {100 * now:.3g} % to {100 * step:.3g} %"
    if not refusals:
        return [f"Raising {target} of the users."]
    why = "; ".join(refusal.detail for refusal in refusals)
    return [f"Recommended: raise {target} of the users. Not done automatically: {why}."]


def _watching(watch: Watch) -> list[str]:
    """Return how a release is watched, and what that cannot see; at a later stage, what share that is."""
    share = watch.release.share
    if len(watch.release.stages) > 1 and share is not None:
        return [f"{100 * share:.3g} % of the users have it now: health is proven anew at each share."]
    lines = [
        f"Design: {watch.design.value}; rules: {', '.join(rule.label for rule in watch.rules)}.",
        f"Mode {watch.mode.value}; watched for {reasons.span(watch.horizon / 60)}.",
    ]
    if watch.release.previous and not watch.release.everyone:
        lines.insert(0, f"Before it: {watch.release.previous}.")
    if watch.promote and share is not None:
        steps = [f"{100 * step:.3g} %" for step in watch.promote if step > share + SAME_SHARE]
        lines.append(f"{100 * share:.3g} % of the users have it; once it is proven healthy: {', then '.join(steps)}.")
    if watch.dilution < 1:
        lines.append(f"{reasons.diluted(watch)}; count by variant, and name it in `arms`.")
    return lines


def started(watch: Watch, older: Sequence[Watch], beside: Sequence[Watch], now: float) -> tuple[Alert, ...]:
    """Return what to say when a release starts that supersedes others, or begins beside others of its service."""
    lines = [f"Supersedes {each.release.id}, {_since(each, now)}." for each in older]
    if beside:
        others = ", ".join(f"{each.release.id} ({_since(each, now)})" for each in beside)
        lines.append(f"Also being watched on {watch.release.service}: {others}.")
    return _alerts(watch, "watching", tuple(lines), "started", now, False, _KINDS[1:]) if lines else ()


def joined(watch: Watch, newer: Watch, now: float) -> tuple[Alert, ...]:
    """Return what to say below a release when another one of its service begins beside it."""
    said = f"{newer.release.id} is exposed, too, from {reasons.clock(newer.release.exposed_at)} on."
    key, title = f"{watch.release.id}|beside|{newer.release.id}|detail", f"Also released: {_name(newer)}"
    return (Alert(key, watch.release.message, "detail", "watching", title, (said,), now, links=watch.links),)


def _since(watch: Watch, now: float) -> str:
    return f"exposed {reasons.span(max(now - watch.release.exposed_at, 0.0) / 60)} earlier"


def closed(watch: Watch, status: str, why: str, verdict: ReleaseVerdict | None, now: float) -> tuple[Alert, ...]:
    """Return what to say when a watch ends because something else happened: how, and what was known by then."""
    minutes = max(now - watch.release.exposed_at, 0.0) / 60
    last = "not looked at yet." if verdict is None else f"{verdict.outcome.value}. {verdict.reason}"
    lines = [f"{why[:1].upper()}{why[1:]}.", f"Last outcome after {reasons.span(minutes)}: {last}"]
    if status == "everyone":
        further = reasons.span(watch.horizon / 60)
        lines.append(f"Watched on for {further}, held against the past of {watch.release.service}.")
    told = _alerts(watch, status, tuple(lines), status, now, False)
    if status == "everyone":
        return told
    return told + stakeholders.over(watch, status, None if verdict is None else verdict.outcome, now)


def kill_done(kill: Kill, watch: Watch, receipt: Mapping[str, str], now: float) -> tuple[Alert, ...]:
    """Return what to say when a kill took effect: what its switch says now, and what it said before."""
    lines = [f"{wording(watch.release).done}, read back: {receipt.get('after') or receipt.get('read_back')}."]
    lines += [f"Decided {kill.reason}."] if kill.by_hand else []
    return _done(watch, "turned_off", f"off|{kill.key}", lines, receipt, now)


def promotion_done(watch: Watch, promote: Promote, receipt: Mapping[str, str], now: float) -> tuple[Alert, ...]:
    """Return what to say when a share was raised: what its switch says now, and what it said before."""
    shares = f"from {100 * promote.since:.3g} % to {100 * promote.share:.3g} % of the users"
    lines = [f"{wording(watch.release).what} {shares}, read back: {receipt.get('after') or receipt.get('read_back')}."]
    return _done(watch, "raised", f"raised|{promote.share:g}", lines, receipt, now)


def _done(
    watch: Watch, state: str, key: str, lines: Sequence[str], receipt: Mapping[str, str], now: float
) -> tuple[Alert, ...]:
    lines = [*lines, f"Before: {receipt['before']}."] if receipt.get("before") else lines
    return _alerts(watch, state, tuple(lines), key, now, False, _KINDS[1:])


def kill_delayed(watch: Watch, problem: str, now: float) -> tuple[Alert, ...]:
    """Return what to say when a kill did not work at the first try, and is tried again."""
    lines = (f"{problem}.", f"It is being tried again; to be quicker, {wording(watch.release).do} by hand.")
    return _alerts(watch, "kill_delayed", lines, "kill_delayed", now, True)


def kill_failed(kill: Kill, watch: Watch | None, problem: str, now: float) -> tuple[Alert, ...]:
    """Return what to say when a kill was given up: people must turn the release off themselves.

    Args:
        kill: what was given up.
        watch: of the release it was to turn off; None where a person decided to, and no release was being watched.
        problem: why it was given up.
        now: epoch seconds.
    """
    state, by_hand = "kill_failed", kill.by_hand
    first = "Kill failed: decided by hand, and NOT turned off" if by_hand else TITLES[state]
    title = f"{first}: {kill.release if watch is None else _name(watch)}"
    decided = [f"Decided {kill.reason}."] if by_hand else []
    do = f"turn {kill.feature} off" if watch is None else wording(watch.release).do
    lines = (f"{problem}.", *decided, f"Please {do} {'where it is kept' if by_hand else 'by hand'}.")
    # Without a release there is no message to edit: each failure is a headline of its own.
    about, kinds, links = (kill.key, _KINDS[:1], ()) if watch is None else (watch.release.message, _KINDS, watch.links)
    key = f"{kill.release if watch else kill.key}|{state}|{now:.0f}"
    return tuple(Alert(f"{key}|{kind}", about, kind, state, title, lines, now, True, links) for kind in kinds)


def promotion_failed(watch: Watch, problem: str, now: float) -> tuple[Alert, ...]:
    """Return what to say when a share could not be raised: it stays, and people may raise it."""
    lines = (f"{problem}.", "The share stays as it is; raise it by hand if it should be more: a new stage begins.")
    return _alerts(watch, "not_raised", lines, f"not_raised|{now:.0f}", now, False)


def turned_on(kill: Kill, watch: Watch | None, shown: str, minutes: float, now: float) -> tuple[Alert, ...]:
    """Return what to say when somebody, or a tool, turned a release on again that watcher had turned off.

    Args:
        kill: what turned it off.
        watch: of the release; None where a person decided to, and no release was being watched.
        shown: what its switch says now.
        minutes: since it was turned off.
        now: epoch seconds.
    """
    said = f" ({shown})" if shown else ""
    undone = f"{kill.feature} is on again" if watch is None else wording(watch.release).undone
    lines = (
        f"{undone}{said}, {reasons.span(minutes)} after it was turned off.",
        "Not by watcher, which never turns anything on. If nobody meant to, look for a deploy tool that restores what "
        "it knows.",
    )
    if watch is None:
        key, title = f"{kill.key}|turned_on", f"{TITLES['turned_on']}: {kill.release}"
        return (Alert(f"{key}|headline", key, "headline", "turned_on", title, lines, now, True),)
    return _alerts(watch, "turned_on", lines, "turned_on", now, True)


def unwatched(name: str, problem: str, command: str, at: float) -> Alert:
    """Return what to say of a release that users have and that cannot be watched: a headline of its own.

    Args:
        name: of what users have, and where.
        problem: why it cannot be watched.
        command: what begins a watch by hand.
        at: when it was noticed, epoch seconds.
    """
    key = f"unwatched|{name}|{at:.0f}"
    lines = (f"{problem}.", f"Watch it all the same: {command}")
    return Alert(f"{key}|headline", key, "headline", "unwatched", f"{TITLES['unwatched']}: {name}", lines, at)


def latched(nth: int, why: str, now: float) -> Alert:
    """Return what to say when the latch closed: of no release, so that it is a headline of its own.

    Args:
        nth: which latch it is: the same one is told once.
        why: what closed it, and how to open it.
        now: epoch seconds.
    """
    key = f"latch|{nth}"
    lines = (f"{why[:1].upper()}{why[1:]}.", "Until then releases that regress are told, and people turn them off.")
    return Alert(f"{key}|latched|headline", key, "headline", "latched", TITLES["latched"], lines, now, True)


def not_recording(problem: str, now: float) -> Alert:
    """Return what to say when nothing can be recorded: the one message that no journal keeps.

    Args:
        problem: what the journal says.
        now: epoch seconds.
    """
    state = "not_recording"
    lines = (f"{problem}.", "Until that is mended nothing is turned off, raised or told; releases go on unprotected.")
    return Alert(f"{state}|{now:.0f}", "watcher", "headline", state, TITLES[state], lines, now, True)

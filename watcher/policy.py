"""Verdict and history to Actions: the modes and the interlocks. Decides, never does.

A kill needs all of: a watch in mode armed with a switch; a reversible release; a verdict of regressed by a critical
rule or by two rules, held over two consecutive blocks, on a learnt dispersion, on more than one sick unit, in a
comparison that is not broken; no pause; no earlier kill. Each lack is a Refusal with a name, which is shown and
recorded. Nothing here ever turns a release on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from watcher import reasons
from watcher.model import (
    Action,
    Alert,
    Design,
    Kill,
    Mode,
    Outcome,
    Refusal,
    ReleaseVerdict,
    Verdict,
    Watch,
)

HELD = 2
"""Consecutive blocks over which the evidence must stand above its threshold before a kill."""

KILL_KEY = "|kill"
"""What the key of a kill ends with: one a release, so that twice is once."""

BY_HAND = "|kill by hand|"
"""What the key of a kill holds that a person decided, before the moment: each such decision is one of its own."""

AFTERMATH = 600.0
"""Seconds after a kill in which recovery is looked for."""


@dataclass(frozen=True)
class Situation:
    """What policy knows beside the verdict.

    `phase` and `told` are from the last look: where the watch stands, and the state people were last told.
    `killed_at` is when the kill was decided. `recovered` is what the blocks since say: None while open. `problem` is
    why the metrics could not be read at this look. `beside` says which other releases could be the cause of harm.
    """

    now: float
    phase: str = "watching"
    told: str = ""
    killed_at: float | None = None
    recovered: bool | None = None
    aftermath: str = ""
    paused: str | None = None
    problem: str | None = None
    beside: str = ""


@dataclass(frozen=True)
class Decision:
    """What to do after a look, and what was considered and not done."""

    phase: str
    told: str
    actions: tuple[Action, ...] = ()
    refusals: tuple[Refusal, ...] = ()


def decide(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> Decision:
    """Turn a verdict into actions.

    Phases: watching, then killed once a kill was decided, then recovered or unrecovered; ended when the horizon is
    past. An outcome is told when it changes; what has been told stays told over a restart.
    """
    if situation.phase == "killed":
        return _after_kill(watch, verdict, situation)
    ended = situation.now >= watch.release.exposed_at + watch.horizon
    refusals = _refusals(watch, verdict, situation) if verdict.outcome is Outcome.REGRESSED else ()
    kill = verdict.outcome is Outcome.REGRESSED and not refusals
    phase = "killed" if kill else "ended" if ended or situation.phase != "watching" else "watching"
    outcome = verdict.outcome
    state = "killed" if kill else "watching" if outcome is Outcome.INCONCLUSIVE else outcome.value
    actions: list[Action] = []
    if kill:
        actions.append(_kill(watch, verdict, situation))
    if state != situation.told:
        actions += _tell(watch, verdict, state, situation, refusals)
    if ended and not kill and situation.phase == "watching":
        actions += _tell(watch, verdict, "ended", situation, ())
        state = "ended"
    return Decision(phase, state, tuple(actions), refusals)


def _refusals(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> tuple[Refusal, ...]:
    """Return every interlock that stands against a kill."""
    worst = [stream for stream in verdict.streams if stream.outcome is Outcome.REGRESSED]
    held = [stream for stream in worst if stream.held >= HELD]
    learnt = [stream for stream in held if not stream.assumed]
    sound = [stream for stream in learnt if stream.sick_unit is None]
    rules = {stream.rule for stream in sound}
    critical = any(stream.critical for stream in sound)
    tests: tuple[tuple[str, bool, str], ...] = (
        ("not_armed", watch.mode is not Mode.ARMED, f"mode is {watch.mode.value}"),
        ("no_switch", watch.switch is None, "no kill switch is configured"),
        ("not_reversible", not watch.release.reversible, "the release is marked as not reversible"),
        ("paused", situation.paused is not None, situation.paused or ""),
        ("already_killed", situation.killed_at is not None, "this release was killed before"),
        ("metrics_unreadable", situation.problem is not None, situation.problem or ""),
        (
            "invalid",
            Outcome.INVALID in {stream.outcome for stream in verdict.streams},
            "the comparison itself is broken",
        ),
        ("not_held", not held, f"evidence must hold for {HELD} consecutive blocks"),
        ("assumed", bool(held) and not learnt, _why_assumed(watch)),
        ("one_unit", bool(learnt) and not sound, _sick(learnt)),
        (
            "quorum",
            bool(sound) and not critical and len(rules) < 2,
            "one rule that is not critical is not enough: two must agree",
        ),
    )
    return tuple(Refusal("kill", name, detail) for name, stands, detail in tests if stands)


def _sick(streams: Sequence[Verdict]) -> str:
    names = sorted({stream.sick_unit for stream in streams if stream.sick_unit})
    return f"without {', '.join(names)} most of the evidence is gone: a sick unit, not a bad release"


def _why_assumed(watch: Watch) -> str:
    if watch.design is Design.BEFORE_AFTER:
        return "without a control, the history holds too few placebos to kill on what they say"
    return "the dispersion was assumed, not learnt from at least two units"


def _kill(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> Kill:
    assert watch.switch is not None
    return Kill(
        key=watch.release.id + KILL_KEY,
        release=watch.release.id,
        switch=watch.switch,
        feature=watch.release.feature,
        reason=verdict.reason,
        decided_at=situation.now,
    )


def _tell(
    watch: Watch, verdict: ReleaseVerdict, state: str, situation: Situation, refusals: tuple[Refusal, ...]
) -> list[Action]:
    """Return the headline edited to the new state, and the transition as a detail below it."""
    title = f"{TITLES[state]}: {_name(watch)}"
    urgent = state in {"regressed", "killed", "unrecovered"} or "absent_treatment" in verdict.alarms
    lines = tuple(_lines(watch, verdict, state, situation, refusals))
    key = f"{watch.release.id}|{state}|{situation.now:.0f}"
    # The first message is the headline itself; what comes later edits it and is told below it.
    kinds = _KINDS if situation.told else _KINDS[:1]
    return [
        Alert(f"{key}|{kind}", watch.release.id, kind, state, title, lines, situation.now, urgent, watch.links)
        for kind in kinds
    ]


def _name(watch: Watch) -> str:
    release = watch.release
    return f"{release.feature} {release.version} on {release.service}/{release.environment}"


_KINDS: tuple[Literal["headline"], Literal["detail"]] = ("headline", "detail")

TITLES = {
    "watching": "Watching",
    "healthy": "Healthy, proven",
    "regressed": "REGRESSED",
    "killed": "Killed: REGRESSED, turning it off",
    "kill_failed": "Kill failed: REGRESSED, and NOT turned off",
    "recovered": "Recovered, turned off",
    "unrecovered": "Unrecovered: turned off, and NOT better",
    "no_data": "No data",
    "invalid": "Invalid comparison",
    "ended": "Ended watching",
}
"""The first words people read, by state."""


def _lines(
    watch: Watch, verdict: ReleaseVerdict, state: str, situation: Situation, refusals: tuple[Refusal, ...]
) -> list[str]:
    """Return the body of a message: the worst first, then what watcher does about it."""
    if state in {"recovered", "unrecovered"}:
        return [situation.aftermath]
    lines = [verdict.reason]
    if state == "ended":
        minutes = (situation.now - watch.release.exposed_at) / 60
        lines.insert(0, f"Last outcome after {reasons.span(minutes)}: {verdict.outcome.value}.")
    others = [s for s in verdict.streams if s.outcome is Outcome.REGRESSED and s.reason not in verdict.reason]
    lines += [stream.reason for stream in others[:10]]
    if situation.beside and state in {"regressed", "killed"}:
        lines.append(situation.beside)
    if state == "killed":
        lines.append(f"Turning {watch.release.feature} off. To re-open it, turn the flag on again: a new watch starts.")
    elif state == "regressed":
        why = "; ".join(refusal.detail for refusal in refusals)
        soon = [refusal.reason for refusal in refusals] == ["not_held"]
        lines.append(
            f"Turned off if the next block says the same: {why}."
            if soon
            else f"Recommended: turn {watch.release.feature} off. Not done automatically: {why}."
        )
    elif state == "watching":
        lines.append(f"Design: {watch.design.value}; rules: {', '.join(rule.label for rule in watch.rules)}.")
        lines.append(f"Mode {watch.mode.value}; watched for {reasons.span(watch.horizon / 60)}.")
    return lines + [
        f"Assumed: {text}." for text in verdict.assumptions[:3] if state in {"healthy", "regressed", "killed"}
    ]


def _after_kill(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> Decision:
    """Return what to say of the time after a kill."""
    assert situation.killed_at is not None
    late = situation.now >= situation.killed_at + AFTERMATH
    if situation.recovered is None and not late:
        return Decision("killed", situation.told)
    state = "recovered" if situation.recovered else "unrecovered"
    actions = _tell(watch, verdict, state, situation, ())
    return Decision(state, state, tuple(actions))


def is_kill(key: str) -> bool:
    """Tell whether a key is that of a kill, whoever decided it.

    >>> is_kill("shop/production/cart@2|kill"), is_kill("shop/production/cart|kill by hand|1795168800.000")
    (True, True)
    """
    return key.endswith(KILL_KEY) or is_by_hand(key)


def is_by_hand(key: str) -> bool:
    """Tell whether a key is that of a kill that a person decided."""
    return BY_HAND in key


def kill_failed(kill: Kill, watch: Watch | None, problem: str, now: float) -> tuple[Alert, ...]:
    """Return what to say when a kill was given up: people must turn the release off themselves.

    Args:
        kill: what was given up.
        watch: of the release it was to turn off; None where a person decided to, and no release was being watched.
        problem: why it was given up.
        now: epoch seconds.
    """
    state = "kill_failed"
    by_hand = is_by_hand(kill.key)
    first = "Kill failed: decided by hand, and NOT turned off" if by_hand else TITLES[state]
    title = f"{first}: {kill.release if watch is None else _name(watch)}"
    decided = [f"Decided {kill.reason}."] if by_hand else []
    lines = (f"{problem}.", *decided, f"Turn {kill.feature} off {'where it is kept' if by_hand else 'by hand'}.")
    # Without a release there is no message to edit: each failure is a headline of its own.
    about, kinds, links = (kill.key, _KINDS[:1], ()) if watch is None else (kill.release, _KINDS, watch.links)
    key = f"{about}|{state}|{now:.0f}"
    return tuple(Alert(f"{key}|{kind}", about, kind, state, title, lines, now, True, links) for kind in kinds)

"""Verdict and history to Actions: the modes and the interlocks. Decides, never does.

A kill needs all of: a watch in mode armed with a switch; a flag that people named; a reversible release; a verdict of
regressed by a critical rule or by two rules, held over two consecutive blocks, on a learnt dispersion, on more than one
sick unit, on enough events, in a comparison that is not broken; evidence that points to no other release, nor to an
event that makes everything worse; no pause; no latch; no earlier kill of the release, and none of its flag a moment
ago. A promotion needs steps that were configured, a flag that people named, health proven at the present share, metrics
that were read, no pause and no latch. Each lack is a Refusal with a name, which is shown and recorded. Nothing here
ever turns a release on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watcher import reasons
from watcher.model import (
    Action,
    Design,
    Kill,
    Kind,
    Mode,
    Outcome,
    Promote,
    Refusal,
    ReleaseVerdict,
    Rule,
    Verdict,
    Watch,
    Worse,
)
from watcher.telling import Seen, next_step, transition

HELD = 2
"""Consecutive blocks over which the evidence must stand above its threshold before a kill."""

KILL_KEY = "|kill"
"""What the key of a kill ends with: one a release, so that twice is once."""

AFTERMATH = 600.0
"""Seconds after a kill in which recovery is looked for."""

LEAST_EVENTS = 50
"""Events, bad and good, that the treatment must have counted for a stream to count towards a kill. The evidence bounds
how often chance looks like harm; it does not know that the first dozens of users after exposure are testers."""

LEAST_BAD = 5
"""How many of them must be bad, where the bad are what a rule counts: fewer may be one user who tries again."""

LEAST_MEASUREMENTS = 5
"""Measurements of the treatment in place of events, for a gauge."""

CAP = 3
"""Kills of watcher's own within `CAP_SPAN`, over the whole installation, after which a latch closes: that many bad
releases at once are rarer than something that makes all of them look bad."""

CAP_SPAN = 3600.0

COOL_DOWN = 1800.0
"""Seconds after a kill of a flag in which watcher does not turn it off again: who re-opens it has a reason to, and two
that switch it to and fro harm users more than either. Longer than recovery is looked for."""


@dataclass(frozen=True)
class Standing:
    """What is on record of kills, and what people ordered: all that policy is told and no look can see.

    `allowed` tells whether people named the flag of this release among those that watcher may turn. `paused` is why
    kills are paused. `turned_off` tells whether a kill of this release took effect, or somebody else turned it off
    (True where no kill was decided, None while one is still being tried). `kills` are the times of watcher's own
    kills, of any release, since a person last opened the latch, in the order in which they were decided.
    `flag_killed_at` is when the flag of this release was turned off last, by watcher or by a person, whichever
    release had it then.
    """

    allowed: bool = True
    paused: str | None = None
    turned_off: bool | None = True
    kills: tuple[float, ...] = ()
    flag_killed_at: float | None = None


NOTHING_ON_RECORD = Standing()


@dataclass(frozen=True)
class Situation:
    """What policy knows beside the verdict.

    `phase` and `told` are from the last look: where the watch stands, and the state people were last told. `killed_at`
    is when the kill was decided. `recovered` is what the blocks since say: None while open. `problem` is why metrics
    could not be read at this look. `beside` says which other releases could be the cause of harm, and `cause` whether
    the evidence points to this one (None: it does not say which). `everywhere` says what else got worse alike, `silent`
    what is not heard of the control. `staged` tells that what is judged includes the present stage.
    """

    now: float
    phase: str = "watching"
    told: str = ""
    killed_at: float | None = None
    recovered: bool | None = None
    aftermath: str = ""
    problem: str | None = None
    beside: str = ""
    cause: bool | None = True
    everywhere: str = ""
    silent: str = ""
    staged: bool = True
    standing: Standing = NOTHING_ON_RECORD


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
    ended = situation.now >= watch.ends_at
    outcome = verdict.outcome
    step = next_step(watch) if outcome is Outcome.HEALTHY and not ended else None
    refusals = _against_kill(watch, verdict, situation) if outcome is Outcome.REGRESSED else ()
    kill = outcome is Outcome.REGRESSED and not refusals
    if step is not None:
        refusals = _against_promotion(watch, situation)
    phase = "killed" if kill else "ended" if ended or situation.phase != "watching" else "watching"
    state = "killed" if kill else "watching" if outcome is Outcome.INCONCLUSIVE else outcome.value
    state = "global_event" if outcome is Outcome.REGRESSED and situation.everywhere else state
    actions: list[Action] = []
    if kill:
        actions.append(_kill(watch, verdict, situation))
    if step is not None and not refusals:
        actions.append(_promote(watch, verdict, situation, step))
    seen = Seen(situation.now, bool(situation.told), situation.beside, situation.aftermath)
    if state != situation.told:
        actions += transition(watch, verdict, state, seen, refusals)
    if ended and not kill and situation.phase == "watching":
        actions += transition(watch, verdict, "ended", seen, ())
        state = "ended"
    return Decision(phase, state, tuple(actions), refusals)


def latch(kills: Sequence[float]) -> tuple[float, ...]:
    """Return the kills that closed the latch: the first `CAP` in a row within `CAP_SPAN`; empty while it is open.

    A function of what was decided since a person last opened it: it stays closed however much time goes by, and nothing
    has to be written for it to close.

    Args:
        kills: when they were decided, in that order.
    """
    runs = (tuple(kills[i : i + CAP]) for i in range(len(kills) - CAP + 1))
    return next((run for run in runs if max(run) - min(run) <= CAP_SPAN), ())


def latched(closed_by: Sequence[float]) -> str:
    """Return what a closed latch is, and how to open it; empty where it is open."""
    if not closed_by:
        return ""
    within = f"{reasons.clock(min(closed_by))} to {reasons.clock(max(closed_by))}"
    return (
        f"watcher decided {len(closed_by)} kills within an hour ({within}) and does nothing more by itself until "
        "somebody has looked why, and opens the latch: watcher resume --latch --reason TEXT"
    )


def _against_kill(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> tuple[Refusal, ...]:
    """Return every interlock that stands against a kill."""
    worst = [stream for stream in verdict.streams if stream.outcome is Outcome.REGRESSED]
    held = [stream for stream in worst if stream.held >= HELD]
    # What will stand against a kill once evidence has held is said at once: people are told of a regression only once.
    learnt = [stream for stream in held or worst if not stream.assumed]
    sound = [stream for stream in learnt if stream.sick_unit is None]
    counted = [stream for stream in sound if _enough(watch, stream)]
    rules = {stream.rule for stream in counted}
    critical = any(stream.critical for stream in counted)
    tests: tuple[tuple[str, bool, str], ...] = (
        ("not_armed", watch.mode is not Mode.ARMED, f"mode is {watch.mode.value}"),
        ("no_switch", watch.switch is None, "no kill switch is configured"),
        ("not_allowed", watch.target is not None and not situation.standing.allowed, _not_allowed(watch)),
        ("not_reversible", not watch.release.reversible, "the release is marked as not reversible"),
        ("paused", situation.standing.paused is not None, situation.standing.paused or ""),
        ("latched", bool(closed := latch(situation.standing.kills)), latched(closed)),
        ("already_killed", situation.killed_at is not None, "this release was killed before"),
        ("cool_down", _cooling(situation), _why_cooling(watch, situation)),
        ("metrics_unreadable", situation.problem is not None, situation.problem or ""),
        (
            "invalid",
            Outcome.INVALID in {stream.outcome for stream in verdict.streams},
            "the comparison itself is broken",
        ),
        ("control_silent", bool(situation.silent), situation.silent),
        ("not_held", not held, f"evidence must hold for {HELD} consecutive blocks"),
        ("assumed", bool(worst) and not learnt, _why_assumed(watch)),
        ("one_unit", bool(learnt) and not sound, _sick(learnt)),
        ("few_events", bool(sound) and not counted, _FEW),
        (
            "quorum",
            bool(counted) and not critical and len(rules) < 2,
            "one rule that is not critical is not enough: two must agree",
        ),
        ("not_the_cause", situation.cause is False, "the evidence points to another release"),
        ("cause_unclear", situation.cause is None, "the evidence does not say which of several releases it is"),
        ("global_event", bool(situation.everywhere), situation.everywhere),
    )
    return tuple(Refusal("kill", name, detail) for name, stands, detail in tests if stands)


def _not_allowed(watch: Watch) -> str:
    return f"may_turn_off in watcher.yaml does not name {watch.target}"


def _cooling(situation: Situation) -> bool:
    """Tell whether the flag was turned off a moment ago, or by a clock that has stepped back since."""
    at = situation.standing.flag_killed_at
    return at is not None and situation.now < at + COOL_DOWN


def _why_cooling(watch: Watch, situation: Situation) -> str:
    at = situation.standing.flag_killed_at
    if at is None:
        return ""
    was = f"{watch.release.feature} was turned off at {reasons.clock(at)} and re-opened"
    return f"{was}; watcher does not do it again before {reasons.clock(at + COOL_DOWN)}"


_FEW = (
    f"too few events of the treatment so far to turn anything off: it takes {LEAST_EVENTS}, {LEAST_BAD} of them bad, "
    f"or {LEAST_MEASUREMENTS} measurements"
)


def _enough(watch: Watch, stream: Verdict) -> bool:
    """Tell whether a stream has counted enough of the treatment to count towards a kill."""
    rule: Rule | None = next((each for each in watch.rules if each.name == stream.rule), None)
    counted = stream.treatment
    if rule is not None and rule.kind is Kind.GAUGE:
        return counted.total >= LEAST_MEASUREMENTS
    if counted.total < LEAST_EVENTS or rule is None:
        return counted.total >= LEAST_EVENTS
    if rule.kind is Kind.RATIO:
        bad = counted.events if rule.worse is Worse.HIGHER else counted.total - counted.events
        return bad >= LEAST_BAD
    # Of a latency all may be slower and none over the objective; what is missing is not counted.
    return rule.kind is Kind.LATENCY or rule.worse is Worse.LOWER or counted.events >= LEAST_BAD


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


def _against_promotion(watch: Watch, situation: Situation) -> tuple[Refusal, ...]:
    """Return every interlock that stands against giving a healthy release a larger share."""
    tests: tuple[tuple[str, bool, str], ...] = (
        ("not_armed", watch.mode is not Mode.ARMED, f"mode is {watch.mode.value}"),
        ("no_switch", watch.switch is None, "no switch is configured"),
        ("not_allowed", watch.target is not None and not situation.standing.allowed, _not_allowed(watch)),
        ("paused", situation.standing.paused is not None, situation.standing.paused or ""),
        ("latched", bool(closed := latch(situation.standing.kills)), latched(closed)),
        ("metrics_unreadable", situation.problem is not None, situation.problem or ""),
        ("stage_not_judged", not situation.staged, "health is not proven at the present share yet"),
    )
    return tuple(Refusal("promote", name, detail) for name, stands, detail in tests if stands)


def _promote(watch: Watch, verdict: ReleaseVerdict, situation: Situation, step: float) -> Promote:
    assert watch.switch is not None
    assert watch.release.share is not None
    return Promote(
        key=f"{watch.release.id}|promote|{step:g}",
        release=watch.release.id,
        switch=watch.switch,
        feature=watch.release.feature,
        since=watch.release.share,
        share=step,
        reason=verdict.reason,
        decided_at=situation.now,
    )


def _after_kill(watch: Watch, verdict: ReleaseVerdict, situation: Situation) -> Decision:
    """Return what to say of the time after a kill."""
    assert situation.killed_at is not None
    late = situation.now >= situation.killed_at + AFTERMATH
    off = situation.standing.turned_off
    # How it ended says whether it was turned off: a process that comes back after a crash may not know that yet.
    if (situation.recovered is None or off is None) and not late:
        return Decision("killed", situation.told)
    state = "recovered" if situation.recovered else "unrecovered"
    seen = Seen(situation.now, bool(situation.told), situation.beside, situation.aftermath, bool(off))
    return Decision(state, state, transition(watch, verdict, state, seen, ()))

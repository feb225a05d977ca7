"""The story: observe, compare, judge, decide. A look reads and decides; it changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from watcher import attribution, reasons
from watcher.aftermath import recovery
from watcher.calibration import calibrate, together
from watcher.comparison import DOUBLES, SPLIT, EvidenceState, doubles_in, fold, fold_split, split_rule, without
from watcher.errors import SourceError
from watcher.evidence.absence import FIRST_BLOCKS
from watcher.judge import judge, judge_release, judge_split, shares
from watcher.model import Calibration, Design, Look, Observations, Outcome, ReleaseVerdict, Request, Watch
from watcher.policy import NOTHING_ON_RECORD, Situation, Standing, decide

SEED = 20_260_101
"""Seed of the splits between units: the same history always gives the same calibration."""


class Source(Protocol):
    """Where metrics are read."""

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return raw counts of closed blocks, by rule name. Raises SourceError."""
        ...

    def history(self, request: Request) -> dict[str, Observations]:
        """Return the same for calibration only; it may come aggregated. Raises SourceError."""
        ...


def read_history(watch: Watch, source: Source) -> dict[str, Observations]:
    """Read what there was before exposure, by rule.

    Raises:
        SourceError: the history cannot be read.
    """
    return source.history(past(watch, watch.history))


def past(watch: Watch, length: float) -> Request:
    """Return what a watch asks of its source for so many seconds before exposure."""
    end = float(np.floor(watch.release.exposed_at / watch.block) * watch.block)
    return request(watch, end - float(np.ceil(length / watch.block) * watch.block), end)


def prepare(
    watch: Watch, history: Mapping[str, Observations], came_from: str | None = None, reach: float = 0.0
) -> dict[str, Calibration]:
    """Learn what there is to learn from the time before exposure, by rule.

    Args:
        watch: rules, design and block.
        history: by rule.
        came_from: where the history is from, for people; None: how long it is.
        reach: seconds after the history within which a release may still come, for which this is learnt beforehand.
    """
    learnt = {}
    for rule in watch.rules:
        own = history[rule.name]
        learnt[rule.name] = calibrate(rule, watch, own, came_from or _span(own), rng(), reach)
    parts = {rule.name: shares(watch, rule, *2 * [len(learnt[rule.name].streams)]) for rule in watch.rules}
    return together(watch, learnt, parts)


def look(
    watch: Watch,
    source: Source,
    calibrations: Mapping[str, Calibration],
    previous: Look | None,
    now: float,
    beside: Callable[[], Sequence[attribution.Suspect]] = tuple,
    standing: Standing = NOTHING_ON_RECORD,
    elsewhere: Callable[[float, float], Sequence[attribution.Elsewhere]] = lambda since, until: (),
) -> Look:
    """Evaluate a release once.

    Args:
        watch: fixed before the first look.
        source: read for the blocks closed since the last look, and for nothing else.
        calibrations: by rule, frozen at exposure.
        previous: the last look; None at the first.
        now: epoch seconds.
        beside: returns the other releases that users of the service have, or had until lately, as of now; asked only
            once this one regressed.
        standing: what is on record of kills, and what a person ordered.
        elsewhere: returns what other services measured around the time since harm began, until the last block; asked
            only once this one regressed and has no control.
    """
    start = previous.through if previous else float(np.floor(watch.release.exposed_at / watch.block) * watch.block)
    latest = closed(watch, now)
    end = max(start, latest)
    seen: dict[str, Observations] = {}
    problem = None
    if end > start:
        try:
            seen = source.observe(request(watch, start, end))
            problem = _doubt(seen)
        except SourceError as error:
            problem = str(error)
    if problem is not None:
        # Nothing is folded that may be wrong: the same blocks are read again at the next look.
        seen, end = {}, start
    if previous is not None and previous.phase == "killed":
        verdict, states = previous.verdict, dict(previous.states)
        recovered, said = _aftermath(watch, source, previous, end, now, bool(standing.turned_off))
    else:
        doubles = doubles_in(seen, calibrations, previous.states.get(DOUBLES, {}) if previous else {})
        seen = without(seen, doubles)
        verdict, states = _judged(watch, seen, calibrations, previous, reasons.doubles(doubles))
        states |= {DOUBLES: dict(doubles)} if doubles else {}
        recovered, said = None, ""
    missing = (latest - end) / watch.block
    if problem is not None and missing >= FIRST_BLOCKS and verdict.outcome is not Outcome.REGRESSED:
        verdict = _unreadable(verdict, end, problem)
    said_beside, cause = _beside(watch, verdict, calibrations, states, previous, beside)
    everywhere = _everywhere(
        watch, verdict, calibrations, previous, lambda since: elsewhere(since, end) if seen else ()
    )
    situation = Situation(
        now=now,
        phase=previous.phase if previous else "watching",
        told=previous.told if previous else "",
        killed_at=previous.killed_at if previous else None,
        standing=standing,
        recovered=recovered,
        aftermath=said,
        problem=problem,
        beside=said_beside,
        cause=cause,
        everywhere=everywhere,
        silent=_silent(watch, verdict, calibrations, previous),
        staged=_staged(watch, states),
    )
    decision = decide(watch, verdict, situation)
    return Look(
        release=watch.release.id,
        at=now,
        through=end,
        blocks=max((state["blocks"] for name, state in states.items() if name not in (SPLIT, DOUBLES)), default=0),
        verdict=verdict,
        phase=decision.phase,
        told=decision.told,
        killed_at=now if decision.phase == "killed" and situation.phase != "killed" else situation.killed_at,
        actions=decision.actions,
        refusals=decision.refusals,
        states=states,
        observations=seen,
        problem=problem,
    )


def _beside(
    watch: Watch,
    verdict: ReleaseVerdict,
    calibrations: Mapping[str, Calibration],
    states: Mapping[str, Any],
    previous: Look | None,
    others: Callable[[], Sequence[attribution.Suspect]],
) -> tuple[str, bool | None]:
    """Return which of the releases the evidence points to, where one regressed beside others.

    Returns:
        What people are told of it, and whether it is this one (None: the evidence does not say which).
    """
    if verdict.outcome is not Outcome.REGRESSED or (previous is not None and previous.killed_at is not None):
        return "", True
    own = attribution.suspect(watch, verdict, calibrations, states)
    every = others()
    gone = attribution.gone_since(every, attribution.harm_began(watch, verdict))
    besides = [each for each in every if each.off_at is None or each in gone]
    if not besides:
        return "", True
    suspects = attribution.placed([own, *besides], attribution.harmed(watch, verdict, states))
    found = attribution.attribute(suspects)
    cause = None if gone or found.best is None else found.best == own.release
    return attribution.said(found, own.release, gone), cause


def _everywhere(
    watch: Watch,
    verdict: ReleaseVerdict,
    calibrations: Mapping[str, Calibration],
    previous: Look | None,
    elsewhere: Callable[[float], Sequence[attribution.Elsewhere]],
) -> str:
    """Return what people are told where everything got worse alike, not this release alone; else nothing.

    Once found it stands until the release no longer looks worse: the evidence has that event in it, and would outlive
    it. Nobody else is asked where there is nothing new.
    """
    if verdict.outcome is not Outcome.REGRESSED or (previous is not None and previous.killed_at is not None):
        return ""
    known = _known("global_event", previous)
    if known or watch.design is Design.CONCURRENT:
        return known or attribution.control_alike(watch, verdict, calibrations)
    began = attribution.harm_began(watch, verdict)
    return attribution.elsewhere_alike(elsewhere(began), began)


def _silent(
    watch: Watch, verdict: ReleaseVerdict, calibrations: Mapping[str, Calibration], previous: Look | None
) -> str:
    """Return what people are told where the control has fallen silent; it stands as long as what `_everywhere` finds.

    The evidence has the silence in it, and outlives it.
    """
    known = _known("control_silent", previous) if verdict.outcome is Outcome.REGRESSED else ""
    return known or attribution.control_silent(watch, verdict, calibrations)


def _known(reason: str, previous: Look | None) -> str:
    """Return what the last look said when it refused a kill for a reason; empty where it did not."""
    before = () if previous is None else previous.refusals
    return next((refusal.detail for refusal in before if refusal.reason == reason), "")


def _staged(watch: Watch, states: Mapping[str, Any]) -> bool:
    """Tell whether every required rule has blocks of the present stage: what it says is of that."""
    present = len(watch.release.stages) - 1
    required = [rule.name for rule in watch.rules if rule.required]
    return all(name in states and states[name].get("stage") == present for name in required)


def _doubt(seen: Mapping[str, Observations]) -> str | None:
    """Return why these data are not good enough to go by, if the source said so."""
    doubtful = {name: each.notes[:1] for name, each in seen.items() if each.partial}
    why = next((f": {note}" for notes in doubtful.values() for note in notes), "")
    return f"the answer for {', '.join(doubtful)} may be incomplete{why}" if doubtful else None


def _judged(
    watch: Watch,
    seen: Mapping[str, Observations],
    calibrations: Mapping[str, Calibration],
    previous: Look | None,
    said: tuple[str, ...],
) -> tuple[ReleaseVerdict, dict[str, Any]]:
    """Compare and judge every rule, then the release; `said` of the blocks is told with it."""
    states, verdicts = dict(previous.states) if previous else {}, []
    last = previous.verdict.streams if previous else ()
    for rule in watch.rules:
        before = [verdict for verdict in last if verdict.rule == rule.name]
        if rule.name not in seen:
            verdicts += before
            continue
        calibration = calibrations.get(rule.name, Calibration(margin=rule.margin))
        state = EvidenceState.from_json(states[rule.name]) if rule.name in states else None
        state, evidence = fold(watch, rule, seen[rule.name], calibration, state)
        states[rule.name] = state.to_json()
        verdicts += judge(watch, rule, evidence, before)
    split = split_rule(watch)
    if split is not None:
        found = fold_split(watch, split, seen.get(SPLIT), states.get(SPLIT))
        states[SPLIT] = found.state
        said += reasons.split(found.share, found.observed)
        if found.is_empty:
            said += (f"the traffic split is not checked: {split.events} counted nobody in either arm",)
        verdicts += judge_split(watch, found, [verdict for verdict in last if verdict.rule == SPLIT])
    elif watch.split is not None:
        said += ("the traffic split is not checked: nobody says what share the release should have",)
    if watch.dilution < 1:
        said += (reasons.diluted(watch)[:1].lower() + reasons.diluted(watch)[1:],)
    # The outcome does not rest on a rule that is not required, unless that is what regressed.
    worst = {verdict.rule for verdict in verdicts if verdict.outcome is Outcome.REGRESSED}
    bearing = [rule for rule in watch.rules if (rule.required or rule.name in worst) and rule.name in calibrations]
    assumed = reasons.assumed(
        {rule.label: (reasons.learnt(calibrations[rule.name]), *calibrations[rule.name].notes) for rule in bearing}
    )
    return judge_release(watch, verdicts, assumed + said), states


def _aftermath(
    watch: Watch, source: Source, previous: Look, end: float, now: float, turned_off: bool
) -> tuple[bool | None, str]:
    """Read everything since the kill again: a few minutes, and no state to keep."""
    assert previous.killed_at is not None
    start = float(np.ceil(previous.killed_at / watch.block) * watch.block)
    try:
        since = source.observe(request(watch, start, end)) if end > start else {}
    except SourceError:
        since = {}
    return recovery(watch, previous.verdict, since, previous.killed_at, now, turned_off)


def _unreadable(verdict: ReleaseVerdict, since: float, problem: str) -> ReleaseVerdict:
    reason = f"Metrics cannot be read since {reasons.clock(since)}: {problem}"
    return ReleaseVerdict(Outcome.NO_DATA, reason, verdict.streams, verdict.alarms, verdict.assumptions)


def closed(watch: Watch, now: float) -> float:
    """Return the end of the last block whose samples have settled (epoch seconds)."""
    return float(np.floor((now - watch.settle) / watch.block) * watch.block)


def request(watch: Watch, start: float, end: float) -> Request:
    """Return what a watch asks of its source for the blocks that end in (start, end]."""
    split = split_rule(watch)
    rules = watch.rules if split is None else (*watch.rules, split)
    return Request(rules, start, end, watch.block, watch.select, watch.baseline, watch.treatment)


def _span(history: Observations) -> str:
    """Return how much history there was, for people."""
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    busy = np.sum([arm.total.sum(axis=(0, 1)) for arm in arms], axis=0) > 0
    if not busy.any():
        return "no history"
    return f"history {reasons.span((history.ends[-1] - history.ends[int(busy.argmax())]) / 60)}"


def rng() -> np.random.Generator:
    """Return the generator that draws splits between units."""
    return np.random.default_rng(SEED)

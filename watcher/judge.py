"""Evidence to Verdict, per stream and per release; and how the error budget is shared.

A release may be called regressed by any stream of any rule, so these share alpha by weighted Bonferroni. It is
healthy only if every focus stream of every required rule is, so these need no correction (intersection-union,
Berger 1982, Technometrics 24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from watcher import reasons
from watcher.comparison import CONFIDENCE, Evidence
from watcher.model import (
    Design,
    Effect,
    Flags,
    Floats,
    Kind,
    Labels,
    Needs,
    Outcome,
    ReleaseVerdict,
    Rule,
    Tally,
    Verdict,
    Watch,
    Worse,
)

RESERVE = 0.1
"""Share of a rule's alpha kept for streams born during the watch, where streams can be born."""

FIRST_BLOCKS = 4
"""Blocks from which silence of an arm, or proof of health, is an outcome and not a start."""

SILENCE = 5.0
"""Events an arm with traffic would have had while silent, before its silence means anything (odds of e^-5)."""

OPEN = 10.0
"""Log ratio from which a multiple says no more than "nothing to compare with"."""

ORDER = (Outcome.REGRESSED, Outcome.INVALID, Outcome.NO_DATA, Outcome.INCONCLUSIVE, Outcome.HEALTHY)
"""The worst first."""


def thresholds(watch: Watch, rule: Rule, streams: int, known: int) -> Floats:
    """Return log(1 / alpha) for each stream of a rule, [stream]; fixed before the release.

    >>> from watcher.model import Release, Selector, Stage, Strategy
    >>> rule = Rule("errors", Kind.RATIO, Selector("errors"), Selector("requests"))
    >>> release = Release("shop", "production", "checkout", "1", Strategy.FLAG, (Stage(0.0),))
    >>> np.round(np.exp(-thresholds(Watch(release, (rule,)), rule, 2, 2)), 4).tolist()
    [0.005, 0.005]
    """
    share = rule.weight / sum(each.weight for each in watch.rules)
    if not rule.by:
        return np.full(streams, -np.log(watch.alpha.regressed * share / max(streams, 1)))
    born = np.arange(1, max(streams - known, 0) + 1)
    parts = np.concatenate([np.full(known, (1 - RESERVE) / max(known, 1)), RESERVE * 6 / (np.pi * born) ** 2])
    return np.asarray(-np.log(watch.alpha.regressed * share * parts))


def judge(watch: Watch, rule: Rule, evidence: Evidence, previous: Sequence[Verdict] = ()) -> tuple[Verdict, ...]:
    """Compare the harm a release did with the harm its rule allows, stream by stream.

    Regressed once the evidence against "not worse than the regress margin" reaches 1/alpha, at whatever block that
    happens, while the estimate lies beyond the margin; healthy while the evidence against "worse than the margin"
    stands at its own threshold; inconclusive until then. Regressed latches.

    Args:
        watch: alpha, design, and what a person accepted.
        rule: margins are relative unless `rule.absolute`.
        evidence: log e-values in nats, arrays [stream, block].
        previous: the verdicts of the last look on this rule, in any order.

    References:
        Ville (1939); Howard et al. (2021), Ann. Statist. 49(2).
    """
    limits = thresholds(watch, rule, len(evidence.state.streams), evidence.state.known)
    before = {verdict.labels: verdict for verdict in previous}
    beyond = (evidence.track.regressed >= limits[:, None]) & (evidence.track.harm > evidence.margin)
    if not evidence.state.streams:
        return (_nothing(watch, rule, evidence),)
    verdicts = []
    for row, stream in enumerate(evidence.state.streams):
        last = before.get(stream)
        verdict = _counted(rule, evidence, row, float(limits[row]), beyond[row], last)
        verdicts.append(_decided(watch, rule, evidence, row, verdict, beyond[row], last))
    return tuple(verdicts)


def _counted(rule: Rule, evidence: Evidence, row: int, limit: float, beyond: Flags, last: Verdict | None) -> Verdict:
    """Return the facts of a stream, its outcome still open."""
    snapshot, state = evidence.snapshot, evidence.state
    held = int(np.argmin(beyond[::-1])) if not beyond.all() else beyond.size + (last.held if last else 0)
    return Verdict(
        rule=rule.name,
        labels=state.streams[row],
        outcome=Outcome.INCONCLUSIVE,
        reason="",
        effect=_effect(evidence, row),
        baseline=_tally(rule, evidence, row, 0),
        treatment=_tally(rule, evidence, row, 1),
        log_e_regressed=0.0 if snapshot is None else float(snapshot.log_regressed[row]),
        log_e_healthy=0.0 if snapshot is None else float(snapshot.log_healthy[row]),
        threshold=limit,
        held=held,
        assumed=evidence.calibration.assumed,
        critical=rule.critical,
    )


def _decided(
    watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict, beyond: Flags, last: Verdict | None
) -> Verdict:
    """Return the verdict with its outcome and reason."""
    accepted = dict(watch.accepted).get(rule.name)
    if accepted is None:
        if last is not None and last.outcome is Outcome.REGRESSED:
            kept = {name: getattr(last, name) for name in ("outcome", "reason", "decided_at", "onset", "since_onset")}
            return replace(verdict, **kept)
        if beyond.any():
            return _regressed(watch, rule, evidence, row, verdict, beyond)
    absent = _absent(watch, rule, evidence, row, verdict)
    if absent is not None:
        return absent
    what, margin = reasons.subject(rule, verdict.labels), reasons.tolerated(rule, evidence.calibration.margin)
    if evidence.snapshot is None:
        why = "; ".join(evidence.calibration.notes) or "there is no history to judge it by"
        return replace(verdict, reason=f"{what}: {why}.", needs=Needs(None, None, "window"))
    worse = verdict.log_e_regressed >= verdict.threshold
    since = _proven(evidence, row, np.log(1 / watch.alpha.healthy), last)
    if since is not None:
        confidence = f"{100 * (1 - watch.alpha.healthy):g} %"
        said = f"{'worse, but ' if worse else ''}proven within the margin ({margin}; one-sided, {confidence})"
        return replace(verdict, outcome=Outcome.HEALTHY, decided_at=since, reason=f"{what}: {said}; {verdict.effect}.")
    needs = _needs(watch, evidence, row, verdict)
    state = "worse, within the margin so far" if worse else "not decided yet"
    state = state if accepted is None else f"accepted as intended ({accepted})"
    return replace(verdict, needs=needs, reason=f"{what}: {state}; {verdict.effect}; {reasons.waiting(needs)}.")


def _regressed(watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict, beyond: Flags) -> Verdict:
    at = int(beyond.argmax())
    verdict = replace(verdict, outcome=Outcome.REGRESSED, decided_at=float(evidence.ends[at]))
    assert evidence.snapshot is not None
    harm, onset = evidence.snapshot.harm[row], float(evidence.snapshot.onset[row])
    first = watch.release.exposed_at + watch.warm_up + rule.matures + 2 * watch.block
    if onset > first and harm < OPEN:
        sign = -1 if rule.worse is Worse.LOWER else 1
        verdict = replace(verdict, onset=onset, since_onset=float(np.exp(sign * harm)))
    return replace(verdict, reason=reasons.regressed(watch, rule, verdict, evidence.calibration.margin))


def _absent(watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict) -> Verdict | None:
    """Return the verdict on a stream in which an arm sends nothing; None while both do."""
    state = evidence.state
    if state.blocks < FIRST_BLOCKS:
        return None
    idle, traffic = state.idle[row], state.tallies[row, [1, 3]]
    silent = (idle >= FIRST_BLOCKS) & ((traffic == 0) | (idle * traffic / state.blocks >= SILENCE))
    silent[0] &= watch.design is Design.CONCURRENT
    if not silent.any():
        return None
    alone = watch.design is Design.BEFORE_AFTER
    dormant = bool(silent.all() or (alone and silent[1])) and not traffic.any()
    if dormant and not (alone and row < len(evidence.calibration.streams) and evidence.calibration.points):
        what = reasons.subject(rule, verdict.labels)
        text = f"{what}: idle in {'the treatment' if alone else 'both arms'}, so it blocks nothing."
        return replace(verdict, outcome=Outcome.NO_DATA, dormant=True, reason=text)
    which = "both" if silent.all() else "treatment" if silent[1] else "baseline"
    return replace(
        verdict,
        outcome=Outcome.NO_DATA,
        alarms=("absent_treatment",) if which == "treatment" else (),
        reason=reasons.absent(watch, rule, verdict.labels, which, int(idle[silent].max())),
    )


def _nothing(watch: Watch, rule: Rule, evidence: Evidence) -> Verdict:
    """Return the verdict on a rule that no series answers to."""
    early = evidence.state.blocks < FIRST_BLOCKS
    return Verdict(
        rule=rule.name,
        labels=(),
        outcome=Outcome.INCONCLUSIVE if early else Outcome.NO_DATA,
        reason=f"{reasons.subject(rule, ())}: no data in either arm{' yet' if early else ''}.",
        effect=Effect("ratio", None, None, None, CONFIDENCE),
        baseline=Tally(),
        treatment=Tally(),
        critical=rule.critical,
    )


def _effect(evidence: Evidence, row: int) -> Effect:
    """Return treatment against baseline as a ratio."""
    snapshot = evidence.snapshot
    if snapshot is None or np.isnan(snapshot.estimate[row]):
        return Effect("ratio", None, None, None, CONFIDENCE)

    def ratio(value: float) -> float | None:
        found = float(np.exp(value)) if snapshot.measure == "ratio" else 1.0 + float(value)
        return found if np.isfinite(found) else None

    return Effect(
        "ratio", ratio(snapshot.estimate[row]), ratio(snapshot.lower[row]), ratio(snapshot.upper[row]), CONFIDENCE
    )


def _tally(rule: Rule, evidence: Evidence, row: int, side: int) -> Tally:
    events, total = (float(x) for x in evidence.state.tallies[row, 2 * side : 2 * side + 2])
    if rule.kind is Kind.GAUGE:
        events = events / total if total else 0.0
    return Tally(events, total, evidence.state.units[side])


def _proven(evidence: Evidence, row: int, proof: float, last: Verdict | None) -> float | None:
    """Return since when health stands proven; None when it does not.

    A proof stands from the block at which its evidence reaches 1/alpha (Ville: once is enough), the fourth at the
    earliest, until later blocks have used that evidence up, when it has to be earned again.
    """
    ends, log_e = evidence.ends, evidence.track.healthy[row]
    nth = evidence.state.blocks - ends.size + 1 + np.arange(ends.size)
    since = last.decided_at if last is not None and last.outcome is Outcome.HEALTHY else None
    used_up = np.flatnonzero(log_e < 0)
    first = 0
    if used_up.size:
        since, first = None, int(used_up[-1]) + 1
    reached = np.flatnonzero((log_e >= proof)[first:] & (nth >= FIRST_BLOCKS)[first:])
    return float(ends[first + reached[0]]) if since is None and reached.size else since


def _needs(watch: Watch, evidence: Evidence, row: int, verdict: Verdict) -> Needs:
    """Return the sooner of: proving health if nothing changed, proving harm if the estimate is true."""
    snapshot = evidence.snapshot
    assert snapshot is not None
    healthy, worse = float(snapshot.toward_healthy[row]), float(snapshot.toward_regressed[row])
    waits = []
    if healthy > 0:
        waits.append((np.log(1 / watch.alpha.healthy) + 1.0 - verdict.log_e_healthy) / healthy)
    if worse > 0 and snapshot.harm[row] > evidence.margin:
        waits.append((verdict.threshold + 1.0 - verdict.log_e_regressed) / worse)
    if not waits:
        return Needs(None, None, "events")
    blocks = max(1.0, min(waits))
    minutes = blocks * watch.block / 60
    left = (watch.release.exposed_at + watch.horizon - evidence.ends[-1]) / 60 if evidence.ends.size else minutes
    events = None if evidence.calibration.points else float(np.ceil(blocks * snapshot.events_per_block[row]))
    return Needs(events, float(round(minutes, 1)), "window" if minutes > left else "events")


def judge_release(watch: Watch, verdicts: Sequence[Verdict], assumptions: tuple[str, ...] = ()) -> ReleaseVerdict:
    """Return the worst of the streams: healthy only if every focus stream of every required rule is.

    Args:
        watch: focus and rules.
        verdicts: of all streams of all rules.
        assumptions: what the calibrations assumed, for the reader.
    """
    required = {rule.name for rule in watch.rules if rule.required}
    # A feature that is not released never has a treatment: outside the focus only what was there can be missed.
    missed = [v for v in verdicts if _in_focus(watch, v.labels) or v.treatment.total > 0]
    alarms = tuple(sorted({alarm for verdict in missed for alarm in verdict.alarms}))
    alive = [verdict for verdict in verdicts if not verdict.dormant]
    guarding = [v for v in alive if v.rule in required and (_in_focus(watch, v.labels) or v.outcome == "regressed")]
    worst = [v for v in alive if v.outcome is Outcome.REGRESSED]
    judged = worst or guarding
    idle = required - {verdict.rule for verdict in alive}
    if not verdicts:
        return ReleaseVerdict(Outcome.INCONCLUSIVE, "No block has closed since exposure.", (), (), assumptions)
    if not worst and (idle or not judged):
        text = f"No traffic for {', '.join(sorted(idle)) or 'any required rule'}."
        early = all(v.outcome is Outcome.INCONCLUSIVE for v in verdicts)
        outcome = Outcome.INCONCLUSIVE if early else Outcome.NO_DATA
        return ReleaseVerdict(outcome, text, tuple(verdicts), alarms, assumptions)
    outcome = min((v.outcome for v in judged), key=ORDER.index)
    decisive = [v for v in judged if v.outcome is outcome]
    first = max(decisive, key=lambda v: v.log_e_regressed)
    others = len(decisive) - 1
    more = f" ({others} more {'streams' if others > 1 else 'stream'} {outcome.value})" if others else ""
    return ReleaseVerdict(outcome, first.reason + more, tuple(verdicts), alarms, assumptions)


def _in_focus(watch: Watch, labels: Labels) -> bool:
    """Tell whether a stream must be healthy: it carries the focus labels, or does not tell them apart."""
    have = dict(labels)
    return all(have.get(name, value) == value for name, value in watch.focus)

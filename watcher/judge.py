"""Evidence to Verdict, per stream and per release; and how the error budget is shared.

A release may be called regressed by any stream of any rule, so these share alpha by weighted Bonferroni. It is
healthy only if every focus stream of every required rule is, so these need no correction (intersection-union,
Berger 1982, Technometrics 24).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from watcher import reasons
from watcher.calibration import signed
from watcher.comparison import CONFIDENCE, SPLIT, Evidence, SplitEvidence
from watcher.evidence.absence import FIRST_BLOCKS, SCHEDULED, absent, reserved, silent
from watcher.evidence.planning import passage
from watcher.evidence.units import lowest
from watcher.model import (
    Design,
    Effect,
    Flags,
    Floats,
    Kind,
    Labels,
    Needs,
    Outcome,
    QuantileShift,
    ReleaseVerdict,
    Rule,
    Tally,
    Verdict,
    Watch,
    Worse,
)

RESERVE = 0.1
"""Share of a rule's alpha kept for streams born during the watch, new error signatures among them."""

LEFT = 0.5
"""Part of the evidence that must be left without any one unit of the treatment."""

TYPICAL = "typical latency"
"""What a latency judged on its own scale is told by: its geometric mean."""

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
    if not rule.by and not rule.signature:
        return np.full(streams, -np.log(watch.alpha.regressed * share / max(streams, 1)))
    born = np.arange(1.0, max(streams - known, 0) + 1)
    parts = np.concatenate([np.full(known, (1 - RESERVE) / max(known, 1)), RESERVE * reserved(born)])
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
    needs = _needs(watch, rule, evidence, limits)
    verdicts = []
    for row, stream in enumerate(evidence.state.streams):
        last = before.get(stream)
        verdict = _counted(rule, evidence, row, float(limits[row]), beyond[row], last)
        verdicts.append(_decided(watch, rule, evidence, row, verdict, beyond[row], last, needs[row]))
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
        effect=_effect(evidence, row, limit),
        baseline=_tally(rule, evidence, row, 0),
        treatment=_tally(rule, evidence, row, 1),
        log_e_regressed=0.0 if snapshot is None else float(snapshot.log_regressed[row]),
        log_e_healthy=0.0 if snapshot is None else float(snapshot.log_healthy[row]),
        threshold=limit,
        held=held,
        assumed=evidence.calibration.assumed,
        critical=rule.critical,
        quantiles=_quantiles(evidence, row),
        sick_unit=_sick_unit(evidence, row, limit),
    )


def _quantiles(evidence: Evidence, row: int) -> tuple[QuantileShift, ...]:
    """Return the quantiles of a latency that there are requests enough to name."""
    found = []
    for level, each in (evidence.quantiles or {}).items():
        if np.isfinite(each.ratio[row]):
            bounds = (float(x) if 0 < x < np.inf else None for x in (each.lower[row], each.upper[row]))
            found.append(QuantileShift(level, float(each.baseline[row]), float(each.treatment[row]), *bounds))
    return tuple(found)


def _sick_unit(evidence: Evidence, row: int, limit: float) -> str | None:
    """Return the one unit without which less than half of the evidence is left; None where all share in it."""
    if evidence.alone is None or evidence.snapshot is None or evidence.snapshot.log_regressed[row] < limit:
        return None
    assert evidence.state.since is not None
    has_traffic = evidence.state.since[row, 1:, 1] > 0
    if has_traffic.sum() < 2:
        return None
    without = np.where(has_traffic, evidence.alone[row], np.inf)
    worst = int(without.argmin())
    return evidence.state.suspects[worst] if without[worst] < LEFT * limit else None


def _decided(
    watch: Watch,
    rule: Rule,
    evidence: Evidence,
    row: int,
    verdict: Verdict,
    beyond: Flags,
    last: Verdict | None,
    needs: Needs,
) -> Verdict:
    """Return the verdict with its outcome and reason."""
    accepted = dict(watch.accepted).get(rule.name)
    if accepted is None:
        if last is not None and last.outcome is Outcome.REGRESSED:
            kept = {name: getattr(last, name) for name in ("outcome", "reason", "decided_at", "onset", "since_onset")}
            return replace(verdict, **kept)
        if beyond.any():
            return _regressed(watch, rule, evidence, row, verdict, beyond)
    if evidence.faults:
        what = reasons.subject(rule, verdict.labels)
        return replace(verdict, outcome=Outcome.INVALID, reason=f"{what}: {'; '.join(evidence.faults)}.")
    if signed(rule, verdict.labels):
        return replace(verdict, reason=reasons.new_signature(rule, verdict), dormant=True)
    absent = _absent(watch, rule, evidence, row, verdict)
    if absent is not None:
        return absent
    what, margin = reasons.subject(rule, verdict.labels), _margin_said(evidence, rule, row)
    if evidence.snapshot is None:
        why = "; ".join(evidence.calibration.notes) or "there is no history to judge it by"
        return replace(verdict, reason=f"{what}: {why}.", needs=Needs(None, None, "window"))
    worse, effect = verdict.log_e_regressed >= verdict.threshold, reasons.effect(rule, verdict)
    since = _proven(evidence, row, np.log(1 / watch.alpha.healthy), last)
    if since is not None:
        confidence = f"{100 * (1 - watch.alpha.healthy):g} %"
        said = f"{'worse, but ' if worse else ''}proven within the margin ({margin}; one-sided, {confidence})"
        return replace(verdict, outcome=Outcome.HEALTHY, decided_at=since, reason=f"{what}: {said}; {effect}.")
    state = "worse, within the margin so far" if worse else "not decided yet"
    state = state if accepted is None else f"accepted as intended ({accepted})"
    return replace(verdict, needs=needs, reason=f"{what}: {state}; {effect}; {reasons.waiting(needs)}.")


def _margin_said(evidence: Evidence, rule: Rule, row: int) -> str:
    """Return the margin in words; of a latency, whether it is on the latency or on the share over the objective."""
    on_scale = evidence.on_scale is not None and bool(evidence.on_scale[row])
    return reasons.tolerated(rule, evidence.calibration.margin, on_scale)


def _regressed(watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict, beyond: Flags) -> Verdict:
    at = int(beyond.argmax())
    verdict = replace(verdict, outcome=Outcome.REGRESSED, decided_at=float(evidence.ends[at]))
    assert evidence.snapshot is not None
    harm, onset = float(evidence.track.harm[row, at]), float(evidence.track.onset[row, at])
    first = watch.release.exposed_at + watch.warm_up + rule.matures + 2 * watch.block
    # A slow tail feeds its evidence unsteadily, so that what has been since it was last nil is not when it began.
    if onset > first and harm < OPEN and rule.kind is not Kind.LATENCY:
        sign = -1 if rule.worse is Worse.LOWER else 1
        since = float(sign * harm if evidence.snapshot.measure == "difference" else np.exp(sign * harm))
        verdict = replace(verdict, onset=onset, since_onset=since)
    return replace(verdict, reason=reasons.regressed(watch, rule, verdict, _margin_said(evidence, rule, row)))


def _absent(watch: Watch, rule: Rule, evidence: Evidence, row: int, verdict: Verdict) -> Verdict | None:
    """Return the verdict on a stream in which an arm sends nothing; None while both do."""
    state = evidence.state
    dispersion = SCHEDULED if rule.kind is Kind.GAUGE else evidence.calibration.dispersion
    each_idle, each_traffic = state.idle[[row]], state.tallies[[row]][:, [1, 3]]
    quiet = silent(each_idle, each_traffic, state.blocks, dispersion)
    missing, quiet, idle, traffic = absent(quiet, each_idle)[0], quiet[0], each_idle[0], each_traffic[0]
    if not quiet.any():
        return None
    alone = watch.design is Design.BEFORE_AFTER
    dormant = bool(quiet.all() or (alone and quiet[1])) and not traffic.any()
    if dormant and not (alone and row < len(evidence.calibration.streams) and evidence.calibration.points):
        what = reasons.subject(rule, verdict.labels)
        text = f"{what}: idle in {'the treatment' if alone else 'both arms'}, so it blocks nothing."
        return replace(verdict, outcome=Outcome.NO_DATA, dormant=True, reason=text)
    which = "treatment" if missing[1] or alone else "baseline" if missing[0] else "both"
    return replace(
        verdict,
        outcome=Outcome.NO_DATA,
        alarms=() if which == "both" else (f"absent_{which}",),
        reason=reasons.absent(watch, rule, verdict.labels, which, int(idle[quiet].max())),
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


def _effect(evidence: Evidence, row: int, limit: float) -> Effect:
    """Return treatment against baseline; of a latency that is worse only in its tail, of the quantile that is worst."""
    snapshot = evidence.snapshot
    if snapshot is None:
        return Effect("ratio", None, None, None, CONFIDENCE)
    measure: Literal["ratio", "difference"] = "difference" if snapshot.measure == "difference" else "ratio"
    if np.isnan(snapshot.estimate[row]):
        return Effect(measure, None, None, None, CONFIDENCE)
    on_scale = evidence.on_scale is not None and bool(evidence.on_scale[row])
    tail = max(_quantiles(evidence, row), key=lambda each: each.ratio, default=None) if on_scale else None
    proven = snapshot.log_regressed[row] >= limit and snapshot.estimate[row] <= evidence.margin
    if tail is not None and proven and np.log(tail.ratio) > evidence.margin:
        return Effect("ratio", tail.ratio, tail.lower, tail.upper, CONFIDENCE, f"p{100 * tail.level:g}")

    def shown(value: float) -> float | None:
        found = float({"ratio": np.exp(value), "relative": 1.0 + value, "difference": value}[snapshot.measure])
        return found if np.isfinite(found) else None

    estimate, lower, upper = (shown(each[row]) for each in (snapshot.estimate, snapshot.lower, snapshot.upper))
    return Effect(measure, estimate, lower, upper, CONFIDENCE, TYPICAL if on_scale else "")


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
    nth = evidence.state.staged - ends.size + 1 + np.arange(ends.size)
    since = last.decided_at if last is not None and last.outcome is Outcome.HEALTHY else None
    # What was proven at an earlier stage, or has been used up since, does not stand.
    fallen = np.flatnonzero((log_e < 0) | ((nth == 1) & (evidence.state.stage > 0)))
    first = 0
    if fallen.size:
        since, first = None, int(fallen[-1])
    reached = np.flatnonzero((log_e >= proof)[first:] & (nth >= FIRST_BLOCKS)[first:])
    return float(ends[first + reached[0]]) if since is None and reached.size else since


def _needs(watch: Watch, rule: Rule, evidence: Evidence, limits: Floats) -> list[Needs]:
    """Return, by stream, the sooner of: proving health if nothing changed, proving harm if the estimate is true."""
    snapshot = evidence.snapshot
    if snapshot is None:
        return [Needs(None, None, "window")] * len(limits)
    units, proof = evidence.calibration.units, np.log(1 / watch.alpha.healthy)
    healthy, worse = (np.nan_to_num(x) for x in (snapshot.toward_healthy, snapshot.toward_regressed))
    # Nothing is proven about harm that the units alone could cause.
    small = lowest(snapshot.scale, units, proof) >= evidence.margin
    harm = np.where(snapshot.harm > np.maximum(evidence.margin, lowest(snapshot.scale, units, limits)), worse, 0.0)
    waits = [
        passage(np.maximum(distance, 1e-9), np.maximum(drift, 0.0), 2 * np.maximum(drift, 1e-12))
        for distance, drift in (
            (proof + 1.0 - snapshot.log_healthy, np.where(small, 0.0, healthy)),
            (limits + 1.0 - snapshot.log_regressed, harm),
        )
    ]
    sooner = waits[0][0] <= waits[1][0]
    median, ninety = (np.where(sooner, waits[0][i], waits[1][i]) for i in (0, 1))
    end = evidence.ends[-1] if evidence.ends.size else watch.release.exposed_at
    left = (watch.release.exposed_at + watch.horizon - end) / watch.block
    per_block = snapshot.events_per_block * (0 if evidence.calibration.points else 1)
    coarse = np.zeros(len(limits), dtype=bool) if evidence.on_scale is None else ~evidence.on_scale
    needs = []
    for row, blocks in enumerate(median.tolist()):
        if not np.isfinite(blocks):
            needs.append(Needs(None, None, "units" if small[row] else "buckets" if coarse[row] else "events"))
            continue
        late = blocks > left
        minutes = [float(round(max(1.0, x) * watch.block / 60, 1)) for x in (blocks, ninety[row])]
        events = float(np.ceil(max(1.0, blocks) * per_block[row])) if per_block[row] else None
        limit: Literal["buckets", "window", "events"] = "buckets" if late and coarse[row] else "window"
        limit = limit if late else "events"
        needs.append(Needs(events, minutes[0], limit, minutes[1] if np.isfinite(minutes[1]) else None))
    return needs


def judge_split(watch: Watch, evidence: SplitEvidence, previous: Sequence[Verdict] = ()) -> tuple[Verdict, ...]:
    """Call the comparison invalid, for good, once the traffic split is proven not to be as configured; else nothing.

    A split that is off says that the arms are not the users they are said to be. It may also be a symptom of the
    release, so it never masks what regressed.
    """
    broken = np.flatnonzero(evidence.log_e >= -np.log(watch.alpha.split))
    if previous:
        return tuple(previous)
    if not broken.size:
        return ()
    at = float(evidence.ends[broken[0]])
    users = evidence.state["state"]["counts"][0]
    nothing = Effect("ratio", None, None, None, CONFIDENCE)
    tallies = (Tally(float(users[0]), float(users[0])), Tally(float(users[1]), float(users[1])))
    reason = reasons.broken_split(watch, evidence.share, evidence.observed, at)
    return (Verdict(SPLIT, (), Outcome.INVALID, reason, nothing, *tallies, decided_at=at),)


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
    guarding += [v for v in alive if v.rule == SPLIT]
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

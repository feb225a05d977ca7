"""Streams to a release: the worst of them, and a traffic split that breaks the comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from watcher import reasons
from watcher.comparison import CONFIDENCE, SPLIT, SplitEvidence
from watcher.evidence.track import unpacked
from watcher.model import Effect, Labels, Outcome, ReleaseVerdict, Tally, Verdict, Watch

ORDER = (Outcome.REGRESSED, Outcome.INVALID, Outcome.NO_DATA, Outcome.INCONCLUSIVE, Outcome.HEALTHY)
"""The worst first."""


def judge_split(watch: Watch, evidence: SplitEvidence, previous: Sequence[Verdict] = ()) -> tuple[Verdict, ...]:
    """Call the comparison invalid, for good, once the traffic split is proven not to be as configured; else nothing.

    A split that is off says that the arms are not the users they are said to be. It may also be a symptom of the
    release, so it never masks what regressed.
    """
    if previous:
        return tuple(previous)
    broken = np.flatnonzero(evidence.log_e >= -np.log(watch.alpha.split))
    if not broken.size:
        return ()
    at = float(evidence.ends[broken[0]])
    users = unpacked(evidence.state["state"]["counts"])[0]
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

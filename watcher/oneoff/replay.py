"""One past release, looked at as the daemon would have: every so often, from exposure to the horizon."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from watcher import attribution, reasons
from watcher.attribution import ABSENCE
from watcher.comparison import SPLIT
from watcher.look import look, request
from watcher.model import Look, Outcome, Verdict, Watch
from watcher.oneoff.prepared import Prepared
from watcher.report.past import ABSENT, Alarm, PastRelease

_BELOW = -1e-6
"""Score of a stream that is worse, but within its margin: it does not alarm, however strong its evidence."""


@dataclass(frozen=True)
class Case:
    """What is known of a past release beside its rows: its name, what it turned out to be, and its group."""

    release: str
    label: int | None = None
    group: str = ""


def replayed(case: Case, ready: Prepared, every: float) -> PastRelease:
    """Return what would have been said of a release.

    The alarm is the first look that calls the release regressed or its treatment absent, and stays whatever follows.
    The looks go on to the horizon, for the score alone.

    Args:
        case: which release it is.
        ready: the release before its first look.
        every: seconds between looks.
    """
    told: Look | None = None
    last: Look | None = None
    highest = -np.inf
    for last in looks(ready, every):
        told = last if told is None and _alarm(last) else told
        highest = max(highest, score(last))
    assert last is not None
    exposed, shown = ready.watch.release.exposed_at, told or last
    top, seen = _top(shown), attribution.suspect(ready.watch, shown.verdict, ready.calibrations)
    return PastRelease(
        release=case.release,
        label=case.label,
        group=case.group,
        outcome=shown.verdict.outcome.value,
        alarm=_alarm(shown),
        exposed_at=exposed,
        decided_at=_decided(shown),
        minutes_to_detect=None if told is None else (told.at - exposed) / 60,
        top_stream="" if top is None else stream_name(ready.watch, top),
        reason=_reason(shown, top),
        score=highest if told is not None else min(highest, _BELOW),
        notes=ready.notes,
        alpha=ready.watch.alpha_in_effect,
        began_at=seen.began_at,
        harm=_apparent(ready, seen.harm) if case.group else seen.harm,
        silent=seen.silent,
        concurrent=seen.concurrent,
        control_harmed=seen.control_harmed,
    )


def _apparent(ready: Prepared, otherwise: float) -> float:
    """Return the largest harm of a release as it appears, to rank it among those made with it."""
    watch = ready.watch
    start = float(np.floor(watch.release.exposed_at / watch.block) * watch.block)
    end = float(np.floor((ready.until - watch.settle) / watch.block + 1e-9) * watch.block)
    seen = ready.source.observe(request(watch, start, max(start, end)))
    found = [attribution.apparent(rule, seen[rule.name], ready.history.get(rule.name)) for rule in watch.rules]
    return max((each for each in found if each is not None), default=otherwise)


def looks(ready: Prepared, every: float) -> Iterator[Look]:
    """Yield the looks at a release, the last at the end of what may be seen; those that close no block are left out."""
    previous: Look | None = None
    for now in _moments(ready, every):
        previous = look(ready.watch, ready.source, ready.calibrations, previous, now)
        yield previous


def _moments(ready: Prepared, every: float) -> Sequence[float]:
    # A look follows the end of a block, as the daemon's do.
    block, settle = ready.watch.block, ready.watch.settle
    exposed = float(np.ceil(ready.watch.release.exposed_at / block - 1e-9) * block)
    at = [*np.arange(exposed + every + settle, ready.until - 1e-6, every).tolist(), ready.until]
    closed = np.floor((np.array(at) - settle) / block + 1e-9)
    fresh = np.diff(closed, prepend=np.floor(exposed / block)) > 0
    return [moment for moment, is_fresh in zip(at, fresh, strict=True) if is_fresh] or [at[-1]]


def score(found: Look) -> float:
    """Return how strong the sign of harm is at a look: nats of evidence beyond the threshold, of the worst stream.

    0 is exactly at the threshold; a stream whose estimate lies within its margin stays just below. An absent treatment
    scores `ABSENT`, whatever the evidence; -inf where no stream could be judged.
    """
    if ABSENCE in found.verdict.alarms:
        return ABSENT
    return max((_beyond(each) for each in found.verdict.streams if _judged(each)), default=-np.inf)


def _beyond(verdict: Verdict) -> float:
    beyond = verdict.log_e_regressed - verdict.threshold
    # Of what jumps from standing still the evidence has no measure; silence stays the strongest sign.
    beyond = min(beyond, ABSENT - 1)
    return max(beyond, 0.0) if verdict.outcome is Outcome.REGRESSED else min(beyond, _BELOW)


def _judged(verdict: Verdict) -> bool:
    """Tell whether a stream's outcome can still become regressed, or is."""
    known = verdict.effect.estimate is not None or verdict.log_e_regressed != 0.0
    return verdict.rule != SPLIT and not verdict.dormant and known


def _alarm(found: Look) -> Alarm:
    if found.verdict.outcome is Outcome.REGRESSED:
        return "regressed"
    return "absent_treatment" if ABSENCE in found.verdict.alarms else ""


def _decided(found: Look) -> float | None:
    """Return when the outcome was reached; of an absence, when it was seen; None while undecided."""
    outcome = found.verdict.outcome
    at = [each.decided_at for each in found.verdict.streams if each.outcome is outcome and each.decided_at is not None]
    if outcome is Outcome.REGRESSED:
        return min(at)
    if ABSENCE in found.verdict.alarms:
        return found.through
    return max(at, default=None) if outcome is Outcome.HEALTHY else None


def _top(found: Look) -> Verdict | None:
    """Return the stream with the most evidence of harm; where the alarm is an absence, one that is absent."""
    streams = [each for each in found.verdict.streams if each.rule != SPLIT]
    if _alarm(found) == ABSENCE:
        return next((each for each in streams if ABSENCE in each.alarms), None)

    def evidence(verdict: Verdict) -> tuple[bool, bool, float]:
        return verdict.outcome is Outcome.REGRESSED, _judged(verdict), verdict.log_e_regressed - verdict.threshold

    return max(streams, key=evidence, default=None)


def _reason(found: Look, top: Verdict | None) -> str:
    """Return why: of an absence what is absent, which the verdict of the release need not say."""
    return top.reason if top is not None and _alarm(found) == ABSENCE else found.verdict.reason


def stream_name(watch: Watch, verdict: Verdict) -> str:
    """Return what people call a stream."""
    rule = next((rule for rule in watch.rules if rule.name == verdict.rule), None)
    return verdict.rule if rule is None else reasons.subject(replace(rule, title=""), verdict.labels)

"""After a kill: did what regressed come back?"""

from __future__ import annotations

import numpy as np

from watcher import reasons
from watcher.model import Kind, Observations, Outcome, ReleaseVerdict, Rule, Tally, Verdict, Watch, Worse

LATEST = 3
"""Blocks with traffic that must lie within the margin together."""


def recovery(
    watch: Watch,
    verdict: ReleaseVerdict,
    since_kill: dict[str, Observations],
    killed_at: float,
    now: float,
    turned_off: bool = True,
) -> tuple[bool | None, str]:
    """Compare everybody's latest blocks with what the baseline was.

    Args:
        watch: rules and design.
        verdict: as it was when the kill was decided.
        since_kill: blocks that began after the kill, by rule.
        killed_at: when the kill was decided; `now` when this is asked (epoch seconds).
        turned_off: whether the kill took effect.

    Returns:
        True with a sentence once every regressed stream lies within its margin; None while it does not, with a
        sentence that says so.
    """
    rules = {rule.name: rule for rule in watch.rules}
    worst = [stream for stream in verdict.streams if stream.outcome is Outcome.REGRESSED]
    readings = [(stream, rules[stream.rule], _latest(rules[stream.rule], stream, since_kill)) for stream in worst]
    after = f"{reasons.span((now - killed_at) / 60)} after the kill{'' if turned_off else ' was decided'}"
    back = [reading is not None and _within(rule, stream, reading) for stream, rule, reading in readings]
    if worst and all(back):
        first, rule, reading = readings[0]
        return True, f"{_said(rule, first, reading)}: back within the margin {after}."
    late = [item for item, fine in zip(readings, back, strict=True) if not fine]
    stream, rule, reading = late[0] if late else readings[0]
    return None, f"{_said(rule, stream, reading)}: not back within the margin {after}."


def _latest(rule: Rule, stream: Verdict, since_kill: dict[str, Observations]) -> float | None:
    """Return the rate (or mean) of both arms together over the latest blocks with traffic."""
    seen = since_kill.get(rule.name)
    if seen is None or stream.labels not in seen.streams:
        return None
    row = seen.streams.index(stream.labels)
    arms = [arm for arm in (seen.baseline, seen.treatment) if arm is not None]
    events = np.sum([np.nansum(arm.events[row], axis=0) for arm in arms], axis=0)
    total = np.sum([arm.total[row].sum(axis=0) for arm in arms], axis=0)
    busy = np.flatnonzero(total > 0)[-LATEST:]
    return float(events[busy].sum() / total[busy].sum()) if busy.size >= LATEST else None


def _baseline(rule: Rule, stream: Verdict) -> float | None:
    """Return what the baseline measured; without a control, what the treatment would have without the effect."""
    measured = _rate(rule, stream.baseline)
    if measured is not None:
        return measured
    treated, estimate = _rate(rule, stream.treatment), stream.effect.estimate
    return None if treated is None or not estimate else treated / estimate


def _rate(rule: Rule, tally: Tally) -> float | None:
    """Return what an arm measured: a rate of counts, or the mean of a gauge."""
    if tally.total <= 0:
        return None
    return tally.events if rule.kind is Kind.GAUGE else tally.events / tally.total


def _within(rule: Rule, stream: Verdict, reading: float) -> bool:
    base = _baseline(rule, stream)
    if base is None:
        return False
    if rule.absolute:
        return reading <= base + rule.margin if rule.worse is Worse.HIGHER else reading >= base - rule.margin
    return reading <= base * (1 + rule.margin) if rule.worse is Worse.HIGHER else reading >= base * (1 - rule.margin)


def _said(rule: Rule, stream: Verdict, reading: float | None) -> str:
    what = reasons.subject(rule, stream.labels)
    if reading is None:
        return f"{what} has no traffic to read"
    base = _baseline(rule, stream)
    return f"{what} is at {_shown(rule, reading)}" + ("" if base is None else f" (baseline {_shown(rule, base)})")


def _shown(rule: Rule, value: float) -> str:
    return f"{value:.3g}" if rule.kind is Kind.GAUGE else f"{value * 100:.3g} %"

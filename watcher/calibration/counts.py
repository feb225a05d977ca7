"""What counts in two arms need: how much more than binomial they vary, how units differ, and what is usual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from watcher.evidence.buckets import Buckets
from watcher.evidence.dispersion import FEWEST_UNITS, UPPER_LONG, Learnt, learn, spread, spread_of
from watcher.evidence.quantiles import middles_of
from watcher.model import Arm, Calibration, Floats, Kind, Labels, Observations, Rule

DAY = 86_400.0
SEASON_DAYS = 3
"""Whole days of history from which a daily season is learnt."""

LONG = 6.9
"""Days of history that are long for dispersion."""

LEARNT_AT = (0.5, 0.1, 0.01)
"""Shares of requests over an edge at which the dispersion of a latency is learnt, beside its objective."""


def calibrate_counts(
    rule: Rule, history: Observations, came_from: str, rng: np.random.Generator, block: float, known: Calibration
) -> Calibration:
    """Learn dispersion, spread between units and what is usual from the control's counts."""
    history = _without_unseen(rule, history)
    control = history.baseline if history.baseline is not None else history.treatment
    ordinary = [row for row, stream in enumerate(history.streams) if not signed(rule, stream)]
    whole = control.picked(streams=ordinary)
    days = (np.ptp(history.ends) + block) / DAY if history.ends.size else 0.0
    day = round(DAY / block) if days >= SEASON_DAYS else None
    learning = partial(learn, rng=rng, long=days >= LONG, day=day, part=rule.kind is not Kind.RATE)
    learnt = learning(whole.events.sum(axis=0), whole.total.sum(axis=0))
    if whole.buckets is not None and whole.buckets.any():
        # The largest of several: each is bounded less tightly.
        each = partial(learning, upper=UPPER_LONG)
        learnt, spreads, pace = _learn_latency(whole.buckets.sum(axis=0), np.log(history.edges), learnt, each)
        shape = np.asarray(whole.buckets.sum(axis=(1, 2)))
        known = replace(known, edges=history.edges, shape=shape, spreads=spreads, pace=pace)
        known = replace(known, notes=(*known.notes, *_told_of_buckets(rule, known)))
    apart, notes = learnt.between_units is not None, known.notes
    # How counts vary over time stands in for how units do only where it is plainly more than chance.
    clear = apart or learnt.clustered
    if not apart:
        why = "fewer than two units" if learnt.units < FEWEST_UNITS else "too short a history"
        notes = (*notes, f"{'units taken to be alike' if clear else 'independent events assumed'} ({why})")
    return replace(
        known,
        streams=history.streams,
        came_from=came_from if clear else "assumed",
        dispersion=learnt.dispersion if clear else 1.0,
        between_units=learnt.between_units,
        over_time=learnt.over_time,
        spread=learnt.spread,
        units=learnt.units,
        assumed=not apart,
        notes=notes,
        rate=_rates(control),
    )


def _rates(arm: Arm) -> Floats:
    """Return events per exposure, [stream]; NaN where there was no exposure."""
    events, total = arm.events.sum(axis=(1, 2)), arm.total.sum(axis=(1, 2))
    return np.asarray(np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0))


def _learn_latency(
    buckets: Floats, tops: Floats, share: Learnt, learning: Callable[[Floats, Floats], Learnt]
) -> tuple[Learnt, tuple[float, ...], float]:
    """Learn from whole histograms [unit, block, bucket].

    Args:
        tops: logs of the upper edges.
        share: what the share over the objective said; the larger dispersion counts.
        learning: how dispersion is learnt from events and totals, [unit, block].

    Returns:
        The dispersion, the spread between units of the share over each edge, and that of the mean log latency.
    """
    over = buckets.sum(axis=2, keepdims=True) - np.cumsum(buckets, axis=2)
    total, exceeding = buckets.sum(axis=(1, 2)), over.sum(axis=1)
    part = exceeding.sum(axis=0) / total.sum()
    for edge in sorted({int(np.abs(part - level).argmin()) for level in LEARNT_AT}):
        at = learning(over[:, :, edge], buckets.sum(axis=2))
        between = max(filter(None, (share.between_units, at.between_units)), default=None)
        in_time = max(filter(None, (share.over_time, at.over_time)), default=None)
        share = replace(share, between_units=between, over_time=in_time)
    free = np.maximum(1e-3, 1.0 - part) * share.dispersion
    spreads = tuple(spread(exceeding[:, edge], total, float(free[edge])) for edge in range(len(tops) - 1))
    busy, middles = total > 0, middles_of(tops)
    if busy.sum() < FEWEST_UNITS:
        return share, spreads, 0.0
    counts, n = buckets.sum(axis=1)[busy], total[busy]
    means = counts @ middles / n
    variances = np.maximum(counts @ middles**2 / n - means**2, 1e-9) * share.dispersion / n
    return share, spreads, spread_of(means, variances)


def _told_of_buckets(rule: Rule, known: Calibration) -> tuple[str, ...]:
    """Return what people are told where the edges are too far apart for the margin on the latency scale."""
    assert known.shape is not None
    if Buckets.of(edges=known.edges, margin=known.margin, shape=known.shape).decidable.all():
        return ()
    on_share = f"buckets too far apart to tell {100 * known.margin:g} % of latency: the margin is on the share"
    over = [
        count for edge, count in zip(known.edges, known.shape.sum(axis=0), strict=True) if edge > (rule.objective or 0)
    ]
    if sum(over) > 0:
        return (f"{on_share} of requests over {rule.objective:g} s",)
    return (
        f"{on_share} over {rule.objective:g} s, which no request took: nothing can prove it healthy; lower `objective`",
    )


def _without_unseen(rule: Rule, history: Observations) -> Observations:
    """Return the history without the error signatures that never occurred in it: their counters only stood at nil."""
    arms = [arm for arm in (history.baseline, history.treatment) if arm is not None]
    rows = [
        row
        for row, stream in enumerate(history.streams)
        if not signed(rule, stream) or any(arm.events[row].any() for arm in arms)
    ]
    return history if len(rows) == len(history.streams) else history.of_streams(rows)


def signed(rule: Rule, stream: Labels) -> bool:
    """Tell whether a stream is one error signature of another stream."""
    return rule.signature is not None and rule.signature not in rule.by and rule.signature in dict(stream)

"""The facts of a stream: effect, quantiles, tallies, the one sick unit, and what an undecided one waits for."""

from __future__ import annotations

from typing import Literal

import numpy as np

from watcher.comparison import CONFIDENCE, Evidence
from watcher.evidence.planning import passage
from watcher.evidence.units import lowest
from watcher.model import Effect, Floats, Kind, Needs, QuantileShift, Rule, Tally, Watch

LEFT = 0.5
"""Part of the evidence that must be left without any one unit of the treatment."""

KNOWN = 1000
"""As many units as leave nothing to learn of how they differ."""

TYPICAL = "typical latency"
"""What a latency judged on its own scale is told by: its geometric mean."""


def effects_of(rule: Rule, evidence: Evidence, limits: Floats) -> list[Effect]:
    """Return treatment against baseline, by stream."""
    snapshot = evidence.snapshot
    if snapshot is None:
        return [Effect("ratio", None, None, None, CONFIDENCE)] * len(limits)
    measure: Literal["ratio", "difference"] = "difference" if snapshot.measure == "difference" else "ratio"
    # Counts are never less than none, whatever a normal approximation of their noise says.
    least = -np.inf if rule.kind is Kind.GAUGE else 0.0

    def shown(values: Floats) -> list[float | None]:
        with np.errstate(over="ignore"):
            times = np.exp(values) if snapshot.measure == "ratio" else np.maximum(1.0 + values, least)
        found = values if snapshot.measure == "difference" else times
        known = np.isfinite(found) & ~np.isnan(snapshot.estimate)
        return [value if has else None for value, has in zip(found.tolist(), known.tolist(), strict=True)]

    scaled = np.zeros(len(limits), dtype=bool) if evidence.on_scale is None else evidence.on_scale
    of = [TYPICAL if on_scale else "" for on_scale in (scaled & ~np.isnan(snapshot.estimate)).tolist()]
    rows = zip(shown(snapshot.estimate), shown(snapshot.lower), shown(snapshot.upper), of, strict=True)
    effects = [Effect(measure, estimate, lower, upper, CONFIDENCE, what) for estimate, lower, upper, what in rows]
    # A latency that is worse only in its tail is told by the quantile that is worst.
    in_tail = scaled & (snapshot.log_regressed >= limits) & (snapshot.estimate <= evidence.margin)
    for row in np.flatnonzero(in_tail).tolist():
        tail = max(quantiles_of(evidence, row), key=lambda each: each.ratio, default=None)
        if tail is not None and np.log(tail.ratio) > evidence.margin:
            effects[row] = Effect("ratio", tail.ratio, tail.lower, tail.upper, CONFIDENCE, f"p{100 * tail.level:g}")
    return effects


def quantiles_of(evidence: Evidence, row: int) -> tuple[QuantileShift, ...]:
    """Return the quantiles of a latency that there are requests enough to name."""
    found = []
    for level, each in (evidence.quantiles or {}).items():
        if np.isfinite(each.ratio[row]):
            bounds = (float(x) if 0 < x < np.inf else None for x in (each.lower[row], each.upper[row]))
            found.append(QuantileShift(level, float(each.baseline[row]), float(each.treatment[row]), *bounds))
    return tuple(found)


def tallies_of(rule: Rule, evidence: Evidence) -> list[tuple[Tally, Tally]]:
    """Return what the baseline and the treatment counted, by stream."""
    state = evidence.state

    def tally(events: float, total: float, units: int) -> Tally:
        mean = rule.kind is Kind.GAUGE
        return Tally((events / total if total else 0.0) if mean else events, total, units)

    return [
        (tally(before, of, state.units[0]), tally(since, since_of, state.units[1]))
        for before, of, since, since_of in state.tallies.tolist()
    ]


def sick_unit_of(evidence: Evidence, row: int, limit: float) -> str | None:
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


def needs_of(watch: Watch, evidence: Evidence, limits: Floats) -> list[Needs]:
    """Return, by stream, the sooner of: proving health if nothing changed, proving harm if the estimate is true."""
    snapshot = evidence.snapshot
    if snapshot is None:
        return [Needs(None, None, "window")] * len(limits)
    # A spread that was inflated for the few units it was learnt from serves as if it were known.
    units = KNOWN if evidence.calibration.reports is not None else evidence.calibration.units
    proof = np.log(1 / watch.alpha.healthy)
    healthy, worse = (np.nan_to_num(x) for x in (snapshot.toward_healthy, snapshot.toward_regressed))
    # Nothing is proven about harm that the units alone could cause.
    small = lowest(snapshot.scale, units, proof) >= evidence.margin
    harm = np.where(snapshot.harm > np.maximum(evidence.margin, lowest(snapshot.scale, units, limits)), worse, 0.0)
    distances = np.maximum([proof + 1.0 - snapshot.log_healthy, limits + 1.0 - snapshot.log_regressed], 1e-9)
    drifts = np.maximum([np.where(small, 0.0, healthy), harm], 0.0)
    medians, nineties = passage(distances, drifts, 2 * np.maximum(drifts, 1e-12))
    sooner = medians[0] <= medians[1]
    median, ninety = (np.where(sooner, each[0], each[1]) for each in (medians, nineties))
    end = evidence.ends[-1] if evidence.ends.size else watch.release.exposed_at
    left = (watch.release.exposed_at + watch.horizon - end) / watch.block
    per_block = snapshot.events_per_block * (0 if evidence.calibration.points else 1)
    coarse = np.zeros(len(limits), dtype=bool) if evidence.on_scale is None else ~evidence.on_scale
    needs = []
    for row, blocks in enumerate(median.tolist()):
        if not np.isfinite(blocks):
            needs.append(Needs(None, None, "units" if small[row] else "buckets" if coarse[row] else "events"))
            continue
        minutes = [_rounded(max(1.0, x) * watch.block / 60) for x in (blocks, ninety[row])]
        events = float(np.ceil(max(1.0, blocks) * per_block[row])) if per_block[row] else None
        limit: Literal["buckets", "window", "events"] = "events"
        if blocks > left:
            limit = "buckets" if coarse[row] else "window"
        needs.append(Needs(events, minutes[0], limit, minutes[1] if np.isfinite(minutes[1]) else None))
    return needs


def _rounded(minutes: float) -> float:
    """Return minutes to a tenth, or to one digit where that would be none: blocks of seconds take their time, too.

    >>> _rounded(34.56), _rounded(0.033)
    (34.6, 0.03)
    """
    return float(round(minutes, 1)) or float(f"{minutes:.1g}")

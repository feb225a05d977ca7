"""From a history to a plan: how long every stream of a watch will take, by its own traffic and baseline rate.

A release that everybody gets has no control: it is held against its own past. Any other is planned as a comparison of
two arms at the same time, whether or not the history has them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from watcher import reasons
from watcher.calibration import across, in_points, on_series, signed
from watcher.comparison.methods import Methods
from watcher.evidence import planning, units
from watcher.evidence.absence import FIRST_BLOCKS
from watcher.evidence.buckets import Buckets
from watcher.evidence.canaries import Canaries
from watcher.evidence.innovations import Innovations
from watcher.evidence.paces import Counts, Latency, Level, Pace
from watcher.judge import thresholds
from watcher.look import prepare
from watcher.model import Arm, Calibration, Floats, Kind, Observations, Rule, Watch, Worse
from watcher.report.plan import Curve, Forecast, Plan, StreamPlan, Wait, change_cell

SHARES = (0.05, 0.1, 0.2, 0.5)
"""Shares of the traffic that a release might be given instead."""

MOMENTS = (10.0, 60.0)
"""Minutes for which the smallest effect found is told, besides the whole watch."""

MOST = {Worse.HIGHER: np.inf, Worse.LOWER: 0.99}
"""Relative margins that a margin in percentage points is at most taken for."""

POINTS = 40


def forecast(
    watch: Watch,
    history: Mapping[str, Observations],
    warnings: Sequence[str] = (),
    came_from: str | None = None,
    calibrations: Mapping[str, Calibration] | None = None,
    few: int | None = None,
) -> Plan:
    """Plan a watch.

    Args:
        watch: its one stage says which share the release will get.
        history: by rule; of both arms where there were some.
        warnings: what to tell the reader besides.
        came_from: where the history is from, for people; None: how long it is.
        calibrations: what is learnt already, by rule; None: it is learnt from the history.
        few: forecast only so many streams of a rule, those in focus that have the fewest events, which take longest;
            the others have no forecast.
    """
    share = watch.release.stages[0].share or 1.0
    watch = replace(watch, baseline=None) if share == 1 else replace(watch, baseline=(), treatment=())
    past = {name: _control(seen, share == 1) for name, seen in history.items()}
    calibrations = prepare(watch, past, came_from) if calibrations is None else calibrations
    streams = [
        stream
        for rule in watch.rules
        for stream in _streams(watch, rule, calibrations[rule.name], history[rule.name], share, few)
    ]
    notes = [note for seen in history.values() for note in seen.notes]
    assumed = reasons.assumed({rule.label: calibrations[rule.name].notes for rule in watch.rules})
    return Plan(
        streams=tuple(streams),
        share=share,
        watch_for=watch.horizon / 60,
        warm_up=watch.warm_up / 60,
        alpha=watch.alpha.regressed,
        start=watch.release.exposed_at - watch.history,
        end=watch.release.exposed_at,
        warnings=tuple(dict.fromkeys([*warnings, *notes, *assumed])),
    )


def _control(seen: Observations, alone: bool) -> Observations:
    """Return the history as a release will find it: nobody has been on the treatment."""
    control = seen.baseline or seen.treatment
    if alone:
        return replace(seen, treatment=control, baseline=None)
    return replace(seen, baseline=control, treatment=Arm(control.units, *(np.zeros_like(control.total),) * 2))


def _streams(
    watch: Watch, rule: Rule, calibration: Calibration, seen: Observations, share: float, few: int | None
) -> Iterator[StreamPlan]:
    """Yield the plan of every stream of a rule, and one that says so where there is none."""
    rates, exposures = baseline(rule, seen)
    judged = [row for row, labels in enumerate(seen.streams) if not signed(rule, labels)]
    wanted = _slowest(watch, seen, rates * exposures, judged, few)
    limits = thresholds(watch, rule, len(judged), len(judged), calibration.bar)
    for place, row in enumerate(judged or [0]):
        labels = seen.streams[row] if judged else ()
        rate, traffic = (float(x[row]) if judged else none for x, none in ((rates, np.nan), (exposures, 0.0)))
        points = in_points(rule, watch.design) and rate > 0
        stream = StreamPlan(
            rule=rule,
            labels=labels,
            rate=rate,
            per_minute=traffic * 60 / watch.block,
            # Planned as a ratio: at the rate of the history that is the same margin.
            margin=min(calibration.margin / rate, MOST[rule.worse]) if points else calibration.margin,
            units=calibration.units,
            dispersion=calibration.dispersion,
            came_from=calibration.came_from,
            window=max(0.0, watch.horizon - watch.warm_up - rule.matures) / 60,
            idle=traffic <= 0,
        )
        why_not = _hindrance(watch, rule, calibration, rate, traffic)
        if why_not:
            yield replace(stream, why_not=why_not)
        elif row not in wanted:
            yield stream
        else:
            paces = partial(_paces, Methods(watch, rule, calibration), stream, traffic, float(limits[place]))
            yield replace(stream, forecast=_forecast(watch, stream, calibration, paces, share, float(limits[place])))


def _slowest(watch: Watch, seen: Observations, events: Floats, rows: Sequence[int], few: int | None) -> set[int]:
    """Return the rows that have the fewest events, of those in focus where any are; None: all of them."""
    own = [row for row in rows if dict(watch.focus).items() <= dict(seen.streams[row]).items()] or rows
    known = [row for row in own if events[row] > 0]
    return set(rows) if few is None else set(sorted(known, key=lambda row: float(events[row]))[:few])


def baseline(rule: Rule, seen: Observations) -> tuple[Floats, Floats]:
    """Return events per exposure of the baseline (NaN without any), and exposure per block of both arms together.

    Of a gauge, its mean, and how many of the blocks have a value. Blocks before the first with traffic do not count.
    Both are [stream].
    """
    control, arms = seen.baseline or seen.treatment, [arm for arm in (seen.baseline, seen.treatment) if arm is not None]
    busy = np.sum([arm.total.sum(axis=(0, 1)) for arm in arms], axis=0) > 0
    blocks = busy.size - int(busy.argmax()) if busy.any() else 1
    if rule.kind is Kind.GAUGE:
        values = across(rule, control)
        count = np.isfinite(values).sum(axis=1)
        mean = np.divide(np.nansum(values, axis=1), count, out=np.full(len(values), np.nan), where=count > 0)
        return mean, count / blocks
    events, total = control.events.sum(axis=(1, 2)), control.total.sum(axis=(1, 2))
    rate = np.divide(events, total, out=np.full_like(events, np.nan), where=total > 0)
    return rate, np.asarray(np.sum([arm.total.sum(axis=(1, 2)) for arm in arms], axis=0) / blocks)


def _hindrance(watch: Watch, rule: Rule, calibration: Calibration, rate: float, traffic: float) -> str:
    """Return why nothing can be planned; empty if it can."""
    if traffic <= 0:
        return "no traffic in the history"
    if on_series(rule, watch.design):
        known = calibration.memory is not None or calibration.reports is not None
        return "" if known else "; ".join(calibration.notes) or "too short a history"
    return "" if rate > 0 else "none of its events in the history, so there is no rate to plan with"


class _Paces(NamedTuple):
    """How fast evidence will grow: of health, of harm, and of harm to the oracle, who knows what units are like.

    `on_edges` is False of a latency whose bucket edges do not allow its margin, so that a share is judged in its place.
    """

    proving: Pace
    finding: Pace
    oracle: Pace
    on_edges: bool = True


def _paces(methods: Methods, stream: StreamPlan, traffic: float, threshold: float, share: float) -> _Paces:
    """Return the paces of a stream by the methods that will judge it."""
    rule, calibration, own = methods.rule, methods.calibration, (stream.labels,)
    chosen = methods.chosen(own)
    if "innovations" in chosen:
        series = methods.laid_out("innovations", own)
        assert isinstance(series, Innovations)
        level = Level.of(series, traffic if rule.kind is Kind.GAUGE else 1.0)
        return _Paces(level, level, level)
    if "canaries" in chosen:
        beside, apart = methods.laid_out("canaries", own), _apart(calibration.units, share)
        assert isinstance(beside, Canaries)
        noise, spread = (float(each[0]) * apart for each in (beside.least_noise, np.sqrt(beside.own)))
        level = Level(min(1.0, traffic) / noise**2, spread, methods.sign, beside.logarithmic)
        return _Paces(level, level, level)
    apart, known = _apart(calibration.units, share), units.inflation(calibration.units)
    if "buckets" in chosen:
        latency = methods.laid_out("buckets", own)
        assert isinstance(latency, Buckets)
        if latency.decidable.all():
            pace = Latency.of(latency, traffic, share)
            proof = replace(pace, tau=known * apart * pace.offset(latency))
            return _Paces(proof, replace(pace, tau=known * apart * calibration.pace), pace)
    tau = calibration.spread * apart
    common = "proportion" in chosen
    counts = Counts(stream.rate, traffic, share, methods.sign, calibration.dispersion, tau, bernoulli=common)
    distance = threshold + counts.overhead
    lowest = float(units.lowest(np.array(tau), calibration.units, distance))
    return _Paces(
        replace(counts, tau=known * tau),
        # The spread at which nothing is found below what evidence will need to be.
        replace(counts, tau=lowest / np.sqrt(2 * distance)),
        replace(counts, bernoulli=rule.kind is not Kind.RATE),
        on_edges="buckets" not in chosen,
    )


def _apart(units: int, share: float) -> float:
    """Return what multiplies a spread between units when each arm has units of its own, in proportion to its share."""
    return float(np.sqrt(1 / max(1.0, share * units) + 1 / max(1.0, (1 - share) * units))) if units else 0.0


def _forecast(
    watch: Watch,
    stream: StreamPlan,
    calibration: Calibration,
    paces: Callable[[float], _Paces],
    share: float,
    threshold: float,
) -> Forecast:
    each, proof = watch.block / 60, float(np.log(1 / watch.alpha.healthy))
    here, window = paces(share), max(1.0, stream.window / each)
    finding, margin = here.finding, here.proving.effect(stream.worst_ratio)

    def proven(pace: Pace) -> Wait:
        return _wait(planning.time_to_prove(pace, margin, proof), each, FIRST_BLOCKS)

    healthy = proven(here.proving)
    limit = planning.binding(here.proving, np.inf if healthy.p90 is None else healthy.p90 / each, window)
    plan = Forecast(
        healthy=healthy,
        margin=_wait(planning.time_to_find(finding, margin, threshold), each),
        double=_wait(planning.time_to_find(finding, finding.effect(2.0**finding.sign), threshold), each),
        found=_found(watch, finding, threshold, window),
        floor=float(finding.ratio(planning.floor(finding.tau, threshold + finding.overhead))),
        curve=_curve(here, threshold, window, each),
        limit="buckets" if limit == "window" and not here.on_edges else limit,
        shares={} if isinstance(finding, Level) else {other: proven(paces(other).proving) for other in SHARES},
    )
    return replace(plan, helps=_helps(watch, stream, calibration, here.proving, plan, share))


def _found(watch: Watch, finding: Pace, threshold: float, window: float) -> dict[float, float | None]:
    """Return the smallest ratio found, by minutes; the last is the whole watch."""
    lasts = watch.horizon / 60
    moments = [moment for moment in MOMENTS if moment < lasts]
    blocks = np.array([*(moment * 60 / watch.block for moment in moments), window])
    found = _ratios(finding, planning.detectable(finding, blocks, threshold))
    pairs = zip([*moments, lasts], found.tolist(), strict=True)
    return {moment: ratio if np.isfinite(ratio) else None for moment, ratio in pairs}


def _curve(here: _Paces, threshold: float, window: float, each: float) -> Curve:
    """Return watcher's curve and that of the oracle."""
    blocks = np.geomspace(1.0, max(2.0, window), POINTS)
    ours = planning.detectable(here.finding, blocks, threshold)
    theirs = planning.detectable(here.oracle, blocks, threshold, oracle=True)
    return Curve(blocks * each, _ratios(here.finding, ours), _ratios(here.oracle, theirs))


def _wait(blocks: tuple[Floats, Floats], each: float, fewest: int = 1) -> Wait:
    """Return waits in minutes."""
    median, late = (max(fewest, float(wait)) * each for wait in blocks)
    return Wait(median if np.isfinite(median) else None, late if np.isfinite(late) else None)


def _ratios(pace: Pace, effects: Floats) -> Floats:
    """Return effects as ratios of treatment to baseline, NaN where nothing is found."""
    ratios = pace.ratio(np.where(np.isfinite(effects), effects, 0.0))
    return np.where(np.isfinite(effects) & (ratios > 0), ratios, np.nan)


def _helps(watch: Watch, stream: StreamPlan, calibration: Calibration, pace: Pace, plan: Forecast, share: float) -> str:
    """Return what would make the proof of health sooner, or possible."""
    proof, blocks = float(np.log(1 / watch.alpha.healthy)), stream.window * 60 / watch.block
    if plan.limit == "units":
        if not isinstance(pace, Counts):
            return f"its {stream.units} units differ too much for so small a margin; needs more, or ones in both arms"
        margin = pace.effect(stream.worst_ratio)
        needed = planning.units_needed(pace, calibration.spread, margin, proof, blocks)
        many = f"needs about {needed:.0f} an arm" if np.isfinite(needed) else "needs a wider margin"
        return f"its {stream.units} units differ too much for so small a margin; {many}, or units that serve both arms"
    if plan.limit == "placebos":
        return "how its level varies is not known well enough for so small a margin; needs a longer history"
    said = f"needs {_span(plan.healthy)}"
    larger = {other: wait for other, wait in plan.shares.items() if other > share}
    if larger:
        enough = [other for other, wait in larger.items() if wait.p90 is not None and wait.p90 <= stream.window]
        other = min(enough, default=max(larger))
        said = f"at {100 * share:.3g} % of traffic {said}; at {100 * other:.3g} % {_span(larger[other])}"
    if plan.limit == "events":
        return said if larger else ""
    if plan.limit == "buckets":
        said += "; histogram buckets no further apart than the margin would tell how much slower"
    if isinstance(pace, Latency):
        return said
    ratio = float(_ratios(pace, planning.provable(pace, np.array(blocks), proof)))
    there = "no margin" if np.isnan(ratio) else f"a margin of {change_cell(ratio)}"
    return f"{said}; within {reasons.span(watch.horizon / 60)} {there} can be proven"


def _span(wait: Wait) -> str:
    return "longer than anybody waits" if wait.p90 is None else reasons.span(wait.p90)

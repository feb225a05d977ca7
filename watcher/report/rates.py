"""Both arms over time: what users of either saw, block by block."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from watcher import reasons
from watcher.errors import DataError
from watcher.model import Arm, Design, Floats, Kind, Labels, Observations, Rule, Verdict, Worse
from watcher.report.cells import clipped, word
from watcher.report.drawing import (
    BASELINE,
    COLOURS,
    FAINT,
    INK,
    TREATMENT,
    below,
    days,
    moments,
    page,
    plain,
    time_axis,
)
from watcher.report.findings import Findings

_SMOOTHED_FROM = 20
"""Points from which a line is smoothed."""

_MOST_POINTS = 720
"""Points across the chart: more cannot be told apart, and make a heavy page."""

_HISTORY = 6 * 3600.0


def arms(findings: Findings, rule: Rule, verdict: Verdict) -> Figure:
    """Draw both arms of one stream: every block faintly, a moving average clearly.

    Blocks before exposure are drawn as far as the findings' observations hold them; before/after, they are the
    baseline. A long history is cut to what compares with the watch, and many blocks are put together.

    Raises:
        DataError: the findings hold no observations of this stream.
    """
    seen = findings.observations.get(rule.name)
    if seen is None or verdict.labels not in seen.streams:
        known = ", ".join(sorted(findings.observations)) or "none"
        raise DataError(f"no observations of {rule.name} {dict(verdict.labels)} to draw; there are some of: {known}")
    title = f"{word(verdict.outcome)}  {reasons.subject(rule, verdict.labels)}"
    figure = page(8.4, 3.9, title, reasons.measured(rule, verdict, named=False))
    axes = figure.subplots()
    plain(axes)
    _draw_arms(findings, axes, rule, _recent(findings, seen), verdict.labels)
    axes.margins(x=0.01)
    axes.set_xlim(axes.get_xlim())
    moments([axes], moments_of(findings, verdict))
    time_axis(axes)
    below(figure, [axes])
    return figure


def moments_of(findings: Findings, verdict: Verdict) -> list[tuple[float, str, str]]:
    """Return exposure, further stages, decision and kill, where there are any: (epoch seconds, name, colour)."""
    named = []
    if findings.exposed_at is not None:
        named.append((findings.exposed_at, f"exposed {reasons.clock(findings.exposed_at)}", FAINT))
        for stage in findings.watch.release.stages[1:]:
            share = "further users" if stage.share is None else f"{100 * stage.share:.3g} %"
            named.append((stage.at, f"{share} {reasons.clock(stage.at)}", FAINT))
    if verdict.decided_at is not None:
        name = f"{verdict.outcome.value} {reasons.clock(verdict.decided_at)}"
        named.append((verdict.decided_at, name, COLOURS[verdict.outcome]))
    if findings.killed_at is not None:
        named.append((findings.killed_at, f"killed {reasons.clock(findings.killed_at)}", INK))
    return named


def _recent(findings: Findings, seen: Observations) -> Observations:
    """Leave out history that lies further back than three times the watch, and than six hours."""
    exposed = findings.exposed_at
    if exposed is None or not seen.ends.size:
        return seen
    last = float(seen.ends[-1])
    return seen.between(exposed - max(3 * (last - exposed), _HISTORY), last)


Piece = tuple[str, str, Floats, Arm]
"""Name, colour, ends of blocks [block] and counts [1, unit, block] of what is drawn as one line."""


def _pieces(findings: Findings, seen: Observations, stream: Labels) -> list[Piece]:
    """Return the lines to draw, cut at exposure: an average across it would blur what changed there."""
    after = seen.ends > (-np.inf if findings.exposed_at is None else findings.exposed_at)
    if seen.baseline is None:
        named = [("before", BASELINE, seen.treatment, ~after), ("after exposure", TREATMENT, seen.treatment, after)]
    else:
        given = [("baseline", BASELINE, seen.baseline), ("treatment", TREATMENT, seen.treatment)]
        named = [(name, colour, arm, side) for name, colour, arm in given for side in (~after, after)]
    row = seen.streams.index(stream)
    return [
        (name, colour, seen.ends[keep], Arm(arm.units, arm.events[[row]][:, :, keep], arm.total[[row]][:, :, keep]))
        for name, colour, arm, keep in named
        if keep.any()
    ]


def _draw_arms(findings: Findings, axes: Axes, rule: Rule, seen: Observations, stream: Labels) -> None:
    raws: list[Floats] = []
    lines: list[Floats] = []
    width = -(-seen.ends.size // _MOST_POINTS)
    for name, colour, ends, arm in _pieces(findings, seen, stream):
        at, arm = together(rule, ends, arm, width)
        raws.append(rates(rule, arm))
        lines.append(smoothed(rule, arm))
        axes.plot(days(at), raws[-1], color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(days(at), lines[-1], color=colour, linewidth=1.9, label=f"{name}, moving average")
    usual = expected(findings, rule, seen.ends, stream)
    if usual is not None:
        axes.plot(days(seen.ends), usual, color=FAINT, linewidth=1.4, linestyle="--", label="usual at this time")
        lines.append(usual)
    each = reasons.span(width * findings.watch.block / 60)
    axes.plot([], [], color=FAINT, linewidth=0.7, alpha=0.5, label=f"each {each}")
    _scale(axes, raws, lines, rule)
    axes.set_ylabel(_axis_name(rule, len(seen.treatment.units)), color=FAINT, size=9, parse_math=False)


def expected(findings: Findings, rule: Rule, ends: Floats, stream: Labels) -> Floats | None:
    """Return what a series was expected to be since exposure, [block]: its season, at the level of the hours before.

    NaN before exposure, and beyond the horizon; None where there is a control, or no history to expect anything from.
    """
    calibration = findings.calibrations.get(rule.name)
    if calibration is None or calibration.usual is None or findings.watch.design is not Design.BEFORE_AFTER:
        return None
    if stream not in calibration.streams or calibration.unit is None or calibration.level is None:
        return None
    row = calibration.streams.index(stream)
    at = np.rint((ends - calibration.usual_from) / findings.watch.block).astype(int)
    inside = (at >= 0) & (at < calibration.usual.shape[1])
    out, off = np.full(ends.size, np.nan), calibration.level[row] * calibration.unit[row]
    usual = calibration.usual[row, at[inside]]
    if rule.kind is not Kind.GAUGE:
        out[inside] = usual * (1.0 + off)
    elif calibration.logarithmic:
        out[inside] = np.exp(usual + off)
    else:
        out[inside] = (usual + off) * (1.0 if calibration.scale is None else calibration.scale[row])
    return out


def together(rule: Rule, ends: Floats, arm: Arm, width: int) -> tuple[Floats, Arm]:
    """Put every so many blocks into one: counts are added, measurements averaged; gaps stay gaps."""
    if width <= 1:
        return ends, arm
    first = np.arange(0, ends.size, width)
    events = np.add.reduceat(np.nan_to_num(arm.events), first, axis=2)
    total = np.add.reduceat(arm.total, first, axis=2)
    last = np.append(first[1:], ends.size) - 1
    if rule.kind is Kind.GAUGE:
        events, total = np.divide(events, total, out=np.full_like(events, np.nan), where=total > 0), np.sign(total)
    return ends[last], Arm(arm.units, events, total)


def rates(rule: Rule, arm: Arm) -> Floats:
    """Return what one stream's arm ([1, unit, block]) measured per block, [block]; NaN is a gap."""
    if rule.kind is not Kind.GAUGE:
        events, total = arm.events[0].sum(axis=0), arm.total[0].sum(axis=0)
        return np.asarray(np.divide(events, total, out=np.full_like(total, np.nan), where=total > 0))
    values = np.where(arm.total[0] > 0, arm.events[0], np.nan)
    out = np.full(values.shape[1], np.nan)
    some = np.isfinite(values).any(axis=0)
    out[some] = getattr(np, f"nan{rule.across}")(values[:, some], axis=0)
    return out


def smoothed(rule: Rule, arm: Arm) -> Floats:
    """Return the same as a centred moving average, [block]: of counts, the events of a window over its total."""
    blocks = arm.events.shape[2]
    if blocks < _SMOOTHED_FROM:
        return rates(rule, arm)
    width = max(5, blocks // 60) | 1
    if rule.kind is Kind.GAUGE:
        values = rates(rule, arm)
        total = np.isfinite(values).astype(float)
        events = np.nan_to_num(values)
    else:
        events, total = arm.events[0].sum(axis=0), arm.total[0].sum(axis=0)
    window = np.ones(width)
    above, under = np.convolve(events, window, "same"), np.convolve(total, window, "same")
    # A gap stays a gap: the average must not draw what nobody measured.
    return np.asarray(np.divide(above, under, out=np.full_like(under, np.nan), where=(under > 0) & (total > 0)))


def _scale(axes: Axes, raws: list[Floats], lines: list[Floats], rule: Rule) -> None:
    """Choose limits by the averages and nearly all blocks, so that one wild block flattens nothing."""
    known = [part[np.isfinite(part)] for part in (*raws, *lines)]
    reach = [
        np.percentile(part, (2, 98)) if n < len(raws) else (part.min(), part.max())
        for n, part in enumerate(known)
        if part.size
    ]
    if not reach:
        return
    low, high = float(min(each[0] for each in reach)), float(max(each[1] for each in reach))
    if rule.kind is not Kind.GAUGE and (rule.worse is Worse.HIGHER or low < 0.5 * high):
        low = 0.0
    room = 0.08 * (high - low) or abs(high) or 1.0
    axes.set_ylim(low if low == 0.0 else low - room, high + room)
    if rule.kind in (Kind.RATIO, Kind.LATENCY) or (rule.kind is Kind.RATE and high <= 1.0):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def _axis_name(rule: Rule, units: int) -> str:
    """Return what the vertical axis shows, with its unit."""
    if rule.kind is Kind.GAUGE:
        across = f" ({rule.across} of units)" if units > 1 else ""
        return clipped(f"{rule.measured_in or rule.events.metric}{across}", 48)
    if rule.kind is Kind.LATENCY:
        return "share of requests" if rule.objective is None else f"share of requests over {rule.objective:g} s"
    total = "total" if rule.total is None else rule.total.metric
    return clipped(f"{rule.events.metric} / {total}", 48)

"""Both arms over time: what users of either saw, block by block."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from watcher import reasons
from watcher.errors import DataError
from watcher.model import Arm, Floats, Kind, Labels, Observations, Rule, Verdict, Worse
from watcher.report.cells import clipped, word
from watcher.report.drawing import (
    BASELINE,
    COLOURS,
    FAINT,
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
"""Blocks from which a line is smoothed."""


def arms(findings: Findings, rule: str, stream: Labels, history: Observations | None = None) -> Figure:
    """Draw both arms of one stream: every block faintly, a moving average clearly.

    Args:
        findings: their observations are drawn.
        rule: name of the rule.
        stream: labels of the stream.
        history: blocks before exposure, drawn in front; before/after, they are the baseline.

    Raises:
        DataError: the findings hold no observations of this rule or stream.
    """
    seen, wanted = findings.observations.get(rule), findings.rule(rule)
    if seen is None or wanted is None or stream not in seen.streams:
        known = ", ".join(sorted(findings.observations)) or "none"
        raise DataError(f"no observations of {rule} {dict(stream)} to draw; there are some of: {known}")
    verdict = next((v for v in findings.streams if v.rule == rule and v.labels == stream), None)
    said = word(verdict.outcome) if verdict is not None else "NOT JUDGED"
    figure = page(8.4, 3.9, f"{said}  {reasons.subject(wanted, stream)}", f"{verdict.effect}" if verdict else "")
    axes = figure.subplots()
    plain(axes)
    _draw_arms(findings, axes, wanted, _pieces(findings, seen, history, stream))
    axes.margins(x=0.01)
    axes.set_xlim(axes.get_xlim())
    moments([axes], moments_of(findings, verdict))
    time_axis(axes)
    below(figure, [axes])
    return figure


def moments_of(findings: Findings, verdict: Verdict | None) -> list[tuple[float, str, str]]:
    """Return exposure and decision, where there are any: (epoch seconds, name, colour)."""
    named = []
    if findings.exposed_at is not None:
        named.append((findings.exposed_at, f"exposed {reasons.clock(findings.exposed_at)}", FAINT))
    if verdict is not None and verdict.decided_at is not None:
        name = f"{verdict.outcome.value} {reasons.clock(verdict.decided_at)}"
        named.append((verdict.decided_at, name, COLOURS[verdict.outcome]))
    return named


Piece = tuple[str, str, Floats, Arm]
"""Name, colour, ends of blocks [block] and counts [1, unit, block] of what is drawn as one line."""


def _pieces(findings: Findings, seen: Observations, history: Observations | None, stream: Labels) -> list[Piece]:
    """Return the lines to draw, cut at exposure: an average across it would blur what changed there.

    Before/after, the time before exposure is the baseline.
    """
    parts = [part for part in (history, seen) if part is not None and stream in part.streams]
    exposed = -np.inf if findings.exposed_at is None else findings.exposed_at
    pieces: list[Piece] = []
    for part in parts:
        if seen.baseline is None:
            named = [("before", BASELINE, part.treatment, 0), ("after exposure", TREATMENT, part.treatment, 1)]
        else:
            given = [("baseline", BASELINE, part.baseline), ("treatment", TREATMENT, part.treatment)]
            named = [(name, colour, arm, side) for name, colour, arm in given if arm is not None for side in (0, 1)]
        row = part.streams.index(stream)
        for name, colour, arm, side in named:
            keep = (part.ends > exposed) == bool(side)
            if keep.any():
                cut = replace(arm, events=arm.events[row : row + 1, :, keep], total=arm.total[row : row + 1, :, keep])
                pieces.append((name, colour, part.ends[keep], cut))
    return pieces


def _draw_arms(findings: Findings, axes: Axes, rule: Rule, pieces: list[Piece]) -> None:
    raws, lines = [], []
    for name, colour, ends, arm in pieces:
        raws.append(rates(rule, arm))
        lines.append(smoothed(rule, arm))
        axes.plot(days(ends), raws[-1], color=colour, linewidth=0.7, alpha=0.35)
        axes.plot(days(ends), lines[-1], color=colour, linewidth=1.9, label=f"{name}, moving average")
    axes.plot([], [], color=FAINT, linewidth=0.7, alpha=0.5, label=f"each {findings.watch.block:g} s")
    _scale(axes, np.concatenate(raws), np.concatenate(lines), rule)
    axes.set_ylabel(_measured(rule), color=FAINT, size=9)


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


def _scale(axes: Axes, raw: Floats, smooth: Floats, rule: Rule) -> None:
    """Choose limits by the averages and nearly all blocks, so that one wild block flattens nothing."""
    known = raw[np.isfinite(raw)]
    if not known.size:
        return
    low, high = float(np.percentile(known, 2)), float(np.percentile(known, 98))
    low, high = min(low, float(np.nanmin(smooth))), max(high, float(np.nanmax(smooth)))
    if rule.kind is not Kind.GAUGE and (rule.worse is Worse.HIGHER or low < 0.5 * high):
        low = 0.0
    room = 0.08 * (high - low) or abs(high) or 1.0
    axes.set_ylim(low if low == 0.0 else low - room, high + room)
    if rule.kind in (Kind.RATIO, Kind.LATENCY) or (rule.kind is Kind.RATE and high <= 1.0):
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def _measured(rule: Rule) -> str:
    """Return what the vertical axis shows, with its unit."""
    if rule.kind is Kind.GAUGE:
        return f"{rule.measured_in or 'value'} ({rule.across} of units)"
    if rule.kind is Kind.LATENCY:
        return "share of requests" if rule.objective is None else f"share of requests over {rule.objective:g} s"
    total = "total" if rule.total is None else rule.total.metric
    return clipped(f"{rule.events.metric} / {total}", 48)

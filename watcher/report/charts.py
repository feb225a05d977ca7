"""The charts people expect of a release: the effect over time, both arms, and every stream against its margin."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from watcher import reasons
from watcher.model import Floats, Outcome, Rule, Verdict, Worse
from watcher.report.cells import effect_cell, release_name, when, word
from watcher.report.drawing import (
    COLOURS,
    FAINT,
    INK,
    RULE,
    TOLERATED,
    TREATMENT,
    below,
    days,
    moments,
    page,
    plain,
    ratio_axis,
    time_axis,
    to_png,
    to_svg,
)
from watcher.report.explanation import subject
from watcher.report.findings import Findings, Trace, ratios
from watcher.report.rates import arms, moments_of

__all__ = ["arms", "effect", "forest", "to_png", "to_svg"]

MOST_STREAMS = 40
_FAR_BEYOND = 3.0
"""Times what evidence must reach, beyond which it is not drawn."""

_MARKERS = {
    Outcome.REGRESSED: "D",
    Outcome.INVALID: "X",
    Outcome.NO_DATA: "s",
    Outcome.INCONCLUSIVE: "o",
    Outcome.HEALTHY: "o",
}


def effect(findings: Findings, rule: Rule, verdict: Verdict, trace: Trace) -> Figure:
    """Draw one stream's effect over time with its confidence sequence, and below it the evidence.

    Args:
        findings: say when users were exposed and what margin is in effect.
        rule: of the stream.
        verdict: on the stream.
        trace: of the stream; see `Trace` for scale and shapes. It may be empty.
    """
    figure = page(
        8.4, 5.4, _title(verdict.outcome, subject(findings, verdict)), reasons.measured(rule, verdict, named=False)
    )
    panels = list(figure.subplots(2, 1, sharex=True, height_ratios=[2.4, 1.0]))
    _draw_effect(panels[0], trace, edge(findings, rule, verdict), verdict.effect.confidence)
    _draw_evidence(findings, panels[1], trace)
    panels[0].set_xlim(*_span(findings, trace))
    moments(panels, moments_of(findings, verdict))
    time_axis(panels[1])
    below(figure, panels, columns=3)
    return figure


def _title(outcome: Outcome, what: str) -> str:
    return f"{word(outcome)}  {what}"


def _span(findings: Findings, trace: Trace) -> tuple[float, float]:
    """Return the limits of the time axis, in days; exposure is inside unless it is long past."""
    if not trace.ends.size:
        return float(days(findings.start)), float(days(findings.end))
    first, last = float(trace.ends[0]), float(trace.ends[-1])
    exposed = findings.exposed_at
    if exposed is not None and first - max(last - first, 30 * findings.watch.block) <= exposed < first:
        first = exposed
    edge = 0.02 * (last - first) or findings.watch.block
    return float(days(first - edge)), float(days(last + edge))


def edge(findings: Findings, rule: Rule, verdict: Verdict) -> float:
    """Return the ratio at which the margin ends, in the direction of harm."""
    margin, baseline = findings.margin(rule), verdict.baseline
    if verdict.effect.measure == "difference":
        # Held against the baseline's share; without any event in it, against one.
        margin *= max(baseline.total, 1.0) / max(baseline.events, 1.0)
    return max(1 - margin, 1e-3) if rule.worse is Worse.LOWER else 1 + margin


def _draw_effect(axes: Axes, trace: Trace, margin: float, confidence: float) -> None:
    plain(axes)
    low, high = _limits(trace, margin)
    at, green = days(trace.ends), COLOURS[Outcome.HEALTHY]
    axes.axhspan(min(1.0, margin), max(1.0, margin), color=TOLERATED, zorder=0.5, label="within the margin")
    axes.axhline(margin, color=green, linewidth=1.2)
    known = ~np.isnan(trace.lower) & ~np.isnan(trace.upper)
    under, over = (np.clip(np.where(known, bound, 1.0), low, high) for bound in (trace.lower, trace.upper))
    name = f"{100 * confidence:g} % confidence sequence"
    axes.fill_between(at, under, over, where=known.tolist(), color=TREATMENT, alpha=0.18, linewidth=0, label=name)
    axes.axhline(1.0, color=INK, linewidth=0.9)
    axes.plot(at, trace.estimate, color=TREATMENT, linewidth=1.8, label="effect (estimate)")
    ratio_axis(axes, "y", low, high)
    axes.set_ylabel("treatment to baseline\n(ratio, log scale)", color=FAINT, size=9)


def _limits(trace: Trace, margin: float) -> tuple[float, float]:
    """Return what of the ratio axis to show: all of the estimate, the bounds once the first blocks are past."""
    late = slice(trace.ends.size // 5, None)
    shown = [1.0, margin, *_finite(trace.lower[late]), *_finite(trace.upper[late]), *_finite(trace.estimate[late])]
    return _roomy(shown)


def _finite(values: Floats) -> Sequence[float]:
    return [float(value) for value in values if np.isfinite(value) and value > 0]


def _roomy(shown: Sequence[float]) -> tuple[float, float]:
    """Return limits of a log axis that leave some room around the values shown, within 1/100 to 100 times."""
    low, high = np.log(max(min(shown), 0.01)), np.log(min(max(shown), 100.0))
    room = max(0.08 * (high - low), 0.01)
    return float(np.exp(low - room)), float(np.exp(high + room))


def _draw_evidence(findings: Findings, axes: Axes, trace: Trace) -> None:
    """Draw both e-processes, with the line each has to reach, in nats.

    What goes far beyond its line is cut: the crossing is what people look for.
    """
    plain(axes)
    proof = -float(np.log(findings.watch.alpha.healthy))
    lines = (
        ("evidence of harm", trace.log_regressed, trace.threshold, COLOURS[Outcome.REGRESSED]),
        ("evidence of health", trace.log_healthy, proof, COLOURS[Outcome.HEALTHY]),
    )
    highest = max(float(np.nanmax(np.append(line, need))) for _, line, need, _ in lines)
    top = max(5.0, min(highest, _FAR_BEYOND * max(trace.threshold, proof)))
    axes.set_ylim(-0.6 * top, 1.15 * top)
    for name, line, need, colour in lines:
        axes.plot(days(trace.ends), line, color=colour, linewidth=1.5, label=name)
        axes.axhline(need, color=colour, linewidth=1.0, linestyle=":")
    axes.plot([], [], color=FAINT, linewidth=1.0, linestyle=":", label="what each must reach")
    axes.set_ylabel("evidence\n(log e, nats)", color=FAINT, size=9)


def forest(findings: Findings) -> Figure:
    """Draw every stream's effect with its interval against its margin, the most harmed first.

    Streams whose effect is not known keep their row and say so. Beyond 40 streams the worst are drawn.
    """
    streams = [verdict for verdict in findings.streams if not verdict.dormant]
    drawn = sorted(streams, key=lambda verdict: -_harm(findings, verdict))[:MOST_STREAMS]
    left = len(streams) - len(drawn)
    said = [when(findings), f"{left} more streams not drawn" if left else ""]
    figure = page(
        8.4,
        1.75 + 0.36 * max(len(drawn), 1),
        _title(findings.verdict.outcome, release_name(findings) or "treatment against baseline"),
        "; ".join(filter(None, said)),
    )
    axes = figure.subplots()
    plain(axes)
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=RULE, linewidth=0.6, alpha=0.7)
    low, high = _forest_limits(findings, drawn)
    ratio_axis(axes, "x", low, high)
    axes.axvline(1.0, color=INK, linewidth=0.9)
    for row, verdict in enumerate(drawn):
        _draw_row(findings, axes, row, verdict, (low, high))
    _name_rows(findings, axes, drawn)
    axes.set_xlabel("treatment to baseline (ratio, log scale)", color=FAINT, size=9)
    _forest_legend(axes, drawn)
    below(figure, [axes])
    return figure


def _harm(findings: Findings, verdict: Verdict) -> float:
    """Return the log ratio of harm beyond the margin, in units of the margin; unknown effects come last."""
    rule, (estimate, lower, _) = findings.rule(verdict.rule), ratios(verdict.effect, verdict.baseline)
    value = estimate or lower
    if rule is None or not value:
        return -np.inf
    return float(np.log(value) / np.log(edge(findings, rule, verdict)))


def _known(verdict: Verdict) -> bool:
    return verdict.effect.estimate is not None or bool(verdict.effect.lower)


def _forest_limits(findings: Findings, drawn: Sequence[Verdict]) -> tuple[float, float]:
    shown = [1.0]
    for verdict in drawn:
        rule = findings.rule(verdict.rule)
        shown += [] if rule is None else [edge(findings, rule, verdict)]
        shown += [value for value in ratios(verdict.effect, verdict.baseline) if value]
    return _roomy([*shown, 0.9, 1.1])


def _draw_row(findings: Findings, axes: Axes, row: int, verdict: Verdict, limits: tuple[float, float]) -> None:
    """Draw one stream: interval, estimate and margin; an open or distant bound ends in an arrow."""
    colour, rule = COLOURS[verdict.outcome], findings.rule(verdict.rule)
    if rule is not None:
        margin, tall = edge(findings, rule, verdict), [row - 0.32, row + 0.32]
        axes.fill_betweenx(tall, min(1.0, margin), max(1.0, margin), color=TOLERATED, linewidth=0, zorder=0.5)
        axes.plot([margin, margin], tall, color=COLOURS[Outcome.HEALTHY], linewidth=1.4)
    estimate, lower, upper = ratios(verdict.effect, verdict.baseline)
    if estimate is None and not lower:
        return
    ends = [max(lower or 0.0, limits[0]), min(np.inf if upper is None else upper, limits[1])]
    axes.plot(ends, [row, row], color=colour, linewidth=1.8, solid_capstyle="butt")
    for end, bound, arrow in ((ends[0], lower or 0.0, "<"), (ends[1], upper or np.inf, ">")):
        if bound != end:
            axes.plot([end], [row], marker=arrow, color=colour, markersize=6, clip_on=False)
    if estimate is not None:
        hollow = verdict.outcome is Outcome.INCONCLUSIVE
        at = min(max(estimate, limits[0]), limits[1])
        face = "white" if hollow else colour
        axes.plot([at], [row], _MARKERS[verdict.outcome], color=colour, markerfacecolor=face, markersize=6.5)


def _name_rows(findings: Findings, axes: Axes, drawn: Sequence[Verdict]) -> None:
    """Put the streams' names at the left and their effects, in figures, at the right."""
    names = [textwrap.shorten(subject(findings, verdict), 46, placeholder=" …") for verdict in drawn]
    axes.set_ylim(max(len(drawn), 1) - 0.4, -0.6)
    axes.set_yticks(range(len(drawn)), names, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=9)
    for row, verdict in enumerate(drawn):
        axes.annotate(
            effect_cell(verdict.effect) if _known(verdict) else "not estimable yet",
            (1.0, row),
            (10, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            size=8.5,
            color=COLOURS[verdict.outcome],
            annotation_clip=False,
        )


def _forest_legend(axes: Axes, drawn: Sequence[Verdict]) -> None:
    for outcome in Outcome:
        if any(verdict.outcome is outcome and _known(verdict) for verdict in drawn):
            face = "white" if outcome is Outcome.INCONCLUSIVE else COLOURS[outcome]
            name = outcome.value.replace("_", " ")
            marker = _MARKERS[outcome]
            axes.plot([], [], marker, color=COLOURS[outcome], markerfacecolor=face, markersize=6.5, label=name)
    if drawn:
        axes.plot([], [], color=COLOURS[Outcome.HEALTHY], linewidth=1.4, label="margin")

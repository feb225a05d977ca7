"""The plan as a picture: how small an effect is found, and how soon."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from watcher import reasons
from watcher.model import Outcome, Worse
from watcher.report.cells import clipped
from watcher.report.drawing import (
    BASELINE,
    COLOURS,
    FAINT,
    INK,
    TOLERATED,
    TREATMENT,
    below,
    page,
    plain,
    ratio_axis,
    to_png,
    to_svg,
)
from watcher.report.plan import Forecast, Plan, StreamPlan

MOST_PANELS = 6
_FARTHEST = 20.0
"""Ratios beyond this are not drawn: that much harm is found at once, or there is too little traffic for anything."""

_MARGINS = 12.0
"""Margins (as log ratios) that the vertical axis reaches across, unless nothing so small is found at all."""

_TIMES = (1, 4, 15, 60, 240, 720, 2880, 7 * 1440, 28 * 1440)
"""Ticks of the time axis, minutes."""


def plan(found: Plan) -> Figure:
    """Draw, for the streams that take longest, the smallest effect found against the time it takes, both log scales.

    watcher's curve stands beside that of the oracle, which no test can beat; the margin is a line. Beyond 6 streams the
    slowest are drawn.
    """
    drawn = [(stream, stream.forecast) for stream in found.streams if stream.forecast is not None]
    drawn.sort(key=lambda pair: -(pair[1].healthy.p90 or np.inf))
    left, drawn = len(drawn) - MOST_PANELS, drawn[:MOST_PANELS]
    columns = min(2, max(1, len(drawn)))
    rows = -(-max(1, len(drawn)) // columns)
    said = "the smallest effect that is found in a given time, as likely as not"
    more = f"; {left} more streams are faster" if left > 0 else ""
    figure = page(8.4, 1.2 + 2.9 * rows, found.answer.removesuffix("."), said + more)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in panels[len(drawn) :]:
        axes.set_axis_off()
    for axes, (stream, forecast) in zip(panels, drawn, strict=False):
        _draw(axes, stream, forecast)
    below(figure, panels)
    return figure


def image(found: Plan, suffix: str) -> bytes:
    """Return the picture as a file of this suffix: ".png" or ".svg"."""
    return to_svg(plan(found)).encode() if suffix == ".svg" else to_png(plan(found))


def _draw(axes: Axes, stream: StreamPlan, forecast: Forecast) -> None:
    plain(axes)
    curve, margin, green = forecast.curve, stream.worst_ratio, COLOURS[Outcome.HEALTHY]
    low, high = _limits(stream, forecast)
    axes.axhspan(min(1.0, margin), max(1.0, margin), color=TOLERATED, zorder=0.5)
    axes.axhline(margin, color=green, linewidth=1.2, label="margin")
    axes.axhline(1.0, color=INK, linewidth=0.9)
    axes.plot(curve.minutes, curve.oracle, color=BASELINE, linewidth=1.4, linestyle=(0, (4, 2)), label="oracle")
    axes.plot(curve.minutes, curve.watcher, color=TREATMENT, linewidth=1.9, label="watcher")
    _mark_proof(axes, stream, forecast)
    ratio_axis(axes, "y", low, high)
    _minutes_axis(axes, float(curve.minutes[0]), float(curve.minutes[-1]))
    axes.set_title(clipped(stream.subject, 44), loc="left", size=9.5, color=INK, parse_math=False)
    axes.set_ylabel("treatment to baseline", color=FAINT, size=9)


def _mark_proof(axes: Axes, stream: StreamPlan, forecast: Forecast) -> None:
    """Mark when health is proven: half the time by the full dot, nine times in ten by the end of the line."""
    median, late = forecast.healthy.median, forecast.healthy.p90
    if median is None:
        return
    end = late if late is not None else float(forecast.curve.minutes[-1])
    green = COLOURS[Outcome.HEALTHY]
    axes.plot([median, end], [1.0, 1.0], color=green, linewidth=3.2, solid_capstyle="butt", alpha=0.45)
    axes.plot([median], [1.0], "o", color=green, markersize=6, label="proven healthy (median, 90 %)")


def _limits(stream: StreamPlan, forecast: Forecast) -> tuple[float, float]:
    """Return limits of the ratio axis: all of the curve, as long as the margin can still be seen."""
    lower = stream.rule.worse is Worse.LOWER
    margin = abs(np.log(max(stream.worst_ratio, 1 / _FARTHEST)))
    found = np.abs(np.log(forecast.curve.watcher[np.isfinite(forecast.curve.watcher)]))
    reach = max(min(found.max(), _MARGINS * margin), 1.2 * found.min()) if found.size else margin
    reach = min(max(reach, 1.3 * margin), np.log(_FARTHEST))
    ends = (-1.05 * reach, 0.12 * reach) if lower else (-0.12 * reach, 1.05 * reach)
    return float(np.exp(ends[0])), float(np.exp(ends[1]))


def _minutes_axis(axes: Axes, first: float, last: float) -> None:
    """Make the horizontal axis logarithmic, with ticks people read."""
    axes.set_xscale("log")
    axes.set_xlim(first, last)
    ticks = [minutes for minutes in _TIMES if first <= minutes <= last]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(FixedFormatter([reasons.span(minutes) for minutes in ticks]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="x", labelsize=8)
    axes.set_xlabel("after the warm-up", color=FAINT, size=9)

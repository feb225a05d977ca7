"""How every chart looks: a light page, few lines, colours that colour-blind people can tell apart.

matplotlib's object API only: a figure belongs to its caller, and nothing global is changed but the hash salt of the
SVG writer, under a lock, while it writes.
"""

from __future__ import annotations

import datetime as dt
import io
import threading
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator

from watcher.model import Floats, Outcome
from watcher.report.cells import clipped

INK, FAINT, RULE = "#24292f", "#6e7781", "#d0d7de"
BASELINE, TREATMENT = "#57606a", "#0072b2"
TOLERATED = "#e8f3ee"
COLOURS = {
    Outcome.REGRESSED: "#d55e00",
    Outcome.INVALID: "#aa4499",
    Outcome.NO_DATA: "#8c959f",
    Outcome.INCONCLUSIVE: "#0072b2",
    Outcome.HEALTHY: "#00846a",
}
"""After Okabe and Ito (2008), darkened where a thin line on white needs it."""

_WRITING = threading.Lock()
_NAME_WIDTH = 0.19
"""Share of the axes that the name of a moment takes."""

_LONGEST_TITLE = 74
_MOST_TICKS = 7
_TICKS = (
    *(1 + step * np.arange(-6, 7) for step in (0.005, 0.01, 0.02, 0.05, 0.1)),
    np.array([0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 1.75, 2]),
    np.array([0.3, 0.5, 0.7, 1, 1.5, 2, 3, 4]),
    np.array([0.1, 0.2, 0.5, 1, 2, 5, 10]),
    np.array([0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100]),
    np.array([0.001, 0.01, 0.1, 1, 10, 100, 1000]),
)
"""Ticks of a ratio axis, the finest first."""


class Chart(Figure):
    """A figure that shows itself in a notebook; a plain one does so only once somebody has imported pyplot."""

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the image and its size in pixels of the page: it has more of its own, for sharp screens."""
        width, height = (round(96 * inches) for inches in self.get_size_inches())
        return to_png(self, dpi=192), {"width": width, "height": height}


def page(width: float, height: float, title: str, subtitle: str = "") -> Chart:
    """Return an empty figure (inches) with a title and a quieter line below it, both at the left."""
    figure = Chart(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    inch = 1 / height
    title = clipped(title, _LONGEST_TITLE)
    figure.text(0.012, 1 - 0.13 * inch, title, va="top", size=12, weight="bold", color=INK, parse_math=False)
    figure.text(0.012, 1 - 0.38 * inch, subtitle, va="top", size=9.5, color=FAINT, parse_math=False)
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(rect=(0.005, 0.01, 0.985, 0.99 - 0.62 * inch), h_pad=0.06, w_pad=0.06)  # type: ignore[call-arg]
    return figure


def plain(axes: Axes) -> None:
    """Leave of the frame what carries ticks, and a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(colors=FAINT, labelsize=9, labelcolor=INK, length=3)
    axes.grid(axis="y", color=RULE, linewidth=0.6, alpha=0.7)
    axes.set_axisbelow(True)


def time_axis(axes: Axes) -> None:
    """Label the horizontal axis with times, UTC; the plotted numbers are those of `days`."""
    locator = AutoDateLocator(minticks=4, maxticks=9)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    formatter = ConciseDateFormatter(locator, show_offset=False)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_formatter(formatter)
    first, last = (dt.datetime.fromtimestamp(86_400.0 * place, dt.UTC) for place in axes.get_xlim())
    day = f"{last:%d %b %Y}" if first.date() == last.date() else f"{first:%d %b} to {last:%d %b %Y}"
    axes.set_xlabel(f"time (UTC), {day}", color=FAINT, size=9)


def days(epoch: Floats | float) -> Floats:
    """Return epoch seconds as matplotlib counts time: days since 1970."""
    return np.asarray(epoch, dtype=float) / 86_400.0


def moments(panels: Sequence[Axes], named: Sequence[tuple[float, str, str]]) -> None:
    """Draw vertical lines at epoch seconds through all panels, named above the first: (at, name, colour).

    Moments outside the horizontal limits, which must be set, are left out.
    """
    low, high = panels[0].get_xlim()
    taken = -np.inf
    for at, name, colour in sorted(named):
        place = (float(days(at)) - low) / (high - low)
        if not 0 <= place <= 1:
            continue
        for axes in panels:
            axes.axvline(float(days(at)), color=colour, linewidth=1.1, linestyle=(0, (4, 2)))
        late = place > 0.8
        start = place - _NAME_WIDTH if late else place
        panels[0].annotate(
            name,
            (place, 1.0),
            xycoords="axes fraction",
            xytext=(3 if late else -3, 3 if start >= taken else 15),
            textcoords="offset points",
            ha="right" if late else "left",
            va="bottom",
            size=8.5,
            color=colour,
        )
        taken = start + _NAME_WIDTH


def ratio_axis(axes: Axes, which: str, low: float, high: float) -> None:
    """Make an axis ("x" or "y") logarithmic over [low, high], with ticks people read.

    Percentages near 1, multiples beyond; as many as have room beside each other.
    """
    axis: Axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    (axes.set_xlim if which == "x" else axes.set_ylim)(low, high)
    ticks = _fitting(low, high, 0.12 if which == "x" else 0.07)
    near = low > 0.5 and high < 2.0
    names = ["no change" if abs(tick - 1) < 1e-9 else _tick(float(tick), near) for tick in ticks]
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_major_formatter(FixedFormatter(names))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _fitting(low: float, high: float, apart: float) -> Floats:
    """Return the finest ticks that reach across [low, high] and stand a share of it apart."""
    whole = np.log(high / low)
    for ticks in _TICKS:
        inside = ticks[(ticks >= low) & (ticks <= high)]
        reaches = np.log(ticks[0] / low) < 0.3 * whole and np.log(high / ticks[-1]) < 0.3 * whole
        if reaches and inside.size <= _MOST_TICKS and (np.diff(np.log(inside)) >= apart * whole).all():
            return inside
    return np.array([1.0])


def _tick(ratio: float, near: bool) -> str:
    return f"{100 * (ratio - 1):+.3g} %" if near else f"{ratio:g}×"


def below(figure: Figure, panels: Sequence[Axes], columns: int = 6) -> None:
    """Put one legend for all panels below everything, each name once."""
    found = [axes.get_legend_handles_labels() for axes in panels]
    named = {name: handle for handles, names in found for handle, name in zip(handles, names, strict=True)}
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower left",
            ncols=columns,
            frameon=False,
            fontsize=9,
            handlelength=1.6,
            labelcolor=INK,
        )


def to_svg(figure: Figure) -> str:
    """Return a figure as an SVG element that can stand inside a page; the same figure gives the same text."""
    out = io.StringIO()
    with _WRITING, mpl.rc_context({"svg.hashsalt": "watcher", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, dpi: int = 144) -> bytes:
    """Return a figure as a PNG image."""
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=dpi)
    return out.getvalue()

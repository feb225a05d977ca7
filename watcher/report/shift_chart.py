"""Where a latency became slower: every quantile of the treatment against the baseline's, the shift function.

References:
    Doksum (1974), Ann. Statist. 2(2): the shift function; here on ratios, as margins on a latency are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, NullFormatter, NullLocator
from scipy.ndimage import maximum_filter1d, minimum_filter1d
from scipy.special import expit, logit

from watcher.evidence.quantiles import Quantile
from watcher.model import Floats, Outcome, Rule, Verdict
from watcher.report.cells import word
from watcher.report.charts import edge
from watcher.report.drawing import COLOURS, FAINT, INK, TOLERATED, TREATMENT, below, page, plain, ratio_axis
from watcher.report.explanation import subject
from watcher.report.findings import Findings

_TICKS = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
LEVELS = tuple(np.union1d(_TICKS, expit(np.linspace(logit(_TICKS[0]), logit(_TICKS[-1]), 120))).tolist())
"""Quantiles drawn, p5 to p99: close enough for a line, and all that are named on the axis."""

_NEIGHBOURS = 9
"""Levels whose bounds are drawn as one."""

_WIDEST = 4.0
"""Ratios beyond this, either way, are drawn only where the estimate goes."""


def shift(findings: Findings, rule: Rule, verdict: Verdict, found: Mapping[float, Quantile]) -> Figure:
    """Draw the ratio of the treatment's quantile to the baseline's against the quantile, with its band.

    The tail has as much room as the middle: the axis is logistic, and names what each quantile is in the baseline. The
    band holds for each quantile by itself, at all times; the verdict rests on all buckets together, and finds more.

    Args:
        findings: say what margin is in effect.
        rule: of the stream.
        verdict: on the stream.
        found: quantiles of this one stream by level, as `Buckets.quantiles` gives them: of the present stage.
    """
    title = f"{word(verdict.outcome)}  {subject(findings, verdict)}"
    said = "; ".join(f"p{100 * each.level:g} {each.seconds}" for each in verdict.quantiles)
    figure = page(8.4, 4.3, title, said or str(verdict.effect))
    axes = figure.subplots()
    plain(axes)
    _draw(axes, found, edge(findings, rule, verdict), verdict.effect.confidence)
    _level_axis(axes, found)
    below(figure, [axes])
    return figure


def _draw(axes: Axes, found: Mapping[float, Quantile], margin: float, confidence: float) -> None:
    at = np.array(list(found))
    estimate, lower, upper = np.array([(each.ratio[0], each.lower[0], each.upper[0]) for each in found.values()]).T
    # Bounds jump from edge to edge, now of one arm, now of the other: the widest of neighbours can be read, and holds.
    known = np.isfinite(estimate)
    lower = minimum_filter1d(np.where(known, lower, np.inf), _NEIGHBOURS)
    upper = maximum_filter1d(np.where(known, upper, -np.inf), _NEIGHBOURS)
    low, high = _limits(estimate[known], np.append(lower, upper), margin)
    under, over = np.clip(lower, low, high), np.clip(upper, low, high)
    axes.axhspan(min(1.0, margin), max(1.0, margin), color=TOLERATED, zorder=0.5, label="within the margin")
    axes.axhline(margin, color=COLOURS[Outcome.HEALTHY], linewidth=1.2)
    name = f"{100 * confidence:g} % confidence sequence of each quantile"
    axes.fill_between(at, under, over, where=known.tolist(), color=TREATMENT, alpha=0.18, linewidth=0, label=name)
    axes.axhline(1.0, color=INK, linewidth=0.9)
    axes.plot(at, estimate, color=TREATMENT, linewidth=1.8, label="shift (estimate)")
    ratio_axis(axes, "y", low, high)
    axes.set_ylabel("treatment to baseline\n(ratio of quantiles, log scale)", color=FAINT, size=9)


def _limits(estimate: Floats, bounds: Floats, margin: float) -> tuple[float, float]:
    """Return what of the ratio axis to show: all of the estimate and margin, and bounds that are not far away."""
    near = bounds[(bounds > 1 / _WIDEST) & (bounds < _WIDEST)]
    shown = np.concatenate([[1.0, margin], estimate, near])
    room = max(float(shown.max() / shown.min()) ** 0.08, 1.01)
    return float(shown.min()) / room, float(shown.max()) * room


def _level_axis(axes: Axes, found: Mapping[float, Quantile]) -> None:
    """Name the quantiles, and below each what it is in the baseline."""
    axes.set_xscale("logit")
    axes.set_xlim(_TICKS[0], _TICKS[-1])
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_major_formatter(FixedFormatter([_named(level, float(found[level].baseline[0])) for level in _TICKS]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("quantile, and what it is in the baseline", color=FAINT, size=9)


def _named(level: float, baseline: float) -> str:
    """Return a quantile as its tick is named; without its seconds where there are too few requests to say."""
    if not np.isfinite(baseline):
        return f"p{100 * level:g}"
    return f"p{100 * level:g}\n" + (f"{1000 * baseline:.3g} ms" if baseline < 1 else f"{baseline:.3g} s")

"""Past releases as pictures: what other alphas would have given, and how soon the bad ones were found."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from watcher.model import Outcome
from watcher.report.drawing import COLOURS, FAINT, INK, TREATMENT, below, page, plain
from watcher.report.past import PastReleases, Share
from watcher.report.past_table import headline

REGRESSED = COLOURS[Outcome.REGRESSED]
_PERCENT = FuncFormatter(lambda value, _: f"{100 * value:g} %")


def alpha(found: PastReleases) -> Figure:
    """Draw recall and false-alarm rate against alpha, the shipped one marked; what has no labels is left out."""
    figure = page(8.4, 3.9, "What another alpha would have given, read off the scores", headline(found))
    axes = figure.subplots()
    plain(axes)
    at = [each.alpha for each in found.alternatives]
    tallied = [each.tallied for each in found.alternatives]
    lines = (
        ("recall", [Share(each.found, each.bad).rate for each in tallied], COLOURS[Outcome.HEALTHY]),
        ("false alarms", [Share(each.false_alarms, each.fine).rate for each in tallied], REGRESSED),
    )
    for name, known, colour in lines:
        rates = [rate for rate in known if rate is not None]
        if rates:
            axes.plot(at, rates, color=colour, linewidth=1.9, marker="o", markersize=3.5, label=name)
    if found.false_alarms.interval is not None:
        low, high = found.false_alarms.interval
        axes.plot([found.alpha] * 2, [low, high], color=REGRESSED, linewidth=5, alpha=0.3, label="95 % interval")
    axes.plot(at, at, color=FAINT, linewidth=1.0, linestyle=(0, (4, 2)), label="false alarms promised")
    axes.axvline(found.alpha, color=INK, linewidth=1.0)
    axes.annotate(
        f"alpha {found.alpha:g}",
        (found.alpha, 0.5),
        xytext=(4, 0),
        textcoords="offset points",
        size=8.5,
        color=INK,
    )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(at))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("alpha: chance of calling a good release regressed", color=FAINT, size=9)
    axes.set_ylabel("share of releases", color=FAINT, size=9)
    below(figure, [axes])
    return figure


def delay(found: PastReleases) -> Figure:
    """Draw which share of the bad releases had been found, against minutes since exposure."""
    bad = found.tallied().bad
    figure = page(8.4, 3.4, "How soon bad releases are found", _said(found.waits, bad))
    axes = figure.subplots()
    plain(axes)
    horizon = found.horizon / 60
    minutes = np.concatenate([[0.0], found.waits, [max([horizon, *found.waits])]])
    shares = np.concatenate([np.arange(len(found.waits) + 1), [len(found.waits)]]) / max(bad, 1)
    axes.step(minutes, shares, where="post", color=TREATMENT, linewidth=1.9)
    axes.fill_between(minutes, 0.0, shares, step="post", color=TREATMENT, alpha=0.12, linewidth=0)
    axes.yaxis.set_major_formatter(_PERCENT)
    axes.set_ylim(0.0, 1.03)
    axes.set_xlim(0.0, minutes[-1])
    axes.set_xlabel("minutes since exposure", color=FAINT, size=9)
    axes.set_ylabel("share of the bad releases found", color=FAINT, size=9)
    return figure


def _said(waits: Sequence[float], bad: int) -> str:
    if not waits:
        return "none was found" if bad else "no release is known to be bad"
    return f"{len(waits)} of {bad}, half of them within {np.median(waits):.0f} min"

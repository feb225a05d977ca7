from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure

from tests.report.examples import (
    ABSENT,
    COMPLETION,
    ERRORS,
    EXPOSED,
    HEALTHY,
    INCONCLUSIVE,
    LCP,
    OFTEN_REFUSED,
    PAGE_LOAD,
    REFUSED,
    REGRESSED,
    SLOW_PAINT,
    SLOWER,
    counts,
    everything,
    findings,
    gauge,
    in_points,
    many,
    trace,
    watch,
)
from watcher.errors import DataError
from watcher.evidence.quantiles import Quantile
from watcher.model import Arm, Effect, Outcome, labels
from watcher.report import Findings, Trace, charts, html, rates, shift_chart


def texts(figure: Figure) -> list[str]:
    """Everything written on a figure, with the ticks that stand inside their axis."""
    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]  # type: ignore[attr-defined]


def verticals(figure: Figure) -> list[float]:
    """Places of the vertical lines of the first axes, in epoch seconds."""
    lines = (np.asarray(line.get_xdata(), dtype=float) for line in figure.axes[0].lines)
    return sorted({round(86_400 * x[0]) for x in lines if len(x) == 2 and x[0] == x[1]})


def observed(**made: Any) -> Findings:
    return everything(observations=made.pop("observations"), **made)


def quantiles(tail: float = 1.6, unknown_from: float = 1.0) -> dict[float, Quantile]:
    """A latency whose tail alone is slower, with the bound above it open; NaN from a level on."""
    found = {}
    for level in shift_chart.LEVELS:
        ratio = tail if level >= 0.9 else 1.02
        bounds = (0.8 * ratio, np.inf if level > 0.97 else 1.2 * ratio)
        values = np.array([0.3 * level, 0.3 * level * ratio, ratio, *bounds])
        known = values if level < unknown_from else values * np.nan
        found[level] = Quantile(*known[:, None])
    return found


ALL = {
    "effect": lambda: charts.effect(everything(), ERRORS, REGRESSED, trace()),
    "arms": lambda: charts.arms(
        observed(
            observations={
                "request-errors": counts(
                    {"baseline": (0.01, 0.01), "treatment": (0.01, 0.02)}, REGRESSED.labels, EXPOSED - 600, 60
                )
            }
        ),
        ERRORS,
        REGRESSED,
    ),
    "forest": lambda: charts.forest(everything()),
    "shift": lambda: shift_chart.shift(findings(SLOWER), PAGE_LOAD, SLOWER, quantiles()),
}


@pytest.mark.parametrize("kind", ALL)
def test_every_chart_is_the_same_text_each_time_it_is_written(kind: str) -> None:
    first, second = charts.to_svg(ALL[kind]()), charts.to_svg(ALL[kind]())
    assert first == second
    assert first.startswith("<svg")
    assert "<dc:date>" not in first
    assert not re.search(r"20\d\d-\d\d-\d\dT", first)
    ElementTree.fromstring(first)


@pytest.mark.parametrize("kind", ALL)
def test_every_chart_says_the_verdict_in_words_and_fits_its_page(kind: str) -> None:
    figure = ALL[kind]()
    assert any(text.startswith("REGRESSED  ") for text in texts(figure))
    assert charts.to_png(figure).startswith(b"\x89PNG")
    box, page = figure.get_tightbbox(), figure.get_size_inches()
    assert box.x0 >= -0.01
    assert box.y0 >= -0.01
    assert box.x1 <= page[0] + 0.01
    assert box.y1 <= page[1] + 0.01


def test_the_effect_chart_shows_band_margin_no_change_exposure_and_decision() -> None:
    figure = charts.effect(everything(), ERRORS, REGRESSED, trace())
    upper, lower = figure.axes
    assert upper.get_yscale() == "log"
    assert any(isinstance(each, FillBetweenPolyCollection) for each in upper.collections)
    levels = [line.get_ydata()[0] for line in upper.lines if list(line.get_xdata()) == [0, 1]]
    assert 1.0 in levels
    assert 1.5 in levels
    assert verticals(figure) == [EXPOSED, REGRESSED.decided_at]
    said = texts(figure)
    for expected in ("no change", "1.5×", "exposed 10:20 UTC", "regressed 10:34 UTC", "95 % confidence sequence"):
        assert expected in said
    assert upper.get_ylabel().startswith("treatment to baseline")
    assert lower.get_ylabel() == "evidence\n(log e, nats)"
    assert lower.get_xlabel() == "time (UTC), 18 Nov 2026"
    low, high = upper.get_ylim()
    assert low < 1.0 < 1.5 < 3.2 < high < 10


def test_a_difference_is_drawn_as_the_ratio_it_makes_of_the_baseline() -> None:
    """One in a hundred is refused usually: 0.87 points more are 1.87 times as many, and the margin is at 1.5 times."""
    (axes,) = charts.forest(in_points()).axes
    assert "+0.87 pp (+0.63 to ?)" in texts(axes.figure)
    (mark,) = [line for line in axes.lines if line.get_marker() == "D" and len(line.get_xdata()) == 1]
    assert mark.get_xdata()[0] == pytest.approx(1.87)
    margins = {round(x[0], 3) for x in (line.get_xdata() for line in axes.lines) if len(x) == 2 and x[0] == x[1]}
    assert 1.5 in margins
    (bar,) = [line for line in axes.lines if list(line.get_ydata()) == [0, 0]]
    assert bar.get_xdata()[0] == pytest.approx(1.63)
    assert bar.get_xdata()[1] == pytest.approx(axes.get_xlim()[1])
    upper, _ = charts.effect(in_points(), REFUSED, OFTEN_REFUSED, trace(1.87)).axes
    assert 1.5 in [line.get_ydata()[0] for line in upper.lines if list(line.get_xdata()) == [0, 1]]
    assert "0.87 pp higher than the baseline (+0.63 to ? pp)" in texts(upper.figure)


def test_the_shift_chart_shows_quantiles_of_both_arms_margin_and_no_change() -> None:
    figure = ALL["shift"]()
    (axes,) = figure.axes
    assert (axes.get_xscale(), axes.get_yscale()) == ("logit", "log")
    assert axes.get_xlim() == pytest.approx((0.05, 0.99))
    levels = [line.get_ydata()[0] for line in axes.lines if list(line.get_xdata()) == [0, 1]]
    assert levels == [pytest.approx(1.1), 1.0]
    curve = next(line for line in axes.lines if line.get_label() == "shift (estimate)")
    assert curve.get_ydata()[0] == pytest.approx(1.02)
    assert curve.get_ydata()[-1] == pytest.approx(1.6)
    said = texts(figure)
    for expected in (
        "p50 235 ms, not 210 ms; p95 520 ms, not 520 ms; p99 947 ms, not 748 ms",
        "p50\n150 ms",
        "p99\n297 ms",
        "no change",
        "within the margin",
        "95 % confidence sequence of each quantile",
    ):
        assert expected in said
    low, high = axes.get_ylim()
    assert low < 0.8 * 1.02 < 1.2 * 1.6 < high < 3


def test_the_band_of_a_shift_is_never_narrower_than_its_bounds() -> None:
    (band,) = [each for each in ALL["shift"]().axes[0].collections if isinstance(each, FillBetweenPolyCollection)]
    corners = band.get_paths()[0].vertices
    for level, each in quantiles().items():
        drawn = corners[np.isclose(corners[:, 0], level), 1]
        assert drawn.min() <= each.lower[0] + 1e-9
        assert drawn.max() >= each.upper[0] - 1e-9 or np.isinf(each.upper[0])


def test_a_shift_ends_where_there_are_too_few_requests_and_may_have_none_at_all() -> None:
    figure = shift_chart.shift(findings(SLOWER), PAGE_LOAD, SLOWER, quantiles(unknown_from=0.96))
    said = texts(figure)
    assert "p95\n285 ms" in said
    assert "p99" in said
    nothing = replace(SLOWER, quantiles=())
    charts.to_png(shift_chart.shift(findings(nothing), PAGE_LOAD, nothing, quantiles(unknown_from=0.0)))


def test_a_chart_shows_itself_in_a_notebook_at_the_size_of_its_page() -> None:
    image, size = charts.forest(everything())._repr_png_()
    assert image.startswith(b"\x89PNG")
    width, height = (int.from_bytes(image[at : at + 4], "big") for at in (16, 20))
    assert size["width"] == round(8.4 * 96)
    assert (width, height) == (pytest.approx(2 * size["width"], abs=2), pytest.approx(2 * size["height"], abs=2))


def test_the_moment_evidence_suffices_stays_visible_however_far_it_grows() -> None:
    grown = trace()
    grown = replace(grown, log_regressed=100 * grown.log_regressed)
    _, lower = charts.effect(everything(), ERRORS, REGRESSED, grown).axes
    assert REGRESSED.threshold < lower.get_ylim()[1] < 4 * REGRESSED.threshold


def test_a_regression_that_began_late_is_titled_with_its_size_since_then() -> None:
    began = REGRESSED.decided_at - 180.0
    late = replace(REGRESSED, onset=began, since_onset=2.9)
    for verdict, expected in (
        (late, "2.1 times the baseline's (1.4 to 3.2), and 2.9 times since 10:31 UTC"),
        (REGRESSED, "2.1 times the baseline's (1.4 to 3.2)"),
    ):
        assert expected in texts(charts.effect(everything(), ERRORS, verdict, trace()))


def test_the_margin_lies_below_where_worse_is_lower() -> None:
    figure = charts.effect(everything(), COMPLETION, INCONCLUSIVE, trace(0.99))
    levels = [round(line.get_ydata()[0], 3) for line in figure.axes[0].lines if list(line.get_xdata()) == [0, 1]]
    assert 0.98 in levels
    assert verticals(figure) == [EXPOSED]


def test_an_effect_chart_copes_with_bounds_that_are_still_open_and_with_none() -> None:
    charts.to_png(charts.effect(everything(), ERRORS, REGRESSED, trace(blocks=3, open_until=3)))
    nothing = Trace(*(np.empty(0) for _ in range(6)), threshold=5.3)
    charts.to_png(charts.effect(everything(), ERRORS, REGRESSED, nothing))


def test_exposure_long_before_the_first_block_does_not_squeeze_the_chart() -> None:
    late = trace()
    late = replace(late, ends=late.ends + 86_400)
    figure = charts.effect(everything(), ERRORS, REGRESSED, late)
    assert EXPOSED not in verticals(figure)
    low, high = figure.axes[0].get_xlim()
    assert (high - low) * 1440 < 60


def test_both_arms_are_drawn_faintly_and_as_averages_that_do_not_cross_exposure() -> None:
    figure = ALL["arms"]()
    assert verticals(figure) == [EXPOSED, REGRESSED.decided_at]
    (axes,) = figure.axes
    said = texts(figure)
    for expected in ("baseline, moving average", "treatment, moving average", "each 1 min", "errors / requests"):
        assert expected in said
    assert any(text.endswith(" %") for text in said)
    lines = [line for line in axes.lines if line.get_label().startswith("treatment")]
    assert [len(line.get_xdata()) for line in lines] == [10, 50]
    assert 86_400 * max(lines[0].get_xdata()) == pytest.approx(EXPOSED)


def test_before_and_after_the_history_is_the_baseline_and_is_cut_to_what_compares() -> None:
    month = counts({"treatment": (0.06, 0.09)}, (), EXPOSED - 28 * 86_400, 28 * 1440 + 50)
    alone = observed(observations={"page-load": month}, watch=watch(baseline=None, treatment=None))
    figure = charts.arms(alone, PAGE_LOAD, ABSENT)
    assert "before, moving average" in texts(figure)
    assert "after exposure, moving average" in texts(figure)
    low, high = (86_400 * place for place in figure.axes[0].get_xlim())
    assert EXPOSED - 7 * 3600 < low < EXPOSED - 5 * 3600
    assert high < EXPOSED + 2 * 3600
    assert len(charts.to_svg(figure)) < 100_000


def test_a_gauge_is_put_together_over_units_and_its_gaps_stay_gaps() -> None:
    made = observed(observations={"lcp-p75": gauge((2.3, 2.6), EXPOSED - 7200, 170)})
    figure = charts.arms(made, LCP, SLOW_PAINT)
    assert "seconds (median of units)" in texts(figure)
    before = [line for line in figure.axes[0].lines if line.get_label() == "before, moving average"]
    drawn = np.asarray(before[0].get_ydata(), dtype=float)
    assert np.isnan(drawn[20:24]).all()
    assert np.isfinite(drawn[:20]).all()


def test_a_measurement_of_one_unit_is_called_by_its_name_not_a_median() -> None:
    seen = gauge((2.3, 2.6), EXPOSED - 7200, 170)
    alone = Arm(("a",), seen.treatment.events[:, :1], seen.treatment.total[:, :1])
    made = observed(observations={"lcp-p75": replace(seen, treatment=alone)})
    assert "lcp" in texts(charts.arms(made, replace(LCP, measured_in=""), SLOW_PAINT))


def test_averages_of_counts_weigh_blocks_by_their_traffic() -> None:
    total = np.full((1, 1, 30), 1000.0)
    total[0, 0, 15] = 1.0
    events = 0.01 * total
    events[0, 0, 15] = 1.0
    smooth = rates.smoothed(ERRORS, Arm(("",), events, total))
    assert rates.rates(ERRORS, Arm(("",), events, total))[15] == 1.0
    assert smooth[15] == pytest.approx(41 / 4001)


def test_many_blocks_are_put_together_without_losing_a_count() -> None:
    seen = counts({"treatment": (0.02, 0.02)}, (), EXPOSED, 1000).treatment
    ends = EXPOSED + 60.0 * np.arange(1, 1001)
    at, arm = rates.together(ERRORS, ends, seen, 7)
    assert arm.events.shape == (1, 2, 143)
    assert arm.events.sum() == seen.events.sum()
    assert arm.total.sum() == seen.total.sum()
    assert (at[0], at[-1]) == (ends[6], ends[-1])
    measured = gauge((2.3, 2.3), EXPOSED, 100).treatment
    _, few = rates.together(LCP, ends[:100], measured, 4)
    assert np.isnan(few.events[0, :, 5]).all()
    assert (few.total[0, :, 5] == 0).all()
    assert few.events[0, 0, 0] == pytest.approx(measured.events[0, 0, :4].mean())


def test_a_stream_nobody_observed_cannot_be_drawn() -> None:
    with pytest.raises(DataError, match=r"no observations of request-errors .*checkout.*there are some of: none"):
        charts.arms(everything(), ERRORS, REGRESSED)


def test_the_forest_shows_every_stream_with_its_margin_sorted_by_harm() -> None:
    figure = charts.forest(everything())
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "Requests that failed on checkout",
        "Checkouts completed",
        "Largest paint p75",
        "Requests that failed on search",
        "Page load time",
    ]
    said = texts(figure)
    for expected in ("2.1x (1.4 to 3.2)", "not estimable yet", "regressed", "inconclusive", "healthy", "margin"):
        assert expected in said
    assert "no data" not in said
    marks = {round(x[0], 3) for x in (line.get_xdata() for line in axes.lines) if len(x) == 2 and x[0] == x[1]}
    assert {1.5, 0.98, 1.1} <= marks


def test_a_forest_of_many_streams_draws_the_worst_and_says_so() -> None:
    figure = charts.forest(many(55))
    assert len(figure.axes[0].get_yticklabels()) == 40
    assert figure.axes[0].get_yticklabels()[0].get_text() == "Requests that failed on part-000"
    assert any("15 more streams not drawn" in text for text in texts(figure))


@pytest.mark.parametrize("upper", [1.02, 1.3, 2.0, 6.0, 40.0, 1e4])
@pytest.mark.parametrize("estimate", [0.004, 0.3, 0.98, 1.01])
def test_a_ratio_axis_has_a_few_ticks_and_names_no_change(estimate: float, upper: float) -> None:
    wide = replace(HEALTHY, effect=Effect("ratio", estimate, estimate * 0.9, upper))
    figure = charts.forest(findings(wide))
    figure.draw_without_rendering()
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    ticks = [place for place in axes.get_xticks() if low <= place <= high]
    assert 3 <= len(ticks) <= 7
    assert "no change" in [label.get_text() for label in axes.get_xticklabels()]
    boxes = sorted((label.get_window_extent() for label in axes.get_xticklabels()), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_label_values_are_not_formulas() -> None:
    odd = replace(REGRESSED, labels=labels({"feature": r"$\frac{1$ & <b>"}))
    svg = charts.to_svg(charts.forest(findings(odd)))
    assert "&amp; &lt;b&gt;" in svg
    ElementTree.fromstring(svg)
    charts.to_svg(charts.effect(findings(odd), ERRORS, odd, trace()))


def test_a_snippet_says_the_verdict_first_and_carries_its_chart() -> None:
    text = html.snippet(everything(warnings=("rows dropped",)))
    assert (
        text.index("REGRESSED") < text.index("more than the margin allows") < text.index("<table") < text.index("<svg")
    )
    assert text.count("<tr") == 7
    assert "rows dropped" in text
    assert "<script" not in text
    ElementTree.fromstring(text)


def test_a_snippet_escapes_what_is_not_ours() -> None:
    sly = replace(REGRESSED, labels=labels({"feature": "<script>x</script>"}), reason="<img src=x onerror=y>")
    text = html.snippet(findings(sly))
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


def test_a_snippet_without_any_effect_has_no_chart() -> None:
    assert "<svg" not in html.snippet(findings(ABSENT, outcome=Outcome.NO_DATA))

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from tests.report.examples import (
    ABSENT,
    HEALTHY,
    INCONCLUSIVE,
    REGRESSED,
    SLOW_PAINT,
    SLOWER,
    everything,
    findings,
    in_points,
    many,
    trace,
    watch,
)
from watcher.model import Effect, Needs, Outcome, labels
from watcher.report import Findings, terminal


def printed(made: Findings, width: int = 100, explain: bool = False) -> str:
    out = io.StringIO()
    terminal.render(made, Console(file=out, width=width), explain)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_first_line_is_the_verdict_and_the_second_says_why() -> None:
    first, second, *_ = printed(everything(), width=140).splitlines()
    assert first == ("REGRESSED  new-checkout 1.2.0 in shop/production, decided 10:34 UTC, 14 min after exposure")
    assert second == REGRESSED.reason


@pytest.mark.parametrize(
    ("made", "first"),
    [
        (
            findings(HEALTHY, SLOW_PAINT),
            "HEALTHY  new-checkout 1.2.0 in shop/production, decided 11:00 UTC, 40 min after",
        ),
        (findings(INCONCLUSIVE), "INCONCLUSIVE  new-checkout 1.2.0 in shop/production, after 50 min"),
        (findings(ABSENT), "NO DATA  new-checkout 1.2.0 in shop/production, after 50 min"),
        (findings(blocks=0), "NO DATA  new-checkout 1.2.0 in shop/production"),
    ],
    ids=["healthy", "inconclusive", "no data", "nothing at all"],
)
def test_the_first_line_says_when_or_for_how_long(made: Findings, first: str) -> None:
    assert printed(made).splitlines()[0].startswith(first)


def table(made: Findings, width: int) -> list[str]:
    """The lines of the table: what stands between the first empty line and the next."""
    lines = printed(made, width).splitlines()
    first = lines.index("") + 1
    return lines[first : lines.index("", first)]


def test_one_line_a_stream_where_the_terminal_is_wide() -> None:
    heading, line, *streams = table(everything(), 120)
    assert " ".join(heading.split()) == ("rule feature outcome effect (interval) margin baseline treatment decided UTC")
    assert set(line) == {"─"}
    assert [re.split(r" {2,}", stream) for stream in streams] == [
        ["request-errors", "checkout", "regressed", "2.1x (1.4 to 3.2)", "+50 %", "61/6000", "128/5990", "10:34"],
        ["page-load", "-", "no_data", "-", "+10 %", "40/5000", "none", "-"],
        [
            "checkout-completion",
            "-",
            "inconclusive",
            "-1.1 % (-4.0 to +1.9)",
            "-2 %",
            "8412/9950",
            "8290/9921",
            "in ~35 min",
        ],
        ["lcp-p75", "-", "healthy", "+1.2 % (-2.0 to +4.4)", "+10 %", "2.31", "2.34", "11:00"],
        ["request-errors", "search", "healthy", "-3.0 % (-16 to +12)", "+50 %", "612/61.2k", "598/61.9k", "10:50"],
        ["request-errors", "gift-cards", "no_data", "-", "+50 %", "none", "none", "idle"],
    ]


def test_two_lines_a_stream_where_it_is_not() -> None:
    assert table(everything(), 80)[:7] == [
        "rule                 outcome       effect                   baseline",
        "  feature            decided UTC   (interval)      margin  treatment",
        "─" * 68,
        "request-errors       regressed     2.1x            +50 %     61/6000",
        "  checkout           10:34         (1.4 to 3.2)             128/5990",
        "page-load            no_data       -               +10 %     40/5000",
        "                     -                                          none",
    ]


@pytest.mark.parametrize("width", [80, 100, 140])
@pytest.mark.parametrize("explain", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, explain: bool) -> None:
    long = replace(REGRESSED, rule="r" * 70, labels=labels({"feature": "f" * 300, "region": "eu"}), reason="word " * 90)
    made = everything(warnings=("w" * 200,))
    made = replace(made, verdict=replace(made.verdict, streams=(*made.verdict.streams, long), reason="word " * 90))
    assert max(map(len, printed(made, width, explain).splitlines())) <= width


def test_alarms_warnings_and_assumptions_stand_below_the_table() -> None:
    text = words(printed(everything(warnings=("3 rows without a value were dropped",))))
    _, _, below = text.partition("idle")
    assert (
        "Alarm absent_treatment: the treatment sends nothing while the baseline has traffic (Page load time)" in below
    )
    assert "Warning 3 rows without a value were dropped" in below
    learnt = "learnt from 6 units, history 7 d (1.8 between units, 1.1 over time); units differ by 4 %"
    assert f"Assumes Requests that failed: dispersion 1.8 {learnt} Checkouts completed, Page load time: " in below


def test_an_assumption_is_not_repeated_where_it_was_a_warning() -> None:
    made = everything(warnings=("independent events assumed",))
    made = replace(made, verdict=replace(made.verdict, assumptions=("independent events assumed", "another")))
    text = printed(made)
    assert text.count("independent events assumed") == 1
    assert "another" in text


def test_many_streams_show_the_worst_and_how_many_more() -> None:
    text = printed(many(45), width=120)
    assert "part-000" in text
    assert "part-029" in text
    assert "part-030" not in text
    assert "and 15 more streams, none worse" in text


def test_streams_without_labels_need_no_column_for_them() -> None:
    heading = table(findings(INCONCLUSIVE, SLOW_PAINT, outcome=Outcome.INCONCLUSIVE), 120)[0]
    assert heading.split()[:2] == ["rule", "outcome"]


def test_labels_that_differ_between_rules_are_named() -> None:
    other = replace(HEALTHY, labels=labels({"region": "eu"}))
    text = printed(findings(REGRESSED, other, outcome=Outcome.REGRESSED), width=120)
    assert "feature=checkout" in text
    assert "region=eu" in text


def test_explaining_gives_the_facts_behind_every_stream() -> None:
    text = words(printed(everything(), width=100, explain=True))
    assert "counts baseline 61 of 6,000 (1.02 %) from 3 units; treatment 128 of 5,990 (2.14 %) from 3 units" in text
    assert "margin 2 % less" in text
    assert "log e 9.2 of 5.3 needed (alpha 0.005, its share of 0.01); held for 12 blocks" in text
    assert "log e 1.2 of 3.0 needed (alpha 0.05)" in text
    assert f"units differ by 4 %; digest {everything().calibrations['request-errors'].digest}" in text
    assert "blocks 50 of 60 s counted, 10:10 to 11:10 UTC" in text
    assert (
        "would change it evidence either way; needs about 220 more events, about 35 min (9 times in 10 at most 72"
        in text
    )
    assert "would change it traffic in both arms" in text
    assert "mean 2.31 seconds of 50 measurements" in text


def test_a_latency_is_told_by_its_typical_value_and_its_quantiles() -> None:
    made = findings(SLOWER)
    assert words(printed(made)).startswith("REGRESSED new-checkout 1.2.0 in shop/production, decided 10:26 UTC")
    assert re.split(r" {2,}", table(made, 120)[-1])[1:4] == ["regressed", "+14 % (+10 to +18)", "+10 %"]
    text = words(printed(made, explain=True))
    assert SLOWER.reason in text
    assert "margin 10 % slower" in text
    assert "quantiles p50 235 ms, not 210 ms: 1.12 times (1.04 to 1.31); p95 " in text
    assert "p99 947 ms, not 748 ms: 1.27 times (0.90 to ?)" in text


def test_explaining_tells_the_evidence_at_a_few_moments_and_when_it_sufficed() -> None:
    grown = trace()
    text = words(printed(findings(REGRESSED, traces={(REGRESSED.rule, REGRESSED.labels): grown}), explain=True))
    told, need, at = re.findall(r"how it grew log e of harm (.*?); it reached (\S+) at (\S+)", text)[0]
    moments = [moment.split(" at ") for moment in told.split(", ")]
    assert [moment[1] for moment in moments] == sorted(moment[1] for moment in moments)
    assert (moments[0][1], moments[-1]) == ("10:21", [f"{grown.log_regressed[-1]:.1f}", "11:10"])
    assert (float(need), at) == (round(grown.threshold, 1), "10:34")
    assert len(moments) == 6


def test_explaining_tells_no_history_of_evidence_that_nobody_followed() -> None:
    assert "log e of harm" not in printed(findings(REGRESSED), explain=True)


def test_explaining_names_the_one_unit_that_is_sick() -> None:
    sick = printed(findings(replace(REGRESSED, sick_unit="pod-3")), explain=True)
    assert "one unit           most of the evidence is on pod-3 alone" in sick
    assert "one unit" not in printed(findings(REGRESSED), explain=True)


def test_a_margin_in_percentage_points_has_its_effect_in_them() -> None:
    assert re.split(r" {2,}", table(in_points(), 120)[-1])[2:4] == ["+0.87 pp (+0.63 to ?)", "+0.5 pp"]
    assert "margin 0.5 pp more" in words(printed(in_points(), explain=True))


def test_without_a_control_the_baseline_is_the_history() -> None:
    text = printed(findings(SLOW_PAINT, watch=watch(baseline=None, treatment=None)), width=120, explain=True)
    assert "history" in text
    assert "held against the time before" in text


def test_away_from_a_terminal_the_text_is_plain_and_on_one_it_is_coloured() -> None:
    out = io.StringIO()
    terminal.render(everything(), Console(file=out, width=100))
    assert "\x1b" not in out.getvalue()
    out = io.StringIO()
    terminal.render(everything(), Console(file=out, width=100, force_terminal=True, color_system="standard"))
    assert out.getvalue().startswith("\x1b[1;31mREGRESSED")
    assert "\x1b[2m" in out.getvalue()


def test_text_away_from_a_terminal_is_plain_and_has_no_trailing_blanks() -> None:
    text = terminal.text(everything(), explain=True)
    assert text == terminal.text(everything(), explain=True, plain=True)
    assert text.startswith("REGRESSED  new-checkout")
    assert text.endswith("\n")
    assert all(line == line.rstrip() and len(line) <= 120 for line in text.splitlines())
    assert "\x1b" not in text


def test_no_color_leaves_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    terminal.render(everything(), Console(file=out, width=100, force_terminal=True))
    assert "[31m" not in out.getvalue()
    assert ";31m" not in out.getvalue()


def test_label_values_are_neither_markup_nor_orders_to_the_terminal() -> None:
    sly = replace(
        REGRESSED,
        labels=labels({"feature": "[red]x[/red]\x1b[2J\r\n"}),
        reason="[bold]as written[/bold]\x1b[2J on\nnext",
    )
    text = printed(findings(sly), width=120, explain=True)
    assert "[red]x[/red]" in text
    assert "[bold]as written[/bold]" in text
    assert "\x1b" not in text


def test_a_stream_that_cannot_say_how_long_says_so() -> None:
    made = findings(replace(INCONCLUSIVE, needs=Needs(None, None, "events")))
    assert table(made, 120)[-1].endswith("?")


@pytest.mark.parametrize(
    ("effect", "cell"),
    [
        (Effect("ratio", 2.14, 1.43, 3.2), "2.1x (1.4 to 3.2)"),
        (Effect("ratio", 0.97, 0.94, 1.01), "-3.0 % (-6.0 to +1.0)"),
        (Effect("ratio", 1.25, 0.8, None), "+25 % (-20 to ?)"),
        (Effect("ratio", 1.1, 0.0, 9.0), "1.1x (0 to 9)"),
        (Effect("ratio", 240.0, 80.0, None), "240x (80 to ?)"),
        (Effect("ratio", 0.0, 0.0, 0.4), "0x (0 to 0.4)"),
        (Effect("ratio", None, 3.2, None), "over 3.2x"),
        (Effect("ratio", None, None, None), "-"),
        (Effect("difference", 0.31, 0.1, None), "+31 pp (+10 to ?)"),
    ],
)
def test_an_effect_reads_as_people_say_it(effect: Effect, cell: str) -> None:
    assert terminal.effect_cell(effect) == cell

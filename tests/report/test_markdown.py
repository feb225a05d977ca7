from __future__ import annotations

from dataclasses import replace

from tests.report.examples import ABSENT, REGRESSED, SLOWER, everything, findings, in_points, many, trace
from watcher.model import labels
from watcher.report import markdown


def test_the_verdict_is_bold_and_first_and_the_reason_follows() -> None:
    first, _, reason, *_ = markdown.render(everything()).splitlines()
    assert first.startswith("**REGRESSED** new-checkout 1.2.0 in shop/production")
    assert reason == REGRESSED.reason


def test_the_table_has_a_row_for_every_stream() -> None:
    lines = markdown.render(everything()).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert table[0] == "| rule | feature | outcome | effect (interval) | margin | baseline | treatment | decided UTC |"
    assert table[1] == "| --- | --- | --- | --- | --- | ---: | ---: | --- |"
    assert (
        table[2] == "| request-errors | checkout | regressed | 2.1x (1.4 to 3.2) | +50 % | 61/6000 | 128/5990 | 10:34 |"
    )
    assert len(table) == 8


def test_details_are_folded_and_alarms_are_not() -> None:
    text = markdown.render(everything(warnings=("rows dropped",)))
    above, _, folded = text.partition("<details><summary>Details</summary>\n\n")
    assert "- **Alarm** absent\\_treatment: the treatment sends nothing" in above
    assert "- Warning: rows dropped" in above
    assert "- Requests that failed: dispersion 1.8 learnt from 6 units, history 7 d" in folded
    assert "- Checkouts completed, Page load time: dispersion 1.2 learnt from 6 units" in folded
    assert "- evidence of harm: log e 9.2 of 5.3 needed" in folded
    assert folded.endswith("\n\n</details>\n")


def test_a_latency_is_a_percentage_in_the_table_and_quantiles_in_the_details() -> None:
    text = markdown.render(findings(SLOWER))
    assert text.splitlines()[2] == SLOWER.reason
    assert "| page-load | regressed | +14 % (+10 to +18) | +10 % | 40/5000 | 71/5100 | 10:26 |" in text
    assert (
        "- quantiles: p50 235 ms, not 210 ms: 1.12 times (1.04 to 1.31); "
        "p95 520 ms, not 520 ms: 1.00 times (0.81 to 1.28); p99 947 ms, not 748 ms: 1.27 times (0.90 to ?)"
    ) in text
    assert "- margin: 10 % slower" in text


def test_a_sick_unit_and_the_growth_of_the_evidence_are_details() -> None:
    sick = replace(REGRESSED, sick_unit="pod_3")
    text = markdown.render(findings(sick, traces={(sick.rule, sick.labels): trace()}))
    assert "- one unit: most of the evidence is on pod\\_3 alone" in text
    assert "- how it grew: log e of harm" in text


def test_a_difference_is_told_in_percentage_points() -> None:
    row = next(line for line in markdown.render(in_points()).splitlines() if line.startswith("| refused"))
    assert "| +0.87 pp (+0.63 to ?) | +0.5 pp | 100/10k | 187/10k |" in row


def test_label_values_break_neither_table_nor_page_and_call_nobody() -> None:
    sly = replace(
        REGRESSED,
        labels=labels({"feature": "a|b\n</details><img src=x> @team `code` [link](http://x)"}),
        reason="x|y <script> @everyone *bold*\n# heading",
    )
    text = markdown.render(findings(sly))
    row = next(line for line in text.splitlines() if line.startswith("| request-errors"))
    assert row.replace("\\|", "").count("|") == 9
    assert "a\\|b &lt;/details&gt;&lt;img src=x&gt; @<!-- -->team \\`code\\` \\[link\\](http://x)" in row
    assert text.splitlines()[2] == "x\\|y &lt;script&gt; @<!-- -->everyone \\*bold\\* \\# heading"
    assert text.count("</details>") == 1


def test_many_streams_stay_below_the_size_a_comment_may_have() -> None:
    made = many(500)
    wordy = tuple(replace(verdict, reason="word " * 2000) for verdict in made.verdict.streams)
    text = markdown.render(replace(made, verdict=replace(made.verdict, streams=wordy)))
    assert len(text.encode()) < 64_000
    assert "and 470 more streams, none worse" in text


def test_nothing_to_show_is_said_without_a_table() -> None:
    text = markdown.render(findings(calibrations={}))
    assert text.startswith("**NO DATA** new-checkout 1.2.0")
    assert "|" not in text
    assert "absent" not in text


def test_an_absent_treatment_is_alarmed_with_its_stream() -> None:
    assert "(Page load time)" in markdown.render(findings(ABSENT))

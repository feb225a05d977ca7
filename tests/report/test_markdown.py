from __future__ import annotations

from dataclasses import replace

from tests.report.examples import ABSENT, REGRESSED, everything, findings, many
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
    assert "- dispersion 1.8 from file: request-errors" in folded
    assert "- evidence of harm: log e 9.2 of 5.3 needed" in folded
    assert folded.endswith("\n\n</details>\n")


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
    assert "(Page load time (requests over 2.5 s))" in markdown.render(findings(ABSENT))

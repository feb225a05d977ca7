"""Figures of past releases, by hand; and every form in which they are told."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from matplotlib.figure import Figure

from watcher.oneoff import Backtest
from watcher.report import pages, past_page, past_table
from watcher.report.drawing import to_svg
from watcher.report.past import ABSENT, Alarm, PastRelease, Share
from watcher.report.past_page import Margin

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/backtest.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)
EXPOSED = 1_800_000_000.0


def release(
    name: str, label: int | None, score: float, group: str = "", alarm: Alarm | None = None, outcome: str = ""
) -> PastRelease:
    alarm = alarm if alarm is not None else "regressed" if score >= 0 else ""
    minutes = 5.0 + len(name) if alarm else None
    return PastRelease(
        release=name,
        label=label,
        score=score,
        group=group,
        alarm=alarm,
        outcome=outcome or ("regressed" if alarm == "regressed" else "no_data" if alarm else "inconclusive"),
        exposed_at=EXPOSED,
        decided_at=None if minutes is None else EXPOSED + 60 * minutes,
        minutes_to_detect=minutes,
        top_stream="errors on pay",
        reason=f"errors on pay: reason of {name}.",
    )


def backtest(*rows: PastRelease, **changes: object) -> Backtest:
    return Backtest(rows, **{"alpha": 0.01, "looks_every": 60.0, "horizon": 7200.0, "name": "past.csv", **changes})


MIXED = backtest(
    release("found", 1, 4.0),
    release("silent", 1, ABSENT, alarm="absent_treatment"),
    release("missed", 1, -0.5),
    release("wolf", 0, 2.0),
    release("fine", 0, -3.0),
    release("calm", 0, -np.inf),
    release("unknown", None, 1.0),
    release("broken", 1, -np.inf, outcome="error"),
)


def test_figures_are_those_of_the_releases_with_a_label_that_could_be_judged() -> None:
    tallied = MIXED.tallied()
    assert (tallied.found, tallied.bad, tallied.false_alarms, tallied.fine) == (2, 3, 1, 3)
    assert (MIXED.recall, MIXED.precision, MIXED.f1) == (2 / 3, 2 / 3, 2 / 3)
    assert MIXED.false_alarm_rate == 1 / 3
    assert [row.kind for row in MIXED.rows] == [
        "found",
        "found",
        "missed",
        "false_alarm",
        "passed",
        "passed",
        "alarm",
        "error",
    ]


def test_the_best_f1_is_that_of_the_best_threshold() -> None:
    # From -0.5 on: all three bad ones and one fine one, 2 * 3 / (4 + 3).
    assert MIXED.best_f1 == pytest.approx(6 / 7)
    assert backtest(release("a", 0, 1.0)).best_f1 is None
    assert backtest(release("a", 1, -np.inf), release("b", 0, -1.0)).best_f1 == 0.0


@pytest.mark.parametrize(
    ("hits", "of", "lower", "upper"),
    # Brown, Cai and DasGupta (2001) and common tables of exact intervals.
    [(0, 10, 0.0, 0.3085), (1, 10, 0.0025, 0.4450), (5, 10, 0.1871, 0.8129), (10, 10, 0.6915, 1.0), (0, 1, 0.0, 0.975)],
)
def test_the_interval_is_clopper_and_pearsons(hits: int, of: int, lower: float, upper: float) -> None:
    interval = Share(hits, of).interval
    assert interval is not None
    assert interval == (pytest.approx(lower, abs=1e-4), pytest.approx(upper, abs=1e-4))


def test_what_nothing_speaks_of_is_undefined_and_never_0() -> None:
    empty = backtest(release("a", None, 3.0))
    said = empty.to_json()
    for name in ("precision", "recall", "f1", "false_alarm_rate", "best_f1", "false_alarm_interval"):
        assert said[name] is None, name
    assert said["minutes_to_detect"] == {"median": None, "p90": None}
    assert said["groups"] == {"cases": 0, "hit_rate_1": None, "hit_rate_3": None}
    assert Share(0, 0).interval is None
    only_fine = backtest(release("a", 0, 3.0), release("b", 0, -3.0))
    assert (only_fine.recall, only_fine.precision, only_fine.f1) == (None, None, None)
    assert only_fine.false_alarm_rate == 0.5


def test_the_time_to_detect_is_that_of_bad_releases_that_were_found() -> None:
    assert MIXED.waits == (10.0, 11.0)
    assert MIXED.minutes_to_detect(0.5) == 10.5
    assert MIXED.minutes_to_detect(0.9) == pytest.approx(10.9)


def test_another_alpha_moves_the_threshold_and_the_shipped_one_says_what_happened() -> None:
    rows = [release("a", 1, np.log(5.0)), release("b", 1, -np.log(5.0)), release("c", 0, -np.log(50.0))]
    found = {each.alpha: each.tallied for each in backtest(*rows, alpha=0.01).alternatives}
    # a reaches a threshold that is log 5 higher, which is alpha / 5.
    assert {alpha: tallied.found for alpha, tallied in found.items()} == {
        0.0001: 0,
        0.001: 0,
        0.005: 1,
        0.01: 1,
        0.02: 1,
        0.05: 2,
        0.1: 2,
        0.2: 2,
    }
    assert not any(tallied.false_alarms for tallied in found.values())
    assert 0.03 in {each.alpha for each in backtest(*rows, alpha=0.03).alternatives}


def test_the_bad_release_of_a_group_is_ranked_by_score_and_a_tie_counts_against_it() -> None:
    first = [release("a", 1, 5.0, "one"), release("b", 0, 2.0, "one"), release("c", 0, -1.0, "one")]
    third = [release("d", 0, 9.0, "two"), release("e", 0, 8.0, "two"), release("f", 1, 7.0, "two")]
    fourth = [release(name, int(name == "i"), 1.0, "tie") for name in "ghij"]
    unranked = [release("k", 1, 1.0, "alone"), release("l", 1, 1.0, "both"), release("m", 1, 0.0, "both")]
    unranked += [release("n", 0, 1.0, "none"), release("o", 0, 1.0, "none"), release("p", 1, 1.0)]
    groups = backtest(*first, *third, *fourth, *unranked).groups
    assert (groups.cases, groups.first, groups.third) == (3, 1, 2)
    assert (groups.hit_rate_1, groups.hit_rate_3) == (1 / 3, 2 / 3)


def test_a_release_that_could_not_be_judged_is_not_ranked() -> None:
    broken = release("b", 0, -np.inf, "one", outcome="error")
    assert backtest(release("a", 1, 5.0, "one"), broken).groups.cases == 0
    assert backtest(release("a", 1, 5.0, "one"), broken, release("c", 0, 9.0, "one")).groups.first == 0


# --- forms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [MIXED, backtest(release("a", None, 3.0)), backtest(release("p", 0, -1.0), placebos=True, warnings=("w",))],
    ids=["mixed", "unlabelled", "placebos"],
)
def test_every_backtest_fits_the_published_schema(found: Backtest) -> None:
    said = json.loads(json.dumps(found.to_json(), allow_nan=False))
    VALIDATOR.validate(said)
    assert said["releases"] == len(found.rows) == len(said["rows"])


def test_the_schema_refuses_what_was_not_promised() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    said = MIXED.to_json()
    for broken in (
        {**said, "schema": "watcher/backtest/2"},
        {**said, "recall": 2},
        {**said, "rows": [{"release": "a"}]},
        {key: each for key, each in said.items() if key != "groups"},
    ):
        assert not VALIDATOR.is_valid(broken)


def test_json_begins_with_the_keys_of_the_contract() -> None:
    promised = "schema releases precision recall f1 false_alarm_rate minutes_to_detect best_f1 rows"
    assert " ".join(list(MIXED.to_json())[:9]) == promised
    assert MIXED.to_json()["rows"][2] == {
        "release": "missed",
        "label": 1,
        "outcome": "inconclusive",
        "decided_at": None,
        "minutes_to_detect": None,
        "top_stream": "errors on pay",
        "positive": False,
        "alarm": "",
        "score": -0.5,
        "group": "",
        "exposed_at": "2027-01-15T08:00:00Z",
        "reason": "errors on pay: reason of missed.",
    }


def test_a_frame_has_one_row_a_release_and_the_columns_of_the_contract_first() -> None:
    frame = MIXED.to_frame()
    promised = ["release", "label", "outcome", "decided_at", "minutes_to_detect", "top_stream"]
    assert list(frame.columns)[:6] == promised
    assert frame["release"].tolist() == [row.release for row in MIXED.rows]
    assert frame["label"].isna().tolist() == [False] * 6 + [True, False]
    assert str(frame["decided_at"].dtype) == "datetime64[ms, UTC]"
    assert frame["minutes_to_detect"].isna().sum() == 4


def test_the_first_line_is_what_the_rules_are_worth() -> None:
    rows = [release(f"b{n}", 1, 1.0 if n < 88 else -1.0) for n in range(97)]
    rows += [release(f"f{n}", 0, 1.0 if n < 5 else -1.0) for n in range(97)]
    first = past_table.text(backtest(*rows)).splitlines()[0]
    assert first == "Found 88 of 97 bad releases (91 %), false alarms on 5 of 97 fine ones (5.2 %, 1.7 to 11.6 %)"


def test_the_table_tells_misses_and_false_alarms_the_most_telling_first_and_counts_the_rest() -> None:
    rows = [release(f"miss{n:02d}", 1, -1.0 - n) for n in range(25)] + [release("f", 0, 1.0), release("g", 0, 6.0)]
    text = past_table.text(backtest(*rows, release("x", None, 0.0, outcome="error")))
    assert re.findall(r"miss\d\d(?= +inc)", text) == [f"miss{n:02d}" for n in range(24, 4, -1)]
    assert "and 5 more" in text
    assert text.index("g        regressed") < text.index("f        regressed")
    assert text.index("Missed (25)") < text.index("False alarms (2)") < text.index("Could not be judged (1)")


def test_alarms_are_split_into_regressed_and_absent() -> None:
    assert past_table.alarms(MIXED) == "3 regressed (1 right), 1 absent treatment (1 right)"


def test_charts_are_drawn_whatever_is_known() -> None:
    for found in (MIXED, backtest(release("a", None, 3.0)), backtest(release("a", 0, -3.0), placebos=True)):
        assert isinstance(found.chart(), Figure)
        assert isinstance(found.chart("delay"), Figure)
    with pytest.raises(ValueError, match="choose alpha or delay"):
        MIXED.chart("pie")


class Outline(HTMLParser):
    """The ids, headings and images of a page, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.unnamed = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags[tag] += 1
        self.ids += [found["id"] or ""] if "id" in found else []
        self.loads += [str(found[name]) for name in ("src", "href") if name in found and tag != "use"]
        self.unnamed += tag == "svg" and not found.get("aria-label")
        self.unnamed += tag == "th" and "scope" not in found


def test_the_page_stands_alone_and_can_be_read_by_everybody() -> None:
    picture = pages.picture(to_svg(MIXED.chart("delay")), 'both arms of "pay"')
    pictures = {"missed": picture, "wolf": picture}
    text = past_page.page(MIXED, [Margin(0.5, MIXED), Margin(1.0, MIXED), Margin(2.0, MIXED)], pictures)
    outline = Outline(text)
    assert [name for name, times in Counter(outline.ids).items() if times > 1] == []
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(outline.ids)
    assert [load for load in outline.loads if not load.startswith("#")] == []
    assert outline.unnamed == 0
    assert (outline.tags["h1"], outline.tags["svg"], outline.tags["script"]) == (1, 4, 0)
    assert outline.tags["table"] == outline.tags["caption"]
    for said in (
        "Missed (1)",
        "False alarms (1)",
        "Found (2)",
        "Alarms without a label (1)",
        "Could not be judged (1)",
    ):
        assert said in text
    assert text.index("Missed (1)</h2>") < text.index("False alarms (1)</h2>") < text.index("Found (2)</h2>")
    assert ">0.0001</text>" in text


def test_names_of_releases_are_shown_and_not_obeyed() -> None:
    hostile = release("<script>alert(1)</script>\x1b[2J", 1, -1.0)
    for text in (past_page.page(backtest(hostile)), backtest(hostile)._repr_html_()):
        assert "<script>" not in text
        assert "&lt;script&gt;" in text
    assert "\x1b" not in past_table.text(backtest(hostile))


def test_forty_charts_make_a_page_of_less_than_two_megabytes() -> None:
    rows = [release(f"b{n}", 1, -1.0) for n in range(40)]
    picture = pages.picture(to_svg(MIXED.chart()), "both arms")
    assert len(past_page.page(backtest(*rows), (), {row.release: picture for row in rows}).encode()) < 2_000_000

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.report.examples import (
    ABSENT,
    CALIBRATIONS,
    DORMANT,
    EXPOSED,
    HEALTHY,
    INCONCLUSIVE,
    OFTEN_REFUSED,
    REGRESSED,
    SLOW_PAINT,
    SLOWER,
    everything,
    findings,
    in_points,
    watch,
)
from watcher.model import Calibration, Effect, Needs, Outcome, Tally
from watcher.report import json_report

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas/comparison.schema.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft7Validator(SCHEMA)


def test_a_comparison_has_exactly_the_promised_keys() -> None:
    said = json_report.comparison(everything())
    assert list(said) == [
        "schema",
        "outcome",
        "reason",
        "design",
        "alpha",
        "alarms",
        "calibration",
        "from",
        "to",
        "exposed_at",
        "blocks",
        "took_seconds",
        "warnings",
        "streams",
    ]
    promised = ["rule", "labels", "outcome", "reason", "decided_at", "effect", "baseline", "treatment"]
    promised += ["log_e_regressed", "log_e_healthy", "needs"]
    assert [list(stream)[: len(promised)] for stream in said["streams"]] == [promised] * 6


def test_values_are_plain_rounded_and_in_utc() -> None:
    said = json_report.comparison(findings(REGRESSED, warnings=("3 rows dropped",)))
    assert said["schema"] == "watcher/comparison/1"
    assert (said["outcome"], said["design"], said["alpha"]) == ("regressed", "concurrent", 0.01)
    assert (said["from"], said["to"], said["exposed_at"]) == (
        "2026-11-18T10:10:00Z",
        "2026-11-18T11:10:00Z",
        "2026-11-18T10:20:00Z",
    )
    assert (said["blocks"], said["took_seconds"], said["warnings"]) == (50, 0.412, ["3 rows dropped"])
    (stream,) = said["streams"]
    assert stream["labels"] == {"feature": "checkout"}
    assert stream["decided_at"] == "2026-11-18T10:34:00Z"
    assert stream["effect"] == {"measure": "ratio", "estimate": 2.14, "lower": 1.43, "upper": 3.2, "confidence": 0.95}
    assert stream["baseline"] == {"events": 61, "total": 6000, "units": 3}
    assert (stream["log_e_regressed"], stream["log_e_healthy"], stream["needs"]) == (9.204, -8.0, None)
    assert isinstance(stream["baseline"]["events"], int)


def test_an_undecided_stream_says_what_it_needs() -> None:
    (stream,) = json_report.comparison(findings(INCONCLUSIVE))["streams"]
    assert stream["needs"] == {"events": 220, "minutes": 35.0, "minutes_90": 72.0, "limit": "events"}
    assert stream["decided_at"] is None


def test_every_stream_says_what_would_change_its_outcome() -> None:
    said = {stream["outcome"]: stream["would_change"] for stream in json_report.comparison(everything())["streams"]}
    assert said["regressed"] == "no later block; a person may accept it as intended"
    assert said["healthy"].startswith("evidence of harm reaching 5.3 ")
    assert said["inconclusive"] == (
        "evidence either way; needs about 220 more events, about 35 min (9 times in 10 at most 72 min)"
    )
    assert said["no_data"] == "traffic in either arm"
    (absent,) = json_report.comparison(findings(ABSENT))["streams"]
    assert absent["would_change"] == "traffic in both arms"


def test_a_latency_carries_what_is_compared_and_its_quantiles() -> None:
    (stream,) = json_report.comparison(findings(SLOWER))["streams"]
    assert (stream["effect"]["of"], stream["effect"]["estimate"]) == ("typical latency", 1.139)
    assert stream["quantiles"][0] == {"level": 0.5, "baseline": 0.21, "treatment": 0.2352, "lower": 1.04, "upper": 1.31}
    assert [each["level"] for each in stream["quantiles"]] == [0.5, 0.95, 0.99]
    assert stream["quantiles"][2]["upper"] is None
    (counted,) = json_report.comparison(findings(REGRESSED))["streams"]
    assert "of" not in counted["effect"]
    assert "quantiles" not in counted


def test_a_sick_unit_is_named_where_there_is_one() -> None:
    sick, shared = json_report.comparison(
        findings(replace(REGRESSED, sick_unit="pod-3"), replace(HEALTHY), outcome=Outcome.REGRESSED)
    )["streams"]
    assert sick["sick_unit"] == "pod-3"
    assert "sick_unit" not in shared


def test_a_difference_stays_a_fraction_for_programs() -> None:
    (stream,) = json_report.comparison(in_points())["streams"]
    assert stream["effect"] == {
        "measure": "difference",
        "estimate": OFTEN_REFUSED.effect.estimate,
        "lower": 0.0063,
        "upper": None,
        "confidence": 0.95,
    }


def test_a_calibration_says_in_words_what_was_learnt() -> None:
    streams = json_report.comparison(everything())["streams"]
    learnt = {stream["rule"]: stream["calibration"]["learnt"] for stream in streams}
    assert learnt["request-errors"] == (
        "dispersion 1.8 learnt from 6 units, history 7 d (1.8 between units, 1.1 over time); units differ by 4 %"
    )
    assert learnt["lcp-p75"] == "level and noise of the series learnt from history 24h, 1,440 blocks"


def test_an_absent_treatment_is_no_data_with_an_alarm() -> None:
    said = json_report.comparison(findings(ABSENT))
    assert (said["outcome"], said["alarms"]) == ("no_data", ["absent_treatment"])


def test_what_json_cannot_say_is_null() -> None:
    wild = replace(
        INCONCLUSIVE,
        effect=Effect("ratio", float("inf"), 3.2, float("nan")),
        baseline=Tally(float("nan"), 5.0),
        log_e_regressed=float("-inf"),
        needs=Needs(float("inf"), float("inf"), "window", float("inf")),
    )
    text = json.dumps(json_report.comparison(findings(wild)), allow_nan=False)
    (stream,) = json.loads(text)["streams"]
    assert stream["effect"]["estimate"] is stream["effect"]["upper"] is stream["baseline"]["events"] is None
    assert stream["log_e_regressed"] is None
    assert stream["needs"] == {"events": None, "minutes": None, "minutes_90": None, "limit": "window"}


def test_the_worst_stream_comes_first_and_dormant_ones_last() -> None:
    said = [(s["outcome"], s.get("dormant", False)) for s in json_report.comparison(everything())["streams"]]
    assert said == [
        ("regressed", False),
        ("no_data", False),
        ("inconclusive", False),
        ("healthy", False),
        ("healthy", False),
        ("no_data", True),
    ]


def test_the_calibration_at_the_top_is_the_widest_of_the_counts() -> None:
    said = json_report.comparison(everything())
    assert said["calibration"] == {"dispersion": 1.8, "from": "history 7 d"}
    by_rule = {stream["rule"]: stream["calibration"] for stream in said["streams"]}
    assert by_rule["checkout-completion"]["dispersion"] == 1.2
    assert by_rule["lcp-p75"]["from"] == "history 24h"
    assert by_rule["request-errors"]["digest"] == CALIBRATIONS["request-errors"].digest


@pytest.mark.parametrize(
    ("calibrations", "expected"),
    [
        ({}, {"dispersion": 1.0, "from": "assumed"}),
        (
            {"a": Calibration(), "b": Calibration(came_from="file", assumed=False)},
            {"dispersion": 1.0, "from": "assumed"},
        ),
        (
            {"a": Calibration(memory=np.zeros((1, 1)), came_from="history 7d"), "b": Calibration(came_from="file")},
            {"dispersion": 1.0, "from": "file"},
        ),
        (
            {"a": Calibration(memory=np.zeros((1, 1)), came_from="history 7d")},
            {"dispersion": 1.0, "from": "history 7d"},
        ),
    ],
)
def test_an_assumed_dispersion_is_never_presented_as_learnt(
    calibrations: dict[str, Calibration], expected: dict[str, Any]
) -> None:
    assert json_report.comparison(findings(REGRESSED, calibrations=calibrations))["calibration"] == expected


def test_before_and_after_needs_no_exposure_of_a_control() -> None:
    alone = findings(SLOW_PAINT, watch=watch(baseline=None, treatment=None), exposed_at=None)
    said = json_report.comparison(alone)
    assert (said["design"], said["exposed_at"]) == ("before_after", None)


def test_a_moment_between_seconds_keeps_its_fraction() -> None:
    assert json_report.iso(EXPOSED + 0.25) == "2026-11-18T10:20:00.250Z"


@pytest.mark.parametrize(
    "made",
    [
        everything(),
        everything(exposed_at=None, warnings=("w",)),
        findings(),
        findings(HEALTHY, calibrations={}),
        findings(replace(SLOWER, sick_unit="pod-3")),
        in_points(),
    ],
    ids=["everything", "no exposure", "no streams", "no calibration", "latency", "points"],
)
def test_every_comparison_fits_the_published_schema(made: Any) -> None:
    VALIDATOR.validate(json_report.comparison(made))
    VALIDATOR.validate(json_report.releases([made, made]))


def test_the_schema_refuses_what_was_not_promised() -> None:
    said = json_report.comparison(everything())
    for broken in (
        {**said, "outcome": "passed"},
        {**said, "from": "2026-11-18 10:10"},
        {key: each for key, each in said.items() if key != "alarms"},
        {**said, "streams": [{"rule": "a"}]},
        {"releases": [{}]},
    ):
        assert not VALIDATOR.is_valid(broken)
    jsonschema.Draft7Validator.check_schema(SCHEMA)


def test_several_releases_are_a_list_of_comparisons() -> None:
    said = json_report.releases([findings(REGRESSED), findings(HEALTHY)])
    assert [each["outcome"] for each in said["releases"]] == ["regressed", "healthy"]


def test_a_dormant_stream_is_told_from_one_without_data() -> None:
    streams = json_report.comparison(findings(DORMANT, ABSENT, outcome=Outcome.NO_DATA))["streams"]
    assert ["dormant" in stream for stream in streams] == [False, True]

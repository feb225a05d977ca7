from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.report.examples import (
    ABSENT,
    DORMANT,
    HEALTHY,
    INCONCLUSIVE,
    REGRESSED,
    everything,
    findings,
    many,
)
from watcher.model import Outcome, labels
from watcher.report import junit


def cases(text: str) -> dict[str, str]:
    """What became of every case: the tag of what stands in it, "passed" where nothing does."""
    found = ET.fromstring(text.encode()).iter("testcase")
    return {str(case.get("name")): next((inner.tag for inner in case), "passed") for case in found}


def test_every_stream_is_a_case_and_its_outcome_what_became_of_it() -> None:
    text = junit.render([findings(REGRESSED, HEALTHY, INCONCLUSIVE, ABSENT, DORMANT)])
    assert sorted(cases(text).values()) == ["error", "failure", "passed", "skipped", "skipped"]
    root = ET.fromstring(text.encode())
    assert root.attrib == {"name": "watcher", "tests": "5", "failures": "1", "errors": "1", "skipped": "2"}
    (suite,) = root
    assert str(suite.get("name")).startswith("REGRESSED new-checkout 1.2.0 in shop/production")
    assert suite.get("timestamp") == "2026-11-18T11:10:00"
    failure = next(suite.iter("failure"))
    assert (failure.get("message"), failure.get("type")) == (REGRESSED.reason, "regressed")
    assert "evidence of harm: log e 9.2 of 5.3 needed" in (failure.text or "")


def test_alarms_and_warnings_stand_beside_the_cases() -> None:
    said = ET.fromstring(junit.render([everything(warnings=("rows dropped",))]).encode()).findtext(".//system-err")
    assert said is not None
    assert said.startswith("absent_treatment: the treatment sends nothing")
    assert said.endswith("\nrows dropped")


@pytest.mark.parametrize(
    ("outcome", "became"),
    [(Outcome.NO_DATA, "error"), (Outcome.INVALID, "error"), (Outcome.INCONCLUSIVE, "skipped")],
)
def test_a_release_that_no_stream_speaks_for_is_a_case_itself(outcome: Outcome, became: str) -> None:
    for streams in ((), (DORMANT,)):
        found = cases(junit.render([findings(*streams, outcome=outcome, reason="no series")]))
        name, last = found.popitem()
        assert (name.startswith("new-checkout 1.2.0"), last, set(found.values())) == (
            True,
            became,
            {"skipped"} if found else set(),
        )


def test_several_releases_are_suites_of_one_document() -> None:
    root = ET.fromstring(junit.render([findings(REGRESSED), findings(HEALTHY)]).encode())
    assert [suite.get("failures") for suite in root] == ["1", "0"]
    assert (root.get("tests"), root.get("failures")) == ("2", "1")


def test_label_values_and_reasons_from_outside_leave_the_document_well_formed() -> None:
    sly = replace(REGRESSED, labels=labels({"feature": 'a"<b>&\0\x1b[31m\ud800'}), reason="]]> \x00 <failure/>")
    (name,) = cases(junit.render([findings(sly)]))
    assert name == 'Requests that failed on a"<b>&  [31m '


def test_hundreds_of_streams_are_hundreds_of_cases() -> None:
    assert len(cases(junit.render([many(500)]))) == 500

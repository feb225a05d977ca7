"""JUnit XML, which every CI server shows: a suite a release, a case a stream."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Final

from watcher.model import Outcome, Verdict
from watcher.report import explanation
from watcher.report.cells import headline, printable, word
from watcher.report.findings import Findings
from watcher.report.json_report import iso

_HOW: Final = {
    Outcome.REGRESSED: "failure",
    Outcome.NO_DATA: "error",
    Outcome.INVALID: "error",
    Outcome.INCONCLUSIVE: "skipped",
}
"""What an outcome is called there; a healthy stream has passed."""


def render(several: Sequence[Findings]) -> str:
    """Return one document about several releases.

    A stream that is idle is skipped, whatever its outcome: it blocks nothing. A release that no stream speaks for is
    a case of its own.
    """
    suites = [_suite(findings) for findings in several]
    cases = [case for suite in suites for case in suite.iter("testcase")]
    root = ET.Element("testsuites", {"name": "watcher", **_counted(cases)})
    root.extend(suites)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(findings: Findings) -> ET.Element:
    verdict = findings.verdict
    cases = [_case(findings, each) for each in findings.streams]
    if not any(each.outcome is verdict.outcome and not each.dormant for each in findings.streams):
        case = ET.Element("testcase", classname="release", name=headline(findings) or "release")
        _mark(case, verdict.outcome, verdict.reason, "")
        cases.append(case)
    suite = ET.Element(
        "testsuite", {"name": f"{word(verdict.outcome)} {headline(findings)}".strip(), **_counted(cases)}
    )
    suite.set("time", f"{findings.took_seconds:.3f}")
    suite.set("timestamp", (iso(findings.end) or "").removesuffix("Z"))
    properties = ET.SubElement(suite, "properties")
    said = {"outcome": verdict.outcome.value, "reason": verdict.reason, "alarms": ", ".join(verdict.alarms)}
    for name, value in ((name, value) for name, value in said.items() if value):
        ET.SubElement(properties, "property", name=name, value=printable(value))
    suite.extend(cases)
    warnings = [*explanation.alarms(findings), *explanation.warnings(findings)]
    if warnings:
        ET.SubElement(suite, "system-err").text = "\n".join(warnings)
    return suite


def _case(findings: Findings, verdict: Verdict) -> ET.Element:
    case = ET.Element("testcase", classname=printable(verdict.rule), name=explanation.subject(findings, verdict))
    facts = "\n".join(f"{name}: {fact}" for name, fact in explanation.details(findings, verdict))
    _mark(case, Outcome.INCONCLUSIVE if verdict.dormant else verdict.outcome, verdict.reason, facts)
    return case


def _mark(case: ET.Element, outcome: Outcome, reason: str, facts: str) -> None:
    """Say in a case that it did not pass, and why."""
    if outcome in _HOW:
        mark = ET.SubElement(case, _HOW[outcome], message=printable(reason), type=outcome.value)
        mark.text = facts or None


def _counted(cases: Sequence[ET.Element]) -> dict[str, str]:
    """Return how many cases there are, and of each kind."""
    many = {name: sum(case.find(kind) is not None for case in cases) for name, kind in _KINDS.items()}
    return {"tests": str(len(cases)), **{name: str(count) for name, count in many.items()}}


_KINDS: Final = {"failures": "failure", "errors": "error", "skipped": "skipped"}

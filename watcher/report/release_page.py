"""One release as a page of HTML: the verdict, every rule, where harm is, what was done, and what all of it rests on.

The same page is a file of its own, with its pictures in it, and what `watcher run` serves, with pictures that are drawn
when they come into view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from watcher.model import Labels, Outcome, ReleaseVerdict, Verdict, Watch
from watcher.report import explanation
from watcher.report.cells import (
    Row,
    clipped,
    count,
    headings,
    printable,
    release_name,
    rows,
    stream_heading,
    when,
    word,
)
from watcher.report.drawing import COLOURS
from watcher.report.findings import Findings
from watcher.report.pages import beside_others
from watcher.report.release_templates import PAGE, STREAM
from watcher.report.segments import Segment, segments

LARGEST: Final = 1_800_000
"""Bytes of a page, about; pictures beyond are left out."""

MOST_DETAILS: Final = 200
"""Streams whose derivation is written out."""

MOST_OF_A_RULE: Final = 12
"""Streams of one rule that the first table shows; the others are folded away below it."""

MOST_OPEN: Final = 3
"""Streams whose pictures are seen at once; the others are folded away."""


@dataclass(frozen=True)
class Drawn:
    """The pictures of one stream: elements that say what they show."""

    verdict: Verdict
    pictures: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """A line of the checklist: how it stands, what it is about, what was found, and what to do (empty: nothing)."""

    status: str
    about: str
    said: str
    do: str = ""


@dataclass(frozen=True)
class Beside:
    """What there is to tell of a release beside its verdict, where a journal knows it.

    `facts` are (name, text), `stages` (when, share), `done` (when, what), the latest first; `split` is what is said of
    how users are split between the arms.
    """

    facts: tuple[tuple[str, str], ...] = ()
    links: Labels = ()
    stages: tuple[tuple[str, str], ...] = ()
    split: str = ""
    done: tuple[tuple[str, str], ...] = ()
    checks: tuple[Checked, ...] = ()
    checked_at: str = ""


@dataclass(frozen=True)
class Live:
    """What a page that is served has beside one in a file: where else to go, and how it is kept up to date.

    `mark` changes whenever something on the page does; `every` is how often to ask, in seconds.
    """

    home: str
    script: str
    mark: str
    every: float
    stream: Callable[[Verdict], str]


def page(
    findings: Findings, forest: str, drawn: Iterator[Drawn], beside: Beside | None = None, live: Live | None = None
) -> str:
    """Return a page that needs nothing beside itself but what `live` names, and is no larger than about `LARGEST`.

    Args:
        findings: of the release, with traces where the derivation is to say how the evidence grew.
        forest: picture of all effects; empty where there is none.
        drawn: pictures of streams, the worst first; taken for as long as there is room.
        beside: what else is known of the release.
        live: given where the page is served.
    """
    shown, pictures, size = list[tuple[Verdict, int]](), [forest] if forest else [], len(forest)
    for each in drawn:
        size += sum(map(len, each.pictures))
        if size > LARGEST:
            break
        pictures += each.pictures
        shown.append((each.verdict, len(each.pictures)))
    placed = beside_others(pictures)
    first = placed[:1] if forest else []
    rest = iter(placed[len(first) :])
    most = MOST_DETAILS if live is None else 0
    return PAGE.render(
        title=release_name(findings) or "Release",
        word=word(findings.verdict.outcome),
        colour=COLOURS[findings.verdict.outcome],
        when=when(findings),
        reason=findings.verdict.reason,
        notes=notes(findings),
        names=headings(stream_heading(findings)),
        table=_table(findings, live),
        colours=COLOURS,
        forest=first[0] if first else "",
        streams=[
            (explanation.subject(findings, verdict), verdict, [next(rest) for _ in range(many)])
            for verdict, many in shown
        ],
        segments=[
            (f"{split.rule.label} by {split.label}", split.label, [_segment(each) for each in split.segments])
            for split in segments(findings)
        ],
        assumed=explanation.assumptions(findings),
        details=_details(findings, findings.streams[:most]),
        left=max(len(findings.streams) - MOST_DETAILS, 0),
        most_open=MOST_OPEN,
        beside=beside or Beside(),
        live=live,
    )


def not_yet(watch: Watch, beside: Beside, live: Live) -> str:
    """Return the page of a release that was not looked at yet."""
    verdict = ReleaseVerdict(Outcome.INCONCLUSIVE, "Not looked at yet.", (), (), ())
    findings = Findings(watch, verdict, {}, watch.release.exposed_at, watch.release.exposed_at, 0, 0.0)
    return page(findings, "", iter(()), beside, live)


def stream_page(findings: Findings, verdict: Verdict, pictures: Sequence[str], release: str) -> str:
    """Return the page of one stream: its verdict, its pictures and how it was derived.

    Args:
        findings: of the release, with the trace of the stream.
        verdict: on the stream.
        pictures: elements that say what they show.
        release: address of the page of the release.
    """
    return STREAM.render(
        title=f"{explanation.subject(findings, verdict)}, {release_name(findings)}",
        word=word(verdict.outcome),
        colour=COLOURS[verdict.outcome],
        verdict=verdict,
        pictures=pictures,
        facts=[each for each in explanation.details(findings, verdict) if each[0] != "why"],
        release=release,
    )


def notes(findings: Findings) -> list[tuple[str, str]]:
    """Return the alarms and warnings, each with what it is."""
    alarms, warnings = explanation.alarms(findings), explanation.warnings(findings)
    return [("Alarm", line) for line in alarms] + [("Warning", line) for line in warnings]


@dataclass(frozen=True)
class _Line:
    """A row of the table: its cells below the headings, and where more is said."""

    outcome: Outcome
    idle: bool
    cells: list[str]
    link: str


@dataclass(frozen=True)
class _Group:
    """The streams of one rule: those that are shown, and those that are folded away."""

    name: str
    counted: str
    shown: list[_Line]
    folded: list[_Line]


def _table(findings: Findings, live: Live | None) -> list[_Group]:
    """Return the rules, the most harmed first, each with its streams in that order."""
    labelled, groups = bool(stream_heading(findings)), dict[str, list[tuple[Verdict, Row]]]()
    for verdict, row in zip(findings.streams, rows(findings), strict=True):
        groups.setdefault(verdict.rule, []).append((verdict, row))
    found = []
    for name, own in groups.items():
        lines = [
            _Line(row.outcome, row.dormant, row.cells(labelled), "" if live is None else live.stream(verdict))
            for verdict, row in own
        ]
        found.append(
            _Group(clipped(name), _counted(row for _, row in own), lines[:MOST_OF_A_RULE], lines[MOST_OF_A_RULE:])
        )
    return found


def _counted(own: Iterable[Row]) -> str:
    """Return how many streams there are of each outcome, the worst first."""
    many = Counter("idle" if row.dormant else row.outcome.value.replace("_", " ") for row in own)
    order = [outcome.value.replace("_", " ") for outcome in Outcome] + ["idle"]
    return ", ".join(f"{many[name]} {name}" for name in order if many[name])


def _segment(segment: Segment) -> tuple[str, Outcome, str, str, str, float | None]:
    """Return value, outcome, what was counted, what was expected, what that adds, and its share in percent."""
    added = f"{'+' if segment.added >= 0 else '−'}{count(abs(segment.added))}"
    share = None if segment.share is None else 100 * segment.share
    counted = f"{count(segment.events)}/{count(segment.total)}"
    return printable(segment.value), segment.outcome, counted, count(segment.expected), added, share


def _details(findings: Findings, verdicts: Sequence[Verdict]) -> list[tuple[str, Verdict, list[tuple[str, str]]]]:
    return [(explanation.subject(findings, each), each, explanation.details(findings, each)) for each in verdicts]

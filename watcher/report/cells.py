"""Short texts: the first line of a report, and what stands in one cell of a table."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass

from watcher import reasons
from watcher.model import Design, Effect, Kind, Labels, Outcome, Rule, Tally, Verdict, Worse
from watcher.report.findings import Findings

MOST_ROWS = 30
"""Streams a table shows; the rest is counted."""

NOTHING = "-"
DAY = 86_400.0
_NEAR_ONE, _FAR = (0.7, 1.4), (0.2, 5.0)
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Row:
    """One stream of a table."""

    rule: str
    stream: str
    outcome: Outcome
    effect: str
    margin: str
    baseline: str
    treatment: str
    decided: str
    dormant: bool

    def cells(self, labelled: bool) -> list[str]:
        """Return the cells below `headings`; without the stream where no stream has labels."""
        stream = [self.stream] if labelled else []
        counts = [self.baseline, self.treatment]
        return [self.rule, *stream, self.outcome.value, self.effect, self.margin, *counts, self.decided]


def word(outcome: Outcome) -> str:
    """Return an outcome as the first word of a report.

    >>> word(Outcome.NO_DATA)
    'NO DATA'
    """
    return outcome.value.replace("_", " ").upper()


def headline(findings: Findings) -> str:
    """Return what follows the outcome on the first line: which release, and when it was decided."""
    return ", ".join(part for part in (release_name(findings), when(findings)) if part)


def release_name(findings: Findings) -> str:
    """Return feature, version and place of the release, as far as they are known."""
    release = findings.watch.release
    name = " ".join(part for part in (release.feature, release.version) if part)
    place = "/".join(part for part in (release.service, release.environment) if part)
    return printable(f"{name} in {place}" if name and place else name or place)


def when(findings: Findings) -> str:
    """Return when the release was decided, or how long it was looked at."""
    outcome = findings.verdict.outcome
    decided = [v.decided_at for v in findings.verdict.streams if v.outcome is outcome and v.decided_at is not None]
    if not decided or outcome not in (Outcome.REGRESSED, Outcome.HEALTHY):
        return f"after {reasons.span(findings.blocks * findings.watch.block / 60)}" if findings.blocks else ""
    at = min(decided) if outcome is Outcome.REGRESSED else max(decided)
    since = "" if findings.exposed_at is None else f", {reasons.span((at - findings.exposed_at) / 60)} after exposure"
    return f"decided {moment(findings, at)} UTC{since}"


def headings(stream: str) -> list[str]:
    """Return the headings of a table; `stream` is that of the stream column, empty where there is none."""
    first = ["rule", stream] if stream else ["rule"]
    return [*first, "outcome", "effect (interval)", "margin", "baseline", "treatment", "decided UTC"]


def rows(findings: Findings) -> list[Row]:
    """Return one row a stream, worst first."""
    write = stream_writer(findings)
    return [_row(findings, verdict, write) for verdict in findings.streams]


def _row(findings: Findings, verdict: Verdict, write: Callable[[Labels], str]) -> Row:
    rule, design = findings.rule(verdict.rule), findings.watch.design
    return Row(
        rule=clipped(verdict.rule),
        stream=write(verdict.labels),
        outcome=verdict.outcome,
        effect=effect_cell(verdict.effect),
        margin=NOTHING if rule is None else margin_cell(rule),
        baseline="history" if design is Design.BEFORE_AFTER else counts_cell(rule, verdict.baseline),
        treatment=counts_cell(rule, verdict.treatment),
        decided=decided_cell(findings, verdict),
        dormant=verdict.dormant,
    )


def stream_names(findings: Findings) -> tuple[str, ...] | None:
    """Return the label names all streams with labels share; None when they differ."""
    found = {tuple(name for name, _ in verdict.labels) for verdict in findings.verdict.streams if verdict.labels}
    return found.pop() if len(found) == 1 else None if found else ()


def stream_heading(findings: Findings) -> str:
    """Return the heading of the stream column: the label names, so that the cells need not repeat them."""
    names = stream_names(findings)
    return "stream" if names is None else clipped(", ".join(names))


def stream_writer(findings: Findings) -> Callable[[Labels], str]:
    """Return how labels are written: values alone where all streams have the same names."""
    alone = stream_names(findings) is not None

    def write(labels: Labels) -> str:
        parts = (value or '""' if alone else f"{name}={value}" for name, value in labels)
        return clipped(", ".join(parts)) or NOTHING

    return write


def effect_cell(effect: Effect) -> str:
    """Return an effect with its interval; small changes as percentages, large ones as multiples.

    >>> effect_cell(Effect("ratio", 2.14, 1.43, None)), effect_cell(Effect("ratio", 0.97, 0.94, 1.01))
    ('2.1x (1.4 to ?)', '-3.0 % (-6.0 to +1.0)')
    >>> effect_cell(Effect("ratio", None, 3.2, None)), effect_cell(Effect("ratio", None, None, None))
    ('over 3.2x', '-')
    """
    estimate, lower, upper = effect.estimate, effect.lower, effect.upper
    if estimate is None:
        return f"over {lower:.2g}x" if lower and effect.measure == "ratio" else NOTHING
    if effect.measure == "difference":
        points, low, high = (None if x is None else 100 * x for x in (estimate, lower, upper))
        return f"{_number(points, '+.2g')} pp ({_number(low, '+.2g')} to {_number(high, '+.2g')})"
    wide = (lower is not None and lower < _FAR[0]) or (upper is not None and upper > _FAR[1])
    if _NEAR_ONE[0] < estimate < _NEAR_ONE[1] and not wide:
        change, low, high = (None if x is None else 100 * (x - 1) for x in (estimate, lower, upper))
        return f"{_change(change)} % ({_change(low)} to {_change(high)})"
    return f"{_multiple(estimate)}x ({_multiple(lower)} to {_multiple(upper)})"


def _change(percent: float | None) -> str:
    return _number(percent, "+.1f" if percent is not None and abs(percent) < 9.95 else "+.0f")


def _multiple(value: float | None) -> str:
    return _number(value, ".0f" if value is not None and value >= 100 else ".2g")


def _number(value: float | None, form: str) -> str:
    return "?" if value is None else f"{value:{form}}"


def margin_cell(rule: Rule) -> str:
    """Return the margin, signed in the direction of harm."""
    sign = "-" if rule.worse is Worse.LOWER else "+"
    return f"{sign}{rule.margin * 100:.3g} {'pp' if rule.absolute else '%'}"


def counts_cell(rule: Rule | None, tally: Tally) -> str:
    """Return what an arm counted: events of their total, or the mean of a gauge.

    >>> counts_cell(None, Tally(61, 6000)), counts_cell(None, Tally(12_345, 4_560_000)), counts_cell(None, Tally())
    ('61/6000', '12.3k/4.56M', 'none')
    """
    if not tally.total:
        return "none"
    if rule is not None and rule.kind is Kind.GAUGE:
        return f"{tally.events:.3g}"
    return f"{count(tally.events)}/{count(tally.total)}"


def count(number: float) -> str:
    """Return a count in at most five characters.

    >>> count(9950), count(12_345), count(999_999)
    ('9950', '12.3k', '1M')
    """
    if number < 1e4:
        return f"{number:.0f}"
    for size, suffix in ((1e3, "k"), (1e6, "M"), (1e9, "G")):
        if number < 999.5 * size:
            return f"{number / size:.3g}{suffix}"
    return f"{number / 1e12:.3g}T"


def decided_cell(findings: Findings, verdict: Verdict) -> str:
    """Return when a stream was decided, or about how long that will take."""
    if verdict.dormant:
        return "idle"
    if verdict.decided_at is not None:
        return moment(findings, verdict.decided_at)
    if verdict.needs is None:
        return NOTHING
    if verdict.needs.minutes is None:
        return "?"
    return f"in ~{reasons.span(verdict.needs.minutes)}"


def moment(findings: Findings, at: float) -> str:
    """Return a moment, UTC; with its day where the findings cover more than one."""
    form = "%H:%M" if findings.end - findings.start <= DAY else "%d %b %H:%M"
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):{form}}"


def clipped(text: str, longest: int = _LONGEST_NAME) -> str:
    """Return printable text of at most so many characters."""
    text = printable(text)
    return text if len(text) <= longest else text[: longest - 1] + "…"


def printable(text: str) -> str:
    """Replace what a terminal would obey instead of show: label values are not ours."""
    return "".join(char if char.isprintable() else " " for char in text)

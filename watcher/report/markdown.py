"""Markdown for a pull request, a job summary or an issue: the verdict first, details folded."""

from __future__ import annotations

import re

from watcher.report import explanation
from watcher.report.cells import MOST_ROWS, clipped, headings, headline, rows, stream_heading, word
from watcher.report.findings import Findings

_ACTIVE = re.compile(r"([\\`*_{}\[\]#|~!$])")
_CODE = re.compile(r"(`[^`]+`)")
_LONGEST = 1000


def render(findings: Findings) -> str:
    """Return a report in GitHub-flavoured Markdown, well below the size a comment may have (64 kB)."""
    verdict = findings.verdict
    parts = [
        f"**{word(verdict.outcome)}** {escaped(headline(findings))}",
        escaped(verdict.reason),
        _table(findings),
        _more(findings),
        _notes(findings),
        _details(findings),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is: no markup, no HTML, no cell border, nobody mentioned.

    >>> escaped("a|b <img> @team")
    'a\\\\|b &lt;img&gt; @<!-- -->team'
    """
    text = clipped(text, _LONGEST).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _ACTIVE.sub(r"\\\1", text).replace("@", "@<!-- -->")


def to_copy(text: str) -> str:
    """Return text as `escaped` does, but for what stands between backticks: that is code, to be copied.

    >>> to_copy("write `split: {share: *}` to watcher.yaml, or [not]")
    'write `split: {share: *}` to watcher.yaml, or \\\\[not\\\\]'
    """
    parts = _CODE.split(clipped(text, _LONGEST))
    return "".join(part.replace("|", r"\|") if place % 2 else escaped(part) for place, part in enumerate(parts))


def _table(findings: Findings) -> str:
    stream = stream_heading(findings)
    shown = [[escaped(cell) for cell in row.cells(bool(stream))] for row in rows(findings)[:MOST_ROWS]]
    if not shown:
        return ""
    names = headings(stream)
    rule = ["---:" if name in ("baseline", "treatment") else "---" for name in names]
    table = [[escaped(name) for name in names], rule, *shown]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _more(findings: Findings) -> str:
    left = len(findings.streams) - MOST_ROWS
    return f"and {left} more {'streams' if left > 1 else 'stream'}, none worse" if left > 0 else ""


def _notes(findings: Findings) -> str:
    lines = [f"- **Alarm** {escaped(line)}" for line in explanation.alarms(findings)]
    lines += [f"- Warning: {escaped(line)}" for line in explanation.warnings(findings)[:MOST_ROWS]]
    return "\n".join(lines)


def _details(findings: Findings) -> str:
    parts = ["<details><summary>Details</summary>"]
    assumed = explanation.assumptions(findings)[:MOST_ROWS]
    if assumed:
        parts.append("\n".join(["Assumes:", "", *(f"- {escaped(line)}" for line in assumed)]))
    for verdict in findings.streams[:MOST_ROWS]:
        facts = [f"- {name}: {escaped(fact)}" for name, fact in explanation.details(findings, verdict)]
        title = f"**{escaped(explanation.subject(findings, verdict))}**: {escaped(verdict.outcome.value)}"
        parts.append("\n".join([title, "", *facts]))
    parts.append("</details>")
    return "\n\n".join(parts)

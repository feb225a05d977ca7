"""What GitHub Actions shows of a release: annotations, and the summary of a job; both within its limits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from watcher.model import Outcome
from watcher.report import explanation, markdown
from watcher.report.cells import headline, word
from watcher.report.findings import Findings

_LEVELS: Final = {Outcome.REGRESSED: "error", Outcome.NO_DATA: "warning", Outcome.INVALID: "warning"}
MOST: Final = 10
"""Annotations of a level that a step may have; those beyond are dropped without a word."""
LARGEST: Final = 1024 * 1024
"""Bytes that all summaries of a step may have; with more than that it has none."""
_SPARE: Final = 100
"""Bytes for the line that says what is left out."""


def commands(several: Sequence[Findings]) -> str:
    """Return workflow commands: a notice of each release, what regressed as errors, what says nothing as warnings.

    Where there are more than GitHub shows, the last of them says how many.
    """
    lines = []
    for findings in several:
        verdict = findings.verdict
        title = f"watcher: {word(verdict.outcome)} {headline(findings)}".strip()
        lines.append(("notice", title, verdict.reason))
        lines += [
            (_LEVELS[each.outcome], f"{word(each.outcome)}: {explanation.subject(findings, each)}", each.reason)
            for each in findings.streams
            if each.outcome in _LEVELS and not each.dormant
        ]
        lines += [("warning", "watcher", said) for said in explanation.alarms(findings)]
    told = []
    for level in ("error", "warning", "notice"):
        own = [(title, text) for each, title, text in lines if each == level]
        cut = len(own) - MOST + 1 if len(own) > MOST else 0
        told += [_command(level, title, text) for title, text in own[: len(own) - cut]]
        told += [_command(level, "watcher", f"and {cut} more: see the summary of this job")] if cut else []
    return "".join(f"{line}\n" for line in told)


def summary(several: Sequence[Findings], room: int = LARGEST) -> str:
    """Return Markdown for the summary of a job; releases for which there is no room are left out whole, and counted.

    Args:
        several: releases, in order.
        room: bytes there are.
    """
    parts = [markdown.render(findings) + "\n" for findings in several]
    sizes = list(accumulate(len(part.encode()) for part in parts))
    shown = bisect_right(sizes, room - _SPARE)
    more = f"and {len(parts) - shown} more for which there is no room here\n" if shown < len(parts) else ""
    return "".join(parts[:shown]) + (more if room > _SPARE else "")


def _command(level: str, title: str, text: str) -> str:
    """Return a workflow command.

    >>> _command("error", "errors: 3, more", "50 % worse")
    '::error title=errors%3A 3%2C more::50 %25 worse'
    """
    return f"::{level} title={_escaped(title).replace(':', '%3A').replace(',', '%2C')}::{_escaped(text)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

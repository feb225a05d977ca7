"""What a preflight says: the release checklist, line by line, each with what to do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

from watcher.report.json_report import iso

SCHEMA = "watcher/preflight/1"

Status = Literal["pass", "warn", "fail"]

WORST_FIRST: tuple[Status, ...] = ("fail", "warn", "pass")

CHECKS = {
    "rollback": "Rollback without redeploying",
    "disable": "The feature can be disabled",
    "exposure": "Who sees the new version",
    "metrics": "Rules are about what users feel",
    "data": "The rules have data",
    "stream": "The feature is measured",
    "effect": "Harm can be found",
    "people": "People are told",
}
"""The checks in the order of the checklist, and what people call them."""


@dataclass(frozen=True)
class Line:
    """One line of the checklist: of which check, how it stands, what was found, and what to do (empty: nothing)."""

    check: str
    status: Status
    said: str
    do: str = ""


@dataclass(frozen=True)
class Preflight:
    """The checklist of one release, gone through at a moment (epoch seconds)."""

    release: str
    lines: tuple[Line, ...]
    at: float

    @property
    def failed(self) -> bool:
        """Whether something failed."""
        return any(line.status == "fail" for line in self.lines)

    @property
    def missing(self) -> tuple[Line, ...]:
        """The lines that did not pass, what failed first."""
        return tuple(line for status in WORST_FIRST[:2] for line in self.lines if line.status == status)

    @property
    def answer(self) -> str:
        """The verdict in words, after its first word: which release, and how many checks stand how.

        >>> Preflight("shop/production/cart@2", (Line("data", "fail", "a"), Line("data", "warn", "b")), 0.0).answer
        'shop/production/cart@2: 1 of 1 check failed'
        """
        worst = Counter(self.status_of(check) for check in {line.check for line in self.lines})
        checks = f"{worst.total()} check{'' if worst.total() == 1 else 's'}"
        parts = [f"{worst['fail']} of {checks} failed" if worst["fail"] else f"{checks} passed"]
        if worst["warn"]:
            parts.append(f"{worst['warn']} with a warning" if worst["warn"] == 1 else f"{worst['warn']} with warnings")
        return f"{self.release}: {', '.join(parts)}"

    def status_of(self, check: str) -> Status:
        """Return how a check stands: as its worst line does."""
        found = {line.status for line in self.lines if line.check == check}
        return next(status for status in WORST_FIRST if status in found)

    def to_json(self) -> dict[str, Any]:
        """Return the preflight as `watcher preflight --format json` prints it."""
        return {
            "schema": SCHEMA,
            "release": self.release,
            "passed": not self.failed,
            "at": iso(self.at),
            "lines": [
                {"check": line.check, "status": line.status, "said": line.said, "do": line.do} for line in self.lines
            ],
        }

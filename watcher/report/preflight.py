"""What a checklist says, line by line, each with what to do: that of a release, and that of an installation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from watcher.report.json_report import iso

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


INSTALLED = {
    "configuration": "The configuration is valid",
    "secrets": "Secrets are kept secret",
    "server": "The metrics server answers, and has the same time",
    "data": "The rules have data",
    "switches": "Kill switches can be read",
    "people": "People are told",
    "ping": "Somebody notices when watcher dies",
    "journal": "The journal can be read and written",
    "daemon": "One daemon runs, and is ready",
    "acting": "Watcher may act where it should",
}
"""The checks of an installation, likewise."""


@dataclass(frozen=True)
class Line:
    """One line of the checklist: of which check, how it stands, what was found, and what to do (empty: nothing)."""

    check: str
    status: Status
    said: str
    do: str = ""


@dataclass(frozen=True)
class Checklist:
    """A checklist about something, gone through at a moment (epoch seconds)."""

    about: str
    lines: tuple[Line, ...]
    at: float
    schema: ClassVar[str]
    kind: ClassVar[str]
    """What it is about, as its JSON calls it."""
    titles: ClassVar[Mapping[str, str]]

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
        """The verdict in words, after its first word: about what, and how many checks stand how.

        >>> Preflight("shop/production/cart@2", (Line("data", "fail", "a"), Line("data", "warn", "b")), 0.0).answer
        'shop/production/cart@2: 1 of 1 check failed'
        """
        worst = Counter(self.status_of(check) for check in {line.check for line in self.lines})
        checks = f"{worst.total()} check{'' if worst.total() == 1 else 's'}"
        parts = [f"{worst['fail']} of {checks} failed" if worst["fail"] else f"{checks} passed"]
        if worst["warn"]:
            parts.append(f"{worst['warn']} with a warning" if worst["warn"] == 1 else f"{worst['warn']} with warnings")
        return f"{self.about}: {', '.join(parts)}"

    def status_of(self, check: str) -> Status:
        """Return how a check stands: as its worst line does."""
        found = {line.status for line in self.lines if line.check == check}
        return next(status for status in WORST_FIRST if status in found)

    def to_json(self) -> dict[str, Any]:
        """Return the checklist as `--format json` prints it."""
        return {
            "schema": self.schema,
            self.kind: self.about,
            "passed": not self.failed,
            "at": iso(self.at),
            "lines": [
                {"check": line.check, "status": line.status, "said": line.said, "do": line.do} for line in self.lines
            ],
        }


class Preflight(Checklist):
    """The checklist of one release."""

    schema, kind, titles = "watcher/preflight/1", "release", CHECKS

    @property
    def release(self) -> str:
        """Which release."""
        return self.about


class Checkup(Checklist):
    """The checklist of an installation, by its watcher.yaml."""

    schema, kind, titles = "watcher/doctor/1", "installation", INSTALLED

"""Whether a service may be armed: which rules a backtest was run of, and whether they are still the rules."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from watcher.config import Installation, Service
from watcher.journal import Journal
from watcher.model import Rule
from watcher.report.past import PastReleases

TELLING = ("name", "title", "help", "measured_in", "critical")
"""Fields of a rule that change nothing of what is said of a release: only how, and who may act on it."""


@dataclass(frozen=True)
class Clearance:
    """The record of a backtest: of which rules, when, over how many releases, and what it gave.

    `false_alarms` of `fine` releases raised an alarm; `interval` is that of the rate. `placebos` tells that the
    releases were times at which nothing was released.
    """

    digest: str
    at: float
    releases: int
    false_alarms: int
    fine: int
    false_alarm_rate: float | None
    interval: tuple[float, float] | None
    recall: float | None
    placebos: bool

    @classmethod
    def of(cls, digest: str, found: PastReleases, at: float) -> Clearance:
        """Return what is recorded of a backtest."""
        alarms = found.false_alarms
        return cls(
            digest,
            at,
            len(found.rows),
            alarms.hits,
            alarms.of,
            alarms.rate,
            alarms.interval,
            found.recall,
            found.placebos,
        )

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Clearance:
        """Read back what `record` wrote."""
        interval = raw["interval"]
        return cls(**{**raw, "interval": None if interval is None else (interval[0], interval[1])})


def rules_digest(installation: Installation, service: Service) -> str:
    """Return a short hash of all that decides what the rules of a service say: the rules, alpha and the block.

    Names and titles, the order of the rules and the file they stand in are not part of it.
    """
    alpha = installation.alpha
    said = {
        "rules": sorted(json.dumps(_fields(rule), sort_keys=True, default=str) for rule in service.rules),
        "alpha": [alpha.regressed, alpha.before_after, alpha.healthy],
        "block": installation.block,
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _fields(rule: Rule) -> dict[str, Any]:
    return {key: value for key, value in asdict(rule).items() if key not in TELLING}


def record(journal: Journal, service: str, clearance: Clearance) -> None:
    """Record a backtest of the rules of a service, in place of an earlier one; the audit keeps them all."""
    journal.remember(_key(service), asdict(clearance))
    journal.audit(clearance.at, None, "backtest", {"service": service, **asdict(clearance)})


def recorded(journal: Journal, service: str) -> Clearance | None:
    """Return the latest backtest of a service; None where there is none, or no record says of which rules it was."""
    raw = journal.recall(_key(service))
    try:
        return None if raw is None else Clearance.from_json(raw)
    except (KeyError, TypeError):
        return None


def refusal(installation: Installation, journal: Journal, service: Service) -> str | None:
    """Return why a service may not be armed, where `require_backtest` stands against it, and what to do; else None."""
    found = recorded(journal, service.name)
    if found is not None and found.digest == rules_digest(installation, service):
        return None
    why = "no backtest of its rules is recorded"
    if found is not None:
        why = f"the rules changed since the backtest of {dt.datetime.fromtimestamp(found.at, dt.UTC):%Y-%m-%d}"
    command = f"watcher backtest --config {installation.file} --service {service.name}"
    return (
        f"{service.name} is armed with require_backtest: true, and {why}; run `{command}`, or set mode: recommend, or "
        "require_backtest: false"
    )


def _key(service: str) -> str:
    return f"backtest/{service}"

"""What is learnt at night, so that a release without a control finds its placebos ready.

Reading four weeks and replaying hundreds of placebos takes minutes; a release is judged from its first one on. So
everything that does not depend on the last hours is learnt once a day and kept in the journal, and an exposure brings
it up to date. Where nothing is kept, or other rules are, it is learnt at exposure.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from watcher.calibration import LASTS, REMEMBERED, brought_up_to_date, digest
from watcher.config import Installation, ReleaseEntry, Service, plan
from watcher.intake import disturbed, for_everyone
from watcher.journal import Journal
from watcher.look import Source, past, prepare
from watcher.model import Calibration, Design, Observations, Release, Request, Stage, Watch

NIGHT = 3
"""Hour of the local day from which what was learnt the day before is old."""

SEASON = 1.5 * 86_400.0
"""Seconds of a past from which on there is enough to learn beforehand: a season."""

PATIENCE = 3600.0
"""Seconds until what could not be learnt is tried again."""


def learn(installation: Installation, journal: Journal, source: Source, now: float) -> str | None:
    """Learn what is due for one kind of release of one service; return which, None when nothing is due.

    One at a time, so that releases being watched do not wait for all of them. A release with a control loses it once
    everybody has it: then it is held against the same past as one that never had any, which is learnt once for both.

    Raises:
        SourceError: the history cannot be read; it is tried again in an hour.
        ConfigError: the release cannot be planned.
    """
    for service in installation.services.values():
        alike: set[str] = set()
        for number, entry in enumerate(service.releases):
            key, watch = _key(service.name, number), _imagined(installation, service, entry, now)
            if digest(watch) in alike:
                continue
            alike.add(digest(watch))
            record = journal.recall(key)
            if not _due(record, watch, now):
                continue
            # What is known stays known while something newer cannot be learnt.
            journal.remember(key, {**(record or {"at": now, "digest": ""}), "tried": now})
            watch = replace(watch, excluded=(*watch.excluded, *disturbed(journal, service, watch.release)))
            history = Past(watch, source)
            learnt = prepare(watch, history, reach=LASTS)
            if history.measured < SEASON:
                # A young service has more of a past every hour: it is learnt at exposure, which is quick.
                journal.remember(key, {"at": now, "digest": "", "tried": now})
                return None
            # Apart: when it was learnt is asked at every tick, what was learnt at an exposure.
            journal.remember(f"{key}/rules", {name: each.to_json() for name, each in learnt.items()})
            journal.remember(key, {"at": now, "digest": digest(watch), "tried": now})
            return f"{service.name}, {entry.strategy.value}"
    return None


def ready(
    installation: Installation, journal: Journal, watch: Watch, source: Source, now: float
) -> dict[str, Calibration]:
    """Return what was learnt at night, brought up to date; nothing where it does not fit the watch.

    Raises:
        SourceError: the last day cannot be read.
    """
    if watch.design is not Design.BEFORE_AFTER:
        return {}
    wanted = digest(watch)
    service = installation.services.get(watch.release.service)
    for number in range(0 if service is None else len(service.releases)):
        key = _key(watch.release.service, number)
        record = journal.recall(key)
        if record is None or record["digest"] != wanted or now - record["at"] > LASTS:
            continue
        recent = source.history(past(watch, REMEMBERED))
        learnt = {name: Calibration.from_json(each) for name, each in journal.recall(f"{key}/rules").items()}
        found = {
            rule.name: brought_up_to_date(rule, watch, learnt[rule.name], recent[rule.name]) for rule in watch.rules
        }
        fresh = {name: each for name, each in found.items() if each is not None}
        return fresh if len(fresh) == len(found) else {}
    return {}


def _key(service: str, number: int) -> str:
    return f"usual/{service}/{number}"


def _due(record: Mapping[str, Any] | None, watch: Watch, now: float) -> bool:
    if record is None:
        return True
    failed = record["tried"] != record["at"] or not record["digest"]
    if failed and now - record["tried"] < PATIENCE:
        return False
    return record["digest"] != digest(watch) or _night(now, watch.zone) > _night(record["at"], watch.zone)


def _night(at: float, zone: str) -> dt.date:
    """Return the local day, which begins with the night."""
    return (dt.datetime.fromtimestamp(at, ZoneInfo(zone)) - dt.timedelta(hours=NIGHT)).date()


def _imagined(installation: Installation, service: Service, entry: ReleaseEntry, now: float) -> Watch:
    """Return the watch of a release that nobody made, as if users were exposed now."""
    closed = float(np.floor((now - installation.settle) / installation.block) * installation.block)
    feature = entry.features[0] if entry.features else service.name
    release = Release(service.name, service.environment, feature, "-", entry.strategy, (Stage(closed),), previous="-")
    return plan(installation, service, entry if entry.baseline is None else for_everyone(entry), release)


class Past(Mapping[str, Observations]):
    """The past of a watch, read rule by rule and kept by nobody: four weeks of everything would be too much at once."""

    def __init__(self, watch: Watch, source: Source) -> None:
        self._watch, self._source = watch, source
        self.measured = 0.0
        """Seconds since the first measurement of any rule that was read."""

    def __getitem__(self, name: str) -> Observations:
        rules = tuple(rule for rule in self._watch.rules if rule.name == name)
        wanted: Request = replace(past(self._watch, self._watch.history), rules=rules)
        found = self._source.history(wanted)[name]
        busy = np.flatnonzero((found.treatment.total > 0).any(axis=(0, 1)))
        if busy.size:
            self.measured = max(self.measured, float(found.ends[-1] - found.ends[busy[0]]))
        return found

    def __iter__(self) -> Iterator[str]:
        return iter([rule.name for rule in self._watch.rules])

    def __len__(self) -> int:
        return len(self._watch.rules)

"""Noticing releases: what says who gets a feature is read at every tick, and its changes become watches.

A flags file, a kill switch that can be read, or a version label in the metrics is asked what users have now; what it
said last is in the journal. What it means is decided by `releases` (pure) and recorded by `intake`.
"""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import numpy as np

from watcher import deployments, intake, telling
from watcher.config import Installation, ReleaseEntry, Service, switch_key
from watcher.errors import ConfigError, Refused, SourceError, SwitchError, WatcherError
from watcher.journal import Journal, Watched
from watcher.look import Source
from watcher.model import Exposure, Stage, SwitchState
from watcher.observer import SILENCE, Observer
from watcher.releases import flags_file, shares, version_label
from watcher.sources.prometheus import PrometheusSource

log = logging.getLogger("watcher")

LET_BE = 60.0
"""Seconds for which a switch that did not answer is not asked again: it must not hold up every tick."""


class Readable(Protocol):
    """A kill switch, as far as noticing needs it."""

    def read(self, feature: str) -> SwitchState:
        """Return whether users get the feature, and how many. Raises SwitchError."""
        ...


@dataclass(frozen=True)
class Noticing:
    """Notices what an installation's services release; `switches` finds the switch that a key names."""

    installation: Installation
    journal: Journal
    source: Source
    switches: Callable[[str], Readable]
    silent: dict[str, float] = field(default_factory=dict)
    """When each switch that did not answer may be asked again."""
    answered: dict[tuple[str, str], float] = field(default_factory=dict)
    """When each feature was last read, by switch or file, and feature."""
    observer: Observer = SILENCE

    def notice(self, now: float) -> None:
        """Start watches, add stages and end watches for what changed since the last tick."""
        for service in self.installation.services.values():
            for entry in service.releases:
                try:
                    told, memory = self._exposures(service, entry, now)
                    for exposure in told:
                        self._take(service, entry, exposure, _way(entry))
                    # Last: a process that dies before this notices the release again; after it, never.
                    for key, seen in memory.items():
                        self.journal.remember(key, seen)
                except WatcherError as error:
                    log.warning(
                        "cannot notice releases of %s: %s", service.name, error, extra={"service": service.name}
                    )
                    if isinstance(error, SourceError):
                        self.observer.source_failed(service.name)

    def follow(self, now: float) -> None:
        """Read the switches of releases noticed otherwise: their stages, and their ends by other hands."""
        for watched in self.journal.watches(active=True):
            try:
                self._follow(watched, now)
            except WatcherError as error:
                release = watched.watch.release
                about = {"service": release.service, "release": release.id}
                log.warning("cannot follow %s: %s", release.id, error, extra=about)

    def read(self, key: str, feature: str, now: float) -> SwitchState | None:
        """Read a switch; None where it does not answer, or did not a moment ago."""
        if now < self.silent.get(key, 0.0) <= now + LET_BE:
            return None
        try:
            return self.switches(key).read(feature)
        except (SwitchError, ConfigError) as error:
            self.silent[key] = now + LET_BE
            kind = key.partition(":")[0]
            log.warning("cannot read the switch of %s: %s", feature, error, extra={"switch": kind})
            self.observer.switch_unread(kind)
            return None

    def _take(self, service: Service, entry: ReleaseEntry, exposure: Exposure, by: str) -> None:
        about = {"service": service.name}
        try:
            noticed = intake.take(self.installation, self.journal, service, entry, exposure, by)
        except (ConfigError, Refused) as error:
            log.warning("cannot watch %s of %s: %s", exposure.feature, service.name, error, extra=about)
            if not (exposure.off or exposure.fewer):
                self._tell_of_unwatched(service, entry, exposure, error)
        else:
            about |= {"release": noticed.release} if noticed.release else {}
            log.info("noticed by %s: %s %s", by, noticed.release or exposure.feature, _what(exposure), extra=about)

    def _tell_of_unwatched(self, service: Service, entry: ReleaseEntry, exposure: Exposure, error: Exception) -> None:
        name = f"{exposure.feature} {exposure.version} on {service.name}/{service.environment}"
        told = ["watcher", "release", "start", service.name, exposure.feature, "--version", "VERSION"]
        told += ["--previous", "VERSION", "--strategy", entry.strategy.value]
        alert = telling.unwatched(name, str(error).rstrip("."), shlex.join(told), exposure.at)
        self.journal.intend([alert], exposure.at)

    def _exposures(self, service: Service, entry: ReleaseEntry, now: float) -> tuple[list[Exposure], dict[str, Any]]:
        """Return what became exposed since the last tick, and what to remember of it."""
        notice = entry.notice
        if notice.flags_file is not None:
            key = f"flags/{service.name}/{notice.flags_file}/{','.join(entry.features)}"
            flags = flags_file.read_flags(str(notice.flags_file))
            return self._changes(key, {name: flags.get(name, shares.NOBODY) for name in entry.features}, now)
        if notice.label is not None and isinstance(self.source, PrometheusSource):
            return self._versions(service, entry, self.source, notice.label, now)
        features = entry.features if notice.switch else deployments.waiting_for(self.journal, service)
        if entry.kill is None or not features:
            return [], {}
        key = f"switch/{service.name}/{entry.strategy.value}/{','.join(features)}"
        return self._changes(key, self._states(entry, features, now), now)

    def _changes(
        self, key: str, states: Mapping[str, SwitchState], now: float
    ) -> tuple[list[Exposure], dict[str, Any]]:
        """Return what changed; of what could not be read, what was read last still holds."""
        known = self.journal.recall(key)
        before = {} if known is None else shares.from_json(known)
        # What was never read is adopted.
        told = shares.exposures(before, states, now, [feature for feature in states if feature in before])
        told = [replace(each, since=self.answered.get((key, each.feature))) for each in told]
        self.answered.update({(key, feature): now for feature in states})
        seen = shares.to_json({**before, **states})
        return told, {} if seen == known else {key: seen}

    def _states(self, entry: ReleaseEntry, features: Collection[str], now: float) -> dict[str, SwitchState]:
        found = {}
        for feature in features:
            key = switch_key(entry, partial(_named, feature))
            state = None if key is None else self.read(key, feature, now)
            if state is not None:
                found[feature] = state
        return found

    def _versions(
        self, service: Service, entry: ReleaseEntry, source: PrometheusSource, label: str, now: float
    ) -> tuple[list[Exposure], dict[str, Any]]:
        block = self.installation.block
        counters = [rule.total for rule in service.rules if rule.total is not None]
        if not counters:
            raise ConfigError(f"{service.name}: noticing by label needs a rule that counts a total", key="notice.label")
        closed = float(np.floor((now - self.installation.settle) / block) * block)
        key = f"versions/{service.name}/{label}/{','.join(entry.features)}"
        seen = self.journal.recall(key) or {"closed": 0.0, "known": None}
        if closed <= seen["closed"]:
            return [], {}
        traffic = source.labels_with_traffic(counters[0].where(service.select), label, closed, block)
        feature = entry.features[0] if entry.features else service.name
        # Users met the version inside this block; all of it is exposure, and the next is the first to count.
        found, known = version_label.exposures(seen["known"], traffic, closed, feature)
        return found, {key: {"closed": closed, "known": known}}

    def _follow(self, watched: Watched, now: float) -> None:
        watch, release = watched.watch, watched.watch.release
        service = self.installation.services.get(release.service)
        if watch.switch is None or service is None:
            return
        entry = intake.entry_for(service, release.strategy.value)
        last = self.journal.last_look(release.id, states=False)
        if entry.notice.flags_file or entry.notice.switch or (last is not None and last.killed_at is not None):
            return
        state = self.read(watch.switch, release.feature, now)
        if state is None:
            return
        key = f"followed/{release.id}"
        was_on, share = self.journal.recall(key), shares.share_of(state)
        since, self.answered[key, release.feature] = self.answered.get((key, release.feature)), now
        if was_on != state.on:
            self.journal.remember(key, state.on)
        if not state.on:
            off = Exposure(release.feature, "", now, share=0.0, off=True)
            if was_on:
                self._take(service, entry, off, "switch")
            return
        if state.share is None or release.share == share:
            return
        if release.share is None:
            self._shared(watched, share)
            return
        more = share > release.share
        moved = Exposure(release.feature, release.version, now, share, more=more, fewer=not more, since=since)
        self._take(service, entry, moved, "switch")

    def _shared(self, watched: Watched, share: float) -> None:
        """Note the share of the present stage, which nobody had said when it began."""
        watch, stages = watched.watch, watched.watch.release.stages
        known = (*stages[:-1], Stage(stages[-1].at, share))
        self.journal.set_watch(replace(watch, release=replace(watch.release, stages=known)))


def _named(feature: str, written: str, _: str) -> str:
    return feature if written == "{feature}" else written


def _what(exposure: Exposure) -> str:
    """Return what happened to users, for the log."""
    if exposure.off:
        return "is over"
    share = "" if exposure.share is None else f" for {100 * exposure.share:.3g} % of the users"
    return f"{'has another share' if exposure.more or exposure.fewer else 'begins'}{share}"


def _way(entry: ReleaseEntry) -> str:
    """Return how an entry's releases are noticed, for people."""
    if entry.notice.flags_file:
        return "flags file"
    return f"label {entry.notice.label}" if entry.notice.label else "switch"

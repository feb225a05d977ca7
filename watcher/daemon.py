"""The daemon: notices releases, looks at each, records, then acts. One step is one tick."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from watcher import clearance, intake, nightly
from watcher.act import Outbox
from watcher.attribution import Suspect, suspect
from watcher.config import Installation, ReleaseEntry, Service
from watcher.errors import ConfigError, Refused, SourceError, SourceRefused, WatcherError
from watcher.journal import Journal, Watched
from watcher.look import Source, look, prepare, read_history
from watcher.model import Calibration, Design, Exposure, Kill, Kind, Look, Mode, Observations, Request, Watch
from watcher.policy import is_by_hand, is_kill, kill_failed
from watcher.releases import flags_file, version_label
from watcher.sources.prometheus import PrometheusSource

log = logging.getLogger("watcher")

FINAL = ("recovered", "unrecovered", "ended")
"""Phases after which a watch is over."""

DAY = 86_400.0

HOUR = 3600.0

CHECKED = 600.0
"""Seconds before the start in which rules are checked against what is measured."""

LONGEST_TICK = 15.0
"""Seconds between ticks, at most: how long a flag may be on before it is noticed."""


@dataclass(frozen=True)
class Daemon:
    """Everything one installation needs to be watched; `step` does the work, `run` calls it on time."""

    installation: Installation
    journal: Journal
    source: Source
    outbox: Outbox
    on_look: Callable[[Watch, Look], None] | None = None
    frozen: dict[str, Mapping[str, Calibration]] = field(default_factory=dict)
    """What was learnt for the releases being watched, as the journal has it: read once."""

    def __post_init__(self) -> None:
        """Refuse to start armed where that is not allowed, and free what a dead process left claimed.

        Raises:
            Refused: armed with `require_backtest: true`, and no backtest of the present rules is recorded.
        """
        for service in self.installation.services.values():
            if service.mode is Mode.ARMED and service.require_backtest:
                why = clearance.refusal(self.installation, self.journal, service)
                if why is not None:
                    raise Refused(why)
        self.journal.release_claims()

    def start(self, now: float) -> None:
        """Refuse rules that nothing can decide; catch up with kills given up that nobody was told of yet.

        Raises:
            Refused: a latency whose objective is no edge of its buckets, for example.
        """
        for service in self.installation.services.values():
            self._refuse_undecidable(service, now)
        self._report(None, now)

    def _refuse_undecidable(self, service: Service, now: float) -> None:
        """Read the service's latencies once: better told now than in the middle of the first release."""
        rules = tuple(rule for rule in service.rules if rule.kind is Kind.LATENCY)
        if not rules or not isinstance(self.source, PrometheusSource):
            return
        block = self.installation.block
        closed = float(np.floor((now - self.installation.settle) / block) * block)
        try:
            start = closed - block * np.ceil(CHECKED / block)
            self.source.observe(Request(rules, float(start), closed, block, service.select))
        except SourceRefused as error:
            raise Refused(f"{service.name}: {error}") from error
        except SourceError as error:
            log.warning("cannot check the rules of %s: %s", service.name, error)

    def step(self, now: float) -> None:
        """Notice, look, record, act. A failure in one watch does not stop the others."""
        self.notice(now)
        for watched in self.journal.watches(active=True):
            try:
                self.look(watched, now)
            except Exception:
                # One of the two places for it: a watch that cannot be looked at must not silence the rest.
                log.exception("look failed: %s", watched.watch.release.id)
        self.act(now)
        self.retain(now)
        self.learn(now)

    def notice(self, now: float) -> None:
        """Start watches, add stages and end watches for what changed since the last tick."""
        for service in self.installation.services.values():
            for entry in service.releases:
                try:
                    found, memory = self._exposures(service, entry, now)
                    for exposure in found:
                        self._take(service, entry, exposure)
                    # Last: a process that dies before this notices the release again; after it, never.
                    for key, seen in memory.items():
                        self.journal.remember(key, seen)
                except WatcherError as error:
                    log.warning("cannot notice releases of %s: %s", service.name, error)

    def _take(self, service: Service, entry: ReleaseEntry, exposure: Exposure) -> None:
        by = "flags file" if entry.notice.flags_file else f"label {entry.notice.label}"
        try:
            release = intake.take(self.installation, self.journal, service, entry, exposure, by)
        except (ConfigError, Refused) as error:
            log.warning("cannot watch %s of %s: %s", exposure.feature, service.name, error)
        else:
            log.info("noticed by %s: %s", by, release or exposure.feature)

    def _exposures(self, service: Service, entry: ReleaseEntry, now: float) -> tuple[list[Exposure], dict[str, Any]]:
        """Return what became exposed since the last tick, and what to remember of it."""
        if entry.notice.flags_file is not None:
            key = f"flags/{service.name}/{entry.notice.flags_file}/{','.join(entry.features)}"
            known = self.journal.recall(key)
            flags = flags_file.read_flags(str(entry.notice.flags_file))
            before = None if known is None else flags_file.from_json(known)
            found = flags_file.exposures(before, flags, now, entry.features)
            seen = flags_file.to_json(flags)
            return found, {} if seen == known else {key: seen}
        if entry.notice.label is not None and isinstance(self.source, PrometheusSource):
            return self._versions(service, entry, self.source, entry.notice.label, now)
        return [], {}

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

    def look(self, watched: Watched, now: float) -> Look:
        """Look once at one release and record it, intents included, in one transaction."""
        watch = watched.watch
        previous = self.journal.last_look(watch.release.id)
        calibrations = self.frozen.get(watch.release.id) or self.journal.calibrations(watch.release.id)
        source = self.source
        if not calibrations:
            try:
                calibrations = nightly.ready(self.installation, self.journal, watch, source, now)
                calibrations = calibrations or prepare(watch, read_history(watch, source))
                calibrations = self.journal.record_calibrations(watch.release.id, calibrations, now)
            except SourceError as error:
                source = Unreadable(error)
        if calibrations:
            self.frozen[watch.release.id] = calibrations
        seen = look(watch, source, calibrations, previous, now, self.paused(now), partial(self.beside, watch))
        self.journal.record_look(seen)
        if seen.phase in FINAL:
            self.frozen.pop(watch.release.id, None)
            self.journal.end_release(watch.release.id, seen.phase, seen.verdict.reason, now)
        if self.on_look is not None:
            self.on_look(watch, seen)
        return seen

    def beside(self, watch: Watch) -> list[Suspect]:
        """Return the other releases of the service that are being watched, as their last looks left them."""
        own, found = watch.release, []
        for other in self.journal.watches(active=True):
            there = other.watch.release
            if (there.service, there.environment) != (own.service, own.environment) or there.id == own.id:
                continue
            last = self.journal.last_look(there.id)
            if last is None:
                found.append(Suspect(there.id, there.exposed_at, concurrent=other.watch.design is Design.CONCURRENT))
            else:
                found.append(suspect(other.watch, last.verdict, self.journal.calibrations(there.id), last.states))
        return found

    def paused(self, now: float) -> str | None:
        """Return why kills are paused, if they are."""
        pause = self.journal.recall("pause")
        return None if pause is None or pause["until"] <= now else str(pause["reason"])

    def act(self, now: float) -> None:
        """Carry out what is due, while paused no kill but those that people decided; say so when one is given up."""
        if self.paused(now):
            done = [*self.outbox.turn_off(now, is_by_hand), *self.outbox.tell(now)]
        else:
            done = self.outbox.perform(now)
        killed = {key for key, _ in done if is_kill(key)}
        if killed:
            self._report(killed, now)

    def retain(self, now: float) -> None:
        """Once a day, let go of looks and observations past their retention; actions and audit stay."""
        if now - (self.journal.recall("pruned") or 0.0) >= DAY:
            self.journal.prune(now)
            self.journal.remember("pruned", now)

    def learn(self, now: float) -> None:
        """Learn at night what releases to come are held against; not while one has just begun."""
        recent = [each for each in self.journal.watches(active=True) if now - each.watch.release.exposed_at < HOUR]
        if recent:
            return
        try:
            learnt = nightly.learn(self.installation, self.journal, self.source, now)
        except WatcherError as error:
            log.warning("cannot learn what is usual: %s", error)
        else:
            if learnt is not None:
                log.info("learnt what is usual of %s", learnt)

    def _report(self, keys: set[str] | None, now: float) -> None:
        """Log what became of kills (None: all there ever were), and tell people of those given up; twice is once."""
        watches = {each.watch.release.id: each.watch for each in self.journal.watches()}
        for entry in self.journal.actions():
            if not isinstance(entry.action, Kill) or (keys is not None and entry.key not in keys):
                continue
            if keys is not None:
                log.warning(
                    "kill of %s: %s%s", entry.action.feature, entry.state, f" ({entry.error})" * bool(entry.error)
                )
            if entry.state == "failed":
                watch, at = watches.get(entry.release), entry.finished_at or now
                self.journal.intend(kill_failed(entry.action, watch, entry.error or "", at), at)
                self.outbox.tell(now)

    def run(self, clock: Callable[[], float]) -> None:
        """Tick until SIGTERM or SIGINT, the first time at once."""
        from apscheduler.schedulers.blocking import BlockingScheduler

        scheduler: Any = BlockingScheduler(timezone="UTC")

        def tick() -> None:
            try:
                self.step(clock())
            except WatcherError as error:
                log.error("step failed: %s", error)

        def stop(*_: object) -> None:
            if not scheduler.running:
                raise SystemExit(0)  # in the first tick: what is not recorded yet has not happened
            scheduler.shutdown(wait=False)

        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, stop)
        every = min(self.installation.block, LONGEST_TICK)
        self.start(clock())
        tick()
        # A late tick does the work of those it missed: blocks wait in the source.
        scheduler.add_job(tick, "interval", seconds=every, max_instances=1, coalesce=True, misfire_grace_time=None)
        log.info("watching %s, every %g s", ", ".join(self.installation.services), every)
        scheduler.start()


@dataclass(frozen=True)
class Unreadable:
    """A source that could not be read a moment ago, so that the look says so too."""

    error: SourceError

    def observe(self, request: Request) -> dict[str, Observations]:
        """Raise what reading raised."""
        raise self.error

    history = observe

"""The daemon: notices releases, looks at each, records, then acts, and tells.

What it does falls in three, which `running` does beside each other, so that no kill waits for a message that hangs, nor
for weeks of history to be read: `advance`, `tell` and `errands`. They meet in the journal alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from watcher import afterwards, clearance, intake, interlocks, nightly, preflight, surroundings, telling
from watcher.act import Outbox
from watcher.config import Installation, Service
from watcher.errors import JournalError, Refused, SourceError, SourceRefused, WatcherError
from watcher.illustrating import illustrate
from watcher.journal import Hold, Journal, Sole, Watched
from watcher.look import Source, closed, look, prepare, read_history
from watcher.model import Calibration, Kill, Kind, Look, Mode, Observations, Promote, Request, Watch
from watcher.noticing import Noticing
from watcher.observer import SILENCE, Observer
from watcher.sources.prometheus import PrometheusSource
from watcher.switches import Switch, switch

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
    """Everything one installation needs to be watched."""

    installation: Installation
    journal: Journal
    source: Source
    outbox: Outbox
    on_look: Callable[[Watch, Look], None] | None = None
    switches: Callable[[str], Switch] = switch
    frozen: dict[str, Mapping[str, Calibration]] = field(default_factory=dict)
    """What was learnt for the releases being watched, as the journal has it: read once."""
    foreseen: dict[str, Look] = field(default_factory=dict)
    """What looks of this step that are still to come would find, where another one asked."""
    observer: Observer = SILENCE
    hold: Hold = field(default_factory=Sole)

    @cached_property
    def noticing(self) -> Noticing:
        """What notices releases."""
        return Noticing(self.installation, self.journal, self.source, self.switches, observer=self.observer)

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
        """Do what a process that died had decided; refuse rules that nothing can decide; tell what became of kills.

        Raises:
            Refused: a latency whose objective is no edge of its buckets, for example.
        """
        interlocks.fit_latch(self.journal, now)
        self.act(now, _is_kill)
        for service in self.installation.services.values():
            self._refuse_undecidable(service, now)
        afterwards.catch_up(self.journal, now)

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
            log.warning("cannot check the rules of %s: %s", service.name, error, extra={"service": service.name})

    def step(self, now: float) -> None:
        """Do all there is to do, one after another: for who has a clock of their own; raises as `advance`."""
        self.advance(now)
        self.errands(now)
        self.tell(now)

    def advance(self, now: float) -> None:
        """Notice, look, record, act. A failure in one watch does not stop the others.

        Raises:
            WatcherError: a part of it came to nothing. What could not be recorded is not done: people are told that
                much directly, and the next step makes up for it.
        """
        try:
            self._advance(now)
        except JournalError as error:
            self.outbox.say(telling.not_recording(str(error), now), now)
            raise

    def _advance(self, now: float) -> None:
        self.act(now, _is_kill)  # what is due again waits for no server that is slow to be read
        self.notice(now)
        afterwards.turned_on_again(self.journal, self.noticing.read, now)
        watches, failed, unrecorded = self.journal.watches(active=True), 0, None
        self.observer.watching([watched.watch for watched in watches])
        self.foreseen.clear()
        for watched in watches:
            try:
                self.look(watched, now)
            except Exception as error:
                # One of the two places for it: a watch that cannot be looked at must not silence the rest.
                release = watched.watch.release
                log.exception("look failed: %s", release.id, extra={"service": release.service, "release": release.id})
                self.observer.look_failed(watched.watch)
                failed += 1
                unrecorded = error if isinstance(error, JournalError) else unrecorded
        interlocks.tell_of_latch(self.journal, now)
        self.act(now)
        if unrecorded is not None:
            raise unrecorded
        self.observer.stepped(whole=not failed)

    def tell(self, now: float) -> None:
        """Deliver what there is to tell; nor does what a person asked to be turned off wait for the next step."""
        self.act(now, lambda action: isinstance(action, Kill) and action.by_hand)
        self.outbox.tell(now)

    def errands(self, now: float) -> None:
        """Do what has time: it may ask servers that are slow, and no look waits for it."""
        illustrate(self.journal, self.outbox.alerters, now)
        self.check(now)
        self.retain(now)
        self.learn(now)

    def notice(self, now: float) -> None:
        """Start watches, add stages and end watches for what changed since the last tick."""
        self.noticing.notice(now)
        self.noticing.follow(now)

    def look(self, watched: Watched, now: float) -> Look:
        """Look once at one release and record it, intents included, in one transaction."""
        # How far watcher may go is what watcher.yaml says now, not what it said when the release was noticed.
        watch = replace(watched.watch, mode=self.installation.mode_of(watched.watch.release))
        began = time.monotonic()
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
        paused = interlocks.held_back(self.journal, self.installation.file, now)
        allowed = self.installation.allows(watch)
        standing = interlocks.standing(self.journal, watch, now, allowed=allowed, paused=paused)
        if previous is not None and previous.phase == "killed" and standing.turned_off is False:
            standing = replace(standing, turned_off=self._is_off(watch, now))
        beside = partial(surroundings.beside, self.journal, watch, partial(self._ahead, now=now))
        elsewhere = partial(surroundings.elsewhere, self.installation, source, watch)
        seen = look(watch, source, calibrations, previous, now, beside, standing, elsewhere)
        self.journal.record_look(seen)
        if seen.phase in FINAL:
            self.frozen.pop(watch.release.id, None)
            self.journal.end_release(watch.release.id, seen.phase, seen.verdict.reason, now)
        self.observer.looked(watch, seen, previous, time.monotonic() - began)
        if self.on_look is not None:
            self.on_look(watch, seen)
        return seen

    def _is_off(self, watch: Watch, now: float) -> bool:
        """Tell whether somebody else turned off what could not be: people must not be told that it is still on."""
        state = None if watch.switch is None else self.noticing.read(watch.switch, watch.release.feature, now)
        return state is not None and not state.on

    def _ahead(self, watch: Watch, now: float) -> Look | None:
        """Return what a look at a release finds now, whether or not its turn has come; nothing is recorded."""
        release, last = watch.release.id, self.journal.last_look(watch.release.id)
        calibrations = self.frozen.get(release) or self.journal.calibrations(release)
        if last is None or not calibrations or last.through >= closed(watch, now):
            return last
        if release not in self.foreseen:
            try:
                self.foreseen[release] = look(watch, self.source, calibrations, last, now)
            except Exception:
                # Its own turn says what is wrong with it: here it must not silence who asks.
                log.exception("cannot look ahead: %s", release, extra={"release": release})
                self.foreseen[release] = last
        return self.foreseen[release]

    def act(self, now: float, which: Callable[[Kill | Promote], bool] = lambda _: True) -> None:
        """Carry out what is due and still wanted; say so when something had to be given up."""
        done = self.outbox.turn_off(now, lambda action: which(action) and self._wanted(now, action))
        tried = {key for key, _ in done}
        if tried:
            entries = [each for each in self.journal.switched() if each.key in tried]
            afterwards.report(self.journal, entries, now)
            # What was raised is another stage from now on, not from when the switch is read next.
            raised = [each.finished_at or now for each in entries if (each.kind, each.state) == ("promote", "done")]
            if raised:
                self.notice(max(raised) + 1.0)

    def _wanted(self, now: float, action: Kill | Promote) -> bool:
        """Tell whether nobody has ordered otherwise since something was decided.

        Asked before each, not once: a pause holds from the moment it was ordered, however slow a switch is.
        """
        if not self.hold.held():
            return False
        if isinstance(action, Kill) and action.by_hand:
            return True
        found = [each.watch for each in self.journal.watches() if each.watch.release.id == action.release]
        armed = [
            self.installation.mode_of(each.release) is Mode.ARMED and self.installation.allows(each) for each in found
        ]
        # A kill that closed the latch is still to be done; what gives more users the release is not.
        latched = isinstance(action, Promote) and bool(interlocks.latched(self.journal))
        paused = interlocks.held_back(self.journal, self.installation.file, now)
        return any(armed) and not latched and paused is None

    def check(self, now: float) -> None:
        """Go through the checklist of every release that has just begun, and tell what is missing; once each."""
        for watched in self.journal.watches(active=True):
            watch, key = watched.watch, f"preflight/{watched.watch.release.id}"
            service = self.installation.services.get(watch.release.service)
            # What everybody has by now was checked when it began.
            if service is None or watch.release.everyone or self.journal.recall(key) is not None:
                continue
            if self.journal.last_look(watch.release.id) is None:
                continue
            self.journal.remember(key, now)
            try:
                self._check(service, watch, now)
            except WatcherError as error:
                log.warning("cannot check %s: %s", watch.release.id, error, extra={"release": watch.release.id})

    def _check(self, service: Service, watch: Watch, now: float) -> None:
        found = preflight.run(
            self.installation,
            service,
            intake.entry_for(service, watch.release.strategy.value),
            watch.release,
            source=self.source,
            switches=self.switches,
            alerters=self.outbox.alerters,
            journal=self.journal,
            now=now,
        )
        self.journal.remember(f"preflight/{watch.release.id}", found.to_json())
        told = preflight.alert(watch, found, now)
        if told is not None:
            self.journal.intend([told], now)

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


def _is_kill(action: Kill | Promote) -> bool:
    return isinstance(action, Kill)


def tick_of(installation: Installation) -> float:
    """Return the seconds between two steps."""
    return min(installation.block, LONGEST_TICK)


@dataclass(frozen=True)
class Unreadable:
    """A source that could not be read a moment ago, so that the look says so too."""

    error: SourceError

    def observe(self, request: Request) -> dict[str, Observations]:
        """Raise what reading raised."""
        raise self.error

    history = observe

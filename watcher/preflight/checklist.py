"""The checklist from top to bottom: reads once, then asks every check."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from watcher import clearance, nightly
from watcher.act import Alerter
from watcher.config import Installation, ReleaseEntry, Service, filled_split, plan
from watcher.errors import SourceError
from watcher.intake import disturbed, for_everyone
from watcher.journal import Journal
from watcher.look import Source
from watcher.model import Calibration, Mode, Release, Stage, Strategy, Watch
from watcher.preflight.data import data
from watcher.preflight.effect import effect
from watcher.preflight.exposure import exposure
from watcher.preflight.measured import measure
from watcher.preflight.metrics import metrics
from watcher.preflight.people import people
from watcher.preflight.rollback import disable, rollback
from watcher.preflight.stream import stream
from watcher.preflight.turning import configured_share, read_switch
from watcher.report.preflight import Line, Preflight
from watcher.switches import Switch


def run(
    installation: Installation,
    service: Service,
    entry: ReleaseEntry,
    release: Release,
    *,
    source: Source,
    switches: Callable[[str], Switch],
    alerters: Mapping[str, Alerter],
    journal: Journal,
    now: float,
) -> Preflight:
    """Go through the checklist of a release, which the journal may know already or not. Changes nothing.

    What cannot be checked (a server is down, a token is wrong) is a line that failed.

    Args:
        installation, service, entry: how the release is watched.
        release: its last stage says what share of the users get it, where that is known.
        source: where metrics are read.
        switches: makes the kill switch of a key.
        alerters: everybody who is told, by name.
        journal: which backtests were run, what was learnt already, and what else was released.
        now: epoch seconds.

    Raises:
        ConfigError: the configuration is wrong, or needs something that the release does not have.
        JournalError: the journal cannot be read.
    """
    known = next((each.watch for each in journal.watches() if each.watch.release.id == release.id), None)
    at_once = entry.baseline is not None and known is not None and known.baseline is None
    entry = for_everyone(entry) if release.everyone or at_once else entry
    watch = _watch(installation, service, entry, release, journal)
    learnt = _learnt(installation, journal, watch, known, source, now)
    turning = read_switch(watch, switches)
    share = configured_share(watch, turning)
    if share is None and release.strategy is Strategy.BLUE_GREEN:
        share = 1.0
    seen = measure(_sharing(watch, share), source, learnt, now)

    def lines() -> Iterator[Line]:
        yield from rollback(
            watch, turning, entry.key, *_clearance(installation, service, journal), installation.allows(watch)
        )
        yield from disable(watch, turning, bool(seen.treated[-1:].any()))
        yield from exposure(_sharing(watch, share), entry, turning, share, seen, known is not None)
        yield from metrics(watch.rules)
        yield from data(watch, seen)
        yield from stream(watch, seen)
        yield from effect(watch, share, seen)
        yield from people(installation, service, alerters)

    return Preflight(release.id, tuple(lines()), now)


def _watch(
    installation: Installation, service: Service, entry: ReleaseEntry, release: Release, journal: Journal
) -> Watch:
    """Return the watch there would be; what is wrong with its split is a line of the checklist, not of the log."""
    watch = plan(installation, service, replace(entry, split=None), release, disturbed(journal, service, release))
    return replace(watch, split=filled_split(installation, entry, release))


def _sharing(watch: Watch, share: float | None) -> Watch:
    """Return the watch with the configured share, whoever says it: that is what the split is held against."""
    if watch.split is None or share is None or not 0.0 < share < 1.0:
        return watch
    *earlier, last = watch.release.stages
    stages: tuple[Stage, ...] = (*earlier, replace(last, share=share))
    return replace(watch, release=replace(watch.release, stages=stages))


def _learnt(
    installation: Installation, journal: Journal, watch: Watch, known: Watch | None, source: Source, now: float
) -> Mapping[str, Calibration]:
    """Return what is learnt already: at exposure, or in the night before; nothing where it has to be learnt now.

    What was learnt at exposure is that of the rules of then (`known`: the watch as it began).
    """
    found = journal.calibrations(watch.release.id) if known is not None and known.rules == watch.rules else {}
    if found:
        return found
    try:
        return nightly.ready(installation, journal, watch, source, now)
    except SourceError:
        return {}


def _clearance(installation: Installation, service: Service, journal: Journal) -> tuple[str | None, str]:
    """Return why a service may not be armed as it is, and the backtest to be run before it is armed."""
    if not service.require_backtest:
        return None, ""
    refusal = clearance.refusal(installation, journal, service)
    command = f"watcher backtest --config {installation.file} --service {service.name}"
    return (refusal if service.mode is Mode.ARMED else None), command if refusal is not None else ""

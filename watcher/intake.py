"""From "users became exposed" to a watch in the journal: starts, stages, ends, and newer releases superseding older.

What is told of these is intended here, too: a watch that ends says how, and one that begins says beside what.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from watcher import deployments, telling
from watcher.config import LONG_PAST, Installation, ReleaseEntry, Service, plan
from watcher.errors import Refused
from watcher.journal import Journal, Watched
from watcher.model import SAME_SHARE, UNSETTLED, Deployment, Exposure, Release, Stage

SAME = 900.0
"""Seconds within which two ways of noticing, one of which names no version, speak of one release."""

EVERYBODY = 1 - SAME_SHARE
"""Share of the users from which on nobody is left to be a control."""


@dataclass(frozen=True)
class Noticed:
    """What became of something noticed: the release it is about (None: nothing is watched), and whether it is new."""

    release: str | None
    new: bool = False


def told(
    installation: Installation, journal: Journal, service: Service, exposure: Exposure, strategy: str | None, by: str
) -> Noticed:
    """Act on what a person or another system says of a release; a share of 0 is a deployment, which waits.

    Args:
        strategy: how users became exposed; needed where the service has several ways.
        by: who told, for the record.

    Raises:
        Refused: the service has no such strategy, or several and none was named.
        ConfigError: the release lacks what its configuration needs ({previous}).
    """
    if exposure.share == 0.0:
        if strategy is not None:
            entry_for(service, strategy)
        waiting = Deployment(exposure.feature, exposure.version, exposure.at, exposure.previous, exposure.reversible)
        return Noticed(None, deployments.noted(journal, service, waiting, by))
    entry = entry_for(service, strategy)
    for each in journal.watches(active=True):
        release, share = each.watch.release, each.watch.release.share
        same = _same_feature(each, service, exposure) and release.is_called(exposure.version) and not release.everyone
        if same and share is not None and exposure.share not in (None, share):
            more = (exposure.share or 0.0) > share
            exposure = replace(exposure, more=more, fewer=not more)
    return take(installation, journal, service, entry, exposure, by)


def take(
    installation: Installation, journal: Journal, service: Service, entry: ReleaseEntry, exposure: Exposure, by: str
) -> Noticed:
    """Act on an exposure.

    A new version or flag revision starts a watch and supersedes the older watch of that feature; a new share is a
    stage of the running one, or starts one where none runs any more; the end of exposure, and traffic that went back
    to the previous version, end it, unless watcher itself turned it off and still looks at what follows.

    Args:
        by: who noticed, for the record.

    Raises:
        ConfigError: the release lacks what its configuration needs ({previous}).
    """
    running = [each for each in journal.watches(active=True) if _same_feature(each, service, exposure)]
    if exposure.off or any(exposure.serving and exposure.serving == x.watch.release.previous for x in running):
        return _ended(journal, running, exposure, by)
    if (exposure.more or exposure.fewer) and running:
        return _new_stage(installation, journal, service, entry, running[-1], exposure, by)
    if exposure.fewer:
        return Noticed(None)
    again = _noticed_before(journal, service, entry, exposure, by)
    if again is not None:
        return again
    for each in running:
        if each.watch.release.named and not exposure.named and each.noticed_by != by and not each.watch.release.also:
            # It was told before it was opened: users get it now.
            _join(journal, each, replace(exposure, share=None), by)
            joined = replace(each, watch=journal.watch(each.watch.release.id))
            return _new_stage(installation, journal, service, entry, joined, exposure, by, first=True)
    return _start(installation, journal, service, entry, exposure, by, running)


def _start(
    installation: Installation,
    journal: Journal,
    service: Service,
    entry: ReleaseEntry,
    exposure: Exposure,
    by: str,
    running: Sequence[Watched],
) -> Noticed:
    exposure = deployments.fitted(journal, service, exposure)
    release = Release(
        service=service.name,
        environment=service.environment,
        feature=exposure.feature,
        version=exposure.version,
        strategy=entry.strategy,
        stages=(Stage(exposure.at, exposure.share),),
        previous=exposure.previous,
        reversible=exposure.reversible,
        named=exposure.named,
    )
    if entry.baseline is not None and exposure.share is not None and exposure.share >= EVERYBODY:
        # Opened for all at once: who has it not is nobody, from the first moment on.
        entry = for_everyone(entry)
    release = replace(release, earlier=_earlier(journal, release))
    watch = plan(installation, service, entry, release, disturbed(journal, service, release))
    if not journal.add_release(watch, exposure.at, by):
        return Noticed(release.id)
    deployments.exposed(journal, service, exposure)
    beside = [x.watch for x in journal.watches(active=True) if x.watch.release.id != release.id]
    beside = [x for x in beside if (x.release.service, x.release.environment) == (service.name, service.environment)]
    older = [each.watch for each in running]
    others = [each for each in beside if each not in older]
    journal.intend(telling.started(watch, older, others, exposure.at), exposure.at)
    for other in others:
        journal.intend(telling.joined(other, watch, exposure.at), exposure.at)
    for each in running:
        _close(journal, each, "superseded", f"superseded by {release.id}", exposure.at)
    return Noticed(release.id, new=True)


def _earlier(journal: Journal, release: Release) -> int:
    """Return how often the same version was released before, and its watch is over; that of the watch while one runs.

    Colours take turns: green is released many times.
    """
    own = [each for each in journal.watches() if _versioned(each.watch.release) == _versioned(release)]
    if not own:
        return 0
    over = all(each.ended_at is not None and each.ended_at < release.exposed_at for each in own)
    return own[-1].watch.release.earlier + over


def _versioned(release: Release) -> tuple[str, ...]:
    return release.service, release.environment, release.feature, release.version


def _ended(journal: Journal, running: Sequence[Watched], exposure: Exposure, by: str) -> Noticed:
    why = "traffic went back to the previous version" if exposure.serving else "exposure ended"
    for each in running:
        last = journal.last_look(each.watch.release.id)
        if last is None or last.killed_at is None:
            _close(journal, each, "ended", f"{why} ({by})", exposure.at)
    return Noticed(running[-1].watch.release.id if running else None)


def _close(journal: Journal, watched: Watched, status: str, why: str, at: float) -> None:
    """End a watch and tell how: once, whoever notices."""
    if journal.end_release(watched.watch.release.id, status, why, at):
        last = journal.last_look(watched.watch.release.id)
        journal.intend(telling.closed(watched.watch, status, why, None if last is None else last.verdict, at), at)


def _new_stage(
    installation: Installation,
    journal: Journal,
    service: Service,
    entry: ReleaseEntry,
    running: Watched,
    exposure: Exposure,
    by: str,
    first: bool = False,
) -> Noticed:
    """Add a stage; where everybody has it now, close the watch and go on with one against the service's own past.

    `first`: users get it only now, so that the same share is a stage, too.
    """
    watch = running.watch
    release = watch.release
    alike = release.share is not None and exposure.share is not None and abs(release.share - exposure.share) < 1e-9
    if alike and not first:
        return Noticed(release.id)
    last = journal.last_look(release.id)
    if last is not None and last.killed_at is not None:
        return Noticed(release.id)  # what a kill moves is no stage
    if exposure.share is None or exposure.share < EVERYBODY or release.everyone:
        seen = exposure.since if last is None or exposure.since is not None else last.at
        unsure = 0.0 if seen is None else max(exposure.at - seen, 0.0)
        stages = (*release.stages, Stage(exposure.at, exposure.share, unsure))
        journal.set_watch(replace(watch, release=replace(release, stages=stages)))
        return Noticed(release.id)
    whole = replace(release, everyone=True, stages=(Stage(exposure.at, exposure.share),))
    past = (*disturbed(journal, service, whole), (release.exposed_at, exposure.at))
    journal.add_release(plan(installation, service, for_everyone(entry), whole, past), exposure.at, by)
    _close(journal, running, "everyone", f"everybody has it now ({by})", exposure.at)
    return Noticed(whole.id, new=True)


def for_everyone(entry: ReleaseEntry) -> ReleaseEntry:
    """Return how a release is watched once everybody has it: against the service's own past, with nothing to split."""
    history = max(entry.history, LONG_PAST)
    return replace(entry, baseline=None, treatment=None, split=None, promote=(), share=None, history=history)


def _noticed_before(
    journal: Journal, service: Service, entry: ReleaseEntry, exposure: Exposure, by: str
) -> Noticed | None:
    """Return the release that somebody else noticed already, whatever they call it."""
    for each in journal.watches():
        known = each.watch.release
        # Whoever is told of after a watch ended got something else: a mended version a few minutes after a kill.
        over = each.ended_at is not None and exposure.at > each.ended_at
        if over or known.everyone or (known.service, known.environment) != (service.name, service.environment):
            continue
        near = abs(known.exposed_at - exposure.at) <= SAME
        called = exposure.named and known.is_called(exposure.version)
        if known.feature == exposure.feature:
            unnamed = not (known.named and exposure.named)
            same = (called and each.status == "active") or (near and each.noticed_by != by and (unnamed or called))
        else:
            # A version label that knows of no features has a release of the whole service.
            whole = service.name in (known.feature, exposure.feature)
            same = whole and called and near and known.strategy is entry.strategy and each.noticed_by != by
        if same:
            if each.status == "active":
                _join(journal, each, exposure, by)
            return Noticed(known.id)
    return None


def _join(journal: Journal, watched: Watched, exposure: Exposure, by: str) -> None:
    """Note what another way of noticing knows of a release: how it calls it, and what nobody had said before."""
    watch, known = watched.watch, watched.watch.release
    also = known.also if known.is_called(exposure.version) else (*known.also, exposure.version)
    present = known.stages[-1]
    stages = (*known.stages[:-1], replace(present, share=exposure.share)) if present.share is None else known.stages
    joined = replace(known, also=also, stages=stages, reversible=known.reversible and exposure.reversible)
    if joined != known:
        journal.set_watch(replace(watch, release=joined))
    if joined != known or by != watched.noticed_by:
        share = {} if exposure.share in (None, joined.share) else {"share": exposure.share}
        told_of = {"by": by, "version": exposure.version, **share}
        journal.audit(exposure.at, known.id, "release noticed again", told_of)


def disturbed(journal: Journal, service: Service, release: Release) -> tuple[tuple[float, float], ...]:
    """Return the stretches of a service's past in which another release made it unusual, epoch seconds.

    What had to be turned off counts from its exposure to the end of its watch, any other release for the first half
    hour: caches are cold, and whatever it changed for good is usual afterwards.
    """
    found = []
    for each in journal.watches():
        other = each.watch.release
        if (other.service, other.environment) != (service.name, service.environment) or other.id == release.id:
            continue
        bad = each.status in ("recovered", "unrecovered")
        until = each.ended_at if bad and each.ended_at is not None else other.exposed_at + UNSETTLED
        found.append((other.exposed_at, min(until, release.exposed_at)))
    return tuple((start, end) for start, end in found if start < end)


def _same_feature(each: Watched, service: Service, exposure: Exposure) -> bool:
    release = each.watch.release
    return (release.service, release.environment, release.feature) == (
        service.name,
        service.environment,
        exposure.feature,
    )


def entry_for(service: Service, strategy: str | None) -> ReleaseEntry:
    """Return how a service's release of a strategy is watched.

    Raises:
        Refused: the service has no such strategy, or several and none was named.
    """
    fitting = [entry for entry in service.releases if strategy in (None, entry.strategy.value)]
    if len(fitting) == 1:
        return fitting[0]
    have = ", ".join(sorted(entry.strategy.value for entry in service.releases))
    if not fitting:
        raise Refused(f"{service.name} has no {strategy} releases in watcher.yaml (it has: {have})")
    raise Refused(f"{service.name} has several kinds of release ({have}): say which with --strategy")


def stop(journal: Journal, release_id: str, why: str, at: float) -> None:
    """End a watch by hand.

    Raises:
        Refused: it is not being watched.
    """
    running = [each for each in journal.watches(active=True) if each.watch.release.id == release_id]
    if not running:
        raise Refused(f"{release_id} is not being watched")
    _close(journal, running[0], "stopped", why, at)


def accept(journal: Journal, release_id: str, rule: str, reason: str, at: float, by: str) -> None:
    """Record that a person takes the harm of a rule as intended: it no longer counts as regressed.

    Raises:
        Refused: the release has no such rule.
        JournalError: no such release.
    """
    watch = journal.watch(release_id)
    names = [each.name for each in watch.rules]
    if rule not in names:
        raise Refused(f"{release_id} has no rule {rule!r}; its rules: {', '.join(names)}")
    accepted = tuple(pair for pair in watch.accepted if pair[0] != rule)
    journal.set_watch(replace(watch, accepted=(*accepted, (rule, f"{reason}, {by}"))))
    journal.audit(at, release_id, "accepted", {"rule": rule, "reason": reason, "by": by})

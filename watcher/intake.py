"""From "users became exposed" to a watch in the journal: starts, stages, ends, and newer releases superseding older."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from watcher.config import Installation, ReleaseEntry, Service, plan
from watcher.errors import Refused
from watcher.journal import Journal, Watched
from watcher.model import UNSETTLED, Deployment, Exposure, Release, Stage


@dataclass(frozen=True)
class Noticed:
    """What an exposure was found to be: the release it is about, and whether it was not known before."""

    release: str | None
    new: bool


def told(
    installation: Installation, journal: Journal, service: Service, exposure: Exposure, strategy: str | None, by: str
) -> Noticed:
    """Act on an exposure that somebody tells of: start the watch of a release, or find it.

    Args:
        strategy: how users became exposed; needed where the service has several ways.
        by: who told, for the record.

    Raises:
        Refused: no such strategy.
        ConfigError: the release lacks what its configuration needs ({previous}).
    """
    return _noticed(installation, journal, service, entry_for(service, strategy), exposure, by)


def deployed(journal: Journal, service: Service, deployment: Deployment, by: str) -> bool:
    """Record a version that is on servers and waits for exposure; False when it was known already."""
    key = f"deployed/{service.name}/{service.environment}/{deployment.feature}@{deployment.version}"
    if journal.recall(key) is not None:
        return False
    journal.remember(key, {**asdict(deployment), "by": by})
    return True


def take(
    installation: Installation, journal: Journal, service: Service, entry: ReleaseEntry, exposure: Exposure, by: str
) -> str | None:
    """Act on an exposure.

    A new version or flag revision starts a watch and supersedes the older watch of that feature; a new share is a
    stage of the running one; the end of exposure ends it, unless watcher itself turned it off and still looks at
    what follows.

    Args:
        by: who noticed, for the record.

    Returns:
        The release this is about, None when nothing was running and nothing starts.

    Raises:
        ConfigError: the release lacks what its configuration needs ({previous}).
    """
    return _noticed(installation, journal, service, entry, exposure, by).release


def _noticed(
    installation: Installation, journal: Journal, service: Service, entry: ReleaseEntry, exposure: Exposure, by: str
) -> Noticed:
    running = [each for each in journal.watches(active=True) if _same_feature(each, service, exposure)]
    if exposure.off:
        for each in running:
            last = journal.last_look(each.watch.release.id)
            if last is None or last.killed_at is None:
                journal.end_release(each.watch.release.id, "ended", f"exposure ended ({by})", exposure.at)
        return Noticed(running[-1].watch.release.id if running else None, new=False)
    if not exposure.version:
        return Noticed(_new_stage(journal, running, exposure), new=False)
    release = Release(
        service=service.name,
        environment=service.environment,
        feature=exposure.feature,
        version=exposure.version,
        strategy=entry.strategy,
        stages=(Stage(exposure.at, exposure.share),),
        previous=exposure.previous,
        reversible=exposure.reversible,
    )
    past = disturbed(journal, service, release)
    new = journal.add_release(plan(installation, service, entry, release, past), exposure.at, by)
    for each in running if new else ():
        journal.end_release(each.watch.release.id, "superseded", f"superseded by {release.id}", exposure.at)
    return Noticed(release.id, new)


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


def _new_stage(journal: Journal, running: list[Watched], exposure: Exposure) -> str | None:
    if not running:
        return None
    watch = running[-1].watch
    stages = (*watch.release.stages, Stage(exposure.at, exposure.share))
    journal.set_watch(replace(watch, release=replace(watch.release, stages=stages)))
    return watch.release.id


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

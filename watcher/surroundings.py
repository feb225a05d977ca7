"""What a release is surrounded by: other releases of its service, and other services; asked once it regressed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from watcher.attribution import USUAL, Elsewhere, Suspect, as_shares, suspect
from watcher.config import Installation
from watcher.errors import SourceError
from watcher.journal import Journal
from watcher.look import Source
from watcher.model import Design, Look, Outcome, Release, Request, Watch

log = logging.getLogger("watcher")


LATELY = 20
"""How many releases that ended are asked whether the harm may have been theirs."""


def beside(journal: Journal, watch: Watch, ahead: Callable[[Watch], Look | None]) -> list[Suspect]:
    """Return the other releases that users of the service have, or had until lately and which regressed.

    Args:
        journal: which there are.
        watch: of the release that is asked about.
        ahead: returns what is known of another one now, not at its last look: who is looked at first must not seem the
            worse for it. None: nothing yet.
    """
    active = [each.watch for each in journal.watches(active=True)]
    # What was turned off without avail did not do the harm.
    ended = [
        each
        for each in journal.listed(active=False, most=LATELY)
        if each.outcome is Outcome.REGRESSED and each.status != "unrecovered" and each.ended_at is not None
    ]
    own, found = watch.release, []
    for other in active:
        if _of_one_service(other.release, own) and other.release.id != own.id:
            found.append(_suspect(journal, other, ahead(other), None))
    for each in ended:
        other = journal.watch(each.release)
        # What came before a release of the same feature is what that replaced.
        if _of_one_service(other.release, own) and other.release.feature != own.feature:
            found.append(_suspect(journal, other, journal.last_look(each.release), each.ended_at))
    return found


def _of_one_service(other: Release, own: Release) -> bool:
    return (other.service, other.environment) == (own.service, own.environment)


def _suspect(journal: Journal, watch: Watch, last: Look | None, ended_at: float | None) -> Suspect:
    release = watch.release
    if last is None:
        return Suspect(release.id, release.exposed_at, concurrent=watch.design is Design.CONCURRENT)
    found = suspect(watch, last.verdict, journal.calibrations(release.id), last.states)
    return replace(found, off_at=ended_at if last.killed_at is None else last.killed_at)


def elsewhere(installation: Installation, source: Source, watch: Watch, since: float, until: float) -> list[Elsewhere]:
    """Return what the services that have nothing to do with a release measured, before harm began and since.

    A service that cannot be read, or whose answer may be incomplete, says nothing for or against the release.

    Args:
        installation: its services.
        source: read once for each of them.
        watch: of the release.
        since: when harm began, epoch seconds.
        until: end of the last block.
    """
    found = []
    start = float(np.floor((since - USUAL) / watch.block) * watch.block)
    for service in installation.unrelated(watch.release):
        rules = as_shares(service.rules)
        if not rules:
            continue
        try:
            seen = source.observe(Request(rules, start, until, watch.block, service.select))
        except SourceError as error:
            log.warning("cannot ask whether %s is worse, too: %s", service.name, error)
            continue
        if not any(each.partial for each in seen.values()):
            found.append(Elsewhere(service.name, rules, seen))
    return found

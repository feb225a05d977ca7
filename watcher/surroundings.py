"""What a release is surrounded by: other releases of its service, and other services; asked once it regressed."""

from __future__ import annotations

import logging

import numpy as np

from watcher.attribution import USUAL, Elsewhere, Suspect, as_shares, suspect
from watcher.config import Installation
from watcher.errors import SourceError
from watcher.journal import Journal
from watcher.look import Source
from watcher.model import Design, Request, Watch

log = logging.getLogger("watcher")


def beside(journal: Journal, watch: Watch) -> list[Suspect]:
    """Return the other releases of the service that are being watched, as their last looks left them."""
    own, found = watch.release, []
    for other in journal.watches(active=True):
        there = other.watch.release
        if (there.service, there.environment) != (own.service, own.environment) or there.id == own.id:
            continue
        last = journal.last_look(there.id)
        if last is None:
            found.append(Suspect(there.id, there.exposed_at, concurrent=other.watch.design is Design.CONCURRENT))
        else:
            found.append(suspect(other.watch, last.verdict, journal.calibrations(there.id), last.states))
    return found


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

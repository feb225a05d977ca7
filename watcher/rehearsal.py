"""Backtests of the rules of an installation, recorded in its journal: what an armed service has to show first."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from watcher import clearance, intake, oneoff
from watcher.assembly import prometheus, service_of
from watcher.config import ReleaseEntry, Service, load_installation, parse_moment
from watcher.journal import Journal
from watcher.oneoff import Backtest
from watcher.oneoff.exposures import PastExposure
from watcher.oneoff.past_server import Looking, backtest_service
from watcher.oneoff.spread import Progress
from watcher.report.past import BAD, FINE


def backtest(
    config: str,
    service: str | None,
    *,
    now: float,
    file: str | None = None,
    strategy: str | None = None,
    at: str | None = None,
    processes: int | None = None,
    progress: Progress | None = None,
    report: str | None = None,
    **given: Any,
) -> Backtest:
    """Run the rules of a service over past releases, and record in the journal that this was done.

    The releases are those of a FILE, else of `given["releases"]`, else those in the journal since `given["since"]`,
    else the versions that the metrics show; without any, placebos.

    Args:
        config: watcher.yaml, which says everything that decides a verdict.
        service: which service; None: the only one.
        now: epoch seconds.
        file: a tidy table, in place of the installation's metrics.
        strategy: how releases that no journal knows are watched, where the service has several ways.
        at: when users were exposed to the one release of the file.
        given: of `Looking.of`.

    Raises:
        Refused: no such service or strategy.
    """
    installation = load_installation(config)
    owner = service_of(installation, service)
    with Journal.open(installation.journal) as journal:
        if file is not None:
            found = oneoff.backtest(
                file,
                rules=owner.rules,
                alpha=installation.alpha,
                warm_up=owner.warm_up,
                block=installation.block,
                timezone=owner.zone,
                exclude=[f"{start}/{end}" for start, end in owner.unusual],
                at=at,
                looks_every=given["looks_every"],
                horizon=given["horizon"],
                processes=processes,
                progress=progress,
                report=report,
            )
        else:
            looking = Looking.of(now, **given)
            entry = _entry(owner, strategy, looking)
            if at is not None:
                looking = replace(looking, known=(PastExposure(at, parse_moment(at)),))
            elif looking.releases is None and looking.version_label is None:
                known = _known(journal, owner, looking.since)
                looking = replace(looking, known=known, version_label=entry.notice.label)
            found = backtest_service(
                installation,
                owner,
                entry,
                looking,
                partial(prometheus, installation.metrics),
                processes,
                progress,
                report,
            )
        digest = clearance.rules_digest(installation, owner)
        clearance.record(journal, owner.name, clearance.Clearance.of(digest, found, now))
        return found


def _entry(service: Service, strategy: str | None, looking: Looking) -> ReleaseEntry:
    """Return how releases that no journal knows are watched; of several ways, the one that is noticed by a label.

    Where releases are not listed the way matters to nothing else: those in the journal were watched in a way of their
    own, and placebos have no arms.

    Raises:
        Refused: releases are listed, and the service has several ways; or it has not the one asked for.
    """
    if strategy is None and looking.releases is None and len(service.releases) > 1:
        by_label = [each for each in service.releases if each.notice.label is not None]
        return (by_label or list(service.releases))[0]
    return intake.entry_for(service, strategy)


def _known(journal: Journal, service: Service, since: float) -> tuple[PastExposure, ...]:
    """Return the releases of a service in the journal, and what they turned out to be, where more than watcher says so.

    Bad is what got better once it was turned off; fine is what a person accepted. A verdict alone is no label: rules
    would be measured by what they said themselves.
    """
    found = []
    for each in journal.watches():
        release = each.watch.release
        if release.service == service.name and release.exposed_at >= since:
            label = FINE if each.watch.accepted else BAD if each.status == "recovered" else None
            watch = replace(each.watch, split=None)
            found.append(
                PastExposure(
                    release=release.id,
                    exposed_at=release.exposed_at,
                    label=label,
                    previous=release.previous or "",
                    version=release.version,
                    feature=release.feature,
                    watch=watch,
                )
            )
    return tuple(found)

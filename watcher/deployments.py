"""Versions that are on servers and in front of nobody yet: deploy is not release, so they wait for exposure."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Final

from watcher.config import Service
from watcher.journal import Journal
from watcher.model import Deployment, Exposure, Release

KEPT: Final = 20
"""Deployments of a service that wait for exposure, at most: the latest."""


def noted(journal: Journal, service: Service, deployment: Deployment, by: str) -> bool:
    """Record a version that waits for exposure; False if it was known, as waiting or as a release.

    A version that is deployed after its release was over waits again.
    """
    waiting, name = _all(journal, service), name_of(service, deployment)
    if any((each.feature, each.version) == (deployment.feature, deployment.version) for each in waiting):
        return False
    for each in journal.watches():
        over = each.ended_at is not None and each.ended_at < deployment.at
        release = each.watch.release
        ours = (release.service, release.environment) == (service.name, service.environment)
        if ours and not over and release.feature == deployment.feature and release.is_called(deployment.version):
            return False
    journal.remember(_key(service), [asdict(each) for each in (*waiting, deployment)[-KEPT:]])
    journal.audit(deployment.at, None, "deployment noticed", {"deployment": name, "by": by})
    return True


def waiting_for(journal: Journal, service: Service) -> tuple[str, ...]:
    """Return the features of which a version waits for exposure."""
    return tuple(dict.fromkeys(each.feature for each in _all(journal, service)))


def fitted(journal: Journal, service: Service, exposure: Exposure) -> Exposure:
    """Return an exposure that knows what was said of the deployment that waited for it, if one did."""
    fitting = [each for each in _all(journal, service) if _fits(each, exposure)]
    if not fitting:
        return exposure
    latest = fitting[-1]
    return replace(
        exposure,
        version=latest.version,
        named=True,
        previous=exposure.previous or latest.previous,
        reversible=exposure.reversible and latest.reversible,
    )


def exposed(journal: Journal, service: Service, exposure: Exposure) -> None:
    """Let no deployment wait any more for an exposure that came: none of its version, and none before it."""
    waiting = _all(journal, service)
    at = [place for place, each in enumerate(waiting) if _fits(each, exposure)]
    if at:
        left = [x for place, x in enumerate(waiting) if place > at[-1] or x.feature != exposure.feature]
        journal.remember(_key(service), [asdict(each) for each in left])


def name_of(service: Service, what: Exposure | Deployment | Release) -> str:
    """Return what the first release of it is called: `service/environment/feature@version`."""
    return f"{service.name}/{service.environment}/{what.feature}@{what.version}"


def _fits(waiting: Deployment, exposure: Exposure) -> bool:
    """Tell whether an exposure is what a deployment waits for: of its version, or of one that has no name."""
    return waiting.feature == exposure.feature and (not exposure.named or waiting.version == exposure.version)


def _key(service: Service) -> str:
    return f"deployments/{service.name}/{service.environment}"


def _all(journal: Journal, service: Service) -> list[Deployment]:
    return [Deployment(**each) for each in journal.recall(_key(service)) or []]

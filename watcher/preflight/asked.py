"""The release that a person asks about: one that the journal knows, or one that nobody has made yet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from watcher import deployments
from watcher.config import Installation, ReleaseEntry, Service, switch_key
from watcher.errors import ConfigError, Refused, SourceError
from watcher.intake import entry_for
from watcher.journal import Journal
from watcher.look import Source
from watcher.model import Exposure, Release, Stage
from watcher.preflight.measured import LATELY
from watcher.releases.flags_file import read_flags
from watcher.sources.prometheus import PrometheusSource

NEXT = "next"
"""Version of a release that has none yet: the revision of a flag that nobody has opened."""


@dataclass(frozen=True)
class Said:
    """What is said of a release that nobody has made yet, beside its name."""

    strategy: str | None = None
    previous: str | None = None
    share: float | None = None
    reversible: bool = True


def asked(
    installation: Installation, journal: Journal, source: Source, text: str, said: Said, now: float
) -> tuple[Service, ReleaseEntry, Release]:
    """Return a release, and how it is watched: of a deployment that waits for exposure, what was said of it.

    Args:
        installation: its services.
        journal: the releases that are known.
        source: asked which versions have traffic, where a release has to have one and nobody says which.
        text: a release id, or `service/feature`, `service/feature@version`; the service may be left out where there is
            only one.
        said: of a release that the journal does not know.
        now: epoch seconds.

    Raises:
        Refused: no such service or strategy, or a version that nobody says.
    """
    known = next((each.watch.release for each in journal.watches() if each.watch.release.id == text), None)
    if known is not None:
        if said != Said():
            raise Refused(f"{text} is in the journal, which knows all about it: leave the other options out")
        service = _service(installation, known.service, text)
        return service, _entry(service, known.feature, known.strategy.value), known
    name, _, version = text.partition("@")
    *where, feature = name.split("/")
    service = _service(installation, where[0] if where else None, text)
    if not feature or len(where) > 2 or (len(where) == 2 and where[1] != service.environment):
        raise Refused(f"{text!r} names no release; write {service.name}/FEATURE, or {service.name}/FEATURE@VERSION")
    entry = _entry(service, feature, said.strategy)
    closed = float(np.floor((now - installation.settle) / installation.block) * installation.block)
    meant = Exposure(feature, version, closed, previous=said.previous, reversible=said.reversible, named=bool(version))
    meant = deployments.fitted(journal, service, meant)
    version, previous = _versions(installation, service, entry, source, (text, meant.version, meant.previous), now)
    release = Release(
        service=service.name,
        environment=service.environment,
        feature=feature,
        version=version or NEXT,
        strategy=entry.strategy,
        stages=(Stage(closed, said.share if said.share is not None else _share(entry, feature)),),
        previous=previous,
        reversible=meant.reversible,
        named=bool(version),
    )
    return service, entry, release


def _service(installation: Installation, name: str | None, text: str) -> Service:
    services = installation.services
    if name is None and len(services) == 1:
        return next(iter(services.values()))
    if name is None or name not in services:
        there = ", ".join(sorted(services))
        problem = f"say of which service {text} is" if name is None else f"watcher.yaml has no service {name!r}"
        raise Refused(f"{problem}; it has: {there}")
    return services[name]


def _entry(service: Service, feature: str, strategy: str | None) -> ReleaseEntry:
    """Return how a feature is released: of several ways that fit, the one whose notice names it."""
    fitting = [each for each in service.releases if strategy in (None, each.strategy.value)]
    naming = [each for each in fitting if feature in each.features]
    return naming[0] if len(naming) == 1 else entry_for(service, strategy)


def _share(entry: ReleaseEntry, feature: str) -> float | None:
    """Return the share that is ready for a feature: in the flags file, on or off, or the first to be gone through."""
    ready = None
    if entry.notice.flags_file is not None:
        # What is wrong with the file, its switch has more to say of.
        with suppress(ConfigError):
            flag = read_flags(str(entry.notice.flags_file)).get(feature)
            ready = None if flag is None else flag.share or None
    return ready if ready is not None else next(iter(entry.promote), None)


def _versions(
    installation: Installation,
    service: Service,
    entry: ReleaseEntry,
    source: Source,
    given: tuple[str, str, str | None],
    now: float,
) -> tuple[str, str | None]:
    """Return version and previous: as given, else by which values of the label of versions have traffic."""
    text, version, previous = given
    needs = _placeholders(entry)
    if not needs - ({"version"} if version else set()) - ({"previous"} if previous else set()):
        return version, previous
    label = _version_label(entry)
    traffic = _traffic(installation, service, source, label, text, now) if label is not None else {}
    busiest = sorted(traffic, key=lambda value: (-traffic[value], value))
    if previous is None and "previous" in needs:
        previous = next((value for value in busiest if value != version), None)
    if not version and "version" in needs:
        version = next((value for value in busiest if value != previous), "")
    there = f"; with traffic now: {', '.join(busiest)}" if busiest else ""
    if "previous" in needs and previous is None:
        raise Refused(f"say which version users of {text} have now, with --previous{there}")
    if "version" in needs and not version:
        raise Refused(f"say which version is released: {text}@VERSION{there}")
    return version, previous


def _placeholders(entry: ReleaseEntry) -> set[str]:
    """Return which of {version} and {previous} the entry asks for."""
    values = [value for pairs in (entry.baseline, entry.treatment, entry.focus) for _, value in pairs or ()]
    asks = " ".join([*values, switch_key(entry) or ""])
    return {name for name in ("version", "previous") if f"{{{name}}}" in asks}


def _version_label(entry: ReleaseEntry) -> str | None:
    """Return the label whose values are versions; None where no label tells them apart."""
    if entry.notice.label is not None:
        return entry.notice.label
    pairs = (*(entry.baseline or ()), *(entry.treatment or ()))
    return next((name for name, value in pairs if value in ("{version}", "{previous}")), None)


def _traffic(
    installation: Installation, service: Service, source: Source, label: str, text: str, now: float
) -> dict[str, float]:
    """Return about how many requests each value of a label had in the last minutes."""
    counters = [rule.total for rule in service.rules if rule.total is not None]
    if not counters or not isinstance(source, PrometheusSource):
        return {}
    closed = float(np.floor((now - installation.settle) / installation.block) * installation.block)
    try:
        return source.labels_with_traffic(counters[0].where(service.select), label, closed, LATELY)
    except SourceError as error:
        raise Refused(
            f"which versions users of {text} have cannot be asked ({error}); say it with --previous"
        ) from error

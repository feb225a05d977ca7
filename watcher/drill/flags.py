"""Which flags there are: every feature that a kill switch of watcher.yaml turns off."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from watcher.config import Installation, ReleaseEntry, Service, load_installation, switch_key
from watcher.errors import Refused
from watcher.journal import Journal, Watched
from watcher.model import Target


@dataclass(frozen=True)
class Flag:
    """A feature, and the entry of watcher.yaml whose `kill` turns it off; `releases` of it, oldest first."""

    feature: str
    service: Service
    entry: ReleaseEntry
    releases: tuple[Watched, ...] = ()
    version: str | None = None
    """Given by a person, in place of the latest release's, like `previous`."""
    previous: str | None = None
    allowed: bool = False
    """Whether watcher.yaml names it among those that watcher may turn off by itself."""

    @property
    def place(self) -> str:
        """`service/environment/feature`: whose a kill is where no release is watched."""
        return f"{self.service.name}/{self.service.environment}/{self.feature}"

    @property
    def strategy(self) -> str:
        """How users become exposed to it."""
        return self.entry.strategy.value

    @property
    def switch(self) -> str:
        """The name of its kill switch."""
        return next(iter(self.entry.kill or {}))

    @property
    def watched(self) -> Watched | None:
        """The release that is being watched now."""
        return next((each for each in reversed(self.releases) if each.status == "active"), None)

    @property
    def latest(self) -> Watched | None:
        """The release that is being watched, or was last."""
        return self.watched or (self.releases[-1] if self.releases else None)

    @property
    def owner(self) -> str:
        """Whose a kill is: the watched release's, else the `place`'s."""
        return self.place if self.watched is None else self.watched.watch.release.id

    @property
    def reversible(self) -> bool:
        """Whether the latest release can be undone; one that changed a schema cannot."""
        return self.latest is None or self.latest.watch.release.reversible

    def key(self, to_read: bool = False) -> str:
        """Return the key of its kill switch, values where placeholders stand.

        Args:
            to_read: a switch says where it stands without knowing what to switch back to: what is not known stays.

        Raises:
            Refused: the switch needs a version that neither the journal nor a person says.
        """
        release = None if self.latest is None else self.latest.watch.release
        known = {
            "{feature}": self.feature,
            "{version}": self.version or (release and release.version),
            "{previous}": self.previous or (release and release.previous),
        }

        def fill(written: str, _: str) -> str:
            value = known.get(written, written)
            if value or written not in known or to_read:
                return value or written
            name = written.strip("{}")
            raise Refused(
                f"{self.place}: {self.switch} needs {written}, and no release of {self.feature} in the journal says "
                f"it; give --{name} VALUE"
            )

        found = switch_key(self.entry, fill)
        assert found is not None
        return found


@contextmanager
def opened(config: str) -> Iterator[tuple[list[Flag], Journal]]:
    """Open the journal of an installation, with the flags there are.

    Raises:
        ConfigError: watcher.yaml is wrong.
        JournalError: the journal cannot be read.
    """
    installation = load_installation(config)
    with Journal.open(installation.journal) as journal:
        yield list(flags(installation, journal.watches())), journal


def flags(installation: Installation, watches: Sequence[Watched]) -> Iterator[Flag]:
    """Yield every feature that a kill switch turns off, in the order of watcher.yaml; the same one twice is once."""
    seen = set()
    for service in installation.services.values():
        for entry in service.releases:
            key = switch_key(entry)
            if key is None:
                continue
            own = [each for each in watches if _belongs(each, service, entry)]
            for feature in _features(service, entry, own):
                if (service.name, feature, entry.strategy, key) not in seen:
                    seen.add((service.name, feature, entry.strategy, key))
                    releases = tuple(each for each in own if each.watch.release.feature == feature)
                    target = Target(key.partition(":")[0], feature, service.environment)
                    allowed = target in installation.may_turn_off
                    yield Flag(feature, service, entry, releases, allowed=allowed)


def _belongs(each: Watched, service: Service, entry: ReleaseEntry) -> bool:
    release = each.watch.release
    there = (release.service, release.environment, release.strategy)
    return there == (service.name, service.environment, entry.strategy)


def _features(service: Service, entry: ReleaseEntry, own: Iterable[Watched]) -> list[str]:
    """Return the features of an entry: those it names and those watched now, else all it ever had, else the service."""
    known = [each.watch.release.feature for each in own if each.status == "active" or not entry.features]
    return list(dict.fromkeys([*entry.features, *known])) or [service.name]


def find(
    flags: Sequence[Flag],
    feature: str,
    *,
    service: str | None = None,
    strategy: str | None = None,
    version: str | None = None,
    previous: str | None = None,
) -> Flag:
    """Return the one flag of a name; its switch is that of `version` and `previous`, where these are given.

    Raises:
        Refused: there is none, and which names are close; or several, and how to tell them apart.
    """
    named = [each for each in flags if each.feature == feature]
    found = [each for each in named if service in (None, each.service.name) and strategy in (None, each.strategy)]
    if len(found) == 1:
        return replace(found[0], version=version, previous=previous)
    if found:
        raise Refused(f"{feature} is several flags: {_listed(found)}; say which with --service or --strategy")
    if named:
        asked = " ".join(filter(None, (service and f"--service {service}", strategy and f"--strategy {strategy}")))
        raise Refused(f"there is no flag {feature!r} with {asked}; there is {_listed(named)}")
    names = list(dict.fromkeys(each.feature for each in flags))
    close = difflib.get_close_matches(feature, names, n=3)
    if close:
        hint = f"did you mean {' or '.join(close)}?"
    elif names:
        hint = f"there is: {', '.join(names[:20])}"
    else:
        hint = "no release in watcher.yaml has a `kill`"
    raise Refused(f"there is no flag {feature!r} that a kill switch turns off; {hint}")


def _listed(flags: Iterable[Flag]) -> str:
    return ", ".join(f"{each.place} ({each.strategy}, {each.switch})" for each in flags)

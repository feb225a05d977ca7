"""A release as people follow it who wait for its verdict: whatever changes, from before it is noticed until its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from watcher.deeds import Deed, deeds
from watcher.journal import Journal, Watched
from watcher.model import Look, Outcome


@dataclass(frozen=True)
class Sight:
    """How a release stands: `watched` is None until it is noticed, `look` until it was looked at.

    `done` is what was done, refused and told, oldest first.
    """

    watched: Watched | None = None
    look: Look | None = None
    done: tuple[Deed, ...] = ()

    @property
    def over(self) -> bool:
        """Whether nothing will change any more."""
        return self.watched is not None and self.watched.status != "active"

    @property
    def decided(self) -> bool:
        """Whether it is proven healthy, or regressed."""
        return self.look is not None and self.look.verdict.outcome in (Outcome.HEALTHY, Outcome.REGRESSED)


def follow(journal: Journal, name: str, rest: Callable[[], bool]) -> Iterator[Sight]:
    """Yield how a release stands: at once, then whenever that changed, until its watch is over.

    Args:
        journal: of the installation.
        name: a release id; or FEATURE, SERVICE/FEATURE or SERVICE/ENVIRONMENT/FEATURE of one that is being watched, the
            newest of them, or else of the next one.
        rest: waits a moment; True when there is no more time.
    """
    before = None
    while True:
        watched, seen = named(journal, name, ended=False), Sight()
        if watched is not None:
            name = watched.watch.release.id
            seen = Sight(watched, journal.last_look(name, states=False), tuple(deeds(journal, name)))
        if seen != before:
            yield seen
            before = seen
        if seen.over or rest():
            return


def named(journal: Journal, name: str, *, ended: bool) -> Watched | None:
    """Return the release of an id, or else the newest of that name: one that is being watched, or also one that ended.

    Args:
        journal: of the installation.
        name: as for `follow`.
        ended: whether one will do that is not watched any more, where none is.
    """
    there = journal.watches()
    own = next((each for each in there if each.watch.release.id == name), None)
    alike = [each for each in there if _answers_to(each, name) and (ended or each.status == "active")]
    newest = max(alike, key=lambda each: (each.status == "active", each.watch.release.exposed_at), default=None)
    return own or newest


def _answers_to(watched: Watched, name: str) -> bool:
    release = watched.watch.release
    full = f"{release.service}/{release.environment}/{release.feature}"
    return name in (release.feature, f"{release.service}/{release.feature}", full)

"""What the daemon tells of its own work to whoever watches the watcher: facts, as they happen, and never a question."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, Protocol

from watcher.model import Look, Watch

Pinged = Literal["sent", "failed", "withheld"]


class Observer(Protocol):
    """Somebody who is told what the daemon does. Nothing that is told may fail, or take long: a kill would wait."""

    def watching(self, watches: Sequence[Watch]) -> None:
        """Take what is watched from now on; whatever is not among it has ended."""
        ...

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Take a look that was recorded, the one before it, and how long it took."""
        ...

    def look_failed(self, watch: Watch) -> None:
        """Take that a look came to nothing, and was not recorded."""
        ...

    def source_failed(self, service: str) -> None:
        """Take that metrics of a service could not be read, other than by a look."""
        ...

    def switch_unread(self, switch: str) -> None:
        """Take that a kill switch did not answer; `switch` is its kind, such as `unleash`."""
        ...

    def stepped(self, whole: bool) -> None:
        """Take that a step is over; `whole` tells whether every watch was looked at, and every look recorded."""
        ...

    def pinged(self, how: Pinged) -> None:
        """Take what became of a ping that was due."""
        ...


class Silence:
    """Nobody who watches."""

    def watching(self, watches: Sequence[Watch]) -> None:
        """Say nothing."""

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Say nothing."""

    def look_failed(self, watch: Watch) -> None:
        """Say nothing."""

    def source_failed(self, service: str) -> None:
        """Say nothing."""

    def switch_unread(self, switch: str) -> None:
        """Say nothing."""

    def stepped(self, whole: bool) -> None:
        """Say nothing."""

    def pinged(self, how: Pinged) -> None:
        """Say nothing."""


SILENCE: Final = Silence()


class Everybody:
    """Several who watch, each told in turn."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def watching(self, watches: Sequence[Watch]) -> None:
        """Pass it on."""
        for each in self._observers:
            each.watching(watches)

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Pass it on."""
        for each in self._observers:
            each.looked(watch, look, previous, seconds)

    def look_failed(self, watch: Watch) -> None:
        """Pass it on."""
        for each in self._observers:
            each.look_failed(watch)

    def source_failed(self, service: str) -> None:
        """Pass it on."""
        for each in self._observers:
            each.source_failed(service)

    def switch_unread(self, switch: str) -> None:
        """Pass it on."""
        for each in self._observers:
            each.switch_unread(switch)

    def stepped(self, whole: bool) -> None:
        """Pass it on."""
        for each in self._observers:
            each.stepped(whole)

    def pinged(self, how: Pinged) -> None:
        """Pass it on."""
        for each in self._observers:
            each.pinged(how)

"""Alerters: how people are told.

Other packages add alerters through the entry point group `watcher.alerts`: a callable that takes the settings as
keywords and returns an object with the one method of `Alerter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, Protocol, cast, runtime_checkable

from watcher.alerts.alertmanager import alertmanager_alerter
from watcher.alerts.console import console_alerter
from watcher.alerts.picture import Picture
from watcher.alerts.slack import slack_alerter
from watcher.alerts.webhook import webhook_alerter
from watcher.errors import ConfigError
from watcher.model import Alert, Reach

GROUP = "watcher.alerts"


class Alerter(Protocol):
    """What every alerter offers."""

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Tell people, and return a receipt for the journal to keep.

        Args:
            alert: what to say.
            headline: receipt of the latest headline of the same release that this alerter delivered, if any.

        Raises:
            AlertError: it was not delivered, or we cannot know.
        """
        ...


@runtime_checkable
class Reachable(Protocol):
    """What an alerter offers beside, if it can say without a message whether one would arrive."""

    def reach(self) -> Reach:
        """Return where people would be told, and what of it cannot be proven; AlertError where nobody would be."""
        ...


@runtime_checkable
class Illustrated(Protocol):
    """What an alerter offers beside, if pictures can stand below the message of a release."""

    def illustrate(self, pictures: Sequence[Picture], headline: Mapping[str, str]) -> None:
        """Put pictures below a headline, given its receipt. Raises AlertError."""
        ...


@runtime_checkable
class Rendering(Protocol):
    """What an alerter offers beside, if it can say what it would send."""

    def rendered(self, alert: Alert) -> Any:
        """Return what would be sent: text, or what JSON can hold."""
        ...


ALERTERS: dict[str, Callable[..., Alerter]] = {
    "alertmanager": alertmanager_alerter,
    "webhook": webhook_alerter,
    "slack": slack_alerter,
    "console": console_alerter,
}


def alerter(name: str, **settings: str | bool | None) -> Alerter:
    """Return the alerter of a name.

    Raises:
        ConfigError: nobody offers an alerter of that name, its package cannot be loaded, or its settings are wrong.
    """
    if name in ALERTERS:
        return ALERTERS[name](**settings)
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in offered:
        names = ", ".join(sorted({*ALERTERS, *offered}))
        raise ConfigError(f"there is no alerter {name!r}; there is: {names}", key=name)
    try:
        factory = cast(Callable[..., Alerter], offered[name].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"alerter {name!r} ({offered[name].value}) cannot be loaded: {error}", key=name) from error
    return factory(**settings)

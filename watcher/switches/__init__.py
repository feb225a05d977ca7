"""Kill switches: how users are taken off a release.

A switch is named by a key, `name:settings`, for example `yaml_flags:config/feature-flags.yaml`; settings are a path, or
a JSON object. Other packages add switches through the entry point group `watcher.switches`: a callable that takes the
settings and returns an object with the methods of `Switch`.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol, cast, runtime_checkable

from watcher.errors import ConfigError
from watcher.model import SwitchState
from watcher.switches.command import Command
from watcher.switches.flagd import Flagd
from watcher.switches.haproxy import haproxy_switch
from watcher.switches.launchdarkly import LaunchDarkly
from watcher.switches.unleash import Unleash
from watcher.switches.webhook import Webhook
from watcher.switches.yaml_flags import YamlFlags

GROUP = "watcher.switches"


class Switch(Protocol):
    """What every kill switch offers. There is no way to turn anything on."""

    def read(self, feature: str) -> SwitchState:
        """Return whether users get the feature, and how many; SwitchError when that cannot be said."""
        ...

    def dry_run(self, feature: str) -> str:
        """Say exactly what `kill` would do, and do nothing; SwitchError when a kill would fail."""
        ...

    def kill(self, feature: str, reason: str) -> None:
        """Take users off the feature; doing it twice is doing it once. SwitchError when it could not be done."""
        ...


@runtime_checkable
class Dial(Protocol):
    """What a switch offers beside, if it can give a release a larger share of the traffic."""

    def promote(self, feature: str, since: float, share: float) -> None:
        """Raise the share from `since` to `share`, fractions; SwitchError, and nothing changes, where it is another."""
        ...


SWITCHES: dict[str, Callable[[str], Switch]] = {
    "command": Command,
    "flagd": Flagd,
    "haproxy": haproxy_switch,
    "launchdarkly": LaunchDarkly,
    "unleash": Unleash,
    "webhook": Webhook,
    "yaml_flags": YamlFlags,
}


def switch(key: str) -> Switch:
    """Return the kill switch that a key names.

    >>> switch("yaml_flags:config/feature-flags.yaml")
    YamlFlags('config/feature-flags.yaml')

    Args:
        key: name and settings, `name:settings`; the settings may contain colons.

    Raises:
        ConfigError: nobody offers a switch of that name, its package cannot be loaded, or its settings are wrong.
    """
    name, _, settings = key.partition(":")
    if name in SWITCHES:
        return SWITCHES[name](settings)
    offered = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in offered:
        names = ", ".join(sorted({*SWITCHES, *offered}))
        raise ConfigError(f"there is no kill switch {name!r}; there is: {names}", key=key)
    try:
        factory = cast(Callable[[str], Switch], offered[name].load())
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"kill switch {name!r} ({offered[name].value}) cannot be loaded: {error}", key=key) from error
    return factory(settings)

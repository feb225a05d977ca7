"""The kill switch for traffic behind HAProxy, over its runtime API: a canary's weight, or the backend a map names.

{"socket": "/run/haproxy.sock", "backend": "shop", "server": "canary", "state_file": "/var/lib/haproxy/state"}
{"socket": "/run/haproxy.sock", "map": "live", "to": "blue"}
"""

from __future__ import annotations

import re
from typing import Final

from pydantic import field_validator, model_validator

from watcher.switches.haproxy.blue_green import BlueGreen
from watcher.switches.haproxy.canary import Canary
from watcher.switches.haproxy.runtime import Runtime
from watcher.switches.settings import Settings, parsed

NAME: Final = "haproxy"
_NAME = re.compile(r"[A-Za-z0-9_.:-]+|\{\w+\}")
_WORD = re.compile(r"[^\s\"'<>#@][^\s\"'<>\x00-\x1f\x7f]*")


class HAProxySettings(Settings):
    """What watcher.yaml says; names go into commands, so what could be more than a name is refused."""

    socket: str
    backend: str | None = None
    server: str | None = None
    state_file: str | None = None
    map: str | None = None
    to: str | None = None
    key: str | None = None
    map_file: str | None = None

    @field_validator("backend", "server", "to")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name in HAProxy: letters, digits, and any of _ . : -")
        return name

    @field_validator("map", "key")
    @classmethod
    def _is_a_word(cls, word: str | None) -> str | None:
        if word is not None and not _WORD.fullmatch(word):
            raise ValueError(f"{word!r} must be one word, without quotes, and not begin with # or @")
        return word

    @model_validator(mode="after")
    def _is_one_of_two(self) -> HAProxySettings:
        canary = {"backend": self.backend, "server": self.server, "state_file": self.state_file}
        blue_green = {"map": self.map, "to": self.to, "key": self.key, "map_file": self.map_file}
        mine, others = (blue_green, canary) if self.map is not None else (canary, blue_green)
        foreign = next((key for key, value in others.items() if value is not None), None)
        missing = next((key for key in list(mine)[:2] if mine[key] is None), None)
        if foreign is not None or missing is not None:
            wrong = f"{missing} is missing" if missing is not None else f"{foreign} does not belong here"
            raise ValueError(f"{wrong}: give backend and server (a canary), or map and to (blue-green)")
        return self


def haproxy_switch(settings: str) -> Canary | BlueGreen:
    """Return the kill switch that the settings describe.

    >>> haproxy_switch('{"socket": "/run/haproxy.sock", "backend": "shop", "server": "canary"}')
    Canary('/run/haproxy.sock', 'shop/canary')
    >>> haproxy_switch('{"socket": "127.0.0.1:9999", "map": "live", "to": "blue"}')
    BlueGreen('127.0.0.1:9999', 'live', to 'blue')

    Raises:
        ConfigError: they are wrong.
    """
    found = parsed(NAME, settings, HAProxySettings)
    runtime = Runtime(found.socket)
    if found.map is not None:
        return BlueGreen(runtime, found.map, str(found.to), found.key, found.map_file)
    return Canary(runtime, str(found.backend), str(found.server), found.state_file)

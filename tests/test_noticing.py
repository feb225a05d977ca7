"""Releases noticed by their own switch, as the daemon does it: opened, given to more, closed, unreadable."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.planted import plant
from tests.switches.launchdarkly_server import TOKEN, LaunchDarklyServer
from watcher.config import load_installation
from watcher.journal import Journal
from watcher.noticing import LET_BE, Noticing
from watcher.switches import switch
from watcher.testing import MemorySource

NOW = 1_800_000_000.0
YAML = """
journal: sqlite:///watcher.db
metrics: {{prometheus: http://127.0.0.1:9090}}
services:
  shop:
    environment: production
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {{switch: true, features: [new-checkout]}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        kill: {{{kill}}}
"""


class Flag(Protocol):
    """A flag where its system keeps it; `kill` is its switch in watcher.yaml, `versioned` whether it counts changes."""

    kill: str
    versioned: bool

    def give(self, percent: int) -> None:
        """Let so many percent of the users have it; 0 turns it off."""
        ...

    def hide(self) -> None:
        """Let nobody read it, until it is given anew."""
        ...


@dataclass
class Filed:
    """In a file of flagd's."""

    path: Path
    versioned: bool = False

    @property
    def kill(self) -> str:
        return f"flagd: {self.path}"

    def give(self, percent: int) -> None:
        flag: dict[str, Any] = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
        flag["targeting"] = {"fractional": [["on", percent], ["off", 100 - percent]]} if percent else {}
        self.path.write_text(json.dumps({"flags": {"new-checkout": flag}}))

    def hide(self) -> None:
        self.path.unlink()


@dataclass
class Launched:
    """In LaunchDarkly."""

    server: LaunchDarklyServer
    token: Path
    versioned: bool = True

    @property
    def kill(self) -> str:
        place = f"project: shop, environment: production, url: {self.server.url}"
        return f"launchdarkly: {{{place}, token_file: {self.token}}}"

    def give(self, percent: int) -> None:
        weights = [{"variation": 0, "weight": 1000 * percent}, {"variation": 1, "weight": 100_000 - 1000 * percent}]
        rollout = {"rollout": {"variations": weights, "bucketBy": "key", "contextKind": "user"}}
        self.server.change("new-checkout", on=percent > 0, fallthrough=rollout)
        plant(self.token, f"{TOKEN}\n")

    def hide(self) -> None:
        plant(self.token, f"{TOKEN}-no-more\n")


@pytest.fixture(params=["flagd", "launchdarkly"])
def flag(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Flag]:
    if request.param == "flagd":
        yield Filed(tmp_path / "flags.json")
        return
    with LaunchDarklyServer() as server:
        server.add("new-checkout")
        yield Launched(server, tmp_path / "token")


def test_what_its_own_switch_says_of_a_release_is_noticed_once(flag: Flag, tmp_path: Path) -> None:
    flag.give(0)
    (tmp_path / "watcher.yaml").write_text(YAML.format(kill=flag.kill))
    installation, at = load_installation(tmp_path / "watcher.yaml"), NOW
    with Journal.open(installation.journal) as journal:

        def tick(times: int = 1, passing: float = 15.0) -> list[Any]:
            nonlocal at
            for _ in range(times):
                at += passing
                # Anew each time, as after a restart: what was seen is in the journal.
                Noticing(installation, journal, MemorySource({}), switch).notice(at)
            return journal.watches()

        assert tick(2) == []
        flag.give(5)
        (opened,) = tick(2)
        release = opened.watch.release
        assert (opened.noticed_by, [stage.share for stage in release.stages]) == ("switch", [0.05])
        assert release.version.startswith("r") is flag.versioned
        flag.hide()
        tick(2, LET_BE + 1)
        flag.give(25)
        (raised,) = tick(2)
        assert [stage.share for stage in raised.watch.release.stages] == [0.05, 0.25]
        flag.give(0)
        (closed,) = tick(2)
        assert (closed.status, closed.end_reason) == ("ended", "exposure ended (switch)")
        flag.give(5)
        assert [each.status for each in tick(2)] == ["ended", "active"]

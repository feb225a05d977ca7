"""A small world in which everything is in place for a release: a test takes one thing away, and sees its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from watcher import preflight
from watcher.act import Alerter
from watcher.comparison import SPLIT
from watcher.config import Installation, load_installation, plan
from watcher.errors import SourceDown, SourceError, SwitchError
from watcher.journal import Journal
from watcher.model import Arm, Labels, Observations, Release, Request, Stage, SwitchState
from watcher.preflight import Line, Preflight
from watcher.testing import MemoryAlerter, MemorySource, MemorySwitch

NOW = 1_800_000_000.0
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
FEATURE = "new-checkout"

PACK = """
pack: shop
by: [feature]
unit: instance
rules:
  - {name: errors, title: Requests that failed, kind: ratio, bad: errors_total, total: requests_total, critical: true}
  - {name: orders, title: Orders, kind: ratio, good: orders_total, total: carts_total, margin: 10%}
"""
TOP = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
settle: 0s
slack: {token_file: bot, channel: "#releases", mention: "<!subteam^S012AB>"}
may_turn_off:
  - {switch: yaml_flags, feature: new-checkout, environment: production}
  - {switch: yaml_flags, feature: shop, environment: production}
"""
SERVICE = """
services:
  shop:
    select: {job: shop}
    rules: [own.yaml]
    tell: ["#support"]
    links: {runbook: https://wiki.example/shop}
    mode: armed
    warm_up: 0s
    releases:
"""
FLAG = """
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        focus: {feature: "{feature}"}
        split: {assigned: sessions_total, share: notice}
        kill: {yaml_flags: flags.yaml}
"""
ALONE = """
      - strategy: blue_green
        notice: {http: true}
        kill: {yaml_flags: flags.yaml}
"""


def observed(
    rate: float,
    *,
    hours: float = 24.0,
    features: Sequence[str] = (FEATURE, "search"),
    traffic: float = 400.0,
    treated: int = 0,
    share: float = 0.5,
    units: int = 4,
    alone: bool = False,
    since: float | None = None,
    seed: int = 1,
) -> Observations:
    """Return counts per minute up to NOW: `traffic` a stream, and the treatment's for the last `treated` minutes.

    `since` is the hour before NOW at which traffic ended.
    """
    rng = np.random.default_rng(seed)
    ends = NOW + MINUTE * np.arange(-round(hours * 60) + 1, 1)
    on = (ends > NOW - treated * MINUTE) & (ends <= NOW)
    going = ends <= NOW - (since or 0.0) * HOUR
    shape = (len(features), units, ends.size)
    shares = np.where(on, share, 0.0)

    def arm(part: Any) -> Arm:
        total = rng.poisson(np.broadcast_to(traffic / units * part * going, shape)).astype(float)
        events = rng.binomial(total.astype(int), rate).astype(float)
        return Arm(tuple(f"unit-{n}" for n in range(units)), events, total)

    streams: tuple[Labels, ...] = tuple((("feature", name),) for name in features)
    if alone:
        return Observations(streams, ends, arm(np.ones(ends.size)))
    return Observations(streams, ends, arm(shares), arm(1.0 - shares))


def users(share: float, *, treated: int, a_minute: int = 500) -> Observations:
    """Return the users that came to each arm, `share` of them to the treatment."""
    found = observed(1.0, features=("",), traffic=a_minute, treated=treated, share=share, units=1, seed=2)
    return replace(found, streams=((),))


@dataclass
class Sticky(MemorySwitch):
    """A switch that says whether users keep what they got; `gone` makes turning off impossible."""

    sticky: bool | None = True
    gone: str | None = None

    def read(self, feature: str) -> SwitchState:
        """Tell whether users get the feature."""
        return replace(super().read(feature), sticky=self.sticky)

    def dry_run(self, feature: str) -> str:
        """Say what a kill would do."""
        if self.gone is not None:
            raise SwitchError(self.gone)
        return super().dry_run(feature)


@dataclass
class Faulty(MemorySource):
    """A source that refuses some rules, or is not there for what is long past."""

    refused: Mapping[str, SourceError] = field(default_factory=dict)
    remembers: float = float("inf")
    reads_of: list[tuple[str, float]] = field(default_factory=list)

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the blocks asked for."""
        for rule in request.rules:
            self.reads_of.append((rule.name, request.end - request.start))
            if rule.name in self.refused:
                raise self.refused[rule.name]
        if request.end - request.start > self.remembers:
            raise SourceDown("the long past is not there")
        return super().observe(request)

    history = observe


@dataclass
class World:
    """Everything that `run` is given. What is right is what it is by default."""

    folder: Path
    journal: Journal
    yaml: str = TOP + SERVICE + FLAG
    pack: str = PACK
    source: Faulty = field(default_factory=lambda: Faulty({
        "errors": observed(0.02), "orders": observed(0.7), SPLIT: users(0.5, treated=0),
    }))  # fmt: skip
    switch: Sticky = field(default_factory=Sticky)
    alerters: dict[str, Alerter] = field(default_factory=lambda: {"slack": MemoryAlerter()})
    share: float | None = 0.5
    reversible: bool = True
    version: str = "1.2.0"
    everyone: bool = False
    exposed_at: float = NOW
    earlier: tuple[Stage, ...] = ()
    """Stages before the present one."""

    @property
    def installation(self) -> Installation:
        """The configuration, read anew."""
        (self.folder / "own.yaml").write_text(self.pack)
        (self.folder / "watcher.yaml").write_text(self.yaml)
        return load_installation(self.folder / "watcher.yaml")

    def without(self, text: str, instead: str = "") -> World:
        """Take something out of the configuration."""
        assert text in self.yaml
        self.yaml = self.yaml.replace(text, instead)
        return self

    def begin(self, minutes: int) -> World:
        """Let users have had it for some minutes, half of them, and the journal know of it."""
        self.exposed_at = NOW - minutes * MINUTE
        self.switch.on[FEATURE] = 0.5
        self.source.observations = {
            "errors": observed(0.02, treated=minutes),
            "orders": observed(0.7, treated=minutes),
            SPLIT: users(0.5, treated=minutes),
        }
        installation, service = self.installation, self.installation.services["shop"]
        self.journal.add_release(plan(installation, service, service.releases[0], self.release), NOW, "a test")
        return self

    @property
    def release(self) -> Release:
        """The release that is checked."""
        service = self.installation.services["shop"]
        strategy = service.releases[0].strategy
        stages = (*self.earlier, Stage(self.exposed_at, self.share))
        return Release(
            "shop",
            "production",
            FEATURE,
            self.version,
            strategy,
            stages,
            "1.1.0",
            self.reversible,
            everyone=self.everyone,
        )

    def run(self) -> Preflight:
        """Go through the checklist."""
        installation = self.installation
        service = installation.services["shop"]
        return preflight.run(
            installation,
            service,
            service.releases[0],
            self.release,
            source=self.source,
            switches=lambda _: self.switch,
            alerters=self.alerters,
            journal=self.journal,
            now=NOW,
        )

    def lines(self, check: str) -> list[Line]:
        """Return the lines of one check."""
        return [line for line in self.run().lines if line.check == check]

    def missing(self, check: str) -> list[Line]:
        """Return the lines of one check that did not pass, each of which says what to do."""
        found = [line for line in self.run().missing if line.check == check]
        assert all(line.do for line in found)
        return found

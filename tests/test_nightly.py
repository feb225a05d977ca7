"""What is learnt at night: when it is due, when an exposure uses it, and that it is what exposure would have learnt."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from watcher import intake, nightly
from watcher.config import Installation, load_installation
from watcher.errors import SourceError
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import Exposure, Floats, Observations, Request, Watch
from watcher.testing import MemorySource, counts

NOW = 1_800_000_000.0
"""A Friday, 08:00 UTC and 09:00 in Berlin."""

HOUR, DAY, BLOCK = 3600.0, 86_400.0, 600.0
NEXT_NIGHT = NOW + 18 * HOUR
"""03:00 in Berlin; 02:00 UTC."""

ALONE = """
      - strategy: blue_green
        notice: {http: true}
"""
WITH_ARMS = """
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
"""
YAML = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
block: 10m
services:
  shop:
    timezone: Europe/Berlin
    watch_for: 1h
    warm_up: 10m
    rules: [own.yaml]
    releases:"""
PACK = """
pack: own
rules:
  - {name: errors, kind: ratio, bad: errors_total, total: requests_total, margin: 20%}
  - {name: load, kind: gauge, value: load_seconds, worse: higher, margin: 10%}
"""
OPTIONAL = "  - {name: paint, kind: gauge, value: paint_seconds, worse: higher, margin: 10%, required: false}\n"


@dataclass
class Asked(MemorySource):
    """Remembers which history it was asked for."""

    pasts: list[Request] = field(default_factory=list)

    def history(self, request: Request) -> dict[str, Observations]:
        """Return the blocks asked for."""
        self.pasts.append(request)
        return self.observe(request)

    @property
    def days(self) -> list[float]:
        """How much was asked for each time."""
        return [(each.end - each.start) / DAY for each in self.pasts]


def measured() -> Asked:
    """Return 30 days before and three after: a wave of the day, and of a third rule nothing at all."""
    rng = np.random.default_rng(3)
    ends = NOW + BLOCK * np.arange(-30 * 144 + 1, 3 * 144 + 1)
    wave = np.sin(2 * np.pi * ends / DAY)
    total = rng.poisson(2000 * np.exp(0.5 * wave)).astype(float)
    events = rng.binomial(total.astype(int), 0.02 * np.exp(0.2 * wave)).astype(float)
    load = np.exp(0.2 * wave + rng.normal(0, 0.03, ends.size))
    nothing = np.zeros(ends.size)
    return Asked(
        {
            "errors": counts(ends, None, (events, total)),
            "load": counts(ends, None, (load, np.ones(ends.size))),
            "paint": counts(ends, None, (nothing, nothing)),
        }
    )


@dataclass
class World:
    """An installation, its journal and its source."""

    folder: Path
    journal: Journal
    source: Asked = field(default_factory=measured)
    pack: str = PACK
    releases: str = ALONE

    @property
    def installation(self) -> Installation:
        """Read anew, as after a restart."""
        (self.folder / "own.yaml").write_text(self.pack)
        (self.folder / "watcher.yaml").write_text(YAML + self.releases)
        return load_installation(self.folder / "watcher.yaml")

    def learn(self, now: float = NOW) -> str | None:
        """Learn what is due."""
        return nightly.learn(self.installation, self.journal, self.source, now)

    def exposed(self, at: float, strategy: str = "blue_green") -> Watch:
        """Let users be exposed to a release; from here on, count what is asked of the source."""
        installation = self.installation
        service = installation.services["shop"]
        entry = intake.entry_for(service, strategy)
        seen = Exposure("shop", f"v{at:.0f}", at, previous="v1")
        release = intake.take(installation, self.journal, service, entry, seen, "release start").release
        assert release is not None
        self.source.pasts.clear()
        return self.journal.watch(release)

    def ready(self, watch: Watch) -> dict[str, object]:
        """Return what is ready at exposure."""
        return dict(nightly.ready(self.installation, self.journal, watch, self.source, watch.release.exposed_at + 60))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "flags.yaml").write_text("features:\n  new-checkout:\n    enabled: false\n")
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        yield World(tmp_path, journal)


def close(one: Floats | None, other: Floats | None, relative: float, absolute: float = 0.0) -> None:
    """Two arrays differ by no more than so much of the second, or so much in all."""
    assert one is not None
    assert other is not None
    np.testing.assert_allclose(one, other, rtol=relative, atol=absolute)


# --- when it is due -------------------------------------------------------------------------------------------------


def test_it_is_learnt_once_and_again_after_the_next_local_night(world: World):
    assert world.learn() == "shop, blue_green"
    assert world.learn(NOW + 60) is None
    assert world.learn(NEXT_NIGHT - 1) is None
    assert world.learn(NEXT_NIGHT) == "shop, blue_green"
    assert world.learn(NEXT_NIGHT + 60) is None


def test_four_weeks_are_read_one_rule_at_a_time(world: World):
    world.learn()
    assert world.source.days == [28.0, 28.0]
    assert [[rule.name for rule in each.rules] for each in world.source.pasts] == [["errors"], ["load"]]
    assert world.source.pasts[0].end <= NOW - world.installation.settle


def test_of_a_young_service_nothing_is_kept_and_it_is_learnt_at_exposure(world: World):
    """Three hours of data: an hour later there are four, and what was learnt of three would hide them."""
    held = world.source.observations
    world.source.observations = {
        name: replace(
            each, treatment=replace(each.treatment, total=np.where(each.ends > NOW - 3 * HOUR, each.treatment.total, 0))
        )
        for name, each in held.items()
    }
    assert world.learn() is None
    assert world.ready(world.exposed(NOW + 600)) == {}
    world.source.pasts.clear()
    assert world.learn(NOW + 1800) is None
    assert world.source.pasts == []
    world.learn(NOW + HOUR)
    assert world.source.pasts != []


def test_other_rules_are_learnt_at_once(world: World):
    world.learn()
    world.pack = PACK.replace("20%", "30%")
    assert world.learn(NOW + 60) == "shop, blue_green"
    assert world.learn(NOW + 120) is None


def test_what_a_control_is_followed_by_once_everybody_has_the_release_is_learnt_once_for_all_kinds(world: World):
    world.releases = WITH_ARMS
    assert world.learn() == "shop, flag"
    assert world.source.days == [28.0, 28.0]
    assert world.learn(NOW + 60) is None


def test_what_could_not_be_read_is_tried_again_after_an_hour(world: World):
    world.source.down = "connection refused"
    with pytest.raises(SourceError, match="connection refused"):
        world.learn()
    world.source.down = None
    assert world.learn(NOW + HOUR - 1) is None
    assert world.ready(world.exposed(NOW + 1200)) == {}
    assert world.learn(NOW + HOUR) == "shop, blue_green"


# --- what an exposure makes of it -----------------------------------------------------------------------------------


def test_an_exposure_right_after_is_judged_as_if_it_had_been_learnt_then(world: World):
    world.learn()
    watch = world.exposed(NOW - BLOCK)
    found = nightly.ready(world.installation, world.journal, watch, world.source, NOW)
    assert world.source.days == [1.0]
    fresh = prepare(watch, read_history(watch, world.source))
    assert list(found) == ["errors", "load"]
    for name, own in found.items():
        # The last hours of the history are smoothed with what is foreseen after them, of which a night foresees more.
        assert own.bar == pytest.approx(fresh[name].bar, rel=0.02)
        assert (own.apart, own.assumed, own.contaminated) == (fresh[name].apart, fresh[name].assumed, ())
        assert own.usual_from == fresh[name].usual_from
        assert own.placebos is not None
        assert np.quantile(np.abs(own.placebos - fresh[name].placebos), 0.9) < 0.05
        for array in ("usual", "sigma", "unit", "temper", "spread_lately"):
            close(getattr(own, array), getattr(fresh[name], array), 0.02)


@pytest.mark.parametrize("hours", [5, 24])
def test_within_a_day_only_the_last_day_is_read_and_the_usual_is_nearly_the_same(world: World, hours: int):
    world.learn()
    watch = world.exposed(NOW + hours * HOUR)
    found = nightly.ready(world.installation, world.journal, watch, world.source, NOW + hours * HOUR + 60)
    assert world.source.days == [1.0]
    fresh = prepare(watch, read_history(watch, world.source))
    for name, own in found.items():
        assert own.usual_from == fresh[name].usual_from == NOW + hours * HOUR + BLOCK
        # Of a gauge that is a logarithm: 2 % of it, too.
        close(own.usual, fresh[name].usual, 0.02, 0.02 * own.logarithmic)
        close(own.unit, fresh[name].unit, 0.02)
        assert own.placebos is not None
        # Placebos of the night began at other hours: what they reach is as large only on the whole.
        assert np.median(own.placebos) == pytest.approx(np.median(fresh[name].placebos), abs=0.3)
        assert own.bar == pytest.approx(fresh[name].bar, rel=0.6)
        assert own.apart == pytest.approx(fresh[name].apart, abs=2)
        assert own.contaminated == ()


def test_a_bad_release_that_was_turned_off_is_not_what_the_next_one_is_held_against(world: World):
    world.learn()
    bad = world.exposed(NOW + HOUR)
    world.journal.end_release(bad.release.id, "recovered", "its errors are back", NOW + 2 * HOUR)
    seen = world.source.observations["errors"]
    while_bad = (seen.ends > NOW + HOUR) & (seen.ends <= NOW + 2 * HOUR)
    arm = replace(seen.treatment, events=seen.treatment.events * np.where(while_bad, 10.0, 1.0))
    world.source.observations = {**world.source.observations, "errors": replace(seen, treatment=arm)}
    watch = world.exposed(NOW + 2.5 * HOUR)
    found = nightly.ready(world.installation, world.journal, watch, world.source, NOW + 2.5 * HOUR + 60)
    fresh = prepare(watch, read_history(watch, world.source))
    assert [each.contaminated for each in found.values()] == [(), ()]
    close(found["errors"].spread_lately, fresh["errors"].spread_lately, 0.05)


@pytest.mark.parametrize("hours", [26, 40])
def test_what_is_too_old_is_learnt_at_exposure(world: World, hours: int):
    world.learn()
    assert world.ready(world.exposed(NOW + hours * HOUR)) == {}
    assert world.source.pasts == []


def test_what_was_learnt_of_other_rules_is_learnt_at_exposure(world: World):
    world.learn()
    world.pack = PACK.replace("20%", "30%")
    assert world.ready(world.exposed(NOW + HOUR)) == {}
    assert world.source.pasts == []


def test_a_release_with_a_control_asks_for_nothing(world: World):
    world.releases = ALONE + WITH_ARMS.lstrip("\n")
    world.learn()
    assert world.ready(world.exposed(NOW + HOUR, "canary")) == {}
    assert world.source.pasts == []


def test_it_is_found_by_kinds_of_release_that_have_no_control(world: World):
    world.releases = WITH_ARMS.rstrip(" \n") + ALONE
    assert world.learn() == "shop, flag"
    assert world.learn(NOW + 60) is None
    assert sorted(world.ready(world.exposed(NOW + HOUR))) == ["errors", "load"]
    assert world.source.days == [1.0]


def test_an_optional_rule_that_nobody_measures_does_not_void_the_others(world: World):
    world.pack = PACK + OPTIONAL
    world.learn()
    found = world.ready(world.exposed(NOW + HOUR))
    assert {"errors", "load"} <= set(found)
    assert world.source.days == [1.0]

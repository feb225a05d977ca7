from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.preflight.world import ALONE, FLAG, NOW, SERVICE, TOP, World
from watcher import deployments
from watcher.errors import Refused, SourceDown
from watcher.model import Deployment, Floats, Release, Selector, Stage, Strategy
from watcher.preflight import Said, asked
from watcher.sources.prometheus import PrometheusSource

CANARY = """
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
"""
FLAGS = "features:\n  new-checkout: {enabled: false, rollout_percentage: 5}\n  quick-pay: {enabled: false}\n"


@dataclass
class Versions(PrometheusSource):
    """A server of which only the traffic of versions is asked."""

    traffic: dict[str, float] = field(default_factory=dict)
    down: str | None = None
    questions: list[tuple[str, str, float, float]] = field(default_factory=list)

    def labels_with_traffic(self, selector: Selector, label: str, at: float, window: float) -> dict[str, float]:
        """Return what a test says."""
        self.questions.append((str(selector), label, at, window))
        if self.down is not None:
            raise SourceDown(self.down)
        return self.traffic


@pytest.fixture
def flags(world: World) -> World:
    """A world with a flags file."""
    (world.folder / "flags.yaml").write_text(FLAGS)
    return world


def ask(world: World, text: str, said: Said | None = None, source: PrometheusSource | None = None) -> Release:
    server = Versions() if source is None else source
    return asked(world.installation, world.journal, server, text, said or Said(), NOW + 30)[2]


@pytest.mark.parametrize("text", ["new-checkout", "shop/new-checkout", "shop/production/new-checkout"])
def test_a_flag_that_nobody_opened_is_the_next_one_at_the_share_its_file_has_ready(flags: World, text: str) -> None:
    found = ask(flags, text)
    assert found == Release(
        "shop", "production", "new-checkout", "next", Strategy.FLAG, (Stage(NOW, 0.05),), named=False
    )


def test_what_is_said_of_a_release_counts(flags: World) -> None:
    said = Said(previous="1.1.0", share=0.2, reversible=False)
    found = ask(flags, "shop/new-checkout@1.2.0", said)
    assert found == Release(
        "shop", "production", "new-checkout", "1.2.0", Strategy.FLAG, (Stage(NOW, 0.2),), "1.1.0", reversible=False
    )


def test_a_flag_without_a_percentage_is_for_everybody_and_one_at_nought_for_nobody_knows(flags: World) -> None:
    assert ask(flags, "shop/quick-pay").stages[0].share == 1.0
    (flags.folder / "flags.yaml").write_text("features: {new-checkout: {enabled: false, rollout_percentage: 0}}\n")
    assert ask(flags, "shop/new-checkout").stages[0].share is None
    (flags.folder / "flags.yaml").unlink()
    assert ask(flags, "shop/new-checkout").stages[0].share is None


def test_what_was_deployed_and_waits_for_exposure_is_what_will_be_released(flags: World) -> None:
    waiting = Deployment("new-checkout", "1.3.0", NOW - 600, "1.2.0", reversible=False)
    deployments.noted(flags.journal, flags.installation.services["shop"], waiting, "a test")
    found = ask(flags, "shop/new-checkout")
    assert (found.version, found.previous, found.reversible, found.named) == ("1.3.0", "1.2.0", False, True)
    assert ask(flags, "shop/new-checkout@2.0").version == "2.0"
    assert deployments.waiting_for(flags.journal, flags.installation.services["shop"]) == ("new-checkout",)


def test_where_shares_are_to_be_gone_through_the_first_is_meant(world: World) -> None:
    steps = "        promote: [2%, 20%, 100%]\n        kill: {yaml_flags: flags.yaml}"
    world.yaml = TOP + SERVICE + CANARY + steps
    assert ask(world, "shop@1.2.0", Said(previous="1.1.0")).stages[0].share == 0.02


def test_a_release_of_the_journal_is_taken_as_it_is(world: World) -> None:
    known = world.begin(30).release
    assert ask(world, "shop/production/new-checkout@1.2.0") == known
    with pytest.raises(Refused, match="is in the journal, which knows all about it"):
        ask(world, "shop/production/new-checkout@1.2.0", Said(share=0.1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("bar/new-checkout", "watcher.yaml has no service 'bar'; it has: shop"),
        ("shop/staging/new-checkout", "names no release; write shop/FEATURE"),
        ("shop/", "names no release; write shop/FEATURE"),
        ("a/b/c/d", "watcher.yaml has no service 'a'"),
    ],
)
def test_what_is_no_release_is_refused_with_what_is_one(flags: World, text: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        ask(flags, text)


def test_of_several_ways_to_release_the_one_whose_notice_names_the_feature_is_meant(flags: World) -> None:
    flags.yaml = TOP + SERVICE + FLAG + ALONE
    assert ask(flags, "shop/new-checkout").strategy is Strategy.FLAG
    assert ask(flags, "shop/other", Said(strategy="blue_green")).strategy is Strategy.BLUE_GREEN
    with pytest.raises(Refused, match=r"several kinds of release .* say which with --strategy"):
        ask(flags, "shop/other")


def canary(world: World) -> World:
    world.yaml = TOP + SERVICE.replace("mode: armed", "mode: observe") + CANARY
    return world


def test_versions_are_those_with_traffic_the_busiest_is_the_previous(world: World) -> None:
    server = Versions(traffic={"1.2.0": 40.0, "1.1.0": 900.0})
    found = ask(canary(world), "shop/checkout", source=server)
    assert (found.version, found.previous) == ("1.2.0", "1.1.0")
    assert server.questions == [('requests_total{job="shop"}', "version", NOW, 600.0)]


def test_the_version_that_is_named_is_not_its_own_previous(world: World) -> None:
    found = ask(canary(world), "shop/checkout@1.2.0", source=Versions(traffic={"1.2.0": 900.0, "1.1.0": 40.0}))
    assert (found.version, found.previous) == ("1.2.0", "1.1.0")


def test_nothing_is_asked_of_the_server_where_both_are_said(world: World) -> None:
    server = Versions(down="it is not there")
    found = ask(canary(world), "shop/checkout@1.2.0", Said(previous="1.1.0"), source=server)
    assert (found.version, found.previous, server.questions) == ("1.2.0", "1.1.0", [])


def test_a_version_that_nobody_knows_is_asked_for(world: World) -> None:
    with pytest.raises(Refused, match=r"say which version is released: shop/checkout@VERSION; with traffic now: 1.1.0"):
        ask(canary(world), "shop/checkout", source=Versions(traffic={"1.1.0": 900.0}))
    with pytest.raises(Refused, match=r"say which version users of shop/checkout@1\.2\.0 have now, with --previous"):
        ask(canary(world), "shop/checkout@1.2.0", source=Versions(traffic={"1.2.0": 900.0}))


def test_a_server_that_is_down_is_named_where_versions_had_to_be_asked(world: World) -> None:
    with pytest.raises(Refused, match=r"cannot be asked .it is not there.; say it with --previous"):
        ask(canary(world), "shop/checkout@1.2.0", source=Versions(down="it is not there"))


def test_a_switch_that_goes_back_to_the_previous_asks_for_it(world: World, tmp_path: Path) -> None:
    own = ALONE.replace("{yaml_flags: flags.yaml}", '{yaml_flags: {file: flags.yaml, to: "{previous}"}}')
    world.yaml = TOP + SERVICE + own
    with pytest.raises(Refused, match="with --previous"):
        ask(world, "shop/checkout@1.2.0")
    world.yaml = (TOP + SERVICE + ALONE).replace("yaml_flags: flags.yaml", 'command: {kill: ["back", "to={previous}"]}')
    world.yaml = world.yaml.replace("switch: yaml_flags", "switch: command")
    with pytest.raises(Refused, match="with --previous"):
        ask(world, "shop/checkout@1.2.0")
    assert ask(world, "shop/checkout@1.2.0", Said(previous="1.1.0")).previous == "1.1.0"


def test_the_end_of_the_last_block_is_taken_for_the_exposure(flags: World) -> None:
    def exposed(settle: str) -> Floats | float:
        flags.yaml = flags.yaml.replace("settle: 0s", settle)
        return ask(flags, "shop/new-checkout").exposed_at

    assert (exposed("settle: 0s"), exposed("settle: 45s")) == (NOW, NOW - 60)

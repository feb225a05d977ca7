"""From exposure to watch: starts, stages, ends, newer releases superseding older."""

from __future__ import annotations

from dataclasses import replace

import pytest

from watcher import intake
from watcher.config import load_installation
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.model import Exposure, Release, Stage, Strategy

NOW = 1_800_000_000.0
YAML = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    environment: production
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
"""


@pytest.fixture
def world(tmp_path):
    (tmp_path / "watcher.yaml").write_text(YAML)
    (tmp_path / "flags.yaml").write_text("features:\n  new-checkout:\n    enabled: false\n")
    installation = load_installation(tmp_path / "watcher.yaml")
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        yield installation, journal, installation.services["shop"]


def take(world, exposure: Exposure, strategy: str = "flag", by: str = "flags file"):
    installation, journal, service = world
    return intake.take(installation, journal, service, intake.entry_for(service, strategy), exposure, by)


def opened(version: str = "r1", at: float = NOW, share: float | None = 0.05) -> Exposure:
    return Exposure("new-checkout", version, at, share=share)


def test_a_new_revision_starts_a_watch(world):
    assert take(world, opened()) == "shop/production/new-checkout@r1"
    (watched,) = world[1].watches(active=True)
    assert watched.watch.release.stages[0].share == 0.05
    assert watched.watch.treatment == (("variant", "on"),)


def test_one_release_noticed_twice_is_one_release(world):
    take(world, opened())
    take(world, opened(at=NOW + 60), by="release start")
    assert len(world[1].watches()) == 1


def test_a_raised_share_is_a_stage_of_the_running_release(world):
    take(world, opened())
    take(world, Exposure("new-checkout", "", NOW + 600, share=0.5))
    (watched,) = world[1].watches(active=True)
    assert [stage.share for stage in watched.watch.release.stages] == [0.05, 0.5]


def test_a_share_of_nothing_that_runs_starts_nothing(world):
    assert take(world, Exposure("new-checkout", "", NOW, share=0.5)) is None
    assert world[1].watches() == []


def test_a_newer_release_supersedes_the_older_and_the_older_says_so(world):
    take(world, opened("r1"))
    take(world, opened("r2", at=NOW + 3600))
    old, new = world[1].watches()
    assert (old.status, new.status) == ("superseded", "active")
    assert "new-checkout@r2" in old.end_reason


def test_exposure_that_ends_by_other_hands_ends_the_watch(world):
    take(world, opened())
    take(world, Exposure("new-checkout", "", NOW + 60, share=0.0, off=True))
    (watched,) = world[1].watches()
    assert (watched.status, watched.end_reason) == ("ended", "exposure ended (flags file)")


def test_strategies_are_named_when_a_service_has_several(world):
    with pytest.raises(Refused, match=r"several kinds of release \(canary, flag\)"):
        intake.entry_for(world[2], None)
    with pytest.raises(Refused, match="no blue_green releases"):
        intake.entry_for(world[2], "blue_green")


def test_accepting_a_rule_that_is_not_there_names_those_that_are(world):
    release = take(world, opened())
    with pytest.raises(Refused, match="request-errors"):
        intake.accept(world[1], release, "nope", "why", NOW, "ada")
    intake.accept(world[1], release, "request-errors", "new error page", NOW, "ada")
    assert world[1].watch(release).accepted == (("request-errors", "new error page, ada"),)


# --- what of the past was not usual -----------------------------------------------------------------------------------

HALF_AN_HOUR = 1800.0


def disturbed(world, at: float, feature: str = "new-checkout"):
    """What a release made then holds to be unusual."""
    release = Release("shop", "production", feature, "now", Strategy.FLAG, (Stage(at),))
    return intake.disturbed(world[1], world[2], release)


@pytest.mark.parametrize("ended", ["ended", "superseded"])
def test_the_half_hour_after_another_release_is_not_usual(world, ended: str):
    journal, release = world[1], take(world, opened())
    journal.end_release(release, ended, "why", NOW + 7200)
    assert disturbed(world, NOW + 10_000) == ((NOW, NOW + HALF_AN_HOUR),)


@pytest.mark.parametrize("ended", ["recovered", "unrecovered"])
def test_what_had_to_be_turned_off_is_not_usual_from_its_exposure_to_the_end_of_its_watch(world, ended: str):
    journal, release = world[1], take(world, opened())
    journal.end_release(release, ended, "why", NOW + 7200)
    assert disturbed(world, NOW + 10_000) == ((NOW, NOW + 7200),)


def test_a_release_ends_what_was_unusual_before_it_and_itself_is_not(world):
    take(world, opened())
    assert disturbed(world, NOW + 600) == ((NOW, NOW + 600),)
    assert disturbed(world, NOW - 600) == ()
    own = world[1].watches()[0].watch.release
    assert intake.disturbed(world[1], world[2], own) == ()


def test_releases_elsewhere_disturb_nothing(world):
    take(world, opened())
    assert disturbed(world, NOW + 10_000, feature="other") == ((NOW, NOW + HALF_AN_HOUR),)
    there = Release("shop", "staging", "new-checkout", "now", Strategy.FLAG, (Stage(NOW + 10_000),))
    assert intake.disturbed(world[1], replace(world[2], environment="staging"), there) == ()
    assert intake.disturbed(world[1], replace(world[2], name="search"), replace(there, service="search")) == ()


def test_a_watch_that_starts_leaves_out_what_the_others_disturbed(world):
    take(world, opened("r1"))
    take(world, opened("r2", at=NOW + 3600))
    assert world[1].watches()[1].watch.excluded == ((NOW, NOW + HALF_AN_HOUR),)

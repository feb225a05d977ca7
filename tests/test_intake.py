"""From exposure to watch: starts, stages, ends, newer releases superseding older."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from watcher import deployments, intake
from watcher.config import load_installation
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.model import Deployment, Exposure, Release, Stage, Strategy

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


def told(world) -> dict[str, list[str]]:
    """What people are told by state, lines but the last outcome."""
    found: dict[str, list[str]] = {}
    for entry in world[1].actions():
        lines = [line for line in entry.action.lines if not line.startswith("Last outcome")]
        found[entry.action.state] = lines
    return found


def opened(version: str = "r1", at: float = NOW, share: float | None = 0.05) -> Exposure:
    return Exposure("new-checkout", version, at, share=share)


def test_a_new_revision_starts_a_watch(world):
    assert take(world, opened()).release == "shop/production/new-checkout@r1"
    (watched,) = world[1].watches(active=True)
    assert watched.watch.release.stages[0].share == 0.05
    assert watched.watch.treatment == (("variant", "on"),)


def test_one_release_noticed_twice_is_one_release(world):
    take(world, opened())
    take(world, opened(at=NOW + 60), by="release start")
    assert len(world[1].watches()) == 1


def test_a_raised_share_is_a_stage_of_the_running_release(world):
    take(world, opened())
    take(world, Exposure("new-checkout", "r2", NOW + 600, share=0.5, more=True))
    (watched,) = world[1].watches(active=True)
    assert [stage.share for stage in watched.watch.release.stages] == [0.05, 0.5]


def test_a_share_that_is_raised_when_no_watch_runs_any_more_is_a_release(world):
    assert take(world, Exposure("new-checkout", "r2", NOW, share=0.5, more=True)).release.endswith("@r2")


def test_a_share_that_is_lowered_when_no_watch_runs_starts_nothing(world):
    assert take(world, Exposure("new-checkout", "r2", NOW, share=0.5, fewer=True)).release is None
    assert world[1].watches() == []


def test_a_newer_release_supersedes_the_older_and_the_older_says_so(world):
    take(world, opened("r1"))
    take(world, opened("r2", at=NOW + 3600))
    old, new = world[1].watches()
    assert (old.status, new.status) == ("superseded", "active")
    assert "new-checkout@r2" in old.end_reason
    said = told(world)
    assert said["superseded"] == ["Superseded by shop/production/new-checkout@r2."]
    assert said["watching"] == ["Supersedes shop/production/new-checkout@r1, exposed 60 min earlier."]


def test_exposure_that_ends_by_other_hands_ends_the_watch(world):
    take(world, opened())
    take(world, Exposure("new-checkout", "", NOW + 60, share=0.0, off=True))
    (watched,) = world[1].watches()
    assert (watched.status, watched.end_reason) == ("ended", "exposure ended (flags file)")
    assert told(world)["ended"] == ["Exposure ended (flags file)."]


def test_a_release_told_again_with_another_share_has_a_stage_more(world):
    installation, journal, service = world
    for at, share in ((NOW, 0.05), (NOW + 600, 0.25), (NOW + 660, 0.25)):
        exposure = opened("1.2.0", at=at, share=share)
        intake.told(installation, journal, service, exposure, "flag", "POST /v1/releases")
    (watched,) = journal.watches()
    assert [stage.share for stage in watched.watch.release.stages] == [0.05, 0.25]


def test_a_version_that_is_released_again_once_its_watch_ended_is_watched_again_and_told_in_a_message_of_its_own(world):
    installation, journal, service = world

    def told_at(at: float) -> intake.Noticed:
        return intake.told(installation, journal, service, opened("green", at=at), "flag", "POST /v1/releases")

    first = told_at(NOW)
    journal.end_release(first.release, "recovered", "killed", NOW + 600)
    # The same again, as a pipeline that got no answer sends it, is no release.
    assert told_at(NOW) == intake.Noticed(first.release)
    second = told_at(NOW + 3600)
    assert second == intake.Noticed("shop/production/new-checkout@green#2", new=True)
    assert told_at(NOW + 3700) == intake.Noticed(second.release)
    (watched,) = journal.watches(active=True)
    assert (watched.watch.release.version, watched.watch.release.message) == ("green", second.release)
    journal.end_release(second.release, "ended", "over", NOW + 7200)
    assert told_at(NOW + 9000).release == "shop/production/new-checkout@green#3"


def test_two_ways_of_noticing_are_one_release_although_one_knows_no_name(world):
    first = take(world, Exposure("new-checkout", "2026-11-20T10:00:00Z", NOW, share=0.05, named=False))
    again = take(world, opened("1.2.0", at=NOW + 60), by="POST /v1/releases")
    assert (again.release, again.new) == (first.release, False)
    (watched,) = world[1].watches()
    assert world[1].audit_trail(watched.watch.release.id)[-1].detail["version"] == "1.2.0"


def test_a_release_told_of_twice_cannot_be_undone_if_either_says_so(world):
    take(world, Exposure("new-checkout", "2026-11-20T10:00:00Z", NOW, share=0.05, named=False))
    take(world, replace(opened("1.2.0", at=NOW + 60), reversible=False), by="POST /v1/releases")
    assert not world[1].watches()[0].watch.release.reversible


def test_what_is_told_after_a_watch_ended_is_another_release_however_soon(world):
    """Opened without a name, killed after five minutes; a mended version is told of six minutes later."""
    first = take(world, Exposure("new-checkout", "2026-11-20T10:00:00Z", NOW, share=0.05, named=False)).release
    world[1].end_release(first, "recovered", "test", NOW + 300)
    mended = take(world, opened("1.2.1", at=NOW + 660), by="POST /v1/releases")
    assert (mended.release, mended.new) == ("shop/production/new-checkout@1.2.1", True)
    late = take(world, opened("1.2.0", at=NOW + 60), by="POST /v1/releases")
    assert (late.release, late.new) == (first, False)


@pytest.mark.parametrize("later", [{"at": NOW + 3600}, {"by": "flags file"}])
def test_the_same_way_of_noticing_or_a_later_time_is_another_release(world, later):
    take(world, Exposure("new-checkout", "2026-11-20T10:00:00Z", NOW, share=0.05, named=False))
    exposure = Exposure("new-checkout", "later", later.get("at", NOW + 60), share=0.05, named=False)
    assert take(world, exposure, by=later.get("by", "switch")).new
    assert [each.status for each in world[1].watches()] == ["superseded", "active"]


def test_a_revision_that_comes_back_is_another_release(world):
    for at in (NOW, NOW + 7200):
        assert take(world, Exposure("new-checkout", "r7", at, share=0.05, named=False)).new
        take(world, Exposure("new-checkout", "r8", at + 60, share=0.0, off=True, named=False))
    assert [each.watch.release.id[-6:] for each in world[1].watches()] == ["out@r7", "t@r7#2"]


def test_what_is_noticed_again_after_a_crash_is_the_running_release(world):
    exposure = Exposure("new-checkout", "r7", NOW, share=0.05, named=False)
    first, again = take(world, exposure), take(world, replace(exposure, at=NOW + 15))
    assert (again.release, again.new) == (first.release, False)
    assert len(world[1].watches()) == 1


def test_releases_of_one_service_at_once_say_so(world):
    take(world, opened())
    take(world, Exposure("shop", "1.2", NOW + 720, previous="1.1"), strategy="canary", by="label version")
    said = {entry.release: list(entry.action.lines) for entry in world[1].actions() if entry.action.state == "watching"}
    assert said == {
        "shop/production/new-checkout@r1": ["shop/production/shop@1.2 is exposed, too, from 08:12 UTC on."],
        "shop/production/shop@1.2": [
            "Also being watched on shop: shop/production/new-checkout@r1 (exposed 12 min earlier)."
        ],
    }


def test_when_everybody_has_it_the_watch_goes_on_against_the_past(world):
    take(world, opened())
    noticed = take(world, Exposure("new-checkout", "r2", NOW + 7200, share=1.0, more=True))
    old, new = world[1].watches()
    assert (old.status, new.status) == ("everyone", "active")
    assert noticed.release == new.watch.release.id == "shop/production/new-checkout@r1+everyone"
    assert (new.watch.baseline, new.watch.treatment, new.watch.split) == (None, None, None)
    assert new.watch.history == 28 * 86_400.0
    assert new.watch.release.exposed_at == NOW + 7200
    assert (NOW, NOW + 7200) in new.watch.excluded
    assert told(world)["everyone"][-1] == "Watched on for 24 h, held against the past of shop."
    assert {entry.release for entry in world[1].actions()} == {"shop/production/new-checkout@r1"}


@pytest.mark.parametrize(("share", "alone"), [(1.0, True), (0.9, False), (None, False)])
def test_what_everybody_gets_at_once_is_held_against_the_past_from_the_start(world, share, alone):
    assert take(world, opened(share=share)).release == "shop/production/new-checkout@r1"
    (watched,) = world[1].watches()
    assert (watched.watch.baseline is None) == (watched.watch.treatment is None) == alone
    assert watched.watch.history == (28 if alone else 1) * 86_400.0


def test_a_stage_said_twice_is_one(world):
    take(world, opened())
    for _ in range(2):
        take(world, Exposure("new-checkout", "r2", NOW + 600, share=0.5, more=True))
    assert [stage.share for stage in world[1].watches()[0].watch.release.stages] == [0.05, 0.5]


def test_traffic_that_goes_back_to_the_previous_version_ends_the_watch(world):
    take(world, Exposure("new-checkout", "r1", NOW, share=1.0, previous="blue", serving="green", named=False))
    take(world, Exposure("new-checkout", "r2", NOW + 60, share=1.0, previous="green", serving="blue", named=False))
    (watched,) = world[1].watches()
    assert watched.end_reason == "traffic went back to the previous version (flags file)"


OWN = "2026-11-20T10:00:00Z"
"""What a flag that counts no revisions is called: the moment at which it was opened."""

WAYS = {
    "flags file": Exposure("new-checkout", OWN, NOW, share=0.05, named=False),
    "switch": Exposure("new-checkout", "r42", NOW, share=0.05, named=False),
    "label version": Exposure("new-checkout", "1.2.0", NOW, previous="1.1.0"),
    "POST /v1/releases": Exposure("new-checkout", "1.2.0", NOW),
    "release start by ana": Exposure("new-checkout", "v1.2.0", NOW, share=0.05, reversible=False),
    "GitHub deployment": Exposure("new-checkout", "1.2.0", NOW, share=0.0),
}


def noticed(world, way: str, after: float):
    installation, journal, service = world
    exposure = replace(WAYS[way], at=NOW + after)
    if way in ("flags file", "switch", "label version"):
        return take(world, exposure, by=way)
    return intake.told(installation, journal, service, exposure, "flag", way)


@pytest.mark.parametrize("minutes", [0.0, 14.0])
@pytest.mark.parametrize(("first", "second"), tuple(permutations(WAYS, 2)))
def test_whoever_else_notices_a_release_notices_the_same(world, first: str, second: str, minutes: float):
    one, other = noticed(world, first, 0.0), noticed(world, second, 60 * minutes)
    journal = world[1]
    if "GitHub deployment" in (first, second):
        # A deployment is no release: what opens it takes its name, and one that comes later waits for the next.
        assert len(journal.watches()) == 1
        return
    (watched,) = journal.watches()
    assert (one.release, one.new) == (other.release, not other.new) == (watched.watch.release.id, True)
    release = watched.watch.release
    assert {release.version, *release.also} >= {WAYS[first].version}
    assert release.is_called(WAYS[second].version)
    assert release.share == (None if {first, second} == {"label version", "POST /v1/releases"} else 0.05)
    assert release.reversible is ("release start by ana" not in (first, second))
    # Whoever comes third and calls it by any of these names speaks of it, too, however late.
    third = intake.told(*world, opened("1.2.0", at=NOW + 7200, share=0.25), "flag", "POST /v1/releases")
    if release.is_called("1.2.0"):
        assert (third.release, third.new) == (release.id, False)


def test_what_was_told_before_it_was_opened_gets_a_stage_when_it_is(world):
    noticed(world, "POST /v1/releases", 0.0)
    opened_late = noticed(world, "flags file", 1200.0)
    (watched,) = world[1].watches()
    assert (opened_late.release, opened_late.new) == (watched.watch.release.id, False)
    assert [(stage.at - NOW, stage.share) for stage in watched.watch.release.stages] == [(0.0, None), (1200.0, 0.05)]
    # Opened again after that, it is another release.
    assert noticed(world, "flags file", 7200.0).new


def test_a_version_that_a_label_has_of_the_whole_service_is_that_of_its_feature(world):
    journal = world[1]
    whole = take(world, Exposure("shop", "1.2", NOW, previous="1.1"), "canary", by="label version")
    part = intake.told(*world, Exposure("new-checkout", "1.2", NOW + 60, share=0.05), "canary", "POST /v1/releases")
    assert part.release == whole.release
    assert journal.watches()[0].watch.release.share == 0.05
    flag = intake.told(*world, Exposure("new-checkout", "1.2", NOW + 60, share=0.05), "flag", "POST /v1/releases")
    assert flag.new


def test_a_share_that_two_ways_tell_differently_is_on_record(world):
    noticed(world, "flags file", 0.0)
    intake.told(*world, opened("1.2.0", at=NOW + 60, share=0.1), "flag", "POST /v1/releases")
    (watched,) = world[1].watches()
    assert watched.watch.release.share == 0.05
    again = [line for line in world[1].audit_trail() if line.what == "release noticed again"]
    assert [line.detail.get("share") for line in again] == [0.1]


def test_a_deployment_waits_for_exposure_and_gives_it_its_name(world):
    _, journal, service = world
    waiting = Deployment("new-checkout", "1.2.0", NOW - 3600, previous="1.1.0", reversible=False)
    assert deployments.noted(journal, service, waiting, "GitHub deployment")
    assert not deployments.noted(journal, service, waiting, "GitHub deployment")
    assert (journal.watches(), deployments.waiting_for(journal, service)) == ([], ("new-checkout",))
    take(world, Exposure("new-checkout", "2026-11-20T10:00:00Z", NOW, share=0.05, named=False))
    release = journal.watches()[0].watch.release
    assert (release.version, release.previous, release.reversible) == ("1.2.0", "1.1.0", False)
    assert deployments.waiting_for(journal, service) == ()
    assert not deployments.noted(journal, service, waiting, "GitHub deployment")


def test_a_version_that_is_deployed_again_after_its_release_was_over_waits_again(world):
    _, journal, service = world
    release = take(world, opened("1.2.0"), by="POST /v1/releases").release
    again = Deployment("new-checkout", "1.2.0", NOW + 7200)
    assert not deployments.noted(journal, service, again, "GitHub deployment")
    journal.end_release(release, "recovered", "test", NOW + 3600)
    assert not deployments.noted(journal, service, replace(again, at=NOW + 1800), "GitHub deployment")
    assert deployments.noted(journal, service, again, "GitHub deployment")


def test_a_deployment_waits_for_its_own_version(world):
    _, journal, service = world
    deployments.noted(journal, service, Deployment("shop", "1.3", NOW - 3600), "GitHub deployment")
    take(world, Exposure("shop", "1.2", NOW, previous="1.1"), strategy="canary", by="label version")
    assert journal.watches()[0].watch.release.version == "1.2"
    assert deployments.waiting_for(journal, service) == ("shop",)


def test_a_share_of_nothing_told_by_a_person_is_a_deployment(world):
    installation, journal, service = world
    noticed = intake.told(installation, journal, service, opened("1.2.0", share=0.0), "flag", "POST /v1/releases")
    assert (noticed.release, noticed.new) == (None, True)
    assert deployments.waiting_for(journal, service) == ("new-checkout",)


def test_strategies_are_named_when_a_service_has_several(world):
    with pytest.raises(Refused, match=r"several kinds of release \(canary, flag\)"):
        intake.entry_for(world[2], None)
    with pytest.raises(Refused, match="no blue_green releases"):
        intake.entry_for(world[2], "blue_green")


def test_accepting_a_rule_that_is_not_there_names_those_that_are(world):
    release = take(world, opened()).release
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
    journal, release = world[1], take(world, opened()).release
    journal.end_release(release, ended, "why", NOW + 7200)
    assert disturbed(world, NOW + 10_000) == ((NOW, NOW + HALF_AN_HOUR),)


@pytest.mark.parametrize("ended", ["recovered", "unrecovered"])
def test_what_had_to_be_turned_off_is_not_usual_from_its_exposure_to_the_end_of_its_watch(world, ended: str):
    journal, release = world[1], take(world, opened()).release
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

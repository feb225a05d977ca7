from __future__ import annotations

from dataclasses import replace

import pytest

from tests.preflight.world import ALONE, FLAG, MINUTE, NOW, SERVICE, TOP, World, observed, users
from watcher.comparison import SPLIT
from watcher.config import plan
from watcher.errors import SourceRefused
from watcher.intake import for_everyone
from watcher.model import Stage
from watcher.preflight import Line


def test_the_share_and_the_arms_are_told_and_before_the_release_there_is_no_split_to_observe(world: World) -> None:
    share, split, sticky = world.lines("exposure")
    assert share == Line("exposure", "pass", '50 % of the users: variant="on" against variant="off"')
    assert split.said == "the split is checked on sessions_total: before the release there is none to observe"
    assert sticky == Line("exposure", "pass", "sticky: users keep the version they got")


def test_the_observed_split_is_told_with_its_interval(world: World) -> None:
    [line] = [line for line in world.begin(30).lines("exposure") if "in the last minutes" in line.said]
    assert line.status == "pass"
    assert "the release gets 50.4 % (48.2 to 52.7 %) of the users; 50 % is configured" in line.said


def test_a_split_that_is_off_fails(world: World) -> None:
    world.begin(30)
    world.source.observations = {**world.source.observations, SPLIT: users(0.4, treated=30)}
    [line] = world.missing("exposure")
    assert line.status == "fail"
    assert line.said.startswith("the split is off: the release gets ")
    assert line.said.endswith("50 % is configured")


def test_nobody_is_counted_during_the_warm_up(world: World) -> None:
    world.without("warm_up: 0s", "warm_up: 5m").begin(3)
    assert any("nobody was counted since its warm-up" in line.said for line in world.lines("exposure"))


def test_a_split_that_cannot_be_read_fails_and_hides_nothing_else(world: World) -> None:
    world.source.refused = {SPLIT: SourceRefused("no such label")}
    found = world.run()
    assert [(line.check, line.status, line.said) for line in found.missing] == [
        ("exposure", "fail", "how users are split cannot be said: no such label")
    ]


def test_a_counter_that_counts_nobody_is_no_counter_of_users(world: World) -> None:
    nobody = users(0.5, treated=0)
    arms = (each for each in (nobody.baseline, nobody.treatment) if each is not None)
    baseline, treatment = (replace(arm, events=0 * arm.events, total=0 * arm.total) for arm in arms)
    world.source.observations = {
        **world.source.observations,
        SPLIT: replace(nobody, baseline=baseline, treatment=treatment),
    }
    [line] = world.missing("exposure")
    assert (line.status, line.do) == ("warn", "check its name and labels")
    assert line.said.startswith("sessions_total counted nobody in the last minutes: the split will not be checked")


def test_without_a_counter_of_users_the_split_will_not_be_checked(world: World) -> None:
    world.without("        split: {assigned: sessions_total, share: notice}\n")
    [line] = world.missing("exposure")
    assert (line.status, "will not be checked" in line.said) == ("warn", True)
    assert "`split: {assigned: sessions_total, share: notice}`" in line.do


def test_a_share_that_nobody_says_is_asked_for_and_half_is_planned_with(world: World) -> None:
    world.share = None
    [exposure] = world.missing("exposure")
    assert exposure.said.startswith("nobody says what share of the users will get it")
    assert exposure.do == "say it with --share 5%, or set rollout_percentage in the flags file"
    [effect] = world.missing("effect")
    assert "50 % of the users get" in effect.said


def test_a_share_that_only_the_switch_says_is_taken_from_it(world: World) -> None:
    world.yaml = TOP + SERVICE + CANARY
    world.share, world.switch.on = None, {"new-checkout": 0.05}
    share, *_ = world.lines("exposure")
    assert world.missing("exposure") == []
    assert share.said == '5 % of the users: version="1.2.0" against version="1.1.0"'


def test_a_switch_that_will_say_the_share_says_nothing_while_it_is_off(world: World) -> None:
    world.yaml, world.share = TOP + SERVICE + CANARY, None
    [line] = world.missing("exposure")
    assert line.do == "say it with --share 5%; once users have it, the switch says it"


CANARY = """
      - strategy: canary
        notice: {label: version, features: [new-checkout]}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        split: {assigned: sessions_total, share: switch}
        kill: {yaml_flags: flags.yaml}
"""


def test_a_share_that_switch_and_notice_say_otherwise_is_told(world: World) -> None:
    world.begin(30).switch.on = {"new-checkout": 0.1}
    [line] = world.missing("exposure")
    assert line.said == "the release is said to get 50 % of the users, and the switch gives it 10 %"
    assert line.status == "warn"


def test_with_everybody_on_the_release_nobody_is_left_to_hold_it_against(world: World) -> None:
    world.share = 1.0
    [exposure] = world.missing("exposure")
    assert (exposure.status, exposure.said) == (
        "fail",
        'all users get it: nobody is left in the baseline (variant="off") to hold it against',
    )
    assert [line.status for line in world.missing("effect")] == ["fail"]


@pytest.mark.parametrize(("sticky", "said"), [(False, "not sticky: "), (None, "cannot be said")])
def test_users_who_may_flip_between_versions_are_warned_of(world: World, sticky: bool | None, said: str) -> None:
    world.switch.sticky = sticky
    [line] = world.missing("exposure")
    assert (line.status, said in line.said, "by user or session" in line.do) == ("warn", True, True)


def test_everybody_at_once_need_not_be_sticky(world: World) -> None:
    world.yaml, world.share, world.switch.sticky = TOP + SERVICE + ALONE, None, None
    assert world.lines("exposure") == [Line("exposure", "pass", "everybody, held against the past: there are no arms")]


def test_once_everybody_has_it_a_release_is_held_against_the_past(world: World) -> None:
    world.without("warm_up: 0s", "warm_up: 0s\n    watch_for: 1h")
    world.share, world.everyone, world.switch.on = 1.0, True, {"new-checkout": 1.0}
    whole = observed(0.02, hours=24, features=("",), alone=True, units=1)
    world.source.observations = {"errors": whole, "orders": whole}
    found = world.run()
    assert found.release == "shop/production/new-checkout@1.2.0+everyone"
    assert "everybody, held against the past: there are no arms" in [line.said for line in found.lines]


def test_what_was_opened_for_all_at_once_is_asked_about_as_it_is_watched(world: World) -> None:
    world.without("warm_up: 0s", "warm_up: 0s\n    watch_for: 1h")
    world.share, world.switch.on = 1.0, {"new-checkout": 1.0}
    whole = observed(0.02, hours=24, features=("",), alone=True, units=1)
    world.source.observations = {"errors": whole, "orders": whole}
    installation, service = world.installation, world.installation.services["shop"]
    entry = for_everyone(service.releases[0])
    world.journal.add_release(plan(installation, service, entry, world.release), NOW, "a test")
    assert "everybody, held against the past: there are no arms" in [line.said for line in world.run().lines]


def test_the_counter_of_the_split_is_narrowed_to_the_release(world: World) -> None:
    world.without("assigned: sessions_total", """assigned: 'sessions_total{feature="{feature}"}'""")
    assert any(
        'is checked on sessions_total{feature="new-checkout"}: ' in line.said for line in world.lines("exposure")
    )


def test_a_switch_that_is_read_for_releases_notices_the_features_it_names(world: World) -> None:
    world.yaml = TOP + SERVICE + FLAG.replace("flags_file: flags.yaml,", "switch: true,")
    assert world.missing("exposure") == []
    [line] = world.without("features: [new-checkout]", "features: [quick-pay]").missing("exposure")
    assert line.said.startswith("nobody would notice: services.shop.releases.0.notice.features names quick-pay")


def test_a_share_without_arms_is_diluted_and_the_traffic_that_takes_is_its_square(world: World) -> None:
    world.yaml, world.share = TOP + SERVICE + ALONE.replace("blue_green", "flag"), 0.05
    [line] = world.missing("exposure")
    assert line.status == "warn"
    assert "diluted 20 times, and takes 400 times the traffic" in line.said
    assert "`arms: " in line.do


def test_a_feature_that_the_notice_does_not_name_would_not_be_noticed(world: World) -> None:
    world.without("features: [new-checkout]", "features: [new-chekout]")
    [line] = world.missing("exposure")
    assert line.status == "fail"
    assert line.said.endswith("services.shop.releases.0.notice.features names new-chekout, and not new-checkout")


def test_a_version_label_is_noticed_as_a_release_of_what_it_versions(world: World) -> None:
    world.yaml = TOP + SERVICE + CANARY
    assert world.missing("exposure") == []
    [line] = world.without(", features: [new-checkout]").missing("exposure")
    assert line.said == "a new version is noticed as a release of shop, and not of new-checkout"
    assert line.do.startswith("ask about shop/shop; or name new-checkout in services.shop.releases.0.notice.features")


def test_a_feature_that_users_have_before_its_release_is_told(world: World) -> None:
    world.switch.on = {"new-checkout": 0.5}
    [line] = world.missing("exposure")
    assert line.said.startswith("users have new-checkout already (50 % in memory)")
    world.switch.on.clear()
    assert world.begin(30).missing("exposure") == []


def test_the_split_is_held_against_the_share_of_the_present_stage(world: World) -> None:
    world.begin(30)
    world.earlier = (Stage(world.exposed_at, 0.05),)
    world.exposed_at = NOW - 15 * MINUTE
    assert [line for line in world.lines("exposure") if "50 % is configured" in line.said] != []
    assert world.missing("exposure") == []

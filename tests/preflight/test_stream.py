from __future__ import annotations

from tests.preflight.test_exposure import CANARY
from tests.preflight.world import FEATURE, FLAG, SERVICE, TOP, World, observed
from watcher.preflight import Line


def features(world: World, errors: tuple[str, ...], orders: tuple[str, ...], treated: int = 0) -> World:
    world.source.observations = {
        **world.source.observations,
        "errors": observed(0.02, features=errors, treated=treated),
        "orders": observed(0.7, features=orders, treated=treated),
    }
    return world


def test_a_feature_that_any_rule_measures_is_named_with_the_rules(world: World) -> None:
    assert features(world, (FEATURE, "search"), ("search",)).lines("stream") == [
        Line("stream", "pass", 'feature="new-checkout" is measured by Requests that failed')
    ]


def test_a_feature_that_nobody_measures_yet_may_be_born_with_its_first_user(world: World) -> None:
    [line] = features(world, ("cart", "search"), ("search",)).missing("stream")
    assert line.status == "warn"
    assert 'no rule has a stream with feature="new-checkout" yet' in line.said
    assert line.do == "check the name (measured are: cart, search), and run this again once users have it"


def test_a_feature_that_users_have_and_nobody_measures_fails(world: World) -> None:
    features(world.begin(30), ("cart", "search"), ("search",), treated=30)
    [line] = world.missing("stream")
    assert line.status == "fail"
    assert line.said.startswith("users have new-checkout, and no rule has a stream with")


def test_in_its_first_minutes_a_feature_may_still_be_born(world: World) -> None:
    features(world.begin(3), ("cart", "search"), ("search",), treated=3)
    assert [line.status for line in world.missing("stream") if line.check == "stream"] == ["warn"]


def test_a_stream_that_was_busy_only_the_day_before_yesterday_is_none(world: World) -> None:
    world.without("        split:", "        history: 48h\n        split:")
    features(world, ("search",), ("search",))
    old = observed(0.02, hours=48.0, since=25.0)
    world.source.observations = {**world.source.observations, "errors": old}
    assert [line.status for line in world.missing("stream")] == ["warn"]


def test_a_flag_whose_streams_nobody_names_may_drown_in_the_others(world: World) -> None:
    world.without('        focus: {feature: "{feature}"}\n')
    [line] = world.missing("stream")
    assert (line.status, "harm to them may drown in all others" in line.said) == ("warn", True)
    assert '`focus: {feature: "{feature}"}`' in line.do


def test_arms_that_are_users_of_the_feature_need_no_focus(world: World) -> None:
    arms = 'baseline: {feature: "{feature}", variant: "off"}, treatment: {feature: "{feature}", variant: "on"}'
    world.yaml = TOP + SERVICE + FLAG.replace('baseline: {variant: "off"}, treatment: {variant: "on"}', arms)
    world.without('        focus: {feature: "{feature}"}\n')
    assert [line.said for line in world.lines("stream")] == [
        'feature="new-checkout" is measured by Requests that failed, Orders'
    ]
    world.source.observations = dict.fromkeys(world.source.observations, observed(0.1, traffic=0.0))
    assert [(line.status, "nothing is measured" in line.do) for line in world.missing("stream")] == [("warn", True)]
    world.source.down = "it is not there"
    assert [line.status for line in world.missing("stream")] == ["fail"]


def test_a_canary_is_the_whole_service(world: World) -> None:
    world.yaml = TOP + SERVICE + CANARY
    assert [line.status for line in world.lines("stream")] == ["pass"]

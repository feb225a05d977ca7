from __future__ import annotations

import pytest

from tests.preflight.world import FEATURE, FLAG, NOW, SERVICE, TOP, World, observed, users
from watcher.clearance import Clearance, record, rules_digest
from watcher.comparison import SPLIT
from watcher.errors import ConfigError
from watcher.preflight import Line


def test_everything_in_place_passes_and_nothing_is_missing(world: World) -> None:
    found = world.run()
    assert not found.failed
    assert found.missing == ()
    assert list(dict.fromkeys(line.check for line in found.lines)) == [
        "rollback", "disable", "exposure", "metrics", "data", "stream", "effect", "people",
    ]  # fmt: skip


def test_nothing_is_turned_and_nobody_is_told(world: World) -> None:
    world.begin(30).run()
    assert (world.switch.on, world.switch.kills, world.switch.promotions) == ({FEATURE: 0.5}, [], [])
    assert world.alerters["slack"].delivered == []  # type: ignore[attr-defined]
    assert world.journal.actions() == []


def test_what_turning_off_would_do_is_shown_word_for_word(world: World) -> None:
    assert world.begin(30).lines("rollback") == [
        Line("rollback", "pass", "turning it off: new-checkout: 50 % in memory -> off")
    ]


def test_without_a_kill_switch_users_can_only_be_taken_off_by_redeploying(world: World) -> None:
    world.without("        kill: {yaml_flags: flags.yaml}\n").without("mode: armed", "mode: observe")
    [rollback] = world.missing("rollback")
    assert (rollback.status, rollback.said) == (
        "fail",
        "no kill switch: users can only be taken off by redeploying",
    )
    assert rollback.do.startswith("name one in services.shop.releases.0, such as `kill: ")
    [disable] = world.missing("disable")
    assert (disable.status, disable.do) == ("fail", "name a kill switch in watcher.yaml")


def test_a_switch_that_cannot_be_read_with_these_credentials_fails(world: World) -> None:
    world.switch.broken = "GET http://127.0.0.1:4242/flags: HTTP 401; check the token's file"
    [line] = world.missing("rollback")
    assert line.status == "fail"
    assert line.said.startswith("the kill switch cannot be read: GET http://127.0.0.1:4242/flags: HTTP 401")
    assert [line.status for line in world.missing("disable")] == ["fail"]


def test_a_switch_that_can_be_read_and_could_not_be_turned_fails(world: World) -> None:
    world.begin(30).switch.gone = "blue is gone: nothing to switch back to"
    assert world.missing("rollback") == [
        Line(
            "rollback",
            "fail",
            "turning it off would fail: blue is gone: nothing to switch back to",
            "repair that, before anybody sees the release; then run this again",
        )
    ]
    [line] = world.missing("disable")
    assert line.said == "new-checkout is on (50 % in memory), and cannot be turned off"


def test_a_release_that_cannot_be_undone_is_only_recommended_to_be(world: World) -> None:
    world.reversible = False
    [line] = world.missing("rollback")
    assert (line.status, "only recommended, never done" in line.said) == ("warn", True)


@pytest.mark.parametrize(("mode", "does"), [("observe", "tells"), ("recommend", "recommends")])
def test_a_mode_that_does_nothing_is_said_to_do_nothing(world: World, mode: str, does: str) -> None:
    [line] = world.without("mode: armed", f"mode: {mode}").missing("rollback")
    assert line.status == "warn"
    assert line.said.startswith(f"mode is {mode}: watcher {does}, and does nothing")
    assert line.do == "have somebody at hand; for watcher to do it, set mode: armed"


def test_a_flag_that_is_not_among_what_may_be_turned_off_fails_with_the_line_to_add(world: World) -> None:
    target = "- {switch: yaml_flags, feature: new-checkout, environment: production}"
    [line] = world.without(f"  {target}\n").missing("rollback")
    assert line.status == "fail"
    assert line.do == f"add this line to may_turn_off: {target}"


def armed_after_backtest(world: World, mode: str) -> World:
    return world.without("    mode: armed\n", f"    mode: {mode}\n    require_backtest: true\n")


def test_a_backtest_that_is_required_and_was_never_run_fails_an_armed_service_with_its_command(world: World) -> None:
    [line] = armed_after_backtest(world, "armed").missing("rollback")
    command = f"`watcher backtest --config {world.installation.file} --service shop`"
    assert (line.status, "no backtest of its rules is recorded" in line.said) == ("fail", True)
    assert line.do.startswith(f"run {command}")


def test_a_backtest_that_has_to_come_before_arming_is_told_to_who_is_not_armed_yet(world: World) -> None:
    [line] = armed_after_backtest(world, "observe").missing("rollback")
    assert line.status == "warn"
    assert "run `watcher backtest --config " in line.do
    assert line.do.endswith("then set mode: armed")


def test_a_backtest_of_these_rules_stands_against_nothing(world: World) -> None:
    installation = armed_after_backtest(world, "armed").installation
    digest = rules_digest(installation, installation.services["shop"])
    record(world.journal, "shop", Clearance(digest, NOW, 10, 0, 10, 0.0, (0.0, 0.3), None, True))
    assert world.missing("rollback") == []


def test_a_feature_that_is_off_will_be_turned_off_by_the_same_switch(world: World) -> None:
    assert world.lines("disable") == [
        Line("disable", "pass", "new-checkout is off (0 % in memory); once it is on, the same switch turns it off")
    ]


def test_a_switch_that_says_off_while_the_treatment_has_traffic_is_another_switch(world: World) -> None:
    world.begin(30)
    world.switch.on.clear()
    [line] = world.missing("disable")
    assert line.status == "fail"
    assert "is off (0 % in memory), and yet the treatment has traffic" in line.said
    world.source.observations = {**dict.fromkeys(("errors", "orders"), observed(0.02)), SPLIT: users(0.5, treated=0)}
    assert world.missing("disable") == []


def test_a_wrong_configuration_is_an_error_and_no_line(world: World) -> None:
    world.yaml = (
        TOP
        + SERVICE
        + FLAG.replace('variant: "off"', 'version: "{previous}"').replace('variant: "on"', 'version: "{version}"')
    )
    world.version = "1.1.0"
    with pytest.raises(ConfigError, match="there is nothing to compare"):
        world.run()

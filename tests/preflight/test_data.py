from __future__ import annotations

from tests.preflight.world import ALONE, DAY, NOW, PACK, SERVICE, TOP, World, observed
from watcher import nightly
from watcher.calibration import SURE
from watcher.errors import SourceRefused
from watcher.evidence.season import FROM, WEEKLY
from watcher.intake import take
from watcher.look import prepare, read_history
from watcher.model import Exposure, Observations
from watcher.preflight import Line

WHOLE = ("",)
"""Of a pack without `by`: one stream."""


def rules(world: World, errors: Observations, orders: Observations | None = None) -> World:
    world.source.observations = {**world.source.observations, "errors": errors, "orders": orders or observed(0.7)}
    return world


def alone(world: World, days: float, watch_for: str = "1h", history: str = "3d") -> World:
    """A blue-green release of a service that was measured for so many days."""
    service = SERVICE.replace("warm_up: 0s", f"warm_up: 0s\n    watch_for: {watch_for}")
    world.yaml, world.share = f"{TOP}{service}{ALONE}        history: {history}\n", None
    hours = 24 * days
    errors = observed(0.02, hours=hours, features=WHOLE, alone=True, units=1)
    return rules(world, errors, observed(0.7, hours=hours, features=WHOLE, alone=True, units=1, seed=5))


def test_before_the_release_the_baseline_alone_has_data(world: World) -> None:
    said = "all of them (2 required): measured now in the baseline; nobody is exposed yet"
    assert world.lines("data") == [Line("data", "pass", said)]


def test_once_users_have_it_both_arms_have(world: World) -> None:
    assert world.begin(30).lines("data") == [
        Line("data", "pass", "all of them (2 required): measured now in both arms")
    ]


def test_a_rule_without_data_fails_and_names_its_selector(world: World) -> None:
    rules(world, observed(0.02, traffic=0.0))
    broken, fine, _ = world.lines("data")
    assert (broken.status, fine.status) == ("fail", "pass")
    assert broken.said == ('Requests that failed has no data: nothing matches requests_total{job="shop",variant="off"}')
    assert fine.said == "Orders: measured now in the baseline; nobody is exposed yet"
    assert "`select` and `arms`" in broken.do


def test_a_rule_that_fell_silent_is_warned_of(world: World) -> None:
    [line] = rules(world, observed(0.02, since=1.0)).missing("data")
    assert (line.status, "had data, and none in the last 10 min" in line.said) == ("warn", True)


def test_a_treatment_that_only_some_rules_see_is_warned_of(world: World) -> None:
    world.begin(30)
    [line] = rules(world, observed(0.02, treated=30), observed(0.7)).missing("data")
    assert line.status == "warn"
    assert line.said == 'Orders has none in the treatment, where others have: carts_total{job="shop",variant="on"}'


def test_an_optional_rule_may_have_no_data(world: World) -> None:
    world.pack = PACK.replace("margin: 10%", "margin: 10%, required: false")
    assert rules(world, observed(0.02), observed(0.7, traffic=0.0)).missing("data") == []


def test_a_rule_that_the_server_refuses_fails_alone(world: World) -> None:
    world.source.refused = {"orders": SourceRefused("2.5 is no edge of its buckets")}
    broken, fine = world.lines("data")
    assert broken == Line(
        "data", "fail", "Orders cannot be read: 2.5 is no edge of its buckets", "correct the rule orders in its pack"
    )
    assert fine.said.startswith("Requests that failed: measured now")
    assert [line.status for line in world.lines("effect")] == ["pass"]


def test_an_optional_rule_that_the_server_refuses_is_a_warning(world: World) -> None:
    world.pack = PACK.replace("margin: 10%", "margin: 10%, required: false")
    world.source.refused = {"orders": SourceRefused("2.5 is no edge of its buckets")}
    [line] = world.missing("data")
    assert (line.status, line.do) == ("warn", "correct the rule orders in its pack, or leave it out")


def test_a_server_that_is_down_is_asked_once_and_fails_what_rests_on_it(world: World) -> None:
    world.source.down = "http://127.0.0.1:9090 did not answer: Connection refused"
    found = world.run()
    assert [(line.check, line.status) for line in found.missing] == [
        ("exposure", "fail"), ("data", "fail"), ("stream", "fail"), ("effect", "fail"),
    ]  # fmt: skip
    assert all(line.do for line in found.missing)
    assert f"the metrics cannot be read: {world.source.down}" in [line.said for line in found.lines]
    assert len(world.source.reads_of) == 1


def test_with_one_unit_it_is_said_that_nothing_would_be_turned_off(world: World) -> None:
    [line] = rules(world, observed(0.02, units=1), observed(0.7, units=1)).missing("data")
    assert line.status == "warn"
    assert line.said.startswith("nothing would be turned off on what the rules say: dispersion")
    assert "`unit: instance`" in line.do


def test_one_rule_that_is_not_critical_would_turn_nothing_off(world: World) -> None:
    world.pack = PACK.replace(", critical: true", "")
    rules(world, observed(0.02), observed(0.7, units=1))
    [line] = world.missing("data")
    assert (line.status, "nothing would be turned off" in line.said) == ("warn", True)


def test_a_single_rule_has_to_be_critical_to_turn_anything_off(world: World) -> None:
    world.pack = PACK.partition("  - {name: orders")[0].replace(", critical: true", "")
    [line] = world.missing("data")
    assert line.said.endswith("one rule that is not critical is not enough: two must agree")
    assert line.do == "mark a rule that may turn a release off alone with `critical: true`"


def test_without_a_switch_there_is_nothing_to_say_of_turning_off(world: World) -> None:
    world.without("        kill: {yaml_flags: flags.yaml}\n").without("mode: armed", "mode: observe")
    assert rules(world, observed(0.02, units=1), observed(0.7, units=1)).missing("data") == []


def test_less_than_a_season_of_past_is_told_with_what_a_season_needs(world: World) -> None:
    season, *_ = [line for line in alone(world, 1.0).missing("data") if "season" in line.said]
    assert season.status == "warn"
    assert season.said.startswith(f"24 h of past: no daily season is known before {FROM:g} days")


def test_weekdays_are_told_apart_from_two_weeks_on(world: World) -> None:
    [line] = [line for line in alone(world, 3.0).missing("data") if "weekdays" in line.said]
    assert line.said.endswith(f"weekdays are told apart only from {WEEKLY} days on")
    assert line.said.startswith("3 d of past")


def test_too_few_placebos_turn_nothing_off_and_how_long_to_watch_is_said(world: World) -> None:
    line = alone(world, 3.0, watch_for="2h").missing("data")[-1]
    assert line.said.endswith(f"room for 34 placebos that do not overlap, and {SURE} are needed")
    assert line.do == "watch for 41 min at most (`watch_for`), or read a longer past (`history`)"
    assert len(alone(world, 3.0, watch_for="40m").missing("data")) == 1
    # They begin half an hour apart at least: a shorter watch has no room for more of them.
    line = alone(world, 2.0, watch_for="30m").missing("data")[-1]
    assert line.said.endswith(f"room for 90 placebos that do not overlap, and {SURE} are needed")
    assert line.do == "read a longer past (`history`)"


def test_enough_of_the_past_passes(world: World) -> None:
    alone(world, 14.5, watch_for="3h", history="348h")
    assert [line.said for line in world.lines("data")] == [
        "all of them (2 required): measured now",
        "14.5 d of past: the season of the day and of the week is known",
    ]


def test_a_past_that_is_too_short_to_judge_by_fails(world: World) -> None:
    found = alone(world, 0.01).missing("data")
    assert found[0].status == "fail"
    assert found[0].said.startswith("nothing to hold it against: 14 blocks of history are too few")


def test_an_incident_before_the_release_leaves_nothing_to_hold_it_against(world: World) -> None:
    alone(world, 3.0)
    calm = world.missing("data")
    held = world.source.observations["errors"]
    late = held.ends > NOW - 40 * 60
    held.treatment.events[:, :, late] *= 6
    [line] = [line for line in world.missing("data") if line not in calm]
    assert line.status == "fail"
    assert line.said.startswith("Requests that failed: the last hours were not usual themselves")


def test_a_long_past_that_cannot_be_read_fails(world: World) -> None:
    alone(world, 2.0).source.remembers = DAY
    line, *_ = [line for line in world.missing("data") if line.status == "fail"]
    assert line.said == "the past cannot be read: the long past is not there"


def test_what_was_learnt_at_exposure_is_not_learnt_again(world: World) -> None:
    alone(world, 2.0)
    installation = world.installation
    service = installation.services["shop"]
    exposure = Exposure("new-checkout", "1.2.0", NOW, previous="1.1.0")
    take(installation, world.journal, service, service.releases[0], exposure, "a test")
    world.run()
    longest = max(length for _, length in world.source.reads_of)
    assert longest == 3 * DAY
    [watched] = world.journal.watches()
    learnt = prepare(watched.watch, read_history(watched.watch, world.source))
    world.journal.record_calibrations(watched.watch.release.id, learnt, NOW)
    world.source.reads_of.clear()
    before = world.lines("data")
    assert max(length for _, length in world.source.reads_of) == DAY
    assert [line.status for line in before] == ["pass", "warn", "warn"]
    world.pack = PACK.replace("margin: 10%", "margin: 20%")
    world.run()
    assert max(length for _, length in world.source.reads_of) == 3 * DAY


def test_what_was_learnt_at_night_is_not_learnt_again(world: World) -> None:
    alone(world, 2.0)
    assert nightly.learn(world.installation, world.journal, world.source, NOW) == "shop, blue_green"
    world.source.reads_of.clear()
    assert [line.status for line in world.lines("data")] == ["pass", "warn", "warn"]
    assert max(length for _, length in world.source.reads_of) == DAY

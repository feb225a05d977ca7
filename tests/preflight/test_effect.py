from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

import watcher.preflight.effect as effect_module
from tests.preflight.world import ALONE, FEATURE, PACK, SERVICE, TOP, World, observed
from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, watch
from watcher.look import prepare, read_history
from watcher.model import Arm, Kind, Observations, Worse, labels
from watcher.oneoff.forecast import forecast
from watcher.preflight import Line
from watcher.preflight.effect import FEW
from watcher.preflight.measured import Measured


def traffic(world: World, errors: float, orders: float = 400.0) -> World:
    """Requests and carts a minute of every feature."""
    world.source.observations = {
        **world.source.observations,
        "errors": observed(0.02, traffic=errors),
        "orders": observed(0.7, traffic=orders),
    }
    return world


def effect(world: World) -> list[Line]:
    return world.lines("effect")


def test_what_is_found_and_how_soon_is_told_of_every_rule(world: World) -> None:
    errors, orders = effect(world)
    assert errors.status == "pass"
    assert re.fullmatch(
        r"Requests that failed on new-checkout: \+[\d.]+ % is the least that is found within 24 h; "
        r"\+50 % \(the margin\) in \d+ min, 2x in \d+ min; health proven in \d+ min \(9 times in 10\)",
        errors.said,
    )
    assert "-10 % (the margin) in " in orders.said
    assert ", -50 % in " in orders.said


def test_the_figures_are_those_of_the_plan(world: World) -> None:
    world.begin(30)
    [watched] = world.journal.watches()
    plan = forecast(watched.watch, read_history(watched.watch, world.source))
    [stream] = [one for one in plan.streams if (one.rule.name, one.labels) == ("errors", (("feature", FEATURE),))]
    assert stream.forecast is not None
    margin = stream.forecast.margin.median
    assert margin is not None
    assert f"+50 % (the margin) in {margin:.0f} min, " in effect(world)[0].said


def test_a_critical_rule_that_cannot_find_its_margin_in_time_fails(world: World) -> None:
    critical, other = effect(traffic(world, errors=4.0))
    assert (critical.status, other.status) == ("fail", "pass")
    assert critical.said.endswith(": harm as large as the margin is not found in time")
    assert "at 50 % of traffic needs" in critical.do or critical.do.startswith("needs ")


def test_another_rule_that_cannot_is_a_warning(world: World) -> None:
    critical, other = effect(traffic(world, errors=400.0, orders=0.2))
    assert (critical.status, other.status) == ("pass", "warn")


def test_without_any_critical_rule_it_fails_where_none_can(world: World) -> None:
    world.pack = PACK.replace(", critical: true", "")
    assert [line.status for line in effect(traffic(world, errors=4.0))] == ["warn", "pass"]
    assert [line.status for line in effect(traffic(world, errors=4.0, orders=0.2))] == ["fail", "fail"]


def test_harm_that_is_found_and_health_that_is_not_proven_is_a_warning(world: World) -> None:
    # The one takes 47 minutes as likely as not, the other 56 nine times in ten.
    critical, _ = effect(world.without("warm_up: 0s", "warm_up: 0s\n    watch_for: 52m"))
    assert critical.status == "warn"
    assert "not found in time" not in critical.said
    assert critical.do.startswith("needs 56 min")


def test_the_feature_s_own_traffic_counts_where_it_has_any(world: World) -> None:
    held, few = observed(0.02), observed(0.02, traffic=4.0)
    assert held.baseline is not None
    assert few.baseline is not None
    held.baseline.total[1], held.baseline.events[1] = few.baseline.total[1], few.baseline.events[1]
    world.source.observations = {**world.source.observations, "errors": held}
    assert [line.status for line in effect(world)] == ["pass", "pass"]
    world.without('        focus: {feature: "{feature}"}\n')
    slow, _ = effect(world)
    assert (slow.status, slow.said.startswith("Requests that failed on search (the slowest of 2")) == ("fail", True)


def test_a_feature_without_traffic_cannot_be_planned_yet(world: World) -> None:
    world.source.observations = {**world.source.observations, "errors": observed(0.02, features=("search", "cart"))}
    first, second = effect(world)
    assert (first.status, second.status) == ("warn", "pass")
    assert first.said == (
        "Requests that failed: new-checkout has no traffic yet, so how soon harm is found cannot be said"
    )


def test_a_rule_that_never_counted_an_event_is_asked_whether_it_counts_the_right_thing(world: World) -> None:
    world.source.observations = {**world.source.observations, "errors": observed(0.0)}
    first, _ = effect(world)
    assert first.status == "warn"
    assert first.said.endswith("none of its events in the history, so there is no rate to plan with")
    assert first.do.startswith("check that errors_total counts what it should")


def test_a_rule_without_any_traffic_finds_nothing(world: World) -> None:
    first, _ = effect(traffic(world, errors=0.0))
    assert (first.status, first.said) == ("fail", "Requests that failed: nothing can be found without traffic")


def test_what_happens_to_a_few_is_held_against_the_margin_of_those_few(world: World) -> None:
    service = SERVICE.replace("warm_up: 0s", "warm_up: 0s\n    watch_for: 2h")
    world.yaml, world.share = f"{TOP}{service}{ALONE.replace('blue_green', 'flag')}        history: 3d\n", 0.05
    held = {"hours": 72.0, "features": ("",), "alone": True}
    world.source.observations = {
        "errors": observed(0.02, **held),  # type: ignore[arg-type]
        "orders": observed(0.7, **held),  # type: ignore[arg-type]
    }
    critical, _ = effect(world)
    assert critical.status == "fail"
    found = re.search(r"([\d.]+)x of the 5 % who have it is the least that is found within 2 h", critical.said)
    assert found is not None
    assert float(found[1]) > 1.5
    world.share = None
    whole, _ = effect(world)
    least = re.search(r"\+([\d.]+) % is the least", whole.said)
    assert least is not None
    # One in twenty: a change of all is twenty times as large among the few.
    assert float(found[1]) - 1 == pytest.approx(20 * float(least[1]) / 100, abs=0.15)


def test_the_slowest_of_many_streams_is_one_of_the_few_that_are_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(5)
    for rule in (ERRORS, replace(ERRORS, name="latency", kind=Kind.RATE), replace(ERRORS, worse=Worse.LOWER)):
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, 1)
        names = [labels({"route": f"/{n}"}) for n in range(25)]
        total = draw.poisson(np.geomspace(3.0, 900.0, 25)[:, None, None], (25, 3, ends.size)).astype(float)
        draw.shuffle(total)
        events = draw.binomial(total.astype(int), draw.uniform(0.01, 0.2, (25, 1, 1))).astype(float)
        units = ("a", "b", "c")
        history = {rule.name: Observations(tuple(names), ends, Arm(units, events, total), Arm(units, events, total))}
        made = watch(replace(rule, by=("route",)))
        seen = Measured(before=history, learnt=prepare(made, history))
        told = []
        for few in (FEW, 25):
            monkeypatch.setattr(effect_module, "FEW", few)
            told.append(list(effect_module.effect(made, 0.2, seen)))
        assert told[0] == told[1]
        assert "(the slowest of 25 streams)" in told[0][0].said

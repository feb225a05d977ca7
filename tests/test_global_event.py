"""Not the release but everything: a control, or other services, that get worse alike stand against a kill."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.timeline import ERRORS, EXPOSED, MINUTE, looks, ratio, watch
from watcher.act import Outbox
from watcher.attribution import Elsewhere, elsewhere_alike
from watcher.config import load_installation
from watcher.daemon import Daemon
from watcher.errors import ConfigError
from watcher.journal import Journal
from watcher.model import Alert, Arm, Kill, Look, Observations, Outcome, Request, Watch, Worse, labels
from watcher.testing import MemorySource, MemorySwitch, counts

PAST = 120


def also(
    seed: int = 1, *, rate: float = 0.01, worse: float = 1.0, since: int = 10, past: int = PAST, wild: float = 0.0
) -> Observations:
    """A service that nobody released: errors per minute, `wild` times as overdispersed as chance and slowly so."""
    rng = np.random.default_rng(seed)
    ends = EXPOSED + MINUTE * np.arange(-past + 1, since + 1)
    level = np.zeros(ends.size)
    for i in range(1, ends.size):
        level[i] = 0.8 * level[i - 1] + 0.6 * rng.normal()
    bad = np.minimum(rate * np.exp(wild * level) * np.where(ends > EXPOSED, worse, 1.0), 0.9)
    total = rng.poisson(600, ends.size)
    return counts(ends, None, (rng.binomial(total, bad), total))


def elsewhere(*seen: Observations) -> list[Elsewhere]:
    return [Elsewhere(f"service-{i}", (ERRORS,), {"errors": each}) for i, each in enumerate(seen)]


@pytest.mark.parametrize("wild", [0.0, 0.3, 0.6])
def test_of_a_thousand_services_that_are_as_always_at_most_one_percent_are_taken_for_worse(wild: float) -> None:
    found = [bool(elsewhere_alike(elsewhere(also(seed, wild=wild)), EXPOSED)) for seed in range(1000)]
    assert np.mean(found) <= 0.01


@pytest.mark.parametrize("wild", [0.0, 0.3])
def test_of_a_hundred_outages_of_five_times_the_errors_at_least_95_are_seen(wild: float) -> None:
    found = [bool(elsewhere_alike(elsewhere(also(seed, wild=wild, worse=5.0)), EXPOSED)) for seed in range(100)]
    assert np.mean(found) >= 0.95


def test_an_outage_is_told_with_its_figures() -> None:
    said = elsewhere_alike(elsewhere(also(worse=5.0)), EXPOSED)
    assert said.startswith("another service is worse since 08:00 UTC, too: service-0 (Requests that failed: ")
    assert said.endswith(" % before); not this release alone")


def test_one_service_among_three_has_a_trouble_of_its_own() -> None:
    assert elsewhere_alike(elsewhere(also(1, worse=5.0), also(2), also(3)), EXPOSED) == ""
    assert elsewhere_alike(elsewhere(also(1, worse=5.0), also(2, worse=5.0), also(3)), EXPOSED)


def test_a_service_without_enough_of_a_past_says_nothing() -> None:
    late = also(worse=5.0).between(EXPOSED - 10 * MINUTE, EXPOSED + 10 * MINUTE)
    before = also(worse=5.0).between(EXPOSED - 7200, EXPOSED)
    assert elsewhere_alike(elsewhere(late), EXPOSED) == elsewhere_alike(elsewhere(before), EXPOSED) == ""
    assert elsewhere_alike(elsewhere(late, also(1, worse=5.0)), EXPOSED), "and is not counted among those that are well"


def test_what_may_only_rise_is_not_worse_for_rising() -> None:
    good = replace(ERRORS, worse=Worse.LOWER)
    for rate, worse, expected in ((0.1, 5.0, False), (0.5, 0.2, True)):
        other = Elsewhere("cart", (good,), {"errors": also(rate=rate, worse=worse)})
        assert bool(elsewhere_alike([other], EXPOSED)) is expected


def both(control: float, treatment: float, minutes: int = 90, since: int = 10) -> MemorySource:
    """Both arms at 1 % errors before, and so much from some minute after exposure on."""
    seen = ratio(minutes, treated={since: treatment})
    rng, arm = np.random.default_rng(5), seen.baseline
    assert arm is not None
    late = seen.ends > EXPOSED + since * MINUTE
    events = np.where(late, rng.binomial(arm.total.astype(int), control), arm.events)
    return MemorySource({"errors": replace(seen, baseline=Arm(arm.units, events, arm.total))})


def test_a_control_of_which_no_error_is_heard_any_more_makes_nobody_worse() -> None:
    found = list(looks(watch(), both(0.0, 0.01, since=0), range(1, 90)))
    assert found[-1].verdict.outcome is Outcome.REGRESSED
    assert not done(found, Kill)
    [detail] = {each.detail for each in found[-1].refusals if each.reason == "control_silent"}
    assert detail.startswith("next to nothing is counted of those who do not have it (Requests that failed: ")


def test_a_control_that_is_heard_again_does_not_take_back_what_its_silence_was_counted_for() -> None:
    # Nothing is counted of the control for half an hour, and as always from then on.
    seen = both(0.0, 0.01, since=0).observations["errors"]
    arm, heard = seen.baseline, seen.ends > EXPOSED + 30 * MINUTE
    assert arm is not None
    events = np.where(heard, np.random.default_rng(6).binomial(arm.total.astype(int), 0.01), arm.events)
    mixed = MemorySource({"errors": replace(seen, baseline=Arm(arm.units, events, arm.total))})
    found = list(looks(watch(), mixed, range(1, 60)))
    assert found[-1].verdict.outcome is Outcome.REGRESSED
    assert not done(found, Kill)
    assert "control_silent" in {refusal.reason for refusal in found[-1].refusals}


def done(found: list[Look], kind: type) -> list[object]:
    return [action for each in found for action in each.actions if isinstance(action, kind)]


def refused(found: list[Look]) -> set[str]:
    return {refusal.reason for each in found for refusal in each.refusals}


def test_a_control_that_got_worse_about_as_much_stands_against_a_kill_and_people_are_told() -> None:
    found = list(looks(watch(), both(0.09, 0.13), range(1, 60)))
    assert found[-1].verdict.outcome is Outcome.REGRESSED
    assert not done(found, Kill)
    assert "global_event" in refused(found)
    [told] = [alert for alert in done(found, Alert) if isinstance(alert, Alert) and alert.state == "global_event"][:1]
    assert told.urgent
    assert told.title.startswith("REGRESSED, and so is what does not have it: NOT turned off")
    assert "those who do not have it are worse, too (Requests that failed: " in " ".join(told.lines)
    assert any(line.startswith("Not turned off: ") and line.endswith("Please look, and decide.") for line in told.lines)


def test_harm_that_a_bad_release_spreads_to_its_control_does_not_protect_it() -> None:
    found = list(looks(watch(), both(0.03, 0.20), range(1, 60)))
    assert len(done(found, Kill)) == 1


def test_people_are_told_once_and_it_stands_when_the_event_is_over() -> None:
    # Both arms are as always from minute 30 on; what was counted by then still says that the treatment is worse.
    source = both(0.09, 0.13, 120)
    calm, after = ratio(120, seed=3), EXPOSED + 30 * MINUTE
    seen = source.observations["errors"]

    def mended(bad: Arm | None, good: Arm | None) -> Arm:
        assert bad is not None
        assert good is not None
        return Arm(bad.units, np.where(seen.ends > after, good.events, bad.events), bad.total)

    mixed = replace(
        seen, treatment=mended(seen.treatment, calm.treatment), baseline=mended(seen.baseline, calm.baseline)
    )
    found = list(looks(watch(), MemorySource({"errors": mixed}), range(1, 120)))
    assert not done(found, Kill)
    told = [alert for alert in done(found, Alert) if isinstance(alert, Alert) and alert.state == "global_event"]
    assert len({alert.at for alert in told}) == 1


def alone() -> Watch:
    """Everybody has it; four days of history hold enough placebos to kill on."""
    return watch(baseline=None, treatment=None, horizon=30 * MINUTE, history=4 * 86_400.0)


def shop() -> MemorySource:
    """Four days at 1 % errors, and 5 % since exposure."""
    return MemorySource({"errors": also(7, worse=5.0, since=60, past=5760)})


def test_without_a_control_the_other_services_are_asked_once_it_regressed_and_about_the_time_since() -> None:
    asked: list[tuple[float, float]] = []

    def others(since: float, until: float) -> list[Elsewhere]:
        asked.append((since, until))
        return elsewhere(also(since=60, worse=5.0).between(since - PAST * MINUTE, until))

    made = alone()
    source = shop()
    found = list(looks(made, source, range(1, 30), elsewhere=others))
    first = next(i for i, each in enumerate(found) if each.verdict.outcome is Outcome.REGRESSED)
    assert not done(found, Kill)
    assert "global_event" in refused(found)
    assert len(asked) == 1, "once found, it stands"
    assert asked[0][1] == found[first].through
    assert EXPOSED - 10 * MINUTE <= asked[0][0] <= found[first].through
    well = list(
        looks(
            made, source, range(1, 30), elsewhere=lambda since, until: elsewhere(also(since=int(until - EXPOSED) // 60))
        )
    )
    assert len(done(well, Kill)) == 1


YAML = """\
metrics: {prometheus: "http://127.0.0.1:9"}
settle: 0s
may_turn_off: [{switch: yaml_flags, feature: checkout, environment: production}]
services:
  shop:
    rules: [shop.yaml]
    mode: armed
    warm_up: 0s
CALLERS    releases:
      - {strategy: flag, notice: {flags_file: flags.yaml, features: [checkout]}, kill: {yaml_flags: flags.yaml}}
  frontend:
    select: {job: frontend}
    rules: [shop.yaml]
    releases: [{strategy: flag, notice: {flags_file: flags.yaml, features: [none]}}]
"""
PACK = """\
pack: shop
rules: [{name: errors, kind: ratio, bad: errors, total: requests, critical: true, title: Requests that failed}]
"""


@dataclass
class ByService:
    """The metrics of two services, told apart by the label their selectors share."""

    shop: MemorySource
    frontend: MemorySource

    def observe(self, request: Request) -> dict[str, Observations]:
        return (self.frontend if request.select == labels({"job": "frontend"}) else self.shop).observe(request)

    history = observe


def installed(folder: Path, callers: str = "") -> Path:
    (folder / "shop.yaml").write_text(PACK)
    (folder / "flags.yaml").write_text("features:\n  checkout: {enabled: true}\n")
    made = folder / "watcher.yaml"
    made.write_text(YAML.replace("CALLERS", callers))
    return made


@pytest.mark.parametrize("callers", ["", "    called_by: [frontend]\n"])
def test_the_daemon_asks_services_that_do_not_call_the_one_that_regressed(tmp_path: Path, callers: str) -> None:
    installation = load_installation(installed(tmp_path, callers))
    held = MemorySwitch({"checkout": 1.0})
    source = ByService(
        shop(),
        MemorySource({"errors": also(since=60, worse=5.0)}),
    )
    made = alone()
    with Journal.open(installation.journal) as journal:
        running = Daemon(installation, journal, source, Outbox(journal, lambda _: held, {}), switches=lambda _: held)
        journal.add_release(made, EXPOSED, "test")
        for minute in range(1, 40):
            running.step(EXPOSED + minute * MINUTE)
        reasons = {line.detail["reason"] for line in journal.audit_trail(made.release.id) if line.what == "refused"}
    assert held.kills == (["checkout"] if callers else [])
    assert ("global_event" in reasons) is not bool(callers)


def test_a_service_that_cannot_be_read_says_nothing(tmp_path: Path) -> None:
    installation = load_installation(installed(tmp_path))
    held = MemorySwitch({"checkout": 1.0})
    source = ByService(shop(), MemorySource({}, down="HTTP 503"))
    with Journal.open(installation.journal) as journal:
        running = Daemon(installation, journal, source, Outbox(journal, lambda _: held, {}), switches=lambda _: held)
        journal.add_release(alone(), EXPOSED, "test")
        for minute in range(1, 40):
            running.step(EXPOSED + minute * MINUTE)
    assert held.kills == ["checkout"]


@pytest.mark.parametrize("who", ["shop", "fronted"])
def test_a_caller_that_is_no_other_service_is_refused_with_those_there_are(tmp_path: Path, who: str) -> None:
    with pytest.raises(ConfigError, match=f"called_by.*{who} is no other service of this file; there is: frontend"):
        load_installation(installed(tmp_path, f"    called_by: [{who}]\n"))

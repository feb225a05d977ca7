"""Days of a daemon on a memory world: what is exposed, promoted, killed, turned on again, and what people are told."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.timeline import EXPOSED, MINUTE, watch
from watcher import deployments, intake, interlocks
from watcher.act import DECISION_TTL, Outbox
from watcher.comparison import SPLIT
from watcher.config import load_installation
from watcher.daemon import HOUR, Daemon
from watcher.deeds import deeds
from watcher.errors import SwitchError
from watcher.journal import Journal, Pending, Watched
from watcher.model import BY_HAND, Deployment, Exposure, Kill, Observations, Outcome, Promote, Request
from watcher.testing import MemoryAlerter, MemorySource, MemorySwitch, counts

BEFORE, AFTER = 600, 900
"""Minutes that are measured before and after exposure."""

PACK = """
pack: shop
unit: instance
rules:
  - {name: errors, title: Requests that failed, kind: ratio, bad: errors_total, total: requests_total, critical: true}
"""
YAML = """
journal: sqlite:///watcher.db
metrics: {{prometheus: http://127.0.0.1:9090}}
settle: 0s
may_turn_off:
  - {{switch: yaml_flags, feature: shop, environment: production}}
  - {{switch: yaml_flags, feature: search, environment: production}}
services:
  shop:
    rules: [rules.yaml]
    tell: ["#support", "#docs"]
    mode: {mode}
    watch_for: 5h
    warm_up: 0s
    releases:
      - strategy: canary
        notice: {{{notice}}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
        split: {{assigned: requests_total, share: switch}}
        kill: {{yaml_flags: flags.yaml}}
        promote: [5%, 25%, 50%, 100%]
        history: 10h
"""


def measured(*, bad_from: float = np.inf, bad_until: float = np.inf) -> Observations:
    """Requests and errors of three units an arm; the treatment fails five times as often between two minutes."""
    rng = np.random.default_rng(5)
    minutes = np.arange(-BEFORE + 1, AFTER + 1)
    rate = np.where((minutes > bad_from) & (minutes <= bad_until), 0.05, 0.01)
    total = np.full((3, minutes.size), 4000)
    on = np.where(minutes > 0, total, 0)
    ends = EXPOSED + MINUTE * minutes
    return counts(ends, (rng.binomial(total, 0.01), total), (rng.binomial(on, rate), on))


@dataclass
class Metrics(MemorySource):
    """Errors as they were made up, and users as the switch divided them: `shares` by minute."""

    shares: dict[int, float] = field(default_factory=dict)

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the blocks asked for."""
        rules = tuple(rule for rule in request.rules if rule.name != SPLIT)
        found = super().observe(replace(request, rules=rules))
        if len(rules) < len(request.rules):
            minutes = np.round((request.ends - EXPOSED) / MINUTE).astype(int)
            on = np.array([1000 * self.shares.get(minute, 0.0) for minute in minutes.tolist()]).round()
            found[SPLIT] = counts(request.ends, (1000 - on, 1000 - on), (on, on))
        return found

    history = observe


@dataclass
class World:
    """An installation whose metrics, switch and messages are in memory, and whose clock goes a minute a tick."""

    folder: Path
    journal: Journal
    source: Metrics
    switch: MemorySwitch = field(default_factory=MemorySwitch)
    alerter: MemoryAlerter = field(default_factory=MemoryAlerter)
    mode: str = "armed"
    notice: str = "http: true"
    minute: int = 0

    def daemon(self) -> Daemon:
        """Start anew, as after a restart."""
        (self.folder / "rules.yaml").write_text(PACK)
        (self.folder / "watcher.yaml").write_text(YAML.format(mode=self.mode, notice=self.notice))
        found = load_installation(self.folder / "watcher.yaml")
        outbox = Outbox(self.journal, lambda _: self.switch, {"memory": self.alerter}, stopwatch=lambda: 0.0)
        return Daemon(found, self.journal, self.source, outbox, switches=lambda _: self.switch)

    @property
    def now(self) -> float:
        return EXPOSED + self.minute * MINUTE

    def expose(self, version: str = "1.2", feature: str = "shop", share: float = 0.05) -> str:
        """Give a version traffic, and tell watcher of it."""
        self.switch.on[feature] = share
        found = load_installation(self.folder / "watcher.yaml")
        exposure = Exposure(feature, version, self.now, previous="1.1")
        noticed = intake.told(found, self.journal, found.services["shop"], exposure, None, "POST /v1/releases")
        assert noticed.release is not None
        return noticed.release

    def run(self, daemon: Daemon, minutes: int) -> None:
        """Let minutes pass, one tick each."""
        for _ in range(minutes):
            self.minute += 1
            self.source.shares[self.minute] = self.switch.on.get("shop", 0.0)
            daemon.step(self.now)

    def active(self) -> list[Watched]:
        return self.journal.watches(active=True)

    def killed(self) -> list[Pending]:
        """Every kill that was decided."""
        return [each for each in self.journal.switched() if isinstance(each.action, Kill)]

    def said(self, state: str) -> list[str]:
        """The details and headlines of a state, as people got them."""
        return [alert.title for alert in self.alerter.delivered if alert.state == state]

    def heard(self, channel: str) -> list[str]:
        """What those who have to know were told, in its words without numbers."""
        return [f"{each.title} {each.lines[-1]}" for each in self.alerter.delivered if each.channel == channel]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        made = World(tmp_path, journal, Metrics({"errors": measured()}))
        made.daemon()
        yield made


def test_a_healthy_canary_is_promoted_step_by_step_until_everybody_has_it(world: World) -> None:
    daemon = world.daemon()
    release = world.expose()
    while len(world.journal.watches()) < 2:
        assert world.minute < 200
        world.run(daemon, 1)
    assert world.switch.promotions == [("shop", 0.25), ("shop", 0.5), ("shop", 1.0)]
    first, second = world.journal.watches()
    stages = [stage.share for stage in first.watch.release.stages]
    assert (first.watch.release.id, stages, first.status) == (release, [0.05, 0.25, 0.5], "everyone")
    assert (second.watch.release.id, second.watch.baseline) == (f"{release}+everyone", None)
    # Each share was proven healthy on blocks of its own.
    starts = [stage.at for stage in first.watch.release.stages] + [second.watch.release.exposed_at]
    assert min(np.diff(starts)) >= 4 * MINUTE
    assert first.end_reason == "everybody has it now (switch)"
    last = world.journal.last_look(release)
    assert last is not None
    assert last.verdict.outcome is Outcome.HEALTHY
    assert "5 % is configured" not in " ".join(last.verdict.assumptions)
    kills = [entry for entry in world.journal.switched() if isinstance(entry.action, Kill)]
    assert kills == []


def test_each_promotion_is_recorded_before_it_is_done(world: World) -> None:
    daemon = world.daemon()
    release = world.expose()
    world.run(daemon, 60)
    entries = [entry for entry in world.journal.switched() if isinstance(entry.action, Promote)]
    assert entries[0].key == f"{release}|promote|0.25"
    assert entries[0].state == "done"
    assert [line.what for line in world.journal.audit_trail(release)][:3] == [
        "release noticed",
        "promote intended",
        "promote done",
    ]


def test_without_being_armed_a_larger_share_is_recommended(world: World) -> None:
    world.mode = "recommend"
    daemon = world.daemon()
    world.expose()
    world.run(daemon, 60)
    assert world.switch.promotions == []
    [headline] = [each for each in world.alerter.delivered if each.state == "healthy" and each.kind == "headline"]
    assert any("Recommended: raise shop 1.2 from 5 % to 25 % of the users" in line for line in headline.lines)


def test_a_canary_that_regresses_at_a_later_stage_is_killed_and_never_raised_again(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=8)})
    daemon = world.daemon()
    world.expose()
    world.run(daemon, 30)
    assert world.switch.kills == ["shop"]
    assert "shop" not in world.switch.on
    killed = next(e.finished_at for e in world.journal.switched() if isinstance(e.action, Kill))
    assert killed is not None
    assert 8 < (killed - EXPOSED) / MINUTE <= 14
    promoted = [e.finished_at for e in world.journal.switched() if isinstance(e.action, Promote)]
    assert promoted
    assert all(at is not None and at < killed for at in promoted)


def test_those_who_have_to_know_hear_of_the_beginning_and_of_the_end_once_each(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=8)})
    world.daemon()
    world.expose()
    for _ in range(30):
        # Another process each minute.
        world.run(world.daemon(), 1)
    assert world.switch.kills == ["shop"]
    for channel in ("#support", "#docs"):
        begun, over = world.heard(channel)
        assert begun.startswith("Started: shop 1.2 on shop/production How they fare is watched until ")
        assert over == (
            "Over: shop 1.2 on shop/production shop was turned off because users were worse off, and they still are: "
            "those who watch it are looking."
        )


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("everyone", "shop is not watched any more: no harm was found, though it could not be ruled out."),
        ("turned off", "shop is not watched any more: no harm was found, though it could not be ruled out."),
        ("superseded", "shop gave way to a newer version."),
    ],
)
def test_how_it_ended_is_said_to_those_who_have_to_know_in_plain_words(world: World, how: str, said: str) -> None:
    daemon = world.daemon()
    world.expose()
    world.run(daemon, 2)
    if how == "turned off":
        del world.switch.on["shop"]
    elif how == "superseded":
        world.expose("1.3", share=0.1)
    world.run(daemon, 700 if how == "everyone" else 5)
    ends = [line for line in world.heard("#support") if line.startswith("Over: shop 1.2 ")]
    assert [line.endswith(said) for line in ends] == [True]
    assert sum(line.startswith("Started: shop 1.2 ") for line in world.heard("#support")) == 1


def test_a_share_that_somebody_else_moved_is_not_raised_by_an_older_decision(world: World) -> None:
    daemon = world.daemon()
    release = world.expose()
    world.run(daemon, 2)
    promote = Promote(f"{release}|promote|0.25", release, "yaml_flags:x", "shop", 0.05, 0.25, "healthy", world.now)
    world.journal.intend([promote], world.now)
    world.switch.on["shop"] = 0.01
    world.run(daemon, 1)
    assert world.switch.on == {"shop": 0.01}
    told = "Not raised: healthy, but the share could not be changed: shop 1.2 on shop/production"
    assert world.said("not_raised") == [told] * 2


def test_what_somebody_turned_off_ends_and_is_told_and_nothing_turns_it_on(world: World) -> None:
    daemon = world.daemon()
    release = world.expose()
    world.run(daemon, 3)
    del world.switch.on["shop"]
    world.run(daemon, 60)
    (watched,) = world.journal.watches()
    assert (watched.status, watched.end_reason) == ("ended", "exposure ended (switch)")
    assert world.said("ended") == ["Ended watching: shop 1.2 on shop/production"] * 2
    assert world.switch.on == {}
    assert world.journal.last_look(release) is not None


def test_a_release_turned_on_again_within_minutes_of_its_kill_is_told_at_once_and_once(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    daemon = world.daemon()
    world.expose()
    while not world.switch.kills:
        assert world.minute < 30
        world.run(daemon, 1)
    world.run(daemon, 4)
    world.switch.on["shop"] = 0.05
    world.run(daemon, 5)
    assert len(world.said("turned_on")) == 2
    told = next(alert for alert in world.alerter.delivered if alert.state == "turned_on")
    assert told.urgent
    assert told.lines[0].startswith("shop 1.2 gets traffic again (5 % in memory), ")
    assert world.switch.kills == ["shop"]


def test_what_a_person_turned_off_while_nobody_watched_it_is_told_too_where_it_is_on_again(world: World) -> None:
    daemon = world.daemon()
    world.switch.on["shop"] = 0.05
    by_hand = f"shop/production/shop{BY_HAND}1"
    kill = Kill(by_hand, "shop/production/shop", "yaml_flags:x", "shop", "by hand by ana: slow", world.now)
    world.journal.intend([kill], world.now)
    world.run(daemon, 1)
    assert world.switch.kills == ["shop"]
    world.switch.on["shop"] = 0.05
    world.run(daemon, 12)
    [told] = [alert for alert in world.alerter.delivered if alert.state == "turned_on"]
    assert (told.kind, told.urgent) == ("headline", True)
    assert told.title == "Turned ON AGAIN after the kill: shop/production/shop"
    assert told.lines[0].startswith("shop is on again (5 % in memory), ")
    assert world.switch.kills == ["shop"]


def test_what_a_person_turned_off_twice_is_told_once_where_it_is_on_again(world: World) -> None:
    daemon = world.daemon()
    world.switch.on["search"] = 0.05
    for nth in (1, 2):
        place = "shop/production/search"
        made = Kill(f"{place}{BY_HAND}{nth}", place, "yaml_flags:x", "search", "by hand by ana", world.now)
        world.journal.intend([made], world.now)
        world.run(daemon, 2)
    assert (world.switch.kills, world.said("turned_on")) == (["search"], [])
    world.switch.on["search"] = 0.05
    for _ in range(5):
        world.run(world.daemon(), 1)
    assert world.said("turned_on") == ["Turned ON AGAIN after the kill: shop/production/search"]


def test_a_flag_that_stays_good_says_how_it_ended_at_its_horizon_and_is_closed(world: World) -> None:
    daemon, file = world.daemon(), world.folder / "watcher.yaml"
    written = file.read_text()
    as_a_flag = {
        "strategy: canary": "strategy: flag",
        "watch_for: 5h": "watch_for: 1h",
        "promote: [5%, 25%": "# [5%, 25%",
    }
    for old, new in as_a_flag.items():
        assert old in written
        written = written.replace(old, new)
    file.write_text(written)
    daemon = replace(daemon, installation=load_installation(file))
    world.expose(share=0.2)
    world.run(daemon, 59)
    assert ([each.status for each in world.journal.watches()], world.said("ended")) == (["active"], [])
    world.run(daemon, 5)
    [watched] = world.journal.watches()
    assert (watched.status, world.active(), watched.watch.release.strategy.value) == ("ended", [], "flag")
    [ended] = [each for each in world.alerter.delivered if (each.state, each.kind) == ("ended", "headline")]
    assert ended.lines[0] == "Last outcome after 60 min: healthy."
    assert world.said("ended") == ["Ended watching: shop 1.2 on shop/production"] * 2
    assert (world.switch.kills, world.switch.on) == ([], {"shop": 0.2})


def test_the_checklist_is_gone_through_once_a_release_and_posted_with_what_is_missing(world: World) -> None:
    world.expose()
    world.run(world.daemon(), 2)
    world.run(world.daemon(), 2)
    while len(world.journal.watches()) < 2:
        assert world.minute < 200
        world.run(world.daemon(), 1)
    world.run(world.daemon(), 3)
    [posted] = [alert for alert in world.alerter.delivered if alert.state == "preflight"]
    assert posted.kind == "detail"
    assert posted.title.startswith("Preflight: ")
    assert any("no message will link to a runbook → write it to services.shop.links" in line for line in posted.lines)


def test_users_who_have_what_cannot_be_watched_are_told_of_once_with_the_command_that_helps(world: World) -> None:
    world.notice = "switch: true, features: [shop]"
    world.run(world.daemon(), 2)
    world.switch.on["shop"] = 0.05
    for _ in range(3):
        world.run(world.daemon(), 2)
    assert world.journal.watches() == []
    [told] = [alert for alert in world.alerter.delivered if alert.state == "unwatched"]
    assert told.kind == "headline"
    assert "has no {previous}" in told.lines[0]
    assert told.lines[1].endswith(
        "watcher release start shop shop --version VERSION --previous VERSION --strategy canary"
    )


@dataclass
class Late(Metrics):
    """What everybody has is held against the service's own past, and goes bad at a minute."""

    bad_from: float = np.inf

    def observe(self, request: Request) -> dict[str, Observations]:
        if request.treatment is not None:
            return super().observe(request)
        minutes = np.round((request.ends - EXPOSED) / MINUTE)
        rng, total = np.random.default_rng(abs(int(minutes[0]))), np.full((1, minutes.size), 4000)
        errors = rng.binomial(total, np.where(minutes > self.bad_from, 0.1, 0.01))
        return {"errors": counts(request.ends, None, (errors, total))}

    history = observe


@pytest.mark.parametrize("bad_from", [150.0, np.inf])
def test_what_everybody_has_is_watched_on_and_turned_off_if_it_goes_bad_late(world: World, bad_from: float) -> None:
    world.source = Late({"errors": measured()}, bad_from=bad_from)
    daemon = world.daemon()
    release = world.expose()
    while len(world.journal.watches()) < 2:
        assert world.minute < 149
        world.run(daemon, 1)
    while world.active():
        assert world.minute < 700
        world.run(daemon, 5)
    part, whole = world.journal.watches()
    assert (part.status, whole.watch.release.id) == ("everyone", f"{release}+everyone")
    if np.isfinite(bad_from):
        assert world.switch.kills == ["shop"]
        # Nothing is better after it in this story: what it does not get better by was not it.
        assert whole.status == "unrecovered"
        headline = world.said("killed")[0]
        assert headline == "Killed: REGRESSED, turning it off: shop 1.2 on shop/production, for everyone"
        own = [deed.said for deed in deeds(world.journal, whole.watch.release.id)]
        assert any(line.endswith(headline + " [urgent]") for line in own), own
        assert not any("Watching: shop 1.2 on shop/production" in line and "everyone" not in line for line in own)
    else:
        assert (whole.status, world.switch.kills) == ("ended", [])
        [ended] = [each for each in world.alerter.delivered if (each.state, each.kind) == ("ended", "headline")]
        assert "healthy" in ended.lines[0]
        assert world.heard("#support")[-1].startswith("Over: shop 1.2 ")


def test_a_kill_that_does_not_work_at_once_is_told_at_once_and_again_when_it_is_given_up(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    daemon = world.daemon()
    world.expose()
    world.run(daemon, 3)
    world.switch.broken = "flags.example does not answer"
    while not world.said("kill_delayed"):
        assert world.minute < 15
        world.run(daemon, 1)
    world.run(daemon, int(DECISION_TTL / MINUTE) + 2)
    assert len(world.said("kill_delayed")) == 2
    assert len(world.said("kill_failed")) == 2
    assert world.switch.kills == []
    assert world.said("unrecovered") == ["Unrecovered: NOT turned off, and NOT better: shop 1.2 on shop/production"] * 2
    told = next(alert for alert in world.alerter.delivered if alert.state == "unrecovered")
    assert told.lines[0].endswith("not back within the margin 10 min after the kill was decided.")


@dataclass
class Deadly(MemorySwitch):
    """A switch that ends the process as soon as it has turned something off."""

    deadly: bool = True

    def kill(self, feature: str, reason: str) -> None:
        super().kill(feature, reason)
        if self.deadly:
            raise SystemExit(f"dead, with {feature} off")


def test_who_comes_back_after_dying_in_a_kill_does_not_say_that_it_failed(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    world.switch = switch = Deadly()
    daemon = world.daemon()
    world.expose()
    with pytest.raises(SystemExit):
        world.run(daemon, 30)
    assert (switch.kills, [each.status for each in world.active()]) == (["shop"], ["active"])
    # Users are better off from that moment on, and by the time somebody starts it again there are blocks that say so.
    world.source = Metrics({"errors": measured(bad_from=3, bad_until=world.minute)})
    switch.deadly = False
    world.minute += 8
    daemon = world.daemon()
    while world.active():
        assert world.minute < 60
        world.run(daemon, 1)
    assert world.said("recovered")[0] == "Recovered, turned off: shop 1.2 on shop/production"
    assert not [each for each in world.alerter.delivered if "could not be turned off" in f"{each.title} {each.lines}"]
    assert [each.status for each in world.journal.watches()] == ["recovered"]


@dataclass
class Watchful(Metrics):
    """Metrics that note, whenever they are asked, what is turned off by then."""

    switch: MemorySwitch = field(default_factory=MemorySwitch)
    off: list[list[str]] = field(default_factory=list)

    def observe(self, request: Request) -> dict[str, Observations]:
        self.off.append(list(self.switch.kills))
        return super().observe(request)


@dataclass
class Refusing(MemorySwitch):
    """A switch that refuses to turn anything off for good, until it is granted."""

    granted: bool = False

    def kill(self, feature: str, reason: str) -> None:
        if not self.granted:
            raise SwitchError("the token may not turn it off", permanent=True)
        super().kill(feature, reason)


@pytest.mark.parametrize("with_watcher", [True, False])
def test_what_a_person_turned_off_after_a_kill_failed_is_not_told_as_still_on(world: World, with_watcher: bool) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    world.switch = switch = Refusing()
    daemon = world.daemon()
    release = world.expose()
    while not world.said("kill_failed"):
        assert world.minute < 15
        world.run(daemon, 1)
    switch.granted = True
    world.source.observations = {"errors": measured(bad_from=3, bad_until=world.minute)}
    if with_watcher:
        by_hand = Kill(f"{release}{BY_HAND}1", release, "memory", "shop", "by hand by ann", world.now)
        world.journal.intend([by_hand], world.now)
    else:
        del switch.on["shop"]
    while world.active():
        assert world.minute < 30
        world.run(daemon, 1)
    assert "shop" not in switch.on
    assert world.said("recovered")[0] == "Recovered, turned off: shop 1.2 on shop/production"


def test_a_kill_that_is_due_waits_for_no_metrics(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    daemon = world.daemon()
    world.expose()
    world.switch.broken = "flags.example does not answer"
    while not world.said("kill_delayed"):
        assert world.minute < 15
        world.run(daemon, 1)
    world.switch.broken = None
    world.source = seen = Watchful(world.source.observations, switch=world.switch)
    world.daemon().step(world.now + MINUTE)
    assert seen.off[0] == ["shop"]
    assert world.said("turned_off") == ["Turned off: shop 1.2 on shop/production"]


def test_what_a_process_that_died_had_decided_is_done_as_soon_as_there_is_another(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    world.switch.broken = "flags.example does not answer"
    daemon = world.daemon()
    world.expose()
    while not world.killed():
        assert world.minute < 15
        world.run(daemon, 1)
    world.switch.broken, world.source.down = None, "metrics.example does not answer"
    world.daemon().start(world.now + MINUTE)
    assert world.switch.kills == ["shop"]


def test_a_file_beside_watcher_yaml_pauses_for_as_long_as_it_is_there(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    release = world.expose()
    glass = world.folder / "watcher.pause"
    glass.write_text("on-call: the shop is being moved\nsecond line\n")
    world.run(world.daemon(), 29)
    assert (world.switch.kills, world.switch.promotions) == ([], [])
    [detail] = {x.detail["detail"] for x in world.journal.audit_trail(release) if x.detail.get("reason") == "paused"}
    assert detail == f"kills are paused while there is a file {glass}: on-call: the shop is being moved"
    glass.unlink()
    world.run(world.daemon(), 2)
    assert len(world.switch.kills) == 1


def test_a_file_that_pauses_and_cannot_be_read_pauses_all_the_same(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    world.expose()
    (world.folder / "watcher.pause").mkdir()
    world.run(world.daemon(), 29)
    assert world.switch.kills == []


def test_while_paused_nothing_is_killed_by_any_process_and_once_that_is_over_it_is(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    release = world.expose()
    interlocks.pause(world.journal, 30 * MINUTE, "a migration", "ana", world.now)
    for _ in range(29):
        world.run(world.daemon(), 1)
    assert (world.switch.kills, world.switch.promotions) == ([], [])
    [headline] = [each for each in world.alerter.delivered if each.state == "regressed" and each.kind == "headline"]
    assert "kills are paused until 08:30 UTC by ana: a migration" in " ".join(headline.lines)
    refused = [line for line in world.journal.audit_trail(release) if line.detail.get("reason") == "paused"]
    assert {line.detail["action"] for line in refused} >= {"kill"}
    world.run(world.daemon(), 2)
    assert world.switch.kills == ["shop"]


def test_a_pause_ordered_while_a_switch_is_slow_holds_back_the_kill_that_comes_after_it(world: World) -> None:
    daemon = world.daemon()
    for feature in ("shop", "search"):
        release = world.expose(feature=feature)
        world.journal.intend([Kill(f"{release}|kill", release, "memory", feature, "slow", world.now)], world.now)
    turning = world.switch.kill

    def slow(feature: str, reason: str) -> None:
        turning(feature, reason)
        interlocks.pause(world.journal, HOUR, "a migration", "ana", world.now)

    world.switch.kill = slow  # type: ignore[method-assign]
    daemon.act(world.now)
    assert world.switch.kills == ["shop"]


@pytest.mark.parametrize(
    ("written", "instead", "why"),
    [("mode: armed", "mode: recommend", "not_armed"), ("feature: shop", "feature: shop2", "not_allowed")],
)
def test_what_watcher_yaml_says_now_holds_for_releases_that_were_noticed_before(
    world: World, written: str, instead: str, why: str
) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    daemon = world.daemon()
    release = world.expose()
    world.run(daemon, 2)
    file = world.folder / "watcher.yaml"
    file.write_text(file.read_text().replace(written, instead))
    daemon = replace(daemon, installation=load_installation(file))
    world.run(daemon, 10)
    assert world.journal.last_look(release).verdict.outcome is Outcome.REGRESSED  # type: ignore[union-attr]
    assert (world.switch.kills, world.killed()) == ([], [])
    refused = [line.detail["reason"] for line in world.journal.audit_trail(release) if line.what == "refused"]
    assert why in refused


def test_a_kill_that_was_decided_and_is_not_wanted_any_more_is_not_done_and_once_too_old_that_is_told(
    world: World,
) -> None:
    daemon = world.daemon()
    release = world.expose()
    world.journal.intend([Kill(f"{release}|kill", release, "memory", "shop", "bad", world.now)], world.now)
    world.mode = "observe"
    daemon = world.daemon()
    world.run(daemon, 3)
    assert [each.state for each in world.killed()] == ["intended"]
    world.run(daemon, int(DECISION_TTL / MINUTE))
    assert [each.state for each in world.killed()] == ["failed"]
    assert world.switch.kills == []
    assert len(world.said("kill_failed")) == 2


def test_after_three_kills_within_an_hour_a_latch_stays_closed_until_a_person_opens_it(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    world.daemon().start(EXPOSED - 4 * HOUR)
    # Of other services; the process that decided them died at once, and nobody looked for hours.
    for nth in range(3):
        at = EXPOSED - 3 * HOUR + nth * 20 * MINUTE
        world.journal.intend([Kill(f"{nth}|kill", str(nth), "memory", f"other-{nth}", "slow", at)], at)
    release = world.expose()
    for _ in range(20):
        world.run(world.daemon(), 1)
    assert world.switch.kills == []
    refused = [line.detail for line in world.journal.audit_trail(release) if line.detail.get("reason") == "latched"]
    assert [detail["action"] for detail in refused] == ["kill"]
    assert "3 kills within an hour (05:00 UTC to 05:40 UTC)" in refused[0]["detail"]
    assert world.said("latched") == ["Latched: watcher turns nothing off any more"]
    assert [line.what for line in world.journal.audit_trail() if line.what.startswith("latch")] == ["latched"]
    assert interlocks.open_latch(world.journal, "all by one load test", "ana", world.now)
    world.run(world.daemon(), 2)
    assert world.switch.kills == ["shop"]
    assert not interlocks.open_latch(world.journal, "again", "ana", world.now)
    assert [line.what for line in world.journal.audit_trail() if line.what.startswith("latch")] == [
        "latched",
        "latch opened",
    ]


def test_once_the_latch_is_closed_a_promotion_decided_before_is_not_done_and_a_kill_is(world: World) -> None:
    daemon = world.daemon()
    release = world.expose()
    world.run(daemon, 1)
    switch = world.journal.watch(release).switch
    assert switch is not None
    world.journal.intend([Promote(f"{release}|promote|0.25", release, switch, "shop", 0.05, 0.25, "", world.now)], 0)
    for nth in range(3):
        world.journal.intend([Kill(f"{release}{nth}|kill", release, switch, f"other-{nth}", "", world.now)], world.now)
    daemon.act(world.now)
    assert world.switch.promotions == []
    states = {(entry.kind, entry.state) for entry in world.journal.switched()}
    assert states == {("promote", "intended"), ("kill", "done")}


def test_kills_by_hand_and_those_of_a_time_before_there_was_a_latch_close_none(world: World) -> None:
    def decided(kind: str) -> None:
        for nth in range(3):
            made = Kill(f"{nth}{kind}{nth}", str(nth), "memory", f"other-{nth}", "slow", world.now)
            world.journal.intend([made], world.now)

    decided("|kill")
    world.daemon().start(world.now)
    decided(BY_HAND)
    world.run(world.daemon(), 1)
    assert (interlocks.latched(world.journal), world.said("latched")) == ("", [])
    world.journal.intend([Kill("4|kill", "4", "memory", "other-4", "slow", world.now)], world.now)
    world.daemon().start(world.now)
    assert len(interlocks.standing(world.journal, watch(), world.now, allowed=True, paused=None).kills) == 1


def test_a_flag_that_was_turned_off_by_hand_and_re_opened_is_not_killed_again_within_half_an_hour(world: World) -> None:
    world.source = Metrics({"errors": measured(bad_from=3)})
    daemon = world.daemon()
    release = world.expose()
    key = world.journal.watch(release).switch
    assert key is not None

    def by_hand(feature: str, nth: int, error: str | None = None) -> None:
        made = Kill(f"{feature}{BY_HAND}{nth}", feature, key, feature, "by hand by ana", world.now)
        world.journal.intend([made], world.now)
        if error is None:
            world.journal.done(made.key, {"read_back": "off"}, world.now)
        else:
            world.journal.failed(made.key, error, None, world.now)

    by_hand("shop", 1)
    by_hand("search", 2)
    world.run(daemon, 20)
    # What was given up turned nothing off, and another flag is another flag: neither begins the half hour anew.
    by_hand("shop", 3, "flags.example does not answer")
    by_hand("search", 4)
    world.run(daemon, 9)
    assert world.switch.kills == []
    refused = [line.detail for line in world.journal.audit_trail(release) if line.detail.get("reason") == "cool_down"]
    assert [detail["action"] for detail in refused] == ["kill"]
    world.run(daemon, 1)
    assert world.switch.kills == ["shop"]


def test_a_switch_that_does_not_answer_is_asked_once_a_minute_and_holds_up_nothing(world: World) -> None:
    daemon = world.daemon()
    world.expose()
    world.switch.broken = "flags.example does not answer"
    asked = []
    reading = world.switch.read
    world.switch.read = lambda feature: (asked.append(world.now), reading(feature))[1]  # type: ignore[method-assign]
    for second in range(0, 300, 15):
        daemon.step(EXPOSED + second)
    assert len(asked) <= 5 + 1  # and once for the checklist
    assert len(world.active()) == 1


def test_a_switch_that_can_be_read_is_where_releases_are_noticed(world: World) -> None:
    world.notice = "switch: true, features: [shop]"
    daemon = world.daemon()
    world.switch.on["shop"] = 0.0
    world.run(daemon, 1)
    found = load_installation(world.folder / "watcher.yaml")
    waiting = Deployment("shop", "1.2", world.now, previous="1.1")
    deployments.noted(world.journal, found.services["shop"], waiting, "GitHub deployment")
    world.run(daemon, 1)
    assert world.journal.watches() == []
    world.switch.on["shop"] = 0.05
    world.run(daemon, 1)
    (watched,) = world.active()
    assert (watched.watch.release.id, watched.noticed_by) == ("shop/production/shop@1.2", "switch")
    assert watched.watch.release.stages[0].share == 0.05


def test_a_deployment_told_by_http_starts_when_the_switch_gives_it_traffic(world: World) -> None:
    daemon = world.daemon()
    found = load_installation(world.folder / "watcher.yaml")
    waiting = Deployment("shop", "1.2", world.now, previous="1.1")
    deployments.noted(world.journal, found.services["shop"], waiting, "GitHub deployment")
    world.run(daemon, 5)
    assert world.journal.watches() == []
    world.switch.on["shop"] = 0.05
    world.run(daemon, 1)
    (watched,) = world.active()
    assert watched.watch.release.id == "shop/production/shop@1.2"


def test_what_is_on_when_watcher_first_looks_is_adopted(world: World) -> None:
    world.notice = "switch: true, features: [shop]"
    world.switch.on["shop"] = 0.05
    world.run(world.daemon(), 3)
    assert world.journal.watches() == []


def test_after_a_restart_nothing_is_noticed_promoted_or_told_twice(world: World) -> None:
    world.expose()
    for _ in range(60):
        world.run(world.daemon(), 1)
    assert world.switch.promotions[0] == ("shop", 0.25)
    assert len(set(world.switch.promotions)) == len(world.switch.promotions)
    titles = [(alert.key) for alert in world.alerter.delivered]
    assert len(titles) == len(set(titles))

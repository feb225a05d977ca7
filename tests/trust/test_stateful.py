"""Whatever the outside does, and whenever the process dies: what watcher promises holds."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.trust.stand_ins import MINUTE
from tests.trust.world import FEATURES, FORBIDDEN, World, configured
from watcher import intake, interlocks
from watcher.config import Installation
from watcher.model import Exposure, Mode

STORIES = int(os.environ.get("WATCHER_STORIES", "22"))
"""How many stories are told, after one of each beginning; `make soak` tells more."""

PHASES = (Phase.generate, Phase.shrink) if "WATCHER_SHRINK" in os.environ else (Phase.generate,)
"""Shortening a story that broke a promise takes minutes: only where somebody asks."""

HAPPENED = (
    "kill", "promote", "latched", "refused: paused", "refused: latched", "refused: not_armed", "regressed", "no_data",
    "inconclusive", "healthy", "died at the decision", "died at the switch", "died at the people",
)  # fmt: skip
"""What must have happened for the stories to prove anything, and in how many ways a kill must have been refused."""
REFUSALS = 8

BEGINNINGS = (
    "", "paused", "observing", "by hand", "forbidden", "for good", "partial", "lies", "loses answers", "down",
    "disarmed", "it is good", "a bad day",
    "dies at the decision", "dies after the decision", "dies at the switch", "dies after the people",
)  # fmt: skip
"""What may stand in the way of the first kill of a story, the first one nothing."""

a_feature = st.sampled_from(list(FEATURES))
SHARED_MEMORY = Path("/dev/shm")


class Trust(RuleBasedStateMachine):
    """One story: what people, users, a metrics server, a switch and the clock do to a daemon."""

    seen: ClassVar[Counter[str]] = Counter()
    installations: ClassVar[dict[Mode, Installation]] = {}
    root: ClassVar[Path]
    always: ClassVar[str | None] = None

    def __init__(self) -> None:
        super().__init__()
        folder = Path(tempfile.mkdtemp(dir=self.root))
        self.world = World(folder, self.installations, self.seen)
        self.had_a_bad_day = False

    @initialize(beginning=st.sampled_from(BEGINNINGS))
    def it_begins(self, beginning: str) -> None:
        """Begin with a bad release and something that stands in the way of its kill, or with nothing."""
        beginning = beginning if self.always is None else self.always
        feature = FORBIDDEN if beginning == "forbidden" else "gamma"
        if beginning == "paused":
            self.world.pause(30.0)
        if beginning in ("observing", "by hand"):
            self.it_is_started_anew(Mode.OBSERVE, 0)
        if beginning in ("lies", "loses answers", "down"):
            self.world.switch.fault = beginning
        if beginning.startswith("dies"):
            _, when, _, where = beginning.split()
            self.world.fuse.set(when == "after", where)
        if beginning == "it is good":
            self.a_good_release(feature)
        elif beginning == "a bad day":
            self.a_bad_day(["omega", "beta", "gamma", "alpha"])
        else:
            mood = "partial" if beginning == "partial" else "bad"
            self.a_bad_release(feature, beginning != "for good", mood, 3 if beginning == "disarmed" else 5)
        if beginning == "disarmed":
            self.it_is_started_anew(Mode.OBSERVE, 5)
        if beginning == "by hand":
            self.somebody_kills_by_hand(feature, 1)

    @rule(ticks=st.integers(1, 6))
    def minutes_pass(self, ticks: int) -> None:
        self.world.step(ticks)

    @rule(ticks=st.integers(1, 8))
    def ticks_pass(self, ticks: int) -> None:
        self.world.step(ticks, 15.0)

    @rule(minutes=st.integers(7, 90))
    def nobody_looks_for_a_while(self, minutes: int) -> None:
        self.world.step(1, minutes * MINUTE)

    @rule(seconds=st.floats(1.0, 90.0))
    def the_clock_steps_back(self, seconds: float) -> None:
        self.world.step(1, -seconds)

    @rule(feature=a_feature, share=st.sampled_from([0.05, 0.1, 0.5]), ticks=st.integers(0, 3))
    def a_feature_is_opened(self, feature: str, share: float, ticks: int) -> None:
        if feature not in self.world.switch.on:
            self.world.open(feature, share)
            self.world.step(ticks)

    @rule(feature=a_feature)
    def a_good_release(self, feature: str) -> None:
        if feature not in self.world.switch.on:
            self.world.users.change(feature, "healthy", self.world.now)
            self.world.open(feature, 0.05)
            self.world.step(6)

    @rule(feature=a_feature, share=st.sampled_from([0.25, 0.5, 0.6]))
    def a_person_raises_it(self, feature: str, share: float) -> None:
        if self.world.switch.on.get(feature, 1.0) < share:
            self.world.switch.on[feature] = share

    @rule(feature=a_feature)
    def a_person_turns_it_off_elsewhere(self, feature: str) -> None:
        self.world.switch.on.pop(feature, None)

    @rule(
        feature=a_feature,
        mood=st.sampled_from(["healthy", "bad", "bad", "absent", "half", "silent", "partial", "skewed"]),
        ticks=st.integers(0, 5),
    )
    def users_meet_something_else(self, feature: str, mood: str, ticks: int) -> None:
        self.world.users.change(feature, mood, self.world.now)
        self.world.step(ticks)

    @rule(feature=a_feature, mood=st.sampled_from(["absent", "silent"]))
    def its_traffic_is_gone(self, feature: str, mood: str) -> None:
        self.world.open(feature, 0.5)
        self.users_meet_something_else(feature, mood, 6)

    @rule(
        feature=a_feature,
        reversible=st.booleans(),
        mood=st.sampled_from(["bad", "bad", "partial"]),
        ticks=st.integers(3, 6),
    )
    def a_bad_release(self, feature: str, reversible: bool, mood: str, ticks: int) -> None:
        if feature not in self.world.switch.on:
            self.world.open(feature, 0.5)
            self.world.step(1)
            if not reversible:
                self._nobody_can_undo(feature)
        self.world.users.change(feature, mood, self.world.now)
        self.world.step(ticks)

    def _nobody_can_undo(self, feature: str) -> None:
        installation = self.installations[self.world.mode]
        told = Exposure(feature, "2.0", self.world.now, reversible=False)
        service = installation.services[FEATURES[feature]]
        intake.told(installation, self.world.person, service, told, None, "release start by ana")

    @rule(features=st.permutations([each for each in FEATURES if each != FORBIDDEN]))
    @precondition(lambda self: not self.had_a_bad_day)
    def a_bad_day(self, features: list[str]) -> None:
        """One release after the other is bad, each only once the one before is off."""
        self.had_a_bad_day = True
        for feature in features:
            self.world.open(feature, 0.5)
            self.world.users.change(feature, "bad", self.world.now)
            self.world.step(5)

    @rule(fault=st.sampled_from(["", "", "down", "refuses", "limits", "lies", "loses answers", "kill refused"]))
    def the_switch_changes(self, fault: str) -> None:
        self.world.switch.fault = fault

    @rule(fault=st.sampled_from(["", "", "down", "limits", "refuses", "loses answers"]))
    def the_messenger_changes(self, fault: str) -> None:
        self.world.people.fault = fault

    @rule(fault=st.sampled_from(["", "", "down", "refuses"]), ticks=st.integers(0, 6))
    def the_metrics_server_changes(self, fault: str, ticks: int) -> None:
        self.world.users.server = fault
        self.world.step(ticks)

    @rule(minutes=st.integers(1, 40), ticks=st.integers(0, 4))
    def somebody_pauses(self, minutes: int, ticks: int) -> None:
        self.world.pause(minutes)
        self.world.step(ticks)

    @rule()
    def somebody_resumes(self) -> None:
        self.world.resume()

    @rule(ticks=st.integers(0, 3))
    @precondition(lambda self: interlocks.latched(self.world.person))
    def somebody_opens_the_latch(self, ticks: int) -> None:
        self.world.open_latch()
        self.world.step(ticks)

    @rule(feature=a_feature, ticks=st.integers(0, 2))
    def somebody_kills_by_hand(self, feature: str, ticks: int) -> None:
        self.world.kill_by_hand(feature)
        self.world.step(ticks)

    @rule(data=st.data())
    @precondition(lambda self: self.world.person.watches(active=True))
    def somebody_accepts_or_stops(self, data: Any) -> None:
        watches = [each.watch.release.id for each in self.world.person.watches(active=True)]
        release = data.draw(st.sampled_from(watches))
        if data.draw(st.booleans()):
            self.world.accept(release)
        else:
            intake.stop(self.world.person, release, "enough", self.world.now)

    @rule(mode=st.sampled_from([Mode.ARMED, Mode.ARMED, Mode.RECOMMEND, Mode.OBSERVE]), ticks=st.integers(0, 3))
    def it_is_started_anew(self, mode: Mode, ticks: int) -> None:
        self.world.mode = mode
        self.world.start()
        self.world.step(ticks)

    @rule(moment=st.integers(0, 60))
    def it_dies_at_some_moment(self, moment: int) -> None:
        self.world.fuse.set(moment)

    @rule(moment=st.integers(0, 16))
    def it_dies_in_this_step(self, moment: int) -> None:
        self.world.fuse.set(moment)
        self.world.step(1)

    @rule(feature=a_feature, moment=st.integers(0, 1), where=st.sampled_from(["switch", "decision", "people"]))
    def it_dies_while_it_acts(self, feature: str, moment: int, where: str) -> None:
        self.world.fuse.set(moment, where)
        self.a_bad_release(feature, True, "bad", 5)

    @invariant()
    def what_was_promised_holds(self) -> None:
        self.world.hold()

    def teardown(self) -> None:
        try:
            self.world.heal()
            self.world.hold()
            self.world.everybody_was_told()
        finally:
            self.world.close()
            shutil.rmtree(self.world.folder)


def test_what_is_promised_holds_whatever_happens(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Trust.root = Path(tempfile.mkdtemp(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else tmp_path))
    for mode in Mode:
        (tmp_path / mode.value).mkdir()
        Trust.installations[mode] = configured(tmp_path / mode.value, mode)
    Trust.seen.clear()
    budget = settings(
        max_examples=STORIES,
        stateful_step_count=20,
        phases=PHASES,
        derandomize="WATCHER_STORIES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    try:
        caplog.set_level(logging.CRITICAL, "watcher")  # else every fault of every story is kept
        for Trust.always in BEGINNINGS:
            run_state_machine_as_test(Trust, settings=settings(budget, max_examples=1))
        Trust.always = None
        run_state_machine_as_test(Trust, settings=budget)
    finally:
        shutil.rmtree(Trust.root)
    seen = Trust.seen
    assert set(HAPPENED) <= set(seen), f"never happened: {set(HAPPENED) - set(seen)}, of {seen}"
    assert sum(what.startswith("refused") for what in seen) >= REFUSALS, seen
    print(f"{STORIES + len(BEGINNINGS)} stories: {seen}")

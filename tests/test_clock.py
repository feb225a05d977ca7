"""The steady clock: whatever is done to the wall clock, verdicts and actions stay as they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.timeline import EXPOSED, MINUTE, ratio, watch
from watcher.clock import AGREES, ASK_EVERY, STEP, SteadyClock, Step, next_tick, skewed, uptime
from watcher.daemon import FINAL
from watcher.look import look, prepare, read_history
from watcher.model import Kill, Look, Observations, Request
from watcher.testing import MemorySource

HOUR = 3600.0
TICK = 15.0
SETTLE = 45.0


@dataclass
class Machine:
    """A machine whose wall clock people set, and a metrics server that knows what time it is."""

    true: float = EXPOSED
    wrong: float = 0.0
    drift: float = 0.0
    answers: bool = True
    asked: int = 0
    begun: float = field(default=EXPOSED, init=False)

    def wall(self) -> float:
        return self.true + self.wrong + self.drift * (self.true - EXPOSED)

    def uptime(self) -> float:
        return self.true - EXPOSED + 77.0

    def server(self) -> float | None:
        self.asked += 1
        return self.true if self.answers else None

    def clock(self) -> SteadyClock:
        return SteadyClock(self.server, self.wall, self.uptime)


@pytest.fixture
def machine() -> Machine:
    return Machine()


def test_a_wall_clock_that_is_set_wrong_moves_nothing_and_is_told_once(machine: Machine) -> None:
    clock = machine.clock()
    machine.true += 60.0
    machine.wrong = HOUR
    assert clock() == machine.true
    assert clock.check() == Step(machine.true, HOUR, False, "as the metrics server says")
    assert clock.ahead == HOUR
    for _ in range(100):
        machine.true += TICK
        assert clock.check() is None
        assert clock() == pytest.approx(machine.true)


def test_a_wall_clock_that_is_set_right_is_followed_at_once(machine: Machine) -> None:
    machine.wrong = -HOUR
    clock = machine.clock()
    assert clock.apart() == HOUR
    machine.true, machine.wrong = machine.true + 60.0, 0.0
    assert clock() == machine.true - HOUR
    step = clock.check()
    assert step is not None
    assert str(step) == "clock stepped by +3600 s; followed, as the metrics server says"
    assert (clock(), clock.ahead) == (machine.true, 0.0)
    assert clock.check() is None


def test_while_the_metrics_server_cannot_be_asked_the_clock_stays_and_asks_again_now_and_then(machine: Machine) -> None:
    machine.wrong, machine.answers = -HOUR, False
    clock = machine.clock()
    machine.wrong = 0.0
    first = clock.check()
    assert first is not None
    assert str(first) == "clock stepped by +3600 s; kept for now, as the metrics server cannot be asked"
    for _ in range(40):
        machine.true += TICK
        assert clock.check() is None
    assert machine.asked <= 2 + 40 * TICK / ASK_EVERY
    machine.answers = True
    machine.true += ASK_EVERY
    found = clock.check()
    assert found == Step(first.at, HOUR, True, "as the metrics server says")
    assert clock() == machine.true


def test_an_outage_of_the_metrics_server_after_its_word_is_not_another_step(machine: Machine) -> None:
    clock = machine.clock()
    machine.wrong = HOUR
    assert clock.check() is not None
    for _ in range(80):
        machine.true += TICK
        machine.answers = int(machine.true / 300) % 2 == 0
        assert clock.check() is None


def test_a_wall_clock_that_is_set_back_to_what_it_was_agrees_again(machine: Machine) -> None:
    clock = machine.clock()
    machine.wrong = HOUR
    clock.check()
    machine.wrong = 0.2
    assert str(clock.check()) == "clock stepped by -3600 s; followed, as they agree again"
    assert clock.ahead == 0.0
    assert clock() == machine.true


def test_a_metrics_server_that_agrees_with_neither_decides_nothing(machine: Machine) -> None:
    machine.wrong = -HOUR
    clock = machine.clock()
    machine.wrong = -2 * AGREES
    found = clock.check()
    assert found is not None
    assert (found.followed, clock()) == (None, machine.true - HOUR)
    assert "does NTP run on both machines?" in found.why


@pytest.mark.parametrize("leap", [1.0, -1.0, 4.9, -4.9])
def test_what_differs_by_little_is_slewed_without_ever_going_back(machine: Machine, leap: float) -> None:
    clock = machine.clock()
    machine.wrong = leap
    seen = [clock()]
    for _ in range(int(abs(leap) * 100) + 1):
        machine.true += 1.0
        seen.append(clock())
        assert clock.check() is None
    steps = np.diff(seen)
    assert steps.min() > 0.98
    assert steps.max() < 1.02
    assert clock() == pytest.approx(machine.wall(), abs=0.02)


def test_a_clock_that_was_not_read_for_hours_does_not_overshoot(machine: Machine) -> None:
    clock = machine.clock()
    machine.wrong = 2.0
    machine.true += 5 * HOUR
    assert clock() == pytest.approx(machine.wall())
    assert clock.check() is None


def test_seconds_of_a_suspended_machine_count() -> None:
    if not hasattr(time, "CLOCK_BOOTTIME"):
        pytest.skip("only Linux counts them, and watcher goes by the monotonic clock elsewhere")
    assert abs(uptime() - time.clock_gettime(time.CLOCK_BOOTTIME)) < 1.0


def test_a_clock_that_is_wrong_from_the_start_is_told_with_what_to_do() -> None:
    assert skewed(AGREES) == skewed(-AGREES) == ""
    assert skewed(HOUR).startswith("the clock of this machine is 3600 s behind the metrics server's: set the one")


@dataclass
class Stamped(MemorySource):
    """Metrics as a server has them by its own clock: a block that is asked for must have closed, and settled."""

    machine: Machine = field(default_factory=Machine)

    def observe(self, request: Request) -> dict[str, Observations]:
        if request.end > EXPOSED:
            assert request.end <= self.machine.true, "a block was asked for before it closed"
        return super().observe(request)

    history = observe


@dataclass(frozen=True)
class Change:
    """What happens to the wall clock, or to the metrics server, after so many seconds."""

    after: float
    by: float
    answers: bool = True


WATCH = watch(settle=SETTLE)
WORSE = ratio(treated={8: 0.08}, minutes=60)
CALIBRATIONS = prepare(WATCH, read_history(WATCH, MemorySource({"errors": WORSE})))


def lived(changes: list[Change], drift: float = 0.0, minutes: float = 24.0) -> Iterator[tuple[float, Look]]:
    """Look as the daemon does, at the moments of `next_tick` by the steady clock; yield when that was, and the look."""
    machine = Machine(drift=drift)
    clock, source, last = machine.clock(), Stamped({"errors": WORSE}, machine=machine), None
    todo = sorted(changes, key=lambda change: change.after)
    while machine.true < EXPOSED + minutes * MINUTE:
        now = clock()
        due = machine.true + next_tick(now, MINUTE, SETTLE, TICK, 1.0) - now
        while todo and EXPOSED + todo[0].after <= due:
            change = todo.pop(0)
            machine.true = max(machine.true, EXPOSED + change.after)
            machine.wrong, machine.answers = machine.wrong + change.by, change.answers
        machine.true = max(due, machine.true)
        clock.check()
        last = look(WATCH, source, CALIBRATIONS, last, clock())
        yield machine.true, last
        if last.phase in FINAL:
            return


def story(seen: list[tuple[float, Look]]) -> tuple[list[tuple[object, ...]], list[tuple[str, str]]]:
    """What was found of every block until the kill, and all that was done; in order, not to the second."""
    blocks: dict[tuple[object, ...], None] = {}
    for _, each in seen:
        if each.killed_at in (None, each.at):
            evidence = [round(stream.log_e_regressed, 9) for stream in each.verdict.streams]
            blocks[each.through, each.verdict.outcome, *evidence] = None
    done = [(type(action).__name__, getattr(action, "state", "")) for _, each in seen for action in each.actions]
    return list(blocks), done


UNDISTURBED = list(lived([]))

STEPS = st.builds(
    Change, st.floats(0.0, 22 * MINUTE), st.sampled_from([HOUR, -HOUR, 1.0, -1.0, 20.0, -20.0]), st.booleans()
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=5), st.sampled_from([0.0, 5e-4, -5e-4]))
@example([Change(400.0, HOUR)], 0.0)
@example([Change(400.0, -HOUR, answers=False), Change(500.0, 0.0)], 0.0)
def test_whatever_is_done_to_the_wall_clock_verdicts_and_actions_are_those_of_an_undisturbed_run(
    changes: list[Change], drift: float
) -> None:
    seen = list(lived(changes, drift))
    assert story(seen) == story(UNDISTURBED)
    kills = [at for at, each in seen if any(isinstance(action, Kill) for action in each.actions)]
    [expected] = [at for at, each in UNDISTURBED if any(isinstance(action, Kill) for action in each.actions)]
    assert len(kills) == 1
    assert abs(kills[0] - expected) <= TICK
    # No stall: whenever a block has settled, it is folded within a tick, and the second that a leap may take.
    for at, each in seen:
        assert at - SETTLE - each.through < MINUTE + TICK + STEP

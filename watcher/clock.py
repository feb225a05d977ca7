"""What time it is: by the wall clock for those who speak to other systems, by a steady one for whoever decides.

Whatever decides takes `now` as an argument, and never looks at a clock. A request that its receiver holds against a
clock of its own must carry the moment it is sent, whatever time is being looked at: `wall_clock` is for that. What the
daemon hands on as `now` comes from a `SteadyClock`, and `next_tick` says when it should be handed on next.

Why not the wall clock: blocks close, pauses end and decisions grow old by `now`, and the wall clock can be set. Set
ahead by an hour, it would close blocks whose samples are still to come, and call the release silent; set back by an
hour, it would close none for that long. So the steady clock goes by a counter that nobody sets. It was anchored at the
wall clock, and is slewed towards it while they differ by little (what NTP does, a leap second included), never faster
than `SLEW`, so that it never goes back.

Where they differ by more than `STEP`, somebody set the wall clock, and one of the two is wrong. The clock that counts
is the metrics server's: it stamped the samples that blocks are made of. So the nearer of the two to it is right, if it
is within `AGREES`; if that is the wall, the steady clock follows at once, and blocks that were missed are folded all
together. While the server cannot be asked, or agrees with neither, the steady clock stays as it is, and asks again.
"""

from __future__ import annotations

import math
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]
"""Says what time it is, in epoch seconds."""

STEP: Final = 5.0
"""Seconds by which two clocks that nobody set do not come to differ between two looks at them."""

SLEW: Final = 0.01
"""Seconds by which the steady clock is corrected a second: five take eight minutes, and no block notices."""

AGREES: Final = 30.0
"""Seconds within which a clock agrees with the metrics server's: less than samples take to settle."""

ASK_EVERY: Final = 60.0
"""Seconds between two questions to the metrics server while the clocks differ: a server that hangs delays a step."""

SPREAD: Final = 3.0
"""Seconds over which installations are spread that ask at the same end of a block, at most."""


def wall_clock() -> float:
    """Return what time it is, in epoch seconds."""
    return time.time()


def uptime() -> float:
    """Return seconds that nobody sets, those in which the machine was suspended included where the system counts them.

    >>> uptime() <= uptime()
    True
    """
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass(frozen=True)
class Step:
    """The wall clock was set: by how many seconds, when by the steady clock, and which of the two is gone by now.

    `followed` tells that the steady clock is where the wall clock is; None: nobody could say yet which is right.
    """

    at: float
    by: float
    followed: bool | None
    why: str

    def __str__(self) -> str:
        """As people read it.

        >>> str(Step(1_800_000_000.0, 3600.0, False, "as the metrics server says"))
        'clock stepped by +3600 s; kept, as the metrics server says'
        """
        done = {True: "followed", False: "kept", None: "kept for now"}[self.followed]
        return f"clock stepped by {self.by:+.0f} s; {done}, {self.why}"


class SteadyClock:
    """Epoch seconds that never jump, unless the metrics server's clock says that they should.

    Calling it never blocks, and is safe from any thread. `check` is for the one thread that steps.

    Args:
        server: returns what the metrics server's clock says, None where it cannot be asked; may take seconds. Another
            one may take its place at any time.
        wall: epoch seconds, as the system has them.
        steady: seconds that nobody sets; only differences count.
    """

    def __init__(
        self, server: Callable[[], float | None] = lambda: None, wall: Clock = wall_clock, steady: Clock = uptime
    ) -> None:
        self.server, self._wall, self._steady = server, wall, steady
        self._lock = threading.Lock()
        self._ticks, self._now = steady(), wall()
        self._step: Step | None = None
        self._ahead, self._asked = 0.0, -math.inf

    def __call__(self) -> float:
        """Return what time it is."""
        return self._read()[0]

    @property
    def ahead(self) -> float:
        """Seconds by which the wall clock is ahead of this one, because it was set and is not gone by; else 0."""
        return self._ahead

    def apart(self) -> float | None:
        """Return how many seconds the metrics server is ahead of this clock; None where it cannot be asked."""
        said = self.server()
        return None if said is None else said - self()

    def check(self) -> Step | None:
        """Notice that the wall clock was set, and decide which clock is right; None where there is nothing new to say.

        While nobody could decide, or the wall clock stays wrong, the metrics server is asked again now and then.
        """
        now, ahead = self._read()
        by = ahead - self._ahead
        if abs(by) > STEP:
            self._step, self._ahead, self._asked = None, ahead, -math.inf
        if abs(ahead) <= STEP:
            self._ahead = 0.0
            return Step(now, by, True, "as they agree again") if abs(by) > STEP else None
        if now < self._asked + ASK_EVERY:
            return None
        self._asked, before = now, self._step
        found = self._judged(now, by) if before is None else self._judged(before.at, before.by)
        if before is not None and found.followed in (None, before.followed):
            return None
        self._step = found
        return found

    def _judged(self, at: float, by: float) -> Step:
        """Ask the metrics server which clock is right, and go by that one."""
        said = self.server()
        now, ahead = self._read()
        if said is None:
            return Step(at, by, None, "as the metrics server cannot be asked")
        own, wall = abs(now - said), abs(now + ahead - said)
        if min(own, wall) > AGREES:
            return Step(at, by, None, "as the metrics server agrees with neither: does NTP run on both machines?")
        if own <= wall:
            return Step(at, by, False, "as the metrics server says")
        with self._lock:
            self._now += ahead
        self._ahead = 0.0
        return Step(at, by, True, "as the metrics server says")

    def _read(self) -> tuple[float, float]:
        """Return the time, and by how much the wall clock is ahead of it."""
        with self._lock:
            ticks = max(self._steady(), self._ticks)
            since, self._ticks = ticks - self._ticks, ticks
            self._now += since
            ahead = self._wall() - self._now
            slewed = min(max(ahead, -SLEW * since), SLEW * since) if abs(ahead) <= STEP else 0.0
            self._now += slewed
            return self._now, ahead - slewed


def skewed(apart: float) -> str:
    """Return what to say at the start of a clock that differs from the metrics server's; empty where it agrees.

    Args:
        apart: seconds the metrics server is ahead.

    >>> skewed(-3600.0)
    "the clock of this machine is 3600 s ahead of the metrics server's: set the one that is wrong (does NTP run on \
both?), for blocks are looked at too early"
    """
    if abs(apart) <= AGREES:
        return ""
    where, then = ("behind", "late") if apart > 0 else ("ahead of", "early")
    return (
        f"the clock of this machine is {abs(apart):.0f} s {where} the metrics server's: set the one that is wrong "
        f"(does NTP run on both?), for blocks are looked at too {then}"
    )


def phase(who: str, every: float) -> float:
    """Return the seconds after blocks have settled at which an installation looks: its own, and always the same.

    Installations that ask the same metrics server are thus spread over seconds, and none is later than that.

    Args:
        who: names the installation, as host and journal do.
        every: seconds between two steps.

    >>> 0.0 <= phase("host-1/watcher.db", 15.0) < 3.0
    True
    >>> phase("host-1/watcher.db", 15.0) != phase("host-2/watcher.db", 15.0)
    True
    """
    return zlib.crc32(who.encode()) / 2**32 * min(SPREAD, every / 5)


def next_tick(now: float, block: float, settle: float, every: float, phase: float) -> float:
    """Return when to step next: as soon as a block has settled, and every so many seconds from then to the next.

    Args:
        now: epoch seconds.
        block, settle: seconds of a block, and for which its samples may still arrive.
        every: seconds between two steps, at most.
        phase: seconds that are added to `settle`.

    >>> [next_tick(now, 60.0, 45.0, 15.0, 2.0) for now in (600.0, 602.0, 646.9, 647.0, 650.0)]
    [602.0, 617.0, 647.0, 662.0, 662.0]
    >>> next_tick(640.0, 60.0, 45.0, 25.0, 2.0)
    647.0
    """
    # A moment that is a rounding error away is the present one.
    past = now + 1e-3
    settled = math.floor((past - settle - phase) / block) * block + settle + phase
    due = settled + (math.floor((past - settled) / every) + 1) * every
    return min(due, settled + block)

"""Keeps a daemon running: steps on time, people told beside them, signals answered.

SIGTERM and SIGINT end it after the step that is under way, or at once when they come again; SIGHUP reads watcher.yaml
anew, all of it or nothing. Steps come as soon as a block has settled, by a clock that no step of the wall clock moves;
one that takes longer than that is followed by one for all that was missed.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from watcher.assembly import daemon, installed
from watcher.clock import Clock, SteadyClock, next_tick, phase, skewed
from watcher.config import Installation
from watcher.daemon import Daemon, tick_of
from watcher.errors import SourceError, WatcherError
from watcher.look import Source
from watcher.notify import Unit
from watcher.sources.prometheus import PrometheusSource

log = logging.getLogger("watcher")

SOON: Final = 1.0
"""Seconds between looks into the outbox for something to tell."""

PATIENCE: Final = 5.0
"""Seconds that a message under way is waited for at the end."""

GARBAGE: Final = 50_000
"""Objects made, beyond those let go, before Python looks for cycles."""

LEFT: Final = 0.5
"""Seconds that an errand under way is: it is done anew at the next start."""


class Signals:
    """What the operating system asked for since it was looked at last."""

    def __init__(self) -> None:
        self._came, self._stop, self._reload = threading.Event(), False, False
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, self._stopped)
        signal.signal(signal.SIGHUP, self._reloaded)
        self.working = False
        """Whether a step was completed: one that ends before has recorded nothing that could be cut short."""

    def wait(self, seconds: float) -> None:
        """Wait, until one comes at most."""
        self._came.wait(max(seconds, 0.0))
        self._came.clear()

    @property
    def stop(self) -> bool:
        """Whether the process is to end."""
        return self._stop

    def reload(self) -> bool:
        """Tell, once, that the configuration is to be read anew."""
        asked, self._reload = self._reload, False
        return asked

    def _stopped(self, *_: object) -> None:
        if self._stop or not self.working:
            raise SystemExit(0)  # what is not recorded yet has not happened
        self._stop = True
        self._came.set()

    def _reloaded(self, *_: object) -> None:
        self._reload = True
        self._came.set()


def run(config: str) -> None:
    """Run the daemon of an installation until it is told to end.

    Raises:
        ConfigError: the configuration is wrong, names a switch there is not, or an address that is taken.
        Refused: armed where that is not allowed; or rules that nothing can decide.
        JournalError: the journal cannot be opened.
    """
    # A look makes much and leaves few cycles: to look for them as often as Python does takes a twelfth of a step.
    gc.set_threshold(GARBAGE)
    signals, unit, clock = Signals(), Unit(os.environ.get("NOTIFY_SOCKET")), SteadyClock()
    present: Installation | None = installed(config)
    before: Installation | None = None
    while present is not None:
        try:
            with daemon(present, unit, clock=clock) as made:
                clock.server = partial(_asked, made.source)
                made.start(clock())
                present, before = _follow(made, config, clock, signals, unit), present
        except WatcherError as error:
            if before is None:
                raise
            log.error("watcher.yaml is as it was, its new version cannot be run: %s", error)
            present, before = before, None


def _asked(source: Source) -> float | None:
    """Return what time it is by the metrics server's clock; None where it cannot be asked."""
    try:
        return source.clock() if isinstance(source, PrometheusSource) else None
    except SourceError:
        return None


def _follow(made: Daemon, config: str, clock: SteadyClock, signals: Signals, unit: Unit) -> Installation | None:
    """Step until a signal says otherwise; return what to go on with, None at the end."""
    present, news, every = made.installation, threading.Event(), tick_of(made.installation)
    own, began_with = phase(socket.gethostname() + present.journal, every), ", ".join(present.services)
    telling = _beside("telling", made.tell, clock, SOON, PATIENCE, news)
    errands = _beside("errands", made.errands, clock, every, LEFT)
    with telling, errands:
        while not signals.stop:
            _check(clock)
            unit.turned(_attempt("step", made.advance, clock))
            if began_with:
                log.info("watching %s, every %g s", began_with, every)
                signals.working, began_with = True, ""
                _compare(clock)
            news.set()
            now = clock()
            signals.wait(next_tick(now, present.block, present.settle, every, own) - now)
            following = _reread(config, unit) if signals.reload() else None
            if following is not None:
                return following
        unit.stopping()
    return None


def _check(clock: SteadyClock) -> None:
    """Say so where the wall clock was set, and by which clock it goes on."""
    step = clock.check()
    if step is not None:
        log.warning("%s", step)


def _compare(clock: SteadyClock) -> None:
    """Say so where this machine's clock is wrong from the start."""
    apart = clock.apart()
    if apart is not None and (said := skewed(apart)):
        log.warning("%s", said)


def _reread(config: str, unit: Unit) -> Installation | None:
    """Return watcher.yaml as it is now; None, and nothing changes, where it is wrong."""
    unit.reloading()
    try:
        found = installed(config)
    except WatcherError as error:
        log.error("watcher.yaml is as it was, its new version is refused: %s", error)
        return None
    log.info("watcher.yaml was read anew")
    return found


@contextmanager
def _beside(
    name: str,
    do: Callable[[float], None],
    clock: Clock,
    every: float,
    patience: float,
    news: threading.Event | None = None,
) -> Iterator[None]:
    """Do something again and again in a thread of its own, at once when there is news; end it with the context."""
    ending, called = threading.Event(), news or threading.Event()

    def again() -> None:
        while not ending.is_set():
            _attempt(name, do, clock)
            called.wait(every)
            called.clear()

    # A daemon thread, so that a receiver that hangs cannot keep the process from ending.
    thread = threading.Thread(target=again, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        called.set()
        thread.join(patience)


def _attempt(name: str, do: Callable[[float], None], clock: Clock) -> bool:
    """Do a part of a step, and tell whether it was completed; if not, the next one is another attempt."""
    try:
        do(clock())
    except WatcherError as error:
        log.error("%s failed: %s", name, error)
    except Exception:
        # With the looks of a step, one of the two places for it: one failure must not end what protects users.
        log.exception("%s failed", name)
    else:
        return True
    return False

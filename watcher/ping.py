"""The dead man's switch: an address that hears from a daemon which works, and gives alarm once it does not any more.

Asked for after every step, sent once a minute at most. It is withheld, within the step in which that is found, where
nobody would be told nor protected: the scheduler hangs (no step ends), a watch was not looked at, a look was not
recorded, no watch could read metrics, the metrics server does not answer, or the journal cannot be written or has no
room. One watch among several that cannot read its metrics withholds nothing: people are told of that by name, and a
ping that stays away for it would hide that watcher itself has died since.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

from watcher import __version__
from watcher.config import PingSettings
from watcher.errors import SwitchError, WatcherError
from watcher.model import Look, Watch
from watcher.observer import SILENCE, Observer, Silence
from watcher.switches.http import ask

log = logging.getLogger("watcher")

EVERY: Final = 60.0
"""Seconds between two pings, at least."""
PATIENCE: Final = (2.0, 3.0)
"""Seconds to connect, and to wait for the answer."""


class Ping(Silence):
    """Pings after steps that did all they are for.

    Args:
        settings: where.
        proofs: called in the thread that pings, before each; one that raises WatcherError withholds it.
        told: whoever counts pings.
        stopwatch: monotonic seconds.
    """

    def __init__(
        self,
        settings: PingSettings,
        proofs: Sequence[Callable[[], None]] = (),
        told: Observer = SILENCE,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._proofs, self._told, self._stopwatch = settings, proofs, told, stopwatch
        self._read = self._unread = False
        self._sent_at: float | None = None
        self._thread: threading.Thread | None = None

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Note whether metrics could be read."""
        self._read |= look.problem is None
        self._unread |= look.problem is not None

    def source_failed(self, service: str) -> None:
        """Note that metrics could not be read."""
        self._unread = True

    def stepped(self, whole: bool) -> None:
        """Ping where that is due and the step was whole; returns at once, however long the receiver takes."""
        blind, self._read, self._unread = self._unread and not self._read, False, False
        if self._sent_at is not None and self._stopwatch() - self._sent_at < EVERY:
            return
        if not whole or blind or (self._thread is not None and self._thread.is_alive()):
            self._told.pinged("withheld")
            return
        self._sent_at = self._stopwatch()
        # A daemon thread of its own: a receiver that hangs neither delays a step, nor keeps the process from ending.
        self._thread = threading.Thread(target=self._send, name="ping", daemon=True)
        self._thread.start()

    def _send(self) -> None:
        try:
            for prove in self._proofs:
                prove()
            address = self._settings.address()
        except WatcherError as error:
            log.warning("no ping: %s", error)
            self._told.pinged("withheld")
            return
        parts = urlsplit(address)
        secret = address.partition(parts.netloc)[2]
        try:
            ask(
                "GET",
                address,
                headers={"User-Agent": f"watcher/{__version__}"},
                patience=PATIENCE,
                secrets=(address, *([secret] if len(secret) > 1 else [])),
            )
        except SwitchError as error:
            log.warning("the ping was not taken: %s", error)
            self._told.pinged("failed")
        else:
            self._told.pinged("sent")

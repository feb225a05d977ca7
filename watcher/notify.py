"""Tells systemd how the daemon is: sd_notify(3) for a unit of `Type=notify` with a watchdog.

The watchdog is for what hangs, and restarting mends that. It hears of every look, and of every step whether it came to
something or not: a journal that is full or down is not mended by a restart, and `ping` and people hear of it.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime

from watcher.model import Look, Watch
from watcher.observer import Silence

log = logging.getLogger("watcher")


class Unit(Silence):
    """The unit of systemd that runs this process; without one, nobody is told anything.

    Args:
        address: of its socket, as NOTIFY_SOCKET has it: a path, or `@` and an abstract name.
    """

    def __init__(self, address: str | None) -> None:
        self._address = None if address is None else address.replace("@", "\0", 1) if address[:1] == "@" else address
        self._ready, self._watches, self._looked_at = False, 0, 0.0

    def watching(self, watches: Sequence[Watch]) -> None:
        """Note how many releases are watched."""
        self._watches = len(watches)

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Say that it goes on: a step with many looks may take long."""
        self._looked_at = look.at
        self._say("WATCHDOG=1")

    def look_failed(self, watch: Watch) -> None:
        """Say that it goes on."""
        self._say("WATCHDOG=1")

    def turned(self, completed: bool) -> None:
        """Say that a step is over; the first one that was completed makes the unit ready."""
        ready = ["READY=1"] if completed and not self._ready else []
        self._ready = self._ready or completed
        self._say(*ready, "WATCHDOG=1", f"STATUS={self._status(completed)}")

    def reloading(self) -> None:
        """Say that watcher.yaml is being read anew; the next step that is completed says that it was."""
        self._ready = False
        self._say("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """Say that the process is about to end."""
        self._say("STOPPING=1", "STATUS=ending")

    def _status(self, completed: bool) -> str:
        if not completed:
            return "the last step came to nothing; the log says why"
        looked = f"; last look {datetime.fromtimestamp(self._looked_at, UTC):%H:%M:%SZ}" if self._looked_at else ""
        return f"watching {self._watches} release{'' if self._watches == 1 else 's'}{looked}"

    def _say(self, *lines: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.sendto("\n".join(lines).encode(), socket.MSG_DONTWAIT, self._address)
        except OSError as error:
            log.debug("systemd could not be told %s: %s", lines[0], error.strerror)

"""What was heard before: a request that was signed is taken once, however often somebody sends it again."""

from __future__ import annotations

import threading
from typing import Final

from starlette.exceptions import HTTPException

from watcher.journal import Journal

WINDOW: Final = 300.0
"""Seconds by which the time of a signed request may differ from ours."""

_KEY: Final = "heard"


class Heard:
    """Remembers the ids of signed requests for as long as their time would let them pass, over restarts."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self._lock = journal, threading.Lock()

    def refuse(self, message: str) -> None:
        """Raise where a request was taken before: HTTPException 409."""
        if message in self._known():
            raise HTTPException(409, "this request was taken before; a new one needs an id of its own")

    def keep(self, message: str, now: float) -> None:
        """Remember a request that was taken."""
        with self._lock:
            recent = {each: at for each, at in self._known().items() if now - at < 2 * WINDOW}
            self._journal.remember(_KEY, {**recent, message: now})

    def _known(self) -> dict[str, float]:
        return dict(self._journal.recall(_KEY) or {})

"""What was heard before: a request that was signed is taken once, however often somebody sends it again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.exceptions import HTTPException

from watcher.journal import Journal

WINDOW: Final = 300.0
"""Seconds by which the time of a signed request may differ from ours."""

_KEY: Final = "heard"


_TURN: Final = threading.Lock()
"""One request after another, whichever way they come: what was heard is one memory."""


class Heard:
    """Remembers the ids of signed requests for as long as their time would let them pass, over restarts."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @contextmanager
    def once(self, message: str, now: float) -> Iterator[None]:
        """Let a request be taken; where that raises, the same may come again: who hears of a failure sends it anew.

        One after another, so that of two at the same moment only one is taken.

        Raises:
            HTTPException: 409 it was taken before.
        """
        with _TURN:
            known: dict[str, float] = self._journal.recall(_KEY) or {}
            if message in known:
                raise HTTPException(409, "this request was taken before; a new one needs an id of its own")
            yield
            recent = {each: at for each, at in known.items() if now - at <= 2 * WINDOW}
            self._journal.remember(_KEY, {**recent, message: now})

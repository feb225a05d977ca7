"""`GET /readyz`: whether the daemon does what it is for, in one sentence where it does not."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from watcher.config import Installation
from watcher.daemon import tick_of
from watcher.errors import JournalError
from watcher.journal import Journal
from watcher.server.metrics import Metrics

log = logging.getLogger("watcher")

LATE: Final = 3
"""Ticks within which a step must have been completed."""


@dataclass(frozen=True)
class Readiness:
    """Tells whether steps are completed on time, and what they are recorded in can be read."""

    installation: Installation
    journal: Journal
    metrics: Metrics

    async def get(self, _: Request) -> Response:
        """Answer 200, or 503 with the reason; the journal may let one wait, and meanwhile others are answered."""
        problem = await run_in_threadpool(self.problem)
        return PlainTextResponse("ready") if problem is None else PlainTextResponse(problem, 503)

    def problem(self) -> str | None:
        """Return why the daemon is not ready, if it is not."""
        age, tick = self.metrics.since_step(), tick_of(self.installation)
        if age is None:
            return "the first step of this process is not completed yet; if it stays so, the log says why"
        if age > LATE * tick:
            return f"the last completed step is {age:.0f} s old, and one is due every {tick:g} s; the log says why"
        try:
            self.journal.recall("pause")
        except JournalError as error:
            log.error("not ready: %s", error)
            return "the journal cannot be read; the log says why"
        return None

"""`POST /v1/pause` and `POST /v1/resume`: what `watcher pause` and `watcher resume` do, for a token that may."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from watcher import interlocks
from watcher.config import HttpSettings, Installation, parse_duration
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.secrets import redacted
from watcher.server.credentials import require_token
from watcher.server.incoming import Word, checked, read_body, read_json

log = logging.getLogger("watcher")


class Wanted(BaseModel):
    """What is told of a pause."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    length: str = Field(alias="for")
    reason: Word


@dataclass(frozen=True)
class Holding:
    """Pauses what watcher does by itself, and ends that."""

    installation: Installation
    settings: HttpSettings
    journal: Journal
    clock: Callable[[], float]

    async def pause(self, request: Request) -> Response:
        """Answer a request to pause: 200 with what is in force from now on."""
        body = await read_body(request)
        return await run_in_threadpool(self._pause, request, body)

    async def resume(self, request: Request) -> Response:
        """Answer a request to end a pause: 200, whether there was one, and what holds watcher back all the same."""
        await read_body(request)
        return await run_in_threadpool(self._resume, request)

    def _pause(self, request: Request, body: bytes) -> Response:
        by = require_token(self.settings, request.headers, "pause")
        wanted = checked(Wanted, read_json(request.headers, body))
        try:
            made = interlocks.pause(self.journal, parse_duration(wanted.length), wanted.reason, by, self.clock())
        except (ValueError, Refused) as error:
            raise HTTPException(422, f"for: {error}") from None
        log.warning("POST /v1/pause: %s", made)
        until = f"{dt.datetime.fromtimestamp(made.until, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        return JSONResponse({"paused": redacted(str(made)), "until": until})

    def _resume(self, request: Request) -> Response:
        by = require_token(self.settings, request.headers, "pause")
        now = self.clock()
        ended = interlocks.resume(self.journal, by, now)
        log.warning("POST /v1/resume by %s: %s", by, "there was no pause" if ended is None else "the pause is over")
        still = interlocks.held_back(self.journal, self.installation.file, now)
        return JSONResponse({"resumed": ended is not None, "paused": still and redacted(still)})

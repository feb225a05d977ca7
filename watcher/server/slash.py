"""`POST /v1/slack`: `/watcher status`, `/watcher pause 1h REASON`, `/watcher resume` and clicks, sent by Slack."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from watcher import interlocks
from watcher.config import Installation, SlackSettings, parse_duration
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.overview import overview
from watcher.secrets import redacted
from watcher.server.clicks import MAY_NOT, Clicks
from watcher.server.credentials import require_slack
from watcher.server.heard import Heard
from watcher.server.incoming import read_body

log = logging.getLogger("watcher")

LONGEST: Final = 2900
"""Characters of an answer; Slack cuts what is longer."""
USAGE: Final = "`/watcher status`, `/watcher pause 1h REASON` (7d at most) or `/watcher resume`"


@dataclass(frozen=True)
class Slash:
    """Answers those whom watcher.yaml names, within the three seconds that Slack waits."""

    installation: Installation
    settings: SlackSettings
    journal: Journal
    clock: Callable[[], float]
    heard: Heard
    clicks: Clicks

    async def post(self, request: Request) -> Response:
        """Answer a command."""
        body = await read_body(request)
        return await run_in_threadpool(self._answer, request.headers, body)

    def _answer(self, headers: Headers, body: bytes) -> Response:
        now = self.clock()
        signature = require_slack(self.settings, headers, body, now)
        told = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if "payload" in told:
            with self.heard.once(signature, now):
                answer = self.clicks.answer(told["payload"], now)
            after = None if answer.after is None else BackgroundTask(answer.after)
            return Response(b"", 200, background=after) if answer.content is None else JSONResponse(answer.content)
        with self.heard.once(signature, now):
            return JSONResponse(self.command(told, now))

    def command(self, told: Mapping[str, str], now: float) -> dict[str, str]:
        """Do what a command asks for, and return the answer; for who is not named, nothing is done."""
        user = told.get("user_id", "")
        if user not in self.settings.users:
            log.warning("Slack: %s is not among slack.users of watcher.yaml", user[:30] or "nobody")
            return _said(MAY_NOT)
        return self._done(told.get("text", "").split(), f"{user} in Slack", now)

    def _done(self, words: list[str], by: str, now: float) -> dict[str, str]:
        try:
            if words == ["status"]:
                return _said("\n".join(overview(self.installation, self.journal, now)))
            if words[:1] == ["pause"] and len(words) > 2:
                made = interlocks.pause(self.journal, parse_duration(words[1]), " ".join(words[2:]), by, now)
                log.warning("Slack: %s", made)
                return _said(f"{made}", everybody=True)
            if words == ["resume"]:
                ended = interlocks.resume(self.journal, by, now)
                log.warning("Slack, by %s: %s", by, "no pause" if ended is None else "the pause is over")
                still = interlocks.held_back(self.journal, self.installation.file, now)
                said = "There was no pause." if ended is None else f"The pause is over, by {by}."
                return _said(said if still is None else f"{said} But {still}.", everybody=True)
        except (Refused, ValueError) as error:
            return _said(f"{error}. {USAGE}")
        return _said(USAGE)


def _said(text: str, everybody: bool = False) -> dict[str, str]:
    escaped = redacted(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return {"response_type": "in_channel" if everybody else "ephemeral", "text": escaped[:LONGEST]}

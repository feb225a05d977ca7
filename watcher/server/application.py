"""What there is to ask for over HTTP, and how errors are said: JSON with the one key `error`, and never a traceback."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Callable, Mapping
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from watcher.config import Installation
from watcher.errors import ConfigError, JournalError, Refused
from watcher.journal import Journal
from watcher.secrets import redacted
from watcher.server.api import Api
from watcher.server.clicks import Clicks, dialogue
from watcher.server.heard import Heard
from watcher.server.holding import Holding
from watcher.server.metrics import Metrics
from watcher.server.openapi import described
from watcher.server.page import Page
from watcher.server.readiness import Readiness
from watcher.server.releases import Releases
from watcher.server.slash import Slash

log = logging.getLogger("watcher")

_LONGEST_PROBLEM: Final = 500


def application(
    installation: Installation, journal: Journal, clock: Callable[[], float], metrics: Metrics | None = None
) -> Starlette:
    """Return the application of an installation: what it is told over HTTP, and what says how the daemon is.

    Args:
        installation: has an `http` section.
        journal: where releases are recorded, for the daemon to take up at its next tick.
        clock: epoch seconds.
        metrics: what the daemon tells of its work; None where there is no daemon.

    Raises:
        ConfigError: it has none.
    """
    if installation.http is None:
        raise ConfigError("is missing: say where to listen and who may tell of releases", key="http")
    heard = Heard(journal)
    releases = Releases(installation, installation.http, journal, clock, heard)
    holding, slack = Holding(installation, installation.http, journal, clock), installation.slack
    metrics = metrics or Metrics(installation, journal, clock)
    page, api = Page(installation, journal, clock), Api(journal)
    commands = []
    if slack is not None and slack.signing_secret_file is not None:
        slash = Slash(installation, slack, journal, clock, heard, Clicks(slack, journal, dialogue(slack)))
        commands.append(Route("/v1/slack", slash.post, methods=["POST"]))
    app = Starlette(
        routes=[
            *commands,
            Route("/healthz", _health, methods=["GET"]),
            Route("/readyz", Readiness(installation, journal, metrics).get, methods=["GET"]),
            Route("/metrics", metrics.get, methods=["GET"]),
            Route("/", page.listing, methods=["GET"]),
            Route("/page.js", page.script, methods=["GET"]),
            Route("/releases/{release:path}", page.release, methods=["GET"]),
            Route("/streams/{release:path}", page.stream, methods=["GET"]),
            Route("/charts/{kind}/{release:path}", page.chart, methods=["GET"]),
            Route("/v1/releases", api.listing, methods=["GET"]),
            Route("/v1/releases", releases.post, methods=["POST"]),
            Route("/v1/releases/{release:path}", api.release, methods=["GET"]),
            Route("/openapi.json", described, methods=["GET"]),
            Route("/v1/pause", holding.pause, methods=["POST"]),
            Route("/v1/resume", holding.resume, methods=["POST"]),
        ],
        # A page is mostly words that come again: a tenth of it travels.
        middleware=[Middleware(GZipMiddleware, minimum_size=1024)],
        exception_handlers={
            HTTPException: _declined,
            Refused: _refused,
            ConfigError: _refused,
            JournalError: _not_recorded,
            Exception: _unexpected,
        },
    )
    # A redirect would quote whatever host the client named.
    app.router.redirect_slashes = False
    return app


async def _health(_: Request) -> Response:
    return PlainTextResponse("ok")


def _error(status: int, problem: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"error": redacted(problem)[:_LONGEST_PROBLEM]}, status, headers)


async def _declined(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    problem = error.detail
    if error.status_code == 404 and problem == "Not Found":
        problem = "there is nothing here; there is POST /v1/releases, /v1/pause and /v1/resume, "
        problem += "and GET /, /v1/releases, /openapi.json, /healthz, /readyz and /metrics"
    return _error(error.status_code, problem, error.headers)


async def _refused(_: Request, error: Exception) -> Response:
    return _error(422, str(error))


async def _not_recorded(_: Request, error: Exception) -> Response:
    log.error("what a request brought could not be recorded: %s", error)
    problem = "the journal cannot be read or written now, and nothing was recorded: send it again later"
    return _error(503, problem, {"Retry-After": "10"})


async def _unexpected(request: Request, error: Exception) -> Response:
    """Say that something is wrong with watcher itself; where, for whoever asks with WATCHER_DEBUG=1."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    log.error(
        "unexpected %s in %s:%s at %s %s (WATCHER_DEBUG=1 shows more)",
        type(error).__name__,
        os.path.basename(place.filename),
        place.lineno,
        request.method,
        request.scope["path"],
        exc_info=error if os.environ.get("WATCHER_DEBUG") else None,
    )
    return _error(500, "watcher made a mistake; its log says where")

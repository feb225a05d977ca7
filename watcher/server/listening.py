"""The address watcher listens on, and the thread that serves it while the daemon runs."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from watcher.config import HttpSettings, Installation
from watcher.errors import ConfigError
from watcher.journal import Journal
from watcher.server.application import application
from watcher.server.metrics import Metrics

log = logging.getLogger("watcher")

MOST_AT_ONCE: Final = 100
"""Connections beyond which requests are answered with 503: files and sockets are the daemon's, too."""
GRACE: Final = 0.5
"""Seconds that requests under way have left when the daemon stops."""


@contextmanager
def serving(
    installation: Installation,
    journal: Journal,
    clock: Callable[[], float] = time.time,
    metrics: Metrics | None = None,
) -> Iterator[None]:
    """Serve `application` in a thread of its own; without an `http` section, say who goes without.

    Signals stay with whoever calls: the server ends when the context does.

    Raises:
        ConfigError: the address is taken or is none of this machine's, or a secret cannot be read.
    """
    settings = installation.http
    if settings is None:
        told = [each.name for each in installation.services.values() if any(x.notice.http for x in each.releases)]
        if told:
            log.info("no `http` in watcher.yaml: only `watcher release start` tells of releases of %s", ", ".join(told))
        yield
        return
    # Both are read whenever they are needed; that they can be is better known now than at the first release.
    settings.tokens(), settings.github_secret(), settings.webhook_keys()
    if installation.slack is not None:
        installation.slack.signing_secret()
    with closing(_listener(settings)) as listener:
        server = uvicorn.Server(_quiet(application(installation, journal, clock, metrics)))
        # A daemon, so that a journal that hangs cannot keep the process from ending.
        thread = threading.Thread(target=server.run, args=([listener],), name="http", daemon=True)
        thread.start()
        log.info("listening on http://%s", settings.listen)
        try:
            yield
        finally:
            server.should_exit = True
            thread.join(GRACE + 0.5)


def _listener(settings: HttpSettings) -> socket.socket:
    try:
        [(family, _, _, _, address), *_] = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = f"{settings.listen} is in use: stop what listens there (another watcher?) or choose another port"
        else:
            problem = f"{settings.listen} cannot be listened on ({error.strerror}): choose an address of this machine"
        raise ConfigError(problem, key="http.listen") from error


def _quiet(app: Starlette) -> uvicorn.Config:
    """Return a server that speaks only through `app`: what it says itself may quote what a client sent."""
    return uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_AT_ONCE,
        timeout_graceful_shutdown=GRACE,  # type: ignore[arg-type]  # it is only waited for: a fraction will do
    )

"""Who may tell of releases: whoever holds the token, and whoever signs as GitHub does."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from watcher.config import HttpSettings
from watcher.errors import ConfigError

log = logging.getLogger("watcher")


def require_token(settings: HttpSettings, headers: Headers) -> None:
    """Let a request pass that carries `Authorization: Bearer <token>`.

    Raises:
        HTTPException: 401 it does not, 503 the token cannot be read.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    token = _read(settings.token)
    if token is None or scheme.lower() != "bearer" or not _same(given.strip(), token):
        problem = "not allowed: send the token of http.token_file as Authorization: Bearer TOKEN"
        raise HTTPException(401, problem, {"WWW-Authenticate": "Bearer"})


def require_signature(settings: HttpSettings, headers: Headers, body: bytes) -> None:
    """Let a request pass whose `X-Hub-Signature-256` is that of the body as it was sent.

    Raises:
        HTTPException: 401 it is not, 503 the secret cannot be read.
    """
    key = _read(settings.github_secret)
    if key is not None:
        signature = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        if _same(headers.get("x-hub-signature-256", ""), signature):
            return
    problem = "not allowed: the webhook's secret is not the one in http.github_secret_file"
    raise HTTPException(401, problem, {"WWW-Authenticate": "Bearer"})


def _same(given: str, right: str) -> bool:
    # As bytes, because only ASCII texts can be compared in constant time; headers come as Latin-1.
    return hmac.compare_digest(given.encode("latin-1", "replace"), right.encode())


def _read(read: Callable[[], str | None]) -> str | None:
    """Return a secret as it is now: it may have been replaced since the start."""
    try:
        return read()
    except ConfigError as error:
        log.error("nobody can tell of releases: %s", error)
        raise HTTPException(503, "credentials cannot be checked now; watcher's log says why") from None

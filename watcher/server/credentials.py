"""Who may tell of releases: whoever holds the token, and whoever signs as GitHub does."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from watcher.config import HttpSettings
from watcher.errors import ConfigError
from watcher.secrets import conceal
from watcher.tokens import recognised

T = TypeVar("T")

log = logging.getLogger("watcher")


def require_token(settings: HttpSettings, headers: Headers, right: str) -> str:
    """Let a request pass that carries `Authorization: Bearer <token>`, and return whose token it is.

    Args:
        settings: which tokens there are.
        headers: of the request.
        right: what is asked for, one of `tokens.RIGHTS`.

    Raises:
        HTTPException: 401 it does not, 403 that token may not do this, 503 the tokens cannot be read.
    """
    scheme, _, given = headers.get("authorization", "").partition(" ")
    known = recognised(_read(settings.tokens), given.strip())
    if known is None or scheme.lower() != "bearer":
        problem = "not allowed: send a token of http.tokens_file as Authorization: Bearer TOKEN"
        raise HTTPException(401, problem, {"WWW-Authenticate": "Bearer"})
    if right not in known.may:
        made = f"`watcher token new NAME --may {right}`"
        raise HTTPException(403, f"the token {known.name} may not do this ({right}); {made} makes one that may")
    conceal(given.strip())
    return known.name


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


def _read(read: Callable[[], T]) -> T:
    """Return what a file holds now: it may have been replaced since the start."""
    try:
        return read()
    except ConfigError as error:
        log.error("nobody can tell of releases: %s", error)
        raise HTTPException(503, "credentials cannot be checked now; watcher's log says why") from None

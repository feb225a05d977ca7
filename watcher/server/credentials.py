"""Who may tell of releases: whoever holds the token, and whoever signs as GitHub does."""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
from collections.abc import Callable
from typing import TypeVar

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from watcher.config import HttpSettings, SlackSettings
from watcher.errors import ConfigError
from watcher.secrets import conceal
from watcher.server.heard import WINDOW
from watcher.signing import among, signed, slack_signed
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


def require_webhook(settings: HttpSettings, headers: Headers, body: bytes, now: float) -> str:
    """Let a request pass that is signed as Standard Webhooks says, and return its id.

    Raises:
        HTTPException: 401 it is not, or its time is not about now; 503 the secrets cannot be read.
    """
    message, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    keys = _read(settings.webhook_keys)
    fresh = re.fullmatch(r"[0-9]{1,12}", at) is not None and abs(now - int(at)) <= WINDOW
    # Every signature of the header may be the one: keys are replaced one after another.
    given = headers.get("webhook-signature", "").split()
    plain = re.fullmatch(r"[!-~]{1,200}", message) is not None
    if not (fresh and plain and among(given, [signed(key, message, int(at), body) for key in keys])):
        problem = "not allowed: not signed, within five minutes of now, with a secret of http.webhook_secrets_file"
        raise HTTPException(401, problem, {"WWW-Authenticate": "Bearer"})
    return message


def require_slack(settings: SlackSettings, headers: Headers, body: bytes, now: float) -> str:
    """Let a request of Slack's pass, and return its signature, which no other request has.

    Raises:
        HTTPException: 401 it is not signed with the app's secret about now; 503 the secret cannot be read.
    """
    at, given = headers.get("x-slack-request-timestamp", ""), headers.get("x-slack-signature", "")
    secret = _read(settings.signing_secret)
    fresh = re.fullmatch(r"[0-9]{1,12}", at) is not None and abs(now - int(at)) <= WINDOW
    if secret is None or not fresh or not among([given], [slack_signed(secret, at, body)]):
        raise HTTPException(401, "not allowed: not signed by Slack, within five minutes of now")
    return given


def _same(given: str, right: str) -> bool:
    # As bytes, because only ASCII texts can be compared in constant time; headers come as Latin-1.
    return hmac.compare_digest(given.encode("latin-1", "replace"), right.encode())


def _read(read: Callable[[], T]) -> T:
    """Return what a file holds now: it may have been replaced since the start."""
    try:
        return read()
    except ConfigError as error:
        log.error("requests are refused, for nobody can tell who sends them: %s", error)
        raise HTTPException(503, "credentials cannot be checked now; watcher's log says why") from None

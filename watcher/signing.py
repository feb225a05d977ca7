"""Signatures of requests, as those who send them and those who take them compute them.

References:
    Standard Webhooks 1.0, https://github.com/standard-webhooks/standard-webhooks: `webhook-id`, `webhook-timestamp`,
    `webhook-signature`. Slack, https://docs.slack.dev/authentication/verifying-requests-from-slack: version 0.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Collection
from typing import Final

PREFIX: Final = "whsec_"
"""What a signing key begins with, whose bytes follow as base64."""

SHORTEST_KEY: Final = 24
"""Bytes that the specification asks of a signing key, at least."""


def key_of(secret: str) -> bytes:
    """Return the bytes that a secret stands for: `whsec_` and base64, or as they are.

    Raises:
        ValueError: what follows is not base64, or it is too short to sign with.
    """
    text = secret.removeprefix(PREFIX)
    try:
        padded = text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4)
        key = secret.encode() if text == secret else base64.b64decode(padded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"what follows {PREFIX} is not base64; copy it anew") from None
    if len(key) < SHORTEST_KEY:
        raise ValueError(
            f"the secret has {len(key)} bytes, and signing takes {SHORTEST_KEY} or more; "
            "make one: echo whsec_$(openssl rand -base64 32)"
        )
    return key


def signed(key: bytes, message: str, at: int, body: bytes) -> str:
    """Return the signature of a message, as `webhook-signature` carries it."""
    signature = hmac.digest(key, f"{message}.{at}.".encode() + body, "sha256")
    return f"v1,{base64.b64encode(signature).decode()}"


def slack_signed(secret: str, at: str, body: bytes) -> str:
    """Return the signature of a request of Slack's, as `X-Slack-Signature` carries it."""
    return f"v0={hmac.digest(secret.encode(), b'v0:' + at.encode() + b':' + body, 'sha256').hex()}"


def among(given: Collection[str], right: Collection[str]) -> bool:
    """Tell whether one of some signatures is right; each pair is compared in constant time, whatever a header holds."""
    pairs = [(one.encode("utf-8", "replace"), other.encode()) for other in right for one in given]
    return sum(hmac.compare_digest(one, other) for one, other in pairs) > 0

"""Alerts for a system of your own: every message as JSON, signed as Standard Webhooks says.

A message that is tried again has the same `webhook-id`: a receiver that drops an id it has seen hears each once.

References:
    Standard Webhooks 1.0, https://github.com/standard-webhooks/standard-webhooks
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from watcher.addresses import refused
from watcher.alerts.posting import post
from watcher.clock import Clock, wall_clock
from watcher.errors import ConfigError
from watcher.model import Alert, Reach
from watcher.signing import PREFIX, key_of, signed

SCHEMA: Final = "watcher/alert/1"


class WebhookAlerter:
    """Tells a receiver.

    Args:
        url: where to send.
        secret: what the receiver knows, too.
        hidden: whether the URL is itself a secret, and not to be named in errors.
        ca_file: certificates to trust, instead of the system's.
        clock: what time it is; receivers refuse signatures that are minutes off theirs.
    """

    def __init__(self, url: str, secret: str, hidden: bool, ca_file: str | None, clock: Clock) -> None:
        self._url, self._key, self._ca_file, self._clock = url, key_of(secret), ca_file, clock
        self._secrets = (secret, secret.removeprefix(PREFIX), *([url] if hidden else []))

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Send a headline or a detail; the receipt is the id it was sent with.

        Raises:
            AlertError: the receiver refused, or could not be reached.
        """
        message, at = f"msg_{hashlib.sha256(alert.key.encode()).hexdigest()[:32]}", int(self._clock())
        body = json.dumps(self.rendered(alert), ensure_ascii=False, separators=(",", ":")).encode()
        headers = {
            "webhook-id": message,
            "webhook-timestamp": str(at),
            "webhook-signature": signed(self._key, message, at, body),
        }
        post(self._url, headers, body, self._ca_file, self._secrets)
        return {"id": message}

    def reach(self) -> Reach:
        """Return that nothing can be proven: a receiver cannot be asked anything without telling it something."""
        return Reach(
            "a webhook",
            "a webhook cannot be asked anything without telling it something",
            "send it a sample: watcher alerts test",
        )

    def rendered(self, alert: Alert) -> Any:
        """Return what would be sent: see schemas/alert.schema.json."""
        return {
            "schema": SCHEMA,
            "type": f"watcher.{alert.kind}",
            "timestamp": f"{dt.datetime.fromtimestamp(alert.at, dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
            "data": {
                "key": alert.key,
                "release": alert.release,
                "state": alert.state,
                "title": alert.title,
                "lines": list(alert.lines),
                "urgent": alert.urgent,
                "links": dict(alert.links),
                "channel": alert.channel or None,
                "replies": [{"what": each.what, "by": each.by, "reason": each.reason} for each in alert.replies],
            },
        }


def webhook_alerter(
    *, url: str, secret: str, hidden: bool = False, ca_file: str | None = None, clock: Clock = wall_clock
) -> WebhookAlerter:
    """Return the alerter for a receiver; arguments as for `WebhookAlerter`.

    Raises:
        ConfigError: nothing is sent there, or the secret is none to sign with.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError("is not a URL that starts with http:// or https://", key="webhooks.url")
    if why := refused(url):
        raise ConfigError(why, key="webhooks.url")
    try:
        return WebhookAlerter(url, secret, hidden, ca_file, clock)
    except ValueError as error:
        raise ConfigError(str(error), key="webhooks.secret_file") from None

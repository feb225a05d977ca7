"""The kill switch for a system of your own: a signed request tells it to take users off, another asks where it stands.

    POST {"type": "watcher.kill", "timestamp": "2026-11-20T10:00:00Z", "data": {"feature": "pay", "reason": "..."}}
    GET  -> {"on": false, "share": 0}

Both are signed as Standard Webhooks says, the second over an empty body. Every try of one kill has the same
`webhook-id`, whichever process makes it: it comes from what is sent, and from nothing else. A receiver that drops an id
it has seen therefore acts once.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
from typing import Annotated
from urllib.parse import quote, urlsplit
from uuid import uuid4

from pydantic import AfterValidator, Field

from watcher.addresses import refused
from watcher.clock import Clock, wall_clock
from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.secrets import HEADER_NAME, SECRET_NAME, VARIABLE, from_environment
from watcher.signing import PREFIX, key_of, signed
from watcher.switches.http import PATIENCE, Answer, ask
from watcher.switches.settings import Settings, parsed, read_secret
from watcher.switches.stated import stated

_OURS = ("content-type", "content-length", "host")


def _address(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL that starts with http:// or https://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a password does not belong into a URL; write headers: {Authorization_file: PATH}")
    if re.search(r"[{}]", url.replace("{feature}", "")):
        raise ValueError("the only placeholder of a URL is {feature}; send others along in `data`")
    if "{feature}" in parts.netloc:
        raise ValueError("{feature} may stand in the path of a URL, and not in its host")
    if why := refused(url):
        raise ValueError(why)
    return url


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for written, value in headers.items():
        name = written.removesuffix("_file")
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"{written!r} is not the name of a header")
        if name.lower() in _OURS or name.lower().startswith("webhook-"):
            raise ValueError(f"{name} is set by watcher; leave it out")
        if SECRET_NAME.search(name) and name == written and not VARIABLE.search(value):
            raise ValueError(f"a secret does not belong into this file; write {name}_file: PATH, or ${{VARIABLE}}")
    return headers


def _additions(data: dict[str, str]) -> dict[str, str]:
    for name in ("feature", "reason"):
        if name in data:
            raise ValueError(f"{name} is always sent; leave it out")
    return data


Address = Annotated[str, AfterValidator(_address)]


class WebhookSettings(Settings):
    """What watcher.yaml says of a webhook."""

    url: Address
    read: Address
    secret_file: str
    headers: Annotated[dict[str, str], AfterValidator(_headers)] = Field({})
    data: Annotated[dict[str, str], AfterValidator(_additions)] = Field({})
    ca_file: str | None = None


class Webhook:
    """Tells a receiver to take users off a feature, and asks it whether they are.

    Args:
        settings: JSON object, see `WebhookSettings`.
        clock: what time it is; receivers refuse signatures that are minutes off theirs.
        patience: seconds to connect, and to wait for each part of an answer.

    Raises:
        ConfigError: the settings are wrong: named, with the fix.
    """

    def __init__(self, settings: str, clock: Clock = wall_clock, patience: tuple[float, float] = PATIENCE) -> None:
        self._settings = parsed("webhook", settings, WebhookSettings)
        self._clock, self._patience = clock, patience

    def __repr__(self) -> str:
        return f"Webhook({self._settings.url!r})"

    def read(self, feature: str) -> SwitchState:
        """Ask the receiver where the feature stands.

        Raises:
            SwitchError: no answer, one that says no, or one that does not say so plainly.
        """
        url = _filled(self._settings.read, feature)
        answer = self._send("GET", url, f"msg_{uuid4().hex}", b"")
        return stated(answer.json(f"GET {url}"), f"GET {url}")

    def dry_run(self, feature: str) -> str:
        """Say what a kill would send. That the secret is the receiver's is tried on the way, by reading.

        Raises:
            SwitchError: the receiver cannot be read.
        """
        state = self.read(feature)
        where = f"POST {_filled(self._settings.url, feature)}"
        if not state.on:
            return f"{where}: {feature} is off already ({state.shown}); nothing would be sent"
        told = json.dumps({"type": "watcher.kill", "data": self._data(feature)}, ensure_ascii=False)
        return f"{where} {told}, signed with {self._settings.secret_file} (now {state.shown})"

    def kill(self, feature: str, reason: str) -> None:
        """Tell the receiver to take users off the feature; every try for the same reason has the same id.

        Raises:
            SwitchError: no answer, or one that says no.
        """
        now = dt.datetime.fromtimestamp(int(self._clock()), dt.UTC)
        data = {**self._data(feature), "reason": reason}
        content = json.dumps(["watcher.kill", data], sort_keys=True, separators=(",", ":")).encode()
        sent = {"type": "watcher.kill", "timestamp": f"{now:%Y-%m-%dT%H:%M:%SZ}", "data": data}
        self._send(
            "POST",
            _filled(self._settings.url, feature),
            f"msg_{hashlib.sha256(content).hexdigest()[:32]}",
            json.dumps(sent, separators=(",", ":")).encode(),
        )

    def _data(self, feature: str) -> dict[str, str]:
        return {"feature": feature, **self._settings.data}

    def _send(self, method: str, url: str, message: str, body: bytes) -> Answer:
        secret = read_secret(self._settings.secret_file)
        key, at = _key(secret, self._settings.secret_file), int(self._clock())
        own, secrets = self._own_headers()
        headers = {
            **own,
            **({"Content-Type": "application/json"} if body else {"Accept": "application/json"}),
            "webhook-id": message,
            "webhook-timestamp": str(at),
            "webhook-signature": signed(key, message, at, body),
        }
        return ask(
            method,
            url,
            headers=headers,
            body=body or None,
            ca_file=self._settings.ca_file,
            patience=self._patience,
            secrets=(secret, secret.removeprefix(PREFIX), *secrets),
        )

    def _own_headers(self) -> tuple[dict[str, str], list[str]]:
        """Return the configured headers, files and variables read now, and those of their values that are secret."""
        headers, secrets = {}, []
        for written, value in self._settings.headers.items():
            name = written.removesuffix("_file")
            headers[name] = read_secret(value) if name != written else _from_environment(value, name)
            secrets += [headers[name]] if name != written else [os.environ[each] for each in VARIABLE.findall(value)]
        return headers, secrets


def _from_environment(value: str, name: str) -> str:
    try:
        return from_environment(value, of=name)
    except ConfigError as error:
        raise SwitchError(f"kill.webhook.headers.{name}: {error}", permanent=True) from None


def _filled(url: str, feature: str) -> str:
    """Return a URL with the feature in place, as one part of its path whatever it holds."""
    if "{feature}" in url and feature.strip(".") == "":
        raise SwitchError(f"{url}: a feature named {feature!r} would be another path", permanent=True)
    return url.replace("{feature}", quote(feature, safe=""))


def _key(secret: str, path: str) -> bytes:
    try:
        return key_of(secret)
    except ValueError as error:
        raise SwitchError(f"{path}: {error}", permanent=True) from None

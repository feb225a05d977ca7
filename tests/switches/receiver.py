"""A receiver of webhooks on 127.0.0.1, as a user would write it: signatures are checked by the library of the standard.

with Receiver(SECRET, {"pay": 0.05}) as receiver:
    Webhook(json.dumps({"url": f"{receiver.url}/kill", "read": f"{receiver.url}/flags/{{feature}}", ...}))
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from standardwebhooks import Webhook, WebhookVerificationError

from tests.loopback import Loopback, answer


class Receiver(Loopback):
    """Keeps the share of each feature, and turns it off once per message.

    `messages` are the bodies it accepted, `ids` those of all POST requests, `asked` those of all GET requests, and
    `headers` are the last request's. `killed` has a feature for each time its state changed. The first `lag` readings
    after a kill still say what was before it; `answer`, where it is set, is what every reading says instead.
    """

    def __init__(self, secret: str | bytes, shares: dict[str, float]) -> None:
        self.shares, self.lag = dict(shares), 0
        self.answer: bytes | None = None
        self.messages: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.asked: list[str] = []
        self.paths: list[str] = []
        self.killed: list[str] = []
        self.headers: dict[str, str] = {}
        self._before: dict[str, float] = {}
        self._verifier = Webhook(secret)
        super().__init__()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        then = self._kill if request.command == "POST" else self._read
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.paths.append(request.path)
        (self.ids if request.command == "POST" else self.asked).append(self.headers.get("webhook-id", ""))
        try:
            self._verifier.verify(body, self.headers, json_parse=False)
        except WebhookVerificationError as problem:
            status, content = 401, str(problem).encode()
        else:
            status, content = then(request.path, body)
        answer(request, status, content)

    def _kill(self, _: str, body: bytes) -> tuple[int, bytes]:
        message = json.loads(body)
        self.messages.append(message)
        feature = message["data"]["feature"]
        if feature not in self.shares:
            return 404, f"no feature {feature}".encode()
        if self.ids.count(self.ids[-1]) == 1 and self.shares[feature]:
            self.killed.append(feature)
            self._before[feature], self.shares[feature] = self.shares[feature], 0.0
        return 204, b""

    def _read(self, path: str, _: bytes) -> tuple[int, bytes]:
        feature = unquote(urlsplit(path).path.rpartition("/")[2])
        if self.answer is not None:
            return 200, self.answer
        if feature not in self.shares:
            return 404, f"no feature {feature}".encode()
        share = self.shares[feature]
        if feature in self._before and self.lag:
            self.lag, share = self.lag - 1, self._before[feature]
        return 200, json.dumps({"on": bool(share), "share": share, "revision": len(self.killed)}).encode()

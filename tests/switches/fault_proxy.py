"""A proxy on 127.0.0.1 in front of a real server, for the bad days that the server itself does not have on demand.

    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(status=503), Fault(applied=True, hang=30.0))
        ...
        assert proxy.writes == ["POST /api/admin/projects/default/features/f/environments/production/off"]

Without faults, requests and answers pass unchanged.
"""

from __future__ import annotations

import http.client
import threading
from collections import deque
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from urllib.parse import urlsplit

from tests.loopback import Loopback


@dataclass(frozen=True)
class Fault:
    """What happens to one request, a writing one unless `reads`.

    The upstream sees it first if `applied`. Then nothing comes for `hang` seconds, and then an answer of `status`;
    where that is None, the connection is closed without one, or the real answer passes, its content replaced by `body`.
    """

    status: int | None = None
    applied: bool = False
    hang: float = 0.0
    retry_after: str | None = None
    body: bytes | None = None
    reads: bool = False


class FaultProxy(Loopback):
    """Forwards to `upstream`, an http URL; `requests` and `writes` are what came, as `METHOD /path`."""

    def __init__(self, upstream: str) -> None:
        self.faults: deque[Fault] = deque()
        self.requests: list[str] = []
        self._upstream = urlsplit(upstream).netloc
        self._awake = threading.Event()
        super().__init__()

    @property
    def writes(self) -> list[str]:
        return [request for request in self.requests if not request.startswith("GET ")]

    def fail(self, *faults: Fault) -> None:
        """Let the next requests go wrong, in this order."""
        self.faults.extend(faults)

    def stop(self) -> None:
        """Be gone: whoever connects is refused."""
        self._awake.set()
        super().stop()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append(f"{request.command} {request.path}")
        reads = request.command == "GET"
        fault = self.faults.popleft() if self.faults and self.faults[0].reads == reads else None
        if fault is None:
            self._answer(request, *self._forward(request, body))
            return
        passing = fault.applied or (fault.status is None and fault.body is not None)
        status, headers, content = self._forward(request, body) if passing else (500, {}, b"")
        self._awake.wait(fault.hang)
        if fault.status is None and fault.body is None:
            request.close_connection = True
            return
        headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else {}
        shown = content if fault.body is None and fault.status is None else fault.body or b""
        self._answer(request, fault.status or status, headers, shown)

    def _forward(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self._upstream, timeout=10)
        hop = {"connection", "content-length", "transfer-encoding", "host", "accept-encoding"}
        sent = {name: value for name, value in request.headers.items() if name.lower() not in hop}
        upstream.request(request.command, request.path, body or None, sent)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        headers = {name: value for name, value in answer.getheaders() if name.lower() not in hop}
        return answer.status, headers, content

    def _answer(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        try:
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
        except OSError:
            request.close_connection = True  # the client did not wait

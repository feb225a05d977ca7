"""A proxy in front of HAProxy's stats socket, for the bad days that HAProxy itself does not have on demand.

    with SocketProxy(haproxy) as proxy:
        proxy.twist(Twist("set server", applied=True))
        ...
        assert proxy.changes == ["set server shop/canary weight 0"]

Lines pass unchanged unless they are twisted. `changes` are the lines after which HAProxy's servers or maps were others.
"""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType

from tests.servers.haproxy_server import HAProxyServer


@dataclass(frozen=True)
class Twist:
    """What happens to the next line with `words` in it.

    HAProxy sees it first if `applied`. Then comes `answer`; where that is None, nothing ever comes, and where it is
    `cut`, the first half of HAProxy's own answer.
    """

    words: str
    applied: bool = False
    answer: bytes | None = None
    cut: bool = False


class SocketProxy:
    """Forwards lines to an HAProxy; `lines` are what came, without the request for severities."""

    def __init__(self, haproxy: HAProxyServer) -> None:
        self.lines: list[str] = []
        self.changes: list[str] = []
        self._haproxy, self._twists = haproxy, deque[Twist]()
        self._gone = threading.Event()
        proxy = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                line = self.rfile.readline().decode().rstrip("\n")
                answer = proxy._answer(line)
                if answer is None:
                    proxy._gone.wait()
                else:
                    self.wfile.write(answer)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def socket(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def twist(self, *twists: Twist) -> None:
        """Let the next lines go wrong, in this order."""
        self._twists.extend(twists)

    def __enter__(self) -> SocketProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Be gone: whoever connects is refused."""
        self._gone.set()
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, line: str) -> bytes | None:
        said = line.removeprefix("set severity-output number;")
        self.lines.append(said)
        twist = self._twists.popleft() if self._twists and self._twists[0].words in said else None
        if twist is None:
            return self._forward(line, said)
        real = self._forward(line, said) if twist.applied or twist.cut else b""
        return real[: len(real) // 2] if twist.cut else twist.answer

    def _forward(self, line: str, said: str) -> bytes:
        before = self._state()
        with socket.socket(socket.AF_UNIX) as upstream:
            upstream.settimeout(10)
            upstream.connect(self._haproxy.socket)
            upstream.sendall(f"{line}\n".encode())
            answer = b"".join(iter(lambda: upstream.recv(1 << 16), b""))
        if self._state() != before:
            self.changes.append(said)
        return answer

    def _state(self) -> tuple[list[list[str]], str]:
        """Return name, administrative state and weight of every server, and the entries of the map."""
        rows = [line.split() for line in self._haproxy.ask("show servers state").splitlines()[2:] if line]
        entries = self._haproxy.ask(f"show map {self._haproxy.live_map}")
        return [[row[1], row[3], row[6], row[7]] for row in rows], re.sub(r"^0x\w+ ", "", entries, flags=re.M)

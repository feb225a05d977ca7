"""A stand-in for Slack's end of Socket Mode: a WebSocket server that sends envelopes and keeps the answers."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class SocketServer:
    """Takes one connection after another; `url` is where to."""

    def __init__(self) -> None:
        self.answers: list[dict[str, Any]] = []
        """What came back, oldest first."""
        self.connections = 0
        """How many there were."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._peer: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> SocketServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop()
        self._thread.join(5)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/link?ticket=1"

    def send(self, kind: str, payload: dict[str, Any], envelope: str) -> None:
        """Send something that a member did."""
        self._text({"type": kind, "envelope_id": envelope, "payload": payload, "accepts_response_payload": True})

    def drop(self) -> None:
        """Break the connection."""
        if self._peer is not None:
            with suppress(OSError):
                self._peer.shutdown(socket.SHUT_RDWR)
            self._peer.close()

    def _text(self, told: dict[str, Any]) -> None:
        assert self._peer is not None
        content = json.dumps(told).encode()
        length = struct.pack("!BBH", 0x81, 126, len(content)) if len(content) > 125 else bytes((0x81, len(content)))
        self._peer.sendall(length + content)

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with suppress(OSError, EOFError):
                self._greet(peer)
                self._read(peer)

    def _greet(self, peer: socket.socket) -> None:
        said = b""
        while b"\r\n\r\n" not in said:
            said += _some(peer, 1)
        fields = dict(line.split(": ", 1) for line in said.decode().split("\r\n") if ": " in line)
        accept = base64.b64encode(hashlib.sha1((fields["Sec-WebSocket-Key"] + _GUID).encode()).digest()).decode()
        peer.sendall(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        self._peer, self.connections = peer, self.connections + 1
        self._text({"type": "hello", "num_connections": 1})

    def _read(self, peer: socket.socket) -> None:
        while True:
            first, second = _some(peer, 2)
            length = second & 0x7F
            length = struct.unpack("!H", _some(peer, 2))[0] if length == 126 else length
            mask = _some(peer, 4) if second & 0x80 else bytes(4)
            content = bytes(byte ^ mask[nth % 4] for nth, byte in enumerate(_some(peer, length)))
            if first & 0x0F == 0x9:
                peer.sendall(bytes((0x8A, len(content))) + content)
            elif first & 0x0F == 0x1:
                self.answers.append(json.loads(content))
            elif first & 0x0F == 0x8:
                return


def _some(peer: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = peer.recv(count - len(found))
        if not part:
            raise EOFError
        found += part
    return found

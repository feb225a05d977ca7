"""What is said in a test and kept nowhere: it is searched for secrets while it is said, and the test fails at its end.

Listened to are the places everything comes past: what commands print, here and in processes of their own; what the
server answers; what stand-ins of other systems are sent; and the words of every error.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from click.testing import CliRunner
from starlette.responses import Response

from tests.planted import seen_by_people, seen_in
from watcher.errors import WatcherError


class _Read:
    """What a client sends; its headers, which may hold secrets, are read line by line, and the body is not."""

    def __init__(self, stream: Any, hear: Callable[[list[str]], None]) -> None:
        self._stream, self._hear = stream, hear

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def read(self, *size: int) -> bytes:
        content: bytes = self._stream.read(*size)
        self._hear(seen_in("the body of a request", content))
        return content


@contextmanager
def listening(heard: list[str]) -> Iterator[None]:
    """Add a line to `heard` for each secret in what is said within the context."""
    hear = heard.extend

    def after(owner: Any, name: str, then: Callable[..., None]) -> None:
        """Let `then` have what a method returned, and what it was called with."""
        method = getattr(owner, name)

        def call(*given: Any, **named: Any) -> Any:
            result = method(*given, **named)
            then(result, *given)
            return result

        patch.setattr(owner, name, call)

    def printed(result: Any, runner: CliRunner, *_: Any) -> None:
        hear(seen_by_people("what a command printed", f"{result.output}\n{result.stderr}\n{result.exception}"))

    def captured(result: Any, *_: Any) -> None:
        hear(seen_by_people("what was printed", "\n".join(map(_text, result))))

    def piped(result: tuple[Any, Any], process: subprocess.Popen[Any], *_: Any) -> None:
        hear(seen_by_people(f"what {process.args!r} printed", "\n".join(map(_text, result))))

    def connected(_: None, handler: BaseHTTPRequestHandler) -> None:
        handler.rfile = _Read(handler.rfile, hear)  # type: ignore[assignment]

    def answered(_: None, response: Response, *__: Any, **___: Any) -> None:
        hear(seen_in("an answer of the server", bytes(response.body) + repr(response.raw_headers).encode()))

    def failed(_: None, error: WatcherError, *__: Any) -> None:
        hear(seen_in(f"the words of a {type(error).__name__}", str(error)))

    with pytest.MonkeyPatch.context() as patch:
        after(CliRunner, "invoke", printed)
        after(pytest.CaptureFixture, "readouterr", captured)
        after(subprocess.Popen, "communicate", piped)
        after(BaseHTTPRequestHandler, "setup", connected)
        after(Response, "__init__", answered)
        after(WatcherError, "__init__", failed)
        yield


def _text(said: str | bytes | None) -> str:
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else said or ""

"""A real HAProxy for tests, in master-worker mode on free ports of 127.0.0.1, and web servers for it to choose from.

    with Upstream("stable") as stable, Upstream("canary") as canary:
        with running(f"backend shop\\n  server stable {stable.address} weight 95\\n  ...") as haproxy:
            assert haproxy.answers("/shop", 100) == {"stable": 95, "canary": 5}

A request goes to the backend that its path names; one for / goes to the backend that the entry `live` of a map names,
as does every request to a port of its own, `live_port`.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType

from tests.servers.shop import free_port, stop_process

_CONFIG = """\
global
  nbthread 1
  stats socket {directory}/admin.sock mode 600 level admin
  stats socket {directory}/operator.sock mode 600 level operator
  stats socket {directory}/user.sock mode 600 level user
  stats socket ipv4@127.0.0.1:{stats_port} level admin
  server-state-file {state_file}
defaults
  mode http
  timeout connect 2s
  timeout client 10s
  timeout server 10s
  default-server inter 100ms fastinter 50ms downinter 50ms rise 1 fall 1
  load-server-state-from-file global
frontend web
  bind 127.0.0.1:{port}
  http-request use-service prometheus-exporter if {{ path /metrics }}
  use_backend %[str(live),map({live_map})] if {{ path / }}
  use_backend %[path,field(2,/)]
frontend live
  bind 127.0.0.1:{live_port}
  use_backend %[str(live),map({live_map})]
"""


class Upstream:
    """A web server that answers its name, and status 500 to `failing` of every hundred requests, evenly spread."""

    def __init__(self, name: str, failing: int = 0) -> None:
        self.name, self.failing, self.requests = name, failing, 0
        self._lock, self._port = threading.Lock(), free_port()
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer, on the same port as before."""
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                with upstream._lock:
                    failed = upstream.requests * upstream.failing % 100 < upstream.failing
                    upstream.requests += 1
                body = upstream.name.encode()
                self.send_response(500 if failed else 200)
                self.send_header("Content-Length", str(len(body)))
                # A server that stopped must not go on over connections that HAProxy kept.
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        """Be gone: whoever connects is refused."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()

    def __enter__(self) -> Upstream:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


@dataclass
class HAProxyServer:
    """An HAProxy that is ready; `directory` holds its sockets, its configuration, its state file and its map."""

    directory: Path
    port: int
    stats_port: int
    live_port: int
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def socket(self) -> str:
        return f"{self.directory}/admin.sock"

    @property
    def state_file(self) -> Path:
        return self.directory / "state"

    @property
    def live_map(self) -> Path:
        return self.directory / "live.map"

    def ask(self, command: str, of: str = "admin") -> str:
        """Return what HAProxy says to a command over one of its sockets; `master` is that of the master process."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(f"{self.directory}/{of}.sock")
            connection.sendall(f"{command}\n".encode())
            connection.shutdown(socket.SHUT_WR)  # the master waits for more otherwise
            return b"".join(iter(lambda: connection.recv(1 << 16), b"")).decode()

    def weights(self, backend: str) -> dict[str, int]:
        """Return the weights of a backend's servers now."""
        rows = [line.split() for line in self.ask(f"show servers state {backend}").splitlines()[2:] if line]
        return {row[3]: int(row[7]) for row in rows}

    def answers(self, path: str, count: int, **headers: str) -> dict[str, int]:
        """Send so many requests, one after another, and return who answered how many; an error counts by its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        found: Counter[str] = Counter()
        for _ in range(count):
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            body = answer.read().decode()
            found[body if answer.status == 200 else f"HTTP {answer.status}"] += 1
        connection.close()
        return dict(found)

    def reload(self) -> None:
        """Start anew from the configuration, as `systemctl reload haproxy` does."""
        before = self._worker()
        os.kill(self.pid, signal.SIGUSR2)
        self.eventually(lambda: self._worker() not in (None, before), "the new worker answers")

    def eventually(self, holds: Callable[[], object], what: str) -> None:
        """Wait until something holds, at most 10 seconds."""
        for _ in range(2400):
            if holds():
                return
            time.sleep(0.02)
        raise AssertionError(f"never: {what}\n{self.log()}")

    def log(self) -> str:
        return (self.directory / "haproxy.log").read_text()[-3000:]

    def _worker(self) -> str | None:
        """Return the process that answers, None while none does."""
        try:
            said = self.ask("show info") if "worker" in self.ask("show proc", of="master") else ""
        except OSError:
            return None
        return next((line for line in said.splitlines() if line.startswith("Pid:")), None)


def binary() -> str:
    """Return the path of HAProxy, empty where there is none; not everybody has /usr/sbin on the PATH."""
    return shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin") or ""


def missing() -> str | None:
    """Return why no server can be started, None when one can."""
    return None if binary() else "there is no haproxy binary (Debian: apt install haproxy)"


@contextmanager
def running(backends: str, live: str = "live none\n") -> Iterator[HAProxyServer]:
    """Start an HAProxy with these backends, and `live` as its map; stop it at the end."""
    # Not below pytest's folders: the path of a socket may be no longer than 107 bytes.
    directory = Path(tempfile.mkdtemp(prefix="haproxy-"))
    server = None
    try:
        for _ in range(5):
            # A port that was free a moment ago may be somebody else's by now.
            server = _started(directory, backends, live)
            if server.process.poll() is None or "Address already in use" not in server.log():
                break
        assert server is not None
        assert server.process.poll() is None, server.log()
        yield server
    finally:
        if server is not None:
            stop_process(server.process)
        shutil.rmtree(directory)


def _started(directory: Path, backends: str, live: str) -> HAProxyServer:
    """Start a server on ports of its own, and return once it answers or has ended."""
    ports = {"port": free_port(), "stats_port": free_port(), "live_port": free_port()}
    (directory / "live.map").write_text(live)
    settings = {"state_file": directory / "state", "live_map": directory / "live.map"}
    config = _CONFIG.format(directory=directory, **ports, **settings)
    (directory / "haproxy.cfg").write_text(config + backends)
    with (directory / "haproxy.log").open("wb") as log:
        command = [binary(), "-W", "-db", "-S", f"{directory}/master.sock", "-f", f"{directory}/haproxy.cfg"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    server = HAProxyServer(directory, process=process, **ports)
    server.eventually(lambda: process.poll() is not None or server._worker(), "HAProxy is ready")
    return server

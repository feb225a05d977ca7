"""A real Prometheus server for tests and benchmarks, and a way to write any history into it.

Remote write is a snappy-compressed protobuf. Both are written out by hand: literal-only snappy frames, and samples of
a fixed size, which numpy lays out without a loop.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import requests

Series = tuple[Mapping[str, str], Any, Any]
"""Labels (with `__name__`), times in seconds and values, both of shape [sample], oldest first."""

STALE = struct.unpack("<d", struct.pack("<Q", 0x7FF0000000000002))[0]
"""The value that says a series ended."""
_CONFIG = "storage: {tsdb: {out_of_order_time_window: 40d}}\n"
_PIECE = 2**16
_BATCH = 4 * 2**20
_SLICE = 3600.0


@dataclass(frozen=True)
class PrometheusServer:
    """A server that is ready."""

    url: str
    pid: int

    def remote_write(self, series: Sequence[Series]) -> None:
        """Store samples; those stored are visible to queries at once.

        Sent in the order of time, as scrapes would be: long histories written series by series lose a few samples to
        compactions that overtake them.
        """
        rows = [(labels, np.asarray(t, dtype=float), np.asarray(v, dtype=float)) for labels, t, v in series]
        for slot in np.unique(np.concatenate([times // _SLICE for _, times, _ in rows])):
            batch, size = [], 0
            for labels, times, values in rows:
                first, last = np.searchsorted(times, [slot * _SLICE, (slot + 1) * _SLICE])
                if last > first:
                    batch.append(_timeseries(labels, times[first:last], values[first:last]))
                    size += len(batch[-1])
                if size > _BATCH:
                    self._post(b"".join(batch))
                    batch, size = [], 0
            if batch:
                self._post(b"".join(batch))

    def _post(self, message: bytes) -> None:
        answer = requests.post(
            f"{self.url}/api/v1/write",
            data=_snappy(message),
            headers={"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"},
            timeout=60,
        )
        assert answer.status_code == 204, answer.text


def missing() -> str | None:
    """Return why no server can be started, None when one can."""
    return (
        None
        if shutil.which("prometheus")
        else "the prometheus binary is not on the PATH (Debian: apt install prometheus)"
    )


@contextmanager
def running(directory: Path, *flags: str, port: int | None = None) -> Iterator[PrometheusServer]:
    """Start a server that listens on 127.0.0.1 and keeps its data in a directory; stop it at the end.

    Started again with the same directory and port, it goes on with the data it had.
    """
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text(_CONFIG)
    port = port or _free_port()
    command = [
        "prometheus",
        f"--config.file={directory / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--storage.tsdb.retention.time=10y",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
        *flags,
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(url, process, directory / "prometheus.log")
            yield PrometheusServer(url, process.pid)
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.kill(process.pid, signal.SIGKILL)
                    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(2400):
        if process.poll() is not None:
            raise RuntimeError(f"prometheus ended with {process.returncode}: {log.read_text()[-2000:]}")
        try:
            if requests.get(f"{url}/-/ready", timeout=1).status_code == 200:
                return
        except requests.RequestException:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"prometheus was not ready within 30 s: {log.read_text()[-2000:]}")


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def _field(number: int, content: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(content)) + content


def _timeseries(labels: Mapping[str, str], times: np.ndarray, values: np.ndarray) -> bytes:
    """Encode one series as a field of a WriteRequest. Times lie between 1971 and 2109: six varint bytes each."""
    named = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, text.encode())) for name, text in sorted(labels.items())
    )
    stamps = np.rint(times * 1000).astype(np.int64)
    assert ((stamps >= 1 << 35) & (stamps < 1 << 42)).all()
    samples = np.empty((len(times), 18), dtype=np.uint8)
    samples[:, :3] = (0x12, 16, 0x09)
    samples[:, 3:11] = values.astype("<f8").view(np.uint8).reshape(-1, 8)
    samples[:, 11] = 0x10
    for i in range(6):
        samples[:, 12 + i] = (stamps >> 7 * i & 0x7F) | (0x80 if i < 5 else 0)
    return _field(1, named + samples.tobytes())


def _snappy(message: bytes) -> bytes:
    """Frame bytes as snappy literals: valid, only not smaller."""
    pieces = [_varint(len(message))]
    for at in range(0, len(message), _PIECE):
        piece = message[at : at + _PIECE]
        pieces.append(b"\xf4" + struct.pack("<H", len(piece) - 1) + piece)
    return b"".join(pieces)

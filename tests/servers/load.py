"""Visitors of the shop: requests at random moments, over connections that stay open, on this machine only.

    python tests/servers/load.py --targets http://127.0.0.1:8001,http://127.0.0.1:8002 --rate 150 --seconds 60

The rate is what all targets get together, in turns. Requests are due at the moments of a Poisson process, whether or
not the last answer came (open loop), as far as the connections suffice. One line of JSON at the end says what was
sent. `Load` runs it as a process; `visit` runs in the calling thread.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

VISITORS = 8
"""Connections to each target."""
PATIENCE = 5.0
"""Seconds to wait for an answer."""
LATE = 1.0
"""Seconds behind its schedule at which a visitor leaves out what it missed rather than send it in a burst."""
FEATURES: Mapping[str, float] = {"search": 4.0, "cart": 2.0, "new-checkout": 4.0}
"""How often each feature is visited, relative to the others."""
USERS = 100_000


@dataclass
class Sent:
    """What was sent so far: answers by status and by feature, requests without an answer, requests left out."""

    codes: Counter[str] = field(default_factory=Counter)
    features: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    left_out: int = 0

    def line(self, seconds: float, cpu_seconds: float) -> str:
        answered = sum(self.codes.values())
        return json.dumps(
            {
                "sent": answered + self.unanswered,
                "answered": answered,
                "codes": dict(sorted(self.codes.items())),
                "features": dict(sorted(self.features.items())),
                "unanswered": self.unanswered,
                "left_out": self.left_out,
                "seconds": round(seconds, 3),
                "cpu_seconds": round(cpu_seconds, 3),
            }
        )


class Target:
    """One connection to one server, opened when it is needed and again when it broke."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, path: str) -> str:
        """Return the status of an answer.

        Raises:
            OSError, EOFError, ValueError: there was none, or it was not HTTP.
        """
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"\r\ncontent-length:", 1)[1].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        except BaseException:
            self.close()
            raise
        if b"\r\nconnection: close" in head:
            self.close()
        return head[9:12].decode()

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def ports(targets: Sequence[str]) -> list[int]:
    """Return the ports of targets, each `http://127.0.0.1:PORT`.

    Raises:
        ValueError: a target is another machine or no address at all.
    """
    parts = [urlsplit(target) for target in targets]
    if not parts:
        raise ValueError("name at least one target")
    for target, part in zip(targets, parts, strict=True):
        if part.scheme != "http" or part.netloc != f"127.0.0.1:{part.port}" or part.path.strip("/"):
            raise ValueError(f"{target!r} is not http://127.0.0.1:PORT; load goes to this machine only")
    return [part.port for part in parts if part.port is not None]


async def _visitor(
    sent: Sent,
    targets: list[Target],
    turns: Iterator[int],
    draw: random.Random,
    rate: float,
    ends: float,
    features: Mapping[str, float],
) -> None:
    clock = asyncio.get_running_loop().time
    names, weights = list(features), list(itertools.accumulate(features.values()))
    due = clock()
    try:
        while (due := due + draw.expovariate(rate)) < ends:
            wait = due - clock()
            if wait > 0:
                await asyncio.sleep(wait)
            elif wait < -LATE:
                sent.left_out += 1
                continue
            [feature] = draw.choices(names, cum_weights=weights)
            try:
                async with asyncio.timeout(PATIENCE):
                    code = await targets[next(turns)].get(f"/{feature}?user={draw.randrange(USERS)}")
            except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError):
                sent.unanswered += 1
            except asyncio.CancelledError:
                sent.unanswered += 1
                raise
            else:
                sent.codes[code] += 1
                sent.features[feature] += 1
    finally:
        for target in targets:
            target.close()


async def send(
    targets: Sequence[str], rate: float, seconds: float, features: Mapping[str, float] = FEATURES, seed: int = 1
) -> Sent:
    """Visit targets for so many seconds, `rate` requests per second all together. Cancelled, it stops early."""
    if rate <= 0 or seconds <= 0:
        raise ValueError("rate and seconds must be above 0")
    numbers, sent = ports(targets), Sent()
    turns = itertools.cycle(range(len(numbers)))
    ends = asyncio.get_running_loop().time() + seconds
    visitors = [
        asyncio.create_task(
            _visitor(
                sent,
                [Target(number) for number in numbers],
                turns,
                random.Random(f"{seed}/{i}"),
                rate / VISITORS,
                ends,
                features,
            )
        )
        for i in range(VISITORS)
    ]
    try:
        await asyncio.gather(*visitors)
    except asyncio.CancelledError:
        for visitor in visitors:
            visitor.cancel()
        await asyncio.gather(*visitors, return_exceptions=True)
    return sent


def visit(
    targets: Sequence[str], rate: float, seconds: float, features: Mapping[str, float] = FEATURES, seed: int = 1
) -> Sent:
    """Do as `send` does, in the calling thread."""
    return asyncio.run(send(targets, rate, seconds, features, seed))


async def _until_told(given: argparse.Namespace) -> Sent:
    task = asyncio.ensure_future(send(given.targets, given.rate, given.seconds, given.features, given.seed))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    await asyncio.sleep(0)  # a task that is cancelled before it began could not say what it sent
    print("started", flush=True)
    return await task


def _weights(text: str) -> dict[str, float]:
    pairs = (part.partition("=") for part in text.split(","))
    return {name: float(weight) for name, _, weight in pairs}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Visitors for a shop on this machine.")
    parser.add_argument("--targets", type=lambda text: text.split(","), required=True, help="http://127.0.0.1:PORT,...")
    parser.add_argument("--rate", type=float, default=150.0, help="requests per second, all targets together")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--features", type=_weights, default=FEATURES, help="search=4,cart=2,new-checkout=4")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        sent = asyncio.run(_until_told(given))
    except ValueError as error:
        parser.error(str(error))
    print(sent.line(time.monotonic() - began, time.process_time()))


class Load:
    """Visitors that run as a process of their own, and are stopped by its id. `sent` is known once they stopped."""

    def __init__(
        self,
        targets: Sequence[str],
        *,
        rate: float = 150.0,
        seconds: float = 600.0,
        features: Mapping[str, float] = FEATURES,
        seed: int = 1,
    ) -> None:
        ports(targets)
        weights = ",".join(f"{name}={weight}" for name, weight in features.items())
        self._command = [sys.executable, str(Path(__file__).resolve()), f"--targets={','.join(targets)}"]
        self._command += [f"--rate={rate}", f"--seconds={seconds}", f"--features={weights}", f"--seed={seed}"]
        self._process: subprocess.Popen[str] | None = None
        self.sent: dict[str, Any] = {}

    def __enter__(self) -> Load:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "started\n":
            self._process.wait()
            raise RuntimeError(f"the load ended with {self._process.returncode} before it began")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the load is not running"
        return self._process.pid

    def wait(self) -> dict[str, Any]:
        """Wait until the seconds are over; return what was sent."""
        assert self._process is not None, "the load is not running"
        process, self._process = self._process, None
        said, _ = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"the load ended with {process.returncode}")
        self.sent = json.loads(said)
        return self.sent

    def stop(self) -> None:
        """Stop at once; without effect when it stopped already."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
            self.wait()


if __name__ == "__main__":
    main()

"""How long users have a bad release: from its first request to its last, and what happened in between."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.servers.shop import Shop


@dataclass(frozen=True)
class Withdrawal:
    """A bad release that was taken back, epoch seconds.

    `bad` is when the shops were first seen to serve it, `decided` when watcher decided to turn it off, `off` when the
    switch was, as the switch itself says, and `last` when the shops were last seen to serve it.
    """

    bad: float
    decided: float
    off: float
    last: float

    def __str__(self) -> str:
        decided, off, last = (at - self.bad for at in (self.decided, self.off, self.last))
        return (
            f"first bad second -> {decided:.1f} s: decided to turn it off -> {off:.1f} s: off -> "
            f"{last:.1f} s: the last request is served by it"
        )


def row(withdrawals: Sequence[Withdrawal]) -> tuple[str, ...]:
    """Return median and range of the times to decide, to be off, and to the last request, for a table."""

    def told(moment: Callable[[Withdrawal], float]) -> str:
        took = sorted(moment(each) - each.bad for each in withdrawals)
        return f"{statistics.median(took):.1f} ({took[0]:.1f} to {took[-1]:.1f})"

    return tuple(map(told, (lambda each: each.decided, lambda each: each.off, lambda each: each.last)))


class Sightings(threading.Thread):
    """When requests with these labels were first and last served, by the shops' own counts.

    The shops are asked every tenth of a second, so that a moment is late by that much at most. Used as a context; the
    answers may be read at any time.
    """

    def __init__(self, shops: Sequence[Shop], **labels: str) -> None:
        super().__init__(daemon=True)
        self._shops, self._labels = shops, labels
        self._ended = threading.Event()
        self.first: float | None = None
        self.last: float | None = None

    def __enter__(self) -> Sightings:
        self._count = self._served()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.1):
            count = self._served()
            if count > self._count:
                self._count, self.last = count, time.time()
                self.first = self.first or self.last

    def are_over(self, quiet: float = 3.0) -> bool:
        """Tell whether none was served for so many seconds."""
        return self.last is not None and time.time() - self.last > quiet

    def _served(self) -> float:
        return sum(shop.count("http_requests_total", **self._labels) for shop in self._shops)

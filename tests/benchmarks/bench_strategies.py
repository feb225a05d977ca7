"""How long users have a bad release: from its first request to the kill, and to the last request served by it.

    python tests/benchmarks/bench_strategies.py [RUNS]

makes RUNS (3) bad releases by each strategy in installations like those of the end-to-end tests: a real Prometheus,
shops with visitors, a real Unleash or HAProxy, the daemon as a process of its own; a stand-in for Slack. A release is
bad from its first user on, but for those by a flags file, which go bad once they were proven healthy. Each has an
installation of its own: what was turned off a moment ago is not turned off again. Each begins at another moment between
two ticks. Nothing here asserts: figures depend on the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.servers import (  # noqa: E402
    flagged,
    haproxy_server,
    prometheus_server,
    proxied,
    unleash_server,
    withdrawal,
)
from tests.servers.flagged import Filed, Flagged  # noqa: E402
from tests.servers.proxied import Canary, Colours  # noqa: E402
from tests.servers.withdrawal import Withdrawal  # noqa: E402

RUNS = 3
BLOCK = 2.0
"""Seconds of a block, and between two ticks."""


@dataclass(frozen=True)
class Strategy:
    """A way of releasing: what it needs and lacks, a bad release in words, and an installation to make it in."""

    missing: Callable[[], str | None]
    told: str
    running: Callable[[Path], AbstractContextManager[Filed | Flagged | Canary | Colours]]

    def releases(self, folder: Path, runs: int) -> Iterator[Withdrawal]:
        """Make bad releases, each in an installation that had none before; yield how each was taken back."""
        for number in range(runs):
            own = folder / str(number)
            own.mkdir()
            with self.running(own) as here:
                here.begin()
                time.sleep(BLOCK * (number + 0.5) / runs)
                yield here.be_withdrawn()


@contextmanager
def in_unleash(folder: Path) -> Iterator[Flagged]:
    with unleash_server.running(folder / "unleash") as unleash, flagged.running(folder, unleash) as here:
        yield here


STRATEGIES: Mapping[str, Strategy] = {
    "flags file": Strategy(
        lambda: None,
        f"errors {100 * flagged.USUAL:g} % -> {100 * flagged.BAD:g} % for half of the users, once it was healthy",
        flagged.in_a_file,
    ),
    "flag": Strategy(
        unleash_server.missing,
        f"errors {100 * flagged.USUAL:g} % -> {100 * flagged.BAD:g} % for half of the users",
        in_unleash,
    ),
    "canary": Strategy(
        haproxy_server.missing,
        f"errors {100 * proxied.USUAL:g} % -> {100 * proxied.BAD:g} % for 5 % of the users",
        proxied.canary,
    ),
    "blue_green": Strategy(
        haproxy_server.missing,
        f"errors {100 * proxied.USUAL:g} % -> {100 * proxied.BAD:g} % for everybody",
        proxied.colours,
    ),
}


def main(runs: int = RUNS) -> None:
    rows = {}
    for name, strategy in STRATEGIES.items():
        problem = prometheus_server.missing() or strategy.missing()
        if problem:
            print(f"{name} is left out: {problem}", file=sys.stderr)
            continue
        print(f"{name}: {strategy.told}; seconds after the first bad request", file=sys.stderr)
        with tempfile.TemporaryDirectory() as scratch:
            found = []
            for each in strategy.releases(Path(scratch), runs):
                print(f"  {each}", file=sys.stderr, flush=True)
                found.append(each)
        rows[name] = (strategy.told, *withdrawal.row(found))
    print(
        "blocks of 2 s that settle for 2 s, warm-up 5 s for a flag and else 2 s; seconds after the first bad request: "
        "median (range)"
    )
    print(f"{'':12}{'kill decided':>22}{'kill accepted':>22}{'last user off':>22}  {runs} bad releases each")
    for name, (told, decided, off, last) in rows.items():
        print(f"{name:12}{decided:>22}{off:>22}{last:>22}  {told}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

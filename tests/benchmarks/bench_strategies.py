"""How long users have a bad release: from its first request to the kill, and to the last request served by it.

    python tests/benchmarks/bench_strategies.py [RUNS]

makes RUNS (3) bad releases by each strategy in installations like those of the end-to-end tests: a real Prometheus,
shops with visitors, a real Unleash or HAProxy, the daemon as a process of its own; a stand-in for Slack. A release is
bad from its first user on, but for those by a flags file, which go bad once they were proven healthy. Flags in Unleash
are opened one after another; the others have an installation each, and behind HAProxy begin at another moment between
two ticks. Nothing here asserts: figures depend on the machine.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
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
from tests.servers.proxied import Canary, Colours  # noqa: E402
from tests.servers.withdrawal import Withdrawal  # noqa: E402

RUNS = 3
BLOCK = 2.0
"""Seconds of a block, and between two ticks."""


@dataclass(frozen=True)
class Strategy:
    """A way of releasing: what it needs and lacks, a bad release in words, and bad releases that were taken back."""

    missing: Callable[[], str | None]
    told: str
    releases: Callable[[Path, int], Iterator[Withdrawal]]


def flags(folder: Path, runs: int) -> Iterator[Withdrawal]:
    with unleash_server.running(folder / "unleash") as unleash, flagged.running(folder, unleash) as here:
        here.daemon.start()
        here.gather_history(flagged.HISTORY)
        for _ in range(runs):
            yield here.release_badly()
            here.eventually(lambda: here.releases()[-1].status == "recovered", "it recovered")


def flags_in_a_file(folder: Path, runs: int) -> Iterator[Withdrawal]:
    for number in range(runs):
        own = folder / str(number)
        own.mkdir()
        with flagged.in_a_file(own) as here:
            here.begin()
            yield here.go_bad_and_be_withdrawn()


def each_on_its_own(
    running: Callable[[Path], AbstractContextManager[Canary] | AbstractContextManager[Colours]],
) -> Callable[[Path, int], Iterator[Withdrawal]]:
    """Return what makes bad releases, each in an installation that had none before."""

    def releases(folder: Path, runs: int) -> Iterator[Withdrawal]:
        for number in range(runs):
            own = folder / str(number)
            own.mkdir()
            with running(own) as here:
                here.begin()
                time.sleep(BLOCK * (number + 0.5) / runs)
                yield here.release_badly()

    return releases


STRATEGIES: Mapping[str, Strategy] = {
    "flags file": Strategy(
        lambda: None,
        f"errors {100 * flagged.USUAL:g} % -> {100 * flagged.BAD:g} % for half of the users, once it was healthy",
        flags_in_a_file,
    ),
    "flag": Strategy(
        unleash_server.missing,
        f"errors {100 * flagged.USUAL:g} % -> {100 * flagged.BAD:g} % for half of the users",
        flags,
    ),
    "canary": Strategy(
        haproxy_server.missing,
        f"errors {100 * proxied.USUAL:g} % -> {100 * proxied.BAD:g} % for 5 % of the users",
        each_on_its_own(proxied.canary),
    ),
    "blue_green": Strategy(
        haproxy_server.missing,
        f"errors {100 * proxied.USUAL:g} % -> {100 * proxied.BAD:g} % for everybody",
        each_on_its_own(proxied.colours),
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

"""Ten thousand generated outages of metrics, of a good release: no kill."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.outages import run

SCRIPTS, PIECE = 10_000, 100


def main(scripts: int = SCRIPTS) -> None:
    """Live them on every core, and say what happened."""
    with ProcessPoolExecutor() as pool:
        parts = pool.map(run, [range(start, start + PIECE) for start in range(0, scripts, PIECE)])
        found = sum(parts, Counter())
    print(", ".join(f"{count:,} {what}" for what, count in found.most_common()), f"{found['kills']} kills", sep=", ")
    sys.exit(found["kills"] != 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

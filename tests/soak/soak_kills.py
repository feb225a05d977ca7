"""A daemon killed 500 times at random moments; prints what was lost, done twice, and how soon it was back.

PYTHONPATH=. python tests/soak/soak_kills.py [--kills 500] [--seed 11]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.servers import killed


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=500)
    options.add_argument("--seed", type=int, default=11)
    given = options.parse_args()
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        killed.running(Path(folder), seconds=given.kills * 1.5) as pair,
    ):
        pair.live(random.Random(given.seed), given.kills)
        pair.settle()
        told, undisturbed, ready = pair.victim.told(), pair.twin.told(), pair.victim.ready
        twice, quantiles = told.twice / pair.kills, np.round(np.quantile(ready, [0.5, 0.9, 0.99]), 2)
        print(f"{pair.kills} SIGKILLs in {time.monotonic() - began:.0f} s, {pair.releases} releases")
        print(f"messages: {told.meant} meant, {len(told.lost)} lost, {told.twice} twice ({twice:.2f} a kill)")
        print(f"undisturbed: {undisturbed.meant} meant, {len(undisturbed.lost)} lost, {undisturbed.twice} twice")
        print(f"flags turned off: {dict(pair.effects.turned_off)}")
        print(f"ready after a start, s: {quantiles} (p50, p90, p99 of {len(ready)})")
        pair.hold()
        print("every promise held")


if __name__ == "__main__":
    main()

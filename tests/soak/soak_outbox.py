"""An outbox killed 500 times while it tells thousands of messages; prints how many were lost, and told twice.

PYTHONPATH=. python tests/soak/soak_outbox.py [--kills 500] [--seed 5]
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from tests.outbox_killed import loop


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=500)
    options.add_argument("--seed", type=int, default=5)
    given, began = options.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        fate = loop(Path(folder), given.kills, random.Random(given.seed))
    seconds, share = time.monotonic() - began, fate.twice / fate.kills
    print(
        f"{fate.meant} messages, {fate.kills} SIGKILLs, {seconds:.0f} s: {fate.lost} lost, {fate.twice} twice", end=""
    )
    print(f" ({share:.2f} a kill), database {'whole' if fate.whole else 'DAMAGED'}")
    assert fate.lost == 0
    assert fate.whole
    assert fate.twice <= fate.kills


if __name__ == "__main__":
    main()

"""Messages outlive the process that was to tell them, at whatever moment it dies."""

from __future__ import annotations

import random
from pathlib import Path

from tests.outbox_killed import loop


def test_an_outbox_killed_at_random_moments_loses_no_message_and_tells_at_most_one_a_kill_twice(tmp_path: Path) -> None:
    fate = loop(tmp_path, 40, random.Random(3))
    assert fate.meant >= 40
    assert (fate.lost, fate.whole) == (0, True)
    assert fate.twice <= fate.kills

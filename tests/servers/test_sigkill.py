"""A daemon that dies at any moment loses no alert, acts once, and says what it would have said undisturbed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tests.servers import killed, prometheus_server
from tests.servers.conftest import Say, require

pytestmark = pytest.mark.servers


@pytest.mark.xdist_group("killed")
def test_a_daemon_killed_at_random_moments_loses_nothing_and_does_nothing_twice(tmp_path: Path, say: Say) -> None:
    require(prometheus_server.missing())
    with killed.running(tmp_path, seconds=60) as pair:
        pair.live(random.Random(7), kills=30)
        pair.settle()
        pair.hold()
        told, ready = pair.victim.told(), pair.victim.ready
        assert len(ready) >= 2
    said = (
        f"{pair.kills} SIGKILLs: {told.meant} messages, none lost, {told.twice} twice; each bad release turned off once"
    )
    say(f"{said}; ready {np.median(ready):.2f} s after a start (median of {len(ready)})")

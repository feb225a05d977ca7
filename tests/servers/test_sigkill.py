"""A daemon that dies at any moment loses no alert, acts once, and says what it would have said undisturbed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tests.alerts.slack_server import Message
from tests.servers import killed, prometheus_server
from tests.servers.conftest import Say, require
from watcher.journal import Pending
from watcher.model import Alert


def delivered(*titles: str) -> list[Pending]:
    alerts = [Alert("key", "r", "detail", "no_data", title) for title in titles]
    return [Pending(alert.key, "r", "detail", alert, "done", 0.0, alerter="slack") for alert in alerts]


@pytest.mark.parametrize(
    ("replies", "lost", "twice"),
    [
        (["No data: x", "Watching: x", "No data: x"], [], 0),
        (["3 updates of x\nNo data: x\nWatching: x\nNo data: x"], [], 0),
        (["3 updates of x\nAnd 2 more before these, the first of 10:00 UTC: see\nNo data: x"], [], 0),
        (["No data: x", "Watching: x"], ["No data: x"], 0),
        (["No data: x", "2 updates of x\nWatching: x\nNo data: x", "No data: x"], [], 1),
    ],
)
def test_what_is_lost_and_what_is_said_twice_is_seen(replies: list[str], lost: list[str], twice: int) -> None:
    parent, *rest = [Message("#releases", str(at), {"text": text}) for at, text in enumerate(["x", *replies])]
    found = killed.told(delivered("No data: x", "Watching: x", "No data: x"), [parent], rest)
    assert found == killed.Told(3, lost, twice)


@pytest.mark.servers
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

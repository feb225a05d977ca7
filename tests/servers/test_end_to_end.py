"""The whole of watcher against real servers: users exposed, a release gone bad, a flag turned off, people told."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import installation, prometheus_server
from tests.servers.conftest import require
from tests.servers.installation import FileWrites, Installation

pytestmark = pytest.mark.servers

ALARMS = ("REGRESSED", "NOT recovered", "no data", "invalid")
Say = Callable[[str], None]


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Installation]:
    require(prometheus_server.missing())
    with installation.running(tmp_path) as running:
        yield running


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line that people see, whatever is captured and however many processes run the tests."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", file=sys.stderr, flush=True)

    return line


def watched(here: Installation) -> bool:
    """Tell whether the release was noticed and looked at, and people were told so."""
    return bool(here.parents()) and here.receipt_is_recorded()


def alarms(here: Installation) -> list[str]:
    return [text for text in here.told() if any(word in text for word in ALARMS)]


@pytest.mark.xdist_group("installation-1")
def test_a_release_that_goes_bad_is_turned_off_told_and_seen_to_recover(here: Installation, say: Say) -> None:
    here.daemon.start()
    here.gather_history()
    here.open_release()
    with FileWrites(here.flags) as flag:
        here.eventually(lambda: watched(here), "the release was noticed")
        for _ in range(120):
            here.daemon.check()
            time.sleep(1)
        assert alarms(here) == []
        assert flag.writes == []

        bad = here.go_bad()
        here.eventually(lambda: flag.writes, "the flag was turned off", seconds=120)
        off, content = flag.writes[0]
        say(f"from bad (errors 1 % -> 5 %) to flag off: {off - bad:.1f} s")
        assert content == here.turned_off
        here.eventually(lambda: "turned off, recovered" in here.parents()[0].shown, "the recovery was told")
        assert len(flag.writes) == 1
    assert here.flags.read_bytes() == here.turned_off

    [message] = here.parents()
    assert any("REGRESSED, turning it off" in text for text in message.before)
    details = [reply.shown for reply in here.slack.thread(message)]
    assert sum("Turning new-checkout off" in text for text in details) == 1
    assert sum("back within the margin" in text for text in details) == 1
    [kill] = here.kills()
    assert (kill.state, kill.attempts, dict(kill.receipt or {})) == ("done", 1, {"read_back": "off"})
    with here.journal() as journal:
        [release] = journal.watches()
        assert (release.status, release.noticed_by) == ("recovered", "flags file")

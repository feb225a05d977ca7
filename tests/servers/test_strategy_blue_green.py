"""Strategy `blue_green`, whole: a shop in two colours behind a real HAProxy, switched back where the new one is bad."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests.servers import haproxy_server, prometheus_server, proxied
from tests.servers.conftest import Say, require
from tests.servers.installation import tells
from tests.servers.proxied import BAD, Changes, Colours
from watcher.model import Outcome

pytestmark = pytest.mark.servers

Start = Callable[..., Colours]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    require(haproxy_server.missing() or prometheus_server.missing())
    with ExitStack() as stack:

        def started(**more: str) -> Colours:
            running: AbstractContextManager[Colours] = proxied.colours(tmp_path, **more)
            here = stack.enter_context(running)
            here.begin()
            assert here.live() == "blue"
            return here

        yield started


@pytest.mark.xdist_group("blue-green-1")
def test_a_good_green_is_certified_against_the_past_of_blue_and_kept(start: Start) -> None:
    here = start(watch_for="30s")
    here.switch_over()
    here.eventually(lambda: here.is_watched() and here.shows("healthy"), "it was certified")
    here.eventually(lambda: here.shows("ended"), "the watch ended")
    [release] = here.releases()
    assert (release.status, release.noticed_by, release.watch.release.previous) == ("ended", "switch", "blue")
    assert here.last_look().verdict.outcome is Outcome.HEALTHY
    assert "Last outcome after" in here.parents()[0].shown
    assert "healthy" in here.parents()[0].shown
    assert any("Before it: blue." in text for text in here.told())
    assert (here.alarms(), here.kills(), here.live()) == ([], [], "green")
    with here.requests("blue") as blue, here.requests("green") as green:
        time.sleep(2)
    assert (blue.values, len(green.values) > 0) == ([], True)


@pytest.mark.xdist_group("blue-green-2")
def test_a_bad_green_is_switched_back_to_blue_and_a_reload_keeps_it_so(start: Start, say: Say) -> None:
    here = start()
    with Changes(here.live) as turned, here.requests("green") as requests:
        here.switch_over()
        here.eventually(here.is_watched, "the release was noticed")
        bad = here.fail("green")
        found = here.withdrawn(bad, turned, requests)
        here.eventually(lambda: here.shows("recovered"), "the recovery was told")
    say(f"a green whose errors go from 1 % to {100 * BAD:g} %: {found}")
    assert turned.values == ["green", "blue"]
    here.haproxy.reload()
    assert here.live() == "blue"
    with here.requests("blue") as blue, here.requests("green") as green:
        time.sleep(2)
    assert (len(blue.values) > 0, green.values) == (True, [])

    [kill] = here.kills()
    assert (kill.state, kill.attempts) == ("done", 1)
    assert dict(kill.receipt or {}) == {"read_back": "off", "before": "live: green", "after": "live: blue"}
    [release] = here.releases()
    assert release.status == "recovered"
    here.eventually(lambda: any(tells(text, "recovered") for text in here.details()), "all of it was told")
    details = here.details()
    assert sum("Switching shop back to blue." in text for text in details) == 1
    assert sum("shop is switched back to blue, read back: live: blue." in text for text in details) == 1
    assert sum("back within the margin" in text for text in details) == 1


@pytest.mark.xdist_group("blue-green-2")
def test_where_blue_is_down_nothing_is_switched_and_people_are_told_which_server_is_missing(start: Start) -> None:
    here = start()
    with Changes(here.live) as turned:
        here.switch_over()
        here.eventually(here.is_watched, "the release was noticed")
        here.shops["blue"].stop()
        here.fail("green")
        here.eventually(lambda: here.shows("kill_failed"), "people were told that it failed")
        time.sleep(4)
    assert turned.values == ["green"]
    shown = here.parents()[0].shown
    assert "blue is no longer healthy: blue-1 is down; nobody would answer, so bring one up first." in shown
    assert "Please switch shop back to blue by hand." in shown
    [kill] = here.kills()
    assert (kill.state, kill.attempts) == ("failed", 1)
    assert not any(tells(text, "turned_off") for text in here.told())


@pytest.mark.xdist_group("blue-green-1")
def test_a_green_that_cannot_be_undone_is_recommended_to_be_switched_back_and_is_not(start: Start) -> None:
    here = start(notice="http: true")
    with Changes(here.live) as turned:
        here.switch_over()
        command = [sys.executable, "-m", "watcher", "release", "start", "shop", "shop", "--config", str(here.config)]
        command += ["--version", "green", "--previous", "blue", "--not-reversible"]
        subprocess.run(command, check=True, capture_output=True, timeout=240)
        here.eventually(here.is_watched, "the daemon took the release up")
        here.fail("green")
        advice = (
            "Recommended: switch shop back to blue. Not done automatically: the release is marked as not reversible."
        )
        here.eventually(lambda: advice in here.parents()[0].shown, "people were told what to do")
        time.sleep(4)
    assert turned.values == ["green"]
    assert here.shows("regressed")
    assert here.kills() == []

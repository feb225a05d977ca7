"""One daemon acts on a journal, whatever is started beside it, and its successor need not wait for it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers.postgres_server import fresh_database
from tests.test_act import FlagSwitch, a_kill
from watcher import assembly
from watcher.act import Outbox
from watcher.config import load_installation
from watcher.daemon import Daemon
from watcher.errors import JournalError, Refused
from watcher.journal import Hold, Journal
from watcher.model import BY_HAND
from watcher.testing import MemorySource

T = 1_700_000_000.0

RULES = """\
pack: shop
rules:
  - {name: errors, kind: ratio, bad: 'requests_total{code=~"5.."}', total: requests_total, critical: true}
"""
CONFIG = """\
journal: {journal}
metrics: {{prometheus: "http://127.0.0.1:9"}}
services:
  shop:
    select: {{job: shop}}
    rules: [rules.yaml]
    releases:
      - strategy: flag
        notice: {{http: true}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        kill: {{yaml_flags: flags.yaml}}
"""


@pytest.fixture
def config(tmp_path: Path, url: str) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "flags.yaml").write_text("features:\n  new-checkout: {enabled: true}\n")
    (tmp_path / "watcher.yaml").write_text(CONFIG.format(journal=url))
    return tmp_path / "watcher.yaml"


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    with Journal.open(url) as journal:
        yield journal


@contextmanager
def running(config: Path) -> Iterator[subprocess.Popen[str]]:
    """`watcher run`, once it watches; at the end it is killed by its id."""
    command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = ""
            while "watching shop" not in said:
                line = process.stderr.readline()
                said += line
                assert line, f"the daemon ended:\n{said}"
            yield process
        finally:
            process.kill()


def refused(config: Path) -> str:
    """Start `watcher run`, which must end by itself, and return what it said."""
    command = [sys.executable, "-m", "watcher", "run", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr


def test_a_second_daemon_is_refused_and_a_killed_one_holds_up_nobody(config: Path) -> None:
    began = time.monotonic()
    with running(config) as first:
        took = time.monotonic() - began
        said = refused(config)
        since = rf"another watcher runs on it \(.*pid {first.pid} on .+, since 20\d\d-.* UTC\): stop that one first"
        assert re.search(since, said), said
        assert said.count("\n") == 1
        # Commands go on beside it.
        assert assembly.status(str(config), T) == ["nothing is being watched"]
        os.kill(first.pid, signal.SIGKILL)
        began = time.monotonic()
        with running(config):
            assert time.monotonic() - began < took + 2.0


def test_a_journal_is_held_once_and_free_again_when_its_holder_lets_go(journal: Journal, url: str) -> None:
    with journal.hold() as hold, Journal.open(url) as other:
        assert hold.held()
        with pytest.raises(Refused, match=rf"pid {os.getpid()} on .*since 20.*`journal` of its own"), other.hold():
            pass
        assert hold.held()
    with journal.hold() as hold:
        assert hold.held()


def test_a_journal_in_memory_has_no_rival() -> None:
    with Journal.open("sqlite://") as journal, journal.hold() as hold:
        assert hold.held()


def a_daemon(config: Path, journal: Journal, hold: Hold, switch: FlagSwitch) -> Daemon:
    outbox = Outbox(journal, lambda _: switch, {}, stopwatch=lambda: 0.0)
    return Daemon(load_installation(config), journal, MemorySource({}), outbox, hold=hold)


def test_who_lost_the_journal_does_not_act_until_it_holds_it_again(config: Path, journal: Journal, url: str) -> None:
    switch = FlagSwitch()
    # Decided by a person: that takes neither a mode nor a release.
    journal.intend([a_kill(f"new-checkout{BY_HAND}{T:g}", at=T)], T)
    with journal.hold() as hold, Journal.open(url) as other:
        daemon = a_daemon(config, journal, hold, switch)
        _take_away(url)
        with other.hold():
            with pytest.raises(Refused, match="another watcher runs on it"):
                daemon.act(T)
            with pytest.raises(Refused):
                hold.held()
            assert (switch.on, switch.changes) == (True, 0)
        for _ in range(100):
            # PostgreSQL lets go of a lock a moment after its session was closed.
            with suppress(Refused):
                daemon.act(T)
                break
            time.sleep(0.05)
        assert (switch.on, switch.changes) == (False, 1)
        # It is held again, not only acted upon.
        with pytest.raises(Refused), other.hold():
            pass


def _take_away(url: str) -> None:
    """Take the lock from whoever has it, as an administrator may."""
    if url.startswith("sqlite"):
        Path(f"{url.removeprefix('sqlite:///')}.lock").unlink()
        return
    import psycopg

    holder = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    with closing(psycopg.connect(url)) as connection:
        assert connection.execute(holder).fetchall() == [(True,)]
        while connection.execute("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'").fetchall():
            time.sleep(0.01)


@pytest.mark.servers
def test_who_cannot_ask_whether_it_holds_the_journal_does_not_act(postgres: str) -> None:
    import psycopg

    url = fresh_database(postgres)
    may_connect = f"ALTER DATABASE {url.rpartition('/')[2]} ALLOW_CONNECTIONS "
    server = closing(psycopg.connect(f"{postgres}postgres", autocommit=True))
    with server as admin, Journal.open(url) as journal, journal.hold() as hold:
        _take_away(url)
        admin.execute(f"{may_connect} false")  # type: ignore[arg-type]
        assert hold.held() is False
        admin.execute(f"{may_connect} true")  # type: ignore[arg-type]
        assert hold.held() is True


def test_a_folder_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        (tmp_path / "watcher.db.lock").mkdir()
        with pytest.raises(JournalError, match=r"watcher\.db\.lock cannot be opened.*right to write"), journal.hold():
            pass


def test_who_holds_a_journal_can_be_asked_and_asking_makes_and_takes_nothing(url: str) -> None:
    assert Journal.existing(url) is None
    assert Journal.existing(url) is None, "the first question made it"
    with Journal.open(url):
        pass
    looking = Journal.existing(url)
    assert looking is not None
    with looking:
        assert looking.held_by() == ""
        with Journal.open(url) as journal, journal.hold() as hold:
            assert f"pid {os.getpid()} on " in looking.held_by()
            assert ", since 20" in looking.held_by()
            assert hold.held()
        assert looking.held_by() == ""
        with Journal.open(url) as journal, journal.hold() as hold:
            assert hold.held()

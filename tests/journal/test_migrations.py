"""A journal that any earlier watcher wrote opens, with everything in it, and goes on.

The files in `schemas` were written by those versions; `dump.py` adds the one of a new schema.
"""

from __future__ import annotations

import multiprocessing
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.journal.dump import FOLDER
from tests.servers.postgres_server import fresh_database
from tests.test_journal import RELEASE, a_kill, a_look, a_watch, counts, latencies, same
from watcher.journal import SCHEMA, Journal
from watcher.model import Alert

VERSIONS = range(1, SCHEMA + 1)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, kind: str, tmp_path: Path) -> str:
    """The URL of a database as a version left it."""
    statements = (FOLDER / f"{request.param}.{kind}.sql").read_text()
    if kind == "sqlite":
        with closing(sqlite3.connect(tmp_path / "watcher.db")) as connection:
            connection.executescript(statements)
        return f"sqlite:///{tmp_path}/watcher.db"
    import psycopg

    url = fresh_database(request.getfixturevalue("postgres"))
    with psycopg.connect(url, autocommit=True) as server:
        server.execute(statements)  # type: ignore[call-overload]
    return url


def test_an_older_journal_opens_with_everything_in_it_and_goes_on(old: str) -> None:
    for _ in range(2):
        with Journal.open(old) as journal:
            _as_it_was(journal)
    with Journal.open(old) as journal:
        # Numbers go on where they stopped, and what is new has its columns.
        later = a_watch("1.4").release.id
        assert journal.add_release(a_watch("1.4"), 800.0, "cli")
        journal.record_look(a_look(860.0, later, observations={"errors": latencies([760.0])}, actions=(a_kill("k/2"),)))
        same(journal.observations(later)["errors"], latencies([760.0]))
        assert [each.key for each in journal.pending(900.0, alerts=False)] == ["k/2"]
        assert journal.take(["a/1#slack", "d/1"], 900.0) == {"a/1#slack", "d/1"}


def _as_it_was(journal: Journal) -> None:
    ended, active = journal.watches()
    assert (ended.watch, ended.status, ended.end_reason, ended.ended_at) == (a_watch(), "recovered", "it is well", 710)
    assert (active.watch, active.status) == (a_watch("1.3"), "active")
    look = journal.last_look(RELEASE)
    assert look is not None
    # What a later version asks of a look beside stands at its default.
    assert (look.verdict, look.states) == (a_look(700.0).verdict, {"errors": {"blocks": 2}})
    same(journal.observations(RELEASE)["errors"], counts([600.0, 660.0]))
    same(journal.observations(RELEASE)["load"], counts([600.0, 660.0], seed=2))
    kill, alert, delivery, detail = journal.actions()
    assert (kill.action, kill.state, kill.receipt) == (a_kill(), "done", {"read_back": "off"})
    assert isinstance(alert.action, Alert)
    assert (alert.state, delivery.alerter, delivery.state, detail.state) == ("done", "slack", "intended", "intended")
    said = [(line.at, line.what) for line in journal.audit_trail()]
    assert said == [
        (600, "release noticed"), (700, "kill intended"), (702, "kill done"), (710, "release ended"),
        (720, "release noticed"),
    ]  # fmt: skip
    assert journal.recall("flags") == {"new-checkout": True}
    with journal._reading() as connection:
        found = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'schema'").scalar()
    assert found == str(SCHEMA)


def _open(url: str) -> None:
    with Journal.open(url) as journal:
        _as_it_was(journal)


def test_processes_that_open_an_older_journal_at_once_migrate_it_once(old: str) -> None:
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=_open, args=(old,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0, 0]


def test_every_schema_has_a_journal_to_open(kind: str) -> None:
    written = {path.name for path in FOLDER.glob(f"*.{kind}.sql")}
    assert written == {f"{version}.{kind}.sql" for version in VERSIONS}, "run: python -m tests.journal.dump"

"""A journal on a full disk, one that may not be written, one that is damaged: nothing is done that is not recorded."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from tests.servers.postgres_server import fresh_database
from tests.test_daemon import Metrics, World, measured
from tests.test_holding import CONFIG, RULES, refused
from tests.test_journal import RELEASE, a_kill, a_look, a_watch, an_alert, counts
from watcher.act import SAID_FOR
from watcher.daemon import Daemon
from watcher.errors import JournalError
from watcher.journal import Journal
from watcher.server import Metrics as Observed
from watcher.server.readiness import Readiness
from watcher.telling import not_recording

Fault = Callable[[Journal], Any]


@contextmanager
def every_connection(journal: Journal, statement: str) -> Iterator[None]:
    """Let every connection of a journal begin with a statement."""
    engine = journal._database._engine

    def execute(connection: Any, _: object) -> None:
        connection.execute(statement)

    engine.dispose()
    event.listen(engine, "connect", execute)
    yield
    event.remove(engine, "connect", execute)
    engine.dispose()


def a_full_disk(journal: Journal) -> Any:
    with journal._reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    return every_connection(journal, f"PRAGMA max_page_count={pages}")


def a_file_that_may_not_be_written(journal: Journal) -> Any:
    return every_connection(journal, "PRAGMA query_only=ON")


@contextmanager
def a_server_that_takes_no_writes(journal: Journal) -> Iterator[None]:
    import psycopg

    url = journal._database.url
    server = url.set(drivername="postgresql", database="postgres").render_as_string(hide_password=False)
    engine, alter = journal._database._engine, f"ALTER DATABASE {url.database} SET default_transaction_read_only = "
    for answer in ("on", "off"):
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"{alter} {answer}")  # type: ignore[arg-type]
        engine.dispose()
        if answer == "on":
            yield


FAULTS = [
    pytest.param(a_full_disk, "database or disk is full; make room on its disk", id="full"),
    pytest.param(a_file_that_may_not_be_written, "readonly database; give this user the right", id="read-only"),
    pytest.param(
        a_server_that_takes_no_writes, "read-only transaction; the server takes no writes", id="standby",
        marks=pytest.mark.servers,
    ),
]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    on_server = "standby" in request.node.callspec.id
    url = fresh_database(request.getfixturevalue("postgres")) if on_server else f"sqlite:///{tmp_path}/watcher.db"
    with Journal.open(url) as journal:
        made = World(tmp_path, journal, Metrics({"errors": measured(bad_from=8)}))
        made.daemon()
        yield made


def steps(world: World, daemon: Daemon, minutes: int) -> list[str]:
    """Let minutes pass, and return what failed."""
    problems = []
    for _ in range(minutes):
        try:
            world.run(daemon, 1)
        except JournalError as error:
            problems.append(str(error))
    return problems


@pytest.mark.parametrize(("fault", "says"), FAULTS)
def test_what_cannot_be_recorded_is_not_done_and_people_are_told_so(world: World, fault: Fault, says: str) -> None:
    daemon = world.daemon()
    observed = Observed(daemon.installation, world.journal, lambda: world.now, lambda: world.now)
    daemon = replace(daemon, observer=observed)
    ready = Readiness(daemon.installation, world.journal, observed)
    world.expose()
    assert steps(world, daemon, 2) == []
    assert ready.problem() is None
    told = len(world.alerter.delivered)
    with fault(world.journal):
        problems = steps(world, daemon, 25)
        assert len(problems) > 20
        assert all(says in problem for problem in problems)
        assert world.switch.kills == []
        assert world.journal.switched() == []
        [alert] = world.alerter.delivered[told:]
        assert alert.state == "not_recording"
        assert alert.urgent
        assert says in alert.lines[0]
        assert "the last completed step is" in str(ready.problem())
    # Space is back: the very next steps make up for it.
    assert steps(world, daemon, 2) == []
    assert world.switch.kills == ["shop"]
    assert world.said("killed")
    assert ready.problem() is None


def test_that_nothing_can_be_recorded_is_told_once_an_hour_and_again_where_nobody_heard(tmp_path: Path) -> None:
    with Journal.open("sqlite://") as journal:
        world = World(tmp_path, journal, Metrics({}))
        outbox = world.daemon().outbox

        def say(now: float) -> bool:
            return outbox.say(not_recording("disk is full", now), now)

        world.alerter.broken = "HTTP 500"
        assert [say(0.0), say(15.0)] == [False, False]
        world.alerter.broken = None
        assert [say(30.0), say(45.0), say(30.0 + SAID_FOR - 1), say(30.0 + SAID_FOR)] == [True, False, False, True]
        assert say(10.0), "a clock that stepped back silences nobody"
        assert len(world.alerter.delivered) == 3
        assert journal.actions() == []


# Damage


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal that was closed (`closed.db`), and one that was not (`open.db`, and what is not yet written back)."""
    folder = tmp_path_factory.mktemp("sound")
    with Journal.open(f"sqlite:///{folder}/closed.db") as journal:
        journal.add_release(a_watch(), 0.0, "cli")
        ends = [60.0 * number for number in range(1, 400)]
        journal.record_look(a_look(700.0, observations={"errors": counts(ends)}, actions=(a_kill(),)))
        journal.intend([an_alert(f"a/{number}") for number in range(50)], 1.0)
        for suffix in ("", "-wal"):
            shutil.copy(folder / f"closed.db{suffix}", folder / f"open.db{suffix}")
    return folder


def _read_through(journal: Journal) -> None:
    for watched in journal.watches():
        release = watched.watch.release.id
        for read in (journal.observations, journal.looks, journal.last_look, journal.calibrations, journal.actions):
            read(release)
    journal.audit_trail(), journal.switched(), journal.tallies(), journal.pending(0.0), journal.recall("pause")


@pytest.mark.parametrize("part", ["header", "pages"])
def test_flipped_bytes_are_refused_with_a_remedy_or_change_nothing_that_cannot_be_read(
    sound: Path, tmp_path: Path, part: str
) -> None:
    dice, opened, problems = random.Random(f"{part} flipped"), 0, []
    whole = (sound / "closed.db").read_bytes()
    for number in range(60):
        content, start = bytearray(whole), dice.randrange(100 if part == "header" else len(whole))
        for place in range(start, min(start + dice.choice([1, 16, 512]), len(content))):
            content[place] ^= dice.randrange(1, 256)
        damaged = tmp_path / f"{number}.db"
        damaged.write_bytes(content)
        try:
            with Journal.open(f"sqlite:///{damaged}") as journal:
                opened += 1
                _read_through(journal)
        except JournalError as error:
            problems.append(str(error))
    remedies = ("recover", "another version", "newer", "not a journal", "right to write")
    assert [problem for problem in problems if not any(remedy in problem for remedy in remedies)] == []
    assert len(problems) > 15
    assert opened > 5


def test_a_damaged_journal_ends_the_daemon_before_it_starts(sound: Path, tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "flags.yaml").write_text("features:\n  new-checkout: {enabled: true}\n")
    (tmp_path / "watcher.yaml").write_text(CONFIG.format(journal=f"sqlite:///{tmp_path}/broken.db"))
    whole, middle = (sound / "closed.db").read_bytes(), 80_000
    (tmp_path / "broken.db").write_bytes(whole[:middle] + random.Random(4).randbytes(16_384) + whole[middle + 16_384 :])
    said = refused(tmp_path / "watcher.yaml")
    assert "broken.db" in said
    assert "sqlite3 FILE .recover" in said


def test_what_the_log_of_writes_lost_is_a_prefix(sound: Path, tmp_path: Path) -> None:
    """Damage there looks to SQLite like a power cut: what came before it is whole, what came after it is gone."""
    content = (sound / "open.db-wal").read_bytes()
    for place in range(0, len(content), len(content) // 20):
        copy = tmp_path / f"{place}.db"
        shutil.copy(sound / "open.db", copy)
        Path(f"{copy}-wal").write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with Journal.open(f"sqlite:///{copy}") as journal:
            known = [each.watch.release.id for each in journal.watches()]
            looked = bool(known and journal.last_look(RELEASE))
            assert [each.key for each in journal.switched()] == (["kill/1"] if looked else [])
            assert len(journal.actions()) in ((0,) if not looked else (1, 51))

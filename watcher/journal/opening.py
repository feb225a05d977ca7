"""Opening a database by its URL, and transactions on it whose errors say what to do."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, StaticPool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from watcher.errors import JournalError
from watcher.journal.tables import SCHEMA, prepare, schema_of
from watcher.secrets import conceal

_BUSY_MILLISECONDS: Final = 10_000
_TURN: Final = 0.02
"""Seconds between attempts where SQLite does not wait by itself."""

LEAST_FREE: Final = 16 << 20
"""Bytes free on the disk of a SQLite file, below which it counts as full."""

_REMEDIES: Final = (
    (("malformed", "not a database", "disk image", "unsupported file format", "could not decode"),
     "the file is damaged: keep a copy, then rescue it with `sqlite3 FILE .recover | sqlite3 NEW`, or move it away and "
     "start afresh"),
    (("connection failed", "authentication"), "check that the server runs, and its address, user and password"),
    (("unable to open",), "check that its directory exists and may be written by this user"),
    (("read-only transaction",), "the server takes no writes: give the address of the one that does"),
    (("readonly", "read-only", "permission denied"), "give this user the right to write the file and its directory"),
    (("locked", "busy"), "another process holds it: stop that one, or wait until it is done"),
    (("disk is full", "no space", "disk i/o"), "make room on its disk, or check it: until then nothing is "
     "recorded, nor acted on"),
    (("no such table", "no such column", "does not exist"), "this is not a journal written by watcher: give it a "
     "database of its own"),
)  # fmt: skip


class Database:
    """An open database. Its transactions raise JournalError: where, what, and the remedy, but never a secret."""

    def __init__(self, url: URL) -> None:
        self._engine, self._secrets = _engine(url), tuple(_secrets(url))
        self.url, self.name = url, _shown(url)
        in_memory = isinstance(self._engine.pool, StaticPool)
        self._turn: AbstractContextManager[Any] = threading.RLock() if in_memory else nullcontext()

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """Start a transaction that only reads."""
        return self._transaction(writes=False)

    def writing(self) -> AbstractContextManager[Connection]:
        """Start a transaction that writes: all of it or, after an error, nothing of it."""
        return self._transaction(writes=True)

    @contextmanager
    def _transaction(self, *, writes: bool) -> Iterator[Connection]:
        try:
            with self._turn, self._engine.connect() as connection:
                connection.execution_options(watcher_writes=writes)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise JournalError(self._explained(error)) from error

    def _explained(self, error: SQLAlchemyError) -> str:
        problem = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in self._secrets:
            problem = problem.replace(secret, "***")
        remedy = next((fix for words, fix in _REMEDIES if any(word in problem.lower() for word in words)), None)
        return f"journal {self.name}: {problem}" + (f"; {remedy}" if remedy else "")

    def damaged(self, problem: str) -> JournalError:
        """Return the error that says what is damaged, and the way out."""
        return JournalError(f"journal {self.name}: {' '.join(problem.split())}; {_REMEDIES[0][1]}")

    def free(self) -> int | None:
        """Return the bytes free on the disk of a SQLite file; None where that cannot be known from here."""
        if self.url.get_backend_name() != "sqlite" or self.url.database in (None, "", ":memory:"):
            return None
        try:
            disk = os.statvfs(os.path.dirname(os.path.realpath(str(self.url.database))))
        except OSError:
            return None
        return disk.f_bavail * disk.f_frsize

    def refuse_full_disk(self) -> None:
        """Look whether there is room to go on.

        Raises:
            JournalError: there is next to none. A small write may still succeed, into what SQLite keeps for later.
        """
        free = self.free()
        if free is not None and free < LEAST_FREE:
            raise JournalError(
                f"journal {self.name}: {free / 2**20:.1f} MiB are free on its disk; make room: {LEAST_FREE >> 20} MiB "
                "at least, or nothing can be recorded soon, nor acted on"
            )

    def refuse_damage(self) -> None:
        """Read a SQLite file through.

        Raises:
            JournalError: it is damaged.
        """
        with self.reading() as connection:
            answer = connection.scalar(text("PRAGMA quick_check(1)"))
        if answer != "ok":
            raise self.damaged(str(answer))


def open_database(url: str, *, check: bool) -> Database:
    """Open the database of a journal, creating or migrating its tables; arguments and errors as `Journal.open`."""
    parsed = _parse(url)
    database = Database(parsed)
    try:
        if check and parsed.get_backend_name() == "sqlite":
            database.refuse_damage()
        with database.writing() as connection:
            prepare(connection, database.name)
    except BaseException:
        database.close()
        raise
    return database


def existing_database(url: str) -> Database | None:
    """Open the database of a journal as it is, for `Journal.existing`: no file is made, and no table changed."""
    database = Database(_parse(url))
    try:
        file = str(database.url.database or "").removeprefix("file:")
        if database.url.get_backend_name() == "sqlite" and not (os.path.isfile(file) and os.path.getsize(file)):
            database.close()
            return None
        with database.reading() as connection:
            found = schema_of(connection, database.name)
        if found is not None and found < SCHEMA:
            raise JournalError(
                f"journal {database.name}: written by an older watcher (schema {found}, this one writes {SCHEMA}): "
                "stop its daemon, keep a copy of the journal, and start this version, which migrates it"
            )
    except BaseException:
        database.close()
        raise
    if found is None:
        database.close()
        return None
    return database


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # The text may hold a password: neither it nor the error that quotes it is shown.
        raise JournalError(
            "journal: this is not a URL; write sqlite:///watcher.db or postgresql://user@host/db"
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "sqlite+pysqlite", "postgresql+psycopg"):
        raise JournalError(
            f"journal {_shown(parsed)}: {parsed.drivername} is not supported; write sqlite:///watcher.db or "
            "postgresql://user@host/database"
        )
    return parsed


def _shown(url: URL) -> str:
    return url.set(query={}).render_as_string(hide_password=True)


def _secrets(url: URL) -> Iterator[str]:
    given = (url.password, url.query.get("password"), url.query.get("sslpassword"), os.environ.get("PGPASSWORD"))
    for secret in filter(None, given):
        conceal(str(secret))
        yield str(secret)


def _engine(url: URL) -> Engine:
    in_memory = url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:")
    options: dict[str, Any] = (
        {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}} if in_memory else {}
    )
    try:
        engine = create_engine(url, **options)
    except ModuleNotFoundError:
        raise JournalError(
            f"journal {_shown(url)}: PostgreSQL needs the extra `postgres`: pip install 'release-watcher[postgres]'"
        ) from None
    except (ArgumentError, NoSuchModuleError) as error:
        raise JournalError(f"journal {_shown(url)}: {type(error).__name__}; check the URL") from None
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin)
    return engine


def _set_up_sqlite(connection: Any, _: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    _write_ahead(connection)
    connection.execute("PRAGMA synchronous=FULL")


def _write_ahead(connection: Any) -> None:
    """Switch to the write-ahead log; while others open the file too, SQLite refuses that without waiting its turn."""
    until = time.monotonic() + _BUSY_MILLISECONDS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(_TURN)
        else:
            return


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for another writer; one that says so at once can.
    writes = connection.get_execution_options().get("watcher_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

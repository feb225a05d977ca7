"""One daemon acts on a journal: a lock that its process has, and that ends with its process.

SQLite: the operating system's lock of a file beside the database, which its kernel frees however the process ends. It
says nothing across machines, and neither does SQLite: its database belongs on a disk of the machine itself.

PostgreSQL: an advisory lock of a session of its own, which the server frees when that session ends. PgBouncer in
transaction mode takes the session away after each statement, and with it the lock: give the journal an address that
leads to the server itself, or a pool in session mode.

What stands in for several daemons on one journal, should there ever be some, is a lease per release with an epoch that
each action carries and each switch compares; `Hold.held` is where it would be asked for. A lock alone cannot do that: a
process that is suspended between the question and the deed does not know how long it was.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from watcher.errors import JournalError, Refused
from watcher.journal.opening import Database

_KEY: Final = 7_236_481_906
"""Arbitrary key of the PostgreSQL advisory lock of the daemon that acts."""

_QUICK_TO_MISS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 5, "keepalives_count": 2,
    "tcp_user_timeout": 10_000,
}  # fmt: skip
"""How libpq finds out within seconds that the server is gone."""
_QUICK_TO_LET_GO: Final = (
    "SET tcp_keepalives_idle = 5", "SET tcp_keepalives_interval = 5", "SET tcp_keepalives_count = 2",
)  # fmt: skip
"""How the server finds out within seconds that the daemon's machine is gone: until then it would keep the lock."""


class Hold(Protocol):
    """The right to act on a journal."""

    def held(self) -> bool:
        """Tell whether this process has the right now; take it again where it was lost and is free.

        False where that cannot be known: then nothing may be done. Raises Refused where another process has it.
        """
        ...


class Sole:
    """The right of a process that cannot have a rival."""

    def held(self) -> bool:
        """Tell that it is held."""
        return True


@contextmanager
def holding(database: Database) -> Iterator[Hold]:
    """Hold a journal until the end of the context or of the process.

    Raises:
        Refused: another process holds it; who, since when, and what to do.
        JournalError: nobody can be asked.
    """
    if database.url.get_backend_name() == "postgresql":
        with closing(_Session(database.url, database.name)) as session:
            yield session
        return
    path = _lock_path(database)
    if path is None:
        yield Sole()
        return
    with closing(_LockFile(path, database.name)) as lock_file:
        yield lock_file


def holder(database: Database) -> str:
    """Return who holds a journal, since when, in words; empty where nobody does.

    Nothing is written. The lock of a file is shared for an instant by whoever asks: there is no other way to ask.

    Raises:
        JournalError: that cannot be said.
    """
    if database.url.get_backend_name() == "postgresql":
        with database.reading() as connection:
            found = connection.execute(_HOLDER).first()
        return "" if found is None else _named(found.application_name, found.since)
    path = _lock_path(database)
    try:
        if path is None:
            return ""
        with open(path, encoding="utf-8", errors="replace") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _named(_who(file.read()), os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise JournalError(
            f"journal {database.name}: {path} cannot be read ({error.strerror}): give this user the right to read it"
        ) from error
    return ""


def _lock_path(database: Database) -> str | None:
    """Return the file beside a SQLite journal that is locked; None where it is in memory."""
    with database.reading() as connection:
        file = connection.scalar(text("SELECT file FROM pragma_database_list WHERE name = 'main'"))
    return f"{os.path.realpath(file)}.lock" if file else None


class _LockFile:
    """Holds a lock of the operating system on a file, which says who has it; it stays when the lock is gone."""

    def __init__(self, path: str, journal: str) -> None:
        self._path, self._journal = path, journal
        self._file = self._taken()

    def close(self) -> None:
        """Let go."""
        os.close(self._file)

    def held(self) -> bool:
        """Tell whether the file is still the one that was locked: somebody may have deleted it."""
        try:
            there, own = os.stat(self._path), os.fstat(self._file)
        except FileNotFoundError:
            there = None
        except OSError:
            return False
        if there is None or (there.st_dev, there.st_ino) != (own.st_dev, own.st_ino):
            taken = self._taken()
            os.close(self._file)
            self._file = taken
        return True

    def _taken(self) -> int:
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise JournalError(
                f"journal {self._journal}: {self._path} cannot be opened ({error.strerror}): give this user the right "
                "to write the file and its directory"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(file, 0)
            os.pwrite(file, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)
        except BlockingIOError:
            with open(file, encoding="utf-8", errors="replace") as theirs:
                since = os.fstat(file).st_mtime
                raise _refused(self._journal, _who(theirs.read()), since) from None
        except OSError as error:
            os.close(file)
            raise JournalError(
                f"journal {self._journal}: {self._path} cannot be locked ({error.strerror}): keep the journal on a "
                "disk of this machine that is not full, or in PostgreSQL"
            ) from error
        return file


def _who(said: str) -> str:
    try:
        found = json.loads(said)
        return f"pid {int(found['pid'])} on {found['host']}"
    except (ValueError, TypeError, KeyError):
        return ""  # it has just taken the lock, and not said so yet


class _Session:
    """Holds an advisory lock through a connection of its own."""

    def __init__(self, url: URL, journal: str) -> None:
        self._journal = journal
        name = f"watcher, pid {os.getpid()} on {socket.gethostname()}".encode()[:63].decode(errors="ignore")
        options = {"application_name": name, **_QUICK_TO_MISS}
        self._engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=options)
        self._connection: Connection | None = None
        try:
            self._take()
        except DBAPIError as error:
            raise JournalError(
                f"journal {journal}: the lock of the daemon cannot be asked for ({type(error.orig).__name__}): check "
                "that the server takes one more connection"
            ) from None

    def close(self) -> None:
        """Let go."""
        connection, self._connection = self._connection, None
        if connection is not None:
            # So that who comes next need not wait until the server finds the session gone, as it will in any case.
            with suppress(SQLAlchemyError):
                connection.execute(_LET_GO)
            connection.invalidate()
            connection.close()

    def held(self) -> bool:
        """Ask the server whether this session has the lock: a pool in between may have given it another session."""
        try:
            if self._connection is not None and self._connection.scalar(_HELD):
                return True
        except SQLAlchemyError:
            pass  # the session is gone, and the lock with it
        try:
            self._take()
        except SQLAlchemyError:
            return False
        return True

    def _take(self) -> None:
        self.close()
        try:
            connection = self._connection = self._engine.connect()
            for statement in _QUICK_TO_LET_GO:
                connection.execute(text(statement))
            if not connection.scalar(text(f"SELECT pg_try_advisory_lock({_KEY})")):
                other = connection.execute(_HOLDER).first()
                raise _refused(self._journal, *("", None) if other is None else (other.application_name, other.since))
        except BaseException:
            self.close()
            raise


_LOCKED: Final = (
    "FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted AND objsubid = 1 "
    f"AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = {_KEY >> 32} "
    f"AND objid = {_KEY & 0xFFFFFFFF}"
)
_LET_GO: Final = text(f"SELECT pg_advisory_unlock({_KEY})")
_HELD: Final = text(f"SELECT count(*) {_LOCKED} AND pid = pg_backend_pid()")
_HOLDER: Final = text(f"SELECT application_name, extract(epoch FROM backend_start)::float8 AS since {_LOCKED}")


def _named(who: str, since: float | None) -> str:
    when = "" if since is None else f", since {datetime.fromtimestamp(since, UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{who or 'one that does not say who it is'}{when}"


def _refused(journal: str, who: str, since: float | None) -> Refused:
    return Refused(
        f"journal {journal}: another watcher runs on it ({_named(who, since)}): stop that "
        "one first, or give this one a `journal` of its own in watcher.yaml"
    )

"""The tables of the journal, how they came to be, and the ways a row goes in.

What the tables hold is told in the package's docstring.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    Double,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from watcher.errors import JournalError
from watcher.journal.codec import dumps

SCHEMA: Final = 2

_MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {
    1: ("ALTER TABLE blocks ADD COLUMN layout INTEGER", "ALTER TABLE observations ADD COLUMN buckets TEXT"),
}
"""The statements that lead from a schema version to the next; new tables need none. Version 1 is the first."""

_UPGRADE_LOCK: Final = 7_236_481_905
"""Arbitrary key of the PostgreSQL advisory lock that lets one process at a time create or migrate tables."""

_tables = MetaData()
_META = Table("meta", _tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
RELEASES = Table(
    "releases", _tables,
    Column("n", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("watch", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("noticed_by", Text, nullable=False),
    Column("at", Double, nullable=False),
    Column("ended_at", Double),
    Column("end_reason", Text),
)  # fmt: skip
STREAMS = Table(
    "streams", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("release", "rule", "name"),
)  # fmt: skip
UNITS = Table(
    "units", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("release", "rule", "arm", "name"),
)  # fmt: skip
LAYOUTS = Table(
    "layouts", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("release", "rule", "name"),
)  # fmt: skip
BLOCKS = Table(
    "blocks", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("block_end", Double, primary_key=True),
    Column("baseline", Boolean, nullable=False),
    Column("notes", Text),
    Column("layout", Integer),
)  # fmt: skip
# Clustered by time within a release: a look appends to one place, a release is read and deleted as one range.
OBSERVATIONS = Table(
    "observations", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("block_end", Double, primary_key=True),
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("unit", Integer, primary_key=True, autoincrement=False),
    Column("events", Double),
    Column("total", Double),
    Column("buckets", Text),
    sqlite_with_rowid=False,
)  # fmt: skip
STATES = Table(
    "states", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("through", Double, nullable=False),
    Column("state", Text, nullable=False),
)  # fmt: skip
CALIBRATIONS = Table(
    "calibrations", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("calibration", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("at", Double, nullable=False),
)  # fmt: skip
LOOKS = Table(
    "looks", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False, index=True),
    Column("at", Double, nullable=False),
    Column("through", Double, nullable=False),
    Column("blocks", Integer, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("problem", Text),
    Column("look", Text, nullable=False),
)  # fmt: skip
ACTIONS = Table(
    "actions", _tables,
    Column("id", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("release", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("alerter", Text),
    Column("payload", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("not_before", Double),
    Column("claimed_at", Double),
    Column("receipt", Text),
    Column("error", Text),
    Column("created_at", Double, nullable=False),
    Column("finished_at", Double),
    Index("actions_unfinished", "state"),
)  # fmt: skip
AUDIT = Table(
    "audit", _tables,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("release", Text, index=True),
    Column("what", Text, nullable=False),
    Column("detail", Text, nullable=False),
)  # fmt: skip
MEMORY = Table("memory", _tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


def prepare(connection: Connection, journal: str) -> None:
    """Create the tables of an empty database, or lead older ones to this schema.

    Raises:
        JournalError: it is not a journal, or one of a newer watcher; `journal` is what the message calls it.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
    found = schema_of(connection, journal)
    if found is None:
        _tables.create_all(connection)
        connection.execute(insert(_META).values(key="schema", value=str(SCHEMA)))
        return
    if found < SCHEMA:
        _tables.create_all(connection)
    for version in range(found, SCHEMA):
        for statement in _MIGRATIONS[version]:
            connection.execute(text(statement))
    connection.execute(update(_META).where(_META.c.key == "schema").values(value=str(SCHEMA)))


def schema_of(connection: Connection, journal: str) -> int | None:
    """Return the schema that a journal has; None where nothing was written into its database yet.

    Raises:
        JournalError: it is not a journal, or one of a newer watcher; `journal` is what the message calls it.
    """
    if not inspect(connection).has_table("meta"):
        return None
    found = str(connection.scalar(select(_META.c.value).where(_META.c.key == "schema")))
    if not found.isdigit():
        raise JournalError(f"journal {journal}: not a journal written by watcher: give it a database of its own")
    if int(found) > SCHEMA:
        raise JournalError(
            f"journal {journal}: written by a newer watcher (schema {found}, this one knows {SCHEMA}): "
            "upgrade watcher, or name another journal"
        )
    return int(found)


def insert_new(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
    """Insert the rows whose unique key is new; return how many were."""
    statement = _insert(connection, table).on_conflict_do_nothing().returning(*table.primary_key)
    return sum(connection.execute(statement.values(**row)).first() is not None for row in rows)


def upsert(connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
    """Insert the rows, each in place of the one with the same primary key."""
    keys = [column.name for column in table.primary_key]
    for row in rows:
        changed = {name: value for name, value in row.items() if name not in keys}
        statement = _insert(connection, table).values(**row)
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))


def _insert(connection: Connection, table: Table) -> Any:
    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)


def note(connection: Connection, at: float, release: str | None, what: str, detail: Mapping[str, Any]) -> None:
    """Write a line of the audit."""
    connection.execute(insert(AUDIT).values(at=at, release=release, what=what, detail=dumps(dict(detail))))

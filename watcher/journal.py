"""What watcher remembers: releases, looks, evidence and the outbox, in one SQL store.

A look is recorded in a single transaction together with the actions it decided, so that an intent is durable
before its effect and nothing is ever half written. The outbox (table `actions`) is claimed row by row:

    intended --claim--> claimed --done--> done
        ^                  |  \\-failed(final)--> failed
        \\--failed(retry)--/       (a newer headline makes an older one `superseded`)

SQLite (WAL, synchronous=FULL) by default, PostgreSQL by URL. Times are epoch seconds, given by the caller.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from sqlalchemy import (
    URL,
    Boolean,
    Column,
    Connection,
    Double,
    Engine,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    StaticPool,
    Table,
    Text,
    UniqueConstraint,
    and_,
    create_engine,
    delete,
    event,
    func,
    insert,
    inspect,
    make_url,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from watcher.errors import JournalError
from watcher.model import (
    Action,
    Alert,
    Arm,
    Calibration,
    Floats,
    Kill,
    Kind,
    Look,
    Observations,
    Outcome,
    Watch,
    as_streams,
)

SCHEMA: Final = 1
LEASE: Final = 60.0
"""Seconds after which a claim that nobody finished may be taken over."""
KEEP: Final = 30 * 86_400.0

_MIGRATIONS: Final[Mapping[int, tuple[str, ...]]] = {}
"""The statements that lead from a schema version to the next; version 1 is the first."""

_BUSY_MILLISECONDS: Final = 10_000
_UPGRADE_LOCK: Final = 7_236_481_905
"""Arbitrary key of the PostgreSQL advisory lock that lets one process at a time create or migrate tables."""

_REMEDIES: Final = (
    (("malformed", "not a database", "disk image"), "the file is damaged: keep a copy, then rescue it with `sqlite3 "
     "FILE .recover | sqlite3 NEW`, or move it away and start afresh"),
    (("connection failed", "authentication"), "check that the server runs, and its address, user and password"),
    (("unable to open",), "check that its directory exists and may be written by this user"),
    (("readonly", "read-only", "permission denied"), "give this user the right to write the file and its directory"),
    (("locked", "busy"), "another process holds it: stop that one, or wait until it is done"),
    (("disk is full", "no space", "disk i/o"), "check the disk: nothing more can be recorded, nor acted on"),
    (("no such table", "no such column", "does not exist"), "this is not a journal written by watcher: give it a "
     "database of its own"),
)  # fmt: skip

_tables = MetaData()
_meta = Table("meta", _tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
_releases = Table(
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
_streams = Table(
    "streams", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("release", "rule", "name"),
)  # fmt: skip
_units = Table(
    "units", _tables,
    Column("id", Integer, primary_key=True),
    Column("release", Integer, nullable=False),
    Column("rule", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("name", Text, nullable=False),
    UniqueConstraint("release", "rule", "arm", "name"),
)  # fmt: skip
_blocks = Table(
    "blocks", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("block_end", Double, primary_key=True),
    Column("baseline", Boolean, nullable=False),
    Column("notes", Text),
)  # fmt: skip
# Clustered by time within a release: a look appends to one place, a release is read and deleted as one range.
_observations = Table(
    "observations", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("block_end", Double, primary_key=True),
    Column("stream", Integer, primary_key=True, autoincrement=False),
    Column("unit", Integer, primary_key=True, autoincrement=False),
    Column("events", Double),
    Column("total", Double),
    sqlite_with_rowid=False,
)  # fmt: skip
_states = Table(
    "states", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("through", Double, nullable=False),
    Column("state", Text, nullable=False),
)  # fmt: skip
_calibrations = Table(
    "calibrations", _tables,
    Column("release", Integer, primary_key=True, autoincrement=False),
    Column("rule", Text, primary_key=True),
    Column("calibration", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("at", Double, nullable=False),
)  # fmt: skip
_looks = Table(
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
_actions = Table(
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
_audit = Table(
    "audit", _tables,
    Column("id", Integer, primary_key=True),
    Column("at", Double, nullable=False),
    Column("release", Text, index=True),
    Column("what", Text, nullable=False),
    Column("detail", Text, nullable=False),
)  # fmt: skip
_memory = Table("memory", _tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))

_UNFINISHED: Final = ("intended", "claimed")
_WATCH: Final = TypeAdapter(Watch)
# A dataclass cannot be given a configuration here, a tuple of it can.
_LOOK: Final = TypeAdapter(tuple[Look], config=ConfigDict(arbitrary_types_allowed=True))
_ALERT: Final = TypeAdapter(Alert)
_KILL: Final = TypeAdapter(Kill)


@dataclass(frozen=True)
class Watched:
    """A watch and what became of it; `status` is "active" until it ends."""

    watch: Watch
    status: str
    noticed_by: str
    at: float
    ended_at: float | None = None
    end_reason: str | None = None


@dataclass(frozen=True)
class LookLine:
    """A look without its streams: enough to list."""

    at: float
    through: float
    blocks: int
    outcome: Outcome
    reason: str
    phase: str
    problem: str | None = None


@dataclass(frozen=True)
class Pending:
    """A row of the outbox.

    `alerter` names the one addressee of a delivery; it is None for a kill and for an alert as it was decided,
    which is done once it has been addressed to every alerter. `claimed_at` is when it was last tried.
    """

    key: str
    release: str
    kind: str
    action: Action
    state: str
    created_at: float
    alerter: str | None = None
    attempts: int = 0
    not_before: float | None = None
    claimed_at: float | None = None
    receipt: Mapping[str, str] | None = None
    error: str | None = None
    finished_at: float | None = None

    def due(self, now: float) -> bool:
        """Tell whether it may be tried now; a clock that stepped back does not hold it up."""
        stepped_back = self.claimed_at is not None and now < self.claimed_at - LEASE
        if self.state == "claimed":
            return stepped_back or self.claimed_at is None or now >= self.claimed_at + LEASE
        return self.state == "intended" and (stepped_back or self.not_before is None or now >= self.not_before)


@dataclass(frozen=True)
class AuditLine:
    """One line of what happened, and to which release."""

    at: float
    release: str | None
    what: str
    detail: Mapping[str, Any]


class Journal:
    """The store of one installation; safe to use from several threads and processes.

    Every method raises JournalError, naming the journal without its password, when the store cannot be read or
    written, or when the release asked for is unknown.
    """

    def __init__(self, engine: Engine, secrets: Iterable[str] = ()) -> None:
        self._engine = engine
        self._secrets = tuple(secrets)
        self.name = _shown(engine.url)
        in_memory = isinstance(engine.pool, StaticPool)
        self._turn: AbstractContextManager[Any] = threading.RLock() if in_memory else nullcontext()

    @classmethod
    def open(cls, url: str, *, check: bool = True) -> Journal:
        """Open a journal, creating or migrating its tables.

        Args:
            url: `sqlite:///watcher.db`, or `postgresql://user@host/database`.
            check: read a SQLite file through and refuse it when it is damaged (about a second per 300 MB).

        Raises:
            JournalError: unreadable, damaged, not a journal, or written by a newer watcher.
        """
        parsed = _parse(url)
        journal = cls(_engine(parsed), _secrets(parsed))
        try:
            journal._prepare(check and parsed.get_backend_name() == "sqlite")
        except BaseException:
            journal.close()
            raise
        return journal

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Releases

    def add_release(self, watch: Watch, at: float, noticed_by: str) -> bool:
        """Start watching a release; False when its id is known already."""
        row = {"id": watch.release.id, "watch": _write(_WATCH, watch), "status": "active"}
        with self._writing() as connection:
            added = self._insert_new(connection, _releases, [{**row, "noticed_by": noticed_by, "at": at}])
            if added:
                _note(connection, at, watch.release.id, "release noticed", {"by": noticed_by})
        return bool(added)

    def watch(self, release_id: str) -> Watch:
        """Return the watch of a release as it stands."""
        with self._reading() as connection:
            return _read(_WATCH, self._release(connection, release_id).watch)

    def watches(self, active: bool | None = None) -> list[Watched]:
        """List watches, oldest first: the active ones, the ended ones, or (None) all."""
        query = select(_releases).order_by(_releases.c.at, _releases.c.n)
        if active is not None:
            query = query.where((_releases.c.status == "active") == active)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [
            Watched(_read(_WATCH, row.watch), row.status, row.noticed_by, row.at, row.ended_at, row.end_reason)
            for row in rows
        ]

    def set_watch(self, watch: Watch) -> None:
        """Replace the watch of a release, for example by one with a further stage."""
        with self._writing() as connection:
            n = self._release(connection, watch.release.id).n
            connection.execute(update(_releases).where(_releases.c.n == n).values(watch=_write(_WATCH, watch)))

    def end_release(self, release_id: str, status: str, reason: str, at: float) -> bool:
        """Stop watching a release; False, and nothing changes, when it had ended already."""
        with self._writing() as connection:
            n = self._release(connection, release_id).n
            ended = connection.execute(
                update(_releases)
                .where(_releases.c.n == n, _releases.c.status == "active")
                .values(status=status, ended_at=at, end_reason=_clean(reason))
            ).rowcount
            if ended:
                _note(connection, at, release_id, "release ended", {"status": status, "reason": reason})
        return bool(ended)

    # Calibrations and looks

    def record_calibrations(
        self, release_id: str, calibrations: Mapping[str, Calibration], at: float
    ) -> dict[str, Calibration]:
        """Freeze what was learnt before exposure, by rule.

        Returns:
            What is frozen now, which is what must be used: for a rule recorded before, the earlier one stays.
        """
        with self._writing() as connection:
            n = self._release(connection, release_id).n
            rows = [
                {"release": n, "rule": rule, "calibration": _dumps(one.to_json()), "digest": one.digest, "at": at}
                for rule, one in calibrations.items()
            ]
            self._insert_new(connection, _calibrations, rows)
            return self._frozen(connection, n)

    def calibrations(self, release_id: str) -> dict[str, Calibration]:
        """Return the frozen calibrations of a release, by rule."""
        with self._reading() as connection:
            return self._frozen(connection, self._release(connection, release_id).n)

    def record_look(self, look: Look) -> None:
        """Record a look and everything it decided: all of it or, after a crash, nothing of it.

        A block recorded before keeps its first counts. An action whose key is known is not intended again. A
        refusal is audited when it begins, not at every look that repeats it.
        """
        with self._writing() as connection:
            release = self._release(connection, look.release)
            n, gauges = release.n, _gauges(release)
            for rule, seen in look.observations.items():
                _fold(connection, n, rule, seen, _gap(rule, gauges))
            self._keep_states(connection, n, look)
            before = self._latest(connection, n) if look.refusals else None
            refused = () if before is None else before.refusals
            connection.execute(insert(_looks).values(_look_row(n, look)))
            self._intend(connection, look.actions, look.at)
            for refusal in look.refusals:
                if refusal not in refused:
                    detail = {"action": refusal.action, "reason": refusal.reason, "detail": refusal.detail}
                    _note(connection, look.at, look.release, "refused", detail)

    def last_look(self, release_id: str) -> Look | None:
        """Return the latest look with the evidence states as they stand, without observations."""
        with self._reading() as connection:
            n = self._release(connection, release_id).n
            latest = self._latest(connection, n)
            states = connection.execute(select(_states.c.rule, _states.c.state).where(_states.c.release == n)).all()
        if latest is None:
            return None
        return replace(latest, states={rule: _loads(state) for rule, state in states})

    def looks(self, release_id: str) -> list[LookLine]:
        """List the looks at a release, oldest first."""
        wanted = ("at", "through", "blocks", "outcome", "reason", "phase", "problem")
        with self._reading() as connection:
            n = self._release(connection, release_id).n
            query = select(*(_looks.c[name] for name in wanted)).where(_looks.c.release == n).order_by(_looks.c.id)
            rows = connection.execute(query).all()
        return [
            LookLine(row.at, row.through, row.blocks, Outcome(row.outcome), row.reason, row.phase, row.problem)
            for row in rows
        ]

    def observations(self, release_id: str) -> dict[str, Observations]:
        """Return the blocks of every look at a release, by rule, as they were recorded.

        Streams stand in the order in which they were first recorded, units are sorted; a unit that sent nothing
        in a block is zero of zero there, or a gap for a gauge.
        """
        with self._reading() as connection:
            release = self._release(connection, release_id)
            return _unfold(connection, release.n, _gauges(release))

    # The outbox

    def intend(self, actions: Sequence[Action], at: float) -> None:
        """Record actions that no look decided; a key that is known already is not intended again."""
        with self._writing() as connection:
            self._intend(connection, actions, at)

    def address(self, key: str, alerters: Sequence[str], now: float) -> None:
        """Turn an alert into one delivery per alerter, keyed `<alert key>#<alerter>`, each with a fate of its own."""
        with self._writing() as connection:
            row = connection.execute(select(_actions).where(_actions.c.key == key)).one()
            self._insert_new(connection, _actions, [
                {"key": f"{key}#{alerter}", "release": row.release, "kind": row.kind, "alerter": alerter,
                 "payload": row.payload, "state": "intended", "attempts": 0, "created_at": row.created_at}
                for alerter in alerters
            ])  # fmt: skip
            receipt = _dumps({"addressed_to": ", ".join(alerters)})
            connection.execute(
                update(_actions)
                .where(_actions.c.key == key)
                .values(state="done", receipt=receipt, claimed_at=now, finished_at=now)
            )

    def unfinished(self) -> list[Pending]:
        """List what is still to be done, due or not: kills first, then oldest first."""
        kills_first = (_actions.c.kind != "kill", _actions.c.id)
        return self._entries(select(_actions).where(_actions.c.state.in_(_UNFINISHED)).order_by(*kills_first))

    def pending(self, now: float) -> list[Pending]:
        """List what may be done now: kills first, then oldest first."""
        return [entry for entry in self.unfinished() if entry.due(now)]

    def actions(self, release: str | None = None) -> list[Pending]:
        """List the whole outbox, or that of one release, oldest first."""
        query = select(_actions).order_by(_actions.c.id)
        return self._entries(query if release is None else query.where(_actions.c.release == release))

    def claim(self, key: str, now: float) -> bool:
        """Take an action, so that nobody else does it; False when somebody has it, or it is not due or finished."""
        tried = _actions.c.claimed_at
        stepped_back = tried > now + LEASE
        free = and_(
            _actions.c.state == "intended",
            or_(_actions.c.not_before.is_(None), _actions.c.not_before <= now, stepped_back),
        )
        expired = and_(_actions.c.state == "claimed", or_(tried <= now - LEASE, stepped_back))
        with self._writing() as connection:
            taken = connection.execute(
                update(_actions)
                .where(_actions.c.key == key, or_(free, expired))
                .values(state="claimed", claimed_at=now, attempts=_actions.c.attempts + 1)
            ).rowcount
        return taken == 1

    def release_claims(self) -> int:
        """Free every claim. For the start of the only process that acts; with several, leases do it."""
        with self._writing() as connection:
            freed = update(_actions).where(_actions.c.state == "claimed").values(state="intended", not_before=None)
            return connection.execute(freed).rowcount

    def done(self, key: str, receipt: Mapping[str, str], now: float) -> None:
        """Record that an action had its effect, and what came back."""
        with self._writing() as connection:
            row = connection.execute(
                update(_actions)
                .where(_actions.c.key == key, _actions.c.state != "done")
                .values(state="done", receipt=_dumps(dict(receipt)), error=None, not_before=None, finished_at=now)
                .returning(_actions.c.kind, _actions.c.release)
            ).first()
            if row is not None and row.kind == "kill":
                _note(connection, now, row.release, "kill done", {"key": key, "receipt": dict(receipt)})

    def failed(self, key: str, error: str, not_before: float | None, now: float) -> None:
        """Record that an action failed: to be tried again at `not_before`, or for good when that is None."""
        final = not_before is None
        with self._writing() as connection:
            row = connection.execute(
                update(_actions)
                .where(_actions.c.key == key, _actions.c.state.in_(_UNFINISHED))
                .values(
                    state="failed" if final else "intended",
                    error=_clean(error),
                    not_before=not_before,
                    finished_at=now if final else None,
                )
                .returning(_actions.c.kind, _actions.c.release)
            ).first()
            if row is not None and (final or row.kind == "kill"):
                what = "kill failed" if row.kind == "kill" else "alert failed"
                _note(connection, now, row.release, what, {"key": key, "error": error, "final": final})

    def supersede(self, keys: Sequence[str], now: float) -> None:
        """Record that alerts need no delivery any more, because newer ones say it better."""
        superseded = update(_actions).where(_actions.c.key.in_(keys), _actions.c.state.in_(_UNFINISHED))
        with self._writing() as connection:
            connection.execute(superseded.values(state="superseded", finished_at=now))

    def receipt_of_headline(self, release: str, alerter: str) -> dict[str, str] | None:
        """Return the receipt of the first headline of a release that this alerter delivered, or None."""
        query = (
            select(_actions.c.receipt)
            .where(
                _actions.c.release == release,
                _actions.c.alerter == alerter,
                _actions.c.kind == "headline",
                _actions.c.state == "done",
            )
            .order_by(_actions.c.finished_at, _actions.c.id)
            .limit(1)
        )
        with self._reading() as connection:
            receipt = connection.scalar(query)
        return None if receipt is None else dict(_loads(receipt))

    # Memory, audit, retention

    def recall(self, key: str) -> Any:
        """Return what was remembered under a key, or None."""
        with self._reading() as connection:
            value = connection.scalar(select(_memory.c.value).where(_memory.c.key == key))
        return None if value is None else _loads(value)

    def remember(self, key: str, value: Any) -> None:
        """Remember a JSON value under a key, in place of what was there."""
        with self._writing() as connection:
            self._upsert(connection, _memory, [{"key": key, "value": _dumps(value)}])

    def audit(self, at: float, release: str | None, what: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down something that happened; kept for ever."""
        with self._writing() as connection:
            _note(connection, at, release, what, detail or {})

    def audit_trail(self, release: str | None = None) -> list[AuditLine]:
        """List what happened, to one release or (None) at all, oldest first."""
        query = select(_audit).order_by(_audit.c.id)
        with self._reading() as connection:
            rows = connection.execute(query if release is None else query.where(_audit.c.release == release)).all()
        return [AuditLine(row.at, row.release, row.what, _loads(row.detail)) for row in rows]

    def prune(self, now: float, keep: float = KEEP) -> int:
        """Drop the observations, states and all looks but the last of releases that ended more than `keep` seconds ago.

        A release goes whole, so that what can be replayed is replayed completely. Actions and audit stay for ever.

        Returns:
            How many releases were pruned.
        """
        folded = select(_blocks.c.release)
        looked_at = select(_looks.c.release).group_by(_looks.c.release).having(func.count() > 1)
        full = or_(_releases.c.n.in_(folded), _releases.c.n.in_(looked_at))
        with self._reading() as connection:
            old = connection.scalars(select(_releases.c.n).where(_releases.c.ended_at < now - keep, full)).all()
        # One transaction a release: a long write would hold up everybody's claims.
        for n in old:
            with self._writing() as connection:
                for table in (_observations, _blocks, _streams, _units, _states):
                    connection.execute(delete(table).where(table.c.release == n))
                last = select(func.max(_looks.c.id)).where(_looks.c.release == n).scalar_subquery()
                connection.execute(delete(_looks).where(_looks.c.release == n, _looks.c.id != last))
        return len(old)

    # Inside

    @contextmanager
    def _transaction(self, writes: bool) -> Iterator[Connection]:
        try:
            with self._turn, self._engine.connect() as connection:
                connection.execution_options(watcher_writes=writes)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise JournalError(self._explained(error)) from error

    def _writing(self) -> AbstractContextManager[Connection]:
        return self._transaction(True)

    def _reading(self) -> AbstractContextManager[Connection]:
        return self._transaction(False)

    def _explained(self, error: SQLAlchemyError) -> str:
        problem = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in self._secrets:
            problem = problem.replace(secret, "***")
        remedy = next((fix for words, fix in _REMEDIES if any(word in problem.lower() for word in words)), None)
        return f"journal {self.name}: {problem}" + (f"; {remedy}" if remedy else "")

    def _prepare(self, check: bool) -> None:
        if check:
            with self._reading() as connection:
                answer = connection.scalar(text("PRAGMA quick_check(1)"))
            if answer != "ok":
                raise JournalError(f"journal {self.name}: {' '.join(str(answer).split())}; {_REMEDIES[0][1]}")
        with self._writing() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({_UPGRADE_LOCK})"))
            if not inspect(connection).has_table("meta"):
                _tables.create_all(connection)
                connection.execute(insert(_meta).values(key="schema", value=str(SCHEMA)))
            self._migrate(connection)

    def _migrate(self, connection: Connection) -> None:
        found = str(connection.scalar(select(_meta.c.value).where(_meta.c.key == "schema")))
        if not found.isdigit():
            raise JournalError(f"journal {self.name}: not a journal written by watcher: give it a database of its own")
        if int(found) > SCHEMA:
            raise JournalError(
                f"journal {self.name}: written by a newer watcher (schema {found}, this one knows {SCHEMA}): "
                "upgrade watcher, or name another journal"
            )
        for version in range(int(found), SCHEMA):
            for statement in _MIGRATIONS[version]:
                connection.execute(text(statement))
        connection.execute(update(_meta).where(_meta.c.key == "schema").values(value=str(SCHEMA)))

    def _release(self, connection: Connection, release_id: str) -> Row[Any]:
        row = connection.execute(select(_releases).where(_releases.c.id == release_id)).first()
        if row is None:
            raise JournalError(
                f"journal {self.name}: release {release_id!r} is unknown; `watcher release list` lists them"
            )
        return row

    def _insert(self, connection: Connection, table: Table) -> Any:
        return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)

    def _insert_new(self, connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> int:
        """Insert the rows whose unique key is new; return how many were."""
        statement = self._insert(connection, table).on_conflict_do_nothing().returning(*table.primary_key)
        return sum(connection.execute(statement.values(**row)).first() is not None for row in rows)

    def _upsert(self, connection: Connection, table: Table, rows: Iterable[Mapping[str, Any]]) -> None:
        keys = [column.name for column in table.primary_key]
        for row in rows:
            changed = {name: value for name, value in row.items() if name not in keys}
            statement = self._insert(connection, table).values(**row)
            connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=changed))

    def _frozen(self, connection: Connection, n: int) -> dict[str, Calibration]:
        query = select(_calibrations.c.rule, _calibrations.c.calibration).where(_calibrations.c.release == n)
        rows = connection.execute(query).all()
        try:
            return {rule: Calibration.from_json(_loads(raw)) for rule, raw in rows}
        except (KeyError, TypeError, ValueError) as error:
            raise JournalError(_unreadable(error)) from error

    def _latest(self, connection: Connection, n: int) -> Look | None:
        query = select(_looks.c.look).where(_looks.c.release == n).order_by(_looks.c.id.desc()).limit(1)
        raw = connection.scalar(query)
        return None if raw is None else _read(_LOOK, raw)[0]

    def _keep_states(self, connection: Connection, n: int, look: Look) -> None:
        self._upsert(connection, _states, [
            {"release": n, "rule": rule, "through": look.through, "state": _dumps(state)}
            for rule, state in look.states.items()
        ])  # fmt: skip

    def _intend(self, connection: Connection, actions: Iterable[Action], at: float) -> None:
        for action in actions:
            row = {
                "key": action.key,
                "release": action.release,
                "kind": "kill" if isinstance(action, Kill) else action.kind,
                "payload": _write(_KILL, action) if isinstance(action, Kill) else _write(_ALERT, action),
                "state": "intended",
                "attempts": 0,
                "created_at": at,
            }
            if self._insert_new(connection, _actions, [row]) and isinstance(action, Kill):
                detail = {name: getattr(action, name) for name in ("key", "switch", "feature", "reason")}
                _note(connection, at, action.release, "kill intended", detail)

    def _entries(self, query: Select[Any]) -> list[Pending]:
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [_entry(row) for row in rows]


# Opening


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
    for secret in (url.password, url.query.get("password"), url.query.get("sslpassword")):
        if secret:
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
    for pragma in (f"busy_timeout={_BUSY_MILLISECONDS}", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    # A transaction that reads first and writes later cannot wait for another writer; one that says so at once can.
    writes = connection.get_execution_options().get("watcher_writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


# Rows


def _look_row(n: int, look: Look) -> dict[str, Any]:
    return {
        "release": n,
        "at": look.at,
        "through": look.through,
        "blocks": look.blocks,
        "outcome": str(look.verdict.outcome),
        "reason": _clean(look.verdict.reason),
        "phase": look.phase,
        "problem": None if look.problem is None else _clean(look.problem),
        "look": _write(_LOOK, (replace(look, states={}, observations={}),)),
    }


def _entry(row: Row[Any]) -> Pending:
    action: Action = _read(_KILL, row.payload) if row.kind == "kill" else _read(_ALERT, row.payload)
    receipt = None if row.receipt is None else _loads(row.receipt)
    return Pending(
        row.key, row.release, row.kind, action, row.state, row.created_at, row.alerter, row.attempts,
        row.not_before, row.claimed_at, receipt, row.error, row.finished_at,
    )  # fmt: skip


def _note(connection: Connection, at: float, release: str | None, what: str, detail: Mapping[str, Any]) -> None:
    connection.execute(insert(_audit).values(at=at, release=release, what=what, detail=_dumps(dict(detail))))


# Observations


def _gauges(release: Row[Any]) -> set[str]:
    return {rule.name for rule in _read(_WATCH, release.watch).rules if rule.kind is Kind.GAUGE}


def _gap(rule: str, gauges: set[str]) -> float:
    """Return what stands for the events of a cell in which nothing was seen."""
    return math.nan if rule in gauges else 0.0


def _fold(connection: Connection, n: int, rule: str, seen: Observations, gap: float) -> None:
    """Add the blocks of one rule that are not known yet; cells in which nothing was seen are left out."""
    mine = (_blocks.c.release == n, _blocks.c.rule == rule)
    first = float(seen.ends.min()) if seen.ends.size else math.inf
    known = set(connection.scalars(select(_blocks.c.block_end).where(*mine, _blocks.c.block_end >= first)))
    new = [at for at, end in enumerate(seen.ends.tolist()) if end not in known]
    if not new:
        return
    scope = {"release": n, "rule": rule}
    ids = _numbered(connection, _streams, scope, [_dumps(stream) for stream in seen.streams])
    cells: list[dict[str, Any]] = []
    for name, arm in (("treatment", seen.treatment), ("baseline", seen.baseline)):
        if arm is not None:
            units = _numbered(connection, _units, {**scope, "arm": name}, arm.units)
            cells += _cells(n, ids, units, seen.ends[new], arm.events[:, :, new], arm.total[:, :, new], gap)
    notes = [_dumps(seen.notes) if seen.notes else None] + [None] * (len(new) - 1)
    shared = {**scope, "baseline": seen.baseline is not None}
    ends = seen.ends[new].tolist()
    connection.execute(
        insert(_blocks), [{**shared, "block_end": end, "notes": note} for end, note in zip(ends, notes, strict=True)]
    )
    if cells:
        connection.execute(insert(_observations), cells)


def _numbered(connection: Connection, table: Table, scope: Mapping[str, Any], names: Sequence[str]) -> list[int]:
    """Return the ids of names within a scope, numbering new ones in the order in which they come."""

    def known() -> dict[str, int]:
        mine = [table.c[key] == value for key, value in scope.items()]
        return {row.name: row.id for row in connection.execute(select(table.c.name, table.c.id).where(*mine))}

    ids = known()
    fresh = [name for name in names if name not in ids]
    if fresh:
        connection.execute(insert(table), [{**scope, "name": name} for name in fresh])
        ids = known()
    return [ids[name] for name in names]


def _cells(
    n: int, streams: Sequence[int], units: Sequence[int], ends: Floats, events: Floats, total: Floats, gap: float
) -> list[dict[str, Any]]:
    """Return rows of the cells that say something; arrays have shape [stream, unit, block], NaN becomes NULL."""
    empty = np.isnan(events) if gap != gap else events == gap
    where = np.nonzero(~empty | (total != 0))
    return [
        {"release": n, "block_end": end, "stream": streams[s], "unit": units[u],
         "events": None if e != e else e, "total": None if t != t else t}
        for s, u, end, e, t in zip(
            where[0].tolist(), where[1].tolist(), ends[where[2]].tolist(),
            events[where].tolist(), total[where].tolist(), strict=True,
        )
    ]  # fmt: skip


def _unfold(connection: Connection, n: int, gauges: set[str]) -> dict[str, Observations]:
    """Rebuild the observations of a release, by rule; the inverse of `_fold`."""
    blocks: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(_blocks).where(_blocks.c.release == n).order_by(_blocks.c.block_end)):
        blocks.setdefault(row.rule, []).append(row)
    streams = connection.execute(select(_streams).where(_streams.c.release == n).order_by(_streams.c.id)).all()
    units = connection.execute(select(_units).where(_units.c.release == n)).all()
    cells = _all_cells(connection, n)
    found = {}
    for rule, rows in blocks.items():
        ends = np.array([row.block_end for row in rows])
        mine = [row for row in streams if row.rule == rule]
        ids = np.array([row.id for row in mine], dtype=float)
        arms = [
            _dense(
                sorted((row.name, row.id) for row in units if row.rule == rule and row.arm == arm),
                ids, ends, cells, _gap(rule, gauges),
            )
            for arm in ("treatment", "baseline")
        ]  # fmt: skip
        notes = [note for row in rows if row.notes for note in _loads(row.notes)]
        labels = as_streams(_loads(row.name) for row in mine)
        baseline = arms[1] if any(row.baseline for row in rows) else None
        found[rule] = Observations(labels, ends, arms[0], baseline, tuple(dict.fromkeys(notes)))
    return found


def _all_cells(connection: Connection, n: int) -> Floats:
    """Return all cells of a release, shape [cell, 5]: stream, unit, block end, events, total."""
    query = select(*(_observations.c[name] for name in ("stream", "unit", "block_end", "events", "total")))
    found = connection.execution_options(yield_per=50_000).execute(query.where(_observations.c.release == n))
    parts = [np.array([tuple(row) for row in part], dtype=float) for part in found.partitions()]
    return np.concatenate(parts) if parts else np.empty((0, 5))


def _dense(units: Sequence[tuple[str, int]], streams: Floats, ends: Floats, cells: Floats, gap: float) -> Arm:
    """Spread the cells of some units (name, id) over [stream, unit, block]."""
    ids = np.array([number for _, number in units], dtype=float)
    order = np.argsort(ids)
    here = cells[np.isin(cells[:, 1], ids)]
    at = (
        np.searchsorted(streams, here[:, 0]),
        order[np.searchsorted(ids[order], here[:, 1])],
        np.searchsorted(ends, here[:, 2]),
    )
    events = np.full((len(streams), len(units), len(ends)), gap)
    total = np.zeros_like(events)
    events[at], total[at] = here[:, 3], here[:, 4]
    return Arm(tuple(name for name, _ in units), events, total)


# JSON: strict, and exact for every float

_T = TypeVar("_T")


def _write(adapter: TypeAdapter[_T], value: _T) -> str:
    return _dumps(adapter.dump_python(value, warnings="none"))


def _read(adapter: TypeAdapter[_T], raw: str) -> _T:
    try:
        return adapter.validate_python(_loads(raw))
    except ValueError as error:
        raise JournalError(_unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    problem = " ".join(str(error).split())
    return f"journal: a record cannot be read ({problem}); was it written by another version of watcher?"


def _dumps(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except ValueError:
        return json.dumps(_tagged(value), allow_nan=False)


def _loads(raw: str) -> Any:
    return json.loads(raw, object_hook=_untagged)


def _plain(value: Any) -> Any:
    """Return numpy's scalars and arrays as plain ones."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be kept in the journal")


def _tagged(value: Any) -> Any:
    """Return JSON types with infinities and NaN, which JSON has no word for, as {"$float": "inf"}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, Mapping):
        return {key: _tagged(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else _tagged(_plain(value))


def _untagged(found: dict[str, Any]) -> Any:
    return float(found["$float"]) if set(found) == {"$float"} else found


def _clean(words: str) -> str:
    """Return text that every database can hold: no NUL, no half of a surrogate pair."""
    return words.replace("\0", "").encode("utf-8", "replace").decode()

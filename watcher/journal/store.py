"""The journal itself: what can be asked of it and told to it, one transaction a method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, delete, func, insert, or_, select, update

from watcher.errors import JournalError
from watcher.journal import outbox
from watcher.journal.cells import fold, unfold
from watcher.journal.codec import LOOK, WATCH, clean, dumps, loads, read, read_calibration, write
from watcher.journal.holding import Hold, holder, holding
from watcher.journal.opening import Database, existing_database, open_database
from watcher.journal.records import AuditLine, Listed, LookLine, Pending, Tally, Watched
from watcher.journal.tables import (
    ACTIONS,
    AUDIT,
    BLOCKS,
    CALIBRATIONS,
    LAYOUTS,
    LOOKS,
    MEMORY,
    OBSERVATIONS,
    RELEASES,
    STATES,
    STREAMS,
    UNITS,
    insert_new,
    note,
    upsert,
)
from watcher.model import Action, Calibration, Labels, Look, Observations, Outcome, Watch

KEEP: Final = 30 * 86_400.0
"""Seconds after its end for which a release can be replayed."""

ROOM: Final = 1 << 16
"""Bytes that a large look needs."""


class Journal:
    """The store of one installation; safe to use from several threads and processes.

    Every method raises JournalError, naming the journal without its password, when the store cannot be read or
    written, or when the release asked for is unknown.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._reading, self._writing = database.reading, database.writing
        self._newest: dict[int, tuple[int, Look]] = {}
        """By number of a release, its latest look as it was read or recorded here, states included, and its row."""
        self.name = database.name

    @classmethod
    def open(cls, url: str, *, check: bool = True) -> Journal:
        """Open a journal, creating or migrating its tables.

        Args:
            url: `sqlite:///watcher.db`, or `postgresql://user@host/database`.
            check: read a SQLite file through and refuse it when it is damaged (about a second per 300 MB).

        Raises:
            JournalError: unreadable, damaged, not a journal, or written by a newer watcher.
        """
        return cls(open_database(url, check=check))

    @classmethod
    def existing(cls, url: str) -> Journal | None:
        """Open a journal without creating or migrating it; None where there is none yet.

        Raises:
            JournalError: unreadable, damaged, not a journal, or written by another version of watcher.
        """
        database = existing_database(url)
        return None if database is None else cls(database)

    def close(self) -> None:
        """Give all connections back."""
        self._database.close()

    def hold(self) -> AbstractContextManager[Hold]:
        """Hold the journal, so that no other daemon acts on it, until the end of the context or of the process.

        Raises:
            Refused: another process holds it; who, since when, and what to do.
        """
        return holding(self._database)

    def held_by(self) -> str:
        """Return which process holds the journal, in words; empty where none does. Nothing is taken."""
        return holder(self._database)

    def free(self) -> int | None:
        """Return the bytes free on the disk of the journal; None where that cannot be known from here."""
        return self._database.free()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Releases

    def add_release(self, watch: Watch, at: float, noticed_by: str) -> bool:
        """Start watching a release; False when its id is known already."""
        row = {"id": watch.release.id, "watch": write(WATCH, watch), "status": "active"}
        with self._writing() as connection:
            added = insert_new(connection, RELEASES, [{**row, "noticed_by": noticed_by, "at": at}])
            if added:
                note(connection, at, watch.release.id, "release noticed", {"by": noticed_by})
        return bool(added)

    def watch(self, release_id: str) -> Watch:
        """Return the watch of a release as it stands."""
        with self._reading() as connection:
            return read(WATCH, self._release(connection, release_id).watch)

    def watched(self, release_id: str) -> Watched | None:
        """Return a release by its id; None where there is none of it."""
        with self._reading() as connection:
            row = connection.execute(select(RELEASES).where(RELEASES.c.id == release_id)).first()
        return None if row is None else _watched(row)

    def watches(self, active: bool | None = None) -> list[Watched]:
        """List watches, oldest first: the active ones, the ended ones, or (None) all."""
        query = select(RELEASES).order_by(RELEASES.c.at, RELEASES.c.n)
        if active is not None:
            query = query.where((RELEASES.c.status == "active") == active)
        with self._reading() as connection:
            rows = connection.execute(query).all()
        return [_watched(row) for row in rows]

    def listed(self, active: bool, most: int, before: int | None = None, named: str = "") -> list[Listed]:
        """List releases with how each stands, the latest first: those being watched, or those whose watch is over.

        Args:
            active: whether their watch goes on.
            most: how many.
            before: the number of a release: only those that were noticed before it, for the next page of a list.
            named: only those whose id contains it, whatever the case.
        """
        each = LOOKS.alias()
        newest = select(func.max(each.c.id)).where(each.c.release == RELEASES.c.n).scalar_subquery()
        looked = (LOOKS.c.at.label("looked_at"), LOOKS.c.outcome, LOOKS.c.reason, LOOKS.c.phase)
        columns = (
            RELEASES.c.n,
            RELEASES.c.id.label("release"),
            RELEASES.c.status,
            RELEASES.c.at,
            RELEASES.c.ended_at,
            RELEASES.c.end_reason,
        )
        query = select(*columns, *looked).select_from(RELEASES).outerjoin(LOOKS, LOOKS.c.id == newest)
        query = query.where((RELEASES.c.status == "active") == active).order_by(RELEASES.c.n.desc())
        if before is not None:
            query = query.where(RELEASES.c.n < before)
        if named:
            query = query.where(RELEASES.c.id.icontains(named, autoescape=True))
        with self._reading() as connection:
            rows = connection.execute(query.limit(most)).all()
        found = [dict(row._mapping) for row in rows]
        return [Listed(**each | {"outcome": each["outcome"] and Outcome(each["outcome"])}) for each in found]

    def mark(self, release_id: str | None = None) -> str:
        """Return what changes whenever anything of a release does, or (None) of any: looks, actions, audit."""
        looks, audit = select(func.max(LOOKS.c.id)), select(func.max(AUDIT.c.id))
        acted = select(func.count(), func.sum(ACTIONS.c.attempts), func.max(ACTIONS.c.finished_at))
        with self._reading() as connection:
            if release_id is not None:
                row = self._release(connection, release_id)
                looks = looks.where(LOOKS.c.release == row.n)
                audit = audit.where(AUDIT.c.release == release_id)
                both = (release_id, read(WATCH, row.watch).release.message)
                acted = acted.where(ACTIONS.c.release.in_(both))
            parts = (connection.scalar(looks), connection.scalar(audit), *connection.execute(acted).one())
        return "-".join("0" if part is None else f"{part:.3f}".rstrip("0").rstrip(".") for part in parts)

    def set_watch(self, watch: Watch) -> None:
        """Replace the watch of a release, for example by one with a further stage."""
        with self._writing() as connection:
            n = self._release(connection, watch.release.id).n
            connection.execute(update(RELEASES).where(RELEASES.c.n == n).values(watch=write(WATCH, watch)))

    def end_release(self, release_id: str, status: str, reason: str, at: float) -> bool:
        """Stop watching a release; False, and nothing changes, when it had ended already."""
        with self._writing() as connection:
            n = self._release(connection, release_id).n
            ended = connection.execute(
                update(RELEASES)
                .where(RELEASES.c.n == n, RELEASES.c.status == "active")
                .values(status=status, ended_at=at, end_reason=clean(reason))
            ).rowcount
            if ended:
                note(connection, at, release_id, "release ended", {"status": status, "reason": reason})
        self._newest.pop(n, None)
        return bool(ended)

    def _release(self, connection: Connection, release_id: str) -> Row[Any]:
        row = connection.execute(select(RELEASES).where(RELEASES.c.id == release_id)).first()
        if row is None:
            raise JournalError(
                f"journal {self.name}: release {release_id!r} is unknown; `watcher release list` lists them"
            )
        return row

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
                {"release": n, "rule": rule, "calibration": dumps(one.to_json()), "digest": one.digest, "at": at}
                for rule, one in calibrations.items()
            ]
            insert_new(connection, CALIBRATIONS, rows)
            return _frozen(connection, n)

    def calibrations(self, release_id: str) -> dict[str, Calibration]:
        """Return the frozen calibrations of a release, by rule."""
        with self._reading() as connection:
            return _frozen(connection, self._release(connection, release_id).n)

    def record_look(self, look: Look) -> None:
        """Record a look and everything it decided: all of it or, after a crash, nothing of it.

        A block recorded before keeps its first counts. An action whose key is known is not intended again. A
        refusal is audited when it begins, not at every look that repeats it.
        """
        with self._writing() as connection:
            release = self._release(connection, look.release)
            fold(connection, release.n, read(WATCH, release.watch), look.observations)
            states = [
                {"release": release.n, "rule": rule, "through": look.through, "state": dumps(state)}
                for rule, state in look.states.items()
            ]
            upsert(connection, STATES, states)
            before = known = self._known(connection, release.n)
            if before is None and look.refusals:
                latest = connection.execute(_latest(release.n)).first()
                before = None if latest is None else read(LOOK, latest.look)[0]
            refused = () if before is None else before.refusals
            row = connection.execute(insert(LOOKS).values(_look_row(release.n, look))).inserted_primary_key
            outbox.intend(connection, look.actions, look.at)
            for refusal in look.refusals:
                if refusal not in refused:
                    detail = {"action": refusal.action, "reason": refusal.reason, "detail": refusal.detail}
                    note(connection, look.at, look.release, "refused", detail)
        if known is not None and row is not None:
            whole = replace(look, states={**known.states, **look.states}, observations={})
            self._newest[release.n] = int(row[0]), whole

    def last_look(self, release_id: str, *, states: bool = True) -> Look | None:
        """Return the latest look, without observations; with the evidence states as they stand, unless nobody asks."""
        with self._reading() as connection:
            release = self._release(connection, release_id)
            known = self._known(connection, release.n)
            if known is not None:
                return known if states else replace(known, states={})
            row = connection.execute(_latest(release.n)).first()
            if row is None or not states:
                return None if row is None else read(LOOK, row.look)[0]
            kept = select(STATES.c.rule, STATES.c.state).where(STATES.c.release == release.n)
            found = connection.execute(kept).all()
        latest = replace(read(LOOK, row.look)[0], states={rule: loads(state) for rule, state in found})
        if release.status == "active":
            self._newest[release.n] = row.id, latest
        return latest

    def state(self, release_id: str, rule: str) -> Mapping[str, Any] | None:
        """Return the evidence state of one rule of a release as it stands, or None."""
        with self._reading() as connection:
            mine = (STATES.c.release == self._release(connection, release_id).n, STATES.c.rule == rule)
            found = connection.scalar(select(STATES.c.state).where(*mine))
        return None if found is None else loads(found)

    def _known(self, connection: Connection, n: int) -> Look | None:
        """Return the latest look at release number `n`, if it is the one that was read or recorded here last."""
        row, known = self._newest.get(n, (None, None))
        newest = None if row is None else connection.scalar(select(func.max(LOOKS.c.id)).where(LOOKS.c.release == n))
        return known if newest == row else None

    def looks(self, release_id: str) -> list[LookLine]:
        """List the looks at a release, oldest first."""
        wanted = ("at", "through", "blocks", "outcome", "reason", "phase", "problem")
        with self._reading() as connection:
            n = self._release(connection, release_id).n
            query = select(*(LOOKS.c[name] for name in wanted)).where(LOOKS.c.release == n).order_by(LOOKS.c.id)
            rows = connection.execute(query).all()
        try:
            return [
                LookLine(row.at, row.through, row.blocks, Outcome(row.outcome), row.reason, row.phase, row.problem)
                for row in rows
            ]
        except ValueError as error:
            raise self._database.damaged(f"the looks at {release_id} cannot be read ({error})") from error

    def observations(self, release_id: str, only: tuple[str, Labels] | None = None) -> dict[str, Observations]:
        """Return the blocks of every look at a release, by rule, as they were recorded.

        With `only`, a rule and the labels of a stream, nothing else is read, which is quick however many there are.
        Streams stand in the order in which they were first recorded, units are sorted; a unit that sent nothing
        in a block is zero of zero there, or a gap for a gauge. Where blocks have different buckets, they are put
        together until the edges agree; a block of counts without any leaves none.
        """
        with self._reading() as connection:
            release = self._release(connection, release_id)
            try:
                return unfold(connection, release.n, read(WATCH, release.watch), only)
            except (LookupError, TypeError, ValueError) as error:
                problem = f"the counts of {release_id} do not fit together ({error})"
                raise self._database.damaged(problem) from error

    # The outbox

    def intend(self, actions: Sequence[Action], at: float, audited: AuditLine | None = None) -> int:
        """Record actions that no look decided; return how many are new: a known key is not intended again.

        Where any is new, a line of audit is written with them, or nothing is.
        """
        with self._writing() as connection:
            new = outbox.intend(connection, actions, at)
            if new and audited is not None:
                note(connection, audited.at, audited.release, audited.what, audited.detail)
            return new

    def switched(self, finished_since: float | None = None) -> list[Pending]:
        """List kills and promotions, oldest first: all, or those that were finished since then."""
        with self._reading() as connection:
            return outbox.switched(connection, finished_since)

    def address(self, keys: Sequence[str], alerters: Sequence[str], now: float) -> None:
        """Turn alerts into one delivery per alerter, keyed `<alert key>#<alerter>`, each with a fate of its own."""
        with self._writing() as connection:
            outbox.address(connection, keys, alerters, now)

    def unfinished(self, alerts: bool = True) -> list[Pending]:
        """List what is still to be done, due or not: kills first, then oldest first; without `alerts` no messages."""
        with self._reading() as connection:
            return outbox.unfinished(connection, alerts)

    def pending(self, now: float, alerts: bool = True) -> list[Pending]:
        """List what may be done now, likewise."""
        return [entry for entry in self.unfinished(alerts) if entry.due(now)]

    def actions(self, release: str | None = None) -> list[Pending]:
        """List the whole outbox, or that of one release, oldest first."""
        with self._reading() as connection:
            return outbox.entries(connection, release)

    def tallies(self) -> list[Tally]:
        """Count the outbox by kind and state; an alert that was addressed counts by its deliveries, and not itself."""
        with self._reading() as connection:
            return outbox.tallies(connection)

    def claim(self, key: str, now: float) -> bool:
        """Take an action, so that nobody else does it; False when somebody has it, or it is not due or finished."""
        with self._writing() as connection:
            return bool(outbox.claim(connection, [key], now))

    def take(self, keys: Sequence[str], now: float) -> set[str]:
        """Claim several actions; return the keys of those that were free."""
        with self._writing() as connection:
            return outbox.claim(connection, keys, now)

    def release_claims(self) -> int:
        """Free every claim. For the start of the only process that acts; with several, leases do it."""
        with self._writing() as connection:
            return outbox.release_claims(connection)

    def done(self, key: str, receipt: Mapping[str, str], now: float) -> None:
        """Record that an action had its effect, and what came back."""
        with self._writing() as connection:
            outbox.done(connection, [key], receipt, now)

    def failed(self, key: str, error: str, not_before: float | None, now: float) -> None:
        """Record that an action failed: to be tried again at `not_before`, or for good when that is None."""
        with self._writing() as connection:
            outbox.failed(connection, [key], error, not_before, now)

    def delivered(self, keys: Sequence[str], receipt: Mapping[str, str], now: float) -> None:
        """Record that one message told several alerts, and what came back: of all of them, or of none."""
        with self._writing() as connection:
            outbox.done(connection, keys, receipt, now)

    def undelivered(self, keys: Sequence[str], error: str, not_before: float | None, now: float) -> None:
        """Record that one message for several alerts failed, as `failed` does for one action."""
        with self._writing() as connection:
            outbox.failed(connection, keys, error, not_before, now)

    def supersede(self, keys: Sequence[str], now: float) -> None:
        """Record that alerts need no delivery any more, because newer ones say it better."""
        with self._writing() as connection:
            outbox.supersede(connection, keys, now)

    def receipt_of_headline(self, release: str, alerter: str) -> dict[str, str] | None:
        """Return the receipt of the latest headline of a release that this alerter delivered, or None.

        The latest, because it says what people were told last: an alerter that cannot edit needs that to know
        whether there is anything new to tell.
        """
        with self._reading() as connection:
            return outbox.receipt_of_headline(connection, release, alerter)

    # Memory, audit, retention

    def prove(self) -> None:
        """Write as much as a look would, and take it back: raises where that cannot be recorded."""
        self._database.refuse_full_disk()
        with self._writing() as connection:
            upsert(connection, MEMORY, [{"key": "room", "value": "." * ROOM}])
            connection.execute(delete(MEMORY).where(MEMORY.c.key == "room"))

    def recall(self, key: str) -> Any:
        """Return what was remembered under a key, or None."""
        with self._reading() as connection:
            value = connection.scalar(select(MEMORY.c.value).where(MEMORY.c.key == key))
        return None if value is None else loads(value)

    def remember(self, key: str, value: Any, audited: AuditLine | None = None) -> None:
        """Remember a JSON value under a key, in place of what was there; with it, or not at all, a line of audit."""
        with self._writing() as connection:
            upsert(connection, MEMORY, [{"key": key, "value": dumps(value)}])
            if audited is not None:
                note(connection, audited.at, audited.release, audited.what, audited.detail)

    def audit(self, at: float, release: str | None, what: str, detail: Mapping[str, Any] | None = None) -> None:
        """Write down something that happened; kept for ever."""
        with self._writing() as connection:
            note(connection, at, release, what, detail or {})

    def audit_trail(self, release: str | None = None) -> list[AuditLine]:
        """List what happened, to one release or (None) at all, oldest first."""
        query = select(AUDIT).order_by(AUDIT.c.id)
        with self._reading() as connection:
            rows = connection.execute(query if release is None else query.where(AUDIT.c.release == release)).all()
        return [AuditLine(row.at, row.release, row.what, loads(row.detail)) for row in rows]

    def prune(self, now: float, keep: float = KEEP) -> int:
        """Drop the observations, states and all looks but the last of releases that ended more than `keep` seconds ago.

        A release goes whole, so that what can be replayed is replayed completely. Actions and audit stay for ever.

        Returns:
            How many releases were pruned.
        """
        folded = select(BLOCKS.c.release)
        looked_at = select(LOOKS.c.release).group_by(LOOKS.c.release).having(func.count() > 1)
        full = or_(RELEASES.c.n.in_(folded), RELEASES.c.n.in_(looked_at))
        with self._reading() as connection:
            old = connection.scalars(select(RELEASES.c.n).where(RELEASES.c.ended_at < now - keep, full)).all()
        # One transaction a release: a long write would hold up everybody's claims.
        for n in old:
            with self._writing() as connection:
                for table in (OBSERVATIONS, BLOCKS, STREAMS, UNITS, LAYOUTS, STATES):
                    connection.execute(delete(table).where(table.c.release == n))
                last = select(func.max(LOOKS.c.id)).where(LOOKS.c.release == n).scalar_subquery()
                connection.execute(delete(LOOKS).where(LOOKS.c.release == n, LOOKS.c.id != last))
        return len(old)


def _watched(row: Row[Any]) -> Watched:
    return Watched(read(WATCH, row.watch), row.status, row.noticed_by, row.at, row.ended_at, row.end_reason)


def _frozen(connection: Connection, n: int) -> dict[str, Calibration]:
    query = select(CALIBRATIONS.c.rule, CALIBRATIONS.c.calibration).where(CALIBRATIONS.c.release == n)
    return {rule: read_calibration(raw) for rule, raw in connection.execute(query).all()}


def _latest(n: int) -> Select[Any]:
    return select(LOOKS).where(LOOKS.c.release == n).order_by(LOOKS.c.id.desc()).limit(1)


def _look_row(n: int, look: Look) -> dict[str, Any]:
    return {
        "release": n,
        "at": look.at,
        "through": look.through,
        "blocks": look.blocks,
        "outcome": str(look.verdict.outcome),
        "reason": clean(look.verdict.reason),
        "phase": look.phase,
        "problem": None if look.problem is None else clean(look.problem),
        "look": write(LOOK, (replace(look, states={}, observations={}),)),
    }

"""The rows of the table `actions`, from intent to receipt.

An intent is durable before its effect. Whoever performs it claims the row first, and one that died while it had it
holds it up for a lease, no longer:

    intended --claim--> claimed --done--> done
        ^                  |  \\-failed(final)--> failed
        \\--failed(retry)--/       (a newer headline makes an older one `superseded`)

Every function works inside the caller's transaction; what they promise stands at the methods of `Journal`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, Select, and_, case, func, or_, select, update

from watcher.journal.codec import ALERT, KILL, PROMOTE, clean, dumps, loads, read, write
from watcher.journal.records import LEASE, Pending, Tally
from watcher.journal.tables import ACTIONS, insert_new, note
from watcher.model import Action, Kill, Promote

_SWITCHED: Final[Mapping[str, TypeAdapter[Any]]] = {"kill": KILL, "promote": PROMOTE}
"""Kinds of action that turn something, and are audited; all others tell people."""

_UNFINISHED: Final = ACTIONS.c.state.in_(("intended", "claimed"))


def intend(connection: Connection, actions: Iterable[Action], at: float) -> int:
    """Add the actions whose keys are new; return how many were."""
    added = 0
    for action in actions:
        kind = "kill" if isinstance(action, Kill) else "promote" if isinstance(action, Promote) else action.kind
        row = {
            "key": action.key,
            "release": action.release,
            "kind": kind,
            "payload": write(_SWITCHED.get(kind, ALERT), action),
            "state": "intended",
            "attempts": 0,
            "created_at": at,
        }
        new = insert_new(connection, ACTIONS, [row])
        added += new
        if new and kind in _SWITCHED:
            told = asdict(action)
            detail = {name: told[name] for name in told if name not in ("release", "decided_at")}
            note(connection, at, action.release, f"{kind} intended", detail)
    return added


def address(connection: Connection, keys: Sequence[str], alerters: Sequence[str], now: float) -> None:
    """Add a row per alert and alerter, each with a fate of its own, and finish those they came from."""
    rows = connection.execute(select(ACTIONS).where(ACTIONS.c.key.in_(keys)).order_by(ACTIONS.c.id)).all()
    insert_new(connection, ACTIONS, [
        {"key": f"{row.key}#{alerter}", "release": row.release, "kind": row.kind, "alerter": alerter,
         "payload": row.payload, "state": "intended", "attempts": 0, "created_at": row.created_at}
        for row in rows
        for alerter in alerters
    ])  # fmt: skip
    receipt = dumps({"addressed_to": ", ".join(alerters)})
    connection.execute(
        update(ACTIONS)
        .where(ACTIONS.c.key.in_(keys))
        .values(state="done", receipt=receipt, claimed_at=now, finished_at=now)
    )


def unfinished(connection: Connection, alerts: bool) -> list[Pending]:
    """List what is still to be done: kills first, then promotions, then oldest first; alerts only if asked for."""
    order = case((ACTIONS.c.kind == "kill", 0), (ACTIONS.c.kind == "promote", 1), else_=2)
    query = select(ACTIONS).where(_UNFINISHED).order_by(order, ACTIONS.c.id)
    return _entries(connection, query if alerts else query.where(ACTIONS.c.kind.in_(_SWITCHED)))


def entries(connection: Connection, release: str | None) -> list[Pending]:
    """List all rows, or those of one release, oldest first."""
    query = select(ACTIONS).order_by(ACTIONS.c.id)
    return _entries(connection, query if release is None else query.where(ACTIONS.c.release == release))


def switched(connection: Connection, since: float | None) -> list[Pending]:
    """List what turns something, oldest first; with `since` only what was finished then or later."""
    query = select(ACTIONS).where(ACTIONS.c.kind.in_(_SWITCHED)).order_by(ACTIONS.c.id)
    return _entries(connection, query if since is None else query.where(ACTIONS.c.finished_at >= since))


def tallies(connection: Connection) -> list[Tally]:
    """Count the rows by kind and state; an alert that was addressed counts by its deliveries, and not itself."""
    query = (
        select(ACTIONS.c.kind, ACTIONS.c.state, func.count(), func.min(ACTIONS.c.created_at))
        .where(or_(ACTIONS.c.kind.in_(_SWITCHED), ACTIONS.c.alerter.is_not(None), _UNFINISHED))
        .group_by(ACTIONS.c.kind, ACTIONS.c.state)
        .order_by(ACTIONS.c.kind, ACTIONS.c.state)
    )
    return [Tally(*row) for row in connection.execute(query)]


def _entries(connection: Connection, query: Select[Any]) -> list[Pending]:
    return [_entry(row) for row in connection.execute(query)]


def _entry(row: Row[Any]) -> Pending:
    action: Action = read(_SWITCHED.get(row.kind, ALERT), row.payload)
    receipt = None if row.receipt is None else loads(row.receipt)
    return Pending(
        row.key, row.release, row.kind, action, row.state, row.created_at, row.alerter, row.attempts,
        row.not_before, row.claimed_at, receipt, row.error, row.finished_at,
    )  # fmt: skip


def claim(connection: Connection, keys: Sequence[str], now: float) -> set[str]:
    """Take those rows that `Pending.due` would say are due; this is the same condition in SQL."""
    tried = ACTIONS.c.claimed_at
    stepped_back = tried > now + LEASE
    free = and_(
        ACTIONS.c.state == "intended",
        or_(ACTIONS.c.not_before.is_(None), ACTIONS.c.not_before <= now, stepped_back),
    )
    expired = and_(ACTIONS.c.state == "claimed", or_(tried <= now - LEASE, stepped_back))
    taken = connection.execute(
        update(ACTIONS)
        .where(ACTIONS.c.key.in_(keys), or_(free, expired))
        .values(state="claimed", claimed_at=now, attempts=ACTIONS.c.attempts + 1)
        .returning(ACTIONS.c.key)
    )
    return set(taken.scalars())


def release_claims(connection: Connection) -> int:
    """Free every claim; return how many there were."""
    freed = update(ACTIONS).where(ACTIONS.c.state == "claimed").values(state="intended", not_before=None)
    return connection.execute(freed).rowcount


def done(connection: Connection, keys: Sequence[str], receipt: Mapping[str, str], now: float) -> None:
    """Finish rows, whoever has claimed them meanwhile: the effect is there."""
    rows = connection.execute(
        update(ACTIONS)
        .where(ACTIONS.c.key.in_(keys), ACTIONS.c.state != "done")
        .values(state="done", receipt=dumps(dict(receipt)), error=None, not_before=None, finished_at=now)
        .returning(ACTIONS.c.key, ACTIONS.c.kind, ACTIONS.c.release)
    ).all()
    for row in rows:
        if row.kind in _SWITCHED:
            note(connection, now, row.release, f"{row.kind} done", {"key": row.key, "receipt": dict(receipt)})


def failed(connection: Connection, keys: Sequence[str], error: str, not_before: float | None, now: float) -> None:
    """Give rows back until `not_before`, or finish them when that is None."""
    final = not_before is None
    rows = connection.execute(
        update(ACTIONS)
        .where(ACTIONS.c.key.in_(keys), _UNFINISHED)
        .values(
            state="failed" if final else "intended",
            error=clean(error),
            not_before=not_before,
            finished_at=now if final else None,
        )
        .returning(ACTIONS.c.key, ACTIONS.c.kind, ACTIONS.c.release)
    ).all()
    for row in rows:
        if final or row.kind in _SWITCHED:
            what = f"{row.kind} failed" if row.kind in _SWITCHED else "alert failed"
            note(connection, now, row.release, what, {"key": row.key, "error": error, "final": final})


def supersede(connection: Connection, keys: Sequence[str], now: float) -> None:
    """Finish rows that newer ones made pointless."""
    superseded = update(ACTIONS).where(ACTIONS.c.key.in_(keys), _UNFINISHED)
    connection.execute(superseded.values(state="superseded", finished_at=now))


def receipt_of_headline(connection: Connection, release: str, alerter: str) -> dict[str, str] | None:
    """Find the receipt of the newest headline that was delivered."""
    # By number, not by time: headlines are delivered in the order of their intents, and clocks step back.
    query = (
        select(ACTIONS.c.receipt)
        .where(
            ACTIONS.c.release == release,
            ACTIONS.c.alerter == alerter,
            ACTIONS.c.kind == "headline",
            ACTIONS.c.state == "done",
        )
        .order_by(ACTIONS.c.id.desc())
        .limit(1)
    )
    receipt = connection.scalar(query)
    return None if receipt is None else dict(loads(receipt))

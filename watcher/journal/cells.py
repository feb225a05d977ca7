"""Observations folded into rows, one per cell that says something, and back.

A cell is one stream, unit and block. Streams and units are numbered per release, so that a row is six numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Table, insert, select

from watcher.journal.codec import dumps, loads
from watcher.journal.tables import BLOCKS, OBSERVATIONS, STREAMS, UNITS
from watcher.model import Arm, Floats, Kind, Observations, Watch, as_streams


def fold(connection: Connection, n: int, watch: Watch, seen: Mapping[str, Observations]) -> None:
    """Add the blocks of release number `n` that are not known yet; a block recorded before keeps its first counts."""
    gaps = _gaps(watch)
    for rule, observations in seen.items():
        _fold(connection, n, rule, observations, gaps.get(rule, 0.0))


def _gaps(watch: Watch) -> dict[str, float]:
    """Return, by rule, what stands for the events of a cell in which nothing was seen."""
    return {rule.name: math.nan if rule.kind is Kind.GAUGE else 0.0 for rule in watch.rules}


def _fold(connection: Connection, n: int, rule: str, seen: Observations, gap: float) -> None:
    """Add the new blocks of one rule; cells in which nothing was seen are left out."""
    mine = (BLOCKS.c.release == n, BLOCKS.c.rule == rule)
    first = float(seen.ends.min()) if seen.ends.size else math.inf
    known = set(connection.scalars(select(BLOCKS.c.block_end).where(*mine, BLOCKS.c.block_end >= first)))
    new = [at for at, end in enumerate(seen.ends.tolist()) if end not in known]
    if not new:
        return
    scope = {"release": n, "rule": rule}
    ids = _numbered(connection, STREAMS, scope, [dumps(stream) for stream in seen.streams])
    cells: list[dict[str, Any]] = []
    for name, arm in (("treatment", seen.treatment), ("baseline", seen.baseline)):
        if arm is not None:
            units = _numbered(connection, UNITS, {**scope, "arm": name}, arm.units)
            cells += _cells(n, ids, units, seen.ends[new], arm.events[:, :, new], arm.total[:, :, new], gap)
    notes = [dumps(seen.notes) if seen.notes else None] + [None] * (len(new) - 1)
    shared = {**scope, "baseline": seen.baseline is not None}
    ends = seen.ends[new].tolist()
    connection.execute(
        insert(BLOCKS), [{**shared, "block_end": end, "notes": note} for end, note in zip(ends, notes, strict=True)]
    )
    if cells:
        connection.execute(insert(OBSERVATIONS), cells)


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


def unfold(connection: Connection, n: int, watch: Watch) -> dict[str, Observations]:
    """Rebuild the observations of release number `n`, by rule; the inverse of `fold`."""
    gaps = _gaps(watch)
    blocks: dict[str, list[Row[Any]]] = {}
    for row in connection.execute(select(BLOCKS).where(BLOCKS.c.release == n).order_by(BLOCKS.c.block_end)):
        blocks.setdefault(row.rule, []).append(row)
    streams = connection.execute(select(STREAMS).where(STREAMS.c.release == n).order_by(STREAMS.c.id)).all()
    units = connection.execute(select(UNITS).where(UNITS.c.release == n)).all()
    cells = _all_cells(connection, n)
    found = {}
    for rule, rows in blocks.items():
        ends = np.array([row.block_end for row in rows])
        mine = [row for row in streams if row.rule == rule]
        ids = np.array([row.id for row in mine], dtype=float)
        arms = [
            _dense(
                sorted((row.name, row.id) for row in units if row.rule == rule and row.arm == arm),
                ids, ends, cells, gaps.get(rule, 0.0),
            )
            for arm in ("treatment", "baseline")
        ]  # fmt: skip
        notes = [note for row in rows if row.notes for note in loads(row.notes)]
        labels = as_streams(loads(row.name) for row in mine)
        baseline = arms[1] if any(row.baseline for row in rows) else None
        found[rule] = Observations(labels, ends, arms[0], baseline, tuple(dict.fromkeys(notes)))
    return found


def _all_cells(connection: Connection, n: int) -> Floats:
    """Return all cells of a release, shape [cell, 5]: stream, unit, block end, events, total."""
    query = select(*(OBSERVATIONS.c[name] for name in ("stream", "unit", "block_end", "events", "total")))
    found = connection.execution_options(yield_per=50_000).execute(query.where(OBSERVATIONS.c.release == n))
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

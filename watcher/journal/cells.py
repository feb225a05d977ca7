"""Observations folded into rows, one per cell that says something, and back.

A cell is one stream, unit and block. Streams, units and layouts of buckets are numbered per release, so that a row is
six numbers, and for a latency what was counted in each bucket.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, Table, insert, select

from watcher.journal.codec import dumps, loads, name_of
from watcher.journal.tables import BLOCKS, LAYOUTS, OBSERVATIONS, STREAMS, UNITS
from watcher.model import Arm, Floats, Kind, Labels, Observations, Watch, as_streams

Cell = tuple[int, float, int, int, float | None, float | None, str | None]
_COLUMNS: Final = ("release", "block_end", "stream", "unit", "events", "total", "buckets")
"""What a cell says, in order."""


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
    ids = _numbered(connection, STREAMS, scope, [name_of(stream) for stream in seen.streams])
    cells: list[Cell] = []
    for name, arm in (("treatment", seen.treatment), ("baseline", seen.baseline)):
        if arm is not None:
            units = _numbered(connection, UNITS, {**scope, "arm": name}, arm.units)
            cells += _cells(n, ids, units, seen.ends[new], arm.picked(blocks=new), gap)
    notes = [dumps(seen.notes) if seen.notes else None] + [None] * (len(new) - 1)
    layout = _numbered(connection, LAYOUTS, scope, [name_of(seen.edges)])[0] if seen.edges else None
    shared = {**scope, "baseline": seen.baseline is not None, "layout": layout}
    ends = seen.ends[new].tolist()
    connection.execute(
        insert(BLOCKS), [{**shared, "block_end": end, "notes": note} for end, note in zip(ends, notes, strict=True)]
    )
    if cells:
        # A look may have thousands: made for them by SQLAlchemy, their parameters would cost more than all the rest.
        mark = "?" if connection.dialect.paramstyle == "qmark" else "%s"
        marks = ", ".join([mark] * len(_COLUMNS))
        connection.exec_driver_sql(f"INSERT INTO {OBSERVATIONS.name} ({', '.join(_COLUMNS)}) VALUES ({marks})", cells)


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


def _cells(n: int, streams: Sequence[int], units: Sequence[int], ends: Floats, arm: Arm, gap: float) -> list[Cell]:
    """Return rows of the cells that say something; NaN becomes NULL."""
    empty = np.isnan(arm.events) if gap != gap else arm.events == gap
    where = np.nonzero(~empty | (arm.total != 0))
    buckets = [None] * len(where[0]) if arm.buckets is None else [_packed(counts) for counts in arm.buckets[where]]
    return [
        (n, end, streams[s], units[u], None if e != e else e, None if t != t else t, counts)
        for s, u, end, e, t, counts in zip(
            where[0].tolist(), where[1].tolist(), ends[where[2]].tolist(),
            arm.events[where].tolist(), arm.total[where].tolist(), buckets, strict=True,
        )
    ]  # fmt: skip


def _packed(counts: Floats) -> str:
    """Return the counts of a cell's buckets as JSON: how many empty ones come first, then the rest up to the last.

    >>> _packed(np.array([0.0, 0.0, 3.0, 0.5, 0.0]))
    '[2,3,0.5]'
    """
    filled = np.flatnonzero(counts)
    first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, -1)
    return dumps([first, *(int(c) if c.is_integer() else c for c in counts[first : last + 1].tolist())])


def _unpacked(packed: Sequence[str], buckets: int) -> Floats:
    """Return the counts of every cell, shape [cell, bucket]; the inverse of `_packed`."""
    counts = np.zeros((len(packed), buckets))
    for row, text in zip(counts, packed, strict=True):
        first, *own = loads(text)
        row[first : first + len(own)] = own
    return counts


@dataclass(frozen=True)
class _Cells:
    """Cells as they were recorded: `numbers` [cell, 5] are stream, unit, block end, events and total."""

    numbers: Floats
    buckets: NDArray[np.object_]

    def only(self, cells: NDArray[np.bool_]) -> _Cells:
        return _Cells(self.numbers[cells], self.buckets[cells])


def unfold(
    connection: Connection, n: int, watch: Watch, only: tuple[str, Labels] | None = None
) -> dict[str, Observations]:
    """Rebuild the observations of release number `n`, by rule; the inverse of `fold`.

    Args:
        connection: to read with.
        n: number of the release.
        watch: of the release.
        only: the rule and the labels of the one stream that is asked for.
    """
    gaps = _gaps(watch)
    blocks: dict[str, list[Row[Any]]] = {}
    own_blocks, own_streams = BLOCKS.c.release == n, STREAMS.c.release == n
    if only is not None:
        own_blocks &= BLOCKS.c.rule == only[0]
        own_streams &= (STREAMS.c.rule == only[0]) & (STREAMS.c.name == name_of(only[1]))
    for row in connection.execute(select(BLOCKS).where(own_blocks).order_by(BLOCKS.c.block_end)):
        blocks.setdefault(row.rule, []).append(row)
    streams = connection.execute(select(STREAMS).where(own_streams).order_by(STREAMS.c.id)).all()
    units = connection.execute(select(UNITS).where(UNITS.c.release == n)).all()
    layouts = connection.execute(select(LAYOUTS.c.id, LAYOUTS.c.name).where(LAYOUTS.c.release == n)).all()
    edges = {row.id: tuple(loads(row.name)) for row in layouts}
    cells = _cells_of(connection, n, None if only is None else [row.id for row in streams])
    found = {}
    for rule, rows in blocks.items():
        mine = [row for row in streams if row.rule == rule]
        ids = np.array([row.id for row in mine], dtype=float)
        own = cells.only(np.isin(cells.numbers[:, 0], ids))
        numbers = {arm: _units(units, rule, arm) for arm in ("treatment", "baseline")}
        shape = _Shape(ids, np.array([row.block_end for row in rows]), [edges.get(row.layout, ()) for row in rows])
        common = shape.common_edges(own)
        arms = {arm: _dense(own, numbers[arm], shape, common, gaps.get(rule, 0.0)) for arm in numbers}
        notes = [note for row in rows if row.notes for note in loads(row.notes)]
        found[rule] = Observations(
            as_streams(loads(row.name) for row in mine),
            shape.ends,
            arms["treatment"],
            arms["baseline"] if any(row.baseline for row in rows) else None,
            tuple(dict.fromkeys(notes)),
            edges=common,
        )
    return found


def _units(units: Sequence[Row[Any]], rule: str, arm: str) -> list[tuple[str, int]]:
    return sorted((row.name, row.id) for row in units if row.rule == rule and row.arm == arm)


def _cells_of(connection: Connection, n: int, streams: Sequence[int] | None) -> _Cells:
    """Return the cells of a release: of some of its streams, or of all."""
    query = select(*(OBSERVATIONS.c[name] for name in ("stream", "unit", "block_end", "events", "total", "buckets")))
    query = query.where(OBSERVATIONS.c.release == n)
    if streams is not None:
        query = query.where(OBSERVATIONS.c.stream.in_(streams))
    found = connection.execution_options(yield_per=50_000).execute(query)
    numbers, buckets = [np.empty((0, 5))], [np.empty(0, dtype=object)]
    for part in found.partitions():
        numbers.append(np.array([row[:5] for row in part], dtype=float))
        buckets.append(np.array([row[5] for row in part], dtype=object))
    return _Cells(np.concatenate(numbers), np.concatenate(buckets))


@dataclass(frozen=True)
class _Shape:
    """What the arrays of one rule span: ids of streams, block ends, and the bucket edges of every block."""

    streams: Floats
    ends: Floats
    edges: Sequence[tuple[float, ...]]

    def blocks(self, cells: _Cells) -> NDArray[np.intp]:
        """Return the block of every cell."""
        return np.searchsorted(self.ends, cells.numbers[:, 2])

    def common_edges(self, cells: _Cells) -> tuple[float, ...]:
        """Return the edges that all blocks with cells have; blocks in which nothing was counted have no say."""
        seen = [self.edges[block] for block in np.unique(self.blocks(cells)).tolist()]
        return tuple(edge for edge in (seen or [()])[0] if all(edge in other for other in set(seen)))


def _dense(cells: _Cells, units: Sequence[tuple[str, int]], shape: _Shape, edges: tuple[float, ...], gap: float) -> Arm:
    """Spread the cells of some units (name, id) over [stream, unit, block], and their buckets onto `edges`."""
    ids = np.array([number for _, number in units], dtype=float)
    order = np.argsort(ids)
    here = cells.only(np.isin(cells.numbers[:, 1], ids))
    at = (
        np.searchsorted(shape.streams, here.numbers[:, 0]),
        order[np.searchsorted(ids[order], here.numbers[:, 1])],
        shape.blocks(here),
    )
    events = np.full((len(shape.streams), len(units), len(shape.ends)), gap)
    total = np.zeros_like(events)
    events[at], total[at] = here.numbers[:, 3], here.numbers[:, 4]
    arm = Arm(tuple(name for name, _ in units), events, total)
    if not edges:
        return arm
    buckets = np.zeros((*events.shape, len(edges)))
    layouts = {layout: number for number, layout in enumerate(dict.fromkeys(shape.edges))}
    which = np.array([layouts[layout] for layout in shape.edges])[at[2]]
    for layout, number in layouts.items():
        own = which == number
        if own.any():
            counts = _unpacked(here.buckets[own].tolist(), len(layout))
            if layout != edges:
                cumulative = np.cumsum(counts, axis=1)[:, [layout.index(edge) for edge in edges]]
                counts = np.diff(cumulative, axis=1, prepend=0.0)
            buckets[tuple(place[own] for place in at)] = counts
    return replace(arm, buckets=buckets)

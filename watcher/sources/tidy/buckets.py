"""The bucket rows of a table, put together to histograms of one layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watcher.model import Floats
from watcher.sources.tidy.checks import Mask, Place
from watcher.sources.tidy.columns import NO_COUNT, Numbers, Text


@dataclass(frozen=True)
class Histograms:
    """Cumulative buckets of one layout: `rows` [histogram] positions, `edges` [edge], `counts` [histogram, edge]."""

    rows: NDArray[np.int64]
    edges: Floats
    counts: Floats
    dropped: int


def histograms(
    rows: NDArray[np.int64], ids: NDArray[np.int64], le: Text, counts: Numbers, place: Place, *, drop: bool
) -> Histograms:
    """Put the bucket rows of a table together.

    Args:
        rows: positions of the bucket rows, shape [row].
        ids: which histogram each belongs to, dense, shape [row].
        le: upper edges, as text, of the whole table.
        counts: cumulative counts of the whole table.
        drop: leave out histograms with a missing count instead of refusing them.

    Raises:
        DataError: an edge that is not a number, no +Inf, differing edges, counts that are missing or decrease.
    """
    edge = np.array([_edge(value) for value in le.values])[le.codes[rows]]
    _refuse_row(
        np.isnan(edge),
        rows,
        place,
        "le",
        lambda row: f"{le.at(row)!r} is not the upper edge of a bucket; +Inf is the last",
    )
    order = np.lexsort((edge, ids))
    sizes = np.bincount(ids)
    begins = np.cumsum(sizes) - sizes
    _refuse_mixed(begins, sizes, rows[order], edge[order], place)
    shape = (len(sizes), int(sizes[0]))
    where, edges = rows[order].reshape(shape), edge[order][: shape[1]]
    if not np.isinf(edges[-1]):
        raise place.refusal(
            "the histogram has no +Inf bucket, so its requests cannot be counted", "le", int(where[0, -1])
        )
    table = counts.values[where]
    hollow = np.isnan(table)
    if not drop:
        _refuse_row(hollow.ravel(), where.ravel(), place, counts.name, lambda _: NO_COUNT)
    keep = np.asarray(~hollow.any(axis=1), dtype=bool)
    falls = table < np.column_stack([np.zeros(len(table)), table[:, :-1]])
    _refuse_row(
        (falls & keep[:, None]).ravel(),
        where.ravel(),
        place,
        counts.name,
        lambda row: (
            f"{counts.values[row]:g} at le={le.at(row)} is below the bucket before it; buckets are cumulative over le"
        ),
    )
    return Histograms(where[keep, 0], edges, table[keep], int(hollow.sum()))


def _edge(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return np.nan


def _refuse_row(bad: Mask, rows: NDArray[np.int64], place: Place, column: str, problem: Callable[[int], str]) -> None:
    if bad.any():
        position = int(rows[bad].min())
        raise place.refusal(problem(position), column, position)


def _refuse_mixed(
    begins: NDArray[np.int64], sizes: NDArray[np.int64], rows: NDArray[np.int64], edge: Floats, place: Place
) -> None:
    odd = sizes != sizes[0]
    if not odd.any():
        table = edge.reshape(len(sizes), -1)
        odd = (table != table[0]).any(axis=1)
    if not odd.any():
        return
    at = int(np.argmax(odd))

    def layout(histogram: int) -> str:
        edges = edge[begins[histogram] : begins[histogram] + sizes[histogram]]
        return ", ".join("+Inf" if np.isinf(value) else f"{value:g}" for value in edges)

    raise place.refusal(
        f"mixed bucket layouts: edges {layout(at)} here, edges {layout(0)} at row {place.row(int(rows[begins[0]]))}",
        "le",
        int(rows[begins[at]]),
    )

"""The bucket rows of a table, put together to histograms of one layout; and the buckets of raw durations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from watcher.model import Floats, Rule, Worse
from watcher.sources.tidy.checks import Mask, Place
from watcher.sources.tidy.columns import NO_COUNT, Numbers, Text

_WIDEST = float(np.log(1.1))
_EXACT = 1e-9


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


def duration_edges(rule: Rule) -> tuple[float, ...]:
    """Return the upper edges of the buckets that raw durations are put into; none without a finite objective.

    From a 64th of the objective to 16 times it, the objective among them, in steps of at most 10 %, a whole number of
    which is the margin: what is slower by just the margin is then told from what is not.

    >>> from watcher.model import Kind, Selector
    >>> edges = duration_edges(Rule("r", Kind.LATENCY, Selector("d"), objective=2.0, margin=0.25))
    >>> len(edges), edges.index(2.0), round(edges[edges.index(2.0) + 3], 9)
    (94, 55, 2.5)
    """
    objective = rule.objective
    if objective is None or not 0 < objective < np.inf:
        return ()
    margin = 0.0 if rule.absolute or rule.worse is Worse.LOWER else np.log1p(rule.margin)
    step = margin / np.ceil(margin / _WIDEST - _EXACT) if margin > 0 else _WIDEST
    below, above = int(np.log(64.0) / step + _EXACT), int(np.log(16.0) / step + _EXACT)
    finite = objective * np.exp(step * np.arange(-below, above + 1))
    finite[below] = objective
    return (*finite.tolist(), float("inf"))


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

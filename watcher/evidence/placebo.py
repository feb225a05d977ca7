"""Placebos: the same analysis at times when nothing was released, and what it may say there by chance.

A release is judged by the largest evidence it reaches at any look until its horizon. So is every placebo, over its
full horizon and never over a part of it, however early the look: the running maximum of the release only grows towards
what the placebos are compared at, so that the conformal p of *any* look, the share of placebos (the release counted as
one) whose evidence reached as far, is below alpha with a probability of at most alpha. That takes windows that are
exchangeable, and no model of the noise at all.

A history supports no alpha below 1 / (M + 1); M counts the placebos that do not overlap, because windows that share
their hours share what they say. One p is used for a whole release: of each placebo time the largest evidence of all
streams counts, each less the price of its share of alpha.

References:
    Vovk, Gammerman, Shafer (2005), Algorithmic Learning in a Random World: conformal p-values.
    Abadie, Diamond, Hainmueller (2010), JASA 105: placebos in comparative case studies.

Example:
    >>> reached = np.array([0.5, 1.0, 2.0, 4.0])
    >>> p_value(reached, 3.0), p_value(reached, 5.0), bar(reached, 0.2), bar(reached, 0.1)
    (0.4, 0.2, 4.0, None)
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from watcher.evidence.innovations import Innovations
from watcher.evidence.memory import Memory, filled, running_means
from watcher.evidence.spikes import Spikes, lately
from watcher.model import Flags, Floats

MOST = 200
"""Placebos, at most: more say little more, and cost as much each."""

STEP = 1800.0
"""Seconds between placebos, at least."""

WHOLE = 0.8
"""Part of a placebo's blocks that must have been measured."""

USUAL = 0.05
"""Share of placebos whose evidence is taken for unusual, by which the kinds of evidence are put on one scale."""

LOUD = 0.5
"""What spikes weigh against shifts: they must be twice as far beyond what is usual of them."""

FAR = 100.0
"""Squared deviations beyond which one block says no more of the hours it lies in."""

LEAST = 0.5
"""Nats that unusual evidence is at least taken for."""

ROWS = 20_000
"""Stream x placebo rows replayed at once: what fits the processor's cache."""

Index = NDArray[np.intp]


def possible(size: int, horizon: int, before: int, allowed: Flags) -> Index:
    """Return at which points of a history a placebo may begin, the latest first.

    Args:
        size: points of the history; the release follows it.
        horizon: blocks every placebo lasts, as the release will.
        before: blocks that must lie before each.
        allowed: False where something was released or went wrong, [point].
    """
    found = np.arange(size - horizon, before - 1, -1, dtype=np.intp)
    wrong = np.concatenate([[0], np.cumsum(~allowed)])
    return np.asarray(found[wrong[found + horizon] == wrong[found - before]])


def starts(size: int, horizon: int, before: int, block: float, allowed: Flags) -> Index:
    """Return at which of them placebos begin: half an hour apart, or so far that there are not too many.

    Args:
        size, horizon, before, allowed: as for `possible`.
        block: seconds.
    """
    span = size - horizon - before + 1
    step = max(1, int(np.ceil(STEP / block)), int(np.ceil(span / MOST)))
    found = possible(size, horizon, before, allowed)
    return np.asarray(found[(size - horizon - found) % step == 0])


def measured(residuals: Floats, found: Index, horizon: int) -> Flags:
    """Tell which placebos enough was measured of, by any stream, to say something, [placebo].

    Args:
        residuals: of the whole history, [stream, point]; NaN is a gap.
        found: where placebos begin, [placebo].
        horizon: blocks every placebo lasts.
    """
    enough = np.zeros(found.size, dtype=bool)
    for row in residuals:
        seen = np.concatenate([[0], np.cumsum(np.isfinite(row))])
        enough |= seen[found + horizon] - seen[found] >= WHOLE * horizon
    return enough


def apart(found: Index, horizon: int) -> int:
    """Return how many of some placebos do not overlap.

    >>> apart(np.array([300, 240, 180, 60]), 120)
    3
    """
    count, edge = 0, None
    for start in found.tolist():
        if edge is None or start + horizon <= edge:
            count, edge = count + 1, start
    return count


def replay(
    method: Innovations, spikes: Spikes, residuals: Floats, noise: Floats, found: Index, counted: Flags, before: int
) -> tuple[Floats, Floats]:
    """Return the largest evidence of a shift and of spikes that every placebo reached, both [stream, placebo].

    -inf where too little of a placebo was measured.

    Args:
        method, spikes: as the release will be judged.
        residuals, noise: of the whole history, [stream, point].
        found: where placebos begin, [placebo].
        counted: which of the blocks since exposure count, [block].
        before: blocks before each start that are its last hours.
    """
    streams, placebos = len(residuals), found.size
    shift, loud = np.full((streams, placebos), -np.inf), np.full((streams, placebos), -np.inf)
    chunk = max(1, ROWS // max(placebos, 1))
    for low in range(0, streams, chunk):
        rows = slice(low, min(streams, low + chunk))
        some = _rows(method, rows)
        shift[rows], loud[rows] = _replay(some, spikes, residuals[rows], noise[rows], found, counted, before)
    return shift, loud


def _rows(method: Innovations, rows: slice | Index) -> Innovations:
    """Return the method for some of its streams."""
    memory = Memory(method.memory.weights[rows], method.memory.sigma[rows])
    return replace(method, memory=memory, drift=method.drift[rows], unit=method.unit[rows])


def _replay(
    method: Innovations, spikes: Spikes, residuals: Floats, noise: Floats, found: Index, counted: Flags, before: int
) -> tuple[Floats, Floats]:
    streams, placebos, horizon = len(residuals), found.size, counted.size
    scaled = residuals / noise
    means = running_means(filled(scaled), np.zeros_like(method.memory.weights))[:, found]
    each = _rows(method, np.repeat(np.arange(streams), placebos))
    recent = scaled[:, found[:, None] + np.arange(-before, 0)]
    level, spread = lately(recent, np.ones((streams, 1)))
    level, spread = level.reshape(-1), spread.reshape(-1)
    shifts, bets = each.start(streams * placebos, means.reshape(streams * placebos, -1)), spikes.start(level.size)
    top, loudest = np.full(level.size, -np.inf), np.full(level.size, -np.inf)
    measured = np.zeros(level.size)
    for block in range(horizon):
        value, scale = (array[:, found + block].reshape(-1) for array in (scaled, noise))
        shifts = each.step(shifts, value, each.unit / scale, 0.0, bool(counted[block]))
        measured += np.isfinite(value)
        if counted[block]:
            bets = spikes.step(bets, (value - level) / spread)
            top, loudest = np.maximum(top, each.log_worse(shifts)), np.maximum(loudest, spikes.log_e(bets))
    seen = measured >= WHOLE * horizon
    found_shift, found_loud = (np.where(seen, x, -np.inf).reshape(streams, placebos) for x in (top, loudest))
    return found_shift, found_loud


def unrest(deviations: Floats, ends: Index, blocks: int) -> Floats:
    """Return how far the blocks before each point deviate, as a root mean square, [stream, point].

    Args:
        deviations: in standard deviations, [stream, block]; NaN is a gap.
        ends: points of the history, each the first after the blocks it is asked of.
        blocks: how many.
    """
    seen = np.isfinite(deviations)
    squares = np.where(seen, np.minimum(deviations**2, FAR), 0.0)
    sums, count = (np.concatenate([np.zeros((len(x), 1)), np.cumsum(x, axis=1)], axis=1) for x in (squares, seen))
    found = [each[:, ends] - each[:, ends - blocks] for each in (sums, count)]
    return np.asarray(np.sqrt(found[0] / np.maximum(found[1], 1.0)))


def unusual(reached: Floats, share: float = USUAL) -> Floats:
    """Return the evidence that at most a share of placebos reach, [stream]; the most there was, of a few; NaN of none.

    Args:
        reached: [stream, placebo]; -inf where there was none.
    """
    ordered = np.sort(reached, axis=1)
    count = np.isfinite(reached).sum(axis=1)
    at = np.minimum(np.ceil((1 - share) * (count + 1)).astype(np.intp), count) - 1
    where = np.clip(reached.shape[1] - count + at, 0, max(reached.shape[1] - 1, 0))
    if not reached.shape[1]:
        return np.full(len(reached), np.nan)
    return np.where(count > 0, np.take_along_axis(ordered, where[:, None], axis=1)[:, 0], np.nan)


def scale_of(reached: Floats, weight: float = 1.0) -> Floats:
    """Return what evidence is multiplied by to be on the common scale, [stream]: its unusual becomes log(1 / USUAL).

    Args:
        reached: [stream, placebo].
        weight: what this kind of evidence weighs against others.
    """
    usually = np.maximum(unusual(reached), LEAST)
    return np.asarray(np.nan_to_num(weight * np.log(1 / USUAL) / usually))


def bar(reached: Floats, alpha: float) -> float | None:
    """Return the evidence a release must exceed for its p to be at most alpha; None where no history supports that.

    Args:
        reached: by each placebo, [placebo].
        alpha: the chance of calling a good release regressed.
    """
    at = int(np.ceil((1 - alpha) * (reached.size + 1) - 1e-9))
    return float(np.sort(reached)[at - 1]) if at <= reached.size else None


def p_value(reached: Floats, now: float) -> float:
    """Return the share of placebos, the release counted as one, that reached what the release has."""
    return float((1 + (reached >= now).sum()) / (reached.size + 1))

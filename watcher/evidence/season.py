"""What is usual at this time of the day and of the week, learnt without the day it is asked of.

Every point of a history is held against the *other* days: the median (of counts: the pooled rate) of the same local
minute, smoothed over half an hour; and, from two weeks on, how its weekday differs from the other days, from the same
weekday of the other weeks and smoothed over three hours, because a few weeks hold too little to say more. A release
is held against the past in the same way as any point of the past, which is what makes placebos comparable with it.

Days are local: a daily habit follows the clock through a change to daylight saving. Days whose level is off (a
holiday nobody named, an outage) are left out of what the others are held against.

References:
    Hyndman, Athanasopoulos (2021), Forecasting: Principles and Practice, ch. 3: classical decomposition.
    Efron, Tibshirani (1993), An Introduction to the Bootstrap, ch. 11: the jackknife.

Example:
    A morning twice as high as the rest is expected of the third day, too.

    >>> import numpy as np
    >>> ends = 3600.0 * np.arange(1, 73)
    >>> values = np.where((ends / 3600 - 1) % 24 == 8, 2.0, 1.0)[None]
    >>> expected = usual(values, Calendar.of(ends, 3600.0))
    >>> float(expected[0, 48 + 8]), float(expected[0, 48 + 9])
    (2.0, 1.0)
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from watcher.model import Flags, Floats

DAY = 86_400.0

FROM = 1.5
"""Days of history from which there is a season at all."""

WEEKLY = 14
"""Days of history from which weekdays are told apart."""

SMOOTH, SMOOTH_WEEKDAY = 1800.0, 3 * 3600.0
"""Seconds over which what is usual of a minute, and how a weekday differs, are smoothed."""

OFF, OFF_FROM = 3.0, 7
"""A day is off if its level lies this many robust deviations from the others'; told from so many days on."""

PRIOR = 4.0
"""Events that a rate of counts is pulled towards the overall rate by."""

Index = NDArray[np.intp]


@dataclass(frozen=True)
class Calendar:
    """Where each point lies: `day` [point] local day from 0 on, `phase` [point] block of it, `weekday` [day]."""

    day: Index
    phase: Index
    weekday: Index
    block: float

    @classmethod
    def of(cls, ends: Floats, block: float, zone: str = "UTC") -> Calendar:
        """Place the blocks that end at `ends` (epoch seconds, ascending) on the local calendar of an IANA zone."""
        local = ends - block / 2 + _offsets(ends, zone)
        days = np.floor(local / DAY).astype(np.intp)
        first = int(days[0]) if days.size else 0
        count = int(days[-1]) - first + 1 if days.size else 0
        phase = np.floor((local - days * DAY) / block).astype(np.intp)
        # 1970-01-01 was a Thursday.
        return cls(days - first, phase, (first + np.arange(count) + 3) % 7, block)

    @property
    def phases(self) -> int:
        """Blocks of a day."""
        return int(np.ceil(DAY / self.block))

    def grid(self, values: Floats) -> Floats:
        """Lay values [stream, point] out as [stream, day, phase]; NaN where there is none."""
        out = np.full((len(values), self.weekday.size, self.phases), np.nan)
        out[:, self.day, self.phase] = values
        return out

    def points(self, grid: Floats) -> Floats:
        """Return what a grid holds at each point, [stream, point]."""
        return np.asarray(grid[:, self.day, self.phase])

    def blocks(self, seconds: float) -> int:
        """Return how many blocks to smooth over: an odd number."""
        return max(1, int(seconds / self.block) // 2 * 2 + 1)


def _offsets(ends: Floats, zone: str) -> Floats:
    """Return the offset from UTC at each point, seconds; looked up once an hour, which is when clocks change."""
    if zone == "UTC" or not ends.size:
        return np.zeros(ends.size)
    hours = np.floor(ends / 900.0)
    distinct, where = np.unique(hours, return_inverse=True)
    where_is = ZoneInfo(zone)
    offsets = [dt.datetime.fromtimestamp(each * 900.0, where_is).utcoffset() for each in distinct.tolist()]
    return np.array([0.0 if each is None else each.total_seconds() for each in offsets])[where]


def usual(values: Floats, calendar: Calendar) -> Floats:
    """Return what is usual at each point, from the other days; NaN where no other day says.

    Args:
        values: a measurement on a scale where differences mean something, [stream, point]; NaN is a gap.
        calendar: of the points.
    """
    grid = calendar.grid(values)
    profile = _smoothed(_without_own_day(grid), calendar.blocks(SMOOTH))
    off = _off(grid - profile, calendar)
    if off.any():
        grid[off] = np.nan
        profile = _smoothed(_without_own_day(grid), calendar.blocks(SMOOTH))
    if calendar.weekday.size <= WEEKLY:
        return calendar.points(profile)
    left, apart = grid - profile, np.zeros_like(profile)
    for weekday in range(7):
        own = calendar.weekday == weekday
        apart[:, own] = np.nan_to_num(_without_own_day(left[:, own]))
    return calendar.points(profile + _smoothed(apart, calendar.blocks(SMOOTH_WEEKDAY)))


def usual_rate(events: Floats, total: Floats, calendar: Calendar) -> Floats:
    """Return the usual rate of events at each point, from the other days.

    Args:
        events, total: counts, [stream, point]; a gap is zero of zero.
        calendar: of the points.
    """
    some, whole = (np.nan_to_num(calendar.grid(each)) for each in (events, total))
    overall = some.sum(axis=(1, 2), keepdims=True) / np.maximum(whole.sum(axis=(1, 2), keepdims=True), 1.0)
    rate = _pooled(some, whole, overall, calendar.blocks(SMOOTH))
    level = np.log((some.sum(axis=2) + PRIOR) / ((rate * whole).sum(axis=2) + PRIOR))
    off = _off(np.where(whole.sum(axis=2) > 0, level, np.nan)[..., None], calendar)
    if off.any():
        some[off], whole[off] = 0.0, 0.0
        rate = _pooled(some, whole, overall, calendar.blocks(SMOOTH))
    if calendar.weekday.size > WEEKLY:
        for weekday in range(7):
            own = calendar.weekday == weekday
            foreseen = (rate * whole)[:, own]
            rate[:, own] *= _pooled(some[:, own], foreseen, np.ones_like(overall), calendar.blocks(SMOOTH_WEEKDAY))
    return calendar.points(rate)


def _pooled(events: Floats, total: Floats, towards: Floats, width: int) -> Floats:
    """Return events per total of the other days around each phase, pulled `towards` a rate, [stream, day, phase]."""
    sums = [_around(each.sum(axis=1, keepdims=True) - each, width) for each in (events, total)]
    prior = PRIOR / np.maximum(towards, 1e-12)
    return (sums[0] + PRIOR) / (sums[1] + np.where(towards > 0, prior, 1.0))


def _without_own_day(grid: Floats) -> Floats:
    """Return, for each day, the median of the other days at the same phase, [stream, day, phase]; NaN is a gap."""
    count = np.isfinite(grid).sum(axis=1, keepdims=True)
    ordered, top = np.sort(grid, axis=1), grid.shape[1] - 1
    left = count - np.isfinite(grid)

    def rest(at: Index) -> Floats:
        """Return the value at a rank of the others: one further where the own value is not above that rank's."""
        here, above = (np.take_along_axis(ordered, np.clip(each, 0, top), axis=1) for each in (at, at + 1))
        return np.where(grid <= here, above, here)

    return np.where(left > 0, (rest((left - 1) // 2) + rest(left // 2)) / 2, np.nan)


def _off(residual: Floats, calendar: Calendar) -> Flags:
    """Tell which days are off, [stream, day]: their level is far from that of other days, and of its own weekday."""
    busy: Flags = np.asarray(np.isfinite(residual).any(axis=2))
    if residual.shape[1] < OFF_FROM or not busy.any():
        return np.zeros(busy.shape, dtype=bool)
    level = np.full(busy.shape, np.nan)
    level[busy] = np.nanmedian(residual[busy], axis=1)
    some = np.isfinite(level).any(axis=1)
    away = np.full(busy.shape, np.nan)
    away[some] = np.abs(level[some] - np.nanmedian(level[some], axis=1, keepdims=True))
    usually = np.full((len(residual), 1), np.nan)
    usually[some] = np.nanmedian(away[some], axis=1, keepdims=True)
    for weekday in range(7):
        # A weekend that is quiet is not off.
        own = calendar.weekday == weekday
        likewise = np.abs(level[:, own] - _without_own_day(level[:, own, None])[..., 0])
        away[:, own] = np.fmin(away[:, own], likewise)
    return np.asarray(busy & (away > OFF * 1.4826 * usually) & (usually > 0))


def _smoothed(grid: Floats, width: int) -> Floats:
    """Return a running mean over time, from day to day; gaps have no say, and stay where nothing is near."""
    flat = grid.reshape(len(grid), -1)
    seen = np.isfinite(flat)
    sums, count = (_running(each, width) for each in (np.where(seen, flat, 0.0), seen.astype(float)))
    return np.where(count > 0.5, sums / np.maximum(count, 1.0), np.nan).reshape(grid.shape)


def _around(grid: Floats, width: int) -> Floats:
    """Return running sums over time, from day to day."""
    return _running(grid.reshape(len(grid), -1), width).reshape(grid.shape)


def _running(flat: Floats, width: int) -> Floats:
    """Return centred running sums along the last axis; shorter at the ends."""
    size, half = flat.shape[1], width // 2
    total = np.concatenate([np.zeros((len(flat), 1)), np.cumsum(flat, axis=1)], axis=1)
    at = np.arange(size)
    return np.asarray(total[:, np.minimum(at + half + 1, size)] - total[:, np.maximum(at - half, 0)])

"""Simulated services with days and weeks, and how the judge does on many of them at once.

The gauge is that of a page's load time: on the log scale a daily wave and quieter weekends, an offset of each day
(standard deviation .03), noise that is remembered for an hour (.03) and for five minutes (.03), and white noise (.02).
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from scipy.signal import lfilter

from watcher.calibration import calibrate
from watcher.comparison import fold
from watcher.evidence import placebo
from watcher.model import (
    Alpha,
    Arm,
    Floats,
    Kind,
    Labels,
    Observations,
    Release,
    Rule,
    Selector,
    Stage,
    Strategy,
    Watch,
    labels,
)

MINUTE, DAY = 60.0, 86_400.0
MONDAY = 1_767_571_200.0
"""2026-01-05, a Monday, midnight UTC."""

GAUGE = Rule("load", Kind.GAUGE, Selector("load"), margin=0.02)


def remembered(rng: np.random.Generator, minutes: float, deviation: float, shape: tuple[int, int]) -> Floats:
    """Return autoregressive noise that forgets over so many minutes."""
    kept = np.exp(-1 / minutes)
    steps = rng.normal(0, deviation * np.sqrt(1 - kept**2), shape)
    steps[:, 0] = rng.normal(0, deviation, shape[0])
    return np.asarray(lfilter([1], [1, -kept], steps, axis=1))


def wave(ends: Floats, zone: str = "UTC") -> Floats:
    """Return what is usual at each time, log scale: a steep morning, an afternoon, a quiet night, quieter weekends."""
    where = ZoneInfo(zone)
    hours = np.unique(np.floor(ends / 3600))
    offsets = {hour: dt.datetime.fromtimestamp(hour * 3600, where).utcoffset() for hour in hours.tolist()}
    local = ends + np.array([offsets[hour].total_seconds() for hour in np.floor(ends / 3600).tolist()])
    clock = (local % DAY) / 3600
    weekday = (np.floor(local / DAY) + 3) % 7
    morning = 0.5 / (1 + np.exp(-(clock - 8) * 3)) - 0.5 / (1 + np.exp(-(clock - 21) * 1.5))
    return np.asarray((morning + 0.05 * np.sin(2 * np.pi * clock / 12)) * np.where(weekday < 5, 1.0, 0.6))


def gauge(rng: np.random.Generator, ends: Floats, streams: int, zone: str = "UTC") -> Floats:
    """Return a seasonal gauge, [stream, point], 1 on average."""
    shape = (streams, ends.size)
    # The middle of the night, when days change.
    days = np.floor((ends - 3 * 3600) / DAY).astype(int)
    offset = rng.normal(0, 0.03, (streams, int(np.ptp(days)) + 1))[:, days - days[0]]
    noise = remembered(rng, 60, 0.03, shape) + remembered(rng, 5, 0.03, shape) + rng.normal(0, 0.02, shape)
    return np.asarray(np.exp(wave(ends, zone) + offset + noise))


def counts(
    rng: np.random.Generator,
    ends: Floats,
    streams: int,
    rate: float,
    per_minute: float,
    zone: str = "UTC",
    times: float = 1.0,
    since: float = np.inf,
) -> tuple[Floats, Floats]:
    """Return events and their total, [stream, point]: traffic follows the season, and so, less, does the rate.

    The rate wanders by a tenth for an hour, and from `since` on is so many `times` as high.
    """
    shape = (streams, ends.size)
    season = wave(ends, zone)
    total = rng.poisson(per_minute * np.exp(3 * season), shape).astype(float)
    wandering = remembered(rng, 60, 0.1, shape)
    chance = rate * np.exp(0.5 * season + wandering) * np.where(ends > since, times, 1.0)
    return rng.binomial(total.astype(int), np.minimum(chance, 1.0)).astype(float), total


def as_counts(events: Floats, total: Floats, ends: Floats) -> Observations:
    """Return counts of one unit as observations, each row a stream."""
    return Observations(names(len(events)), ends, Arm(("",), events[:, None, :], total[:, None, :]))


def watch_of(rule: Rule, exposed: float, hours: float, days: float, **changes: Any) -> Watch:
    """Return a watch without a control."""
    release = Release("shop", "production", "checkout", "2", Strategy.BLUE_GREEN, (Stage(exposed),))
    settings = {"horizon": 3600 * hours, "history": DAY * days, "warm_up": 0.0, "alpha": Alpha(before_after=0.05)}
    return Watch(release, (rule,), **{**settings, **changes})


def as_gauge(values: Floats, ends: Floats) -> Observations:
    """Return measurements of one unit as observations, each row a stream."""
    cells = values[:, None, :]
    return Observations(names(len(values)), ends, Arm(("",), cells, np.ones_like(cells)))


def names(streams: int) -> tuple[Labels, ...]:
    """Return labels for so many streams."""
    return tuple(labels({"run": f"{run:05d}"}) for run in range(streams))


@dataclass(frozen=True)
class Judged:
    """Minutes from exposure to alarm, [run]; infinite without one."""

    minutes: Floats

    @property
    def rate(self) -> float:
        """Share of the runs with an alarm."""
        return float(np.isfinite(self.minutes).mean())

    @property
    def median(self) -> float:
        """Median delay of the alarms there were."""
        found = self.minutes[np.isfinite(self.minutes)]
        return float(np.median(found)) if found.size else np.inf


def judged(watch: Watch, history: Observations, *outcomes: Observations) -> list[Judged]:
    """Judge every stream as a release of its own, all at once, for several outcomes of the same history."""
    (rule,) = watch.rules
    learnt = calibrate(rule, watch, history, "history", np.random.default_rng(0))
    assert learnt.reached is not None
    bars = np.array([placebo.bar(row[np.isfinite(row)], watch.alpha_in_effect) for row in learnt.reached], dtype=float)
    learnt = replace(learnt, bar=0.0)
    found = []
    for each in outcomes:
        _, evidence = fold(watch, rule, each, learnt, None)
        alarm = (evidence.track.regressed > bars[:, None]) & (evidence.track.harm > evidence.margin)
        at = np.where(alarm.any(axis=1), (evidence.ends[alarm.argmax(axis=1)] - watch.release.exposed_at) / 60, np.inf)
        found.append(Judged(at))
    return found

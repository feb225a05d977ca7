"""Days of two arms whose truth is known, the test that cannot be beaten on them, and the tests people use instead.

What the statistics promise is measured here: false alarms on arms that differ in nothing but noise, of every kind
that breaks naive tests, and delays on arms that do differ, as a multiple of the oracle's on the same streams. A day
is 1,440 one-minute blocks; arrays are [run, minute], and every draw comes from the generator that is passed in.

Errors are Poisson: the limit of rare ones, and the case the statistics have no slack for.

References:
    Wald (1945), Ann. Math. Statist. 16(2): the sequential probability ratio test.
    Hodges and Lehmann (1963), Ann. Math. Statist. 34(2): shifts by rank sums, and their interval.
    Clopper and Pearson (1934), Biometrika 26(4): the exact interval of a share.

Example:
    The oracle, told that errors double, finds it in half an hour.

    >>> import numpy as np
    >>> doubled = Scenario("2x", ratio=2.0)
    >>> arms = doubled.arms(200, np.random.default_rng(1))
    >>> found = first(oracle(arms, ratio=2.0) >= np.log(100))
    >>> bool(20 < delay(found, doubled).median < 40)
    True
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binomtest, lognorm, norm

from watcher.model import Flags, Floats

DAY = 1440
"""Minutes watched."""

HISTORY = 7 * DAY
"""Minutes before the release that are known."""

ERROR_RATE = 0.01
UNITS = 3
"""Units (pods) an arm has; the service had twice as many before the release."""

MEMORY = 15.0
"""Minutes after which a burst has lost its correlation to a factor e."""

BURSTS = 0.2646
"""Variance of the log intensity that makes the long-run dispersion 9.5, at one error a minute."""

EDGES = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, np.inf)
"""Upper edges of the buckets a Prometheus client has by default, in seconds."""

Common = Callable[[int, int, np.random.Generator], Floats]
"""Draws what moves both arms alike, as a factor: (runs, minutes, rng) -> [run, minute]."""


def steady(runs: int, minutes: int, rng: np.random.Generator) -> Floats:
    return np.ones((runs, minutes))


def diurnal(runs: int, minutes: int, rng: np.random.Generator) -> Floats:
    return np.tile(1 + 0.8 * np.sin(2 * np.pi * np.arange(minutes) / DAY), (runs, 1))


def incidents(runs: int, minutes: int, rng: np.random.Generator) -> Floats:
    """Three times a day, at any minute, five times the errors for 20 minutes."""
    begins = rng.integers(0, DAY - 20, (runs, minutes // DAY, 3, 1))
    since = np.arange(DAY) - begins
    return np.where(((since >= 0) & (since < 20)).any(axis=2), 5.0, 1.0).reshape(runs, minutes)


@dataclass(frozen=True)
class Arms:
    """Errors and requests of both arms, each [run, minute]."""

    control: Floats
    treated: Floats
    n_control: Floats
    n_treated: Floats

    def since(self, minute: int) -> Arms:
        """Leave out the minutes before one."""
        return Arms(*(each[:, minute:] for each in (self.control, self.treated, self.n_control, self.n_treated)))


@dataclass(frozen=True)
class Scenario:
    """How two arms are drawn, and the week of the service before them.

    `requests` a minute, control then treatment. `cluster`: errors come in clusters of so many. `bursts`: variance
    of the log of an intensity that all units of one arm share and the other arm does not. `spread`: standard
    deviation of the log of a unit's own error rate, which never changes. The treatment has `ratio` times the
    errors from minute `onset` on, and until minute `until`.
    """

    name: str
    requests: tuple[float, float] = (100.0, 100.0)
    common: Common = steady
    cluster: int = 1
    bursts: float = 0.0
    spread: float = 0.0
    ratio: float = 1.0
    onset: int = 0
    until: int = DAY

    def arms(self, runs: int, rng: np.random.Generator) -> Arms:
        """Draw days after the release; each arm has units of its own."""
        rate = ERROR_RATE * self.common(runs, DAY, rng)
        minute = np.arange(DAY)
        effect = np.where((minute >= self.onset) & (minute < self.until), self.ratio, 1.0)
        control, treated = (
            self._errors(n * each * self._own_rates((runs, UNITS), rng).mean(axis=1, keepdims=True), rng)
            for n, each in zip(self.requests, (rate, rate * effect), strict=True)
        )
        return Arms(control, treated, *(np.full((runs, DAY), n) for n in self.requests))

    def history(self, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw the week before one release: errors and requests, each [unit, minute].

        The service then serves what one arm does later (the mean of both), and a burst is shared by all its units.
        """
        total = np.full((2 * UNITS, HISTORY), sum(self.requests) / 2 / (2 * UNITS))
        rate = ERROR_RATE * self.common(1, HISTORY, rng) * self._own_rates((2 * UNITS, 1), rng)
        return self._errors(total * rate, rng, streams=1), total

    def _errors(self, expected: Floats, rng: np.random.Generator, streams: int | None = None) -> Floats:
        """Draw counts with these means; `streams` bursts, one a row unless said otherwise."""
        if self.bursts:
            expected = expected * bursts(self.bursts, (streams or len(expected), expected.shape[1]), rng)
        return self.cluster * rng.poisson(expected / self.cluster).astype(float)

    def _own_rates(self, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
        return np.exp(self.spread * rng.standard_normal(shape))


def bursts(variance: float, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Draw intensities with mean 1 whose log is a stationary AR(1) of this variance: [stream, minute]."""
    keep = np.exp(-1 / MEMORY)
    shocks = rng.standard_normal(shape)
    shocks[:, 1:] *= np.sqrt(1 - keep**2)
    return np.exp(np.sqrt(variance) * lfilter([1.0], [1.0, -keep], shocks, axis=1) - variance / 2)


NO_CHANGE = Scenario("no change")
NULLS = (
    NO_CHANGE,
    Scenario("diurnal", common=diurnal),
    Scenario("shared incidents", common=incidents),
    Scenario("5/95 split", requests=(190.0, 10.0)),
    Scenario("2 requests/min", requests=(2.0, 2.0)),
    Scenario("dispersion 3", cluster=3),
    Scenario("bursts", bursts=BURSTS),
    Scenario("pods", spread=0.2),
)
REGRESSIONS = (
    Scenario("1.5x", ratio=1.5),
    Scenario("2x", ratio=2.0),
    Scenario("5x", ratio=5.0),
    Scenario("2x from 6 h on", ratio=2.0, onset=360),
)
COLD_CACHES = Scenario("cold caches, errors", ratio=4.0, until=3)


def oracle(arms: Arms, ratio: float, onset: int = 0) -> Floats:
    """Return log e of the sequential probability ratio test that is told the ratio and when it began: [run, minute].

    Given both arms' errors, those of the treatment are binomial; nothing that may not use the common rate does better.
    """
    share = arms.n_treated / (arms.n_treated + arms.n_control)
    events = arms.treated + arms.control
    steps = arms.treated * np.log(ratio) - events * np.log1p(share * (ratio - 1))
    steps[:, :onset] = 0.0
    return np.cumsum(steps, axis=1)


def z_test(arms: Arms, alpha: float) -> Flags:
    """Test the totals so far, each minute as if it were the only one: pooled, two-sided, where harm is seen."""
    control, treated, n_control, n_treated = (
        np.cumsum(each, axis=1) for each in (arms.control, arms.treated, arms.n_control, arms.n_treated)
    )
    pooled = (control + treated) / (n_control + n_treated)
    error = np.sqrt(pooled * (1 - pooled) * (1 / n_control + 1 / n_treated))
    return treated / n_treated - control / n_control > norm.isf(alpha / 2) * np.where(error > 0, error, np.inf)


@dataclass(frozen=True)
class Ranks:
    """How many minutes so far had each error percentage: all that a rank test of minutes needs.

    `values` [value] ascending; `control` and `treated` [run, minute, value] counts of minutes.
    """

    values: Floats
    control: Floats
    treated: Floats

    @classmethod
    def of(cls, arms: Arms) -> Ranks:
        percentages = np.round([100 * arms.control / arms.n_control, 100 * arms.treated / arms.n_treated], 9)
        values, index = np.unique(percentages, return_inverse=True)
        counted = np.cumsum(index.reshape(percentages.shape)[..., None] == np.arange(values.size), axis=2, dtype=float)
        return cls(values, counted[0], counted[1])

    @property
    def minutes(self) -> Floats:
        """Return how many each arm has had, [minute]."""
        return np.arange(1, self.control.shape[1] + 1)


def mann_whitney(ranks: Ranks, alpha: float) -> Flags:
    """Test each minute from the tenth on whether the treatment's rank higher: two-sided, where harm is seen."""
    n = ranks.minutes
    below = np.cumsum(ranks.control, axis=2) - ranks.control / 2
    wins = np.einsum("rmv,rmv->rm", ranks.treated, below)
    ties = ((ranks.control + ranks.treated) ** 3 - ranks.control - ranks.treated).sum(axis=2)
    variance = n**2 / 12 * (2 * n + 1 - ties / (2 * n * (2 * n - 1)))
    return (wins - n**2 / 2 > norm.isf(alpha / 2) * np.sqrt(np.where(variance > 0, variance, np.inf))) & (n >= 10)


def hodges_lehmann(ranks: Ranks, confidence: float) -> tuple[Floats, Floats]:
    """Return the shift of the treatment's percentages and its lower confidence bound, each [run, minute].

    Both are order statistics of all differences between a minute of one arm and a minute of the other.
    """
    n = ranks.minutes
    middle = n**2 / 2
    lowest = np.maximum(middle - norm.isf((1 - confidence) / 2) * n * np.sqrt((2 * n + 1) / 12), 1.0)
    at_least = np.cumsum(ranks.control[..., ::-1], axis=2)[..., ::-1]
    at_least = np.concatenate([at_least, np.zeros_like(at_least[..., :1])], axis=2)
    gaps = np.unique(np.round(np.subtract.outer(ranks.values, ranks.values), 6))
    shift, lower = np.full((2, *ranks.treated.shape[:2]), gaps[-1])
    for gap in gaps[::-1]:
        partner = np.searchsorted(ranks.values, ranks.values - gap - 1e-5)
        within = np.einsum("rmv,rmv->rm", ranks.treated, at_least[..., partner])
        shift[within >= middle] = gap
        lower[within >= lowest] = gap
    return shift, lower


def kayenta(ranks: Ranks, confidence: float = 0.98, tolerance: float = 0.25) -> Flags:
    """Judge each minute from the tenth on as Kayenta does: the shift's interval lies above a share of the shift."""
    shift, lower = hodges_lehmann(ranks, confidence)
    return (lower > tolerance * np.abs(shift)) & (ranks.minutes >= 10)


@dataclass(frozen=True)
class Latency:
    """How the latencies of two arms are drawn: log-normal, median 120 ms, sigma 0.8, 100 requests a minute an arm.

    The treatment's are `slower` times as long, and a share `late` of its requests takes two seconds more, until
    minute `until`.
    """

    name: str
    slower: float = 1.0
    late: float = 0.0
    until: int = DAY

    def probabilities(self) -> tuple[Floats, Floats]:
        """Return the exact probability of each bucket, control and treatment, each [minute, bucket]."""
        same = np.tile(_buckets(1.0, 0.0), (DAY, 1))
        treated = same.copy()
        treated[: self.until] = _buckets(self.slower, self.late)
        return same, treated

    def arms(self, runs: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """Draw days after the release: control and treatment, each [run, minute, bucket] (not cumulative)."""
        control, treated = (rng.multinomial(100, each, (runs, DAY)).astype(np.int16) for each in self.probabilities())
        return control, treated

    def history(self, rng: np.random.Generator) -> Floats:
        """Draw the week before one release, which serves as the control does: [unit, minute, bucket]."""
        share = np.full(2 * UNITS, 1 / (2 * UNITS))
        total = rng.multinomial(100, share, HISTORY).T
        return rng.multinomial(total, _buckets(1.0, 0.0)).astype(np.int16)


def _buckets(slower: float, late: float) -> Floats:
    """Return the probability of each bucket: [bucket]."""
    latency = lognorm(s=0.8, scale=0.120 * slower)
    edges = np.array(EDGES)
    return np.diff((1 - late) * latency.cdf(edges) + late * latency.cdf(edges - 2.0), prepend=0.0)


LATENCY_NULL = Latency("no change of latency")
LATENCIES = (
    Latency("latency +10 %", slower=1.10),
    Latency("latency +25 %", slower=1.25),
    Latency("2 % of requests +2 s", late=0.02),
)
COLD_LATENCY = Latency("cold caches, latency", slower=1.6, until=3)


def latency_oracle(latency: Latency, control: Floats, treated: Floats) -> Floats:
    """Return log e of the sequential test that is told both distributions, over a day's last minutes: [run, minute]."""
    q_control, q_treated = (each[-control.shape[1] :] for each in latency.probabilities())
    middle = (q_control + q_treated) / 2
    steps = treated * np.log(q_treated / middle) + control * np.log(q_control / middle)
    return np.cumsum(steps.sum(axis=2), axis=1)


def first(alarms: Flags) -> Floats:
    """Return the minute of each run's first alarm, counted from 1; infinity where there is none: [run]."""
    return np.where(alarms.any(axis=1), alarms.argmax(axis=1) + 1.0, np.inf)


@dataclass(frozen=True)
class Share:
    """A share of runs, with its exact 95 % interval."""

    share: float
    lower: float
    upper: float

    @classmethod
    def of(cls, hits: Flags) -> Share:
        found = binomtest(int(hits.sum()), hits.size)
        interval = found.proportion_ci(0.95, method="exact")
        return cls(float(found.statistic), float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Delay:
    """Minutes from onset to alarm, over the runs that had not alarmed before; one never found counts to the end.

    `never` and `early` are the shares of runs that did not alarm, and that alarmed before the onset.
    """

    mean: float
    median: float
    never: float
    early: float


def delay(found: Floats, scenario: Scenario | Latency) -> Delay:
    """Read delays off first alarms, [run]."""
    onset = scenario.onset if isinstance(scenario, Scenario) else 0
    late = np.minimum(found, DAY)[found > onset] - onset
    return Delay(
        float(late.mean()), float(np.median(late)), float(np.isinf(found).mean()), float((found <= onset).mean())
    )

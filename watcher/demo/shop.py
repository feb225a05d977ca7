"""The simulated shop: users who arrive by the clock, meet features that are on or off, and leave counters behind.

Nothing here knows what watcher will say. The share of users on a feature is what the flags file says at that minute,
so that a flag turned off is felt one minute later. Counters carry the labels that rules/checkout.yaml reads.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from watcher.errors import SourceRefused
from watcher.model import (
    Arm,
    Floats,
    Kind,
    Labels,
    Matcher,
    Observations,
    Request,
    Rule,
    Selector,
    SwitchState,
    Watch,
    labels,
)
from watcher.releases.flags_file import read_flags
from watcher.releases.shares import share_of

MINUTE = 60.0
FEATURES = ("search-suggestions", "quick-pay", "new-checkout")
VARIANTS = ("off", "on")
INSTANCES = ("shop-1", "shop-2", "shop-3")
EDGES = (0.5, 1.0, 2.5, 5.0, 10.0, math.inf)
"""Upper edges of the page load histogram, seconds."""

REQUESTS, PAGES, CHECKOUTS = 9000.0, 3000.0, 2600.0
"""Requests, page loads and checkouts begun per minute and feature, at the busiest time of day."""

FAILED, COMPLETED = 0.004, 0.72
"""Share of requests that fail, and of checkouts begun that end in an order."""

LOAD_MEDIAN, LOAD_SPREAD = 1.1, 0.55
"""Seconds, and the standard deviation of their logarithm: about 7 % of pages take longer than 2.5 s."""

BROKEN_FAILED, BROKEN_COMPLETED, BROKEN_LOAD = 7.0, 0.75, 1.35
"""What a broken feature does to these three, as factors."""

DELAYS = np.diff(ndtr(np.log([1e-9, *range(1, 26)]) / 0.6 - np.log(5) / 0.6))
"""Probability that an order follows the start of its checkout by 0, 1, ... 24 minutes; half within 5, 99 % in 20."""

Series = tuple[dict[str, str], Floats]
"""Labels besides the instance, and what was counted by minute and instance, [minute, instance]."""

_BUCKETS = tuple(("page_load_seconds_bucket", "le", "+Inf" if np.isinf(edge) else f"{edge:g}") for edge in EDGES)
_KEYS = (
    ("http_requests_total", "code", "200"),
    ("http_requests_total", "code", "503"),
    ("checkout_started_total", "", ""),
    ("checkout_completed_total", "", ""),
    *_BUCKETS,
    ("web_lcp_p75_seconds", "", ""),
)
_SHAPE = (len(FEATURES), len(VARIANTS), len(INSTANCES))


@dataclass
class Shop:
    """What happened in the shop so far, minute by minute.

    Args:
        flags_file: says who gets what.
        start: when the simulation begins, epoch seconds on a whole minute.
        minutes: how long it can go on.
        seed: the same seed and the same flags give the same shop.
    """

    flags_file: Path
    start: float
    minutes: int
    seed: int
    breaks: dict[str, float] = field(default_factory=dict)
    """When a feature breaks for those who have it, by name."""

    def __post_init__(self) -> None:
        self.now = self.start
        self._rng = np.random.default_rng(self.seed)
        self._cells = {key: np.zeros((self.minutes + DELAYS.size, *_SHAPE)) for key in _KEYS}
        self._flags: tuple[bytes, Mapping[str, SwitchState]] = (b"", {})

    def advance(self, to: float) -> None:
        """Let users come until then, epoch seconds on a whole minute."""
        while self.now < to:
            self.now += MINUTE
            self._live(round((self.now - self.start) / MINUTE) - 1)

    def series(self, metric: str) -> Iterator[Series]:
        """Return the series of a metric, from the first minute to the last there can be."""
        for (name, label, value), cells in self._cells.items():
            for f, feature in enumerate(FEATURES if name == metric else ()):
                for v, variant in enumerate(VARIANTS):
                    known = {"feature": feature, "variant": variant} | ({label: value} if label else {})
                    yield known, cells[: self.minutes, f, v]

    def _shares(self) -> Floats:
        """Return the share of users that each feature's variants have, [feature, variant]."""
        content = self.flags_file.read_bytes()
        if content != self._flags[0]:
            self._flags = (content, read_flags(str(self.flags_file)))
        on = np.array([share_of(self._flags[1][feature]) for feature in FEATURES])
        return np.stack([1 - on, on], axis=1)

    def _live(self, minute: int) -> None:
        """Simulate one minute. All arrays are [feature, variant, instance]."""
        rng, users = self._rng, self._shares()[:, :, None] * rhythm(self.now) / len(INSTANCES) * np.ones(_SHAPE)
        broken = np.zeros(_SHAPE, dtype=bool)
        for f, feature in enumerate(FEATURES):
            broken[f, VARIANTS.index("on")] = self.now > self.breaks.get(feature, np.inf)
        # What one instance or one minute does differently makes counts vary more than independent users would.
        requests = rng.poisson(users * REQUESTS)
        rate = FAILED * rng.lognormal(0, 0.1) * rng.gamma(60, 1 / 60, _SHAPE) * np.where(broken, BROKEN_FAILED, 1)
        failed = rng.binomial(requests, np.minimum(rate, 1))
        begun = rng.poisson(users * CHECKOUTS)
        ends_well = COMPLETED * rng.lognormal(0, 0.01, _SHAPE) * np.where(broken, BROKEN_COMPLETED, 1)
        orders = rng.multinomial(rng.binomial(begun, np.minimum(ends_well, 1)), [*DELAYS, 1 - DELAYS.sum()])
        median = LOAD_MEDIAN * rng.lognormal(0, 0.02) * rng.lognormal(0, 0.01, _SHAPE)
        median *= np.where(broken, BROKEN_LOAD, 1)
        faster = ndtr(np.log(np.array(EDGES) / median[..., None]) / LOAD_SPREAD)
        loads = rng.multinomial(rng.poisson(users * PAGES), np.diff(faster, prepend=0)).cumsum(axis=-1)
        paint = np.round(1.3 * median * np.exp(0.674 * 0.5) * rng.lognormal(0, 0.02, _SHAPE), 3)
        self._keep(minute, "http_requests_total", requests - failed, failed)
        self._keep(minute, "checkout_started_total", begun)
        completed = self._cells["checkout_completed_total", "", ""]
        completed[minute : minute + DELAYS.size] += np.moveaxis(orders, -1, 0)[:-1]
        self._keep(minute, "page_load_seconds_bucket", *np.moveaxis(loads, -1, 0))
        self._keep(minute, "web_lcp_p75_seconds", np.where(loads[..., -1] > 0, paint, np.nan))

    def _keep(self, minute: int, metric: str, *counted: NDArray[Any]) -> None:
        for key, cells in zip([key for key in _KEYS if key[0] == metric], counted, strict=True):
            self._cells[key][minute] = cells


def rhythm(at: float) -> float:
    """Return how busy the shop is at a time (epoch seconds), as a share: 1 at 15:00, 0.4 at 03:00 UTC."""
    return float(0.7 + 0.3 * np.cos((at / 3600 - 15) / 24 * 2 * np.pi))


@dataclass(frozen=True)
class ShopSource:
    """The shop's counters as a source: selectors pick series by metric and labels, as in Prometheus."""

    shop: Shop

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the counts of the minutes asked for, by rule name.

        Raises:
            SourceRefused: the shop does not count that, or not yet.
        """
        if request.end > self.shop.now or request.start < self.shop.start or request.block != MINUTE:
            raise SourceRefused("the shop has whole minutes, from its first to the present one")
        return {rule.name: self._observations(rule, request) for rule in request.rules}

    history = observe

    def _observations(self, rule: Rule, request: Request) -> Observations:
        if request.baseline is None or request.treatment is None:
            raise SourceRefused("the shop tells arms apart; give labels for both")
        stream = labels({name: value for name, value in request.treatment if name in rule.by})
        treatment, baseline = (
            self._arm(rule, request, request.select + where) for where in (request.treatment, request.baseline)
        )
        edges = EDGES if rule.kind is Kind.LATENCY else ()
        return Observations((stream,), request.ends, treatment, baseline, edges=edges)

    def _arm(self, rule: Rule, request: Request, where: Labels) -> Arm:
        """Count one arm of one rule: arrays [1, instance, minute]."""
        if rule.kind is Kind.LATENCY:
            counters = [
                Selector(metric, (*rule.events.matchers, Matcher(label, "=", edge))) for metric, label, edge in _BUCKETS
            ]
            within = np.stack([self._sum(counter.where(where), request) for counter in counters], axis=-1)
            over = within[..., -1] - within[..., EDGES.index(rule.objective)]
            return Arm(INSTANCES, over[None], within[None, ..., -1], np.diff(within, prepend=0.0)[None])
        events = self._sum(rule.events.where(where), request)
        measured = np.isfinite(events).astype(float)
        total = measured if rule.total is None else self._sum(rule.total.where(where), request)
        return Arm(INSTANCES, events[None], total[None])

    def _sum(self, selector: Selector, request: Request) -> Floats:
        """Return the sum of the series a selector matches, [instance, minute]."""
        found = [values for known, values in self.shop.series(selector.metric) if matches(selector.matchers, known)]
        if not found:
            raise SourceRefused(f"the shop has no series {selector}")
        first, last = (round((at - self.shop.start) / MINUTE) for at in (request.start, request.end))
        return np.asarray(np.sum([values[first:last] for values in found], axis=0).T)


def matches(matchers: tuple[Matcher, ...], known: Mapping[str, str]) -> bool:
    """Tell whether a series has the labels asked for."""
    return all(matcher.matches(known.get(matcher.label, "")) for matcher in matchers)


def table(shop: Shop, watch: Watch, through: float) -> pd.DataFrame:
    """Return what a watch compared as a tidy table: its history, and both arms until then (epoch seconds)."""
    assert watch.baseline is not None
    assert watch.treatment is not None
    exposed = watch.release.exposed_at
    arms = (("baseline", watch.baseline, exposed - watch.history), ("treatment", watch.treatment, exposed))
    parts = [
        _rows(arm, metric, known, values, shop.start, (since, through))
        for arm, where, since in arms
        for metric in dict.fromkeys(name for name, _, _ in _KEYS)
        for known, values in shop.series(metric)
        if dict(where).items() <= known.items()
    ]
    stamp = pd.Timestamp(exposed, unit="s", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.concat(parts).sort_values("timestamp", kind="stable").assign(exposed_at=stamp)


def _rows(
    arm: str, metric: str, known: Mapping[str, str], values: Floats, start: float, window: tuple[float, float]
) -> pd.DataFrame:
    first, last = (round((at - start) / MINUTE) for at in window)
    ends = pd.to_datetime(start + MINUTE * np.arange(first + 1, last + 1), unit="s", utc=True)
    return pd.DataFrame(
        {
            "timestamp": np.repeat(ends.strftime("%Y-%m-%dT%H:%M:%SZ"), len(INSTANCES)),
            "arm": arm,
            "metric": metric,
            "feature": known["feature"],
            "instance": np.tile(INSTANCES, last - first),
            "code": known.get("code", ""),
            "le": known.get("le", ""),
            "value": np.char.mod("%.10g", values[first:last].ravel()),
        }
    )

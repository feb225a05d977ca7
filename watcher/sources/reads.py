"""The two ways of reading counters from a Prometheus server: raw samples, or differences taken by the server."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import partial

import numpy as np

from watcher.errors import ConfigError, SourceRefused, SourceTooLarge
from watcher.model import Kind, Request, Rule, Selector
from watcher.sources.counters import SampleSet
from watcher.sources.histograms import NOTHING, upper_edges, whole_edges
from watcher.sources.native import NativeSet, together
from watcher.sources.prometheus_http import PrometheusHTTP, TooManySeries, milliseconds
from watcher.sources.recollection import Recollection
from watcher.sources.sides import Side
from watcher.sources.signatures import signature_of
from watcher.sources.tails import Tails

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


class Reads(ABC):
    """One way of reading the blocks of a request; nothing is asked when there are none."""

    def __init__(self, client: PrometheusHTTP, request: Request, replica: str | None, overlap: float) -> None:
        self._client, self._request, self._replica, self._overlap = client, request, replica, overlap

    @abstractmethod
    def events(self, side: Side) -> SampleSet:
        """Return what a side counts."""

    @abstractmethod
    def total(self, side: Side) -> SampleSet | None:
        """Return what it is counted against; None for a gauge."""

    @abstractmethod
    def buckets(self, side: Side) -> SampleSet | None:
        """Return all classic buckets of a latency, or None where they are too many to be read."""

    @abstractmethod
    def shared_edges(self, side: Side, buckets: SampleSet) -> frozenset[float]:
        """Return the upper edges that everything has all the time, given the buckets that were read."""

    @abstractmethod
    def native(self, side: Side) -> NativeSet:
        """Return the native histograms of a latency that has no classic ones.

        Raises:
            SourceRefused: there is a metric of that name, and it is no histogram.
        """

    def spelled_edges(self, side: Side) -> list[str]:
        """Return the upper edges that occur anywhere, as they are written."""
        window = milliseconds(self._request.end - self._request.start + self._overlap)
        found = self._client.instant(f"count by (le) (last_over_time({side.buckets}[{window}]))", self._request.end)
        return sorted({labels["le"] for labels in found.labels if "le" in labels}, key=float)


class RawReads(Reads):
    """Raw samples over the blocks and the overlap before, each selector once.

    Args:
        recollection: what answers before this one held.
        tails: what is known of the time before the blocks, which then is not read again.
    """

    def __init__(
        self,
        client: PrometheusHTTP,
        request: Request,
        replica: str | None,
        overlap: float,
        recollection: Recollection,
        tails: Tails | None = None,
    ) -> None:
        super().__init__(client, request, replica, overlap)
        self._recollection = recollection
        self._known: dict[Selector, SampleSet] = {}
        self._tails, self._continuing = tails, set[Selector]()
        self.resumed = False
        """Whether any samples rest on what was known before."""

    def samples(self, selector: Selector) -> SampleSet:
        """Return the raw samples of a selector."""
        if selector not in self._known:
            start, end = self._request.start - self._overlap, self._request.end
            self._known[selector] = self._read(str(selector), start, end) if self._request.ends.size else NOTHING
        return self._known[selector]

    def _read(self, selector: str, start: float, end: float) -> SampleSet:
        return self._recollection.checked(selector, start, end, self._client.samples(selector, start, end))

    def events(self, side: Side) -> SampleSet:
        """See Reads. What is a part of the total is not read again."""
        if side.events not in self._known and side.total is not None:
            whole = self.total(side)
            part = None if whole is None else _part(side.events, side.total, whole)
            if part is not None:
                self._known[side.events] = part
        return self._continued(side.events)

    def total(self, side: Side) -> SampleSet | None:
        """See Reads."""
        return None if side.total is None else self._continued(side.total)

    def kept(self, tails: Tails) -> None:
        """Let what was read be known to later reads."""
        for selector in self._continuing & self._known.keys():
            tails.keep(selector, self._request.end, self._known[selector])

    def _continued(self, selector: Selector) -> SampleSet:
        """Return the samples of a selector, of the time before the blocks only those that have a say in them."""
        request = self._request
        if selector not in self._known and request.ends.size:
            self._continuing.add(selector)
            read = partial(self._read, str(selector))
            found = None if self._tails is None else self._tails.resumed(selector, request.start, request.end, read)
            if found is not None:
                self._known[selector], self.resumed = found, True
        return self.samples(selector)

    def buckets(self, side: Side) -> SampleSet | None:
        """See Reads. An answer that fits once the blocks are read in two halves is no reason to do without."""
        try:
            return self.samples(side.buckets)
        except TooManySeries:
            return None
        except SourceTooLarge:
            if self._request.ends.size > 1:
                raise
            return None

    def shared_edges(self, side: Side, buckets: SampleSet) -> frozenset[float]:
        """See Reads."""
        return whole_edges(buckets)

    def native(self, side: Side) -> NativeSet:
        """See Reads."""
        start, end = self._request.start - self._overlap, self._request.end
        return self._client.native_samples(str(side.histogram), start, end)


class DifferencedReads(Reads):
    """What counters grew by in every block, as the server says, summed over all labels that are not told apart."""

    def events(self, side: Side) -> SampleSet:
        """See Reads."""
        rule = side.rule
        signature = signature_of(rule, rule.by)
        return self._summed(side.events, rule, () if signature is None else (signature,))

    def total(self, side: Side) -> SampleSet | None:
        """See Reads."""
        return None if side.total is None else self._summed(side.total, side.rule)

    def buckets(self, side: Side) -> SampleSet | None:
        """See Reads."""
        try:
            return self._summed(side.buckets, side.rule, ("le",))
        except SourceTooLarge:
            return None

    def shared_edges(self, side: Side, buckets: SampleSet) -> frozenset[float]:
        """See Reads. Sums hide who has no bucket at an edge, so the series at every edge are counted."""
        many = self._evaluated(f"count by (le) ({side.buckets})")
        edges = upper_edges(many)
        many, edges = many.only(~np.isnan(edges)), edges[~np.isnan(edges)]
        known, row = np.unique(edges, return_inverse=True)
        moments, column = np.unique(many.times, return_inverse=True)
        table = np.zeros((known.size, moments.size))
        np.add.at(table, (row[many.owners], column), many.values)
        everywhere = (table == table.max(axis=0, initial=0.0)).all(axis=1)
        return frozenset(known[everywhere].tolist())

    def native(self, side: Side) -> NativeSet:
        """See Reads.

        Not every server can subtract histograms, but all can sum them: the difference is that of two sums over the
        series that there were at both ends of a block and that did not restart in between.
        """
        if not len(self._evaluated(f"count({side.histogram})")):
            return together([])
        if not len(self._evaluated(f"count(histogram_count({side.histogram}))")):
            raise SourceRefused(f"{side.histogram} is not a histogram")
        block, names = milliseconds(self._request.block), self._names(side.rule)
        now, before = str(side.histogram), f"{side.histogram} offset {block}"
        by = ", ".join([*names, self._replica] if self._replica else names)

        def summed(which: str) -> NativeSet:
            query = f"sum by ({by}) ({which} and (histogram_count({now}) >= histogram_count({before})))"
            return self._client.native_range(query, self._request.start, self._request.end, self._request.block)

        return self._one_replica(together([summed(now), summed(before).times(-1.0)]))

    def _one_replica(self, native: NativeSet) -> NativeSet:
        """Return what the replica that saw most has seen."""
        if not self._replica or not len(native):
            return native
        seers = np.array([labels.get(self._replica, "") for labels in native.totals.labels])
        sizes = np.diff(native.totals.offsets)
        return native.only(seers == max(sorted(set(seers.tolist())), key=lambda seer: int(sizes[seers == seer].sum())))

    def _summed(self, selector: Selector, rule: Rule, more: Iterable[str] = ()) -> SampleSet:
        block = milliseconds(self._request.block)
        names = [*self._names(rule), *map(label_name, more)]
        if rule.kind is Kind.GAUGE:
            # The last value of a block, as raw samples give it: a mean would look calmer than what is judged.
            value = self._once(f"last_over_time({selector}[{block}])", "avg")
            return self._evaluated(_aggregated(rule.across, names, value))
        # increase() would extrapolate, and see nothing where scrapes are as far apart as blocks.
        before = self._once(f"{selector} offset {block}")
        return self._evaluated(_aggregated("sum", names, f"clamp_min({self._once(str(selector))} - {before}, 0)"))

    def _evaluated(self, query: str) -> SampleSet:
        request = self._request
        return self._client.values_range(query, request.start, request.end, request.block)

    def _once(self, expression: str, how: str = "max") -> str:
        return once(expression, self._replica, how)

    @staticmethod
    def _names(rule: Rule) -> list[str]:
        """Return the labels that make streams and units."""
        return list(dict.fromkeys(map(label_name, (*rule.by, *((rule.unit,) if rule.unit else ())))))


def _part(selector: Selector, whole: Selector, samples: SampleSet) -> SampleSet | None:
    """Return the samples of a selector out of those of a wider one; None where it may not be a part of that."""
    further = set(selector.matchers) - set(whole.matchers)
    plain = all(matcher.op in ("=", "!=") for matcher in further)
    if selector.metric != whole.metric or not set(whole.matchers) <= set(selector.matchers) or not plain:
        return None
    found = [all(each.matches(labels.get(each.label, "")) for each in further) for labels in samples.labels]
    return samples.only(np.array(found, dtype=np.bool_))


def once(expression: str, replica: str | None, how: str = "max") -> str:
    """Return an expression with the replicas of a series put together; of counters the largest missed least."""
    return f"{how} without ({replica}) ({expression})" if replica else expression


def label_name(name: str) -> str:
    """Return the name of a label, which may then stand in a query.

    Raises:
        ConfigError: it is none.
    """
    if not _LABEL.fullmatch(name):
        raise ConfigError(f"{name!r} is not the name of a label")
    return name


def _aggregated(across: str, names: Iterable[str], value: str) -> str:
    by = ", ".join(names)
    if across == "median":
        return f"quantile by ({by}) (0.5, {value})"
    return f"{'avg' if across == 'mean' else across} by ({by}) ({value})"

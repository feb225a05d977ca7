"""A server whose past is read once: history by days, which many releases share, and every release's looks in one read.

What is looked at afterwards is a part of what was read. A stream is known from its first traffic on, as it would have
been then; but for series that were there before, without any.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from watcher.look import Source, request
from watcher.model import Arm, Floats, Observations, Request, Rule, Watch

DAY = 86_400.0
MOST_BYTES = 512 * 2**20
"""What is kept in memory, before the part that was not used for longest is let go."""

S = TypeVar("S", bound=Source)


class Kept(Generic[S]):
    """What was read of a server so far. A copy in another process reads over a connection of its own.

    Args:
        connect: opens the server, in every process anew.
        most: bytes to keep.
    """

    _source: S | None

    def __init__(self, connect: Callable[[], S], most: int = MOST_BYTES) -> None:
        self._connect, self._most = connect, most
        self._process, self._source = 0, None
        self._parts: OrderedDict[Hashable, Observations] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        return Kept, (self._connect, self._most)

    @property
    def source(self) -> S:
        """The server, over a connection that no other process has."""
        if self._source is None or self._process != os.getpid():
            self._process, self._source = os.getpid(), self._connect()
        return self._source

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return raw counts, read once."""
        keys = {rule.name: ("raw", *_key(rule, request)) for rule in request.rules}
        known = {name: self._parts[key] for name, key in keys.items() if key in self._parts}
        missing = tuple(rule for rule in request.rules if rule.name not in known)
        read = self.source.observe(replace(request, rules=missing)) if missing else {}
        for name, found in read.items():
            self._keep(keys[name], found)
        return {**known, **read}

    def history(self, request: Request) -> dict[str, Observations]:
        """Return what there was in a stretch of the past; each day of it is read once."""
        return {rule.name: self._past(rule, request) for rule in request.rules}

    def _past(self, rule: Rule, request: Request) -> Observations:
        length = max(1.0, DAY // request.block) * request.block
        first = int(np.floor(request.start / length + 1e-9))
        last = int(np.ceil(request.end / length - 1e-9))
        if last <= first:
            return self.source.history(replace(request, rules=(rule,)))[rule.name]
        days = [
            self._day(rule, replace(request, rules=(rule,), start=day * length, end=(day + 1) * length))
            for day in range(first, last)
        ]
        whole = days[0]
        for later in days[1:]:
            whole = whole.then(later)
        found = whole.between(request.start, request.end)
        return found.of_streams(np.flatnonzero(born(found) < np.inf).tolist()) if streams_vary(rule) else found

    def _day(self, rule: Rule, request: Request) -> Observations:
        key = ("history", *_key(rule, request))
        if key in self._parts:
            self._parts.move_to_end(key)
            return self._parts[key]
        found = self.source.history(request)[rule.name]
        self._keep(key, found)
        return found

    def _keep(self, key: Hashable, found: Observations) -> None:
        self._parts[key] = found
        while len(self._parts) > 1 and sum(map(_bytes, self._parts.values())) > self._most:
            self._parts.popitem(last=False)


@dataclass(frozen=True)
class Horizon:
    """The looks at one release, all of their blocks read at once."""

    held: dict[str, Observations]
    varies: frozenset[str]
    """Rules whose streams come and go."""

    @classmethod
    def of(cls, kept: Kept[Any], watch: Watch, until: float) -> Horizon:
        """Read what can be seen of a release until a moment.

        Raises:
            SourceError: the server cannot be read.
        """
        start = float(np.floor(watch.release.exposed_at / watch.block) * watch.block)
        end = float(np.floor((until - watch.settle) / watch.block) * watch.block)
        held = kept.observe(request(watch, start, max(start, end)))
        return cls(held, frozenset(rule.name for rule in watch.rules if streams_vary(rule)))

    def observe(self, request: Request) -> dict[str, Observations]:
        """Return the blocks asked for, of the streams that had traffic by then."""
        return {rule.name: self._part(rule, request) for rule in request.rules}

    history = observe

    def _part(self, rule: Rule, request: Request) -> Observations:
        held = self.held[rule.name]
        part = held.between(request.start, request.end)
        if rule.name not in self.varies:
            return part
        return part.of_streams(np.flatnonzero(born(held) <= request.end + 1e-6).tolist())


def streams_vary(rule: Rule) -> bool:
    """Tell whether a rule has more streams than the one of everything."""
    return bool(rule.by) or rule.signature is not None


def born(seen: Observations) -> Floats:
    """Return the end of the first block in which each stream had traffic, infinite where it never had, [stream]."""
    arms = [arm for arm in (seen.baseline, seen.treatment) if arm is not None]
    if not seen.ends.size:
        return np.full(len(seen.streams), np.inf)
    busy = np.any([(np.maximum(arm.total, arm.events) > 0).any(axis=1) for arm in arms], axis=0)
    return np.where(busy.any(axis=1), seen.ends[busy.argmax(axis=1)], np.inf)


def _key(rule: Rule, request: Request) -> tuple[Hashable, ...]:
    """Return what decides what is read, and nothing else: the margin of a rule does not."""
    read = (rule.name, rule.kind, rule.events, rule.total, rule.worse, rule.objective, rule.across, rule.by, rule.unit)
    where = (request.select, request.baseline, request.treatment, request.start, request.end, request.block)
    return (*read, rule.signature, *where)


def _bytes(seen: Observations) -> int:
    def size(arm: Arm | None) -> int:
        parts = () if arm is None else (arm.events, arm.total, arm.buckets)
        return sum(each.nbytes for each in parts if each is not None)

    return size(seen.baseline) + size(seen.treatment)

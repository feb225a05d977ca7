"""`GET /metrics`: what the daemon does, and what its journal holds, as Prometheus reads it.

Labels are services, kinds of switches and actions, states and outcomes, all of them from watcher.yaml or from watcher
itself; a release is named only while it is watched.
"""

from __future__ import annotations

import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from watcher import __version__
from watcher.config import Installation, switch_key
from watcher.errors import JournalError
from watcher.journal import Journal
from watcher.model import Look, Outcome, Watch
from watcher.observer import Pinged

log = logging.getLogger("watcher")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
MOST: Final = 200
"""Watches beyond which those that were looked at last are not named one by one."""
SECONDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""Edges of the histogram of how long a look takes: from blocks of one rule to weeks of history read once."""

KINDS: Final = ("kill", "promote", "headline", "detail")
FINISHED: Final = ("done", "failed", "superseded")


class Metrics:
    """Counts what it is told of the daemon, in a registry of its own.

    Args:
        installation: whose services and switches have a series from the start, so that a first error is an increase.
        journal: asked for the outbox whenever somebody reads.
        clock: epoch seconds.
        stopwatch: monotonic seconds; only differences count, so that a clock that is set says nothing of the daemon.
    """

    def __init__(
        self,
        installation: Installation,
        journal: Journal,
        clock: Callable[[], float] = time.time,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock, self._stopwatch = clock, stopwatch
        self._stepped_at: float | None = None
        self._watches = _Watches()
        self.registry = registry = CollectorRegistry()
        self._looks = Counter("watcher_looks", "Looks recorded.", ["service", "outcome"], registry=registry)
        self._failed = Counter("watcher_look_failures", "Looks not recorded.", ["service"], registry=registry)
        missed = "Blocks without a look of their own: it came late, failed, or could not read metrics."
        self._missed = Counter("watcher_looks_missed", missed, ["service"], registry=registry)
        took = "Seconds a look took, its record included."
        self._took = Histogram("watcher_look_duration_seconds", took, registry=registry, buckets=SECONDS)
        unread = "Times that metrics could not be read."
        self._source = Counter("watcher_source_errors", unread, ["service"], registry=registry)
        silent = "Times that a kill switch could not be read."
        self._switch = Counter("watcher_switch_errors", silent, ["switch"], registry=registry)
        pinged = "Pings that were due: sent, failed (not taken), or withheld because something was amiss."
        self._pings = Counter("watcher_pings", pinged, ["outcome"], registry=registry)
        stepped = "When the last step of this process was over; 0 before the first."
        self._step = Gauge("watcher_last_step_timestamp_seconds", stepped, registry=registry)
        build = Info("watcher_build", "The version of watcher, and of Python.", registry=registry)
        build.info({"version": __version__, "python": platform.python_version()})
        for service in installation.services.values():
            for outcome in Outcome:
                self._looks.labels(service.name, str(outcome))
            for counter in (self._failed, self._missed, self._source):
                counter.labels(service.name)
            for key in filter(None, map(switch_key, service.releases)):
                self._switch.labels(key.partition(":")[0])
        for how in get_args(Pinged) if installation.ping else ():
            self._pings.labels(how)
        registry.register(self._watches)
        registry.register(_Kept(journal))

    async def get(self, _: Request) -> Response:
        """Answer Prometheus; the journal may let it wait, and meanwhile others are answered."""
        return Response(await run_in_threadpool(generate_latest, self.registry), media_type=CONTENT_TYPE)

    def since_step(self) -> float | None:
        """Return the seconds since the last step of this process was over; None before the first."""
        at = self._stepped_at
        return None if at is None else self._stopwatch() - at

    def watching(self, watches: Sequence[Watch]) -> None:
        """Forget the series of watches that ended."""
        self._watches.keep(watches)

    def looked(self, watch: Watch, look: Look, previous: Look | None, seconds: float) -> None:
        """Count a look."""
        service, now = watch.release.service, self._clock()
        self._looks.labels(service, str(look.verdict.outcome)).inc()
        self._took.observe(seconds)
        if look.problem is not None:
            self._source.labels(service).inc()
        news = previous is None or look.through > previous.through
        if previous is not None and news:
            self._missed.labels(service).inc(max(0, round((look.through - previous.through) / watch.block) - 1))
        self._watches.looked(watch, now - look.through if news else None, None if look.problem else now)

    def look_failed(self, watch: Watch) -> None:
        """Count a look that came to nothing."""
        self._failed.labels(watch.release.service).inc()

    def source_failed(self, service: str) -> None:
        """Count metrics that could not be read."""
        self._source.labels(service).inc()

    def switch_unread(self, switch: str) -> None:
        """Count a switch that did not answer."""
        self._switch.labels(switch).inc()

    def stepped(self, whole: bool) -> None:
        """Note that the daemon is alive."""
        self._stepped_at = self._stopwatch()
        self._step.set(self._clock())

    def pinged(self, how: Pinged) -> None:
        """Count a ping."""
        self._pings.labels(how).inc()


@dataclass
class _Seen:
    service: str
    success: float = 0.0
    lag: float | None = None


class _Watches(Collector):
    """What is watched now, a series each: told by the daemon's thread, read by the server's."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}
        self._lock = threading.Lock()

    def keep(self, watches: Sequence[Watch]) -> None:
        """Add what is new, and forget what is not among the watches any more."""
        with self._lock:
            old = self._seen
            releases = [watch.release for watch in watches]
            self._seen = {each.id: old.get(each.id) or _Seen(each.service) for each in releases}

    def looked(self, watch: Watch, lag: float | None, success: float | None) -> None:
        """Note a look; None leaves what an earlier one said."""
        with self._lock:
            seen = self._seen.setdefault(watch.release.id, _Seen(watch.release.service))
            seen.lag = seen.lag if lag is None else lag
            seen.success = seen.success if success is None else success

    def collect(self) -> Iterator[Metric]:
        """Yield the series; of too many, those that had no success for the longest."""
        labels = ("service", "release")
        count = GaugeMetricFamily("watcher_watches", "Releases being watched.")
        lag = GaugeMetricFamily(
            "watcher_look_lag_seconds", "From the end of the newest block to its look.", labels=labels
        )
        success = GaugeMetricFamily(
            "watcher_last_success_timestamp_seconds",
            "When a look that could read metrics was last recorded; 0 for none in this process.",
            labels=labels,
        )
        with self._lock:
            count.add_metric((), len(self._seen))
            for release, seen in sorted(self._seen.items(), key=lambda each: each[1].success)[:MOST]:
                success.add_metric((seen.service, release), seen.success)
                if seen.lag is not None:
                    lag.add_metric((seen.service, release), seen.lag)
        yield from (count, lag, success)


class _Kept(Collector):
    """What the journal holds of actions, from before this process too: nothing is lost by a restart."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def collect(self) -> Iterator[Metric]:
        """Yield the actions; without a readable journal, only that it is not."""
        readable = GaugeMetricFamily("watcher_journal_readable", "Whether the journal could be read just now.")
        try:
            tallies = {(each.kind, each.state): each for each in self._journal.tallies()}
        except JournalError as error:
            log.warning("metrics without the outbox: %s", error)
            readable.add_metric((), 0)
            yield readable
            return
        readable.add_metric((), 1)
        finished = CounterMetricFamily(
            "watcher_actions", "Actions finished: done, failed for good, or superseded.", labels=("kind", "state")
        )
        depth = GaugeMetricFamily("watcher_outbox_depth", "Actions still to be done.", labels=("kind",))
        oldest = GaugeMetricFamily(
            "watcher_outbox_oldest_timestamp_seconds", "When the oldest of them was intended.", labels=("kind",)
        )
        for kind in KINDS:
            for state in FINISHED:
                finished.add_metric((kind, state), tallies[kind, state].count if (kind, state) in tallies else 0)
            waiting = [tally for (of, state), tally in tallies.items() if of == kind and state not in FINISHED]
            depth.add_metric((kind,), sum(tally.count for tally in waiting))
            if waiting:
                oldest.add_metric((kind,), min(tally.oldest for tally in waiting))
        yield from (readable, finished, depth, oldest)

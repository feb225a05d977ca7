"""Whole installations whose users come through HAProxy: to a canary of a backend, or to one of two colours.

    with proxied.canary(tmp_path) as here:
        here.begin()
        here.release()
        here.fail(proxied.BAD)

The shops, HAProxy, Prometheus, the visitors and the daemon are processes of their own; Slack is a stand-in.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from tests.alerts.slack_server import SlackServer
from tests.planted import plant
from tests.servers import haproxy_server
from tests.servers.haproxy_server import HAProxyServer
from tests.servers.installation import RATE, VISITS, Daemon, Installation, Metrics, says
from tests.servers.load import Load
from tests.servers.prometheus_server import Series
from tests.servers.shop import Shop
from tests.servers.withdrawal import Withdrawal

T = TypeVar("T")
FLAGS = "features: {}\n"
HOUR = 3600.0

USUAL, BAD = 0.01, 0.2
"""Share of the requests that fail, of a good release as of what there was before, and of a bad release."""

# In a block of 2 s there are 400 requests: 20 of them for a canary of 5 %, 100 at 25 %, 200 at 50 %. That no more than
# 5 of a hundred more fail is proven of one that is as good as what there was after 6 blocks (9 times in 10: 11) at 5 %,
# and after 4, before which nothing is, at 25 and 50 %. One failure in five requests is found after 2 blocks at any of
# them. Half as many again, which is the usual margin, would take many minutes at 5 %: 2 failures in ten blocks.
RULES = """\
pack: shop
unit: instance
rules:
  - name: request-errors
    title: Requests that failed
    kind: ratio
    bad: http_requests_total{code=~"5.."}
    total: http_requests_total
    margin: 5pp
    critical: true
"""

CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
block: 2s
settle: 2s
slack: {{token_file: slack-token, channel: "#releases", base_url: "{slack}"}}
may_turn_off: [{{switch: haproxy, feature: shop, environment: production}}]
services:
  shop:
    select: {{job: shop}}
    rules: [rules.yaml]
    mode: armed
    watch_for: {watch_for}
    warm_up: 2s
    releases:
"""

STABLE, CANARY = "1.1", "1.2"
CANARY_PAST = 6 * HOUR
# The configured weights give the canary 5 %, as soon as it is up. Every request is that of a user drawn anew, so that
# requests can stand for users in `split`. A kill needs to know how units differ: so there are two of the stable ones.
CANARY_BACKEND = """\
backend shop
  server stable-1 {stable_1} weight 95
  server stable-2 {stable_2} weight 95
  server canary {canary} weight 10 check
"""
CANARY_RELEASES = """\
      - strategy: canary
        notice: {{label: version}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
        split: {{assigned: http_requests_total, share: switch}}
        promote: [5%, 25%, 50%, 100%]
        kill: {{haproxy: {{socket: {socket}, backend: shop, server: canary, state_file: {state_file}}}}}
        history: 6h
"""

# Without a control a kill needs 99 placebos, half an hour apart, after the three hours before the first of them.
COLOURS_PAST = 54 * HOUR
COLOURS_BACKENDS = """\
backend blue
  server blue-1 {blue} check
backend green
  server green-1 {green} check
"""
COLOURS_RELEASES = """\
      - strategy: blue_green
        notice: {{{notice}}}
        kill: {{haproxy: {{socket: {socket}, map: live, to: "{{previous}}"}}}}
        history: 54h
"""


class Changes(threading.Thread, Generic[T]):
    """Everything that something says, seen within so many seconds: when (epoch seconds), and what."""

    def __init__(self, read: Callable[[], T], within: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._read, self._within, self._ended = read, within, threading.Event()
        self.seen: list[tuple[float, T]] = []

    def __enter__(self) -> Changes[T]:
        self._said = self._read()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(self._within):
            found = self._read()
            if found != self._said:
                self._said = found
                self.seen.append((time.time(), found))

    @property
    def values(self) -> list[T]:
        """What it said, without when."""
        return [value for _, value in self.seen]

    def are_over(self, quiet: float = 2.0) -> bool:
        """Tell whether it has said the same for so many seconds, after something else."""
        return bool(self.seen) and time.time() - self.seen[-1][0] > quiet


@dataclass
class Proxied(Installation):
    """An installation behind HAProxy; `shops` are by instance."""

    haproxy: HAProxyServer
    shops: Mapping[str, Shop]
    metrics: Metrics

    def served(self, *instances: str) -> float:
        """Return how many requests these shops have answered, by their own count; none while they do not run."""
        with suppress(OSError):
            return sum(self.shops[name].count("http_requests_total") for name in instances)
        return 0.0

    def requests(self, *instances: str) -> Changes[float]:
        """Return when these shops answer requests from now on."""
        return Changes(lambda: self.served(*instances), within=0.1)

    def details(self) -> list[str]:
        """Return what stands below the one message there is."""
        [message] = self.parents()
        return [reply.shown for reply in self.slack.thread(message)]

    def shows(self, state: str) -> bool:
        """Tell whether the message of the release stands at a state now."""
        return says(self.parents()[0].shown, state)

    def fail(self, instance: str, errors: float = BAD) -> float:
        """Let so many requests of a shop fail; return when."""
        self.shops[instance].set_faults(error_rate={"off": errors})
        return time.time()

    def withdrawn(self, bad: float, turned: Changes[Any], requests: Changes[float]) -> Withdrawal:
        """Return how a bad release was taken back, once watcher did so and its last user was served."""
        self.eventually(self.kills, "watcher decided to take it back")
        self.eventually(requests.are_over, "nobody was served by it any more")
        [kill] = self.kills()
        assert kill.action.decided_at is not None
        return Withdrawal(bad, kill.action.decided_at, turned.seen[-1][0], requests.seen[-1][0])


@dataclass
class Canary(Proxied):
    """Two shops of the version everybody has, and one of the next that nobody has yet: it is not running."""

    def begin(self) -> None:
        """Start the daemon, and wait until it knows who serves."""
        self.daemon.start()
        self.eventually(lambda: STABLE in self._known(), "the daemon saw the version that serves")

    def release(self, errors: float = USUAL) -> None:
        """Start the canary: HAProxy finds it up, and gives it 5 % of the requests."""
        self.fail("canary", errors)
        self.shops["canary"].start()

    def weights(self) -> dict[str, int]:
        return self.haproxy.weights("shop")

    def share(self) -> float:
        """Return the canary's share of the weights."""
        weights = self.weights()
        return weights["canary"] / sum(weights.values())

    def observed_share(self, seconds: float = 2.0) -> float:
        """Return the canary's share of the requests that all shops count in some seconds."""
        before = {name: self.served(name) for name in self.shops}
        time.sleep(seconds)
        grown = {name: self.served(name) - before[name] for name in self.shops}
        return grown["canary"] / sum(grown.values())

    def be_withdrawn(self) -> Withdrawal:
        """Release a version that fails from its first request on; return once watcher took all traffic from it."""
        with Changes(self.weights) as turned, self.requests("canary") as requests:
            self.release(BAD)
            self.eventually(lambda: requests.seen, "somebody got it")
            return self.withdrawn(requests.seen[0][0], turned, requests)

    def _known(self) -> Mapping[str, float]:
        with self.journal() as journal:
            seen = journal.recall("versions/shop/version/shop") or {}
        return seen.get("known") or {}


@dataclass
class Colours(Proxied):
    """Two shops of which HAProxy's map names the one that everybody gets: blue."""

    def begin(self) -> None:
        """Start the daemon, which first learns what is usual."""
        self.daemon.start()
        learnt = "learnt what is usual of shop, blue_green"
        self.eventually(lambda: learnt in self.daemon.talk, "it learnt what is usual")

    def live(self) -> str:
        return self.haproxy.ask(f"show map {self.haproxy.live_map}").split()[-1]

    def switch_over(self, to: str = "green") -> None:
        """Give everybody the other colour, as docs/switches.md says."""
        self.haproxy.ask(f"set map {self.haproxy.live_map} live {to}")
        self.haproxy.live_map.write_text(f"live {to}\n")

    def be_withdrawn(self) -> Withdrawal:
        """Switch to a version that fails from its first request on; return once watcher switched back."""
        with Changes(self.live) as turned, self.requests("green") as requests:
            self.fail("green")
            self.switch_over()
            self.eventually(lambda: requests.seen, "somebody got it")
            return self.withdrawn(requests.seen[0][0], turned, requests)


def past(shops: Sequence[Shop], labels: Mapping[str, Mapping[str, str]], seconds: float, every: float) -> list[Series]:
    """Return what Prometheus would have seen of these shops until now, had they shared the visitors for so long."""
    rng = np.random.default_rng(6)
    end = time.time() // every * every
    times = np.arange(end - seconds, end, every)
    found: list[Series] = []
    for shop in shops:
        for feature, part in VISITS.items():
            rate = RATE * part / sum(VISITS.values()) / len(shops)
            requests = rng.poisson(rate * every, times.size)
            failed = rng.binomial(requests, USUAL)
            own = {"job": "shop", "instance": shop.instance, **labels.get(shop.instance, {})}
            own |= {"__name__": "http_requests_total", "feature": feature, "variant": "off"}
            found += [
                ({**own, "code": code}, times, np.cumsum(counted))
                for code, counted in (("200", requests - failed), ("500", failed))
            ]
    return found


@contextmanager
def canary(directory: Path) -> Iterator[Canary]:
    """Start everything but the daemon and the canary; stop everything at the end."""
    labels = {name: {"version": STABLE} for name in ("stable-1", "stable-2")} | {"canary": {"version": CANARY}}
    with ExitStack() as stack:
        shops = _shops(directory, labels, stack)
        for name in ("stable-1", "stable-2"):
            shops[name].start()
        history = past([shops["stable-1"], shops["stable-2"]], labels, CANARY_PAST, every=2.0)
        metrics = _metrics(directory, shops, history, labels, stack)
        haproxy = stack.enter_context(haproxy_server.running(CANARY_BACKEND.format(**_addresses(shops)), "live shop\n"))
        more = {"socket": haproxy.socket, "state_file": str(haproxy.state_file)}
        parts = _installed(directory, metrics, haproxy, CONFIG + CANARY_RELEASES, {"watch_for": "10m", **more}, stack)
        yield Canary(*parts, haproxy=haproxy, shops=shops, metrics=metrics)


@contextmanager
def colours(directory: Path, watch_for: str = "10m", notice: str = "switch: true") -> Iterator[Colours]:
    """Start everything but the daemon; stop everything at the end.

    Args:
        directory: of all files.
        watch_for: in watcher.yaml, as is `notice`.
    """
    with ExitStack() as stack:
        shops = _shops(directory, {"blue": {}, "green": {}}, stack)
        for shop in shops.values():
            shop.start()
        history = past([shops["blue"]], {}, COLOURS_PAST, every=2.0)
        metrics = _metrics(directory, shops, history, {}, stack)
        backends = COLOURS_BACKENDS.format(**_addresses(shops))
        haproxy = stack.enter_context(haproxy_server.running(backends, "live blue\n"))
        more = {"socket": haproxy.socket, "notice": notice, "watch_for": watch_for}
        parts = _installed(directory, metrics, haproxy, CONFIG + COLOURS_RELEASES, more, stack)
        yield Colours(*parts, haproxy=haproxy, shops=shops, metrics=metrics)


def _shops(directory: Path, names: Iterable[str], stack: ExitStack) -> dict[str, Shop]:
    """Return shops that fail as usual, and do not run yet."""
    flags = directory / "feature-flags.yaml"
    flags.write_text(FLAGS)
    shops = {name: Shop(directory, flags, instance=name) for name in names}
    for shop in shops.values():
        shop.set_faults(error_rate={"off": USUAL})
        stack.callback(shop.stop)
    return shops


def _addresses(shops: Mapping[str, Shop]) -> dict[str, str]:
    return {name.replace("-", "_"): f"127.0.0.1:{shop.port}" for name, shop in shops.items()}


def _metrics(
    directory: Path,
    shops: Mapping[str, Shop],
    history: Sequence[Series],
    labels: Mapping[str, Mapping[str, str]],
    stack: ExitStack,
) -> Metrics:
    metrics = Metrics(directory / "prometheus", list(shops.values()), history, labels)
    stack.callback(metrics.stop)
    metrics.start()
    return metrics


def _installed(
    directory: Path, metrics: Metrics, haproxy: HAProxyServer, config: str, more: Mapping[str, str], stack: ExitStack
) -> tuple[Path, Path, SlackServer, Daemon]:
    """Write watcher.yaml, and let visitors come in."""
    slack = stack.enter_context(SlackServer("#releases", per_second=1.0))
    plant(directory / "slack-token", slack.token + "\n")
    (directory / "rules.yaml").write_text(RULES)
    path = directory / "watcher.yaml"
    path.write_text(config.format(prometheus=metrics.url, slack=slack.base_url, **more))
    daemon = Daemon(path)
    stack.callback(daemon.stop)
    stack.enter_context(Load([f"http://127.0.0.1:{haproxy.live_port}"], rate=RATE, features=VISITS))
    return directory, path, slack, daemon

"""A small web shop with feature flags and Prometheus metrics: the release that end-to-end tests watch is one of its.

    python tests/servers/shop.py --port 8001 --flags feature-flags.yaml --instance shop-1 --faults faults.json
    python tests/servers/shop.py --port 8001 --unleash http://127.0.0.1:4242 --unleash-token TOKEN --faults faults.json

`GET /{feature}?user=7` (or the header `user: 7`) answers for the features search, cart and new-checkout. Which variant
a user sees depends on the flags file, or on Unleash, which is asked every second; how well each variant works depends
on the faults file. All may change at any time. A page load time is drawn and observed, never slept. `Shop` runs one as
a process.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import uvicorn
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

if TYPE_CHECKING:
    from tests.servers.prometheus_server import PrometheusServer

FEATURES = ("search", "cart", "new-checkout")
CHECKOUT = "new-checkout"
MEDIAN_LOAD, SPREAD = 0.8, 0.6
"""Page load time: median in seconds and standard deviation of its logarithm; 2.9 % take longer than 2.5 s."""
CHECK_EVERY = 0.1
"""Seconds between two looks at whether a file changed."""
T = TypeVar("T")
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


@dataclass(frozen=True)
class Faults:
    """How well each variant works. A variant that is not named works as by default."""

    error_rate: Mapping[str, float] = field(default_factory=dict)
    """Share of requests answered with 500; 0.01 by default."""
    load_factor: Mapping[str, float] = field(default_factory=dict)
    """What page load times are multiplied by; 1 by default."""
    completion: Mapping[str, float] = field(default_factory=dict)
    """Share of the checkouts begun that are completed; 0.9 by default."""


def read_faults(path: Path) -> Faults:
    return Faults(**json.loads(path.read_text()))


def read_exposure(path: Path) -> dict[str, float]:
    """Return the percentage of users each flag in the file turns its feature on for, 0 when it is off."""
    features = YAML(typ="safe", pure=True).load(path.read_text())["features"]
    return {
        str(feature): float(flag.get("rollout_percentage", 100)) if flag.get("enabled") is True else 0.0
        for feature, flag in features.items()
    }


class WatchedFile(Generic[T]):
    """What a file says, read again when it changed. While it is missing or half-written, what it said last holds."""

    def __init__(self, path: Path, read: Callable[[Path], T], now: float) -> None:
        self._path, self._read = path, read
        self._stamp, self._checked = self._stat(), now
        self._content = read(path)

    def content(self, now: float) -> T:
        if now - self._checked >= CHECK_EVERY:
            self._checked = now
            try:
                stamp = self._stat()
                if stamp != self._stamp:
                    self._content = self._read(self._path)
                    self._stamp = stamp
            except (OSError, ValueError, TypeError, KeyError, AttributeError, YAMLError):
                # Whoever is writing the file is not done; it is looked at again soon.
                pass
        return self._content

    def _stat(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino, found.st_size


def is_exposed(user: int, feature: str, percentage: float) -> bool:
    """Tell whether a user is among the first percentages of a feature's users: raising it never takes anybody out."""
    digest = hashlib.blake2b(f"{feature}:{user}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < percentage


class Flags(Protocol):
    """Whatever says who sees what."""

    def has(self, feature: str) -> bool:
        """Tell whether there is a flag for a feature."""
        ...

    def is_on(self, feature: str, user: int, now: float) -> bool:
        """Tell whether a user sees the released variant of a feature."""
        ...


class FlagsFile:
    """Flags in a file, looked at every tenth of a second."""

    def __init__(self, path: Path, now: float) -> None:
        self._exposure = WatchedFile(path, read_exposure, now)
        self._features = frozenset(self._exposure.content(now))

    def has(self, feature: str) -> bool:
        return feature in self._features

    def is_on(self, feature: str, user: int, now: float) -> bool:
        return is_exposed(user, feature, self._exposure.content(now).get(feature, 0.0))


class UnleashFlags:
    """Flags in Unleash, through its SDK, which asks for them every second and in between keeps what it heard last."""

    def __init__(self, url: str, token: str, instance: str, kept: Path | None) -> None:
        from UnleashClient import UnleashClient

        self._client = UnleashClient(
            url=f"{url}/api",
            app_name="shop",
            instance_id=instance,
            custom_headers={"Authorization": token},
            refresh_interval=1,
            disable_metrics=True,
            disable_registration=True,
            cache_directory=None if kept is None else str(kept),
        )
        self._client.initialize_client()

    def has(self, feature: str) -> bool:
        return feature in self._client.feature_definitions()

    def is_on(self, feature: str, user: int, now: float) -> bool:
        return bool(self._client.is_enabled(feature, {"userId": str(user)}))


class Storefront:
    """The application: pages, and what is measured of them."""

    def __init__(self, flags: Flags, faults: Path | None, draw: random.Random, completion_delay: float) -> None:
        now = time.monotonic()
        self._flags = flags
        self._faults = WatchedFile(faults, read_faults, now) if faults else None
        self._draw, self._completion_delay = draw, completion_delay
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        arm = ("feature", "variant")
        self.requests = Counter("http_requests", "Requests answered.", (*arm, "code"), registry=self.registry)
        self.load = Histogram(
            "page_load_seconds",
            "Time until a page had loaded.",
            arm,
            registry=self.registry,
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        self.started = Counter("checkout_started", "Checkouts begun.", arm, registry=self.registry)
        self.completed = Counter("checkout_completed", "Checkouts completed.", arm, registry=self.registry)
        # Every other series is born with its first event, as in most services.
        for feature in FEATURES:
            for variant in ("off", "on") if flags.has(feature) else ("off",):
                self.requests.labels(feature, variant, "200")
        self.application = Starlette(routes=[Route("/metrics", self.metrics), Route("/{feature}", self.page)])

    async def metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(self.registry), headers={"content-type": content_type})

    async def page(self, request: Request) -> Response:
        feature = request.path_params["feature"]
        if feature not in FEATURES:
            return PlainTextResponse("no such page", 404)
        user = request.query_params.get("user") or request.headers.get("user", "")
        if not user.isdecimal():
            return PlainTextResponse("user=<int> is missing", 400)
        now = time.monotonic()
        variant = "on" if self._flags.is_on(feature, int(user), now) else "off"
        faults = self._faults.content(now) if self._faults else Faults()
        failed = self._draw.random() < faults.error_rate.get(variant, 0.01)
        self.requests.labels(feature, variant, "500" if failed else "200").inc()
        if failed:
            return PlainTextResponse(f"{variant}: failed", 500)
        self._loaded(feature, variant, faults)
        return PlainTextResponse(variant)

    def _loaded(self, feature: str, variant: str, faults: Faults) -> None:
        seconds = self._draw.lognormvariate(math.log(MEDIAN_LOAD), SPREAD) * faults.load_factor.get(variant, 1.0)
        self.load.labels(feature, variant).observe(seconds)
        if feature == CHECKOUT:
            self.started.labels(feature, variant).inc()
            if self._draw.random() < faults.completion.get(variant, 0.9):
                complete = self.completed.labels(feature, variant).inc
                asyncio.get_running_loop().call_later(self._completion_delay, complete)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="A shop to watch.")
    parser.add_argument("--port", type=int, required=True)
    told = parser.add_mutually_exclusive_group(required=True)
    told.add_argument("--flags", type=Path, help="YAML, `features: {name: {enabled, ...}}`")
    told.add_argument("--unleash", metavar="URL", help="address of an Unleash")
    parser.add_argument("--unleash-token", default="", metavar="TOKEN", help="of an SDK in the backend")
    parser.add_argument("--unleash-cache", type=Path, metavar="DIR", help="where the SDK keeps what it heard last")
    parser.add_argument("--instance", default="shop-1", help="instances of one seed draw different numbers")
    parser.add_argument("--faults", type=Path, help="JSON with any of error_rate, load_factor, completion by variant")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--completion-delay", type=float, default=0.2, help="seconds from a checkout's begin to its end"
    )
    given = parser.parse_args(arguments)
    draw = random.Random(f"{given.seed}/{given.instance}")
    flags: Flags = (
        UnleashFlags(given.unleash, given.unleash_token, given.instance, given.unleash_cache)
        if given.unleash
        else FlagsFile(given.flags, time.monotonic())
    )
    storefront = Storefront(flags, given.faults, draw, given.completion_delay)
    uvicorn.run(
        storefront.application,
        host="127.0.0.1",
        port=given.port,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Shop:
    """A shop that runs as a process of its own on 127.0.0.1, and is stopped by its process id.

    `directory` takes its log and faults; `flags` is a file, or the address of an Unleash and the token of an SDK. After
    `stop`, `start` brings it back on the same port with its counters at 0: a restart. The faults stay.
    """

    def __init__(
        self,
        directory: Path,
        flags: Path | tuple[str, str],
        *,
        instance: str = "shop-1",
        seed: int = 1,
        completion_delay: float = 0.2,
    ) -> None:
        self.instance, self.port = instance, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._faults = directory / f"{instance}-faults.json"
        self._log = directory / f"{instance}.log"
        self._command = [sys.executable, str(Path(__file__).resolve()), f"--port={self.port}"]
        if isinstance(flags, Path):
            self._command += [f"--flags={flags}"]
        else:
            self._command += [f"--unleash={flags[0]}", f"--unleash-token={flags[1]}"]
            self._command += [f"--unleash-cache={directory / f'{instance}-flags'}"]
        self._command += [f"--instance={instance}", f"--faults={self._faults}", f"--seed={seed}"]
        self._command += [f"--completion-delay={completion_delay}"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Shop:
        self.set_faults()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None, "the shop is not running"
        return self._process.pid

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            stop_process(process)

    def set_faults(self, **faults: Mapping[str, float]) -> None:
        """Replace all faults by these fields of `Faults`; the shop follows within 0.1 s."""
        draft = self._faults.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(Faults(**faults))))
        os.replace(draft, self._faults)

    def get(self, feature: str, user: int) -> tuple[int, str]:
        """Visit a page: its status, and what it says, which begins with the variant."""
        try:
            with _open(f"{self.url}/{feature}?user={user}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def count(self, metric: str, **labels: str) -> float:
        """Return what the shop itself has counted so far, over all series of a metric that have these labels."""
        with _open(f"{self.url}/metrics", timeout=10) as answer:
            families = list(text_string_to_metric_families(answer.read().decode()))
        samples = (sample for family in families for sample in family.samples if sample.name == metric)
        return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        for _ in range(2400):
            if process.poll() is not None:
                break
            try:
                _open(f"{self.url}/metrics", timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.instance} is not ready: {self._log.read_text()[-2000:]}")


def stop_process(process: subprocess.Popen[Any]) -> None:
    """Ask a process to end, by its id, and make it end if it does not."""
    if process.poll() is None:
        os.kill(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()


def scrape(
    server: PrometheusServer,
    config: Path,
    shops: Sequence[Shop],
    interval: str = "1s",
    labels: Mapping[str, Mapping[str, str]] = {},
) -> None:
    """Have a running Prometheus scrape shops, each under its name as the label `instance`, from now on.

    `config` is the file the server was started with; it must have no `scrape_configs` yet. `labels` are further ones,
    by instance.
    """
    targets = [
        {
            "targets": [f"127.0.0.1:{shop.port}"],
            "labels": {"instance": shop.instance, **labels.get(shop.instance, {})},
        }
        for shop in shops
    ]
    job = {"job_name": "shop", "scrape_interval": interval, "scrape_timeout": interval, "static_configs": targets}
    with config.open("a") as file:
        file.write(f"scrape_configs: {json.dumps([job])}\n")  # JSON is YAML
    os.kill(server.pid, signal.SIGHUP)


if __name__ == "__main__":
    main()

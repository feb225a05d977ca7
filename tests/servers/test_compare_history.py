"""`watcher compare` on a real Prometheus that holds eight days, with a release six hours ago."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tests.servers import prometheus_server
from tests.servers.conftest import require
from tests.servers.prometheus_server import Series

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("compare-history")]

DAY, SCRAPE = 86_400.0, 30.0
OLD, NEW = "1.1", "1.2"


@dataclass(frozen=True)
class Service:
    """A service of the past: `share` of the requests went to the new version, whose errors were so many times."""

    job: str
    share: float
    errors: float


SERVICES = (
    Service("canary-fine", share=0.5, errors=1.0),
    Service("canary-bad", share=0.5, errors=2.5),
    Service("switch-fine", share=1.0, errors=1.0),
    Service("switch-bad", share=1.0, errors=2.5),
)


@dataclass(frozen=True)
class Past:
    """Where the history is, and when the new versions met users."""

    url: str
    exposed_at: float


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    require(prometheus_server.missing())
    exposed, rng = time.time() // 60 * 60 - 6 * 3600.0, np.random.default_rng(11)
    with prometheus_server.running(tmp_path_factory.mktemp("history")) as server:
        times = exposed + np.arange(-7.75 * DAY, 6 * 3600.0, SCRAPE)
        server.remote_write([series for service in SERVICES for series in lives(service, times, exposed, rng)])
        yield Past(server.url, exposed)


def lives(service: Service, times: np.ndarray, exposed: float, rng: np.random.Generator) -> Iterator[Series]:
    """Yield every series of a service: a day's rhythm in traffic and, weaker, in the shares of errors and slow ones."""
    # Counted from the exposure, in the middle of the rise, so that the hour at which the test runs changes nothing.
    phase = np.sin(2 * np.pi * (times - exposed) / DAY)
    visits, failing, slow = 20.0 * (1 + 0.6 * phase), 0.01 * (1 + 0.2 * phase), 0.05 * (1 + 0.1 * phase)
    since = times >= exposed
    for version, share, errors in ((OLD, 1 - service.share * since, 1.0), (NEW, service.share * since, service.errors)):
        lived = slice(None) if version == OLD else slice(int(since.argmax()) - 4, None)
        for number in (1, 2):
            requests = rng.poisson(visits * share / 2 * SCRAPE)
            failed = rng.binomial(requests, failing * errors)
            late = rng.binomial(requests, slow)
            own = {"job": service.job, "version": version, "instance": f"{version}-{number}:8000"}
            yield from counters(own, times, lived, requests, failed, late)


def counters(
    own: dict[str, str], times: np.ndarray, lived: slice, requests: np.ndarray, failed: np.ndarray, late: np.ndarray
) -> Iterator[Series]:
    """Yield what the Prometheus client libraries would show of these requests, as raw counters."""
    at = times[lived]
    yield {"__name__": "process_start_time_seconds", **own}, at, np.full(at.size, at[0] - 5.0)
    for name, extra, counted in (
        ("http_requests_total", {"code": "200"}, requests - failed),
        ("http_requests_total", {"code": "500"}, failed),
        ("http_request_duration_seconds_bucket", {"le": "1.0"}, requests - late),
        ("http_request_duration_seconds_bucket", {"le": "+Inf"}, requests),
        ("http_request_duration_seconds_count", {}, requests),
    ):
        yield {"__name__": name, **own, **extra}, at, np.cumsum(counted)[lived]


def compare(past: Past, job: str, *more: str) -> tuple[int, dict[str, Any]]:
    """Run `watcher compare` as people do; return its exit code and its JSON."""
    at = dt.datetime.fromtimestamp(past.exposed_at, dt.UTC).isoformat()
    command = [sys.executable, "-m", "watcher", "compare", "--prometheus", past.url, "--rules", "http-prometheus"]
    command += ["--select", f'job="{job}"', "--at", at, "--format", "json", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


CONCURRENT = ("--baseline", f'version="{OLD}"', "--treatment", f'version="{NEW}"')


def errors_of(found: dict[str, Any]) -> dict[str, Any]:
    [stream] = [stream for stream in found["streams"] if stream["rule"] == "request-errors"]
    return dict(stream)


def test_a_fine_canary_is_proven_healthy(past: Past) -> None:
    code, found = compare(past, "canary-fine", *CONCURRENT)
    assert (code, found["outcome"], found["design"]) == (0, "healthy", "concurrent"), found
    assert {stream["outcome"] for stream in found["streams"]} == {"healthy"}
    assert found["calibration"]["from"].startswith("history")
    assert errors_of(found)["effect"]["upper"] < 1.5


def test_a_bad_canary_is_called_regressed_soon_after_its_warm_up(past: Past) -> None:
    code, found = compare(past, "canary-bad", *CONCURRENT)
    assert (code, found["outcome"], found["design"]) == (1, "regressed", "concurrent"), found
    errors = errors_of(found)
    decided = dt.datetime.fromisoformat(errors["decided_at"]).timestamp()
    assert past.exposed_at + 300 < decided < past.exposed_at + 1800
    assert errors["effect"]["lower"] < 2.5 < errors["effect"]["upper"]
    assert errors["baseline"]["units"] == errors["treatment"]["units"] == 2


def test_a_fine_switch_of_everybody_is_not_called_regressed(past: Past) -> None:
    code, found = compare(past, "switch-fine")
    assert (code, found["outcome"], found["design"]) == (0, "healthy", "before_after"), found


def test_a_bad_switch_of_everybody_is_called_regressed(past: Past) -> None:
    code, found = compare(past, "switch-bad")
    assert (code, found["outcome"], found["design"]) == (1, "regressed", "before_after"), found
    errors = errors_of(found)
    assert errors["effect"]["lower"] > 1.0
    decided = dt.datetime.fromisoformat(errors["decided_at"]).timestamp()
    assert past.exposed_at + 300 < decided < past.exposed_at + 3600


def test_the_day_s_rhythm_alone_is_not_a_release_gone_bad(past: Past) -> None:
    # Exposed at the lowest point of the day: traffic triples and the share of errors grows by half in 12 hours.
    night = past.exposed_at - 30 * 3600.0
    code, found = compare(Past(past.url, night), "switch-fine")
    assert found["outcome"] != "regressed", found
    assert code in (0, 3)

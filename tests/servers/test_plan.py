"""`watcher plan` on a real Prometheus that holds a day of a service."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from tests.servers.prometheus_server import PrometheusServer

pytestmark = [pytest.mark.servers]

JOB, SCRAPE = "planned", 30.0


@pytest.fixture(scope="module")
def url(prometheus: PrometheusServer) -> str:
    """A server that knows three hours of a service: 20 requests a second, 1 % failed, 5 % over a second."""
    rng, times = np.random.default_rng(31), time.time() // 60 * 60 - np.arange(3 * 3600.0, -1.0, -SCRAPE)
    series = []
    for pod in ("a", "b"):
        requests = rng.poisson(10 * SCRAPE, times.size)
        failed, late = rng.binomial(requests, 0.01), rng.binomial(requests, 0.05)
        own = {"job": JOB, "instance": pod}
        series += [
            ({"__name__": "http_requests_total", **own, "code": "200"}, times, np.cumsum(requests - failed)),
            ({"__name__": "http_requests_total", **own, "code": "500"}, times, np.cumsum(failed)),
            ({"__name__": "http_request_duration_seconds_bucket", **own, "le": "1.0"}, times,
             np.cumsum(requests - late)),
            ({"__name__": "http_request_duration_seconds_bucket", **own, "le": "+Inf"}, times, np.cumsum(requests)),
            ({"__name__": "http_request_duration_seconds_count", **own}, times, np.cumsum(requests)),
        ]  # fmt: skip
    prometheus.remote_write(series)
    return prometheus.url


def plan(url: str, *more: str) -> Any:
    command = [sys.executable, "-m", "watcher", "plan", "http-prometheus", "--prometheus", url, "--format", "json"]
    done = subprocess.run(
        [*command, "--select", f'job="{JOB}"', "--history", "150m", *more], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_traffic_and_rates_are_the_service_s_own(url: str) -> None:
    found = plan(url, "--share", "10%")
    errors, slow = found["streams"]
    assert found["answer"] == "Can decide all 2 rules within 24 h, at 10 % of the traffic."
    assert errors["baseline"] == {
        "rate": pytest.approx(0.01, rel=0.1),
        "per_minute": pytest.approx(1200, rel=0.03),
        "units": errors["baseline"]["units"],
    }
    assert slow["baseline"]["rate"] == pytest.approx(0.05, rel=0.05)
    assert 10 < errors["healthy"]["median"] < errors["healthy"]["p90"] < found["watch_for"]
    assert errors["finds_double"]["p90"] < errors["healthy"]["p90"]


def test_a_service_that_is_not_there_cannot_be_planned(url: str) -> None:
    found = plan(url, "--select", 'job="nobody"')
    assert found["answer"] == "Can decide 0 of 2 rules within 24 h, at 50 % of the traffic."
    assert {each["not_planned"] for each in found["streams"]} == {"no traffic in the history"}

"""The dashboard for watcher itself, asked of a real Prometheus."""

from __future__ import annotations

import pytest
import requests

from tests.servers.prometheus_server import PrometheusServer
from tests.test_monitoring import expressions

pytestmark = pytest.mark.servers


def test_prometheus_takes_every_expression_of_the_dashboard(prometheus: PrometheusServer) -> None:
    asked = [each.replace("$__rate_interval", "5m") for each in expressions()]
    assert len(asked) >= 16
    for query in asked:
        answer = requests.post(f"{prometheus.url}/api/v1/query", data={"query": query}, timeout=10)
        assert answer.status_code == 200, (query, answer.text)

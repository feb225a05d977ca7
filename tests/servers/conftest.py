from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import prometheus_server, unleash_server
from tests.servers.prometheus_server import PrometheusServer
from tests.servers.unleash_server import UnleashServer

Say = Callable[[str], None]


def require(problem: str | None) -> None:
    """Skip a test whose server is missing, or fail it where servers were promised."""
    if problem is not None:
        if os.environ.get("WATCHER_REQUIRE_SERVERS") == "1":
            pytest.fail(f"WATCHER_REQUIRE_SERVERS=1, but {problem}")
        pytest.skip(problem)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line that people see, whatever is captured and however many processes run the tests."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}", file=sys.stderr, flush=True)

    return line


@pytest.fixture(scope="session")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """One real server for all tests; each test writes metrics under names of its own."""
    require(prometheus_server.missing())
    with prometheus_server.running(tmp_path_factory.mktemp("prometheus")) as server:
        yield server


@pytest.fixture
def fresh_prometheus(tmp_path: Path) -> Iterator[PrometheusServer]:
    """A server for one test that writes a long history: days of it make the server compact while others write."""
    require(prometheus_server.missing())
    with prometheus_server.running(tmp_path / "prometheus") as server:
        yield server


@pytest.fixture(scope="session")
def strict_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """A server that gives up on every query after one millisecond."""
    require(prometheus_server.missing())
    with prometheus_server.running(tmp_path_factory.mktemp("strict"), "--query.timeout=1ms") as server:
        yield server


@pytest.fixture(scope="session")
def unleash(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnleashServer]:
    """One real server for all tests of the group "unleash"; each test has flags of its own names."""
    require(unleash_server.missing())
    with unleash_server.running(tmp_path_factory.mktemp("unleash")) as server:
        yield server

"""What holds for every test: seeded properties, and no skip where the servers were promised."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.servers import postgres_server
from tests.servers.conftest import require

# The same examples in every run, and no verdict on how fast this machine is.
settings.register_profile("watcher", derandomize=True, deadline=None)
settings.load_profile("watcher")

SERVERS_REQUIRED = os.environ.get("WATCHER_REQUIRE_SERVERS") == "1"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave benchmarks and soaks out: they are scripts, and collecting doctests would import them."""
    is_script = collection_path.parent.name in ("benchmarks", "soak") and not collection_path.name.startswith("test_")
    return True if is_script else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into its failure."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_the_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into its failure."""
    report = yield
    if report.skipped:
        _refuse_the_skip(report)
    return report


def _refuse_the_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    if SERVERS_REQUIRED:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
        report.outcome = "failed"
        report.longrepr = f"WATCHER_REQUIRE_SERVERS=1, but {report.nodeid} was skipped: {reason}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One real server for all tests; each test has databases of its own."""
    require(postgres_server.missing())
    with postgres_server.running() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh journal lives: in a SQLite file, and in a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/watcher.db"
    return postgres_server.fresh_database(request.getfixturevalue("postgres"))

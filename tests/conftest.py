"""What holds for every test: seeded properties, no skip where servers were promised, no secret in what it leaves."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.overheard import listening
from tests.planted import kept_on, left_in, seen_in
from tests.servers import postgres_server
from tests.servers.conftest import require
from watcher import secrets
from watcher.logs import harmless

# The same examples in every run, and no verdict on how fast this machine is.
settings.register_profile("watcher", derandomize=True, deadline=None)
settings.load_profile("watcher")

SERVERS_REQUIRED = os.environ.get("WATCHER_REQUIRE_SERVERS") == "1"

_heard: list[str] = []
_searched: set[Path] = set()


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave benchmarks and soaks out: they are scripts, and collecting doctests would import them."""
    is_script = collection_path.parent.name in ("benchmarks", "soak") and not collection_path.name.startswith("test_")
    return True if is_script else None


def pytest_runtest_setup() -> None:
    """Let no test profit from what an earlier one taught this process to hide."""
    secrets._concealed = ()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn the skip of a test into its failure, and the end of one that let a secret out."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _refuse_the_skip(report)
    if report.when == "teardown":
        _refuse_secrets(report, getattr(item, "funcargs", {}).get("tmp_path"))
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


def _refuse_secrets(report: pytest.TestReport, folder: Path | None) -> None:
    # What is logged is hidden where it is written, so that is done here, too.
    found = [line for name, text in report.sections for line in seen_in(name, harmless(text))]
    if folder is not None:
        found += left_in(folder)
        _searched.add(folder)
    problems = [f"let a secret out: {each}" for each in (*found, *_heard)]
    _heard.clear()
    # What nobody could recognise is not searched for either.
    unmarked = [each for each in secrets._concealed if not seen_in("", each)]
    problems += [f"gave watcher the secret {each!r}: make it of tests.planted.MARK" for each in unmarked]
    if problems:
        report.outcome = "failed"
        report.longrepr = "\n".join(f"{report.nodeid} {each}" for each in problems)


@pytest.fixture(scope="session", autouse=True)
def _no_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Listen while tests run, and at the end search the folders that several of them shared."""
    with listening(_heard):
        yield
    found = left_in(tmp_path_factory.getbasetemp(), besides=_searched)
    assert not found, "\n".join(["a secret was let out:", *found])


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One real server for all tests; each test has databases of its own."""
    require(postgres_server.missing())
    with postgres_server.running() as url:
        yield url
        found = kept_on(url, postgres_server.made_by)
        assert not found, "\n".join(["a secret was let out:", *found])


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a fresh journal lives: in a SQLite file, and in a real PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/watcher.db"
    return postgres_server.fresh_database(request.getfixturevalue("postgres"))

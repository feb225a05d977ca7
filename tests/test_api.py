"""What can be imported from watcher is documented, and the documentation can be built without a network."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import watcher
from scripts.api import MODULES

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(set(watcher.__all__) - {"__version__"})
FUNCTIONS = [name for name in NAMES if inspect.isfunction(getattr(watcher, name))]
CLASSES = [name for name in NAMES if inspect.isclass(getattr(watcher, name))]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages, built with every warning an error, and with no proxy that leads anywhere."""
    folder = tmp_path_factory.mktemp("api")
    nowhere = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "scripts" / "api.py", folder],
        env={**os.environ, **nowhere, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
    return folder


def page(built: Path, module: str) -> str:
    return (built / (module.replace(".", "/") + ".html")).read_text(encoding="utf-8")


def own_members(kind: type) -> dict[str, Any]:
    """Return the public methods and properties of a class that are defined in watcher."""
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {
        name: each
        for name, each in found.items()
        if isinstance(each, property | classmethod | staticmethod) or inspect.isfunction(each)
        if "watcher" in str(getattr(getattr(each, "fget", each), "__module__", ""))
    }


def test_nothing_public_is_neither_a_function_nor_a_class() -> None:
    assert sorted(FUNCTIONS + CLASSES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_public_says_what_it_is(name: str) -> None:
    own = getattr(watcher, name).__doc__
    assert own, f"{name} has no docstring"
    # A dataclass without a docstring gets its signature for one.
    assert not own.startswith(f"{name}("), f"{name} has no docstring"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_public_function_has_an_example_that_runs(name: str) -> None:
    """pytest runs every example in the docstrings below watcher; see testpaths in pyproject.toml."""
    assert ">>> " in (getattr(watcher, name).__doc__ or "")


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_public_class_can_do_is_documented(name: str) -> None:
    missing = [member for member, each in own_members(getattr(watcher, name)).items() if not inspect.getdoc(each)]
    assert not missing, f"{name}: {missing} have no docstring"


def test_members_are_found() -> None:
    assert {"outcome", "to_frame", "chart"} <= own_members(watcher.Comparison).keys()
    assert {"recall", "minutes_to_detect", "to_frame", "chart"} <= own_members(watcher.Backtest).keys()


def test_every_module_has_a_page_and_every_public_name_a_place(built: Path) -> None:
    pages = {path.relative_to(built).with_suffix("").as_posix().replace("/", ".") for path in built.rglob("*.html")}
    assert pages == {*MODULES, "index"}
    there = set(re.findall(r'<section id="(\w+)"', page(built, "watcher")))
    assert set(watcher.__all__) - there == set()
    assert 'id="PastReleases.recall"' in page(built, "watcher.report.past")


def test_arguments_and_examples_are_set_out(built: Path) -> None:
    said = page(built, "watcher")
    assert "<strong>looks_every:</strong>" in said
    assert "Example" in said
    assert "Traceback" not in said


def test_the_pages_fetch_nothing(built: Path) -> None:
    for path in built.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=.?(?:https?:)?//[^ >]*", text), path.name

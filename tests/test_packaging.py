"""What is installed is what is imported, and what is released is what is written down."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest

import watcher

ROOT = Path(__file__).resolve().parents[1]

RUNTIME = {
    "numpy", "scipy", "pandas", "prometheus-api-client", "slack-sdk", "pydantic", "ruamel-yaml",
    "click", "rich", "sqlalchemy", "starlette", "uvicorn", "prometheus-client", "matplotlib", "jinja2",
}  # fmt: skip
EXTRAS = {"parquet": {"pyarrow"}, "postgres": {"psycopg"}}

# Libraries we import although another one brings them: the two are one to their users.
BROUGHT_BY = {"requests": "prometheus-api-client", "urllib3": "requests", "pydantic-core": "pydantic"}


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(requirement: str) -> str:
    """Return the normalised name of a distribution.

    >>> name_of("ruamel.yaml>=0.18"), name_of("psycopg[binary]>=3"), name_of("SQLAlchemy")
    ('ruamel-yaml', 'psycopg', 'sqlalchemy')
    """
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def names_of(requirements: list[str]) -> set[str]:
    return {name_of(requirement) for requirement in requirements}


def imported_libraries(folder: str) -> dict[str, str]:
    """Return every top-level name imported below a folder, with a file that does so; ours and Python's left out."""
    found = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) and not node.level else []
            found |= {name.split(".")[0]: str(path.relative_to(ROOT)) for name in names}
    ours = {"watcher", "tests", "scripts"}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | ours}


def undeclared(folder: str, declared: set[str]) -> list[str]:
    installed = packages_distributions()
    return [
        f"{path} imports {library}, which pyproject.toml does not list"
        for library, path in imported_libraries(folder).items()
        if not declared & names_of(installed.get(library, [library]))
    ]


def test_the_dependencies_are_the_ones_the_design_allows() -> None:
    project = pyproject()["project"]
    assert names_of(project["dependencies"]) == RUNTIME
    extras = project["optional-dependencies"]
    assert {extra: names_of(extras[extra]) for extra in EXTRAS} == EXTRAS
    assert set(extras) == {*EXTRAS, "all"}
    assert extras["all"] == [f"{project['name']}[{','.join(EXTRAS)}]"]


def test_every_dependency_says_from_which_version_on() -> None:
    project = pyproject()["project"]
    extras = [each for extra in EXTRAS for each in project["optional-dependencies"][extra]]
    assert [each for each in project["dependencies"] + extras if ">=" not in each] == []


def test_watcher_imports_only_what_it_declares() -> None:
    assert undeclared("watcher", RUNTIME.union(*EXTRAS.values()) | BROUGHT_BY.keys()) == []


def test_the_tests_import_only_what_is_declared() -> None:
    tools = names_of(pyproject()["dependency-groups"]["dev"])
    assert undeclared("tests", RUNTIME.union(*EXTRAS.values()) | BROUGHT_BY.keys() | tools) == []


def test_an_undeclared_library_is_noticed() -> None:
    assert "imports numpy, which" in "\n".join(undeclared("watcher", RUNTIME - {"numpy"}))


@pytest.mark.parametrize(("library", "bringer"), BROUGHT_BY.items())
def test_a_library_that_is_not_declared_is_brought_by_one_that_is(library: str, bringer: str) -> None:
    assert library in names_of([each for each in requires(bringer) or [] if "extra ==" not in each])


def test_the_version_is_written_once_and_is_the_newest_of_the_changelog() -> None:
    found = pyproject()
    assert found["project"]["dynamic"] == ["version"]
    assert found["tool"]["hatch"]["version"] == {"path": "watcher/__init__.py"}
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest is not None
    assert newest[1] == watcher.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", watcher.__version__)


def test_the_command_is_the_main_of_the_command_line() -> None:
    assert pyproject()["project"]["scripts"] == {"watcher": "watcher.cli:main"}
    module = ast.parse((ROOT / "watcher" / "cli" / "__init__.py").read_text(encoding="utf-8"))
    assert "main" in {node.name for node in module.body if isinstance(node, ast.FunctionDef)}


def test_watcher_says_that_it_is_typed() -> None:
    assert "Typing :: Typed" in pyproject()["project"]["classifiers"]
    assert (ROOT / "watcher" / "py.typed").is_file()


def test_the_rule_packs_go_into_the_wheel() -> None:
    wheel = pyproject()["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel == {"packages": ["watcher"], "force-include": {"rules": "watcher/rules"}}
    assert (ROOT / "rules" / "checkout.yaml").is_file()


def test_every_python_that_is_promised_is_tested() -> None:
    classified = re.findall(r"Python :: (3\.\d+)", "\n".join(pyproject()["project"]["classifiers"]))
    tested = re.search(r"python: \[(.*)\]", (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    assert tested is not None
    assert re.findall(r"3\.\d+", tested[1]) == classified
    assert pyproject()["project"]["requires-python"] == f">={classified[0]}"
    assert pyproject()["tool"]["mypy"]["python_version"] == classified[0]


SKIPS = """
import pytest

def test_that_skips():
    pytest.skip("no server here")

@pytest.mark.skipif(True, reason="no server there")
def test_that_is_skipped(): ...

@pytest.fixture
def server():
    pytest.skip("no server anywhere")

def test_with_a_fixture_that_skips(server): ...

@pytest.mark.xfail(reason="known")
def test_that_is_expected_to_fail():
    assert False
"""
WHOLE_MODULE = "import pytest; pytest.skip('no server at all', allow_module_level=True)"


@pytest.mark.parametrize(
    ("required", "ends", "says"),  # a skip before the test itself counts as an error
    [("0", 0, "4 skipped, 1 xfailed"), ("1", 1, "1 failed, 1 xfailed, 3 errors")],
)
def test_a_skip_is_a_failure_where_the_servers_are_required(
    tmp_path: Path, required: str, ends: int, says: str
) -> None:
    shutil.copy(ROOT / "tests" / "conftest.py", tmp_path)
    (tmp_path / "test_skips.py").write_text(SKIPS, encoding="utf-8")
    (tmp_path / "test_whole.py").write_text(WHOLE_MODULE, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."]
    environment = {**os.environ, "WATCHER_REQUIRE_SERVERS": required}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == ends, done.stdout
    assert says in done.stdout.splitlines()[-1]
    reasons = ["no server here", "no server there", "no server anywhere", "no server at all"]
    assert all(reason in done.stdout for reason in reasons if required == "1")

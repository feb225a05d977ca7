"""The Containerfile as a parser reads it. That the wheel comes out of what it copies is checked by `make wheel`."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from click.testing import CliRunner
from dockerfile_parse import DockerfileParser

from watcher.cli import cli

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Every instruction with what follows it."""
    copy = tmp_path_factory.mktemp("container") / "Dockerfile"  # the parser writes where it reads
    copy.write_text((ROOT / "Containerfile").read_text())
    parser = DockerfileParser(str(copy))
    return [(each["instruction"], each["value"]) for each in parser.structure if each["instruction"] != "COMMENT"]


@pytest.fixture(scope="module")
def last_stage(steps: list[tuple[str, str]]) -> list[tuple[str, str]]:
    begins = max(place for place, (instruction, _) in enumerate(steps) if instruction == "FROM")
    return steps[begins:]


def copied(steps: list[tuple[str, str]]) -> list[str]:
    """Return what is taken from the folder the image is built in."""
    own = [value.split()[:-1] for instruction, value in steps if instruction == "COPY" and "--from" not in value]
    return [source for sources in own for source in sources]


def test_every_instruction_is_one_there_is(steps: list[tuple[str, str]]) -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
    assert {instruction for instruction, _ in steps} <= known


def test_stages_are_pinned_to_one_python_that_watcher_supports(steps: list[tuple[str, str]]) -> None:
    bases = [value.split()[0] for instruction, value in steps if instruction == "FROM"]
    assert len(set(bases)) == 1
    found = re.fullmatch(r"python:(3\.\d+)-slim", bases[0])
    assert found is not None
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert f"Programming Language :: Python :: {found[1]}" in classifiers


def test_nothing_needs_a_shell(steps: list[tuple[str, str]]) -> None:
    for instruction, value in steps:
        if instruction in ("RUN", "ENTRYPOINT", "CMD"):
            assert all(isinstance(word, str) for word in json.loads(value)), (instruction, value)


def test_it_runs_as_nobody_in_particular_who_owns_the_journals_volume(last_stage: list[tuple[str, str]]) -> None:
    order = [instruction for instruction, _ in last_stage]
    said = dict(last_stage)
    user, group = said["USER"].split(":")
    assert user.isdigit()
    assert int(user) > 0
    assert "RUN" not in order[order.index("USER") :]
    made = json.loads(next(value for instruction, value in last_stage if instruction == "RUN"))
    assert f"--owner={user}" in made
    assert f"--group={group}" in made
    assert made[-1] == said["VOLUME"] == said["WORKDIR"]


def test_it_runs_the_daemon_with_options_there_are(last_stage: list[tuple[str, str]]) -> None:
    said = dict(last_stage)
    [program] = ast.literal_eval(said["ENTRYPOINT"])
    command, *options = ast.literal_eval(said["CMD"])
    assert program.endswith("/watcher")
    answer = CliRunner().invoke(cli, [command, "--help"])
    assert answer.exit_code == 0
    assert all(each in answer.output for each in options if each.startswith("--"))


def test_what_is_copied_is_there_and_nothing_else_is_sent_along(steps: list[tuple[str, str]]) -> None:
    ignore = [line for line in (ROOT / ".containerignore").read_text().splitlines() if line[:1] not in ("#", "")]
    assert ignore[0] == "*"
    kept = {line[1:] for line in ignore if line.startswith("!")}
    assert kept == set(copied(steps))
    assert all((ROOT / each).exists() for each in kept)
    again = [line for line in ignore[1:] if not line.startswith("!")]
    assert any(fnmatch("watcher/journal/__pycache__", line) for line in again)


def test_whatever_the_wheel_is_made_of_is_copied(steps: list[tuple[str, str]]) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = build["tool"]["hatch"]["build"]["targets"]["wheel"]
    project = build["project"]
    needed = {*wheel["packages"], *wheel["force-include"], project["readme"], *project["license-files"]}
    assert needed | {"pyproject.toml"} <= set(copied(steps))

"""What the command line prints, letter by letter.

A transcript in `transcripts/` is what a terminal 100 columns wide would show: `$ command`, its output, the lines of
standard error behind `2>`, and `[exit N]`. Its commands are run in a folder that holds the files of `conftest.py`
and a few more. What differs from run to run and from machine to machine is replaced: `<seconds>`, `<time>`, `<epoch>`,
`<digest>`, `<rules>` and `<here>` (folders), `<version>`.

To write the transcripts anew after a change that is meant, and then to read the difference:

    WATCHER_REWRITE_TRANSCRIPTS=1 python -m pytest tests/cli/test_golden.py && git diff tests/cli/transcripts

To add a command, add its `$ command` line to a transcript and write them anew.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pandas as pd
import pytest

from tests.cli.conftest import ROOT, Answer, Watcher, past_releases, shop
from watcher import __version__, cli
from watcher.demo import tour

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
REWRITE = os.environ.get("WATCHER_REWRITE_TRANSCRIPTS") == "1"

VOLATILE = (
    (re.compile(r'("took_seconds": )[\d.e-]+'), r"\1<seconds>"),
    (re.compile(r'(digest(?:": "|: | ))[0-9a-f]{12}'), r"\1<digest>"),
    (re.compile(re.escape(str(ROOT / "rules"))), "<rules>"),
    (re.compile(rf"\b{re.escape(__version__)}\b"), "<version>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC"), "<time>"),
    (re.compile(r"\buntil \d\d:\d\d UTC by"), "until <time> by"),
    (re.compile(r"\btest@\d+"), "test@<epoch>"),
    (re.compile(r' time="[\d.]+"'), ' time="<seconds>"'),
    (re.compile(r"(\|kill by hand\|)[\d.]+"), r"\1<epoch>"),
    (re.compile(r"\bwt_[\w-]+"), "<token>"),
    (re.compile(r"\b[\d.]+ GiB are free"), "<size> are free"),
)


@pytest.fixture
def examples(files: Path, installation: Path) -> Path:
    """A working folder with tables of every outcome, some that are wrong, and an installation in `shop/`."""
    shop(worse=1.0).to_csv("fine.csv", index=False)
    shop(worse=1.0, minutes=6, requests=20).to_csv("short.csv", index=False)
    whole = shop()
    whole[whole["arm"] == "baseline"].to_csv("absent.csv", index=False)
    pd.concat([shop(worse=1.0).assign(release="v1"), shop().assign(release="v2")]).to_csv("releases.csv", index=False)
    whole.assign(errors=whole["errors"].where(whole.index != 4, -3)).to_csv("negative.csv", index=False)
    whole.assign(arm=whole["arm"].replace("treatment", "candidate")).to_csv("candidate.csv", index=False)
    past = past_releases()
    past.to_csv("past.csv", index=False)
    past.assign(errors=past["errors"].where(past.index != 400, -3)).to_csv("past-broken.csv", index=False)
    past.drop(columns="label").to_csv("past-unlabelled.csv", index=False)
    (files / "table.yaml").write_text(
        "pack: shop\nby: [feature]\nunit: unit\nrules:\n"
        "  - {name: errors, title: Requests that failed, kind: ratio, bad: errors, total: requests}\n"
    )
    (files / "broken.yaml").write_text(
        "pack: shop\nrules:\n  - name: errors\n    kind: ratio\n    bad: errors_total\n    totla: requests_total\n"
    )
    return files


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `watcher demo` leaves behind: a release that is fine and still being watched, and one that was killed."""
    folder = tmp_path_factory.mktemp("demo") / "watcher-demo"
    tour.run(folder, 7)
    return folder


def commands(transcript: str) -> list[str]:
    return [line[2:] for line in transcript.splitlines() if line.startswith("$ ")]


def played(line: str, answer: Answer) -> str:
    """Return one command and what it did as a transcript shows it."""
    talk = "".join(f"2> {line}".rstrip() + "\n" for line in answer.err.splitlines())
    text = f"$ {line}\n{answer.out}{talk}[exit {answer.exit}]\n".replace(str(Path.cwd()), "<here>")
    for pattern, instead in VOLATILE:
        text = pattern.sub(instead, text)
    return text


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_command_line_prints_what_the_transcript_says(
    watcher: Watcher, examples: Path, path: Path, request: pytest.FixtureRequest
) -> None:
    golden = path.read_text(encoding="utf-8")
    if "watcher-demo" in golden:
        shutil.copytree(request.getfixturevalue("demo"), "watcher-demo")
    found = "\n".join(played(line, watcher(*shlex.split(line)[1:])) for line in commands(golden))
    if REWRITE:
        path.write_text(found, encoding="utf-8")
    else:
        assert found == golden


def test_the_readme_shows_what_a_backtest_prints() -> None:
    transcript = (Path(__file__).parent / "transcripts" / "backtest.txt").read_text(encoding="utf-8")
    command, _, output = transcript.partition("[exit 0]")[0].removeprefix("$ ").partition("\n")
    shown = textwrap.indent(f"{command}\n\n{output}", "    ")
    assert shown in (ROOT / "README.md").read_text(encoding="utf-8")


def every_command(group: click.Group, name: str) -> Iterator[str]:
    yield name
    for child, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every_command(command, f"{name} {child}")
        else:
            yield f"{name} {child}"


def test_the_help_of_every_command_is_in_a_transcript() -> None:
    shown = {line for path in TRANSCRIPTS for line in commands(path.read_text(encoding="utf-8"))}
    assert {f"{name} --help" for name in every_command(cli.cli, "watcher")} <= shown


ELSEWHERE = {
    "watcher run",  # a daemon: tests/servers/test_end_to_end.py
    "watcher demo",  # tests/demo
    "watcher doctor",  # lines break where the folder's name ends: tests/servers/test_doctor.py
    "watcher preflight",  # likewise: test_preflight.py
    "watcher completion",  # click's own: test_following.py
}
"""Commands whose output is asserted in another place."""


def test_the_output_of_every_command_is_in_a_transcript() -> None:
    shown = [
        line for path in TRANSCRIPTS for line in commands(path.read_text(encoding="utf-8")) if "--help" not in line
    ]
    groups = {name.rpartition(" ")[0] for name in every_command(cli.cli, "watcher")}
    wanted = {name for name in every_command(cli.cli, "watcher") if name not in groups} - ELSEWHERE
    assert {name for name in wanted if not any(f"{line} ".startswith(f"{name} ") for line in shown)} == set()


def test_every_command_and_option_says_what_it_is_for() -> None:
    def silent(command: click.Command, name: str) -> Iterator[str]:
        if not command.help:
            yield name
        for param in command.params:
            if isinstance(param, click.Option) and not param.help:
                yield f"{name} {param.opts[0]}"
        if isinstance(command, click.Group):
            for child, below in command.commands.items():
                yield from silent(below, f"{name} {child}")

    assert list(silent(cli.cli, "watcher")) == []

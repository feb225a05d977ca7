"""`watcher explain`: what the daemon found, told again from the journal alone."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Watcher
from tests.timeline import EXPOSED, MINUTE, looks, ratio, release, watch
from watcher import assembly
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import Look
from watcher.testing import MemorySource

RELEASE = watch().release.id


@pytest.fixture
def looked(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Look:
    """The last look at a release that broke 20 minutes after exposure, was killed, and went on being looked at."""
    monkeypatch.chdir(installation)
    made, source = watch(), MemorySource({"errors": ratio(treated={20: 0.05})})
    with Journal.open(f"sqlite:///{installation}/watcher.db") as journal:
        journal.add_release(made, EXPOSED, "test")
        journal.record_calibrations(RELEASE, prepare(made, read_history(made, source)), EXPOSED)
        for look in looks(made, source, range(1, 40)):
            journal.record_look(look)
        last = journal.last_look(RELEASE)
    assert last is not None
    assert last.killed_at is not None
    return last


def test_the_evidence_grows_again_to_what_the_daemon_decided_by(watcher: Watcher, looked: Look) -> None:
    answer = watcher("explain", RELEASE, "errors")
    (verdict,) = looked.verdict.streams
    assert (answer.exit, answer.err) == (0, "")
    assert answer.out.startswith("REGRESSED")
    said = " ".join(answer.out.split())
    harm = re.search(r"evidence of harm log e (\S+) of", said)
    grown = re.search(r"how it grew log e of harm .* (\S+) at (\d\d:\d\d)[;.]", said)
    assert harm is not None
    assert grown is not None
    assert harm[1] == grown[1] == f"{verdict.log_e_regressed:.1f}"
    trace = next(iter(assembly.comparison("watcher.yaml", RELEASE).explained().traces.values()))
    assert trace.log_regressed[-1] == pytest.approx(verdict.log_e_regressed, abs=1e-9)
    assert trace.log_healthy[-1] == pytest.approx(verdict.log_e_healthy, abs=1e-9)
    assert (looked.killed_at or 0.0) - 2 * MINUTE <= trace.ends[-1] <= (looked.killed_at or 0.0)


def test_a_name_is_enough_and_every_format_of_compare_is_there(watcher: Watcher, looked: Look) -> None:
    name = watch().release.feature
    assert watcher("explain", name).out == watcher("explain", RELEASE).out
    told = json.loads(watcher("explain", name, "--format", "json").out)
    assert (told["outcome"], told["streams"][0]["rule"]) == ("regressed", "errors")
    assert watcher("explain", name, "--format", "github").out.startswith("::error ")
    assert watcher("explain", name, "--report", "release.html").exit == 0
    assert "how it grew" in Path("release.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("nothing",), "there is no release 'nothing'; `watcher release list` lists them"),
        ((RELEASE, "latency"), f"{RELEASE} has no rule 'latency'; it has: errors"),
    ],
)
def test_what_there_is_not_is_named_with_what_there_is(
    watcher: Watcher, looked: Look, arguments: tuple[str, ...], problem: str
) -> None:
    answer = watcher("explain", *arguments)
    assert (answer.exit, answer.out, answer.err) == (2, "", f"watcher: {problem}\n")


def test_a_release_that_was_not_looked_at_and_one_whose_counts_were_let_go(
    watcher: Watcher, installation: Path, looked: Look
) -> None:
    with Journal.open(f"sqlite:///{installation}/watcher.db") as journal:
        journal.end_release(RELEASE, "recovered", "back", EXPOSED + 3600)
        journal.prune(EXPOSED + 1e9)
        fresh = watch(release=release(feature="search"))
        journal.add_release(fresh, EXPOSED, "test")
    answer = watcher("explain", RELEASE)
    assert (answer.exit, answer.err) == (0, "")
    assert answer.out.startswith("REGRESSED")
    assert "how it grew" not in answer.out
    answer = watcher("explain", "search")
    assert (answer.exit, "was not looked at yet" in answer.err) == (2, True)

"""`watcher wait` and `watcher watch` beside a journal that something else writes, and what shells complete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.cli.conftest import Watcher
from tests.test_journal import a_look, a_watch
from watcher.cli import following
from watcher.journal import Journal
from watcher.model import Outcome, ReleaseVerdict

RELEASE = a_watch().release.id


TERMINAL = """
import os, pty, signal, sys
process, terminal = pty.fork()
if not process:
    os.execv(sys.argv[1], sys.argv[1:])
said = b""
while b"REGRESSED" not in said and (piece := os.read(terminal, 4096)):
    said += piece
os.kill(process, signal.SIGINT)
try:
    while piece := os.read(terminal, 4096):
        said += piece
except OSError:  # its end has gone
    pass
sys.stdout.buffer.write(said)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""
"""Runs a command on a terminal of its own, and looks away once it says how the release is."""


def verdict(outcome: Outcome) -> ReleaseVerdict:
    return ReleaseVerdict(outcome, f"it is {outcome.value}")


@pytest.fixture
def journal(installation: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    monkeypatch.chdir(installation)
    with Journal.open(f"sqlite:///{installation}/watcher.db") as journal:
        yield journal


@pytest.fixture
def decided(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> Callable[[Outcome], None]:
    """Let a release be noticed, looked at undecided, decided and ended, a step at each rest of the command."""

    def prepare(outcome: Outcome) -> None:
        steps = iter(
            [
                lambda: journal.add_release(a_watch(), 10.0, "http"),
                lambda: journal.record_look(a_look(700.0)),
                lambda: journal.record_look(a_look(760.0, verdict=verdict(outcome))),
                lambda: journal.end_release(RELEASE, "ended", "horizon", 800.0),
            ]
        )
        clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=lambda _: next(steps)())
        monkeypatch.setattr(following, "time", clock)

    return prepare


@pytest.mark.parametrize(("outcome", "code"), [(Outcome.HEALTHY, 0), (Outcome.REGRESSED, 1)])
def test_wait_ends_with_the_verdict_on_what_was_not_there_yet(
    watcher: Watcher, decided: Callable[[Outcome], None], outcome: Outcome, code: int
) -> None:
    decided(outcome)
    answer = watcher("wait", "shop/new-checkout")
    assert (answer.exit, answer.out) == (code, f"00:12 UTC {outcome.value.upper()}  it is {outcome.value}\n")
    assert answer.err == "shop/new-checkout: no such release is being watched yet\n00:11 UTC INCONCLUSIVE  not yet\n"
    assert watcher("wait", RELEASE) == answer._replace(err="")


@pytest.mark.parametrize("outcome", [Outcome.INCONCLUSIVE, Outcome.NO_DATA, Outcome.INVALID])
def test_wait_says_3_when_time_is_up_and_when_the_watch_ended_undecided(
    watcher: Watcher, journal: Journal, outcome: Outcome
) -> None:
    journal.add_release(a_watch(), 10.0, "http")
    journal.record_look(a_look(760.0, verdict=verdict(outcome)))
    late = watcher("wait", "new-checkout", "--timeout", "0.1s")
    assert (late.exit, late.out) == (3, "")
    assert late.err.endswith(f"it is {outcome.value}\nnew-checkout: not decided within 0.1s\n")
    journal.end_release(RELEASE, "ended", "horizon", 800.0)
    over = watcher("wait", RELEASE)
    assert (over.exit, over.err.splitlines()[-1]) == (3, f"{RELEASE}: its watch is over")


def test_wait_without_a_release_or_a_configuration_is_no_verdict(watcher: Watcher, journal: Journal) -> None:
    assert watcher("wait", "nothing", "--timeout", "0.1s").exit == 3
    answer = watcher("wait", "nothing", "--config", "none.yaml")
    assert (answer.exit, "none.yaml" in answer.err) == (2, True)


def test_watch_prints_a_line_for_each_change_away_from_a_terminal(
    watcher: Watcher, decided: Callable[[Outcome], None]
) -> None:
    decided(Outcome.REGRESSED)
    answer = watcher("watch", "new-checkout")
    assert answer.exit == 0
    assert answer.out.splitlines() == ["00:11 UTC INCONCLUSIVE  not yet", "00:12 UTC REGRESSED  it is regressed"]


def test_watch_shows_the_present_state_on_a_terminal_until_somebody_looks_away(journal: Journal) -> None:
    journal.add_release(a_watch(), 10.0, "http")
    journal.record_look(a_look(760.0, verdict=verdict(Outcome.REGRESSED)))
    command = [sys.executable, "-c", TERMINAL, sys.executable, "-m", "watcher", "watch", "new-checkout"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "REGRESSED" in ended.stdout
    assert "\x1b[" in ended.stdout


def test_bash_completes_commands_options_and_releases(watcher: Watcher, journal: Journal) -> None:
    journal.add_release(a_watch(), 10.0, "http")
    (Path.cwd() / "completion").write_text(watcher("completion", "bash").out)
    bin_ = Path(shutil.which("watcher", path=f"{Path(sys.executable).parent}") or "watcher").parent

    def completed(*words: str) -> list[str]:
        script = (
            f"source completion; PATH={bin_}:$PATH; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; "
            '_watcher_completion watcher; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=240, check=True
        ).stdout.split()

    assert completed("watcher", "sta") == ["status"]
    assert completed("watcher", "compare", "--form") == ["--format"]
    assert completed("watcher", "watch", "new") == [RELEASE]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_completion_too(watcher: Watcher, shell: str) -> None:
    answer = watcher("completion", shell)
    assert (answer.exit, answer.err) == (0, "")
    assert f"_WATCHER_COMPLETE={shell}_complete" in answer.out

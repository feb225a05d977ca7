"""`watcher pause` and `watcher resume`: what they print, and what they leave on record."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.conftest import Answer, Watcher
from tests.timeline import EXPOSED
from watcher.config import load_installation
from watcher.journal import Journal
from watcher.model import Kill

CONFIG = ("--config", "shop/watcher.yaml")


def run(watcher: Watcher, line: str) -> Answer:
    return watcher(*shlex.split(line), *CONFIG)


def trail(watcher: Watcher) -> list[str]:
    """Return what `watcher history --actions` says, without the times."""
    return [line[22:] for line in run(watcher, "history --actions").out.splitlines()]


def test_a_pause_is_said_by_the_status_first_until_it_is_ended(watcher: Watcher, installation: Path) -> None:
    answer = run(watcher, "pause --for 1h --reason 'a migration'")
    assert (answer.exit, answer.err) == (0, "")
    assert re.fullmatch(r"kills are paused until \d\d:\d\d UTC by ana: a migration\n", answer.out)
    assert run(watcher, "status").out == f"{answer.out}nothing is being watched\n"
    assert run(watcher, "resume").out == "kills are not paused any more: a migration\n"
    assert run(watcher, "status").out == "nothing is being watched\n"
    assert run(watcher, "resume").out == "kills were not paused\n"
    paused, resumed = trail(watcher)
    assert re.fullmatch(r"-  paused: until 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ by ana: a migration", paused)
    assert resumed.startswith("-  resumed: by ana: a migration (it would have lasted until 20")


def test_a_long_pause_says_its_day_and_a_second_one_takes_the_place_of_the_first(
    watcher: Watcher, installation: Path
) -> None:
    run(watcher, "pause --for 1h --reason first")
    answer = run(watcher, "pause --for 7d --reason second")
    assert re.fullmatch(r"kills are paused until \d{4}-\d\d-\d\d \d\d:\d\d UTC by ana: second\n", answer.out)
    assert run(watcher, "status").out.startswith(answer.out)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("pause --reason x", "Missing option '--for'"),
        ("pause --for 1h", "Missing option '--reason'"),
        ("pause --for 1h --reason ' '", "say why with --reason"),
        ("pause --for 8d --reason x", "a pause lasts 7 days at most: give 7d or less"),
        (f"pause --for 1h --reason {'x' * 201}", "a line of 200 printable characters"),
        ("pause --for 1h --reason '\x1b[2Jx'", "a line of 200 printable characters"),
        ("pause --for 0s --reason x", "a pause must last"),
        ("pause --for soon --reason x", "Invalid value for '--for'"),
    ],
)
def test_a_pause_without_an_end_or_a_reason_is_refused_with_the_fix(
    watcher: Watcher, installation: Path, line: str, says: str
) -> None:
    answer = run(watcher, line)
    assert (answer.exit, answer.out) == (2, "")
    assert says in answer.err
    assert trail(watcher) == []


def test_a_closed_latch_is_said_by_the_status_and_opened_for_a_reason(watcher: Watcher, installation: Path) -> None:
    with Journal.open(load_installation(installation / "watcher.yaml").journal) as journal:
        for nth in range(3):
            journal.intend([Kill(f"{nth}|kill", str(nth), "memory", "cart", "slow", EXPOSED)], EXPOSED)
    run(watcher, "pause --for 1h --reason 'a migration'")
    paused, latched, _ = run(watcher, "status").out.splitlines()
    assert paused.startswith("kills are paused until ")
    assert latched.startswith("watcher decided 3 kills within an hour ")
    assert latched.endswith("opens the latch: watcher resume --latch --reason TEXT")
    assert run(watcher, "resume --latch").err.startswith("watcher: say with --reason why there were so many kills")
    assert run(watcher, "resume --reason x").exit == 2
    assert run(watcher, "resume --latch --reason 'one load test'").out.startswith("the latch is open again")
    assert run(watcher, "resume --latch --reason 'one load test'").out == "the latch was not closed\n"
    assert run(watcher, "status").out.splitlines()[:2] == [paused, "nothing is being watched"]
    assert trail(watcher)[-1] == "-  latch opened: by ana: one load test"


def test_while_kills_are_paused_a_flag_is_turned_off_by_hand(watcher: Watcher, installation: Path) -> None:
    run(watcher, "pause --for 1h --reason 'a migration'")
    answer = run(watcher, "flags kill new-checkout --confirm new-checkout")
    assert (answer.exit, answer.err) == (0, "")
    assert "enabled: false " in (installation / "feature-flags.yaml").read_text()

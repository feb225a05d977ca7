"""`watcher flags`: what it prints, what it leaves on record, and that nothing is turned off by a slip of the hand."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import FLAGS, Answer, Watcher
from watcher.model import SwitchState
from watcher.switches.yaml_flags import YamlFlags

CONFIG = ("--config", "shop/watcher.yaml")
OFF = FLAGS.replace("enabled: true ", "enabled: false ")


def flags(watcher: Watcher, line: str) -> Answer:
    return watcher("flags", *shlex.split(line), *CONFIG)


def trail(watcher: Watcher) -> list[str]:
    """Return what `watcher history --actions` says, without the times."""
    return [line[22:] for line in watcher("history", "--actions", *CONFIG).out.splitlines()]


def start(watcher: Watcher, line: str) -> None:
    """Let a release begin, as a person tells of it."""
    answer = watcher("release", "start", *CONFIG, *shlex.split(line))
    assert (answer.exit, answer.err) == (0, "")


@pytest.fixture
def file(installation: Path) -> Path:
    return installation / "feature-flags.yaml"


def test_a_release_that_its_own_switch_says_nobody_has_begins_with_a_caution(watcher: Watcher, file: Path) -> None:
    file.write_text(OFF)
    told = ("shop", "new-checkout", "--version", "1.2.0", "--strategy", "flag")
    answer = watcher("release", "start", *told, *CONFIG)
    assert (answer.exit, answer.out) == (0, "shop/production/new-checkout@1.2.0\n")
    assert answer.err == (
        "caution: its switch says that nobody has it (enabled: false, rollout_percentage: 5), and it is watched as if "
        "users had; to end that, type: watcher release stop shop/production/new-checkout@1.2.0 --reason 'not open yet' "
        "--config shop/watcher.yaml\n"
    )


def test_a_kill_turns_the_flag_off_and_says_what_it_was_and_how_to_undo_it(watcher: Watcher, file: Path) -> None:
    answer = flags(watcher, "kill new-checkout --confirm new-checkout")
    assert (answer.exit, answer.err, file.read_text()) == (0, "", OFF)
    first, second = answer.out.splitlines()
    assert first == "new-checkout is off (was: enabled: true, rollout_percentage: 5)"
    assert second.startswith("To re-open it, turn it on yourself")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("kill new-checkout", "--confirm new-checkout"),
        ("kill new-checkout --confirm dark-mode", "--confirm says dark-mode; nothing was turned off"),
        ("kill new-checkout --confirm NEW-CHECKOUT", "--confirm new-checkout"),
        ("kill new-checkout --confirm ''", "--confirm new-checkout"),
        ("kill new-chekout --confirm new-chekout", "did you mean new-checkout?"),
        ("kill --confirm new-checkout", "Missing argument 'FLAG'"),
        ("kill new-checkout --confirm new-checkout --service search", "no flag 'new-checkout' with --service search"),
    ],
)
def test_without_the_right_name_twice_nothing_is_turned_off(watcher: Watcher, file: Path, line: str, says: str) -> None:
    answer = flags(watcher, line)
    assert (answer.exit, answer.out, file.read_bytes()) == (2, "", FLAGS.encode())
    assert says in answer.err
    assert trail(watcher) == []


def test_what_is_to_be_typed_can_be_typed(watcher: Watcher, file: Path) -> None:
    refused = flags(watcher, "kill new-checkout --strategy flag --reason 'it''s slow; $(date)'")
    command = refused.err.partition("type: ")[2]
    assert command.startswith("watcher flags kill new-checkout --confirm new-checkout ")
    assert watcher(*shlex.split(command)[1:]).exit == 0
    assert file.read_text() == OFF
    assert "its slow; $(date)" in trail(watcher)[-2]


def test_a_dry_run_changes_nothing_and_needs_no_confirmation(watcher: Watcher, file: Path) -> None:
    stamp = file.stat()
    answer = flags(watcher, "kill new-checkout --dry-run --confirm new-checkout")
    assert (answer.exit, file.read_bytes(), file.stat().st_mtime_ns) == (0, FLAGS.encode(), stamp.st_mtime_ns)
    said, drill = answer.out.splitlines()
    assert said == f"{file}:4: features.new-checkout.enabled: true -> false"
    assert "nothing was changed" in drill
    assert trail(watcher) == [f"shop/production/new-checkout  drill: new-checkout by ana, would do: {said}"]


def test_a_drill_of_a_kill_that_would_fail_fails_and_is_on_record(watcher: Watcher, file: Path) -> None:
    for flag, why in (("search", "gone.yaml: the flags file cannot be read"), ("shop", "haproxy needs {previous}")):
        answer = flags(watcher, f"kill {flag} --dry-run")
        assert (answer.exit, answer.out) == (2, "")
        assert why in answer.err
        assert why in trail(watcher)[-1]


def test_the_audit_says_who_turned_what_off_why_and_what_was_read_back(watcher: Watcher, file: Path) -> None:
    start(watcher, "shop new-checkout --version r1 --strategy flag")
    flags(watcher, "kill new-checkout --confirm new-checkout --reason 'payments time out'")
    release = "shop/production/new-checkout@r1"
    told = watcher("history", release, "--actions", *CONFIG).out.splitlines()
    assert [line[22:].removeprefix(f"{release}  ") for line in told] == [
        "release noticed: by release start by ana",
        "kill by hand: by ana: payments time out",
        "kill intended: new-checkout by yaml_flags: by hand by ana: payments time out",
        "kill done: read back enabled: false, rollout_percentage: 5, before enabled: true, rollout_percentage: 5",
    ]


def test_one_broken_switch_hides_no_other(watcher: Watcher, installation: Path) -> None:
    answer = flags(watcher, "list")
    assert (answer.exit, answer.err) == (0, "")
    heading, checkout, dark, shop, search = answer.out.splitlines()
    assert heading.split() == ["flag", "service", "strategy", "switch", "state", "share", "says"]
    assert checkout.split()[:7] == ["new-checkout", "shop/production", "flag", "yaml_flags", "on", "5", "%"]
    assert dark.split()[4] == "off"
    assert "error: /run/haproxy.sock: HAProxy cannot be reached" in shop
    assert "gone.yaml: the flags file cannot be read" in search
    found = json.loads(flags(watcher, "list --format json").out)
    assert found["schema"] == "watcher/flags/1"
    assert [(each["flag"], each["on"], each["share"], bool(each["error"])) for each in found["flags"]] == [
        ("new-checkout", True, 0.05, False),
        ("dark-mode", False, 0.0, False),
        ("shop", None, None, True),
        ("search", None, None, True),
    ]


def test_an_installation_without_switches_says_so(watcher: Watcher, installation: Path) -> None:
    config = installation / "watcher.yaml"
    lines = [line for line in config.read_text().splitlines() if "kill:" not in line]
    config.write_text("\n".join(lines).replace("mode: armed", "mode: observe"))
    assert flags(watcher, "list") == (0, "nothing can be turned off: no release in watcher.yaml has a `kill`\n", "")
    assert json.loads(flags(watcher, "list --format json").out)["flags"] == []


def known(answer: Answer) -> dict[str, str]:
    """Return what a status says, by its first words."""
    return {line[2:11].strip(): line[11:].strip() for line in answer.out.splitlines()[1:]}


def test_the_status_says_all_there_is_to_know(
    watcher: Watcher, installation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = SwitchState(True, 0.05, serving="1.2", sticky=True, revision="41", shown="5 % \x1b[31mof all\nusers")
    monkeypatch.setattr(YamlFlags, "read", lambda *_: told)
    start(watcher, "shop new-checkout --version r1 --strategy flag --not-reversible")
    answer = flags(watcher, "status new-checkout")
    said = known(answer)
    assert answer.out.splitlines()[0] == "new-checkout on shop/production (flag)"
    # What a switch says is shown, and not obeyed by the terminal.
    assert said["state"] == "on, 5 % (5 %  [31mof all users)"
    assert (said["serving"], said["revision"], said["sticky"]) == ("1.2", "41", "users who got it keep it")
    assert said["watched"] == "shop/production/new-checkout@r1: not looked at yet"
    assert said["mode"] == "armed: watcher may turn it off"
    assert said["drilled"] == said["killed"] == "never"
    assert "not reversible" in said["caution"]


def status(watcher: Watcher, flag: str) -> Any:
    return json.loads(flags(watcher, f"status {flag} --format json").out)


def test_the_status_tells_drills_and_kills_to_programs_too(watcher: Watcher, file: Path) -> None:
    start(watcher, "shop new-checkout --version r1 --strategy flag")
    flags(watcher, "kill new-checkout --dry-run")
    before = status(watcher, "new-checkout")
    assert (before["schema"], before["on"], before["mode"]) == ("watcher/flag/1", True, "armed")
    assert before["watched"] == {"release": "shop/production/new-checkout@r1", "outcome": None, "reason": None}
    assert before["kill"] == {"would": f"{file}:4: features.new-checkout.enabled: true -> false", "error": None}
    assert (before["drilled"]["by"], before["drilled"]["would"]) == ("ana", before["kill"]["would"])
    assert before["kills"] == []
    flags(watcher, "kill new-checkout --confirm new-checkout --reason slow")
    after = status(watcher, "new-checkout")
    [kill] = after["kills"]
    assert (kill["by"], kill["reason"], kill["state"]) == ("ana", "slow", "done")
    assert kill["receipt"]["after"] == after["shown"] == "enabled: false, rollout_percentage: 5"
    assert kill["decided_at"].endswith("Z")


@pytest.mark.parametrize(("flag", "why"), [("search", "gone.yaml"), ("shop", "HAProxy cannot be reached")])
def test_a_switch_that_cannot_be_read_is_an_error_of_its_status(
    watcher: Watcher, installation: Path, flag: str, why: str
) -> None:
    answer = flags(watcher, f"status {flag}")
    assert answer.exit == 2
    assert why in known(answer)["state"]
    assert known(answer)["a kill"].startswith("would fail: ")
    found = flags(watcher, f"status {flag} --format json")
    assert found.exit == 2
    assert why in json.loads(found.out)["error"]
    assert json.loads(found.out)["kill"]["error"]


def test_killing_twice_says_that_it_was_off(watcher: Watcher, file: Path) -> None:
    flags(watcher, "kill new-checkout --confirm new-checkout")
    again = flags(watcher, "kill new-checkout --confirm new-checkout")
    assert (again.exit, again.out, file.read_text()) == (0, "new-checkout was off already\n", OFF)


def test_a_kill_that_fails_for_the_moment_exits_2_and_says_who_tries_again(watcher: Watcher, file: Path) -> None:
    file.unlink()
    answer = flags(watcher, "kill new-checkout --confirm new-checkout")
    assert (answer.exit, answer.out) == (2, "")
    assert "new-checkout is NOT turned off" in answer.err
    assert "a daemon that runs on this journal tries again for 10 minutes" in answer.err
    assert trail(watcher)[-1].endswith("; to be tried again")


def test_a_release_that_cannot_be_undone_is_turned_off_with_a_word_of_caution(watcher: Watcher, file: Path) -> None:
    start(watcher, "shop new-checkout --version r1 --strategy flag --not-reversible")
    answer = flags(watcher, "kill new-checkout --confirm new-checkout")
    assert (answer.exit, file.read_text()) == (0, OFF)
    assert "not reversible" in answer.err


def test_the_daemon_is_said_to_end_the_watch_of_what_was_turned_off(watcher: Watcher, installation: Path) -> None:
    config = installation / "watcher.yaml"
    config.write_text(
        config.read_text().replace(
            "{flags_file: feature-flags.yaml, features: [new-checkout, dark-mode]}", "{http: true}"
        )
    )
    start(watcher, "shop new-checkout --version r1 --strategy flag")
    last = flags(watcher, "kill new-checkout --confirm new-checkout").out.splitlines()[-1]
    assert last == "The daemon ends its watch of shop/production/new-checkout@r1 when it sees that."

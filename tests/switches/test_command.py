from __future__ import annotations

import json
import os
import signal
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.planted import MARK
from tests.switches.kills import kill
from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.switches import switch
from watcher.switches.command import Command

Script = Callable[[str, str], str]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    """Write an executable Python script into a folder that is the first of the PATH; return its path."""

    def write(name: str, body: str) -> str:
        path = tmp_path / name
        path.write_text(f"#!{sys.executable} -IS\nimport json, os, pathlib, signal, sys, time\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


@pytest.fixture
def flag(tmp_path: Path, script: Script) -> Path:
    """A flag that is on; `flag off NAME` turns it off and notes that it did, `flag show NAME` says where it stands."""
    state = tmp_path / "state"
    state.write_text("on")
    script(
        "flag",
        f"state = pathlib.Path({str(state)!r})\n"
        "if sys.argv[1] == 'off':\n"
        "    with open(f'{state}.changes', 'a') as notes:\n"
        "        notes.write(f'{sys.argv[2]}\\n' * (state.read_text() == 'on'))\n"
        "    state.write_text('off')\n"
        "else:\n"
        "    print(state.read_text())",
    )
    return state


def changes(flag: Path) -> list[str]:
    notes = Path(f"{flag}.changes")
    return notes.read_text().split() if notes.exists() else []


def command(**settings: object) -> Command:
    return Command(json.dumps({"kill": ["true"], "read": ["echo", "on"], **settings}))


def flags(flag: Path, **settings: object) -> Command:
    program = str(flag.parent / "flag")
    return command(**{"kill": [program, "off", "pay"], "read": [program, "show", "pay"], **settings})


def gone(process: int) -> bool:
    """Tell whether a process ends within a second; one that nobody has waited for is as good as gone."""
    for _ in range(100):
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.01)
    return False


def test_a_kill_runs_the_command_and_the_reading_says_so(flag: Path) -> None:
    program = str(flag.parent / "flag")
    settings = {"kill": [program, "off", "pay"], "read": [program, "show", "pay"]}
    found = switch(f"command:{json.dumps(settings)}")
    assert found.read("pay") == SwitchState(True, None, shown="on")
    found.kill("pay", "errors tripled")
    assert found.read("pay") == SwitchState(False, 0.0, shown="off")
    assert changes(flag) == ["pay"]


def test_nothing_turns_a_feature_on() -> None:
    assert [name for name in dir(Command) if not name.startswith("_")] == ["dry_run", "kill", "read"]


def test_a_kill_reads_runs_and_reads_again_and_what_is_off_is_not_run(
    tmp_path: Path, script: Script, flag: Path
) -> None:
    order = tmp_path / "order"
    program = script(
        "noted", f"open({str(order)!r}, 'a').write(sys.argv[1] + ' ')\nos.execv(sys.argv[2], sys.argv[2:])"
    )
    own = str(flag.parent / "flag")
    found = command(kill=[program, "kill", own, "off", "pay"], read=[program, "read", own, "show", "pay"])
    assert kill(found, "pay", tmp_path / "j.db").state == "done"
    assert order.read_text().split() == ["read", "kill", "read"]
    again = kill(found, "pay", tmp_path / "k.db")
    assert order.read_text().split() == ["read", "kill", "read", "read"]
    assert (again.entry.receipt or {})["note"] == "already off"


def test_no_shell_reads_the_arguments(tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = script("show", "print(json.dumps({'on': True, 'revision': json.dumps(sys.argv[1:])}))")
    hostile = [
        "$(touch x)",
        "; touch x",
        "`touch x`",
        "*",
        "~",
        "$HOME",
        "a b",
        "",
        "'\"",
        "--",
        "-n",
        "{}",
        "\n",
        "é💥",
    ]
    assert json.loads(command(read=[program, *hostile]).read("pay").revision) == hostile
    assert not (tmp_path / "x").exists()


def test_a_command_has_no_input(script: Script) -> None:
    program = script("asks", "print('on' if sys.stdin.read() == '' else 'off')")
    assert command(read=[program]).read("pay").on


def test_a_command_runs_where_watcher_does(tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script("here", "print('on' if os.getcwd() == os.path.dirname(os.path.abspath(sys.argv[0])) else 'off')")
    assert command(read=["./here"]).read("pay").on


def test_the_environment_is_small_and_holds_what_is_named(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C", "SLACK_TOKEN": f"xoxb-{MARK}-4711", "KUBECONFIG": "/etc/kube"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("HOME", raising=False)
    program = script("show", "print(json.dumps({'on': True, 'revision': json.dumps(dict(os.environ))}))")
    found = json.loads(command(read=[program]).read("pay").revision)
    found.pop("LC_CTYPE", None)  # Python sets it for itself
    assert found == {"PATH": "/usr/bin:/bin", "LANG": "C", "WATCHER_FEATURE": "pay"}
    script("show", "print('on' if os.environ['KUBECONFIG'] == '/etc/kube' else 'off')")
    assert command(read=[program], env=["KUBECONFIG"]).read("pay").on
    monkeypatch.delenv("KUBECONFIG")
    with pytest.raises(SwitchError, match=r"kill\.command\.env: KUBECONFIG is not set where watcher runs") as caught:
        command(read=[program], env=["KUBECONFIG"]).read("pay")
    assert caught.value.permanent


def test_a_kill_finds_the_reason_in_its_environment(tmp_path: Path, script: Script) -> None:
    said = tmp_path / "said"
    program = script("tell", f"open({str(said)!r}, 'w').write(os.environ['WATCHER_REASON'])")
    command(kill=[program]).kill("pay", "errors\ntripled \0 $(touch x) 1 % → 3 % \ud800")
    assert said.read_text() == "errors\ntripled   $(touch x) 1 % → 3 % ?"


@pytest.mark.parametrize("silent", [False, True])
def test_at_the_time_limit_everything_that_was_started_is_killed(tmp_path: Path, script: Script, silent: bool) -> None:
    pids, late = tmp_path / "pids", tmp_path / "late"
    program = script(
        "slow",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.fork()\n"
        f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}} ')\n"
        "    time.sleep(4)\n"
        f"    open({str(late)!r}, 'w').write('took effect')\n"
        "    time.sleep(60)\n"
        "print('working on it', flush=True)\n" + ("os.close(1)\nos.close(2)\n" if silent else "") + "time.sleep(60)",
    )
    started = time.monotonic()
    with pytest.raises(
        SwitchError, match=r"kill\.command\.kill \(.*slow\) was not done within 2 s, and was killed"
    ) as caught:
        command(kill=[program], timeout=2).kill("pay", "")
    assert 2 <= time.monotonic() - started < 30
    assert str(caught.value).endswith("killed: working on it")
    assert not caught.value.permanent
    grandchildren = [int(each) for each in pids.read_text().split()]
    assert len(grandchildren) == 2
    assert all(gone(each) for each in grandchildren)
    assert not late.exists()


def test_a_command_that_cannot_be_killed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that became another user's, through sudo."""
    refused: list[int] = []

    def forbidden(group: int, _: int) -> None:
        refused.append(group)
        raise PermissionError(1, "Operation not permitted")

    real = os.killpg
    monkeypatch.setattr(os, "killpg", forbidden)
    started = time.monotonic()
    with pytest.raises(SwitchError, match=r"was not done within 0\.2 s"):
        command(kill=["sleep", "60"], timeout=0.2).kill("pay", "")
    assert time.monotonic() - started < 20
    real(refused[0], signal.SIGKILL)


def test_a_command_does_not_outlive_an_interruption(tmp_path: Path, script: Script) -> None:
    note = tmp_path / "pid"
    program = script("slow", f"open({str(note)!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)")

    def interrupted(*_: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGALRM, interrupted)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(SystemExit):
            command(kill=[program]).kill("pay", "")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert gone(int(note.read_text()))


def test_what_runs_on_in_the_background_is_not_waited_for(tmp_path: Path, script: Script) -> None:
    note = tmp_path / "pid"
    program = script(
        "leaves",
        "print('on', flush=True)\n"
        f"if os.fork() == 0:\n    open({str(note)!r}, 'w').write(str(os.getpid()))\n    time.sleep(30)\n"
        "os._exit(0)",
    )
    started = time.monotonic()
    assert command(read=[program]).read("pay").on
    assert time.monotonic() - started < 20
    for _ in range(200):
        if note.exists() and note.read_text():
            break
        time.sleep(0.01)
    left = int(note.read_text())
    assert Path(f"/proc/{left}").exists()
    os.kill(left, signal.SIGKILL)


def test_a_reading_has_less_time_than_a_kill(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.switches.command.switch.READING", 0.3)
    program = script("slow", "time.sleep(0.8)\nprint('on')")
    found = command(kill=[program], read=[program], timeout="5s")
    with pytest.raises(SwitchError, match=r"kill\.command\.read \(.*slow\) was not done within 0\.3 s"):
        found.read("pay")
    found.kill("pay", "")


def test_an_endless_output_is_neither_kept_nor_waited_for(script: Script) -> None:
    program = script("babbles", "while True: os.write(1, b'a' * 65536)")
    with pytest.raises(SwitchError, match=r"was killed: \.\.\.a{300}$"):
        command(kill=[program], timeout=1).kill("pay", "")
    program = script("talks", "os.write(1, b'a' * (5 << 20) + b'\\non\\n')")
    with pytest.raises(SwitchError, match="expected the word on") as caught:
        command(read=[program]).read("pay")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("body", "words", "permanent"),
    [
        ("print('no'); sys.exit('forbidden')", "exit status 1: forbidden", False),
        ("print('only here'); sys.exit(3)", "exit status 3: only here", False),
        ("sys.exit(2)", r"exit status 2$", False),
        ("sys.exit(64)", "exit status 64", True),
        ("sys.exit(75)", "exit status 75", False),
        ("print('no such flag', file=sys.stderr); sys.exit(78)", "exit status 78: no such flag", True),
        ("sys.exit(127)", "exit status 127", True),
        ("os.kill(os.getpid(), signal.SIGTERM)", r"ended by SIGTERM$", False),
        ("os.kill(os.getpid(), 40)", r"ended by signal 40$", False),
        ("sys.exit('x' * 500 + '\\x1b[31m' + chr(10) * 9 + 'end')", r": \.\.\.x{291} \[31m end$", False),
    ],
)
def test_a_command_that_fails_is_an_error_with_its_last_words(
    script: Script, body: str, words: str, permanent: bool
) -> None:
    program = script("fails", body)
    for setting in ("kill", "read"):
        found = command(**{setting: [program]})
        with pytest.raises(SwitchError, match=words) as caught:
            found.kill("pay", "") if setting == "kill" else found.read("pay")
        assert str(caught.value).startswith(f"kill.command.{setting} ({program}): ")
        assert caught.value.permanent == permanent


@pytest.mark.parametrize(
    "program", ["no-such-program", "./no-such-program", "/no/such/program", "/etc/hostname/program"]
)
def test_a_program_that_is_not_there_is_told_at_once(tmp_path: Path, program: str) -> None:
    killing = kill(command(kill=[program]), "pay", tmp_path / "j.db")
    assert killing.state == "failed"
    assert f"kill.command.kill ({program}): there is no such program; install it" in killing.error
    with pytest.raises(SwitchError, match="there is no such program"):
        command(kill=[program]).dry_run("pay")


def test_a_file_that_cannot_be_run_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("echo on")
    with pytest.raises(SwitchError, match="cannot be run: Permission denied") as caught:
        command(read=[f"{tmp_path}/plain"]).read("pay")
    assert caught.value.permanent
    (tmp_path / "plain").chmod(0o755)
    with pytest.raises(SwitchError, match="cannot be run: Exec format error"):
        command(read=[f"{tmp_path}/plain"]).read("pay")


def test_the_values_of_variables_are_not_shown(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAGS_TOKEN", f"{MARK}-hunter2")
    monkeypatch.setenv("REGION", "eu")
    program = script("leaks", "sys.exit(f'{os.environ[\"FLAGS_TOKEN\"]}' * 50 + ' is no token of region eu')")
    found = command(kill=[program], read=[program], env=["FLAGS_TOKEN", "REGION"])
    with pytest.raises(SwitchError, match="<secret> is no token of region eu") as caught:
        found.kill("pay", "")
    assert "hunter2" not in str(caught.value)
    script("leaks", "print(os.environ['FLAGS_TOKEN'])")
    with pytest.raises(SwitchError, match="says '<secret>'; expected"):
        found.read("pay")
    assert repr(found) == f"Command({program!r})"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("on\n", SwitchState(True, None, shown="on")),
        (" off", SwitchState(False, 0.0, shown="off")),
        ('{"on": true, "share": 0.05}\n', SwitchState(True, 0.05, shown="on: true, share: 0.05")),
        ('{"on": false, "share": 0, "by": "ana"}', SwitchState(False, 0.0, shown="on: false, share: 0")),
    ],
)
def test_a_reading_is_one_word_or_one_line_of_json(said: str, state: SwitchState) -> None:
    assert command(read=["printf", "%s", said]).read("pay") == state


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("", "says nothing; expected the word on"),
        ("On", "says 'On'; expected the word on"),
        ("true", "says 'true'; expected the word on"),
        ("off off", "says 'off off'; expected"),
        ("on\noff", r"says 'on\\noff'; expected"),
        ('{"on": true}\n{"on": false}', "expected the word on"),
        ('{\n"on": true}', "expected the word on"),
        ('{"on": true', "expected the word on"),
        ("[" * 20_000, "expected the word on"),
        ("1", "says '1'; expected"),
        ('{"share": 0}', "does not say whether the feature is on"),
        ('{"on": false, "share": 0.5}', "contradicts itself"),
        ("\\377\\376", "says '��'; expected"),
    ],
)
def test_a_reading_that_does_not_say_so_plainly_is_an_error(said: str, words: str) -> None:
    with pytest.raises(SwitchError, match=words) as caught:
        command(read=["printf", "%b" if "\\3" in said else "%s", said]).read("pay")
    assert str(caught.value).startswith("kill.command.read (printf) ")
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("settings", "said", "state"),
    [
        ({"on": "", "off": "true"}, "\n", SwitchState(True, None, shown="nothing")),
        ({"on": "", "off": "true"}, "true\n", SwitchState(False, 0.0, shown="true")),
        ({"on": "1.10", "off": " 1.9\n"}, "1.9", SwitchState(False, 0.0, shown="1.9")),
        ({"on": "off", "off": "on"}, "on", SwitchState(False, 0.0, shown="on")),
        (
            {"on_pattern": r"(?P<rest>\d+) (?P<weight>[1-9]\d*)", "off": "100 0"},
            "95 5",
            SwitchState(True, 0.05, shown="95 5"),
        ),
        (
            {"on_pattern": r"(?P<rest>\d+) (?P<weight>[1-9]\d*)|none", "off": "9 0"},
            "none",
            SwitchState(True, None, shown="none"),
        ),
        ({"on_pattern": r"\d+ [1-9]\d*", "off_pattern": r"\d+ 0"}, "7 0", SwitchState(False, 0.0, shown="7 0")),
    ],
)
def test_a_reading_may_say_it_in_words_of_its_own(settings: dict[str, str], said: str, state: SwitchState) -> None:
    assert command(read=["printf", "%s", said], **settings).read("pay") == state


@pytest.mark.parametrize(
    ("settings", "said", "words"),
    [
        ({"on": "", "off": "true"}, "false", "says 'false', which is neither what it says when on, nor when off"),
        ({"on": "1x9", "off": "1.9"}, "1y9", "is neither"),
        ({"on": "yes", "off": "no"}, "", "says nothing, which is neither"),
        ({"on": "yes", "off": "no"}, "yes\nno", "is neither"),
        ({"on_pattern": r"\d+", "off": "0"}, "0", "says '0', which is what it says when on and when off"),
        ({"on_pattern": r"(?P<rest>\w) (?P<weight>\w)", "off": "x"}, "a b", "says 'a b', whose weights make no share"),
        ({"on_pattern": r"(?P<rest>\d) (?P<weight>\d)", "off": "x"}, "0 0", "whose weights make no share"),
        ({"on_pattern": r"(?P<rest>\S+) (?P<weight>\d)", "off": "x"}, "-3 1", "whose weights make no share"),
    ],
)
def test_words_that_mean_neither_or_both_are_an_error(settings: dict[str, str], said: str, words: str) -> None:
    with pytest.raises(SwitchError, match=words):
        command(read=["printf", "%s", said], **settings).read("pay")


def test_a_dry_run_says_what_would_be_run_and_runs_only_what_is_for_that(tmp_path: Path, script: Script) -> None:
    killer = script("kills", f"open('{tmp_path}/killed', 'w')")
    tried = script("tries", f"open('{tmp_path}/tried', 'w'); sys.exit(int(os.path.exists('{tmp_path}/refuse')))")
    words = f"run {killer} --now 'a b' (says on); "
    found = command(kill=[killer, "--now", "a b"])
    assert found.dry_run("pay") == words + "whether it may is not tried: no dry_run is set"
    found = command(kill=[killer, "--now", "a b"], dry_run=[tried, "x y"])
    assert found.dry_run("pay") == words + f"{tried} 'x y' passed"
    assert (tmp_path / "tried").exists()
    off = command(kill=[killer], read=["echo", "off"])
    assert off.dry_run("pay").startswith("pay is off already (says off); nothing would be run")
    (tmp_path / "refuse").touch()
    with pytest.raises(SwitchError, match=r"kill\.command\.dry_run \(.*tries\): exit status 1"):
        found.dry_run("pay")
    assert not (tmp_path / "killed").exists()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kill": "kubectl"}, r"kill\.command\.kill: .*list"),
        ({"kill": []}, r"kill\.command\.kill: .*at least 1"),
        ({"kill": [""]}, r"kill\.command\.kill: the first item is the program, and is empty"),
        ({"kill": ["a", 0]}, r'kill\.command\.kill\.1: expected text; quote it: "0"'),
        ({"kill": ["a", True]}, r'kill\.command\.kill\.1: expected text; quote it: "true"'),
        ({"kill": ["a", "b\0"]}, r"kill\.command\.kill: an argument cannot hold a NUL"),
        ({"read": ["a", None]}, r"kill\.command\.read\.1: .*string"),
        ({"timeout": "1m"}, r"kill\.command\.timeout: expected seconds, such as 20s, found '1m'"),
        ({"timeout": 31}, r"kill\.command\.timeout: .*less than or equal to 30"),
        ({"timeout": 0}, r"kill\.command\.timeout: .*greater than 0"),
        ({"timeout": True}, r"kill\.command\.timeout: .*number"),
        ({"env": [f"TOKEN={MARK}-hunter2"]}, r"kill\.command\.env: expected names of variables, such as KUBECONFIG"),
        ({"off": True, "on": False}, r'kill\.command\.on: expected text; quote it: "false"'),
        ({"off": "true"}, r"kill\.command: say what the reading says when it is on and when it is off"),
        ({"off": "a", "on": "a"}, r"kill\.command: on and off are the same text"),
        ({"off": "a", "off_pattern": "a", "on": "b"}, r"kill\.command: give either off or off_pattern"),
        ({"off": "a", "on_pattern": "("}, r"kill\.command\.on_pattern: is not a regular expression"),
        ({"off": "a", "on_pattern": "{version}"}, r"on_pattern: a version is text and no pattern"),
        ({"off": "a", "on_pattern": r"(?P<weight>\d)"}, r"on_pattern: the groups it may name"),
        ({"shell": True}, r"kill\.command\.shell: unknown key"),
    ],
)
def test_settings_that_are_wrong_name_the_key_and_the_fix(settings: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        command(**settings)
    assert "hunter2" not in str(caught.value)


def test_settings_are_checked_before_there_is_a_release_to_fill_them() -> None:
    command(kill=["a", "{feature}", "--to={previous}"], on="{version}", off="{previous}", timeout="20s")


def test_a_kill_that_took_effect_and_was_too_slow_to_say_so_happens_once(
    tmp_path: Path, script: Script, flag: Path
) -> None:
    program = script("slow", f"os.system('{flag.parent}/flag off pay')\ntime.sleep(30)")
    killing = kill(flags(flag, kill=[program], timeout=2), "pay", tmp_path / "j.db")
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert (killing.entry.receipt or {})["note"] == "already off"
    assert changes(flag) == ["pay"]


def test_a_kill_that_failed_is_tried_again_while_it_reads_as_on(tmp_path: Path, script: Script, flag: Path) -> None:
    tries = tmp_path / "tries"
    program = script(
        "flaky",
        f"open({str(tries)!r}, 'a').write('x')\n"
        f"if os.path.getsize({str(tries)!r}) < 3: sys.exit('the cluster is away')\n"
        f"os.execv('{flag.parent}/flag', ['flag', 'off', 'pay'])",
    )
    killing = kill(flags(flag, kill=[program]), "pay", tmp_path / "j.db")
    assert (killing.state, len(killing.pauses), changes(flag)) == ("done", 2, ["pay"])
    assert tries.read_text() == "xxx"


@pytest.mark.parametrize(("status", "why"), [(77, "token expired"), (78, "no such flag")])
def test_a_kill_that_says_that_it_never_can_is_told_at_once(
    tmp_path: Path, script: Script, flag: Path, status: int, why: str
) -> None:
    program = script("refuses", f"print({why!r}, file=sys.stderr)\nsys.exit({status})")
    killing = kill(flags(flag, kill=[program]), "pay", tmp_path / "j.db")
    assert killing.state == "failed"
    assert killing.error.endswith(f"exit status {status}: {why}")
    assert changes(flag) == []


def test_a_kill_that_says_yes_and_does_nothing_is_found_out(tmp_path: Path, flag: Path) -> None:
    killing = kill(flags(flag, kill=["true"]), "pay", tmp_path / "j.db")
    assert killing.state == "intended"
    assert "was told to turn pay off, and reads back as still on" in killing.error


def test_without_a_reading_nothing_is_killed(tmp_path: Path, flag: Path) -> None:
    killing = kill(flags(flag, read=["echo", "perhaps"]), "pay", tmp_path / "j.db")
    assert killing.state == "intended"
    assert "says 'perhaps'; expected the word on" in killing.error
    assert changes(flag) == []

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.switches.kills import kill
from tests.switches.other_editors import before_replacing, turning_back
from watcher.errors import ConfigError, SwitchError
from watcher.switches import switch, whole_file
from watcher.switches.whole_file import TRIES
from watcher.switches.yaml_flags import YamlFlags

SHOP = """\
# Flags of the shop.  Ask #releases before touching them.
features:
    new-checkout:   # one page
        enabled:   true     # since Friday
        description: "New checkout flow with one-page payment"
        rollout_percentage: 5

    'dark mode': {rollout_percentage: 100,   enabled: True , "description": 'It''s dark'}
    search:
        description: >
            enabled: true
        enabled: false
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "feature-flags.yaml"
    path.write_bytes(SHOP.encode())
    return path


def test_a_kill_changes_one_word(file: Path) -> None:
    flags = YamlFlags(str(file))
    assert flags.read("new-checkout").on
    flags.kill("new-checkout", "errors tripled")
    assert not flags.read("new-checkout").on
    assert file.read_text() == SHOP.replace("enabled:   true     # since", "enabled:   false     # since")


def test_a_flag_in_flow_style_keeps_its_spacing(file: Path) -> None:
    YamlFlags(str(file)).kill("dark mode", "")
    assert file.read_text() == SHOP.replace("enabled: True ,", "enabled: false ,")


def test_a_feature_that_is_off_leaves_the_file_untouched(file: Path) -> None:
    before = file.stat()
    YamlFlags(str(file)).kill("search", "")
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_nothing_turns_a_feature_on(file: Path) -> None:
    assert [name for name in dir(YamlFlags) if not name.startswith("_")] == ["dry_run", "kill", "read"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("features:\r\n  a:\r\n    enabled: true\r\n", "features:\r\n  a:\r\n    enabled: false\r\n"),
        ("\ufefffeatures: {a: {enabled: true}}", "\ufefffeatures: {a: {enabled: false}}"),
        ("été: 💥\nfeatures: {a: {enabled: TRUE}} # é", "été: 💥\nfeatures: {a: {enabled: false}} # é"),
        ("features: {a: {enabled: !!bool true}}", "features: {a: {enabled: !!bool false}}"),
        ("features: {a: {enabled: &unused true}}", "features: {a: {enabled: &unused false}}"),
        (
            "on: &on true\nfeatures: {a: {enabled: *on }, b: {enabled: *on }}",
            "on: &on true\nfeatures: {a: {enabled: false }, b: {enabled: *on }}",
        ),
        (
            "features:\n  ? a\n  : ? enabled\n    : true\n  b: {enabled: true}",
            "features:\n  ? a\n  : ? enabled\n    : false\n  b: {enabled: true}",
        ),
        (
            '{"features": {"a": {"enabled": true, "tags": [{"enabled": true}]}}}',
            '{"features": {"a": {"enabled": false, "tags": [{"enabled": true}]}}}',
        ),
        (
            "features: {[x]: {enabled: true}, a: {expires: 2026-02-31, enabled: true}}",
            "features: {[x]: {enabled: true}, a: {expires: 2026-02-31, enabled: false}}",
        ),
    ],
)
def test_odd_but_valid_files_keep_their_bytes(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "flags.yaml"
    path.write_bytes(before.encode())
    YamlFlags(str(path)).kill("a", "")
    assert path.read_bytes() == after.encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SHOP.replace("new-checkout:", "new-chekout:"), r"no feature 'new-checkout'; did you mean 'new-chekout'\?"),
        ("features: {search: {enabled: true}}", "no feature 'new-checkout'; there is: search"),
        ("features: {new-checkout: {enabled: 'true'}}", "enabled is 'true'; write true or false, without quotes"),
        ("features: {new-checkout: {enabled: yes}}", "enabled is 'yes'; write true or false"),
        ("features: {new-checkout: {enabled: [true]}}", "enabled is a list or a mapping; write"),
        ("features: {new-checkout: {rollout_percentage: 5}}", "enabled is missing; write it out"),
        ("x: &x {enabled: true}\nfeatures: {new-checkout: {<<: *x}}", "enabled is missing; write it out"),
        ("features: {new-checkout: true}", "new-checkout: expected a mapping of its own with the key `enabled`"),
        ("x: &x {enabled: true}\nfeatures: {new-checkout: *x}", "expected a mapping of its own"),
        ("features: [new-checkout]", "features: expected a mapping of features"),
        ("flags: {}", "features: expected a mapping of features"),
        ("", "the flags file is empty"),
        ("features: {new-checkout: {enabled: true, enabled: true}}", "enabled is written 2 times; keep one"),
        ("features: {new-checkout: {enabled: true}, new-checkout: {enabled: false}}", "written 2 times"),
        ("features:\n  new-checkout: {enabled: tr", "flags.yaml:2: not YAML: expected"),
        ("features:\n\tnew-checkout: {enabled: true}", "flags.yaml:2: not YAML"),
        ("features: {new-checkout: {enabled: true}} # \udcff", "byte 45 is not UTF-8"),
        ("features: {new-checkout: {enabled: true}}#" + "x" * (1 << 20), "more than 1 MiB"),
    ],
)
def test_a_file_that_does_not_say_so_plainly_is_an_error_that_names_the_fix(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "flags.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for call in (YamlFlags(str(path)).read, lambda feature: YamlFlags(str(path)).kill(feature, "")):
        with pytest.raises(SwitchError, match=words) as raised:
            call("new-checkout")
        assert str(raised.value).startswith(str(path))
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "text",
    [
        "features: {a: {enabled: &on true}, b: {enabled: *on }}",
        "features:\n  a: &a\n    enabled: true\n  b:\n    <<: *a\n",
        "features: &all {a: {enabled: true}}\nstaging: *all",
    ],
)
def test_a_flag_that_others_share_is_not_turned_off_with_them(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(text)
    assert YamlFlags(str(path)).read("a").on
    with pytest.raises(SwitchError, match="is shared through the anchor &"):
        YamlFlags(str(path)).kill("a", "")
    assert path.read_text() == text


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SwitchError, match="cannot be read: No such file"):
        YamlFlags(str(tmp_path / "flags.yaml")).kill("a", "")


def test_mode_and_owner_are_kept_and_no_other_file_is_left(file: Path) -> None:
    file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(file, 1234, 4321)
    before = file.stat()
    YamlFlags(str(file)).kill("new-checkout", "")
    after = file.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert os.listdir(file.parent) == [file.name]


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path: Path, file: Path) -> None:
    (tmp_path / "current").mkdir()
    link = tmp_path / "current" / "flags.yaml"
    link.symlink_to(Path("..") / file.name)
    YamlFlags(str(link)).kill("new-checkout", "")
    assert link.is_symlink()
    assert "enabled:   false" in file.read_text()
    assert os.listdir(link.parent) == ["flags.yaml"]


def test_an_owner_that_cannot_be_kept_stops_the_change(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", forbidden)
    with pytest.raises(SwitchError, match="cannot be replaced: Operation not permitted; watcher needs"):
        YamlFlags(str(file)).kill("new-checkout", "")
    assert file.read_text() == SHOP
    assert os.listdir(file.parent) == [file.name]


def test_an_edit_made_meanwhile_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def edit(_: int) -> None:
        file.write_text("# Raised by Ana\n" + file.read_text().replace("percentage: 5\n", "percentage: 25\n"))

    before_replacing(monkeypatch, edit, times=2)
    YamlFlags(str(file)).kill("new-checkout", "")
    expected = SHOP.replace("enabled:   true  ", "enabled:   false  ").replace("percentage: 5\n", "percentage: 25\n")
    assert file.read_text() == "# Raised by Ana\n" * 2 + expected


def test_somebody_else_turning_it_off_meanwhile_is_fine(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = SHOP.replace("enabled:   true", "enabled: false")
    before_replacing(monkeypatch, lambda _: file.write_text(theirs), times=1)
    YamlFlags(str(file)).kill("new-checkout", "")
    assert file.read_text() == theirs


def test_a_file_that_never_stands_still_is_given_up_on(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_replacing(monkeypatch, lambda time: file.write_text(f"# {time}\n{SHOP}"), times=99)
    with pytest.raises(SwitchError, match=f"changed by somebody else {TRIES} times"):
        YamlFlags(str(file)).kill("new-checkout", "")
    assert file.read_text() == f"# {TRIES}\n{SHOP}"
    assert os.listdir(file.parent) == [file.name]


def test_a_flag_turned_on_again_at_once_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turning_back(monkeypatch, SHOP)
    with pytest.raises(SwitchError, match="reads true again"):
        YamlFlags(str(file)).kill("new-checkout", "")


# --- the same as the daemon does it: retried where that is harmless, and told -----------------------------------------

OFF = SHOP.replace("enabled:   true     # since", "enabled:   false     # since")


def test_a_file_that_others_keep_changing_is_tried_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before_replacing(monkeypatch, lambda time: file.write_text(f"# {time}\n{SHOP}"), times=TRIES)
    killing = kill(YamlFlags(str(file)), "new-checkout", file.parent / "j.db")
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert file.read_text() == f"# {TRIES}\n{OFF}"


def test_a_flag_that_somebody_turns_on_again_at_once_is_turned_off_again(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turning_back(monkeypatch, SHOP)
    killing = kill(YamlFlags(str(file)), "new-checkout", file.parent / "j.db", after=monkeypatch.undo)
    assert (killing.state, len(killing.pauses), file.read_text()) == ("done", 1, OFF)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY])
def test_what_the_system_refuses_is_given_up_and_told_at_once(
    file: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "replace", refuse)
    killing = kill(YamlFlags(str(file)), "new-checkout", file.parent / "j.db")
    assert (killing.state, killing.pauses, file.read_text()) == ("failed", [], SHOP)
    fix = {errno.EBUSY: "mount its folder", errno.EROFS: "a folder that it may write in"}
    assert fix.get(number, "needs write access") in killing.error


def test_a_disk_that_is_full_for_a_moment_is_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    killing = kill(YamlFlags(str(file)), "new-checkout", file.parent / "j.db", after=monkeypatch.undo)
    assert (killing.state, len(killing.pauses), file.read_text()) == ("done", 1, OFF)


def test_a_file_that_is_gone_for_a_moment_is_waited_for(file: Path) -> None:
    away = file.rename(file.with_suffix(".away"))
    killing = kill(
        YamlFlags(str(file)), "new-checkout", file.parent / "j.db", after=lambda: away.exists() and away.rename(file)
    )
    assert (killing.state, len(killing.pauses), file.read_text()) == ("done", 1, OFF)


def test_a_file_that_is_empty_while_somebody_writes_it_is_waited_for(file: Path) -> None:
    file.write_text("")
    killing = kill(
        YamlFlags(str(file)),
        "new-checkout",
        file.parent / "j.db",
        after=lambda: file.read_text() or file.write_text(SHOP),
    )
    assert (killing.state, len(killing.pauses), file.read_text()) == ("done", 1, OFF)


def test_a_dry_run_finds_a_file_that_is_mounted_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = file.parent / "mount info"
    monkeypatch.setattr(whole_file, "MOUNTS", mounts)
    spaced = file.rename(file.with_name("feature flags.yaml"))
    point = str(spaced.resolve()).replace(" ", r"\040")
    for mounted in (True, False):
        mounts.write_text(
            f"23 1 0:21 / /proc rw - proc proc rw\n24 1 8:1 /x {point if mounted else '/else'} rw - ext4 /dev/x rw\n"
        )
        if mounted:
            with pytest.raises(SwitchError, match="mounted alone, so that nothing can take its place"):
                YamlFlags(str(spaced)).dry_run("new-checkout")
        else:
            assert "true -> false" in YamlFlags(str(spaced)).dry_run("new-checkout")


def test_a_feature_that_the_file_does_not_have_is_told_at_once(file: Path) -> None:
    killing = kill(YamlFlags(str(file)), "new-chekout", file.parent / "j.db")
    assert (killing.state, killing.pauses, file.read_text()) == ("failed", [], SHOP)


@dataclass(frozen=True)
class Written:
    """A flags file as pieces of text; `words` are the places of the `enabled` values, by feature."""

    pieces: tuple[str, ...]
    words: tuple[tuple[str, int], ...]

    def text(self) -> str:
        return "".join(self.pieces)

    def killed(self, feature: str) -> str:
        at = dict(self.words)[feature]
        return "".join((*self.pieces[:at], "false", *self.pieces[at + 1 :]))


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True) | st.sampled_from(["on", "true-ish", "é💥", "a b"])
SPACES = st.integers(1, 4).map(lambda count: " " * count)
COMMENTS = st.sampled_from(["", " # enabled: true", "  #é 💥", "   "])
WORDS = st.sampled_from(["true", "True", "TRUE", "false"])
EXTRAS = st.sampled_from(
    [
        '"a \\" # b"',
        "'it''s {enabled: true}'",
        "5",
        "~",
        "[1,  {enabled: true}]",
        "x: y".replace(": ", ":"),
        "2026-01-01",
    ]
)


@st.composite
def flag_files(draw: st.DrawFn) -> Written:
    names = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    pieces: list[str] = [draw(st.sampled_from(["", "# top\n\n", "---\n", "version: 1.10\nother: {enabled: true}\n"]))]
    pieces.append(f"features:{draw(COMMENTS)}\n")
    words: list[tuple[str, int]] = []
    margin, deeper = draw(SPACES), draw(SPACES)
    for name in names:
        key = draw(st.sampled_from([name, f'"{name}"', f"'{name}'"]))
        flow = draw(st.booleans())
        entries = draw(st.permutations([None, *draw(st.lists(EXTRAS, max_size=3))]))
        pieces.append(f"{margin}{key}:{draw(SPACES)}{{" if flow else f"{margin}{key}:{draw(COMMENTS)}\n")
        for number, extra in enumerate(entries):
            label = (
                f"key{number}" if extra is not None else draw(st.sampled_from(["enabled", "'enabled'", '"enabled"']))
            )
            pieces.append(f"{draw(SPACES) if flow else margin + deeper}{label}:{draw(SPACES)}")
            if extra is None:
                words.append((name, len(pieces)))
            pieces.append(draw(WORDS) if extra is None else extra)
            if flow:
                pieces.append(draw(SPACES) + ("," if number + 1 < len(entries) else ""))
            else:
                pieces.append(f"{draw(COMMENTS)}\n{draw(st.sampled_from(['', chr(10), '  # note' + chr(10)]))}")
        pieces.append(f"}}{draw(COMMENTS)}\n" if flow else "")
    pieces.append(draw(st.sampled_from(["", "\n\n", "# the end", "zz: 1\n"])))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    return Written(tuple(piece.replace("\n", ends) for piece in pieces), tuple(words))


@settings(max_examples=200, deadline=None)
@given(written=flag_files(), choice=st.data())
def test_every_other_byte_of_any_flags_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, written: Written, choice: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-flags.yaml"
    path.write_bytes(written.text().encode())
    feature, at = choice.draw(st.sampled_from(written.words))
    was_on = written.pieces[at] != "false"
    loaded = YAML(typ="safe", pure=True).load(written.text())["features"]
    flags = YamlFlags(str(path))
    assert flags.read(feature).on == was_on == loaded[feature]["enabled"]
    flags.kill(feature, "property")
    assert path.read_bytes() == (written.killed(feature) if was_on else written.text()).encode()


def test_a_key_names_a_switch_and_an_unknown_one_lists_what_there_is(file: Path) -> None:
    assert switch(f"yaml_flags:{file}").read("new-checkout").on
    with pytest.raises(ConfigError, match=r"no kill switch 'yaml-flags'; there is: .*yaml_flags"):
        switch("yaml-flags:x.yaml")
    with pytest.raises(ConfigError, match="needs a file"):
        switch("yaml_flags")


def test_another_package_adds_a_switch_by_entry_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "lights-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Name: lights\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text(
        "[watcher.switches]\nlights = lights_off:Lights\nbroken = lights_off:No\n"
    )
    (tmp_path / "lights_off.py").write_text(
        "class Lights:\n    def __init__(self, settings):\n        self.room = settings\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert vars(switch("lights:hall:2")) == {"room": "hall:2"}
    with pytest.raises(ConfigError, match=r"'broken' \(lights_off:No\) cannot be loaded"):
        switch("broken:")
    with pytest.raises(ConfigError, match=r"there is: broken, .*lights, .*yaml_flags"):
        switch("dark:")

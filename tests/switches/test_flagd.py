from __future__ import annotations

import errno
import json
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from openfeature import api
from openfeature.client import OpenFeatureClient
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext

from tests.switches.documented import documented
from tests.switches.kills import kill
from tests.switches.other_editors import before_replacing, turning_back
from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.releases.shares import exposures
from watcher.switches import switch
from watcher.switches.flagd import Flagd
from watcher.switches.whole_file import TRIES

SHOP = """\
{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "new-checkout": {
      "state":   "ENABLED",
      "variants": {"on": true,  "off": false},
      "defaultVariant": "on",
      "targeting": {
        "if": [
          {"in": ["@shop.example", {"var": "email"}]},
          "on",
          {"fractional": [["on", 5], ["off", 95]]}
        ]
      },
      "metadata": {"team": "payments"}
    },
    "search": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off",
               "targeting": {"$ref": "staff"}},
    "banner": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off"}
  },
  "$evaluators": {"staff": {"if": [{"ends_with": [{"var": "email"}, "@shop.example"]}, "on"]}}
}
"""
TARGETING = SHOP[SHOP.index('{\n        "if"') : SHOP.index(',\n      "metadata"')]
KILLED = SHOP.replace('"defaultVariant": "on"', '"defaultVariant": "off"').replace(TARGETING, "{}")

SHOP_YAML = """\
# Flags of the shop.  Ask #releases before touching them.
flags:
  new-checkout:   # one page
    state: ENABLED
    variants:
      on:  true
      off: false
    defaultVariant: on   # since Friday
    targeting:
      fractional:
        - [on, 5]     # five percent
        - [off, 95]

    # the team
    metadata: {team: payments}
  search: {state: ENABLED, variants: {"on": true, "off": false}, defaultVariant: "off", targeting: {$ref: staff}}
$evaluators:
  staff: {if: [{ends_with: [{var: email}, "@shop.example"]}, "on"]}
"""
RULES_YAML = SHOP_YAML[SHOP_YAML.index("\n      fractional") : SHOP_YAML.index("\n\n    # the team")]
KILLED_YAML = SHOP_YAML.replace("defaultVariant: on ", "defaultVariant: off ").replace(RULES_YAML, " {}")

STAFF = EvaluationContext("user-1", {"email": "ana@shop.example"})
ANYBODY = EvaluationContext("user-2", {"email": "bo@elsewhere.example"})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "flags.flagd.json"
    path.write_text(SHOP)
    return path


def flags(**fields: Any) -> str:
    """Return a file with one flag, f: on for everybody, but for the fields that are given."""
    given = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "on", **fields}
    return json.dumps({"flags": {"f": {name: value for name, value in given.items() if value is not ...}}})


def state_of(tmp_path: Path, text: str, off: str | None = None, name: str = "flags.json") -> SwitchState:
    path = tmp_path / name
    path.write_text(text)
    return Flagd(json.dumps({"file": str(path), "off": off})).read("f")


@contextmanager
def application(path: Path) -> Iterator[OpenFeatureClient]:
    """An application that evaluates the file's flags as they change, through the OpenFeature SDK."""
    provider = FlagdProvider(resolver_type=ResolverType.FILE, offline_flag_source_path=str(path), deadline_ms=200)
    api.set_provider_and_wait(provider, str(path))
    try:
        yield api.get_client(str(path))
    finally:
        provider.shutdown()


def gets(client: OpenFeatureClient, feature: str = "new-checkout", fallback: bool = True) -> tuple[bool, bool]:
    """What the staff and anybody else get; `fallback` is the application's own default."""
    return (
        client.get_boolean_value(feature, fallback, STAFF),
        client.get_boolean_value(feature, fallback, ANYBODY),
    )


def before_long(condition: Callable[[], bool]) -> bool:
    """Tell whether something comes true within five seconds: the application looks at the file every 0.2."""
    for _ in range(250):
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_kill_reaches_an_application_whose_users_are_targeted(file: Path) -> None:
    with application(file) as client:
        assert gets(client)[0] is True
        switch(f"flagd:{file}").kill("new-checkout", "errors tripled")
        assert before_long(lambda: gets(client) == (False, False))
        assert client.get_boolean_value("search", False, STAFF) is True  # by the shared evaluator
    assert file.read_text() == KILLED


def test_another_default_alone_would_not_have_been_a_kill(file: Path) -> None:
    default_off = SHOP.replace('"defaultVariant": "on"', '"defaultVariant": "off"')
    with application(file) as client:
        assert client.get_boolean_value("banner", True, ANYBODY) is False
        banner = default_off.rindex('"defaultVariant": "off"')
        file.write_text(default_off[:banner] + default_off[banner:].replace('"off"', '"on"', 1))
        assert before_long(lambda: client.get_boolean_value("banner", False, ANYBODY) is True)  # it was noticed
        assert gets(client)[0] is True
    assert switch(f"flagd:{file}").read("new-checkout").on


def test_a_disabled_flag_gives_what_the_application_falls_back_to_until_it_is_killed(file: Path) -> None:
    file.write_text(SHOP.replace('"state":   "ENABLED"', '"state":   "DISABLED"'))
    flagd = switch(f"flagd:{file}")
    with application(file) as client:
        assert gets(client, fallback=True) == (True, True)
        assert gets(client, fallback=False) == (False, False)
        state = flagd.read("new-checkout")
        assert (state.on, state.share) == (True, 0.0)
        assert "DISABLED: everybody gets what the application falls back to" in state.shown
        flagd.kill("new-checkout", "")
        assert before_long(lambda: gets(client, fallback=True) == (False, False))
    assert file.read_text() == KILLED


def test_a_kill_is_noticed_although_the_file_was_written_by_a_clock_that_is_ahead(file: Path) -> None:
    ahead = time.time() + 3600
    os.utime(file, (ahead, ahead))
    with application(file) as client:
        assert gets(client)[0] is True
        switch(f"flagd:{file}").kill("new-checkout", "")
        assert before_long(lambda: gets(client) == (False, False))
    assert file.stat().st_mtime > ahead


def test_a_yaml_file_keeps_its_comments_and_the_words_that_yaml_1_1_takes_for_booleans(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(SHOP_YAML)
    users = [EvaluationContext(f"user-{number}") for number in range(200)]
    with application(path) as client:
        share = sum(client.get_boolean_value("new-checkout", False, user) for user in users) / len(users)
        assert 0 < share < 0.2
        flagd = switch(f"flagd:{path}")
        assert (flagd.read("new-checkout").share, flagd.read("new-checkout").sticky) == (0.05, True)
        flagd.kill("new-checkout", "")
        assert before_long(lambda: not any(client.get_boolean_value("new-checkout", True, user) for user in users))
        assert client.get_boolean_value("search", False, STAFF) is True
    assert path.read_text() == KILLED_YAML


def test_off_with_and_without_quotes_are_two_variants_to_some_applications(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(SHOP_YAML.replace("defaultVariant: on ", 'defaultVariant: "off" ').replace(RULES_YAML, " {}"))
    flagd = switch(f"flagd:{path}")
    nobody = EvaluationContext()
    with application(path) as client:
        assert client.get_boolean_value("new-checkout", True, nobody) is True  # there is no variant "off", only a false
        assert (flagd.read("new-checkout").on, flagd.read("new-checkout").share) == (True, 0.0)
        assert '"off" (which not every reader finds among the variants' in flagd.read("new-checkout").shown
        flagd.kill("new-checkout", "")
        assert before_long(lambda: client.get_boolean_value("new-checkout", True, nobody) is False)
    assert path.read_text() == KILLED_YAML
    path.write_text(SHOP_YAML.replace("defaultVariant: on ", 'defaultVariant: "on" ').replace(RULES_YAML, " {}"))
    assert (flagd.read("new-checkout").on, flagd.read("new-checkout").share) == (True, None)


def test_the_journal_says_what_the_flag_was_before(file: Path, tmp_path: Path) -> None:
    killing = kill(Flagd(str(file)), "new-checkout", tmp_path / "journal.db")
    assert killing.state == "done"
    assert killing.entry.receipt is not None
    assert '{"if": [{"in": ["@shop.example", {"var": "email"}]}' in killing.entry.receipt["before"]
    assert killing.entry.receipt["after"] == 'defaultVariant "off", no targeting'


def test_what_the_system_refuses_is_given_up_and_told_at_once(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "replace", refuse)
    killing = kill(Flagd(str(file)), "new-checkout", tmp_path / "journal.db")
    assert (killing.state, killing.pauses, file.read_text()) == ("failed", [], SHOP)


def test_a_flag_that_somebody_turns_on_again_at_once_is_turned_off_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    turning_back(monkeypatch, SHOP)
    killing = kill(Flagd(str(file)), "new-checkout", tmp_path / "journal.db", after=monkeypatch.undo)
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert not Flagd(str(file)).read("new-checkout").on


def test_a_dry_run_says_what_a_kill_writes_and_writes_nothing(file: Path) -> None:
    said = Flagd(str(file)).dry_run("new-checkout")
    assert said.startswith(f'{file}:4: flags.new-checkout: defaultVariant: "on" -> "off", targeting: {{"if": [')
    assert said.endswith(" -> {}")
    assert (
        Flagd(str(file))
        .dry_run("banner")
        .endswith('flags.banner gives everybody "off" already; nothing would be written')
    )
    assert file.read_text() == SHOP


def test_a_dry_run_finds_a_folder_that_cannot_be_written(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(SwitchError, match="its folder cannot be written"):
        Flagd(str(file)).dry_run("new-checkout")


def test_a_flag_that_is_off_leaves_the_file_untouched(file: Path) -> None:
    before = file.stat()
    Flagd(str(file)).kill("banner", "")
    after = file.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not Flagd(str(file)).read("banner").on


def test_nothing_gives_users_another_variant() -> None:
    assert [name for name in dir(Flagd) if not name.startswith("_")] == ["dry_run", "kill", "read"]


@pytest.mark.parametrize(
    ("fields", "on", "share", "sticky"),
    [
        ({}, True, 1.0, None),
        ({"targeting": {}}, True, 1.0, None),
        ({"targeting": None}, True, 1.0, None),
        ({"defaultVariant": "off"}, False, 0.0, None),
        ({"defaultVariant": "off", "targeting": {}}, False, 0.0, None),
        ({"defaultVariant": "off", "targeting": {"if": [{"var": "beta"}, "on"]}}, True, None, None),
        ({"defaultVariant": "off", "targeting": {"fractional": [["on", 5], ["off", 95]]}}, True, 0.05, True),
        ({"targeting": {"fractional": [{"var": "email"}, ["on", 1], ["off", 3]]}}, True, 0.25, True),
        ({"targeting": {"fractional": [["on"], ["off"]]}}, True, 0.5, True),
        ({"targeting": {"fractional": [["on", 5], ["off", -5]]}}, True, 1.0, True),
        ({"targeting": {"fractional": [["off", 100]]}}, True, 0.0, True),
        ({"targeting": {"fractional": [["on", 0]]}}, True, None, None),
        ({"targeting": {"fractional": [["on", 5], ["unknown", 95]]}}, True, None, None),
        ({"targeting": {"fractional": [["on", {"var": "share"}], ["off", 95]]}}, True, None, None),
        ({"targeting": {"fractional": [[{"if": [True, "on"]}, 5], ["off", 95]]}}, True, None, None),
        ({"targeting": {"$ref": "staff"}}, True, None, None),
        ({"state": "DISABLED"}, True, 0.0, None),
        ({"state": "DISABLED", "defaultVariant": "off"}, True, 0.0, None),
        ({"state": "DISABLED", "targeting": {"fractional": [["on", 5], ["off", 95]]}}, True, 0.0, None),
        ({"defaultVariant": ...}, True, 0.0, None),
        ({"defaultVariant": None}, True, 0.0, None),
        ({"defaultVariant": ""}, True, 0.0, None),
        ({"defaultVariant": None, "targeting": {"fractional": [["on", 5], ["off", 95]]}}, True, 0.05, True),
        ({"defaultVariant": "gone"}, True, 0.0, None),
        ({"defaultVariant": "gone", "targeting": {"fractional": [["on", 5], ["off", 95]]}}, True, None, None),
    ],
)  # fmt: skip
def test_what_a_flag_says(
    tmp_path: Path, fields: dict[str, Any], on: bool, share: float | None, sticky: bool | None
) -> None:
    state = state_of(tmp_path, flags(**fields))
    assert (state.on, state.share, state.sticky) == (on, share, sticky)
    path = tmp_path / "flags.json"
    Flagd(str(path)).kill("f", "")
    assert not Flagd(str(path)).read("f").on
    core = FlagdCore()
    core.set_flags(path.read_text())
    assert core.resolve_boolean_value("f", True, STAFF).value is False


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            '{"flags": {"f": {"variants": {"on": true, "off": false}, "state": "ENABLED"}}}',
            '{"flags": {"f": {"defaultVariant": "off", "variants": {"on": true, "off": false}, "state": "ENABLED"}}}',
        ),
        (
            '{"flags":{"f":{"state":"DISABLED","variants":{"on":true,"o\\u0066f":false},"defaultVariant":"o\\u006e"}}}',
            '{"flags":{"f":{"state":"ENABLED","variants":{"on":true,"o\\u0066f":false},"defaultVariant":"o\\u0066f"}}}',
        ),
        (
            '{\r\n\t"flags": {"f": {\r\n\t\t"state": "ENABLED",\r\n\t"variants": {"é💥": true, "off": false}\r\n}}}',
            '{\r\n\t"flags": {"f": {\r\n\t\t"defaultVariant": "off",\r\n\t\t"state": "ENABLED",\r\n\t'
            '"variants": {"é💥": true, "off": false}\r\n}}}',
        ),
        (
            '{"flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": null ,'
            ' "targeting" : {"if": ["}", "\\"targeting\\": {}"]} }}}',
            '{"flags": {"f": {"state": "ENABLED", "variants": {"on": true, "off": false}, "defaultVariant": "off" ,'
            ' "targeting" : {} }}}',
        ),
    ],
)
def test_odd_but_valid_json_keeps_its_bytes(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "flags.json"
    path.write_bytes(before.encode())
    Flagd(str(path)).kill("f", "")
    assert path.read_bytes() == after.encode()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "flags:\r\n  f:\r\n    state: DISABLED\r\n    variants: {'off': 0}\r\n",
            "flags:\r\n  f:\r\n    defaultVariant: 'off'\r\n    state: ENABLED\r\n    variants: {'off': 0}\r\n",
        ),
        (
            "\ufeffflags: {f: {state: 'ENABLED', variants: {on: 1, off: 0}, targeting: {if: [true, on]}}}",
            "\ufeffflags: {f: {defaultVariant: off, state: 'ENABLED', variants: {on: 1, off: 0}, targeting: {}}}",
        ),
        (
            "flags:\n  f:\n    targeting: # the beta\n      if: [a, on]\n      # done\n    state: ENABLED\n"
            "    variants: {on: true, off: false}\n    defaultVariant:\n",
            "flags:\n  f:\n    targeting: # the beta\n      {}\n      # done\n    state: ENABLED\n"
            "    variants: {on: true, off: false}\n    defaultVariant: off\n",
        ),
        (
            "x: &x on\nflags:\n  f:\n    state: ENABLED\n    variants: {on: 1, off: 0}\n    defaultVariant: *x\n",
            "x: &x on\nflags:\n  f:\n    state: ENABLED\n    variants: {on: 1, off: 0}\n    defaultVariant: off\n",
        ),
        (
            "x: &x {state: ENABLED, variants: {on: 1, off: 0}, targeting: {if: [1, on]}}\nflags:\n  f:\n    <<: *x\n"
            "    metadata: {}\n  g: {<<: *x, defaultVariant: on}\n",
            "x: &x {state: ENABLED, variants: {on: 1, off: 0}, targeting: {if: [1, on]}}\nflags:\n  f:\n    <<: *x\n"
            "    defaultVariant: off\n    targeting: {}\n    metadata: {}\n  g: {<<: *x, defaultVariant: on}\n",
        ),
        (
            "x: &x {on: true, off: false}\nflags:\n  f: {state: ENABLED, variants: *x, defaultVariant: on}\n",
            "x: &x {on: true, off: false}\nflags:\n  f: {state: ENABLED, variants: *x, defaultVariant: off}\n",
        ),
        (
            "flags:\n  f:\n    state: ENABLED\n    variants: {blue: a, grey: b, 'off': c}\n    defaultVariant: blue\n"
            "    targeting:\n      if:\n      - &a [x]\n      - *a # twice\n...\n",
            "flags:\n  f:\n    state: ENABLED\n    variants: {blue: a, grey: b, 'off': c}\n    defaultVariant: 'off'\n"
            "    targeting: {}\n...\n",
        ),
    ],
)  # fmt: skip
def test_odd_but_valid_yaml_keeps_its_bytes(tmp_path: Path, before: str, after: str) -> None:
    path = tmp_path / "flags.yml"
    path.write_bytes(before.encode())
    Flagd(str(path)).kill("f", "")
    assert path.read_bytes() == after.encode()
    assert not Flagd(str(path)).read("f").on


@pytest.mark.parametrize(
    "text",
    [
        "flags:\n  f: &f {state: ENABLED, variants: {on: true, off: false}, defaultVariant: on}\n  g: *f\n",
        "flags:\n  g: &f {state: ENABLED, variants: {on: true, off: false}, defaultVariant: on}\n  f: *f\n",
        "flags:\n  f: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: &d on}\n  g: *d\n",
        "flags:\n  f: {state: ENABLED, variants: {on: true, off: false}, targeting: {if: [&d {a: b}]}}\n  g: *d\n",
        "flags: &all\n  f: {state: ENABLED, variants: {on: true, off: false}, defaultVariant: on}\nstaging: *all\n",
        "flags:\n  ? f\n  : ? state\n    : ENABLED\n    ? variants\n    : {on: true, off: false}\n",
    ],
)
def test_a_flag_that_cannot_be_changed_alone_is_not_changed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "flags.yaml"
    path.write_text(text)
    assert Flagd(str(path)).read("f").on
    for call in (Flagd(str(path)).dry_run, lambda feature: Flagd(str(path)).kill(feature, "")):
        with pytest.raises(SwitchError, match=r"flags\.f cannot be changed without changing something else") as raised:
            call("f")
        assert raised.value.permanent
    assert path.read_text() == text


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.json", flags().replace('"f"', '"ff"'), r"a.json: flags: there is no flag 'f'; did you mean 'ff'\?"),
        ("a.json", '{"flags": {"search": {}}}', "there is no flag 'f'; there is: search"),
        ("a.json", '{"flags": []}', "flags: expected a mapping of flags; is this a flagd file?"),
        ("a.json", "[]", "flags: expected a mapping of flags"),
        ("a.yaml", "", "flags: expected a mapping of flags"),
        ("a.json", '{"flags": {"f": true}}', "flags.f.variants: expected a mapping of variants"),
        ("a.json", flags(variants={}), "flags.f.variants: expected a mapping of variants"),
        ("a.json", flags(state="enabled"), "flags.f.state is 'enabled'; write ENABLED or DISABLED"),
        ("a.json", flags(state=...), "flags.f.state is None; write ENABLED or DISABLED"),
        ("a.json", '{"flags": {"f": {}, "f": {}}}', "flags.f is written more than once; keep one"),
        ("a.json", flags()[:-3] + ', "state": "ENABLED"}}}', "flags.f.state is written more than once"),
        ("a.yaml", "flags: {f: {variants: {on: 1, on: 2}}}", "flags.f.variants.on is written more than once"),
        ("a.json", flags(variants={"on": True}), "none of on is false or called off; name the one .*off: NAME"),
        ("a.json", flags(variants={"off": True, "no": False}), "more than one of off, no is false or called off; name"),
        ("a.json", flags(variants={"on": True, "off": None}), "variants.off is null, and .* give it a value"),
        ("a.json", '{"flags": {\n"f": {,', "a.json:2: not JSON: Expecting"),
        ("a.json", "\ufeff" + flags(), "not JSON: Unexpected UTF-8 BOM"),
        ("a.yaml", "flags:\n\tf: {}", "a.yaml:2: not YAML: found character"),
        ("a.json", flags() + "\udcff", "byte 103 is not UTF-8"),
    ],
)
def test_a_file_that_does_not_say_so_plainly_is_an_error_that_names_the_fix(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    flagd = Flagd(str(path))
    for call in (flagd.read, flagd.dry_run, lambda feature: flagd.kill(feature, "")):
        with pytest.raises(SwitchError, match=words) as raised:
            call("f")
        assert str(raised.value).startswith(str(path))
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    ("name", "piece", "times", "words"),
    [
        ("a.json", "1", 5000, "not JSON: Exceeds the limit"),
        ("a.json", "[", 100_000, "nested too deeply to be a flags file"),
        ("a.yaml", "[", 500, "nested too deeply to be a flags file"),
        ("a.json", " ", (1 << 20) + 1, "more than 1 MiB is not a flags file"),
    ],
)
def test_a_file_that_is_hard_to_read_is_an_error(tmp_path: Path, name: str, piece: str, times: int, words: str) -> None:
    (tmp_path / name).write_text(piece * times)
    with pytest.raises(SwitchError, match=words):
        Flagd(str(tmp_path / name)).read("f")


@pytest.mark.parametrize("before", [{"state": "DISABLED"}, {"defaultVariant": "off"}])
def test_opening_a_flag_and_closing_it_again_is_noticed_as_a_release_and_its_end(
    tmp_path: Path, before: dict[str, Any]
) -> None:
    closed = state_of(tmp_path, flags(**before))
    rollout = {"fractional": [["on", 5], ["off", 95]]}
    opened = state_of(tmp_path, flags(defaultVariant="off", targeting=rollout))
    [release] = exposures({"f": closed}, {"f": opened}, 0.0, ["f"])
    assert (release.share, release.more, release.off) == (0.05, False, False)
    [end] = exposures({"f": opened}, {"f": closed}, 0.0, ["f"])
    assert end.off


def test_the_variant_that_means_off_can_be_named(tmp_path: Path) -> None:
    text = flags(variants={"control": "grey", "treatment": "blue"}, defaultVariant="treatment")
    assert state_of(tmp_path, text, off="control").share == 1.0
    Flagd(json.dumps({"file": str(tmp_path / "flags.json"), "off": "control"})).kill("f", "")
    assert json.loads((tmp_path / "flags.json").read_text())["flags"]["f"]["defaultVariant"] == "control"
    with pytest.raises(SwitchError, match="`off` names 'contol', but there is: control, treatment"):
        state_of(tmp_path, text, off="contol")


def test_settings_are_a_path_or_an_object() -> None:
    assert repr(switch('flagd:{"file":"f.json","off":"grey"}')) == "Flagd('f.json', off='grey')"
    assert repr(switch("flagd:{feature}.json")) == "Flagd('{feature}.json')"
    for key in ("flagd:", 'flagd:{"file":""}'):
        with pytest.raises(ConfigError, match="flagd needs a file"):
            switch(key)
    for key, words in (
        ("flagd:{}", "kill.flagd.file: is missing"),
        ('flagd:{"file":"a","of":"b"}', "did you mean 'off'"),
    ):
        with pytest.raises(ConfigError, match=words):
            switch(key)


def test_the_settings_in_the_documentation_are_taken() -> None:
    path, named = documented("flagd")
    assert repr(switch(f"flagd:{path}")) == "Flagd('config/flags.flagd.json')"
    assert repr(switch(f"flagd:{json.dumps(named)}")) == "Flagd('config/flags.flagd.yaml', off='control')"


def test_a_missing_file_may_come_back(tmp_path: Path) -> None:
    path = tmp_path / "flags.json"
    killing = kill(Flagd(str(path)), "f", tmp_path / "journal.db", after=lambda: path.write_text(flags()) and None)
    assert (killing.state, len(killing.pauses)) == ("done", 1)


def test_a_missing_flag_is_given_up_at_once(file: Path, tmp_path: Path) -> None:
    killing = kill(Flagd(str(file)), "new-chekout", tmp_path / "journal.db")
    assert (killing.state, killing.pauses) == ("failed", [])
    assert "did you mean 'new-checkout'?" in killing.error


def test_mode_and_owner_are_kept_and_no_other_file_is_left(file: Path) -> None:
    file.chmod(0o640)
    if os.getuid() == 0:
        os.chown(file, 1234, 4321)
    before = file.stat()
    Flagd(str(file)).kill("new-checkout", "")
    after = file.stat()
    assert stat.S_IMODE(after.st_mode) == 0o640
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert os.listdir(file.parent) == [file.name]


def test_an_edit_made_meanwhile_is_kept(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = SHOP.replace('["on", 5], ["off", 95]', '["on", 50], ["off", 50]').replace("payments", "checkout")
    before_replacing(monkeypatch, lambda _: file.write_text(theirs), times=1)
    Flagd(str(file)).kill("new-checkout", "")
    assert file.read_text() == KILLED.replace("payments", "checkout")


def test_a_file_that_never_stands_still_is_tried_again_later(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_replacing(monkeypatch, lambda time: file.write_text(SHOP + "\n" * time), times=TRIES)
    with pytest.raises(SwitchError, match=f"changed by somebody else {TRIES} times") as raised:
        Flagd(str(file)).kill("new-checkout", "")
    assert not raised.value.permanent
    assert file.read_text() == SHOP + "\n" * TRIES
    assert kill(Flagd(str(file)), "new-checkout", tmp_path / "journal.db").state == "done"


def test_a_flag_turned_on_again_at_once_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turning_back(monkeypatch, SHOP)
    with pytest.raises(SwitchError, match="reads as on again: somebody else writes this file"):
        Flagd(str(file)).kill("new-checkout", "")


@dataclass(frozen=True)
class File:
    """A flagd file as pieces of text; `words` are the places of state, default and targeting of each flag."""

    pieces: tuple[str, ...]
    words: tuple[tuple[str, tuple[int, int, int]], ...]
    off: str

    def text(self) -> str:
        return "".join(self.pieces)

    def killed(self, feature: str) -> str:
        state, default, targeting = dict(self.words)[feature]
        pieces = list(self.pieces)
        pieces[state] = pieces[state].replace("DISABLED", "ENABLED")
        pieces[default] = self.off
        pieces[targeting] = "{}"
        return "".join(pieces)


NAMES = st.from_regex(r"[a-z][a-z0-9_-]{0,8}", fullmatch=True) | st.sampled_from(["é💥", "a b", "flags", "state"])
SPACES = st.text(" ", max_size=3)
RULES = st.sampled_from(
    [
        "{}",
        '{"if": [{"in": ["}", {"var": "email"}]}, "on", "off"]}',
        '{ "fractional": [["on", 5],  ["off", 95]] }',
        '{"if": [{"==": [{"var": "targeting"}, "\\"{"]}, {"fractional": [{"var": "é"}, ["on", 1]]}, null]}',
        '{"$ref": "staff"}',
    ]
)
METADATA = st.sampled_from(['{"a": "\\" # b"}', '{ "state": 5,"targeting":  "{}" }', '{"defaultVariant": "on"}', "{}"])


@st.composite
def flow_files(
    draw: st.DrawFn, space: st.SearchStrategy[str], comment: st.SearchStrategy[str], escapes: bool = False
) -> File:
    """JSON, or YAML that looks like it (where two escapes do not make one character)."""
    pieces = ["{", draw(space), draw(st.sampled_from(["", '"a": {"flags": {}}, ']))]
    pieces += ['"flags":', draw(space), "{", draw(comment)]
    words: list[tuple[str, tuple[int, int, int]]] = []
    for count, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))):
        pieces += [
            ", " if count else "",
            draw(space),
            json.dumps(name, ensure_ascii=escapes and draw(st.booleans())),
            ": {",
        ]
        values = {
            "state": draw(st.sampled_from(['"ENABLED"', '"DISABLED"'])),
            "defaultVariant": draw(st.sampled_from(['"on"', '"off"', "null", '""'])),
            "targeting": draw(RULES),
            "variants": '{"on": true, "off":  false}',
            "metadata": draw(METADATA),
        }
        places: dict[str, int] = {}
        for number, key in enumerate(draw(st.permutations(list(values)))):
            pieces += [",", draw(comment)] if number else [draw(space)]
            pieces += [draw(space), f'"{key}"', draw(space), ": ", draw(space), values[key], draw(space)]
            places[key] = len(pieces) - 2
        pieces.append("}")
        words.append((name, (places["state"], places["defaultVariant"], places["targeting"])))
    pieces += ["}", draw(space), draw(st.sampled_from(["", ', "$evaluators": {"staff": {"if": [true, "on"]}}'])), "}\n"]
    return File(tuple(pieces), tuple(words), '"off"')


@st.composite
def block_files(draw: st.DrawFn) -> File:
    """YAML with a line for each value."""
    comment = st.sampled_from(["", " # state: ENABLED", "  #é 💥", "   "])
    blank = st.sampled_from(["", "\n", "  # note\n", "# targeting: {}\n"])
    margin, deeper = draw(st.integers(1, 4)) * " ", draw(st.integers(1, 4)) * " "
    on, off = draw(st.sampled_from([("on", "off"), ('"on"', '"off"'), ("'on'", "'off'"), ("yes", "no")]))
    blocks = (f"\n{2 * margin}{deeper}if:\n{2 * margin}{deeper}- true\n{2 * margin}{deeper}- {on}",)
    rules = st.sampled_from([" {}", f" {{fractional: [[{on}, 5], [{off}, 95]]}}", f" {{if: [true, {on}]}}", *blocks])
    pieces = [draw(st.sampled_from(["", "# top\n\n", "---\n", "version: 1.10\n"])), f"flags:{draw(comment)}\n"]
    words: list[tuple[str, tuple[int, int, int]]] = []
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        pieces.append(f'{margin}"{name}":{draw(comment)}\n')
        values = {
            "state": draw(st.sampled_from([" ENABLED", " 'DISABLED'", "  ENABLED"])),
            "defaultVariant": f" {draw(st.sampled_from([on, off, 'null']))}",
            "targeting": draw(rules),
            "variants": f" {{{on}: true, {off}: false}}",
        }
        places: dict[str, int] = {}
        for key in draw(st.permutations(list(values))):
            value = values[key]
            lead = value[: len(value) - len(value.lstrip(" "))]
            pieces += [
                f"{2 * margin}{key}:",
                lead,
                value.removeprefix(lead),
                draw(comment) if "\n" not in value else "",
            ]
            places[key] = len(pieces) - 2
            pieces.append(f"\n{draw(blank)}")
        words.append((name, (places["state"], places["defaultVariant"], places["targeting"])))
    pieces.append(draw(st.sampled_from(["", "\n\n", "# the end", "zz: 1\n"])))
    ends = draw(st.sampled_from(["\n", "\r\n"]))
    return File(tuple(piece.replace("\n", ends) for piece in pieces), tuple(words), off)


def check_kill(path: Path, written: File, feature: str, loaded: Callable[[str], Any]) -> None:
    """Kill a flag: only its words change, and nobody gets it, as flagd itself evaluates the file."""
    text = written.text()
    path.write_bytes(text.encode())
    flagd = Flagd(str(path))
    was_on = flagd.read(feature).on
    expected = written.killed(feature) if was_on else text
    # A block of rules goes to the line of its key.
    if (
        was_on
        and path.suffix == ".yaml"
        and (block := written.pieces[dict(written.words)[feature][2]]).startswith(("\n", "\r"))
    ):
        assert "if:" in block
        expected = expected.replace("targeting:{}", "targeting: {}")
    flagd.kill(feature, "property")
    assert path.read_bytes() == expected.encode()
    core = FlagdCore()
    core.set_flags(json.dumps(loaded(path.read_text())))
    for user in (STAFF, ANYBODY, EvaluationContext()):
        assert core.resolve_boolean_value(feature, True, user).value is False
    # What the file said before is off only if users got nothing else by it.
    if not was_on:
        core.set_flags(json.dumps(loaded(text)))
        assert core.resolve_boolean_value(feature, True, STAFF).value is False


@settings(max_examples=60, deadline=None)
@given(written=flow_files(st.text(" \t\n", max_size=3), st.just("\r\n"), escapes=True), choice=st.data())
def test_every_other_byte_of_any_json_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, written: File, choice: st.DataObject
) -> None:
    feature, _ = choice.draw(st.sampled_from(written.words))
    check_kill(tmp_path_factory.getbasetemp() / "any.flagd.json", written, feature, json.loads)


@settings(max_examples=40, deadline=None)
@given(written=flow_files(SPACES, st.sampled_from([" ", " # state: DISABLED\n  "])), choice=st.data())
def test_every_other_byte_of_any_yaml_file_in_flow_style_is_kept(
    tmp_path_factory: pytest.TempPathFactory, written: File, choice: st.DataObject
) -> None:
    feature, _ = choice.draw(st.sampled_from(written.words))
    check_kill(tmp_path_factory.getbasetemp() / "any.flow.yaml", written, feature, yaml.safe_load)


@settings(max_examples=60, deadline=None)
@given(written=block_files(), choice=st.data())
def test_every_other_byte_of_any_yaml_file_is_kept(
    tmp_path_factory: pytest.TempPathFactory, written: File, choice: st.DataObject
) -> None:
    feature, _ = choice.draw(st.sampled_from(written.words))
    check_kill(tmp_path_factory.getbasetemp() / "any.yaml", written, feature, yaml.safe_load)

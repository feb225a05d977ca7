"""The key of a kill switch: what of watcher.yaml is filled with a release's values, and what they may hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.config import Installation, filled_key, load_installation, switch_key
from watcher.errors import ConfigError
from watcher.model import Release, Stage, Strategy
from watcher.switches import switch

FILE = """\
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    rules: [checkout]
    releases:
      - strategy: canary
        notice: {http: true}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        kill:
"""

COMMAND = """\
          command:
            kill: [kubectl, patch, "service/{feature}", "{version}", "--to={previous}", "{", '{"a": {".b{end}"}}']
            read: [kubectl, get, "{feature}"]
            timeout: 20s
            on: "{version}"
            off: "{previous}"
"""

WEBHOOK = """\
          webhook:
            url: https://flags.example/kill/{feature}
            read: https://flags.example/flags/{feature}
            secret_file: secrets/webhook
            ca_file: ca.pem
            headers: {X-Api-Key_file: secrets/gateway, X-Team: payments}
            data: {version: "{version}", to: "{previous}", kept: "to {previous}"}
"""

Load = Callable[[str], Installation]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(kill: str) -> Installation:
        path = tmp_path / "watcher.yaml"
        path.write_text(FILE + kill, encoding="utf-8")
        return load_installation(path)

    return load


def filled(found: Installation, feature: str = "pay", version: str = "1.10", previous: str | None = "1.9") -> Any:
    release = Release("shop", "production", feature, version, Strategy.CANARY, (Stage(60.0),), previous)
    key = filled_key(found, found.services["shop"].releases[0], release)
    assert key is not None
    return json.loads(key.partition(":")[2])


def test_placeholders_are_filled_in_lists_and_within_their_items(load: Load) -> None:
    found = load(COMMAND)
    assert filled(found) == {
        "kill": ["kubectl", "patch", "service/pay", "1.10", "--to=1.9", "{", '{"a": {".b{end}"}}'],
        "read": ["kubectl", "get", "pay"],
        "timeout": "20s",
        "on": "1.10",
        "off": "1.9",
    }
    unfilled = switch_key(found.services["shop"].releases[0])
    assert unfilled is not None
    assert "service/{feature}" in unfilled
    assert repr(switch(unfilled)).startswith("Command(")


def test_placeholders_are_filled_in_mappings_and_elsewhere_only_where_they_are_the_whole_value(
    load: Load, tmp_path: Path
) -> None:
    found = load(WEBHOOK)
    assert filled(found) == {
        "url": "https://flags.example/kill/{feature}",
        "read": "https://flags.example/flags/{feature}",
        "secret_file": f"{tmp_path}/secrets/webhook",
        "ca_file": f"{tmp_path}/ca.pem",
        "headers": {"X-Api-Key_file": f"{tmp_path}/secrets/gateway", "X-Team": "payments"},
        "data": {"version": "1.10", "to": "1.9", "kept": "to {previous}"},
    }
    swapped = filled(found, version="{previous}", previous="{version}")["data"]
    assert swapped == {"version": "{previous}", "to": "{version}", "kept": "to {previous}"}
    assert repr(switch("webhook:" + json.dumps(filled(found)))) == "Webhook('https://flags.example/kill/{feature}')"


@pytest.mark.parametrize(
    ("release", "key", "words"),
    [
        ({"version": "-rf"}, "kill.command.kill.3", r"\{version\} is '-rf': an argument may not begin with -"),
        (
            {"version": "--all"},
            "kill.command.kill.3",
            "may not begin with -, as options do, nor hold what cannot be printed",
        ),
        (
            {"version": "1\n2"},
            "kill.command.kill.3",
            "may not begin with -, as options do, nor hold what cannot be printed",
        ),
        (
            {"version": "1\0"},
            "kill.command.kill.3",
            "may not begin with -, as options do, nor hold what cannot be printed",
        ),
        ({"feature": "-n"}, "kill.command.kill.2", "only letters, digits and"),
        ({"feature": "../etc"}, "kill.command.kill.2", r"\{feature\} is '../etc': only letters, digits and"),
        ({"feature": ".."}, "kill.command.kill.2", "only letters, digits and"),
        ({"feature": "a,b"}, "kill.command.kill.2", "only letters, digits and"),
        ({"feature": "a/b"}, "kill.command.kill.2", "only letters, digits and"),
        ({"feature": "a:b"}, "kill.command.kill.2", "only letters, digits and"),
        ({"previous": '1"}'}, "kill.command.kill.4", "only letters, digits and"),
        ({"previous": "1 --all"}, "kill.command.kill.4", "only letters, digits and"),
        ({"previous": "1.9\n"}, "kill.command.kill.4", "only letters, digits and"),
        ({"previous": None}, "kill.command.kill.4", r"has no \{previous\}; start it with --previous"),
    ],
)
def test_a_value_that_could_change_what_a_command_means_is_refused(
    load: Load, release: dict[str, Any], key: str, words: str
) -> None:
    found = load(COMMAND)
    with pytest.raises(ConfigError, match=words) as caught:
        filled(found, **release)
    assert caught.value.key == f"services.shop.releases.0.{key}"
    assert caught.value.line == 6


@pytest.mark.parametrize("version", ["$(touch x)", "a b", "*", "sha256:ab/c", "é💥", "{previous}", "{version}", "a=b"])
def test_an_argument_of_its_own_may_hold_anything_else(load: Load, version: str) -> None:
    assert filled(load(COMMAND), version=version)["kill"][3] == version


@given(value=st.text(min_size=1))
def test_whatever_a_value_holds_the_arguments_stay_the_same_ones(
    tmp_path_factory: pytest.TempPathFactory, value: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any-watcher.yaml"
    path.write_text(FILE + COMMAND, encoding="utf-8")
    found = load_installation(path)
    if value.startswith("-") or not value.isprintable():
        with pytest.raises(ConfigError, match="may not begin with -, as options do, nor hold what cannot be printed"):
            filled(found, version=value)
    else:
        kill = filled(found, version=value)["kill"]
        assert kill == ["kubectl", "patch", "service/pay", value, "--to=1.9", "{", '{"a": {".b{end}"}}']


def test_a_misspelt_placeholder_within_an_argument_is_found_when_the_file_is_read(load: Load) -> None:
    with pytest.raises(ConfigError, match=r"there is no placeholder \{versoin\}; did you mean `version`\?") as caught:
        load(COMMAND.replace("--to={previous}", "--to={versoin}"))
    assert (caught.value.key, caught.value.line) == ("services.shop.releases.0.kill.command.kill.4", 11)

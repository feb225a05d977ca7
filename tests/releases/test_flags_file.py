from __future__ import annotations

from pathlib import Path

import pytest

from watcher.errors import ConfigError
from watcher.model import SwitchState
from watcher.releases.flags_file import read_flags


def test_the_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "feature-flags.yaml"
    path.write_text(
        "features:\n  new-checkout:  # soon\n    enabled: true\n    description: one\n    rollout_percentage: 2.5\n"
        "  on: {enabled: false}\n  search: {enabled: true, rollout_percentage: 0}\n"
    )
    assert read_flags(str(path)) == {
        "new-checkout": SwitchState(True, 0.025),
        "on": SwitchState(False, 1.0),
        "search": SwitchState(True, 0.0),
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features:\n  a:\n    enabled: tr\n", "features.a.enabled: is 'tr'; write true or false"),
        ("features: {a: {enabled: 1}}", "features.a.enabled: is 1; write true or false"),
        ("features: {a: {}}", "features.a.enabled: is missing; write true or false"),
        ("features: {a: on}", "features.a: expected a mapping with the key `enabled`"),
        ("features: {a: {enabled: true, rollout_percentage: 5%}}", "rollout_percentage: is '5%'; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: 101}}", "rollout_percentage: is 101; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: true}}", "rollout_percentage: is True; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: .nan}}", "rollout_percentage: is nan; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: }}", "rollout_percentage: is None; write a number"),
        ("features: {a: {enabled: true}, a: {enabled: false}}", "flags.yaml:1: not YAML: found duplicate key"),
        ("features: {a: {enabled: true, expires: 2026-02-31}}", "a value cannot be read .*; quote it"),
        ("features:\n  a: {enabled: tru", "flags.yaml:2: not YAML"),
        ("[" * 1_000, "nested too deeply"),
        ("", "features: expected a mapping of features"),
        ("features: []", "features: expected a mapping of features"),
        ("features: \udcff", "byte 11 is not UTF-8"),
    ],
)
def test_a_broken_file_is_an_error_that_names_key_and_fix(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "flags.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=words):
        read_flags(str(path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_flags(str(tmp_path / "flags.yaml"))


def test_a_file_caught_half_written_changes_nothing_when_the_last_state_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    whole = "features:\n  a:\n    enabled: true\n    rollout_percentage: 25\n  b:\n    enabled: false\n"
    path.write_text(whole)
    last = read_flags(str(path))
    path.write_text(whole[: whole.index("rue")])
    with pytest.raises(ConfigError):
        last = read_flags(str(path))
    path.write_text(whole)
    assert last == read_flags(str(path))

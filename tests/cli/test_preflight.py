"""`watcher preflight` on the command line, where no server answers; tests/servers/test_preflight.py has the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Watcher

YAML = """
metrics: {prometheus: "http://127.0.0.1:9"}
services:
  shop:
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        kill: {yaml_flags: flags.yaml}
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
"""


@pytest.fixture
def installed(folder: Path) -> Path:
    """A folder with a watcher.yaml whose metrics nobody answers for."""
    (folder / "watcher.yaml").write_text(YAML)
    (folder / "flags.yaml").write_text("features:\n  new-checkout: {enabled: false, rollout_percentage: 5}\n")
    return folder


def test_metrics_that_nobody_answers_for_fail_and_are_no_error(watcher: Watcher, installed: Path) -> None:
    answer = watcher("preflight", "new-checkout", "--not-reversible", "--format", "markdown")
    assert (answer.exit, answer.err) == (1, "")
    first, _, heading, *_ = answer.out.splitlines()
    assert first == "**FAILED** shop/production/new-checkout@<!-- -->next: 2 of 8 checks failed, 4 with warnings"
    assert heading == "| check | | found | to do |"
    assert "the release is marked as not reversible" in answer.out
    assert "5 % of the users" in answer.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("bar/new-checkout",), "watcher.yaml has no service 'bar'; it has: shop"),
        (("shop/other",), "several kinds of release (canary, flag): say which with --strategy"),
        (("shop/other", "--strategy", "blue_green"), "shop has no blue_green releases in watcher.yaml"),
        (("shop/new-checkout", "--share", "lots"), "--share"),
        (("shop/new-checkout", "--config", "other.yaml"), "other.yaml"),
        (("shop/new-checkout", "--format", "junit"), "'junit' is not one of"),
        ((), "Missing argument 'RELEASE'"),
    ],
)
def test_what_cannot_be_asked_is_an_error(
    watcher: Watcher, installed: Path, arguments: tuple[str, ...], said: str
) -> None:
    answer = watcher("preflight", *arguments)
    assert (answer.exit, answer.out) == (2, "")
    assert said in answer.err


def test_a_wrong_configuration_is_an_error_that_names_file_and_key(watcher: Watcher, installed: Path) -> None:
    (installed / "watcher.yaml").write_text(YAML.replace("yaml_flags: flags.yaml", "yaml_flag: flags.yaml"))
    answer = watcher("preflight", "shop/new-checkout")
    assert (answer.exit, answer.out) == (2, "")
    assert "there is no kill switch 'yaml_flag'" in answer.err

"""Tokens: given once, kept as hashes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

from watcher import tokens
from watcher.cli import cli
from watcher.errors import ConfigError

YAML = """\
metrics: {prometheus: "http://127.0.0.1:9"}
HTTP
services:
  shop: {rules: [rules.yaml], releases: [{strategy: flag, notice: {http: true}}]}
"""
HTTP = "http: {listen: 127.0.0.1:8080, tokens_file: tokens}"
PACK = "pack: shop\nrules: [{name: errors, kind: ratio, bad: errors, total: requests}]\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(PACK)
    made = tmp_path / "watcher.yaml"
    made.write_text(YAML.replace("HTTP", HTTP))
    return made


def new(config: Path, *words: str) -> tuple[int, str, str]:
    found = CliRunner().invoke(cli, ["token", "new", *words, "--config", str(config)])
    return found.exit_code, found.stdout.strip(), f"{found.stderr}{found.exception or ''}"


def test_a_token_is_printed_once_and_only_its_hash_is_kept_where_nobody_else_reads(config: Path) -> None:
    code, token, said = new(config, "ci")
    file = config.with_name("tokens")
    assert code == 0
    assert len(token) > 40
    assert token not in said
    assert token not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    [known] = tokens.read(file)
    assert tokens.recognised([known], token) == known
    assert (known.name, known.may) == ("ci", {"releases"})


def test_a_second_one_is_added_and_a_name_is_given_once(config: Path) -> None:
    first, second = new(config, "ci")[1], new(config, "on-call", "--may", "pause", "--may", "releases")[1]
    known = tokens.read(config.with_name("tokens"))
    assert [each.name for each in known] == ["ci", "on-call"]
    found = [tokens.recognised(known, token) for token in (first, second, "watcher_other")]
    assert [each and each.name for each in found] == ["ci", "on-call", None]
    assert "ci has a token already" in new(config, "ci")[2]
    assert len(tokens.read(config.with_name("tokens"))) == 2


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n# kept by hand"])
def test_a_token_is_added_below_whatever_the_file_ends_with_and_the_others_hold(config: Path, end: str) -> None:
    file = config.with_name("tokens")
    file.write_bytes((tokens.entry("ci", ["releases"], "tok") + end).encode())
    assert new(config, "on-call", "--may", "pause")[0] == 0
    assert [(each.name, each.may) for each in tokens.read(file)] == [("ci", {"releases"}), ("on-call", {"pause"})]


@pytest.mark.parametrize("name", ["", "a b", "-x", "a:b", "ä", "x" * 80])
def test_a_name_that_is_none_makes_no_token(config: Path, name: str) -> None:
    assert new(config, "--", name)[1] == ""
    assert not config.with_name("tokens").exists()


def test_without_a_file_to_keep_it_in_there_is_no_token(config: Path) -> None:
    config.write_text(YAML.replace("HTTP\n", ""))
    assert "http: is missing: say where to listen, and with `tokens_file: PATH`" in new(config, "ci")[2]


@pytest.mark.parametrize(
    "line", ["a-plain-token", "ci releases sha256:abc", "ci anything sha256:" + "0" * 64, "ci sha256:" + "0" * 64]
)
def test_a_line_that_is_none_is_named_by_its_number_and_not_repeated(tmp_path: Path, line: str) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who may\n{line}\n")
    with pytest.raises(
        ConfigError, match=r"line 2 is not NAME releases.pause sha256:HASH: write it with `watcher"
    ) as error:
        tokens.read(file)
    assert line not in str(error.value)

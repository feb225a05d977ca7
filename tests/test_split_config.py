"""The traffic split on its way from watcher.yaml to the watch of a release, and into the journal and back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from watcher.config import Installation, load_installation, plan
from watcher.errors import ConfigError
from watcher.journal import codec
from watcher.model import Release, Selector, Split, Stage, Strategy, Watch

FILE = """\
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    rules: [checkout]
    releases:
      - strategy: canary
        notice: {http: true}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        split: {assigned: 'sessions_total{kind!="bot"}', share: notice}
        kill: {haproxy: {socket: /run/haproxy.sock, backend: shop, server: canary}}
"""

ASSIGNED = Selector.parse('sessions_total{kind!="bot"}')

Load = Callable[[str], Installation]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(share: str) -> Installation:
        path = tmp_path / "watcher.yaml"
        path.write_text(FILE.replace("share: notice", f"share: {share}"), encoding="utf-8")
        return load_installation(path)

    return load


def planned(found: Installation, *stages: Stage) -> Watch:
    shop = found.services["shop"]
    return plan(found, shop, shop.releases[0], Release("shop", "production", "pay", "2", Strategy.CANARY, stages, "1"))


def test_the_split_of_the_file_is_that_of_the_watch(load: Load) -> None:
    watch = planned(load("notice"), Stage(60.0, 0.05))
    assert watch.split == Split(ASSIGNED, "notice")
    assert watch.release.stages == (Stage(60.0, 0.05),)


def test_a_counter_is_narrowed_to_the_release_by_placeholders(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "watcher.yaml"
    narrow = 'kind!="bot",feature="{feature}",serving!="{previous}",status=~"2[0-9]{2}"'
    path.write_text(FILE.replace('kind!="bot"', narrow), encoding="utf-8")
    split = planned(load_installation(path), Stage(60.0, 0.05)).split
    assert split is not None
    assert str(split.assigned) == 'sessions_total{kind!="bot",feature="pay",serving!="1",status=~"2[0-9]{2}"}'


def test_a_misspelt_placeholder_in_a_counter_is_found_when_the_file_is_read(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "watcher.yaml"
    path.write_text(FILE.replace('kind!="bot"', 'feature="{featur}"'), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"split.assigned: .*exactly one of \{feature\}.*did you mean `feature`\?"):
        load_installation(path)


def test_without_a_split_there_is_none(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "watcher.yaml"
    path.write_text("".join(line for line in FILE.splitlines(keepends=True) if "split:" not in line), encoding="utf-8")
    assert planned(load_installation(path), Stage(60.0, 0.05)).split is None


def test_a_fixed_share_is_that_of_every_stage_that_was_noticed_without_one(load: Load) -> None:
    watch = planned(load("5%"), Stage(60.0), Stage(120.0, 0.5))
    assert watch.split == Split(ASSIGNED, "notice")
    assert watch.release.stages == (Stage(60.0, 0.05), Stage(120.0, 0.5))


@pytest.mark.parametrize(
    ("share", "noticed", "said"),
    [
        ("notice", None, "noticed without a share"),
        ("notice", 0.05, None),
        ("5%", None, None),
    ],
)
def test_a_split_that_is_not_checked_is_said_when_the_release_starts(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, share: str, noticed: float | None, said: str | None
) -> None:
    with caplog.at_level(logging.WARNING, logger="watcher"):
        planned(load(share), Stage(60.0, noticed))
    if said is None:
        assert caplog.messages == []
    else:
        [message] = caplog.messages
        assert message.startswith(f"{tmp_path / 'watcher.yaml'}:6: services.shop.releases.0.split.share: ")
        assert "the traffic split of shop/production/pay@2 is not checked: " in message
        assert said in message
        assert message.endswith("write the configured share, such as 5%")


@pytest.mark.parametrize("share", ["notice", "switch", "5%"])
def test_the_split_of_a_watch_comes_back_from_the_journal(load: Load, share: str) -> None:
    watch = planned(load(share), Stage(60.0))
    assert watch.split is not None
    assert codec.read(codec.WATCH, codec.write(codec.WATCH, watch)) == watch

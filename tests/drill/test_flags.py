"""Which flags there are, by watcher.yaml and by what the journal knows of their releases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from watcher.config import load_installation
from watcher.drill.flags import Flag, find, flags
from watcher.errors import Refused
from watcher.intake import entry_for, take
from watcher.journal import Journal
from watcher.model import Exposure

CONFIG = """\
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [cart, search]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        kill: {yaml_flags: flags.yaml}
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [cart]}
        kill: {yaml_flags: flags.yaml}
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        kill: {haproxy: {backend: "{feature}", server: "{version}", weight: 0}}
      - strategy: blue_green
        notice: {http: true}
        kill: {haproxy: {map: live, to: "{previous}"}}
  blog:
    rules: [http-prometheus]
    releases:
      - {strategy: flag, notice: {flags_file: flags.yaml, features: [cart]}, kill: {yaml_flags: blog.yaml}}
      - {strategy: blue_green, notice: {http: true}}
"""


class Shop:
    """An installation whose journal learns of releases."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        (folder / "watcher.yaml").write_text(CONFIG)
        self.installation, self.journal = load_installation(folder / "watcher.yaml"), journal

    def release(self, strategy: str, feature: str, version: str, previous: str | None = "1.0", at: float = 0.0) -> None:
        service = self.installation.services["shop"]
        entries = [each for each in service.releases if each.strategy.value == strategy]
        entry = entries[0] if strategy == "flag" else entry_for(service, strategy)
        exposure = Exposure(feature, version, at, previous=previous)
        take(self.installation, self.journal, service, entry, exposure, "test")

    def flags(self) -> list[Flag]:
        return list(flags(self.installation, self.journal.watches()))

    def named(self) -> list[tuple[str, str]]:
        return [(each.place, each.strategy) for each in self.flags()]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        yield Shop(tmp_path, journal)


def test_without_releases_a_flag_is_what_watcher_yaml_names_or_the_service_itself(shop: Shop) -> None:
    # The second entry of cart has the same switch: the same flag. What has no `kill` is none.
    assert shop.named() == [
        ("shop/production/cart", "flag"),
        ("shop/production/search", "flag"),
        ("shop/production/shop", "canary"),
        ("shop/production/shop", "blue_green"),
        ("blog/production/cart", "flag"),
    ]


def test_where_no_features_are_named_they_are_those_of_its_releases(shop: Shop) -> None:
    shop.release("blue_green", "checkout", "2.0")
    shop.release("blue_green", "payment", "2.0", at=60.0)
    named = shop.named()
    assert ("shop/production/checkout", "blue_green") in named
    assert ("shop/production/payment", "blue_green") in named
    assert ("shop/production/shop", "blue_green") not in named


def test_a_feature_that_is_watched_is_a_flag_although_watcher_yaml_does_not_name_it(shop: Shop) -> None:
    shop.release("flag", "dark-mode", "r1")
    assert ("shop/production/dark-mode", "flag") in shop.named()
    shop.journal.end_release("shop/production/dark-mode@r1", "stopped", "test", 60.0)
    assert ("shop/production/dark-mode", "flag") not in shop.named()


def test_a_switch_gets_the_values_of_the_latest_release(shop: Shop) -> None:
    shop.release("canary", "shop", "1.1", previous="1.0")
    shop.release("canary", "shop", "1.2", previous="1.1", at=60.0)
    flag = find(shop.flags(), "shop", strategy="canary")
    assert flag.key() == 'haproxy:{"backend":"shop","server":"1.2","weight":0}'
    assert flag.owner == "shop/production/shop@1.2"
    shop.journal.end_release("shop/production/shop@1.2", "ended", "test", 120.0)
    ended = find(shop.flags(), "shop", strategy="canary")
    assert ended.key() == flag.key()
    assert ended.owner == "shop/production/shop"


def test_what_is_watched_counts_as_the_latest_even_when_it_was_exposed_earlier(shop: Shop) -> None:
    shop.release("canary", "shop", "1.2", previous="1.1", at=60.0)
    shop.release("canary", "shop", "1.1", previous="1.0", at=0.0)  # told late; it supersedes the other
    flag = find(shop.flags(), "shop", strategy="canary")
    assert flag.owner == "shop/production/shop@1.1"
    assert '"server":"1.1"' in flag.key()


def test_releases_of_another_strategy_say_nothing_of_a_switch(shop: Shop) -> None:
    shop.release("canary", "shop", "1.2", previous="1.1")
    with pytest.raises(Refused, match=r"shop/production/shop: haproxy needs \{previous\}.*--previous VALUE"):
        find(shop.flags(), "shop", strategy="blue_green").key()


def test_what_to_switch_back_to_is_not_needed_to_read_a_switch(shop: Shop) -> None:
    flag = find(shop.flags(), "shop", strategy="blue_green")
    assert flag.key(to_read=True) == 'haproxy:{"map":"live","to":"{previous}"}'


def test_what_a_person_gives_comes_before_what_the_journal_knows(shop: Shop) -> None:
    shop.release("blue_green", "shop", "2.0", previous="1.0")
    assert find(shop.flags(), "shop", strategy="blue_green").key() == 'haproxy:{"map":"live","to":"1.0"}'
    given = find(shop.flags(), "shop", strategy="blue_green", previous="0.9")
    assert given.key() == 'haproxy:{"map":"live","to":"0.9"}'


def test_a_version_that_looks_like_a_placeholder_is_taken_as_it_is(shop: Shop) -> None:
    assert find(shop.flags(), "shop", strategy="blue_green", previous="{version}").key().endswith('"to":"{version}"}')


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"feature": "carts"}, r"no flag 'carts'.*did you mean cart\?"),
        ({"feature": "zzz"}, r"no flag 'zzz'.*there is: cart, search, shop"),
        ({"feature": "cart"}, r"cart is several flags: shop/production/cart \(flag, yaml_flags\), blog.*--service"),
        ({"feature": "shop"}, r"shop is several flags: .*\(canary, haproxy\), .*\(blue_green, haproxy\); .*--strategy"),
        ({"feature": "search", "service": "blog"}, r"no flag 'search' with --service blog; there is shop/production/s"),
        ({"feature": "cart", "strategy": "canary"}, r"no flag 'cart' with --strategy canary; there is .*\(flag, yaml"),
    ],
)
def test_a_flag_that_is_not_one_flag_is_refused_with_what_there_is(
    shop: Shop, asked: dict[str, str], says: str
) -> None:
    with pytest.raises(Refused, match=says):
        find(shop.flags(), **asked)


def test_the_service_or_the_strategy_tells_flags_of_one_name_apart(shop: Shop) -> None:
    assert find(shop.flags(), "cart", service="blog").place == "blog/production/cart"
    assert find(shop.flags(), "shop", strategy="canary").strategy == "canary"
    with pytest.raises(Refused, match="has a `kill`"):
        find([], "cart")

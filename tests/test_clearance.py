"""Armed only after a backtest of these rules: what counts as the same rules, and what is said when they are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from watcher.act import Outbox
from watcher.alerts import alerter
from watcher.clearance import Clearance, record, recorded, refusal, rules_digest
from watcher.config import Installation, Service, load_installation
from watcher.daemon import Daemon
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.model import Alpha, Mode, Worse
from watcher.report.past import PastRelease, PastReleases
from watcher.switches import switch
from watcher.testing import MemorySource

NOW = 1_795_168_800.0
"""2026-11-20."""

YAML = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
may_turn_off: [{switch: yaml_flags, feature: new-checkout, environment: production}]
services:
  shop:
    rules: [checkout]
    mode: armed
    require_backtest: true
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [new-checkout]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        kill: {yaml_flags: flags.yaml}
"""

FOUND = PastReleases(
    (
        PastRelease("a", "regressed", label=1, alarm="regressed", score=3.0),
        PastRelease("b", "healthy", label=0),
        PastRelease("c", "regressed", label=0, alarm="regressed", score=1.0),
    ),
    alpha=0.01,
    looks_every=60.0,
    horizon=7200.0,
)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    (tmp_path / "watcher.yaml").write_text(YAML)
    (tmp_path / "flags.yaml").write_text("features:\n  new-checkout: {enabled: false}\n")
    return load_installation(tmp_path / "watcher.yaml")


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    """One in SQLite, and one in PostgreSQL."""
    with Journal.open(url) as opened:
        yield opened


def changed(installation: Installation, **fields: object) -> Installation:
    """The same installation, its first rule changed."""
    shop = installation.services["shop"]
    rules = (replace(shop.rules[0], **fields), *shop.rules[1:])
    return replace(installation, services={"shop": replace(shop, rules=rules)})


def digest(installation: Installation) -> str:
    return rules_digest(installation, installation.services["shop"])


def cleared(installation: Installation, journal: Journal) -> None:
    record(journal, "shop", Clearance.of(digest(installation), FOUND, NOW))


def start(installation: Installation, journal: Journal) -> None:
    Daemon(installation, journal, MemorySource({}), Outbox(journal, switch, {"console": alerter("console")}))


@pytest.mark.parametrize(
    "fields",
    [{"title": "Other words"}, {"help": "Longer"}, {"name": "renamed"}, {"critical": False}, {"measured_in": "1"}],
)
def test_words_about_a_rule_are_not_part_of_it(installation: Installation, fields: dict[str, object]) -> None:
    assert digest(changed(installation, **fields)) == digest(installation)


@pytest.mark.parametrize(
    "fields",
    [
        {"margin": 0.123},
        {"regress_margin": 0.1},
        {"worse": Worse.LOWER},
        {"by": ("region",)},
        {"unit": "node"},
        {"matures": 77.0},
        {"weight": 3.0},
        {"required": False},
        {"signature": "kind"},
    ],
)
def test_what_changes_a_verdict_is(installation: Installation, fields: dict[str, object]) -> None:
    assert digest(changed(installation, **fields)) != digest(installation)


def test_alpha_and_the_block_are_part_of_it_and_the_order_of_rules_is_not(installation: Installation) -> None:
    assert digest(replace(installation, alpha=Alpha(regressed=0.02))) != digest(installation)
    assert digest(replace(installation, block=30.0)) != digest(installation)
    shop = installation.services["shop"]
    other_way: Service = replace(shop, rules=shop.rules[::-1])
    assert len(shop.rules) > 1
    assert rules_digest(installation, other_way) == digest(installation)


def test_an_armed_service_starts_only_after_a_backtest_of_its_rules(installation, journal) -> None:
    with pytest.raises(Refused) as first:
        start(installation, journal)
    assert "no backtest of its rules is recorded" in str(first.value)
    assert f"run `watcher backtest --config {installation.file} --service shop`" in str(first.value)
    cleared(installation, journal)
    start(installation, journal)
    start(changed(installation, title="Other words"), journal)
    with pytest.raises(Refused, match="the rules changed since the backtest of 2026-11-20; run `watcher backtest"):
        start(changed(installation, margin=0.123), journal)


@pytest.mark.parametrize("other", [{"mode": Mode.RECOMMEND}, {"require_backtest": False}])
def test_nobody_else_has_to_show_one(installation, journal, other) -> None:
    start(replace(installation, services={"shop": replace(installation.services["shop"], **other)}), journal)


def test_a_record_that_says_nothing_of_the_rules_is_none(installation, journal) -> None:
    for raw in (True, {"at": NOW}, [1], "yes"):
        journal.remember("backtest/shop", raw)
        assert recorded(journal, "shop") is None
        assert "no backtest" in str(refusal(installation, journal, installation.services["shop"]))


def test_a_record_comes_back_as_it_was(installation: Installation, journal: Journal) -> None:
    cleared(installation, journal)
    found = recorded(journal, "shop")
    assert found == Clearance.of(digest(installation), FOUND, NOW)
    assert (found.releases, found.false_alarms, found.fine, found.recall) == (3, 1, 2, 1.0)
    assert found.interval is not None
    assert found.interval[0] < 0.5 == found.false_alarm_rate < found.interval[1]
    assert journal.audit_trail()[-1].what == "backtest"
    assert refusal(installation, journal, installation.services["shop"]) is None

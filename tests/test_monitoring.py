"""Alert rules and dashboard for watcher itself: Prometheus takes them, and what they ask for is there and tells."""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers.conftest import require
from tests.test_daemon import Metrics as Source
from tests.test_daemon import World, measured
from tests.test_metrics import Observed
from watcher.journal import Journal

MONITORING = Path(__file__).resolve().parents[1] / "monitoring"
ALERTS, DASHBOARD = MONITORING / "alerts.yaml", json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))

WELL = {
    "watcher_last_step_timestamp_seconds": "0+60x120",
    "watcher_journal_readable": "1+0x120",
    'watcher_actions_total{kind="kill",state="failed"}': "0+0x120",
    'watcher_source_errors_total{service="shop"}': "0+0x120",
    'watcher_switch_errors_total{switch="unleash"}': "0+0x120",
    'watcher_look_failures_total{service="shop"}': "0+0x120",
    'watcher_last_success_timestamp_seconds{service="shop",release="a"}': "0+60x120",
}
"""A daemon that works, a sample a minute; timestamps are those of the samples."""


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    require(None if shutil.which("promtool") else "there is no promtool (Debian: apt install prometheus)")
    return subprocess.run(["promtool", *arguments], check=False, capture_output=True, text=True, timeout=60)


def test_prometheus_takes_the_rules() -> None:
    found = promtool("check", "rules", str(ALERTS))
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"SUCCESS: {len(rules())} rules found" in found.stdout


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert len(rule["annotations"]["summary"]) > 20
        assert len(rule["annotations"]["description"]) > 150


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Names of the metrics of a daemon that has a release, a ping, and something left to be done."""
    folder = tmp_path_factory.mktemp("exposed")
    with Journal.open(f"sqlite:///{folder}/watcher.db") as journal:
        here = Observed(World(folder, journal, Source({"errors": measured()})))
        here.world.expose()
        here.world.alerter.broken = "nobody answers"
        here.run(2)
        here.daemon.observer.pinged("sent")
        told = here.client.get("/metrics").text
    return {re.split(r"[ {]", line)[0] for line in told.splitlines() if not line.startswith("#")}


def test_every_metric_of_the_rules_is_exposed(exposed: set[str]) -> None:
    named = {name for rule in rules() for name in re.findall(r"\bwatcher_\w+", rule["expr"])}
    assert len(named) >= 7
    assert named <= exposed


def test_every_metric_of_the_dashboard_is_exposed_and_all_that_count_are_shown(exposed: set[str]) -> None:
    named = {name for each in expressions() for name in re.findall(r"\bwatcher_\w+", each)}
    assert named <= exposed
    idle = re.compile(r"_(created|info|sum|count)$")
    beside = {name.replace("_count", "_bucket") for name in exposed if not idle.search(name)}
    assert beside <= named | {"python_info"}


def test_each_panel_of_the_dashboard_says_what_it_shows_and_asks_the_chosen_data_source() -> None:
    panels = DASHBOARD["panels"]
    assert (DASHBOARD["uid"], DASHBOARD["schemaVersion"] >= 38) == ("watcher", True)
    assert [each["name"] for each in DASHBOARD["templating"]["list"]] == ["datasource"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    for panel in panels:
        assert len(panel["description"]) > 20
        assert panel["fieldConfig"]["defaults"]["unit"] in ("s", "short")
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_no_panel_of_the_dashboard_covers_another_or_leaves_the_grid() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken = set(
            itertools.product(range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"]))
        )
        assert taken
        assert not taken & cells
        cells |= taken


@pytest.mark.parametrize(
    ("alert", "series"),
    [
        (None, {}),
        ("WatcherNotStepping", {"watcher_last_step_timestamp_seconds": "0+60x50 3000+0x70"}),
        ("WatcherNotStepping", {"watcher_last_step_timestamp_seconds": None}),
        ("WatcherSourceErrors", {'watcher_source_errors_total{service="shop"}': "0+0x50 1+1x70"}),
        ("WatcherSwitchErrors", {'watcher_switch_errors_total{switch="unleash"}': "0+0x50 1+1x70"}),
        ("WatcherOutboxNotDraining", {'watcher_outbox_oldest_timestamp_seconds{kind="kill"}': "3000+0x120"}),
        ("WatcherKillFailed", {'watcher_actions_total{kind="kill",state="failed"}': "0+0x50 1+0x70"}),
        ("WatcherJournalUnreadable", {"watcher_journal_readable": "0+0x120"}),
        ("WatcherLooksFail", {'watcher_look_failures_total{service="shop"}': "0+0x50 1+1x70"}),
        (
            "WatcherLooksFail",
            {'watcher_last_success_timestamp_seconds{service="shop",release="a"}': "0+60x50 3000+0x70"},
        ),
    ],
)
def test_each_alert_fires_for_its_own_trouble_and_no_other_does(
    tmp_path: Path, alert: str | None, series: dict[str, str | None]
) -> None:
    values = {name: value for name, value in {**WELL, **series}.items() if value is not None}
    firing = [] if alert is None else [{"labels": f'{{alertname="{alert}"}}', "value": 1}]
    asked = {"expr": "count by (alertname) (ALERTS{alertstate='firing'})", "eval_time": "70m", "exp_samples": firing}
    case = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": value} for name, value in values.items()],
                "promql_expr_test": [asked],
            }
        ],
    }
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump(case))
    found = promtool("test", "rules", str(path))
    assert found.returncode == 0, found.stdout + found.stderr

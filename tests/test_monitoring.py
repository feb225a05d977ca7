"""The alert rules for watcher itself: Prometheus takes them, and what they ask for is there and tells."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from tests.servers.conftest import prometheus as prometheus
from tests.servers.conftest import require
from tests.servers.prometheus_server import PrometheusServer
from tests.test_daemon import Metrics as Source
from tests.test_daemon import World, measured
from tests.test_metrics import Observed
from watcher.journal import Journal

ALERTS = Path(__file__).resolve().parents[1] / "monitoring" / "alerts.yaml"

DASHBOARD = ALERTS.with_name("dashboard.json")

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


@pytest.fixture
def exposed(tmp_path: Path) -> set[str]:
    """The names of the metrics of a daemon that watches a release, and whose messages wait."""
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        here = Observed(World(tmp_path, journal, Source({"errors": measured()})))
        here.world.expose()
        here.world.alerter.broken = "nobody answers"
        here.run(2)
        told = here.client.get("/metrics").text
    return {re.split(r"[ {]", line)[0] for line in told.splitlines() if not line.startswith("#")}


def test_every_metric_of_the_rules_is_exposed(exposed: set[str]) -> None:
    named = {name for rule in rules() for name in re.findall(r"\bwatcher_\w+", rule["expr"])}
    assert len(named) >= 7
    assert named <= exposed


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def asked() -> list[str]:
    """What the dashboard asks for, as Grafana would with every job chosen."""
    told = [target["expr"] for panel in panels() for target in panel["targets"]]
    told += [each["expr"] for each in dashboard()["annotations"]["list"]]
    return [expression.replace("$job", ".*") for expression in told]


def test_the_dashboard_shows_metrics_that_are_exposed_and_all_of_them(exposed: set[str]) -> None:
    named = {name for expression in asked() for name in re.findall(r"\bwatcher_\w+", expression)}
    # Pings are exposed where some are configured.
    assert named - exposed == {"watcher_pings_total"}
    parts = re.compile(r"_created$|^watcher_look_duration_seconds_(count|sum)$")
    assert {each for each in exposed if each.startswith("watcher_") and not parts.search(each)} <= named


def test_every_panel_says_what_it_is_and_has_a_place_of_its_own() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert len(panel["description"]) > 30
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert panel["fieldConfig"]["defaults"]["unit"]
    assert [each["name"] for each in dashboard()["templating"]["list"]] == ["datasource", "job"]


@pytest.mark.servers
def test_prometheus_answers_whatever_the_dashboard_asks(prometheus: PrometheusServer) -> None:
    for expression in asked():
        answer = requests.post(f"{prometheus.url}/api/v1/query", data={"query": expression}, timeout=10)
        assert answer.status_code == 200, f"{expression}: {answer.text}"


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

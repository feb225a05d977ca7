from __future__ import annotations

from pathlib import Path

import pytest

from tests.preflight.world import World
from watcher.config import load_rules, rule_pack_path
from watcher.model import Kind, Rule, Selector
from watcher.preflight.metrics import metrics
from watcher.preflight.server_health import of_server


def rule(metric: str, **changes: bool) -> Rule:
    return Rule(metric, Kind.GAUGE, Selector(metric), title="", **changes)


@pytest.mark.parametrize(
    "metric",
    [
        "node_cpu_seconds_total", "node_memory_MemAvailable_bytes", "node_load1", "windows_cpu_time_total",
        "container_memory_working_set_bytes", "machine_cpu_cores", "kube_pod_container_status_restarts_total",
        "process_cpu_seconds_total", "process_open_fds", "process_resident_memory_bytes", "go_goroutines",
        "go_gc_duration_seconds", "go_memstats_heap_alloc_bytes", "jvm_memory_used_bytes", "jvm_gc_pause_seconds",
        "python_gc_collections_total", "nodejs_eventloop_lag_seconds", "system_cpu_utilization", "up",
        "hikaricp_connections_active", "app_heap_bytes", "worker_threads", "disk_used_percent", "load_average",
        "pod_restarts_total", "job:memory:max", "open_file_descriptors", "tomcat_threads_busy",
    ],
)  # fmt: skip
def test_a_metric_of_a_server_s_health_is_known_by_its_name(metric: str) -> None:
    assert of_server(metric) is not None


@pytest.mark.parametrize(
    "metric",
    [
        "http_requests_total", "http_server_request_duration_seconds", "page_load_seconds", "checkout_completed_total",
        "orders_total", "web_vitals_lcp_p75_seconds", "process_orders_total", "going_live_total", "go_live_total",
        "forum_threads_created_total", "upload_failures_total", "download_seconds", "grpc_server_handled_total",
        "nodes_shared_total", "diskussion_posts_total", "istio_requests_total", "payments_started_total",
    ],
)  # fmt: skip
def test_what_users_feel_is_not_taken_for_a_server_s_health(metric: str) -> None:
    assert of_server(metric) is None


@pytest.mark.parametrize("pack", sorted(path.stem for path in (Path(__file__).parents[2] / "rules").glob("*.yaml")))
def test_every_pack_that_ships_is_about_users(pack: str) -> None:
    assert [line.status for line in metrics(load_rules(rule_pack_path(pack, ".")))] == ["pass"]


def test_a_pack_of_cpu_and_memory_alone_fails_and_says_what_to_add(world: World) -> None:
    world.pack = """
pack: own
by: [feature]
rules:
  - {name: errors, kind: gauge, value: node_cpu_seconds_total, worse: higher, margin: 10%}
  - {name: orders, kind: gauge, value: container_memory_usage_bytes, worse: higher, margin: 10%}
"""
    [line] = world.missing("metrics")
    assert line.status == "fail"
    assert line.said == (
        "all 2 rules measure the health of servers: errors (node_cpu_seconds_total: node_exporter), orders "
        "(container_memory_usage_bytes: cAdvisor); a bad release does not show there"
    )
    assert "errors, load times and completion" in line.do


def test_one_rule_about_users_is_enough_and_is_named() -> None:
    [line] = metrics([rule("node_load1"), rule("http_errors")])
    assert (line.status, line.said) == ("pass", "what users feel: http_errors")


def test_rules_about_users_that_are_all_optional_prove_nothing() -> None:
    [line] = metrics([rule("node_load1"), rule("http_errors", required=False)])
    assert (line.status, line.said) == ("fail", "no rule about what users feel is required")
    assert line.do == "leave `required: false` out of one of them"


def test_a_server_s_health_may_not_turn_a_release_off_alone() -> None:
    users, alone = metrics([rule("http_errors"), rule("node_load1", critical=True)])
    assert (users.status, alone.status) == ("pass", "warn")
    assert alone.said.startswith("node_load1: may turn a release off alone")

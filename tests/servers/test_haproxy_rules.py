"""The rule pack `haproxy` on the metrics of a real HAProxy, scraped by a real Prometheus."""

from __future__ import annotations

import json
import math
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.servers import haproxy_server, prometheus_server
from tests.servers.conftest import require
from tests.servers.haproxy_server import Upstream
from tests.servers.load import visit
from watcher.comparison import SPLIT
from watcher.config import load_rules, rule_pack_path
from watcher.look import look, prepare, read_history
from watcher.model import Release, Selector, Split, Stage, Strategy, Watch, labels
from watcher.oneoff.found import Comparison
from watcher.oneoff.prometheus import SETTLE, compare
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("haproxy-rules")]

SECONDS, RATE = 10.0, 240.0
"""Of traffic; requests a second to both backends together."""
BACKENDS = """\
backend shop
  server stable {stable} weight 25
  server stable-2 {stable_2} weight 25
  server canary {canary} weight 50
backend cart
  retries 0
  server stable {stable} weight 25
  server stable-2 {stable_2} weight 25
  server canary {gone} weight 50
"""
RELABEL = [
    {"source_labels": ["server"], "regex": f"{arm}.*", "target_label": "arm", "replacement": arm}
    for arm in ("stable", "canary")
]


@dataclass(frozen=True)
class Scraped:
    """A Prometheus that has seen some seconds of traffic, up to `until`; `metrics` is the exporter's own page."""

    url: str
    until: float
    metrics: str

    def compare(self, proxy: str, baseline: str, treatment: str) -> Comparison:
        """Do what `watcher compare --prometheus --rules haproxy` does once blocks have settled."""
        return compare(
            prometheus=self.url,
            rules="haproxy",
            select=f'proxy="{proxy}"',
            baseline=baseline,
            treatment=treatment,
            since=f"{SECONDS:g}s",
            block="2s",
            now=self.until + SETTLE,
        )


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """Traffic over HAProxy: the canary of one backend fails every fifth request, that of the other is not there."""
    require(haproxy_server.missing() or prometheus_server.missing())
    directory = tmp_path_factory.mktemp("prometheus")
    with ExitStack() as stack:
        stable, stable_2, canary = (
            stack.enter_context(Upstream(name, failing=failing))
            for name, failing in (("stable", 1), ("stable-2", 1), ("canary", 20))
        )
        addresses = {"stable": stable.address, "stable_2": stable_2.address, "canary": canary.address}
        gone = f"127.0.0.1:{haproxy_server.free_port()}"
        haproxy = stack.enter_context(haproxy_server.running(BACKENDS.format(gone=gone, **addresses)))
        server = stack.enter_context(prometheus_server.running(directory))
        url = f"http://127.0.0.1:{haproxy.port}"
        scrape(server.pid, directory / "prometheus.yml", haproxy.port)
        haproxy.eventually(lambda: "haproxy_server" in names(server.url), "HAProxy was scraped")
        sent = visit([url], rate=RATE, seconds=SECONDS, features={"shop": 1.0, "cart": 1.0})
        assert sent.unanswered == 0
        time.sleep(1.5)  # until the last scrape
        yield Scraped(server.url, time.time(), requests.get(f"{url}/metrics", timeout=10).text)


def scrape(pid: int, config: Path, port: int) -> None:
    """Have a running Prometheus scrape HAProxy's exporter every half second."""
    job = {"job_name": "haproxy", "scrape_interval": "500ms", "scrape_timeout": "500ms"}
    job |= {"static_configs": [{"targets": [f"127.0.0.1:{port}"]}], "metric_relabel_configs": RELABEL}
    with config.open("a") as file:
        file.write(f"scrape_configs: {json.dumps([job])}\n")  # JSON is YAML
    os.kill(pid, signal.SIGHUP)


def names(url: str) -> str:
    return requests.get(f"{url}/api/v1/label/__name__/values", timeout=10).text


def streams_of(found: Comparison) -> dict[str, dict[str, Any]]:
    return {stream["rule"]: stream for stream in found.to_json()["streams"]}


def test_a_canary_that_fails_every_fifth_request_is_called_regressed(scraped: Scraped) -> None:
    found = scraped.compare("shop", 'server="stable"', 'server="canary"')
    assert (found.outcome, found.to_json()["design"]) == ("regressed", "concurrent"), found.reason
    streams = streams_of(found)
    assert [rule for rule, stream in streams.items() if stream["outcome"] == "regressed"] == ["server-errors"]
    errors = streams["server-errors"]
    assert errors["treatment"]["events"] == pytest.approx(0.2 * errors["treatment"]["total"], abs=2)
    assert errors["baseline"]["events"] == pytest.approx(0.01 * errors["baseline"]["total"], abs=2)
    assert errors["effect"]["lower"] > 1.5


def test_servers_that_are_told_apart_by_arm_are_units_of_it(scraped: Scraped) -> None:
    found = scraped.compare("shop", 'arm="stable"', 'arm="canary"')
    errors = streams_of(found)["server-errors"]
    assert (found.outcome, errors["outcome"]) == ("regressed", "regressed"), found.reason
    assert (errors["baseline"]["units"], errors["treatment"]["units"]) == (2, 1)
    assert errors["baseline"]["total"] == pytest.approx(errors["treatment"]["total"], rel=0.05)


def test_two_servers_alike_are_not_called_regressed(scraped: Scraped) -> None:
    found = scraped.compare("shop", 'server="stable"', 'server="stable-2"')
    assert not {stream["outcome"] for stream in streams_of(found).values()} & {"regressed", "no_data", "invalid"}
    whole = ("broken-answers", "failed-connections", "retries", "redispatches")
    assert all(streams_of(found)[rule]["baseline"]["total"] > 100 for rule in whole)


def test_a_canary_that_takes_no_connection_answers_nothing_and_is_called_regressed_all_the_same(
    scraped: Scraped,
) -> None:
    found = scraped.compare("cart", 'arm="stable"', 'arm="canary"')
    streams = streams_of(found)
    assert found.outcome == "regressed", found.reason
    assert streams["failed-connections"]["outcome"] == "regressed"
    assert streams["server-errors"]["treatment"]["total"] == 0


@pytest.mark.parametrize(("share", "outcome"), [(0.5, "fair"), (0.4, "invalid")])
def test_what_haproxy_counts_by_server_tells_whether_the_canary_gets_its_share(
    scraped: Scraped, share: float, outcome: str
) -> None:
    exposed = math.floor((scraped.until - SECONDS) / 2) * 2.0
    made = Watch(
        Release("shop", "production", "shop", "1.2", Strategy.CANARY, (Stage(exposed, share),)),
        load_rules(rule_pack_path("haproxy", Path.cwd())),
        select=labels({"proxy": "shop"}),
        baseline=labels({"arm": "stable"}),
        treatment=labels({"arm": "canary"}),
        split=Split(Selector("haproxy_server_sessions_total"), "switch"),
        block=2.0,
        settle=0.0,
        history=10.0,
        warm_up=0.0,
    )
    source = PrometheusSource(PrometheusHTTP(scraped.url))
    verdict = look(made, source, prepare(made, read_history(made, source)), None, scraped.until).verdict
    found = [each for each in verdict.streams if each.rule == SPLIT]
    assert [each.outcome for each in found] == (["invalid"] if outcome == "invalid" else []), verdict.assumptions
    assert any("50" in said for said in verdict.assumptions if "split" in said or "users" in said), verdict.assumptions


def test_every_counter_of_the_pack_is_one_that_haproxy_exports(scraped: Scraped) -> None:
    for rule in load_rules(rule_pack_path("haproxy", Path.cwd())):
        for selector in (rule.events, rule.total):
            assert selector is not None
            wanted = [f'{matcher.label}="{matcher.value}"' for matcher in selector.matchers]
            there = [line for line in scraped.metrics.splitlines() if line.startswith(f"{selector.metric}{{")]
            assert any(all(label in line for label in wanted) for line in there), selector

"""`watcher preflight` as a user runs it: before a release, once users have it, and when something is down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.planted import MARK, plant
from tests.servers import installation, prometheus_server
from tests.servers.conftest import require
from tests.servers.installation import Served
from tests.servers.prometheus_server import PrometheusServer

pytestmark = pytest.mark.servers

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "schemas" / "preflight.schema.json").read_text(encoding="utf-8"))
SHOP = "shop/new-checkout"

CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
block: 2s
settle: 2s
slack: {{token_file: slack-token, channel: "#releases", base_url: "{slack}", mention: "<!subteam^S012AB>"}}
may_turn_off: [{{switch: yaml_flags, feature: new-checkout, environment: production}}]
services:
  shop:
    select: {{job: shop}}
    rules: [rules.yaml]
    tell: ["#support"]
    links: {{runbook: https://wiki.example/shop}}
    mode: armed
    watch_for: 2h
    warm_up: 2s
    releases:
      - strategy: flag
        notice: {{flags_file: feature-flags.yaml, features: [new-checkout]}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        focus: {{feature: "{{feature}}"}}
        split: {{assigned: checkout_started_total, share: notice}}
        kill: {{yaml_flags: feature-flags.yaml}}
        history: {history}s
"""


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Served]:
    require(prometheus_server.missing())
    with installation.running(tmp_path) as running:
        text = CONFIG.format(prometheus=running.metrics.url, slack=running.slack.base_url, history=30)
        running.config.write_text(text)
        yield running


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder, as a user would."""
    command = [sys.executable, "-m", "watcher", *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("WATCHER_")}
    path = os.pathsep.join(filter(None, [str(ROOT), plain.get("PYTHONPATH")]))
    return subprocess.run(
        command, cwd=folder, env={**plain, "PYTHONPATH": path}, capture_output=True, text=True, timeout=120
    )


def checked(folder: Path, *arguments: str) -> Any:
    """Return what a preflight says as JSON, having checked that its exit code says the same."""
    done = run(folder, "preflight", *arguments, "--format", "json")
    assert done.stderr == ""
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    assert done.returncode == (0 if found["passed"] else 1)
    return found


def lines(found: Any, check: str) -> list[tuple[str, str]]:
    return [(line["status"], line["said"]) for line in found["lines"] if line["check"] == check]


def failed(found: Any) -> set[str]:
    return {line["check"] for line in found["lines"] if line["status"] == "fail"}


@pytest.mark.xdist_group("installation-2")
def test_a_shop_is_checked_before_its_release_once_users_have_it_and_without_its_metrics(here: Served) -> None:
    here.eventually(lambda: len(here.metrics.ask("checkout_started_total > 0")) == 2, "both shops were scraped")
    time.sleep(8)
    flags = here.flags.read_bytes()
    before = checked(here.directory, SHOP)
    assert failed(before) <= {"effect"}, before  # of ten seconds of traffic little can be foretold
    assert lines(before, "rollback")[0] == (
        "pass",
        f"turning it off: {here.flags}:5: features.new-checkout.enabled is false already; nothing would be written",
    )
    assert ("pass", '50 % of the users: variant="on" against variant="off"') in lines(before, "exposure")
    assert ("warn", True) in [(status, "they may flip" in said) for status, said in lines(before, "exposure")]
    assert lines(before, "data")[0][1].endswith("measured now in the baseline; nobody is exposed yet")
    assert lines(before, "stream")[0][0] == "pass"
    assert lines(before, "effect")[0][1].startswith("Requests that failed on new-checkout: ")
    assert lines(before, "people")[0] == ("pass", "Slack, #releases takes messages")

    here.open_release()
    opened = here.flags.read_bytes()
    started = run(here.directory, "release", "start", "shop", "new-checkout", "--version", "v1", "--share", "50%")
    assert (started.returncode, started.stdout) == (0, "shop/production/new-checkout@v1\n")
    time.sleep(8)
    after = checked(here.directory, "shop/production/new-checkout@v1")
    assert failed(after) <= {"effect"}, after
    assert lines(after, "rollback")[0][1].endswith("features.new-checkout.enabled: true -> false")
    assert any(said.startswith("in the last minutes the release gets ") for _, said in lines(after, "exposure"))
    assert lines(after, "data")[0][1].endswith("measured now in both arms")
    assert flags != opened == here.flags.read_bytes()
    assert here.told() == []

    here.metrics.stop()
    plant(here.directory / "slack-token", f"xoxb-{MARK}-revoked\n")
    down = run(here.directory, "preflight", SHOP)
    assert (down.returncode, down.stderr) == (1, "")
    assert down.stdout.startswith("FAILED  shop/production/new-checkout@next: 5 of 8 checks failed")
    assert f"the metrics cannot be read: {here.metrics.url} did not answer" in " ".join(down.stdout.split())
    assert "slack reaches nobody: Slack refused the question: invalid_auth" in " ".join(down.stdout.split())
    assert "xoxb" not in down.stdout


JOB, SCRAPE = "canaried", 30.0
CANARY = """\
metrics: {{prometheus: "{url}"}}
services:
  shop:
    select: {{job: canaried}}
    rules: [{rules}]
    watch_for: 6h
    releases:
      - strategy: canary
        notice: {{label: version}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
        split: {{assigned: sessions_total, share: 10%}}
        history: 2h
"""
SERVERS = """\
pack: servers
rules:
  - {name: cpu, kind: gauge, value: process_cpu_seconds_total, worse: higher, margin: 10%}
  - {name: memory, kind: gauge, value: process_resident_memory_bytes, worse: higher, margin: 10%}
"""


@pytest.fixture(scope="module")
def canary(prometheus: PrometheusServer) -> str:
    """A server with three hours of a version that nine in ten users have, and two minutes of the next, one in ten."""
    rng, times = np.random.default_rng(41), time.time() // SCRAPE * SCRAPE - np.arange(3 * 3600.0, -1.0, -SCRAPE)
    series = []
    for version, pods, share, since in (("1.1.0", "ab", 0.9, 0), ("1.2.0", "c", 0.1, times.size - 5)):
        for pod in pods:
            own, at = {"job": JOB, "instance": pod, "version": version}, times[since:]
            requests = rng.poisson(20 * SCRAPE * share / len(pods), at.size)
            failed, late = rng.binomial(requests, 0.01), rng.binomial(requests, 0.05)
            duration = "http_request_duration_seconds"
            series += [
                ({"__name__": "http_requests_total", **own, "code": "200"}, at, np.cumsum(requests - failed)),
                ({"__name__": "http_requests_total", **own, "code": "500"}, at, np.cumsum(failed)),
                ({"__name__": f"{duration}_bucket", **own, "le": "1.0"}, at, np.cumsum(requests - late)),
                ({"__name__": f"{duration}_bucket", **own, "le": "+Inf"}, at, np.cumsum(requests)),
                ({"__name__": f"{duration}_count", **own}, at, np.cumsum(requests)),
                ({"__name__": "process_resident_memory_bytes", **own}, at, np.full(at.size, 3e8)),
                ({"__name__": "process_cpu_seconds_total", **own}, at, np.cumsum(rng.uniform(0, 1, at.size))),
            ]  # fmt: skip
    prometheus.remote_write(series)
    return prometheus.url


def test_a_canary_is_held_against_the_version_that_most_users_have(canary: str, tmp_path: Path) -> None:
    (tmp_path / "watcher.yaml").write_text(CANARY.format(url=canary, rules="http-prometheus"))
    found = checked(tmp_path, "shop")
    assert found["release"] == "shop/production/shop@1.2.0"
    assert ("pass", '10 % of the users: version="1.2.0" against version="1.1.0"') in lines(found, "exposure")
    assert lines(found, "rollback")[0][0] == "fail"
    assert lines(found, "metrics") == [("pass", "what users feel: Requests that failed, Slow requests")]
    assert lines(found, "data") == [("pass", "all of them (2 required): measured now in both arms")]
    errors, slow = lines(found, "effect")
    assert errors[0] == "pass"
    assert "+10 % (the margin) in " in slow[1]


def test_a_pack_of_cpu_and_memory_fails_however_well_it_is_measured(canary: str, tmp_path: Path) -> None:
    (tmp_path / "servers.yaml").write_text(SERVERS)
    (tmp_path / "watcher.yaml").write_text(CANARY.format(url=canary, rules="servers.yaml"))
    found = checked(tmp_path, "shop@1.2.0", "--previous", "1.1.0")
    assert lines(found, "metrics")[0][0] == "fail"
    assert "process_resident_memory_bytes" in lines(found, "metrics")[0][1]


def test_a_version_that_nobody_runs_has_to_be_named_with_its_previous(canary: str, tmp_path: Path) -> None:
    config = CANARY.format(url=canary, rules="http-prometheus").replace("job: canaried", "job: nobody")
    (tmp_path / "watcher.yaml").write_text(config)
    done = run(tmp_path, "preflight", "shop@1.2.0")
    assert (done.returncode, done.stdout) == (2, "")
    assert "say which version users of shop@1.2.0 have now, with --previous" in done.stderr

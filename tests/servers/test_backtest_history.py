"""`watcher backtest` on a real Prometheus that holds five days of a shop, with three releases, the second bad."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest

from tests.cli.conftest import ROOT
from tests.servers import prometheus_server
from tests.servers.conftest import require
from tests.servers.prometheus_server import PrometheusServer, Series
from watcher import intake
from watcher.assembly import daemon, installed
from watcher.clearance import recorded
from watcher.config import load_installation
from watcher.errors import Refused
from watcher.journal import Journal
from watcher.model import Exposure

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("backtest-history")]

DAY, HOUR, SCRAPE = 86_400.0, 3600.0, 30.0
JOB = 'job="shop"'
CANARY = ("--baseline", 'version="{previous}"', "--treatment", 'version="{version}"')
SCHEMA = json.loads((ROOT / "schemas" / "backtest.schema.json").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Version:
    """What users had from its exposure on: half of them for three hours, then all of them, until the next."""

    name: str
    exposed_at: float
    errors: float = 1.0

    @property
    def everybody_at(self) -> float:
        return self.exposed_at + 3 * HOUR


@dataclass(frozen=True)
class Past:
    """Where the history is, and what was released; the first version was there before."""

    url: str
    versions: tuple[Version, ...]
    directory: Path

    @property
    def releases(self) -> tuple[Version, ...]:
        return self.versions[1:]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    require(prometheus_server.missing())
    now = time.time() // 60 * 60
    bad = 4.0
    versions = (
        Version("1.0", now - 5 * DAY),
        Version("1.1", now - 3 * DAY),
        Version("1.2", now - 2 * DAY, bad),
        Version("1.3", now - 1.25 * DAY),
    )
    directory = tmp_path_factory.mktemp("backtest")
    with prometheus_server.running(directory / "prometheus") as server:
        times = np.arange(now - 5 * DAY, now - 12 * HOUR, SCRAPE)
        write(server, versions, times)
        yield Past(server.url, versions, directory)


def write(server: PrometheusServer, versions: tuple[Version, ...], times: np.ndarray) -> None:
    """Write the counters of every version: of the bad one the first three hours only, as it was then taken back."""
    rng, series = np.random.default_rng(3), list[Series]()
    visits = 30.0 * (1 + 0.3 * np.sin(2 * np.pi * times / DAY))
    shares = {version.name: np.zeros(times.size) for version in versions}
    serving = versions[0]
    shares[serving.name][:] = 1.0
    for version in versions[1:]:
        half = (times >= version.exposed_at) & (times < version.everybody_at)
        after = times >= version.everybody_at
        shares[version.name][half], shares[serving.name][half] = 0.5, 0.5
        if version.errors == 1.0:
            shares[version.name][after], shares[serving.name][after] = 1.0, 0.0
            serving = version
    for version in versions:
        lived = shares[version.name] > 0
        first, last = int(lived.argmax()), times.size - int(lived[::-1].argmax())
        for number in (1, 2, 3):
            requests = rng.poisson(visits * shares[version.name] / 3 * SCRAPE)
            failed = rng.binomial(requests, 0.01 * version.errors)
            own = {"job": "shop", "version": version.name, "instance": f"{version.name}-{number}"}
            at = times[first:last]
            series.append(({"__name__": "process_start_time_seconds", **own}, at, np.full(at.size, at[0] - 5.0)))
            for code, counted in (("200", requests - failed), ("500", failed)):
                name = {"__name__": "http_requests_total", **own, "code": code}
                series.append((name, at, np.cumsum(counted)[first:last]))
    server.remote_write(series)


RULES = """\
pack: shop
unit: instance
rules:
  - name: request-errors
    title: Requests that failed
    kind: ratio
    bad: http_requests_total{code=~"5.."}
    total: http_requests_total
    margin: 50%
    critical: true
"""

CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{url}"}}
may_turn_off: [{{switch: yaml_flags, feature: suggestions, environment: production}}]
services:
  shop:
    environment: production
    select: {{job: shop}}
    rules: [rules.yaml]
    mode: armed
    require_backtest: true
    watch_for: 2h
    releases:
      - strategy: canary
        notice: {{label: version}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
      - strategy: flag
        notice: {{flags_file: flags.yaml, features: [suggestions]}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        kill: {{yaml_flags: flags.yaml}}
"""


@pytest.fixture
def folder(past: Past, tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "flags.yaml").write_text("features:\n  suggestions: {enabled: false}\n")
    (tmp_path / "watcher.yaml").write_text(CONFIG.format(url=past.url))
    rows = ["exposed_at,release,label,group,previous,version"]
    known = {"1.1": "0", "1.2": "1", "1.3": ""}
    for before, version in zip((past.versions[0], past.versions[1], past.versions[1]), past.releases, strict=True):
        at = dt.datetime.fromtimestamp(version.exposed_at, dt.UTC).isoformat()
        rows.append(f"{at},shop {version.name},{known[version.name]},week,{before.name},{version.name}")
    (tmp_path / "releases.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def backtest(folder: Path, *more: str, code: int = 0) -> dict[str, Any]:
    """Run `watcher backtest` as people do; return its JSON, or what it complained of."""
    command = [sys.executable, "-m", "watcher", "backtest", *more, "--format", "json", "--looks-every", "5m"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)
    assert done.returncode == code, done.stderr
    if code:
        return {"error": done.stderr}
    found: dict[str, Any] = json.loads(done.stdout)
    jsonschema.Draft7Validator(SCHEMA).validate(found)
    return found


def on(past: Past, *more: str) -> tuple[str, ...]:
    return ("--prometheus", past.url, "--rules", "rules.yaml", "--select", JOB, "--since", "4d", *more)


def outcomes(found: dict[str, Any]) -> dict[str, str]:
    return {row["release"]: row["outcome"] for row in found["rows"]}


def test_listed_releases_are_judged_by_their_own_arms_and_the_bad_one_is_found(past: Past, folder: Path) -> None:
    found = backtest(folder, *on(past, "--releases", "releases.csv", *CANARY))
    assert outcomes(found) == {"shop 1.1": "healthy", "shop 1.2": "regressed", "shop 1.3": "healthy"}
    assert (found["recall"], found["false_alarm_rate"], found["placebos"]) == (1.0, 0.0, False)
    assert 5 < found["minutes_to_detect"]["median"] < 30
    assert found["groups"] == {"cases": 1, "hit_rate_1": 1.0, "hit_rate_3": 1.0}
    [named] = found["attributions"]
    assert (named["group"], named["release"]) == ("week", "shop 1.2")
    assert named["ranking"][0]["reason"].endswith("before the harm began; harm only in its own treatment")


def test_versions_that_first_get_traffic_are_releases_held_against_the_busiest_before(past: Past, folder: Path) -> None:
    found = backtest(folder, *on(past, "--version-label", "version", *CANARY))
    assert outcomes(found) == {"1.1": "healthy", "1.2": "regressed", "1.3": "healthy"}
    for row, version in zip(found["rows"], past.releases, strict=True):
        noticed = dt.datetime.fromisoformat(row["exposed_at"]).timestamp()
        assert version.exposed_at < noticed <= version.exposed_at + 120


def test_one_release_that_lacks_what_its_arms_need_is_a_row_and_the_others_are_judged(past: Past, folder: Path) -> None:
    text = (folder / "releases.csv").read_text()
    (folder / "releases.csv").write_text(text.replace(",1.0,1.1", ",,1.1"))
    found = backtest(folder, *on(past, "--releases", "releases.csv", *CANARY))
    assert outcomes(found) == {"shop 1.1": "error", "shop 1.2": "regressed", "shop 1.3": "healthy"}
    assert "nobody says what {previous} is" in found["rows"][0]["reason"]


def test_where_nothing_is_known_to_be_released_placebos_are_judged(past: Past, folder: Path) -> None:
    found = backtest(folder, *on(past, "--since", "1d"), "--horizon", "1h")
    assert found["placebos"]
    assert found["releases"] > 5
    assert found["recall"] is None
    assert any("nobody says when anything was released (--releases" in said for said in found["warnings"])


def test_a_report_is_drawn_from_what_was_read(past: Past, folder: Path) -> None:
    backtest(folder, *on(past, "--releases", "releases.csv", *CANARY, "--report", "past.html"))
    page = (folder / "past.html").read_text(encoding="utf-8")
    assert "shop 1.2" in page
    assert "twice as large" in page
    assert "<svg" in page


def start(folder: Path) -> None:
    with daemon(installed(str(folder / "watcher.yaml"))):
        pass


def test_an_armed_service_starts_after_a_backtest_of_its_rules_and_not_once_they_changed(
    past: Past, folder: Path
) -> None:
    with pytest.raises(Refused, match=r"no backtest of its rules is recorded; run `watcher backtest --config .*`"):
        start(folder)
    found = backtest(folder, "--config", "watcher.yaml", "--service", "shop", "--since", "4d")
    assert outcomes(found) == {"1.1": "healthy", "1.2": "regressed", "1.3": "healthy"}
    start(folder)
    with Journal.open(f"sqlite:///{folder}/watcher.db") as journal:
        kept = recorded(journal, "shop")
        assert kept is not None
        assert (kept.releases, kept.placebos, kept.recall) == (3, False, None)
        assert journal.audit_trail()[-1].detail["service"] == "shop"
    (folder / "rules.yaml").write_text(RULES.replace("Requests that failed", "Failed requests"))
    start(folder)
    (folder / "rules.yaml").write_text(RULES.replace("margin: 50%", "margin: 80%"))
    today = dt.datetime.now(dt.UTC).strftime("%Y-%m-")
    with pytest.raises(Refused, match=f"the rules changed since the backtest of {today}"):
        start(folder)


def test_releases_that_the_journal_remembers_are_judged_as_they_were_watched(past: Past, folder: Path) -> None:
    installation = load_installation(folder / "watcher.yaml")
    shop, bad = installation.services["shop"], past.versions[2]
    with Journal.open(installation.journal) as journal:
        exposure = Exposure("shop", bad.name, bad.exposed_at, previous="1.1")
        name = intake.take(installation, journal, shop, shop.releases[0], exposure, "label version").release
        assert name is not None
        journal.end_release(name, "recovered", "killed", bad.exposed_at + HOUR)
    found = backtest(folder, "--config", "watcher.yaml")
    assert outcomes(found) == {"shop/production/shop@1.2": "regressed"}
    assert (found["rows"][0]["label"], found["recall"]) == (1, 1.0)


def test_listed_releases_are_watched_in_the_way_asked_for(past: Past, folder: Path) -> None:
    asked = ("--config", "watcher.yaml", "--releases", "releases.csv", "--since", "4d")
    told = backtest(folder, *asked, code=2)
    assert "say which with --strategy" in told["error"]
    found = backtest(folder, *asked, "--strategy", "canary", "--horizon", "1h")
    assert outcomes(found) == {"shop 1.1": "healthy", "shop 1.2": "regressed", "shop 1.3": "healthy"}
    assert (found["recall"], found["false_alarm_rate"]) == (1.0, 0.0)


def test_a_table_lets_a_service_be_armed_too(folder: Path) -> None:
    minutes = pd.date_range("2026-11-20T10:00Z", periods=120, freq="1min")
    rng, parts = np.random.default_rng(1), []
    for release, label, errors in (("a", 0, 1.0), ("b", 1, 4.0)):
        for arm, times in (("baseline", 1.0), ("treatment", errors)):
            for code, share in (("200", 1 - 0.01 * times), ("500", 0.01 * times)):
                counted = rng.poisson(600 * share, minutes.size)
                own = {"release": release, "label": label, "arm": arm, "code": code}
                parts.append(pd.DataFrame({"timestamp": minutes, "http_requests_total": counted, **own}))
    pd.concat(parts).to_csv(folder / "past.csv", index=False)
    (folder / "rules.yaml").write_text(RULES.replace("unit: instance\n", ""))
    found = backtest(folder, "past.csv", "--config", "watcher.yaml")
    assert outcomes(found) == {"a": "healthy", "b": "regressed"}
    start(folder)


def test_what_watcher_yaml_says_cannot_be_said_otherwise(folder: Path) -> None:
    told = backtest(folder, "--config", "watcher.yaml", "--alpha", "0.2", code=2)
    assert "--alpha is said by watcher.yaml" in told["error"]
    told = backtest(folder, "--releases", "releases.csv", "past.csv", "--ratio", "a/b", code=2)
    assert "--releases goes with --prometheus" in told["error"]

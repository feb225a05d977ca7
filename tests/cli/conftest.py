"""The files of the contract's command lines, and the command line run in this process."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from watcher import cli

ROOT = Path(__file__).resolve().parents[2]
EXPOSED = pd.Timestamp("2026-11-20T10:00:00Z")
PODS = 3


class Answer(NamedTuple):
    """What a run of the command line left behind."""

    exit: int
    out: str
    err: str


Watcher = Callable[..., Answer]


@pytest.fixture
def watcher(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Watcher:
    """Run `watcher ARGUMENTS...` in this process: 100 columns, no colour, nothing from the environment."""
    for name in [name for name in os.environ if name.startswith("WATCHER_")]:
        monkeypatch.delenv(name)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("USER", "ana")

    def run(*arguments: str) -> Answer:
        monkeypatch.setattr(sys, "argv", ["watcher", *arguments])
        capsys.readouterr()
        code: object = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
        out, err = capsys.readouterr()
        assert isinstance(code, int), f"exit code {code!r}"
        return Answer(code, out, err)

    return run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(folder: Path) -> Path:
    """A working folder with `shop.csv`, `shop.parquet` and `load.csv`."""
    shop().to_csv("shop.csv", index=False)
    page_loads().to_parquet("shop.parquet")
    load_times().to_csv("load.csv", index=False)
    return folder


@pytest.fixture
def long_table(folder: Path) -> Path:
    """A working folder with `rules/checkout.yaml`, and a `shop.csv` that holds all its metrics in one column."""
    (folder / "rules").mkdir()
    shutil.copy(ROOT / "rules" / "checkout.yaml", folder / "rules")
    all_metrics().to_csv("shop.csv", index=False)
    return folder


INSTALLATION = """\
metrics: {prometheus: http://127.0.0.1:9090}
may_turn_off:
  - {switch: yaml_flags, feature: new-checkout, environment: production}
  - {switch: yaml_flags, feature: dark-mode, environment: production}
services:
  shop:
    rules: [checkout]
    mode: armed
    releases:
      - strategy: flag
        notice: {flags_file: feature-flags.yaml, features: [new-checkout, dark-mode]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        kill: {yaml_flags: feature-flags.yaml}
      - strategy: blue_green
        notice: {http: true}
        kill: {haproxy: {socket: /run/haproxy.sock, map: live, to: "{previous}"}}
  search:
    environment: staging
    rules: [http-prometheus]
    releases:
      - strategy: canary
        notice: {label: version}
        arms: {baseline: {version: "{previous}"}, treatment: {version: "{version}"}}
        kill: {yaml_flags: gone.yaml}
"""
FLAGS = """\
# Who sees what.
features:
  new-checkout:
    enabled: true   # since Friday
    rollout_percentage: 5
  dark-mode: {enabled: false}
"""


@pytest.fixture
def installation(folder: Path) -> Path:
    """A working folder with `shop/watcher.yaml`: a flag that is on, one that is off, and one whose file is gone."""
    (folder / "shop").mkdir()
    (folder / "shop" / "watcher.yaml").write_text(INSTALLATION)
    (folder / "shop" / "feature-flags.yaml").write_text(FLAGS)
    return folder / "shop"


def shop(
    worse: float = 3.0, minutes: int = 60, requests: int = 200, pods: int = PODS, treatment: str = "treatment"
) -> pd.DataFrame:
    """Return counts per minute, arm, feature and pod; on the treatment, checkout fails `worse` times as often."""
    rng = np.random.default_rng(5)
    index = pd.MultiIndex.from_product(
        [
            EXPOSED + pd.to_timedelta(np.arange(1, minutes + 1), unit="min"),
            ["baseline", treatment],
            ["checkout", "search"],
            [f"pod-{i}" for i in range(pods)],
        ],
        names=["timestamp", "arm", "feature", "unit"],
    )
    frame = index.to_frame(index=False)
    hit = (frame["arm"] == treatment) & (frame["feature"] == "checkout")
    frame["requests"] = rng.poisson(requests, len(frame))
    frame["errors"] = rng.binomial(frame["requests"], 0.02 * np.where(hit, worse, 1.0))
    frame["started"] = rng.poisson(40, len(frame))
    frame["completed"] = rng.binomial(frame["started"], 0.7)
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    columns = ["timestamp", "arm", "feature", "unit", "errors", "requests", "started", "completed"]
    return frame[columns]


def past_releases(count: int = 10, minutes: int = 60) -> pd.DataFrame:
    """Return releases, one a day: every other one is bad, the later the more; the first of them hardly is."""
    rng = np.random.default_rng(11)
    parts = []
    for number in range(count):
        bad, exposed = number % 2, EXPOSED + pd.Timedelta(days=number)
        frame = shop(worse=1.0, minutes=minutes).query("feature == 'checkout'")
        hit = (frame["arm"] == "treatment") & bool(bad)
        frame["errors"] = rng.binomial(frame["requests"], 0.02 * np.where(hit, 0.8 + 0.2 * number, 1.0))
        minute = frame.groupby("timestamp", sort=True).ngroup() + 1
        frame["timestamp"] = (exposed + pd.to_timedelta(minute, unit="min")).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        parts.append(frame.assign(release=f"v{number}", exposed_at=f"{exposed:%Y-%m-%dT%H:%M:%SZ}", label=bad))
    columns = ["release", "exposed_at", "label", "timestamp", "arm", "unit", "errors", "requests"]
    return pd.concat(parts, ignore_index=True)[columns]


def page_loads(worse: float = 1.5) -> pd.DataFrame:
    """Return one page load a row; on the treatment, those of checkout take `worse` times as long."""
    rng = np.random.default_rng(6)
    count = 24_000
    arm = rng.choice(["baseline", "treatment"], count)
    feature = rng.choice(["checkout", "search"], count)
    slower = np.where((arm == "treatment") & (feature == "checkout"), worse, 1.0)
    at = EXPOSED + pd.to_timedelta(np.sort(rng.uniform(1, 3600, count)), unit="s")
    return pd.DataFrame(
        {"timestamp": at, "arm": arm, "feature": feature, "duration": rng.lognormal(-0.5, 0.5, count) * slower}
    )


def load_times(worse: float = 1.5) -> pd.DataFrame:
    """Return a load time a minute, two hours before exposure and one hour after, `worse` times as long."""
    rng = np.random.default_rng(7)
    minute = np.arange(-119, 61)
    load = 1.2 * np.exp(rng.normal(0, 0.04, minute.size)) * np.where(minute > 0, worse, 1.0)
    at = (EXPOSED + pd.to_timedelta(minute, unit="min")).strftime("%Y-%m-%dT%H:%M:%SZ")
    return pd.DataFrame({"timestamp": at, "load_time": load.round(4)})


def all_metrics() -> pd.DataFrame:
    """Return what the rule pack `checkout` reads, one metric a row, in the hour after exposure."""
    counts = shop().rename(columns={"unit": "instance"})
    labels = ["timestamp", "arm", "feature", "instance"]
    rng = np.random.default_rng(8)

    def rows(metric: str, value: object, **more: object) -> pd.DataFrame:
        return counts[labels].assign(metric=metric, value=value, **more)

    loads = rng.poisson(50, len(counts))
    quick = rng.binomial(loads, 0.9)
    return pd.concat(
        [
            rows("http_requests_total", counts["errors"], code="500"),
            rows("http_requests_total", counts["requests"] - counts["errors"], code="200"),
            rows("checkout_started_total", counts["started"]),
            rows("checkout_completed_total", counts["completed"]),
            rows("page_load_seconds", quick, le="2.5"),
            rows("page_load_seconds", loads, le="+Inf"),
            rows("web_lcp_p75_seconds", np.round(1.8 * np.exp(rng.normal(0, 0.05, len(counts))), 3)),
        ],
        ignore_index=True,
    )

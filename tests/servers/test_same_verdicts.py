"""One release, read four ways: a file, a Prometheus, the daemon and its journal come to the same verdicts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import watcher
from tests.servers.prometheus_server import PrometheusServer, Series
from watcher.act import Outbox
from watcher.config import load_installation
from watcher.daemon import Daemon
from watcher.journal import Journal
from watcher.look import Source, look, prepare, read_history
from watcher.model import (
    Alpha,
    Calibration,
    Kind,
    Look,
    Outcome,
    Release,
    Rule,
    Selector,
    Stage,
    Strategy,
    Verdict,
    Watch,
    labels,
)
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP
from watcher.sources.tidy import TidyTable, read_table
from watcher.switches import switch
from watcher.testing import MemorySource

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("same-verdicts")]

BLOCK, PAST, AFTER, BAD_AFTER = 60.0, 120, 80, 60
"""Blocks before exposure, after it, and after which the released checkout fails three times as often."""

RULES = tuple(
    Rule(
        f"{kind}-failures",
        Kind.RATIO,
        Selector(f"sv_{kind}_failed"),
        Selector(f"sv_{kind}_total"),
        by=("feature",),
        unit="instance",
        critical=True,
    )
    for kind in ("request", "payment")
)
ARMS = {arm: labels({"arm": arm}) for arm in ("baseline", "treatment")}

CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
settle: 0s
services:
  shop:
    rules: [http-prometheus]
    releases:
      - {{strategy: flag, notice: {{http: true}}}}
"""


@dataclass(frozen=True)
class Told:
    """The counts of every block, and the watch over them."""

    frame: pd.DataFrame
    watch: Watch

    @property
    def exposed_at(self) -> float:
        return self.watch.release.exposed_at

    @property
    def series(self) -> list[Series]:
        """The same counts as raw cumulative counters at the ends of blocks, and a sample before the first."""
        found: list[Series] = []
        for (arm, feature, instance), rows in self.frame.groupby(["arm", "feature", "instance"]):
            ends = rows["timestamp"].to_numpy()
            at = np.concatenate([[ends[0] - BLOCK], ends])
            for rule in RULES:
                for selector in (rule.events, rule.total):
                    assert selector is not None
                    own = {"arm": str(arm), "feature": str(feature), "instance": str(instance)}
                    counted = np.concatenate([[0.0], np.cumsum(rows[selector.metric].to_numpy())])
                    found.append(({"__name__": selector.metric, **own}, at, 1000.0 + counted))
        return found


@pytest.fixture(scope="module")
def release() -> Told:
    exposed = time.time() // 3600 * 3600 - 4 * 3600.0
    ends = exposed + BLOCK * np.arange(-PAST + 1, AFTER + 1)
    rng, parts = np.random.default_rng(5), []
    for arm in ARMS:
        for feature in ("cart", "checkout"):
            for number in (1, 2, 3):
                bad = (arm == "treatment") & (feature == "checkout") & (ends > exposed + BAD_AFTER * BLOCK)
                counts = {"timestamp": ends, "arm": arm, "feature": feature, "instance": f"{arm}-{number}"}
                for rule, visits in zip(RULES, (400, 250), strict=True):
                    assert rule.total is not None
                    total = rng.poisson(visits, ends.size)
                    counts[rule.total.metric] = total
                    counts[rule.events.metric] = rng.binomial(total, np.where(bad, 0.03, 0.01))
                parts.append(pd.DataFrame(counts))
    watch = Watch(
        release=Release("shop", "production", "checkout", "2", Strategy.FLAG, (Stage(exposed),)),
        rules=RULES,
        baseline=ARMS["baseline"],
        treatment=ARMS["treatment"],
        block=BLOCK,
        settle=0.0,
        warm_up=300.0,
        history=PAST * BLOCK,
        alpha=Alpha(regressed=0.01),
    )
    return Told(pd.concat(parts, ignore_index=True), watch)


@pytest.fixture(scope="module")
def table(release: Told, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "release.csv"
    release.frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def file(release: Told, table: Path) -> TidyTable:
    return TidyTable.of(read_table(table), RULES, block=BLOCK, at=release.exposed_at)


@pytest.fixture(scope="module")
def server(prometheus: PrometheusServer, release: Told) -> PrometheusSource:
    prometheus.remote_write(release.series)
    return PrometheusSource(PrometheusHTTP(prometheus.url))


@pytest.fixture(scope="module")
def calibrations(release: Told, file: TidyTable) -> Mapping[str, Calibration]:
    """One calibration for all, learnt from the file."""
    return prepare(release.watch, read_history(release.watch, file), "file")


@pytest.fixture(scope="module")
def from_file(release: Told, file: TidyTable, calibrations: Mapping[str, Calibration]) -> list[Look]:
    return minute_by_minute(release.watch, file, calibrations)


def minute_by_minute(watch: Watch, source: Source, calibrations: Mapping[str, Calibration]) -> list[Look]:
    """Return the looks of a watcher that never misses a block."""
    looks: list[Look] = []
    for number in range(1, AFTER + 1):
        now = watch.release.exposed_at + BLOCK * number
        looks.append(look(watch, source, calibrations, looks[-1] if looks else None, now))
    return looks


Said = tuple[str, Outcome, float | None, float, float]


def said(verdict: Verdict) -> Said:
    """What must be the same, floating point apart."""
    name = f"{verdict.rule} {dict(verdict.labels)}"
    return name, verdict.outcome, verdict.decided_at, verdict.log_e_regressed, verdict.log_e_healthy


def same(ours: list[Look], theirs: list[Look]) -> None:
    """Compare two sequences of looks, block by block and stream by stream."""
    assert [each.through for each in ours] == [each.through for each in theirs]
    for one, other in zip(ours, theirs, strict=True):
        assert (one.verdict.outcome, one.verdict.reason) == (other.verdict.outcome, other.verdict.reason)
        same_streams(one.verdict.streams, other.verdict.streams)


def same_streams(ours: tuple[Verdict, ...], theirs: tuple[Verdict, ...]) -> None:
    for mine, other in zip(sorted(map(said, ours)), sorted(map(said, theirs)), strict=True):
        assert mine[:3] == other[:3]
        assert mine[3:] == pytest.approx(other[3:], abs=1e-9)


def test_the_file_alone_tells_a_story_worth_comparing(release: Told, from_file: list[Look]) -> None:
    outcomes = [each.verdict.outcome for each in from_file]
    assert list(dict.fromkeys(outcomes)) == [Outcome.INCONCLUSIVE, Outcome.HEALTHY, Outcome.REGRESSED]
    assert outcomes.index(Outcome.REGRESSED) >= BAD_AFTER
    streams = {said(stream)[0]: stream.outcome for stream in from_file[-1].verdict.streams}
    assert len(streams) == 4
    assert streams["request-failures {'feature': 'checkout'}"] is Outcome.REGRESSED
    assert streams["request-failures {'feature': 'cart'}"] is Outcome.HEALTHY


def test_a_prometheus_gives_the_verdicts_of_the_file(
    release: Told, server: PrometheusSource, calibrations: Mapping[str, Calibration], from_file: list[Look]
) -> None:
    same(minute_by_minute(release.watch, server, calibrations), from_file)


def test_the_daemon_and_a_replay_of_its_journal_give_the_verdicts_of_the_file(
    release: Told,
    server: PrometheusSource,
    prometheus: PrometheusServer,
    calibrations: Mapping[str, Calibration],
    from_file: list[Look],
    tmp_path: Path,
) -> None:
    config = tmp_path / "watcher.yaml"
    config.write_text(CONFIG.format(prometheus=prometheus.url))
    found, name, looks = load_installation(config), release.watch.release.id, list[Look]()
    with Journal.open(found.journal) as journal:
        journal.add_release(release.watch, release.exposed_at, "test")
        journal.record_calibrations(name, calibrations, release.exposed_at)
        daemon = Daemon(found, journal, server, Outbox(journal, switch, {}), lambda _, seen: looks.append(seen))
        for number in range(1, AFTER + 1):
            daemon.step(release.exposed_at + BLOCK * number)
        same(looks, from_file)

        recorded = MemorySource(journal.observations(name))
        same(minute_by_minute(journal.watch(name), recorded, journal.calibrations(name)), from_file)


def test_missed_ticks_change_neither_the_last_verdict_nor_when_it_was_reached(
    release: Told, server: PrometheusSource, calibrations: Mapping[str, Calibration], from_file: list[Look]
) -> None:
    seen: Look | None = None
    for number in (3, 4, 21, 67, 68, AFTER):
        seen = look(release.watch, server, calibrations, seen, release.exposed_at + BLOCK * number)
    assert seen is not None
    same_streams(seen.verdict.streams, from_file[-1].verdict.streams)


def test_one_comparison_of_the_file_gives_the_last_verdict_of_its_looks(
    release: Told, table: Path, from_file: list[Look]
) -> None:
    found = watcher.compare(table, rules=RULES, at=release.exposed_at, warm_up="5m", alpha=0.01)
    assert found.outcome is from_file[-1].verdict.outcome
    same_streams(found.findings.verdict.streams, from_file[-1].verdict.streams)


def test_what_is_learnt_from_the_past_is_the_same_from_a_file_and_from_a_prometheus(
    release: Told, server: PrometheusSource, calibrations: Mapping[str, Calibration]
) -> None:
    # Scraped at the ends of blocks. Otherwise the server's past, which comes aggregated, books a few events in the
    # block next to theirs, and the two differ by as little.
    learnt = prepare(release.watch, read_history(release.watch, server), "file")
    assert all(set(learnt[name].streams) == set(calibrations[name].streams) for name in learnt)
    for name, each in learnt.items():
        for stream in each.streams:
            assert each.only(stream).to_json() == calibrations[name].only(stream).to_json()

"""Watching the watcher: what the daemon counts of itself, and whether it says that it is ready."""

from __future__ import annotations

import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from tests.servers.conftest import require
from tests.test_daemon import Metrics as Source
from tests.test_daemon import World, measured
from tests.timeline import EXPOSED, MINUTE
from watcher import __version__
from watcher.config import load_installation
from watcher.daemon import Daemon
from watcher.journal import Journal
from watcher.server import Metrics, application

HTTP = '\nhttp: {{listen: "127.0.0.1:8080", tokens_file: token}}\n'
RELEASE = {"service": "shop", "release": "shop/production/shop@1.2"}


@dataclass
class Observed:
    """A daemon in memory whose application can be asked, and whose stopwatch stands still until it is moved."""

    world: World
    seconds: float = 1000.0
    late: float = 0.0
    client: TestClient = field(init=False)
    daemon: Daemon = field(init=False)

    def __post_init__(self) -> None:
        made = self.world.daemon()
        (self.world.folder / "token").write_text("")
        with (self.world.folder / "watcher.yaml").open("a") as config:
            config.write(HTTP.format())
        installation = load_installation(self.world.folder / "watcher.yaml")
        metrics = Metrics(installation, self.world.journal, lambda: self.world.now + self.late, lambda: self.seconds)
        self.daemon = replace(made, installation=installation, observer=metrics)
        self.client = TestClient(application(installation, self.world.journal, lambda: self.world.now, metrics))

    def run(self, minutes: int) -> None:
        self.world.run(self.daemon, minutes)

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of one series; None where there is none."""
        answer = self.client.get("/metrics")
        assert answer.status_code == 200
        samples = [each for family in text_string_to_metric_families(answer.text) for each in family.samples]
        found = [each.value for each in samples if each.name == name and each.labels == labels]
        assert len(found) <= 1
        return found[0] if found else None

    def ready(self) -> tuple[int, str]:
        answer = self.client.get("/readyz")
        return answer.status_code, answer.text


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Observed]:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        yield Observed(World(tmp_path, journal, Source({"errors": measured()})))


def test_every_look_is_counted_and_a_watch_says_when_it_last_succeeded_and_how_late(here: Observed) -> None:
    here.world.expose()
    here.late = 7.0
    here.run(3)
    outcomes = ("regressed", "invalid", "no_data", "inconclusive", "healthy")
    looks = [here.value("watcher_looks_total", service="shop", outcome=each) for each in outcomes]
    assert sum(each or 0.0 for each in looks) == 3
    assert None not in looks
    assert here.value("watcher_look_duration_seconds_count") == 3
    assert here.value("watcher_look_lag_seconds", **RELEASE) == 7.0
    assert here.value("watcher_last_success_timestamp_seconds", **RELEASE) == EXPOSED + 3 * MINUTE + 7
    assert here.value("watcher_last_step_timestamp_seconds") == EXPOSED + 3 * MINUTE + 7
    assert here.value("watcher_looks_missed_total", service="shop") == 0
    assert here.value("watcher_watches") == 1


def test_metrics_that_cannot_be_read_are_counted_and_are_no_success(here: Observed) -> None:
    here.world.expose()
    here.run(2)
    here.world.source.down = "prometheus.example does not answer"
    here.run(4)
    assert here.value("watcher_source_errors_total", service="shop") == 4
    assert here.value("watcher_last_success_timestamp_seconds", **RELEASE) == EXPOSED + 2 * MINUTE
    here.world.source.down = None
    here.run(1)
    assert here.value("watcher_last_success_timestamp_seconds", **RELEASE) == EXPOSED + 7 * MINUTE
    assert here.value("watcher_looks_missed_total", service="shop") == 4


def test_a_look_that_comes_to_nothing_is_counted_and_does_not_hide_the_step(
    here: Observed, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.world.expose()

    def broken(*_: object) -> None:
        raise ValueError("a mistake")

    monkeypatch.setattr(Journal, "record_look", broken)
    here.run(2)
    assert here.value("watcher_look_failures_total", service="shop") == 2
    assert here.value("watcher_last_success_timestamp_seconds", **RELEASE) == 0
    assert here.value("watcher_look_duration_seconds_count") == 0
    assert here.ready() == (200, "ready")


def test_the_series_of_a_watch_end_with_it(here: Observed) -> None:
    release = here.world.expose()
    here.run(2)
    here.world.journal.end_release(release, "ended", "stopped by hand", here.world.now)
    here.run(1)
    assert here.value("watcher_watches") == 0
    assert here.value("watcher_last_success_timestamp_seconds", **RELEASE) is None
    assert here.value("watcher_look_lag_seconds", **RELEASE) is None


def test_a_switch_that_does_not_answer_is_counted_by_its_kind(here: Observed) -> None:
    assert here.value("watcher_switch_errors_total", switch="yaml_flags") == 0
    here.world.expose()
    here.world.switch.broken = "flags.example does not answer"
    here.run(2)
    assert here.value("watcher_switch_errors_total", switch="yaml_flags") == 2


def test_a_kill_is_counted_from_waiting_to_done_and_a_restart_forgets_nothing(here: Observed) -> None:
    here.world.source = Source({"errors": measured(bad_from=3)})
    here = Observed(here.world)
    here.world.expose()
    here.run(3)
    here.world.switch.broken = "flags.example does not answer"
    while not here.world.said("kill_delayed"):
        assert here.world.minute < 15
        here.run(1)
    decided = here.world.journal.switched()[-1].created_at
    assert here.value("watcher_outbox_depth", kind="kill") == 1
    assert here.value("watcher_outbox_oldest_timestamp_seconds", kind="kill") == decided
    assert here.value("watcher_actions_total", kind="kill", state="done") == 0
    here.world.switch.broken = None
    here.run(3)
    assert here.world.switch.kills == ["shop"]
    for seen in (here, Observed(here.world)):
        assert seen.value("watcher_outbox_depth", kind="kill") == 0
        assert seen.value("watcher_outbox_oldest_timestamp_seconds", kind="kill") is None
        assert seen.value("watcher_actions_total", kind="kill", state="done") == 1
        assert seen.value("watcher_actions_total", kind="kill", state="failed") == 0


def test_an_alert_counts_once_for_everybody_who_is_told(here: Observed) -> None:
    here.world.expose()
    here.run(1)
    delivered = [each for each in here.world.alerter.delivered if each.kind == "headline"]
    # The release's own, and one for each channel of those who have to know.
    assert here.value("watcher_actions_total", kind="headline", state="done") == len(delivered) == 3


def test_two_daemons_in_a_process_count_apart(here: Observed) -> None:
    here.world.expose()
    here.run(1)
    other = Observed(here.world)
    assert other.value("watcher_look_duration_seconds_count") == 0
    assert other.value("watcher_build_info", version=__version__, python=platform.python_version()) == 1


def test_a_journal_that_cannot_be_read_leaves_the_metrics_of_the_process(here: Observed) -> None:
    here.run(1)
    assert here.value("watcher_journal_readable") == 1
    with closing(sqlite3.connect(here.world.folder / "watcher.db")) as connection:
        connection.execute("ALTER TABLE actions RENAME TO lost")
        connection.execute("ALTER TABLE memory RENAME TO forgotten")
    assert here.value("watcher_journal_readable") == 0
    assert here.value("watcher_outbox_depth", kind="kill") is None
    assert here.value("watcher_last_step_timestamp_seconds") == EXPOSED + MINUTE
    assert here.ready() == (503, "the journal cannot be read; the log says why")


def test_ready_is_who_completed_a_step_within_three_ticks(here: Observed) -> None:
    assert here.ready() == (
        503,
        "the first step of this process is not completed yet; if it stays so, the log says why",
    )
    here.run(1)
    assert here.ready() == (200, "ready")
    here.seconds += 45
    assert here.ready() == (200, "ready")
    here.seconds += 1
    assert here.ready() == (
        503,
        "the last completed step is 46 s old, and one is due every 15 s; the log says why",
    )
    assert here.client.get("/healthz").text == "ok"
    here.run(1)
    assert here.ready() == (200, "ready")


def test_promtool_finds_nothing_to_say_about_the_names(here: Observed) -> None:
    require(None if shutil.which("promtool") else "there is no promtool (Debian: apt install prometheus)")
    here.world.expose()
    here.run(1)
    text = here.client.get("/metrics").text
    found = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30)
    assert (found.returncode, found.stdout + found.stderr) == (0, "")

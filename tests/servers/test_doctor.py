"""`watcher doctor` on an installation of real parts: what is in order, and each fault with its remedy."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.alerts.slack_server import SlackServer
from tests.servers.prometheus_server import PrometheusServer
from watcher import assembly, interlocks
from watcher.cli import cli
from watcher.doctor import METRICS, Examination
from watcher.journal import Journal
from watcher.report.preflight import Line

pytestmark = pytest.mark.servers

YAML = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}", bearer_file: bearer}}
block: 15s
settle: 0s
slack: {{token_file: slack, channel: "#releases", base_url: "{slack}"}}
ping: {{url_file: ping}}
may_turn_off: [{{switch: yaml_flags, feature: checkout, environment: production}}]
services:
  shop:
    select: {{job: doctor}}
    rules: [rules.yaml]
    mode: armed
    releases:
      - strategy: flag
        notice: {{flags_file: flags.yaml, features: [checkout]}}
        kill: {{yaml_flags: flags.yaml}}
"""
PACK = """\
pack: shop
rules: [{name: errors, kind: ratio, bad: 'doctor_total{code="500"}', total: doctor_total, title: Requests that failed}]
"""


@dataclass
class Here:
    folder: Path
    now: float

    @property
    def config(self) -> Path:
        return self.folder / "watcher.yaml"

    def examined(self) -> Examination:
        return assembly.examine(str(self.config), self.now)

    def amiss(self) -> list[Line]:
        return [line for line in self.examined().lines if line.status != "pass"]

    def change(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))

    def one(self) -> Line:
        [line] = [line for line in self.amiss() if "no daemon runs" not in line.said]
        return line


@pytest.fixture
def here(tmp_path: Path, prometheus: PrometheusServer) -> Iterator[Here]:
    now = time.time()
    at = np.arange(now - 900.0, now + 1.0, 15.0)
    rows = [
        ({"__name__": "doctor_total", "job": "doctor", "code": code, "instance": "a"}, at, many * np.arange(at.size))
        for code, many in (("200", 100.0), ("500", 1.0))
    ]
    prometheus.remote_write(rows)
    with SlackServer("#releases") as slack:
        (tmp_path / "watcher.yaml").write_text(YAML.format(prometheus=prometheus.url, slack=slack.base_url))
        (tmp_path / "rules.yaml").write_text(PACK)
        (tmp_path / "flags.yaml").write_text("features:\n  checkout: {enabled: true, rollout_percentage: 50}\n")
        for name, text in (("bearer", "abc"), ("slack", slack.token), ("ping", "http://127.0.0.1:9/x")):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o600)
        with Journal.open(f"sqlite:///{tmp_path}/watcher.db"):
            pass
        yield Here(tmp_path, now)


def test_an_installation_in_order_lacks_nothing_but_its_daemon(here: Here) -> None:
    found = here.examined()
    assert not found.failed
    assert [line.said for line in found.missing] == ["no daemon runs on this journal"]
    said = "\n".join(line.said for line in found.lines)
    for part in (
        "1 rule; shop armed",
        "3 files can be read",
        "answers, and its clock agrees",
        "shop: every rule measured something lately",
        "can be read and written",
        "nothing holds it back",
        "shop/production/checkout is read: on",
        "takes messages",
    ):
        assert part in said
    with Journal.open(f"sqlite:///{here.folder}/watcher.db") as journal:
        assert (journal.actions(), journal.audit_trail()) == ([], [])


def test_a_running_daemon_is_named(here: Here) -> None:
    with Journal.open(f"sqlite:///{here.folder}/watcher.db") as journal, journal.hold():
        assert here.amiss() == []
        [line] = [line for line in here.examined().lines if "a daemon runs on it" in line.said]
    assert str(os.getpid()) in line.said


def test_a_secret_that_everybody_may_read_is_gone_or_is_empty(here: Here) -> None:
    (here.folder / "bearer").chmod(0o644)
    line = here.one()
    assert (line.status, line.do) == ("warn", f"chmod o-rwx {here.folder}/bearer")
    (here.folder / "bearer").chmod(0o600)
    (here.folder / "ping").write_text("")
    assert (here.one().status, here.one().said) == ("fail", f"ping.url_file: {here.folder}/ping is empty")
    (here.folder / "ping").unlink()
    assert "cannot be read: No such file" in here.one().said


def test_a_clock_that_differs_from_the_metrics_server_s(here: Here) -> None:
    here.now += 3600.0
    lines = [line for line in here.amiss() if line.check == METRICS]
    assert "the clock of this machine is 3600 s ahead of the metrics server's" in lines[0].said


def test_metrics_that_do_not_answer_or_measure_nothing(here: Here) -> None:
    here.change("select: {job: doctor}", "select: {job: docter}")
    line = here.one()
    assert (line.status, line.said) == (
        "fail",
        "shop: nothing measured in the last 10 minutes by Requests that failed",
    )
    here.config.write_text(
        here.config.read_text().replace('prometheus: "http://127.0.0.1:', 'prometheus: "http://127.0.0.2:')
    )
    assert here.one().do.startswith("mend it first")


def test_a_switch_that_cannot_be_read_or_may_not_be_turned(here: Here) -> None:
    here.change("feature: checkout, environment", "feature: other, environment")
    assert here.one().do == "add to may_turn_off: - {switch: yaml_flags, feature: checkout, environment: production}"
    (here.folder / "flags.yaml").write_text("features: {}\n")
    line = here.one()
    assert line.status == "fail"
    assert line.do == "then try: watcher flags status checkout"


def test_a_pause_a_slack_that_refuses_and_a_watcher_yaml_that_is_wrong(here: Here) -> None:
    with Journal.open(f"sqlite:///{here.folder}/watcher.db") as journal:
        interlocks.pause(journal, 3600.0, "a migration", "ana", here.now)
    assert "by ana: a migration" in here.one().said
    (here.folder / "slack").write_text("xoxb-wrong")
    assert "slack reaches nobody" in "\n".join(line.said for line in here.amiss())
    here.change("mode: armed", "mode: amred")
    assert [line.check for line in here.examined().lines] == ["watcher.yaml"]
    assert here.examined().failed


def test_a_journal_that_is_damaged_and_one_that_is_not_there_yet(here: Here) -> None:
    (here.folder / "watcher.db").unlink()
    assert here.one().do == "the daemon makes it: `watcher run`"
    assert not (here.folder / "watcher.db").exists()
    (here.folder / "watcher.db").write_bytes(b"no database" * 1000)
    assert here.one().status == "fail"


@pytest.mark.parametrize("form", ["table", "markdown", "json"])
def test_the_command_says_it_in_every_form_and_its_exit_code_whether_something_failed(here: Here, form: str) -> None:
    def run() -> tuple[int, str]:
        found = CliRunner().invoke(cli, ["doctor", "--config", str(here.config), "--format", form])
        return found.exit_code, found.stdout

    code, said = run()
    assert (code, "no daemon runs" in said) == (0, True)
    (here.folder / "flags.yaml").unlink()
    code, said = run()
    assert (code, "shop/production/checkout" in said) == (1, True)
    if form == "json":
        told = json.loads(said)
        assert (told["schema"], told["installation"], told["passed"]) == ("watcher/doctor/1", str(here.config), False)

"""`watcher doctor` on a real installation: what is well passes, and each fault is named with its remedy."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner

from tests.alerts.slack_server import SlackServer
from tests.planted import MARK, plant, signing_key
from tests.servers.installation import CONFIG, FLAGS, Daemon, write_configuration
from tests.servers.prometheus_server import PrometheusServer
from tests.servers.shop import free_port
from watcher import interlocks
from watcher.cli import cli
from watcher.doctor import examine
from watcher.journal import Journal
from watcher.report.preflight import INSTALLED, Checkup
from watcher.tokens import entry

pytestmark = pytest.mark.servers

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "doctor.schema.json").read_text(encoding="utf-8"))
AWAY = "http://127.0.0.1:9"
HERE = """\
ping: {{url_file: ping}}
http: {{listen: "127.0.0.1:{port}", tokens_file: http-token}}
"""
STEADY = CONFIG.replace("block: 2s", "block: 60s").replace("job: shop", "job: doctored").replace("warm_up: 5s", "")


@dataclass
class Here:
    """An installation whose daemon does not run yet."""

    folder: Path
    config: Path
    slack: SlackServer

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'watcher.db'}"

    def examined(self, now: float | None = None) -> Checkup:
        return examine(str(self.config), time.time() if now is None else now)

    def lines(self, check: str, now: float | None = None) -> list[tuple[str, str, str]]:
        """Return what a checkup says of one check: how it stands, what was found, what to do."""
        return [(each.status, each.said, each.do) for each in self.examined(now).lines if each.check == check]

    def rewrite(self, old: str, new: str) -> None:
        text = self.config.read_text()
        assert old in text
        self.config.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def measured(prometheus: PrometheusServer) -> PrometheusServer:
    """A server that has half an hour of requests and page loads of a job."""
    at = np.arange(time.time() - 1800, time.time(), 15.0)
    count = np.arange(len(at)) * 100.0
    of = {"job": "doctored", "instance": "shop-1", "feature": "cart"}
    requests = [({"__name__": "http_requests_total", "code": code, **of}, at, count) for code in ("200", "500")]
    loads = [({"__name__": "page_load_seconds_bucket", "le": le, **of}, at, count) for le in ("2.5", "+Inf")]
    loads.append(({"__name__": "page_load_seconds_count", **of}, at, count))
    prometheus.remote_write([*requests, *loads])
    return prometheus


@pytest.fixture
def here(tmp_path: Path, measured: PrometheusServer) -> Iterator[Here]:
    with SlackServer("#releases") as slack:
        config = write_configuration(tmp_path, measured.url, slack, STEADY + HERE, port=str(free_port()))
        (tmp_path / "http-token").write_text(entry("ci", ["releases"], f"{MARK}-for-whoever-may-tell"))
        plant(tmp_path / "ping", f"{measured.url}/-/healthy?{MARK}")
        for name in ("slack-token", "http-token", "ping"):
            (tmp_path / name).chmod(0o600)
        with Journal.open(f"sqlite:///{tmp_path / 'watcher.db'}"):
            pass
        yield Here(tmp_path, config, slack)


def as_json(here: Here) -> tuple[int, Any]:
    done = CliRunner().invoke(cli, ["doctor", "--config", str(here.config), "--format", "json"])
    found = json.loads(done.stdout)
    jsonschema.validate(found, SCHEMA)
    return done.exit_code, found


def test_an_installation_that_is_well_passes_every_check_and_is_left_as_it_was(here: Here) -> None:
    daemon = Daemon(here.config)
    daemon.start()
    try:
        told = here.slack.messages("#releases")
        code, found = as_json(here)
    finally:
        daemon.stop()
    assert [line for line in found["lines"] if line["status"] != "pass"] == []
    assert (code, found["passed"], {line["check"] for line in found["lines"]}) == (0, True, set(INSTALLED))
    [ready] = [line["said"] for line in found["lines"] if line["check"] == "daemon"]
    assert ready.startswith("one runs: pid ")
    assert ready.endswith("; it is ready")
    assert (here.folder / "feature-flags.yaml").read_text() == FLAGS
    assert here.slack.messages("#releases") == told
    with Journal.open(here.url) as journal:
        assert journal.recall("room") is None
        assert journal.actions() == []
    assert SCHEMA["definitions"]["line"]["properties"]["check"]["enum"] == list(INSTALLED)


def test_a_secret_that_others_may_read_or_that_is_gone_is_named_with_what_to_type(here: Here) -> None:
    token = here.folder / "slack-token"
    token.chmod(0o644)
    [(status, said, fix)] = here.lines("secrets")
    assert (status, said, fix) == ("warn", f"{token} may be read by others (mode 644)", f"chmod go= {token}")
    os.remove(here.folder / "http-token")
    assert (
        "fail",
        f"{here.folder / 'http-token'}: cannot be read (No such file or directory): `watcher token new NAME` makes it",
    ) in [line[:2] for line in here.lines("secrets")]
    token.write_text("")
    assert here.lines("people")[0][0] == "fail"
    assert "xoxb" not in str(here.examined())


def test_the_secrets_of_kill_switches_are_looked_at_too(here: Here) -> None:
    hook = here.folder / "hook"
    plant(hook, signing_key("hook"))
    hook.chmod(0o604)
    here.rewrite("{yaml_flags: feature-flags.yaml}", f"{{webhook: {{url: {AWAY}, read: {AWAY}, secret_file: hook}}}}")
    here.rewrite("switch: yaml_flags", "switch: webhook")
    assert here.lines("configuration")[0][0] == "pass", here.lines("configuration")
    assert [fix for status, _, fix in here.lines("secrets") if status == "warn"] == [f"chmod o= {hook}"]


def test_a_metrics_server_that_is_gone_fails_and_hides_nothing_else(here: Here, measured: PrometheusServer) -> None:
    here.rewrite(f'metrics: {{prometheus: "{measured.url}"}}', f'metrics: {{prometheus: "{AWAY}"}}')
    [(status, said, fix)] = here.lines("server")
    assert status == "fail"
    assert f"{AWAY} did not answer" in said
    assert "`metrics` in watcher.yaml" in fix
    assert here.lines("data") == []
    assert here.lines("switches")[0][0] == "pass"


def test_a_clock_that_is_wrong_is_told_with_which_way(here: Here) -> None:
    [(status, said, fix)] = here.lines("server", time.time() + 3600)
    assert status == "fail"
    assert " s ahead of the metrics server's" in said
    assert fix.startswith("set the one that is wrong (does NTP run on both?)")


def test_a_rule_without_data_is_named_with_what_was_asked(here: Here) -> None:
    here.rewrite("job: doctored", "job: elsewhere")
    found = here.lines("data")
    assert [line[0] for line in found] == ["fail", "fail"]
    assert "shop: Requests that failed has no data in the last hour: nothing matches http_requests_total" in found[0][1]
    assert 'job="elsewhere"' in found[0][1]


def test_a_switch_that_cannot_be_read_is_named(here: Here) -> None:
    os.remove(here.folder / "feature-flags.yaml")
    [(status, said, fix)] = here.lines("switches")
    assert status == "fail"
    assert "shop/production/new-checkout by yaml_flags: " in said
    assert str(here.folder / "feature-flags.yaml") in said
    assert fix.endswith("watcher flags kill new-checkout --dry-run")


def test_a_token_that_slack_refuses_reaches_nobody(here: Here) -> None:
    plant(here.folder / "slack-token", f"xoxb-{MARK}-revoked\n")
    [(status, said, _)] = here.lines("people")
    assert (status, "invalid_auth" in said, "xoxb" in said) == ("fail", True, False)


def test_a_journal_that_is_not_there_is_not_made_and_one_that_cannot_be_written_fails(here: Here) -> None:
    here.rewrite("sqlite:///watcher.db", "sqlite:///other.db")
    [(status, said, fix)] = here.lines("journal")
    assert (status, fix) == ("warn", "start `watcher run`, which makes it")
    assert not (here.folder / "other.db").exists()
    read_only = f"sqlite:///file:{here.folder / 'watcher.db'}?mode=ro&uri=true"
    here.rewrite("sqlite:///other.db", f'"{read_only}"')
    [(status, said, _)] = here.lines("journal")
    assert status == "fail"
    assert "attempt to write a readonly database; give this user the right to write the file" in said


def test_a_journal_of_an_older_watcher_is_not_migrated(here: Here) -> None:
    def schema(to: str | None = None) -> str:
        with closing(sqlite3.connect(here.folder / "watcher.db")) as file, file:
            if to is not None:
                file.execute("UPDATE meta SET value = ? WHERE key = 'schema'", (to,))
            return str(file.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()[0])

    schema("1")
    [(status, said, _)] = here.lines("journal")
    assert status == "fail"
    assert "written by an older watcher (schema 1, " in said
    assert "keep a copy of the journal, and start this version" in said
    assert schema() == "1"


def test_no_daemon_is_a_warning_and_another_one_on_the_journal_is_a_failure(here: Here) -> None:
    assert here.lines("daemon")[0][0] == "warn"
    assert not (here.folder / "watcher.db.lock").exists()
    with Journal.open(here.url) as journal, journal.hold() as hold:
        [(status, said, fix)] = here.lines("daemon")
        assert hold.held()
    assert status == "fail"
    assert f"the journal is held (pid {os.getpid()} on " in said
    assert "/readyz: no answer" in said
    assert "give this one a `journal` of its own" in fix
    assert here.lines("daemon")[0][0] == "warn"


def test_a_pause_is_told_with_how_to_end_it(here: Here) -> None:
    with Journal.open(here.url) as journal:
        interlocks.pause(journal, 3600, "a migration", "ana", time.time())
    [(status, said, fix)] = here.lines("acting")
    assert status == "warn"
    assert said.endswith("by ana: a migration")
    assert "`watcher resume`" in fix


def test_an_armed_service_that_may_not_turn_off_its_flag_or_that_nobody_would_miss_is_warned_of(here: Here) -> None:
    here.rewrite("features: [new-checkout]", "features: [new-checkout, suggestions]")
    text = here.config.read_text()
    here.config.write_text("".join(line for line in text.splitlines(True) if not line.startswith("ping:")))
    target = "{switch: yaml_flags, feature: suggestions, environment: production}"
    assert (
        "warn",
        "shop/production/suggestions is of an armed service, and watcher may not turn it off",
        f"if it shall, add to may_turn_off: - {target}",
    ) in here.lines("acting")
    [(status, said, fix)] = here.lines("ping")
    assert (status, said) == ("warn", "shop is armed, and nobody would notice that watcher is gone")
    assert "url_file" in fix


def test_a_configuration_that_is_wrong_fails_with_its_place_and_exit_code_1(here: Here) -> None:
    here.rewrite("strategy: flag", "strategie: flag")
    code, found = as_json(here)
    [line] = found["lines"]
    assert (code, line["check"], line["status"]) == (1, "configuration", "fail")
    assert "strategie" in line["said"]

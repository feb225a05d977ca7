"""The whole of watcher against real servers: users exposed, a release gone bad, a flag turned off, people told."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.alerts.slack_server import Fault, SlackServer
from tests.servers import flagged, installation, prometheus_server
from tests.servers.conftest import Say, require
from tests.servers.flagged import Filed
from tests.servers.installation import Daemon, FileWrites, Installation, Served, says, write_configuration
from tests.servers.prometheus_server import PrometheusServer
from watcher.act import Outbox
from watcher.assembly import prometheus as source_of
from watcher.config import load_installation
from watcher.daemon import Daemon as Steps
from watcher.journal import Journal
from watcher.model import Kill, Outcome, labels
from watcher.switches import switch

pytestmark = pytest.mark.servers


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Served]:
    require(prometheus_server.missing())
    with installation.running(tmp_path) as running:
        yield running


@pytest.fixture
def idle(tmp_path: Path, prometheus: PrometheusServer) -> Iterator[Installation]:
    """An installation whose metrics are empty: for what has nothing to do with them."""
    with SlackServer("#releases") as slack:
        config = write_configuration(tmp_path, prometheus.url, slack)
        daemon = Daemon(config)
        try:
            yield Installation(tmp_path, config, slack, daemon)
        finally:
            daemon.stop()


def shows(here: Installation, state: str) -> bool:
    """Tell whether the message of the release stands at a state now."""
    return says(here.parents()[0].shown, state)


@pytest.fixture
def filed(tmp_path: Path) -> Iterator[Filed]:
    require(prometheus_server.missing())
    with flagged.in_a_file(tmp_path) as running:
        yield running


@pytest.mark.xdist_group("installation-1")
def test_a_good_release_is_proven_healthy_and_one_that_goes_bad_is_turned_off_told_and_seen_to_recover(
    filed: Filed, say: Say
) -> None:
    here = filed
    with FileWrites(here.flags) as flag:
        here.begin()
        here.eventually(lambda: shows(here, "healthy"), "that it is healthy was told")
        assert here.alarms() == []
        # Users of the features that were not released are all in one arm, which alarms nobody.
        assert here.last_look().verdict.alarms == ()
        assert len(flag.writes) == 1  # by who opened it

        withdrawal = here.be_withdrawn()
        say(f"healthy, then errors 4 % -> 16 %: {withdrawal}")
        assert withdrawal.bad < withdrawal.decided < withdrawal.off < withdrawal.last + 1
        new, old = here.served("on"), here.served("off")
        here.eventually(lambda: here.served("off") > old + 500, "all users get the old variant")
        assert here.served("on") == new
        assert here.flags.read_bytes() == here.turned_off
        here.eventually(lambda: shows(here, "recovered"), "the recovery was told")
        assert len(flag.writes) == 2

    [message] = here.parents()
    assert any(says(text, "killed") for text in message.before)

    def details() -> list[str]:
        return [reply.shown for reply in here.slack.thread(message)]

    here.eventually(lambda: any("back within the margin" in text for text in details()), "all of it was told")
    assert sum("Turning new-checkout off" in text for text in details()) == 1
    assert sum("back within the margin" in text for text in details()) == 1
    [kill] = here.kills()
    assert (kill.state, kill.attempts) == ("done", 1)
    assert dict(kill.receipt or {}) == {
        "read_back": "off",
        "before": "enabled: true, rollout_percentage: 50",
        "after": "enabled: false, rollout_percentage: 50",
    }
    with here.journal() as journal:
        [release] = journal.watches()
        assert (release.status, release.noticed_by) == ("recovered", "flags file")


@pytest.mark.xdist_group("installation-2")
def test_metrics_that_stop_are_no_data_and_an_alert_and_never_a_kill(here: Served) -> None:
    here.daemon.start()
    here.gather_history()
    here.open_release()
    here.eventually(lambda: here.is_watched() and here.last_look().blocks >= 5, "some blocks were counted")
    with FileWrites(here.flags) as flag:
        here.metrics.stop()
        here.eventually(lambda: shows(here, "no_data"), "people were told that there is no data")
        time.sleep(6)
        [message] = here.parents()
        assert says(message.shown, "no_data")
        assert "Metrics cannot be read since" in message.shown
        blind = here.last_look().blocks
        assert here.last_look().verdict.outcome is Outcome.NO_DATA

        here.metrics.start()
        here.eventually(lambda: not shows(here, "no_data"), "people were told that there is data again")
        here.eventually(lambda: here.last_look().blocks >= blind + 5, "blocks were counted again")
        assert here.last_look().verdict.outcome in (Outcome.INCONCLUSIVE, Outcome.HEALTHY)
        assert flag.writes == []
    assert here.kills() == []
    assert here.alarms(but="no_data") == []
    assert len(here.parents()) == 1


@pytest.mark.xdist_group("installation-3")
def test_a_daemon_killed_at_any_moment_turns_the_release_off_once_and_tells_it_in_one_message(
    here: Served, say: Say
) -> None:
    draw, killed = random.Random(20), 0
    here.daemon.start()
    here.gather_history()
    here.open_release()
    with FileWrites(here.flags, here.daemon.kill) as flag:
        here.eventually(here.is_watched, "the release was noticed")
        for longest in (8.0, 8.0, 5.0):
            time.sleep(draw.uniform(0.1, longest))
            here.daemon.kill()
            killed += 1
            assert here.alarms() == []
            here.daemon.start()
            if killed == 2:
                here.go_bad()
        # The daemon dies within milliseconds of turning the flag off, before it can tell anybody.
        here.eventually(lambda: flag.writes, "the flag was turned off")
        killed += 1
        here.daemon.start()
        here.eventually(lambda: shows(here, "recovered"), "the recovery was told")
        assert [content for _, content in flag.writes] == [here.turned_off]

    [kill] = here.kills()
    assert kill.state == "done"
    with here.journal() as journal:
        assert [line.what for line in journal.audit_trail()].count("kill done") == 1
        [release] = journal.watches()
        assert release.status == "recovered"
    [message] = here.parents()
    details = Counter(reply.shown for reply in here.slack.thread(message))
    twice = sum(details.values()) - len(details)
    assert sum("Turning new-checkout off" in text for text in details) == 1
    assert twice <= killed
    say(
        f"killed with SIGKILL {killed} times: flag written once, one kill done ({kill.attempts} attempts, "
        f"{kill.receipt}), one message, {twice} details twice"
    )


@pytest.mark.xdist_group("idle")
@pytest.mark.parametrize(("arrived", "messages"), [(True, 2), (False, 1)])
def test_a_daemon_killed_while_posting_posts_at_most_one_message_more_and_loses_none(
    idle: Installation, arrived: bool, messages: int
) -> None:
    idle.daemon.start()
    # Slack takes the message (or not), and the answer never comes.
    idle.slack.fail(Fault(kept=arrived, hang=True))
    idle.open_release()
    idle.eventually(lambda: "chat.postMessage" in idle.slack.requests, "the daemon is posting")
    idle.daemon.kill()
    assert len(idle.parents()) == messages - 1
    idle.daemon.start()
    idle.eventually(idle.is_watched, "the message was recorded")
    assert len(idle.parents()) == messages
    with idle.journal() as journal:
        assert len(journal.watches()) == 1


@pytest.mark.xdist_group("installation-1")
def test_a_latency_that_no_bucket_can_decide_is_refused_when_the_daemon_starts(here: Served) -> None:
    scraped = "count(page_load_seconds_bucket offset 5s > 0)"
    here.eventually(lambda: here.metrics.ask(scraped), "the shops' latencies were scraped")
    rules = here.directory / "rules.yaml"
    rules.write_text(rules.read_text().replace("objective: 2.5s", "objective: 3.3s"))
    with pytest.raises(AssertionError, match="choose one of these as `objective`"):
        here.daemon.start()


@pytest.mark.xdist_group("idle")
def test_a_raised_percentage_is_a_stage_of_the_running_release(idle: Installation) -> None:
    idle.daemon.start()
    idle.open_release()
    idle.eventually(idle.is_watched, "the release was noticed")
    idle.write_flags(idle.flags.read_bytes().replace(b"rollout_percentage: 50", b"rollout_percentage: 80"))

    def shares() -> list[float | None]:
        with idle.journal() as journal:
            [watched] = journal.watches()
        return [stage.share for stage in watched.watch.release.stages]

    idle.eventually(lambda: shares() == [0.5, 0.8], "the stage was noticed")
    assert len(idle.parents()) == 1


@pytest.mark.xdist_group("idle")
def test_a_release_told_on_the_command_line_is_taken_up_by_the_running_daemon(idle: Installation) -> None:
    told = idle.config.read_text()
    notice = next(line for line in told.splitlines() if "notice:" in line)
    idle.config.write_text(told.replace(notice, "        notice: {http: true}"))
    idle.daemon.start()

    def start(version: str) -> str:
        command = [sys.executable, "-m", "watcher", "release", "start", "shop", "new-checkout", "--version", version]
        command += ["--share", "5%", "--config", str(idle.config)]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout.strip()

    assert start("1.2.0") == "shop/production/new-checkout@1.2.0"
    idle.eventually(idle.is_watched, "the daemon took the release up")
    [message] = idle.parents()
    assert "new-checkout 1.2.0 on shop/production" in message.shown
    assert says(message.shown, "watching")
    assert start("1.2.0") == "shop/production/new-checkout@1.2.0"
    with idle.journal() as journal:
        [watched] = journal.watches()
        assert watched.noticed_by.startswith("release start by ")
        assert watched.watch.release.stages[0].share == 0.05
        assert journal.looks(watched.watch.release.id)


def by_hand(here: Installation, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `watcher flags kill new-checkout ...` beside the daemon."""
    command = [sys.executable, "-m", "watcher", "flags", "kill", "new-checkout", "--config", str(here.config), *more]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=240)


@pytest.mark.xdist_group("idle")
def test_a_person_turns_a_release_off_beside_the_running_daemon_which_then_ends_its_watch(idle: Installation) -> None:
    idle.daemon.start()
    idle.open_release()
    idle.eventually(idle.is_watched, "the release was noticed")
    with FileWrites(idle.flags) as flag:
        drill = by_hand(idle, "--dry-run")
        assert (drill.returncode, idle.flags.read_bytes()) == (0, idle.opened)
        killed = by_hand(idle, "--confirm", "new-checkout", "--reason", "payments time out")
        assert (killed.returncode, killed.stderr) == (0, "")
        assert killed.stdout.startswith("new-checkout is off (was: enabled: true, rollout_percentage: 50)\n")

        def ended() -> bool:
            with idle.journal() as journal:
                return [each.status for each in journal.watches()] == ["ended"]

        idle.eventually(ended, "the daemon noticed that the exposure ended")
    assert [content for _, content in flag.writes] == [idle.turned_off]
    [kill] = idle.kills()
    assert (kill.state, kill.attempts) == ("done", 1)
    # Nobody visits: on a slow machine that is told, too.
    assert idle.alarms(but="no_data") == []


@pytest.mark.xdist_group("idle")
def test_the_daemon_finishes_a_kill_by_hand_that_failed_for_the_moment_even_while_kills_are_paused(
    idle: Installation,
) -> None:
    with idle.journal() as journal:
        journal.remember("pause", {"until": time.time() + 600, "reason": "a migration"})
    idle.daemon.start()
    idle.open_release()
    idle.eventually(idle.is_watched, "the release was noticed")
    away = idle.flags.rename(idle.flags.with_suffix(".away"))
    failed = by_hand(idle, "--confirm", "new-checkout")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert "the flags file cannot be read" in failed.stderr
    assert "tries again for 10 minutes" in failed.stderr
    away.rename(idle.flags)
    idle.eventually(lambda: idle.flags.read_bytes() == idle.turned_off, "the daemon turned the flag off")
    idle.eventually(lambda: [kill.state for kill in idle.kills()] == ["done"], "the kill was recorded")
    # Nobody visits: on a slow machine that is told, too.
    assert idle.alarms(but="no_data") == []


VERSIONS = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
services:
  shop:
    select: {{job: by-version}}
    rules: [rules.yaml]
    releases:
      - strategy: canary
        notice: {{label: version}}
        arms: {{baseline: {{version: "{{previous}}"}}, treatment: {{version: "{{version}}"}}}}
"""


@pytest.mark.xdist_group("idle")
def test_a_version_that_carries_traffic_for_the_first_time_starts_a_watch(
    tmp_path: Path, prometheus: PrometheusServer
) -> None:
    begin = time.time() // 3600 * 3600 - 7200.0

    def serve(version: str, first: float, last: float, per_scrape: float) -> None:
        at = np.arange(first + 7.0, last + 1.0, 15.0)
        name = {"__name__": "http_requests_total", "job": "by-version", "instance": f"{version}:1", "version": version}
        prometheus.remote_write([(name, at, per_scrape * np.arange(at.size))])

    serve("1.1", begin, begin + 1800, per_scrape=30)
    serve("1.2", begin + 600, begin + 1200, per_scrape=0)  # deployed at 10 min: there, and nobody meets it
    serve("1.2", begin + 1200, begin + 1800, per_scrape=3)  # released at 20 min
    with SlackServer() as slack:
        config = write_configuration(tmp_path, prometheus.url, slack, VERSIONS)
    found = load_installation(config)
    with Journal.open(found.journal) as journal:
        daemon = Steps(found, journal, source_of(found.metrics), Outbox(journal, switch, {}))
        for minute in range(5, 20):
            daemon.step(begin + 60 * minute + 46)
            assert journal.watches() == []
        for minute in range(20, 25):
            daemon.step(begin + 60 * minute + 46)
        [watched] = journal.watches()
        watch = watched.watch
        assert (watch.release.id, watch.release.previous) == ("shop/production/shop@1.2", "1.1")
        assert (watch.baseline, watch.treatment) == (labels({"version": "1.1"}), labels({"version": "1.2"}))
        assert watch.release.exposed_at == begin + 21 * 60  # the end of the first block with traffic
        assert watched.noticed_by == "label version"
        assert not [entry for entry in journal.actions() if isinstance(entry.action, Kill)]

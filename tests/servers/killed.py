"""A daemon that is killed with SIGKILL again and again, beside a twin that nobody disturbs, on the same measurements.

    with killed.running(tmp_path, seconds=60) as pair:
        lives = pair.live(random.Random(7), kills=40)
        pair.settle()
        assert pair.victim.verdicts() == pair.twin.verdicts()

What is measured is written into a real Prometheus before anything starts, the future included, so that both see the
same whenever they look. Every few seconds a release begins on a service of its own; every other one goes bad.
"""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from ruamel.yaml import YAML

from tests.alerts.slack_server import Message, SlackServer
from tests.planted import plant
from tests.servers import prometheus_server
from tests.servers.prometheus_server import Series
from tests.servers.shop import free_port
from watcher import assembly, interlocks
from watcher.alerts.message import first_words
from watcher.journal import Journal, Pending
from watcher.model import Alert, Kill, Outcome

PAST, LATER = 60, 3600
"""Seconds measured before the first release, and at most after it."""
BAD_AFTER = 3
"""Seconds from exposure until a bad release is bad."""
MOST = 20
"""Releases at most: each is looked at every second from its beginning to the end."""

RULES = """
pack: shop
unit: instance
rules:
  - {name: errors, kind: ratio, bad: 'http_requests_total{code="500"}', total: http_requests_total, critical: true}
"""
HEAD = """
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
block: 1s
settle: 0s
slack: {{token_file: slack-token, channel: "#releases", base_url: "{slack}"}}
http: {{listen: "127.0.0.1:{port}", tokens_file: tokens}}
may_turn_off:
"""
TARGET = "  - {{switch: yaml_flags, feature: {name}, environment: production}}\n"
SERVICE = """
  {name}:
    select: {{feature: {name}}}
    rules: [rules.yaml]
    mode: armed
    require_backtest: false
    watch_for: 2h
    warm_up: 0s
    releases:
      - strategy: flag
        notice: {{http: true}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        kill: {{yaml_flags: feature-flags.yaml}}
        history: 40s
"""


def feature(nth: int) -> str:
    return f"feature-{nth}"


def measured(began: float, every: float, releases: int) -> Iterator[Series]:
    """Yield what both arms of every release count, a sample a second; the odd ones go bad."""
    times = np.arange(began - PAST, began + LATER)
    for nth in range(releases):
        draw, exposed = np.random.default_rng(nth), began + every * nth
        for instance in ("a", "b"):
            for variant in ("off", "on"):
                total = draw.poisson(1000, times.size) * ((times > exposed) | (variant == "off"))
                bad = variant == "on" and nth % 2 == 1
                rate = np.where(bad & (times > exposed + BAD_AFTER), 0.1, 0.01)
                failed = draw.binomial(total, rate)
                labels = {"feature": feature(nth), "variant": variant, "instance": instance}
                for code, counted in (("200", total - failed), ("500", failed)):
                    yield {"__name__": "http_requests_total", "code": code, **labels}, times, np.cumsum(counted)


@dataclass
class Daemon:
    """`watcher run`, its journal, its flags file and its Slack."""

    folder: Path
    slack: SlackServer
    port: int = field(default_factory=free_port)
    ready: list[float] = field(default_factory=list)
    """Seconds from each start to the first completed step."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def config(self) -> str:
        return str(self.folder / "watcher.yaml")

    def write(self, prometheus: str, releases: int) -> None:
        names = [feature(nth) for nth in range(releases)]
        head = HEAD.format(prometheus=prometheus, slack=self.slack.base_url, port=self.port)
        targets = "".join(TARGET.format(name=name) for name in names)
        services = "".join(SERVICE.format(name=name) for name in names)
        plant(self.folder / "slack-token", self.slack.token)
        (self.folder / "tokens").write_text("# nobody asks over HTTP\n")
        (self.folder / "rules.yaml").write_text(RULES)
        flags = "".join(f"  {name}: {{enabled: true, rollout_percentage: 50}}\n" for name in names)
        (self.folder / "feature-flags.yaml").write_text(f"features:\n{flags}")
        (self.folder / "watcher.yaml").write_text(f"{head}{targets}services:{services}")

    def start(self) -> None:
        with (self.folder / "daemon.log").open("ab") as log:
            command = [sys.executable, "-m", "watcher", "run", "--config", self.config]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def until_ready(self) -> float:
        """Start, and return how long it took until the first step was completed."""
        began = time.monotonic()
        self.start()
        while not self.is_ready():
            assert time.monotonic() < began + 60, (self.folder / "daemon.log").read_text()[-3000:]
            time.sleep(0.02)
        return time.monotonic() - began

    def live(self, seconds: float) -> None:
        """Start, and die after so many seconds; how soon the first step was completed is noted where it was."""
        began, ready = time.monotonic(), False
        self.start()
        while time.monotonic() < began + seconds:
            if not ready and self.is_ready():
                ready = True
                self.ready.append(time.monotonic() - began)
            time.sleep(0.02)
        self.end(signal.SIGKILL)

    def is_ready(self) -> bool:
        """Ask `GET /readyz`, with as little work as can be: what is measured shares the processors with this."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is not None:
            assert process.poll() is None, f"it ended by itself:\n{(self.folder / 'daemon.log').read_text()[-3000:]}"
            os.kill(process.pid, how)
            process.wait(30)

    def journal(self) -> Journal:
        return Journal.open(f"sqlite:///{self.folder / 'watcher.db'}", check=False)

    def release(self, nth: int, exposed: float) -> None:
        """Tell it of a release, and open the latch where that is closed: people go on working."""
        given = {"version": "1", "exposed_at": datetime.fromtimestamp(exposed, UTC).isoformat(), "share": None}
        given |= {"previous": None, "not_reversible": False, "strategy": None}
        assembly.start_release(self.config, feature(nth), feature(nth), now=exposed, by="ana", **given)
        with self.journal() as journal:
            interlocks.open_latch(journal, "known", "ana", time.time())

    def verdicts(self) -> dict[str, list[Outcome]]:
        """Return how the outcome of every release changed."""
        with self.journal() as journal:
            found = {}
            for watched in journal.watches():
                outcomes = [line.outcome for line in journal.looks(watched.watch.release.id)]
                found[watched.watch.release.feature] = [
                    outcome for nth, outcome in enumerate(outcomes) if nth == 0 or outcome is not outcomes[nth - 1]
                ]
            return found

    def decided(self) -> dict[str, float | None]:
        """Return the end of the block at which each release was decided."""
        with self.journal() as journal:
            looks = {each.watch.release.feature: journal.last_look(each.watch.release.id) for each in journal.watches()}
        return {name: look.verdict.streams[0].decided_at for name, look in looks.items() if look is not None}

    def kills(self) -> list[Pending]:
        with self.journal() as journal:
            return [entry for entry in journal.switched() if isinstance(entry.action, Kill)]

    def turned_off(self) -> set[str]:
        flags = YAML(typ="safe").load((self.folder / "feature-flags.yaml").read_text())["features"]
        return {name for name, flag in flags.items() if not flag["enabled"]}

    def is_whole(self) -> bool:
        with sqlite3.connect(self.folder / "watcher.db") as connection:
            return connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    def told(self) -> Told:
        """Compare what people read with what was meant for them."""
        with self.journal() as journal:
            alerts = [entry for entry in journal.actions() if isinstance(entry.action, Alert)]
        parents = [message for message in self.slack.messages("#releases") if message.thread_ts is None]
        replies = [reply for parent in parents for reply in self.slack.thread(parent)]
        return told(alerts, parents, replies)


@dataclass(frozen=True)
class Told:
    """`lost` was meant for people and never read, `twice` counts messages that say what was said already."""

    meant: int
    lost: list[str]
    twice: int


def told(alerts: Sequence[Pending], parents: Sequence[Message], replies: Sequence[Message]) -> Told:
    """Match titles: of headlines with what any message ever began with, of details with what replies say."""
    shown = {text.partition("\n")[0] for each in parents for text in (*each.before, each.shown)}
    addressed = [entry for entry in alerts if entry.alerter is not None]
    lost = [entry.key for entry in alerts if entry.state not in ("done", "superseded")]
    left = Counter[str]()
    for entry in addressed:
        assert isinstance(entry.action, Alert)
        if entry.kind != "headline":
            left[entry.action.title] += 1
        elif entry.state == "done" and first_words(entry.action) not in shown:
            lost.append(entry.key)
    twice, folded = len(parents) - len({entry.release for entry in addressed}), 0
    for reply in replies:
        # What waited is told in one message, in which a state may come back, and what has no room is counted.
        said = {title: reply.shown.count(title) for title in left}
        twice += any(said[title] > left[title] for title in left)
        left.update({title: -min(said[title], left[title]) for title in left})
        folded += sum(map(int, re.findall(r"And (\d+) more before these", reply.shown)))
    return Told(len(addressed), [*lost, *list(left.elements())[folded:]], twice)


class Effects(threading.Thread):
    """Counts, a few milliseconds late at most, how often each flag in a file was turned off."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self._ended = path, threading.Event()
        self.turned_off: Counter[str] = Counter()

    def __enter__(self) -> Effects:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        on, stamp = self._on(), None
        while not self._ended.wait(0.003):
            found = self._path.stat()
            if (found.st_mtime_ns, found.st_ino) != stamp:
                stamp, now = (found.st_mtime_ns, found.st_ino), self._on()
                self.turned_off.update(on - now)
                on = now

    def _on(self) -> set[str]:
        return set(re.findall(r"(feature-\d+): {enabled: true", self._path.read_text()))


@dataclass
class Pair:
    """The daemon that is killed, and its twin."""

    victim: Daemon
    twin: Daemon
    effects: Effects
    """Of the victim."""
    began: float
    every: float
    """Seconds between two releases."""
    releases: int
    _told: int = 0
    kills: int = 0

    def live(self, draw: random.Random, kills: int) -> None:
        """Kill the victim so often, about half the times before its first step, and let releases begin meanwhile."""
        # Once a release runs, nothing is learnt of weeks that there never were.
        self._begin_releases(at_least=1)
        self.twin.until_ready()
        longest = 2 * self.victim.until_ready()
        self.victim.end(signal.SIGKILL)
        while self.kills < kills:
            self._begin_releases()
            self.victim.live(draw.uniform(0.05, longest))
            self.kills += 1

    def _begin_releases(self, at_least: int = 0) -> None:
        while self._told < at_least or (
            self._told < self.releases and time.time() >= self.began + self.every * self._told + 1
        ):
            for each in (self.victim, self.twin):
                each.release(self._told, self.began + self.every * self._told)
            self._told += 1

    def settle(self) -> None:
        """Let the victim live until it has said and done everything."""
        self.victim.start()
        last = self.began + self.every * self.releases + 15
        deadline = time.monotonic() + 240
        while time.time() < last or not all(self._is_done(each) for each in (self.victim, self.twin)):
            assert time.monotonic() < deadline, [each.verdicts() for each in (self.victim, self.twin)]
            self._begin_releases()
            for each in (self.victim, self.twin):
                with each.journal() as journal:
                    interlocks.open_latch(journal, "known", "ana", time.time())
            time.sleep(0.5)
        for each in (self.victim, self.twin):
            each.end()

    def hold(self) -> None:
        """Hold what was promised of a process that may die at any moment."""
        told, undisturbed = self.victim.told(), self.twin.told()
        assert (told.lost, undisturbed) == ([], Told(undisturbed.meant, [], 0)), (told, undisturbed)
        assert told.twice <= self.kills
        for each in (self.victim, self.twin):
            assert each.is_whole()
            assert all(kill.state == "done" for kill in each.kills())
            assert each.turned_off() == {kill.action.feature for kill in each.kills()}
        assert self.effects.turned_off == {feature(nth): 1 for nth in range(1, self.releases, 2)}
        assert self.victim.decided() == self.twin.decided()
        verdicts, straight = self.victim.verdicts(), self.twin.verdicts()
        assert verdicts.keys() == straight.keys()
        for name, outcomes in straight.items():
            # What was reached while nobody looked is not said, and nothing else is.
            assert verdicts[name][-1] is outcomes[-1]
            assert [outcome for outcome in outcomes if outcome in verdicts[name]] == verdicts[name]

    def _is_done(self, daemon: Daemon) -> bool:
        with daemon.journal() as journal:
            decided = [Outcome.REGRESSED if nth % 2 else Outcome.HEALTHY for nth in range(self.releases)]
            looks = [journal.last_look(each.watch.release.id) for each in journal.watches()]
            outcomes = [None if look is None else look.verdict.outcome for look in looks]
            killed = {kill.action.feature for kill in daemon.kills() if not isinstance(kill.action, Alert)}
            bad = {feature(nth) for nth in range(1, self.releases, 2)}
            return not journal.unfinished() and outcomes == decided and killed == bad


@contextmanager
def running(folder: Path, seconds: float) -> Iterator[Pair]:
    """Start the metrics server and both Slacks; what is measured and released fills so many seconds."""
    releases, began = min(MOST, max(2, int(seconds / 5) - 2)), float(np.ceil(time.time())) + 4
    every = seconds // (releases + 2)
    with ExitStack() as stack:
        server = stack.enter_context(prometheus_server.running(folder / "prometheus"))
        server.remote_write(list(measured(began, every, releases)))
        both = []
        for name in ("victim", "twin"):
            (folder / name).mkdir()
            slack = stack.enter_context(SlackServer("#releases"))
            both.append(Daemon(folder / name, slack))
            both[-1].write(server.url, releases)
            stack.callback(put_down, both[-1])
        effects = stack.enter_context(Effects(folder / "victim" / "feature-flags.yaml"))
        yield Pair(*both, effects, began, every, releases)


def put_down(daemon: Daemon) -> None:
    if daemon.process is not None and daemon.process.poll() is None:
        os.kill(daemon.process.pid, signal.SIGKILL)
        daemon.process.wait(30)

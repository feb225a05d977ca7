"""A whole installation on this machine: two shops with visitors, a Prometheus, a flags file, a Slack, and the daemon.

    with installation.running(tmp_path) as here:
        here.daemon.start()
        here.open_release()
        here.go_bad()
        here.eventually(here.kills, "it was killed")

Everything is a process of its own (but the stand-in for Slack), speaks HTTP on 127.0.0.1, and is stopped by its id.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from tests.alerts.slack_server import Message, SlackServer
from tests.planted import plant
from tests.servers import prometheus_server
from tests.servers.load import Load
from tests.servers.prometheus_server import PrometheusServer, Series
from tests.servers.shop import Shop, free_port, scrape, stop_process
from watcher.journal import Journal, Pending, Watched
from watcher.model import Kill, Look
from watcher.telling import TITLES

HISTORY = 60
"""Seconds of traffic before the release: 30 blocks, of which the dispersion needs 20 with events."""
RATE = 200.0
"""Requests per second, both shops together; eight of ten go to the feature that is released."""
VISITS = {"search": 1.0, "cart": 1.0, "new-checkout": 8.0}

FLAGS = """\
# Who sees what. People open features here; watcher only ever turns them off.
features:
  suggestions:   {enabled: true, rollout_percentage: 100}
  new-checkout:
    enabled: false   # half of the users, once it is open
    description: "New checkout flow with one-page payment"
    rollout_percentage: 50
"""
CLOSED, OPEN = "    enabled: false   #", "    enabled: true   #"

RULES = """\
pack: shop
by: [feature]
unit: instance
rules:
  - name: request-errors
    title: Requests that failed
    kind: ratio
    bad: http_requests_total{code=~"5.."}
    total: http_requests_total
    margin: 50%
    critical: true
  - {name: page-load, title: Page load time, kind: latency, histogram: page_load_seconds, objective: 2.5s, margin: 10%}
"""

CONFIG = """\
journal: sqlite:///watcher.db
metrics: {{prometheus: "{prometheus}"}}
block: 2s
settle: 2s
alpha: {{regressed: 0.01}}
slack: {{token_file: slack-token, channel: "#releases", base_url: "{slack}"}}
may_turn_off: [{{switch: yaml_flags, feature: new-checkout, environment: production}}]
services:
  shop:
    select: {{job: shop}}
    rules: [rules.yaml]
    links: {{runbook: https://wiki.example/shop}}
    mode: armed
    watch_for: 10m
    warm_up: 5s
    releases:
      - strategy: flag
        notice: {{flags_file: feature-flags.yaml, features: [new-checkout]}}
        arms: {{baseline: {{variant: "off"}}, treatment: {{variant: "on"}}}}
        focus: {{feature: "{{feature}}"}}
        kill: {{yaml_flags: feature-flags.yaml}}
        history: {history}s
"""


ALARMS = ("regressed", "killed", "kill_failed", "unrecovered", "no_data", "invalid")
"""The states of messages that tell people of something bad."""


def says(text: str, state: str) -> bool:
    """Tell whether a message's first line is that of a state."""
    return text.splitlines()[0].partition(" ")[2].startswith(f"{TITLES[state]}: ")


def tells(text: str, state: str) -> bool:
    """Tell whether a message says of a state anywhere: what was told together has its titles in its lines."""
    return f"{TITLES[state]}: " in text


class Daemon:
    """`watcher run` as a process. `start` brings it back after `stop` (SIGTERM) or `kill` (SIGKILL)."""

    def __init__(self, config: Path) -> None:
        self._config, self._log = config, config.with_name("daemon.log")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def talk(self) -> str:
        """All it said so far, over all its lives."""
        return self._log.read_text() if self._log.exists() else ""

    def start(self) -> None:
        """Start it, and return once its first tick is over, or somebody killed it before that."""
        said = self.talk.count("watching shop")
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "watcher", "run", "--config", str(self._config)], stdout=log, stderr=log
            )
        for _ in range(2400):
            if self.talk.count("watching shop") > said or self._process is not process:
                return
            if process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"the daemon did not start:\n{self.talk}")

    def kill(self) -> None:
        """End it as a power cut would, even while it starts."""
        process, self._process = self._process, None
        assert process is not None, "the daemon is not running"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End it as an administrator would; without effect when it is not running."""
        process, self._process = self._process, None
        if process is not None:
            stop_process(process)

    def check(self) -> None:
        """Raise when it ended by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self._process.returncode}:\n{self.talk}")


class FileWrites(threading.Thread):
    """Every change of a file, seen within a few milliseconds: when (monotonic seconds), and the content."""

    def __init__(self, path: Path, seen: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self._path, self._seen = path, seen
        self._ended = threading.Event()
        self.writes: list[tuple[float, bytes]] = []

    def __enter__(self) -> FileWrites:
        self._before = self._stamp()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()

    def run(self) -> None:
        while not self._ended.wait(0.002):
            now = self._stamp()
            if now != self._before:
                self._before = now
                at = time.monotonic()
                self._seen()
                self.writes.append((at, self._path.read_bytes()))

    def _stamp(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_ino


class Metrics:
    """A Prometheus that scrapes shops every second, and can be stopped and started on the same data and port.

    `past` is what it has seen before its first scrape, and `labels` are those of the shops beside `instance`, by it.
    """

    def __init__(
        self,
        directory: Path,
        shops: Sequence[Shop],
        past: Sequence[Series] = (),
        labels: Mapping[str, Mapping[str, str]] = {},
    ) -> None:
        self._directory, self._shops, self._port = directory, shops, free_port()
        self._past, self._labels = past, labels
        self._running: AbstractContextManager[PrometheusServer] | None = None
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        running = prometheus_server.running(self._directory, port=self._port)
        server = running.__enter__()
        self._running = running
        if self._past:
            server.remote_write(self._past)
            self._past = ()
        if self._shops:
            scrape(server, self._directory / "prometheus.yml", self._shops, labels=self._labels)

    def stop(self) -> None:
        """Stop it by its id; without effect when it is not running."""
        running, self._running = self._running, None
        if running is not None:
            running.__exit__(None, None, None)

    def ask(self, query: str) -> dict[str, float]:
        """Return the value of an instant query by instance."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=60).json()
        return {each["metric"].get("instance", ""): float(each["value"][1]) for each in answer["data"]["result"]}


@dataclass
class Installation:
    """A daemon, its files, and what people see of it."""

    directory: Path
    config: Path
    slack: SlackServer
    daemon: Daemon
    opened: bytes = field(default=b"", init=False, repr=False)
    """The flags file as it was when the release was opened."""

    @property
    def flags(self) -> Path:
        return self.directory / "feature-flags.yaml"

    def write_flags(self, content: bytes) -> None:
        draft = self.flags.with_suffix(".draft")
        draft.write_bytes(content)
        os.replace(draft, self.flags)

    def open_release(self) -> None:
        """Turn the feature on for half of the users."""
        text = self.flags.read_text()
        assert CLOSED in text
        self.opened = text.replace(CLOSED, OPEN).encode()
        self.write_flags(self.opened)

    @property
    def turned_off(self) -> bytes:
        """What the flags file must be after a kill, to the byte."""
        return self.opened.replace(OPEN.encode(), OPEN.replace("true", "false").encode())

    def parents(self) -> list[Message]:
        """Return the messages that stand in the channel and answer no other."""
        return [message for message in self.slack.messages("#releases") if message.thread_ts is None]

    def told(self) -> list[str]:
        """Return everything anybody could ever read in Slack: every text of every message, edits and threads too."""
        parents = self.parents()
        replies = [reply for parent in parents for reply in self.slack.thread(parent)]
        return [text for message in (*parents, *replies) for text in (*message.before, message.shown)]

    def alarms(self, but: str = "") -> list[str]:
        """Return what of it was bad news, but for news of one state."""
        return [text for text in self.told() if any(tells(text, state) for state in ALARMS if state != but)]

    def journal(self) -> Journal:
        return Journal.open(f"sqlite:///{self.directory / 'watcher.db'}", check=False)

    def is_watched(self) -> bool:
        """Tell whether the release was noticed, people were told so, and the journal knows that they were."""
        with self.journal() as journal:
            return any(journal.receipt_of_headline(each.watch.release.id, "slack") for each in journal.watches())

    def releases(self) -> list[Watched]:
        """Return the releases that were noticed, oldest first."""
        with self.journal() as journal:
            return journal.watches()

    def last_look(self) -> Look:
        """Return the latest look at the latest release, which must have been looked at."""
        with self.journal() as journal:
            *_, watched = journal.watches()
            look = journal.last_look(watched.watch.release.id)
        assert look is not None
        return look

    def kills(self) -> list[Pending]:
        with self.journal() as journal:
            return [entry for entry in journal.actions() if isinstance(entry.action, Kill)]

    def eventually(self, holds: Callable[[], object], what: str, seconds: float = 300.0) -> None:
        """Wait until something holds; how long it takes decides nothing, that it never does fails."""
        for _ in range(int(seconds / 0.1)):
            if holds():
                return
            self.daemon.check()
            time.sleep(0.1)
        raise AssertionError(f"never: {what}\ntold: {self.told()}\nthe daemon said:\n{self.daemon.talk[-4000:]}")


@dataclass
class Served(Installation):
    """The same, with users."""

    shops: Sequence[Shop]
    metrics: Metrics

    def gather_history(self, seconds: float = HISTORY) -> None:
        """Wait until there is enough past to learn from."""
        both = {shop.instance for shop in self.shops}
        self.eventually(lambda: set(self.metrics.ask("http_requests_total > 0")) == both, "both shops were scraped")
        time.sleep(seconds)

    def go_bad(self) -> float:
        """Let one request in twenty of the released variant fail, instead of one in a hundred; return when."""
        for shop in self.shops:
            shop.set_faults(error_rate={"on": 0.05})
        return time.monotonic()


def write_configuration(
    directory: Path, prometheus: str, slack: SlackServer, config: str = CONFIG, rules: str = RULES, **more: str
) -> Path:
    """Write watcher.yaml and the files it names; return its path. `more` are names that `config` has in braces."""
    plant(directory / "slack-token", slack.token + "\n")
    (directory / "rules.yaml").write_text(rules)
    (directory / "feature-flags.yaml").write_text(FLAGS)
    path = directory / "watcher.yaml"
    path.write_text(config.format(prometheus=prometheus, slack=slack.base_url, history=HISTORY, **more))
    return path


@contextmanager
def running(
    directory: Path,
    flags: Path | tuple[str, str] | None = None,
    config: str = CONFIG,
    rules: str = RULES,
    **more: str,
) -> Iterator[Served]:
    """Start everything but the daemon; stop everything at the end.

    Args:
        directory: of all files.
        flags: where the shops' flags are, as `Shop` takes them; None: in a file here.
        config: watcher.yaml, with names in braces.
        rules: the rule pack.
        more: further names in braces, and what stands for them.
    """
    told = flags or directory / "feature-flags.yaml"
    if isinstance(told, Path):
        told.write_text(FLAGS)
    with ExitStack() as stack:
        slack = stack.enter_context(SlackServer("#releases", per_second=1.0))
        shops = [stack.enter_context(Shop(directory, told, instance=name)) for name in ("shop-1", "shop-2")]
        metrics = Metrics(directory / "prometheus", shops)
        stack.callback(metrics.stop)
        metrics.start()
        path = write_configuration(directory, metrics.url, slack, config, rules, **more)
        daemon = Daemon(path)
        stack.callback(daemon.stop)
        stack.enter_context(Load([shop.url for shop in shops], rate=RATE, features=VISITS))
        yield Served(directory, path, slack, daemon, shops, metrics)

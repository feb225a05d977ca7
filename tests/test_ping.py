"""The dead man's switch: pinged while watcher does all it is for, silent within two ticks of what stops that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.loopback import Loopback, answer
from tests.planted import MARK, plant
from tests.test_daemon import Metrics, World, measured
from tests.test_faults import a_file_that_may_not_be_written, a_full_disk
from watcher.config import PingSettings, load_installation
from watcher.daemon import Daemon
from watcher.errors import ConfigError, JournalError, SourceError, SwitchError
from watcher.journal import Journal, opening
from watcher.model import Observations, Request
from watcher.observer import Everybody
from watcher.ping import EVERY, Ping
from watcher.server import Metrics as Observed
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.prometheus_http import PrometheusHTTP

SECRET = f"/{MARK}"


class Receiver(Loopback):
    """Counts pings; `hanging` holds the answers, `status` says no, `elsewhere` is where it redirects to."""

    def __init__(self) -> None:
        super().__init__()
        self.pings: list[str] = []
        self.status, self.elsewhere = 200, ""
        self.hanging, self.released = False, threading.Event()

    @property
    def address(self) -> str:
        return self.url + SECRET

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.pings.append(f"{request.command} {request.path}")
        if self.hanging:
            self.released.wait(20)
        found = {"Location": self.elsewhere} if self.elsewhere else {}
        answer(request, self.status, f"no such check: {request.path}".encode(), **found)


class Watched:
    """A daemon in memory that is observed as it is in the field, a tick every minute."""

    def __init__(self, world: World, address: str, *proofs: Callable[[], None]) -> None:
        self.world = world
        made = world.daemon()
        installation = replace(made.installation, ping=PingSettings(url=address))
        self.counted = Observed(installation, world.journal, lambda: world.now, lambda: world.now)
        self.ping = Ping(installation.ping, (world.journal.prove, *proofs), self.counted, lambda: world.now)  # type: ignore[arg-type]
        self.daemon: Daemon = replace(made, observer=Everybody(self.counted, self.ping))

    def run(self, minutes: int) -> None:
        for _ in range(minutes):
            with suppress(JournalError):
                self.world.run(self.daemon, 1)
            self.settle()

    def settle(self) -> None:
        """Wait until the ping under way is answered."""
        if self.ping._thread is not None:
            self.ping._thread.join(20)

    def count(self, outcome: str) -> float:
        return self.counted.registry.get_sample_value("watcher_pings_total", {"outcome": outcome}) or 0.0


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as made:
        yield made
        made.released.set()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        made = World(tmp_path, journal, Metrics({"errors": measured()}))
        made.daemon()
        yield made


def test_a_daemon_that_works_pings_once_a_minute_however_often_it_steps(world: World, receiver: Receiver) -> None:
    here = Watched(world, receiver.address)
    world.expose()
    for quarter in range(1, 21):
        here.daemon.step(world.now + 15 * quarter)
        here.settle()
    assert receiver.pings == [f"GET {SECRET}"]  # the stopwatch stood still
    receiver.pings.clear()
    here.run(5)
    assert len(receiver.pings) == 5
    assert (here.count("sent"), here.count("failed"), here.count("withheld")) == (6, 0, 0)
    assert EVERY == 60


def metrics_down(world: World) -> AbstractContextManager[None]:
    @contextmanager
    def down() -> Iterator[None]:
        world.source.down = "prometheus.example does not answer"
        yield
        world.source.down = None

    return down()


@contextmanager
def looks_that_fail(_: World) -> Iterator[None]:
    def broken(*_: object) -> None:
        raise ValueError("a mistake")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "record_look", broken)
        yield


@contextmanager
def no_room(_: World) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(opening.os, "statvfs", lambda _: SimpleNamespace(f_bavail=100, f_frsize=4096))
        yield


FAULTS: list[Any] = [
    pytest.param(lambda world: a_full_disk(world.journal), id="a database that may not grow"),
    pytest.param(lambda world: a_file_that_may_not_be_written(world.journal), id="read-only journal"),
    pytest.param(no_room, id="full disk"),
    pytest.param(metrics_down, id="metrics do not answer"),
    pytest.param(looks_that_fail, id="a look that fails"),
]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_ping_stops_within_two_ticks_of_a_fault_and_comes_back_after_it(
    world: World, receiver: Receiver, fault: Callable[[World], AbstractContextManager[None]]
) -> None:
    here = Watched(world, receiver.address)
    world.expose()
    here.run(3)
    assert len(receiver.pings) == 3
    with fault(world):
        here.run(2)
        before = len(receiver.pings)
        here.run(5)
        assert len(receiver.pings) == before <= 4
    here.run(2)
    assert len(receiver.pings) > before


@pytest.mark.parametrize("fault", FAULTS[1:3])
def test_the_journal_is_tried_where_nothing_is_being_watched_too(
    world: World, receiver: Receiver, fault: Callable[[World], AbstractContextManager[None]]
) -> None:
    here = Watched(world, receiver.address)
    here.run(1)
    with fault(world):
        here.run(4)
    assert len(receiver.pings) == 1
    assert here.count("withheld") == 4


def test_a_journal_without_room_for_a_look_is_no_journal_to_go_on_with(world: World) -> None:
    world.journal.prove()
    with no_room(world), pytest.raises(JournalError, match=r"0\.4 MiB are free on its disk; make room"):
        world.journal.prove()
    assert world.journal.recall("room") is None


def test_one_watch_of_several_that_cannot_read_its_metrics_withholds_nothing(world: World, receiver: Receiver) -> None:
    here = Watched(world, receiver.address)
    world.expose()
    search = world.expose("1.3", "search")
    here.run(2)

    observe = world.source.observe

    def of_shop(request: Request) -> dict[str, Observations]:
        if "1.3" in str(request):
            raise SourceError("too many series")
        return observe(request)

    world.source.observe = of_shop  # type: ignore[method-assign]
    here.run(3)
    last = world.journal.last_look(search)
    assert last is not None
    assert last.problem == "too many series"
    assert len(receiver.pings) == 5


def test_a_metrics_server_that_hangs_stops_the_ping_of_a_daemon_that_watches_nothing(
    world: World, receiver: Receiver
) -> None:
    with Receiver() as prometheus:
        prometheus.hanging = True
        source = PrometheusSource(PrometheusHTTP(prometheus.url, deadline=0.3))
        here = Watched(world, receiver.address, source.answers)
        here.run(2)
        prometheus.released.set()
    assert receiver.pings == []
    assert here.count("withheld") == 2


def test_a_step_that_hangs_is_no_ping(world: World, receiver: Receiver) -> None:
    here = Watched(world, receiver.address)
    world.expose()
    here.run(1)
    hung, on = threading.Event(), threading.Event()

    def hang(_: str) -> Any:
        hung.set()
        on.wait(20)
        raise SwitchError("too late")

    world.switch.read = hang  # type: ignore[method-assign]
    step = threading.Thread(target=here.run, args=(1,), daemon=True)
    step.start()
    assert hung.wait(10)
    time.sleep(0.2)
    assert len(receiver.pings) == 1
    on.set()


def test_a_receiver_that_hangs_delays_no_step_and_gets_one_request(world: World, receiver: Receiver) -> None:
    receiver.hanging = True
    here = Watched(world, receiver.address)
    began = time.monotonic()
    world.run(here.daemon, 3)
    assert time.monotonic() - began < 2
    assert here.count("withheld") == 2
    here.settle()
    assert time.monotonic() - began < 7
    assert len(receiver.pings) == 1
    assert here.count("failed") == 1


def test_a_ping_that_is_not_taken_is_said_without_its_address(
    world: World, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 404
    here = Watched(world, receiver.address)
    here.run(1)
    assert here.count("failed") == 1
    [said] = [each.getMessage() for each in caplog.records if "the ping was not taken" in each.getMessage()]
    assert "the ping was not taken: GET <secret>: HTTP 404, no such check: <secret>" in said


def test_a_redirect_is_not_followed(world: World, receiver: Receiver) -> None:
    with Receiver() as elsewhere:
        receiver.status, receiver.elsewhere = 302, elsewhere.address
        here = Watched(world, receiver.address)
        here.run(1)
        assert elsewhere.pings == []
    assert here.count("failed") == 1


def test_the_address_is_read_from_its_file_at_each_ping(world: World, receiver: Receiver, tmp_path: Path) -> None:
    file = tmp_path / "ping"
    plant(file, f"{receiver.url}/{MARK}-old\n")
    here = Watched(world, receiver.address)
    here.ping._settings = PingSettings(url_file=file)
    here.run(1)
    plant(file, f"{receiver.url}/{MARK}-new\n")
    here.run(1)
    assert receiver.pings == [f"GET /{MARK}-old", f"GET /{MARK}-new"]


@pytest.mark.parametrize(
    "content", [f"ftp://example.com/{MARK}", f"https:///{MARK}", f"hc-ping.com/{MARK}", f"https://a {MARK}"]
)
def test_what_is_no_address_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    file = tmp_path / "ping"
    plant(file, content)
    with pytest.raises(ConfigError) as error:
        PingSettings(url_file=file).address()
    assert str(file) in str(error.value)
    assert content not in str(error.value).replace("such as https://hc-ping.com/...", "")


@pytest.mark.parametrize(
    ("ping", "says"),
    [
        ("{url_file: secrets/ping}", ""),
        ("{url: https://hc.example/ping/1}", ""),
        ("{}", "ping.url_file: give exactly one of url_file and url"),
        ("{url_file: a, url: https://hc.example/1}", "give exactly one of url_file and url"),
        ("{url: hc.example/1}", "expected a URL that starts with http"),
        ("{address: https://hc.example/1}", "write url_file: PATH"),
    ],
)
def test_watcher_yaml_says_where_in_one_of_two_ways(world: World, ping: str, says: str) -> None:
    path = world.folder / "watcher.yaml"
    path.write_text(f"{path.read_text()}\nping: {ping}\n")
    if says:
        with pytest.raises(ConfigError, match=says):
            load_installation(path)
        return
    found = load_installation(path).ping
    assert found is not None
    assert found.url_file == (world.folder / "secrets/ping" if "url_file" in ping else None)

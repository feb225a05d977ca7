"""Whatever watcher sends goes where the configuration says: who sends it elsewhere is not followed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.planted import MARK, plant, signing_key
from watcher.addresses import refused
from watcher.alerts import alerter
from watcher.assembly import installed
from watcher.config import PingSettings
from watcher.errors import AlertError, ConfigError, SourceRefused, SwitchError
from watcher.model import Alert
from watcher.sources.prometheus_http import PrometheusHTTP
from watcher.switches.http import ask

ALERT = Alert("k", "shop/production/cart@2", "headline", "watching", "Watching: cart 2", ("a line",), 0.0)


class Sending(ThreadingHTTPServer):
    """Answers every request with a redirect to itself below /trap, and notes who follows it."""

    daemon_threads = True

    def __init__(self) -> None:
        self.followed: list[str] = []
        self.asked: list[str] = []
        self.status = 302
        super().__init__(("127.0.0.1", 0), Guide)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Guide(BaseHTTPRequestHandler):
    server: Sending

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        (self.server.followed if "/trap" in self.path else self.server.asked).append(self.path)
        self.send_response(self.server.status)
        self.send_header("Location", f"{self.server.url}/trap")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        self.do_GET()


@pytest.fixture(params=[301, 302, 303, 307, 308])
def sending(request: pytest.FixtureRequest) -> Iterator[Sending]:
    with Sending() as server:
        server.status = request.param
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def by_the_web_api(url: str) -> None:
    alerter("slack", token=f"xoxb-{MARK}", channel="#releases", base_url=f"{url}/api/").deliver(ALERT, None)


def by_an_incoming_webhook(url: str) -> None:
    alerter("slack", webhook_url=f"{url}/services/T0/B0/x").deliver(ALERT, None)


def reach(url: str) -> None:
    said = alerter("slack", token=f"xoxb-{MARK}", channel="#releases", base_url=f"{url}/api/").reach()
    raise AlertError(said.problem or "reached")


def metrics(url: str) -> None:
    PrometheusHTTP(url).instant("vector(1)", 0.0)


def the_time(url: str) -> None:
    PrometheusHTTP(url).clock()


def a_switch(url: str) -> None:
    ask("POST", f"{url}/flags", headers={"Authorization": f"Bearer {MARK}"}, body=b"{}")


@pytest.mark.parametrize("client", [by_the_web_api, by_an_incoming_webhook, reach, metrics, the_time, a_switch])
def test_no_client_follows_a_redirect(sending: Sending, client: Callable[[str], None]) -> None:
    with pytest.raises((AlertError, SourceRefused, SwitchError)) as error:
        client(sending.url)
    assert sending.asked
    assert sending.followed == []
    assert "not followed" in str(error.value)


def test_every_client_there_is_is_one_of_these() -> None:
    package = Path(__file__).resolve().parents[1] / "watcher"
    ways = ["requests.Session(", "requests.request(", "requests.get(", "requests.post("]
    ways += ["urlopen(", " WebClient(", " WebhookClient(", "build_opener(", "create_connection("]
    found = {
        (path.relative_to(package).as_posix(), way)
        for path in package.rglob("*.py")
        for way in ways
        if way in path.read_text()
    }
    assert found == {
        ("alerts/slack_http.py", "build_opener("),
        ("sources/prometheus_http.py", "requests.Session("),
        ("switches/haproxy/runtime.py", "create_connection("),
        ("switches/http.py", "requests.request("),
    }


METADATA = [
    "http://169.254.169.254/latest/meta-data",
    "http://2852039166/",
    "http://0xa9fea9fe/",
    "http://[::ffff:169.254.169.254]/",
    "http://[fe80::1%25eth0]/",
    "http://[fd00:ec2::254]/",
    "http://metadata.google.internal./",
    "http://[64:ff9b::a9fe:a9fe]/",
    "http://[2002:a9fe:a9fe::1]/",
    "http://[::a9fe:a9fe]/",
    "http://0251.0376.0251.0376/",
    "http://\uff11\uff16\uff19.254.169.254/",
    "http://169\u3002254\u3002169\u3002254/",
]
WATCHER = """\
metrics: {{prometheus: "{metrics}"}}
{more}
services:
  shop:
    rules: [rules.yaml]
    releases:
      - strategy: flag
        notice: {{http: true}}
        kill: {{webhook: {{url: "{kill}", read: "{kill}", secret_file: secret}}}}
"""
PACK = "pack: shop\nrules: [{name: errors, kind: ratio, bad: errors, total: requests}]\n"
FINE = "http://127.0.0.1:9"


@pytest.mark.parametrize("url", METADATA)
@pytest.mark.parametrize("key", ["metrics.prometheus", "slack.base_url", "ping.url", "kill"])
def test_no_address_of_a_cloud_s_metadata_is_configured(tmp_path: Path, key: str, url: str) -> None:
    more = {
        "slack.base_url": f'slack: {{token_file: secret, channel: "#a", base_url: "{url}"}}',
        "ping.url": f'ping: {{url: "{url}"}}',
    }
    text = WATCHER.format(
        metrics=url if key == "metrics.prometheus" else FINE,
        kill=url if key == "kill" else f"{FINE}/off",
        more=more.get(key, ""),
    )
    (tmp_path / "watcher.yaml").write_text(text)
    (tmp_path / "rules.yaml").write_text(PACK)
    plant(tmp_path / "secret", signing_key("secret"))
    with pytest.raises(ConfigError, match=r"cloud metadata|expected an address"):
        installed(str(tmp_path / "watcher.yaml"))


@pytest.mark.parametrize("url", METADATA)
def test_an_incoming_webhook_is_held_to_the_same_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError, match=r"cloud metadata|is not a URL") as error:
        alerter("slack", webhook_url=f"{url.rstrip('/')}/services/T0/B0/{MARK}")
    assert MARK not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://[::1]:9", "http://10.1.2.3", "http://[fd00::1]", "http://b\u00fccher.example"]
)
def test_loopback_private_and_other_addresses_are_allowed(url: str) -> None:
    assert refused(url) == ""


def test_a_ping_that_a_file_names_is_held_to_the_same(tmp_path: Path) -> None:
    plant(tmp_path / "ping", f"{METADATA[0]}/{MARK}")
    with pytest.raises(ConfigError, match="cloud metadata"):
        PingSettings(url_file=tmp_path / "ping").address()

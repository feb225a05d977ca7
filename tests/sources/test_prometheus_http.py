"""Faults a real server cannot be made to produce, from a stand-in on the loopback."""

from __future__ import annotations

import json
import socket
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import pytest

from tests.planted import MARK
from watcher.errors import ConfigError, SourceDown, SourceError, SourceRefused, SourceTooLarge
from watcher.sources.counters import SampleSet
from watcher.sources.prometheus_http import PrometheusHTTP, TooManySeries
from watcher.sources.prometheus_json import joined, read_json, scan

SECRET = f"{MARK}-5f2e9"


class StandIn:
    """Answers every request with what the test says, and remembers the requests."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.reply: Callable[[BaseHTTPRequestHandler], None] = lambda handler: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                outer.requests.append((self.command, self.path, dict(self.headers), body))
                self.close_connection = True
                with suppress(OSError):
                    outer.reply(self)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def says(self, body: bytes, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        self.reply = answering(body, status, kind, **headers)


def answering(
    body: bytes, status: int = 200, kind: str = "application/json", **headers: str
) -> Callable[[BaseHTTPRequestHandler], None]:
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        # Said to be the last, so that the client does not race with the close for its next request.
        always = {"Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}
        for name, value in {**always, **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return reply


@pytest.fixture
def standin() -> Iterator[StandIn]:
    server = StandIn()
    yield server
    server.server.shutdown()
    server.server.server_close()


def matrix(*series: tuple[dict[str, str], list[tuple[float, str]]], **more: Any) -> bytes:
    result = [{"metric": labels, "values": [list(point) for point in points]} for labels, points in series]
    answer = {"status": "success", "data": {"resultType": "matrix", "result": result}, **more}
    return json.dumps(answer, separators=(",", ":"), ensure_ascii=False).encode()


def same(one: SampleSet, other: SampleSet) -> None:
    assert one.labels == other.labels
    np.testing.assert_array_equal(one.times, other.times)
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.offsets, other.offsets)
    assert one.warnings == other.warnings


HOSTILE = [
    {"path": 'he said "]]}" and {"metric": {}'},
    {"path": '},"values":[[1,"2"]]}', "empty": ""},
    {"values": "[[", "metric": '{"metric":'},
    {"ünï": "☃ \U0001f600 \\ \n \t", "curly": "}{}{"},
    {},
]


@pytest.mark.parametrize("ascii_only", [True, False])
def test_scanning_agrees_with_plain_json_whatever_the_labels_hold(ascii_only: bool):
    points = [
        (1700000000, "1"),
        (1700000060.123, "NaN"),
        (1700000120, "+Inf"),
        (1700000180.5, "-Inf"),
        (1.7e9, "1.5e-07"),
    ]
    body = matrix(*((labels, points[i:]) for i, labels in enumerate(HOSTILE)), warnings=["some store was slow ]]}"])
    if ascii_only:
        body = json.dumps(json.loads(body), separators=(",", ":")).encode()
    fast = scan(body)
    assert fast is not None
    assert fast.warnings == ("some store was slow ]]}",)
    same(fast, read_json(body))


@pytest.mark.parametrize(
    "points",
    [
        [(1700000000, "1"), (1700000015, "20")],
        [(1700000000.123, "1"), (1700000015.001, "9007199254740993")],
        [(1700000000.123, "1"), (1700000015, "20")],
        [(1700000000.1, "1"), (1700000015.2, "20")],
        [(1700000000, "1.125"), (1700000015, "2.250")],
        [(1700000000.123, "1.5"), (1700000015.123, "20")],
        [(1700000000, "100000000000000000000"), (1700000015, "123456789012345678901234")],
        [(60.123, "0"), (75.123, "4611686018427387904")],
        [(60, "-1"), (75, "1e+20")],
        [(60.123, "123456789.123456789")],
    ],
)
def test_every_way_to_write_a_number_is_read_as_plain_json_reads_it(points: list[tuple[float, str]]):
    fast = scan(matrix(({"a": "b"}, points)))
    assert fast is not None
    same(fast, read_json(matrix(({"a": "b"}, points))))


def test_scanning_agrees_with_plain_json_on_many_random_answers():
    rng = np.random.default_rng(7)
    for _ in range(30):
        series = []
        for i in range(rng.integers(1, 6)):
            values = [str(v) for v in rng.normal(size=rng.integers(1, 9)) * 10.0 ** rng.integers(-9, 12)]
            series.append(
                (
                    {"i": str(i), "x": rng.choice(['"', "\\", "}", "]]}", "a"])},
                    [(1.7e9 + j, v) for j, v in enumerate(values)],
                )
            )
        fast = scan(matrix(*series))
        assert fast is not None
        same(fast, read_json(matrix(*series)))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(b'"1"', b'"one"'),
        lambda text: text.replace(b'"1"', b'"1.2.3"'),
        lambda text: text.replace(b'"1"', b"1"),
        lambda text: text.replace(b'"values"', b'"histograms"'),
        lambda text: text[:-1],
        lambda text: text.replace(b'{"metric":', b'{ "metric":'),
        lambda text: text.replace(b'"success"', b'"error"'),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_scanning_leaves_anything_unexpected_to_the_plain_decoder(change: Callable[[bytes], bytes]):
    assert scan(change(matrix(({"a": "b"}, [(60, "1"), (120, "2")])))) is None


def test_raw_samples_never_include_the_start(standin: StandIn):
    standin.says(matrix(({"a": "b"}, [(60, "1"), (120, "2"), (180, "3")])))
    got = PrometheusHTTP(standin.url).samples("x", 60, 180)
    assert got.times.tolist() == [120, 180]


def test_queries_travel_in_the_body_and_the_answer_uncompressed(standin: StandIn):
    standin.says(matrix())
    PrometheusHTTP(standin.url).instant("x" * 20_000, 60)
    method, path, headers, body = standin.requests[0]
    assert (method, path) == ("POST", "/api/v1/query")
    assert headers["Accept-Encoding"] == "identity"
    assert parse_qs(body)["query"] == ["x" * 20_000]


def test_an_empty_answer_is_empty_and_not_an_error(standin: StandIn):
    standin.says(matrix())
    assert len(PrometheusHTTP(standin.url).samples("x", 0, 60)) == 0


def test_a_scalar_and_a_vector_are_one_sample_a_series(standin: StandIn):
    client = PrometheusHTTP(standin.url)
    standin.says(b'{"status":"success","data":{"resultType":"scalar","result":[60,"2"]}}')
    assert client.instant("2", 60).values.tolist() == [2.0]
    standin.says(
        b'{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[60,"NaN"]}]}}'
    )
    got = client.instant("x", 60)
    assert got.labels == ({"a": "b"},)
    assert np.isnan(got.values).all()


def test_warnings_of_the_server_are_kept(standin: StandIn):
    standin.says(matrix(({}, [(30, "1")]), warnings=["a store is down"]))
    assert PrometheusHTTP(standin.url).samples("x", 0, 60).warnings == ("a store is down",)


def test_a_partial_answer_warns(standin: StandIn):
    standin.says(matrix(({}, [(30, "1")]), isPartial=True))
    assert "partial" in PrometheusHTTP(standin.url).samples("x", 0, 60).warnings[0]


@pytest.mark.parametrize(
    ("status", "body", "error", "text"),
    [
        (
            503,
            b'{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}',
            SourceRefused,
            "query timed out in expression",
        ),
        (
            422,
            b'{"status":"error","errorType":"execution","error":"too many samples"}',
            SourceRefused,
            "too many samples",
        ),
        (400, b'{"status":"error","errorType":"bad_data","error":"parse error"}', SourceRefused, "parse error"),
        (200, b'{"status":"error","errorType":"bad_data","error":"odd but said"}', SourceRefused, "odd but said"),
        (503, b'{"status":"error","errorType":"unavailable","error":"starting"}', SourceDown, "starting"),
        (503, b"Service Unavailable", SourceDown, "Service Unavailable"),
        (502, b"<html>bad gateway</html>", SourceDown, "502"),
        (429, b"slow down", SourceDown, "429"),
        (401, b"Unauthorized", SourceRefused, "401"),
        (404, b"404 page not found", SourceRefused, "404"),
    ],
)
def test_a_no_is_told_in_the_words_of_the_server(
    standin: StandIn, status: int, body: bytes, error: type[SourceError], text: str
):
    standin.says(body, status)
    with pytest.raises(error, match=text):
        PrometheusHTTP(standin.url).instant("x", 60)
    assert len(standin.requests) == 1


def test_a_login_page_is_not_an_answer(standin: StandIn):
    standin.says(b"<!doctype html><form>", kind="text/html")
    with pytest.raises(SourceRefused, match="a web page"):
        PrometheusHTTP(standin.url).instant("x", 60)


def test_a_redirect_is_not_followed(standin: StandIn):
    standin.says(b"", 302, Location=f"http://me:{SECRET}@127.0.0.1:9/login?next={SECRET}")
    with pytest.raises(SourceRefused, match=r"redirects to http://127\.0\.0\.1:9/login") as caught:
        PrometheusHTTP(standin.url).instant("x", 60)
    assert SECRET not in str(caught.value)
    assert len(standin.requests) == 1


@pytest.mark.parametrize("cut", [1, 10, 30])
def test_a_truncated_answer_is_an_outage(standin: StandIn, cut: int):
    standin.says(matrix(({"a": "b"}, [(30, "1"), (60, "2")]))[:-cut])
    with pytest.raises(SourceDown, match="ends early"):
        PrometheusHTTP(standin.url).samples("x", 0, 60)


def test_an_answer_shorter_than_announced_is_an_outage(standin: StandIn):
    standin.says(matrix(({"a": "b"}, [(30, "1")])), Content_Length="5000")
    with pytest.raises(SourceDown):
        PrometheusHTTP(standin.url).samples("x", 0, 60)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"status":"success"}',
        b'{"status":"success","data":null}',
        b'{"status":"success","data":{"resultType":"vector","result":[{}]}}',
    ],
)
def test_json_of_another_shape_is_an_outage(standin: StandIn, body: bytes):
    standin.says(body)
    with pytest.raises(SourceDown):
        PrometheusHTTP(standin.url).instant("x", 60)


@pytest.mark.parametrize("key", ["histogram", "histograms"])
def test_a_native_histogram_is_refused_by_name(standin: StandIn, key: str):
    row = {"metric": {"__name__": "page_load_seconds"}, key: [[60, {"count": "1"}]]}
    standin.says(
        json.dumps(
            {"status": "success", "data": {"resultType": "matrix", "result": [row]}}, separators=(",", ":")
        ).encode()
    )
    with pytest.raises(SourceRefused, match=r"page_load_seconds is a native histogram.*kind latency"):
        PrometheusHTTP(standin.url).samples("page_load_seconds", 0, 60)


def test_an_endless_answer_stops_at_the_cap_of_bytes(standin: StandIn):
    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"{" * 65536)

    standin.reply = reply
    with pytest.raises(SourceTooLarge, match="1048576 bytes"):
        PrometheusHTTP(standin.url, max_bytes=2**20).instant("x", 60)


def test_too_many_series_are_refused(standin: StandIn):
    standin.says(matrix(*(({"i": str(i)}, [(30.0, "1")]) for i in range(11))))
    with pytest.raises(TooManySeries, match="11 series"):
        PrometheusHTTP(standin.url, max_series=10).samples("x", 0, 60)


@pytest.mark.parametrize("pause", [0.05, 60.0])
def test_a_body_that_drips_or_stalls_ends_at_the_deadline(standin: StandIn, pause: float):
    over = threading.Event()

    def reply(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not over.is_set():
            handler.wfile.write(b" ")
            over.wait(pause)

    standin.reply = reply
    with pytest.raises(SourceDown, match=r"within 0\.4 s"):
        PrometheusHTTP(standin.url, deadline=0.4).instant("x", 60)
    over.set()


def test_silence_ends_at_the_deadline(standin: StandIn):
    over = threading.Event()
    standin.reply = lambda handler: over.wait(60) and None
    with pytest.raises(SourceDown, match=r"within 0\.4 s"):
        PrometheusHTTP(standin.url, deadline=0.4).instant("x", 60)
    over.set()
    assert len(standin.requests) == 1


def test_compressed_answers_are_refused_for_they_hide_their_size(standin: StandIn):
    standin.says(b"\x1f\x8b", Content_Encoding="gzip")
    with pytest.raises(SourceRefused, match="compresses"):
        PrometheusHTTP(standin.url).instant("x", 60)


def test_a_refused_port_is_down_and_says_so_quickly():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(SourceDown, match="Connection refused"):
        PrometheusHTTP(f"http://127.0.0.1:{port}", deadline=5.0).instant("x", 60)
    assert time.monotonic() - began < 5.0


def test_history_is_asked_for_by_days_and_has_every_point_once(standin: StandIn):
    def reply(handler: BaseHTTPRequestHandler) -> None:
        form = {
            name: float(found[0])
            for name, found in parse_qs(standin.requests[-1][3]).items()
            if name in ("start", "end", "step")
        }
        at = np.arange(form["start"], form["end"] + 1, form["step"])
        assert at.size <= 11_000
        labels = {"day": "odd"} if form["start"] // 86_400 % 2 else {"day": "even"}
        answering(matrix((labels, [(t, "1") for t in at]), warnings=["slow"]))(handler)

    standin.reply = reply
    got = PrometheusHTTP(standin.url).values_range("x", 0, 3 * 86_400 + 120, 60)
    assert len(standin.requests) == 4
    assert sorted(got.times.tolist()) == list(range(60, 3 * 86_400 + 121, 60))
    assert len(got) == 2
    assert got.warnings == ("slow",)


def test_answers_for_consecutive_times_are_joined_by_series():
    parts = [SampleSet.of([({"a": "1"}, [1], [1]), ({"a": "2"}, [1], [2])]), SampleSet.of([({"a": "2"}, [2], [3])])]
    got = joined(parts)
    assert got.values[got.offsets[1] : got.offsets[2]].tolist() == [2, 3]
    assert len(joined([])) == 0


def test_credentials_reach_the_server(standin: StandIn):
    standin.says(matrix())
    PrometheusHTTP(standin.url, bearer=f"{SECRET}\n", headers={"X-Scope-OrgID": "shop"}).instant("x", 60)
    PrometheusHTTP(standin.url.replace("//", "//us%40er:p%3Aw@")).instant("x", 60)
    bearer, basic = (headers for _, _, headers, _ in standin.requests)
    assert (bearer["Authorization"], bearer["X-Scope-OrgID"]) == (f"Bearer {SECRET}", "shop")
    assert basic["Authorization"] == "Basic dXNAZXI6cDp3"


def test_a_token_is_not_replaced_by_a_netrc_file(standin: StandIn, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login other password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    standin.says(matrix())
    PrometheusHTTP(standin.url, bearer=SECRET).instant("x", 60)
    assert standin.requests[0][2]["Authorization"] == f"Bearer {SECRET}"


def basic(password: str) -> str:
    return b64encode(f"user:{password}".encode()).decode()


def test_no_error_tells_a_secret(standin: StandIn):
    clients = [
        PrometheusHTTP(standin.url.replace("//", f"//user:{SECRET}@")),
        PrometheusHTTP(standin.url, bearer=SECRET),
        PrometheusHTTP(standin.url, headers={"X-Key": SECRET}),
        PrometheusHTTP(f"http://user:{SECRET}@127.0.0.1:9"),
    ]
    for client in clients:
        sent = f"{basic(f'{SECRET} ')} {basic(SECRET)}" if client is clients[0] else SECRET
        echo = f"you sent {SECRET} or {sent}".encode()
        for status, body in [(200, b"{"), (500, echo), (403, echo), (200, b"<html>")]:
            standin.says(body, status)
            with pytest.raises(SourceError) as caught:
                client.instant("x", 60)
            told = "".join(traceback.format_exception(caught.value))
            assert SECRET not in told
            if client is clients[0]:
                assert basic(SECRET) not in told


@pytest.mark.parametrize(
    "body",
    [b"x" * 283 + SECRET.encode(), b'{"errorType":"internal","error":"' + b"x" * 983 + SECRET.encode() + b'"}'],
    ids=["words", "json"],
)
def test_no_part_of_a_secret_is_told_where_a_long_answer_is_cut(standin: StandIn, body: bytes):
    standin.says(body, 500)
    with pytest.raises(SourceError, match="HTTP 500") as caught:
        PrometheusHTTP(standin.url, bearer=SECRET).instant("x", 60)
    assert SECRET[:9] not in str(caught.value)


@pytest.mark.parametrize(
    "bad",
    [
        {"bearer": f"{SECRET}\nX: y"},
        {"bearer": ""},
        {"headers": {"X-Key": f"{SECRET}\r\n"}},
        {"headers": {"X-Key": f"{SECRET}☃"}},
        {"ca_bundle": "/nowhere/ca.pem"},
        {"bearer": SECRET, "auth": ("a", "b")},
    ],
)
def test_a_broken_credential_is_refused_without_showing_it(bad: dict[str, Any]):
    with pytest.raises(ConfigError) as caught:
        PrometheusHTTP("http://127.0.0.1:9090", **bad)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("url", ["127.0.0.1:9090", "ftp://x", "http://", f"http://x?token={SECRET}", "http://[x"])
def test_an_address_that_cannot_work_is_refused_at_once(url: str):
    with pytest.raises(ConfigError, match="must look like") as caught:
        PrometheusHTTP(url)
    assert SECRET not in str(caught.value)

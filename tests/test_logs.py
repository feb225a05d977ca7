"""Lines of the log: text or JSON, what they are about, and no secret in them whoever wrote them."""

from __future__ import annotations

import io
import json
import logging
import math
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.planted import MARK, plant
from watcher import logs
from watcher.cli import main
from watcher.config import Metrics
from watcher.errors import SourceDown
from watcher.journal import codec
from watcher.secrets import conceal, from_environment, redacted, secret

Say = Callable[..., str]


def saying(form: str) -> Iterator[Say]:
    stream, logger = io.StringIO(), logging.Logger("watcher", logging.DEBUG)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Json() if form == "json" else logs.Text("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)

    def say(level: int, message: str, *arguments: object, **more: Any) -> str:
        stream.truncate(0)
        stream.seek(0)
        logger.log(level, message, *arguments, **more)
        return stream.getvalue()

    yield say


@pytest.fixture
def text() -> Iterator[Say]:
    yield from saying("text")


@pytest.fixture
def as_json() -> Iterator[Say]:
    yield from saying("json")


def test_a_line_of_json_has_the_event_its_time_and_what_it_is_about(as_json: Say) -> None:
    about = {"service": "shop", "release": "shop/production/cart@2", "switch": "unleash", "other": "x"}
    line = as_json(logging.WARNING, "cannot read %s: %s", "cart", SourceDown("nobody\nanswers"), extra=about)
    assert line.count("\n") == 1
    found = json.loads(line)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", found.pop("time"))
    assert found == {
        "level": "warning",
        "logger": "watcher",
        "event": "cannot read cart: nobody\nanswers",
        "service": "shop",
        "release": "shop/production/cart@2",
        "switch": "unleash",
        "error": "SourceDown: nobody\nanswers",
    }


def test_a_traceback_is_a_field_of_its_line(as_json: Say) -> None:
    try:
        raise ValueError("a mistake")
    except ValueError:
        found = json.loads(as_json(logging.ERROR, "step failed", exc_info=True))
    assert (found["event"], found["error"]) == ("step failed", "ValueError: a mistake")
    assert "test_a_traceback_is_a_field" in found["traceback"]


@pytest.mark.parametrize("form", ["text", "as_json"])
def test_a_secret_that_was_read_is_in_no_message_argument_nor_traceback(
    form: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    say: Say = request.getfixturevalue(form)
    plant(tmp_path / "token", f'{MARK}7f"c/9+a0b1=2\n')
    token = secret(tmp_path / "token")
    try:
        raise ValueError(f"refused {token}") from ConnectionError(f"sent {token}")
    except ValueError as error:
        line = say(logging.ERROR, f"sent {token}, %s: %s", {"token": token}, error, exc_info=True)
    assert "refused ***" in line
    assert not [way for way in (token, json.dumps(token)[1:-1], f"{MARK}7f%22c%2F9%2Ba0b1%3D2") if way in line]


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("{'Authorization': 'Bearer abc', 'a': 1}", "{'Authorization': '***', 'a': 1}"),
        ("header: b'Authorization: Basic dXNlcjpwdw=='", "header: b'Authorization: ***'"),
        ("sent Bearer eyJhbGciOi.J9-x_1", "sent Bearer ***"),
        ("token xoxb-1234-abcd is gone", "token *** is gone"),
        ("POST https://hooks.slack.com/services/T0/B0/xyz", "POST https://hooks.slack.com/***"),
        ("postgresql://watcher:pa:ss@db/w", "postgresql://***@db/w"),
        ("the bearer token is missing; a Basic thing", "the bearer token is missing; a Basic thing"),
        (
            "GET http://127.0.0.1:9090/api at 10:00 by bob@example.com",
            "GET http://127.0.0.1:9090/api at 10:00 by bob@example.com",
        ),
    ],
)
def test_what_looks_like_a_secret_is_not_written_either(text: Say, said: str, written: str) -> None:
    assert text(logging.DEBUG, "%s", said).partition("DEBUG ")[2] == f"{written}\n"


def test_a_variable_is_a_secret_where_its_name_or_the_header_says_so() -> None:
    environment = {"PROM_TOKEN": f"{MARK}-one", "PROM": f"{MARK}-two", "TENANT": "4be0-no-secret"}
    headers = {"X-One": "${PROM_TOKEN}", "X-Api-Key": "${PROM}", "X-Scope-OrgID": "${TENANT}"}
    Metrics("http://127.0.0.1:9", headers=headers).request_headers(environment)
    assert redacted(" ".join(environment.values())) == "*** *** 4be0-no-secret"
    assert from_environment("${TENANT}", environment) == "4be0-no-secret"


def test_basic_authentication_is_hidden_as_it_is_sent_too(tmp_path: Path) -> None:
    plant(tmp_path / "password", f"{MARK}-5150")
    Metrics("http://127.0.0.1:9", username="ali", password_file=tmp_path / "password").basic_auth()
    assert redacted(f"{MARK}-5150 {b64encode(f'ali:{MARK}-5150'.encode()).decode()}") == "*** ***"


def test_of_a_secret_address_the_part_that_libraries_log_is_hidden() -> None:
    conceal(f"https://hc.example/ping/{MARK}?create=1")
    assert redacted(f'"GET /ping/{MARK}?create=1 HTTP/1.1" 200') == '"GET *** HTTP/1.1" 200'


def test_the_journal_writes_no_secret_and_every_number_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("watcher.secrets._concealed", ("1234567890",))  # undone at the end: digits carry no mark
    kept = codec.dumps({"error": "sent 1234567890", "share": 0.1234567890, "log e": math.inf, "n": 1234567890})
    assert codec.loads(kept) == {"error": "sent ***", "share": 0.123456789, "log e": math.inf, "n": 1234567890}
    assert codec.clean("sent 1234567890") == "sent ***"
    conceal('sésame "open"')
    assert codec.loads(codec.dumps({"error": 'sent sésame "open" \ud800'})) == {"error": "sent *** \ud800"}
    assert codec.loads(codec.dumps({"error": 'sent sésame "open"'})) == {"error": "sent ***"}


@pytest.mark.parametrize("debug", ["", "1"])
def test_an_unexpected_error_shows_no_secret_and_does_not_read_as_regressed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: str
) -> None:
    conceal(f"{MARK}-of-a-traceback")

    def broken(*_: object) -> None:
        raise RuntimeError(f"sent {MARK}-of-a-traceback")

    monkeypatch.setattr("watcher.assembly.status", broken)
    monkeypatch.setattr(sys, "argv", ["watcher", "status"])
    monkeypatch.setenv("WATCHER_DEBUG", debug)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "RuntimeError: sent ***" in said
    assert ("Traceback" in said) is bool(debug)
    assert MARK not in said


def test_json_can_be_asked_for_by_the_environment() -> None:
    refused = subprocess.run(
        [sys.executable, "-m", "watcher", "run"],
        env={"WATCHER_RUN_LOG_FORMAT": "xml"}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "'xml' is not one of 'text', 'json'" in refused.stderr

"""Whatever lets a secret out makes its test fail: tried with tests that do."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import planted
from tests.planted import MARK, kept_on, left_in, plant, seen_by_people, seen_in, signing_key
from tests.servers.postgres_server import fresh_database, made_by

ROOT = Path(__file__).parents[1]
SECRET = f"xoxb-{MARK}-5a5a"

LEAKING = """
import logging, sqlite3, subprocess, sys, urllib.request
from base64 import b64encode
from http.server import BaseHTTPRequestHandler

import click, pytest
from click.testing import CliRunner
from starlette.responses import HTMLResponse, Response

from tests.loopback import Loopback, answer
from tests.planted import MARK, plant
from watcher.errors import SwitchError
from watcher.secrets import conceal


class Receiver(Loopback):
    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        answer(request, 200, b"")


def told(**sent):
    with Receiver() as receiver:
        urllib.request.urlopen(urllib.request.Request(receiver.url, **sent)).close()


@pytest.fixture
def afterwards():
    yield
    print(MARK)


def test_leaks_when_it_prints():
    print(MARK)

def test_leaks_when_a_fixture_prints(afterwards):
    pass

def test_leaks_when_it_logs():
    logging.getLogger("watcher").error("sent %s", MARK)

def test_leaks_when_what_it_printed_was_read(capsys):
    print(MARK, file=sys.stderr)
    capsys.readouterr()

@click.command()
def cli():
    click.echo(f"a line that is full: {MARK[:6]}\\n    {MARK[6:]}", err=True)

def test_leaks_in_a_command():
    CliRunner().invoke(cli)

def test_leaks_in_a_process():
    subprocess.run([sys.executable, "-c", "from tests.planted import MARK; print(MARK)"], capture_output=True)

def test_leaks_in_a_message():
    told(data=f"you sent {MARK}".encode())

def test_leaks_in_a_page():
    HTMLResponse(f"<p>{MARK}</p>")

def test_leaks_in_a_header_of_an_answer():
    Response("", headers={"Location": f"/{MARK}"})

def test_leaks_in_an_error():
    with pytest.raises(SwitchError):
        raise SwitchError(f"HTTP 400, what is {MARK}?")

def test_leaks_in_a_file(tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "report.html").write_text(f"<a href='/x?y=%2F{MARK}%3D'>")

def test_leaks_in_a_file_of_a_secret_that_is_written_to(tmp_path):
    with plant(tmp_path / "token", MARK).open("a") as file:
        file.write(f"sent {MARK}")

def test_leaks_beside_a_secret_of_its_own(tmp_path):
    plant(tmp_path / "token", MARK)
    (tmp_path / "token.json").write_text(MARK)

def test_holds_what_may_be_held(tmp_path):
    plant(tmp_path / "token", MARK)
    told(headers={"Authorization": f"Bearer {MARK}"})
    conceal(MARK)
    logging.getLogger("watcher").error("sent %s", MARK)  # it is hidden where it is written

def test_leaks_because_nothing_is_hidden_that_only_an_earlier_test_knew():
    logging.getLogger("watcher").error("sent %s", MARK)

def test_takes_a_secret_without_the_mark():
    conceal("5f0c-77aa-without-a-mark")

def test_leaks_where_several_tests_write(tmp_path_factory):
    (tmp_path_factory.mktemp("shared") / "log").write_text(MARK)
"""


def test_each_way_out_is_an_error_of_the_test_that_leaves_it_open() -> None:
    with tempfile.TemporaryDirectory() as place:  # out of the folder that is searched
        folder = Path(place)
        (folder / "test_leaking.py").write_text(LEAKING)
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += [f"--rootdir={place}", f"--basetemp={place}/t", f"--junitxml={place}/found.xml", "-c", os.devnull]
        command += [str(folder / "test_leaking.py")]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with (folder / "said").open("wb") as said:
            subprocess.run(command, cwd=place, env=environment, stdout=said, stderr=said, check=False, timeout=240)
        ran = list(ET.parse(folder / "found.xml").iter("testcase"))
    assert len(ran) == LEAKING.count("def test_")
    told = {str(case.get("name")): "".join(each.text or "" for each in case.iter("error")) for case in ran}
    quiet = [name for name, words in told.items() if "let a secret out" not in words and "was let out" not in words]
    assert quiet == ["test_holds_what_may_be_held", "test_takes_a_secret_without_the_mark"]
    assert told[quiet[0]] == ""
    assert "gave watcher the secret '5f0c-77aa-without-a-mark': make it of tests.planted.MARK" in told[quiet[1]]
    assert [case.get("name") for case in ran for _ in case.iter("failure")] == []


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        quote(f"/{SECRET}/+", safe=""),
        *(b64encode(f"{user}:{SECRET}".encode()).decode() for user in ("a", "al", "ali")),
        signing_key("webhook"),
        repr(SECRET.encode()),
        f"\\x{SECRET.encode().hex()}",
        SECRET.encode().hex().upper(),
    ],
    ids=["plain", "percent", "basic", "basic 2", "basic 3", "signing key", "repr", "bytea", "HEX"],
)
def test_a_secret_is_seen_however_it_is_written(written: str) -> None:
    assert seen_in("it", f"the text around {written} it") != []
    assert seen_in("it", "the text around it") == []


def test_a_secret_is_seen_across_lines_and_cells() -> None:
    assert seen_by_people("a table", f"│ {SECRET[:9]} │\n│ {SECRET[9:]} │") != []


def test_a_secret_that_a_server_made_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "_sought", [*planted._sought])
    assert planted.made_by_others("user:4f8e-of-a-server") == "user:4f8e-of-a-server"
    assert seen_in("it", "sent user:4f8e-of-a-server") != []


@pytest.fixture
def aside() -> Iterator[Path]:
    """A folder that is not searched at the end."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place)


WRITE = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA journal_mode = WAL")
database.execute("CREATE TABLE looks (told TEXT)")
database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
database.execute("INSERT INTO looks VALUES (?)", [sys.argv[2]])
database.commit()
os._exit(0)  # as killed: what was written is in the log beside the database only
"""


@pytest.mark.parametrize(("before", "is_cut"), [(100, False), (2_000 - 10, True), (2_000 + 4_092 - 10, True)])
def test_a_secret_in_a_database_is_found_where_it_was_not_moved_from_its_log_and_where_pages_cut_it(
    aside: Path, before: int, is_cut: bool
) -> None:
    database = aside / "watcher.db"
    # A text this long has its first 2000 bytes in the row's page, and the next 4092 in each page after it.
    text = ("x" * before + SECRET).ljust(2_000 + 3 * 4_092, "x")
    subprocess.run([sys.executable, "-c", WRITE, database, text], check=True, timeout=240)
    assert MARK.encode() not in database.read_bytes()
    assert (MARK.encode() not in Path(f"{database}-wal").read_bytes()) is is_cut
    assert any(str(database) in found for found in left_in(aside))


def test_a_folder_without_secrets_and_a_broken_database_are_nothing(aside: Path) -> None:
    (aside / "empty").touch()
    (aside / "broken.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5_000)
    plant(aside / "token", SECRET)
    (aside / "link").symlink_to(aside / "token")
    assert left_in(aside) == []


def test_a_file_that_a_test_made_unreadable_is_read_all_the_same(aside: Path) -> None:
    (aside / "log").write_text(SECRET)
    (aside / "log").chmod(0)
    assert len(left_in(aside)) == 1


@pytest.mark.servers
def test_a_secret_in_a_database_of_postgresql_is_found_in_any_column(postgres: str) -> None:
    import psycopg

    url = fresh_database(postgres)
    mine = {name: test for name, test in made_by.items() if name == url.rpartition("/")[2]}
    with psycopg.connect(url, autocommit=True) as connection:
        for kind, value in (("text", SECRET), ("jsonb", f'{{"told": ["{SECRET}"]}}'), ("bytea", SECRET.encode())):
            connection.execute(f"CREATE TABLE looks (told {kind})")  # type: ignore[arg-type]
            assert kept_on(postgres, mine) == []
            connection.execute("INSERT INTO looks VALUES (%s)", [value])
            [found] = kept_on(postgres, mine)
            assert "test_a_secret_in_a_database_of_postgresql" in found
            connection.execute("DROP TABLE looks")

"""`watcher backtest FILE`: what scripts rely on, what a terminal sees, and how it is stopped."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from rich.console import Console

import watcher as library
from tests.cli.conftest import ROOT, Watcher, past_releases
from watcher.report import progress

SCHEMA = json.loads((ROOT / "schemas" / "backtest.schema.json").read_text())
RATIO = ("--ratio", "errors/requests", "--processes", "1", "--horizon", "20m", "--looks-every", "5m")


@pytest.fixture
def past(folder: Path) -> Path:
    past_releases().to_csv("past.csv", index=False)
    return folder / "past.csv"


def told(text: str) -> Any:
    found = json.loads(text)
    jsonschema.Draft7Validator(SCHEMA).validate(found)
    return found


def test_the_json_is_that_of_the_library_and_fits_the_schema(watcher: Watcher, past: Path) -> None:
    answer = watcher("backtest", "past.csv", *RATIO, "--format", "json")
    asked = {"ratio": "errors/requests", "horizon": "20m", "looks_every": "5m", "processes": 1}
    ours = library.backtest("past.csv", **asked).to_json()
    found = told(answer.out)
    assert (answer.exit, answer.err) == (0, "")
    assert {**found, "took_seconds": 0} == {**ours, "took_seconds": 0}
    assert (found["releases"], found["recall"], found["false_alarm_rate"]) == (10, 0.6, 0.0)


def test_misses_and_false_alarms_do_not_change_the_exit_code(watcher: Watcher, past: Path) -> None:
    answer = watcher("backtest", "past.csv", *RATIO)
    assert answer.exit == 0
    assert answer.out.startswith("Found 3 of 5 bad releases")


def test_the_answer_goes_into_a_file_too(watcher: Watcher, past: Path) -> None:
    answer = watcher("backtest", "past.csv", *RATIO, "--output", "answer.txt")
    assert Path("answer.txt").read_text(encoding="utf-8") == answer.out
    failed = watcher("backtest", "past.csv", *RATIO, "--output", "nowhere/answer.txt")
    assert failed.exit == 2
    assert "nowhere/answer.txt" in failed.err


def test_the_report_is_written_beside_the_answer(watcher: Watcher, past: Path) -> None:
    answer = watcher("backtest", "past.csv", *RATIO, "--report", "report.html")
    assert (answer.exit, answer.err) == (0, "")
    page = Path("report.html").read_text(encoding="utf-8")
    assert answer.out.splitlines()[0] in page
    assert len(page) < 2_000_000
    assert watcher("backtest", "past.csv", *RATIO, "--report", "nowhere/report.html").exit == 2


def test_a_rule_pack_is_tried_as_a_whole(watcher: Watcher, folder: Path) -> None:
    past_releases(4).rename(columns={"errors": "errors_total", "requests": "requests_total"}).to_csv("past.csv")
    Path("rules.yaml").write_text(
        "pack: shop\nunit: unit\nrules:\n"
        "  - {name: errors, title: Requests that failed, kind: ratio, bad: errors_total, total: requests_total}\n"
    )
    answer = watcher("backtest", "past.csv", "--rules", "rules.yaml", "--horizon", "10m", "--format", "json")
    assert {row["top_stream"] for row in told(answer.out)["rows"]} == {"errors"}


def test_a_bar_is_shown_on_a_terminal_once_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Console(file=io.StringIO(), force_terminal=True, width=80)
    with progress.bar("releases", screen) as soon:
        assert soon is not None
        soon(1, 2)
    assert screen.file.getvalue() == ""  # type: ignore[attr-defined]
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with progress.bar("releases", screen) as late:
        assert late is not None
        late(3, 194)
    assert "3/194" in screen.file.getvalue()  # type: ignore[attr-defined]
    with progress.bar("releases", Console(file=io.StringIO())) as away:
        assert away is None


def test_a_bar_that_nobody_tells_anything_moves_and_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, threads = Console(file=io.StringIO(), force_terminal=True, width=80), threading.active_count()
    with progress.bar("judging", screen):
        pass
    assert screen.file.getvalue() == ""  # type: ignore[attr-defined]
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    with progress.bar("judging", screen) as told:
        time.sleep(0.6)
        shown = screen.file.getvalue()  # type: ignore[attr-defined]
        assert shown.count("judging") > 1
        assert "0:00:00" in shown
        assert told is not None
        told(1, 4)
        for _ in range(200):
            time.sleep(0.01 if threading.active_count() > threads else 0)
        assert threading.active_count() == threads
        assert "1/4" in screen.file.getvalue()  # type: ignore[attr-defined]
    # The line is cleared, and the cursor is back.
    assert screen.file.getvalue().endswith("\x1b[?25h\r\x1b[1A\x1b[2K")  # type: ignore[attr-defined]


@pytest.mark.parametrize("processes", ["1", "2"])
def test_an_interruption_stops_all_processes_at_once_and_says_so(folder: Path, processes: str) -> None:
    past_releases(40, minutes=240).to_csv("past.csv", index=False)
    command = [sys.executable, "-m", "watcher", "backtest", "past.csv", "--ratio", "errors/requests", "--horizon", "4h"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [*command, "--processes", processes],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        time.sleep(4)
        os.killpg(process.pid, signal.SIGINT)
        began = time.monotonic()
        out, err = process.communicate(timeout=240)
    assert (process.returncode, out, err.strip()) == (2, "", "stopped")
    assert time.monotonic() - began < 10

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from watcher.alerts.console import ConsoleAlerter
from watcher.errors import AlertError
from watcher.model import Alert

ALERT = Alert(
    "k",
    "shop/production/new-checkout@1.2.0",
    "headline",
    "regressed",
    "new-checkout 1.2.0",
    ("request-errors: 3.1 times the baseline",),
    at=1_795_000_000.0,
    links=(("runbook", "https://wiki.example/shop"),),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_away_from_a_terminal_alerts_are_plain_lines_with_details_indented() -> None:
    stream = io.StringIO()
    alerter = ConsoleAlerter(stream)
    assert alerter.deliver(ALERT, None) == {}
    alerter.deliver(replace(ALERT, kind="detail", urgent=True, lines=(), links=(), at=0.0), {})
    assert stream.getvalue().splitlines() == [
        "🔴 Regressed: new-checkout 1.2.0",
        "    request-errors: 3.1 times the baseline",
        "    runbook: https://wiki.example/shop",
        "    shop/production/new-checkout@1.2.0, 2026-11-18 11:06:40 UTC",
        "    🔴 Regressed: new-checkout 1.2.0 [urgent]",
        "        shop/production/new-checkout@1.2.0",
    ]


def test_on_a_terminal_a_headline_is_a_box() -> None:
    stream = Terminal()
    ConsoleAlerter(stream).deliver(replace(ALERT, lines=("[bold]kept as written[/bold]",)), None)
    first, *_, last = stream.getvalue().splitlines()
    assert "╭" in first
    assert "Regressed: new-checkout 1.2.0" in first
    assert "[bold]kept as written[/bold]" in stream.getvalue()
    assert "╯" in last


def test_label_values_do_not_control_the_terminal() -> None:
    for stream in (io.StringIO(), Terminal()):
        ConsoleAlerter(stream).deliver(replace(ALERT, lines=("\x1b]0;owned\x07\x1b[2J\rhealthy",)), None)
        assert "\x1b]0;" not in stream.getvalue()
        assert "\x1b[2J" not in stream.getvalue()
        assert "\r" not in stream.getvalue()


def test_a_stream_without_unicode_gets_what_it_can_show() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii")
    ConsoleAlerter(stream).deliver(ALERT, None)
    assert b"? Regressed: new-checkout 1.2.0\n" in raw.getvalue()


def test_a_closed_stream_is_an_alert_error() -> None:
    stream = io.StringIO()
    stream.close()
    with pytest.raises(AlertError, match="console cannot be written"):
        ConsoleAlerter(stream).deliver(ALERT, None)


def test_a_console_says_that_it_tells_only_who_reads_it() -> None:
    found = ConsoleAlerter(io.StringIO()).reach()
    assert (found.where, found.doubt) == ("the console", "only who reads the output of `watcher run` is told")
    assert "slack:" in found.do

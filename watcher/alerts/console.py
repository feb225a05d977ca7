"""Alerts on a terminal or in a log: what would have gone to Slack."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TextIO

from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from watcher.alerts.message import first_words
from watcher.errors import AlertError
from watcher.model import Alert, Reach

_COLOURS = {"healthy": "green", "regressed": "red", "killed": "red", "invalid": "yellow", "no_data": "yellow"}


class ConsoleAlerter:
    """Prints alerts: a box on a terminal, plain lines elsewhere; a detail is indented below its headline.

    Nothing printed can be edited, so every headline is printed anew, and receipts are empty.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        """Print the alert; what is told elsewhere, to those who have to know of a release only, is left out.

        Raises:
            AlertError: nobody reads the stream any more.
        """
        if alert.channel:
            return {}
        try:
            if self.stream.isatty():
                self._print_box(alert)
            else:
                self.stream.write(_encodable("\n".join(_lines(alert)) + "\n", self.stream))
            self.stream.flush()
        except (OSError, ValueError) as error:
            # A stream that was closed on our side raises ValueError.
            raise AlertError(f"the console cannot be written to: {error}", permanent=True) from error
        return {}

    def rendered(self, alert: Alert) -> str:
        """Return what would be printed where there is no terminal."""
        return text(alert)

    def reach(self) -> Reach:
        """Return that only who reads this console is told."""
        return Reach(
            "the console",
            "only who reads the output of `watcher run` is told",
            'tell a channel: slack: {token_file: /run/secrets/slack, channel: "#releases"}',
        )

    def _print_box(self, alert: Alert) -> None:
        title, *rest = (_encodable(line, self.stream) for line in _lines(alert, indent=""))
        console = Console(file=self.stream, highlight=False)
        head = Text(title, style="bold")
        # A title that does not fit into the frame would be cut; it is what people need to read.
        fits = head.cell_len <= console.width - 6
        console.print(
            Panel(
                Text("\n").join([*([] if fits else [head]), *map(Text, rest)]),
                title=head if fits else None,
                title_align="left",
                border_style=_COLOURS.get(alert.state, "blue"),
                box=box.ROUNDED if alert.kind == "headline" else box.MINIMAL,
                expand=False,
            )
        )


def console_alerter() -> ConsoleAlerter:
    """Return an alerter on standard error: standard output is for answers."""
    return ConsoleAlerter(sys.stderr)


def text(alert: Alert) -> str:
    """Return an alert as plain lines."""
    return "\n".join(_lines(alert))


def _lines(alert: Alert, indent: str = "    ") -> list[str]:
    """Return the alert as printable lines, the state first."""
    first = f"{first_words(alert)}{' [urgent]' if alert.urgent else ''}"
    when = datetime.fromtimestamp(alert.at, UTC).strftime(", %Y-%m-%d %H:%M:%S UTC") if alert.at else ""
    below = [*alert.lines, *(f"{name}: {url}" for name, url in alert.links), f"{alert.release}{when}"]
    margin = "" if alert.kind == "headline" else indent
    return [margin + _printable(first), *(margin + indent + _printable(line) for line in below)]


def _printable(text: str) -> str:
    """Replace what a terminal would obey instead of show: label values are not ours."""
    return "".join(char if char.isprintable() else " " for char in text)


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)

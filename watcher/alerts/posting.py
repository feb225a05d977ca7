"""Alerts as JSON over HTTP: sent once, as kill switches are spoken to; the outbox repeats what has to be."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

from watcher.errors import AlertError, SwitchError
from watcher.switches.http import Answer, ask


def post(
    url: str, headers: Mapping[str, str], body: bytes, ca_file: str | None, secrets: Collection[str] = ()
) -> Answer:
    """Send JSON and return the answer.

    Args:
        url: from the configuration, and nowhere else.
        headers: beside that of the type.
        body: JSON.
        ca_file: certificates to trust, instead of the system's.
        secrets: never shown in an error.

    Raises:
        AlertError: no answer in time, in which case it may have arrived, or one that says no.
    """
    with alert_errors():
        own = {"Content-Type": "application/json", **headers}
        return ask("POST", url, headers=own, body=body, ca_file=ca_file, secrets=secrets)


@contextmanager
def alert_errors() -> Iterator[None]:
    """Turn an error of asking into one of telling."""
    try:
        yield
    except SwitchError as error:
        raise AlertError(str(error), permanent=error.permanent, retry_after=error.retry_after) from None

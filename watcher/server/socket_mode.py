"""Clicks and commands through Slack's Socket Mode: watcher asks for a connection, and needs no address of its own.

Slack's own client keeps the connection, and makes another where one breaks. What comes is taken as it is over HTTP, but
for the signature: who may send here is who Slack let connect.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from slack_sdk import WebClient
from slack_sdk.errors import SlackClientError
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse
from starlette.exceptions import HTTPException

from watcher.errors import JournalError
from watcher.server.slash import Slash

log = logging.getLogger("watcher")

AGAIN: Final = 15.0
"""Seconds until the next attempt where the first connection cannot be made."""
PING: Final = 2.0
"""Seconds between pings: a connection that broke without a word is noticed after four, and costs a core until then."""
PATIENCE: Final = 5.0
"""Seconds in which a connection is closed at the end."""


@dataclass(frozen=True)
class Envelopes:
    """Takes what Slack sends, each once, and says that it came."""

    slash: Slash

    def __call__(self, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        """Take one; what the journal cannot record is not confirmed, and who clicked sees that it failed."""
        now, then, body = self.slash.clock(), None, None
        try:
            with self.slash.heard.once(f"envelope {request.envelope_id}", now):
                if request.type == "interactive":
                    found = self.slash.clicks.answer(json.dumps(request.payload), now)
                    then, body = found.after, found.content
                elif request.type == "slash_commands":
                    body = self.slash.command({name: str(value) for name, value in request.payload.items()}, now)
        except HTTPException:
            log.info("Slack sent something a second time")
        except JournalError as error:
            log.error("what Slack sent could not be recorded: %s", error)
            return
        client.send_socket_mode_response(SocketModeResponse(request.envelope_id, body))
        if then is not None:
            then()


Listener = Callable[[BaseSocketModeClient, SocketModeRequest], None]


@contextmanager
def connected(token: str, web: WebClient, envelopes: Listener, every: float = AGAIN) -> Iterator[None]:
    """Keep a connection to Slack until the end of the context, in a thread of its own.

    Args:
        token: of the app, with the scope `connections:write`.
        web: asks for connections.
        envelopes: takes what comes.
        every: seconds between attempts to connect, until the first one succeeds.
    """
    ending = threading.Event()

    def keep() -> None:
        # The sdk writes addresses that hold a ticket to its log.
        silent = logging.Logger("slack", logging.CRITICAL + 1)
        client = SocketModeClient(token, silent, web, ping_interval=PING)
        client.socket_mode_request_listeners.append(envelopes)
        while not ending.is_set():
            try:
                client.connect()
            except (SlackClientError, OSError, ValueError, AttributeError) as error:
                log.warning("Slack's Socket Mode cannot be reached (%s); tried again", type(error).__name__)
                ending.wait(every)
            else:
                if client.is_connected():
                    log.info("connected to Slack by Socket Mode")
                ending.wait()
        client.close()

    # A daemon, so that a connection that hangs cannot keep the process from ending.
    thread = threading.Thread(target=keep, name="slack", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(PATIENCE)

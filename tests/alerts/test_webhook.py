"""Signed webhooks: what is sent, that receivers can prove it, and what becomes of it when they cannot take it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import jsonschema
import pytest
from standardwebhooks import Webhook

from tests.alerts.test_slack import DETAIL, HEADLINE, REGRESSED
from tests.loopback import Loopback, answer
from tests.performing import perform
from tests.planted import MARK, signing_key
from watcher.act import Outbox
from watcher.alerts import alerter
from watcher.errors import AlertError, ConfigError
from watcher.journal import Journal
from watcher.model import Alert, Reply
from watcher.testing import MemorySwitch

SCHEMA = json.loads((Path(__file__).resolve().parents[2] / "schemas" / "alert.schema.json").read_text())
SECRET = signing_key("alerts")


class Receiver(Loopback):
    """Keeps what was proven to come from whoever has the secret, each id once; answers as it is told to."""

    def __init__(self) -> None:
        self.status, self.told, self.ids, self.tried = 204, list[dict[str, object]](), list[str](), 0
        super().__init__()

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.tried += 1
        message = Webhook(SECRET).verify(body, headers)
        if self.status < 300 and headers["webhook-id"] not in self.ids:
            self.told.append(message)
            self.ids.append(headers["webhook-id"])
        extra = {"Retry-After": "7"} if self.status == 429 else {}
        extra |= {"Location": "http://127.0.0.1:9/"} if self.status == 302 else {}
        answer(request, self.status, b"", **extra)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def test_every_message_is_sent_whole_and_signed(receiver: Receiver) -> None:
    told = alerter("webhook", url=receiver.url, secret=SECRET)
    replied = Alert(**{**REGRESSED.__dict__, "replies": (Reply("acknowledge", "U0ANA", 1.0),)})
    for alert in (HEADLINE, replied, DETAIL):
        told.deliver(alert, None)
    for message in receiver.told:
        jsonschema.validate(message, SCHEMA)
    assert [message["type"] for message in receiver.told] == ["watcher.headline", "watcher.headline", "watcher.detail"]
    data = receiver.told[1]["data"]
    assert isinstance(data, dict)
    assert (data["state"], data["release"]) == ("regressed", "shop/production/new-checkout@1.2.0")
    assert data["replies"] == [{"what": "acknowledge", "by": "U0ANA", "reason": ""}]


def test_the_same_message_has_the_same_id_so_that_a_receiver_hears_it_once(receiver: Receiver) -> None:
    for _ in range(2):
        alerter("webhook", url=receiver.url, secret=SECRET).deliver(HEADLINE, None)
    assert (receiver.tried, len(receiver.told)) == (2, 1)


@pytest.mark.parametrize(
    ("status", "permanent", "wait"), [(429, False, 7.0), (503, False, None), (401, True, None), (302, True, None)]
)
def test_a_receiver_that_cannot_take_it_is_told_of(
    receiver: Receiver, status: int, permanent: bool, wait: float | None
) -> None:
    receiver.status = status
    with pytest.raises(AlertError) as raised:
        alerter("webhook", url=receiver.url, secret=SECRET).deliver(HEADLINE, None)
    assert (raised.value.permanent, raised.value.retry_after) == (permanent, wait)
    assert receiver.tried == 1


def test_what_could_not_be_taken_comes_later(receiver: Receiver) -> None:
    with Journal.open("sqlite://") as journal:
        told = alerter("webhook", url=receiver.url, secret=SECRET)
        outbox = Outbox(journal, lambda _: MemorySwitch(), {"webhook own": told}, stopwatch=lambda: 0.0)
        journal.intend([HEADLINE], 0.0)
        receiver.status = 429
        perform(outbox, 0.0)
        receiver.status = 204
        perform(outbox, 3.0)
        assert receiver.told == []
        perform(outbox, 8.0)
    assert len(receiver.told) == 1


def test_an_address_that_is_secret_is_in_no_error() -> None:
    told = alerter("webhook", url=f"http://127.0.0.1:9/{MARK}", secret=SECRET, hidden=True)
    with pytest.raises(AlertError) as raised:
        told.deliver(HEADLINE, None)
    assert MARK not in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"url": "http://169.254.169.254/x", "secret": SECRET}, "webhooks.url"),
        ({"url": "ftp://shop.example", "secret": SECRET}, "webhooks.url"),
        ({"url": "http://127.0.0.1:9", "secret": f"whsec_{MARK}"}, "webhooks.secret_file"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        alerter("webhook", **settings)

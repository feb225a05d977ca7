from __future__ import annotations

import base64
import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.planted import MARK, plant, signing_key
from tests.switches.fault_proxy import Fault, FaultProxy
from tests.switches.kills import at, kill
from tests.switches.receiver import Receiver
from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.switches import switch
from watcher.switches.webhook import Webhook

KEY = f"{MARK}, bytes that nobody has".encode()
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver(SECRET, {"pay": 0.05, "search": 0.0}) as found:
        yield found


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "webhook.secret"
    plant(path, f"{SECRET}\n")
    return path


def settings(url: str, secret: Path, /, **more: object) -> str:
    return json.dumps(
        {"url": f"{url}/kill", "read": f"{url}/flags/{{feature}}", "secret_file": str(secret), **more}
    )  # fmt: skip


def test_a_kill_is_a_signed_message_that_the_library_of_the_standard_accepts(receiver: Receiver, secret: Path) -> None:
    webhook = switch(f"webhook:{settings(receiver.url, secret)}")
    assert webhook.read("pay") == SwitchState(True, 0.05, revision="0", shown="on: true, share: 0.05, revision: 0")
    webhook.kill("pay", "errors tripled: 1 % → 3 %")
    [message] = receiver.messages
    sent = dt.datetime.fromisoformat(message.pop("timestamp"))
    assert abs(sent.timestamp() - time.time()) < 60
    assert message == {"type": "watcher.kill", "data": {"feature": "pay", "reason": "errors tripled: 1 % → 3 %"}}
    assert webhook.read("pay") == SwitchState(False, 0.0, revision="1", shown="on: false, share: 0.0, revision: 1")
    assert receiver.killed == ["pay"]


def test_nothing_turns_a_feature_on() -> None:
    assert [name for name in dir(Webhook) if not name.startswith("_")] == ["dry_run", "kill", "read"]


def test_a_secret_without_the_prefix_is_taken_as_it_is(secret: Path) -> None:
    plant(secret, KEY)
    with Receiver(KEY, {"pay": 1.0}) as receiver:
        Webhook(settings(receiver.url, secret)).kill("pay", "")
        assert receiver.killed == ["pay"]


def test_every_try_has_the_id_of_its_kill_whichever_process_makes_it(receiver: Receiver, secret: Path) -> None:
    text = settings(receiver.url, secret)
    Webhook(text).kill("pay", "errors tripled")
    call = f"from watcher.switches.webhook import Webhook; Webhook({text!r}).kill('pay', 'errors tripled')"
    subprocess.run([sys.executable, "-c", call], check=True, timeout=60)
    assert len(receiver.messages) == 2
    assert receiver.ids[0] == receiver.ids[1]
    assert receiver.killed == ["pay"]


def test_what_differs_in_reason_feature_or_release_differs_in_id(receiver: Receiver, secret: Path) -> None:
    for feature, reason, version in [("pay", "a", "1"), ("pay", "b", "1"), ("search", "a", "1"), ("pay", "a", "2")]:
        Webhook(settings(receiver.url, secret, data={"version": version})).kill(feature, reason)
    assert len(set(receiver.ids)) == 4
    assert receiver.messages[0]["data"] == {"feature": "pay", "version": "1", "reason": "a"}


def test_every_reading_is_signed_under_an_id_of_its_own(receiver: Receiver, secret: Path) -> None:
    webhook = Webhook(settings(receiver.url, secret))
    webhook.read("pay")
    webhook.read("pay")
    assert len(set(receiver.asked)) == 2


def test_the_moment_that_is_signed_is_that_of_the_clock(receiver: Receiver, secret: Path) -> None:
    Webhook(settings(receiver.url, secret), lambda: time.time() - 200.7).kill("pay", "")
    assert 198 < time.time() - int(receiver.headers["webhook-timestamp"]) < 260
    late = Webhook(settings(receiver.url, secret), lambda: time.time() - 400)
    with pytest.raises(SwitchError, match="HTTP 401, Message timestamp too old") as caught:
        late.kill("pay", "")
    assert caught.value.permanent


def test_a_feature_is_one_part_of_the_path_whatever_it_holds(receiver: Receiver, secret: Path) -> None:
    receiver.shares["a/../b?c=1#é"] = 0.5
    webhook = Webhook(settings(receiver.url, secret))
    assert webhook.read("a/../b?c=1#é").share == 0.5
    assert receiver.paths == ["/flags/a%2F..%2Fb%3Fc%3D1%23%C3%A9"]
    with pytest.raises(SwitchError, match=r"a feature named '\.\.' would be another path") as caught:
        webhook.read("..")
    assert caught.value.permanent
    assert len(receiver.paths) == 1


def test_a_dry_run_says_what_would_be_sent_and_sends_no_kill(receiver: Receiver, secret: Path) -> None:
    webhook = Webhook(settings(receiver.url, secret, data={"version": "1.10"}))
    told = '{"type": "watcher.kill", "data": {"feature": "pay", "version": "1.10"}}'
    now = "(now on: true, share: 0.05, revision: 0)"
    assert webhook.dry_run("pay") == f"POST {receiver.url}/kill {told}, signed with {secret} {now}"
    off = "search is off already (on: false, share: 0.0, revision: 0); nothing would be sent"
    assert webhook.dry_run("search") == f"POST {receiver.url}/kill: {off}"
    with pytest.raises(SwitchError, match="HTTP 404, no feature refunds"):
        webhook.dry_run("refunds")
    assert receiver.messages == []


def test_headers_come_from_the_settings_from_files_and_from_variables(
    receiver: Receiver, secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "gateway", f"{MARK}-ü-…\n")
    monkeypatch.setenv("GATEWAY", f"{MARK}-hunter2")
    headers = {"X-Api-Key_file": f"{tmp_path}/gateway", "Authorization": "Bearer ${GATEWAY}", "X-Team": "payments"}
    webhook = Webhook(settings(receiver.url, secret, headers=headers))
    webhook.kill("pay", "")
    assert receiver.headers["authorization"] == f"Bearer {MARK}-hunter2"
    assert receiver.headers["x-api-key"].encode("latin-1").decode() == f"{MARK}-ü-…"
    assert (receiver.headers["x-team"], receiver.headers["content-type"]) == ("payments", "application/json")
    monkeypatch.delenv("GATEWAY")
    with pytest.raises(SwitchError, match=r"headers.Authorization: the environment variable GATEWAY is not set"):
        webhook.read("pay")


def test_no_secret_is_shown_even_where_the_receiver_repeats_it(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path / "gateway", f"{MARK}-und-mehr")
    monkeypatch.setenv("GATEWAY", f"{MARK}-hunter2")
    headers = {"X-Api-Key_file": f"{tmp_path}/gateway", "Authorization": "Bearer ${GATEWAY}"}
    with Receiver(SECRET, {"pay": 1.0}) as receiver, FaultProxy(receiver.url) as proxy:
        webhook = Webhook(settings(proxy.url, secret, headers=headers))
        words = f"bad {SECRET} or {SECRET[6:]}, {MARK}-und-mehr, {MARK}-hunter2"
        proxy.fail(Fault(status=400, body=words.encode()))
        with pytest.raises(SwitchError, match="bad <secret> or <secret>, <secret>, <secret>"):
            webhook.kill("pay", "")
        proxy.fail(Fault(status=400, body=f"{'x' * 284} {MARK}-hunter2".encode()))
        with pytest.raises(SwitchError, match="x <secret>") as cut_off:
            webhook.kill("pay", "")
    assert MARK not in str(cut_off.value)
    assert SECRET[6:] not in repr(webhook)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "the secret cannot be read: No such file"),
        (b"", "the secret is empty"),
        (f"whsec_{MARK} not base64!".encode(), "what follows whsec_ is not base64"),
        (b"whsec_", "has 0 bytes, and signing takes 24 or more"),
        (f"{MARK}-4711".encode(), "has 18 bytes, and signing takes 24 or more"),
        (b"whsec_" + base64.b64encode(f"{MARK}-4711".encode()), "has 18 bytes, and signing takes 24 or more"),
    ],
)
def test_a_secret_that_is_none_is_an_error_that_does_not_show_it(
    receiver: Receiver, secret: Path, content: bytes | None, words: str
) -> None:
    secret.unlink()
    if content is not None:
        plant(secret, content)
    webhook = Webhook(settings(receiver.url, secret))
    for call in (webhook.read, webhook.dry_run, lambda feature: webhook.kill(feature, "")):
        with pytest.raises(SwitchError, match=words) as caught:
            call("pay")
        assert caught.value.permanent
        assert str(caught.value).startswith(str(secret))
        assert "4711" not in str(caught.value)
    assert receiver.paths == []


def test_a_secret_may_lack_its_padding(receiver: Receiver, secret: Path) -> None:
    plant(secret, SECRET.rstrip("="))
    Webhook(settings(receiver.url, secret)).kill("pay", "")
    assert receiver.killed == ["pay"]


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (b'{"on": true}', SwitchState(True, None, shown="on: true")),
        (b'{"on": false}', SwitchState(False, 0.0, shown="on: false")),
        (b'{"on": true, "share": 0}', SwitchState(True, 0.0, shown="on: true, share: 0")),
        (b' {"on": false, "share": 0, "owner": [1]}\n', SwitchState(False, 0.0, shown="on: false, share: 0")),
        (
            b'{"on": true, "share": 1, "revision": "a7"}',
            SwitchState(True, 1.0, revision="a7", shown='on: true, share: 1, revision: "a7"'),
        ),
        (b'{"on": true, "share": null, "revision": null}', SwitchState(True, None, shown="on: true")),
    ],
)
def test_a_reading_says_whether_it_is_on_and_what_else_it_knows(
    receiver: Receiver, secret: Path, answer: bytes, state: SwitchState
) -> None:
    receiver.answer = answer
    assert Webhook(settings(receiver.url, secret)).read("pay") == state


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"<html>Sign in</html>", "a web page instead of JSON: is a login in front of it"),
        (b"", "something else instead of JSON"),
        (b"\xff", "something else instead of JSON"),
        (b"[]", "does not say whether the feature is on"),
        (b"null", "does not say whether the feature is on"),
        (b"{}", "does not say whether the feature is on"),
        (b'{"on": "false"}', "does not say whether the feature is on"),
        (b'{"on": 0}', "does not say whether the feature is on"),
        (b'{"on": true, "share": 5}', "share is 5; expected a fraction from 0 to 1"),
        (b'{"on": true, "share": -0.1}', "share is -0.1; expected a fraction"),
        (b'{"on": true, "share": "5%"}', 'share is "5%"; expected a fraction'),
        (b'{"on": true, "share": true}', "share is true; expected a fraction"),
        (b'{"on": true, "share": NaN}', "share is NaN; expected a fraction"),
        (b'{"on": true, "share": [%s]}' % b", ".join(b"1234567890" for _ in range(99)), r"share is .{103}; expected"),
        (b'{"on": false, "share": 0.05}', "contradicts itself: on is false and share is 0.05"),
        (b'{"on": true, "revision": {}}', "revision is {}; expected text or a number"),
    ],
)
def test_a_reading_that_does_not_say_so_plainly_is_an_error(
    receiver: Receiver, secret: Path, answer: bytes, words: str
) -> None:
    receiver.answer = answer
    with pytest.raises(SwitchError, match=words) as caught:
        Webhook(settings(receiver.url, secret)).read("pay")
    assert str(caught.value).startswith(f"GET {receiver.url}/flags/pay")
    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"read": None}, r"kill\.webhook\.read: "),
        ({"url": "ftp://127.0.0.1/"}, r"kill\.webhook\.url: expected a URL that starts with http:// or https://"),
        ({"url": "http:///kill"}, r"kill\.webhook\.url: expected a URL"),
        ({"url": f"https://ana:{MARK}@flags.example/"}, r"kill\.webhook\.url: a password does not belong into a URL"),
        ({"read": "https://f/{version}"}, r"kill\.webhook\.read: the only placeholder of a URL is \{feature\}"),
        ({"read": "https://{feature}.example/"}, r"kill\.webhook\.read: .* and not in its host"),
        ({"secret": MARK}, r"kill\.webhook\.secret: unknown key; did you mean 'secret_file'\?"),
        ({"headers": {"X Team": "a"}}, r"kill\.webhook\.headers: 'X Team' is not the name of a header"),
        ({"headers": {"webhook-id": "a"}}, "webhook-id is set by watcher; leave it out"),
        ({"headers": {"Content-Type_file": "a"}}, "Content-Type is set by watcher"),
        ({"headers": {"Authorization": MARK}}, "write Authorization_file: PATH, or"),
        ({"headers": {"X-A": 1}}, r"kill\.webhook\.headers\.X-A: .*string"),
        ({"data": {"reason": "a"}}, r"kill\.webhook\.data: reason is always sent; leave it out"),
    ],
)
def test_settings_that_are_wrong_name_the_key_and_the_fix(secret: Path, change: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        Webhook(settings("https://flags.example", secret, **change))
    assert "hunter2" not in str(caught.value)


def test_settings_are_checked_before_there_is_a_release_to_fill_them(secret: Path) -> None:
    Webhook(settings("https://flags.example", secret, data={"version": "{version}", "to": "{previous}"}))
    with pytest.raises(ConfigError, match=r"kill\.webhook: expected settings such as \{url, read, secret_file"):
        Webhook("https://flags.example/kill")


def test_the_wrong_secret_is_told_at_once_and_kills_nothing(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    plant(secret, signing_key("another"))
    killing = kill(Webhook(settings(receiver.url, secret)), "pay", tmp_path / "j.db")
    assert killing.state == "failed"
    assert "HTTP 401, No matching signature found; the credentials are not accepted" in killing.error
    assert (receiver.killed, len(receiver.paths)) == ([], 1)


def test_a_feature_that_the_receiver_does_not_know_is_told_at_once(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    killing = kill(Webhook(settings(receiver.url, secret)), "refunds", tmp_path / "j.db")
    assert killing.state == "failed"
    assert "HTTP 404, no feature refunds" in killing.error
    assert len(receiver.paths) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(applied=True), r"no answer \(ConnectionError\): is it running\?"),
        (Fault(applied=True, hang=30.0), "no answer within 0.6 s"),
        (Fault(applied=True, status=502), "HTTP 502"),
        (Fault(applied=False, status=503, body=b"restarting"), "HTTP 503, restarting"),
        (Fault(applied=False), "no answer"),
    ],
)
def test_a_kill_whose_answer_is_lost_happens_once(
    receiver: Receiver, secret: Path, tmp_path: Path, fault: Fault, words: str
) -> None:
    with FaultProxy(receiver.url) as proxy:
        webhook = Webhook(settings(proxy.url, secret), patience=(0.3, 0.3))
        proxy.fail(fault)
        with pytest.raises(SwitchError, match=words) as caught:
            webhook.kill("pay", "errors tripled")
        assert not caught.value.permanent
        if fault.applied:
            assert receiver.killed == ["pay"]
        receiver.shares["pay"] = 0.05
        receiver.killed.clear()
        receiver.ids.clear()
        proxy.requests.clear()
        proxy.fail(fault)
        killing = kill(webhook, "pay", tmp_path / "j.db")
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert receiver.killed == ["pay"]
    assert len(proxy.writes) == (1 if fault.applied else 2)


def test_a_receiver_that_is_slow_to_say_so_gets_the_same_id_again_and_acts_once(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    receiver.lag = 3
    killing = kill(Webhook(settings(receiver.url, secret)), "pay", tmp_path / "j.db")
    assert killing.state == "done"
    assert len(receiver.ids) == 2
    assert len(set(receiver.ids)) == 1
    assert receiver.killed == ["pay"]


def test_a_receiver_that_asks_for_patience_gets_it(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    with FaultProxy(receiver.url) as proxy:
        proxy.fail(Fault(status=429, retry_after="17"))
        killing = kill(Webhook(settings(proxy.url, secret)), "pay", tmp_path / "j.db")
    assert (killing.state, killing.pauses) == ("done", [17.0])
    assert receiver.killed == ["pay"]


def test_a_receiver_that_is_gone_is_tried_again(receiver: Receiver, secret: Path, tmp_path: Path) -> None:
    with FaultProxy(receiver.url) as proxy:
        proxy.stop()
        made = Webhook(settings(proxy.url, secret))
        killing = kill(made, "pay", tmp_path / "gone.db")
        assert (killing.state, len(killing.pauses)) == ("intended", 3)
        assert "no answer (ConnectionError): is it running?" in killing.error
        assert receiver.killed == []
        killing = kill(made, "pay", tmp_path / "back.db", after=at(2, proxy.come_back))
    assert (killing.state, len(killing.pauses), receiver.killed) == ("done", 2, ["pay"])


def test_a_receiver_that_says_yes_and_does_nothing_is_found_out(
    receiver: Receiver, secret: Path, tmp_path: Path
) -> None:
    receiver.answer = b'{"on": true, "share": 0.05}'
    killing = kill(Webhook(settings(receiver.url, secret)), "pay", tmp_path / "j.db")
    assert killing.state == "intended"
    assert "was told to turn pay off, and reads back as still on" in killing.error
    assert receiver.killed == ["pay"]
    assert len(receiver.ids) == 3

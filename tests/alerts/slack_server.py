"""A stand-in for Slack on 127.0.0.1: its Web API, an incoming webhook, its limits and its bad days.

    with SlackServer() as slack:
        client = WebClient(slack.token, base_url=slack.base_url)
        slack.fail(Fault(status=429, retry_after="7"))
        ...
        assert slack.messages("#releases")[0].shown.startswith("🔴 Regressed")

It keeps messages as people see them: the present text of each, what it said before every edit, and its thread.
"""

from __future__ import annotations

import html
import json
import re
import threading
import time
from collections import deque
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl

from tests.planted import MARK

TOKEN = f"xoxb-{MARK}"
APP_TOKEN = f"xapp-1-{MARK}"
HOOK = f"/services/T000/B000/{MARK}"


@dataclass
class Message:
    """One message in a channel or thread."""

    channel: str
    ts: str
    body: dict[str, Any]
    thread_ts: str | None = None
    broadcast: bool = False
    before: list[str] = field(default_factory=list)
    """What it showed before each edit."""

    @property
    def shown(self) -> str:
        """What a person reads: the blocks as lines, or the text where there are no blocks."""
        blocks = all_blocks(self.body)
        return "\n".join(filter(None, map(_block_text, blocks))) if blocks else readable(self.body.get("text", ""))

    @property
    def notification(self) -> str:
        """What a telephone shows."""
        return readable(self.body.get("text", ""))

    @property
    def calls(self) -> list[str]:
        """Whom the message calls: users, groups, `!channel`, `!here`."""
        # Beside the coloured bar it is not certain that Slack calls anybody.
        written = json.dumps(self.body.get("blocks") or self.body.get("text", ""), ensure_ascii=False)
        return re.findall(r"<([@!](?!date)[^>|]+)", written)

    @property
    def colour(self) -> str | None:
        """Of the bar beside it."""
        return next((each.get("color") for each in self.body.get("attachments", ())), None)

    @property
    def buttons(self) -> dict[str, dict[str, Any]]:
        """What there is to click, by the name of the action."""
        actions = [block for block in all_blocks(self.body) if block["type"] == "actions"]
        return {each["action_id"]: each for block in actions for each in block["elements"]}


@dataclass(frozen=True)
class File:
    """A file: announced with its length, then uploaded, then shared in a channel or below a message."""

    name: str
    length: int
    alt: str = ""
    content: bytes = b""
    title: str = ""
    thread_ts: str | None = None


@dataclass(frozen=True)
class Fault:
    """How the next request goes wrong.

    `kept` says that the request took effect all the same. `drop` closes the connection without an answer, `hang`
    holds it until the server stops.
    """

    status: int = 500
    body: bytes = b"upstream connect error"
    retry_after: str | None = None
    kept: bool = False
    drop: bool = False
    hang: bool = False


class SlackServer:
    """Serves until the end of the `with` block; `per_second` turns the rate limit of a channel on."""

    def __init__(
        self, *channels: str, token: str = TOKEN, per_second: float | None = None, burst: int = 5, port: int = 0
    ) -> None:
        self.token = token
        self.channels = {name: f"C{number:08d}" for number, name in enumerate(channels or ("#releases",), start=1)}
        self.scopes = {"chat:write", "channels:read"}
        """What the bot may do."""
        self.left: set[str] = set()
        """Names of channels that the bot is not in."""
        self.archived: set[str] = set()
        """Names of channels that are archived."""
        self.page = 999
        """Channels in one answer, at most."""
        self.dialogs: list[dict[str, Any]] = []
        """Views that were opened."""
        self.whispers: list[tuple[str, str]] = []
        """What was said to one member alone: (member, text)."""
        self.files: list[File] = []
        """What was uploaded and shared."""
        self._uploads: dict[str, File] = {}
        self.socket: str | None = None
        """Where connections of Socket Mode go; None: there are none now."""
        self.requests: list[str] = []
        """Method of every request, also of those that were refused."""
        self._messages: list[Message] = []
        self._faults: deque[Fault] = deque()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._per_second, self._burst = per_second, burst
        self._allowance: dict[str, tuple[float, float]] = {}
        self._http = _Http(("127.0.0.1", port), _Handler)
        self._http.slack = self
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> SlackServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def base_url(self) -> str:
        return f"{self.address}/api/"

    @property
    def webhook_url(self) -> str:
        """An incoming webhook into the first channel."""
        return self.address + HOOK

    def fail(self, *faults: Fault) -> None:
        """Let the next requests go wrong, one fault each."""
        with self._lock:
            self._faults.extend(faults)

    def messages(self, channel: str | None = None) -> list[Message]:
        """Return what stands in a channel (in all of them), oldest first; thread replies only when broadcast."""
        with self._lock:
            found = [message for message in self._messages if message.thread_ts is None or message.broadcast]
        return found if channel is None else [message for message in found if message.channel == self._id(channel)]

    def thread(self, parent: Message) -> list[Message]:
        """Return the replies to a message."""
        with self._lock:
            return [message for message in self._messages if message.thread_ts == parent.ts]

    def delete(self, message: Message) -> None:
        """Delete a message, as a person may."""
        with self._lock:
            self._messages.remove(message)

    def _id(self, channel: str) -> str:
        return self.channels.get(channel) or self.channels.get(f"#{channel}") or channel

    def handle(self, path: str, content: bytes, headers: dict[str, str]) -> _Answer | None:
        """Answer a request; None closes the connection."""
        if path.startswith("/upload/"):
            return self._uploaded(path, content)
        method = "webhook" if path.startswith("/services/") else path.removeprefix("/api/")
        with self._lock:
            self.requests.append(method)
            fault = self._faults.popleft() if self._faults else None
            if fault is None or fault.kept:
                answer = self._webhook(path, content) if method == "webhook" else self._api(method, content, headers)
        if fault is None:
            return answer
        if fault.hang:
            self._closing.wait()
        if fault.hang or fault.drop:
            return None
        return _Answer(fault.status, fault.body, fault.retry_after)

    def _api(self, method: str, content: bytes, headers: dict[str, str]) -> _Answer:
        if method == "apps.connections.open":
            right = headers.get("authorization") == f"Bearer {APP_TOKEN}" and self.socket is not None
            return _said({"ok": True, "url": self.socket}) if right else _refused("invalid_auth")
        if headers.get("authorization") != f"Bearer {self.token}":
            return _refused("invalid_auth")
        if method == "auth.test":
            said = {"ok": True, "url": "https://shop.slack.com/", "user": "watcher", "bot_id": "B0000001"}
            return replace(_said(said), scopes=",".join(sorted(self.scopes)))
        if method in ("conversations.info", "users.conversations"):
            given = dict(parse_qsl(content.decode()))
            return self._info(given) if method == "conversations.info" else self._channels_of_bot(given)
        if method in ("files.getUploadURLExternal", "files.completeUploadExternal"):
            return self._file(method, content)
        if method not in ("chat.postMessage", "chat.update", "views.open", "chat.postEphemeral"):
            return _refused("unknown_method")
        body = _parsed(content)
        if body is None:
            return _refused("invalid_json")
        if method == "views.open":
            return self._open(body)
        channel = str(body.get("channel", ""))
        # Posting takes a name or an id, editing only an id.
        channel = self._id(channel) if method != "chat.update" else channel
        if channel not in self.channels.values():
            return _refused("channel_not_found")
        if problem := limits(body, longest_text=40_000 if method == "chat.postMessage" else 4_000):
            return _refused(problem)
        if method == "chat.postEphemeral":
            self.whispers.append((body["user"], readable(body["text"])))
            return _said({"ok": True, "message_ts": "1"})
        return self._post(channel, body) if method == "chat.postMessage" else self._update(channel, body)

    def _open(self, body: dict[str, Any]) -> _Answer:
        view = json.loads(body["view"]) if isinstance(body.get("view"), str) else body.get("view")
        if not body.get("trigger_id"):
            return _refused("invalid_trigger_id")
        if problem := modal_limits(view):
            return _refused(problem)
        self.dialogs.append(view)
        return _said({"ok": True, "view": view})

    def _file(self, method: str, content: bytes) -> _Answer:
        given = dict(parse_qsl(content.decode()))
        if "files:write" not in self.scopes:
            return _refused("missing_scope")
        if method == "files.getUploadURLExternal":
            name = f"F{len(self._uploads):08d}"
            self._uploads[name] = File(given["filename"], int(given["length"]), given.get("alt_txt", ""))
            return _said({"ok": True, "file_id": name, "upload_url": f"{self.address}/upload/{name}"})
        named = json.loads(given["files"])
        if any(not self._uploads[each["id"]].content for each in named):
            return _refused("file_upload_size_restricted")
        if given["channel_id"] not in self.channels.values():
            return _refused("channel_not_found")
        for each in named:
            shared = replace(self._uploads[each["id"]], title=each["title"], thread_ts=given.get("thread_ts"))
            self.files.append(shared)
        return _said({"ok": True, "files": [{"id": each["id"], "title": each["title"]} for each in named]})

    def _uploaded(self, path: str, content: bytes) -> _Answer:
        name = path.rpartition("/")[2]
        if len(content) != self._uploads[name].length:
            return _Answer(400, b"length")
        self._uploads[name] = replace(self._uploads[name], content=content)
        return _Answer(200, b"OK")

    def _info(self, given: dict[str, str]) -> _Answer:
        if "channels:read" not in self.scopes:
            return _refused("missing_scope")
        name = next((name for name, known in self.channels.items() if known == given.get("channel")), None)
        if name is None:
            return _refused("channel_not_found")
        found = {"id": self.channels[name], "name": name.removeprefix("#"), "is_archived": name in self.archived}
        return _said({"ok": True, "channel": {**found, "is_member": name not in self.left}})

    def _channels_of_bot(self, given: dict[str, str]) -> _Answer:
        needed = {"public_channel": "channels:read", "private_channel": "groups:read"}
        if any(needed[each] not in self.scopes for each in given["types"].split(",")):
            return _refused("missing_scope")
        there = [name for name in self.channels if name not in self.left | self.archived]
        start, size = int(given.get("cursor") or 0), min(self.page, int(given["limit"]))
        page, end = there[start : start + size], start + size
        channels = [{"id": self.channels[name], "name": name.removeprefix("#")} for name in page]
        cursor = str(end) if end < len(there) else ""
        return _said({"ok": True, "channels": channels, "response_metadata": {"next_cursor": cursor}})

    def _post(self, channel: str, body: dict[str, Any]) -> _Answer:
        parent = body.get("thread_ts")
        if parent is not None and all((channel, parent) != (known.channel, known.ts) for known in self._messages):
            return _refused("thread_not_found")
        if self._limited(channel):
            return _Answer(429, json.dumps({"ok": False, "error": "ratelimited"}).encode(), "1")
        ts = self._add(channel, body, parent, bool(parent and body.get("reply_broadcast")))
        return _said({"ok": True, "channel": channel, "ts": ts, "message": {"text": body.get("text", ""), "ts": ts}})

    def _update(self, channel: str, body: dict[str, Any]) -> _Answer:
        at = (channel, body.get("ts"))
        message = next((known for known in self._messages if (known.channel, known.ts) == at), None)
        if message is None:
            return _refused("message_not_found")
        message.before.append(message.shown)
        message.body = body
        return _said({"ok": True, "channel": channel, "ts": message.ts, "text": body.get("text", "")})

    def _webhook(self, path: str, content: bytes) -> _Answer:
        if path != HOOK:
            return _Answer(404, b"no_service")
        body = _parsed(content)
        if body is None:
            return _Answer(400, b"invalid_payload")
        if problem := limits(body, longest_text=40_000):
            return _Answer(400, problem.encode())
        channel = next(iter(self.channels.values()))
        if self._limited(channel):
            return _Answer(429, b"rate_limited", "1")
        self._add(channel, body)
        return _Answer(200, b"ok")

    def _add(self, channel: str, body: dict[str, Any], parent: str | None = None, broadcast: bool = False) -> str:
        ts = f"1700000000.{len(self.requests):06d}"
        self._messages.append(Message(channel, ts, body, parent, broadcast))
        return ts

    def _limited(self, channel: str) -> bool:
        """Take one message from the allowance of a channel, which fills by `per_second` up to `burst`."""
        if self._per_second is None:
            return False
        left, since = self._allowance.get(channel, (float(self._burst), time.monotonic()))
        now = time.monotonic()
        left = min(float(self._burst), left + (now - since) * self._per_second)
        self._allowance[channel] = (left - 1 if left >= 1 else left, now)
        return left < 1


def limits(body: dict[str, Any], *, longest_text: int) -> str | None:
    """Return the error code Slack would answer with, None for a message it takes."""
    text, beside = body.get("text", ""), body.get("attachments", [])
    if not isinstance(beside, list) or len(beside) > 20 or not all(map(_attachment, beside)):
        return "invalid_attachments"
    if not isinstance(body.get("blocks", []), list):
        return "invalid_blocks"
    blocks = all_blocks(body)
    if not text and not blocks:
        return "no_text"
    if not isinstance(text, str) or len(text) > longest_text:
        return "msg_too_long"
    if len(blocks) > 50 or not all(map(_well_formed, blocks)):
        return "invalid_blocks"
    names = [block["block_id"] for block in blocks if "block_id" in block]
    if len(names) != len(set(names)):
        return "invalid_blocks"
    return "msg_blocks_too_long" if sum(len(_block_source(block)) for block in blocks) > 12_000 else None


def all_blocks(body: dict[str, Any]) -> list[Any]:
    """Return the blocks of a message, and then those beside a coloured bar."""
    return [*body.get("blocks", ()), *(block for each in body.get("attachments", ()) for block in each["blocks"])]


def _attachment(given: Any) -> bool:
    return (
        isinstance(given, dict)
        and isinstance(given.get("blocks"), list)
        and re.fullmatch("#[0-9a-f]{6}", given.get("color", "")) is not None
        and isinstance(given.get("fallback", ""), str)
    )


def modal_limits(view: Any) -> str | None:
    """Return the error code Slack would answer with to a dialog, None for one it takes."""
    try:
        titles = [view["title"]["text"], view["submit"]["text"], view["close"]["text"]]
        good = view["type"] == "modal" and all(1 <= len(each) <= 24 for each in titles)
        good = good and len(view["callback_id"]) <= 255 and len(view["private_metadata"]) <= 3000
        inputs = [block for block in view["blocks"] if block["type"] == "input"]
        good = good and all(1 <= len(each["label"]["text"]) <= 2000 and len(each["block_id"]) <= 255 for each in inputs)
        others = [block for block in view["blocks"] if block["type"] != "input"]
        return None if good and all(map(_well_formed, others)) else "invalid_arguments"
    except (KeyError, TypeError):
        return "invalid_arguments"


def _well_formed(block: Any) -> bool:
    try:
        if len(block.get("block_id", "")) > 255:
            return False
        if block["type"] == "actions":
            return 1 <= len(block["elements"]) <= 25 and all(map(_button, block["elements"]))
        if block["type"] == "header":
            return block["text"]["type"] == "plain_text" and 1 <= len(block["text"]["text"]) <= 150
        if block["type"] == "section":
            fields = block.get("fields", [])
            longest = [(block["text"], 3000)] if "text" in block else []
            longest += [(part, 2000) for part in fields]
            return len(longest) > 0 and len(fields) <= 10 and all(_is_text(part, limit) for part, limit in longest)
        if block["type"] == "context":
            return 1 <= len(block["elements"]) <= 10 and all(_is_text(part, 3000) for part in block["elements"])
    except (KeyError, TypeError):
        return False
    return block["type"] in ("divider", "image")


def _button(given: dict[str, Any]) -> bool:
    confirm = given.get("confirm")
    asked = confirm is None or all(
        1 <= len(confirm[name]["text"]) <= longest
        for name, longest in (("title", 100), ("text", 300), ("confirm", 30), ("deny", 30))
    )
    return (
        given["type"] == "button"
        and given["text"]["type"] == "plain_text"
        and 1 <= len(given["text"]["text"]) <= 75
        and 1 <= len(given["action_id"]) <= 255
        and len(given.get("value", "")) <= 2000
        and given.get("style", "primary") in ("primary", "danger")
        and asked
    )


def _is_text(part: Any, longest: int) -> bool:
    return part["type"] in ("mrkdwn", "plain_text") and 1 <= len(part["text"]) <= longest


def _block_source(block: dict[str, Any]) -> str:
    """Return the text of a block as it was sent; that of buttons is apart."""
    if block["type"] == "actions":
        return ""
    parts = [block.get("text"), *block.get("fields", ()), *block.get("elements", ())]
    return "\n".join(part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str))


def _block_text(block: dict[str, Any]) -> str:
    source = _block_source(block)
    return source if block["type"] == "header" else readable(source)


def readable(markup: str) -> str:
    """Show markup as people see it: links by their name, dates by their fallback, entities as characters."""
    return html.unescape(re.sub(r"<(?:[^<>|]*\|)?([^<>|]*)>", r"\1", markup))


def _parsed(content: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(content)
    except ValueError:
        return None
    return body if isinstance(body, dict) else None


@dataclass(frozen=True)
class _Answer:
    status: int
    body: bytes
    retry_after: str | None = None
    scopes: str | None = None


def _said(answer: dict[str, Any]) -> _Answer:
    return _Answer(200, json.dumps(answer).encode())


def _refused(code: str) -> _Answer:
    return _said({"ok": False, "error": code})


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    slack: SlackServer


class _Handler(BaseHTTPRequestHandler):
    server: _Http

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.slack.handle(self.path, content, headers)
        if answer is None:
            self.close_connection = True
            return
        self.send_response(answer.status)
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.retry_after is not None:
            self.send_header("Retry-After", answer.retry_after)
        if answer.scopes is not None:
            self.send_header("X-OAuth-Scopes", answer.scopes)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: Any) -> None:
        pass

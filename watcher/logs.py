"""What the daemon says of its work: one line an event, as text or JSON, and no secret in any of them.

Redaction is the last step, on whatever would be written: messages, what stands in them, tracebacks, and the debug logs
of the libraries beside. It knows the secrets this process has read, and what others look like.
"""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from typing import Any, Final, TextIO

from watcher.secrets import HIDDEN, redacted

FIELDS: Final = ("service", "release", "switch")
"""What an event may be about, as `extra` says it."""

_AUTHORIZATION = r"(?i)(authorization['\"]?\s*[:=]\s*(?:b?['\"])?)(?:(?:bearer|basic|token)\s+)?[^\s'\",;]+"

_LOOKS_SECRET: Final = (
    (re.compile(_AUTHORIZATION), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+(?=[\w.~+/=-]*\d)[\w.~+/=-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\bxox[a-z]-[\w-]+"), HIDDEN),
    (re.compile(r"(hooks\.slack\.com/)[^\s'\"<>]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(://)[^/\s'\":@]*:[^/\s'\"@]+@"), rf"\1{HIDDEN}@"),
)


def harmless(text: str) -> str:
    """Return a text without secrets, and without what looks like one.

    >>> harmless("GET http://bob:pass@prom:9090 {'Authorization': 'Bearer abc'} xoxb-12-ab")
    "GET http://***@prom:9090 {'Authorization': '***'} ***"
    >>> harmless("Bearer token expired, basic authentication needs a username")
    'Bearer token expired, basic authentication needs a username'
    """
    text = redacted(text)
    for pattern, instead in _LOOKS_SECRET:
        text = pattern.sub(instead, text)
    return text


class Text(logging.Formatter):
    """A line of text; a traceback below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event."""
        return harmless(super().format(record))


class Json(logging.Formatter):
    """A line of JSON: time, level, logger, event, and what it is about; an error in words, and where it came from."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the event."""
        found: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": harmless(record.getMessage()),
            **{name: harmless(str(getattr(record, name))) for name in FIELDS if hasattr(record, name)},
        }
        error = record.exc_info[1] if record.exc_info else None
        arguments = record.args if isinstance(record.args, tuple) else ()
        error = error or next((each for each in arguments if isinstance(each, Exception)), None)
        if error is not None:
            found["error"] = harmless(f"{type(error).__name__}: {error}")
        if record.exc_info:
            found["traceback"] = harmless(self.formatException(record.exc_info))
        return json.dumps(found, ensure_ascii=False)


def events(stream: TextIO, form: str, debug: bool = False) -> None:
    """Let everything that is logged in this process go to a stream; with `debug`, what libraries say, too.

    Args:
        stream: standard error, as a rule.
        form: `text`, or `json` for machines.
        debug: whether it is to be said in detail.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json() if form == "json" else Text("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.DEBUG if debug else logging.INFO, handlers=[handler], force=True)


def warnings() -> None:
    """Let warnings of other commands go to standard error, as Python does by itself, but without secrets."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Text())

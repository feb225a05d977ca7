"""What must not stand in watcher.yaml: secrets in files of their own, and variables of the environment.

Both are read when they are needed, and kept in one place only: here, so that `redacted` finds them again in whatever
others say. Servers quote what they were sent, and libraries log it.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from watcher.errors import ConfigError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable of the environment, as settings name it."""
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What may be the name of an HTTP header."""
SECRET_NAME = re.compile(r"auth|token|key|secret|password|cookie|session", re.I)
"""What the name of a setting or a header holds whose value is a secret."""
LONGEST_SECRET = 1 << 16
"""Characters; a file beyond this is not a secret."""
SHORTEST = 8
"""Characters; what is shorter is left in texts, which it would only garble."""
HIDDEN = "***"
"""What stands in a text for a secret."""

_concealed: tuple[str, ...] = ()
_adding = threading.Lock()


def conceal(secret: str) -> None:
    """Know a text as secret from now on, in all the ways it may be written in; of a URL also what follows the host."""
    global _concealed
    text = secret.strip()
    host = urlsplit(text).netloc if re.match(r"https?://", text) else ""
    texts = {text, text.partition(host)[2]} if host else {text}
    in_json = {json.dumps(each, ensure_ascii=strict)[1:-1] for each in texts for strict in (True, False)}
    ways = {way for each in texts for way in (each, quote(each, safe=""), quote(each))} | in_json
    with _adding:
        known = {*_concealed, *(each for each in ways if len(each) >= SHORTEST)}
        # The longest first: what is left of a secret when a part of it was replaced would be found no more.
        _concealed = tuple(sorted(known, key=lambda each: (-len(each), each)))


def redacted(text: str) -> str:
    """Return a text without the secrets that this process has read.

    >>> conceal("s3cr3t-of-nobody")
    >>> redacted("HTTP 500, you sent: Bearer s3cr3t-of-nobody")
    'HTTP 500, you sent: Bearer ***'
    """
    for each in _concealed:
        if each in text:
            text = text.replace(each, HIDDEN)
    return text


def secrets_in(path: str | Path) -> list[str]:
    """Return the secrets of a file, one a line; empty lines are left out.

    Raises:
        ConfigError: unreadable, or without any. The content is never shown.
    """
    try:
        found = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise ConfigError(f"the secrets cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError:
        raise ConfigError("the secrets are not UTF-8 text", file=str(path)) from None
    if not found:
        raise ConfigError("there is no secret in it", file=str(path))
    for each in found:
        conceal(each)
    return found


def secret(path: str | Path) -> str:
    """Return the one line of a secret's file, without the line end.

    Raises:
        ConfigError: unreadable, empty, or more than one line of text. The content is never shown.
    """
    try:
        with open(path, encoding="utf-8") as file:
            content = file.read(LONGEST_SECRET + 1).rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"the secret cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError:
        raise ConfigError("the secret is not UTF-8 text", file=str(path)) from None
    if not content.strip():
        raise ConfigError("the secret is empty", file=str(path))
    if len(content) > LONGEST_SECRET or not content.isprintable():
        # Clients quote a header they refuse, and with it the secret.
        raise ConfigError("the secret is more than one line of plain text", file=str(path))
    conceal(content)
    return content


def from_environment(text: str, environment: Mapping[str, str] | None = None, *, of: str = "") -> str:
    """Replace ${NAME} by the variables of the environment (default: this process's).

    A variable is a secret where its name says so, or that of the setting it goes into (`of`).

    >>> from_environment("Bearer ${TOKEN}", {"TOKEN": "abc"})
    'Bearer abc'

    Raises:
        ConfigError: a variable is not set, or not one line.
    """
    known = os.environ if environment is None else environment

    def value(found: re.Match[str]) -> str:
        if not known.get(found[1]):
            raise ConfigError(f"the environment variable {found[1]} is not set")
        if not known[found[1]].isprintable():
            raise ConfigError(f"the environment variable {found[1]} is more than one line of plain text")
        if SECRET_NAME.search(found[1]) or SECRET_NAME.search(of):
            conceal(known[found[1]])
        return known[found[1]]

    return VARIABLE.sub(value, text)

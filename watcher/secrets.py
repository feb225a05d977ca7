"""What must not stand in watcher.yaml: secrets in files of their own, and variables of the environment.

Both are read when they are needed, and never kept.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from watcher.errors import ConfigError

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""A variable of the environment, as settings name it."""
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""What may be the name of an HTTP header."""
SECRET_NAME = re.compile(r"auth|token|key|secret|password|cookie|session", re.I)
"""What the name of a setting or a header holds whose value is a secret."""
LONGEST_SECRET = 1 << 16
"""Characters; a file beyond this is not a secret."""


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
    return content


def from_environment(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Replace ${NAME} by the variables of the environment (default: this process's).

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
        return known[found[1]]

    return VARIABLE.sub(value, text)

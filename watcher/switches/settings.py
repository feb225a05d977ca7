"""What watcher.yaml says of a kill switch, as the switch itself reads it: strict, and exact about what is wrong.

The settings of a switch are the part of its key after the name: a plain string (a path, a URL), or a JSON object.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from watcher.addresses import refused
from watcher.errors import ConfigError, SwitchError
from watcher.secrets import secret


class Settings(BaseModel):
    """Settings of a switch: unknown keys are errors, and nothing is guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


SettingsT = TypeVar("SettingsT", bound=Settings)


def parsed(name: str, text: str, model: type[SettingsT]) -> SettingsT:
    """Return the settings of a switch, checked.

    >>> class Both(Settings):
    ...     url: str
    ...     project: str = "default"
    >>> parsed("unleash", '{"url": "http://127.0.0.1:4242"}', Both)
    Both(url='http://127.0.0.1:4242', project='default')

    Args:
        name: of the switch, for messages.
        text: JSON object.
        model: what the switch understands.

    Raises:
        ConfigError: no JSON object, or a key that is missing, unknown or wrong: named, with the fix.
    """
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    known = ", ".join(model.model_fields)
    if not isinstance(found, dict):
        raise ConfigError(f"expected settings such as {{{known}}}", key=f"kill.{name}")
    try:
        return model.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, model.model_fields, n=1)
            problem = f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; there is: {known}"
        elif first["type"] == "missing":
            problem = "is missing"
        raise ConfigError(problem, key=".".join(filter(None, ("kill", name, key)))) from None


def plain_address(url: str, example: str) -> SplitResult:
    """Return the parts of a URL that is a literal address: where credentials go is nobody's but the file's to say.

    Raises:
        ValueError: it is none, or holds a placeholder, credentials, a query or a fragment.
    """
    parts = urlsplit(url)
    plain = url.isprintable() and not set(url) & set("@?# {}")
    if not (plain and parts.scheme in ("http", "https") and parts.hostname):
        raise ValueError(f"expected an address and nothing else, such as {example}")
    if why := refused(url):
        raise ValueError(why)
    return parts


def read_secret(path: str | Path) -> str:
    """Return what a secret's file holds, read now.

    Raises:
        SwitchError: unreadable, empty, or more than one line. The content is never shown.
    """
    try:
        return secret(path)
    except ConfigError as error:
        raise SwitchError(str(error), permanent=True) from error

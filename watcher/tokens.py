"""Who may ask watcher for what over HTTP: a file of names, what each may do, and hashes; no token stands in it.

A line a token: `NAME MAY sha256:HASH`, as `watcher token new` writes it. Tokens are random and long, so that a plain
hash of one is as good as a slow one: nobody guesses 256 bits.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from watcher.errors import ConfigError

RIGHTS: Final = ("releases", "pause")
"""What a token may do: tell of releases, and pause what watcher does by itself."""

_LINE: Final = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]{0,60}) (?P<may>[a-z,]+) sha256:(?P<digest>[0-9a-f]{64})")


@dataclass(frozen=True)
class Known:
    """A token that was given to somebody."""

    name: str
    may: frozenset[str]
    digest: str


def made(name: str, may: Sequence[str]) -> tuple[str, str]:
    """Return a fresh token, and the line that knows it.

    Raises:
        ConfigError: the name is none.

    >>> token, line = made("ci", ["releases"])
    >>> token[:8], line[:19], parsed([line])[0].name
    ('watcher_', 'ci releases sha256:', 'ci')
    """
    token = f"watcher_{secrets.token_urlsafe(32)}"
    line = entry(name, may, token)
    parsed([line])
    return token, line


def entry(name: str, may: Sequence[str], token: str) -> str:
    """Return the line that knows a token."""
    return f"{name} {','.join(may)} sha256:{digest(token)}"


def give(path: Path, name: str, may: Sequence[str]) -> str:
    """Make a token, add the line that knows it to a file, and return it.

    Raises:
        ConfigError: the file knows the name already, or cannot be written.
    """
    if path.exists() and name in {each.name for each in read(path)}:
        problem = f"{name} has a token already: take its line out of the file, or choose another name"
        raise ConfigError(problem, file=str(path))
    token, line = made(name, may)
    try:
        # Editors may leave the last line without its end, and the new one would make it another.
        ended = not path.exists() or path.read_bytes()[-1:] in (b"", b"\n")
        with open(path, "a", encoding="utf-8", opener=partial(os.open, mode=0o600)) as file:
            file.write(f"{line}\n" if ended else f"\n{line}\n")
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror}", file=str(path)) from error
    return token


def digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def read(path: str | Path) -> list[Known]:
    """Return the tokens that a file knows.

    Raises:
        ConfigError: it cannot be read, or a line of it is none.
    """
    try:
        return parsed(Path(path).read_text(encoding="utf-8").splitlines())
    except OSError as error:
        problem = f"cannot be read ({error.strerror}): `watcher token new NAME` makes it"
    except UnicodeDecodeError:
        problem = "is not UTF-8 text: write it with `watcher token new NAME`"
    except ConfigError as error:
        problem = error.problem
    raise ConfigError(problem, file=str(path))


def parsed(lines: Iterable[str]) -> list[Known]:
    """Return the tokens of a file; empty lines and those that begin with `#` are left out.

    Raises:
        ConfigError: a line is something else; what it holds is not repeated.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        may = frozenset(match["may"].split(",")) if match else frozenset()
        if match is None or not may <= set(RIGHTS):
            raise ConfigError(
                f"line {number} is not NAME {'|'.join(RIGHTS)} sha256:HASH: write it with `watcher token new NAME`"
            )
        found.append(Known(match["name"], may, match["digest"]))
    return found


def recognised(known: Iterable[Known], token: str) -> Known | None:
    """Return whose token it is; all of them are compared, each in constant time."""
    given, found = digest(token), None
    for each in known:
        if hmac.compare_digest(each.digest, given):
            found = each
    return found

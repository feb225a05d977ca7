"""The mark that every secret of the tests carries, and the search for it in whatever they leave behind.

A secret that a test gives to watcher is made of `MARK`, and a file that holds one is written by `plant`. What is left
when the test is over (files, databases, what was said to people and to other systems) is then searched for the mark,
by `tests/conftest.py`; `tests/overheard.py` gets hold of what is said and kept nowhere.
"""

from __future__ import annotations

import mmap
import os
import re
import sqlite3
from base64 import b64encode
from collections.abc import Iterable, Iterator, Set
from contextlib import closing, suppress
from math import ceil
from pathlib import Path
from urllib.parse import quote

MARK = "nobodymayread"
"""Letters only, for these are the same in JSON, in HTML, in a URL, in a shell and in a `repr`."""


def _in_base64(text: str) -> Iterator[str]:
    """Give what base64 makes of a text, wherever it stands in what was encoded: without the letters it shares."""
    for before in range(3):
        encoded = b64encode(b"\0" * before + text.encode()).decode()
        yield encoded[ceil(before * 8 / 6) : (before + len(text)) * 8 // 6]


_sought = [form.encode() for form in (MARK, *_in_base64(MARK), MARK.encode().hex(), MARK.encode().hex().upper())]
"""What is searched for: the mark as it is, in base64 (basic authentication, signing keys) and in hexadecimal digits."""

_planted: dict[Path, bytes] = {}


def plant(path: Path, text: str | bytes) -> Path:
    """Write a file that watcher reads a secret from.

    It alone may hold the mark, and only for as long as it is what was written here.
    """
    content = text.encode() if isinstance(text, str) else text
    path.write_bytes(content)
    _planted[path.resolve()] = content
    return path


def signing_key(name: str) -> str:
    """Return a key of 32 bytes as Standard Webhooks writes it."""
    return f"whsec_{b64encode(f'{MARK}-{name}'.ljust(32, '.').encode()).decode()}"


def made_by_others(secret: str) -> str:
    """Return a secret that carries no mark, because somebody else made it: from now on it is searched for as it is."""
    _sought.extend(way.encode() for way in {secret, quote(secret), quote(secret, safe="")})
    return secret


def seen_in(where: str, content: str | bytes | mmap.mmap) -> list[str]:
    """Return a line where something holds a secret: what it is, and the text around; nothing where it does not."""
    found = content.encode("utf-8", "replace") if isinstance(content, str) else content
    for form in _sought:
        at = found.find(form)
        if at >= 0:
            return [f"{where}: {found[max(at - 80, 0) : at + 80]!r}"]
    return []


def seen_by_people(where: str, text: str) -> list[str]:
    """Return the same of a text that may have been broken into lines wherever they, or cells of a table, were full."""
    return seen_in(where, text) or seen_in(where, re.sub(r"[\s│┃|]+", "", text))


def left_in(folder: Path, besides: Set[Path] = frozenset()) -> list[str]:
    """Return a line for each file below a folder that holds a secret and is not the one it was planted in.

    Args:
        folder: links in it are not followed.
        besides: folders that are left out.
    """
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(place, name) not in besides]
        for path in sorted(Path(place, name) for name in names):
            if path.is_file() and not path.is_symlink():
                try:
                    found += _left_in_file(path)
                except FileNotFoundError:
                    continue  # whoever wrote it took it away
                except OSError as error:
                    found.append(f"{path} cannot be searched: {error.strerror}")
    return found


def _left_in_file(path: Path) -> list[str]:
    if not os.access(path, os.R_OK):
        path.chmod(0o644)  # a test took the right to read it away
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return []
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            seen = seen_in(str(path), content)
            is_sqlite = content[:16] == b"SQLite format 3\0"
    if seen and _planted.get(path.resolve()) == path.read_bytes():
        return []
    return seen or (seen_in(str(path), "\n".join(_rows(path))) if is_sqlite else [])


def _rows(path: Path) -> Iterator[str]:
    """Give the rows of a SQLite database, whose file cuts a long text into pieces."""
    # One that is broken on purpose has been read as it is.
    with (
        suppress(sqlite3.DatabaseError),
        closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as rows,
    ):
        tables = [name for (name,) in rows.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            yield from (str(row) for row in rows.execute(f'SELECT * FROM "{table}"'))


def kept_on(server: str, made_by: dict[str, str]) -> list[str]:
    """Return a line for each database of a PostgreSQL server that holds a secret.

    Args:
        server: its URL, to which a database's name is added.
        made_by: which test made each database; those it does not name are not watcher's.
    """
    import psycopg

    found = []
    with psycopg.connect(f"{server}postgres") as connection:
        there = [name for (name,) in connection.execute("SELECT datname FROM pg_database") if name in made_by]
    for name in there:
        with psycopg.connect(server + name) as connection:
            tables = connection.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname !~ '^(pg_|info)'")
            queries = [f'SELECT t::text FROM "{schema}"."{table}" t' for schema, table in tables.fetchall()]
            rows: Iterable[str] = (row for query in queries for (row,) in connection.execute(query))  # type: ignore[arg-type]
            found += seen_in(f"{made_by[name]}: the database {name}", "\n".join(rows))
    return found

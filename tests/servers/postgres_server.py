"""A real PostgreSQL server for tests: Debian's, on 127.0.0.1, with a superuser that needs no password."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PROGRAMS = max(
    Path("/usr/lib/postgresql").glob("*/bin"),
    key=lambda place: int(place.parent.name),
    default=Path("/usr/lib/postgresql/15/bin"),
)

made_by: dict[str, str] = {}
"""The databases that were made in this process, and the test that made each."""


def missing() -> str | None:
    """Return why no server can be started, None when one can."""
    return None if (PROGRAMS / "initdb").exists() else "PostgreSQL is not installed (Debian: apt install postgresql)"


@contextmanager
def running() -> Iterator[str]:
    """Start a server with a folder and a port of its own, and return its URL, to which a database's name is added.

    At the end it is stopped by its id, and its folder removed. It refuses to run as root, and then runs as postgres.
    """
    folder = Path(tempfile.mkdtemp())
    try:
        yield _start(folder)
    finally:
        pid_file = folder / "d" / "postmaster.pid"
        if pid_file.exists():
            os.kill(int(pid_file.read_text().split()[0]), signal.SIGINT)
            deadline = time.monotonic() + 120.0
            while pid_file.exists() and time.monotonic() < deadline:
                time.sleep(0.02)
        shutil.rmtree(folder, ignore_errors=True)


def fresh_database(server: str) -> str:
    """Create a database on a server that runs, and return its URL."""
    import psycopg

    name = f"w{time.monotonic_ns()}"
    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    made_by[name] = os.environ.get("PYTEST_CURRENT_TEST", "a script")
    return server + name


def _start(folder: Path) -> str:
    def run(*command: str) -> None:
        subprocess.run([*(("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()), *command], check=True,
                       stdout=subprocess.DEVNULL, cwd="/")  # fmt: skip

    if os.getuid() == 0:
        owner = pwd.getpwnam("postgres")
        os.chown(folder, owner.pw_uid, owner.pw_gid)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run(str(PROGRAMS / "initdb"), "-D", f"{folder}/d", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8",
        "--locale=C.UTF-8")  # fmt: skip
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(str(PROGRAMS / "pg_ctl"), "-D", f"{folder}/d", "-w", "-l", f"{folder}/log", "-o", options, "start")
    return f"postgresql://postgres@127.0.0.1:{port}/"

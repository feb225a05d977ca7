"""Writes the present schema of the journal, with some rows, for later versions to open: python -m tests.journal.dump.

To be run once, when `SCHEMA` has been raised; what an older version wrote is never written again.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

from tests.servers import postgres_server
from tests.test_journal import RELEASE, a_kill, a_look, a_watch, an_alert, counts
from watcher.journal import SCHEMA, Journal

FOLDER = Path(__file__).with_name("schemas")


def story(journal: Journal) -> None:
    """Let a release be noticed, judged, turned off and told, and another begin."""
    journal.add_release(a_watch(), 600.0, "http")
    seen = {"errors": counts([600.0, 660.0]), "load": counts([600.0, 660.0], seed=2)}
    actions = (a_kill(), an_alert("a/1"))
    journal.record_look(a_look(700.0, states={"errors": {"blocks": 2}}, observations=seen, actions=actions))
    journal.claim("kill/1", 701.0)
    journal.done("kill/1", {"read_back": "off"}, 702.0)
    journal.address(["a/1"], ("slack",), 701.0)
    journal.intend([an_alert("d/1", "detail")], 703.0)
    journal.remember("flags", {"new-checkout": True})
    journal.end_release(RELEASE, "recovered", "it is well", 710.0)
    journal.add_release(a_watch("1.3"), 720.0, "cli")


def main() -> None:
    """Write a dump from SQLite and one from PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/watcher.db"
        with Journal.open(f"sqlite:///{file}") as journal:
            story(journal)
        with closing(sqlite3.connect(file)) as connection:
            (FOLDER / f"{SCHEMA}.sqlite.sql").write_text("\n".join(connection.iterdump()) + "\n")
    with postgres_server.running() as server:
        url = postgres_server.fresh_database(server)
        with Journal.open(url) as journal:
            story(journal)
        (FOLDER / f"{SCHEMA}.postgresql.sql").write_text(dumped(url))


def dumped(url: str) -> str:
    """Return a database as SQL that any client can run."""
    command = [str(postgres_server.PROGRAMS / "pg_dump"), "--inserts", "--no-owner", "--no-comments", url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return re.sub(r"(?m)^(--.*|SET .*|SELECT pg_catalog\.set_config.*|\\.*)?\n", "", said)


if __name__ == "__main__":
    main()

"""The outbox alone, in processes that are killed with SIGKILL: what was told, against what was meant for people."""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from watcher.act import Outbox
from watcher.journal import Journal
from watcher.model import Alert

FASTER = 1000.0
"""How fast the clock of the outbox goes: messages keep a pace of one a second."""


@dataclass(frozen=True)
class Line:
    """Tells people by appending to a file, which outlives the process."""

    path: Path

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        with self.path.open("ab", buffering=0) as file:
            file.write(f"{alert.key}\n".encode())
        return {"at": alert.key}


def work(folder: Path, life: int) -> None:
    """Mean and tell messages, one after the other, until somebody ends the process; say which were meant for sure."""
    with Journal.open(f"sqlite:///{folder / 'watcher.db'}", check=False) as journal:
        journal.release_claims()
        outbox = Outbox(journal, lambda _: None, {"line": Line(folder / "told")})  # type: ignore[arg-type, return-value]
        nth = 0
        while True:
            outbox.tell(time.time() * FASTER)
            release, nth = f"{life}-{nth}", nth + 1
            told = [Alert(f"{release}|{kind}", release, kind, "watching", release) for kind in ("headline", "detail")]
            journal.intend(told, time.time() * FASTER)
            with (folder / "meant").open("ab", buffering=0) as file:
                file.write("".join(f"{alert.key}\n" for alert in told).encode())


@dataclass(frozen=True)
class Fate:
    """What became of the messages."""

    meant: int
    lost: int
    twice: int
    kills: int
    whole: bool


def loop(folder: Path, kills: int, draw: random.Random) -> Fate:
    """Kill so many processes, one after the other, and then let one more tell what is left.

    Each dies within a fifth of a second: every other one of its start, the others of the first message they meant.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["watcher.act", "watcher.journal"])
    for name in ("told", "meant"):
        (folder / name).touch()
    for life in range(kills):
        process = context.Process(target=work, args=(folder, life), daemon=True)
        before = (folder / "meant").stat().st_size
        process.start()
        while life % 2 and (folder / "meant").stat().st_size == before:
            assert process.is_alive()
            time.sleep(0.001)
        time.sleep(draw.uniform(0.0, 0.2))
        process.kill()
        process.join()
    with Journal.open(f"sqlite:///{folder / 'watcher.db'}") as journal:
        journal.release_claims()
        outbox = Outbox(journal, lambda _: None, {"line": Line(folder / "told")})  # type: ignore[arg-type, return-value]
        while journal.unfinished():
            outbox.tell(time.time() * FASTER)
    meant = (folder / "meant").read_text().split()
    told = Counter((folder / "told").read_text().split())
    with sqlite3.connect(folder / "watcher.db") as connection:
        whole = connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    lost, twice = sum(not told[key] for key in meant), sum(times - 1 for times in told.values())
    return Fate(len(meant), lost, twice, kills, whole)

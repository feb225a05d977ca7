"""`watcher.open_journal`: what a daemon recorded, for notebooks. Nothing is written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from watcher import following, recorded
from watcher.errors import JournalError, Refused
from watcher.journal import Journal, Watched
from watcher.oneoff import Comparison


class Recorded:
    """The releases in a journal, as they were watched. Shows itself in a notebook.

    A release is named by its id, or by its feature: then it is the newest of that name.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def to_frame(self) -> pd.DataFrame:
        """Return one row per release, oldest first: what it is, how it stands, and what its last look said.

        What no look has said yet is empty.
        """
        return pd.DataFrame([self._row(each) for each in self._journal.watches()], columns=list(_TYPES)).astype(_TYPES)

    def comparison(self, release: str) -> Comparison:
        """Return what was found of a release, with everything that rests on.

        Raises:
            Refused: there is no such release, or it was not looked at yet.
        """
        return comparison(self._journal, self._named(release))

    def looks(self, release: str) -> pd.DataFrame:
        """Return one row per look at a release, oldest first.

        Raises:
            Refused: there is no such release.
        """
        lines = self._journal.looks(self._named(release).watch.release.id)
        rows = [
            (each.at, each.through, each.blocks, each.outcome.value, each.phase, each.reason, each.problem)
            for each in lines
        ]
        frame = pd.DataFrame(rows, columns=["at", "through", "blocks", "outcome", "phase", "reason", "problem"])
        return frame.assign(at=moments(frame["at"]), through=moments(frame["through"]))

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _named(self, release: str) -> Watched:
        return watched(self._journal, release)

    def _row(self, each: Watched) -> tuple[object, ...]:
        release = each.watch.release
        last = self._journal.last_look(release.id, states=False)
        said = ("", "", "") if last is None else (last.verdict.outcome.value, last.phase, last.verdict.reason)
        exposed = pd.Timestamp(release.exposed_at, unit="s", tz="UTC")
        return (release.id, release.feature, exposed, each.status, *said)

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html(index=False))

    def __repr__(self) -> str:
        return f"<Recorded {self._journal.name}: {len(self._journal.watches())} releases>"


_TYPES = {
    "release": "str",
    "feature": "str",
    "exposed_at": "datetime64[ms, UTC]",
    "status": "str",
    "outcome": "str",
    "phase": "str",
    "reason": "str",
}


def open_journal(journal: str | Path) -> Recorded:
    """Open what a daemon recorded, to look at it again: its releases, its looks, and what each verdict rests on.

    Args:
        journal: the SQLite file (watcher.db, or a copy), or a URL: postgresql://user@host/database.

    Raises:
        JournalError: there is no journal, it cannot be read, or another version of watcher wrote it.

    Example:
        `watcher demo` leaves a journal of two releases.

        >>> import contextlib, io, tempfile
        >>> from watcher.demo import tour
        >>> folder = tempfile.mkdtemp()
        >>> with contextlib.redirect_stdout(io.StringIO()):
        ...     tour.run(folder, seed=7)
        >>> recorded = open_journal(f"{folder}/watcher.db")
        >>> recorded.to_frame()[["feature", "outcome", "phase"]].values.tolist()
        [['quick-pay', 'healthy', 'watching'], ['new-checkout', 'regressed', 'recovered']]
        >>> recorded.comparison("new-checkout").outcome.value, len(recorded.looks("new-checkout")) > 10
        ('regressed', True)
        >>> recorded.close()
    """
    url = str(journal) if "://" in str(journal) else f"sqlite:///{Path(journal).absolute()}"
    found = Journal.existing(url)
    if found is None:
        raise JournalError(f"there is no journal {journal}: name the one that `journal:` in watcher.yaml names")
    return Recorded(found)


def comparison(journal: Journal, found: Watched) -> Comparison:
    """Return what was found of a release, with everything that rests on.

    Raises:
        Refused: it was not looked at yet.
    """
    whole, release = recorded.comparison(journal, found.watch), found.watch.release
    if whole is None:
        raise Refused(f"{release.id} was not looked at yet: `watcher watch {release.feature}` shows when it is")
    return whole


def watched(journal: Journal, release: str) -> Watched:
    """Return the release of an id, or the newest of a name, also one that ended.

    Raises:
        Refused: there is none.
    """
    found = following.named(journal, release, ended=True)
    if found is None:
        raise Refused(f"there is no release {release!r}; `watcher release list` lists them")
    return found


def moments(seconds: pd.Series) -> pd.Series:
    """Return epoch seconds as UTC timestamps."""
    return pd.to_datetime(seconds, unit="s", utc=True).dt.as_unit("ms")

"""What watcher could not do. (What the data did is an outcome, never an exception.)

WatcherError
├── ConfigError     a file a person wrote is wrong: names the file, the line, the key and the fix
├── DataError       a table is wrong: names the file, the row and the column
├── ShapeError      arrays that belong together do not fit together
├── SourceError     metrics could not be read
│   ├── SourceDown      nobody answered in time; asking again may help
│   ├── SourceRefused   an answer came, and it says no (query, credentials, limits)
│   └── SourceTooLarge  the answer is beyond the caps on bytes, series or time
├── SwitchError     a kill switch could not be read or turned
├── AlertError      a message could not be delivered
├── JournalError    the journal cannot be opened, read or written
└── Refused         watcher declines to do what was asked, for a named reason
"""

from __future__ import annotations


class WatcherError(Exception):
    """Root of every error watcher raises on purpose."""


class ConfigError(WatcherError):
    """A configuration file is wrong.

    Args:
        problem: what is wrong, with the fix, as one sentence.
        file: path of the file, as the person gave it.
        line: 1-based line, where it is known.
        key: dotted path of the key, for example `rules.0.margin`.
    """

    def __init__(
        self, problem: str, *, file: str | None = None, line: int | None = None, key: str | None = None
    ) -> None:
        self.problem, self.file, self.line, self.key = problem, file, line, key
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, key, problem) if part))


class DataError(WatcherError):
    """A table is wrong.

    Args:
        problem: what is wrong, with the fix, as one sentence.
        file: path or name of the table.
        row: 1-based row below the header.
        column: name of the column.
    """

    def __init__(
        self, problem: str, *, file: str | None = None, row: int | None = None, column: str | None = None
    ) -> None:
        self.problem, self.file, self.row, self.column = problem, file, row, column
        place = [file, None if row is None else f"row {row}", None if column is None else f"column {column}"]
        super().__init__(": ".join([", ".join(part for part in place if part), problem]) if any(place) else problem)


class ShapeError(WatcherError):
    """Arrays that belong together do not fit together."""


class SourceError(WatcherError):
    """Metrics could not be read."""


class SourceDown(SourceError):
    """Nobody answered in time; asking again may help."""


class SourceRefused(SourceError):
    """An answer came, and it says no: a bad query, bad credentials, a limit of the server."""


class SourceTooLarge(SourceError):
    """The answer is beyond the caps on bytes, series or time."""


class SwitchError(WatcherError):
    """A kill switch could not be read or turned.

    Args:
        problem: what happened, and the fix where there is one.
        retry_after: seconds the system asked us to wait, where it said so.
        permanent: True when trying again cannot help (bad token, unknown flag, nothing to switch back to).
    """

    def __init__(self, problem: str, *, retry_after: float | None = None, permanent: bool = False) -> None:
        self.retry_after, self.permanent = retry_after, permanent
        super().__init__(problem)


class AlertError(WatcherError):
    """A message could not be delivered.

    Args:
        problem: what happened.
        retry_after: seconds the receiver asked us to wait, where it said so.
        permanent: True when trying again cannot help (bad token, unknown channel).
    """

    def __init__(self, problem: str, *, retry_after: float | None = None, permanent: bool = False) -> None:
        self.retry_after, self.permanent = retry_after, permanent
        super().__init__(problem)


class JournalError(WatcherError):
    """The journal cannot be opened, read or written."""


class Refused(WatcherError):
    """watcher declines to do what was asked, for a named reason."""

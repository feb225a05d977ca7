"""A text that people wrote, as mappings in mappings, with the characters at which each value stands."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Place:
    """Where a value stands: characters from `start` to `end`.

    `lead` belongs before whatever is written there instead; `node` is what the format knows of the value.
    """

    start: int
    end: int
    node: Any
    lead: str = ""


@dataclass(frozen=True)
class Entry:
    """A key of a mapping with its value.

    `at` is the character at which the key begins, `written` the key as it is written, `word` a text that tells apart
    what some readers tell apart. An entry that is not `own` stands in another mapping, which this one takes over.
    """

    name: str
    at: int
    written: str
    word: str
    place: Place
    own: bool = True


class Written(Protocol):
    """A text in one of the formats."""

    text: str

    def root(self) -> Place:
        """Return the place of the whole."""
        ...

    def entries(self, place: Place) -> list[Entry] | None:
        """Return the entries of a mapping, its own first; None for any other value."""
        ...

    def plain(self, place: Place) -> Any:
        """Return a value as dicts, lists and scalars."""
        ...

    def word(self, place: Place) -> str:
        """Return the text by which the value is compared with the `word` of an entry."""
        ...

    def before(self, place: Place, first: Entry, key: str, value: str) -> str | None:
        """Return what to write in front of the first entry of a mapping to have one more; None where that is unsafe."""
        ...

    def rest(self, path: tuple[str, ...], names: Collection[str]) -> object:
        """Return something that is equal as long as nothing changed but those entries of the mapping at a path."""
        ...

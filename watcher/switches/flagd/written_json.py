"""JSON, and where its values stand."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from typing import Any

from watcher.switches.flagd.written import Entry, Place

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class WrittenJson:
    """A JSON text.

    Args:
        text: without a byte order mark.

    Raises:
        json.JSONDecodeError: it is none.
        RecursionError: it is nested too deeply.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._document = json.loads(text)

    def root(self) -> Place:
        """Return the place of the document."""
        start = self._skip(0)
        return Place(start, len(self.text.rstrip()), self._document)

    def entries(self, place: Place) -> list[Entry] | None:
        """Return the entries of an object; None for any other value."""
        if not isinstance(place.node, dict):
            return None
        found, at = [], self._skip(place.start + 1)
        while self.text[at] != "}":
            name, end = _DECODER.raw_decode(self.text, at)
            start = self._skip(self._skip(end) + 1)
            value, stop = _DECODER.raw_decode(self.text, start)
            found.append(Entry(name, at, self.text[at:end], name, Place(start, stop, value)))
            at = self._skip(stop)
            at = self._skip(at + 1) if self.text[at] == "," else at
        return found

    def plain(self, place: Place) -> Any:
        """Return a value."""
        return place.node

    def word(self, place: Place) -> str:
        """Return a text as it is; nothing for other values, which name nothing."""
        return place.node if isinstance(place.node, str) else ""

    def before(self, place: Place, first: Entry, key: str, value: str) -> str:
        """Return what to write in front of the first entry of an object to have one more, laid out like that one."""
        return f'"{key}": {value},{self.text[place.start + 1 : first.at] or " "}'

    def rest(self, path: tuple[str, ...], names: Collection[str]) -> object:
        """Return everything but some entries of the object at a path."""
        document = json.loads(self.text)
        found = document
        for name in path:
            found = found[name]
        for name in names:
            found.pop(name, None)
        return document

    def _skip(self, at: int) -> int:
        space = _SPACE.match(self.text, at)
        return at if space is None else space.end()

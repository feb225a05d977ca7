"""YAML, and where its values stand.

What is edited may be read by others in YAML 1.1, where `off` without quotes is no word but a boolean.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from watcher.switches.flagd.written import Entry, Place

_OLD_BOOLEAN = re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF")
_ALIAS = re.compile(r"[ \t]*(\*[^\s,\[\]{}]+)")
_MERGE = "tag:yaml.org,2002:merge"


class WrittenYaml:
    """One document of YAML 1.2.

    Args:
        text: without a byte order mark.

    Raises:
        ruamel.yaml.error.YAMLError: it is none.
        RecursionError: it is nested too deeply.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._root: Node | None = YAML(typ="safe", pure=True).compose(text)

    def root(self) -> Place:
        """Return the place of the document."""
        return Place(0, len(self.text), self._root)

    def entries(self, place: Place) -> list[Entry] | None:
        """Return the entries of a mapping, then those it takes over by `<<`; None for any other value."""
        return list(self._entries(place.node, True, set())) if isinstance(place.node, MappingNode) else None

    def _entries(self, node: MappingNode, own: bool, seen: set[int]) -> Iterator[Entry]:
        seen.add(id(node))
        for key, value in node.value:
            if isinstance(key, ScalarNode) and key.tag != _MERGE:
                written = self.text[key.start_mark.index : key.end_mark.index]
                yield Entry(key.value, key.start_mark.index, written, _word(key), self._place(key, value), own)
        for key, value in node.value:
            if key.tag == _MERGE:
                for other in value.value if isinstance(value, SequenceNode) else [value]:
                    if isinstance(other, MappingNode) and id(other) not in seen:
                        yield from self._entries(other, False, seen)

    def _place(self, key: ScalarNode, value: Node) -> Place:
        colon = self.text.index(":", key.end_mark.index)
        start, end = value.start_mark.index, value.end_mark.index
        if start < key.start_mark.index:
            # An anchor stands before its aliases: this is one of them.
            alias = _ALIAS.match(self.text, colon + 1)
            return Place(-1, -1, value) if alias is None else Place(alias.start(1), alias.end(1), value)
        if isinstance(value, MappingNode | SequenceNode) and not value.flow_style:
            # A block ends where the next token begins: what is said between is not part of it.
            end = _without_comments(self.text, start, end)
            if not self.text[colon + 1 : start].strip():
                return Place(colon + 1, end, value, " ")
        if start == end:
            # Nothing is written, and the parser looked for it on the lines that follow.
            return Place(colon + 1, colon + 1, value, " ")
        return Place(start, start + len(self.text[start:end].rstrip()), value)

    def plain(self, place: Place) -> Any:
        """Return a value; scalars other than booleans, plain numbers and null are texts."""
        return _plain(place.node, {})

    def word(self, place: Place) -> str:
        """Return the text of a scalar, marked where YAML 1.1 takes it for a boolean."""
        return _word(place.node) if isinstance(place.node, ScalarNode) else ""

    def before(self, place: Place, first: Entry, key: str, value: str) -> str | None:
        """Return what to write in front of the first entry of a mapping to have one more."""
        if place.node.flow_style:
            return f"{key}: {value}, "
        line = self.text.rfind("\n", 0, first.at) + 1
        margin, ends = self.text[line : first.at], "\r\n" if self.text[:line].endswith("\r\n") else "\n"
        return None if margin.strip() else f"{key}: {value}{ends}{margin}"

    def rest(self, path: tuple[str, ...], names: Collection[str]) -> object:
        """Return a digest of everything but some entries of the mapping at a path."""
        return list(_digests(self._root, path, names, {}))


def _word(node: ScalarNode) -> str:
    return f"{node.value} without quotes" if not node.style and _OLD_BOOLEAN.fullmatch(node.value) else node.value


def _without_comments(text: str, start: int, end: int) -> int:
    """Return where a block that begins at `start` has its last words, before blank lines and comments."""
    lines = text[start:end].splitlines(keepends=True)
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return start + len("".join(lines).rstrip())


def _plain(node: Node, known: dict[int, Any]) -> Any:
    """Return the value of a node; what several aliases name is one object, so bombs of them stay small."""
    if id(node) in known:
        return known[id(node)]
    if isinstance(node, MappingNode):
        mapping = known[id(node)] = {}
        for key, value in node.value:
            mapping[key.value if isinstance(key, ScalarNode) else id(key)] = _plain(value, known)
        return mapping
    if isinstance(node, SequenceNode):
        sequence = known[id(node)] = []
        sequence.extend(_plain(each, known) for each in node.value)
        return sequence
    kind = str(node.tag).rpartition(":")[2]
    if kind == "bool":
        return node.value.lower() == "true"
    if kind == "float" and re.fullmatch(r"[-+]?[0-9]{1,18}(\.[0-9]{0,18})?", node.value):
        return float(node.value)
    if kind == "int" and re.fullmatch(r"[-+]?[0-9]{1,18}", node.value):
        return int(node.value)
    return None if kind == "null" else node.value


def _digests(
    node: Node | None, path: tuple[str, ...], names: Collection[str], known: dict[int, bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield digests of the keys and values of a mapping, of the one at the path without its entries of those names.

    Followed by keys, not by identity: an alias of that mapping elsewhere counts in full.
    """
    for key, value in node.value if isinstance(node, MappingNode) else ():
        name = key.value if isinstance(key, ScalarNode) else None
        if not path and name in names:
            continue
        if path and name == path[0]:
            yield from _digests(value, path[1:], names, known)
        else:
            yield _digest(key, known), _digest(value, known)


def _digest(node: Node, known: dict[int, bytes]) -> bytes:
    if id(node) not in known:
        known[id(node)] = b"itself"
        children = node.value
        if isinstance(node, MappingNode):
            children = [(_digest(key, known), _digest(value, known)) for key, value in node.value]
        elif isinstance(node, SequenceNode):
            children = [_digest(each, known) for each in node.value]
        known[id(node)] = hashlib.sha256(repr((str(node.tag), children)).encode()).digest()
    return known[id(node)]

"""Plain YAML as nodes: what a value is, on which line it stands, and how it was written.

`parse_nodes` takes the YAML 1.2 core schema only (`on` and `1.10` are what they look like), without duplicate keys,
tags, merge keys or alias bombs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from watcher.errors import ConfigError

DEEPEST = 32
"""Levels of nesting."""
MOST_ALIASED = 1_000
"""Nodes that aliases may add to a file, all expansions counted."""

Key = str | int

# The YAML 1.2 core schema (section 10.3.2), and nothing of YAML 1.1: no yes/no, sexagesimals, dates or 1_000.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


@dataclass(frozen=True)
class Node:
    """One value of a document: plain Python, and where and how it was written."""

    value: Any
    line: int
    written: str = ""
    """A scalar as it stands in the file."""
    children: Mapping[Key, Node] = field(default_factory=dict)
    key_lines: Mapping[Key, int] = field(default_factory=dict)
    size: int = 1
    """Nodes below and including this one, aliases expanded."""


def parse_nodes(text: str, file: str) -> Node:
    """Parse the text of a file into its root.

    Raises:
        ConfigError: not YAML, or YAML beyond the plain subset.
    """
    try:
        return _Builder(text, file).document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ConfigError(f"is not valid YAML: {said}", file=file, line=line) from error
    except (YAMLError, ValueError, OverflowError) as error:
        # The reader and the escapes of quoted text raise these without a mark.
        raise ConfigError(f"is not valid YAML: {str(error).splitlines()[0]}", file=file) from error


class _Builder:
    """Builds nodes from parser events, so that limits hold before anything is expanded or nested."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._aliased = 0

    def document(self) -> Node:
        start = [next(self._events), next(self._events)][1]
        if not isinstance(start, ev.DocumentStartEvent):
            raise ConfigError("is empty", file=self._file)
        if start.version not in (None, (1, 2)):
            raise self._refused("only YAML 1.2 is read; remove the %YAML line", start)
        root = self._node(next(self._events), ())
        after = [next(self._events), next(self._events)][1]
        if not isinstance(after, ev.StreamEndEvent):
            raise self._refused("holds more than one document; remove everything from the second `---` on", after)
        return root

    def _refused(self, problem: str, event: Any) -> ConfigError:
        return ConfigError(problem, file=self._file, line=event.start_mark.line + 1)

    def _node(self, event: Any, path: tuple[Key, ...]) -> Node:
        if isinstance(event, ev.AliasEvent):
            return self._alias(event)
        if len(path) > DEEPEST:
            raise self._refused(f"is nested deeper than {DEEPEST} levels", event)
        tag = None if event.tag is None else str(event.tag)
        if tag is not None and not (isinstance(event, ev.ScalarEvent) and tag in _TEXT_TAGS):
            raise self._refused(f"the tag {tag} is not allowed; write plain values", event)
        if isinstance(event, ev.ScalarEvent):
            node = self._scalar(event, tag)
        elif isinstance(event, ev.SequenceStartEvent):
            node = self._sequence(event, path)
        else:
            node = self._mapping(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        if event.anchor not in self._anchors:
            raise self._refused(f"the alias *{event.anchor} refers to nothing before it", event)
        node = self._anchors[event.anchor]
        self._aliased += node.size
        if self._aliased > MOST_ALIASED:
            raise self._refused(f"aliases repeat more than {MOST_ALIASED} values", event)
        return replace(node, line=event.start_mark.line + 1)

    def _scalar(self, event: Any, tag: str | None) -> Node:
        if event.style is not None or tag is not None:
            return Node(event.value, event.start_mark.line + 1, event.value)
        value = _core(event.value)
        if isinstance(value, float) and not math.isfinite(value):
            raise self._refused(f"{event.value} is not a finite number", event)
        return Node(value, event.start_mark.line + 1, event.value)

    def _sequence(self, event: Any, path: tuple[Key, ...]) -> Node:
        children: dict[Key, Node] = {}
        while not isinstance(item := next(self._events), ev.SequenceEndEvent):
            children[len(children)] = self._node(item, (*path, len(children)))
        value = [child.value for child in children.values()]
        return Node(value, event.start_mark.line + 1, children=children, size=_size(children.values()))

    def _mapping(self, event: Any, path: tuple[Key, ...]) -> Node:
        children: dict[Key, Node] = {}
        lines: dict[Key, int] = {}
        while not isinstance(item := next(self._events), ev.MappingEndEvent):
            key = self._key(item, lines, path)
            lines[key] = item.start_mark.line + 1
            child = self._node(next(self._events), (*path, key))
            # What has no text of its own on a line is found by its key.
            children[key] = child if child.written else replace(child, line=lines[key])
        value = {key: child.value for key, child in children.items()}
        return Node(value, event.start_mark.line + 1, "", children, lines, _size(children.values()))

    def _key(self, event: Any, seen: Mapping[Key, int], path: tuple[Key, ...]) -> str:
        node = self._node(event, (*path, ""))
        if node.written == "<<" and event.style is None:
            raise self._refused("merge keys (<<) are not read; repeat the keys", event)
        if not isinstance(node.value, str):
            raise self._refused(f'a key must be text; quote it: "{node.written}"', event)
        if node.value in seen:
            dotted = ".".join(map(str, (*path, node.value)))
            problem = f"is given twice, first on line {seen[node.value]}"
            raise ConfigError(problem, file=self._file, line=node.line, key=dotted)
        return node.value


def _size(nodes: Iterable[Node]) -> int:
    return 1 + sum(node.size for node in nodes)


def _core(text: str) -> Any:
    """Resolve a plain scalar by the YAML 1.2 core schema."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return math.nan if _SPECIAL.fullmatch(text) else text

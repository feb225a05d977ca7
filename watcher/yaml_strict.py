"""YAML as a configuration file should be read: small, plain, and exact about what is wrong and where.

`read` takes the YAML 1.2 core schema only (`on` and `1.10` are what they look like), up to 1 MiB, without
duplicate keys, tags, merge keys or alias bombs. `Document.validate` checks it against a pydantic model and turns
the first problem, in the order of the file, into a ConfigError with file, line and dotted key.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError
from ruamel.yaml import YAML
from ruamel.yaml import events as ev
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from watcher.errors import ConfigError

LARGEST = 1 << 20
"""Bytes a file may have."""
DEEPEST = 32
"""Levels of nesting."""
MOST_ALIASED = 1_000
"""Nodes that aliases may add to a file, all expansions counted."""

Key = str | int
ModelT = TypeVar("ModelT", bound="Strict")

# The YAML 1.2 core schema (section 10.3.2), and nothing of YAML 1.1: no yes/no, sexagesimals, dates or 1_000.
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TEXT_TAGS = ("!", "tag:yaml.org,2002:str")


def closest(word: str, known: Iterable[str]) -> str:
    """Return a hint to append to a message, or nothing when no known word is close.

    >>> closest("margn", ["margin", "name"])
    '; did you mean `margin`?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""


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


@dataclass(frozen=True)
class Document:
    """A file that was read."""

    file: str
    root: Node

    def error(self, problem: str, *path: Key) -> ConfigError:
        """Return the error that names a key of this file, present or missing."""
        node, line = self.root, self.root.line
        for part in path:
            if part not in node.children:
                break
            key_line = node.key_lines.get(part)
            node = node.children[part]
            line = key_line if key_line and node.children else node.line
        return ConfigError(problem, file=self.file, line=line, key=".".join(map(str, path)) or None)

    def line(self, *path: Key) -> int | None:
        """Return the line of a key."""
        return self.error("", *path).line

    def validate(self, model: type[ModelT]) -> ModelT:
        """Check the document against a model.

        Raises:
            ConfigError: the first problem in the order of the file.
        """
        try:
            return model.model_validate(self.root.value)
        except ValidationError as invalid:
            found = [self._explained(error) for error in invalid.errors(include_url=False)]
        raise min(found, key=lambda error: error.line or 0) from None

    def _explained(self, error: ErrorDetails) -> ConfigError:
        """Turn what pydantic says into a key that a person finds in the file and a sentence."""
        path: list[Key] = []
        node = self.root
        for part in error["loc"]:
            # Parts that are not in the file name a member of a union or "[key]".
            if part in node.children:
                path.append(part)
                node = node.children[part]
        context = error.get("ctx", {})
        if error["type"] == "located":
            return self.error(context["problem"], *path, *context["path"])
        if error["type"] == "missing":
            return self.error("is missing", *path, error["loc"][-1])
        return self.error(_sentence(error, node), *path)


def _sentence(error: ErrorDetails, node: Node) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        expected, known = context["expected"].replace("'", ""), re.findall(r"'([^']*)'", context["expected"])
        return f"expected {expected}, found {_found(node)}{closest(node.written, known)}"
    if kind == "string_pattern_mismatch":
        return f"must match the pattern {context['pattern']}"
    if kind == "string_type" and node.written:
        return f'expected text, found {_found(node)}; quote it: "{node.written}"'
    wanted = {
        "string_type": "text",
        "string_too_short": "text that is not empty",
        "bool_type": "true or false",
        "float_type": "a number",
        "list_type": "a list such as [a, b]",
        "too_short": "at least one entry",
        "dict_type": "a mapping such as {key: value}",
        "model_type": "a mapping such as {key: value}",
    }.get(kind)
    if wanted:
        return f"expected {wanted}, found {_found(node)}"
    return error["msg"][:1].lower() + error["msg"][1:]


def _found(node: Node) -> str:
    if isinstance(node.value, dict):
        return "a mapping" if node.value else "an empty mapping"
    if isinstance(node.value, list):
        return "a list" if node.value else "an empty list"
    if node.value is None:
        return "nothing"
    if isinstance(node.value, str):
        return f'the text "{node.written}"'
    return f"{'' if isinstance(node.value, bool) else 'the number '}{node.written}"


def located(problem: str, *path: Key) -> PydanticCustomError:
    """Return an error for a model's validator to raise that names a key below the model."""
    return PydanticCustomError("located", "{problem}", {"problem": problem, "path": list(path)})


class Strict(BaseModel):
    """A mapping in a file: no unknown keys, no empty values, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    instead: ClassVar[Mapping[str, str]] = {}
    """Keys that people write by mistake, and the sentence that helps them."""

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known_and_filled(cls, raw: Any) -> Any:
        for key, value in raw.items() if isinstance(raw, dict) else ():
            if key not in cls.model_fields:
                help_out = cls.instead.get(key) or f"unknown key{closest(key, cls.model_fields) or cls._keys()}"
                raise located(help_out, key)
            if value is None:
                raise located("is empty; give it a value (in quotes if it starts with #) or leave it out", key)
        return raw

    @classmethod
    def _keys(cls) -> str:
        return f"; known here: {', '.join(cls.model_fields)}"


def read(path: str | Path) -> Document:
    """Read a file.

    Raises:
        ConfigError: unreadable, too large, not UTF-8, not YAML, or YAML beyond the plain subset.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", file=str(path)) from error
    if len(content) > LARGEST:
        raise ConfigError("is larger than 1 MiB", file=str(path))
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError("is not UTF-8 text", file=str(path), line=line) from error
    return parse(text, str(path))


def parse(text: str, file: str) -> Document:
    """Parse the text of a file; errors as `read`."""
    try:
        return Document(file, _Builder(text, file).document())
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

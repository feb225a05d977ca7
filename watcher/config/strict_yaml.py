"""YAML as a configuration file should be read: small, plain, and exact about what is wrong and where.

`read` takes files up to 1 MiB of the plain subset that `yaml_nodes` parses. `Document.validate` checks one against a
pydantic model and turns the first problem, in the order of the file, into a ConfigError with file, line and dotted key.
"""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails, PydanticCustomError

from watcher.config.yaml_nodes import Key, Node, parse_nodes
from watcher.errors import ConfigError

LARGEST = 1 << 20
"""Bytes a file may have."""

ModelT = TypeVar("ModelT", bound="Strict")


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
    return Document(file, parse_nodes(text, file))


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
        return f'the text "{textwrap.shorten(node.written, 60, placeholder=" ...")}"'
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


def closest(word: str, known: Iterable[str]) -> str:
    """Return a hint to append to a message, or nothing when no known word is close.

    >>> closest("margn", ["margin", "name"])
    '; did you mean `margin`?'
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""

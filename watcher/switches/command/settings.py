"""What watcher.yaml says of the switch `command`, and what must hold between its keys."""

from __future__ import annotations

import re
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from watcher.switches.settings import Settings

LONGEST: Final = 30.0
"""Seconds a kill may take: with a reading before and one after it, it ends within the minute that is ours to try."""


def _argv(argv: list[str]) -> list[str]:
    if not argv[0]:
        raise ValueError("the first item is the program, and is empty")
    if any("\0" in argument for argument in argv):
        raise ValueError("an argument cannot hold a NUL character")
    return argv


def _seconds(value: object) -> object:
    """Turn `20s` into seconds, and leave numbers to the model."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"(\d+(?:\.\d+)?)s", value)
    if found is None:
        raise ValueError(f"expected seconds, such as 20s, found {value!r}")
    return float(found[1])


def _text(value: object) -> object:
    if isinstance(value, bool | int | float):
        written = str(value).lower() if isinstance(value, bool) else str(value)
        raise ValueError(f'expected text; quote it: "{written}"')
    return value


def _names(names: list[str]) -> list[str]:
    for name in names:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("expected names of variables, such as KUBECONFIG; their values stay where they are")
    return names


def _pattern(pattern: str) -> str:
    if re.fullmatch(r"\{\w+\}", pattern):
        raise ValueError("a version is text and no pattern: a placeholder belongs into `on` or `off`")
    try:
        groups = re.compile(pattern).groupindex.keys()
    except re.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if groups and groups != {"weight", "rest"}:
        raise ValueError("the groups it may name are (?P<weight>...) and (?P<rest>...), both or neither")
    return pattern


Argv = Annotated[list[Annotated[str, BeforeValidator(_text)]], Field(min_length=1), AfterValidator(_argv)]
Text = Annotated[str, BeforeValidator(_text)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class CommandSettings(Settings):
    """Commands, and what the reading says: text as it is (`on`, `off`) or regular expressions (`*_pattern`)."""

    kill: Argv
    read: Argv
    dry_run: Argv | None = None
    on: Text | None = None
    off: Text | None = None
    on_pattern: Pattern | None = None
    off_pattern: Pattern | None = None
    timeout: Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=LONGEST)] = LONGEST
    env: Annotated[list[str], AfterValidator(_names)] = Field([])

    @model_validator(mode="after")
    def _both_sides(self) -> Self:
        on, off = (self.on, self.on_pattern), (self.off, self.off_pattern)
        for name, side in (("on", on), ("off", off)):
            if None not in side:
                raise ValueError(f"give either {name} or {name}_pattern")
        if (on == (None, None)) != (off == (None, None)):
            raise ValueError("say what the reading says when it is on and when it is off, or leave both out")
        if self.on is not None and self.on == self.off:
            raise ValueError("on and off are the same text")
        return self

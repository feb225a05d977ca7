"""One flag of a flagd file: what it says to those who evaluate it, and how to change a few of its words.

    flags:
      new-checkout:
        state: ENABLED
        variants: {"on": true, "off": false}
        defaultVariant: "on"
        targeting: {fractional: [["on", 5], ["off", 95]]}

Files named .yaml or .yml are YAML, all others JSON, as flagd and its SDKs take them. What is not changed keeps its
bytes.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ruamel.yaml.error import YAMLError

from watcher.errors import SwitchError
from watcher.switches.flagd.written import Entry, Place, Written
from watcher.switches.flagd.written_json import WrittenJson
from watcher.switches.flagd.written_yaml import WrittenYaml

CHANGED = ("state", "defaultVariant", "targeting")
"""What a kill may change of a flag."""

_MARK = "\ufeff"


@dataclass(frozen=True)
class Flag:
    """What a flag says.

    `variants` are values by name. `default` is the variant of users whom no targeting takes elsewhere, "" where they
    get what the application falls back to. `doubtful` tells that some readers find no such variant: YAML 1.1 takes
    `off` for a boolean and "off" for a word. `line` is 1-based.
    """

    enabled: bool
    variants: Mapping[str, Any]
    default: str
    targeting: Any
    doubtful: bool
    line: int


def parse(path: str, content: bytes, feature: str) -> Flag:
    """Return a flag.

    Raises:
        SwitchError: there is no such flag, or the file does not say plainly what it is.
    """
    return _Found(path, content, feature).flag()


def off_bytes(path: str, content: bytes, feature: str, off: str) -> bytes:
    """Return the file with a flag enabled, without targeting, and with `off` as its default: everybody gets `off`.

    Raises:
        SwitchError: there is no such flag, or it cannot be changed without changing something else.
    """
    found = _Found(path, content, feature)
    flag = found.flag()
    changes = {"defaultVariant": found.variants[off].written}
    if not flag.enabled:
        changes["state"] = found.source("state").replace("DISABLED", "ENABLED")
    if flag.targeting:
        changes["targeting"] = "{}"
    after = found.changed(changes)
    try:
        again = _Found(path, after, feature)
    except SwitchError:
        raise found.tangled() from None
    if again.rest() != found.rest():
        raise found.tangled()
    return after


class _Found:
    """A flag in its file."""

    def __init__(self, path: str, content: bytes, feature: str) -> None:
        self.path, self.feature = path, feature
        self._mark, self._file = _written(path, content)
        flags = self._entries(self._file.root(), "").get("flags")
        known = None if flags is None else self._file.entries(flags.place)
        if flags is None or known is None:
            raise self._wrong("flags: expected a mapping of flags; is this a flagd file?")
        self._place = self._flag(self._entries(flags.place, "flags."))
        self.fields = self._entries(self._place, f"flags.{feature}.")
        variants = self.fields.get("variants")
        self.variants = self._entries(variants.place, f"flags.{feature}.variants.") if variants else {}
        if not self.variants:
            raise self._wrong(f"flags.{feature}.variants: expected a mapping of variants; write them out")

    def flag(self) -> Flag:
        """Return what it says."""
        state = self._value("state")
        if state not in ("ENABLED", "DISABLED"):
            raise self._wrong(f"flags.{self.feature}.state is {state!r}; write ENABLED or DISABLED")
        default = self._value("defaultVariant")
        name = default if isinstance(default, str) else str(default).lower() if isinstance(default, bool) else ""
        same = (
            name in self.variants and self._file.word(self.fields["defaultVariant"].place) == self.variants[name].word
        )
        return Flag(
            enabled=state == "ENABLED",
            variants={each: self._file.plain(entry.place) for each, entry in self.variants.items()},
            default=name,
            targeting=self._value("targeting"),
            doubtful=bool(name) and not same,
            line=self._file.text.count("\n", 0, self._place.start) + 1,
        )

    def source(self, name: str) -> str:
        """Return a value of the flag as it is written."""
        place = self.fields[name].place
        return self._file.text[place.start : place.end]

    def changed(self, changes: Mapping[str, str]) -> bytes:
        """Return the file with other words for some values of the flag."""
        first = next(iter(self._file.entries(self._place) or ()), None)
        edits: list[tuple[int, int, str]] = []
        for name, words in changes.items():
            entry = self.fields.get(name)
            if entry is not None and entry.own and entry.place.start >= 0:
                edits.append((entry.place.start, entry.place.end, entry.place.lead + words))
                continue
            before = self._file.before(self._place, first, name, words) if first and first.own else None
            if first is None or before is None or (entry is not None and entry.own):
                raise self.tangled()
            edits.append((first.at, first.at, before))
        text = self._file.text
        for start, end, words in sorted(edits, reverse=True):
            text = text[:start] + words + text[end:]
        return (self._mark + text).encode()

    def rest(self) -> object:
        """Return something that is equal as long as nothing but `CHANGED` was changed."""
        return self._file.rest(("flags", self.feature), CHANGED)

    def tangled(self) -> SwitchError:
        """Say that the flag cannot be changed alone."""
        return self._wrong(
            f"flags.{self.feature} cannot be changed without changing something else, through an anchor perhaps; "
            f"write {', '.join(CHANGED)} out at the flag itself"
        )

    def _flag(self, flags: Mapping[str, Entry]) -> Place:
        if self.feature not in flags:
            close = difflib.get_close_matches(self.feature, flags, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(flags) or 'none'}"
            raise self._wrong(f"flags: there is no flag {self.feature!r}; {hint}")
        return flags[self.feature].place

    def _entries(self, place: Place, where: str) -> dict[str, Entry]:
        """Return the entries of a mapping by name, empty where there is none; its own come before those taken over."""
        found: dict[str, Entry] = {}
        for entry in self._file.entries(place) or ():
            if entry.own and entry.name in found:
                raise self._wrong(f"{where}{entry.name} is written more than once; keep one")
            found.setdefault(entry.name, entry)
        return found

    def _value(self, name: str) -> Any:
        return self._file.plain(self.fields[name].place) if name in self.fields else None

    def _wrong(self, problem: str) -> SwitchError:
        return SwitchError(f"{self.path}: {problem}", permanent=True)


def _written(path: str, content: bytes) -> tuple[str, Written]:
    """Return the byte order mark, and the text behind it."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SwitchError(f"{path}: byte {error.start + 1} is not UTF-8; save the flags file as UTF-8") from error
    mark = _MARK if text.startswith(_MARK) else ""
    try:
        if path.endswith((".yaml", ".yml")):
            return mark, WrittenYaml(text.removeprefix(mark))
        # No reader of JSON takes a byte order mark.
        return "", WrittenJson(text)
    except ValueError as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise SwitchError(f"{path}{line}: not JSON: {getattr(error, 'msg', error)}") from error
    except YAMLError as error:
        at = getattr(error, "problem_mark", None)
        line = f":{at.line + 1}" if at is not None else ""
        raise SwitchError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except RecursionError:
        raise SwitchError(f"{path}: nested too deeply to be a flags file; check the path", permanent=True) from None

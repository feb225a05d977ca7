"""The kill switch for feature flags kept in a YAML file.

    features:
      new-checkout:
        enabled: true
        rollout_percentage: 5

Turning a feature off replaces the one word after its `enabled:` by `false`. Every other byte of the file (comments,
order, quoting, line ends) stays as people wrote it, so the change reads as one word in version control.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    Event,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
)

from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.switches import whole_file

Keys = tuple[str | None, ...]
"""Mapping keys that lead to a value; None for an item of a sequence or a key that is no scalar."""

_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class YamlFlags:
    """Turns features of one flags file off, and never on.

    Args:
        path: the file. A symbolic link is followed: what it points at is replaced, the link stays.

    Raises:
        ConfigError: no path was given.
    """

    def __init__(self, path: str) -> None:
        if not path:
            raise ConfigError("yaml_flags needs a file: write yaml_flags:config/feature-flags.yaml")
        self.path = path

    def __repr__(self) -> str:
        return f"YamlFlags({self.path!r})"

    def read(self, feature: str) -> SwitchState:
        """Tell what `enabled` and `rollout_percentage` of the feature say.

        Raises:
            SwitchError: the file cannot be read, or does not say plainly whether the feature is enabled.
        """
        flag = _find(self.path, whole_file.read(self.path), feature)
        share = 1.0 if flag.percentage is None else flag.percentage / 100
        shown = f"enabled: {str(flag.on).lower()}"
        shown += "" if flag.percentage is None else f", rollout_percentage: {flag.percentage:g}"
        return SwitchState(flag.on, share if flag.on else 0.0, shown=shown)

    def dry_run(self, feature: str) -> str:
        """Say what a kill would write.

        Raises:
            SwitchError: a kill would fail: the file, its folder or the flag does not allow it.
        """
        flag = _find(self.path, whole_file.read(self.path), feature)
        _check_own(self.path, feature, flag)
        whole_file.check_replaceable(self.path)
        line = f"{self.path}:{flag.line}: features.{feature}.enabled"
        return f"{line}: true -> false" if flag.on else f"{line} is false already; nothing would be written"

    def kill(self, feature: str, reason: str) -> None:
        """Set `enabled: false` of the feature, and nothing else; a feature that is off is left alone.

        The file is replaced as a whole; an edit that somebody makes meanwhile is kept.

        Args:
            feature: a key of `features`.
            reason: kept by the journal; the file has no place for it.

        Raises:
            SwitchError: the feature is still on, and why.
        """
        if not whole_file.edit(self.path, lambda before: self._off(before, feature)):
            times = whole_file.TRIES
            problem = f"could not be set: the file was changed by somebody else {times} times"
            raise _wrong(self.path, feature, problem, permanent=False)
        if self.read(feature).on:
            problem = "was set to false, but reads true again: somebody else writes this file"
            raise _wrong(self.path, feature, problem, permanent=False)

    def _off(self, before: bytes, feature: str) -> bytes | None:
        """Return the file with the feature off, None when it is."""
        flag = _find(self.path, before, feature)
        if not flag.on:
            return None
        _check_own(self.path, feature, flag)
        return before[: flag.start] + b"false" + before[flag.end :]


@dataclass(frozen=True)
class _Enabled:
    """Where `enabled` of a feature stands, in bytes, and the anchor through which others share it.

    `percentage` is its `rollout_percentage`, None where there is none that reads as a number; `line` is 1-based.
    """

    on: bool
    start: int
    end: int
    shared: str | None
    percentage: float | None
    line: int


def _check_own(path: str, feature: str, flag: _Enabled) -> None:
    if flag.shared:
        raise _wrong(
            path, feature, f"is shared through the anchor &{flag.shared}: other parts of the file would change with "
            "it; write `enabled` out at every feature"
        )  # fmt: skip


def _wrong(path: str, feature: str, problem: str, permanent: bool = True) -> SwitchError:
    return SwitchError(f"{path}: features.{feature}.enabled {problem}", permanent=permanent)


def _values(events: Iterable[Event]) -> Iterator[tuple[Keys, NodeEvent]]:
    """Yield every value of a document with the keys that lead to it.

    Events rather than loaded objects, because they alone tell where the words stand and which are aliases.
    """
    unset = object()
    open_: list[tuple[bool, Keys, list[object]]] = []
    for event in events:
        if isinstance(event, CollectionEndEvent):
            open_.pop()
            continue
        if not isinstance(event, NodeEvent):
            continue
        keys: Keys = ()
        if open_:
            mapping, parent, pending = open_[-1]
            if mapping and pending[0] is unset:
                pending[0] = event.value if isinstance(event, ScalarEvent) else None
                keys = (*parent, None, None)
            else:
                key = pending[0] if mapping else None
                keys = (*parent, key if isinstance(key, str) else None)
                pending[0] = unset
                yield keys, event
        else:
            yield keys, event
        if isinstance(event, CollectionStartEvent):
            open_.append((isinstance(event, MappingStartEvent), keys, [unset]))


@lru_cache(maxsize=8)
def _parse(path: str, content: bytes) -> tuple[str, list[tuple[Keys, NodeEvent]]]:
    """Return the text without byte order mark, and its values; many flags are read of one file, one after another."""
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
        events = list(YAML(typ="safe", pure=True).parse(text))
        return text, list(_values(events))
    except UnicodeDecodeError as error:
        raise SwitchError(f"{path}: byte {error.start + 1} is not UTF-8; save the flags file as UTF-8") from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise SwitchError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from error


def _find(path: str, content: bytes, feature: str) -> _Enabled:
    """Find `features.<feature>.enabled`."""
    if not content.strip():
        raise SwitchError(f"{path}: the flags file is empty: is somebody writing it?")
    text, values = _parse(path, content)
    target: Keys = ("features", feature, "enabled")
    found = [event for keys, event in values if keys == target]
    if not found:
        raise _absent(path, values, feature)
    if len(found) > 1:
        raise _wrong(path, feature, f"is written {len(found)} times; keep one")
    (event,) = found
    lineage = [value for keys, value in values if keys == target[: len(keys)]]
    aliased = {value.anchor for _, value in values if isinstance(value, AliasEvent)}
    shared = next(
        (value.anchor for value in lineage if not isinstance(value, AliasEvent) and value.anchor in aliased), None
    )
    written = _resolved(event, values)
    on = _boolean(written)
    if on is None:
        was = repr(written.value) if isinstance(written, ScalarEvent) else "a list or a mapping"
        raise _wrong(path, feature, f"is {was}; write true or false, without quotes")
    start, end = event.start_mark.index, event.end_mark.index
    if isinstance(event, ScalarEvent):
        # An anchor or a tag stands in front of the word and stays.
        start = end - len(event.value)
        if text[start:end] != event.value:
            raise _wrong(
                path, feature, "is written in a way that cannot be edited; write true or false, without quotes"
            )
    mark = len(content) - len(text.encode())
    where = (mark + len(text[:start].encode()), mark + len(text[:end].encode()))
    return _Enabled(on, *where, shared, _percentage(values, feature), event.start_mark.line + 1)


def _percentage(values: list[tuple[Keys, NodeEvent]], feature: str) -> float | None:
    """Return the number after `rollout_percentage`, None where there is none."""
    target: Keys = ("features", feature, "rollout_percentage")
    for event in [_resolved(event, values) for keys, event in values if keys == target]:
        try:
            found = float(event.value) if isinstance(event, ScalarEvent) else -1.0
        except ValueError:
            return None
        return found if 0 <= found <= 100 else None
    return None


def _resolved(event: NodeEvent, values: list[tuple[Keys, NodeEvent]]) -> NodeEvent:
    """Return what an alias stands for: the latest anchor of its name before it."""
    if not isinstance(event, AliasEvent):
        return event
    anchored = [
        value
        for _, value in values
        if not isinstance(value, AliasEvent)
        and value.anchor == event.anchor
        and value.start_mark.index < event.start_mark.index
    ]
    return anchored[-1] if anchored else event


def _boolean(event: NodeEvent) -> bool | None:
    """Return what a scalar says, None when it is not a YAML 1.2 boolean."""
    if not isinstance(event, ScalarEvent):
        return None
    plain = event.style in (None, "") and (event.implicit[0] or str(event.tag).endswith(":bool"))
    return _BOOLEANS.get(event.value) if plain else None


def _absent(path: str, values: list[tuple[Keys, NodeEvent]], feature: str) -> SwitchError:
    """Say why there is no `features.<feature>.enabled`."""
    by_keys = dict(values)
    features = [keys[1] for keys in by_keys if len(keys) == 2 and keys[0] == "features" and keys[1] is not None]
    if not isinstance(by_keys.get(("features",)), MappingStartEvent):
        return SwitchError(f"{path}: features: expected a mapping of features; is this a flags file?", permanent=True)
    if ("features", feature) not in by_keys:
        close = difflib.get_close_matches(feature, features, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there is: {', '.join(features) or 'none'}"
        return SwitchError(f"{path}: features: there is no feature {feature!r}; {hint}", permanent=True)
    if not isinstance(by_keys["features", feature], MappingStartEvent):
        return SwitchError(
            f"{path}: features.{feature}: expected a mapping of its own with the key `enabled`", permanent=True
        )
    return _wrong(path, feature, "is missing; write it out as true or false at the feature itself")

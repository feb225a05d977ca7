"""The kill switch for flags that flagd serves from a file.

Two edits that look like a kill are none. With another `defaultVariant`, users whom a targeting rule matches keep what
they have; with `state: DISABLED`, everybody gets what the application falls back to, which may be the release itself.
So a kill makes the off variant the default *and* empties `targeting`; it enables a disabled flag for the same reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from watcher.errors import ConfigError, SwitchError
from watcher.model import SwitchState
from watcher.switches import whole_file
from watcher.switches.flagd.file import Flag, off_bytes, parse
from watcher.switches.settings import Settings, parsed

_LONGEST_RULES = 200
"""Characters of a targeting that are shown."""


class FlagdSettings(Settings):
    """A flagd file, and the variant of its flags that means off, where that cannot be told from the flags."""

    file: str
    off: str | None = None


class Flagd:
    """Gives everybody the off variant of a flag of one file, and never another.

    The off variant is the one that `off` names; without it the only one that is false or called "off".

    Args:
        settings: path of the file, or a JSON object `{"file": path, "off": variant}`. A symbolic link is followed: what
            it points at is replaced, the link stays.

    Raises:
        ConfigError: no file was given, or a setting is wrong.
    """

    def __init__(self, settings: str) -> None:
        # A path may begin with a placeholder, {feature}.
        is_object = re.match(r'\{\s*["}]', settings)
        known = parsed("flagd", settings, FlagdSettings) if is_object else FlagdSettings(file=settings)
        if not known.file:
            raise ConfigError("flagd needs a file: write flagd:config/flags.flagd.json")
        self.path, self._off = known.file, known.off

    def __repr__(self) -> str:
        return f"Flagd({self.path!r})" if self._off is None else f"Flagd({self.path!r}, off={self._off!r})"

    def read(self, feature: str) -> SwitchState:
        """Tell whether users get another variant than the off variant, and how many.

        A flag whose users get what the application falls back to counts as on, with a share of 0: the flag gives them
        nothing, and nobody can say that it is off.

        Raises:
            SwitchError: the file cannot be read, or does not say plainly what the flag is.
        """
        flag = parse(self.path, whole_file.read(self.path), feature)
        off = self._off_variant(feature, flag)
        if _is_off(flag, off):
            return SwitchState(False, 0.0, shown=_shown(flag))
        share, sticky = _share(flag, off)
        return SwitchState(True, share, sticky=sticky, shown=_shown(flag))

    def dry_run(self, feature: str) -> str:
        """Say what a kill would write.

        Raises:
            SwitchError: a kill would fail: the file, its folder or the flag does not allow it.
        """
        content = whole_file.read(self.path)
        flag = parse(self.path, content, feature)
        off = self._off_variant(feature, flag)
        where = f"{self.path}:{flag.line}: flags.{feature}"
        if _is_off(flag, off):
            return f"{where} gives everybody {json.dumps(off)} already; nothing would be written"
        off_bytes(self.path, content, feature, off)
        whole_file.check_replaceable(self.path)
        edits = [] if flag.enabled else ["state: DISABLED -> ENABLED"]
        if flag.default != off or flag.doubtful:
            edits.append(f"defaultVariant: {json.dumps(flag.default or None)} -> {json.dumps(off)}")
        edits += [f"targeting: {_rules(flag)} -> {{}}"] if flag.targeting else []
        return f"{where}: {', '.join(edits)}"

    def kill(self, feature: str, reason: str) -> None:
        """Give everybody the off variant: as the default, without targeting, of an enabled flag.

        Everything else in the file stays as it is, and a flag that is off is left alone. The file is replaced as a
        whole; an edit that somebody makes meanwhile is kept.

        Args:
            feature: a key of `flags`.
            reason: kept by the journal; the file has no place for it.

        Raises:
            SwitchError: users may still get another variant, and why.
        """

        def change(before: bytes) -> bytes | None:
            flag = parse(self.path, before, feature)
            off = self._off_variant(feature, flag)
            return None if _is_off(flag, off) else off_bytes(self.path, before, feature, off)

        where = f"{self.path}: flags.{feature}"
        if not whole_file.edit(self.path, change):
            times = whole_file.TRIES
            raise SwitchError(f"{where} could not be turned off: the file was changed by somebody else {times} times")
        if self.read(feature).on:
            raise SwitchError(f"{where} was turned off, but reads as on again: somebody else writes this file")

    def _off_variant(self, feature: str, flag: Flag) -> str:
        found = [
            name
            for name, value in flag.variants.items()
            if (value is False or name == "off" if self._off is None else name == self._off)
        ]
        where, names = f"{self.path}: flags.{feature}.variants", ", ".join(flag.variants)
        if not found and self._off is not None:
            raise SwitchError(f"{where}: `off` names {self._off!r}, but there is: {names}", permanent=True)
        if len(found) != 1:
            how_many = "none" if not found else "more than one"
            raise SwitchError(
                f"{where}: {how_many} of {names} is false or called off; name the one that means off: "
                f"kill: {{flagd: {{file: {self.path}, off: NAME}}}}",
                permanent=True,
            )
        if flag.variants[found[0]] is None:
            raise SwitchError(
                f"{where}.{found[0]} is null, and applications fall back to a value of their own; give it a value",
                permanent=True,
            )
        return found[0]


def _is_off(flag: Flag, off: str) -> bool:
    """Tell whether everybody gets the off variant."""
    return flag.enabled and flag.default == off and not flag.doubtful and not flag.targeting


def _share(flag: Flag, off: str) -> tuple[float | None, bool | None]:
    """Return the fraction of users who get another variant, and whether they keep it; None where that is not plain."""
    if flag.enabled and flag.targeting:
        weights = {} if flag.doubtful else _weights(flag.targeting, flag.variants)
        total = sum(weights.values())
        # A fraction is a hash of the user's key: the same user gets the same variant.
        return ((total - weights.get(off, 0)) / total, True) if total else (None, None)
    given = flag.enabled and flag.default in flag.variants and flag.default != off
    return (None if flag.doubtful else 1.0) if given else 0.0, None


def _weights(targeting: Any, variants: Mapping[str, Any]) -> dict[str, int]:
    """Return the weights of a targeting that is one `fractional` between variants; empty for any other."""
    if not isinstance(targeting, dict) or list(targeting) != ["fractional"]:
        return {}
    parts = targeting["fractional"]
    if not isinstance(parts, list):
        return {}
    if parts and not isinstance(parts[0], list):
        parts = parts[1:]  # what users are told apart by
    weights: dict[str, int] = {}
    for part in parts:
        if not isinstance(part, list) or not 1 <= len(part) <= 2:
            return {}
        name, weight = part[0], part[1] if len(part) == 2 else 1
        if not isinstance(name, str) or name not in variants or type(weight) is not int:
            return {}
        weights[name] = weights.get(name, 0) + max(weight, 0)
    return weights


def _shown(flag: Flag) -> str:
    if not flag.enabled:
        return (
            "state DISABLED: everybody gets what the application falls back to; to be off, enable it at its off variant"
        )
    default = f"defaultVariant {json.dumps(flag.default or None, ensure_ascii=False)}"
    if not flag.default:
        default += " (what the application falls back to)"
    elif flag.doubtful:
        default += " (which not every reader finds among the variants: write both alike)"
    return f"{default}, {f'targeting {_rules(flag)}' if flag.targeting else 'no targeting'}"


def _rules(flag: Flag) -> str:
    """Return the targeting as JSON, cut to what people read."""
    shown = ""
    # Piece by piece: anchors can make a short file very long.
    for piece in json.JSONEncoder(ensure_ascii=False, check_circular=False).iterencode(flag.targeting):
        shown += piece
        if len(shown) > _LONGEST_RULES:
            return f"{shown[: _LONGEST_RULES - 1]}…"
    return shown

"""Noticing releases in a feature flags file: a flag turned on, or its percentage raised.

Reading the file (`read_flags`) is apart from deciding what its changes mean (`exposures`), so that the second is pure
and the flags of the last look can be kept in the journal (`to_json`, `from_json`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from watcher.errors import ConfigError
from watcher.model import Exposure

LARGEST = 1 << 20
"""Bytes; a flags file beyond this is not one."""


@dataclass(frozen=True)
class Flag:
    """What the file says of one feature. No percentage means everybody.

    >>> Flag(enabled=True, rollout_percentage=5).share
    0.05
    """

    enabled: bool
    rollout_percentage: float | None = None

    @property
    def share(self) -> float:
        """The fraction of users exposed: 0 when off, whatever the percentage."""
        if not self.enabled:
            return 0.0
        return 1.0 if self.rollout_percentage is None else self.rollout_percentage / 100


def to_json(flags: Mapping[str, Flag]) -> dict[str, Any]:
    """Return plain JSON types; `from_json` is the inverse."""
    return {feature: asdict(flag) for feature, flag in flags.items()}


def from_json(raw: Mapping[str, Any]) -> dict[str, Flag]:
    """Read back what `to_json` wrote."""
    return {feature: Flag(**flag) for feature, flag in raw.items()}


def read_flags(path: str) -> dict[str, Flag]:
    """Read every flag of a flags file.

    Raises:
        ConfigError: the file is unreadable, half-written or not of the expected shape. The flags of the last look
            still hold then: nobody was released by a file that cannot be read.
    """
    raw = _load(path)
    features = raw.get("features") if isinstance(raw, Mapping) else None
    if not isinstance(features, Mapping):
        raise ConfigError("expected a mapping of features; is this a flags file?", file=path, key="features")
    return {str(feature): _flag(path, f"features.{feature}", entry) for feature, entry in features.items()}


def _load(path: str) -> Any:
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise ConfigError(f"the flags file cannot be read: {error.strerror}", file=path) from error
    if len(content) > LARGEST:
        raise ConfigError(f"more than {LARGEST >> 20} MiB is not a flags file; check the path", file=path)
    try:
        return YAML(typ="safe", pure=True).load(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start + 1} is not UTF-8; save it as UTF-8", file=path) from error
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"not YAML: {problem}", file=path, line=mark.line + 1 if mark else None) from error
    except ValueError as error:
        # A scalar that looks like a date and is none.
        raise ConfigError(f"a value cannot be read ({error}); quote it", file=path) from error
    except RecursionError as error:
        raise ConfigError("nested too deeply to be a flags file", file=path) from error


def _flag(path: str, key: str, entry: Any) -> Flag:
    if not isinstance(entry, Mapping):
        raise ConfigError("expected a mapping with the key `enabled`", file=path, key=key)
    enabled, percentage = entry.get("enabled"), entry.get("rollout_percentage", 100)
    if not isinstance(enabled, bool):
        said = "is missing" if "enabled" not in entry else f"is {enabled!r}"
        raise ConfigError(f"{said}; write true or false, without quotes", file=path, key=f"{key}.enabled")
    number = isinstance(percentage, int | float) and not isinstance(percentage, bool)
    if not number or not 0 <= percentage <= 100:
        raise ConfigError(
            f"is {percentage!r}; write a number from 0 to 100, without % and quotes",
            file=path,
            key=f"{key}.rollout_percentage",
        )
    return Flag(enabled, float(percentage) if "rollout_percentage" in entry else None)


def exposures(
    before: Mapping[str, Flag] | None, after: Mapping[str, Flag], at: float, features: Collection[str]
) -> list[Exposure]:
    """Tell what a change of the file did to users.

    A feature that nobody had and somebody has now is a release; its version is the revision of the flag, for which
    the time stands: `2026-11-20T10:00:00Z`. A share that moved while the feature stayed on, up or down, is a new stage
    of the running release: `version` is empty. A feature that is off, at 0 % or gone from the file has `off`. Flags
    already on at the first start are adopted, not released.

    >>> [was] = exposures({"checkout": Flag(False)}, {"checkout": Flag(True, 5)}, 1794909600.0, ["checkout"])
    >>> was.version, was.share
    ('2026-11-17T10:00:00Z', 0.05)

    Args:
        before: every flag at the last look, None at the first start.
        after: every flag now.
        at: when the change was seen, epoch seconds.
        features: the features to tell about, and no others; none means nothing is told.
    """
    if before is None:
        return []
    nobody = Flag(enabled=False)
    told = []
    for feature in dict.fromkeys(features):
        was, now = before.get(feature, nobody).share, after.get(feature, nobody).share
        if was == now:
            continue
        revision = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if was == 0 else ""
        told.append(Exposure(feature, revision, at, share=now, off=now == 0))
    return told

"""A feature flags file as watcher reads it: who has which feature. What its changes mean is told by `shares`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from watcher.errors import ConfigError
from watcher.model import SwitchState

LARGEST = 1 << 20
"""Bytes; a flags file beyond this is not one."""


def read_flags(path: str) -> dict[str, SwitchState]:
    """Read every flag of a flags file: no percentage means everybody.

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


def _flag(path: str, key: str, entry: Any) -> SwitchState:
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
    return SwitchState(enabled, float(percentage) / 100)

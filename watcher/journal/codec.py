"""What the journal writes into its text columns: strict JSON, exact for every float, and back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, TypeVar

import numpy as np
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from watcher.errors import JournalError
from watcher.model import Alert, Calibration, Kill, Look, Promote, Watch
from watcher.secrets import redacted

T = TypeVar("T")

WATCH: Final = TypeAdapter(Watch)
# A dataclass cannot be given a configuration here, a tuple of it can.
LOOK: Final = TypeAdapter(tuple[Look], config=ConfigDict(arbitrary_types_allowed=True))
ALERT: Final = TypeAdapter(Alert)
KILL: Final = TypeAdapter(Kill)
PROMOTE: Final = TypeAdapter(Promote)


def write(adapter: TypeAdapter[T], value: T) -> str:
    """Return a dataclass as JSON."""
    found = _quickly(value)
    return dumps(adapter.dump_python(value, warnings="none")) if found is None else found


def read(adapter: TypeAdapter[T], raw: str) -> T:
    """Return the dataclass that `write` wrote.

    Raises:
        JournalError: it is not one, or one of another version.
    """
    try:
        return adapter.validate_python(loads(raw))
    except ValueError as error:
        raise _unreadable(error) from error


def read_calibration(raw: str) -> Calibration:
    """Return the calibration whose `to_json` was written; errors as `read`."""
    try:
        return Calibration.from_json(loads(raw))
    except (KeyError, TypeError, ValueError) as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> JournalError:
    problem = " ".join(str(error).split())
    return JournalError(f"journal: a record cannot be read ({problem}); was it written by another version of watcher?")


def dumps(value: Any) -> str:
    """Return JSON of plain values, numpy's among them; NaN and infinities come back as they were, secrets do not."""
    found = _quickly(value)
    return name_of(value) if found is None else found


def _quickly(value: Any) -> str | None:
    """Return JSON in a fraction of the time that `json` takes; None where there is no strict way to do so.

    It knows none with NaN, nor with half of a surrogate pair.
    """
    try:
        found = to_json(value, inf_nan_mode="constants", fallback=_plain).decode()
    except PydanticSerializationError:
        return None
    return None if "NaN" in found or "Infinity" in found else _shown(found)


def name_of(value: Any) -> str:
    """Return the same, spelled as it has been from the first: what rows are known by may not change."""
    try:
        return _shown(json.dumps(value, allow_nan=False, default=_plain))
    except ValueError:
        return _shown(json.dumps(_tagged(value), allow_nan=False))


def _shown(found: str) -> str:
    """Return JSON without secrets. What looks like one may be digits of a number: only texts are replaced."""
    return found if redacted(found) == found else json.dumps(_without_secrets(json.loads(found)))


def loads(raw: str) -> Any:
    """Return what `dumps` wrote; tuples come back as lists. Errors as `read`."""
    with suppress(ValueError):
        if '"$float"' not in raw:
            return from_json(raw, allow_inf_nan=False)
    try:
        return json.loads(raw, object_hook=_untagged)
    except ValueError as error:
        raise _unreadable(error) from error


def clean(words: str) -> str:
    """Return text that every database can hold and anybody may read: no NUL, no half of a surrogate pair, no secret."""
    return redacted(words).replace("\0", "").encode("utf-8", "replace").decode()


def _plain(value: Any) -> Any:
    """Return numpy's scalars and arrays as plain ones."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be kept in the journal")


def _tagged(value: Any) -> Any:
    """Return JSON types with infinities and NaN, which JSON has no word for, as {"$float": "inf"}."""
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(float(value))}
    if isinstance(value, Mapping):
        return {key: _tagged(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_tagged(inner) for inner in value]
    return value if isinstance(value, str | int | float | None) else _tagged(_plain(value))


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner) for inner in value]
    return redacted(value) if isinstance(value, str) else value


def _untagged(found: dict[str, Any]) -> Any:
    return float(found["$float"]) if set(found) == {"$float"} else found

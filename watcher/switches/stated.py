"""What a system says of a feature where watcher says how: in JSON, or in text that two patterns tell apart.

{"on": true, "share": 0.05, "revision": 7}
"""

from __future__ import annotations

import json
import re
from typing import Any

from watcher.errors import SwitchError
from watcher.model import SwitchState

KEYS = ("on", "share", "revision")

_LONGEST = 100


def stated(found: Any, who: str) -> SwitchState:
    """Return the state that a JSON value tells; only `on` has to be there, and unknown keys are left alone.

    >>> stated({"on": True, "share": 0.05, "owner": "ana"}, "GET /flags/pay")
    SwitchState(on=True, share=0.05, serving='', sticky=None, revision='', shown='on: true, share: 0.05')

    Args:
        found: what was said.
        who: said it, for messages.

    Raises:
        SwitchError: it does not say so plainly: a state that has to be guessed proves nothing.
    """
    on = found.get("on") if isinstance(found, dict) else None
    if not isinstance(on, bool):
        raise SwitchError(f'{who} does not say whether the feature is on: expected {{"on": true}} or {{"on": false}}')
    share, revision = found.get("share"), found.get("revision")
    if share is not None and not (_number(share) and 0 <= share <= 1):
        raise SwitchError(f"{who}: share is {_shown(share)}; expected a fraction from 0 to 1, such as 0.05")
    if not on and share:
        raise SwitchError(f"{who} contradicts itself: on is false and share is {share:g}; off is share 0, or no share")
    if revision is not None and not isinstance(revision, str) and not _number(revision):
        raise SwitchError(f"{who}: revision is {_shown(revision)}; expected text or a number")
    return SwitchState(
        on,
        (None if share is None else float(share)) if on else 0.0,
        revision="" if revision is None else str(revision),
        shown=", ".join(f"{key}: {_shown(found[key])}" for key in KEYS if found.get(key) is not None),
    )


def told_apart(said: str, on: re.Pattern[str], off: re.Pattern[str], who: str) -> SwitchState:
    """Return the state that a text means, given the whole of what it is when the feature is on, and when it is off.

    >>> told_apart("95 5", re.compile(r"(?P<rest>\\d+) (?P<weight>[1-9]\\d*)"), re.compile(r"\\d+ 0"), "kubectl")
    SwitchState(on=True, share=0.05, serving='', sticky=None, revision='', shown='95 5')

    Args:
        said: the text.
        on: matches it when the feature is on; the groups `weight` and `rest`, where it has them, make the share.
        off: matches it when the feature is off.
        who: said it, for messages.

    Raises:
        SwitchError: it matches neither, or both.
    """
    is_on, is_off = on.fullmatch(said), off.fullmatch(said)
    if (is_on is None) == (is_off is None):
        meant = "neither what it says when on, nor when off" if is_on is None else "what it says when on and when off"
        raise SwitchError(f"{who} says {quoted(said)}, which is {meant}")
    share = 0.0 if is_on is None else _share(is_on, who)
    return SwitchState(is_on is not None, share, shown=said or "nothing")


def _share(found: re.Match[str], who: str) -> float | None:
    weight, rest = (found.groupdict().get(name) for name in ("weight", "rest"))
    if weight is None or rest is None:
        return None
    try:
        share = float(weight) / (float(weight) + float(rest))
    except (ValueError, ZeroDivisionError):
        share = -1.0
    if not 0 <= share <= 1:
        raise SwitchError(f"{who} says {quoted(found[0])}, whose weights make no share")
    return share


def quoted(said: str) -> str:
    """Return what was said as a message shows it.

    >>> quoted("95 5"), quoted("")
    ("'95 5'", 'nothing')
    """
    return repr(said if len(said) <= _LONGEST else f"{said[:_LONGEST]}...") if said else "nothing"


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."

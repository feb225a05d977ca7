"""A calibration made the night before a release, brought up to the hour of its exposure.

What takes long is learnt at night: the season, the memory, the placebos. What only the last hours know (the level, the
spread, what the series remembers) takes a day of blocks, and is learnt when users are exposed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from watcher.model import Watch

DAY = 86_400.0

LASTS = 2 * DAY
"""Seconds after which what was learnt at night is not used any more."""

REMEMBERED = DAY
"""Seconds before exposure whose blocks bring it up to date."""


def at_night(watch: Watch) -> Watch:
    """Return the watch to calibrate by at night: of releases until it is not used any more."""
    return replace(watch, horizon=watch.horizon)


def digest(watch: Watch) -> str:
    """Return a hash of all that a calibration of a watch depends on, but for the past itself."""
    kept = (
        watch.rules,
        watch.select,
        watch.block,
        watch.warm_up,
        watch.horizon,
        watch.history,
        watch.alpha,
        watch.zone,
    )
    return hashlib.sha256(json.dumps(repr(kept)).encode()).hexdigest()[:16]

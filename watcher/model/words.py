"""The kinds of things there are: what a rule measures, which way is worse, what can be said, how users are exposed."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Labels = tuple[tuple[str, str], ...]
"""Label names and values, sorted by name."""


def labels(pairs: Mapping[str, str]) -> Labels:
    """Return a mapping as hashable, sorted labels.

    >>> labels({"version": "1.2", "feature": "checkout"})
    (('feature', 'checkout'), ('version', '1.2'))
    """
    return tuple(sorted(pairs.items()))


class Kind(StrEnum):
    """What a rule measures."""

    RATIO = "ratio"
    """One counter split by outcome: bad (or good) of total, counted at the same moment."""
    RATE = "rate"
    """Events per exposure, where the two are counted at different moments: completions per start."""
    LATENCY = "latency"
    """Durations: the share of requests over an objective."""
    GAUGE = "gauge"
    """One measurement per interval."""


class Worse(StrEnum):
    """The direction of harm."""

    HIGHER = "higher"
    LOWER = "lower"
    EITHER = "either"
    """Nobody says: a change either way is harm."""


class Outcome(StrEnum):
    """What can be said of a stream or of a release."""

    REGRESSED = "regressed"
    INVALID = "invalid"
    NO_DATA = "no_data"
    INCONCLUSIVE = "inconclusive"
    HEALTHY = "healthy"


class Design(StrEnum):
    """What the treatment is held against."""

    CONCURRENT = "concurrent"
    BEFORE_AFTER = "before_after"


class Strategy(StrEnum):
    """How users become exposed."""

    FLAG = "flag"
    CANARY = "canary"
    BLUE_GREEN = "blue_green"


class Mode(StrEnum):
    """How far watcher may go."""

    OBSERVE = "observe"
    RECOMMEND = "recommend"
    ARMED = "armed"

"""The wall clock, for those who speak to other systems.

Whatever decides takes `now` as an argument, and never looks at a clock. A request that its receiver holds against a
clock of its own must carry the moment it is sent, whatever time is being looked at: that is all this is for.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Says what time it is, in epoch seconds."""


def wall_clock() -> float:
    """Return what time it is, in epoch seconds."""
    return time.time()

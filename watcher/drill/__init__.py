"""Kill switches by hand: which flags there are, what each switch says, what a kill would do, and the kill itself.

A drill that anyone can run before it is needed. A kill that a person decides goes the way of every other one (an intent
in the journal, the outbox, a read-back, the audit), and works in every mode and while kills are paused.

Where what is: `flags` finds the features that have a switch; `reading` says what is known of them; `turning` turns one
off, or rehearses that.
"""

from __future__ import annotations

from watcher.drill.flags import Flag, find, opened
from watcher.drill.reading import PastKill, Reading, Status, read_all, status
from watcher.drill.turning import TurnedOff, kill, rehearse

__all__ = [
    "Flag",
    "PastKill",
    "Reading",
    "Status",
    "TurnedOff",
    "find",
    "kill",
    "opened",
    "read_all",
    "rehearse",
    "status",
]

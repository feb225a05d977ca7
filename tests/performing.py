"""What the daemon does with an outbox, without what it does in between."""

from __future__ import annotations

from watcher.act import Outbox


def perform(outbox: Outbox, now: float) -> list[tuple[str, str]]:
    """Do everything that is due; return key and state of every action tried, in the order in which it was."""
    return [*outbox.turn_off(now), *outbox.tell(now)]

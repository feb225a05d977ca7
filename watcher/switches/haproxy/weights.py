"""Which whole weights give a canary its share, and in which order they are set."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from watcher.errors import SwitchError
from watcher.model import SAME_SHARE

HEAVIEST: Final = 256
"""The largest weight HAProxy knows."""
READABLE: Final = 100
"""A sum of weights that people read as percentages."""


def weights_for(share: float, others: Mapping[str, int], counted: Collection[str]) -> tuple[int, dict[str, int]]:
    """Return the canary's weight and those of the others that give it a share.

    Others stay in proportion to each other as far as whole numbers allow. Of equally good answers the one that adds up
    to about 100 is taken.

    >>> weights_for(0.25, {"stable": 95}, {"stable"})
    (25, {'stable': 75})
    >>> weights_for(0.05, {"a": 50, "b": 50, "c": 50}, {"a", "b", "c"})
    (6, {'a': 38, 'b': 38, 'c': 38})

    Args:
        share: a fraction between 0 and 1, and neither.
        others: the servers beside the canary, and their weights now, all above 0.
        counted: those of them that take requests now; the others are kept in proportion.

    Raises:
        SwitchError: no weights come within half a percent.
    """
    now, most = sum(others[name] for name in counted), max(others.values())
    best: tuple[tuple[bool, float, int], float, int, dict[str, int]] | None = None
    for heaviest in range(1, HEAVIEST + 1):
        scaled = {name: max(1, round(weight * heaviest / most)) for name, weight in others.items()}
        total = sum(scaled[name] for name in counted)
        bent = max(abs(scaled[name] / total - others[name] / now) for name in counted)
        exact = int(share / (1 - share) * total)
        for canary in {min(max(weight, 1), HEAVIEST) for weight in (exact, exact + 1)}:
            reached = canary / (canary + total)
            missed = abs(reached - share)
            rank = (missed >= SAME_SHARE, round(missed + bent, 4), abs(canary + total - READABLE))
            if best is None or rank < best[0]:
                best = rank, reached, canary, scaled
    assert best is not None
    (missed_by_far, _, _), reached, canary, scaled = best
    if missed_by_far:
        raise SwitchError(
            f"{100 * share:g} % cannot be said in weights from 0 to {HEAVIEST} beside {len(counted)} servers; "
            f"the nearest is {100 * reached:.3g} %",
            permanent=True,
        )
    return canary, scaled


def in_order(now: Mapping[str, int], wanted: Mapping[str, int], canary: str) -> list[tuple[str, int]]:
    """Return the changes in an order in which the canary never has more than before or after.

    >>> in_order({"canary": 5, "a": 95}, {"canary": 50, "a": 150}, "canary")
    [('a', 150), ('canary', 50)]
    >>> in_order({"canary": 100, "a": 0}, {"canary": 0, "a": 95}, "canary")
    [('a', 95), ('canary', 0)]
    """
    changes = [(name, weight) for name, weight in wanted.items() if now[name] != weight]
    takes_from = [(name, weight) for name, weight in changes if (weight > now[name]) != (name == canary)]
    takes_from.sort(key=lambda change: change[0] == canary)
    return takes_from + [change for change in changes if change not in takes_from]

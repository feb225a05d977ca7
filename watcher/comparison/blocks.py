"""Which blocks count, and in which stage of the release each lies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import numpy as np

from watcher.model import Flags, Floats, Kind, Rule, Watch


def countable(watch: Watch, rule: Rule, ends: Floats) -> Flags:
    """Tell which blocks count, shape [block].

    Not the warm-up after exposure; for a rate, not until what was started under the present exposure had time to
    complete; and never a block inside which exposure changed.
    """
    begins = ends - watch.block
    counted = begins >= watch.release.exposed_at + watch.warm_up + rule.matures - 1e-6
    for stage in watch.release.stages:
        before = ends <= stage.at - stage.unsure + 1e-6
        counted &= (begins >= stage.at - 1e-6) | before
        if rule.kind is Kind.RATE:
            counted &= (begins >= stage.at + rule.matures - 1e-6) | before
    return counted


def settled(watch: Watch, ends: Floats) -> Flags:
    """Tell which blocks begin once users have followed a changed share, shape [block].

    Whoever serves users hears of a change when they next ask for it. That takes as long after every change as after the
    first, for which the warm-up allows.
    """
    calm = np.ones(ends.size, dtype=bool)
    for stage in watch.release.stages[1:]:
        before = ends <= stage.at - stage.unsure + 1e-6
        calm &= (ends - watch.block >= stage.at + watch.warm_up - 1e-6) | before
    return calm


def by_stage(watch: Watch, ends: Floats, counted: Flags) -> Iterator[tuple[int, list[int]]]:
    """Yield the blocks that count in runs of the same stage: its number, and their positions."""
    later = np.array([stage.at for stage in watch.release.stages[1:]])
    at = np.searchsorted(later, ends - watch.block + 1e-6, side="right")
    for stage, blocks in groupby(np.flatnonzero(counted).tolist(), key=lambda b: int(at[b])):
        yield stage, list(blocks)

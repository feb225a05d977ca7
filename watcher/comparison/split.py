"""The traffic split, read like a rule and judged by a test of its own: does the release get the users it should?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from watcher.comparison.blocks import by_stage, countable, settled
from watcher.evidence.split import SplitSnapshot, SplitState, SplitTest
from watcher.model import Floats, Kind, Observations, Rule, Watch

SPLIT = "traffic split"
"""Name under which it is read and told."""


@dataclass(frozen=True)
class SplitEvidence:
    """What a look says of the split: log e after each block [block], their `ends`, the present stage's snapshot and
    the `share` that was configured for it (None: unknown).
    """

    state: Mapping[str, Any]
    ends: Floats
    log_e: Floats
    snapshot: SplitSnapshot
    share: float | None

    @property
    def is_empty(self) -> bool:
        """Whether blocks of the present stage were counted, and nobody in them."""
        # A state of before blocks were kept says nothing of it.
        return self.state.get("blocks", 0) > 0 and not self.observed[0] >= 0

    @property
    def observed(self) -> tuple[float, float, float]:
        """The treatment's share of the users in the present stage, with its confidence sequence; NaN without users."""
        found = self.snapshot
        return float(found.estimate[0]), float(found.lower[0]), float(found.upper[0])


def split_rule(watch: Watch) -> Rule | None:
    """Return what a source is to read for the split of a watch; None where nothing is configured or known of it."""
    known = any(share is not None for share in _shares(watch))
    if watch.split is None or watch.baseline is None or not known:
        return None
    return Rule(SPLIT, Kind.RATE, watch.split.assigned, watch.split.assigned, required=False)


def _shares(watch: Watch) -> tuple[float | None, ...]:
    """Return the configured share of each stage, whoever said it: the notice, the configuration or the switch."""
    return tuple(stage.share for stage in watch.release.stages)


def fold_split(
    watch: Watch, rule: Rule, observations: Observations | None, raw: Mapping[str, Any] | None
) -> SplitEvidence:
    """Fold newly closed blocks: users that came to each arm, stage by stage.

    Args:
        watch: stages with their shares.
        rule: of `split_rule`.
        observations: of that rule; None: nothing new was read.
        raw: the state of the last look, JSON-able; None at the first.
    """
    test, shares = SplitTest(), _shares(watch)
    configured = np.array([np.nan if share is None else share for share in shares])
    stage, counts = (0, 0) if raw is None else (int(raw["stage"]), int(raw.get("blocks", 0)))
    state = test.start(configured[:1]) if raw is None else SplitState.from_json(raw["state"])
    path: list[float] = []
    ends = np.zeros(0)
    if observations is not None:
        assert observations.baseline is not None
        counted = countable(watch, rule, observations.ends) & settled(watch, observations.ends)
        ends = observations.ends[counted]
        baseline, treatment = (arm.total.sum(axis=(0, 1)) for arm in (observations.baseline, observations.treatment))
        for now, blocks in by_stage(watch, observations.ends, counted):
            if now != stage:
                stage, state, counts = now, test.restage(state, configured[[now]]), 0
            state, log_e = test.fold(state, baseline[None, blocks], treatment[None, blocks])
            path += log_e[0].tolist()
            counts += len(blocks)
    kept = {"stage": stage, "state": state.to_json(), "blocks": counts}
    return SplitEvidence(kept, ends, np.array(path), test.snapshot(state, 0.05), shares[stage])

"""Observations and Calibration to Evidence: which blocks count, and the method for rule and design.

What is kept of a rule is one state per method, each for some of its streams. Evidence of harm runs through all stages
of a release; what proves health starts anew with each (see the methods).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from watcher.comparison.accounts import booked, suspected
from watcher.comparison.folding import fold_methods
from watcher.comparison.methods import Methods, tolerated
from watcher.comparison.snapshots import CONFIDENCE, snapshot_of
from watcher.comparison.split import SPLIT, SplitEvidence, split_rule
from watcher.comparison.split import fold_split as _fold_split
from watcher.comparison.state import Evidence, EvidenceState
from watcher.comparison.streams import aligned, on_calibrated_edges, welcome
from watcher.evidence import suspects
from watcher.model import Calibration, Flags, Floats, Kind, Observations, Rule, Watch

__all__ = [
    "CONFIDENCE",
    "SPLIT",
    "Evidence",
    "EvidenceState",
    "SplitEvidence",
    "countable",
    "fold",
    "fold_split",
    "split_rule",
    "tolerated",
]


def fold(
    watch: Watch, rule: Rule, observations: Observations, calibration: Calibration, state: EvidenceState | None
) -> tuple[EvidenceState, Evidence]:
    """Fold newly closed blocks of one rule into its state.

    Args:
        watch: fixes design, warm-up, stages and horizon.
        rule: what counts as worse.
        observations: blocks after exposure, oldest first, each given once.
        calibration: frozen at exposure.
        state: from the last look; None at the first.
    """
    methods = Methods(watch, rule, calibration)
    state = welcome(methods, state, observations)
    observations, faults = on_calibrated_edges(calibration, aligned(observations, state.streams))
    counted = countable(watch, rule, observations.ends)
    state, track = fold_methods(methods, observations, state, counted)
    state = booked(observations, state, counted)
    state = suspected(methods, observations, state, counted, track)
    snapshot, quantiles, on_scale = snapshot_of(methods, state)
    alone = None if state.since is None else suspects.left(state.since, calibration.dispersion, methods.sign)
    margin, ends = tolerated(rule, calibration.margin, methods.in_points), observations.ends[counted]
    return state, Evidence(state, ends, track, snapshot, calibration, margin, quantiles, on_scale, alone, faults)


def countable(watch: Watch, rule: Rule, ends: Floats) -> Flags:
    """Tell which blocks count, shape [block].

    Not the warm-up after exposure; for a rate, not until what was started under the present exposure had time to
    complete; and never a block inside which exposure changed.
    """
    begins = ends - watch.block
    counted = begins >= watch.release.exposed_at + watch.warm_up + rule.matures - 1e-6
    for stage in watch.release.stages:
        counted &= (begins >= stage.at - 1e-6) | (ends <= stage.at + 1e-6)
        if rule.kind is Kind.RATE:
            counted &= (begins >= stage.at + rule.matures - 1e-6) | (ends <= stage.at + 1e-6)
    return counted


def fold_split(watch: Watch, rule: Rule, observations: Observations, state: Mapping[str, Any] | None) -> SplitEvidence:
    """Fold newly closed blocks of the traffic split (`split_rule`) into its state, JSON-able; None at the first."""
    return _fold_split(watch, observations, countable(watch, rule, observations.ends), state)

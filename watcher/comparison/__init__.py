"""Observations and Calibration to Evidence: which blocks count, and the method for rule and design.

What is kept of a rule is one state per method, each for some of its streams. Evidence of harm runs through all stages
of a release; what proves health starts anew with each (see the methods).
"""

from __future__ import annotations

from watcher.calibration import aligned
from watcher.comparison.accounts import booked, suspected, unheard
from watcher.comparison.blocks import countable
from watcher.comparison.doubles import DOUBLES, Doubles, doubles_in, without
from watcher.comparison.folding import fold_methods
from watcher.comparison.methods import Methods, tolerated
from watcher.comparison.snapshots import CONFIDENCE, snapshot_of
from watcher.comparison.split import SPLIT, SplitEvidence, fold_split, split_rule
from watcher.comparison.state import Evidence, EvidenceState
from watcher.comparison.streams import on_calibrated_edges, welcome
from watcher.evidence import suspects
from watcher.model import Calibration, Observations, Rule, Watch

__all__ = [
    "CONFIDENCE",
    "DOUBLES",
    "SPLIT",
    "Doubles",
    "Evidence",
    "EvidenceState",
    "SplitEvidence",
    "countable",
    "doubles_in",
    "fold",
    "fold_split",
    "split_rule",
    "tolerated",
    "without",
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
    silent = unheard(methods, state)
    return state, Evidence(
        state, ends, track, snapshot, calibration, margin, quantiles, on_scale, alone, faults, silent
    )

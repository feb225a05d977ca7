"""Streams of their own for the signatures of bad events: an error never seen before drowns in the sum of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from watcher.model import Arm, Floats, Kind, Labels, Observations, Rule, Worse

MOST_SIGNATURES = 200
"""Streams the values of a signature may make in one rule."""


def signature_of(rule: Rule, by: Sequence[str]) -> str | None:
    """Return the label whose values make streams beside those by `by`; None where there is none, or it is in `by`."""
    counts_bad = rule.kind is Kind.RATIO and rule.worse is Worse.HIGHER
    return rule.signature if counts_bad and rule.signature not in by else None


def too_many(signature: str) -> str:
    """Return the note for a signature that makes no streams because it would make too many."""
    return f"{signature} has too many values to make a stream of each: they are not told apart"


def without(stream: Labels, signature: str) -> Labels:
    """Return the stream of all signatures together that a signature's own stream is a part of."""
    return tuple(pair for pair in stream if pair[0] != signature)


def with_signatures(
    together: Observations, signature: str, streams: Sequence[Labels], events: Mapping[str, Floats]
) -> Observations:
    """Return the observations with a stream for every signature beside those of all signatures together.

    Args:
        together: what the rule counts by its own labels.
        signature: the label.
        streams: of the signatures, each with a value of the label.
        events: of these streams [stream, unit, block], by arm ("treatment", "baseline"), on the arm's units. They are
            held against the total of the stream they are a part of, as totals do not know what went wrong.
    """
    everything = (*together.streams, *streams)
    order = sorted(range(len(everything)), key=everything.__getitem__)

    def grown(arm: Arm, own: Floats) -> Arm:
        counts, nothing = np.concatenate([arm.events, own]), np.zeros_like(own)
        return Arm(arm.units, counts[order], np.concatenate([arm.total, nothing])[order])

    baseline = together.baseline
    found = replace(
        together,
        streams=tuple(everything[i] for i in order),
        treatment=grown(together.treatment, events["treatment"]),
        baseline=None if baseline is None else grown(baseline, events["baseline"]),
    )
    return with_parents_totals(found, signature)


def with_parents_totals(found: Observations, signature: str) -> Observations:
    """Return the observations with every signature held against the total of the stream it is a part of.

    Parts read one after the other need it when put together: a signature that only a later part knows has no total in
    the earlier ones.
    """
    row = {stream: i for i, stream in enumerate(found.streams)}
    parents = [row[without(stream, signature)] for stream in found.streams]
    baseline = found.baseline
    return replace(
        found,
        treatment=replace(found.treatment, total=found.treatment.total[parents]),
        baseline=None if baseline is None else replace(baseline, total=baseline.total[parents]),
    )

"""Streams: the ones known before exposure, the ones born since, and observations put on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.calibration import signed
from watcher.comparison.methods import Methods
from watcher.comparison.state import EvidenceState, Part
from watcher.evidence.innovations import Innovations
from watcher.model import Calibration, Labels, Observations


def welcome(methods: Methods, state: EvidenceState | None, observations: Observations) -> EvidenceState:
    """Return the state with room for every stream: those known before exposure, and those born since.

    An error signature becomes a stream with its first event, unless it was there before exposure.
    """
    rule, before = methods.rule, dict.fromkeys(methods.calibration.streams)
    arms = [arm for arm in (observations.baseline, observations.treatment) if arm is not None]
    seen = tuple(
        stream
        for row, stream in enumerate(observations.streams)
        if not signed(rule, stream) or (stream not in before and any(arm.events[row].any() for arm in arms))
    )
    if state is None or all(signed(rule, stream) for stream in state.streams):
        # The first streams there are, even if they are not there from the first block, are the ones known.
        first = dict.fromkeys(stream for stream in (*before, *seen) if not signed(rule, stream))
        fresh = _fresh(methods, tuple(first))
        state = fresh if state is None else replace(fresh, blocks=state.blocks)
    known = set(state.streams)
    born = tuple(stream for stream in seen if stream not in known)
    return _grown(state, _fresh(methods, born)) if born else state


def _fresh(methods: Methods, streams: tuple[Labels, ...]) -> EvidenceState:
    """Return the state of streams before their first block."""
    parts, size = [], len(streams)
    for name, rows in methods.chosen(streams).items():
        own = tuple(streams[row] for row in rows)
        method = methods.laid_out(name, own)
        if isinstance(method, Innovations):
            parts.append(Part(name, rows, method.start(len(rows), methods.tails(own), methods.partial)))
        else:
            parts.append(Part(name, rows, method.start(len(rows))))
    return EvidenceState(streams, size, np.zeros((size, 4)), np.zeros((size, 2)), 0, (0, 0), tuple(parts))


def _grown(state: EvidenceState, fresh: EvidenceState) -> EvidenceState:
    """Return a state with fresh streams appended."""
    before, parts = len(state.streams), {part.method: part for part in state.parts}
    for part in fresh.parts:
        rows, old = tuple(before + row for row in part.rows), parts.get(part.method)
        grown = part.state if old is None else old.state.grown(part.state)
        parts[part.method] = Part(part.method, rows if old is None else old.rows + rows, grown)
    since = state.since
    if since is not None:
        since = np.concatenate([since, np.zeros((len(fresh.streams), *since.shape[1:]))])
    return replace(
        state,
        streams=state.streams + fresh.streams,
        tallies=np.vstack([state.tallies, fresh.tallies]),
        idle=np.vstack([state.idle, fresh.idle]),
        parts=tuple(parts.values()),
        since=since,
    )


def on_calibrated_edges(calibration: Calibration, observations: Observations) -> tuple[Observations, tuple[str, ...]]:
    """Return the observations on the edges that were calibrated, and what is wrong if they cannot be."""
    if not calibration.edges or observations.edges in ((), calibration.edges):
        return observations, ()
    if set(calibration.edges) <= set(observations.edges):
        return observations.on_edges(calibration.edges), ()
    edges = ", ".join(f"{edge:g}" for edge in observations.edges)
    return observations.on_edges(()), (f"bucket edges differ from those before exposure (now {edges})",)

"""What all methods of a rule together say now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from watcher.comparison.methods import Methods
from watcher.comparison.series import series_snapshot
from watcher.comparison.state import EvidenceState
from watcher.evidence.quantiles import Quantile
from watcher.evidence.track import Snapshot
from watcher.model import Flags

CONFIDENCE = 0.95
_ARRAYS = tuple(field.name for field in fields(Snapshot) if field.name != "measure")


def snapshot_of(
    methods: Methods, state: EvidenceState
) -> tuple[Snapshot | None, Mapping[float, Quantile] | None, Flags | None]:
    """Return what all methods together say; of a latency its quantiles too, and where they decide health."""
    if methods.on_series and not methods.by_unit:
        return series_snapshot(methods, state, 1 - CONFIDENCE), None, None
    merged = None
    for part in state.parts:
        method: Any = methods.laid_out(part.method, tuple(state.streams[row] for row in part.rows))
        said: Snapshot = method.snapshot(part.state, 1 - CONFIDENCE)
        if part.method == "buckets":
            assert merged is not None
            on_scale: Flags = method.decidable
            return _with_latency(merged, said, on_scale), method.quantiles(part.state, 1 - CONFIDENCE), on_scale
        merged = _spread_out(merged, said, part.rows, len(state.streams))
    return merged, None, None


def _spread_out(merged: Snapshot | None, said: Snapshot, rows: tuple[int, ...], streams: int) -> Snapshot:
    """Return a snapshot of all streams with the rows of one method filled in."""
    if merged is None:
        merged = Snapshot(said.measure, **{name: np.full(streams, np.nan) for name in _ARRAYS})
    for name in _ARRAYS:
        getattr(merged, name)[list(rows)] = getattr(said, name)
    return merged


def _with_latency(share: Snapshot, latency: Snapshot, on_scale: Flags) -> Snapshot:
    """Return a latency's snapshot: of the share over the objective, or, where the edges allow it, of its quantiles."""
    mixed = {name: np.where(on_scale, getattr(latency, name), getattr(share, name)) for name in _ARRAYS}
    mixed["log_regressed"] = np.logaddexp(share.log_regressed, latency.log_regressed) - np.log(2)
    mixed["harm"] = np.where(on_scale, latency.harm, np.maximum(share.harm, latency.harm))
    mixed["toward_regressed"] = np.maximum(share.toward_regressed, latency.toward_regressed)
    return Snapshot("ratio", **mixed)

"""Noticing releases in the metrics themselves: a version label that never carried traffic before."""

from __future__ import annotations

from collections.abc import Mapping

from watcher.model import Exposure, Floats


def exposures(
    before: Mapping[str, float] | None, now: Mapping[str, float], at: float, feature: str
) -> tuple[list[Exposure], dict[str, float]]:
    """Tell which versions users met for the first time, and what to remember for the next look.

    A version never seen before is a release, held against the known version with the most traffic. Going back to a
    known version is not a release, and neither is a version without traffic or without a name. The versions that
    carry the first traffic ever seen are adopted: nothing is known to hold them against.

    >>> told, known = exposures({"1.1": 900.0}, {"1.1": 870.0, "1.2": 40.0}, 0.0, "checkout")
    >>> [(exposure.version, exposure.previous) for exposure in told], known
    ([('1.2', '1.1')], {'1.1': 870.0, '1.2': 40.0})

    Args:
        before: what the last look returned, None at the first start.
        now: requests by version in the last window.
        at: end of the first block with traffic, epoch seconds.
        feature: what the versions are versions of.

    Returns:
        The exposures, busiest first, and every version ever seen with its latest traffic.
    """
    known = dict(before or {})
    busy = {version: requests for version, requests in now.items() if version and requests > 0}
    if not busy:
        # A window without any traffic says nothing of who served before it.
        return [], known
    fresh = sorted((version for version in busy if version not in known), key=lambda version: (-busy[version], version))
    remembered = {version: busy.get(version, 0.0) for version in known} | {version: busy[version] for version in fresh}
    if not known:
        return [], remembered
    previous = max(known, key=lambda version: (busy.get(version, 0.0), known[version], version))
    return [Exposure(feature, version, at, previous=previous) for version in fresh], remembered


def exposures_over(ends: Floats, traffic: Mapping[str, Floats], feature: str) -> list[Exposure]:
    """Tell which versions users met for the first time in a stretch of the past, as block after block would have.

    >>> import numpy as np
    >>> traffic = {"1.1": np.array([9.0, 9.0, 5.0, 0.0]), "1.2": np.array([0.0, 0.0, 4.0, 9.0])}
    >>> [(each.version, each.previous, each.at) for each in exposures_over(np.arange(1.0, 5.0), traffic, "checkout")]
    [('1.2', '1.1', 3.0)]

    Args:
        ends: of the blocks, epoch seconds.
        traffic: requests per block, by version.
        feature: what the versions are versions of.
    """
    known: dict[str, float] | None = None
    found: list[Exposure] = []
    for block, end in enumerate(ends.tolist()):
        now = {version: float(requests[block]) for version, requests in traffic.items() if requests[block] > 0}
        told, known = exposures(known, now, end, feature)
        found += told
    return found

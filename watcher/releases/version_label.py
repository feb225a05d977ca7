"""Noticing releases in the metrics themselves: a version label that never carried traffic before."""

from __future__ import annotations

from collections.abc import Mapping

from watcher.model import Exposure


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

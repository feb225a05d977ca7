"""Past releases on a server: when users were exposed to what, as a list of releases or the traffic itself says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from watcher.errors import ConfigError, DataError
from watcher.model import Labels, Rule, Selector, Watch
from watcher.releases import version_label
from watcher.report.past import LABELS
from watcher.sources.prometheus import PrometheusSource
from watcher.sources.tidy import read_table
from watcher.sources.tidy.checks import Place
from watcher.sources.tidy.columns import seconds, text
from watcher.sources.tidy.frames import flat

PLACEHOLDERS = ("release", "version", "previous", "feature")
"""What may stand in braces in an arm: columns of the list of releases."""

_REQUIRED, _OPTIONAL = ("exposed_at", "release"), ("label", "group", "previous", "version", "feature")


@dataclass(frozen=True)
class PastExposure:
    """A past release: what it was, and when users were exposed. `watch` is how it was watched then, where known."""

    release: str
    exposed_at: float
    label: int | None = None
    group: str = ""
    previous: str = ""
    version: str = ""
    feature: str = ""
    watch: Watch | None = None


def read_releases(path: str | Path) -> list[PastExposure]:
    """Read a list of releases, one a row: exposed_at, release; optional label, group, previous, version and feature.

    Raises:
        DataError: a column is missing, or a time or a label cannot be read.
    """
    name = str(path)
    frame = flat(read_table(path, text={*_REQUIRED, *_OPTIONAL} - {"exposed_at"}), name)
    place = Place.of(frame, name)
    for column in _REQUIRED:
        if column not in frame.columns:
            raise place.missing(column, frame.columns)
    if frame.empty:
        raise DataError("the table has no rows", file=name)
    return _rows(frame, place)


def _rows(frame: pd.DataFrame, place: Place) -> list[PastExposure]:
    times = seconds(frame["exposed_at"], place)
    said = {column: text(frame[column]) for column in ("release", *_OPTIONAL) if column in frame.columns}
    place.refuse_first(said["release"].equal_to(""), "release", lambda _: "the release is missing")
    found, names = [], set[str]()
    for row, at in enumerate(times.tolist()):
        given: dict[str, Any] = {column: words.at(row).strip() for column, words in said.items()}
        label = given.pop("label", "")
        if label.lower() not in LABELS:
            raise place.refusal(f"{label!r} is no label: 1 is bad, 0 is fine, empty is unknown", "label", row)
        if given["release"] in names:
            raise place.refusal(f"{given['release']!r} is there twice; a release has one row", "release", row)
        names.add(given["release"])
        release = PastExposure(given.pop("release"), at, LABELS[label.lower()])
        found.append(replace(release, **given))
    return found


def versions_found(
    source: PrometheusSource, counter: Selector, label: str, since: float, until: float, block: float, feature: str
) -> list[PastExposure]:
    """Return the versions that users met for the first time, as the daemon would have noticed them.

    Args:
        source: read a day at a time.
        counter: of requests.
        label: that tells versions apart.
        since, until: epoch seconds; what has traffic at the start is known, and no release.
        block: seconds; a version is met in the first block with traffic.
        feature: what the versions are versions of.
    """
    start = float(np.ceil(since / block) * block)
    ends, traffic = source.traffic_by_label(counter, label, start, float(np.floor(until / block) * block), block)
    return [
        PastExposure(each.version, each.at, previous=each.previous or "", version=each.version, feature=each.feature)
        for each in version_label.exposures_over(ends, traffic, feature)
    ]


def requests_of(rules: tuple[Rule, ...], select: Labels) -> Selector:
    """Return the counter in which versions are looked for: the first total of the rules, as the daemon takes it.

    Raises:
        ConfigError: no rule counts a total.
    """
    totals = [rule.total for rule in rules if rule.total is not None]
    if not totals:
        raise ConfigError("finding releases by label needs a rule that counts a total", key="--version-label")
    return totals[0].where(select)


def filled(template: Labels | None, row: PastExposure, option: str) -> Labels | None:
    """Return an arm with a release's own values where placeholders stand, which stand for whole values.

    >>> filled((("version", "{previous}"),), PastExposure("r7", 0.0, previous="1.1"), "--baseline")
    (('version', '1.1'),)

    Raises:
        ConfigError: no such placeholder, or the release does not say what it stands for.
    """
    if template is None:
        return None
    return tuple((label, _value(value, row, option)) for label, value in template)


def _value(written: str, row: PastExposure, option: str) -> str:
    if not has_placeholder(written):
        return written
    name = written[1:-1]
    if name not in PLACEHOLDERS:
        raise ConfigError(f"{written!r}: a placeholder is a whole value, one of {_names()}", key=option)
    known: Mapping[str, str] = {each: str(getattr(row, each)) for each in PLACEHOLDERS}
    if not known[name]:
        raise ConfigError(f"nobody says what {written} is for {row.release}", key=option)
    return known[name]


def has_placeholder(written: str) -> bool:
    """Tell whether a value of an arm stands for something else."""
    return "{" in written or "}" in written


def _names() -> str:
    return ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)

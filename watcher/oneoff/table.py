"""`watcher.compare`, and `watcher compare FILE`: the look over all blocks of a tidy table."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from watcher.config import parse_duration, parse_moment
from watcher.model import Alpha, Rule
from watcher.oneoff.asked import Said, Usual, asked, asked_alpha, asked_usual, labels_named
from watcher.oneoff.found import Comparison, Comparisons, compare_source
from watcher.oneoff.prepared import UNNAMED, Prepared, Reading, table_options
from watcher.oneoff.spread import Progress
from watcher.sources.tidy import read_table, split_releases


def compare(
    data: pd.DataFrame | str | Path,
    *,
    ratio: str | None = None,
    rate: str | None = None,
    latency: str | None = None,
    gauge: str | None = None,
    rules: str | Path | Sequence[Rule] | None = None,
    worse: Said = None,
    at: dt.datetime | float | str | None = None,
    by: str | Sequence[str] | None = None,
    margin: float | str | None = None,
    regress_margin: float | str = 0.0,
    alpha: float | None = None,
    warm_up: float | str = 0.0,
    matures: float | str = 0.0,
    objective: float | str | None = None,
    unit_of_time: str = "s",
    block: float | str | None = None,
    drop_bad_rows: bool = False,
    timezone: str | None = None,
    exclude: Sequence[str] = (),
    progress: Progress | None = None,
) -> Any:
    """Judge the release (or releases) in a tidy table, as the daemon would have.

    Args:
        data: a DataFrame, or the path of a CSV or Parquet file; columns as in the README.
        ratio: "bad/total" columns, one counting a part of the other.
        rate: "events/exposure" columns, counted at different moments.
        latency: a duration column, or the metric of a histogram's buckets.
        gauge: a column with one measurement per interval; with a column `metric`, a rule for each of its values.
        rules: a rule pack, in place of the four above.
        worse: "higher", "lower" or, of a gauge, "either"; ratio and latency default to higher, rate to lower, a gauge
            must say. Where a gauge is a column of several metrics (column `metric`), by metric: {"*_pct": "lower"}.
        at: time of exposure (aware; ISO 8601 or epoch seconds); before it is history.
        by: label columns that make streams; None: those of the rules, else all text columns; (): none, all is added up.
        margin: how much worse is tolerable: 0.5, "50%" or "0.5pp".
        regress_margin: how much worse must be proven before `regressed`.
        alpha: error rate of `regressed`, over all rules, streams and looks of a release; None: 0.01, and without
            a control 0.05, which is what a few days of history can support.
        warm_up: seconds (or "5m") after exposure that do not count; likewise `matures` and `block`.
        matures: for a rate, the 99th percentile of the delay between exposure and event.
        objective: latency above which a request is slow; None: what a tenth of the baseline's first requests exceed.
        unit_of_time: of durations: s, ms, us or ns.
        block: seconds a block lasts; None: as the rows are spaced, at least 60.
        timezone: IANA name of the time users live by; None: UTC.
        exclude: stretches of the past that were not usual, each "FROM/TO" in ISO 8601.
        drop_bad_rows: leave out rows with missing counts instead of refusing the table.
        progress: called with how many of several releases are done, and of how many.

    Returns:
        A `Comparison`; for a table with several releases, `Comparisons`.

    Raises:
        DataError: the table is wrong; the message names file, row and column.
        ConfigError: the rules are wrong.
        ValueError: an argument cannot be read: a margin, a duration, an alpha.

    Example:
        >>> import pandas as pd
        >>> minutes = pd.date_range("2026-11-20T10:00Z", periods=30, freq="1min")
        >>> arm = lambda name, errors: pd.DataFrame(
        ...     {"timestamp": minutes, "arm": name, "errors": errors, "requests": 1000})
        >>> found = compare(pd.concat([arm("baseline", 10), arm("treatment", 30)]), ratio="errors/requests")
        >>> found.outcome.value, round(found.findings.verdict.streams[0].effect.estimate, 1)
        ('regressed', 3.0)
    """
    spent = asked_alpha(alpha)
    wanted = asked(
        {"ratio": ratio, "rate": rate, "latency": latency, "gauge": gauge},
        rules=rules,
        worse=worse,
        margin=margin,
        regress_margin=regress_margin,
        matures=matures,
        objective=objective,
    )
    name = UNNAMED if isinstance(data, pd.DataFrame) else str(data)
    frame = data if isinstance(data, pd.DataFrame) else read_table(data, text=labels_named(wanted.rules, by))
    options = table_options(name, by, None if block is None else parse_duration(block), unit_of_time, drop_bad_rows)
    exposed, usual = None if at is None else parse_moment(at), asked_usual(timezone, exclude)
    parts, found = split_releases(frame, name=name), []
    for (release, part), own in zip(parts, wanted.of_each([part for _, part in parts], name), strict=True):
        found.append(_compare_part(part, own, release, spent, parse_duration(warm_up), exposed, options, usual))
        if progress is not None and len(parts) > 1:
            progress(len(found), len(parts))
    return found[0] if len(found) == 1 else Comparisons(tuple(found))


def _compare_part(
    frame: pd.DataFrame,
    rules: tuple[Rule, ...],
    release: str | None,
    alpha: Alpha,
    warm_up: float,
    at: float | None,
    options: Mapping[str, Any],
    usual: Usual,
) -> Comparison:
    """Judge one release, by one look at all of its blocks."""
    began = time.monotonic()
    ready = Prepared.of(Reading.of(frame, rules, options), release, alpha=alpha, warm_up=warm_up, at=at, usual=usual)
    return compare_prepared(ready, began)


def compare_prepared(ready: Prepared, began: float | None = None) -> Comparison:
    """Judge a release of a table, by one look at all blocks that may be seen."""
    learnt, history = ready.calibrations, ready.history
    return compare_source(ready.watch, ready.source, ready.until, history, learnt, ready.notes, began, ready.said)

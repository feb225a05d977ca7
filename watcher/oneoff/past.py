"""`watcher.backtest`, and `watcher backtest FILE`: the shipped pipeline over past releases, look by look."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from watcher.config import parse_duration, parse_moment
from watcher.model import Alpha, Rule, Worse
from watcher.oneoff.asked import Said, asked, asked_alpha, asked_usual, labels_named
from watcher.oneoff.backtested import Backtest
from watcher.oneoff.cases import past_cases
from watcher.oneoff.prepared import UNNAMED, table_options
from watcher.oneoff.spread import PastCases, Progress, judge_all
from watcher.sources.tidy import read_table


def backtest(
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
    alpha: float | Alpha | None = None,
    warm_up: float | str = 0.0,
    matures: float | str = 0.0,
    objective: float | str | None = None,
    unit_of_time: str = "s",
    block: float | str | None = None,
    drop_bad_rows: bool = False,
    timezone: str | None = None,
    exclude: Sequence[str] = (),
    looks_every: float | str = "60s",
    horizon: float | str = "2h",
    processes: int | None = None,
    progress: Progress | None = None,
    report: str | Path | None = None,
) -> Backtest:
    """Run the rules over past releases, look by look, and say how good they would have been.

    Every release of the table (column `release`) is judged as it would have been then: what lies before its exposure
    is history, and the looks end with the horizon or with its rows. `label` says what it turned out to be (1 bad, 0
    fine, empty unknown), `group` which were made together. A table without labels and with one release at most is
    judged at times when nothing was released: how often the rules raise a false alarm on its own history.

    What varies is learnt before exposure; where there were no arms yet, from the baseline arm up to the horizon, as
    `compare` does: it says nothing of the difference between them.

    Args:
        data: a DataFrame, or the path of a CSV or Parquet file; columns as in the README.
        ratio, rate, latency, gauge, rules, by, margin, regress_margin, alpha, warm_up, matures, objective,
            unit_of_time, block, drop_bad_rows: as for `compare`.
        worse: as for `compare`; a gauge of which nobody says anything is worse either way.
        at: when users were exposed to the one release there is.
        looks_every: seconds (or "60s") between looks.
        horizon: how long after exposure a release is looked at, as if it were watched no longer. Evidence of harm that
            begins late is spread over it, so that a longer one may decide some minutes later; with a control `compare`
            and the daemon watch for a day unless told otherwise.
        processes: to spread the work over; None: the cores this process may use; 1: none but this one.
        progress: called with how many releases are done, and of how many.
        report: an HTML file to write, too: figures, what other margins would have given, and charts.

    Raises:
        DataError: the table is wrong. A release whose own rows are wrong is a row with outcome "error", unless all are.
        ConfigError: the rules are wrong.
        ValueError: an argument cannot be read.

    Example:
        >>> import numpy as np
        >>> import pandas as pd
        >>> def release(name, errors, label):
        ...     minutes = pd.date_range("2026-11-20T10:00Z", periods=30, freq="1min")
        ...     arms = {"baseline": 10, "treatment": errors}
        ...     frames = [pd.DataFrame({"timestamp": minutes, "arm": a, "errors": n}) for a, n in arms.items()]
        ...     return pd.concat(frames).assign(requests=1000, release=name, label=label)
        >>> found = backtest(pd.concat([release("v1", 10, 0), release("v2", 30, 1)]), ratio="errors/requests")
        >>> found.recall, found.false_alarm_rate
        (1.0, 0.0)
        >>> found.to_frame()["outcome"].tolist()
        ['healthy', 'regressed']
    """
    spent = asked_alpha(alpha)
    every, length = parse_duration(looks_every), parse_duration(horizon)
    if not every > 0 or not length > 0:
        raise ValueError("looks take place more than 0 s apart, and for longer than that")
    wanted = asked(
        {"ratio": ratio, "rate": rate, "latency": latency, "gauge": gauge},
        rules=rules,
        worse=worse,
        margin=margin,
        regress_margin=regress_margin,
        matures=matures,
        objective=objective,
        otherwise=Worse.EITHER,
    )
    name = UNNAMED if isinstance(data, pd.DataFrame) else str(data)
    frame = data if isinstance(data, pd.DataFrame) else read_table(data, text=labels_named(wanted.rules, by))
    usual = asked_usual(timezone, exclude)
    cases = past_cases(
        frame,
        wanted,
        at=None if at is None else parse_moment(at),
        alpha=spent,
        warm_up=parse_duration(warm_up),
        every=every,
        horizon=length,
        options=table_options(name, by, None if block is None else parse_duration(block), unit_of_time, drop_bad_rows),
    )
    return judged(replace(cases, usual=usual), processes, progress, report)


def judged(
    cases: PastCases,
    processes: int | None = None,
    progress: Progress | None = None,
    report: str | Path | None = None,
) -> Backtest:
    """Judge past releases, and write the report of that, where one is asked for; arguments as for `backtest`."""
    found = judge_all(cases, processes, progress)
    if report is not None:
        # Most backtests draw nothing, and matplotlib takes long to import.
        from watcher.oneoff import past_report

        past_report.write(Path(report), cases, found, processes, progress)
    return found

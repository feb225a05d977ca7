"""Which rules a question about a table becomes, and which way is worse for each of them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import watcher
from watcher.errors import DataError
from watcher.model import Outcome, Worse
from watcher.oneoff.asked import Asked, Said, asked

EXPOSED = 1_800_000_000.0
ASKED = {"rules": None, "margin": None, "regress_margin": 0.0, "matures": 0.0, "objective": None}


def series(**metrics: float) -> pd.DataFrame:
    """Return four hours before exposure and one after, in which each metric is so many times what it was."""
    rng, minute = np.random.default_rng(3), np.arange(-239, 61)
    parts = [
        pd.DataFrame(
            {
                "timestamp": EXPOSED + 60.0 * minute,
                "metric": metric,
                "value": np.exp(rng.normal(0, 0.02, minute.size)) * np.where(minute > 0, times, 1.0),
            }
        )
        for metric, times in metrics.items()
    ]
    return pd.concat(parts, ignore_index=True).assign(exposed_at=EXPOSED)


def gauge(worse: Said, otherwise: Worse | None = None) -> Asked:
    return asked({"gauge": "value"}, worse=worse, otherwise=otherwise, **ASKED)


def sides(found: Asked, frame: pd.DataFrame) -> dict[str, str]:
    (rules,) = found.of_each([frame], "shop.csv")
    return {rule.name: rule.worse.value for rule in rules}


def test_a_column_of_several_metrics_is_a_rule_for_each_of_them() -> None:
    found = watcher.compare(
        series(latency_ms=1.5, success_pct=1.5), gauge="value", worse={"*_pct": "lower", "*": "higher"}
    )
    outcomes = {verdict.rule: (verdict.labels, verdict.outcome) for verdict in found.findings.streams}
    assert outcomes == {"latency_ms": ((), Outcome.REGRESSED), "success_pct": ((), Outcome.HEALTHY)}


def test_a_metric_with_the_name_of_a_column_is_told_from_it() -> None:
    frame = series(value=1.5, other=1.0)
    found = watcher.compare(frame, gauge="value", worse="higher")
    assert [(each.rule, each.labels, each.outcome.value) for each in found.findings.streams] == [
        ("value", (), "regressed"),
        ("other", (), "healthy"),
    ]


def test_the_first_glob_that_matches_says_which_way_is_worse() -> None:
    frame = series(a_ms=1.0, a_pct=1.0, b=1.0)
    assert sides(gauge(["a_*=lower", "*_ms=higher", "either"]), frame) == {
        "a_ms": "lower",
        "a_pct": "lower",
        "b": "either",
    }
    assert sides(gauge({"*_ms": "higher", "*": "lower"}), frame) == {"a_ms": "higher", "a_pct": "lower", "b": "lower"}


def test_a_metric_no_glob_matches_is_refused_unless_something_else_holds() -> None:
    frame = series(a_ms=1.0, b=1.0)
    with pytest.raises(DataError, match="which way is worse for the gauge b"):
        gauge("*_ms=higher").of_each([frame], "shop.csv")
    assert sides(gauge("*_ms=higher", Worse.EITHER), frame) == {"a_ms": "higher", "b": "either"}


def test_a_glob_that_matches_nothing_in_the_whole_table_is_refused_by_name() -> None:
    ours, theirs = series(a_ms=1.0), series(b_pct=1.0)
    said = gauge(["*_ms=higher", "*_pct=lower"])
    assert [rules[0].name for rules in said.of_each([ours, theirs], "shop.csv")] == ["a_ms", "b_pct"]
    with pytest.raises(
        DataError, match=r"shop.csv: lower is said to be worse for '\*_pct', which is no metric \(a_ms\)"
    ):
        said.of_each([ours], "shop.csv")


def test_only_a_gauge_may_be_worse_either_way() -> None:
    with pytest.raises(DataError, match="only a gauge may be either"):
        asked({"ratio": "errors/requests"}, worse="either", **ASKED)


@pytest.mark.parametrize("worse", ["sideways", "*_ms=", "=lower", {"a": "up"}])
def test_what_is_no_direction_is_refused(worse: Said) -> None:
    with pytest.raises(ValueError, match="expected higher, lower, either"):
        gauge(worse)

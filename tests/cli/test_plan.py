"""What `watcher plan` promises: its verdict in words, its numbers, its chart, and that releases then behave like it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import watcher as library
from tests.cli.conftest import EXPOSED, Answer, Watcher
from watcher.oneoff.plan import plan_table
from watcher.report import plan_chart
from watcher.report import plan_table as table

PACK = """
pack: shop
by: [feature]
rules:
  - {name: errors, title: Requests that failed, kind: ratio, bad: errors, total: requests, margin: 50%}
  - {name: orders, title: Orders, kind: rate, events: completed, per: started, matures: 25m, worse: lower, margin: 2%}
  - {name: paint, title: Largest paint, kind: gauge, value: load_time, worse: higher, margin: 10%, required: false}
"""


def past(hours: int = 6, arms: bool = False, worse: float = 1.0) -> pd.DataFrame:
    """Return counts per minute and feature; 200 requests a minute in all, of which 2 % fail, and 40 checkouts."""
    rng = np.random.default_rng(21)
    index = pd.MultiIndex.from_product(
        [
            EXPOSED + pd.to_timedelta(np.arange(1, 60 * hours + 1), unit="min"),
            ["baseline", "treatment"] if arms else [""],
            ["checkout", "search"],
        ],
        names=["timestamp", "arm", "feature"],
    )
    frame = index.to_frame(index=False)
    share = 0.5 if arms else 1.0
    frame["requests"] = rng.poisson(200 * share, len(frame))
    frame["errors"] = rng.binomial(frame["requests"], 0.02 * np.where(frame["arm"] == "treatment", worse, 1.0))
    frame["started"] = rng.poisson(40 * share, len(frame))
    frame["completed"] = rng.binomial(frame["started"], 0.7)
    frame["timestamp"] = frame["timestamp"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    return frame if arms else frame.drop(columns="arm")


@pytest.fixture
def shop(folder: Path) -> Path:
    """A working folder with `shop.yaml` and `past.csv`, which lacks the gauge that is not required."""
    (folder / "shop.yaml").write_text(PACK)
    past().to_csv("past.csv", index=False)
    return folder


def told(answer: Answer) -> Any:
    """Return the JSON of an answer: strict, and without talk."""
    assert (answer.exit, answer.err) == (0, "")

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(answer.out, parse_constant=refuse)
    assert found["schema"] == "watcher/plan/1"
    return found


def stream(found: Any, rule: str, feature: str = "checkout") -> Any:
    [one] = [each for each in found["streams"] if (each["rule"], each["labels"].get("feature")) == (rule, feature)]
    return one


# --- what it says ----------------------------------------------------------------------------------------------------


def test_the_first_line_is_the_verdict_in_words(watcher: Watcher, shop: Path) -> None:
    answer = watcher("plan", "shop.yaml", "past.csv", "--share", "5%")
    first, second, *_ = answer.out.splitlines()
    assert (answer.exit, answer.err) == (0, "")
    assert first == "Can decide 1 of 2 rules within 24 h, at 5 % of the traffic."
    assert second.startswith("Requests that failed on ")
    assert "Orders on checkout: at 5 % of traffic needs " in answer.out
    assert "Largest paint: not in the table, and not required, so left out" in answer.out


def test_every_stream_is_planned_from_its_own_traffic_and_rate(watcher: Watcher, shop: Path) -> None:
    frame = past()
    quiet = frame["feature"] == "search"
    frame.loc[quiet, "errors"] = 0
    frame.loc[quiet, ["requests", "started", "completed"]] //= 4
    frame.to_csv("past.csv", index=False)
    found = told(watcher("plan", "shop.yaml", "past.csv", "--format", "json"))
    errors = stream(found, "errors")
    assert errors["baseline"]["per_minute"] == pytest.approx(200, rel=0.02)
    assert errors["baseline"]["rate"] == pytest.approx(0.02, rel=0.05)
    assert (
        stream(found, "orders", "search")["finds_double"]["median"] > stream(found, "orders")["finds_double"]["median"]
    )
    silent = stream(found, "errors", "search")
    assert silent["not_planned"] == "none of its events in the history, so there is no rate to plan with"
    assert not silent["decidable"]
    assert "healthy" not in silent


def test_smaller_shares_take_longer_and_the_plan_says_what_others_would_take(watcher: Watcher, shop: Path) -> None:
    at = {
        share: stream(told(watcher("plan", "shop.yaml", "past.csv", "--share", share, "--format", "json")), "errors")
        for share in ("5%", "20%", "50%")
    }
    for key in ("healthy", "finds_margin", "finds_double"):
        waits = [at[share][key]["median"] for share in at]
        assert waits == sorted(waits, reverse=True)
        assert waits[0] > waits[1]
    promised = {each["share"]: each["median"] for each in at["5%"]["shares"]}
    assert promised[0.2] == at["20%"]["healthy"]["median"]
    assert promised[0.5] == at["50%"]["healthy"]["median"]


def test_more_is_found_in_more_time_and_nobody_beats_the_oracle(watcher: Watcher, shop: Path) -> None:
    found = told(watcher("plan", "shop.yaml", "past.csv", "--watch-for", "6h", "--format", "json"))
    for each in found["streams"]:
        assert [at["minutes"] for at in each["smallest_found"]] == [10, 60, 360]
        curve = each["curve"]
        for ours, oracle in zip(curve["watcher"], curve["oracle"], strict=True):
            if ours is not None:
                assert abs(np.log(ours)) > abs(np.log(oracle))
        harm = [abs(np.log(ratio)) for ratio in curve["watcher"] if ratio is not None]
        assert harm == sorted(harm, reverse=True)
    assert all(at["ratio"] < 1 for at in stream(found, "orders")["smallest_found"])


def test_rates_are_the_baseline_s_and_traffic_is_that_of_both_arms(watcher: Watcher, shop: Path) -> None:
    frame = past(arms=True, worse=3.0)
    frame.to_csv("past.csv", index=False)
    errors = stream(told(watcher("plan", "shop.yaml", "past.csv", "--format", "json")), "errors")
    control = frame[(frame["arm"] == "baseline") & (frame["feature"] == "checkout")]
    assert errors["baseline"]["per_minute"] == pytest.approx(200, rel=0.02)
    assert errors["baseline"]["rate"] == pytest.approx(control["errors"].sum() / control["requests"].sum(), rel=1e-3)


def test_a_release_that_everybody_gets_is_planned_against_its_own_past(watcher: Watcher, shop: Path) -> None:
    found = told(watcher("plan", "shop.yaml", "past.csv", "--share", "100%", "--format", "json"))
    assert found["design"] == "before_after"
    errors = stream(found, "errors")
    assert errors["shares"] == []
    assert errors["healthy"]["median"] >= 4
    assert 1 < errors["floor"] < errors["margin"]["ratio"]


def test_a_series_without_enough_past_is_not_planned(watcher: Watcher, shop: Path) -> None:
    past().head(2 * 15).to_csv("past.csv", index=False)
    found = told(watcher("plan", "shop.yaml", "past.csv", "--share", "100%", "--format", "json"))
    assert found["answer"] == "Can decide 0 of 2 rules within 24 h."
    assert "15 blocks of history are too few to judge a series" in stream(found, "errors")["not_planned"]


def test_only_what_lies_before_the_moment_asked_for_is_history(watcher: Watcher, shop: Path) -> None:
    at = (EXPOSED + pd.Timedelta("2h")).strftime("%Y-%m-%dT%H:%M:%SZ")
    frame = past()
    frame.loc[frame["timestamp"] > at, "errors"] *= 4
    frame.to_csv("past.csv", index=False)
    found = told(watcher("plan", "shop.yaml", "past.csv", "--at", at, "--format", "json"))
    assert (found["to"], stream(found, "errors")["baseline"]["rate"]) == (at, pytest.approx(0.02, rel=0.05))
    early = watcher("plan", "shop.yaml", "past.csv", "--at", "2020-01-01T00:00:00Z")
    assert (early.exit, early.out) == (2, "")
    assert "there is no history to plan from" in early.err


def test_the_shipped_shop_pack_is_planned_whole(watcher: Watcher, long_table: Path) -> None:
    found = told(watcher("plan", "rules/checkout.yaml", "shop.csv", "--share", "20%", "--format", "json"))
    assert found["rules"] == 4
    assert {each["rule"] for each in found["streams"] if each["not_planned"] is None} == {
        "request-errors",
        "checkout-completion",
        "page-load",
        "lcp-p75",
    }
    assert stream(found, "checkout-completion")["window"] == 1440 - 5 - 25


def pack(rule: str) -> None:
    Path("one.yaml").write_text(f"pack: one\nby: [feature]\nunit: unit\nrules:\n  - {rule}\n")


def test_a_margin_in_percentage_points_is_planned_at_the_rate_of_the_history(watcher: Watcher, shop: Path) -> None:
    pack("{name: errors, kind: ratio, bad: errors, total: requests, margin: 0.5pp}")
    errors = stream(told(watcher("plan", "one.yaml", "past.csv", "--format", "json")), "errors")
    assert errors["margin"]["relative"] == pytest.approx(0.005 / errors["baseline"]["rate"], rel=1e-3)
    assert errors["margin"]["ratio"] == pytest.approx(1 + errors["margin"]["relative"], rel=1e-3)


def test_units_that_differ_too_much_are_named_with_how_many_it_would_take(watcher: Watcher, shop: Path) -> None:
    rng = np.random.default_rng(23)
    units = pd.DataFrame({"unit": list("abcdef"), "own": np.exp(rng.normal(0, 0.3, 6))})
    frame = past().merge(units, how="cross")
    frame["errors"] = rng.binomial(frame["requests"], 0.02 * frame["own"])
    frame.drop(columns="own").to_csv("past.csv", index=False)
    pack("{name: errors, kind: ratio, bad: errors, total: requests, margin: 20%}")
    errors = stream(told(watcher("plan", "one.yaml", "past.csv", "--share", "20%", "--format", "json")), "errors")
    assert (errors["limit"], errors["decidable"], errors["healthy"]["p90"]) == ("units", False, None)
    assert errors["baseline"]["units"] == 6
    assert errors["floor"] > 1.2
    assert "needs about " in errors["helps"]
    assert " an arm, or units that serve both arms" in errors["helps"]


@pytest.mark.parametrize(("edges", "limit"), [((0.5, 1.0, 2.0), "buckets"), (np.geomspace(0.1, 5.0, 60), "window")])
def test_latencies_are_planned_as_finely_as_their_buckets_allow(
    watcher: Watcher, shop: Path, edges: Any, limit: str
) -> None:
    rng = np.random.default_rng(24)
    edges = np.unique(np.append(np.round(edges, 3), 1.0))
    rows = []
    for minute in range(1, 121):
        over = np.searchsorted(np.sort(rng.lognormal(-0.5, 0.5, 200)), edges, side="right")
        at = (EXPOSED + pd.Timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")
        rows += [(at, f"{edge:g}", count) for edge, count in zip(edges, over, strict=True)] + [(at, "+Inf", 200)]
    pd.DataFrame(rows, columns=["timestamp", "le", "count"]).to_csv("past.csv", index=False)
    pack("{name: load, kind: latency, histogram: load_seconds, objective: 1s, margin: 10%}")
    [load] = told(watcher("plan", "one.yaml", "past.csv", "--watch-for", "20m", "--format", "json"))["streams"]
    assert (load["limit"], load["decidable"]) == (limit, False)
    assert ("histogram buckets" in load["helps"]) == (limit == "buckets")
    # On the latency scale harm of a tenth is found soon; in the share over an objective it takes much longer.
    assert (load["finds_margin"]["median"] < 20) == (limit == "window")


def test_a_release_is_decided_about_when_the_plan_says(shop: Path) -> None:
    """Of 50 releases with doubled errors, and 50 with none, about half by the median and at least 38 by the 90 %."""
    planned = plan_table("past.csv", rules="shop.yaml").streams[0].forecast
    assert planned is not None
    rng = np.random.default_rng(22)
    took: dict[float, list[float]] = {2.0: [], 1.0: []}
    for worse, times in took.items():
        for _ in range(50):
            frame = past(hours=3, arms=True)
            frame["errors"] = rng.binomial(frame["requests"], 0.02 * np.where(frame["arm"] == "treatment", worse, 1.0))
            found = library.compare(frame, ratio="errors/requests", at=EXPOSED.isoformat(), alpha=0.0045)
            [first] = [each for each in found.findings.streams if dict(each.labels)["feature"] == "checkout"]
            at = np.inf if first.decided_at is None else first.decided_at
            times.append((at - EXPOSED.timestamp()) / 60)
    for wait, worse in ((planned.double, 2.0), (planned.healthy, 1.0)):
        assert wait.median is not None
        assert wait.p90 is not None
        assert 15 <= sum(minutes <= wait.median for minutes in took[worse]) <= 35
        assert sum(minutes <= wait.p90 for minutes in took[worse]) >= 38


# --- how it says it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_table_fits_its_console(shop: Path, width: int) -> None:
    plan = plan_table("past.csv", rules="shop.yaml", share="5%")
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as printed:
        table.render(plan, console)
    lines = printed.get().splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("errors ") for line in lines)


def test_label_values_are_text_whatever_they_look_like(watcher: Watcher, shop: Path) -> None:
    frame = past()
    frame["feature"] = frame["feature"].replace("checkout", "[red]x\x1b[2J")
    frame.to_csv("past.csv", index=False)
    answer = watcher("plan", "shop.yaml", "past.csv")
    assert "[red]x [2J" in answer.out
    assert "\x1b" not in answer.out


def test_the_chart_shows_both_curves_the_margin_and_the_proof(shop: Path) -> None:
    figure = plan_chart.plan(plan_table("past.csv", rules="shop.yaml", share="5%"))
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if axes.axison]
    assert len(panels) == 4
    for axes in panels:
        assert axes.get_xscale() == axes.get_yscale() == "log"
        curves = {str(line.get_label()): line for line in axes.lines}
        ours, oracle = (np.asarray(curves[name].get_ydata(), dtype=float) for name in ("watcher", "oracle"))
        assert np.nanmin(np.abs(np.log(ours)) - np.abs(np.log(oracle))) > 0
        assert curves["margin"].get_ydata()[0] in (1.5, 0.98)
    first = panels[0].get_ylim()
    assert first[0] < 0.98 < 1 < first[1]
    assert any("proven healthy" in str(line.get_label()) for line in panels[-1].lines)


@pytest.mark.parametrize("name", ["plan.png", "plan.svg"])
def test_the_chart_is_written_where_it_is_asked_for(watcher: Watcher, shop: Path, name: str) -> None:
    answer = watcher("plan", "shop.yaml", "past.csv", "--chart", name)
    assert answer.exit == 0
    assert answer.out.startswith("Can decide ")
    image = Path(name).read_bytes()
    if name.endswith(".png"):
        assert image.startswith(b"\x89PNG")
    else:
        ElementTree.fromstring(image)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("shop.yaml", "give a FILE or --prometheus URL"),
        ("shop.yaml past.csv --prometheus http://127.0.0.1:1", "give a FILE or --prometheus URL"),
        ("shop.yaml past.csv --history 3h", "--history goes with --prometheus"),
        ("shop.yaml past.csv --share 0%", "--share"),
        ("shop.yaml past.csv --share 120%", "expected a share from 0% to 100%"),
        ("shop.yaml past.csv --chart plan.pdf", "a chart is FILE.png or FILE.svg"),
        ("shop.yaml past.csv --chart nowhere/plan.png", "nowhere/plan.png"),
        ("gone.yaml past.csv", "gone.yaml"),
        ("shop.yaml --prometheus http://127.0.0.1:1 --by feature", "--by goes with a FILE"),
        ("shop.yaml --prometheus http://127.0.0.1:1 --baseline version=1", "give both --baseline and --treatment"),
    ],
)
def test_what_cannot_be_planned_is_refused(watcher: Watcher, shop: Path, line: str, said: str) -> None:
    answer = watcher("plan", *line.split())
    assert (answer.exit, answer.out) == (2, "")
    assert said in answer.err

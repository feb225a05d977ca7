"""What scripts, CI jobs and notebooks rely on: `watcher compare`, its exit codes, its JSON, and `watcher.compare`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from matplotlib.figure import Figure

import watcher as library
from tests.cli.conftest import ROOT, Answer, Watcher, load_times, page_loads, shop
from watcher import cli, oneoff
from watcher.model import Outcome

SCHEMA = json.loads((ROOT / "schemas" / "comparison.schema.json").read_text())
AT = "2026-11-20T10:00:00Z"
RATIO = ("--ratio", "errors/requests")


def told(answer: Answer) -> Any:
    """Return the JSON of an answer that holds to the schema and came without talk."""
    found = json.loads(answer.out)
    jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(found)
    assert answer.err == ""
    return found


@pytest.fixture
def regressed(files: Path) -> Path:
    return files / "shop.csv"


@pytest.fixture
def healthy(folder: Path) -> Path:
    shop(worse=1.0).to_csv("fine.csv", index=False)
    return folder / "fine.csv"


@pytest.fixture
def undecided(folder: Path) -> Path:
    shop(worse=1.0, minutes=6, requests=20).to_csv("short.csv", index=False)
    return folder / "short.csv"


@pytest.fixture
def absent(folder: Path) -> Path:
    frame = shop()
    frame[frame["arm"] == "baseline"].to_csv("absent.csv", index=False)
    return folder / "absent.csv"


# --- the command lines, as written -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "code", "first", "design"),
    [
        ("shop.csv --ratio errors/requests --worse higher", 1, {"rule": "errors/requests"}, "concurrent"),
        (
            "shop.csv --rate completed/started --worse lower --matures 25m",
            3,
            {"rule": "completed/started"},
            "concurrent",
        ),
        ("shop.parquet --latency duration --unit-of-time s --by feature", 1, {"rule": "duration"}, "concurrent"),
        (
            f"load.csv --gauge load_time --worse higher --at {AT}",
            1,
            {"rule": "load_time", "labels": {}},
            "before_after",
        ),
    ],
)
def test_a_command_line_of_the_contract(
    watcher: Watcher, files: Path, line: str, code: int, first: Mapping[str, object], design: str
) -> None:
    answer = watcher("compare", *line.split(), "--format", "json")
    found = told(answer)
    assert (answer.exit, found["design"]) == (code, design)
    assert {"labels": {"feature": "checkout"}, **first}.items() <= found["streams"][0].items()


def test_a_rule_pack_reads_a_table_that_holds_all_its_metrics(watcher: Watcher, long_table: Path) -> None:
    answer = watcher("compare", "shop.csv", "--rules", "rules/checkout.yaml", "--format", "json")
    found = told(answer)
    assert (answer.exit, found["outcome"]) == (1, "regressed")
    by_rule = {(each["rule"], each["labels"]["feature"]): each["outcome"] for each in found["streams"]}
    assert set(by_rule) == {
        (rule, feature)
        for rule in ("request-errors", "checkout-completion", "page-load", "lcp-p75")
        for feature in ("checkout", "search")
    }
    assert by_rule["request-errors", "checkout"] == "regressed"
    assert by_rule["request-errors", "search"] == by_rule["lcp-p75", "search"] == "healthy"


def test_control_and_canary_are_names_of_the_arms_too(watcher: Watcher, folder: Path) -> None:
    shop().to_csv("ours.csv", index=False)
    shop().replace({"arm": {"baseline": "control", "treatment": "canary"}}).to_csv("theirs.csv", index=False)
    ours, theirs = (told(watcher("compare", f"{name}.csv", *RATIO, "--format", "json")) for name in ("ours", "theirs"))
    assert ours["streams"] == theirs["streams"]


def test_the_time_of_exposure_may_stand_in_the_table(watcher: Watcher, folder: Path) -> None:
    load_times().assign(exposed_at=AT).to_csv("load.csv", index=False)
    found = told(watcher("compare", "load.csv", "--gauge", "load_time", "--worse", "higher", "--format", "json"))
    assert (found["exposed_at"], found["outcome"]) == (AT, "regressed")


def test_before_and_after_without_a_time_of_exposure_is_refused(watcher: Watcher, files: Path) -> None:
    answer = watcher("compare", "load.csv", "--gauge", "load_time", "--worse", "higher")
    assert (answer.exit, answer.out) == (2, "")
    assert "load.csv" in answer.err
    assert "--at" in answer.err


# --- exit codes ------------------------------------------------------------------------------------------------------


def test_healthy_exits_0(watcher: Watcher, healthy: Path) -> None:
    answer = watcher("compare", "fine.csv", *RATIO)
    assert answer.exit == 0
    assert answer.out.startswith("HEALTHY")


def test_regressed_exits_1(watcher: Watcher, regressed: Path) -> None:
    answer = watcher("compare", "shop.csv", *RATIO)
    assert answer.exit == 1
    assert answer.out.startswith("REGRESSED")


def test_inconclusive_exits_3(watcher: Watcher, undecided: Path) -> None:
    answer = watcher("compare", "short.csv", *RATIO)
    assert answer.exit == 3
    assert answer.out.startswith("INCONCLUSIVE")


def test_no_data_exits_3(watcher: Watcher, absent: Path) -> None:
    answer = watcher("compare", "absent.csv", *RATIO)
    assert answer.exit == 3
    assert answer.out.startswith("NO DATA")


def test_fail_on_regressed_forgives_what_is_undecided(watcher: Watcher, undecided: Path) -> None:
    assert watcher("compare", "short.csv", *RATIO, "--fail-on", "regressed").exit == 0


def test_fail_on_regressed_forgives_neither_a_regression_nor_missing_data(
    watcher: Watcher, regressed: Path, absent: Path
) -> None:
    assert watcher("compare", "shop.csv", *RATIO, "--fail-on", "regressed").exit == 1
    assert watcher("compare", "absent.csv", *RATIO, "--fail-on", "regressed").exit == 3


def test_fail_on_never_leaves_only_0_and_2(watcher: Watcher, regressed: Path, absent: Path) -> None:
    for name in ("shop.csv", "absent.csv"):
        assert watcher("compare", name, *RATIO, "--fail-on", "never").exit == 0
    assert watcher("compare", "nowhere.csv", *RATIO, "--fail-on", "never").exit == 2


@pytest.mark.parametrize(
    ("fail_on", "codes"),
    [("inconclusive", (1, 3, 3, 3, 0)), ("regressed", (1, 3, 3, 0, 0)), ("never", (0, 0, 0, 0, 0))],
)
def test_every_outcome_has_its_exit_code(fail_on: str, codes: tuple[int, ...]) -> None:
    outcomes = ("regressed", "invalid", "no_data", "inconclusive", "healthy")
    assert set(outcomes) == {outcome.value for outcome in Outcome}
    assert tuple(cli.exit_code(outcome, fail_on) for outcome in outcomes) == codes


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("compare shop.csv --ratio errors/requests --colour red", "--colour"),
        ("compar shop.csv", "compar"),
        ("compare", "FILE or --prometheus"),
        ("compare shop.csv --prometheus http://127.0.0.1:1 --rules checkout", "FILE or --prometheus"),
        ("compare nowhere.csv --ratio errors/requests", "nowhere.csv"),
        ("compare shop.txt --ratio errors/requests", "shop.txt"),
        ("compare shop.csv", "say what to compare"),
        ("compare shop.csv --ratio errors/requests --rate completed/started", "say what to compare"),
        ("compare shop.csv --ratio errors/requests --rules rules/checkout.yaml", "not both"),
        ("compare shop.csv --ratio errors", "two columns"),
        ("compare shop.csv --ratio errors/request", "did you mean 'requests'"),
        ("compare shop.csv --gauge errors", "which way is worse"),
        ("compare shop.csv --rules nowhere", "nowhere"),
        ("compare shop.csv --ratio errors/requests --worse sideways", "--worse"),
        ("compare shop.csv --ratio errors/requests --margin much", "--margin"),
        ("compare shop.csv --ratio errors/requests --warm-up soon", "--warm-up"),
        ("compare shop.csv --ratio errors/requests --alpha 1", "--alpha"),
        ("compare shop.csv --ratio errors/requests --at yesterday", "yesterday"),
        ("compare load.csv --gauge load_time --worse higher --at 2026-11-20T10:00:00", "time zone"),
        ("compare shop.csv --ratio errors/requests --format csv", "--format"),
        ("compare shop.csv --ratio errors/requests --output nowhere/answer.txt", "nowhere/answer.txt"),
        ("compare --prometheus http://127.0.0.1:1", "--rules"),
        ("compare --prometheus http://127.0.0.1:1 --rules http-prometheus --since 2h", "--baseline"),
    ],
)
def test_a_usage_error_exits_2_and_says_what_is_wrong(watcher: Watcher, files: Path, line: str, says: str) -> None:
    answer = watcher(*line.split())
    assert (answer.exit, answer.out) == (2, "")
    assert says in answer.err
    assert "unexpected" not in answer.err


@pytest.mark.parametrize(
    "line",
    [
        "shop.csv --ratio errors/requests --since 2h",
        "shop.csv --ratio errors/requests --matures 25m",
        "shop.csv --ratio errors/requests --objective 2s",
        "shop.csv --rules checkout --margin 5%",
        "--prometheus http://127.0.0.1:1 --rules http-prometheus --margin 5%",
        "--prometheus http://127.0.0.1:1 --rules http-prometheus --by feature",
    ],
)
def test_an_option_that_would_change_nothing_is_refused(watcher: Watcher, files: Path, line: str) -> None:
    answer = watcher("compare", *line.split())
    assert (answer.exit, answer.out) == (2, "")
    assert line.split()[-2] in answer.err


@pytest.mark.parametrize("crash", [RuntimeError("out of luck"), MemoryError(), ImportError("no numpy"), KeyError("x")])
def test_a_crash_exits_2_never_1(
    watcher: Watcher, regressed: Path, monkeypatch: pytest.MonkeyPatch, crash: Exception
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise crash

    monkeypatch.setattr(oneoff, "compare", broken)
    answer = watcher("compare", "shop.csv", *RATIO)
    assert (answer.exit, answer.out) == (2, "")
    assert answer.err.startswith(f"watcher: unexpected {type(crash).__name__}: ")
    assert "Traceback" not in answer.err


def test_an_interruption_exits_2(watcher: Watcher, regressed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(oneoff, "compare", interrupted)
    assert watcher("compare", "shop.csv", *RATIO).exit == 2


def test_a_reader_that_went_away_is_not_a_regression(healthy: Path) -> None:
    command = [sys.executable, "-m", "watcher", "compare", str(healthy), *RATIO]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 2


def test_the_exit_code_is_that_of_the_process(regressed: Path) -> None:
    command = [sys.executable, "-m", "watcher", "compare", str(regressed), *RATIO, "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_a_command_that_only_reports_exits_0_or_2(watcher: Watcher, folder: Path) -> None:
    assert watcher("rules", "check", "checkout").exit == 0
    assert watcher("rules", "check", "nowhere").exit == 2
    assert watcher("status").exit == 2
    assert watcher("--version").out == f"watcher, version {library.__version__}\n"


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_json_has_exactly_the_keys_of_the_contract(watcher: Watcher, regressed: Path) -> None:
    found = told(watcher("compare", "shop.csv", *RATIO, "--format", "json"))
    assert " ".join(found) == (
        "schema outcome reason design alpha alarms calibration from to exposed_at blocks took_seconds warnings streams"
    )
    assert set(found["calibration"]) == {"dispersion", "from"}
    stream = found["streams"][0]
    promised = "rule labels outcome reason decided_at effect baseline treatment log_e_regressed log_e_healthy needs"
    assert " ".join(stream) == f"{promised} would_change calibration"
    assert set(stream["calibration"]) == {"dispersion", "from", "digest", "learnt"}
    assert " ".join(stream["effect"]) == "measure estimate lower upper confidence"
    assert set(stream["baseline"]) == set(stream["treatment"]) == {"events", "total", "units"}


def test_json_says_what_was_compared(watcher: Watcher, regressed: Path) -> None:
    found = told(watcher("compare", "shop.csv", *RATIO, "--format", "json"))
    said = {key: found[key] for key in ("schema", "outcome", "alpha", "alarms", "from", "to", "exposed_at", "blocks")}
    assert said == {
        "schema": "watcher/comparison/1",
        "outcome": "regressed",
        "alpha": 0.01,
        "alarms": [],
        "from": AT,
        "to": "2026-11-20T11:00:00Z",
        "exposed_at": None,
        "blocks": 60,
    }
    assert found["calibration"]["from"] == "file"
    assert found["took_seconds"] > 0
    stream, frame = found["streams"][0], shop()
    counted = frame[(frame["feature"] == "checkout")].groupby("arm")[["errors", "requests"]].sum()
    for arm in ("baseline", "treatment"):
        errors, requests = counted.loc[arm]
        assert stream[arm] == {"events": errors, "total": requests, "units": 3}
    effect = stream["effect"]
    assert 1 < effect["lower"] < 3 < effect["upper"]
    assert effect["lower"] < effect["estimate"] < effect["upper"]
    assert (effect["measure"], effect["confidence"]) == ("ratio", 0.95)
    assert AT < stream["decided_at"] < "2026-11-20T10:10:00Z"
    assert stream["log_e_regressed"] > 5 > 0 > stream["log_e_healthy"]
    assert stream["needs"] is None


def test_an_undecided_stream_has_no_time_of_decision_and_says_what_it_needs(watcher: Watcher, undecided: Path) -> None:
    found = told(watcher("compare", "short.csv", *RATIO, "--format", "json"))
    for stream in found["streams"]:
        assert stream["decided_at"] is None
        assert set(stream["needs"]) == {"events", "minutes", "minutes_90", "limit"}
        assert stream["needs"]["limit"] in {"events", "units", "buckets", "placebos", "window"}
        assert stream["needs"]["events"] > 0
        assert stream["needs"]["minutes_90"] > stream["needs"]["minutes"] > 0


def test_an_absent_treatment_is_no_data_with_an_alarm(watcher: Watcher, absent: Path) -> None:
    found = told(watcher("compare", "absent.csv", *RATIO, "--format", "json"))
    assert (found["outcome"], found["alarms"]) == ("no_data", ["absent_treatment"])


@pytest.mark.parametrize("column", ["release", "release_id"])
def test_several_releases_are_judged_separately(watcher: Watcher, folder: Path, column: str) -> None:
    both = pd.concat([shop(worse=1.0).assign(**{column: "v1"}), shop().assign(**{column: "v2"})])
    both.to_csv("releases.csv", index=False)
    answer = watcher("compare", "releases.csv", *RATIO, "--format", "json")
    found = told(answer)
    assert answer.exit == 1
    assert list(found) == ["releases"]
    assert [(each["outcome"], each["alpha"]) for each in found["releases"]] == [("healthy", 0.01), ("regressed", 0.01)]
    lines = watcher("compare", "releases.csv", *RATIO, "--format", "jsonl").out.splitlines()
    assert [json.loads(line)["outcome"] for line in lines] == ["healthy", "regressed"]
    assert watcher("compare", "releases.csv", *RATIO).out.startswith("REGRESSED  1 of 2 releases regressed\n")


def test_a_dispersion_that_was_assumed_is_1_and_a_warning_says_so(watcher: Watcher, folder: Path) -> None:
    shop(pods=1, requests=600).drop(columns="unit").to_csv("shop.csv", index=False)
    found = told(watcher("compare", "shop.csv", *RATIO, "--format", "json"))
    assert found["calibration"] == {"dispersion": 1, "from": "assumed"}
    assert any("independent events assumed" in warning for warning in found["warnings"])
    assert "nothing may be killed on it" in watcher("compare", "shop.csv", *RATIO).out


# --- what is refused -------------------------------------------------------------------------------------------------

HEAD = "timestamp,arm,errors,requests,load_time"
ROWS = (
    "2026-11-20T10:01:00Z,baseline,1,10,1.0",
    "2026-11-20T10:01:00Z,treatment,2,20,1.1",
    "2026-11-20T10:02:00Z,baseline,3,30,1.2",
    "2026-11-20T10:02:00Z,treatment,4,40,1.3",
)
GAUGE = ("--gauge", "load_time", "--worse", "higher")
RATE = ("--rate", "errors/requests")


@pytest.mark.parametrize(
    ("row", "metric", "column", "says"),
    [
        ("2026-11-20T10:02:00Z,candidate,3,30,1.2", RATIO, "arm", "unknown arm 'candidate'"),
        (",baseline,3,30,1.2", RATIO, "timestamp", "missing"),
        ("ten past ten,baseline,3,30,1.2", RATIO, "timestamp", "not a time"),
        ("2026-11-20T10:02:00,baseline,3,30,1.2", RATIO, "timestamp", "time zone"),
        ("2026-11-20T10:02:00Z,baseline,-3,30,1.2", RATIO, "errors", "negative"),
        ("2026-11-20T10:02:00Z,baseline,3,-30,1.2", RATE, "requests", "negative"),
        ("2026-11-20T10:02:00Z,baseline,3.5,30,1.2", RATIO, "errors", "fraction"),
        ("2026-11-20T10:02:00Z,baseline,3,30.5,1.2", RATE, "requests", "fraction"),
        ("2026-11-20T10:02:00Z,baseline,31,30,1.2", RATIO, "errors", "exceed"),
        ("2026-11-20T10:02:00Z,baseline,3,inf,1.2", RATIO, "requests", "inf"),
        ("2026-11-20T10:02:00Z,baseline,3,30,-inf", GAUGE, "load_time", "inf"),
        ("2026-11-20T10:02:00Z,baseline,,30,1.2", RATIO, "errors", "--drop-bad-rows"),
        ("2026-11-20T10:02:00Z,baseline,few,30,1.2", RATIO, "errors", "not a number"),
        ("2026-11-20T10:01:00Z,baseline,3,30,1.2", RATIO, "timestamp", "duplicate of row 1"),
    ],
)
def test_a_row_that_cannot_be_counted_is_refused_by_file_row_and_column(
    watcher: Watcher, folder: Path, row: str, metric: tuple[str, ...], column: str, says: str
) -> None:
    (folder / "shop.csv").write_text("\n".join([HEAD, *ROWS[:2], row, *ROWS[3:]]) + "\n")
    answer = watcher("compare", "shop.csv", *metric)
    assert (answer.exit, answer.out) == (2, "")
    assert answer.err.startswith(f"watcher: shop.csv, row 3, column {column}: ")
    assert says in answer.err


def test_events_above_their_total_are_fine_for_a_rate(watcher: Watcher, folder: Path) -> None:
    row = "2026-11-20T10:02:00Z,baseline,31,30,1.2"
    (folder / "shop.csv").write_text("\n".join([HEAD, *ROWS[:2], row, *ROWS[3:]]) + "\n")
    assert watcher("compare", "shop.csv", *RATE).exit == 3


def test_mixed_bucket_layouts_are_refused(watcher: Watcher, folder: Path) -> None:
    lines = ["timestamp,arm,le,count"]
    for minute, edges in ((1, ("0.5", "2.5", "+Inf")), (2, ("0.5", "5", "+Inf"))):
        lines += [f"2026-11-20T10:0{minute}:00Z,baseline,{le},{10 * i}" for i, le in enumerate(edges, start=1)]
    (folder / "shop.csv").write_text("\n".join(lines) + "\n")
    answer = watcher("compare", "shop.csv", "--latency", "count", "--objective", "2.5s")
    assert (answer.exit, answer.out) == (2, "")
    assert answer.err.startswith("watcher: shop.csv, row ")
    assert "column le" in answer.err


def test_missing_counts_are_dropped_when_asked_and_counted(watcher: Watcher, folder: Path) -> None:
    frame = shop()
    frame.loc[3, "errors"] = None
    frame.to_csv("shop.csv", index=False)
    assert watcher("compare", "shop.csv", *RATIO).exit == 2
    found = told(watcher("compare", "shop.csv", *RATIO, "--drop-bad-rows", "--format", "json"))
    assert found["outcome"] == "regressed"
    assert any(warning.startswith("dropped 1 row ") for warning in found["warnings"])


def test_a_missing_gauge_is_a_gap_never_a_zero(watcher: Watcher, folder: Path) -> None:
    whole, holed = load_times(worse=1.0), load_times(worse=1.0)
    holed.loc[150, "load_time"] = None
    outcomes = {}
    for name, frame in {"holed": holed, "missing": whole.drop(index=150), "zero": holed.fillna(0.0)}.items():
        frame.to_csv(f"{name}.csv", index=False)
        answer = watcher(
            "compare", f"{name}.csv", "--gauge", "load_time", "--worse", "lower", "--at", AT, "--format", "json"
        )
        outcomes[name] = told(answer)["streams"][0]
    assert outcomes["holed"]["treatment"] == outcomes["missing"]["treatment"]
    assert outcomes["holed"]["treatment"]["total"] == 59
    assert outcomes["zero"]["treatment"]["total"] == 60


# --- options ---------------------------------------------------------------------------------------------------------


def test_a_margin_is_how_much_worse_is_tolerable(watcher: Watcher, regressed: Path) -> None:
    generous = told(watcher("compare", "shop.csv", *RATIO, "--margin", "900%", "--format", "json"))
    assert generous["outcome"] == "healthy"
    assert "worse, but proven within the margin" in generous["streams"][0]["reason"]
    points = told(watcher("compare", "shop.csv", *RATIO, "--margin", "0.1pp", "--format", "json"))
    assert points["outcome"] == "regressed"


def test_a_regress_margin_is_how_much_worse_must_be_proven(watcher: Watcher, regressed: Path) -> None:
    lenient = told(watcher("compare", "shop.csv", *RATIO, "--regress-margin", "400%", "--format", "json"))
    assert lenient["outcome"] != "regressed"


def test_a_smaller_alpha_takes_longer_to_say_regressed(watcher: Watcher, regressed: Path) -> None:
    usual, strict = (
        told(watcher("compare", "shop.csv", *RATIO, "--alpha", alpha, "--format", "json"))
        for alpha in ("0.01", "1e-12")
    )
    assert strict["alpha"] == 1e-12
    assert usual["streams"][0]["decided_at"] < strict["streams"][0]["decided_at"]


def test_the_warm_up_is_not_counted_and_is_none_for_files(watcher: Watcher, regressed: Path) -> None:
    none, half = (
        told(watcher("compare", "shop.csv", *RATIO, *more, "--format", "json")) for more in ((), ("--warm-up", "30m"))
    )
    assert (none["blocks"], half["blocks"]) == (60, 30)


def test_by_makes_the_streams(watcher: Watcher, folder: Path) -> None:
    shop().rename(columns={"unit": "region"}).to_csv("shop.csv", index=False)
    asked = ((), ("--by", "feature"), ("--by", ""))
    every, some, none = (told(watcher("compare", "shop.csv", *RATIO, *by, "--format", "json")) for by in asked)
    assert len(every["streams"]) == 6
    assert [each["labels"] for each in some["streams"]] == [{"feature": "checkout"}, {"feature": "search"}]
    assert [each["labels"] for each in none["streams"]] == [{}]


def test_an_option_can_be_given_by_the_environment(
    watcher: Watcher, regressed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHER_COMPARE_RATIO", "errors/requests")
    monkeypatch.setenv("WATCHER_COMPARE_FORMAT", "json")
    monkeypatch.setenv("WATCHER_COMPARE_FAIL_ON", "never")
    monkeypatch.setenv("WATCHER_COMPARE_ALPHA", "0.02")
    answer = watcher("compare", "shop.csv")
    assert (answer.exit, told(answer)["alpha"]) == (0, 0.02)
    monkeypatch.setenv("WATCHER_COMPARE_FORMAT", "csv")
    assert watcher("compare", "shop.csv").exit == 2


# --- the answer ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["table", "json", "jsonl", "markdown", "junit", "github"])
def test_output_writes_the_answer_to_a_file_too(watcher: Watcher, regressed: Path, form: str) -> None:
    answer = watcher("compare", "shop.csv", *RATIO, "--format", form, "--output", "answer")
    assert answer == Answer(1, Path("answer").read_text(), "")
    assert "checkout" in answer.out


def test_a_github_job_is_given_the_outcome_and_a_summary_below_what_others_wrote(
    watcher: Watcher, regressed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("summary.md").write_text("# Tests\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    monkeypatch.setenv("GITHUB_OUTPUT", "output")
    assert watcher("compare", "shop.csv", *RATIO, "--format", "github").out.startswith("::error title=REGRESSED")
    assert Path("summary.md").read_text().startswith("# Tests\n**REGRESSED** ")
    assert Path("output").read_text() == "outcome=regressed\n"
    Path("summary.md").write_text("x" * 2**20)
    assert watcher("compare", "shop.csv", *RATIO, "--format", "github").exit == 1
    assert Path("summary.md").read_text() == "x" * 2**20
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "no/such/folder/summary.md")
    answer = watcher("compare", "shop.csv", *RATIO, "--format", "github")
    assert (answer.exit, "summary.md" in answer.err) == (2, True)


def test_a_report_is_a_page_in_one_file_of_one_release(watcher: Watcher, regressed: Path) -> None:
    answer = watcher("compare", "shop.csv", *RATIO, "--report", "shop.html", "--quiet")
    assert answer == Answer(1, "", "")
    page = Path("shop.html").read_text()
    assert page.startswith("<!doctype html>")
    assert page.count("<svg ") == 1 + 2 * page.count("<article>") > 1
    table = pd.read_csv("shop.csv")
    pd.concat([table.assign(release=name) for name in ("a", "b")]).to_csv("two.csv", index=False)
    answer = watcher("compare", "two.csv", *RATIO, "--report", "two.html")
    assert (answer.exit, "--report is of one release, and here are 2" in answer.err) == (2, True)
    answer = watcher("compare", "shop.csv", *RATIO, "--report", "no/such/folder.html")
    assert (answer.exit, "no/such/folder.html" in answer.err) == (2, True)


def test_quiet_prints_nothing_and_still_answers(watcher: Watcher, regressed: Path) -> None:
    assert watcher("compare", "shop.csv", *RATIO, "--quiet") == Answer(1, "", "")
    assert watcher("compare", "shop.csv", *RATIO, "-q", "--output", "answer.txt") == Answer(1, "", "")
    assert Path("answer.txt").read_text().startswith("REGRESSED")


@pytest.mark.parametrize("more", [(), ("--explain",), ("--format", "markdown")])
def test_the_first_line_is_the_verdict_and_nothing_is_said_beside_the_answer(
    watcher: Watcher, regressed: Path, more: tuple[str, ...]
) -> None:
    answer = watcher("compare", "shop.csv", *RATIO, *more)
    assert answer.out.lstrip("*").startswith("REGRESSED")
    assert answer.err == ""
    assert "\x1b" not in answer.out


def test_explain_shows_the_derivation(watcher: Watcher, regressed: Path) -> None:
    brief, explained = (watcher("compare", "shop.csv", *RATIO, *more).out for more in ((), ("--explain",)))
    assert explained.startswith(brief)
    assert "evidence of harm" in explained.removeprefix(brief)


# --- starting --------------------------------------------------------------------------------------------------------


def loaded_by(line: str) -> set[str]:
    """Return the top-level packages (and scipy.stats) a command loads, in a process of its own."""
    script = (
        f"import sys; sys.argv = {['watcher', *line.split()]!r}\n"
        "from watcher import cli\n"
        "try:\n    cli.main()\nexcept SystemExit:\n    pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stderr.split())


def test_help_loads_no_heavy_library() -> None:
    heavy = {"numpy", "pandas", "scipy", "pydantic", "sqlalchemy", "matplotlib", "rich", "requests", "starlette"}
    assert loaded_by("compare --help") & heavy == set()


def test_a_comparison_of_a_file_loads_only_what_it_needs(regressed: Path) -> None:
    heavy = {"scipy.stats", "matplotlib", "jinja2", "sqlalchemy", "requests", "prometheus_api_client", "starlette"}
    assert loaded_by(f"compare {regressed} --ratio errors/requests") & heavy == set()


# --- Python ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def comparison() -> Any:
    return library.compare(shop(), ratio="errors/requests", worse="higher", at=None, by=None, alpha=0.01)


def test_a_comparison_says_first_things_first(comparison: Any) -> None:
    assert comparison.outcome == "regressed"
    assert comparison.reason.startswith("errors/requests on checkout: ")


def test_a_comparison_is_a_frame_of_one_row_per_stream(comparison: Any) -> None:
    frame = comparison.to_frame()
    assert frame["feature"].tolist() == ["checkout", "search"]
    assert {"rule", "outcome", "reason", "decided_at", "effect_estimate", "baseline_events", "treatment_total"} <= {
        *frame
    }


@pytest.mark.parametrize("kind", ["effect", "arms", "forest"])
def test_a_comparison_draws_itself(comparison: Any, kind: str) -> None:
    figure = comparison.chart(kind)
    assert isinstance(figure, Figure)
    assert figure.axes


def test_a_chart_there_is_not_is_named(comparison: Any) -> None:
    with pytest.raises(ValueError, match="effect, arms, forest or shift"):
        comparison.chart("pie")


def test_a_latency_from_durations_or_whole_histograms_draws_its_shift() -> None:
    slower = library.compare(page_loads(), latency="duration", by="feature")
    (axes,) = slower.chart("shift").axes
    (curve,) = [line for line in axes.lines if line.get_label() == "shift (estimate)"]
    assert curve.get_ydata() == pytest.approx(1.5, abs=0.15)
    (axes,) = slower.chart("shift", stream=1).axes
    (curve,) = [line for line in axes.lines if line.get_label() == "shift (estimate)"]
    assert curve.get_ydata() == pytest.approx(1.0, abs=0.15)


def test_a_shift_of_what_has_no_histogram_is_refused(comparison: Any) -> None:
    with pytest.raises(ValueError, match=r"errors/requests has no shift: that takes a latency with whole histograms"):
        comparison.chart("shift")


def test_a_latency_says_in_json_how_much_slower_its_quantiles_are(watcher: Watcher, files: Path) -> None:
    answer = watcher("compare", "shop.parquet", "--latency", "duration", "--by", "feature", "--format", "json")
    stream = told(answer)["streams"][0]
    assert stream["effect"]["of"] == "typical latency"
    assert stream["effect"]["lower"] < 1.5 < stream["effect"]["upper"]
    assert [each["level"] for each in stream["quantiles"]] == [0.5, 0.95, 0.99]
    for each in stream["quantiles"]:
        assert each["treatment"] / each["baseline"] == pytest.approx(1.5, abs=0.15)
        assert each["lower"] < 1.5 < each["upper"]


def test_a_margin_in_percentage_points_has_its_effect_as_a_difference(watcher: Watcher, regressed: Path) -> None:
    """One request in fifty fails usually, three in fifty now: four points more."""
    found = told(watcher("compare", "shop.csv", *RATIO, "--margin", "0.5pp", "--format", "json"))
    effect = found["streams"][0]["effect"]
    assert effect["measure"] == "difference"
    assert effect["lower"] < 0.04 < effect["upper"]
    assert effect["estimate"] == pytest.approx(0.04, abs=0.003)
    assert "pp higher than the baseline" in found["streams"][0]["reason"]


def test_the_derivation_tells_when_the_evidence_sufficed(watcher: Watcher, regressed: Path) -> None:
    answer = watcher("compare", "shop.csv", *RATIO, "--explain")
    told = " ".join(answer.out.split("log e of harm", 1)[1].split())
    assert " at 10:01" in told
    assert "it reached 5.3 at 10:04" in told


def test_a_comparison_shows_itself_in_a_notebook(comparison: Any) -> None:
    page = comparison._repr_html_()
    assert "REGRESSED" in page
    assert "<svg" in page


def test_python_and_the_command_line_agree(watcher: Watcher, regressed: Path, comparison: Any) -> None:
    printed = told(watcher("compare", "shop.csv", *RATIO, "--format", "json"))
    for source in (comparison, library.compare("shop.csv", ratio="errors/requests")):
        assert {**source.to_json(), "took_seconds": 0} == {**printed, "took_seconds": 0}


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.5}, {"margin": "much"}, {"warm_up": "soon"}])
def test_an_argument_that_cannot_be_read_is_a_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="found"):
        library.compare(shop(minutes=6), ratio="errors/requests", **wrong)

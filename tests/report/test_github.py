from __future__ import annotations

from dataclasses import replace

from tests.report.examples import ABSENT, DORMANT, HEALTHY, INCONCLUSIVE, REGRESSED, findings, many
from watcher.report import github


def test_what_regressed_is_an_error_what_says_nothing_a_warning_and_the_release_a_notice() -> None:
    lines = github.commands([findings(REGRESSED, HEALTHY, INCONCLUSIVE, ABSENT, DORMANT)]).splitlines()
    assert [line.split(" ")[0] for line in lines] == ["::error", "::warning", "::warning", "::notice"]
    assert lines[0].startswith("::error title=REGRESSED%3A Requests that failed on checkout::")
    assert lines[0].endswith(REGRESSED.reason.replace("%", "%25"))
    assert "absent_treatment" in lines[2]
    assert lines[3].startswith("::notice title=watcher%3A REGRESSED new-checkout 1.2.0 in shop/production")


def test_a_healthy_release_is_one_notice() -> None:
    assert github.commands([findings(HEALTHY)]).count("::") == 2


def test_no_text_from_outside_begins_another_command_or_property() -> None:
    sly = replace(REGRESSED, reason="50 %\r\n::set-env name=PATH::/tmp", rule="a,file=x::b")
    error, notice = github.commands([findings(sly)]).splitlines()
    assert error == "::error title=REGRESSED%3A a%2Cfile=x%3A%3Ab::50 %25%0D%0A::set-env name=PATH::/tmp"
    assert notice.startswith("::notice ")


def test_of_more_than_github_shows_the_last_says_how_many_there_are() -> None:
    made = many(500)
    worst = tuple(replace(REGRESSED, labels=verdict.labels) for verdict in made.verdict.streams)
    lines = github.commands([replace(made, verdict=replace(made.verdict, streams=worst))]).splitlines()
    errors = [line for line in lines if line.startswith("::error ")]
    assert len(errors) == github.MOST
    assert errors[-1] == "::error title=watcher::and 491 more: see the summary of this job"


def test_a_summary_keeps_below_its_size_by_leaving_whole_releases_out() -> None:
    releases = [findings(REGRESSED)] * 40
    whole = github.summary(releases)
    assert whole.count("**REGRESSED**") == 40
    cut = github.summary(releases, len(whole.encode()) // 2)
    shown = cut.count("**REGRESSED**")
    assert 15 < shown < 20
    assert cut.endswith(f"\nand {40 - shown} more for which there is no room here\n")
    assert len(cut.encode()) <= len(whole.encode()) // 2
    assert cut.count("<details>") == cut.count("</details>") == shown

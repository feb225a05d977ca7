"""Which of several releases explains what got worse: where it shows, and when it began."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.timeline import EXPOSED, MINUTE, looks, ratio, release, watch
from watcher.attribution import Standing, Suspect, attribute, control_harmed, said, standardised, suspect
from watcher.look import look, prepare, read_history
from watcher.model import (
    Calibration,
    Effect,
    Kind,
    Look,
    Outcome,
    Rule,
    Selector,
    Stage,
    Tally,
    Verdict,
    Watch,
    Worse,
)
from watcher.policy import TITLES
from watcher.testing import MemorySource


def bad(name: str, exposed: float, began: float, **more: object) -> Suspect:
    """A release with an alarm; times in minutes."""
    made = Suspect(name, exposed * MINUTE, alarm="regressed", began_at=began * MINUTE, evidence=3.0)
    return replace(made, **more)


def calm(name: str, exposed: float, **more: object) -> Suspect:
    return replace(Suspect(name, exposed * MINUTE, evidence=-4.0), **more)


def test_what_began_before_an_exposure_is_not_its_doing() -> None:
    found = attribute([bad("early", 0, 60), bad("late", 90, 100)])
    assert found.best == "early"
    assert found.ranking[1].standing is Standing.IMPOSSIBLE
    assert found.ranking[1].reason == "exposed 30 min after the harm began"


def test_an_onset_estimated_a_block_too_early_does_not_acquit() -> None:
    assert attribute([bad("only", 10, 9)]).best == "only"


def test_among_those_that_can_the_latest_exposed_explains_it_best() -> None:
    found = attribute([bad("old", 0, 300), bad("new", 297, 300)])
    assert found.best == "new"
    assert found.ranking[0].reason == (
        "exposed 3 min before the harm began; everybody shows it, not its own treatment alone"
    )


def test_a_release_not_proven_worse_itself_may_still_be_what_everybody_feels() -> None:
    found = attribute([bad("old", 0, 300), calm("new", 297)])
    assert found.best == "new"
    assert attribute([bad("old", 280, 300), calm("new", 270)]).best == "old"


def test_harm_in_its_own_treatment_alone_beats_harm_that_everybody_shows_however_old_the_release() -> None:
    found = attribute([bad("everybody", 297, 300), bad("own", 0, 300, concurrent=True)])
    assert found.best == "own"
    assert found.ranking[0].reason == "exposed 5 h before the harm began; harm only in its own treatment"


def test_a_control_that_is_harmed_too_speaks_against_a_release() -> None:
    found = attribute([bad("canary", 290, 300, concurrent=True, control_harmed=True), bad("switch", 240, 300)])
    assert found.best == "switch"
    assert "those who do not have it show the harm, too" in found.ranking[1].reason


def test_a_canary_that_is_no_worse_than_its_control_is_no_explanation() -> None:
    found = attribute([bad("switch", 0, 300), calm("canary", 299, concurrent=True)])
    assert found.best == "switch"
    assert found.ranking[1].standing is Standing.ELSEWHERE


@pytest.mark.parametrize(("carried", "best"), [(0.9, "pods"), (0.2, "other")])
def test_units_with_harm_count_for_the_release_that_has_them(carried: float, best: str) -> None:
    assert attribute([bad("pods", 295, 300, carried=carried), bad("other", 290, 300)]).best == best


def test_a_raised_share_counts_as_an_exposure() -> None:
    found = attribute([bad("staged", 0, 300, stages=(296 * MINUTE,)), bad("old", 60, 300)])
    assert found.best == "staged"
    assert found.ranking[0].reason.startswith("share raised 4 min before the harm began")
    assert "because it was given more users 4 min before" in said(found, "staged")


def test_a_treatment_that_went_silent_is_its_own_harm() -> None:
    silent = bad("silent", 0, 5, alarm="absent_treatment", concurrent=True)
    found = attribute([bad("worse", 0, 5), silent])
    assert (found.best, found.ranking[0].reason) == (
        "silent",
        "exposed 5 min before the harm began; only its own treatment went silent",
    )


def test_two_that_explain_it_equally_are_left_to_a_person() -> None:
    found = attribute([bad("a", 0, 30), bad("b", 10, 30)])
    assert found.best is None
    assert set(found.equals) == {"a", "b"}
    assert "does not tell" in said(found, "a")


def test_nothing_to_explain_names_nobody() -> None:
    assert attribute([]).best is None
    assert attribute([calm("a", 0), calm("b", 0)]).best is None


def test_judged_apart_an_alarm_comes_first_then_the_largest_harm_by_its_own_past() -> None:
    suspects = [calm("quiet", 0, harm=0.5), bad("alarmed", 0, 5, harm=2.0), calm("loud", 0, harm=4.0)]
    assert [each.release for each in attribute(suspects, apart=True).ranking] == ["alarmed", "loud", "quiet"]


def test_what_stands_exactly_alike_comes_before() -> None:
    found = attribute([calm(name, 0) for name in "abc"], apart=True)
    assert [found.place(name) for name in "abc"] == [3, 3, 3]


RULE = Rule("errors", Kind.RATIO, Selector("errors"), Selector("requests"))


FEW = Tally(10, 1000)


def verdict(effect: Effect, baseline: Tally = FEW) -> Verdict:
    return Verdict("errors", (), Outcome.INCONCLUSIVE, "", effect, baseline, Tally(20, 1000))


def test_harm_is_measured_by_how_much_the_stream_varied_before() -> None:
    past = Calibration(streams=((),), unit=np.array([0.1]))
    doubled = Effect("ratio", 2.0, 1.0, 4.0)
    assert standardised(RULE, verdict(doubled), past) == pytest.approx(np.log(2) / 0.1)
    assert standardised(RULE, verdict(doubled), None) == pytest.approx(2.0)
    assert standardised(replace(RULE, worse=Worse.LOWER), verdict(doubled), past) == 0.0
    assert standardised(replace(RULE, worse=Worse.EITHER), verdict(Effect("ratio", 0.5, None, None)), past) > 6
    assert standardised(RULE, verdict(Effect("ratio", None, None, None)), past) == 0.0


def test_a_control_is_harmed_when_it_left_its_own_past_by_more_than_the_margin_and_chance() -> None:
    past = Calibration(streams=((),), rate=np.array([0.01]), margin=0.5)
    effect = Effect("ratio", 2.0, 1.0, 4.0)
    assert control_harmed(RULE, verdict(effect, Tally(300, 10_000)), past) is True
    assert control_harmed(RULE, verdict(effect, Tally(105, 10_000)), past) is False
    assert control_harmed(RULE, verdict(effect, Tally(2, 100)), past) is False
    assert control_harmed(RULE, verdict(effect), None) is None


# On a timeline: two releases of one service, one of them bad.


def canary(minute: float = 0.0) -> Watch:
    made = watch()
    own = replace(made.release, feature="checkout", stages=(Stage(EXPOSED + minute * MINUTE),))
    return replace(made, release=own)


def last_of(made: Watch, source: MemorySource, until: int) -> Look:
    *_, last = looks(made, source, range(1, until + 1))
    return last


def test_a_message_says_what_else_was_exposed_and_which_the_evidence_points_to() -> None:
    made, source = canary(), MemorySource({"errors": ratio(60, treated={0: 0.05})})
    calibrations, previous, told = prepare(made, read_history(made, source)), None, []
    other = Suspect("shop/production/search@4", EXPOSED - 200 * MINUTE, concurrent=True, evidence=-3.0)
    for minute in range(1, 30):
        previous = look(made, source, calibrations, previous, EXPOSED + minute * MINUTE, beside=lambda: [other])
        told += [action for action in previous.actions if hasattr(action, "lines")]
    assert previous is not None
    (line,) = {line for alert in told for line in alert.lines if line.startswith("Also exposed then")}
    assert line.startswith(
        "Also exposed then: shop/production/search@4. The evidence points to shop/production/checkout@1.2, because it "
        "was exposed "
    )
    assert line.endswith("min before the harm began; harm only in its own treatment.")
    assert {alert.title.split(":")[0] for alert in told if line in alert.lines} <= {
        TITLES[state].split(":")[0] for state in ("regressed", "killed")
    }


def test_alone_or_healthy_a_message_says_nothing_of_others() -> None:
    source = MemorySource({"errors": ratio(60, treated={0: 0.05})})
    assert not [
        line
        for found in looks(canary(), source, range(1, 30))
        for action in found.actions
        for line in getattr(action, "lines", ())
        if "Also exposed" in line
    ]


def test_a_verdict_becomes_a_suspect_with_its_onset_and_its_control() -> None:
    made, source = canary(), MemorySource({"errors": ratio(60, treated={0: 0.05})})
    found = last_of(replace(made, switch=None), source, 30)
    own = suspect(made, found.verdict, prepare(made, read_history(made, source)))
    assert (own.alarm, own.concurrent, own.control_harmed) == ("regressed", True, False)
    assert own.began_at is not None
    assert EXPOSED < own.began_at <= EXPOSED + 15 * MINUTE
    assert own.evidence > 0
    assert own.harm > 2
    assert release().exposed_at == own.exposed_at

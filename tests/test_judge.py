"""How alpha is shared, and what a release is when its streams are what they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.timeline import ERRORS, EXPOSED, watch
from watcher.judge import judge_release, thresholds
from watcher.model import Effect, Kind, Labels, Mode, Outcome, Rule, Selector, Tally, Verdict, labels

LOAD = Rule("load", Kind.LATENCY, Selector("load"), objective=1.0)
OPTIONAL = Rule("vitals", Kind.GAUGE, Selector("lcp"), required=False)


def said(rule: Rule, outcome: Outcome, stream: Labels = (), **changes: object) -> Verdict:
    made = Verdict(rule.name, stream, outcome, f"{rule.name} is {outcome}.", Effect("ratio", 1, 1, 1), Tally(), Tally())
    return replace(made, **changes)


@given(
    weights=st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    known=st.integers(1, 50),
    born=st.integers(0, 50),
    by=st.booleans(),
)
def test_all_rules_and_streams_together_spend_no_more_than_alpha(weights, known, born, by):
    rules = tuple(
        replace(ERRORS, name=str(i), weight=weight, by=("feature",) if by else ()) for i, weight in enumerate(weights)
    )
    made = watch(*rules)
    spent = sum(np.exp(-thresholds(made, rule, known + born, known)).sum() for rule in rules)
    assert spent <= made.alpha.regressed * (1 + 1e-9)


def test_a_heavier_rule_gets_a_larger_share():
    heavy, light = replace(ERRORS, name="a", weight=3.0), replace(ERRORS, name="b")
    made = watch(heavy, light)
    assert np.exp(-thresholds(made, heavy, 1, 1))[0] == pytest.approx(3 * np.exp(-thresholds(made, light, 1, 1))[0])


@pytest.mark.parametrize(
    ("errors", "load", "release"),
    [
        ("healthy", "healthy", "healthy"),
        ("healthy", "inconclusive", "inconclusive"),
        ("healthy", "no_data", "no_data"),
        ("inconclusive", "no_data", "no_data"),
        ("no_data", "invalid", "invalid"),
        ("regressed", "invalid", "regressed"),
        ("regressed", "healthy", "regressed"),
    ],
)
def test_the_worst_required_rule_is_the_release(errors, load, release):
    verdicts = [said(ERRORS, Outcome(errors)), said(LOAD, Outcome(load))]
    assert judge_release(watch(ERRORS, LOAD), verdicts).outcome == release


def test_a_rule_that_is_not_required_blocks_nothing_but_may_regress():
    made = watch(ERRORS, OPTIONAL)
    fine = said(ERRORS, Outcome.HEALTHY)
    assert judge_release(made, [fine, said(OPTIONAL, Outcome.NO_DATA)]).outcome is Outcome.HEALTHY
    assert judge_release(made, [fine, said(OPTIONAL, Outcome.REGRESSED)]).outcome is Outcome.REGRESSED


def test_streams_out_of_focus_guard_but_need_not_be_proven():
    made = watch(replace(ERRORS, by=("feature",)), focus=labels({"feature": "checkout"}))
    focus, other = labels({"feature": "checkout"}), labels({"feature": "cart"})
    healthy = said(ERRORS, Outcome.HEALTHY, focus)
    assert judge_release(made, [healthy, said(ERRORS, Outcome.INCONCLUSIVE, other)]).outcome is Outcome.HEALTHY
    assert judge_release(made, [healthy, said(ERRORS, Outcome.REGRESSED, other)]).outcome is Outcome.REGRESSED


def test_a_release_whose_every_stream_is_dormant_is_no_data():
    idle = said(ERRORS, Outcome.NO_DATA, dormant=True)
    assert judge_release(watch(), [idle]).outcome is Outcome.NO_DATA


def test_alarms_of_streams_are_alarms_of_the_release():
    silent = said(ERRORS, Outcome.NO_DATA, alarms=("absent_treatment",))
    assert judge_release(watch(), [silent]).alarms == ("absent_treatment",)


def test_a_person_accepts_a_rule_and_it_is_no_longer_called_regressed():
    from tests.timeline import looks, ratio
    from watcher.look import look, prepare, read_history
    from watcher.testing import MemorySource

    made, source = watch(), MemorySource({"errors": ratio(treated={5: 0.05})})
    (*_, last) = looks(replace(made, mode=Mode.OBSERVE), source, range(1, 30))
    assert last.verdict.outcome is Outcome.REGRESSED
    accepted = replace(made, accepted=(("errors", "new error page, ada"),))
    after = look(accepted, source, prepare(made, read_history(made, source)), last, EXPOSED + 1860)
    assert after.verdict.outcome is Outcome.INCONCLUSIVE
    assert "accepted as intended (new error page, ada)" in after.verdict.streams[0].reason

"""The interlocks, one by one: each alone stops a kill, and says its name."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.timeline import ERRORS, EXPOSED, release, watch
from watcher.model import (
    BY_HAND,
    Alert,
    Effect,
    Kill,
    Kind,
    Mode,
    Outcome,
    Promote,
    ReleaseVerdict,
    Rule,
    Selector,
    Stage,
    Tally,
    Verdict,
    Worse,
)
from watcher.policy import AFTERMATH, CAP, CAP_SPAN, COOL_DOWN, HELD, Situation, Standing, decide, latch
from watcher.telling import kill_failed

NOW = EXPOSED + 3600.0


def stream(**changes: object) -> Verdict:
    made = Verdict(
        rule="errors",
        labels=(),
        outcome=Outcome.REGRESSED,
        reason="Requests that failed: 4.8 times the baseline's.",
        effect=Effect("ratio", 4.8, 3.0, 7.0),
        baseline=Tally(10, 1000, 3),
        treatment=Tally(48, 1000, 3),
        held=HELD,
        critical=True,
        decided_at=NOW - 60,
    )
    return replace(made, **changes)


def verdict(*streams: Verdict, outcome: Outcome = Outcome.REGRESSED) -> ReleaseVerdict:
    return ReleaseVerdict(outcome, "It is worse.", streams or (stream(),))


def kills(decision) -> list[Kill]:
    return [action for action in decision.actions if isinstance(action, Kill)]


def test_an_armed_watch_kills_once_and_says_so():
    decision = decide(watch(), verdict(), Situation(NOW, told="watching"))
    (kill,) = kills(decision)
    assert (kill.feature, kill.switch) == ("checkout", "yaml_flags:flags.yaml")
    assert decision.phase == decision.told == "killed"
    assert [a.kind for a in decision.actions if isinstance(a, Alert)] == ["headline", "detail"]


STOPPED = {
    "not_armed": ({"mode": Mode.OBSERVE}, {}, {}),
    "no_switch": ({"switch": None}, {}, {}),
    "not_allowed": ({}, {}, {"standing": Standing(allowed=False)}),
    "not_reversible": ({"release": release(reversible=False)}, {}, {}),
    "paused": ({}, {}, {"standing": Standing(paused="maintenance until 12:00")}),
    "latched": ({}, {}, {"standing": Standing(kills=(NOW - 90_000, NOW - 89_000, NOW - 88_000, NOW - 60))}),
    "cool_down": ({}, {}, {"standing": Standing(flag_killed_at=NOW - COOL_DOWN + 1)}),
    "already_killed": ({}, {}, {"killed_at": NOW - 3600}),
    "metrics_unreadable": ({}, {}, {"problem": "connection refused"}),
    "not_held": ({}, {"held": HELD - 1}, {}),
    "assumed": ({}, {"assumed": True}, {}),
    "one_unit": ({}, {"sick_unit": "pod-3"}, {}),
    "few_events": ({}, {"treatment": Tally(4, 1000, 3)}, {}),
    "quorum": ({}, {"critical": False}, {}),
    "not_the_cause": ({}, {}, {"cause": False}),
    "cause_unclear": ({}, {}, {"cause": None}),
    "global_event": ({}, {}, {"everywhere": "another service is worse, too"}),
    "control_silent": ({}, {}, {"silent": "next to nothing is counted of those who do not have it"}),
}


@pytest.mark.parametrize("name", STOPPED)
def test_each_interlock_alone_stops_the_kill_and_is_named(name):
    changed_watch, changed_stream, changed_situation = STOPPED[name]
    situation = replace(Situation(NOW, told="watching"), **changed_situation)
    decision = decide(watch(**changed_watch), verdict(stream(**changed_stream)), situation)
    assert kills(decision) == []
    assert [refusal.reason for refusal in decision.refusals] == [name]
    assert all(refusal.detail for refusal in decision.refusals)


@pytest.mark.parametrize(("lack", "name"), [({"assumed": True}, "assumed"), ({"critical": False}, "quorum")])
def test_what_will_stand_against_a_kill_is_told_at_once_and_that_evidence_must_hold_is_not(lack, name):
    first = decide(watch(), verdict(stream(held=HELD - 1, **lack)), Situation(NOW, told="watching"))
    assert [refusal.reason for refusal in first.refusals] == ["not_held", name]
    advice = f"Recommended: turn checkout off. Not done automatically: {first.refusals[1].detail}."
    assert advice in first.actions[0].lines
    later = decide(watch(), verdict(stream(**lack)), Situation(NOW + 60, told=first.told))
    assert later.actions == ()


@given(st.lists(st.floats(0, 4 * CAP_SPAN), max_size=8), st.lists(st.floats(0, 1e6), max_size=4))
def test_the_latch_closes_with_the_third_kill_within_an_hour_and_nothing_but_a_person_opens_it(early, later):
    kills = sorted(early)
    crowded = any(kills[i + CAP - 1] - kills[i] <= CAP_SPAN for i in range(len(kills) - CAP + 1))
    closed_by = latch(kills)
    assert bool(closed_by) == crowded
    if crowded:
        assert latch([*kills, *later]) == closed_by
        assert not kills_of(tuple(kills + later))


def kills_of(earlier: tuple[float, ...]) -> list[Kill]:
    return kills(decide(watch(), verdict(), Situation(NOW, standing=Standing(kills=earlier))))


def test_a_clock_that_steps_back_keeps_no_latch_from_closing():
    assert latch((NOW, NOW - 600, NOW + 60)) == (NOW, NOW - 600, NOW + 60)
    assert kills_of((NOW - 3600.1, NOW - 1800, NOW))
    assert not kills_of((NOW - 3600, NOW - 1800, NOW))


MEASURED = {
    "bad of all": (ERRORS, Tally(5, 50), [Tally(4, 5000), Tally(49, 49)]),
    "good of all": (replace(ERRORS, worse=Worse.LOWER), Tally(45, 50), [Tally(46, 50), Tally(0, 49)]),
    "too many a start": (replace(ERRORS, kind=Kind.RATE), Tally(5, 50), [Tally(4, 50), Tally(49, 49)]),
    "too few a start": (replace(ERRORS, kind=Kind.RATE, worse=Worse.LOWER), Tally(0, 50), [Tally(0, 49)]),
    "slow": (replace(ERRORS, kind=Kind.LATENCY, objective=2.5), Tally(0, 50), [Tally(49, 49)]),
    "a gauge": (replace(ERRORS, kind=Kind.GAUGE, total=None), Tally(0.2, 5), [Tally(9000.0, 4)]),
}


@pytest.mark.parametrize("name", MEASURED)
def test_a_stream_counts_towards_a_kill_once_the_treatment_has_counted_enough(name):
    rule, enough, too_few = MEASURED[name]
    assert kills(decide(watch(rule), verdict(stream(treatment=enough)), Situation(NOW)))
    for tally in too_few:
        decision = decide(watch(rule), verdict(stream(treatment=tally)), Situation(NOW))
        assert [refusal.reason for refusal in decision.refusals] == ["few_events"]


def test_a_stream_of_few_events_counts_towards_no_quorum():
    one, few = stream(critical=False), stream(critical=False, rule="load", treatment=Tally(40, 49, 3))
    decision = decide(watch(), verdict(one, few), Situation(NOW))
    assert [refusal.reason for refusal in decision.refusals] == ["quorum"]


@given(st.floats(-2 * COOL_DOWN, 2 * COOL_DOWN))
def test_a_flag_is_killed_again_only_once_it_has_cooled_down(ago):
    decision = decide(watch(), verdict(), Situation(NOW, told="watching", standing=Standing(flag_killed_at=NOW - ago)))
    assert bool(kills(decision)) == (NOW - (NOW - ago) >= COOL_DOWN)


def test_a_flag_that_cools_down_is_recommended_to_be_turned_off_and_killed_when_it_still_regresses_after_that():
    hot = Situation(NOW, told="watching", standing=Standing(flag_killed_at=NOW - 600))
    first = decide(watch(), verdict(), hot)
    assert [alert.state for alert in first.actions] == ["regressed", "regressed"]
    assert any(line.startswith("Recommended: turn checkout off. Not done") for line in first.actions[0].lines)
    assert "checkout was turned off at 08:50 UTC and re-opened" in first.refusals[0].detail
    later = replace(hot, now=NOW + 1200, told=first.told)
    assert len(kills(decide(watch(), verdict(), later))) == 1


def test_two_rules_that_are_not_critical_are_a_quorum_and_two_streams_of_one_rule_are_not():
    one, two = stream(critical=False), stream(critical=False, rule="load")
    assert kills(decide(watch(), verdict(one, two), Situation(NOW)))
    assert not kills(decide(watch(), verdict(one, replace(one, labels=(("f", "x"),))), Situation(NOW)))


def test_a_broken_comparison_stops_the_kill_although_it_does_not_mask_what_regressed():
    broken = stream(rule="traffic split", outcome=Outcome.INVALID)
    decision = decide(watch(), verdict(stream(), broken), Situation(NOW, told="watching"))
    assert kills(decision) == []
    assert [refusal.reason for refusal in decision.refusals] == ["invalid"]


def test_a_rule_that_rests_on_one_sick_unit_counts_towards_no_quorum():
    one, sick = stream(critical=False), stream(critical=False, rule="load", sick_unit="pod-3")
    decision = decide(watch(), verdict(one, sick), Situation(NOW))
    assert [refusal.reason for refusal in decision.refusals] == ["quorum"]


@given(
    outcome=st.sampled_from([o for o in Outcome if o is not Outcome.REGRESSED]),
    mode=st.sampled_from(list(Mode)),
    told=st.sampled_from(["", "watching", "healthy"]),
)
def test_nothing_but_regressed_ever_kills(outcome, mode, told):
    decision = decide(watch(mode=mode), verdict(stream(outcome=outcome), outcome=outcome), Situation(NOW, told=told))
    assert kills(decision) == []


CANARY = {"promote": (0.05, 0.25, 1.0), "release": release(stages=(Stage(EXPOSED, 0.05),))}
GOOD = ReleaseVerdict(Outcome.HEALTHY, "It is as good.")


def promotions(decision) -> list[Promote]:
    return [action for action in decision.actions if isinstance(action, Promote)]


def test_a_healthy_release_gets_the_next_share_and_only_where_steps_are_configured():
    decision = decide(watch(**CANARY), GOOD, Situation(NOW, told="watching"))
    (promote,) = promotions(decision)
    assert (promote.since, promote.share, promote.feature) == (0.05, 0.25, "checkout")
    assert "Raising checkout from 5 % to 25 % of the users." in decision.actions[-1].lines
    assert promotions(decide(watch(), GOOD, Situation(NOW))) == []


HELD_BACK = {
    "not_armed": ({"mode": Mode.RECOMMEND}, {}),
    "no_switch": ({"switch": None}, {}),
    "not_allowed": ({}, {"standing": Standing(allowed=False)}),
    "paused": ({}, {"standing": Standing(paused="maintenance until 12:00")}),
    "latched": ({}, {"standing": Standing(kills=(NOW - 100, NOW - 90, NOW - 80))}),
    "metrics_unreadable": ({}, {"problem": "connection refused"}),
    "stage_not_judged": ({}, {"staged": False}),
}


@pytest.mark.parametrize("name", HELD_BACK)
def test_each_interlock_alone_stops_a_promotion_and_is_named(name):
    changed_watch, changed = HELD_BACK[name]
    decision = decide(watch(**CANARY | changed_watch), GOOD, replace(Situation(NOW, told="watching"), **changed))
    assert promotions(decision) == []
    assert [refusal.reason for refusal in decision.refusals] == [name]


@given(
    outcome=st.sampled_from([o for o in Outcome if o is not Outcome.HEALTHY]),
    share=st.sampled_from([None, 0.0, 0.05, 0.25, 0.997, 1.0]),
    phase=st.sampled_from(["watching", "killed"]),
)
def test_nothing_but_healthy_is_ever_promoted(outcome, share, phase):
    made = watch(**CANARY | {"release": release(stages=(Stage(EXPOSED, share),))})
    situation = Situation(NOW, phase=phase, killed_at=NOW - 60 if phase == "killed" else None)
    assert promotions(decide(made, verdict(stream(outcome=outcome), outcome=outcome), situation)) == []


@pytest.mark.parametrize("share", [None, 0.997, 1.0])
def test_an_unknown_share_and_everybody_have_no_next_step(share):
    made = watch(**CANARY | {"release": release(stages=(Stage(EXPOSED, share),))})
    assert promotions(decide(made, GOOD, Situation(NOW))) == []


def test_a_watch_with_a_control_lasts_its_horizon_from_the_latest_stage():
    later = release(stages=(Stage(EXPOSED, 0.05), Stage(NOW - 60, 0.5)))
    assert decide(watch(release=later, horizon=1800.0), GOOD, Situation(NOW)).phase == "watching"
    alone = watch(release=later, horizon=1800.0, baseline=None, treatment=None)
    assert decide(alone, GOOD, Situation(NOW)).phase == "ended"


def test_without_arms_a_small_share_says_how_diluted_it_is_seen():
    made = watch(release=release(stages=(Stage(EXPOSED, 0.05),)), baseline=None, treatment=None)
    waiting = verdict(stream(outcome=Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE)
    [headline] = decide(made, waiting, Situation(NOW)).actions
    assert any("an effect on 5 % of the users is seen diluted 20 times" in line for line in headline.lines)


def test_a_state_is_told_when_it_changes_and_only_then():
    good = verdict(stream(outcome=Outcome.HEALTHY), outcome=Outcome.HEALTHY)
    first = decide(watch(), good, Situation(NOW, told="watching"))
    again = decide(watch(), good, Situation(NOW + 60, told=first.told))
    assert [a.state for a in first.actions] == ["healthy", "healthy"]
    assert again.actions == ()


def test_the_first_message_of_a_release_is_one_headline_without_a_detail():
    decision = decide(
        watch(), verdict(stream(outcome=Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE), Situation(NOW)
    )
    assert [a.kind for a in decision.actions] == ["headline"]


def test_after_a_kill_recovery_is_told_when_it_comes_and_its_absence_after_ten_minutes():
    open_still = Situation(NOW, phase="killed", told="killed", killed_at=NOW - 60, aftermath="at 4 %")
    assert decide(watch(), verdict(), open_still).actions == ()
    came = decide(watch(), verdict(), replace(open_still, recovered=True))
    assert (came.phase, came.actions[0].state) == ("recovered", "recovered")
    late = decide(watch(), verdict(), replace(open_still, killed_at=NOW - AFTERMATH))
    again = "To re-open it, turn the flag on again: a new watch starts."
    assert (late.phase, late.actions[0].lines) == ("unrecovered", ("at 4 %", again))
    assert came.actions[0].lines == ("at 4 %", again)
    assert late.actions[0].urgent


def test_how_it_ended_is_told_once_it_is_known_whether_it_was_turned_off_and_at_the_latest_after_ten_minutes():
    trying = Situation(
        NOW, phase="killed", told="killed", killed_at=NOW - 60, recovered=True, standing=Standing(turned_off=None)
    )
    waiting = decide(watch(), verdict(), trying)
    assert (waiting.phase, waiting.told, waiting.actions) == ("killed", "killed", ())
    late = decide(watch(), verdict(), replace(trying, killed_at=NOW - AFTERMATH))
    assert (late.phase, late.actions[0].title.partition(":")[0]) == (
        "recovered",
        "Recovered, though it could not be turned off",
    )


def test_a_watch_ends_at_its_horizon_and_says_how():
    done = decide(
        watch(horizon=3600.0),
        verdict(stream(outcome=Outcome.INCONCLUSIVE), outcome=Outcome.INCONCLUSIVE),
        Situation(NOW, told="watching"),
    )
    assert done.phase == "ended"
    assert "Last outcome after 60 min: inconclusive." in done.actions[0].lines


def test_a_kill_that_failed_is_told_urgently_with_what_to_do():
    (kill,) = kills(decide(watch(), verdict(), Situation(NOW)))
    headline, detail = kill_failed(kill, watch(), "flags.yaml cannot be written", NOW)
    assert headline.urgent
    assert headline.kind == "headline"
    assert detail.kind == "detail"
    assert "REGRESSED, and NOT turned off" in headline.title
    assert "by hand" in headline.lines[1]


def test_a_kill_by_hand_that_failed_says_who_decided_it_and_accuses_no_release():
    place = "shop/production/checkout"
    kill = Kill(f"{place}{BY_HAND}{NOW:.3f}", place, "yaml_flags:flags.yaml", "checkout", "by hand by ana: slow", NOW)
    (alone,) = kill_failed(kill, None, "flags.yaml cannot be written", NOW)
    assert (alone.release, alone.kind, alone.urgent) == (kill.key, "headline", True)
    assert alone.title == f"Kill failed: decided by hand, and NOT turned off: {place}"
    assert alone.lines[1] == "Decided by hand by ana: slow."
    headline, detail = kill_failed(replace(kill, release=release().id), watch(), "flags.yaml cannot be written", NOW)
    assert headline.release == detail.release == release().id
    assert "REGRESSED" not in headline.title


# --- to the letter: what a slip of one character in policy.py would change -------------------------------------------


def test_what_was_ordered_is_repeated_in_the_words_it_was_ordered_in():
    paused = Situation(NOW, standing=Standing(paused="kills are paused until 12:00 UTC by ana: a migration"))
    assert decide(watch(), verdict(), paused).refusals[0].detail == paused.standing.paused
    unread = Situation(NOW, problem="HTTP 503")
    assert decide(watch(), verdict(), unread).refusals[0].detail == unread.problem
    healthy, small = verdict(stream(outcome=Outcome.HEALTHY), outcome=Outcome.HEALTHY), (Stage(EXPOSED, 0.05),)
    stepped = watch(release=release(stages=small), promote=(0.25,))
    for situation, said in ((paused, paused.standing.paused), (unread, unread.problem)):
        assert [refusal.detail for refusal in decide(stepped, healthy, situation).refusals] == [said]


def test_when_a_flag_may_be_killed_again_is_said():
    at = EXPOSED - EXPOSED % 86_400 + 12 * 3600.0
    situation = Situation(at + 60, standing=Standing(flag_killed_at=at))
    [refusal] = decide(watch(), verdict(), situation).refusals
    assert refusal.detail == (
        "checkout was turned off at 12:00 UTC and re-opened; watcher does not do it again before 12:30 UTC"
    )
    assert kills(decide(watch(), verdict(), replace(situation, now=at + 1800.0)))
    assert not kills(decide(watch(), verdict(), replace(situation, now=at + 1799.5)))


def test_the_latch_is_closed_by_the_first_three_within_an_hour_and_by_them_alone():
    assert latch((0.0, 36_000.0, 36_001.0, 36_002.0, 36_003.0)) == (36_000.0, 36_001.0, 36_002.0)
    assert latch((0.0, 36_000.0, 36_001.0, 36_002.0)) == (36_000.0, 36_001.0, 36_002.0)
    assert latch((0.0, 36_000.0, 36_001.0)) == ()


def test_evidence_that_has_held_for_two_blocks_or_longer_kills_and_for_one_does_not():
    assert [len(kills(decide(watch(), verdict(stream(held=held)), Situation(NOW)))) for held in (1, 2, 3, 1000)] == [
        0,
        1,
        1,
        1,
    ]


def test_a_stream_that_did_not_regress_counts_for_nothing_in_a_kill():
    fine = [stream(rule=f"rule-{n}", outcome=outcome, held=9) for n, outcome in enumerate(Outcome)]
    others = [each for each in fine if each.outcome not in (Outcome.REGRESSED, Outcome.INVALID)]
    decision = decide(watch(), verdict(stream(held=1), *others), Situation(NOW))
    assert [refusal.reason for refusal in decision.refusals] == ["not_held"]


def test_more_than_two_rules_that_are_not_critical_are_a_quorum_too():
    streams = [stream(rule=f"rule-{n}", critical=False) for n in range(3)]
    assert kills(decide(watch(), verdict(*streams), Situation(NOW)))


GAUGE = Rule("memory", Kind.GAUGE, Selector("memory"))
EITHER = replace(ERRORS, name="share", worse=Worse.EITHER)


@pytest.mark.parametrize(
    ("rule", "treatment", "counts"),
    [
        (ERRORS, Tally(6, 1000), True),
        (ERRORS, Tally(700, 1000), True),
        (replace(ERRORS, worse=Worse.LOWER), Tally(333, 1000), True),
        (EITHER, Tally(2, 1000), True),
        (EITHER, Tally(998, 1000), False),
        (GAUGE, Tally(0, 6), True),
        (GAUGE, Tally(0, 4), False),
        (GAUGE, Tally(0, 1000), True),
        (replace(ERRORS, kind=Kind.RATE), Tally(6, 1000), True),
        (replace(ERRORS, kind=Kind.RATE), Tally(700, 1000), True),
        (None, Tally(0, 50), True),
        (None, Tally(0, 49), False),
    ],
)
def test_how_much_is_enough_is_said_by_the_rule_of_that_name(rule, treatment, counts):
    # Before and after it in the watch, and in the alphabet; names that come from a journal are texts of their own.
    others = (replace(GAUGE, name="a"), replace(GAUGE, name="z"))
    made = watch(others[0], *([] if rule is None else [rule]), others[1])
    name = "".join(["no ", "rule"]) if rule is None else "".join([rule.name[:1], rule.name[1:]])
    decision = decide(made, verdict(stream(rule=name, treatment=treatment)), Situation(NOW))
    assert bool(kills(decision)) is counts
    assert counts or [refusal.reason for refusal in decision.refusals] == ["few_events"]


def test_why_a_dispersion_is_assumed_is_said_as_the_design_has_it():
    assumed = verdict(stream(assumed=True))
    [concurrent] = decide(watch(), assumed, Situation(NOW)).refusals
    [alone] = decide(watch(baseline=None, treatment=None), assumed, Situation(NOW)).refusals
    assert "two units" in concurrent.detail
    assert "too few placebos" in alone.detail


@pytest.mark.parametrize("outcome", Outcome)
def test_only_what_regressed_is_told_to_be_an_event_of_everybody(outcome):
    decision = decide(
        watch(), verdict(stream(outcome=outcome), outcome=outcome), Situation(NOW, everywhere="all of it")
    )
    assert (decision.told == "global_event") is (outcome is Outcome.REGRESSED)
    assert (decide(watch(), verdict(), Situation(NOW)).told) == "killed"


@pytest.mark.parametrize("outcome", [each for each in Outcome if each is not Outcome.REGRESSED])
def test_nothing_is_refused_that_was_not_considered(outcome):
    decision = decide(watch(), verdict(stream(outcome=outcome), outcome=outcome), Situation(NOW))
    assert decision.refusals == ()


@pytest.mark.parametrize("phase", ["ended", "recovered", "unrecovered"])
def test_a_watch_that_is_over_is_over_and_is_not_ended_again(phase):
    over = Situation(NOW, phase=phase, told="healthy", killed_at=None)
    healthy = verdict(stream(outcome=Outcome.HEALTHY), outcome=Outcome.HEALTHY)
    assert decide(watch(), healthy, over).phase == "ended"
    late = replace(over, now=watch().ends_at + 60)
    assert [action for action in decide(watch(), healthy, late).actions if action.state == "ended"] == []


def test_phases_and_states_are_compared_by_what_they_say():
    killed = Situation(NOW, phase="".join(["kil", "led"]), told="".join(["kil", "led"]), killed_at=NOW - 60)
    assert decide(watch(), verdict(), killed).phase == "killed"
    healthy = verdict(stream(outcome=Outcome.HEALTHY), outcome=Outcome.HEALTHY)
    told = Situation(NOW, phase="".join(["watch", "ing"]), told="".join(["heal", "thy"]))
    assert (decide(watch(), healthy, told).phase, decide(watch(), healthy, told).actions) == ("watching", ())
    ended = decide(watch(), healthy, replace(told, now=watch().ends_at))
    assert (ended.phase, ended.told) == ("ended", "ended")


@pytest.mark.parametrize(("seconds", "phase"), [(599.5, "killed"), (600.0, "unrecovered"), (5000.0, "unrecovered")])
def test_recovery_is_looked_for_for_ten_minutes(seconds, phase):
    situation = Situation(NOW + seconds, phase="killed", told="killed", killed_at=NOW)
    assert decide(watch(), verdict(), situation).phase == phase


def test_with_nothing_on_record_a_kill_counts_as_one_that_took_effect():
    assert Standing().turned_off
    for fixed in (Standing(), Situation(NOW), decide(watch(), verdict(), Situation(NOW))):
        with pytest.raises(FrozenInstanceError):
            fixed.told = "other"

"""The path to a verdict, as timelines."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import timeline
from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, looks, ratio, release, watch
from watcher.look import look, prepare, read_history
from watcher.model import Alert, Arm, Kill, Kind, Mode, Observations, Outcome, Rule, Selector, Stage, Worse, labels
from watcher.policy import Standing
from watcher.testing import MemorySource, counts


def source(**errors: object) -> MemorySource:
    return MemorySource({"errors": ratio(**errors)})


def kills(seen) -> list[Kill]:
    return [action for each in seen for action in each.actions if isinstance(action, Kill)]


def told(seen) -> list[str]:
    return [a.state for each in seen for a in each.actions if isinstance(a, Alert) and a.kind == "headline"]


def test_release_at_0_errors_1_to_5_percent_at_20m_regressed_within_10_minutes_and_exactly_one_kill():
    seen = list(looks(watch(), source(treated={20: 0.05}), range(1, 90)))
    decided = next(each.verdict.streams[0].decided_at for each in seen if each.verdict.outcome == "regressed")
    assert 20 < (decided - EXPOSED) / MINUTE <= 30
    assert len(kills(seen)) == 1
    assert told(seen)[0] == "watching"
    assert told(seen)[-2:] == ["killed", "unrecovered"]


def test_a_good_release_is_proven_healthy_told_once_and_never_killed():
    seen = list(looks(watch(), source(), range(1, 180)))
    assert seen[-1].verdict.outcome is Outcome.HEALTHY
    assert told(seen) == ["watching", "healthy"]
    assert kills(seen) == []


def test_an_answer_that_may_be_incomplete_is_not_counted_and_read_again_once_it_is_whole():
    bad = ratio(treated={5: 0.2})
    source = MemorySource({"errors": replace(bad, partial=True)})
    calibrations, last = prepare(watch(), read_history(watch(), MemorySource({"errors": bad}))), None
    for minute in range(1, 20):
        last = look(watch(), source, calibrations, last, EXPOSED + minute * MINUTE)
        assert (last.blocks, last.observations, kills([last])) == (0, {}, [])
        assert last.problem == "the answer for errors may be incomplete"
    assert last is not None
    assert last.verdict.outcome is Outcome.NO_DATA
    assert "the answer for errors may be incomplete" in last.verdict.reason
    last = look(watch(), MemorySource({"errors": bad}), calibrations, last, EXPOSED + 20 * MINUTE)
    assert (last.blocks, last.verdict.outcome, len(kills([last]))) == (20, Outcome.REGRESSED, 1)


def test_evidence_from_before_a_doubt_turns_nothing_off_until_metrics_can_be_trusted_again():
    source = MemorySource({"errors": ratio(treated={5: 0.2})})
    paused, free = Standing(paused="kills are paused"), Standing()
    *_, last = looks(watch(), source, range(1, 20), standing=paused)
    calibrations = prepare(watch(), read_history(watch(), source))
    assert [refusal.reason for refusal in last.refusals] == ["paused"]
    doubtful = MemorySource({"errors": replace(ratio(treated={5: 0.2}), partial=True)})
    for second in (60.0, 75.0, 90.0):
        last = look(watch(), doubtful, calibrations, last, EXPOSED + 19 * MINUTE + second, standing=free)
        assert [refusal.reason for refusal in last.refusals] == ["metrics_unreadable"]
        assert not kills([last])
    last = look(watch(), source, calibrations, last, EXPOSED + 21 * MINUTE, standing=free)
    assert len(kills([last])) == 1


def test_health_is_proven_on_the_fourth_block_at_the_earliest_however_much_traffic_there_is():
    seen = list(looks(watch(), source(traffic=300_000), range(1, 8)))
    assert [each.verdict.outcome.value for each in seen[:4]] == ["inconclusive"] * 3 + ["healthy"]


def test_a_regression_stays_said_when_the_errors_go_away_by_themselves():
    seen = list(looks(watch(mode=Mode.OBSERVE), source(treated={10: 0.06, 30: 0.01}), range(1, 120)))
    assert seen[-1].verdict.outcome is Outcome.REGRESSED
    assert "decided after" in seen[-1].verdict.reason


def test_recovery_is_told_once_the_errors_of_everybody_are_back_within_the_margin():
    made = source(treated={20: 0.08})
    errors = made.observations["errors"]
    seen = []
    for each in looks(watch(), made, range(1, 120)):
        seen.append(each)
        if each.killed_at is not None:
            after = errors.ends > each.killed_at
            on = np.where(after, 0.0, errors.treatment.total)
            bad = np.where(after, 0.0, errors.treatment.events)
            made.observations = {"errors": replace(errors, treatment=Arm(errors.treatment.units, bad, on))}
    assert told(seen)[-1] == "recovered"
    headline = next(a for a in seen[-1].actions if isinstance(a, Alert))
    assert "back within the margin" in headline.lines[0]


def test_an_absent_treatment_is_no_data_with_an_alarm_not_healthy_and_no_kill():
    seen = list(looks(watch(), source(silent=range(0, 180)), range(1, 12)))
    assert [each.verdict.outcome.value for each in seen[:3]] == ["inconclusive"] * 3
    assert seen[3].verdict.outcome is Outcome.NO_DATA
    assert seen[3].verdict.alarms == ("absent_treatment",)
    assert kills(seen) == []


def test_a_treatment_that_goes_silent_later_is_no_data_and_comes_back():
    seen = list(looks(watch(), source(silent=range(30, 60)), range(1, 90)))
    by_minute = {round((each.at - EXPOSED) / MINUTE): each.verdict for each in seen}
    assert by_minute[36].outcome is Outcome.NO_DATA
    assert by_minute[36].alarms == ("absent_treatment",)
    assert by_minute[62].outcome is not Outcome.NO_DATA


def test_a_metric_outage_is_no_data_after_four_blocks_never_a_regression_and_never_a_pass():
    made = source(treated={40: 0.05})
    seen = []
    for each in looks(watch(), made, range(1, 45)):
        seen.append(each)
        minute = round((each.at - EXPOSED) / MINUTE)
        made.down = "connection refused" if 10 <= minute < 30 else None
    by_minute = {round((each.at - EXPOSED) / MINUTE): each for each in seen}
    assert by_minute[12].verdict.outcome is Outcome.INCONCLUSIVE
    assert by_minute[20].verdict.outcome is Outcome.NO_DATA
    assert "connection refused" in by_minute[20].verdict.reason
    assert by_minute[20].through == EXPOSED + 10 * MINUTE
    assert by_minute[32].verdict.outcome is not Outcome.NO_DATA
    assert all(not kills([by_minute[m]]) for m in range(11, 31))


def test_missed_looks_and_one_look_at_the_end_say_what_looking_every_minute_said():
    def streams(every: int):
        seen = list(looks(watch(mode=Mode.OBSERVE), source(treated={33: 0.04}), range(every, 121, every)))
        verdict = seen[-1].verdict.streams[0]
        return verdict.outcome, verdict.decided_at, round(verdict.log_e_regressed, 9), seen[-1].blocks

    assert streams(1) == streams(24) == streams(120)


def test_the_warm_up_is_seen_but_not_counted():
    cold = ratio(treated={0: 0.04, 3: 0.01}, minutes=60)
    without = list(looks(watch(warm_up=0.0), MemorySource({"errors": cold}), range(1, 60)))
    with_it = list(looks(watch(warm_up=300.0), MemorySource({"errors": cold}), range(1, 60)))
    assert without[-1].verdict.outcome is Outcome.REGRESSED
    assert with_it[-1].verdict.outcome is not Outcome.REGRESSED
    assert with_it[-1].blocks == 54


def test_a_block_in_which_exposure_changed_does_not_count():
    made = watch(release=release(stages=(Stage(EXPOSED), Stage(EXPOSED + 10.5 * MINUTE, 0.5))))
    (*_, last) = looks(made, source(), range(1, 21))
    assert last.blocks == 19


def test_delayed_completions_of_identical_arms_are_called_regressed_at_most_at_alpha():
    """20 starts a minute, completed after 5 minutes on average: a fresh arm has starts before completions."""
    rate = Rule(
        "completion",
        Kind.RATE,
        Selector("completed"),
        Selector("started"),
        worse=Worse.LOWER,
        margin=0.02,
        matures=25 * MINUTE,
    )

    def alarms(rule: Rule, runs: int = 150, minutes: int = 180) -> int:
        rng = np.random.default_rng(7)
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)
        wrong = 0
        for _ in range(runs):
            arms = []
            for treated in (False, True):
                started = rng.poisson(20, ends.size) * ((ends > EXPOSED) | (not treated))
                completed = np.zeros(ends.size)
                for start, n in enumerate(started):
                    done = start + np.floor(rng.exponential(5.0, rng.binomial(n, 0.9))).astype(int)
                    np.add.at(completed, done[done < ends.size], 1)
                arms.append((completed, started.astype(float)))
            seen = MemorySource({"completion": counts(ends, *arms)})
            made = watch(rule, mode=Mode.OBSERVE, alpha=replace(watch().alpha, regressed=0.05))
            calibrations = prepare(made, read_history(made, seen))
            last = look(made, seen, calibrations, None, ends[-1])
            wrong += last.verdict.outcome is Outcome.REGRESSED
        return wrong

    assert alarms(rate) <= 15  # binomial(150, .05): more than 15 one time in a thousand
    assert alarms(replace(rate, matures=0.0), runs=30) >= 25


def gauge(shift: float, minutes: int = 120, paired: bool = False, seed: int = 3) -> Observations:
    rng = np.random.default_rng(seed)
    ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)
    common = np.exp(rng.normal(0, 0.05, ends.size))
    load = 1.2 * common * np.exp(rng.normal(0, 0.02, ends.size)) * np.where(ends > EXPOSED, 1 + shift, 1.0)
    control = (1.2 * common * np.exp(rng.normal(0, 0.02, ends.size)), np.ones(ends.size)) if paired else None
    return counts(ends, control, (load, np.ones(ends.size)))


LOAD = Rule("load", Kind.GAUGE, Selector("load_time"), worse=Worse.HIGHER, margin=0.1, critical=True)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("shift", "outcome"), [(0.0, "healthy"), (0.25, "regressed")])
def test_a_gauge_is_judged_against_its_control_or_its_past(paired, shift, outcome):
    made = watch(LOAD, **({} if paired else {"baseline": None, "treatment": None}))
    (*_, last) = looks(made, MemorySource({"load": gauge(shift, paired=paired)}), range(1, 121))
    assert last.verdict.outcome == outcome
    effect = last.verdict.streams[0].effect
    assert effect.lower <= 1 + shift <= effect.upper
    # The history of four hours is too short for placebos, and with a control there is none for them.
    assumption = "noise that is remembered as fitted is assumed" if paired else "the noise model alone decides"
    assert any(assumption in note for note in last.verdict.assumptions)


@pytest.mark.parametrize(("treated", "outcome"), [({}, "healthy"), ({5: 0.03}, "regressed")])
def test_before_and_after_judges_counts_against_their_own_past(treated, outcome):
    made = watch(baseline=None, treatment=None, mode=Mode.ARMED)
    seen = list(looks(made, MemorySource({"errors": ratio(alone=True, treated=treated)}), range(1, 121)))
    assert seen[-1].verdict.outcome == outcome
    assert kills(seen) == []
    if treated:
        assert {refusal.reason for refusal in seen[-1].refusals} >= {"assumed"}


def test_few_events_without_a_control_are_never_said_to_be_less_than_none():
    few = MemorySource({"errors": ratio(traffic=90, alone=True)})
    seen = [each.verdict.streams[0].effect for each in looks(watch(baseline=None, treatment=None), few, range(1, 8))]
    assert [effect.lower for effect in seen] == [0.0] * 7
    assert all(effect.upper > effect.estimate > 0 for effect in seen)


def test_too_short_a_past_is_inconclusive_and_says_what_is_missing():
    made = watch(LOAD, baseline=None, treatment=None, history=10 * MINUTE)
    (*_, last) = looks(made, MemorySource({"load": gauge(0.5)}), range(1, 30))
    assert last.verdict.outcome is Outcome.INCONCLUSIVE
    assert "10 blocks of history are too few" in last.verdict.reason


def together(streams, one: Observations, two: Observations) -> Observations:
    """Two streams of one rule."""

    def arm(first: Arm, second: Arm) -> Arm:
        return Arm(
            first.units,
            np.concatenate([first.events, second.events]),
            np.concatenate([first.total, second.total]),
        )

    return Observations(streams, one.ends, arm(one.treatment, two.treatment), arm(one.baseline, two.baseline))


def test_a_stream_idle_in_both_arms_is_dormant_and_blocks_nothing():
    busy, idle = ratio(seed=1), ratio(seed=2, traffic=0)
    streams = (labels({"feature": "cart"}), labels({"feature": "gifts"}))

    joined = together(streams, busy, idle)
    (*_, last) = looks(watch(replace(ERRORS, by=("feature",))), MemorySource({"errors": joined}), range(1, 150))
    assert last.verdict.outcome is Outcome.HEALTHY
    assert [stream.dormant for stream in last.verdict.streams] == [False, True]


def test_a_rule_nobody_answers_to_is_no_data():
    nothing = Observations((), ratio().ends, Arm(("",), np.zeros((0, 1, 420)), np.zeros((0, 1, 420))))
    empty = replace(nothing, baseline=nothing.treatment)
    (*_, last) = looks(watch(), MemorySource({"errors": empty}), range(1, 10))
    assert last.verdict.outcome is Outcome.NO_DATA


def test_a_stream_born_during_the_watch_is_judged_on_its_reserved_share_of_alpha():
    first, late = ratio(seed=1), ratio(seed=2, treated={0: 0.2})
    rule = replace(ERRORS, by=("feature",))
    cart, fresh = labels({"feature": "cart"}), labels({"feature": "fresh"})
    made = MemorySource({"errors": replace(first, streams=(cart,))})
    seen = []
    for each in looks(watch(rule, mode=Mode.OBSERVE), made, range(1, 60)):
        seen.append(each)
        if len(seen) == 20:
            made.observations = {"errors": together((cart, fresh), first, late)}
    verdicts = {dict(stream.labels)["feature"]: stream for stream in seen[-1].verdict.streams}
    assert verdicts["fresh"].outcome is Outcome.REGRESSED
    assert verdicts["fresh"].threshold > verdicts["cart"].threshold


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 119), max_size=6), st.integers(0, 3))
def test_restarts_and_late_looks_change_nothing(cuts, seed):
    from watcher.comparison import EvidenceState

    made = watch(mode=Mode.OBSERVE)
    at_once = MemorySource({"errors": ratio(treated={40: 0.03}, seed=seed, minutes=120)})
    calibrations = prepare(made, read_history(made, at_once))
    whole = look(made, at_once, calibrations, None, EXPOSED + 120 * MINUTE)
    last = None
    for minute in [*sorted(cuts), 120]:
        last = look(made, at_once, calibrations, last, EXPOSED + minute * MINUTE)
        states = {name: EvidenceState.from_json(state).to_json() for name, state in last.states.items()}
        last = replace(last, states=states)
    assert last is not None
    pairs = zip(whole.verdict.streams, last.verdict.streams, strict=True)
    for one, two in pairs:
        assert (one.outcome, one.decided_at) == (two.outcome, two.decided_at)
        assert one.log_e_regressed == pytest.approx(two.log_e_regressed, abs=1e-9)


def test_a_look_costs_the_same_at_any_time_of_the_watch():
    """Counted, not timed: one new block is read and folded, and the state of a stream never grows."""
    import json

    class Counting(MemorySource):
        blocks: int = 0

        def observe(self, request):
            self.blocks += request.ends.size
            return super().observe(request)

    source = Counting({"errors": ratio(minutes=600)})
    asked, sizes = [], {}
    for seen in looks(watch(mode=Mode.OBSERVE), source, range(1, 601)):
        asked.append(source.blocks)
        sizes[seen.through] = len(json.dumps(seen.states["errors"]))
    assert np.diff(asked).tolist() == [1] * 599
    whole = list(sizes.values())
    assert max(whole[300:]) <= 1.1 * max(whole[30:300])


@pytest.mark.parametrize("rule", [ERRORS, replace(ERRORS, kind=Kind.RATE)], ids=["ratio", "rate"])
@pytest.mark.parametrize("beyond", [0.0, 0.49, 0.5])
def test_harm_far_beyond_what_must_be_exceeded_is_found_even_where_that_is_the_whole_margin(
    rule: Rule, beyond: float
) -> None:
    made = watch(replace(rule, margin=0.5, regress_margin=beyond))
    *_, last = looks(made, MemorySource({"errors": ratio(treated={5: 0.05})}), range(1, 40))
    assert last.verdict.outcome is Outcome.REGRESSED
    assert last.killed_at is not None


def test_harm_that_began_late_is_told_by_how_large_it_is_since_without_a_control_too(monkeypatch):
    monkeypatch.setattr(timeline, "BEFORE", 2880)
    made = watch(baseline=None, treatment=None, horizon=7200.0)
    source = MemorySource({"errors": ratio(120, treated={60: 0.1}, traffic=4000, units=1, alone=True)})
    *_, last = looks(made, source, range(10, 71, 10))
    (found,) = last.verdict.streams
    assert found.outcome is Outcome.REGRESSED
    assert found.since_onset == pytest.approx(10, rel=0.15)
    assert f"and {found.since_onset:.2g} times since 09:0" in found.reason

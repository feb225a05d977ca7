"""A canary beside its neighbours along the whole path: doubles, readings that are none, and a canary never heard of."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import watcher
from tests.timeline import EXPOSED, MINUTE, looks, watch
from watcher.calibration import calibrate
from watcher.comparison import DOUBLES, EvidenceState
from watcher.look import look, prepare, read_history
from watcher.model import (
    Arm,
    Calibration,
    Floats,
    Kind,
    Look,
    Mode,
    Observations,
    Outcome,
    Rule,
    Selector,
    Worse,
)
from watcher.testing import MemorySource

SLOW = Rule("slow", Kind.GAUGE, Selector("slow"), margin=0.1, critical=True)
GOOD = Rule("good", Kind.GAUGE, Selector("good"), worse=Worse.LOWER, margin=0.1)
NAMES = ("old-1", "old-2", "old-3", "old-4")
BEFORE, AFTER = 20, 30


def gauge(
    factor: float = 1.0,
    *,
    level: float = 0.2,
    control: Callable[[Floats], None] | None = None,
    canary: Callable[[Floats], None] | None = None,
    noise: float = 0.03,
    seed: int = 1,
) -> Observations:
    """Four units, and a canary from exposure on; `control` and `canary` change readings [unit, block] in place."""
    rng = np.random.default_rng(seed)
    ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, AFTER + 1)
    old, new = (level * np.exp(rng.normal(0, noise, (units, ends.size))) for units in (4, 1))
    new *= factor
    new[:, ends <= EXPOSED] = np.nan
    for change, values in ((control, old), (canary, new)):
        if change is not None:
            change(values)
    old_arm, new_arm = (
        Arm(names, values[None], np.isfinite(values[None]).astype(float))
        for names, values in ((NAMES, old), (("new-1",), new))
    )
    return Observations(((),), ends, new_arm, old_arm)


def said(*rules: tuple[Rule, Observations], minutes: int = AFTER, alpha: float = 0.01) -> list[Look]:
    made = watch(*(rule for rule, _ in rules), history=BEFORE * MINUTE)
    made = replace(made, alpha=replace(made.alpha, regressed=alpha), mode=Mode.OBSERVE)
    return list(looks(made, MemorySource({rule.name: seen for rule, seen in rules}), range(1, minutes + 1)))


def learnt(rule: Rule, seen: Observations) -> Calibration:
    history = seen.between(0.0, EXPOSED)
    return calibrate(rule, watch(rule), history, "history", np.random.default_rng(1))


class TestVerdicts:
    def test_a_canary_four_times_as_slow_is_regressed_within_four_minutes(self):
        outcomes = [each.verdict.outcome for each in said((SLOW, gauge(4.0)))]
        assert outcomes[0] is Outcome.INCONCLUSIVE
        assert outcomes[3] is Outcome.REGRESSED

    def test_a_canary_like_its_neighbours_waits_for_more_units_and_says_so(self):
        last = said((SLOW, gauge()))[-1]
        (verdict,) = last.verdict.streams
        assert verdict.outcome is Outcome.INCONCLUSIVE
        assert verdict.needs is not None
        assert verdict.needs.limit == "units"
        assert any("units of the baseline stand in" in note for note in last.verdict.assumptions)
        assert any("noise learnt from 4 units" in note for note in last.verdict.assumptions)

    def test_a_share_that_is_as_good_is_proven_healthy_and_one_twenty_points_lower_is_regressed(self):
        fine, bad = gauge(level=99.0, noise=0.002), gauge(0.8, level=99.0, noise=0.002)
        assert said((GOOD, fine))[-1].verdict.outcome is Outcome.HEALTHY
        verdict = said((GOOD, bad))[-1].verdict
        assert verdict.outcome is Outcome.REGRESSED
        assert "20" in verdict.reason

    def test_one_look_at_everything_says_what_a_look_a_minute_does_and_states_survive_json(self):
        source = MemorySource({"slow": gauge(1.7)})
        made = watch(SLOW, history=BEFORE * MINUTE)
        calibrations = prepare(made, read_history(made, source))
        at_once = look(made, source, calibrations, None, EXPOSED + AFTER * MINUTE)
        *_, last = looks(made, source, range(1, AFTER + 1))
        one, other = at_once.verdict.streams[0], last.verdict.streams[0]
        assert one.log_e_regressed == pytest.approx(other.log_e_regressed)
        assert one.outcome is other.outcome
        whole, pieces = (EvidenceState.from_json(each.states["slow"]).tallies for each in (at_once, last))
        assert whole == pytest.approx(pieces)
        raw = json.loads(json.dumps(last.states["slow"]))
        assert json.loads(json.dumps(EvidenceState.from_json(raw).to_json())) == raw

    def test_a_treatment_with_a_past_or_one_unit_of_control_is_judged_as_a_series(self):
        def everywhere(values: Floats) -> None:
            values[:, :BEFORE] = 0.2

        assert learnt(SLOW, gauge(canary=everywhere)).reports is None

        def alone(values: Floats) -> None:
            values[1:] = np.nan

        assert learnt(SLOW, gauge(control=alone)).reports is None
        assert learnt(replace(SLOW, across="sum"), gauge()).reports is None
        assert learnt(SLOW, gauge()).reports is not None


class TestDoubles:
    def double(self, unit: int = 0, since: int = 5, **more: float) -> Observations:
        seen = gauge(4.0, **more)
        old, new = seen.baseline.events.copy(), seen.treatment.events
        old[0, unit, BEFORE + since :] = new[0, 0, BEFORE + since :]
        return replace(seen, baseline=replace(seen.baseline, events=old))

    def test_a_unit_with_the_treatments_very_values_is_dropped_and_that_is_said(self):
        at = said((SLOW, self.double()))
        assert DOUBLES not in at[4].states
        assert at[5].states[DOUBLES] == {"old-1": EXPOSED + 6 * MINUTE}
        note = "old-1 reports the treatment's very values since 08:06 UTC: no longer counted as baseline"
        assert note in at[-1].verdict.assumptions
        assert at[-1].observations["slow"].baseline.total[0, :, 0].tolist() == [0.0, 1.0, 1.0, 1.0]

    def test_it_is_dropped_from_every_rule_of_the_release(self):
        at = said((SLOW, self.double()), (GOOD, gauge(level=99.0, noise=0.002, seed=2)))
        assert at[-1].observations["good"].baseline.total[0, :, 0].tolist() == [0.0, 1.0, 1.0, 1.0]

    def test_a_look_at_everything_drops_the_same(self):
        source = MemorySource({"slow": self.double(since=0)})
        made = watch(SLOW, history=BEFORE * MINUTE, mode=Mode.OBSERVE)
        at_once = look(made, source, prepare(made, read_history(made, source)), None, EXPOSED + AFTER * MINUTE)
        *_, last = looks(made, source, range(1, AFTER + 1))
        assert at_once.states[DOUBLES] == last.states[DOUBLES] == {"old-1": EXPOSED + MINUTE}
        assert at_once.verdict.streams[0].log_e_regressed == pytest.approx(last.verdict.streams[0].log_e_regressed)
        assert last.verdict.outcome is Outcome.REGRESSED

    def test_values_that_repeat_are_no_sign_of_a_double(self):
        def whole(values: Floats) -> None:
            values[:] = np.where(np.isfinite(values), 100.0, np.nan)

        at = said((GOOD, gauge(level=99.0, control=whole, canary=whole)))
        assert DOUBLES not in at[-1].states
        assert at[-1].verdict.outcome is Outcome.HEALTHY

        def rounded(values: Floats) -> None:
            values[:] = np.round(values, 2)

        assert DOUBLES not in said((SLOW, gauge(control=rounded, canary=rounded)))[-1].states

    def test_without_a_unit_left_there_is_no_baseline_and_what_regressed_stays_so(self):
        def all_of_them(seen: Observations, since: int) -> Observations:
            events = seen.baseline.events.copy()
            events[..., BEFORE + since :] = seen.treatment.events[..., BEFORE + since :]
            return replace(seen, baseline=replace(seen.baseline, events=events))

        gone = said((SLOW, all_of_them(gauge(), 3)))[-1].verdict
        assert gone.outcome is Outcome.NO_DATA
        assert "absent_baseline" in gone.alarms
        assert said((SLOW, all_of_them(gauge(4.0), 6)))[-1].verdict.outcome is Outcome.REGRESSED


class TestGaps:
    def test_an_exact_zero_now_and_then_is_a_gap_where_higher_is_worse_and_that_is_said(self):
        def idle(values: Floats) -> None:
            values[:3, 2:6] = 0.0

        found = learnt(SLOW, gauge(control=idle))
        assert found.logarithmic
        assert "12 readings of exactly 0 taken as gaps: nothing was measured there" in found.notes
        assert found.sigma[0] == pytest.approx(0.03, rel=0.3)
        assert learnt(SLOW, gauge()).notes[0].startswith("units of the baseline stand in")

    def test_a_zero_of_a_canary_is_neither_an_improvement_nor_a_silence(self):
        def idle(values: Floats) -> None:
            values[:, BEFORE:] = 0.0

        for each in said((SLOW, gauge(canary=idle))):
            assert each.verdict.outcome is Outcome.INCONCLUSIVE
            assert each.verdict.alarms == ()

    def test_zeros_of_a_count_and_of_what_should_be_high_are_zeros(self):
        def count(values: Floats) -> None:
            values[:] = np.where(np.isfinite(values), np.random.default_rng(3).poisson(2.0, values.shape), np.nan)

        assert not learnt(SLOW, gauge(control=count)).logarithmic

        def down(values: Floats) -> None:
            values[:, BEFORE:] = 0.0

        assert said((GOOD, gauge(level=99.0, noise=0.002, canary=down)))[3].verdict.outcome is Outcome.REGRESSED

    def test_a_reading_without_a_value_is_a_gap_and_no_silence(self):
        ends = pd.date_range("2026-11-20T10:00Z", periods=40, freq="1min")
        rng = np.random.default_rng(4)
        rows = [
            {"timestamp": at, "arm": arm, "unit": unit, "value": value}
            for n, at in enumerate(ends)
            for arm, units in (("baseline", NAMES), ("treatment", ("new-1",)))
            for unit in units
            for value in [np.nan if arm == "treatment" else 0.2 * np.exp(rng.normal(0, 0.03))]
            if arm == "baseline" or n >= 20
        ]
        found = watcher.compare(pd.DataFrame(rows), gauge="value", worse="higher", at=ends[19].isoformat())
        assert found.outcome is Outcome.INCONCLUSIVE
        assert found.look.verdict.alarms == ()
        spoke_once = next(row for row in rows if row["arm"] == "treatment")
        quiet = pd.DataFrame([spoke_once, *(row for row in rows if row["arm"] == "baseline")])
        found = watcher.compare(quiet, gauge="value", worse="higher", at=ends[19].isoformat())
        assert "absent_treatment" in found.look.verdict.alarms


class TestAbsence:
    @staticmethod
    def never(values: Floats) -> None:
        values[:] = np.nan

    def test_a_canary_that_never_reports_beside_busy_units_is_missed_after_two_blocks(self):
        at = said((SLOW, gauge(canary=self.never)), minutes=6)
        assert ["absent_treatment" in each.verdict.alarms for each in at] == [False, True, True, True, True, True]
        outcomes = [each.verdict.outcome for each in at]
        assert outcomes == [Outcome.INCONCLUSIVE] * 3 + [Outcome.NO_DATA] * 3
        assert "the treatment has sent nothing for 2 blocks while the baseline had traffic" in at[1].verdict.reason

    def test_beside_units_that_often_miss_a_block_it_is_no_alarm_for_longer(self):
        def seldom(values: Floats) -> None:
            values[np.random.default_rng(5).random(values.shape) < 0.6] = np.nan

        at = said((SLOW, gauge(control=seldom, canary=self.never, seed=3)))
        assert all("absent_treatment" not in each.verdict.alarms for each in at[:7])
        assert at[3].verdict.outcome is Outcome.NO_DATA
        assert "absent_treatment" in at[-1].verdict.alarms

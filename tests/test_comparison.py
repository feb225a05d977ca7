"""From blocks to evidence along the whole path: methods, stages, units, signatures, splits, broken comparisons."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, looks, ratio, release, watch
from watcher.comparison import SPLIT, EvidenceState, split_rule
from watcher.comparison.methods import Methods
from watcher.evidence.buckets import Buckets
from watcher.look import look, prepare, read_history
from watcher.model import (
    Arm,
    Calibration,
    Kill,
    Kind,
    Mode,
    Observations,
    Outcome,
    Rule,
    Selector,
    Split,
    Stage,
    Worse,
    labels,
)
from watcher.testing import MemorySource, counts

COMPLETION = Rule(
    "completion", Kind.RATIO, Selector("done"), Selector("started"), worse=Worse.LOWER, margin=0.02, critical=True
)
LOAD = Rule("load", Kind.LATENCY, Selector("load"), objective=1.0, margin=0.1, critical=True)
EDGES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 2.0, float("inf"))


def said(made, source: MemorySource, until: int = 121):
    *_, last = looks(made, source, range(1, until))
    return last


class TestMethods:
    def test_rare_events_go_to_the_profile_and_shares_from_five_per_cent_to_proportions(self):
        streams = (labels({"feature": "a"}), labels({"feature": "b"}), labels({"feature": "new"}))
        calibration = Calibration(streams=streams[:2], rate=np.array([0.01, 0.3]))
        assert Methods(watch(), ERRORS, calibration).chosen(streams) == {"profile": (0, 2), "proportion": (1,)}

    def test_absolute_margins_and_unknown_shares_of_what_should_be_high_go_to_proportions(self):
        nothing = Calibration()
        points = replace(ERRORS, absolute=True, margin=0.005)
        assert Methods(watch(), points, nothing).chosen(((),)) == {"proportion": (0,)}
        assert Methods(watch(), COMPLETION, nothing).chosen(((),)) == {"proportion": (0,)}

    def test_what_is_counted_at_another_moment_than_its_total_is_no_proportion(self):
        rate = replace(COMPLETION, kind=Kind.RATE, matures=60.0)
        assert Methods(watch(), rate, Calibration(streams=((),), rate=np.array([0.7]))).chosen(((),)) == {
            "profile": (0,)
        }

    def test_streams_of_one_rule_may_have_different_methods_and_come_back_in_their_places(self):
        rare, common = ratio(rate=0.01, seed=1), ratio(rate=0.3, treated={0: 0.6}, seed=2)
        names = (labels({"feature": "rare"}), labels({"feature": "common"}))
        both = _side_by_side(names, (rare, common))
        made = watch(replace(ERRORS, by=("feature",)))
        last = said(made, MemorySource({"errors": both}), 31)
        outcome = {dict(v.labels)["feature"]: v.outcome for v in last.verdict.streams}
        assert outcome["common"] is Outcome.REGRESSED
        assert outcome["rare"] is not Outcome.REGRESSED
        state = EvidenceState.from_json(last.states["errors"])
        assert {part.method for part in state.parts} == {"profile", "proportion"}


def _side_by_side(names, parts) -> Observations:
    def arm(side: str) -> Arm:
        arms = [getattr(part, side) for part in parts]
        return Arm(
            arms[0].units,
            np.concatenate([each.events for each in arms]),
            np.concatenate([each.total for each in arms]),
        )

    return Observations(names, parts[0].ends, arm("treatment"), arm("baseline"))


def test_completions_that_fall_by_five_per_cent_are_found_and_a_two_per_cent_margin_is_provable():
    def source(treated: float) -> MemorySource:
        return MemorySource({"completion": ratio(rate=0.9, treated={0: treated}, traffic=600)})

    bad = said(watch(COMPLETION), source(0.855))
    assert bad.verdict.outcome is Outcome.REGRESSED
    assert said(watch(COMPLETION), source(0.9)).verdict.outcome is Outcome.HEALTHY


def test_a_margin_in_percentage_points_is_judged_and_told_in_points():
    points = replace(ERRORS, absolute=True, margin=0.005)
    last = said(watch(points), MemorySource({"errors": ratio(treated={0: 0.03})}))
    (verdict,) = last.verdict.streams
    assert verdict.outcome is Outcome.REGRESSED
    assert verdict.effect.measure == "difference"
    assert verdict.effect.estimate == pytest.approx(0.02, abs=0.008)
    assert " pp higher than the baseline" in verdict.reason
    assert "0.5 pp more" in verdict.reason


class TestStages:
    LATER = EXPOSED + 60 * MINUTE

    def staged(self, **changes: object):
        stages = (Stage(EXPOSED, 0.05), Stage(self.LATER, 0.5))
        return replace(watch(**changes), release=release(stages=stages))

    def test_health_proven_at_one_stage_does_not_stand_at_the_next(self):
        source = MemorySource({"errors": ratio(traffic=1500)})
        found = [look.verdict.outcome for look in looks(self.staged(), source, range(1, 121))]
        assert found[58] is Outcome.HEALTHY
        assert found[61] is Outcome.INCONCLUSIVE
        assert found[-1] is Outcome.HEALTHY

    def test_evidence_of_harm_runs_through_all_stages(self):
        source = MemorySource({"errors": ratio(rate=0.004, treated={0: 0.0068}, traffic=300)})
        alone = watch()
        through, fresh = said(self.staged(), source, 181), said(alone, source, 181)
        one, two = through.verdict.streams[0], fresh.verdict.streams[0]
        assert one.log_e_regressed == pytest.approx(two.log_e_regressed, abs=1.0)

    def test_looking_once_or_every_minute_across_a_stage_says_the_same(self):
        source = MemorySource({"errors": ratio(treated={70: 0.03})})
        made = self.staged(mode=Mode.OBSERVE)
        *_, often = looks(made, source, range(1, 91))
        *_, rarely = looks(made, source, range(30, 91, 30))
        one, other = often.verdict.streams[0], rarely.verdict.streams[0]
        assert one.log_e_regressed == pytest.approx(other.log_e_regressed, abs=1e-9)
        assert one.log_e_healthy == pytest.approx(other.log_e_healthy, abs=1e-9)
        assert one.decided_at == other.decided_at


class TestUnits:
    def history_and_release(self, treated: list[float], seed: int = 3) -> Observations:
        """Three pods of the baseline, and as many of the treatment as error rates are given."""
        rng = np.random.default_rng(seed)
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, 121)
        total = np.full((3, ends.size), 500)
        on = np.where(ends > EXPOSED, 500, 0) * np.ones((len(treated), 1), dtype=int)
        control = rng.binomial(total, 0.01)
        bad = rng.binomial(on, np.array(treated)[:, None])
        seen = counts(ends, (control, total), (bad, on))
        return replace(
            seen,
            treatment=replace(seen.treatment, units=tuple(f"new-{i}" for i in range(len(treated)))),
        )

    def test_one_sick_pod_is_named_and_kills_nothing(self):
        found = list(
            looks(watch(), MemorySource({"errors": self.history_and_release([0.01, 0.08, 0.01])}), range(1, 60))
        )
        assert found[-1].verdict.outcome is Outcome.REGRESSED
        assert found[-1].verdict.streams[0].sick_unit == "new-1"
        assert "new-1" in next(f.verdict.reason for f in found if f.verdict.outcome is Outcome.REGRESSED)
        assert "one_unit" in {refusal.reason for refusal in found[-1].refusals}
        assert not any(isinstance(action, Kill) for look in found for action in look.actions)

    def test_a_regression_on_all_pods_is_killed(self):
        found = list(looks(watch(), MemorySource({"errors": self.history_and_release([0.04] * 3)}), range(1, 60)))
        assert any(isinstance(action, Kill) for look in found for action in look.actions)
        assert all(stream.sick_unit is None for look in found for stream in look.verdict.streams)

    def test_a_flag_inside_shared_pods_has_no_floor_and_a_canary_on_new_ones_has(self):
        made = watch()
        seen = self.history_and_release([0.01] * 3)
        shared = replace(seen, treatment=replace(seen.treatment, units=seen.baseline.units))
        wide = {
            "errors": replace(prepare(made, read_history(made, MemorySource({"errors": seen})))["errors"], spread=0.2)
        }
        from watcher.look import look

        scales = []
        for each in (seen, shared):
            found = look(made, MemorySource({"errors": each}), wide, None, EXPOSED + 30 * MINUTE)
            (part,) = EvidenceState.from_json(found.states["errors"]).parts
            scales.append(float(part.state.scale[0]))
        assert scales[0] == pytest.approx(0.2 * np.sqrt(2 / 3), rel=0.05)
        assert scales[1] < 0.01

    def test_where_units_could_cause_as_much_as_the_margin_it_is_units_that_are_needed(self):
        made = watch()
        source = MemorySource({"errors": self.history_and_release([0.01] * 3)})
        wide = {"errors": replace(prepare(made, read_history(made, source))["errors"], spread=0.4)}
        from watcher.look import look

        found = look(made, source, wide, None, EXPOSED + 60 * MINUTE).verdict.streams[0]
        assert found.outcome is Outcome.INCONCLUSIVE
        assert found.needs.limit == "units"
        assert "needs more units" in found.reason


class TestSignatures:
    def source(self, minutes: int = 120) -> MemorySource:
        """Timeouts there always were; OutOfMemory only the treatment has, four a minute among 400."""
        rng = np.random.default_rng(5)
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)
        total, live = np.full((1, 2, ends.size), 2000.0), (ends > EXPOSED).astype(float)
        old = rng.poisson(100.0, total.shape).astype(float)
        new = rng.poisson(2.0, total.shape) * live
        names = ((), labels({"error_type": "OutOfMemory"}), labels({"error_type": "Timeout"}))
        baseline = Arm(("a", "b"), np.concatenate([old, 0 * old, old]), np.concatenate([total] * 3))
        fresh = rng.poisson(100.0, total.shape) * live
        treatment = Arm(("c", "d"), np.concatenate([fresh + new, new, fresh]), np.concatenate([total * live] * 3))
        return MemorySource({"errors": Observations(names, ends, treatment, baseline)})

    RULE = replace(ERRORS, signature="error_type", margin=0.5)

    def test_a_new_error_signature_is_found_where_the_total_hides_it(self):
        last = said(watch(self.RULE), self.source(), 31)
        by_name = {dict(v.labels).get("error_type"): v for v in last.verdict.streams}
        assert by_name["OutOfMemory"].outcome is Outcome.REGRESSED
        assert by_name[None].outcome is not Outcome.REGRESSED
        assert "Timeout" not in by_name
        assert last.verdict.outcome is Outcome.REGRESSED

    def test_a_signature_that_is_few_blocks_nothing(self):
        source = self.source()
        seen = source.observations["errors"]
        events = seen.treatment.events.copy()
        events[1] = 0.0
        events[1, 0, BEFORE + 5] = 1.0
        calm = replace(seen, treatment=replace(seen.treatment, events=events))
        calm.treatment.events[0] -= seen.treatment.events[1]
        last = said(watch(self.RULE), MemorySource({"errors": calm}), 61)
        assert last.verdict.outcome is Outcome.HEALTHY
        (new,) = [v for v in last.verdict.streams if v.labels]
        assert new.dormant
        assert "new since exposure" in new.reason


class TestSplit:
    def observed(self, share: float, minutes: int = 120) -> Observations:
        rng = np.random.default_rng(6)
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)
        users = rng.poisson(400, ends.size)
        on = rng.binomial(users, np.where(ends > EXPOSED, share, 0.0))
        return counts(ends, (users - on, users - on), (on, on))

    def made(self, share: float | None = 0.5, **changes: object):
        stages = (Stage(EXPOSED, share),)
        return replace(watch(split=Split(Selector("sessions_total")), **changes), release=release(stages=stages))

    def test_users_that_do_not_come_as_configured_make_the_comparison_invalid_for_good(self):
        source = MemorySource({"errors": ratio(), SPLIT: self.observed(0.42)})
        found = list(looks(self.made(), source, range(1, 61)))
        assert found[-1].verdict.outcome is Outcome.INVALID
        assert "not the 50 % configured" in found[-1].verdict.reason
        first = next(i for i, look in enumerate(found) if look.verdict.outcome is Outcome.INVALID)
        assert first < 30
        assert all(look.verdict.outcome is Outcome.INVALID for look in found[first:])

    def test_it_stays_so_and_stays_said_while_nothing_new_can_be_read(self):
        source = MemorySource({"errors": ratio(), SPLIT: self.observed(0.42)})
        made = self.made()
        *_, before = looks(made, source, range(1, 61))
        down = MemorySource(source.observations, down="connection refused")
        calibrations = prepare(made, read_history(made, source))
        for minute in (61, 70):
            blind = look(made, down, calibrations, before, EXPOSED + minute * MINUTE + made.settle)
            invalid = [verdict for verdict in blind.verdict.streams if verdict.outcome is Outcome.INVALID]
            assert [verdict.rule for verdict in invalid] == [SPLIT]
            assert blind.verdict.assumptions == before.verdict.assumptions

    def test_a_split_as_configured_is_said_and_changes_nothing(self):
        source = MemorySource({"errors": ratio(traffic=900), SPLIT: self.observed(0.5)})
        last = said(self.made(), source)
        assert last.verdict.outcome is Outcome.HEALTHY
        assert any("50 % is configured" in text for text in last.verdict.assumptions)

    def test_a_broken_split_does_not_mask_a_regression_but_kills_nothing(self):
        source = MemorySource({"errors": ratio(treated={0: 0.08}), SPLIT: self.observed(0.3)})
        last = said(self.made(), source, 40)
        assert last.verdict.outcome is Outcome.REGRESSED
        assert any(v.outcome is Outcome.INVALID for v in last.verdict.streams)

    def test_each_stage_is_held_against_its_own_share(self):
        seen = self.observed(0.5)
        late = seen.ends > EXPOSED + 60 * MINUTE
        small = self.observed(0.05)
        mixed = replace(seen, baseline=_after(late, seen, small, 1), treatment=_after(late, seen, small, 0))
        stages = (Stage(EXPOSED, 0.05), Stage(EXPOSED + 60 * MINUTE, 0.5))
        made = replace(self.made(), release=release(stages=stages))
        last = said(made, MemorySource({"errors": ratio(traffic=900), SPLIT: mixed}))
        assert last.verdict.outcome is not Outcome.INVALID

    def test_users_may_follow_a_changed_share_as_late_as_the_first_one(self):
        seen, few = self.observed(0.5), self.observed(0.05)
        # Whoever serves users asks for flags now and then: at 60 min the share is raised, and at 62 they all know.
        late = seen.ends > EXPOSED + 62 * MINUTE
        mixed = replace(seen, baseline=_after(late, seen, few, 1), treatment=_after(late, seen, few, 0))
        stages = (Stage(EXPOSED, 0.05), Stage(EXPOSED + 60 * MINUTE, 0.5))
        made = replace(self.made(warm_up=5 * MINUTE), release=release(stages=stages))
        last = said(made, MemorySource({"errors": ratio(traffic=900), SPLIT: mixed}))
        assert last.verdict.outcome is not Outcome.INVALID
        assert any("50 % is configured" in text for text in last.verdict.assumptions)
        hurried = said(replace(made, warm_up=0.0), MemorySource({"errors": ratio(traffic=900), SPLIT: mixed}))
        assert hurried.verdict.outcome is Outcome.INVALID

    def test_a_share_nobody_knows_is_not_checked_and_that_is_said(self):
        assert split_rule(self.made(share=None)) is None
        last = said(self.made(share=None), MemorySource({"errors": ratio()}), 20)
        assert any("the traffic split is not checked" in text for text in last.verdict.assumptions)

    def test_a_counter_that_counts_nobody_checks_nothing_and_that_is_said(self):
        nobody = replace(self.observed(0.5), baseline=_idle(self.observed(0.5)), treatment=_idle(self.observed(0.5)))
        last = said(self.made(), MemorySource({"errors": ratio(traffic=900), SPLIT: nobody}))
        assert last.verdict.outcome is Outcome.HEALTHY
        assert "the traffic split is not checked: sessions_total counted nobody in either arm" in (
            last.verdict.assumptions
        )


def _after(late: np.ndarray, seen: Observations, before: Observations, side: int) -> Arm:
    """Return an arm that is that of `seen` late, and that of `before` until then."""
    cells = zip(_cells(seen, side), _cells(before, side), strict=True)
    return Arm(("",), *(np.where(late, after, early) for after, early in cells))


def _idle(seen: Observations) -> Arm:
    return Arm(("",), *(np.zeros_like(each) for each in _cells(seen)))


def _cells(seen: Observations, side: int = 0):
    arm = seen.treatment if side == 0 else seen.baseline
    assert arm is not None
    return arm.events, arm.total


class TestLatency:
    def observed(
        self, slower: float, edges: tuple[float, ...] = EDGES, minutes: int = 120, seed: int = 7
    ) -> Observations:
        rng = np.random.default_rng(seed)
        ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)

        def arm(pace: float, live: np.ndarray, units: tuple[str, ...]) -> Arm:
            from scipy.special import ndtr

            p = np.diff(ndtr((np.log(edges) - np.log(0.2 * pace)) / 0.6), prepend=0.0)
            buckets = rng.multinomial(200, p, (1, len(units), ends.size)) * live[:, None]
            over = buckets[..., edges.index(1.0) + 1 :].sum(axis=3)
            return Arm(units, over.astype(float), buckets.sum(axis=3).astype(float), buckets.astype(float))

        always, since = np.ones(ends.size), (ends > EXPOSED).astype(float)
        return Observations(((),), ends, arm(slower, since, ("c", "d")), arm(1.0, always, ("a", "b")), edges=edges)

    def test_all_requests_slower_is_found_although_the_objective_is_hardly_touched(self):
        last = said(watch(LOAD), MemorySource({"load": self.observed(1.25)}), 31)
        (verdict,) = last.verdict.streams
        assert verdict.outcome is Outcome.REGRESSED
        assert {each.level for each in verdict.quantiles} >= {0.5, 0.95}
        assert "p95" in verdict.reason

    def test_coarse_buckets_leave_the_margin_on_the_objective_and_fine_ones_decide_it_on_the_latency(self):
        made = watch(LOAD)
        coarse = said(made, MemorySource({"load": self.observed(1.0)})).verdict.streams[0]
        assert coarse.outcome is Outcome.INCONCLUSIVE
        assert coarse.effect.of == ""
        learnt = prepare(made, read_history(made, MemorySource({"load": self.observed(1.0)})))["load"]
        assert "the margin is on the share of requests over 1 s" in learnt.notes[-1]
        assert "requests over 1 s" in coarse.reason
        fine = (*np.geomspace(0.02, 1.0, 45).tolist(), 1.1, 1.3, float("inf"))
        decided = said(made, MemorySource({"load": self.observed(1.0, fine)})).verdict.streams[0]
        assert decided.outcome is Outcome.HEALTHY
        assert decided.effect.of == "typical latency"
        assert "10 % slower" in decided.reason

    def test_an_objective_that_nothing_exceeds_in_coarse_buckets_is_said_to_decide_nothing(self):
        made = watch(replace(LOAD, objective=2.0))
        calm = self.observed(1.0)
        calm.baseline.buckets[..., -1] = 0.0
        learnt = prepare(made, read_history(made, MemorySource({"load": calm})))["load"]
        assert "nothing can prove it healthy; lower `objective`" in learnt.notes[-1]

    def test_bucket_edges_that_changed_since_calibration_are_an_invalid_comparison(self):
        made = watch(LOAD)
        source = MemorySource({"load": self.observed(1.0)})
        learnt = prepare(made, read_history(made, source))
        from watcher.look import look

        other = MemorySource({"load": self.observed(1.0, (0.07, 0.3, 1.0, float("inf")))})
        found = look(made, other, learnt, None, EXPOSED + 10 * MINUTE)
        assert found.verdict.outcome is Outcome.INVALID
        assert "bucket edges differ" in found.verdict.reason

    def test_finer_buckets_than_calibrated_are_put_together(self):
        made = watch(LOAD)
        source = MemorySource({"load": self.observed(1.0)})
        learnt = prepare(made, read_history(made, source))
        from watcher.look import look

        finer = MemorySource({"load": self.observed(1.0, tuple(sorted({*EDGES, 0.3, 0.15})))})
        assert look(made, finer, learnt, None, EXPOSED + 10 * MINUTE).verdict.outcome is not Outcome.INVALID

    def test_the_state_of_a_latency_survives_json(self):
        last = said(watch(LOAD), MemorySource({"load": self.observed(1.0)}), 10)
        state = EvidenceState.from_json(last.states["load"])
        assert state.to_json() == EvidenceState.from_json(state.to_json()).to_json()
        laid = Methods(watch(LOAD), LOAD, prepare(watch(LOAD), {"load": self.observed(1.0)})["load"])
        assert isinstance(laid.laid_out("buckets", ((),)), Buckets)


def test_cold_caches_right_after_exposure_are_no_regression_under_the_default_warm_up():
    """Errors four times as many for three minutes, then as ever."""
    alarms = 0
    for seed in range(40):
        source = MemorySource({"errors": ratio(treated={0: 0.04, 3: 0.01}, seed=seed)})
        made = watch(warm_up=300.0)
        (last,) = looks(made, source, range(120, 121))
        alarms += last.verdict.outcome is Outcome.REGRESSED
    assert alarms <= 2


def test_the_opposite_absence_is_alarmed_too():
    seen = ratio()
    silent = seen.baseline.total.copy()
    silent[:, :, BEFORE + 20 :] = 0
    gone = replace(seen, baseline=replace(seen.baseline, total=silent, events=np.minimum(seen.baseline.events, silent)))
    last = said(watch(), MemorySource({"errors": gone}), 40)
    assert last.verdict.outcome is Outcome.NO_DATA
    assert last.verdict.alarms == ("absent_baseline",)

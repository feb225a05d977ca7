"""What is learnt before exposure, and what is said when nothing could be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtr

from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, ratio, watch
from watcher.calibration import calibrate, residuals, series
from watcher.model import Arm, Calibration, Design, Kind, Observations, Rule, Selector, Watch, Worse
from watcher.testing import counts

LOAD = Rule("load", Kind.GAUGE, Selector("load"), margin=0.1)


def watched(rule: Rule, design: Design = Design.CONCURRENT, **changes: Any) -> Watch:
    arms = {} if design is Design.CONCURRENT else {"baseline": None, "treatment": None}
    return watch(rule, **{"horizon": 2 * 3600.0, **arms, **changes})


def learn(rule: Rule, history: Observations, design: Design = Design.CONCURRENT, **changes: Any) -> Calibration:
    return calibrate(rule, watched(rule, design, **changes), history, "history", np.random.default_rng(1))


def before(seen: Observations) -> Observations:
    return seen.between(EXPOSED - BEFORE * MINUTE, EXPOSED)


def test_the_dispersion_of_clustered_errors_is_learnt_from_units():
    rng = np.random.default_rng(1)
    ends, total = EXPOSED - MINUTE * np.arange(600, 0, -1), np.full((4, 600), 200.0)
    history = counts(ends, (3 * rng.poisson(0.7, total.shape), total), (0 * total, 0 * total))
    learnt = learn(ERRORS, history)
    assert not learnt.assumed
    assert 2.7 < learnt.dispersion < 5


@pytest.mark.parametrize(("units", "minutes", "why"), [(1, 240, "fewer than two units"), (3, 10, "too short")])
def test_what_could_not_be_learnt_is_assumed_and_said(units, minutes, why):
    history = before(ratio(units=units)).between(EXPOSED - minutes * MINUTE, EXPOSED)
    learnt = learn(ERRORS, history)
    assert (learnt.assumed, learnt.dispersion, learnt.came_from) == (True, 1.0, "assumed")
    assert why in learnt.notes[0]


def test_one_unit_whose_errors_plainly_come_in_bursts_is_tempered_by_them_and_still_not_known():
    rng = np.random.default_rng(2)
    ends, total = EXPOSED - MINUTE * np.arange(600, 0, -1), np.full((1, 600), 200.0)
    history = counts(ends, (4 * rng.poisson(0.5, total.shape), total), (0 * total, 0 * total))
    learnt = learn(ERRORS, history)
    assert learnt.assumed
    assert 3 < learnt.dispersion < 8
    assert "units taken to be alike" in learnt.notes[0]


def test_an_absolute_margin_stays_so_for_a_ratio_in_two_arms_and_else_becomes_relative_and_says_so():
    rule, seen = replace(ERRORS, margin=0.005, absolute=True), before(ratio(rate=0.02, alone=True))
    assert learn(rule, before(ratio(rate=0.02))).margin == 0.005
    learnt = learn(rule, seen, Design.BEFORE_AFTER)
    assert learnt.margin == pytest.approx(0.25, rel=0.1)
    assert "0.5 pp" in learnt.notes[0]


def test_what_is_usual_of_every_stream_is_kept():
    learnt = learn(ERRORS, before(ratio(rate=0.02)))
    assert learnt.rate[0] == pytest.approx(0.02, rel=0.1)
    assert learnt.units == 3


def test_a_latency_learns_its_shape_and_how_units_differ_in_pace():
    rng = np.random.default_rng(3)
    edges = (0.1, 0.2, 0.4, 0.8, np.inf)
    paces = np.exp([-0.2, 0.0, 0.2])
    shares = np.diff(ndtr((np.log(edges) - np.log(0.2 * paces[:, None])) / 0.6), prepend=0.0)
    buckets = rng.multinomial(300, shares[:, None], (3, 600)).astype(float)[None]
    total = buckets.sum(axis=3)
    arm = Arm(("a", "b", "c"), buckets[..., 3:].sum(axis=3), total, buckets)
    silent = Arm(("a",), 0 * total[:, :1], 0 * total[:, :1], 0 * buckets[:, :1])
    ends = EXPOSED - MINUTE * np.arange(600, 0, -1)
    rule = Rule("load", Kind.LATENCY, Selector("load"), objective=0.4, margin=0.1)
    learnt = learn(rule, Observations(((),), ends, silent, arm, edges=edges))
    assert learnt.edges == edges
    assert learnt.shape[0] == pytest.approx(buckets.sum(axis=(0, 1, 2)))
    assert learnt.pace == pytest.approx(0.2, rel=0.25)
    assert len(learnt.spreads) == 4
    assert learnt.spreads[2] > 0.3
    assert learnt.dispersion < 2


def daily(days: int, seed: int = 1, amplitude: float = 0.3, noise: float = 0.02) -> Observations:
    rng = np.random.default_rng(seed)
    ends = EXPOSED - days * 86_400 + 600.0 * np.arange(1, (days + 1) * 144 + 1)
    rhythm = amplitude * np.sin(2 * np.pi * ends / 86_400)
    return counts(ends, None, (np.exp(rhythm + rng.normal(0, noise, ends.size)), np.ones(ends.size)))


def learn_daily(days: int) -> tuple[Calibration, Observations]:
    """Learn from so many days; return what was learnt, and the day after."""
    seen = daily(days)
    learnt = learn(LOAD, seen.between(0, EXPOSED), Design.BEFORE_AFTER, block=600.0, horizon=86_400.0)
    return learnt, seen.between(EXPOSED, np.inf)


@pytest.mark.parametrize(("days", "most"), [(2, 0.06), (3, 0.04), (5, 0.04)])
def test_two_days_of_history_show_the_daily_season_and_the_next_day_has_none_left(days: int, most: float):
    learnt, after = learn_daily(days)
    left, noise = residuals(LOAD, after, learnt, 600.0)
    assert series(LOAD, after, learnt).std() > 0.2
    assert np.abs(left.mean()) < 0.01
    assert left.std() < most
    assert noise == pytest.approx(left.std(), rel=0.5)
    assert f"held against the same minutes of {days} days" in learnt.notes[0]


def test_one_day_is_too_short_for_a_season():
    learnt, after = learn_daily(1)
    assert residuals(LOAD, after, learnt, 600.0)[0].std() > 0.2
    assert learnt.notes == (
        "no daily season is known: 24 h of history vouch for as long after exposure, and no longer",
    )


def test_what_lies_beyond_the_horizon_is_a_gap():
    seen = daily(3)
    learnt = learn(LOAD, seen.between(0, EXPOSED), Design.BEFORE_AFTER, block=600.0, horizon=3600.0)
    left, _ = residuals(LOAD, seen.between(EXPOSED - 1200, np.inf), learnt, 600.0)
    assert np.isfinite(left[0]).tolist() == [False] * 2 + [True] * 6 + [False] * (144 - 6)


def test_what_was_released_or_went_wrong_before_is_neither_usual_nor_a_placebo():
    """An outage of an hour that doubles a gauge, excluded: as if it had been a gap; and no placebo begins near it."""
    seen = daily(4)
    wrong = (EXPOSED - 86_400.0, EXPOSED - 86_400.0 + 3600)
    out = (seen.ends > wrong[0]) & (seen.ends <= wrong[1])
    doubled = replace(seen, treatment=replace(seen.treatment, events=seen.treatment.events * np.where(out, 2, 1)))
    settings = {"block": 600.0, "horizon": 7200.0}
    clean, excluded, ignored = (
        learn(LOAD, given.between(0, EXPOSED), Design.BEFORE_AFTER, excluded=stretches, **settings)
        for given, stretches in ((seen, (wrong,)), (doubled, (wrong,)), (doubled, ()))
    )
    assert excluded.digest == clean.digest != ignored.digest
    assert excluded.reached is not None
    assert ignored.reached is not None
    # Its own hours, the two a placebo lasts, and the three before it.
    assert ignored.reached.shape[1] - excluded.reached.shape[1] == (1 + 2 + 3) * 2 - 1


def unmeasured(seen: Observations, start: float, end: float) -> Observations:
    """Return the same with nothing measured in some stretch before exposure, seconds."""
    out = (seen.ends > EXPOSED - start) & (seen.ends <= EXPOSED - end)
    arm = seen.treatment
    gap = replace(arm, events=np.where(out, 0.0, arm.events), total=np.where(out, 0.0, arm.total))
    return replace(seen, treatment=gap)


def test_a_young_service_has_no_longer_a_past_than_was_measured_however_long_a_one_was_asked_for():
    whole = daily(6).between(0, EXPOSED)
    asked, known = (
        learn(LOAD, given, Design.BEFORE_AFTER, block=600.0, horizon=7200.0)
        for given in (unmeasured(whole, 6 * 86_400, 86_400), whole.between(EXPOSED - 86_400, EXPOSED))
    )
    assert asked.digest == known.digest
    assert asked.notes[0].startswith("no daily season is known: 24 h of history")


def test_placebos_of_which_nothing_was_measured_are_not_counted():
    """Two hours each, from three hours on: 70 in six days; where four lie idle, 11 on the first and 12 on the last."""
    whole = daily(6).between(0, EXPOSED)
    full, idle = (
        learn(LOAD, given, Design.BEFORE_AFTER, block=600.0, horizon=7200.0).apart
        for given in (whole, unmeasured(whole, 5 * 86_400, 86_400))
    )
    assert full == 70
    assert 20 <= idle <= 23


@pytest.mark.parametrize(("minutes", "judged"), [(19, False), (20, True)])
def test_a_series_needs_twenty_blocks(minutes: int, judged: bool):
    seen = before(ratio(alone=True)).between(EXPOSED - minutes * MINUTE, EXPOSED)
    learnt = learn(ERRORS, seen, Design.BEFORE_AFTER)
    assert (learnt.memory is not None) == judged
    assert any("too few to judge a series" in note for note in learnt.notes) == (not judged)


def test_a_series_without_any_history_cannot_be_judged_and_says_so():
    seen = before(ratio(alone=True))
    for history in (seen.picked([]), replace(seen, treatment=replace(seen.treatment, total=0 * seen.treatment.total))):
        for rule in (ERRORS, LOAD):
            learnt = learn(rule, history, Design.BEFORE_AFTER)
            assert learnt.memory is None
            assert learnt.notes[-1] == "0 blocks of history are too few to judge a series (at least 20)"


def test_a_control_read_beyond_exposure_tells_the_noise_of_both_arms_and_the_watch_begins_with_exposure():
    seen = daily(1)
    learnt = learn(LOAD, replace(seen, baseline=seen.treatment, treatment=silent(seen)), block=600.0)
    assert learnt.usual_from == EXPOSED + 600.0
    assert learnt.usual is not None
    assert learnt.usual.shape == (1, 12)
    assert not learnt.usual.any()


def silent(seen: Observations) -> Arm:
    return replace(seen.treatment, events=0 * seen.treatment.events, total=0 * seen.treatment.total)


@pytest.mark.parametrize("dispersed", [1.0, 4.0])
def test_counts_vary_by_what_their_number_implies_and_by_what_they_vary_beyond_it(dispersed: float):
    """Traffic of a day between 50 and 1000 requests a minute, a share of 10 %: the noise of every block within 15 %."""
    rng, size = np.random.default_rng(9), 3 * 1440
    ends = EXPOSED + MINUTE * np.arange(1 - size, 121)
    total = np.rint(525 + 475 * np.sin(2 * np.pi * ends / 86_400))
    events = dispersed * rng.binomial((total / dispersed).astype(int), 0.1)
    seen = counts(ends, None, (events, total))
    learnt = learn(ERRORS, seen.between(0, EXPOSED), Design.BEFORE_AFTER)
    _, noise = residuals(ERRORS, seen.between(EXPOSED, np.inf), learnt, MINUTE)
    expected = np.sqrt(dispersed * 0.9 / (0.1 * total[size:]))
    assert noise[0] == pytest.approx(expected, rel=0.15)


def test_a_gauge_across_units_is_put_together_as_the_rule_says_and_gaps_stay_gaps():
    values = np.array([[[1.0, 2.0, np.nan], [3.0, np.nan, np.nan], [8.0, 4.0, np.nan]]])
    seen = Observations(((),), np.arange(1.0, 4.0), Arm(("a", "b", "c"), values, np.isfinite(values).astype(float)))
    plain = Calibration(logarithmic=False)
    for across, expected in {"median": [3, 3], "mean": [4, 3], "max": [8, 4], "min": [1, 2], "sum": [12, 6]}.items():
        found = series(replace(LOAD, across=across), seen, plain)[0]
        assert found[:2].tolist() == expected
        assert np.isnan(found[2])


def test_a_calibration_survives_its_journey_through_json():
    import json

    learnt, _ = learn_daily(4)
    back = Calibration.from_json(json.loads(json.dumps(learnt.to_json())))
    assert back.digest == learnt.digest
    assert back.memory is not None
    assert np.array_equal(back.memory, learnt.memory)
    assert np.array_equal(back.reached, learnt.reached)
    assert back.streams == learnt.streams


def test_counts_that_never_failed_have_a_scale_to_be_held_against():
    seen = before(ratio(rate=0.0, alone=True))
    learnt = learn(replace(ERRORS, worse=Worse.HIGHER), seen, Design.BEFORE_AFTER)
    assert learnt.scale is not None
    assert learnt.scale[0] > 0


def test_what_was_never_measured_has_room_for_no_placebo():
    """A history that is asked for four times as long as there is data: only where there is can be a placebo."""
    seen = daily(4)
    short = seen.between(0, EXPOSED)
    missing = np.full((1, 1, 12 * 144), np.nan)
    ends = np.concatenate([short.ends[0] - 600.0 * np.arange(12 * 144, 0, -1), short.ends])
    arm = short.treatment
    longer = replace(
        short,
        ends=ends,
        treatment=replace(
            arm,
            events=np.concatenate([missing, arm.events], axis=-1),
            total=np.concatenate([np.zeros_like(missing), arm.total], axis=-1),
        ),
    )
    settings = {"block": 600.0, "horizon": 7200.0}
    known, asked = (learn(LOAD, each, Design.BEFORE_AFTER, **settings) for each in (short, longer))
    assert abs(known.apart - asked.apart) <= 2  # those at the edge

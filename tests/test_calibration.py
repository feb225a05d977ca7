"""What is learnt before exposure, and what is said when nothing could be."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, ratio
from watcher.calibration import calibrate, residuals, series
from watcher.model import Arm, Calibration, Design, Kind, Observations, Rule, Selector, Worse
from watcher.testing import counts

LOAD = Rule("load", Kind.GAUGE, Selector("load"), margin=0.1)


def learn(rule: Rule, history: Observations, design: Design = Design.CONCURRENT, block: float = MINUTE) -> Calibration:
    return calibrate(rule, design, history, "history", np.random.default_rng(1), block)


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
    ends = EXPOSED - EXPOSED % 86_400 + 600.0 * np.arange(1, days * 144 + 1)
    rhythm = amplitude * np.sin(2 * np.pi * ends / 86_400)
    return counts(ends, None, (np.exp(rhythm + rng.normal(0, noise, ends.size)), np.ones(ends.size)))


def test_three_days_of_history_show_the_daily_season_and_the_next_day_has_none_left():
    seen = daily(5)
    cut = seen.ends[3 * 144 - 1]
    learnt = learn(LOAD, seen.between(0, cut), Design.BEFORE_AFTER, block=600.0)
    left = residuals(LOAD, seen.between(cut, seen.ends[-1]), learnt, 600.0)
    assert learnt.season is not None
    assert np.abs(left.mean()) < 0.02
    assert left.std() < 0.1
    assert series(LOAD, seen, learnt).std() > 0.2


def test_two_days_are_too_few_for_a_season():
    assert learn(LOAD, daily(2), Design.BEFORE_AFTER, block=600.0).season is None


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

    learnt = learn(LOAD, daily(4), Design.BEFORE_AFTER, block=600.0)
    back = Calibration.from_json(json.loads(json.dumps(learnt.to_json())))
    assert back.digest == learnt.digest
    assert np.array_equal(back.ar, learnt.ar)
    assert back.streams == learnt.streams


def test_counts_that_never_failed_have_a_scale_to_be_held_against():
    seen = before(ratio(rate=0.0, alone=True))
    learnt = learn(replace(ERRORS, worse=Worse.HIGHER), seen, Design.BEFORE_AFTER)
    assert learnt.scale is not None
    assert learnt.scale[0] > 0

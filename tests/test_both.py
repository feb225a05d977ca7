"""A gauge in two arms that both have a past: held against the control as far as that has been worth it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.seasons import DAY, MONDAY, as_gauge, remembered, watch_of
from watcher.calibration import calibrate
from watcher.comparison import fold
from watcher.look import look, prepare
from watcher.model import Calibration, Floats, Kind, Observations, Outcome, Rule, Selector, Watch, labels
from watcher.testing import MemorySource

LOAD = Rule("load", Kind.GAUGE, Selector("load"), margin=0.05)
EXPOSED, MINUTES, AFTER, STREAMS = MONDAY + 4 * DAY + 10 * 3600, 4 * 1440, 120, 40
BOTH = {"baseline": labels({"arm": "a"}), "treatment": labels({"arm": "b"})}


def arms(shared: float, times: float = 1.0, incident: float = 0.0) -> tuple[Observations, Observations]:
    """Return history and what follows: `shared` is the part of the variance of either arm that is common to both."""
    rng, size = np.random.default_rng(3), (STREAMS, MINUTES + AFTER)
    ends = EXPOSED - 60 * MINUTES + 60 * np.arange(1, size[1] + 1)
    common, *own = (remembered(rng, 20, 0.05, size) for _ in range(3))
    daily = 0.3 * np.sin(2 * np.pi * ends / DAY)

    def arm(noise: Floats) -> Floats:
        return np.exp(daily + np.sqrt(shared) * common + np.sqrt(1 - shared) * noise)

    control, treated = map(arm, own)
    control[:, MINUTES:] *= 1 + incident
    treated[:, MINUTES:] *= (1 + incident) * times
    whole = replace(as_gauge(treated, ends), baseline=as_gauge(control, ends).treatment)
    return whole.between(0, EXPOSED), whole.between(EXPOSED, ends[-1])


def watch() -> Watch:
    return watch_of(LOAD, EXPOSED, 2, 4, **BOTH)


def learnt(shared: float) -> Calibration:
    return calibrate(LOAD, watch(), arms(shared)[0], "history", np.random.default_rng(1))


@pytest.mark.parametrize(("shared", "beta"), [(0.0, 0.0), (0.5, 0.5), (0.95, 0.95)])
def test_the_control_counts_as_much_as_it_has_in_common_with_the_treatment(shared: float, beta: float) -> None:
    found = learnt(shared).beta
    assert found is not None
    assert np.median(found) == pytest.approx(beta, abs=0.07)
    assert ((found >= 0) & (found <= 1)).all()


def test_what_is_learnt_leaves_less_noise_than_either_comparison_alone() -> None:
    for shared in (0.1, 0.5, 0.9):
        unit = np.median(learnt(shared).unit)
        # Against its past the noise of one arm is left, against the control what the two do not share; a season
        # of a few days adds some of its own.
        assert unit < 1.25 * 0.05 * min(1.0, np.sqrt(2 * (1 - shared)))


@pytest.mark.parametrize("incident", [0.0, 0.5])
def test_what_strikes_both_arms_is_no_harm_where_they_move_alike(incident: float) -> None:
    history, after = arms(0.95, incident=incident)
    _, evidence = fold(watch(), LOAD, after, calibrate(LOAD, watch(), history, "h", np.random.default_rng(1)), None)
    alarm = (evidence.track.regressed >= np.log(100)) & (evidence.track.harm > evidence.margin)
    assert alarm.any(axis=1).mean() <= 0.05


def test_what_strikes_the_treatment_alone_is_found_within_minutes() -> None:
    history, after = arms(0.95, times=1.15)
    _, evidence = fold(watch(), LOAD, after, calibrate(LOAD, watch(), history, "h", np.random.default_rng(1)), None)
    alarm = (evidence.track.regressed >= np.log(100)) & (evidence.track.harm > evidence.margin)
    assert alarm.any(axis=1).mean() >= 0.95
    assert np.median(alarm.argmax(axis=1)) <= 10


def test_hours_before_exposure_that_were_not_usual_are_no_baseline() -> None:
    history, after = (each.only(each.streams[0]) for each in arms(0.0))
    alone = watch_of(LOAD, EXPOSED, 2, 4)
    history, after = replace(history, baseline=None), replace(after, baseline=None)
    spoilt = history.treatment.events.copy()
    spoilt[:, :, -90:] *= 3
    spoilt = replace(history, treatment=replace(history.treatment, events=spoilt))
    outcomes = []
    for each in (history, spoilt):
        calibrations = prepare(alone, {"load": each})
        seen = look(alone, MemorySource({"load": after}), calibrations, None, EXPOSED + 3600)
        outcomes.append((seen.verdict.outcome, "not usual themselves" in seen.verdict.reason))
    assert outcomes[0][0] is not Outcome.INVALID
    assert outcomes[1] == (Outcome.INVALID, True)

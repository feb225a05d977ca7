"""Promises of a release without a control on services with days and weeks (tests/seasons.py); all seeded.

The bounds are of 60 releases each. Of a true rate of 5 % more than a tenth of them alarm one time in fifteen, so that
seeds are given; of .98 less than .95 are found one time in thirty.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from tests.seasons import DAY, GAUGE, MINUTE, MONDAY, Judged, as_gauge, gauge, judged, watch_of
from watcher.comparison import EvidenceState, fold
from watcher.evidence.innovations import InnovationState
from watcher.look import look, prepare, read_history
from watcher.model import Calibration, Floats, Look, Observations, Outcome, Rule, Watch, Worse
from watcher.testing import MemorySource

RUNS, HOURS = 60, 2.0
EXPOSED = MONDAY + 28 * DAY + 13 * 3600
"""A Monday at one in the afternoon."""

Change = Callable[[Floats], Floats]
"""Log ratio by minutes since exposure."""

NOTHING: Change = lambda since: 0 * since  # noqa: E731
TENTH_MORE: Change = lambda since: np.full_like(since, np.log(1.1))  # noqa: E731


def service(days: float, streams: int, change: Change, seed: int, hours: float = HOURS) -> Observations:
    """Return a gauge from so many days before exposure on."""
    ends = EXPOSED + MINUTE * np.arange(1 - round(1440 * days), round(60 * hours) + 1)
    values, since = gauge(np.random.default_rng(seed), ends, streams), (ends - EXPOSED) / MINUTE
    return as_gauge(values * np.exp(np.where(since > 0, change(since), 0.0)), ends)


def releases(days: float, *changes: Change, rule: Rule = GAUGE, seed: int = 1) -> list[Judged]:
    """Judge the same releases with each of these changes."""
    seen = [service(days, RUNS, change, seed) for change in changes]
    after = [each.between(EXPOSED, np.inf) for each in seen]
    return judged(watch_of(rule, EXPOSED, HOURS, days), seen[0].between(0, EXPOSED), after[0], *after[1:])


# --- what is found, and how often in vain ----------------------------------------------------------------------------


@pytest.mark.parametrize("days", [7, 28])
def test_a_tenth_more_is_found_within_minutes_and_nothing_is_rarely_taken_for_something(days: int) -> None:
    """Alpha 5 %: .95 of 60 found, half of them within six minutes; a tenth of 60 alarm in vain at most."""
    same, more = releases(days, NOTHING, TENTH_MORE)
    assert same.rate <= 0.1
    assert more.rate >= 0.95
    assert more.median <= 6


def test_a_spike_of_three_minutes_is_found_while_it_lasts() -> None:
    """Half as much again, half an hour after exposure: .95 of 60, half of them by its last minute."""
    spike, lower = releases(
        28, lambda since: np.log(1.5) * ((since > 30) & (since <= 33)), lambda since: -np.log(1.5) * (since > 30)
    )
    assert spike.rate >= 0.95
    assert 30 < spike.median <= 33
    assert lower.rate <= 0.1


def test_a_slow_rise_is_found_before_it_is_over() -> None:
    """To a fifth more over two hours: .8 of 60, half of them at less than a seventh."""
    (rise,) = releases(28, lambda since: np.log(1.2) * since / 120)
    assert rise.rate >= 0.8
    assert rise.median <= 90


def test_where_either_is_worse_a_rise_and_a_fall_are_found_and_nothing_is_rarely() -> None:
    """A tenth either way: .9 of 60, half of them within six minutes."""
    either = replace(GAUGE, worse=Worse.EITHER)
    same, more, less = releases(28, NOTHING, TENTH_MORE, lambda since: -TENTH_MORE(since), rule=either)
    assert same.rate <= 0.1
    for found in (more, less):
        assert found.rate >= 0.9
        assert found.median <= 6


def test_a_fall_is_found_where_less_is_worse_and_no_rise() -> None:
    lower = replace(GAUGE, worse=Worse.LOWER)
    less, more = releases(7, lambda since: -TENTH_MORE(since), TENTH_MORE, rule=lower)
    assert less.rate >= 0.9
    assert more.rate <= 0.1


def test_local_days_are_followed_through_a_change_of_the_clock() -> None:
    """Berlin, a quarter past seven, two days after the clocks went forward: an hour off is most of a steep morning."""
    exposed = dt.datetime(2026, 3, 31, 7, 15, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    ends = exposed + MINUTE * np.arange(1 - 10 * 1440, 121)
    values = gauge(np.random.default_rng(2), ends, RUNS, "Europe/Berlin")
    seen = as_gauge(values, ends)
    history, after = seen.between(0, exposed), seen.between(exposed, np.inf)
    local, abroad = (
        judged(watch_of(GAUGE, exposed, HOURS, 10, zone=zone), history, after)[0] for zone in ("Europe/Berlin", "UTC")
    )
    assert local.rate <= 0.1
    assert abroad.rate >= 0.5


# --- short histories -------------------------------------------------------------------------------------------------


def last_look(days: float, change: Change, seed: int = 3) -> Look:
    """Judge one release as a daemon would, at the end of its horizon."""
    made = watch_of(GAUGE, EXPOSED, HOURS, days, settle=0.0)
    source = MemorySource({GAUGE.name: service(days, 1, change, seed)})
    return look(made, source, prepare(made, read_history(made, source)), None, EXPOSED + HOURS * 3600)


@pytest.mark.parametrize(("hours", "known"), [(24, "24 h"), (2, "2 h")])
def test_a_short_history_finds_what_is_large_and_says_how_little_it_knows(hours: int, known: str) -> None:
    found = last_look(hours / 24, lambda since: np.full_like(since, np.log(2.0)))
    assert found.verdict.outcome is Outcome.REGRESSED
    said = "; ".join(found.verdict.assumptions)
    assert f"no daily season is known: {known} of history" in said
    assert ("there is no room for placebos" if hours == 2 else "too few for alpha 5 %") in said
    assert "the noise model alone decides" in said
    assert all(stream.assumed for stream in found.verdict.streams)


@pytest.mark.parametrize(("days", "weekdays"), [(3, "not told apart"), (28, "told apart")])
def test_a_longer_history_says_what_it_is_held_against(days: int, weekdays: str) -> None:
    said = "; ".join(last_look(days, NOTHING).verdict.assumptions)
    assert f"held against the same minutes of {days} days, weekdays {weekdays}" in said
    assert "placebos" in said


def test_without_a_history_a_release_cannot_be_judged_and_says_so() -> None:
    for minutes in (0, 10):
        found = last_look(minutes / 1440, TENTH_MORE)
        (stream,) = found.verdict.streams
        assert found.verdict.outcome is Outcome.INCONCLUSIVE
        assert f"{minutes} blocks of history are too few to judge a series" in stream.reason
        assert stream.effect.estimate is None


# --- state -----------------------------------------------------------------------------------------------------------


def prepared(change: Change) -> tuple[Watch, Calibration, Observations]:
    """Return a release of three streams, what was learnt of it, and the blocks after exposure, with a gap."""
    made = watch_of(GAUGE, EXPOSED, HOURS, 7, warm_up=300.0)
    seen = service(7, 3, change, seed=4)
    learnt = prepare(made, {GAUGE.name: seen.between(0, EXPOSED)})[GAUGE.name]
    assert learnt.bar is not None
    after = seen.between(EXPOSED, np.inf)
    arm = after.treatment
    gap = np.zeros(arm.total.shape, dtype=bool)
    gap[1, :, 50:60] = True
    return made, learnt, replace(after, treatment=replace(arm, total=np.where(gap, 0.0, arm.total)))


def test_looking_every_now_and_then_says_what_one_look_at_the_end_says() -> None:
    made, learnt, after = prepared(TENTH_MORE)
    learnt = Calibration.from_json(json.loads(json.dumps(learnt.to_json())))
    whole, at_once = fold(made, GAUGE, after, learnt, None)
    state, pieces, low = None, [], 0
    for high in (1, 4, 5, 40, 55, 56, 110, 120):
        state, part = fold(made, GAUGE, after.picked(slice(low, high)), learnt, state)
        state, low = EvidenceState.from_json(json.loads(json.dumps(state.to_json()))), high
        pieces.append(part)
    for name in ("regressed", "healthy", "harm", "onset"):
        piecewise = np.concatenate([getattr(each.track, name) for each in pieces], axis=1)
        assert piecewise == pytest.approx(getattr(at_once.track, name), nan_ok=True)
    assert at_once.snapshot is not None
    assert pieces[-1].snapshot is not None
    for name in ("estimate", "lower", "upper", "harm", "log_regressed", "log_healthy"):
        assert getattr(pieces[-1].snapshot, name) == pytest.approx(getattr(at_once.snapshot, name))
    assert state is not None
    for ours, theirs in zip(state.parts, whole.parts, strict=True):
        assert ours.method == theirs.method
        for name in ("means", "sums", "level") if isinstance(theirs.state, InnovationState) else ("capital", "since"):
            assert getattr(ours.state, name) == pytest.approx(getattr(theirs.state, name))


def test_a_gap_is_no_evidence() -> None:
    """While nothing is measured no evidence moves; and a release of which nothing is measured is not judged by it."""
    made, learnt, after = prepared(TENTH_MORE)
    _, found = fold(made, GAUGE, after, learnt, None)
    # The warm-up of five blocks is not in the track.
    for evidence in (found.track.regressed, found.track.healthy, found.track.harm):
        gap = evidence[1, 44:55]
        assert gap == pytest.approx(np.full(11, gap[0]))
        assert np.ptp(evidence[0, 44:55]) > 0
    nothing = replace(after, treatment=replace(after.treatment, total=0 * after.treatment.total))
    _, none = fold(made, GAUGE, nothing, learnt, None)
    assert (none.track.regressed <= 0).all()
    assert (none.track.healthy <= 0).all()
    assert np.isneginf(none.track.harm).all()


def test_the_warm_up_is_remembered_and_not_judged() -> None:
    """Harm that is over before users count raises no alarm, and a level that stays is found afterwards."""
    made, learnt, after = prepared(NOTHING)
    cold = np.where((after.ends - EXPOSED) / MINUTE <= 5, 1.5, 1.0)
    warmed = replace(after, treatment=replace(after.treatment, events=after.treatment.events * cold))
    (_, plain), (_, spared) = (fold(made, GAUGE, each, learnt, None) for each in (after, warmed))
    assert plain.track.regressed.shape == (3, 115)
    assert learnt.bar is not None
    assert (spared.track.regressed.max(axis=1) < learnt.bar + np.log(3)).all()


def test_a_series_that_never_varied_and_jumps_is_regressed_and_by_how_much_is_told() -> None:
    ends = EXPOSED - 4 * DAY + MINUTE * np.arange(1, 4 * 1440 + 121)
    steady = as_gauge(np.where(ends > EXPOSED, 100.0, 5.0)[None], ends)
    made = watch_of(GAUGE, EXPOSED, 2, 4)
    learnt = prepare(made, {"load": steady.between(0, EXPOSED)})
    (stream,) = look(made, MemorySource({"load": steady}), learnt, None, EXPOSED + 1800).verdict.streams
    assert stream.outcome is Outcome.REGRESSED
    assert stream.effect.estimate == pytest.approx(20.0, rel=0.01)
    calm = as_gauge(np.full((1, ends.size), 5.0), ends)
    assert (
        look(made, MemorySource({"load": calm}), learnt, None, EXPOSED + 1800).verdict.outcome is not Outcome.REGRESSED
    )


def test_an_exposure_inside_a_block_loses_nothing_of_the_jump() -> None:
    """The block it falls into says nothing, and the next is held against the last one before."""
    rng = np.random.default_rng(5)
    ends = EXPOSED - 4 * DAY + MINUTE * np.arange(1, 4 * 1440 + 121)
    level = 5 * np.exp(rng.normal(0, 0.03, ends.size))
    found = []
    for late in (0.0, 20.0):
        since = EXPOSED + late
        shifted = as_gauge(np.where(ends - MINUTE >= since, 1.2 * level, level)[None], ends)
        made = watch_of(GAUGE, since, 2, 4)
        learnt = prepare(made, {"load": shifted.between(0, EXPOSED)})
        last = look(made, MemorySource({"load": shifted}), learnt, None, EXPOSED + 600)
        found.append(last.verdict.streams[0])
    assert [each.outcome for each in found] == [Outcome.REGRESSED] * 2
    assert found[1].effect.estimate == pytest.approx(found[0].effect.estimate, rel=0.03)
    assert found[1].log_e_regressed == pytest.approx(found[0].log_e_regressed, rel=0.3)

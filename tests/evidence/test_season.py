"""What is usual when: held against the obvious twin, through daylight saving, holidays and half days; all seeded."""

from __future__ import annotations

import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from watcher.evidence.season import (
    DAY,
    PRIOR,
    WEEKLY,
    Calendar,
    _smoothed,
    _without_own_day,
    usual,
    usual_rate,
)
from watcher.model import Floats

HOUR = 3600.0
MONDAY = 1_767_571_200.0
"""2026-01-05, midnight UTC."""
BERLIN = "Europe/Berlin"


def hours(days: float, start: float = MONDAY) -> Floats:
    """Return the ends of hourly blocks."""
    return start + HOUR * np.arange(1, round(24 * days) + 1)


def clock(ends: Floats, zone: str = "UTC", block: float = HOUR) -> Floats:
    """Return the local hour in which each block lies, one at a time."""
    middles = [dt.datetime.fromtimestamp(end - block / 2, ZoneInfo(zone)) for end in ends]
    return np.array([each.hour + each.minute / 60 for each in middles])


def local_date(end: float, zone: str, block: float) -> dt.date:
    return dt.datetime.fromtimestamp(end - block / 2, ZoneInfo(zone)).date()


# --- the calendar ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"])
@pytest.mark.parametrize("start", [MONDAY, 1_774_569_600.0, 1_792_713_600.0])
def test_every_block_lies_on_the_day_and_weekday_and_at_the_time_its_clock_shows(zone: str, start: float) -> None:
    """Ten days of ten minutes in winter, and around both changes of the clock in Berlin."""
    block = 600.0
    ends = start + block * np.arange(1, 10 * 144 + 1)
    calendar = Calendar.of(ends, block, zone)
    first = local_date(float(ends[0]), zone, block)
    for at in range(0, ends.size, 7):
        date = local_date(float(ends[at]), zone, block)
        assert calendar.day[at] == (date - first).days
        assert calendar.weekday[calendar.day[at]] == date.weekday()
        middle = dt.datetime.fromtimestamp(ends[at] - block / 2, ZoneInfo(zone))
        assert calendar.phase[at] == (middle.hour * 60 + middle.minute) // 10


def test_a_grid_holds_each_point_where_it_lies_and_gaps_elsewhere() -> None:
    calendar = Calendar.of(hours(1.5, MONDAY + 18 * HOUR), HOUR)
    values = np.arange(36.0)[None]
    grid = calendar.grid(values)
    assert grid.shape == (1, 3, 24)
    assert np.isfinite(grid[0]).sum(axis=1).tolist() == [6, 24, 6]
    assert (calendar.points(grid) == values).all()


# --- the median of the other days ------------------------------------------------------------------------------------


def median_of_the_others(grid: Floats) -> Floats:
    """The slow twin: leave the day out, take the median of what is left, NaN where nothing is."""
    out = np.full_like(grid, np.nan)
    for stream, day, phase in np.ndindex(grid.shape):
        others = np.delete(grid[stream, :, phase], day)
        others = others[np.isfinite(others)]
        if others.size:
            out[stream, day, phase] = np.median(others)
    return out


@given(
    arrays(
        float,
        st.tuples(st.integers(1, 2), st.integers(1, 9), st.integers(1, 3)),
        # Few values make many ties.
        elements=st.sampled_from([np.nan, -1.5, 0.0, 0.0, 1.0, 2.0, 7.0]),
    )
)
def test_the_median_of_the_other_days_is_that_with_gaps_and_ties(grid: Floats) -> None:
    assert _without_own_day(grid) == pytest.approx(median_of_the_others(grid), nan_ok=True)


@given(arrays(float, (2, 2, 5), elements=st.sampled_from([np.nan, -1.0, 0.0, 3.0])), st.sampled_from([1, 3, 5]))
def test_smoothing_is_the_mean_of_what_was_seen_around(grid: Floats, width: int) -> None:
    flat, slow = grid.reshape(2, -1), np.full((2, 10), np.nan)
    for stream, at in np.ndindex(2, 10):
        around = flat[stream, max(0, at - width // 2) : at + width // 2 + 1]
        if np.isfinite(around).any():
            slow[stream, at] = np.nanmean(around)
    assert _smoothed(grid, width).reshape(2, -1) == pytest.approx(slow, nan_ok=True)


def test_a_day_is_never_held_against_itself() -> None:
    """However high a day is, it does not change what is expected of it."""
    ends = hours(5)
    values = np.random.default_rng(1).normal(size=(1, ends.size))
    higher = values + np.where((ends > MONDAY + 2 * DAY) & (ends <= MONDAY + 3 * DAY), 9.0, 0.0)
    calendar = Calendar.of(ends, HOUR)
    there = calendar.day == 2
    assert usual(higher, calendar)[:, there] == pytest.approx(usual(values, calendar)[:, there])
    assert usual(higher, calendar)[:, ~there] != pytest.approx(usual(values, calendar)[:, ~there])


def test_gaps_have_no_say_and_a_time_seen_on_no_other_day_is_unknown() -> None:
    ends = hours(3)
    calendar, values = Calendar.of(ends, HOUR), np.ones((1, ends.size))
    values[0, [5, 24 + 5]] = np.nan
    values[0, 2 * 24 + 5] = 100.0
    expected = usual(values, calendar)
    assert expected[0, [5, 24 + 5]].tolist() == [100.0, 100.0]
    assert np.isnan(expected[0, 2 * 24 + 5])
    assert (np.delete(expected[0], [5, 24 + 5, 2 * 24 + 5]) == 1.0).all()


def test_a_last_day_that_has_only_begun_and_the_hours_ahead_are_expected_from_the_days_before() -> None:
    ends = hours(3.5)
    pattern = np.sin(2 * np.pi * clock(ends) / 24)[None]
    ahead = np.where(ends > MONDAY + 3.25 * DAY, np.nan, pattern)
    assert usual(ahead, Calendar.of(ends, HOUR)) == pytest.approx(pattern)


# --- local time ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["2026-10-25", "2026-03-29"])
def test_a_daily_habit_follows_the_clock_through_a_change_to_or_from_daylight_saving(change: str) -> None:
    """Berlin gets up at seven before and after the night; in UTC the same habit is expected an hour off."""
    night = dt.datetime.fromisoformat(change).replace(tzinfo=ZoneInfo(BERLIN)).timestamp()
    ends = hours(8, night - 4 * DAY - night % HOUR)
    habit = np.where(clock(ends, BERLIN) >= 7, 1.0, 0.0)[None]
    local, abroad = (usual(habit, Calendar.of(ends, HOUR, zone)) for zone in (BERLIN, "UTC"))
    # The hour that occurs twice, or never, is the only one with nothing to be held against.
    assert np.nanmax(np.abs(local - habit)) < 1e-9
    assert np.isnan(local).sum() <= 1
    assert np.abs(abroad - habit).max() >= 0.5


# --- holidays and weekdays -------------------------------------------------------------------------------------------


def levels(days: int, values: Floats) -> Floats:
    """Return values with days that differ, by no more than days do."""
    offsets = np.random.default_rng(2).permutation(np.linspace(-0.2, 0.2, days))
    return values + np.repeat(offsets, 24)


@pytest.mark.parametrize("days", [10, 22])
@pytest.mark.parametrize("away", [-5.0, 1.0])
def test_a_holiday_nobody_named_is_left_out_of_what_is_expected(days: int, away: float) -> None:
    ends = hours(days)
    values = levels(days, np.sin(2 * np.pi * clock(ends) / 24)[None])
    calendar = Calendar.of(ends, HOUR)
    off = calendar.day == 4
    expected = usual(values + away * off, calendar)
    assert expected[:, ~off] == pytest.approx(usual(np.where(off, np.nan, values), calendar)[:, ~off])
    # And the holiday itself is expected to be like any other day.
    assert expected[:, off] == pytest.approx(usual(values, calendar)[:, off], abs=0.02)


def test_days_that_only_vary_are_not_off() -> None:
    ends = hours(10)
    calendar, values = Calendar.of(ends, HOUR), levels(10, np.zeros((1, 240)))
    others = median_of_the_others(calendar.grid(values))
    assert usual(values, calendar) == pytest.approx(calendar.points(others))


@pytest.mark.parametrize(("days", "told"), [(WEEKLY, False), (22, True), (29, True)])
def test_weekdays_are_told_apart_from_the_third_week_on(days: int, told: bool) -> None:
    """Weekends that are quiet between eight and six: within a quarter of it, three hours into it."""
    ends = hours(days)
    calendar = Calendar.of(ends, HOUR)
    weekend, busy = calendar.weekday[calendar.day] >= 5, (calendar.phase >= 8) & (calendar.phase < 18)
    values = np.where(weekend & busy, -1.0, 0.0)[None] + np.random.default_rng(4).normal(0, 0.05, (1, ends.size))
    expected = usual(values, calendar)[0]
    inner = (calendar.phase >= 11) & (calendar.phase < 15)
    assert np.abs(expected[~weekend & inner]).max() < 0.15
    quiet = expected[weekend & inner]
    assert np.abs(quiet + 1.0).max() < 0.25 if told else quiet.min() > -0.25


@pytest.mark.parametrize("days", [22, 29])
def test_weekends_that_are_quiet_all_day_are_not_off(days: int) -> None:
    """Within a quarter of how quiet they are, three hours into them; of a rate that doubles, within an eighth."""
    ends, rng = hours(days), np.random.default_rng(4)
    calendar = Calendar.of(ends, HOUR)
    weekend, inner = calendar.weekday[calendar.day] >= 5, (calendar.phase >= 3) & (calendar.phase < 21)
    expected = usual(np.where(weekend, -1.0, 0.0)[None] + rng.normal(0, 0.05, (1, ends.size)), calendar)[0]
    assert np.abs(expected[weekend & inner] + 1.0).max() < 0.25
    assert np.abs(expected[~weekend & inner]).max() < 0.15
    total, rate = np.full((1, ends.size), 20_000.0), np.where(weekend, 0.04, 0.02)
    found = usual_rate(rng.binomial(20_000, rate, total.shape).astype(float), total, calendar)[0]
    assert found[inner] == pytest.approx(rate[inner], rel=0.125)


# --- counts ----------------------------------------------------------------------------------------------------------


def test_rates_of_the_other_days_are_their_events_over_their_total_one_day_at_a_time() -> None:
    ends, rng = hours(5), np.random.default_rng(5)
    calendar = Calendar.of(ends, HOUR)
    total = rng.integers(50, 200, (2, ends.size)).astype(float)
    events = rng.binomial(total.astype(int), 0.1).astype(float)
    found = usual_rate(events, total, calendar)
    for stream in range(2):
        overall = events[stream].sum() / total[stream].sum()
        for at in range(0, ends.size, 5):
            same = (calendar.phase == calendar.phase[at]) & (calendar.day != calendar.day[at])
            some, whole = events[stream, same].sum(), total[stream, same].sum()
            assert found[stream, at] == pytest.approx((some + PRIOR) / (whole + PRIOR / overall))


def test_events_that_are_rare_are_pulled_towards_the_overall_rate_and_never_expected_to_be_none() -> None:
    """One event in 2,000 over a week of minutes: what is expected stays within a third of it."""
    rng, block = np.random.default_rng(6), 60.0
    ends = MONDAY + block * np.arange(1, 7 * 1440 + 1)
    total = np.full((1, ends.size), 20.0)
    events = rng.binomial(20, 1 / 2000, total.shape).astype(float)
    expected = usual_rate(events, total, Calendar.of(ends, block))
    assert (expected > 0).all()
    assert np.abs(expected * 2000 - 1).max() < 1.0
    assert np.mean(np.abs(expected * 2000 - 1)) < 1 / 3


def test_events_that_never_occurred_have_a_rate_above_nil() -> None:
    ends = hours(3)
    rate = usual_rate(np.zeros((1, ends.size)), np.full((1, ends.size), 100.0), Calendar.of(ends, HOUR))
    assert (rate > 0).all()
    assert np.isfinite(rate).all()


def test_an_outage_of_a_day_is_left_out_of_what_rates_are_expected() -> None:
    ends, rng = hours(9), np.random.default_rng(7)
    calendar, total = Calendar.of(ends, HOUR), np.full((1, ends.size), 20_000.0)
    out = calendar.day == 3
    events = rng.binomial(20_000, np.where(out, 0.2, 0.02), total.shape).astype(float)
    assert usual_rate(events, total, calendar) == pytest.approx(np.full((1, ends.size), 0.02), rel=0.12)


def test_a_gap_of_counts_has_no_say() -> None:
    ends = hours(4)
    calendar, total = Calendar.of(ends, HOUR), np.full((1, ends.size), 100.0)
    events = np.full((1, ends.size), 10.0)
    gap = (calendar.day == 1) & (calendar.phase < 12)
    found = usual_rate(np.where(gap, np.nan, events), np.where(gap, np.nan, total), calendar)
    assert found == pytest.approx(np.full_like(found, 0.1))

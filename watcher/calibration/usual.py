"""What is usual of a series at each block, and how it varies about that: its noise, and what arms have in common."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from watcher.calibration.counts import DAY
from watcher.calibration.deviations import across, by_chance, plain, series, transformed
from watcher.evidence.memory import robust_spread
from watcher.evidence.season import FROM, WEEKLY, Calendar, usual, usual_rate
from watcher.model import Calibration, Floats, Observations, Rule, Watch

FEWEST_PAIRS = 120
"""Points of both arms from which is learnt how much of the control the treatment has in common with it."""

FAR = 25.0
"""Squared deviations, over those of the counts alone, beyond which an incident is not how counts vary."""

LEAST = 1e-3
"""Relative standard deviation that is granted to a series that never varied: it may vary a little."""


def expected(rule: Rule, watch: Watch, history: Observations, ahead: Floats, fitted: Calibration) -> Floats:
    """Return what is usual at each point of the history and ahead: by the other days, or a mean."""
    ends = np.concatenate([history.ends, ahead])
    calendar = Calendar.of(ends, watch.block, watch.zone)

    def reaching(values: Floats) -> Floats:
        return np.concatenate([values, np.full((len(values), ahead.size), np.nan)], axis=1)

    if plain(rule, history):
        values = series(rule, history, fitted)
        if seasonal(watch, history):
            return usual(reaching(values), calendar)
        mean = np.nansum(values, axis=1) / np.maximum(np.isfinite(values).sum(axis=1), 1)
        return _as_long_as_known(mean, history.ends.size, ends.size)
    events, total = (each.sum(axis=1) for each in (history.treatment.events, history.treatment.total))
    if seasonal(watch, history):
        return usual_rate(reaching(events), reaching(total), calendar)
    assert fitted.scale is not None
    return _as_long_as_known(fitted.scale, history.ends.size, ends.size)


def _as_long_as_known(level: Floats, known: int, points: int) -> Floats:
    """Return a level that is taken to last as long as it has been seen, [stream, point]: two hours vouch for two."""
    return np.where(np.arange(points) < 2 * known, level[:, None], np.nan)


def in_common(rule: Rule, watch: Watch, history: Observations, fitted: Calibration) -> Floats:
    """Return how much of the control's deviations the treatment has in common with it, between 0 and 1, [stream].

    That weighs the two things a treatment can be held against by what they are worth: all of the control where both
    arms move alike, nothing but its own past where they do not.
    """
    assert history.baseline is not None
    arms = [transformed(across(rule, arm), fitted) for arm in (history.treatment, history.baseline)]
    if seasonal(watch, history):
        # What both do every day is foreseen, and says nothing of how they move alike.
        calendar = Calendar.of(history.ends, watch.block, watch.zone)
        arms = [values - usual(values, calendar) for values in arms]
    paired = np.isfinite(arms[0]) & np.isfinite(arms[1])
    means = [np.where(paired, x, 0.0).sum(axis=1) / np.maximum(paired.sum(axis=1), 1) for x in arms]
    treated, control = (np.where(paired, x - mean[:, None], 0.0) for x, mean in zip(arms, means, strict=True))
    shared, own = (treated * control).sum(axis=1), (control**2).sum(axis=1)
    beta = np.clip(shared / np.maximum(own, 1e-12), 0.0, 1.0)
    return np.where(paired.sum(axis=1) >= FEWEST_PAIRS, beta, 1.0)


def with_noise(rule: Rule, history: Observations, fitted: Calibration, expected: Floats) -> Calibration:
    """Return the calibration with the noise of the series: of counts, in excess of what their number implies."""
    if plain(rule, history):
        return replace(fitted, unit=np.maximum(robust_spread(series(rule, history, fitted) - expected), LEAST))
    total = history.treatment.total.sum(axis=1)
    values, chance = across(rule, history.treatment) / expected - 1.0, by_chance(rule, total, expected)
    noise, usually = np.tile([1.0, 0.0], (len(values), 1)), np.ones(len(values))
    for row, seen in enumerate(np.isfinite(values)):
        noise[row] = _excess(values[row, seen], chance[row, seen])
        usually[row] = np.median(chance[row, seen])
    return replace(fitted, noise=noise, unit=np.sqrt(noise[:, 0] * usually + noise[:, 1]))


def _excess(values: Floats, chance: Floats) -> Floats:
    """Return how many times their chance variance counts vary, at least once, and the variance of their rate itself.

    The squares over the chance variance are a line in its inverse.
    """
    squares, inverse = np.minimum(values**2 / chance, FAR), 1.0 / chance
    apart = inverse - inverse.mean()
    slope = float(max(0.0, (squares * apart).sum() / max((apart**2).sum(), 1e-12)))
    times = float(squares.mean() - slope * inverse.mean())
    if times < 1.0:
        times, slope = 1.0, float(max(0.0, ((squares - 1.0) * inverse).sum() / (inverse**2).sum()))
    return np.array([times, slope])


def seasonal(watch: Watch, history: Observations) -> bool:
    """Tell whether a history is long enough to show a season."""
    return history.ends.size * watch.block >= FROM * DAY


def told_of_season(days: float) -> str:
    """Return what is known of the season, for people."""
    if days < FROM:
        return f"no daily season is known: {24 * days:.2g} h of history vouch for as long after exposure, and no longer"
    kept = "weekdays told apart" if days > WEEKLY else "weekdays not told apart"
    return f"held against the same minutes of {days:.3g} days, {kept}"

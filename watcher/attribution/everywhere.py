"""Is it the release, or does everything get worse? What speaks for a cause that no release has: a global event.

Where there is a control it is the witness: users who do not have the release, at the same time, on the same machines.
Without one, the other services of the installation are: those that began to be worse when this one did.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from watcher import reasons
from watcher.attribution.suspects import control_harmed
from watcher.model import (
    Calibration,
    Design,
    Floats,
    Kind,
    Observations,
    Outcome,
    ReleaseVerdict,
    Rule,
    Verdict,
    Watch,
    Worse,
)

ALIKE = 0.5
"""How much of the treatment's rise its control must show for both to be one event; harm that a bad release spreads to
its neighbours, through a database that it overloads, stays below."""

HEARD = 20.0
"""Bad events that a control must have been expected to have for their absence to be odd."""

SILENT = 0.1
"""How many of them it has at most, where it is."""

MOST = 0.5
"""How many of the other services must be worse; one among many is likelier to have a trouble of its own."""

CHANCE = 0.001
"""How likely, at most, a service that is as it always was is taken for worse."""

USUAL = 7200.0
"""Seconds before harm began that say what was usual."""

STRETCHES = 3
"""Stretches as long as the time since that must fit into them, at least: how stretches vary is not known from fewer."""

BLOCKS = 20
"""Blocks with traffic that there must be in them, at least."""


@dataclass(frozen=True)
class Elsewhere:
    """Another service, and what was measured of it, by rule: `USUAL` seconds before harm began, and since."""

    service: str
    rules: tuple[Rule, ...]
    seen: Mapping[str, Observations]


def harm_began(watch: Watch, verdict: ReleaseVerdict) -> float:
    """Return when the harm of a release seems to have begun: at its exposure, unless that was later."""
    worst = [each.onset for each in verdict.streams if each.outcome is Outcome.REGRESSED]
    later = [onset for onset in worst if onset is not None]
    return min(later) if later and len(later) == len(worst) else watch.release.exposed_at


def as_shares(rules: Sequence[Rule]) -> tuple[Rule, ...]:
    """Return the rules that tell of harm by a share of events; counts and gauges follow the hours of the day."""
    return tuple(rule for rule in rules if rule.kind in (Kind.RATIO, Kind.LATENCY) and rule.worse is not Worse.EITHER)


def control_alike(watch: Watch, verdict: ReleaseVerdict, calibrations: Mapping[str, Calibration]) -> str:
    """Return what people are told where the control got worse about as much as the treatment did; else nothing."""

    def of_stream(rule: Rule, stream: Verdict, calibration: Calibration, usual: float) -> str:
        if not control_harmed(rule, stream, calibration) or stream.treatment.total <= 0:
            return ""
        control, treatment = (arm.events / arm.total for arm in (stream.baseline, stream.treatment))
        alike = abs(control - usual) >= ALIKE * abs(treatment - usual)
        return f"{rule.label}: {_share(control)}, usually {_share(usual)}" if alike else ""

    found = _of_the_control(watch, verdict, calibrations, of_stream)
    return f"those who do not have it are worse, too ({found}): not this release alone" if found else ""


def control_silent(watch: Watch, verdict: ReleaseVerdict, calibrations: Mapping[str, Calibration]) -> str:
    """Return what people are told where the treatment only looks worse beside a control of which nothing bad is heard.

    Users who do not have a release do not stop to meet errors because others have it: what counts them has stopped.
    """

    def of_stream(rule: Rule, stream: Verdict, _: Calibration, usual: float) -> str:
        counted, expected = stream.baseline.events, usual * stream.baseline.total
        silent = rule.worse is Worse.HIGHER and expected >= HEARD and counted <= SILENT * expected
        return f"{rule.label}: {counted:.0f} counted, about {expected:.0f} expected" if silent else ""

    found = _of_the_control(watch, verdict, calibrations, of_stream)
    return f"next to nothing is counted of those who do not have it ({found})" if found else ""


def _of_the_control(
    watch: Watch,
    verdict: ReleaseVerdict,
    calibrations: Mapping[str, Calibration],
    of_stream: Callable[[Rule, Verdict, Calibration, float], str],
) -> str:
    """Return what is said of the control of every stream that regressed, given its usual share.

    All of them must show it: harm that one stream shows in the treatment alone is the release's.

    Returns:
        Nothing where there is no control, where its past is not known, or where nothing is said of one of them.
    """
    worst = [each for each in verdict.streams if each.outcome is Outcome.REGRESSED]
    if watch.design is not Design.CONCURRENT or not worst:
        return ""
    rules, said = {rule.name: rule for rule in as_shares(watch.rules)}, []
    for stream in worst:
        rule, calibration = rules.get(stream.rule), calibrations.get(stream.rule)
        if rule is None or calibration is None or calibration.rate is None or stream.labels not in calibration.streams:
            return ""
        usual = float(calibration.rate[calibration.streams.index(stream.labels)])
        said.append(of_stream(rule, stream, calibration, usual))
    return "; ".join(said) if all(said) else ""


def elsewhere_alike(others: Sequence[Elsewhere], since: float) -> str:
    """Return what people are told where most other services got worse at the same time; else nothing.

    Args:
        others: services that have nothing to do with the release, as far as they could be read.
        since: when its harm began, epoch seconds.
    """
    found = [(other.service, _worse(other, since)) for other in others]
    known = [(service, worse) for service, worse in found if worse is not None]
    harmed = [f"{service} ({worse})" for service, worse in known if worse]
    if not harmed or len(harmed) < MOST * len(known):
        return ""
    what = "other services are worse" if len(harmed) > 1 else "another service is worse"
    return f"{what} since {reasons.clock(since)}, too: {', '.join(harmed)}; not this release alone"


def _worse(other: Elsewhere, since: float) -> str | None:
    """Return what got worse of a service; empty where nothing did, None where nothing can be said."""
    rules = [rule for rule in as_shares(other.rules) if rule.name in other.seen]
    asked = [(rule, _rise(rule, other.seen[rule.name], since, CHANCE / len(rules))) for rule in rules]
    told = [(rule, shares) for rule, shares in asked if shares is not None]
    worse = [
        f"{rule.label}: {_share(after)}, {_share(before)} before"
        for rule, (before, after, is_worse) in told
        if is_worse
    ]
    return (worse or [""])[0] if told else None


def _rise(rule: Rule, seen: Observations, since: float, chance: float) -> tuple[float, float, bool] | None:
    """Return the share before and since, and whether that is worse than allowed by more than chance.

    Chance is the larger of two: how shares vary from block to block (quasi-binomial), and how they vary between
    stretches as long as the time since, in which what varies slowly shows, and no sum over blocks averages it out.

    Args:
        rule: which way is worse, and by how much is allowed.
        seen: all streams and units of the service.
        since: when harm began.
        chance: one-sided probability of being taken for worse.

    Returns:
        None where the past is too short to say, or nothing was measured since.
    """
    events, total = (np.nansum(each, axis=(0, 1)) for each in (seen.treatment.events, seen.treatment.total))
    late = seen.ends > since - 1e-6  # the block that ends at an onset is the first with harm
    before, after = (events[~late], total[~late]), (events[late].sum(), total[late].sum())
    stretches = before[0].size / max(late.sum(), 1)
    if (before[1] > 0).sum() < BLOCKS or stretches < STRETCHES or not after[1] > 0:
        return None
    usual, share = float(before[0].sum() / before[1].sum()), float(after[0] / after[1])
    sign = -1.0 if rule.worse is Worse.LOWER else 1.0
    beyond = sign * (share - usual) - (rule.margin if rule.absolute else rule.margin * usual)
    blocks = special.ndtri(1.0 - chance) * _error(before, float(after[1]))
    slow = (
        special.stdtrit(stretches - 1.0, 1.0 - chance)
        * np.sqrt(1.0 + 1.0 / stretches)
        * _between(before, int(late.sum()))
    )
    return usual, share, bool(beyond > max(blocks, slow))


def _error(before: tuple[Floats, Floats], after: float) -> float:
    """Return the standard error of the difference of two shares whose blocks vary by more than chance alone."""
    events, total = (each[before[1] > 0] for each in before)
    # Half an event: a share that was never seen is not known to be impossible.
    likely = (events.sum() + 0.5) / (total.sum() + 1.0)
    variance = likely * (1.0 - likely)
    pearson = (events - likely * total) ** 2 / (total * variance)
    dispersion = max(1.0, float(pearson.sum()) / (total.size - 1))
    return float(np.sqrt(dispersion * variance * (1.0 / after + 1.0 / total.sum())))


def _between(before: tuple[Floats, Floats], length: int) -> float:
    """Return the standard deviation of the share between all stretches of so many blocks, overlapping."""
    events, total = (np.convolve(each, np.ones(length), mode="valid") for each in before)
    return float((events[total > 0] / total[total > 0]).std())


def _share(value: float) -> str:
    return f"{100 * value:.2g} %"

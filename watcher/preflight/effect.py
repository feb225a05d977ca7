"""What harm can be found from current traffic, and how soon: the forecast of `watcher plan`, for this release."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from watcher import reasons
from watcher.model import Rule, Stage, Watch, Worse
from watcher.preflight.data import CHECK_NAMES, REPAIR
from watcher.preflight.measured import Measured
from watcher.report.plan import Forecast, StreamPlan, change_cell
from watcher.report.preflight import Line, Status

TAKEN = 0.5
"""Share that is planned with where nobody says any: that of `watcher plan`."""

FEW = 3
"""Streams of a rule that are forecast: the slowest is one of those with the fewest events, and hundreds take long."""

WIDER = "a larger share, a wider margin, or a longer watch (`watch_for`)"


def effect(watch: Watch, share: float | None, seen: Measured) -> Iterator[Line]:
    """Check, rule by rule, what harm the watch can find; nothing at the margin fails where the rule is critical.

    Args:
        watch: rules, margins and how long it lasts.
        share: of the users, as configured; None where nobody says.
        seen: what was measured, of which the forecast is made.
    """
    from watcher.oneoff.forecast import forecast  # with it come tables: a daemon that starts has no need of them yet

    if not seen.learnt:
        yield Line("effect", "fail", "what harm could be found cannot be said: the metrics cannot be read", REPAIR)
        return
    alone = watch.baseline is None
    planned = 1.0 if alone else share or TAKEN
    if planned == 1.0 and not alone:
        fix = "begin with a smaller share; to see what the past can find, leave `arms` out"
        yield Line("effect", "fail", "with nobody left in the baseline, nothing can be found in arms", fix)
        return
    diluted = share if alone and share is not None else 1.0
    rules = tuple(rule for rule in watch.rules if rule.name in seen.learnt)
    stage = Stage(watch.release.exposed_at, planned)
    watch = replace(watch, rules=rules, release=replace(watch.release, stages=(stage,)))
    found = forecast(watch, seen.before, calibrations=seen.learnt, few=FEW)
    judged = [rule for rule in rules if rule.required]
    weighty = {rule.name for rule in judged if rule.critical} or {rule.name for rule in judged}
    said = [(rule, *_of_rule(watch, rule, found.streams, diluted)) for rule in judged]
    blind = {rule.name for rule, status, _, _ in said if status == "fail"}
    # Without any critical rule it takes all of them to be blind.
    critical = any(rule.critical for rule in judged)
    for rule, status, text, fix in said:
        fails = rule.name in weighty and (critical or weighty <= blind)
        yield Line("effect", "warn" if status == "fail" and not fails else status, text, fix)
    if planned == TAKEN and share is None and not alone:
        yield Line(
            "effect",
            "warn",
            f"all of this holds of a release that {100 * TAKEN:g} % of the users get: nobody says what share it is",
            "give --share",
        )


def _of_rule(watch: Watch, rule: Rule, streams: Sequence[StreamPlan], diluted: float) -> tuple[Status, str, str]:
    """Return how a rule stands, what can be found by it, and what would help: by the slowest of its streams."""
    own = [each for each in streams if each.rule.name == rule.name and not each.idle]
    if not own:
        return "fail", f"{rule.label}: nothing can be found without traffic", CHECK_NAMES
    if any(name in rule.by for name, _ in watch.focus):
        own = [each for each in own if dict(watch.focus).items() <= dict(each.labels).items()]
    if not own:
        text = f"{rule.label}: {watch.release.feature} has no traffic yet, so how soon harm is found cannot be said"
        return "warn", text, "run this again once users have it"
    blank = [each for each in own if each.why_not]
    if blank and len(blank) == len(own):
        text = f"{blank[0].subject}: {blank[0].why_not}"
        return "warn", text, f"check that {rule.events} counts what it should, or look at a longer past (`history`)"
    known = [(each, each.forecast) for each in own if each.forecast is not None]
    return _slowest(known, len([each for each in own if not each.why_not]), watch, diluted)


def _slowest(
    own: list[tuple[StreamPlan, Forecast]], many: int, watch: Watch, diluted: float
) -> tuple[Status, str, str]:
    """Return how the stream stands that takes longest, with how many others there are."""

    def pace(pair: tuple[StreamPlan, Forecast]) -> tuple[bool, bool, float]:
        stream, plan = pair
        return not _finds(stream, plan, diluted), not stream.decidable, plan.margin.median or float("inf")

    stream, plan = max(own, key=pace)
    more = f" (the slowest of {many} streams)" if many > 1 else ""
    text = f"{stream.subject}{more}: {_told(stream, plan, watch, diluted)}"
    finds, proves = _finds(stream, plan, diluted), stream.decidable and diluted == 1.0
    fix = plan.helps or WIDER
    if finds and proves:
        return "pass", text, ""
    if finds or proves:
        return "warn", text, fix if diluted == 1.0 else "label metrics by what users got, and give the release `arms`"
    return "fail", f"{text}: harm as large as the margin is not found in time", fix


def _finds(stream: StreamPlan, plan: Forecast, diluted: float) -> bool:
    """Tell whether harm at the margin, of those who have the release, is found within the watch as likely as not."""
    if diluted == 1.0:
        return plan.margin.median is not None and plan.margin.median <= stream.window
    smallest = _smallest(plan, diluted)
    return smallest is not None and abs(smallest - 1.0) <= stream.margin


def _smallest(plan: Forecast, diluted: float) -> float | None:
    """Return the smallest ratio found within the watch, of those who have the release."""
    ratio = list(plan.found.values())[-1] if plan.found else None
    return None if ratio is None else max(0.0, 1.0 + (ratio - 1.0) / diluted)


def _told(stream: StreamPlan, plan: Forecast, watch: Watch, diluted: float) -> str:
    lasts, smallest = reasons.span(watch.horizon / 60), _smallest(plan, diluted)
    if diluted < 1.0:
        if smallest is None or (stream.rule.worse is Worse.LOWER and smallest <= 0.0):
            return f"nothing that happens to {100 * diluted:g} % of the users is found within {lasts}"
        return (
            f"{change_cell(smallest)} of the {100 * diluted:g} % who have it is the least that is found within {lasts}"
        )
    least = "nothing is" if smallest is None else f"{change_cell(smallest)} is the least that is"
    margin = f"{change_cell(stream.worst_ratio)} (the margin) {_wait(plan.margin.median)}"
    double = f"{change_cell(0.5 if stream.rule.worse is Worse.LOWER else 2.0)} {_wait(plan.double.median)}"
    proof = f"health proven {_wait(plan.healthy.p90)}{' (9 times in 10)' if plan.healthy.p90 is not None else ''}"
    return f"{least} found within {lasts}; {margin}, {double}; {proof}"


def _wait(minutes: float | None) -> str:
    return "never" if minutes is None else f"in {reasons.span(minutes)}"

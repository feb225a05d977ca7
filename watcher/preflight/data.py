"""Do the rules have data: in both arms or in the past, enough of it to judge by, and enough to turn a release off?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from watcher import reasons
from watcher.calibration import SURE, on_series
from watcher.evidence.placebo import STEP
from watcher.evidence.season import FROM, WEEKLY
from watcher.look import past
from watcher.model import Calibration, Design, Observations, Rule, Watch
from watcher.preflight.measured import LATELY, Measured
from watcher.report.preflight import Line
from watcher.sources.sides import sides_of

DAY = 86_400.0
MINUTES = reasons.span(LATELY / 60)

CHECK_NAMES = "check its names and labels on the metrics server, and `select` and `arms` in watcher.yaml"
REPAIR = "see that `metrics` in watcher.yaml names a server that answers, and run this again"


def data(watch: Watch, seen: Measured) -> Iterator[Line]:
    """Check that every required rule is measured now, and that its past is long enough."""
    if seen.down:
        yield Line("data", "fail", f"the metrics cannot be read: {seen.down}", REPAIR)
        return
    required = [rule for rule in watch.rules if rule.required]
    whole = []
    for rule in required:
        found = list(_measured(watch, rule, seen))
        whole += [] if found else [rule]
        yield from found
    for rule in watch.rules:
        if not rule.required and rule.name in seen.problems:
            fix = f"correct the rule {rule.name} in its pack, or leave it out"
            yield Line("data", "warn", f"{rule.label} cannot be read: {seen.problems[rule.name]}", fix)
    if whole:
        yield Line("data", "pass", _all_measured(watch, whole, required, seen))
    if seen.problem:
        yield Line("data", "fail", f"the past cannot be read: {seen.problem}", REPAIR)
    elif seen.learnt:
        rules = [rule for rule in required if rule.name in seen.learnt and _control(seen.before[rule.name])]
        yield from _usual(watch, rules, seen.learnt)
        yield from _may_kill(watch, seen.learnt)


def _all_measured(watch: Watch, whole: list[Rule], required: list[Rule], seen: Measured) -> str:
    which = "all of them" if len(whole) == len(required) and len(whole) > 1 else ", ".join(rule.label for rule in whole)
    if watch.baseline is None:
        where = "measured now"
    else:
        where = (
            "measured now in both arms" if seen.treated.any() else "measured now in the baseline; nobody is exposed yet"
        )
    return f"{which} ({len(whole)} required): {where}" if which == "all of them" else f"{which}: {where}"


def _measured(watch: Watch, rule: Rule, seen: Measured) -> Iterator[Line]:
    """Yield what is missing of a rule's data."""
    if rule.name in seen.problems:
        problem = seen.problems[rule.name]
        yield Line(
            "data", "fail", f"{rule.label} cannot be read: {problem}", f"correct the rule {rule.name} in its pack"
        )
        return
    lately, before = seen.lately[rule.name], seen.before[rule.name]
    now, once = (_control(each) for each in (lately, before))
    if not now and not once:
        yield Line("data", "fail", f"{rule.label} has no data: nothing matches {_asked(watch, rule)}", CHECK_NAMES)
    elif not now:
        yield Line(
            "data",
            "warn",
            f"{rule.label} had data, and none in the last {MINUTES}: {_asked(watch, rule)}",
            "see whether it is still exported; a release in such a time has nothing to be held against",
        )
    elif seen.treated.any() and watch.baseline is not None and not lately.treatment.total.any():
        yield Line(
            "data",
            "warn",
            f"{rule.label} has none in the treatment, where others have: {_asked(watch, rule, 'treatment')}",
            "see that the new version exports it, with the same labels; it may only need its first users",
        )


def _control(seen: Observations) -> bool:
    """Tell whether there is traffic to hold a release against."""
    return bool((seen.baseline or seen.treatment).total.any())


def _asked(watch: Watch, rule: Rule, arm: str = "baseline") -> str:
    """Return what is asked for of an arm, as it can be pasted into the metrics server."""
    sides = {side.arm: side for side in sides_of(rule, past(watch, watch.block))}
    side = sides.get(arm, sides["treatment"])
    return str(side.total or side.events)


def _usual(watch: Watch, rules: Iterable[Rule], learnt: Mapping[str, Calibration]) -> Iterator[Line]:
    """Yield what the past of rules that are held against it does not say."""
    series = {rule.label: learnt[rule.name] for rule in rules if on_series(rule, watch.design)}
    unknown = {label: one.notes or ("too short a history",) for label, one in series.items() if not _known(one)}
    for note in reasons.assumed(unknown):
        yield Line(
            "data",
            "fail",
            f"nothing to hold it against: {note}",
            "wait until there is a past, or read more of it (`history`)",
        )
    odd = [label for label, one in series.items() if one.contaminated]
    if odd:
        yield Line(
            "data",
            "fail",
            f"{', '.join(odd)}: the last hours were not usual themselves (an incident, or another release)",
            "wait until they are: a release has nothing to be held against before",
        )
    if watch.design is Design.BEFORE_AFTER:
        days = [one.points * watch.block / DAY for one in series.values() if _known(one)]
        yield from _season(min(days)) if days else ()


def _known(calibration: Calibration) -> bool:
    return calibration.memory is not None or calibration.reports is not None


def _season(days: float) -> Iterator[Line]:
    """Say what so many days of the past tell of the time of the day and of the week."""
    many = reasons.span(days * DAY / 60)
    if days < FROM:
        yield Line(
            "data",
            "warn",
            f"{many} of past: no daily season is known before {FROM:g} days, and an ordinary morning looks like harm",
            "release at a steady time of the day, or wait; longer `history`, and longer retention of metrics, help",
        )
    elif days < WEEKLY:
        yield Line(
            "data",
            "warn",
            f"{many} of past: a daily season is known, but weekdays are told apart only from {WEEKLY} days on",
            "do not release as a weekend begins or ends; longer `history`, and longer retention of metrics, help",
        )
    else:
        yield Line("data", "pass", f"{many} of past: the season of the day and of the week is known")


def _may_kill(watch: Watch, learnt: Mapping[str, Calibration]) -> Iterator[Line]:
    """Say where no rules may turn a release off, because what they vary by is assumed."""
    if watch.switch is None:
        return
    sure = [rule for rule in watch.rules if rule.name in learnt and not learnt[rule.name].assumed]
    if any(rule.critical for rule in sure) or len(sure) >= 2:
        return
    rules = [rule for rule in watch.rules if rule.name in learnt and learnt[rule.name].assumed]
    if not rules:
        why = "one rule that is not critical is not enough: two must agree"
        fix = "mark a rule that may turn a release off alone with `critical: true`"
    elif watch.design is Design.BEFORE_AFTER:
        apart = min(learnt[rule.name].apart for rule in rules)
        why = f"the past has room for {apart} placebos that do not overlap, and {SURE} are needed"
        fix = "read a longer past (`history`)"
        # Placebos begin no closer together than that, however short a watch is.
        if (shorter := apart * watch.horizon / SURE) >= STEP:
            fix = f"watch for {reasons.span(shorter / 60)} at most (`watch_for`), or {fix}"
    else:
        said = {rule.label: (reasons.learnt(learnt[rule.name]),) for rule in rules}
        why = "; ".join(reasons.assumed(said))
        fix = "name what tells pods or hosts apart in the rule pack (`unit: instance`), or read a longer `history`"
    yield Line("data", "warn", f"nothing would be turned off on what the rules say: {why}", fix)

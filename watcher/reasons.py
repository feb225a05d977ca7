"""One plain sentence, with numbers, for everything that can be said of a stream."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from watcher.model import Calibration, Design, Kind, Labels, Needs, Outcome, Rule, Verdict, Watch, Worse


def subject(rule: Rule, labels: Labels) -> str:
    """Return what a sentence is about: the rule, and the stream where there are several.

    >>> from watcher.model import Selector
    >>> subject(Rule("errors", Kind.RATIO, Selector("errors"), title="Requests that failed"), (("feature", "pay"),))
    'Requests that failed on pay'
    """
    names = [value for _, value in labels if value]
    what = rule.label
    return f"{what} on {', '.join(names)}" if names else what


def tolerated(rule: Rule, margin: float, on_scale: bool = False) -> str:
    """Return the margin as people say it.

    Args:
        rule: whose margin it is.
        margin: as it is in effect, which for an absolute one may be relative; then both are said.
        on_scale: of a latency, that the margin is on how slow requests are, not on how many are slow.
    """
    side = {Worse.LOWER: "less", Worse.HIGHER: "more", Worse.EITHER: "either way"}[rule.worse]
    if rule.absolute and margin == rule.margin:
        return f"{margin * 100:g} pp {side}"
    relative = f"{margin * 100:.3g} % {'slower' if on_scale else side}"
    return f"{rule.margin * 100:g} pp, {relative}" if rule.absolute else relative


def effect(rule: Rule, verdict: Verdict) -> str:
    """Return the effect, and of a latency what it is an effect on."""
    if rule.kind is Kind.LATENCY and not verdict.effect.of and rule.objective is not None:
        return f"requests over {rule.objective:g} s are {verdict.effect}"
    return str(verdict.effect)


def measured(rule: Rule, verdict: Verdict, named: bool = True) -> str:
    """Return the effect; of a latency what became slower (if `named`); of a late regression its size since then."""
    said = effect(rule, verdict) + (_slower(verdict) if named else "")
    if verdict.onset is None or verdict.since_onset is None:
        return said
    points = verdict.effect.measure == "difference"
    size = f"{100 * verdict.since_onset:+.2g} pp" if points else f"{float(f'{verdict.since_onset:.2g}'):,g} times"
    return f"{said}, and {size} since {clock(verdict.onset)}"


def _slower(verdict: Verdict) -> str:
    """Return the quantiles that became slower, the worst of them in seconds."""
    told = [each for each in verdict.quantiles if each.ratio > 1.005]
    if not told:
        return ""
    worst = max(told, key=lambda each: each.ratio)
    lead = "" if verdict.effect.of == worst.name else f" {worst.name} is {worst.ratio:.2f} times the baseline's,"
    rest = "".join(f", {each.name} {each.ratio:.2f} times" for each in told if each is not worst)
    return f";{lead} {worst.seconds}{rest}"


def regressed(watch: Watch, rule: Rule, verdict: Verdict, margin: str) -> str:
    """Return why a stream is called regressed, and when it was."""
    assert verdict.decided_at is not None
    minutes = (verdict.decided_at - watch.release.exposed_at) / 60
    said = f"{subject(rule, verdict.labels)}: {measured(rule, verdict)}"
    sick = "" if verdict.sick_unit is None else f"; all of it on one unit, {verdict.sick_unit}"
    return f"{said}; more than the margin allows ({margin}){sick}; decided after {span(minutes)}."


def diluted(watch: Watch) -> str:
    """Return what a watch cannot see where nothing tells apart who has the release."""
    share, times = watch.dilution, 1 / watch.dilution
    seen = f"an effect on {100 * share:.3g} % of the users is seen diluted {times:.3g} times, over everybody"
    return f"Nothing tells apart who has it: {seen}"


def hidden(watch: Watch) -> str:
    """Return why health is never proven where nothing tells apart who has the release."""
    return f"health cannot be proven: nothing tells apart the {100 * watch.dilution:.3g} % of the users who have it"


def contaminated(rule: Rule, labels: Labels) -> str:
    """Return why a series has no baseline."""
    why = "the last hours before exposure were not usual themselves (an incident, or another release)"
    return f"{subject(rule, labels)}: {why}, so that there is nothing to hold the release against."


def new_signature(rule: Rule, verdict: Verdict) -> str:
    """Return what is said of an error signature that was never seen before exposure, while it is few."""
    events = f"{verdict.treatment.events:,.0f} in the treatment, {verdict.baseline.events:,.0f} in the baseline"
    return f"{subject(rule, verdict.labels)}: new since exposure, {events}; not enough to tell them apart."


def absent(watch: Watch, rule: Rule, labels: Labels, which: str, blocks: int) -> str:
    """Return why a stream has no data; `which` is the silent arm, or "both"."""
    if which == "treatment":
        other = "its past" if watch.design is Design.BEFORE_AFTER else "the baseline"
        silent = f"the treatment has sent nothing for {blocks} blocks while {other} had traffic"
    else:
        silent = f"{'both arms have' if which == 'both' else 'the baseline has'} sent nothing for {blocks} blocks"
    return f"{subject(rule, labels)}: {silent}."


def split(share: float | None, observed: Sequence[float]) -> tuple[str, ...]:
    """Return how users are split between the arms: nothing before there are any.

    >>> split(0.05, (0.0512, 0.047, 0.0555))
    ('the release gets 5.12 % (4.7 to 5.55 %) of the users; 5 % is configured',)
    """
    if share is None or not observed[0] >= 0:
        return ()
    return (f"the release gets {_of_users(observed)}; {100 * share:g} % is configured",)


def doubles(since: Mapping[str, float]) -> tuple[str, ...]:
    """Return which units no longer count as baseline, and why.

    >>> doubles({"web-7f-x2": 1_800_000_960.0})
    ("web-7f-x2 reports the treatment's very values since 08:16 UTC: no longer counted as baseline",)
    """
    return tuple(
        f"{unit} reports the treatment's very values since {clock(at)}: no longer counted as baseline"
        for unit, at in sorted(since.items())
    )


def broken_split(watch: Watch, share: float | None, observed: Sequence[float], at: float) -> str:
    """Return why the traffic split makes a comparison invalid."""
    after = span((at - watch.release.exposed_at) / 60)
    configured = "" if share is None else f", not the {100 * share:g} % configured"
    return f"The traffic split is off: the release gets {_of_users(observed)}{configured}; seen after {after}."


def _of_users(observed: Sequence[float]) -> str:
    estimate, lower, upper = (100 * x for x in observed)
    return f"{estimate:.3g} % ({lower:.3g} to {upper:.3g} %) of the users"


def learnt(calibration: Calibration) -> str:
    """Return what a rule's evidence rests on, and where that was learnt.

    >>> week = {"came_from": "history 7 d", "units": 6, "assumed": False}
    >>> learnt(Calibration(**week, dispersion=1.8, between_units=1.8, over_time=1.2, spread=0.04))
    'dispersion 1.8 learnt from 6 units, history 7 d (1.8 between units, 1.2 over time); units differ by 4 %'
    """
    if calibration.reports is not None:
        return f"noise learnt from {calibration.units} units, {calibration.came_from}, {calibration.points} blocks"
    if calibration.memory is not None:
        said = f"level and noise of the series learnt from {calibration.came_from}, {calibration.points:,} blocks"
        if calibration.placebos is None or calibration.bar is None:
            return said
        placebos = f"{calibration.placebos.size} placebos, {calibration.apart} of which do not overlap"
        floor = f"no alpha below {100 / (calibration.apart + 1):.2g} % is supported"
        return f"{said}; calibrated on {placebos}: {floor}"
    if calibration.assumed and calibration.dispersion == 1.0:
        return "dispersion 1, assumed: nothing may be killed on it"
    if calibration.assumed:
        over = f"dispersion {calibration.dispersion:.3g} learnt over time, {calibration.came_from}"
        return f"{over}; nothing may be killed on it"
    parts = [(calibration.between_units, "between units"), (calibration.over_time, "over time")]
    said = ", ".join(f"{value:.2g} {where}" for value, where in parts if value is not None)
    differ = f"differ by {100 * calibration.spread:.2g} %" if calibration.spread >= 0.005 else "do not differ"
    where = f"{calibration.units} units, {calibration.came_from}"
    return f"dispersion {calibration.dispersion:.3g} learnt from {where} ({said}); units {differ}"


def would_change(watch: Watch, verdict: Verdict) -> str:
    """Return what would make a verdict another one."""
    if verdict.dormant:
        return "traffic in either arm"
    if verdict.outcome is Outcome.REGRESSED:
        return "no later block; a person may accept it as intended"
    if verdict.outcome is Outcome.HEALTHY:
        return f"evidence of harm reaching {verdict.threshold:.1f} with an estimate beyond the margin"
    if verdict.outcome is Outcome.NO_DATA:
        return "traffic in both arms" if watch.design is Design.CONCURRENT else "traffic since exposure"
    if verdict.outcome is Outcome.INVALID:
        return "a comparison that is not broken: a new release, or the fault repaired"
    return f"evidence either way; {waiting(verdict.needs)}"


def assumed(notes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Return what calibrations noted, by rule, each once: with the rules it is about, unless it is about all.

    >>> assumed({"Errors": ["independent events"], "Paint": ["independent events", "few blocks"]})
    ('independent events', 'Paint: few blocks')
    """
    about: dict[str, list[str]] = {}
    for rule, said in notes.items():
        for note in said:
            about.setdefault(note, []).append(rule)
    return tuple(note if len(rules) == len(notes) else f"{', '.join(rules)}: {note}" for note, rules in about.items())


def waiting(needs: Needs | None) -> str:
    """Return what an undecided stream waits for."""
    if needs is not None and needs.limit == "units" and needs.minutes is None:
        return "needs more units: such a difference could be these units alone, however long one waits"
    if needs is None or needs.minutes is None:
        return "how long it will take cannot be said yet"
    events = "" if needs.events is None else f"about {float(f'{needs.events:.2g}'):,.0f} more events, "
    median, late_by = span(needs.minutes), "" if needs.minutes_90 is None else span(needs.minutes_90)
    ninety = "" if late_by in ("", median) else f" (9 times in 10 at most {late_by})"
    late = {"window": ", longer than the watch lasts", "buckets": ", longer than the watch lasts: finer buckets help"}
    return f"needs {events}about {median}{ninety}{late.get(needs.limit, '')}"


def span(minutes: float) -> str:
    """Return a duration as people say it.

    >>> span(0.4), span(34), span(150), span(1440), span(4000)
    ('24 s', '34 min', '2.5 h', '24 h', '2.8 d')
    """
    if minutes < 1:
        return f"{minutes * 60:.0f} s"
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{round(minutes / 60, 1):g} h" if minutes < 48 * 60 else f"{round(minutes / 1440, 1):g} d"


def clock(at: float) -> str:
    """Return a moment as hours and minutes, UTC."""
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%H:%M} UTC"

"""One plain sentence, with numbers, for everything that can be said of a stream."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

from watcher.model import Design, Kind, Labels, Needs, Rule, Verdict, Watch, Worse


def subject(rule: Rule, labels: Labels) -> str:
    """Return what a sentence is about: the rule, and the stream where there are several.

    >>> from watcher.model import Selector
    >>> subject(Rule("errors", Kind.RATIO, Selector("errors"), title="Requests that failed"), (("feature", "pay"),))
    'Requests that failed on pay'
    """
    names = [value for _, value in labels if value]
    what = rule.label
    if rule.kind is Kind.LATENCY and rule.objective is not None:
        what = f"{what} (requests over {rule.objective:g} s)"
    return f"{what} on {', '.join(names)}" if names else what


def tolerated(rule: Rule, margin: float) -> str:
    """Return the margin as people say it; the relative one in effect is given beside an absolute one."""
    side = "less" if rule.worse is Worse.LOWER else "more"
    relative = f"{margin * 100:.3g} % {side}"
    return f"{rule.margin * 100:g} pp, {relative}" if rule.absolute else relative


def measured(verdict: Verdict) -> str:
    """Return the effect; of a regression that began late, also its size since then."""
    if verdict.onset is None or verdict.since_onset is None:
        return str(verdict.effect)
    return f"{verdict.effect}, and {verdict.since_onset:.2g} times since {clock(verdict.onset)}"


def regressed(watch: Watch, rule: Rule, verdict: Verdict, margin: float) -> str:
    """Return why a stream is called regressed, and when it was."""
    assert verdict.decided_at is not None
    minutes = (verdict.decided_at - watch.release.exposed_at) / 60
    said = f"{subject(rule, verdict.labels)}: {measured(verdict)}"
    return f"{said}; more than the margin allows ({tolerated(rule, margin)}); decided after {span(minutes)}."


def absent(watch: Watch, rule: Rule, labels: Labels, which: str, blocks: int) -> str:
    """Return why a stream has no data; `which` is the silent arm, or "both"."""
    if which == "treatment":
        other = "its past" if watch.design is Design.BEFORE_AFTER else "the baseline"
        silent = f"the treatment has sent nothing for {blocks} blocks while {other} had traffic"
    else:
        silent = f"{'both arms have' if which == 'both' else 'the baseline has'} sent nothing for {blocks} blocks"
    return f"{subject(rule, labels)}: {silent}."


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
    if needs is None or needs.minutes is None:
        return "how long it will take cannot be said yet"
    events = "" if needs.events is None else f"about {needs.events:,.0f} more events, "
    late = ", longer than the watch lasts" if needs.limit == "window" else ""
    return f"needs {events}about {span(needs.minutes)}{late}"


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

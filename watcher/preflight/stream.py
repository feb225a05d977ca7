"""Is the released feature measured by any rule? Errors in a part that nobody watches are found by nobody."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.evidence.absence import FIRST_BLOCKS
from watcher.model import Labels, Observations, Rule, Strategy, Watch
from watcher.preflight.data import REPAIR
from watcher.preflight.exposure import written
from watcher.preflight.measured import Measured, busy_streams
from watcher.report.preflight import Line

DAY = 86_400.0


def stream(watch: Watch, seen: Measured) -> Iterator[Line]:
    """Check that the feature has a stream with traffic, now or in the last day, of at least one rule."""
    feature = watch.release.feature
    if not watch.focus:
        yield _unfocused(watch)
        return
    focus = written(watch.focus)
    rules = [rule for rule in watch.rules if any(name in rule.by for name, _ in watch.focus)]
    readable = [rule for rule in rules if rule.name in seen.before]
    if not readable:
        said = f"whether anything measures {focus} cannot be said: no rule can be read"
        yield Line("stream", "fail", said, REPAIR)
        return
    wanted = dict(watch.focus).items()
    found = [rule for rule in readable if any(wanted <= dict(own).items() for own in _streams(watch, rule, seen))]
    if found:
        yield Line("stream", "pass", f"{focus} is measured by {', '.join(rule.label for rule in found)}")
    elif seen.treated.sum() >= FIRST_BLOCKS:
        yield Line(
            "stream",
            "fail",
            f"users have {feature}, and no rule has a stream with {focus}: what goes wrong there is seen by nobody",
            f"count its requests, errors and load times with that label ({_others(watch, readable, seen)})",
        )
    else:
        yield Line(
            "stream",
            "warn",
            f"no rule has a stream with {focus} yet: unless it is born with the first user, nobody sees it go wrong",
            f"check the name ({_others(watch, readable, seen)}), and run this again once users have it",
        )


def _streams(watch: Watch, rule: Rule, seen: Measured) -> set[Labels]:
    """Return the streams of a rule that had traffic lately, or in the last day before exposure."""
    parts: list[tuple[Observations, int | None]] = [(seen.lately[rule.name], None)]
    parts.append((seen.before[rule.name], round(DAY / watch.block)))
    return {
        labels
        for each, blocks in parts
        for arm in (each.treatment, each.baseline)
        if arm is not None
        for labels in busy_streams(arm, each.streams, blocks)
    }


def _others(watch: Watch, rules: list[Rule], seen: Measured) -> str:
    """Return the values that streams have in place of those in focus, a few of them."""
    names = {name for name, _ in watch.focus}
    found = sorted(
        {value for rule in rules for labels in _streams(watch, rule, seen) for name, value in labels if name in names}
    )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"measured are: {', '.join(value or 'none' for value in found[:5])}{more}" if found else "nothing is measured"
    )


def _unfocused(watch: Watch) -> Line:
    feature = watch.release.feature
    if any(value == feature for _, value in watch.treatment or ()):
        return Line("stream", "pass", f"both arms are users of {feature}: {written(watch.treatment or ())}")
    if watch.release.strategy is not Strategy.FLAG:
        return Line(
            "stream", "pass", "everything that the new version does is compared: the release is the whole service"
        )
    return Line(
        "stream",
        "warn",
        f"nothing says which streams are those of {feature}: what goes wrong there may drown in all the others",
        'count by feature (`by: [feature]` in the rule pack), and write `focus: {feature: "{feature}"}`',
    )

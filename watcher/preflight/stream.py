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
    own = tuple((name, value) for name, value in watch.treatment or () if value == feature)
    what = written(watch.focus or own)
    if not watch.focus and not own:
        yield _unnamed(watch)
        return
    rules = [rule for rule in watch.rules if not watch.focus or any(name in rule.by for name, _ in watch.focus)]
    readable = [rule for rule in rules if rule.name in seen.before]
    if not readable:
        said = f"whether anything measures {what} cannot be said: no rule can be read"
        yield Line("stream", "fail", said, REPAIR)
        return
    wanted = dict(watch.focus).items()
    found = [rule for rule in readable if any(wanted <= dict(one).items() for one in _streams(watch, rule, seen))]
    there = _there(watch, readable, seen)
    if found:
        yield Line("stream", "pass", f"{what} is measured by {', '.join(rule.label for rule in found)}")
    elif seen.treated.sum() >= FIRST_BLOCKS:
        yield Line(
            "stream",
            "fail",
            f"users have {feature}, and no rule has a stream with {what}: what goes wrong there is seen by nobody",
            f"count its requests, errors and load times with that label ({there})",
        )
    else:
        yield Line(
            "stream",
            "warn",
            f"no rule has a stream with {what} yet: unless it is born with the first user, nobody sees it go wrong",
            f"check the name ({there}), and run this again once users have it",
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


def _there(watch: Watch, rules: list[Rule], seen: Measured) -> str:
    """Return what streams there are in place of those in focus, a few of them."""
    names = {name for name, _ in watch.focus}
    found = sorted(
        {value for rule in rules for labels in _streams(watch, rule, seen) for name, value in labels if name in names}
    )
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return (
        f"measured are: {', '.join(value or 'none' for value in found[:5])}{more}" if found else "nothing is measured"
    )


def _unnamed(watch: Watch) -> Line:
    """Say whether it matters that nothing tells the streams of the feature from others."""
    if watch.release.strategy is not Strategy.FLAG:
        whole = "everything that the new version does is compared: the release is the whole service"
        return Line("stream", "pass", whole)
    return Line(
        "stream",
        "warn",
        f"nothing says which streams are those of {watch.release.feature}: harm to them may drown in all others",
        'count by feature (`by: [feature]` in the rule pack), and write `focus: {feature: "{feature}"}`',
    )

"""Who sees the new version: the configured share, the share that is observed, and whether users keep what they got."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from watcher import reasons
from watcher.comparison import SPLIT, fold_split, split_rule
from watcher.config import ReleaseEntry
from watcher.model import SAME_SHARE, Labels, Strategy, Watch
from watcher.preflight.measured import Measured
from watcher.preflight.turning import Turning
from watcher.report.preflight import Line


def exposure(
    watch: Watch, entry: ReleaseEntry, turning: Turning | None, share: float | None, seen: Measured, begun: bool
) -> Iterator[Line]:
    """Check who will see the release, and who does.

    Args:
        watch: arms and split.
        entry: how releases of this kind are noticed.
        turning: what the switch says; None where there is none.
        share: of the users, as configured; None where nobody says.
        seen: what was measured.
        begun: whether the release is being watched already.
    """
    yield from _noticed(watch, entry, turning, begun)
    if watch.baseline is None:
        yield from _everybody(watch, share)
    else:
        yield from _arms(watch, entry, share)
        yield from () if share == 1.0 else _observed(watch, entry, seen, begun)
    yield from _agreement(watch, turning)
    if share != 1.0 and (share is not None or watch.baseline is not None):
        yield _sticky(turning)


def _noticed(watch: Watch, entry: ReleaseEntry, turning: Turning | None, begun: bool) -> Iterator[Line]:
    """Say where the daemon would not notice the release, or users have it before it begins."""
    if begun:
        return
    feature, named = watch.release.feature, ", ".join(entry.features)
    listed = entry.notice.flags_file is not None or (entry.notice.switch and bool(entry.features))
    if listed and feature not in entry.features:
        yield Line(
            "exposure",
            "fail",
            f"nobody would notice: {entry.key}.notice.features names {named}, and not {feature}",
            "add it there, and restart the daemon; or check the spelling",
        )
    if entry.notice.label is not None and feature not in entry.features:
        yield Line(
            "exposure",
            "warn",
            f"a new {entry.notice.label} is noticed as a release of {named}, and not of {feature}",
            f"ask about {watch.release.service}/{named}; or name {feature} in {entry.key}.notice.features",
        )
    if watch.release.strategy is Strategy.FLAG and turning is not None and turning.share is not None:
        shown = turning.state.shown if turning.state is not None else ""
        yield Line(
            "exposure",
            "warn",
            f"users have {feature} already{f' ({shown})' if shown else ''}, though no release of it is being watched",
            "turn it off until everything here passes; opened again, it is noticed as a release",
        )


def _everybody(watch: Watch, share: float | None) -> Iterator[Line]:
    """Say what becomes of an effect on a few where all are measured together."""
    if share is None or share == 1.0:
        yield Line("exposure", "pass", "everybody, held against the past: there are no arms")
        return
    yield Line(
        "exposure",
        "warn",
        f"{100 * share:g} % of the users, and metrics do not say which: the effect is diluted {1 / share:.3g} times, "
        f"and takes {1 / share**2:.3g} times the traffic to be seen",
        'label metrics by what users got, and write `arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}`',
    )


def _arms(watch: Watch, entry: ReleaseEntry, share: float | None) -> Iterator[Line]:
    assert watch.baseline is not None
    arms = f"{written(watch.treatment or ())} against {written(watch.baseline)}"
    if share is None:
        yield Line(
            "exposure",
            "warn",
            f"nobody says what share of the users will get it ({arms})",
            _where_to_say(entry),
        )
    elif share == 1.0:
        yield Line(
            "exposure",
            "fail",
            f"all users get it: nobody is left in the baseline ({written(watch.baseline)}) to hold it against",
            "begin with a smaller share: opened for all at once, it is held against the past alone",
        )
    else:
        yield Line("exposure", "pass", f"{100 * share:.3g} % of the users: {arms}")


def _observed(watch: Watch, entry: ReleaseEntry, seen: Measured, begun: bool) -> Iterator[Line]:
    """Hold the users who came to each arm in the last minutes against the configured share."""
    rule = split_rule(watch)
    if watch.split is None:
        yield Line(
            "exposure",
            "warn",
            "whether the arms get the shares that are configured will not be checked",
            f"name a counter of users or sessions in {entry.key}: `split: {{assigned: sessions_total, share: "
            f"{_knows(entry)}}}`",
        )
        return
    if rule is None:
        return
    if SPLIT not in seen.lately:
        problem = seen.problems.get(SPLIT, "the metrics cannot be read")
        fix = f"see that {watch.split.assigned} can be read, and run this again"
        yield Line("exposure", "fail", f"how users are split cannot be said: {problem}", fix)
        return
    lately = seen.lately[SPLIT]
    if not any(arm.total.any() for arm in (lately.baseline, lately.treatment) if arm is not None):
        yield Line(
            "exposure",
            "warn",
            f"{watch.split.assigned} counted nobody in the last minutes: the split will not be checked, unless it only "
            "counts once a release runs",
            "check its name and labels",
        )
        return
    found = fold_split(watch, rule, lately, None)
    if not found.observed[0] >= 0:
        why = "nobody was counted since its warm-up" if begun else "before the release there is none to observe"
        yield Line("exposure", "pass", f"the split is checked on {watch.split.assigned}: {why}")
        return
    said = "; ".join(reasons.split(found.share, found.observed))
    if found.log_e.size and float(np.max(found.log_e)) >= -np.log(watch.alpha.split):
        yield Line(
            "exposure",
            "fail",
            f"the split is off: {said}",
            "arms that get other users than configured cannot be compared: repair the assignment, or the share",
        )
    else:
        yield Line("exposure", "pass", f"in the last minutes {said}")


def _where_to_say(entry: ReleaseEntry) -> str:
    if entry.notice.flags_file is not None:
        return "say it with --share 5%, or set rollout_percentage in the flags file"
    if entry.split is not None and entry.split.share == "switch":
        return "say it with --share 5%; once users have it, the switch says it"
    return f"say it with --share 5%, or for good in {entry.key}: `split: {{assigned: sessions_total, share: 5%}}`"


def _knows(entry: ReleaseEntry) -> str:
    return "notice" if entry.notice.flags_file is not None else "switch" if entry.kill else "5%"


def _agreement(watch: Watch, turning: Turning | None) -> Iterator[Line]:
    told, read = watch.release.stages[-1].share, turning.share if turning is not None else None
    if told is not None and read is not None and abs(told - read) >= SAME_SHARE:
        yield Line(
            "exposure",
            "warn",
            f"the release is said to get {100 * told:.3g} % of the users, and the switch gives it {100 * read:.3g} %",
            "set the one or the other right: a split that is off makes the comparison invalid",
        )


def _sticky(turning: Turning | None) -> Line:
    sticky = turning.state.sticky if turning is not None and turning.state is not None else None
    if sticky:
        return Line("exposure", "pass", "sticky: users keep the version they got")
    if sticky is None:
        return Line(
            "exposure",
            "warn",
            "whether users keep the version they got cannot be said: they may flip between versions",
            "see that they are assigned by user or session, and not by request",
        )
    return Line(
        "exposure",
        "warn",
        "not sticky: users flip between versions, and what one version does to them is felt on the other",
        "assign by user or session (a cookie, a stickiness of the flag), and not by request",
    )


def written(pairs: Labels) -> str:
    """Return label equalities as they stand in a selector.

    >>> written((("variant", "on"),))
    'variant="on"'
    """
    return ",".join(f'{name}="{value}"' for name, value in pairs)

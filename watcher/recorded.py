"""What was found of a release, from the journal alone, with what it rests on: what a reader is shown."""

from __future__ import annotations

from typing import Any

from watcher import reasons
from watcher.comparison import SPLIT, fold_split, split_rule
from watcher.deeds import deeds, stamp
from watcher.journal import Journal, Watched
from watcher.look import closed
from watcher.model import Labels, Look, Observations, Watch
from watcher.oneoff import Comparison
from watcher.oneoff import Look as ShownLook
from watcher.report import Findings
from watcher.report.preflight import CHECKS
from watcher.report.release_page import Beside, Checked


def comparison(journal: Journal, watch: Watch, only: tuple[str, Labels] | None = None) -> Comparison | None:
    """Return the verdict on a release with its observations; None where it was not looked at yet.

    Args:
        journal: where it was recorded.
        watch: of the release.
        only: the rule and the labels of the one stream to read observations of.
    """
    last = journal.last_look(watch.release.id, states=False)
    if last is None:
        return None
    return _comparison(journal, watch, last, journal.observations(last.release, only))


def verdict(journal: Journal, watch: Watch) -> Comparison | None:
    """Return the same without any observations, which is quick: enough for all but charts over time."""
    last = journal.last_look(watch.release.id, states=False)
    return None if last is None else _comparison(journal, watch, last, {})


def _comparison(journal: Journal, watch: Watch, last: Look, observations: dict[str, Observations]) -> Comparison:
    # What came after a kill tells of the recovery, not of the release.
    end = last.through if last.killed_at is None else closed(watch, last.killed_at)
    firsts = [float(each.ends[0]) - watch.block for each in observations.values() if each.ends.size]
    findings = Findings(
        watch=watch,
        verdict=last.verdict,
        calibrations=journal.calibrations(last.release),
        start=min(firsts, default=watch.release.exposed_at),
        end=end,
        blocks=last.blocks,
        took_seconds=0.0,
        exposed_at=watch.release.exposed_at,
        killed_at=last.killed_at,
        observations=observations,
    )
    return Comparison(findings, ShownLook.of(last))


def beside(journal: Journal, watched: Watched, last: Look | None) -> Beside:
    """Return what is known of a release beside its verdict.

    Args:
        journal: where it was recorded.
        watched: the release.
        last: the last look at it; None where there was none yet.
    """
    release = watched.watch.release
    checks = journal.recall(f"preflight/{release.id}")
    known = isinstance(checks, dict)
    return Beside(
        facts=tuple(_facts(watched, last)),
        links=watched.watch.links,
        stages=tuple((stamp(stage.at), _share(stage.share)) for stage in release.stages),
        split=split(journal, watched.watch),
        done=tuple((stamp(deed.at), deed.said) for deed in reversed(deeds(journal, release.id))),
        checks=tuple(map(_checked, checks["lines"])) if known else (),
        checked_at=str(checks["at"]) if known else "",
    )


def _facts(watched: Watched, last: Look | None) -> list[tuple[str, str]]:
    watch = watched.watch
    phase, switch = "not looked at yet" if last is None else last.phase, (watch.switch or "none").partition(":")[0]
    over = "" if watched.ended_at is None else f"{watched.status}, {stamp(watched.ended_at)}"
    if over and (last is None or watched.end_reason != last.verdict.reason):
        over += f": {watched.end_reason}"
    found = [
        ("watch", over or f"{phase}, until {stamp(watch.ends_at)} at the latest"),
        ("mode", f"{watch.mode.value}; kill switch: {switch}"),
        ("release", f"{watch.release.strategy.value.replace('_', '-')}, noticed by {watched.noticed_by}"),
    ]
    if last is not None:
        found.append(("last look", f"{stamp(last.at)}, blocks through {reasons.clock(last.through)}"))
        if last.problem is not None:
            found.append(("metrics", last.problem))
    return found


def _share(share: float | None) -> str:
    return "not said" if share is None else f"{100 * share:.3g} %"


def split(journal: Journal, watch: Watch) -> str:
    """Return how users are split between the arms, in words; empty where nothing counts them."""
    rule, state = split_rule(watch), journal.state(watch.release.id, SPLIT)
    if rule is None or state is None:
        return ""
    found = fold_split(watch, rule, None, state)
    return "".join(f"{line[:1].upper()}{line[1:]}." for line in reasons.split(found.share, found.observed))


def _checked(line: dict[str, Any]) -> Checked:
    return Checked(line["status"], CHECKS.get(line["check"], line["check"]), line["said"], line["do"])

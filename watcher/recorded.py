"""What was found of a release, from the journal alone, with what it rests on: what a reader is shown."""

from __future__ import annotations

from watcher.journal import Journal
from watcher.look import closed
from watcher.model import Labels, Look, Observations, Watch
from watcher.oneoff import Comparison
from watcher.report import Findings


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
    return Comparison(findings, last)

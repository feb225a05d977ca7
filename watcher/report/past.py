"""What past releases say of rules: how many bad ones were found, how often a fine one raised an alarm, and how soon.

A figure that nothing speaks of (precision where no release has a label) is None, never 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

import numpy as np

from watcher.attribution import Attribution, Suspect, attribute

BAD, FINE = 1, 0
LABELS = {"": None, "1": BAD, "true": BAD, "0": FINE, "false": FINE}
"""What a release turned out to be, as people write it."""

ERROR = "error"
"""The outcome of a release whose data are wrong: it is neither fine nor found, and counts nowhere."""

ABSENT = 1000.0
"""Score of a release whose treatment went silent: beyond what evidence of harm reaches."""

CONFIDENCE = 0.95
ALPHAS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
"""Error rates that might have been asked for instead."""

Alarm = Literal["", "regressed", "absent_treatment"]


@dataclass(frozen=True)
class PastRelease:
    """What would have been said of a past release.

    `label` is 1 bad, 0 fine, None unknown. `positive` tells whether an alarm was raised, `alarm` which. `decided_at`
    (epoch seconds) is the end of the block at which the outcome was reached, `minutes_to_detect` runs from exposure to
    the look that raised the alarm. `top_stream` is the stream with the most evidence of harm, and `score` how far that
    evidence got: in nats beyond its threshold (0 is exactly there), -inf where nothing could be judged.
    """

    release: str
    outcome: str
    label: int | None = None
    group: str = ""
    alarm: Alarm = ""
    exposed_at: float | None = None
    decided_at: float | None = None
    minutes_to_detect: float | None = None
    top_stream: str = ""
    reason: str = ""
    score: float = -np.inf
    notes: tuple[str, ...] = ()
    """What was odd about its data, for the reader."""
    alpha: float = 0.0
    """The error rate it was judged at."""
    began_at: float | None = None
    """When its harm seems to have begun; None without an alarm."""
    harm: float = 0.0
    """The largest estimated harm of its streams, in standard deviations (see `attribution.Suspect`)."""
    concurrent: bool = False
    control_harmed: bool | None = None
    silent: float = 0.0
    """Share of its streams whose treatment sends nothing."""

    @property
    def suspect(self) -> Suspect:
        """What is known of it as the possible cause of harm."""
        exposed = self.exposed_at or 0.0
        return Suspect(
            self.release,
            exposed,
            alarm=self.alarm,
            began_at=exposed if self.alarm and self.began_at is None else self.began_at,
            evidence=self.score,
            harm=self.harm,
            concurrent=self.concurrent,
            control_harmed=self.control_harmed,
            silent=self.silent,
        )

    @property
    def positive(self) -> bool:
        """Whether an alarm was raised."""
        return bool(self.alarm)

    @property
    def kind(self) -> Literal["found", "missed", "false_alarm", "passed", "alarm", "unlabelled", "error"]:
        """What the alarm, or its absence, was worth; without a label that is not known."""
        if self.outcome == ERROR:
            return "error"
        if self.label is None:
            return "alarm" if self.positive else "unlabelled"
        if self.label == BAD:
            return "found" if self.positive else "missed"
        return "false_alarm" if self.positive else "passed"


@dataclass(frozen=True)
class Share:
    """So many of so many, with the exact 95 % interval of the rate; no rate of nothing."""

    hits: int
    of: int

    @property
    def rate(self) -> float | None:
        """The share."""
        return self.hits / self.of if self.of else None

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper bound of the rate.

        >>> tuple(round(bound, 4) for bound in Share(0, 10).interval)
        (0.0, 0.3085)

        References:
            Clopper and Pearson (1934), Biometrika 26(4).
        """
        if not self.of:
            return None
        # Here, because scipy.stats takes longer to import than most commands take.
        from scipy.stats import binomtest

        found = binomtest(self.hits, self.of).proportion_ci(CONFIDENCE, method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True)
class Tallied:
    """Alarms against labels: found and missed bad releases, false alarms among the fine ones."""

    found: int
    bad: int
    false_alarms: int
    fine: int

    @property
    def recall(self) -> float | None:
        """Share of the bad releases that were found."""
        return Share(self.found, self.bad).rate

    @property
    def precision(self) -> float | None:
        """Share of the alarms that were right."""
        return Share(self.found, self.found + self.false_alarms).rate if self.bad else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall; 0 where no bad release was found."""
        return 2 * self.found / (self.found + self.false_alarms + self.bad) if self.bad else None


@dataclass(frozen=True)
class Alternative:
    """What another alpha would have given, read off the scores."""

    alpha: float
    tallied: Tallied


@dataclass(frozen=True)
class Groups:
    """Releases made together, one of them bad: how often it ranks first, or among the first three (`attribution`).

    A tie counts against the bad release: all that stand exactly as it does come before it.
    """

    cases: int
    first: int
    third: int

    @property
    def hit_rate_1(self) -> float | None:
        """Share of the groups in which the bad release ranks first."""
        return Share(self.first, self.cases).rate

    @property
    def hit_rate_3(self) -> float | None:
        """Share of the groups in which the bad release is among the first three."""
        return Share(self.third, self.cases).rate


@dataclass(frozen=True)
class PastReleases:
    """Past releases, judged as they would have been, look by look.

    `placebos` tells that nothing was released at the times judged: every alarm is a false one. `looks_every` and
    `horizon` are in seconds.
    """

    rows: tuple[PastRelease, ...]
    alpha: float
    looks_every: float
    horizon: float
    name: str = ""
    placebos: bool = False
    warnings: tuple[str, ...] = ()
    took_seconds: float = 0.0

    def of(self, *kinds: str) -> tuple[PastRelease, ...]:
        """Return the releases of some kinds (`PastRelease.kind`), the most telling first.

        Those are the alarms with the most evidence, and the misses with the least.
        """
        those = [row for row in self.rows if row.kind in kinds]
        return tuple(sorted(those, key=lambda row: row.score if row.kind == "missed" else -row.score))

    def tallied(self, threshold: float | None = None) -> Tallied:
        """Count alarms against labels; with a threshold, as if every score from there on had been an alarm."""
        labelled = [row for row in self.rows if row.label is not None and row.outcome != ERROR]
        raised = [row.positive if threshold is None else row.score >= threshold for row in labelled]
        bad = [row.label == BAD for row in labelled]
        found = sum(alarm and wrong for alarm, wrong in zip(raised, bad, strict=True))
        return Tallied(found, sum(bad), sum(raised) - found, len(bad) - sum(bad))

    @property
    def precision(self) -> float | None:
        """Share of the alarms that were right."""
        return self.tallied().precision

    @property
    def recall(self) -> float | None:
        """Share of the bad releases that were found."""
        return self.tallied().recall

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall."""
        return self.tallied().f1

    @property
    def false_alarms(self) -> Share:
        """Alarms among the fine releases."""
        tallied = self.tallied()
        return Share(tallied.false_alarms, tallied.fine)

    @property
    def false_alarm_rate(self) -> float | None:
        """Share of the fine releases that raised an alarm."""
        return self.false_alarms.rate

    @property
    def best_f1(self) -> float | None:
        """The best F1 over all thresholds of the score: for comparison with published figures only."""
        labelled = [row for row in self.rows if row.label is not None and row.outcome != ERROR]
        bad = np.array([row.label == BAD for row in labelled], dtype=bool)
        scores = np.array([row.score for row in labelled])
        if not bad.any():
            return None
        # Alarms are all scores from a threshold on, so thresholds are the last places of equal scores.
        order = np.argsort(-scores, kind="stable")
        found, alarms = np.cumsum(bad[order]), np.arange(1, bad.size + 1)
        last = np.append(scores[order][1:] != scores[order][:-1], True) & np.isfinite(scores[order])
        return float(np.max(2 * found[last] / (alarms[last] + bad.sum()), initial=0.0))

    @property
    def waits(self) -> tuple[float, ...]:
        """Minutes from exposure to alarm of the bad releases that were found, ascending."""
        return tuple(sorted(row.minutes_to_detect for row in self.of("found") if row.minutes_to_detect is not None))

    def minutes_to_detect(self, quantile: float) -> float | None:
        """Return a quantile of the time to detect, over the bad releases that were found."""
        return float(np.quantile(self.waits, quantile)) if self.waits else None

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """What other alphas would have given.

        Approximate: another alpha moves the threshold by log(alpha / other), which is exact for what is tempered, not
        for a stream whose own history says how rare its evidence is, nor for one that is worse within its margin.
        """
        others = sorted({*ALPHAS, self.alpha})
        tallied = {alpha: self.tallied(float(np.log(self.alpha / alpha))) for alpha in others} | {
            self.alpha: self.tallied()
        }
        return tuple(Alternative(alpha, tallied[alpha]) for alpha in others)

    @cached_property
    def attributions(self) -> dict[str, Attribution]:
        """Which release of a group explains best what got worse, by group of at least two that could be judged."""
        judged = sorted((row for row in self.rows if row.group and row.outcome != ERROR), key=lambda row: row.group)
        groups = {group: list(rows) for group, rows in groupby(judged, key=lambda row: row.group)}
        return {
            group: attribute([row.suspect for row in rows], apart=True)
            for group, rows in groups.items()
            if len(rows) > 1
        }

    @property
    def groups(self) -> Groups:
        """How the bad release ranks in groups that have exactly one of them, and at least one other."""
        ranks = []
        for group, found in self.attributions.items():
            bad = [row for row in self.rows if row.group == group and row.label == BAD and row.outcome != ERROR]
            ranks += [found.place(bad[0].release)] if len(bad) == 1 else []
        return Groups(len(ranks), sum(rank == 1 for rank in ranks), sum(rank <= 3 for rank in ranks))

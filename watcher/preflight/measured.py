"""What the metrics say before a release, read once for every check that needs it: the last minutes, and the past."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from watcher.calibration import REMEMBERED
from watcher.comparison import SPLIT, split_rule
from watcher.errors import SourceError, SourceRefused, SourceTooLarge
from watcher.look import Source, past, prepare, request
from watcher.model import Arm, Calibration, Design, Flags, Labels, Observations, Request, Rule, Watch
from watcher.nightly import Past

LATELY = 600.0
"""Seconds before now in which something must have been measured to count as measured now."""


@dataclass(frozen=True)
class Measured:
    """Observations and what is learnt of them, by rule; a rule that could not be read is in `problems` instead.

    `lately` are the blocks of the last minutes (those of the traffic split among them), `before` those before exposure
    that the traffic is known from, `learnt` what a release would be judged with. `down` says why the server did not
    answer, `problem` why nothing could be learnt; empty where it did, and where it could.
    """

    lately: Mapping[str, Observations] = field(default_factory=dict)
    before: Mapping[str, Observations] = field(default_factory=dict)
    learnt: Mapping[str, Calibration] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    down: str = ""
    problem: str = ""

    @property
    def treated(self) -> Flags:
        """In which blocks of the last minutes any rule measured a treatment beside its baseline, [block]."""
        arms = [seen.treatment.total.any(axis=(0, 1)) for seen in self.lately.values() if seen.baseline is not None]
        return np.any(arms, axis=0) if arms else np.zeros(0, dtype=bool)


def measure(watch: Watch, source: Source, learnt: Mapping[str, Calibration], now: float) -> Measured:
    """Read what there is, rule by rule, so that one that cannot be read does not hide the others.

    Args:
        watch: of the release.
        source: where metrics are.
        learnt: what is known of the past already, by rule; empty: it is learnt here.
        now: epoch seconds.
    """
    closed = float(np.floor((now - watch.settle) / watch.block) * watch.block)
    now_asked = request(watch, closed - float(np.ceil(LATELY / watch.block) * watch.block), closed)
    alone = watch.design is Design.BEFORE_AFTER
    past_asked = past(watch, min(watch.history, REMEMBERED) if alone else watch.history)
    lately: dict[str, Observations] = {}
    before: dict[str, Observations] = {}
    problems: dict[str, str] = {}
    split = split_rule(watch)
    try:
        for rule in watch.rules:
            try:
                now_seen = source.observe(_only(now_asked, rule))
                before |= source.history(_only(past_asked, rule))
                lately |= now_seen
            except (SourceRefused, SourceTooLarge) as error:
                problems[rule.name] = str(error)
        if split is not None:
            try:
                lately |= source.observe(_only(now_asked, split))
            except (SourceRefused, SourceTooLarge) as error:
                problems[SPLIT] = str(error)
    except SourceError as error:
        # Nobody answers: whoever asked on would wait as long again for every rule.
        return Measured(down=str(error))
    readable = tuple(rule for rule in watch.rules if rule.name in before)
    found = Measured(lately, before, {}, problems)
    if not readable:
        return found
    if learnt.keys() >= before.keys():
        return replace(found, learnt={name: learnt[name] for name in before})
    watch = replace(watch, rules=readable)
    try:
        return replace(found, learnt=prepare(watch, Past(watch, source) if alone else before))
    except SourceError as error:
        return replace(found, problem=str(error))


def _only(asked: Request, rule: Rule) -> Request:
    return replace(asked, rules=(rule,))


def busy_streams(arm: Arm, streams: tuple[Labels, ...], blocks: int | None = None) -> set[Labels]:
    """Return the streams in which an arm had traffic, over its last blocks (None: all of them)."""
    total = arm.total if blocks is None else arm.total[:, :, -blocks:]
    return {streams[row] for row in np.flatnonzero(total.sum(axis=(1, 2)))}

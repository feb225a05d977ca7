"""A small world for the tests: a release on a memory source, told as a timeline in minutes after exposure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from watcher.look import look, prepare, read_history
from watcher.model import Kind, Look, Mode, Observations, Release, Rule, Selector, Stage, Strategy, Watch, labels
from watcher.testing import MemorySource, counts

MINUTE = 60.0
EXPOSED = 1_800_000_000.0
BEFORE = 240
"""Minutes of history."""

ERRORS = Rule(
    "errors", Kind.RATIO, Selector("errors"), Selector("requests"), title="Requests that failed", critical=True
)


def release(**changes: object) -> Release:
    made = Release("shop", "production", "checkout", "1.2", Strategy.FLAG, (Stage(EXPOSED),))
    return replace(made, **changes)


def watch(*rules: Rule, **changes: object) -> Watch:
    made = Watch(
        release=release(),
        rules=rules or (ERRORS,),
        baseline=labels({"variant": "off"}),
        treatment=labels({"variant": "on"}),
        settle=0.0,
        warm_up=0.0,
        history=BEFORE * MINUTE,
        mode=Mode.ARMED,
        switch="yaml_flags:flags.yaml",
    )
    return replace(made, **changes)


def ratio(
    minutes: int = 180,
    *,
    rate: float = 0.01,
    treated: dict[int, float] | None = None,
    traffic: int = 300,
    silent: range | None = None,
    units: int = 3,
    seed: int = 1,
    alone: bool = False,
) -> Observations:
    """Counts of two arms; `treated` maps minutes after exposure to the treatment's error rate from then on."""
    rng = np.random.default_rng(seed)
    ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 1)
    bad = np.full(ends.size, rate)
    for minute, value in sorted((treated or {}).items()):
        bad[ends > EXPOSED + minute * MINUTE] = value
    total = np.full((units, ends.size), traffic // units)
    on = np.where(ends > EXPOSED, total, 0) if not alone else total.copy()
    if silent is not None:
        on[:, BEFORE + silent.start : BEFORE + silent.stop] = 0
    control = None if alone else (rng.binomial(total, rate), total)
    return counts(ends, control, (rng.binomial(on, bad), on))


def looks(made: Watch, source: MemorySource, minutes: range, **given: object) -> Iterator[Look]:
    """Look once at the end of each of these minutes after exposure."""
    calibrations = prepare(made, read_history(made, source))
    last: Look | None = None
    for minute in minutes:
        last = look(made, source, calibrations, last, EXPOSED + minute * MINUTE, **given)
        yield last
        if last.phase in ("recovered", "unrecovered", "ended"):
            return

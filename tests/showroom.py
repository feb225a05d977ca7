"""Releases to look at: one that broke for some users and was turned off, one that is well, a new one, and old ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from tests.performing import perform
from tests.report.examples import HEALTHY, REGRESSED
from tests.timeline import BEFORE, EXPOSED, MINUTE, looks, ratio, release, watch
from watcher.act import Outbox
from watcher.comparison import SPLIT
from watcher.config import Installation, load_installation
from watcher.daemon import FINAL
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import (
    Arm,
    Kind,
    Labels,
    Look,
    Mode,
    Observations,
    ReleaseVerdict,
    Rule,
    Selector,
    Split,
    Stage,
    Strategy,
    Watch,
    Worse,
    labels,
)
from watcher.report.preflight import Line, Preflight
from watcher.testing import MemoryAlerter, MemorySource, MemorySwitch

NOW = EXPOSED + 90 * MINUTE
REGIONS, BROWSERS = ("eu", "us", "asia"), ("chrome", "firefox", "safari")
SICK = {"region": "eu", "browser": "safari"}
"""Where the bad release is bad."""
FROM = 15
"""Minutes after exposure from which it is."""

OFF = 25
"""Minutes after exposure from which nobody has it any more."""

FAILED = Rule(
    "errors",
    Kind.RATIO,
    Selector("errors"),
    Selector("requests"),
    title="Requests that failed",
    by=("browser", "feature", "region"),
    critical=True,
)
SLOW = Rule(
    "page-load", Kind.LATENCY, Selector("page_load_seconds"), title="Page load time", objective=2.5, margin=0.1,
    by=("region",),
)  # fmt: skip
COMPLETED = Rule(
    "completion", Kind.RATIO, Selector("completed"), Selector("started"), title="Checkouts completed", margin=0.02,
    worse=Worse.LOWER,
)  # fmt: skip
EDGES = (*np.round(0.05 * 1.06 ** np.arange(67), 3).tolist(), 2.5, 4.0, 8.0, float("inf"))

YAML = """\
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
http: {listen: "127.0.0.1:%d", tokens_file: tokens}
block: 5s
services:
  shop:
    rules: [checkout]
    releases: [{strategy: flag, notice: {http: true}}]
"""


def installed(folder: Path, port: int = 8080) -> Installation:
    """Write watcher.yaml."""
    (folder / "watcher.yaml").write_text(YAML % port)
    (folder / "tokens").touch()
    return load_installation(folder / "watcher.yaml")


def furnish(journal: Journal, past: int = 3, features: int = 2, minutes: int = 60) -> str:
    """Fill a journal; return the id of the release that broke.

    Args:
        journal: empty.
        past: how many releases there were before.
        features: how many the rule on errors tells apart, in nine places each.
        minutes: how long the releases were looked at.
    """
    for nth in range(past):
        _ended(journal, nth)
    bad = broken(features)
    _record(journal, bad, source(features, minutes), minutes)
    checks = (
        Line("rollback", "pass", "yaml_flags can be read; a kill would set new-checkout to off"),
        Line("people", "warn", "no stakeholders are named in `tell`", 'name who has to know, such as ["#support"]'),
    )
    journal.remember(f"preflight/{bad.release.id}", Preflight(bad.release.id, checks, EXPOSED + MINUTE).to_json())
    canary = watch(
        release=release(
            feature="search", version="2.4", strategy=Strategy.CANARY, stages=(Stage(EXPOSED, 0.05),), previous="2.3"
        ),
        mode=Mode.OBSERVE,
    )
    _record(journal, canary, MemorySource({"errors": ratio(minutes + 5, traffic=6000, seed=4)}), minutes)
    journal.add_release(watch(release=release(feature="gift-cards", version="7")), NOW, "the flags file")
    return bad.release.id


def broken(features: int) -> Watch:
    """Return the watch on the release that breaks for some users."""
    return watch(
        FAILED,
        SLOW,
        COMPLETED,
        release=release(
            feature="new-checkout",
            version="1.3.0",
            stages=(Stage(EXPOSED, 0.05), Stage(EXPOSED + 10 * MINUTE, 0.25)),
        ),
        split=Split(Selector("users")),
        links=(("dashboard", "https://grafana.example/d/shop"), ("runbook", "https://wiki.example/shop")),
    )


def source(features: int, minutes: int) -> MemorySource:
    """Return what its users felt."""
    rng = np.random.default_rng(11)
    ends = EXPOSED + MINUTE * np.arange(-BEFORE + 1, minutes + 6)
    since, late = ends > EXPOSED, ends > EXPOSED + FROM * MINUTE
    share = np.where(ends > EXPOSED + 10 * MINUTE, 0.25, 0.05) * since * (ends <= EXPOSED + OFF * MINUTE)
    names = ["checkout", "cart", *(f"part-{n}" for n in range(features))][:features]
    places = [labels(dict(zip(FAILED.by, each, strict=True))) for each in product(BROWSERS, names, REGIONS)]

    def sick(stream: Labels) -> bool:
        return SICK.items() <= dict(stream).items()

    def ratios(streams: Sequence[Labels], rate: float, bad: float, traffic: int) -> Observations:
        total = rng.poisson(traffic, (len(streams), 3, ends.size))
        on = rng.binomial(total, share)
        rates = np.full((len(streams), 1, ends.size), rate)
        for row, stream in enumerate(streams):
            if sick(stream) or not stream:
                rates[row, 0, late] = bad
        units = ("web-1", "web-2", "web-3")
        off = total - on
        return Observations(
            tuple(streams),
            ends,
            Arm(units, rng.binomial(on, rates) * 1.0, on * 1.0),
            Arm(units, rng.binomial(off, rate) * 1.0, off * 1.0),
        )

    everybody = rng.poisson(4000, (1, 1, ends.size))
    on = rng.binomial(everybody, share)
    users = Observations(
        ((),), ends, Arm(("",), on * 1.0, on * 1.0), Arm(("",), (everybody - on) * 1.0, (everybody - on) * 1.0)
    )
    return MemorySource(
        {
            "errors": ratios(places, 0.01, 0.08, 900),
            "page-load": _loads(rng, ends, share, late),
            "completion": ratios([()], 0.84, 0.80, 1500),
            SPLIT: users,
        }
    )


def _loads(rng: np.random.Generator, ends: np.ndarray, share: np.ndarray, late: np.ndarray) -> Observations:
    streams = tuple(labels({"region": region}) for region in sorted(REGIONS))

    def arm(part: np.ndarray, slower: np.ndarray) -> Arm:
        cells = np.zeros((len(streams), 1, ends.size, len(EDGES)))
        for row, block in product(range(len(streams)), range(ends.size)):
            many = int(400 * part[block])
            if many:
                slow = slower[block] if streams[row] == labels({"region": SICK["region"]}) else 1.0
                seen = rng.lognormal(-0.5, 0.6, many) * slow
                cells[row, 0, block] = np.bincount(np.searchsorted(EDGES, seen), minlength=len(EDGES))
        over = cells[..., EDGES.index(2.5) + 1 :].sum(axis=-1)
        return Arm(("",), over, cells.sum(axis=-1), cells)

    return Observations(
        streams, ends, arm(share, np.where(late, 1.35, 1.0)), arm(1 - share, np.ones(ends.size)), edges=EDGES
    )


def _record(journal: Journal, made: Watch, metrics: MemorySource, minutes: int) -> None:
    """Record a release as a daemon would that looks at it every five minutes, and does what it decides."""
    journal.add_release(made, EXPOSED, "POST /v1/releases")
    calibrations = prepare(made, read_history(made, metrics))
    journal.record_calibrations(made.release.id, calibrations, EXPOSED)
    outbox = Outbox(journal, lambda _: MemorySwitch({made.release.feature: 0.25}), {"slack": MemoryAlerter()})
    for look in looks(made, metrics, range(5, minutes, 5)):
        journal.record_look(look)
        perform(outbox, look.at)
        if look.phase in FINAL:
            journal.end_release(made.release.id, look.phase, look.verdict.reason, look.at)


def _ended(journal: Journal, nth: int) -> None:
    """Record one of the past, with the last look at it: all that is kept of it after thirty days."""
    at = EXPOSED - (10_000 - nth) * 3600.0
    made = watch(release=release(feature=f"feature-{nth % 40}", version=str(nth), stages=(Stage(at),)))
    journal.add_release(made, at, "the flags file")
    journal.record_look(_look(made, at + 86_400.0, nth))
    journal.end_release(made.release.id, "ended", "Its horizon is past.", at + 86_400.0)


def _look(made: Watch, at: float, nth: int) -> Look:
    verdict = replace(REGRESSED if nth % 20 == 7 else HEALTHY, rule="errors", labels=())
    return Look(made.release.id, at, at, 1440, ReleaseVerdict(verdict.outcome, verdict.reason, (verdict,)), "ended")

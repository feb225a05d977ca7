"""A day on which everything goes wrong for a release of five hundred streams: what the channel gets of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.alerts.slack_server import SlackServer, all_blocks
from tests.performing import perform
from tests.timeline import BEFORE, ERRORS, EXPOSED, MINUTE, looks, watch
from watcher import afterwards
from watcher.act import Outbox
from watcher.alerts import alerter
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import Arm, Mode, Observations, Outcome, labels
from watcher.testing import MemorySource, MemorySwitch

STREAMS, HOURS = 500, 24
EVERY = 30
"""Minutes between looks."""


@pytest.fixture(scope="module")
def source() -> MemorySource:
    """Streams that get five times as bad one after another, all day long."""
    rng = np.random.default_rng(7)
    ends = EXPOSED + MINUTE * EVERY * np.arange(-BEFORE // EVERY + 1, HOURS * 60 // EVERY + 1)
    total = rng.poisson(40_000, (STREAMS, 2, ends.size)).astype(float)
    began = EXPOSED + MINUTE * np.linspace(20, (HOURS - 4) * 60, STREAMS)
    rate = np.where(ends[None, None] > began[:, None, None], 0.05, 0.01)
    streams = tuple(labels({"feature": f"part-{n:03d}"}) for n in range(STREAMS))

    def arm(rates: np.ndarray | float) -> Arm:
        return Arm(("a", "b"), rng.binomial(total.astype(int), rates).astype(float), total)

    return MemorySource({"errors": Observations(streams, ends, arm(rate), arm(0.01))})


@pytest.fixture
def slack() -> Iterator[SlackServer]:
    with SlackServer("#releases") as server:
        yield server


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.RECOMMEND, Mode.ARMED])
def test_five_hundred_streams_are_one_message_and_at_most_three_posts(
    source: MemorySource, slack: SlackServer, mode: Mode
) -> None:
    made = watch(
        replace(ERRORS, by=("feature",)),
        mode=mode,
        block=MINUTE * EVERY,
        horizon=HOURS * 3600.0,
        history=BEFORE * MINUTE,
    )
    told = alerter("slack", token=slack.token, channel="#releases", mention="<!here>", base_url=slack.base_url)
    with Journal.open("sqlite://") as journal:
        outbox = Outbox(journal, lambda _: MemorySwitch({"checkout": 1.0}), {"slack": told}, stopwatch=lambda: 0.0)
        journal.add_release(made, EXPOSED, "a test")
        journal.record_calibrations(made.release.id, prepare(made, read_history(made, source)), EXPOSED)
        for look in looks(made, source, range(EVERY, HOURS * 60 + 1, EVERY)):
            journal.record_look(look)
            perform(outbox, look.at)
            afterwards.report(journal, journal.switched(), look.at)
            for second in range(1, 5):
                perform(outbox, look.at + second)
        worse = sum(each.outcome is Outcome.REGRESSED for each in look.verdict.streams)
        assert worse > (1 if mode is Mode.ARMED else 400)
        [headline, *posts] = slack.messages("#releases")
        assert headline.thread_ts is None
        assert len(posts) <= 3
        assert all(each.broadcast and each.thread_ts == headline.ts for each in posts)
        assert headline.before, "it was edited"
        assert len(all_blocks(headline.body)) <= 50
        assert "more streams regressed" in headline.shown or mode is Mode.ARMED
        assert all(one.ts < other.ts for one, other in pairwise(posts))
        assert journal.unfinished() == []

"""Past releases on a server: what they are, that each stretch is read once, and that a part of it is what was there."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from tests.timeline import ERRORS, watch
from watcher.config import load_installation
from watcher.errors import ConfigError, DataError, SourceDown
from watcher.journal import Journal
from watcher.look import prepare, read_history
from watcher.model import (
    UNSETTLED,
    Arm,
    Exposure,
    Labels,
    Look,
    Observations,
    ReleaseVerdict,
    Request,
    Stage,
    Watch,
    labels,
)
from watcher.oneoff.exposures import PastExposure, filled, read_releases
from watcher.oneoff.kept import Horizon, Kept
from watcher.oneoff.past import judged
from watcher.oneoff.past_server import Looking, Template, found_cases, without_arms
from watcher.oneoff.prepared import Prepared
from watcher.oneoff.replay import looks
from watcher.testing import MemorySource

DAY, HOUR, MINUTE = 86_400.0, 3600.0, 60.0
NOW = 1_800_000_000.0 // DAY * DAY + 12 * HOUR
DAYS = 12


@dataclass
class Server:
    """A server with one failing stream, everybody's; it counts what it is asked for."""

    bad: tuple[tuple[float, float], ...] = ()
    by: bool = False
    asked: list[tuple[str, float, float]] = field(default_factory=list)
    url: str = "http://memory"
    down_after: float = np.inf

    def _read(self, how: str, request: Request) -> dict[str, Observations]:
        self.asked.append((how, request.start, request.end))
        if how == "raw" and request.start > self.down_after:
            raise SourceDown("no answer")
        return MemorySource({rule.name: self.all for rule in request.rules}).observe(request)

    def observe(self, request: Request) -> dict[str, Observations]:
        return self._read("raw", request)

    def history(self, request: Request) -> dict[str, Observations]:
        return self._read("history", request)

    def __post_init__(self) -> None:
        rng, ends = np.random.default_rng(1), np.arange(NOW - DAYS * DAY, NOW, MINUTE) + MINUTE
        rate = np.full(ends.size, 0.01)
        for start, end in self.bad:
            rate[(ends > start) & (ends <= end)] = 0.05
        streams: tuple[Labels, ...] = (labels({"feature": "cart"}), labels({"feature": "pay"})) if self.by else ((),)
        total = np.full((len(streams), 2, ends.size), 200.0)
        if self.by:
            total[1, :, ends <= NOW - 5 * HOUR] = 0.0
        self.all = Observations(
            streams, ends, Arm(("a", "b"), rng.binomial(total.astype(int), rate).astype(float), total)
        )


def alone(**changes: object) -> Watch:
    made = watch(replace(ERRORS, unit="unit"), baseline=None, treatment=None, history=2 * DAY, horizon=2 * HOUR)
    return replace(made, **changes)


def at(hours: float, name: str = "", **more: object) -> PastExposure:
    """A release so many hours before now."""
    return PastExposure(name or f"{hours:g} h ago", NOW - hours * HOUR, **more)


def cases(server: Server, *known: PastExposure, like: Watch | None = None, **changes: object):
    like = like or alone()
    looking = replace(Looking(NOW, NOW - 8 * DAY, every=600.0, known=known), **changes)
    kept = Kept(lambda: server)
    return found_cases(kept, looking, Template(like), like, lambda: Template(without_arms(like)), "memory")


# Economy


def test_releases_that_share_their_past_read_each_day_of_it_once_and_each_horizon_in_one_read() -> None:
    server = Server()
    found = judged(cases(server, at(60), at(50), at(55), at(30)), 1)
    assert [row.outcome for row in found.rows] != ["error"] * 4
    days = [asked for asked in server.asked if asked[0] == "history"]
    assert len(days) == len(set(days)) <= 6
    assert all(start % DAY == 0 and end - start == DAY for _, start, end in days)
    assert sum(how == "raw" for how, _, _ in server.asked) == 4


def test_other_margins_and_charts_read_nothing_again() -> None:
    server = Server()
    made = cases(server, at(60), at(50))
    judged(made, 1)
    before = len(server.asked)
    judged(made.with_margins(2.0), 1)
    made.compared(made.tasks[0])
    assert len(server.asked) == before


def test_spread_over_processes_everything_is_read_here_once_and_says_the_same() -> None:
    alone_server, server = Server(), Server(down_after=NOW - 20 * HOUR)
    made = cases(server, at(60), at(50), at(10))
    made.read_ahead()
    read = len(server.asked)
    assert [how for how, _, _ in server.asked].count("raw") == 3
    server.down_after = np.inf
    here, spread = (judged(made, processes) for processes in (1, 2))
    assert len(server.asked) == read + 1
    assert spread.rows == here.rows == judged(cases(alone_server, at(60), at(50), at(10)), 1).rows


def test_what_was_not_used_for_longest_is_let_go_when_memory_is_full() -> None:
    server = Server()
    kept = Kept(lambda: server, most=1)
    made = alone(release=replace(watch().release, stages=(Stage(NOW - 5 * HOUR),)))
    first, again = read_history(made, kept), read_history(made, kept)
    assert len(server.asked) > 3
    assert np.array_equal(first["errors"].treatment.events, again["errors"].treatment.events)


def test_another_process_opens_a_connection_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    kept = Kept(lambda: opened.append(1) or Server())  # type: ignore[func-returns-value]
    assert kept.source is kept.source
    monkeypatch.setattr("os.getpid", lambda: -1)
    assert kept.source is kept.source
    assert len(opened) == 2
    assert isinstance(pickle.loads(pickle.dumps(Kept(Server))), Kept)


# Exactness


def said(found: Iterator[Look]) -> list[ReleaseVerdict]:
    return [each.verdict for each in found]


@pytest.mark.parametrize("by", [False, True])
def test_a_part_of_what_was_read_at_once_is_judged_as_what_is_read_look_by_look(by: bool) -> None:
    server, exposed = Server(bad=((NOW - 5.5 * HOUR, NOW),), by=by), NOW - 6 * HOUR + 90
    rule = replace(ERRORS, unit="unit", by=("feature",) if by else ())
    made = alone(rules=(rule,), release=replace(watch().release, stages=(Stage(exposed),)), settle=45.0)
    until = exposed + 2 * HOUR
    kept = Kept(lambda: server)
    past, whole = read_history(made, kept), Horizon.of(kept, made, until)
    direct = read_history(made, server)
    if by:
        assert past["errors"].streams == (labels({"feature": "cart"}),)
        direct = {"errors": direct["errors"].of_streams([0])}
    assert np.array_equal(past["errors"].treatment.total, direct["errors"].treatment.total)
    assert np.array_equal(past["errors"].ends, direct["errors"].ends)
    learnt = prepare(made, direct)
    one = said(looks(Prepared(made, whole, past, learnt, until, True), 300.0))
    if by:
        # A stream is known from its first traffic on.
        before = [verdict for verdict in one if len(verdict.streams) == 1]
        assert 0 < len(before) < len(one)
    else:
        assert one == said(looks(Prepared(made, server, past, learnt, until, True), 300.0))


def test_a_look_sees_nothing_that_had_not_settled() -> None:
    server, exposed = Server(), NOW - 6 * HOUR
    made = alone(release=replace(watch().release, stages=(Stage(exposed),)), settle=90.0)
    ready = replace(cases(server, at(6), like=made).prepared(at(6)))
    for found in looks(ready, 300.0):
        assert found.through <= found.at - 90.0
    assert found.at == exposed + 2 * HOUR


# What is released


def test_a_bad_release_is_found_and_fine_ones_are_not() -> None:
    server = Server(bad=((NOW - 30 * HOUR, NOW - 29 * HOUR),))
    found = judged(cases(server, at(60, label=0), at(30, label=1), at(10, label=0)), 1)
    assert [row.positive for row in found.rows] == [False, True, False]
    assert found.rows[1].exposed_at == NOW - 30 * HOUR
    assert not found.placebos


def test_what_earlier_releases_made_unusual_is_left_out_of_the_past_of_later_ones() -> None:
    made = cases(Server(), at(60, label=1), at(30, label=0), at(10))
    first, second, third = (made.prepared(task).watch.excluded for task in made.tasks)
    bad, fine = NOW - 60 * HOUR, NOW - 30 * HOUR
    assert first == ()
    assert second == ((bad, bad + made.horizon),)
    assert third == ((bad, bad + made.horizon), (fine, fine + UNSETTLED))


def test_what_goes_wrong_with_one_release_is_its_row_and_with_all_of_them_an_error() -> None:
    server = Server(down_after=NOW - 20 * HOUR)
    found = judged(cases(server, at(60), at(10)), 1)
    assert [row.outcome == "error" for row in found.rows] == [False, True]
    assert found.rows[1].reason == "no answer"
    with pytest.raises(DataError, match="nothing can be seen yet"):
        judged(cases(server, at(0.001)), 1)


def test_placebos_stand_where_nothing_is_known_to_be_released_and_say_so() -> None:
    made = cases(Server(), horizon=4 * HOUR)
    assert made.are_placebos
    gaps = np.diff([task.exposed_at for task in made.tasks])
    assert (gaps == 4 * HOUR).all()
    assert made.tasks[0].exposed_at >= NOW - 8 * DAY + 3 * DAY
    assert made.tasks[-1].exposed_at + 4 * HOUR <= NOW
    assert {task.label for task in made.tasks} == {0}
    assert "--releases" in made.warnings[0]
    with pytest.raises(DataError, match="no room for placebo releases"):
        cases(Server(), since=NOW - HOUR)


def test_fixed_arms_need_somebody_to_say_when_they_began_to_differ() -> None:
    fixed = alone(baseline=labels({"variant": "off"}), treatment=labels({"variant": "on"}))
    with pytest.raises(ConfigError, match="say when users were exposed"):
        cases(Server(), like=fixed)
    named = alone(baseline=labels({"version": "{previous}"}), treatment=labels({"version": "{version}"}))
    made = cases(Server(), like=named)
    assert made.planner.watch(made.tasks[0]).baseline is None


def test_arms_get_the_values_of_the_release_whatever_they_hold() -> None:
    arm = labels({"version": "{previous}", "tier": "web"})
    assert filled(arm, at(1, previous='1"{version}'), "--baseline") == (("tier", "web"), ("version", '1"{version}'))
    with pytest.raises(ConfigError, match=r"nobody says what \{previous\} is for r7"):
        filled(arm, at(1, "r7"), "--baseline")
    with pytest.raises(ConfigError, match=r"a placeholder is a whole value"):
        filled(labels({"version": "v{version}"}), at(1, version="2"), "--treatment")


def written(tmp_path: Path, text: str) -> Path:
    (tmp_path / "releases.csv").write_text(text)
    return tmp_path / "releases.csv"


def test_a_list_of_releases_is_read_as_it_is_written(tmp_path: Path) -> None:
    text = (
        "exposed_at,release,label,group,previous,version\n"
        "2026-11-20T11:00:00+01:00,r1,1,week,1.9,1.10\n1795172400,r2,,,1.10,007\n"
    )
    assert read_releases(written(tmp_path, text)) == [
        PastExposure("r1", 1_795_168_800.0, 1, "week", "1.9", "1.10"),
        PastExposure("r2", 1_795_172_400.0, None, "", "1.10", "007"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("release\nr1\n", "exposed_at"),
        ("exposed_at\n1795172400\n", "release"),
        ("exposed_at,release\n2026-11-20T11:00:00,r1\n", "row 1, column exposed_at.*time zone"),
        ("exposed_at,release\nyesterday,r1\n", "row 1, column exposed_at"),
        ("exposed_at,release\n1795172400,\n", "row 1, column release.*missing"),
        ("exposed_at,release,label\n1795172400,r1,bad\n", "row 1, column label.*no label"),
        ("exposed_at,release\n1795172400,r1\n1795172401,r1\n", "row 2, column release.*twice"),
        ("exposed_at,release\n", "no rows"),
    ],
)
def test_a_wrong_list_is_refused_with_its_row(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(DataError, match=problem):
        read_releases(written(tmp_path, text))


# What an installation remembers

YAML = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    environment: production
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [a, b, c, d]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
"""


def test_the_journal_s_releases_are_bad_once_turning_them_off_helped_and_fine_once_accepted(tmp_path: Path) -> None:
    from watcher import intake
    from watcher.rehearsal import _known

    (tmp_path / "watcher.yaml").write_text(YAML)
    installation = load_installation(tmp_path / "watcher.yaml")
    shop = installation.services["shop"]
    with Journal.open(installation.journal) as journal:
        names = {}
        for hours, feature in ((90, "old"), (40, "a"), (30, "b"), (20, "c"), (10, "d")):
            exposure = Exposure(feature, "r1", NOW - hours * HOUR, share=0.5)
            names[feature] = intake.take(installation, journal, shop, shop.releases[0], exposure, "test").release
        journal.end_release(names["a"], "recovered", "killed", NOW)
        journal.end_release(names["b"], "unrecovered", "killed", NOW)
        rule = shop.rules[0].name
        intake.accept(journal, names["c"], rule, "a new page", NOW, "ada")
        found = _known(journal, shop, NOW - 48 * HOUR)
    assert [(each.release, each.label) for each in found] == [
        (names["a"], 1),
        (names["b"], None),
        (names["c"], 0),
        (names["d"], None),
    ]
    assert all(each.watch is not None and each.watch.treatment == (("variant", "on"),) for each in found)

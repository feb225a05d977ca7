"""The journal keeps exactly what it was given, all of it or nothing, whatever happens to the process."""

from __future__ import annotations

import json
import math
import multiprocessing
import random
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest

from tests.planted import MARK
from watcher.errors import JournalError
from watcher.journal import LEASE, SCHEMA, Journal, LookLine
from watcher.model import (
    Alert,
    Alpha,
    Arm,
    Calibration,
    Effect,
    Kill,
    Kind,
    Look,
    Mode,
    Needs,
    Observations,
    Outcome,
    Refusal,
    Release,
    ReleaseVerdict,
    Rule,
    Selector,
    Stage,
    Strategy,
    Tally,
    Verdict,
    Watch,
    Worse,
    labels,
)

ERRORS = Rule("errors", Kind.RATIO, Selector.parse('requests_total{code=~"5.."}'), Selector.parse("requests_total"))
LOAD = Rule("load", Kind.GAUGE, Selector.parse("load_seconds"), worse=Worse.HIGHER, by=("feature",), margin=0.1)


def a_watch(version: str = "1.2", rules: tuple[Rule, ...] = (ERRORS, LOAD)) -> Watch:
    release = Release("shop", "production", "new-checkout", version, Strategy.FLAG, (Stage(600.0, 0.05),), "1.1")
    arms = {"baseline": labels({"variant": "off"}), "treatment": labels({"variant": "on"})}
    return Watch(release, rules, labels({"job": "shop"}), **arms, alpha=Alpha(0.1 + 0.2), mode=Mode.ARMED, switch="f/x")


RELEASE = a_watch().release.id


def counts(
    ends: list[float], streams: tuple[str, ...] = ("checkout",), units: tuple[str, ...] = ("a",), seed: int = 1
) -> Observations:
    dice = np.random.default_rng(seed)

    def arm() -> Arm:
        total = dice.integers(0, 50, (len(streams), len(units), len(ends))).astype(float)
        return Arm(units, np.floor(total * dice.random(total.shape)), total)

    return Observations(tuple(labels({"feature": name}) for name in streams), np.array(ends), arm(), arm())


def latencies(ends: list[float], edges: tuple[float, ...] = (0.1, 0.5, math.inf), seed: int = 1) -> Observations:
    """Counts with buckets, the first of them mostly empty."""
    plain, dice = counts(ends, ("cart", "checkout"), ("a", "b"), seed), np.random.default_rng(seed)

    def arm(given: Arm) -> Arm:
        buckets = np.floor(dice.exponential(2.0, (*given.total.shape, len(edges))))
        buckets[..., 0] *= dice.random(given.total.shape) < 0.2
        total = buckets.sum(axis=-1)
        return Arm(given.units, np.minimum(given.events, total), total, buckets)

    assert plain.baseline is not None
    return replace(plain, treatment=arm(plain.treatment), baseline=arm(plain.baseline), edges=edges)


def a_look(at: float, release: str = RELEASE, **more: object) -> Look:
    verdict = Verdict(
        "errors", labels({"feature": "checkout"}), Outcome.INCONCLUSIVE, "not yet",
        Effect("ratio", 1.1, None, math.inf), Tally(61, 6000, 3), Tally(1 / 3, 5990, 3),
        log_e_regressed=-math.inf, log_e_healthy=0.1, needs=Needs(220.0, None, "events"), alarms=("absent_treatment",),
    )  # fmt: skip
    look = Look(release, at, at - 45.0, 3, ReleaseVerdict(Outcome.INCONCLUSIVE, "not yet", (verdict,), ("a",), ("b",)))
    return replace(look, **more)  # type: ignore[arg-type]


def a_kill(key: str = "kill/1", at: float = 0.0) -> Kill:
    return Kill(key, RELEASE, "f/x", "new-checkout", "errors tripled", at)


def an_alert(key: str, kind: str = "headline") -> Alert:
    return Alert(key, RELEASE, kind, "watching", "Watching", ("a", "b"), 1.0, True, labels({"runbook": "https://x"}))  # type: ignore[arg-type]


def same(found: Observations, given: Observations) -> None:
    assert found.streams == given.streams
    assert found.notes == given.notes
    assert found.edges == given.edges
    np.testing.assert_array_equal(found.ends, given.ends)
    for mine, theirs in ((found.treatment, given.treatment), (found.baseline, given.baseline)):
        assert (mine is None) == (theirs is None)
        if mine is not None and theirs is not None:
            assert mine.units == theirs.units
            np.testing.assert_array_equal(mine.events, theirs.events)
            np.testing.assert_array_equal(mine.total, theirs.total)
            assert (mine.buckets is None) == (theirs.buckets is None)
            if mine.buckets is not None and theirs.buckets is not None:
                np.testing.assert_array_equal(mine.buckets, theirs.buckets)


# Where the journal lives


@pytest.fixture
def journal(url: str) -> Iterator[Journal]:
    with Journal.open(url) as journal:
        journal.add_release(a_watch(), 10.0, "http")
        yield journal


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "watcher.db"


# Releases


def test_a_watch_comes_back_exactly_as_it_went_in(journal: Journal) -> None:
    assert journal.watch(RELEASE) == a_watch()
    assert journal.watch(RELEASE).alpha.regressed == 0.1 + 0.2


def test_a_release_known_already_is_not_added_again(journal: Journal) -> None:
    assert journal.add_release(a_watch("1.3"), 20.0, "cli") is True
    assert journal.add_release(a_watch("1.3", rules=(LOAD,)), 30.0, "http") is False
    assert journal.watch(a_watch("1.3").release.id).rules == (ERRORS, LOAD)


def test_an_ended_release_is_listed_with_the_first_reason(journal: Journal) -> None:
    journal.add_release(a_watch("1.3"), 20.0, "cli")
    assert journal.end_release(RELEASE, "superseded", "1.3 came", 30.0) is True
    assert journal.end_release(RELEASE, "ended", "time is up", 40.0) is False
    assert [one.watch.release.version for one in journal.watches(active=True)] == ["1.3"]
    (ended,) = journal.watches(active=False)
    assert (ended.status, ended.end_reason, ended.ended_at, ended.noticed_by, ended.at) == (
        "superseded", "1.3 came", 30.0, "http", 10.0,
    )  # fmt: skip
    assert len(journal.watches()) == 2


def test_a_new_stage_replaces_the_watch(journal: Journal) -> None:
    staged = replace(a_watch(), release=replace(a_watch().release, stages=(Stage(600.0, 0.05), Stage(1200.0, 0.5))))
    journal.set_watch(staged)
    assert journal.watch(RELEASE) == staged


def test_an_unknown_release_is_an_error_that_names_it(journal: Journal) -> None:
    with pytest.raises(JournalError, match=r"shop/x@1.*unknown"):
        journal.record_look(a_look(1.0, release="shop/x@1"))
    with pytest.raises(JournalError, match="unknown"):
        journal.watch("shop/x@1")


# Calibrations and looks


def test_a_calibration_is_frozen_by_the_first_record(journal: Journal) -> None:
    learnt = Calibration(
        (labels({"feature": "checkout"}), ()), "history 24h", 1.7, False, 0.1, notes=("two gaps",), points=288,
        level=np.array([0.1 + 0.2, math.nan]), usual=np.ones((2, 3)) / 3, sigma=np.array([math.inf, 1e-300]),
        placebos=np.array([0.5, -0.0]), apart=1, bar=0.1 + 0.2,
    )  # fmt: skip
    frozen = journal.record_calibrations(RELEASE, {"errors": learnt}, 5.0)
    later = journal.record_calibrations(RELEASE, {"errors": Calibration(), "load": Calibration()}, 6.0)
    found = journal.calibrations(RELEASE)
    assert frozen["errors"].digest == later["errors"].digest == found["errors"].digest == learnt.digest
    assert found["load"] == Calibration()
    assert found["errors"].streams == learnt.streams
    np.testing.assert_array_equal(found["errors"].level, learnt.level)
    np.testing.assert_array_equal(found["errors"].usual, learnt.usual)
    np.testing.assert_array_equal(found["errors"].placebos, learnt.placebos)
    assert (found["errors"].apart, found["errors"].bar, found["errors"].notes) == (1, learnt.bar, learnt.notes)
    np.testing.assert_array_equal(found["errors"].sigma, learnt.sigma)


def test_the_last_look_comes_back_with_its_states(journal: Journal) -> None:
    assert journal.last_look(RELEASE) is None
    states = {"errors": {"log_e": [-math.inf, 0.1 + 0.2, 5e-324], "nan": math.nan, "n": 2**60}, "load": {"held": 0}}
    look = a_look(
        700.0, states=states, actions=(a_kill(), an_alert("a/1")), refusals=(Refusal("kill", "mode", "observe"),),
        told="regressed", killed_at=690.0, problem="timed out \0 at \ud800",
        observations={"errors": counts([600.0, 660.0])},
    )  # fmt: skip
    journal.record_look(look)
    found = journal.last_look(RELEASE)
    assert found is not None
    assert math.isnan(found.states["errors"].pop("nan"))
    del states["errors"]["nan"]  # type: ignore[union-attr]
    assert found == replace(look, observations={})
    assert journal.looks(RELEASE)[0].problem == "timed out  at ?"
    assert isinstance(found.verdict.streams[0].outcome, Outcome)


def test_states_outlive_a_look_that_could_not_read_its_source(journal: Journal) -> None:
    journal.record_look(a_look(700.0, states={"errors": {"n": 1}, "load": {"n": 1}}))
    journal.record_look(a_look(760.0, problem="source down"))
    journal.record_look(a_look(820.0, states={"errors": {"n": 2}}))
    last = journal.last_look(RELEASE)
    assert last is not None
    assert last.states == {"errors": {"n": 2}, "load": {"n": 1}}
    assert [line.problem for line in journal.looks(RELEASE)] == [None, "source down", None]
    assert journal.looks(RELEASE)[0] == LookLine(700.0, 655.0, 3, Outcome.INCONCLUSIVE, "not yet", "watching")


def test_the_last_look_is_the_one_recorded_last_whoever_recorded_it(url: str) -> None:
    def recorded(by: Journal, at: float, states: dict[str, object], known_to: Journal) -> None:
        by.record_look(a_look(at, states=states, observations={"errors": counts([at])}))
        afresh = Journal.open(url)
        with afresh:
            as_read = afresh.last_look(RELEASE)
        assert as_read is not None
        assert as_read.at == at
        assert by.last_look(RELEASE) == known_to.last_look(RELEASE) == as_read
        assert known_to.last_look(RELEASE, states=False) == replace(as_read, states={})

    with Journal.open(url) as one, Journal.open(url) as other:
        one.add_release(a_watch(), 0.0, "cli")
        recorded(one, 700.0, {"errors": {"n": [1.5, -math.inf]}}, other)
        recorded(one, 760.0, {"load": {"n": 2}}, other)
        recorded(other, 820.0, {"errors": {"n": [2.5]}}, one)
        recorded(one, 880.0, {}, other)
        assert [line.at for line in one.looks(RELEASE)] == [700.0, 760.0, 820.0, 880.0]
        one.end_release(RELEASE, "ended", "horizon", 900.0)
        last = one.last_look(RELEASE)
        assert last is not None
        assert last.states == {"errors": {"n": [2.5]}, "load": {"n": 2}}


def test_what_is_stored_is_strict_json(file: Path) -> None:
    with Journal.open(f"sqlite:///{file}") as journal:
        journal.add_release(a_watch(), 0.0, "cli")
        journal.record_look(a_look(700.0, states={"errors": {"log_e": math.inf, "one": np.float64(1), "on": np.True_}}))
        last = journal.last_look(RELEASE)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    with closing(sqlite3.connect(file)) as raw:
        texts = [*raw.execute("SELECT look FROM looks"), *raw.execute("SELECT state FROM states")]
    assert len([json.loads(text, parse_constant=refuse) for (text,) in texts]) == 2
    assert last is not None
    assert last.states["errors"] == {"log_e": math.inf, "one": 1.0, "on": True}


def test_a_failure_in_the_middle_of_a_look_leaves_nothing_of_it(journal: Journal) -> None:
    class Mute:
        """What JSON cannot say."""

    broken = a_look(
        700.0, observations={"errors": counts([600.0])}, states={"errors": {"n": 1}}, actions=(a_kill(),),
        refusals=(Refusal("kill", "mode"), Refusal(Mute(), "late")),  # type: ignore[arg-type]
    )  # fmt: skip
    with pytest.raises(TypeError):
        journal.record_look(broken)
    assert journal.last_look(RELEASE) is None
    assert journal.observations(RELEASE) == {}
    assert journal.actions() == []
    assert [line.what for line in journal.audit_trail()] == ["release noticed"]


def test_a_refusal_is_audited_when_it_begins_not_at_every_look(journal: Journal) -> None:
    mute, pause = Refusal("kill", "mode", "observe"), Refusal("kill", "paused")
    for at, refusals in ((1.0, (mute,)), (2.0, (mute,)), (3.0, (mute, pause)), (4.0, ()), (5.0, (mute,))):
        journal.record_look(a_look(at, refusals=refusals))
    refused = [line for line in journal.audit_trail(RELEASE) if line.what == "refused"]
    assert [(line.at, line.detail["reason"]) for line in refused] == [(1.0, "mode"), (3.0, "paused"), (5.0, "mode")]


# Observations


def test_observations_come_back_exactly_however_they_were_cut_into_looks(journal: Journal) -> None:
    ends = [600.0 + 60.0 * block for block in range(12)]
    whole = replace(counts(ends, ("cart", "checkout", "a"), ("p1", "p2")), notes=("a reset",))
    gauge = counts(ends, ("cart",), ("p1",), seed=2)
    gap = gauge.treatment.total < 25
    treatment = Arm(("p1",), np.where(gap, np.nan, gauge.treatment.events / 7), np.where(gap, 0.0, 1.0))
    gauge = replace(gauge, treatment=treatment, baseline=None)
    for start, end in ((540.0, 600.0), (600.0, 600.0), (600.0, 900.0), (900.0, 1260.0)):
        seen = {"load": gauge.between(start, end), "errors": whole.between(start, end)}
        journal.record_look(a_look(end, observations=seen))
    found = journal.observations(RELEASE)
    same(found["errors"], whole)
    same(found["load"], gauge)
    assert np.isnan(found["load"].treatment.events).any()


def test_streams_and_units_that_come_later_are_zero_before_and_a_gap_for_a_gauge(journal: Journal) -> None:
    journal.record_look(a_look(1.0, observations={r: counts([600.0], ("b",), ("z",)) for r in ("errors", "load")}))
    journal.record_look(
        a_look(2.0, observations={r: counts([660.0], ("a", "b"), ("z", "c")) for r in ("errors", "load")})
    )
    found = journal.observations(RELEASE)
    errors, load = found["errors"], found["load"]
    assert errors.streams == (labels({"feature": "b"}), labels({"feature": "a"}))
    assert errors.treatment.units == ("c", "z")
    second = counts([660.0], ("a", "b"), ("z", "c")).treatment
    assert errors.treatment.events[0, 0].tolist() == [0.0, second.events[1, 1, 0]]
    assert errors.treatment.total[1, 1].tolist() == [0.0, second.total[0, 0, 0]]
    assert math.isnan(load.treatment.events[1, 0, 0])
    assert load.treatment.total[1, 0, 0] == 0.0


def test_an_absent_treatment_and_silent_blocks_are_kept(journal: Journal) -> None:
    ends = np.array([600.0, 660.0])
    nobody = Arm((), np.empty((1, 0, 2)), np.empty((1, 0, 2)))
    silent = Arm(("a",), np.zeros((1, 1, 2)), np.zeros((1, 1, 2)))
    seen = Observations((labels({"feature": "x"}),), ends, nobody, silent)
    journal.record_look(a_look(700.0, observations={"errors": seen}))
    same(journal.observations(RELEASE)["errors"], seen)


def test_a_block_keeps_its_first_counts(journal: Journal) -> None:
    first = counts([600.0, 660.0])
    journal.record_look(a_look(700.0, observations={"errors": first}))
    journal.record_look(a_look(760.0, observations={"errors": counts([600.0, 660.0], units=("a", "late"), seed=9)}))
    same(journal.observations(RELEASE)["errors"], first)


def test_releases_do_not_see_each_others_counts(journal: Journal) -> None:
    journal.add_release(a_watch("1.3"), 20.0, "cli")
    journal.record_look(a_look(700.0, observations={"errors": counts([600.0])}))
    journal.record_look(
        a_look(700.0, release=a_watch("1.3").release.id, observations={"errors": counts([600.0], seed=3)})
    )
    same(journal.observations(RELEASE)["errors"], counts([600.0]))


def test_buckets_come_back_exactly_however_they_were_cut_into_looks(journal: Journal) -> None:
    whole = latencies([600.0 + 60.0 * block for block in range(8)])
    assert whole.treatment.buckets is not None
    whole.treatment.buckets[0, 0, 3] = [0.1 + 0.2, 0.0, 1 / 3]
    whole.treatment.total[0, 0, 3] = 2.0
    for start, end in ((540.0, 660.0), (660.0, 900.0), (900.0, 1260.0)):
        journal.record_look(a_look(end, observations={"errors": whole.between(start, end)}))
    same(journal.observations(RELEASE)["errors"], whole)


def test_blocks_with_other_buckets_come_back_on_the_edges_they_share(journal: Journal) -> None:
    early, late = latencies([600.0]), latencies([660.0], (0.05, 0.1, 0.3, 0.5, 2.0, math.inf), seed=2)
    for seen in (early, late):
        journal.record_look(a_look(seen.ends[0], observations={"errors": seen}))
    found = journal.observations(RELEASE)["errors"]
    assert found.edges == early.edges
    same(found, early.then(late))


def test_a_block_of_counts_without_buckets_leaves_none_and_a_silent_one_changes_nothing(journal: Journal) -> None:
    seen = latencies([600.0, 660.0])
    silent = counts([720.0])
    nothing = np.zeros_like(silent.treatment.total)
    silent = replace(silent, treatment=Arm(("a",), nothing, nothing), baseline=Arm(("a",), nothing, nothing))
    journal.record_look(a_look(700.0, observations={"errors": seen}))
    journal.record_look(a_look(760.0, observations={"errors": silent}))
    found = journal.observations(RELEASE)["errors"]
    assert found.edges == seen.edges
    same(found.between(540.0, 660.0), seen)
    journal.record_look(a_look(820.0, observations={"errors": counts([780.0])}))
    found = journal.observations(RELEASE)["errors"]
    assert found.edges == ()
    assert found.treatment.buckets is None


# The outbox


def test_the_same_key_twice_is_one_action(journal: Journal) -> None:
    journal.record_look(a_look(1.0, actions=(a_kill(),)))
    journal.record_look(a_look(2.0, actions=(replace(a_kill(), reason="again"), an_alert("a/1"))))
    journal.intend([a_kill(), an_alert("a/1")], 3.0)
    assert [(one.key, one.action, one.created_at) for one in journal.actions(RELEASE)] == [
        ("kill/1", a_kill(), 1.0),
        ("a/1", an_alert("a/1"), 2.0),
    ]
    assert [line.at for line in journal.audit_trail() if line.what == "kill intended"] == [1.0]


def test_kills_come_before_older_alerts(journal: Journal) -> None:
    journal.intend([an_alert("a/1"), an_alert("a/2"), a_kill("k/1"), a_kill("k/2")], 1.0)
    assert [one.key for one in journal.pending(1.0)] == ["k/1", "k/2", "a/1", "a/2"]


def test_of_many_who_claim_one_action_one_gets_it(journal: Journal) -> None:
    journal.intend([a_kill()], 1.0)
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda _: journal.claim("kill/1", 2.0), range(16)))
    assert sum(won) == 1
    assert journal.pending(2.0) == []


def test_a_claim_nobody_finished_is_free_after_its_lease_or_at_once_after_a_restart(journal: Journal) -> None:
    journal.intend([a_kill()], 1.0)
    assert journal.claim("kill/1", 100.0)
    assert not journal.claim("kill/1", 100.0 + LEASE - 1)
    assert journal.claim("kill/1", 100.0 + LEASE)
    assert journal.release_claims() == 1
    assert journal.claim("kill/1", 100.0 + LEASE + 1)
    assert journal.actions()[0].attempts == 3


def test_a_failed_action_waits_until_it_may_be_tried_again_and_a_final_one_for_ever(journal: Journal) -> None:
    journal.intend([a_kill(), an_alert("a/1")], 1.0)
    assert journal.claim("kill/1", 2.0)
    journal.failed("kill/1", "no answer", 50.0, 2.0)
    assert journal.claim("a/1", 2.0)
    journal.failed("a/1", "no such channel", None, 3.0)
    assert journal.pending(49.0) == []
    assert not journal.claim("kill/1", 49.0)
    assert [one.key for one in journal.pending(50.0)] == ["kill/1"]
    assert journal.claim("kill/1", 50.0)
    assert not journal.claim("a/1", 1e9)
    assert journal.actions()[1].error == "no such channel"


def test_a_clock_that_steps_back_holds_nothing_up(journal: Journal) -> None:
    journal.intend([a_kill("k/1"), a_kill("k/2")], 7200.0)
    assert journal.claim("k/1", 7200.0)
    journal.failed("k/1", "no answer", 7230.0, 7200.0)
    assert journal.claim("k/2", 7200.0)
    assert [one.key for one in journal.pending(3600.0)] == ["k/1", "k/2"]
    assert journal.claim("k/1", 3600.0)
    assert journal.claim("k/2", 3600.0)


def test_what_is_done_stays_done(journal: Journal) -> None:
    journal.intend([a_kill()], 1.0)
    journal.claim("kill/1", 2.0)
    journal.done("kill/1", {"read_back": "off"}, 3.0)
    journal.failed("kill/1", "too late", 9.0, 4.0)
    journal.supersede(["kill/1"], 4.0)
    journal.done("kill/1", {"read_back": "twice"}, 5.0)
    (kill,) = journal.actions()
    assert (kill.state, kill.receipt, kill.finished_at) == ("done", {"read_back": "off"}, 3.0)
    assert [line.what for line in journal.audit_trail()] == ["release noticed", "kill intended", "kill done"]


def test_the_headlines_receipt_is_the_latest_one_of_that_alerter(journal: Journal) -> None:
    journal.intend([an_alert("a/1"), an_alert("a/2"), an_alert("a/3"), an_alert("d/1", "detail")], 1.0)
    for key in ("a/1", "a/2", "a/3", "d/1"):
        journal.address([key], ("slack", "console"), 1.0)
    assert journal.receipt_of_headline(RELEASE, "slack") is None
    journal.done("a/1#slack", {"ts": "1"}, 3.0)
    assert journal.receipt_of_headline(RELEASE, "slack") == {"ts": "1"}
    journal.done("a/2#slack", {"ts": "2"}, 4.0)
    journal.done("d/1#slack", {"ts": "0"}, 5.0)
    assert journal.receipt_of_headline(RELEASE, "slack") == {"ts": "2"}
    assert journal.receipt_of_headline(RELEASE, "console") is None


def test_a_clock_that_stepped_back_does_not_make_an_older_headline_the_latest(journal: Journal) -> None:
    journal.intend([an_alert("a/1"), an_alert("a/2")], 1.0)
    for key in ("a/1", "a/2"):
        journal.address([key], ("slack",), 1.0)
    journal.done("a/1#slack", {"state": "watching"}, 3600.0)
    journal.done("a/2#slack", {"state": "regressed"}, 2.0)
    assert journal.receipt_of_headline(RELEASE, "slack") == {"state": "regressed"}


# Memory, retention


def test_memory_keeps_the_latest_value(journal: Journal) -> None:
    assert journal.recall("flags") is None
    journal.remember("flags", {"new-checkout": [True, 5.5]})
    journal.remember("flags", {"new-checkout": None})
    assert journal.recall("flags") == {"new-checkout": None}


def test_pruning_takes_old_ended_releases_whole_and_keeps_actions_and_audit(journal: Journal) -> None:
    journal.add_release(a_watch("1.3"), 0.0, "cli")
    for release in (RELEASE, a_watch("1.3").release.id):
        for at in (700.0, 760.0):
            seen = {"errors": counts([at - 100])}
            journal.record_look(
                a_look(at, release=release, observations=seen, states={"errors": 1}, actions=(a_kill(),))
            )
    journal.end_release(RELEASE, "ended", "time is up", 800.0)
    trail = journal.audit_trail()
    assert journal.prune(800.0 + 99.0, keep=100.0) == 0
    assert journal.prune(800.0 + 101.0, keep=100.0) == 1
    assert journal.prune(800.0 + 101.0, keep=100.0) == 0
    assert journal.observations(RELEASE) == {}
    assert [line.at for line in journal.looks(RELEASE)] == [760.0]
    assert len(journal.looks(a_watch("1.3").release.id)) == 2
    assert journal.observations(a_watch("1.3").release.id)["errors"].ends.tolist() == [600.0, 660.0]
    assert len(journal.actions()) == 1
    assert journal.audit_trail() == trail


def test_a_record_of_another_version_is_an_error_not_a_guess(journal: Journal) -> None:
    with journal._writing() as connection:
        connection.exec_driver_sql("UPDATE releases SET watch = '{\"release\": 1}'")
    with pytest.raises(JournalError, match="another version"):
        journal.watch(RELEASE)


# Opening


def test_a_journal_reopens_with_everything_in_it(url: str) -> None:
    with Journal.open(url) as journal:
        journal.add_release(a_watch(), 0.0, "cli")
        journal.record_look(a_look(700.0, observations={"errors": counts([600.0])}, actions=(a_kill(),)))
    with Journal.open(url) as journal:
        same(journal.observations(RELEASE)["errors"], counts([600.0]))
        assert [one.key for one in journal.pending(700.0)] == ["kill/1"]


def test_many_may_open_a_fresh_journal_at_once(url: str) -> None:
    def start(number: int) -> bool:
        with Journal.open(url) as journal:
            return journal.add_release(a_watch(str(number % 2)), 0.0, "cli")

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(start, range(6))) == 2


def test_sqlite_is_durable_by_its_settings(file: Path) -> None:
    with Journal.open(f"sqlite:///{file}") as journal, journal._reading() as connection:
        pragmas = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_journal_in_memory_may_be_shared_by_threads() -> None:
    with Journal.open("sqlite://") as journal, ThreadPoolExecutor(4) as pool:
        added = pool.map(lambda n: journal.add_release(a_watch(str(n)), 0.0, "cli"), range(40))
        assert sum(added) == 40
        assert len(journal.watches()) == 40


def test_a_journal_of_a_newer_watcher_is_refused(url: str) -> None:
    with Journal.open(url) as journal, journal._writing() as connection:
        connection.exec_driver_sql(f"UPDATE meta SET value = '{SCHEMA + 1}' WHERE key = 'schema'")
    with pytest.raises(JournalError, match=rf"schema {SCHEMA + 1}.*upgrade watcher"):
        Journal.open(url)


def test_a_file_that_is_no_database_is_refused_with_a_remedy(file: Path) -> None:
    file.write_bytes(b"features:\n  new-checkout:\n    enabled: false\n" * 100)
    with pytest.raises(JournalError, match=r"watcher\.db.*recover"):
        Journal.open(f"sqlite:///{file}")


def test_a_damaged_file_is_refused_with_a_remedy(file: Path) -> None:
    with Journal.open(f"sqlite:///{file}") as journal:
        journal.add_release(a_watch(), 0.0, "cli")
        journal.record_look(a_look(700.0, observations={"errors": counts([60.0 * n for n in range(1, 2000)])}))
    whole = file.read_bytes()
    middle = len(whole) // 2
    file.write_bytes(whole[:middle] + bytes(random.Random(4).randbytes(16_384)) + whole[middle + 16_384 :])
    with pytest.raises(JournalError, match=r"watcher\.db.*recover"):
        Journal.open(f"sqlite:///{file}")


def test_a_missing_folder_is_named_with_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"nowhere/w\.db.*directory exists"):
        Journal.open(f"sqlite:///{tmp_path}/nowhere/w.db")


def test_another_programs_database_is_refused(file: Path) -> None:
    with closing(sqlite3.connect(file)) as other:
        other.execute("CREATE TABLE meta (id INTEGER)")
        other.commit()
    with pytest.raises(JournalError, match="not a journal"):
        Journal.open(f"sqlite:///{file}")


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://u:{MARK}@127.0.0.1:1/db",
        f"postgres://u@127.0.0.1:1/db?password={MARK}",
        f"mysql://u:{MARK}@h/db",
        f"u:{MARK}@h",
        f"postgresql://u:{MARK}@h:port/db",
    ],
)
def test_no_error_shows_the_password(url: str) -> None:
    with pytest.raises(JournalError) as caught:
        Journal.open(url)
    shown, error = "", caught.value
    while error is not None:
        shown += f"{error} {error!r}"
        error = error.__cause__  # type: ignore[assignment]
    assert MARK not in shown


# Sudden death


def _write_until_killed(url: str, recorded: Event) -> None:
    with Journal.open(url, check=False) as journal:
        last = journal.last_look(RELEASE)
        blocks = 0 if last is None else last.blocks
        while True:
            blocks += 1
            end = 600.0 + 60.0 * blocks
            seen = {"errors": counts([end], ("a", "b"), ("p", "q"), blocks), "load": counts([end], seed=blocks)}
            states = {rule: {"blocks": blocks} for rule in seen}
            actions = (an_alert(f"a/{blocks}"), a_kill(f"k/{blocks}"))
            journal.record_look(
                a_look(end, blocks=blocks, through=end, observations=seen, states=states, actions=actions)
            )
            recorded.set()


def test_a_process_killed_while_it_writes_leaves_whole_looks_only(file: Path) -> None:
    url, dice = f"sqlite:///{file}", random.Random(7)
    with Journal.open(url) as journal:
        journal.add_release(a_watch(), 0.0, "cli")
    survived = 0
    fork = multiprocessing.get_context("fork")
    for attempt in range(20):
        recorded = fork.Event()
        child = fork.Process(target=_write_until_killed, args=(url, recorded))
        child.start()
        if attempt % 2:
            assert recorded.wait(60)
        time.sleep(0.1 * dice.random())
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        with Journal.open(url) as journal:
            last = journal.last_look(RELEASE)
            done = 0 if last is None else last.blocks
            assert done >= survived
            survived = done
            seen = journal.observations(RELEASE)
            assert [line.blocks for line in journal.looks(RELEASE)] == list(range(1, done + 1))
            assert len(journal.actions()) == 2 * done
        if last is not None:
            assert last.states == {"errors": {"blocks": done}, "load": {"blocks": done}}
            for rule in ("errors", "load"):
                assert seen[rule].ends.tolist() == [600.0 + 60.0 * block for block in range(1, done + 1)]
            same(
                seen["load"].between(540.0 + 60.0 * done, 600.0 + 60.0 * done), counts([600.0 + 60.0 * done], seed=done)
            )
    assert survived >= 10

"""One bar for a whole release: over rules and streams, and what is said where placebos are too few; all seeded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.seasons import DAY, GAUGE, MONDAY, as_gauge, gauge, watch_of
from tests.timeline import ERRORS, watch
from watcher.calibration import together
from watcher.calibration.together import SURE
from watcher.evidence.placebo import bar, p_value
from watcher.judge import shares
from watcher.judge.streams import thresholds
from watcher.look import prepare
from watcher.model import Alpha, Calibration, Floats, Kind, Rule, Selector, Watch, labels

RULES = tuple(Rule(name, Kind.GAUGE, Selector(name), weight=weight) for name, weight in (("a", 3.0), ("b", 1.0)))


def release(*rules: Rule, alpha: float = 0.05) -> Watch:
    return watch(*(rules or RULES), baseline=None, treatment=None, alpha=Alpha(before_after=alpha))


def learnt(reached: Floats, apart: int) -> Calibration:
    streams = tuple(labels({"stream": str(each)}) for each in range(len(reached)))
    arrays = {"memory": np.full((len(reached), 1), 0.5), "temper": np.full((len(reached), 2), [2.0, 0.4])}
    return Calibration(streams, "history 7 d", reached=reached, apart=apart, **arrays)


def two_rules(apart: int, placebos: int = 100) -> tuple[dict[str, Calibration], dict[str, Floats]]:
    rng = np.random.default_rng(1)
    known = {
        "a": learnt(rng.exponential(1.0, (3, placebos)), apart),
        "b": learnt(rng.exponential(1.0, (1, placebos)), apart + 20),
    }
    return known, {"a": np.full(3, 0.25), "b": np.full(1, 0.25)}


def test_one_bar_holds_for_all_rules_and_streams_each_at_the_price_of_its_share() -> None:
    """The twin: of each placebo, the largest evidence of any stream, less what its share of alpha costs."""
    known, parts = two_rules(apart=60)
    found = together(release(), known, parts)
    most = [
        max(
            float(each.reached[stream, at] + np.log(parts[name][stream]))
            for name, each in known.items()
            if each.reached is not None
            for stream in range(len(each.reached))
        )
        for at in range(100)
    ]
    for each in found.values():
        assert each.placebos is not None
        assert each.placebos.tolist() == pytest.approx(most)
        assert each.bar == bar(np.array(most), 0.05)
        assert each.apart == 60
        assert each.reached is None


def test_a_release_exceeds_its_thresholds_exactly_when_its_p_is_at_most_alpha() -> None:
    """One placebo after another taken for the release: the judge's thresholds say what p says."""
    known, _ = two_rules(apart=200)
    made = release()
    parts = {rule.name: shares(made, rule, *2 * [len(known[rule.name].streams)]) for rule in RULES}
    for at in range(100):
        others = {
            name: replace(each, reached=None if each.reached is None else np.delete(each.reached, at, axis=1))
            for name, each in known.items()
        }
        found = together(made, others, parts)
        evidence = {name: each.reached[:, at] for name, each in known.items() if each.reached is not None}
        alarms, priced = [], []
        for rule in RULES:
            streams = len(evidence[rule.name])
            limits = thresholds(made, rule, streams, streams, found[rule.name].bar)
            alarms += (evidence[rule.name] >= limits).tolist()
            priced += (evidence[rule.name] + np.log(parts[rule.name])).tolist()
        placebos = found["a"].placebos
        assert placebos is not None
        assert any(alarms) == (p_value(placebos, max(priced)) <= 0.05 + 1e-12)


def test_placebos_in_which_no_stream_was_measured_do_not_count() -> None:
    known, parts = two_rules(apart=60)
    gaps = {
        name: replace(each, reached=np.where(np.arange(100) < 10, -np.inf, each.reached))
        for name, each in known.items()
    }
    found = together(release(), gaps, parts)
    assert found["a"].placebos is not None
    assert found["a"].placebos.size == 90


@pytest.mark.parametrize(
    ("apart", "alpha", "supported"), [(18, 0.05, False), (19, 0.05, True), (98, 0.01, False), (99, 0.01, True)]
)
def test_a_history_supports_no_alpha_below_one_in_its_placebos_that_do_not_overlap(
    apart: int, alpha: float, supported: bool
) -> None:
    known, parts = two_rules(apart, placebos=200)
    made = release(alpha=alpha)
    found = together(made, known, parts)
    for name, each in found.items():
        assert (each.bar is not None) == supported
        assert each.reached is None
        if not supported:
            many = known[name].apart
            said = f"{many} placebos that do not overlap are too few for alpha {100 * alpha:g} %"
            assert each.notes == (f"{said}: the noise model alone decides",)


def test_where_placebos_are_too_few_they_may_lessen_evidence_and_spikes_do_not_count() -> None:
    known, parts = two_rules(apart=5, placebos=10)
    known["b"] = replace(known["b"], temper=np.array([[0.3, 3.0]]))
    found = together(release(), known, parts)
    assert found["a"].temper is not None
    assert found["b"].temper is not None
    assert found["a"].temper.tolist() == [[1.0, 0.0]] * 3
    assert found["b"].temper.tolist() == [[0.3, 0.0]]
    assert all(each.assumed for each in found.values())


@pytest.mark.parametrize(("apart", "assumed"), [(20, True), (SURE - 1, True), (SURE, False), (500, False)])
def test_what_was_learnt_is_sure_from_99_placebos_that_do_not_overlap_on(apart: int, assumed: bool) -> None:
    known, parts = two_rules(apart, placebos=600)
    assert SURE == 99
    assert [each.assumed for each in together(release(), known, parts).values()] == [assumed, assumed]


def test_with_a_control_there_is_no_bar() -> None:
    known, parts = two_rules(apart=200)
    found = together(watch(*RULES), known, parts)
    assert all(each.bar is None and each.placebos is None and each.reached is None for each in found.values())
    assert {each.notes for each in found.values()} == {("noise that is remembered as fitted is assumed",)}


def test_counts_in_two_arms_are_left_as_they_were_learnt() -> None:
    counted = Calibration((((),)), "history 7 d", dispersion=1.7, assumed=False)
    assert together(watch(ERRORS), {"errors": counted}, {"errors": np.ones(1)}) == {"errors": counted}


def test_a_rule_without_a_history_of_its_own_is_left_alone_beside_one_that_has_placebos() -> None:
    known, parts = two_rules(apart=60)
    known["c"] = Calibration(notes=("0 blocks of history are too few",))
    found = together(release(), known, {**parts, "c": np.ones(0)})
    assert found["a"].bar is not None
    assert found["c"].memory is None
    assert "0 blocks of history are too few" in found["c"].notes


@pytest.mark.parametrize(("days", "assumed"), [(1, None), (3, True), (14, False)])
def test_days_of_history_support_alpha_and_two_weeks_of_them_a_kill(days: int, assumed: bool | None) -> None:
    """Two hours each, from three hours on, at most a fifth of them lost; None: the noise model alone decides."""
    exposed = MONDAY + 14 * DAY
    made = watch_of(GAUGE, exposed, 2.0, days, block=300.0)
    ends = exposed + 300.0 * np.arange(1 - 288 * days, 1)
    history = as_gauge(gauge(np.random.default_rng(2), ends, 1), ends)
    found = prepare(made, {GAUGE.name: history})[GAUGE.name]
    assert 0.8 * (24 * days - 3) / 2 <= found.apart <= (24 * days - 3) / 2
    assert (found.assumed if found.bar is not None else None) == assumed

"""Which of several releases explains what got worse: where it shows, and when it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from tests.timeline import EXPOSED, MINUTE, looks, ratio, release, watch
from watcher.act import Outbox
from watcher.attribution import (
    Standing,
    Suspect,
    apparent,
    attribute,
    control_harmed,
    harmed,
    placed,
    said,
    standardised,
    suspect,
)
from watcher.config import load_installation
from watcher.daemon import Daemon
from watcher.errors import SourceRefused
from watcher.journal import Journal
from watcher.look import look, prepare, read_history
from watcher.model import (
    Alert,
    Arm,
    Calibration,
    Effect,
    Kind,
    Look,
    Mode,
    Observations,
    Outcome,
    Request,
    Rule,
    Selector,
    Stage,
    Tally,
    Verdict,
    Watch,
    Worse,
    labels,
)
from watcher.switches import switch
from watcher.telling import TITLES
from watcher.testing import MemoryAlerter, MemorySource, MemorySwitch


def bad(name: str, exposed: float, began: float, **more: object) -> Suspect:
    """A release with an alarm; times in minutes."""
    made = Suspect(name, exposed * MINUTE, alarm="regressed", began_at=began * MINUTE, evidence=3.0)
    return replace(made, **more)


def calm(name: str, exposed: float, **more: object) -> Suspect:
    return replace(Suspect(name, exposed * MINUTE, evidence=-4.0), **more)


def test_what_began_before_an_exposure_is_not_its_doing() -> None:
    found = attribute([bad("early", 0, 60), bad("late", 90, 100)])
    assert found.best == "early"
    assert found.ranking[1].standing is Standing.IMPOSSIBLE
    assert found.ranking[1].reason == "exposed 30 min after the harm began"


def test_an_onset_estimated_a_block_too_early_does_not_acquit() -> None:
    assert attribute([bad("only", 10, 9)]).best == "only"


def test_among_those_that_can_the_latest_exposed_explains_it_best() -> None:
    found = attribute([bad("old", 0, 300), bad("new", 297, 300)])
    assert found.best == "new"
    assert found.ranking[0].reason == (
        "exposed 3 min before the harm began; everybody shows it, not its own treatment alone"
    )


def test_a_release_not_proven_worse_itself_may_still_be_what_everybody_feels() -> None:
    found = attribute([bad("old", 0, 300), calm("new", 297)])
    assert found.best == "new"
    assert attribute([bad("old", 280, 300), calm("new", 270)]).best == "old"


def test_harm_in_its_own_treatment_alone_beats_harm_that_everybody_shows_however_old_the_release() -> None:
    found = attribute([bad("everybody", 297, 300), bad("own", 0, 300, concurrent=True)])
    assert found.best == "own"
    assert found.ranking[0].reason == "exposed 5 h before the harm began; harm only in its own treatment"


def test_a_control_that_is_harmed_too_speaks_against_a_release() -> None:
    found = attribute([bad("canary", 290, 300, concurrent=True, control_harmed=True), bad("switch", 240, 300)])
    assert found.best == "switch"
    assert "those who do not have it show the harm, too" in found.ranking[1].reason


def test_a_canary_that_is_no_worse_than_its_control_is_no_explanation() -> None:
    found = attribute([bad("switch", 0, 300), calm("canary", 299, concurrent=True)])
    assert found.best == "switch"
    assert found.ranking[1].standing is Standing.ELSEWHERE


@pytest.mark.parametrize(("carried", "best"), [(0.9, "pods"), (0.2, "other")])
def test_units_with_harm_count_for_the_release_that_has_them(carried: float, best: str) -> None:
    assert attribute([bad("pods", 295, 300, carried=carried), bad("other", 290, 300)]).best == best


def test_a_raised_share_counts_as_an_exposure() -> None:
    found = attribute([bad("staged", 0, 300, stages=(296 * MINUTE,)), bad("old", 60, 300)])
    assert found.best == "staged"
    assert found.ranking[0].reason.startswith("share raised 4 min before the harm began")
    assert "because it was given more users 4 min before" in said(found, "staged")


def test_a_treatment_that_went_silent_is_its_own_harm() -> None:
    silent = bad("silent", 0, 5, alarm="absent_treatment", concurrent=True)
    found = attribute([bad("worse", 0, 5), silent])
    assert (found.best, found.ranking[0].reason) == (
        "silent",
        "exposed 5 min before the harm began; only its own treatment went silent",
    )


def test_two_that_explain_it_equally_are_left_to_a_person() -> None:
    found = attribute([bad("a", 0, 30), bad("b", 10, 30)])
    assert found.best is None
    assert set(found.equals) == {"a", "b"}
    assert "does not tell" in said(found, "a")


def test_nothing_to_explain_names_nobody() -> None:
    assert attribute([]).best is None
    assert attribute([calm("a", 0), calm("b", 0)]).best is None


def test_judged_apart_an_alarm_comes_first_then_the_largest_harm_by_its_own_past() -> None:
    suspects = [calm("quiet", 0, harm=0.5), bad("alarmed", 0, 5, harm=2.0), calm("loud", 0, harm=4.0)]
    assert [each.release for each in attribute(suspects, apart=True).ranking] == ["alarmed", "loud", "quiet"]


def test_what_stands_exactly_alike_comes_before() -> None:
    found = attribute([calm(name, 0) for name in "abc"], apart=True)
    assert [found.place(name) for name in "abc"] == [3, 3, 3]


RULE = Rule("errors", Kind.RATIO, Selector("errors"), Selector("requests"))


def blocks(*values: float) -> Arm:
    """One unit of a gauge; NaN is a gap."""
    array = np.array([[values]])
    return Arm(("",), array, np.where(np.isnan(array), 0.0, 1.0))


def gauge(treatment: Arm, baseline: Arm | None = None) -> Observations:
    return Observations(((),), np.arange(treatment.events.shape[2]) + 1.0, treatment, baseline)


def test_harm_that_cannot_be_proven_still_appears_in_standard_deviations_of_the_past() -> None:
    rule = Rule("load", Kind.GAUGE, Selector("load"))
    past, nan = gauge(blocks(9, 11, 9, 11, 9, 11)), float("nan")
    assert apparent(rule, gauge(blocks(13, nan, 13)), past) == pytest.approx(3.0)
    assert apparent(rule, gauge(blocks(13, 13), blocks(12, 12)), past) == pytest.approx(2.0)
    assert apparent(replace(rule, worse=Worse.LOWER), gauge(blocks(13, 13)), past) == 0.0
    assert apparent(replace(rule, worse=Worse.EITHER), gauge(blocks(7, 7)), past) == pytest.approx(3.0)
    assert apparent(rule, gauge(blocks(nan, nan)), past) is None
    assert apparent(rule, gauge(blocks(13, 13)), None) is None


def test_of_those_that_went_silent_the_one_that_went_more_silent_comes_first() -> None:
    half = bad("half", 0, 0, alarm="absent_treatment", concurrent=True, silent=0.5)
    found = attribute([half, replace(half, release="whole", silent=1.0)], apart=True)
    assert [each.release for each in found.ranking] == ["whole", "half"]


FEW = Tally(10, 1000)


def verdict(effect: Effect, baseline: Tally = FEW) -> Verdict:
    return Verdict("errors", (), Outcome.INCONCLUSIVE, "", effect, baseline, Tally(20, 1000))


def test_harm_is_measured_by_how_much_the_stream_varied_before() -> None:
    past = Calibration(streams=((),), unit=np.array([0.1]))
    doubled = Effect("ratio", 2.0, 1.0, 4.0)
    assert standardised(RULE, verdict(doubled), past) == pytest.approx(np.log(2) / 0.1)
    assert standardised(RULE, verdict(doubled), None) == pytest.approx(2.0)
    assert standardised(replace(RULE, worse=Worse.LOWER), verdict(doubled), past) == 0.0
    assert standardised(replace(RULE, worse=Worse.EITHER), verdict(Effect("ratio", 0.5, None, None)), past) > 6
    assert standardised(RULE, verdict(Effect("ratio", None, None, None)), past) == 0.0


def test_a_control_is_harmed_when_it_left_its_own_past_by_more_than_the_margin_and_chance() -> None:
    past = Calibration(streams=((),), rate=np.array([0.01]), margin=0.5)
    effect = Effect("ratio", 2.0, 1.0, 4.0)
    assert control_harmed(RULE, verdict(effect, Tally(300, 10_000)), past) is True
    assert control_harmed(RULE, verdict(effect, Tally(105, 10_000)), past) is False
    assert control_harmed(RULE, verdict(effect, Tally(2, 100)), past) is False
    assert control_harmed(RULE, verdict(effect), None) is None


# On a timeline: two releases of one service, one of them bad.


def canary(minute: float = 0.0) -> Watch:
    made = watch()
    own = replace(made.release, feature="checkout", stages=(Stage(EXPOSED + minute * MINUTE),))
    return replace(made, release=own)


def last_of(made: Watch, source: MemorySource, until: int) -> Look:
    *_, last = looks(made, source, range(1, until + 1))
    return last


def test_a_message_says_what_else_was_exposed_and_which_the_evidence_points_to() -> None:
    made, source = canary(), MemorySource({"errors": ratio(60, treated={0: 0.05})})
    calibrations, previous, told = prepare(made, read_history(made, source)), None, []
    other = Suspect("shop/production/search@4", EXPOSED - 200 * MINUTE, concurrent=True, evidence=-3.0)
    for minute in range(1, 30):
        previous = look(made, source, calibrations, previous, EXPOSED + minute * MINUTE, beside=lambda: [other])
        told += [action for action in previous.actions if hasattr(action, "lines")]
    assert previous is not None
    (line,) = {line for alert in told for line in alert.lines if line.startswith("Also exposed then")}
    assert line.startswith(
        "Also exposed then: shop/production/search@4. The evidence points to shop/production/checkout@1.2, because it "
        "was exposed "
    )
    assert line.endswith("min before the harm began; the units that show the harm are those that have it.")
    assert {alert.title.split(":")[0] for alert in told if line in alert.lines} <= {
        TITLES[state].split(":")[0] for state in ("regressed", "killed")
    }


def test_alone_or_healthy_a_message_says_nothing_of_others() -> None:
    source = MemorySource({"errors": ratio(60, treated={0: 0.05})})
    assert not [
        line
        for found in looks(canary(), source, range(1, 30))
        for action in found.actions
        for line in getattr(action, "lines", ())
        if "Also exposed" in line
    ]


def test_a_verdict_becomes_a_suspect_with_its_onset_and_its_control() -> None:
    made, source = canary(), MemorySource({"errors": ratio(60, treated={0: 0.05})})
    found = last_of(replace(made, switch=None), source, 30)
    own = suspect(made, found.verdict, prepare(made, read_history(made, source)))
    assert (own.alarm, own.concurrent, own.control_harmed) == ("regressed", True, False)
    assert own.began_at is not None
    assert EXPOSED < own.began_at <= EXPOSED + 15 * MINUTE
    assert own.evidence > 0
    assert own.harm > 2
    assert release().exposed_at == own.exposed_at


YAML = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    environment: production
    rules: [checkout]
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [checkout, search]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
"""


@dataclass
class ByArms:
    """A source that answers by the arms it is asked for."""

    sources: Mapping[str, MemorySource]

    def observe(self, request: Request) -> dict[str, Observations]:
        [(name, _)] = request.treatment or (("everybody", ""),)
        if name not in self.sources:
            raise SourceRefused(f"nothing is held by {name}")
        return self.sources[name].observe(request)

    history = observe


def flag(feature: str, minute: float, **changes: object) -> Watch:
    """A watch in which the arms are told apart by a label that has the feature's name."""
    own = release(feature=feature, stages=(Stage(EXPOSED + minute * MINUTE),))
    arms = {arm: labels({feature: arm}) for arm in ("off", "on")}
    return watch(release=own, baseline=arms["off"], treatment=arms["on"], mode=Mode.OBSERVE, **changes)


def told_by_the_daemon(tmp_path: Path, source: ByArms, watches: Sequence[Watch], minutes: int) -> list[Alert]:
    """Watch all of them from the first exposure on, as the daemon does, and return what people were told."""
    (tmp_path / "watcher.yaml").write_text(YAML)
    (tmp_path / "flags.yaml").write_text("features:\n  checkout: {enabled: true}\n  search: {enabled: true}\n")
    installation, alerter = load_installation(tmp_path / "watcher.yaml"), MemoryAlerter()
    with Journal.open(installation.journal) as journal:
        running = Daemon(installation, journal, source, Outbox(journal, switch, {"memory": alerter}))
        for minute in range(minutes):
            now = EXPOSED + minute * MINUTE
            for made in watches:
                if made.release.exposed_at <= now:
                    journal.add_release(made, now, "test")
            running.step(now)
    return alerter.delivered


def test_the_daemon_tells_which_of_two_watched_releases_the_evidence_points_to(tmp_path: Path) -> None:
    # search is on from the start and fine; checkout comes at 20 min and is bad: its own users alone fail.
    fine, bad_one = flag("search", 0), flag("checkout", 20)
    source = ByArms(
        {
            "search": MemorySource({"errors": ratio(60, seed=2)}),
            "checkout": MemorySource({"errors": ratio(60, treated={20: 0.05})}),
        }
    )
    told = told_by_the_daemon(tmp_path, source, (fine, bad_one), 45)
    regressed = [alert for alert in told if alert.state == "regressed"]
    assert {alert.release for alert in regressed} == {"shop/production/checkout@1.2"}
    for alert in regressed:
        (line,) = (line for line in alert.lines if line.startswith("Also exposed then"))
        assert line.startswith(
            "Also exposed then: shop/production/search@1.2. The evidence points to shop/production/checkout@1.2, "
            "because it was exposed "
        )
    assert not [alert for alert in told if alert.state != "regressed" and "Also exposed" in " ".join(alert.lines)]


def test_the_daemon_points_to_the_flag_when_everybody_else_s_numbers_suffer_from_it(tmp_path: Path) -> None:
    # A switch of everybody at 0 min shows the harm of the flag that came at 30 min, and is not blamed for it.
    everybody = replace(flag("search", 0), baseline=None, treatment=None)
    source = ByArms(
        {
            "everybody": MemorySource({"errors": ratio(90, treated={30: 0.05}, alone=True)}),
            "checkout": MemorySource({"errors": ratio(90, treated={30: 0.05})}),
        }
    )
    told = told_by_the_daemon(tmp_path, source, (everybody, flag("checkout", 30)), 80)
    said_of = {alert.release: " ".join(alert.lines) for alert in told if alert.state == "regressed"}
    assert "shop/production/checkout@1.2" in said_of
    for text in said_of.values():
        assert "The evidence points to shop/production/checkout@1.2" in text


def test_releases_of_other_services_are_not_suspected(tmp_path: Path) -> None:
    elsewhere = flag("search", 0)
    elsewhere = replace(elsewhere, release=replace(elsewhere.release, service="bakery"))
    source = ByArms(
        {
            "search": MemorySource({"errors": ratio(60, seed=2)}),
            "checkout": MemorySource({"errors": ratio(60, treated={20: 0.05})}),
        }
    )
    told = told_by_the_daemon(tmp_path, source, (elsewhere, flag("checkout", 20)), 45)
    assert [alert for alert in told if alert.state == "regressed"]
    assert "Also exposed" not in " ".join(line for alert in told for line in alert.lines)


def test_harm_on_the_units_of_another_release_points_to_that_one() -> None:
    """A flag is on everywhere; only on the two pods that run another release do its users see errors."""
    made, seen = canary(), ratio(60, units=6, traffic=1200)
    rng, arm = np.random.default_rng(4), seen.treatment
    events = arm.events.copy()
    events[:, :2] += rng.binomial(arm.total[:, :2].astype(int), 0.08)
    source = MemorySource({"errors": replace(seen, treatment=replace(arm, events=events))})
    calibrations = prepare(made, read_history(made, source))
    last = look(made, source, calibrations, None, EXPOSED + 30 * MINUTE)
    assert last.verdict.outcome is Outcome.REGRESSED
    units = harmed(made, last.verdict, last.states)
    assert units == set(arm.units[:2])
    flag = suspect(made, last.verdict, calibrations, last.states)
    assert set(flag.units) == set(arm.units)
    pods = Suspect("search@5", EXPOSED - MINUTE, concurrent=True, evidence=1.0, units=tuple(arm.units[:2]))
    elsewhere = replace(pods, release="cart@2", units=("other-1", "other-2"))
    found = attribute(placed([flag, pods, elsewhere], units))
    assert found.best == "search@5"
    assert "the units that show the harm are those that have it" in found.ranking[0].reason
    assert {each.release: each.standing for each in found.ranking}["cart@2"] is Standing.ELSEWHERE


def armed(folder: Path, source: MemorySource, held: MemorySwitch, until: int) -> Journal:
    """Return what is on record of two armed flags, from users' first minute on, after so many minutes."""
    flags = [f"{{switch: yaml_flags, feature: {name}, environment: production}}" for name in ("checkout", "search")]
    text = YAML.replace("releases:", "mode: armed\n    releases:") + "        kill: {yaml_flags: flags.yaml}\n"
    (folder / "watcher.yaml").write_text(f"may_turn_off: [{', '.join(flags)}]\n{text}")
    (folder / "flags.yaml").write_text("features:\n  checkout: {enabled: true}\n  search: {enabled: true}\n")
    installation = load_installation(folder / "watcher.yaml")
    journal = Journal.open(installation.journal)
    running = Daemon(
        installation,
        journal,
        source,
        Outbox(journal, lambda _: held, {}, stopwatch=lambda: 0.0),
        switches=lambda _: held,
    )
    for minute in range(until):
        now = EXPOSED + minute * MINUTE
        for name in ("search", "checkout"):
            journal.add_release(replace(flag(name, 0), mode=Mode.ARMED), now, "test")
        running.step(now)
    return journal


def refusals(journal: Journal, release: str) -> set[str]:
    return {
        line.detail["reason"] for line in journal.audit_trail(flag(release, 0).release.id) if line.what == "refused"
    }


def told(journal: Journal, release: str) -> str:
    actions = [each.action for each in journal.actions(flag(release, 0).release.id)]
    return "\n".join(line for each in actions if isinstance(each, Alert) for line in (each.title, *each.lines))


def test_of_two_releases_that_explain_it_equally_none_is_killed_whichever_is_looked_at_first(tmp_path: Path) -> None:
    held = MemorySwitch({"search": 1.0, "checkout": 1.0})
    with armed(tmp_path, MemorySource({"errors": ratio(90, treated={30: 0.05})}), held, 80) as journal:
        for release, other in (("search", "checkout"), ("checkout", "search")):
            assert "cause_unclear" in refusals(journal, release)
            names = (flag(each, 0).release.id for each in (release, other))
            assert f"does not tell {' and '.join(names)} apart: please look" in told(journal, release)
    assert held.kills == []


def test_a_harm_that_went_with_another_release_turns_nothing_else_off(tmp_path: Path) -> None:
    # Both show it from 30 min on, one of them more; and none does once that one is off.
    held = MemorySwitch({"search": 1.0, "checkout": 1.0})
    source = ByArms(
        {
            "checkout": MemorySource({"errors": ratio(120, treated={30: 0.2, 40: 0.01})}),
            "search": MemorySource({"errors": ratio(120, treated={30: 0.03, 40: 0.01})}),
        }
    )
    with armed(tmp_path, source, held, 110) as journal:
        assert journal.watched(flag("checkout", 0).release.id).status == "recovered"
        assert journal.last_look(flag("search", 0).release.id).verdict.outcome is Outcome.REGRESSED
        assert "cause_unclear" in refusals(journal, "search")
    assert held.kills == ["checkout"]


def test_of_two_armed_releases_only_the_one_the_evidence_points_to_is_killed(tmp_path: Path) -> None:
    # A switch of everybody at 0 min shows the harm of the flag that came at 30 min.
    everybody = replace(flag("search", 0), baseline=None, treatment=None, mode=Mode.ARMED)
    source = ByArms(
        {
            "everybody": MemorySource({"errors": ratio(90, treated={30: 0.05}, alone=True)}),
            "checkout": MemorySource({"errors": ratio(90, treated={30: 0.05})}),
        }
    )
    flags = [f"{{switch: yaml_flags, feature: {name}, environment: production}}" for name in ("checkout", "search")]
    armed = YAML.replace("releases:", "mode: armed\n    releases:") + "        kill: {yaml_flags: flags.yaml}\n"
    (tmp_path / "watcher.yaml").write_text(f"may_turn_off: [{', '.join(flags)}]\n{armed}")
    (tmp_path / "flags.yaml").write_text("features:\n  checkout: {enabled: true}\n  search: {enabled: true}\n")
    installation, held = load_installation(tmp_path / "watcher.yaml"), MemorySwitch({"search": 1.0, "checkout": 0.5})
    with Journal.open(installation.journal) as journal:
        outbox = Outbox(journal, lambda _: held, {}, stopwatch=lambda: 0.0)
        running = Daemon(installation, journal, source, outbox, switches=lambda _: held)
        watches = (everybody, replace(flag("checkout", 30), mode=Mode.ARMED))
        for minute in range(80):
            now = EXPOSED + minute * MINUTE
            for made in watches:
                if made.release.exposed_at <= now:
                    journal.add_release(made, now, "test")
            running.step(now)
        refused = {
            line.detail["reason"] for line in journal.audit_trail(everybody.release.id) if line.what == "refused"
        }
    assert held.kills == ["checkout"]
    assert refused & {"not_the_cause", "cause_unclear"}

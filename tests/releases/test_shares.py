from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.model import Exposure, SwitchState
from watcher.releases.shares import exposures, from_json, share_of, to_json

AT, REVISION = 1_795_168_800.0, "2026-11-20T10:00:00Z"


def on(share: float | None, serving: str = "") -> SwitchState:
    return SwitchState(True, share, serving)


OFF, AT_5, AT_25, EVERYBODY = SwitchState(False, 0.05), on(0.05), on(0.25), on(1.0)


def told(before: SwitchState | None, after: SwitchState | None) -> list[Exposure]:
    """What is told of one feature that was `before`, then `after` (None: not there)."""
    return exposures(
        {} if before is None else {"checkout": before}, {} if after is None else {"checkout": after}, AT, ["checkout"]
    )


@pytest.mark.parametrize("before", [OFF, on(0.0), None])
@pytest.mark.parametrize(("after", "share"), [(AT_5, 0.05), (EVERYBODY, 1.0), (on(None), None)])
def test_what_is_turned_on_is_a_release_named_by_its_time(
    before: SwitchState | None, after: SwitchState, share: float | None
) -> None:
    assert told(before, after) == [Exposure("checkout", REVISION, AT, share=share, named=False)]


@pytest.mark.parametrize(
    ("was", "now", "stage"),
    [
        (SwitchState(True, None, revision="7"), SwitchState(True, None, revision="9"), True),
        (SwitchState(True, None, revision="7"), SwitchState(True, None, revision="7"), False),
        (SwitchState(True, None), SwitchState(True, None, revision="7"), False),
        (SwitchState(True, 0.05, revision="7"), SwitchState(True, 0.05, revision="9"), False),
    ],
)
def test_where_nobody_can_say_the_share_a_change_that_its_system_counted_is_a_stage(
    was: SwitchState, now: SwitchState, stage: bool
) -> None:
    found = exposures({"checkout": was}, {"checkout": now}, AT, ["checkout"])
    assert [(each.more, each.share, each.off) for each in found] == ([(True, None, False)] if stage else [])


@pytest.mark.parametrize(("was", "now", "version"), [("41", "42", "r42"), ("", "42", "r42"), ("42", "42", REVISION)])
def test_what_its_system_counts_is_the_revision_and_the_time_where_that_stood_still(
    was: str, now: str, version: str
) -> None:
    [found] = told(SwitchState(False, 0.0, revision=was), SwitchState(True, 0.05, revision=now))
    assert (found.version, found.named) == (version, False)


@pytest.mark.parametrize(("before", "after", "share"), [(AT_5, AT_25, 0.25), (AT_5, EVERYBODY, 1.0)])
def test_a_larger_share_while_on_is_more_of_the_same_release(
    before: SwitchState, after: SwitchState, share: float
) -> None:
    assert told(before, after) == [Exposure("checkout", REVISION, AT, share=share, more=True, named=False)]


def test_a_smaller_share_while_on_is_less_of_the_same_release() -> None:
    assert told(AT_25, AT_5) == [Exposure("checkout", REVISION, AT, share=0.05, fewer=True, named=False)]


@pytest.mark.parametrize("after", [OFF, SwitchState(False), on(0.0), None])
def test_off_at_zero_and_gone_end_exposure(after: SwitchState | None) -> None:
    assert told(AT_5, after) == [Exposure("checkout", REVISION, AT, share=0.0, off=True, named=False)]


def test_traffic_that_goes_to_another_version_is_a_release_with_the_one_before() -> None:
    [found] = told(on(1.0, "blue"), on(1.0, "green"))
    assert (found.version, found.previous, found.serving) == (REVISION, "blue", "green")
    assert (found.more, found.fewer, found.off) == (False, False, False)


@pytest.mark.parametrize(
    ("before", "after"),
    [(AT_5, AT_5), (OFF, SwitchState(False, 0.5)), (OFF, on(0.0)), (on(None), EVERYBODY), (OFF, None), (None, None)],
)
def test_nothing_is_told_when_no_user_notices(before: SwitchState | None, after: SwitchState | None) -> None:
    assert told(before, after) == []


def test_what_is_on_already_at_the_first_start_is_adopted() -> None:
    assert exposures(None, {"checkout": EVERYBODY}, AT, ["checkout"]) == []


def test_only_the_features_asked_for_are_told_and_each_once() -> None:
    after = {"checkout": EVERYBODY, "search": EVERYBODY}
    assert [exposure.feature for exposure in exposures({}, after, AT, ["search", "search"])] == ["search"]
    assert exposures({}, after, AT, []) == []


STATES = st.dictionaries(
    st.sampled_from("abc"), st.builds(SwitchState, st.booleans(), st.none() | st.floats(0, 1).map(float))
)


@given(STATES, STATES)
def test_what_is_told_brings_the_old_shares_to_the_new_ones(
    before: dict[str, SwitchState], after: dict[str, SwitchState]
) -> None:
    held = {feature: share_of(state) for feature, state in before.items()}
    for exposure in exposures(before, after, AT, "abc"):
        had = held.get(exposure.feature, 0.0)
        has = 1.0 if exposure.share is None else exposure.share
        assert (exposure.off, exposure.more, exposure.fewer) == (has == 0, 0 < had < has, 0 < has < had)
        held[exposure.feature] = has
    for feature in "abc":
        assert held.get(feature, 0.0) == share_of(after.get(feature, SwitchState(False)))


@given(STATES)
def test_states_survive_the_journal(states: dict[str, SwitchState]) -> None:
    assert from_json(json.loads(json.dumps(to_json(states)))) == states


def test_what_an_earlier_version_remembered_of_a_flags_file_is_understood() -> None:
    kept = {
        "checkout": {"enabled": True, "rollout_percentage": 5.0},
        "on": {"enabled": False, "rollout_percentage": None},
    }
    assert from_json(kept) == {"checkout": on(0.05), "on": SwitchState(False, 1.0)}

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.errors import ConfigError
from watcher.model import Exposure
from watcher.releases.flags_file import Flag, exposures, from_json, read_flags, to_json

AT = 1_795_168_800.0
OFF, AT_5, AT_25, EVERYBODY = Flag(False, 5), Flag(True, 5), Flag(True, 25), Flag(True)


def told(before: Flag | None, after: Flag | None) -> list[Exposure]:
    """What is told of one feature that the file held as `before`, then as `after` (None: not in it)."""
    return exposures(
        {} if before is None else {"checkout": before}, {} if after is None else {"checkout": after}, AT, ["checkout"]
    )


@pytest.mark.parametrize("before", [OFF, Flag(True, 0), None])
@pytest.mark.parametrize(("after", "share"), [(AT_5, 0.05), (EVERYBODY, 1.0)])
def test_a_flag_turned_on_is_a_release_named_by_its_time(before: Flag | None, after: Flag, share: float) -> None:
    assert told(before, after) == [Exposure("checkout", "2026-11-20T10:00:00Z", AT, share=share)]


@pytest.mark.parametrize(
    ("before", "after", "share"), [(AT_5, AT_25, 0.25), (AT_25, AT_5, 0.05), (AT_5, EVERYBODY, 1.0)]
)
def test_another_share_while_on_is_a_stage_of_the_same_release(before: Flag, after: Flag, share: float) -> None:
    assert told(before, after) == [Exposure("checkout", "", AT, share=share)]


@pytest.mark.parametrize("after", [OFF, Flag(False), Flag(True, 0), None])
def test_off_at_zero_and_removed_end_exposure(after: Flag | None) -> None:
    assert told(AT_5, after) == [Exposure("checkout", "", AT, share=0.0, off=True)]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (AT_5, AT_5),
        (OFF, Flag(False, 50)),
        (OFF, Flag(True, 0)),
        (Flag(True, 100), EVERYBODY),
        (OFF, None),
        (None, None),
    ],
)
def test_nothing_is_told_when_no_user_notices(before: Flag | None, after: Flag | None) -> None:
    assert told(before, after) == []


def test_flags_already_on_at_the_first_start_are_adopted() -> None:
    assert exposures(None, {"checkout": EVERYBODY}, AT, ["checkout"]) == []


def test_only_the_features_asked_for_are_told_and_each_once() -> None:
    after = {"checkout": EVERYBODY, "search": EVERYBODY}
    assert [exposure.feature for exposure in exposures({}, after, AT, ["search", "search"])] == ["search"]
    assert exposures({}, after, AT, []) == []


FLAGS = st.dictionaries(
    st.sampled_from("abc"), st.builds(Flag, st.booleans(), st.none() | st.floats(0, 100).map(float))
)


@given(FLAGS, FLAGS)
def test_what_is_told_brings_the_old_shares_to_the_new_ones(before: dict[str, Flag], after: dict[str, Flag]) -> None:
    shares = {feature: flag.share for feature, flag in before.items()}
    for exposure in exposures(before, after, AT, "abc"):
        assert exposure.off == (exposure.share == 0)
        assert bool(exposure.version) == (shares.get(exposure.feature, 0.0) == 0)
        assert exposure.share is not None
        shares[exposure.feature] = exposure.share
    for feature in "abc":
        assert shares.get(feature, 0.0) == after.get(feature, Flag(False)).share


@given(FLAGS)
def test_flags_survive_the_journal(flags: dict[str, Flag]) -> None:
    assert from_json(json.loads(json.dumps(to_json(flags)))) == flags


def test_the_file_is_read_as_people_write_it(tmp_path: Path) -> None:
    path = tmp_path / "feature-flags.yaml"
    path.write_text(
        "features:\n  new-checkout:  # soon\n    enabled: true\n    description: one\n    rollout_percentage: 2.5\n"
        "  on: {enabled: false}\n  search: {enabled: true, rollout_percentage: 0}\n"
    )
    assert read_flags(str(path)) == {"new-checkout": Flag(True, 2.5), "on": Flag(False), "search": Flag(True, 0)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("features:\n  a:\n    enabled: tr\n", "features.a.enabled: is 'tr'; write true or false"),
        ("features: {a: {enabled: 1}}", "features.a.enabled: is 1; write true or false"),
        ("features: {a: {}}", "features.a.enabled: is missing; write true or false"),
        ("features: {a: on}", "features.a: expected a mapping with the key `enabled`"),
        ("features: {a: {enabled: true, rollout_percentage: 5%}}", "rollout_percentage: is '5%'; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: 101}}", "rollout_percentage: is 101; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: true}}", "rollout_percentage: is True; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: .nan}}", "rollout_percentage: is nan; write a number"),
        ("features: {a: {enabled: true, rollout_percentage: }}", "rollout_percentage: is None; write a number"),
        ("features: {a: {enabled: true}, a: {enabled: false}}", "flags.yaml:1: not YAML: found duplicate key"),
        ("features: {a: {enabled: true, expires: 2026-02-31}}", "a value cannot be read .*; quote it"),
        ("features:\n  a: {enabled: tru", "flags.yaml:2: not YAML"),
        ("[" * 1_000, "nested too deeply"),
        ("", "features: expected a mapping of features"),
        ("features: []", "features: expected a mapping of features"),
        ("features: \udcff", "byte 11 is not UTF-8"),
    ],
)
def test_a_broken_file_is_an_error_that_names_key_and_fix(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "flags.yaml"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError, match=words):
        read_flags(str(path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_flags(str(tmp_path / "flags.yaml"))


def test_a_file_caught_half_written_changes_nothing_when_the_last_state_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "flags.yaml"
    whole = "features:\n  a:\n    enabled: true\n    rollout_percentage: 25\n  b:\n    enabled: false\n"
    path.write_text(whole)
    last = read_flags(str(path))
    path.write_text(whole[: whole.index("rue")])
    with pytest.raises(ConfigError):
        last = read_flags(str(path))
    path.write_text(whole)
    assert exposures(last, read_flags(str(path)), AT, "ab") == []

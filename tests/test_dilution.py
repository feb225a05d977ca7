"""A release that few users have, and nothing tells who: what it does to them shows in what everybody feels, diluted."""

from __future__ import annotations

import pytest

from tests import timeline
from tests.timeline import looks, ratio, release, watch
from watcher.model import Look, Outcome, Stage
from watcher.testing import MemorySource

USUAL, FEW = 0.01, 0.05


@pytest.fixture(autouse=True)
def two_days_of_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline, "BEFORE", 2880)


def last_look(share: float | None, among: float, hours: int = 2, horizon: float = 7200.0) -> Look:
    """Look every ten minutes at a flag that `share` of the users have, whose requests fail at the rate `among`."""
    own = 1.0 if share is None else share
    everybody = own * among + (1 - own) * USUAL
    stages = (Stage(release().exposed_at, share),)
    made = watch(release=release(stages=stages), baseline=None, treatment=None, horizon=horizon)
    source = MemorySource(
        {"errors": ratio(60 * hours, rate=USUAL, treated={0: everybody}, traffic=13_000, units=1, alone=True)}
    )
    return list(looks(made, source, range(10, 60 * hours, 10)))[-1]


def test_the_health_of_everybody_does_not_certify_the_few_who_have_it() -> None:
    few = last_look(FEW, USUAL)
    assert few.verdict.outcome is Outcome.INCONCLUSIVE
    assert "health cannot be proven: nothing tells apart the 5 % of the users who have it" in few.verdict.reason
    assert any("diluted 20 times" in said for said in few.verdict.assumptions)
    assert few.verdict.streams[0].needs is None
    for everybody in (None, 1.0):
        assert last_look(everybody, USUAL).verdict.outcome is Outcome.HEALTHY


def test_harm_to_the_few_is_held_against_what_is_allowed_to_them() -> None:
    # Three times the errors of one user in twenty are a tenth more for all: beyond 50 % for the few, not for everybody.
    few = last_look(FEW, 3 * USUAL)
    assert few.verdict.outcome is Outcome.REGRESSED
    assert "50 % more for the 5 % of the users who have it" in few.verdict.reason
    assert last_look(None, 1.1 * USUAL).verdict.outcome is Outcome.HEALTHY


def test_where_no_placebo_says_how_far_chance_goes_so_little_harm_is_not_called_harm() -> None:
    few = last_look(FEW, 3 * USUAL, horizon=86_400.0)
    assert few.verdict.outcome is Outcome.INCONCLUSIVE
    assert "worse, within the margin so far" in few.verdict.reason


@pytest.mark.parametrize(("share", "dilution"), [(None, 1.0), (0.05, 0.05), (0.999, 1.0), (1.0, 1.0), (0.0, 1.0)])
def test_only_a_part_of_the_users_dilutes_and_only_where_nothing_tells_them_apart(
    share: float, dilution: float
) -> None:
    parts = release(stages=(Stage(0.0, share),))
    assert watch(release=parts, baseline=None, treatment=None).dilution == dilution
    assert watch(release=parts).dilution == 1.0

"""Strategy `canary`, whole: a shop of two versions behind a real HAProxy; the new one is promoted, or killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import haproxy_server, prometheus_server, proxied
from tests.servers.conftest import Say, require
from tests.servers.installation import tells
from tests.servers.load import Load
from tests.servers.proxied import BAD, Canary, Changes
from watcher.model import Outcome

pytestmark = pytest.mark.servers


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Canary]:
    require(haproxy_server.missing() or prometheus_server.missing())
    with proxied.canary(tmp_path) as running:
        yield running


@pytest.mark.xdist_group("canary-1")
def test_a_good_canary_is_certified_at_each_share_and_promoted_until_everybody_has_it(here: Canary, say: Say) -> None:
    here.begin()
    assert here.weights() == {"stable-1": 95, "stable-2": 95, "canary": 10}
    with Changes(here.share) as shares:
        began = time.time()
        here.release()
        for share in (0.25, 0.5, 1.0):
            here.eventually(lambda share=share: here.share() == share, f"it was promoted to {share:.0%}")
            here.eventually(lambda share=share: abs(here.observed_share() - share) < 0.03, "users got as much of it")
        here.eventually(lambda: "for everyone" in here.parents()[0].shown, "it is watched on")
        here.eventually(lambda: here.shows("healthy"), "it was certified for everybody, against the past")
    assert shares.values == sorted(shares.values)
    with here.requests("stable-1", "stable-2") as stable, here.requests("canary") as canary:
        time.sleep(2)
    assert (stable.values, len(canary.values) > 0) == ([], True)
    took = ", ".join(f"{100 * share:.0f} % after {at - began:.0f} s" for at, share in shares.seen)
    say(f"a good canary that begins with 5 %: {took}")

    first, second = here.releases()
    assert [stage.share for stage in first.watch.release.stages] == [0.05, 0.25, 0.5]
    assert (first.status, first.watch.release.previous, first.noticed_by) == ("everyone", "1.1", "label version")
    assert (second.watch.release.id, second.watch.baseline) == ("shop/production/shop@1.2+everyone", None)
    here.eventually(lambda: any(tells(text, "everyone") for text in here.details()), "all of it was told")
    details = here.details()
    for before, after in ((5, 25), (25, 50), (50, 100)):
        assert sum(f"Raising shop 1.2 from {before} % to {after} % of the users." in text for text in details) == 1
        assert sum(f"shop 1.2 from {before} % to {after} % of the users, read back: weight" in x for x in details) == 1
    assert sum(tells(text, "everyone") for text in details) == 1
    assert (here.alarms(), here.kills()) == ([], [])


@pytest.mark.xdist_group("canary-2")
def test_a_canary_that_goes_bad_loses_all_its_traffic_and_a_reload_does_not_give_it_back(
    here: Canary, say: Say
) -> None:
    here.begin()
    here.release()
    here.eventually(lambda: here.share() == 0.25, "it was promoted")
    assert here.alarms() == []
    with Changes(here.weights) as turned, here.requests("canary") as requests:
        bad = here.fail("canary")
        found = here.withdrawn(bad, turned, requests)
        here.eventually(lambda: here.shows("recovered"), "the recovery was told")
        [(_, weights)] = turned.seen
    say(f"a canary at 25 % whose errors go from 1 % to {100 * BAD:g} %: {found}")
    assert weights["canary"] == 0
    assert min(weights["stable-1"], weights["stable-2"]) > 0
    assert here.observed_share() == 0.0

    here.haproxy.reload()
    assert here.weights() == weights
    assert here.observed_share() == 0.0

    [kill] = here.kills()
    assert (kill.state, kill.attempts, dict(kill.receipt or {})["read_back"]) == ("done", 1, "off")
    [release] = here.releases()
    assert (release.status, release.watch.release.id) == ("recovered", "shop/production/shop@1.2")
    here.eventually(lambda: any(tells(text, "recovered") for text in here.details()), "all of it was told")
    details = here.details()
    assert sum("Taking all traffic from shop 1.2." in text for text in details) == 1
    assert sum("shop 1.2 gets no traffic any more, read back: weight 0 of " in text for text in details) == 1
    assert sum("back within the margin" in text for text in details) == 1
    assert "a reload brings back" not in "".join(details)


@pytest.mark.xdist_group("canary-2")
def test_a_canary_that_gets_more_users_than_its_weight_says_is_no_comparison_and_is_not_promoted(here: Canary) -> None:
    here.begin()
    here.release()
    # Another way in, which knows nothing of weights.
    with Load([here.shops["canary"].url], rate=40.0):
        here.eventually(lambda: here.is_watched() and here.shows("invalid"), "people were told")
        assert here.last_look().verdict.outcome is Outcome.INVALID
        assert "The traffic split is off: the release gets " in here.parents()[0].shown
        assert "not the 5 % configured" in here.parents()[0].shown
        assert "Nothing is raised or turned off on a comparison that is broken" in here.parents()[0].shown
        time.sleep(6)
    assert here.share() == 0.05
    assert here.kills() == []
    assert not any(tells(text, "healthy") for text in here.told())

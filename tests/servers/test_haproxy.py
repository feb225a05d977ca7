"""The kill switch `haproxy` against a real HAProxy: who answers real requests decides."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.performing import perform
from tests.servers import haproxy_server
from tests.servers.conftest import require
from tests.servers.haproxy_proxy import SocketProxy, Twist
from tests.servers.haproxy_server import HAProxyServer, Upstream
from tests.switches.kills import kill
from watcher.act import Dial, Outbox
from watcher.config import load_installation
from watcher.errors import SwitchError
from watcher.journal import Journal
from watcher.model import Promote
from watcher.noticing import Noticing
from watcher.switches import Switch, switch
from watcher.switches.haproxy import runtime
from watcher.switches.haproxy.canary import Canary
from watcher.testing import MemorySource

pytestmark = pytest.mark.servers

DOCUMENTED = Path(__file__).resolve().parents[2] / "docs" / "switches.md"

BACKENDS = """\
backend shop
  balance roundrobin
  server stable {stable} weight 95 check
  server canary {canary} weight 5 check
backend pool
  server stable-1 {stable} weight 47
  server stable-2 {stable} weight 47
  server stable-3 {stable} weight 47 check
  server canary {canary} weight 6
  server spare {blue} weight 9 backup
backend reserve
  server stable {stable} weight 95 check
  server canary {canary} weight 5
  server spare {blue} weight 9 backup
backend sticky
  cookie SERVER insert indirect nocache
  server stable {stable} weight 90 cookie s
  server canary {canary} weight 10 cookie c
backend table
  stick-table type string size 1k
  stick on hdr(user)
  server stable {stable} weight 50
  server canary {canary} weight 50
backend limited
  stick-table type ip size 1k store http_req_rate(10s)
  http-request track-sc0 src
  server stable {stable} weight 90
  server canary {canary} weight 10
backend hashed
  balance source
  server stable {stable} weight 95
  server canary {canary} weight 5
backend firstfit
  balance first
  server stable {stable} weight 95
  server canary {canary} weight 5
backend dormant
  server stable {stable} weight 95
  server canary {canary} weight 0
backend alone
  server canary {canary} weight 5
backend blue
  server blue-1 {blue} check
backend green
  server green-1 {canary}
backend retired
  disabled
  server retired-1 {blue}
backend hollow
"""


class Shop:
    """The web servers behind HAProxy."""

    def __init__(self) -> None:
        self.stable, self.canary, self.blue = Upstream("stable"), Upstream("canary"), Upstream("blue")

    def backends(self) -> str:
        return BACKENDS.format(stable=self.stable.address, canary=self.canary.address, blue=self.blue.address)


@pytest.fixture
def shop() -> Iterator[Shop]:
    shop = Shop()
    with ExitStack() as stack:
        for upstream in (shop.stable, shop.canary, shop.blue):
            stack.enter_context(upstream)
        yield shop


@pytest.fixture
def haproxy(shop: Shop) -> Iterator[HAProxyServer]:
    require(haproxy_server.missing())
    with haproxy_server.running(shop.backends(), live="# Who is live?\nlive green\n") as server:
        yield server


@pytest.fixture
def proxy(haproxy: HAProxyServer) -> Iterator[SocketProxy]:
    with SocketProxy(haproxy) as proxy:
        yield proxy


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "PATIENCE", 0.3)


def canary(haproxy: HAProxyServer, backend: str = "shop", **more: str) -> Canary:
    found = made({"socket": haproxy.socket, "backend": backend, "server": "canary", **more})
    assert isinstance(found, Canary)
    return found


def blue_green(haproxy: HAProxyServer, to: str = "blue", **more: str) -> Switch:
    return made({"socket": haproxy.socket, "map": "live", "to": to, **more})


def made(settings: dict[str, str]) -> Switch:
    return switch(f"haproxy:{json.dumps(settings)}")


def test_a_haproxy_without_any_stick_table_shows_none_and_its_canary_is_read_and_killed(shop: Shop) -> None:
    require(haproxy_server.missing())
    servers = f"server stable {shop.stable.address} weight 95\n  server canary {shop.canary.address} weight 5"
    with haproxy_server.running(f"backend shop\n  {servers}\n") as plain:
        assert plain.ask("show table").strip() == ""
        state = canary(plain).read("checkout")
        assert (state.on, state.share, state.sticky) == (True, 0.05, False)
        canary(plain).kill("checkout", "errors")
        assert plain.answers("/shop", 100) == {"stable": 100}


def test_a_canary_is_read_as_its_part_of_the_weights(haproxy: HAProxyServer) -> None:
    state = canary(haproxy).read("checkout")
    assert (state.on, state.share, state.sticky) == (True, 0.05, False)
    assert state.shown == "weight 5 of 100 (stable 95)"
    assert haproxy.answers("/shop", 200) == {"stable": 190, "canary": 10}


def test_a_promotion_is_what_users_get_at_every_step_and_a_kill_ends_it(haproxy: HAProxyServer) -> None:
    dial = canary(haproxy)
    since = 0.05
    for share, weights in ((0.25, (75, 25)), (0.5, (50, 50)), (1.0, (0, 50))):
        dial.promote("checkout", since, share)
        since = share
        assert dial.read("checkout").share == share
        assert tuple(haproxy.weights("shop").values()) == weights
        found = haproxy.answers("/shop", 200)
        assert abs(found["canary"] - 200 * share) <= 1, found
    dial.kill("checkout", "errors tripled")
    assert haproxy.answers("/shop", 200) == {"stable": 200}
    assert haproxy.weights("shop") == {"stable": 95, "canary": 0}


def test_a_kill_takes_the_canary_alone_off_and_again_changes_nothing(haproxy: HAProxyServer, tmp_path: Path) -> None:
    off = canary(haproxy)
    assert off.dry_run("checkout") == (
        "shop/canary: weight 5 -> 0 (weight 5 of 100 (stable 95)); "
        "lost on reload: no state_file (it would bring back weight 5)"
    )
    assert haproxy.weights("shop") == {"stable": 95, "canary": 5}
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert done.state == "done", done.error
    assert haproxy.weights("shop") == {"stable": 95, "canary": 0}
    assert haproxy.answers("/shop", 100) == {"stable": 100}
    state = off.read("checkout")
    assert (state.on, state.share) == (False, 0.0)
    assert state.shown == "weight 0 of 95 (stable 95); a reload brings back weight 5: no state_file"
    off.kill("checkout", "again")
    assert haproxy.weights("shop") == {"stable": 95, "canary": 0}
    assert off.dry_run("checkout").startswith(
        "shop/canary has weight 0 already; nothing would be sent; a reload brings"
    )


def test_several_stable_servers_keep_their_proportions_and_a_backup_stays_out(haproxy: HAProxyServer) -> None:
    dial = canary(haproxy, "pool")
    state = dial.read("checkout")
    assert state.share == pytest.approx(6 / 147)
    assert state.shown == "weight 6 of 147 (stable-1 47, stable-2 47, stable-3 47)"
    dial.promote("checkout", 0.04, 0.2)
    weights = haproxy.weights("pool")
    assert weights["stable-1"] == weights["stable-2"] == weights["stable-3"]
    assert weights["spare"] == 9
    assert dial.read("checkout").share == pytest.approx(0.2, abs=0.001)
    assert abs(haproxy.answers("/pool", 300)["canary"] - 60) <= 2
    dial.promote("checkout", 0.2, 1.0)
    assert haproxy.answers("/pool", 50) == {"canary": 50}
    dial.kill("checkout", "")
    assert haproxy.weights("pool") == {"stable-1": 47, "stable-2": 47, "stable-3": 47, "canary": 0, "spare": 9}
    assert haproxy.answers("/pool", 50) == {"stable": 50}


def test_the_outbox_promotes_a_canary_and_reads_it_back(haproxy: HAProxyServer, tmp_path: Path) -> None:
    dial = canary(haproxy)
    assert isinstance(dial, Dial)
    assert not isinstance(blue_green(haproxy), Dial)
    with Journal.open(f"sqlite:///{tmp_path / 'journal.db'}") as journal:
        journal.intend(
            [Promote("p", "shop/production/checkout@1", "any", "checkout", 0.05, 0.25, "healthy", 100.0)], 100.0
        )
        assert perform(Outbox(journal, lambda _: dial, {}), 100.0) == [("p", "done")]
        [entry] = journal.actions()
    assert entry.receipt is not None
    assert entry.receipt["before"] == "weight 5 of 100 (stable 95)"
    assert entry.receipt["after"].startswith("weight 25 of 100 (stable 75)")


@pytest.mark.parametrize(
    ("backend", "since", "share", "words"),
    [
        ("shop", 0.25, 0.5, r"not at 25 % any more \(weight 5 of 100"),
        ("shop", 0.05, 0.05, "5 % to 5 % is no raise"),
        ("shop", 0.05, 0.01, "5 % to 1 % is no raise"),
        ("shop", 0.05, 1.5, "is no raise"),
        ("dormant", 0.0, 0.05, "0 % to 5 % is no raise"),
        ("dormant", 0.001, 0.05, r"not at 0.1 % any more \(weight 0 of 95"),
        ("firstfit", 0.05, 0.5, "`balance first` does not go by weights"),
        ("hashed", 0.05, 0.5, "Backend is using a static LB algorithm"),
        ("pool", 0.04, 0.995, "99.5 % cannot be said in weights from 0 to 256 beside 3 servers; the nearest is 98.8 %"),
    ],
)
def test_a_promotion_that_would_not_be_a_raise_is_refused_and_changes_nothing(
    haproxy: HAProxyServer, backend: str, since: float, share: float, words: str
) -> None:
    before = haproxy.weights(backend)
    with pytest.raises(SwitchError, match=words) as raised:
        canary(haproxy, backend).promote("checkout", since, share)
    assert raised.value.permanent
    assert haproxy.weights(backend) == before


def test_a_canary_that_was_turned_off_is_never_turned_on_by_a_promotion(haproxy: HAProxyServer) -> None:
    dial = canary(haproxy)
    dial.kill("checkout", "")
    for since in (0.05, 0.004):
        with pytest.raises(SwitchError, match="not at"):
            dial.promote("checkout", since, 0.5)
    assert haproxy.weights("shop")["canary"] == 0


def test_a_canary_that_is_down_is_on_without_a_share_and_can_be_killed(haproxy: HAProxyServer, shop: Shop) -> None:
    shop.canary.stop()
    off = canary(haproxy)
    haproxy.eventually(lambda: off.read("checkout").share == 0.0, "the canary is down")
    state = off.read("checkout")
    assert state.on
    assert state.shown == "weight 5 of 100 (stable 95), canary is down"
    off.kill("checkout", "")
    shop.canary.start()
    haproxy.eventually(lambda: "down" not in off.read("checkout").shown, "the canary is up")
    assert haproxy.answers("/shop", 100) == {"stable": 100}


def test_a_kill_that_would_leave_nobody_to_answer_is_refused(
    haproxy: HAProxyServer, shop: Shop, tmp_path: Path
) -> None:
    off = canary(haproxy)
    shop.stable.stop()
    haproxy.eventually(lambda: off.read("checkout").share == 1.0, "the stable server is down")
    words = r"shop/canary is not taken off: nobody would be left to answer \(stable is down\)"
    with pytest.raises(SwitchError, match=words):
        off.dry_run("checkout")
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert haproxy.weights("shop") == {"stable": 95, "canary": 5}
    with pytest.raises(SwitchError, match=r"\(there is no other server\)"):
        canary(haproxy, "alone").kill("checkout", "")
    assert haproxy.answers("/shop", 20) == {"canary": 20}


def test_servers_in_maintenance_or_draining_do_not_count_as_somebody_to_answer(haproxy: HAProxyServer) -> None:
    for state, words in (("maint", "stable is in maintenance"), ("drain", "stable is draining")):
        haproxy.ask(f"set server shop/stable state {state}")
        assert canary(haproxy).read("checkout").share == 1.0
        with pytest.raises(SwitchError, match=words):
            canary(haproxy).kill("checkout", "")
    assert haproxy.weights("shop")["canary"] == 5


def test_a_backup_that_is_up_answers_where_the_stable_server_is_down(haproxy: HAProxyServer, shop: Shop) -> None:
    off = canary(haproxy, "reserve")
    off.promote("checkout", 0.05, 1.0)
    shop.stable.stop()
    haproxy.eventually(lambda: "stable 0, down" in off.read("checkout").shown, "the stable server is down")
    off.kill("checkout", "")
    assert haproxy.answers("/reserve", 20) == {"blue": 20}
    shop.stable.start()
    haproxy.eventually(lambda: "down" not in off.read("checkout").shown, "the stable server is up")
    assert haproxy.answers("/reserve", 20) == {"stable": 20}


def test_users_whose_cookie_keeps_them_on_the_canary_are_taken_off_too(haproxy: HAProxyServer) -> None:
    off = canary(haproxy, "sticky", state_file=str(haproxy.state_file))
    assert off.read("checkout").sticky
    assert haproxy.answers("/sticky", 20, Cookie="SERVER=c") == {"canary": 20}
    haproxy.ask("set server sticky/canary weight 0")
    assert haproxy.answers("/sticky", 20, Cookie="SERVER=c") == {"canary": 20}
    assert off.read("checkout").on
    assert "into maintenance, for the users who are kept on it" in off.dry_run("checkout")
    off.kill("checkout", "")
    assert haproxy.answers("/sticky", 20, Cookie="SERVER=c") == {"stable": 20}
    assert not off.read("checkout").on
    haproxy.reload()
    assert haproxy.answers("/sticky", 20, Cookie="SERVER=c") == {"stable": 20}
    assert off.read("checkout").shown == "weight 0 of 90 (stable 90), canary is in maintenance"


def test_users_whom_a_stick_table_keeps_on_the_canary_are_taken_off_too(haproxy: HAProxyServer) -> None:
    kept = next(f"u{n}" for n in range(20) if haproxy.answers("/table", 1, user=f"u{n}") == {"canary": 1})
    off = canary(haproxy, "table")
    off.kill("checkout", "")
    assert haproxy.answers("/table", 20, user=kept) == {"stable": 20}
    lost = "a reload brings back weight 50: no state_file"
    assert off.read("checkout").shown == f"weight 0 of 50 (stable 50), canary is in maintenance; {lost}"


def test_a_table_that_only_counts_requests_keeps_nobody(haproxy: HAProxyServer) -> None:
    off = canary(haproxy, "limited")
    assert off.read("checkout").sticky is False
    off.kill("checkout", "")
    assert "maintenance" not in off.read("checkout").shown


def test_a_balance_that_takes_no_weights_but_none_and_all_can_still_be_killed(haproxy: HAProxyServer) -> None:
    for backend, share, sticky in (("hashed", 0.05, True), ("firstfit", None, False)):
        off = canary(haproxy, backend)
        state = off.read("checkout")
        assert (state.on, state.share, state.sticky) == (True, share, sticky)
        off.kill("checkout", "")
        assert haproxy.answers(f"/{backend}", 20) == {"stable": 20}


def test_a_balance_that_takes_no_weights_but_none_and_all_can_be_given_everything_and_back(
    haproxy: HAProxyServer,
) -> None:
    dial = canary(haproxy, "hashed")
    dial.promote("checkout", 0.05, 1.0)
    assert haproxy.answers("/hashed", 20) == {"canary": 20}
    dial.kill("checkout", "")
    assert haproxy.weights("hashed") == {"stable": 95, "canary": 0}
    assert haproxy.answers("/hashed", 20) == {"stable": 20}


def test_a_kill_survives_a_reload_with_a_state_file(haproxy: HAProxyServer) -> None:
    off = canary(haproxy, state_file=str(haproxy.state_file))
    off.promote("checkout", 0.05, 1.0)
    haproxy.reload()
    assert haproxy.weights("shop") == {"stable": 0, "canary": 5}
    assert off.dry_run("checkout") == (
        "shop/stable: weight 0 -> 95, shop/canary: weight 5 -> 0 (weight 5 of 5 (stable 0)); "
        f"saved in {haproxy.state_file}"
    )
    off.kill("checkout", "")
    haproxy.reload()
    assert haproxy.weights("shop") == {"stable": 95, "canary": 0}
    assert haproxy.answers("/shop", 100) == {"stable": 100}
    assert off.read("checkout").shown == "weight 0 of 95 (stable 95)"
    assert haproxy.weights("pool")["canary"] == 6


def test_a_kill_without_a_state_file_is_lost_on_reload_as_it_was_said(haproxy: HAProxyServer) -> None:
    off = canary(haproxy)
    off.kill("checkout", "")
    assert off.read("checkout").shown.endswith("a reload brings back weight 5: no state_file")
    haproxy.reload()
    assert off.read("checkout").on
    assert haproxy.answers("/shop", 100) == {"stable": 95, "canary": 5}


def test_a_canary_that_is_configured_without_weight_needs_no_state_file(haproxy: HAProxyServer) -> None:
    haproxy.ask("set server dormant/canary weight 5")
    off = canary(haproxy, "dormant")
    assert off.dry_run("checkout").endswith("a reload keeps that: its configured weight is 0")
    off.kill("checkout", "")
    haproxy.reload()
    assert off.read("checkout").shown == "weight 0 of 95 (stable 95)"


def test_a_weight_that_is_configured_anew_wins_over_the_state_file(haproxy: HAProxyServer) -> None:
    off = canary(haproxy, state_file=str(haproxy.state_file))
    off.kill("checkout", "")
    config = haproxy.directory / "haproxy.cfg"
    config.write_text(
        config.read_text().replace("weight 95 check\n  server canary", "weight 90 check\n  server canary")
    )
    haproxy.reload()
    assert haproxy.weights("shop") == {"stable": 90, "canary": 0}
    config.write_text(config.read_text().replace("weight 5 check", "weight 10 check"))
    haproxy.reload()
    assert off.read("checkout").shown == "weight 10 of 100 (stable 90)"


def test_users_are_off_even_if_the_state_file_cannot_be_written_and_that_is_said(
    haproxy: HAProxyServer, tmp_path: Path
) -> None:
    nowhere = tmp_path / "gone" / "state"
    off = canary(haproxy, state_file=str(nowhere))
    assert off.dry_run("checkout").endswith(f"lost on reload: {nowhere}: its folder is missing")
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert done.state == "done", done.error
    assert haproxy.answers("/shop", 20) == {"stable": 20}
    assert done.entry.receipt is not None
    assert done.entry.receipt["after"].endswith(
        f"a reload brings back weight 5: {nowhere} is missing ({nowhere}: its folder is missing)"
    )
    nowhere.parent.mkdir()
    off.kill("checkout", "its folder is there now")
    assert off.read("checkout").shown == "weight 0 of 95 (stable 95)"


def test_a_state_file_keeps_its_mode_and_nothing_else_is_left_beside_it(haproxy: HAProxyServer) -> None:
    haproxy.state_file.write_text("")
    haproxy.state_file.chmod(0o640)
    before = set(os.listdir(haproxy.directory))
    canary(haproxy, state_file=str(haproxy.state_file)).kill("checkout", "")
    assert stat.S_IMODE(haproxy.state_file.stat().st_mode) == 0o640
    assert set(os.listdir(haproxy.directory)) == before


def test_a_kill_switches_back_to_the_backend_before(haproxy: HAProxyServer, tmp_path: Path) -> None:
    back = blue_green(haproxy)
    state = back.read("checkout")
    assert (state.on, state.share, state.serving, state.shown) == (True, 1.0, "green", "live: green")
    assert haproxy.answers("/", 20) == {"canary": 20}
    assert back.dry_run("checkout") == (
        f"{haproxy.live_map}: live: green -> blue (blue-1 is up); saved in {haproxy.live_map}"
    )
    assert haproxy.answers("/", 20) == {"canary": 20}
    done = kill(back, "checkout", tmp_path / "journal.db")
    assert done.state == "done", done.error
    assert haproxy.answers("/", 20) == {"blue": 20}
    state = back.read("checkout")
    assert (state.on, state.share, state.serving, state.shown) == (False, 0.0, "blue", "live: blue")
    back.kill("checkout", "again")
    assert back.dry_run("checkout") == f"{haproxy.live_map}: live is blue already; nothing would be sent"


def test_a_switch_back_survives_a_reload_and_the_rest_of_the_map_file_stays(haproxy: HAProxyServer) -> None:
    text = "# Who is live?\n\nlive \t green\r\nother   green\n# live purple\nlast green"
    haproxy.live_map.write_bytes(text.encode())
    haproxy.reload()
    back = blue_green(haproxy, key="live")
    back.kill("checkout", "")
    assert haproxy.live_map.read_bytes() == text.replace("live \t green", "live \t blue").encode()
    haproxy.reload()
    assert back.read("checkout").shown == "live: blue"
    assert haproxy.answers("/", 20) == {"blue": 20}
    assert haproxy.ask(f"get map {haproxy.live_map} other").count('value="green"') == 1


def test_a_switch_back_that_cannot_be_saved_is_said_to_be_lost_on_reload_and_is(
    haproxy: HAProxyServer, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "live.map"
    back = blue_green(haproxy, map_file=str(elsewhere))
    assert back.dry_run("checkout").endswith(f"lost on reload: {elsewhere} is missing")
    done = kill(back, "checkout", tmp_path / "journal.db")
    assert done.state == "done", done.error
    assert haproxy.answers("/", 20) == {"blue": 20}
    said = f"live: blue; a reload may change that: {elsewhere} cannot be read: No such file or directory"
    assert done.entry.receipt is not None
    assert done.entry.receipt["after"] == said
    haproxy.reload()
    assert haproxy.answers("/", 20) == {"canary": 20}


def test_a_map_file_that_still_says_the_bad_backend_is_told_of(haproxy: HAProxyServer) -> None:
    haproxy.ask(f"set map {haproxy.live_map} live blue")
    back = blue_green(haproxy)
    assert back.read("checkout").shown == f"live: blue; a reload brings back green: {haproxy.live_map} says so"
    back.kill("checkout", "")
    assert back.read("checkout").shown == "live: blue"


def test_switching_back_is_refused_while_the_backend_before_is_down(
    haproxy: HAProxyServer, shop: Shop, tmp_path: Path
) -> None:
    shop.blue.stop()
    haproxy.eventually(lambda: "DOWN" in haproxy.ask("show stat blue 4 -1"), "blue is down")
    with pytest.raises(SwitchError, match="blue is no longer healthy: blue-1 is down") as raised:
        blue_green(haproxy).dry_run("checkout")
    assert raised.value.permanent
    done = kill(blue_green(haproxy), "checkout", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert haproxy.answers("/", 20) == {"canary": 20}
    assert "live green" in haproxy.live_map.read_text()


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("bleu", "bleu is gone: HAProxy has no such backend any more"),
        ("retired", "retired is gone: that backend is disabled"),
        ("hollow", "hollow is no longer healthy: it has no server"),
    ],
)
def test_switching_back_to_a_backend_that_is_gone_is_refused(haproxy: HAProxyServer, to: str, words: str) -> None:
    for call in (blue_green(haproxy, to).dry_run, lambda feature: blue_green(haproxy, to).kill(feature, "")):
        with pytest.raises(SwitchError, match=words) as raised:
            call("checkout")
        assert raised.value.permanent
    assert haproxy.answers("/", 5) == {"canary": 5}


def test_servers_that_nobody_is_sent_to_are_no_healthy_backend(haproxy: HAProxyServer) -> None:
    haproxy.ask("set server blue/blue-1 weight 0")
    with pytest.raises(SwitchError, match="no longer healthy: blue-1 is without weight"):
        blue_green(haproxy).kill("checkout", "")
    haproxy.ask("set server blue/blue-1 state maint")
    with pytest.raises(SwitchError, match="no longer healthy: blue-1 is in maintenance"):
        blue_green(haproxy).kill("checkout", "")


def test_a_placeholder_is_told_and_never_sent(haproxy: HAProxyServer) -> None:
    back = blue_green(haproxy, "{previous}")
    assert back.read("checkout").on
    assert "live: green -> {previous}, once a release names it" in back.dry_run("checkout")
    with pytest.raises(SwitchError, match=r"does not say what was served before \(\{previous\}\)") as raised:
        back.kill("checkout", "")
    assert raised.value.permanent
    assert haproxy.answers("/", 5) == {"canary": 5}


def test_an_entry_of_several_is_chosen_by_its_key_and_the_map_by_name_or_path(
    haproxy: HAProxyServer,
) -> None:
    haproxy.ask(f"add map {haproxy.live_map} shop.example green")
    with pytest.raises(SwitchError, match=r"has 2 entries; name one with `key` \(there is: live, shop.example\)"):
        blue_green(haproxy).kill("checkout", "")
    with pytest.raises(SwitchError, match=r"no entry 'shop' \(there is: live, shop.example\)"):
        blue_green(haproxy, key="shop").read("checkout")
    back = made({"socket": haproxy.socket, "map": str(haproxy.live_map), "to": "blue", "key": "shop.example"})
    back.kill("checkout", "")
    assert back.read("checkout").shown == "shop.example: blue"
    assert haproxy.live_map.read_text() == "# Who is live?\nlive green\nshop.example blue\n"
    assert blue_green(haproxy, key="live").read("checkout").serving == "green"
    with pytest.raises(SwitchError, match=rf"HAProxy has no map 'lief'; there is: {haproxy.live_map}"):
        made({"socket": haproxy.socket, "map": "lief", "to": "blue"}).read("checkout")


@pytest.mark.parametrize(
    ("backend", "server", "words"),
    [
        ("shoop", "canary", "HAProxy says: Can't find backend."),
        ("shop", "canari", "backend shop has no server 'canari'; there is: stable, canary"),
    ],
)
def test_a_name_that_haproxy_does_not_have_is_a_clear_error(
    haproxy: HAProxyServer, backend: str, server: str, words: str, tmp_path: Path
) -> None:
    off = made({"socket": haproxy.socket, "backend": backend, "server": server})
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert words in done.error


@pytest.mark.parametrize("level", ["operator", "user"])
def test_a_socket_with_too_few_rights_is_a_clear_error_that_is_not_retried(
    haproxy: HAProxyServer, level: str, tmp_path: Path
) -> None:
    off = made({"socket": f"{haproxy.directory}/{level}.sock", "backend": "shop", "server": "canary"})
    assert off.read("checkout").share == 0.05
    words = f"the socket needs `level admin` to change anything: it has level {level}"
    with pytest.raises(SwitchError, match=words):
        off.dry_run("checkout")
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert words in done.error
    assert haproxy.weights("shop")["canary"] == 5


MAP = {"map": "live", "to": "blue"}


@pytest.mark.parametrize("level", ["operator", "user"])
def test_a_map_is_set_whatever_the_level_of_the_socket(haproxy: HAProxyServer, level: str, tmp_path: Path) -> None:
    done = kill(made({"socket": f"{haproxy.directory}/{level}.sock", **MAP}), "shop", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("done", []), done.error
    assert haproxy.answers("/", 20) == {"blue": 20}


@pytest.mark.parametrize(
    ("wrong", "words"), [({"map": "lief"}, "lief"), ({"key": "nobody"}, "nobody"), ({"to": "purple"}, "purple")]
)
def test_a_map_an_entry_or_a_backend_that_is_not_there_is_told_at_once(
    haproxy: HAProxyServer, wrong: dict[str, str], words: str, tmp_path: Path
) -> None:
    done = kill(made({"socket": haproxy.socket, **MAP, **wrong}), "shop", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert words in done.error


def test_a_haproxy_that_comes_back_has_its_map_set_by_the_next_try(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    proxy.twist(Twist("show map", answer=b""), Twist("show map", answer=b""))
    done = kill(made({"socket": proxy.socket, **MAP}), "shop", tmp_path / "journal.db")
    assert done.state == "done", done.error
    assert done.pauses
    assert blue_green(haproxy).read("shop").serving == "blue"
    assert len(proxy.changes) == 1


def test_rights_that_are_refused_only_when_it_matters_are_a_clear_error(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    proxy.twist(Twist("set server", answer=b"\n[3]: Permission denied\n\n"))
    done = kill(made({"socket": proxy.socket, "backend": "shop", "server": "canary"}), "f", tmp_path / "j.db")
    assert (done.state, done.pauses) == ("failed", [])
    assert "needs `level admin` to change anything: it answered: Permission denied" in done.error
    assert proxy.changes == []


def test_what_the_system_keeps_from_watcher_is_told_with_the_way_to_open_it(haproxy: HAProxyServer) -> None:
    haproxy.state_file.write_text("")
    off = canary(haproxy, state_file=str(haproxy.state_file))
    with as_nobody(haproxy), pytest.raises(SwitchError, match="mode 660 group watcher level admin") as raised:
        off.read("checkout")
    assert raised.value.permanent
    closed = f"{haproxy.directory}/below/state"
    over_tcp = {"socket": f"127.0.0.1:{haproxy.stats_port}", "backend": "shop", "server": "canary"}
    with as_nobody(haproxy):
        assert made({**over_tcp, "state_file": closed}).dry_run("checkout").endswith("its folder is missing")
    Path(haproxy.socket).chmod(0o666)
    with as_nobody(haproxy, 0o755):
        assert off.dry_run("checkout").endswith(f"lost on reload: {haproxy.state_file}: its folder cannot be written")
        off.kill("checkout", "")
        said = f"{haproxy.state_file} is no state file ({haproxy.state_file}: its folder cannot be written)"
        assert off.read("checkout").shown.endswith(f"a reload brings back weight 5: {said}")
    assert haproxy.answers("/shop", 20) == {"stable": 20}
    with as_nobody(haproxy, 0o777):
        assert off.read("checkout").shown.endswith(
            "it belongs to another user, and watcher could not leave it to them)"
        )


@contextmanager
def as_nobody(haproxy: HAProxyServer, mode: int = 0o700) -> Iterator[None]:
    """Be a user without rights for a while, to whom HAProxy's folder has this mode; skip where that cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    haproxy.directory.chmod(mode)
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_stats_socket_over_tcp_serves_as_well(haproxy: HAProxyServer) -> None:
    off = made({"socket": f"127.0.0.1:{haproxy.stats_port}", "backend": "shop", "server": "canary"})
    off.kill("checkout", "")
    assert haproxy.answers("/shop", 20) == {"stable": 20}


def test_a_haproxy_that_is_gone_is_tried_again(haproxy: HAProxyServer, tmp_path: Path) -> None:
    for socket, words in (
        (f"{haproxy.directory}/gone.sock", "cannot be reached: No such file or directory; is it running"),
        (f"127.0.0.1:{haproxy_server.free_port()}", "cannot be reached: Connection refused; is it running"),
        (f"/{'x' * 200}", "cannot be reached: AF_UNIX path too long"),
    ):
        off = made({"socket": socket, "backend": "shop", "server": "canary"})
        with pytest.raises(SwitchError, match=words) as raised:
            off.read("checkout")
        assert not raised.value.permanent


def test_a_haproxy_that_comes_back_is_killed_by_the_next_try(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    proxy.twist(Twist("show servers state", answer=b""), Twist("show servers state", answer=b""))
    off = made({"socket": proxy.socket, "backend": "shop", "server": "canary"})
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, len(done.pauses)) == ("done", 2), done.error
    assert proxy.changes == ["set server shop/canary weight 0"]


@pytest.mark.usefixtures("impatient")
def test_a_kill_whose_answer_never_comes_is_found_done_and_not_repeated(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    proxy.twist(Twist("set server", applied=True))
    off = made({"socket": proxy.socket, "backend": "shop", "server": "canary", "state_file": str(haproxy.state_file)})
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, done.pauses) == ("done", []), done.error
    assert proxy.changes == ["set server shop/canary weight 0"]
    haproxy.reload()
    assert haproxy.answers("/shop", 20) == {"stable": 20}


@pytest.mark.usefixtures("impatient")
def test_a_kill_after_which_nothing_can_be_read_is_tried_again_and_found_done(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    proxy.twist(Twist("set server", applied=True), Twist("show servers state"))
    off = made({"socket": proxy.socket, "backend": "shop", "server": "canary", "state_file": str(haproxy.state_file)})
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, len(done.pauses)) == ("done", 1), done.error
    assert (done.entry.receipt or {})["note"] == "already off"
    assert proxy.changes == ["set server shop/canary weight 0"]
    haproxy.reload()
    assert haproxy.answers("/shop", 20) == {"stable": 20}


def test_an_answer_that_lies_is_not_believed(haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path) -> None:
    proxy.twist(Twist("set server", answer=b"\n\n"))
    off = made({"socket": proxy.socket, "backend": "shop", "server": "canary", "state_file": str(haproxy.state_file)})
    with pytest.raises(
        SwitchError, match=r"HAProxy was told `set server shop/canary weight 0`, and reads back as weight 5 of"
    ):
        off.kill("checkout", "")
    assert proxy.changes == []
    haproxy.reload()  # does not do what was said not to be done
    assert haproxy.weights("shop") == {"stable": 95, "canary": 5}
    proxy.twist(Twist("set server", answer=b"\n\n"))
    done = kill(off, "checkout", tmp_path / "journal.db")
    assert (done.state, len(done.pauses)) == ("done", 1), done.error
    assert proxy.changes == ["set server shop/canary weight 0"]


@pytest.mark.parametrize(
    ("twist", "words"),
    [
        (Twist("show servers state", answer=b"HTTP/1.1 400 Bad request\r\n\r\n<html>\n\n"), "is it HAProxy's"),
        (Twist("show servers state", answer=b"\xff\xfe\x00"), "was cut off"),
        (Twist("show servers state", cut=True), "was cut off"),
        (Twist("show servers state", answer=b"\n1\n# be_name srv_name\n\n"), "is it HAProxy's"),
        (Twist("show servers state", answer=b"\n" + b"x" * (17 << 20)), "more than 16 MiB"),
        (Twist("show stat", answer=b"no such thing\n\n"), "the answer to `show stat` is not HAProxy's"),
        (Twist("set server", answer=b"HTTP/1.1 400 Bad request\r\n\r\n"), "is not HAProxy's: is this its stats socket"),
    ],
)
def test_garbage_is_an_error_and_turns_nothing(
    haproxy: HAProxyServer, proxy: SocketProxy, twist: Twist, words: str
) -> None:
    proxy.twist(twist)
    with pytest.raises(SwitchError, match=words):
        made({"socket": proxy.socket, "backend": "shop", "server": "canary"}).kill("checkout", "")
    assert proxy.changes == []
    assert haproxy.weights("shop")["canary"] == 5


def test_garbage_after_a_change_that_was_made_is_no_failure(haproxy: HAProxyServer, proxy: SocketProxy) -> None:
    proxy.twist(Twist("set server", applied=True, answer=b"\x00garbage"))
    made({"socket": proxy.socket, "backend": "shop", "server": "canary"}).kill("checkout", "")
    assert proxy.changes == ["set server shop/canary weight 0"]


@pytest.mark.usefixtures("impatient")
def test_stable_servers_that_do_not_come_back_keep_the_canary_answering(
    haproxy: HAProxyServer, proxy: SocketProxy
) -> None:
    canary(haproxy).promote("checkout", 0.05, 1.0)
    off = made({"socket": proxy.socket, "backend": "shop", "server": "canary"})
    for answer in (b"\n\n", None):
        proxy.twist(Twist("set server shop/stable", answer=answer))
        with pytest.raises(SwitchError, match=r"told `set server shop/stable weight 95`, and reads|no answer within"):
            off.kill("checkout", "")
    assert haproxy.answers("/shop", 20) == {"canary": 20}
    off.kill("checkout", "")
    assert proxy.changes == ["set server shop/stable weight 95", "set server shop/canary weight 0"]


@pytest.mark.usefixtures("impatient")
def test_a_map_that_was_set_without_an_answer_is_found_set_and_a_lie_is_not_believed(
    haproxy: HAProxyServer, proxy: SocketProxy, tmp_path: Path
) -> None:
    back = made({"socket": proxy.socket, "map": "live", "to": "blue"})
    proxy.twist(Twist("set map", answer=b"\n\n"))
    with pytest.raises(SwitchError, match="and live still reads green"):
        back.kill("checkout", "")
    assert "live green" in haproxy.live_map.read_text()
    proxy.twist(Twist("set map"), Twist("set map", applied=True))
    done = kill(back, "checkout", tmp_path / "journal.db")
    assert (done.state, len(done.pauses)) == ("done", 1), done.error
    assert proxy.changes == [f"set map {haproxy.live_map} live blue"]
    for garbage in (
        Twist("show map", answer=b"\nHTTP/1.1\n\n"),
        Twist(f"show map {haproxy.live_map}", answer=b"x y\n\n"),
    ):
        proxy.twist(garbage)
        with pytest.raises(SwitchError, match="the answer to `show map` is not HAProxy's"):
            back.read("checkout")


NOTICED = """
journal: sqlite:///watcher.db
metrics: {{prometheus: http://127.0.0.1:9090}}
services:
  shop:
    rules: [haproxy]
    releases:
      - strategy: canary
        notice: {{switch: true, features: [shop]}}
        arms: {{baseline: {{arm: stable}}, treatment: {{arm: canary}}}}
        kill: {{haproxy: {{socket: {socket}, backend: shop, server: canary}}}}
"""


def test_weights_that_people_change_are_a_release_its_stages_and_its_end(
    haproxy: HAProxyServer, tmp_path: Path
) -> None:
    (tmp_path / "watcher.yaml").write_text(NOTICED.format(socket=haproxy.socket))
    installation, at = load_installation(tmp_path / "watcher.yaml"), 1_800_000_000.0
    with Journal.open(installation.journal) as journal:

        def weighed(weight: int) -> list[tuple[str, list[float | None]]]:
            nonlocal at
            haproxy.ask(f"set server shop/canary weight {weight}")
            for _ in range(2):
                at += 15.0
                Noticing(installation, journal, MemorySource({}), switch).notice(at)
            found = [(each.status, each.watch.release) for each in journal.watches()]
            return [(status, [stage.share for stage in release.stages]) for status, release in found]

        assert weighed(0) == []
        assert weighed(5) == [("active", [0.05])]
        assert weighed(95) == [("active", [0.05, 0.5])]
        assert weighed(0) == [("ended", [0.05, 0.5])]


def test_haproxy_accepts_the_configurations_that_are_documented(tmp_path: Path) -> None:
    require(haproxy_server.missing())
    (tmp_path / "live.map").write_text("live blue\n")
    found = re.findall(r"^```haproxy\n(.*?)^```", DOCUMENTED.read_text(), re.M | re.S)
    assert len(found) == 2
    for number, text in enumerate(found):
        config = tmp_path / f"{number}.cfg"
        text = text.replace("/etc/haproxy/maps", str(tmp_path)).replace("group watcher ", "")
        config.write_text(text)
        done = subprocess.run([haproxy_server.binary(), "-c", "-f", config], capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        assert "[ALERT]" not in done.stderr

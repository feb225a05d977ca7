"""The kill switch `unleash` on a real Unleash, whose own log says how often a flag went from on to off."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from UnleashClient import UnleashClient

from tests.planted import MARK, plant
from tests.servers.unleash_server import UnleashServer, gradual, place
from tests.switches.fault_proxy import Fault, FaultProxy
from tests.switches.kills import at, kill
from watcher.errors import SwitchError
from watcher.switches import switch
from watcher.switches.unleash import Unleash

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("unleash")]

NUMBERS = itertools.count(1)
SOME = {"constraints": [{"contextName": "country", "operator": "IN", "values": ["nz"]}]}
Named = Callable[..., Unleash]


@pytest.fixture
def feature(unleash: UnleashServer) -> str:
    """A flag that is on for half of the users, as no other test has it."""
    name = f"checkout-{next(NUMBERS)}"
    unleash.create(name)
    return name


@pytest.fixture
def named(unleash: UnleashServer, tmp_path: Path) -> Named:
    """Return the switch as watcher.yaml names it, with any setting or token replaced."""

    def make(token: str | None = None, **settings: str) -> Any:
        plant(tmp_path / "token", f"{token or unleash.admin_token}\n")
        told = {"url": unleash.url, "environment": "production", "token_file": str(tmp_path / "token"), **settings}
        return switch(f"unleash:{json.dumps(told)}")

    return make


def hasty(url: str, folder: Path, unleash: UnleashServer) -> Unleash:
    """Return the switch with the patience that tests have."""
    plant(folder / "token", unleash.admin_token)
    told = {"url": url, "environment": "production", "token_file": str(folder / "token")}
    return Unleash(json.dumps(told), patience=(2.0, 1.0))


def off(feature: str) -> str:
    return f"POST /api/admin/{place(feature)}/off"


def test_a_kill_turns_the_flag_off_in_its_environment_and_touches_nothing_else(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    unleash.turn_on(feature, "development")
    before, events = unleash.call("GET", place(feature)), unleash.events(feature)
    named().kill(feature, "errors tripled")
    assert unleash.call("GET", place(feature)) == {**before, "enabled": False}
    assert unleash.is_on(feature, "development")
    assert unleash.events(feature) == [*events, "feature-environment-disabled production"]


def test_a_second_kill_changes_nothing(unleash: UnleashServer, named: Named, feature: str) -> None:
    for _ in range(3):
        named().kill(feature, "errors tripled")
    assert not named().read(feature).on
    assert unleash.kills(feature) == 1


def test_nothing_turns_a_flag_on(unleash: UnleashServer, named: Named) -> None:
    assert [name for name in dir(Unleash) if not name.startswith("_")] == ["dry_run", "kill", "read"]
    feature = f"closed-{next(NUMBERS)}"
    unleash.create(feature, on=False)
    before = unleash.events(feature)
    named().dry_run(feature)
    named().kill(feature, "errors tripled")
    assert not named().read(feature).on
    assert unleash.events(feature) == before


@pytest.mark.parametrize(
    ("strategies", "share", "sticky", "shown"),
    [
        ([gradual(50)], 0.5, None, "flexibleRollout 50 %, stickiness default"),
        ([gradual(5, "userId")], 0.05, True, "flexibleRollout 5 %, stickiness userId"),
        ([gradual(5, "sessionId")], 0.05, None, "flexibleRollout 5 %, stickiness sessionId"),
        ([gradual(5, "tenant")], 0.05, True, "flexibleRollout 5 %, stickiness tenant"),
        ([gradual(20, "random")], 0.2, False, "flexibleRollout 20 %, stickiness random"),
        ([gradual(0)], 0.0, None, "flexibleRollout 0 %, stickiness default"),
        ([gradual(100)], 1.0, True, "flexibleRollout 100 %, stickiness default"),
        ([{"name": "default"}], 1.0, True, "default"),
        ([gradual(10, "userId", **SOME)], None, None, "flexibleRollout 10 % for some users, stickiness userId"),
        ([{"name": "default", **SOME}], None, None, "default for some users"),
        ([{"name": "remoteAddress", "parameters": {"IPs": "10.0.0.1"}}], None, None, "remoteAddress"),
        ([gradual(10, "userId"), gradual(10, "userId", **SOME)], None, None, "2 strategies"),
        ([gradual(10, "userId", **SOME), {"name": "default"}], 1.0, True, "2 strategies"),
        ([gradual(10, "userId"), gradual(90, disabled=True)], 0.1, True, "flexibleRollout 10 %, stickiness userId"),
    ],
)
def test_the_share_and_whether_users_keep_it_are_said_only_where_the_strategies_say_so(
    unleash: UnleashServer,
    named: Named,
    strategies: list[dict[str, Any]],
    share: float | None,
    sticky: bool | None,
    shown: str,
) -> None:
    feature = f"read-{next(NUMBERS)}"
    unleash.create(feature, *strategies)
    state = named().read(feature)
    assert (state.on, state.share, state.sticky) == (True, share, sticky)
    assert state.shown == f"production: on, {shown}"
    named().kill(feature, "errors tripled")
    state = named().read(feature)
    assert (state.on, state.share, state.shown) == (False, 0.0, "production: off")


def test_where_a_segment_or_a_parent_flag_chooses_the_users_the_share_is_not_said(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    segment = unleash.call("POST", "segments", {"name": feature, "constraints": SOME["constraints"]})["id"]
    unleash.create(f"{feature}-segment", gradual(30, "userId", segments=[segment]))
    state = named().read(f"{feature}-segment")
    assert (state.share, state.sticky) == (None, None)
    assert state.shown == "production: on, flexibleRollout 30 % for some users, stickiness userId"

    unleash.create(f"{feature}-child", {"name": "default"})
    unleash.call("POST", f"projects/default/features/{feature}-child/dependencies", {"feature": feature})
    state = named().read(f"{feature}-child")
    assert (state.on, state.share, state.sticky) == (True, None, None)
    assert state.shown == f"production: on, default, depends on {feature}"


def test_the_revision_grows_with_every_change_of_the_flag_in_the_environment_and_with_no_other(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    read = named().read
    first = read(feature).revision
    unleash.turn_on(feature, "development")
    assert read(feature).revision == first
    named().kill(feature, "errors tripled")
    second = read(feature).revision
    unleash.turn_on(feature)
    third = read(feature).revision
    unleash.call("POST", f"{place(feature)}/strategies", gradual(7))
    assert int(first) < int(second) < int(third) < int(read(feature).revision)


def test_without_unleash_s_log_the_rest_is_read_all_the_same(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    flag = json.dumps(unleash.call("GET", f"projects/default/features/{feature}")).encode()
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(body=flag, reads=True), Fault(status=403, reads=True))
        state = named(url=proxy.url).read(feature)
    assert (state.on, state.share, state.revision) == (True, 0.5, "")
    assert len(proxy.requests) == 2


def test_a_dry_run_says_what_a_kill_then_sends_and_sends_nothing_itself(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        said = named(url=proxy.url).dry_run(feature)
        assert (proxy.writes, unleash.is_on(feature)) == ([], True)
        named(url=proxy.url).kill(feature, "errors tripled")
        assert [f"POST {proxy.url}{write.removeprefix('POST ')}" for write in proxy.writes] == [said]
        assert named(url=proxy.url).dry_run(feature) == (
            f"production is off already; nothing would be sent (if on: {said})"
        )
    assert unleash.kills(feature) == 1


def test_a_token_that_may_only_read_is_found_out_before_it_matters(
    unleash: UnleashServer, named: Named, feature: str
) -> None:
    viewer = named(unleash.personal_token(f"viewer-of-{feature}", role=3))
    assert viewer.read(feature).on
    for call in (viewer.dry_run, lambda feature: viewer.kill(feature, "errors tripled")):
        with pytest.raises(SwitchError, match="with the permission UPDATE_FEATURE_ENVIRONMENT in production") as raised:
            call(feature)
        assert raised.value.permanent
    assert unleash.kills(feature) == 0

    editor = named(unleash.personal_token(f"editor-of-{feature}", role=2))
    assert editor.dry_run(feature).startswith("POST ")
    editor.kill(feature, "errors tripled")
    assert unleash.kills(feature) == 1


@pytest.mark.parametrize(
    ("token", "settings", "name", "words"),
    [
        (f"*:*.{MARK}", {}, "", "HTTP 401, You must log in to use Unleash; put an admin token into .*token, or one of"),
        (f"{MARK}\u00e9ly", {}, "", "token: holds what no token of Unleash holds; put an admin token into"),
        ("backend", {}, "", r"HTTP 403, .*different token type .*SDKs \(backend, frontend\) are not enough"),
        ("frontend", {}, "", r"HTTP 403, .*different token type .*SDKs \(backend, frontend\) are not enough"),
        ("", {}, "chekout", "no feature named .chekout. in project .default.; check the name of the feature"),
        ("", {"project": "shop"}, "", "in project .shop., but there's a feature with that name in project .default.;"),
        ("", {"environment": "prod"}, "", "there is no environment 'prod'; there is: development, production"),
        ("", {"project": ".."}, "", "'..' is no name of a project, flag or environment"),
        ("", {}, "..", "'..' is no name of a project, flag or environment"),
        ("", {}, "a/b?c=\u00e9#", "/features/a%2Fb%3Fc%3D%C3%A9%23: There's no feature named"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_an_error_that_names_the_fix_and_is_not_tried_again(
    unleash: UnleashServer,
    named: Named,
    tmp_path: Path,
    feature: str,
    token: str,
    settings: dict[str, str],
    name: str,
    words: str,
) -> None:
    feature = name or feature
    token = {"backend": unleash.backend_token, "frontend": unleash.frontend_token}.get(token, token)
    wrong = named(token or unleash.admin_token, **settings)
    before = unleash.call("GET", "events")["totalEvents"]
    told: list[SwitchError] = []
    for call in (wrong.read, wrong.dry_run):
        with pytest.raises(SwitchError, match=words) as raised:
            call(feature)
        told.append(raised.value)
    with pytest.raises(SwitchError) as raised:
        wrong.kill(feature, "errors tripled")
    assert all(error.permanent for error in (*told, raised.value))
    assert not any(token and token in str(error) for error in (*told, raised.value))
    killing = kill(wrong, feature, tmp_path / "watcher.db")
    assert (killing.state, killing.pauses) == ("failed", [])
    assert unleash.call("GET", "events")["totalEvents"] == before


def test_an_archived_flag_is_an_error_although_unleash_still_calls_it_enabled(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    unleash.archive(feature)
    assert unleash.is_on(feature)
    for call in (named().read, named().dry_run):
        with pytest.raises(SwitchError, match=f"the flag '{feature}' is archived: nobody gets it.*; revive it"):
            call(feature)
    with pytest.raises(SwitchError, match="HTTP 400, Cannot perform this operation on archived features") as raised:
        named().kill(feature, "errors tripled")
    assert raised.value.permanent
    killing = kill(named(), feature, tmp_path / "watcher.db")
    assert (killing.state, killing.pauses) == ("failed", [])
    assert "is archived" in killing.error


def test_no_secret_is_shown(unleash: UnleashServer, named: Named, feature: str) -> None:
    assert repr(named()) == f"Unleash({unleash.url!r}, project='default', environment='production')"
    with FaultProxy(unleash.url) as proxy:
        said = json.dumps({"message": f"who is {unleash.admin_token}?"}).encode()
        proxy.fail(*(Fault(status=status, body=said) for status in (400, 401, 403, 404, 418, 503)))
        for _ in range(6):
            with pytest.raises(SwitchError, match="who is <secret>") as raised:
                named(url=proxy.url).kill(feature, "errors tripled")
            assert unleash.admin_token not in str(raised.value)


# The bad days


def test_a_kill_is_done_once_and_its_receipt_says_what_was_there(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        killing = kill(named(url=proxy.url), feature, tmp_path / "watcher.db")
    assert (killing.state, killing.pauses, proxy.writes) == ("done", [], [off(feature)])
    assert killing.entry.receipt == {
        "read_back": "off",
        "before": "production: on, flexibleRollout 50 %, stickiness default",
        "after": "production: off",
    }
    assert unleash.kills(feature) == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(applied=True, hang=30.0), "no answer within 3 s"),
        (Fault(applied=True), "no answer"),
        (Fault(applied=True, status=502), "HTTP 502"),
        (Fault(applied=True, status=429, retry_after="7"), "HTTP 429"),
    ],
)
def test_a_kill_whose_answer_was_lost_is_found_done_and_not_sent_again(
    unleash: UnleashServer, tmp_path: Path, feature: str, fault: Fault, words: str
) -> None:
    errors: list[str] = []
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(fault)
        impatient = hasty(proxy.url, tmp_path, unleash)
        with pytest.raises(SwitchError, match=words) as raised:
            impatient.kill(feature, "errors tripled")
        errors.append(str(raised.value))
        assert not raised.value.permanent
        unleash.turn_on(feature)
        proxy.fail(fault)
        killing = kill(impatient, feature, tmp_path / "watcher.db", tries=5)
    assert killing.state == "done"
    assert (killing.entry.receipt or {})["note"] == "already off"
    assert proxy.writes == [off(feature)] * 2
    assert unleash.kills(feature) == 2


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_kill_that_unleash_could_not_take_is_sent_again(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str, status: int
) -> None:
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(status=status), Fault(status=status, reads=True))
        killing = kill(named(url=proxy.url), feature, tmp_path / "watcher.db", tries=5)
    assert (killing.state, len(killing.pauses), proxy.writes) == ("done", 2, [off(feature)] * 2)
    assert unleash.kills(feature) == 1


def test_a_kill_waits_as_long_as_it_was_asked_to(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(status=429, retry_after="7"), Fault(status=503, retry_after="40"))
        killing = kill(named(url=proxy.url), feature, tmp_path / "watcher.db")
    assert (killing.state, killing.pauses, proxy.writes) == ("done", [7.0, 40.0], [off(feature)] * 3)
    assert unleash.kills(feature) == 1


def test_an_unleash_that_is_gone_is_asked_again_and_turns_the_flag_off_once_it_is_back(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        proxy.stop()
        killing = kill(named(url=proxy.url), feature, tmp_path / "gone.db")
        assert (killing.state, len(killing.pauses)) == ("intended", 3)
        assert f"GET {proxy.url}/api/admin/projects/default/features/{feature}: no answer" in killing.error
        assert "is it running?" in killing.error
        assert unleash.is_on(feature)
        killing = kill(named(url=proxy.url), feature, tmp_path / "back.db", after=at(2, proxy.come_back))
    assert (killing.state, len(killing.pauses), unleash.kills(feature)) == ("done", 2, 1)


def test_an_answer_that_lies_is_seen_through_and_the_kill_sent_again(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    said: list[bool] = []
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(status=200))
        killing = kill(
            named(url=proxy.url), feature, tmp_path / "watcher.db", after=lambda: said.append(unleash.is_on(feature))
        )
    assert (killing.state, said) == ("done", [True, False])
    assert proxy.writes == [off(feature)] * 2
    assert unleash.kills(feature) == 1


def test_while_every_answer_lies_no_kill_counts_as_done(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(*[Fault(status=200)] * 3)
        killing = kill(named(url=proxy.url), feature, tmp_path / "watcher.db", tries=3)
    assert killing.state == "intended"
    assert f"told to turn {feature} off, and reads back as still on" in killing.error
    assert unleash.is_on(feature)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Sign in</html>", "something else than JSON; is `url` the address of Unleash, with no login in front"),
        (b"", "something else than JSON"),
        (b"{}", r"not what Unleash's admin API answers \(name: Field required\); check `url`"),
        (b'{"name": "other", "environments": []}', "answered with another flag than"),
        (
            b'{"name": "FEATURE", "environments": [{"name": "production", "enabled": "false"}]}',
            r"\(environments.0.enabled: Input should be a valid boolean\)",
        ),
    ],
)
def test_an_answer_from_something_else_says_nothing_about_the_flag(
    unleash: UnleashServer, named: Named, feature: str, body: bytes, words: str
) -> None:
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(Fault(status=200, body=body.replace(b"FEATURE", feature.encode()), reads=True))
        with pytest.raises(SwitchError, match=words) as raised:
            named(url=proxy.url).read(feature)
    assert not raised.value.permanent


def test_a_wrong_address_is_told_from_a_wrong_flag(unleash: UnleashServer, named: Named, feature: str) -> None:
    with pytest.raises(SwitchError, match="is `url` the address of Unleash"):
        named(url=f"{unleash.url}/somewhere").read(feature)
    with FaultProxy(unleash.url) as proxy:
        proxy.fail(*[Fault(status=404, body=b"<h1>nothing here</h1>", reads=True)] * 2)
        with pytest.raises(SwitchError, match="HTTP 404, and not from Unleash; check `url`") as raised:
            named(url=proxy.url).read(feature)
    assert raised.value.permanent


# What users notice


def test_users_of_the_sdk_lose_the_feature_at_its_next_look(
    unleash: UnleashServer, named: Named, tmp_path: Path, feature: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client = UnleashClient(
        url=f"{unleash.url}/api",
        app_name="shop",
        custom_headers={"Authorization": unleash.backend_token},
        refresh_interval=1,
        disable_metrics=True,
        disable_registration=True,
        cache_directory=str(tmp_path),
    )

    def share() -> float:
        return sum(client.is_enabled(feature, {"userId": str(user)}) for user in range(400)) / 400

    client.initialize_client()
    try:
        assert share() == pytest.approx(named().read(feature).share, abs=0.12)
        began = time.monotonic()
        named().kill(feature, "errors tripled")
        accepted = time.monotonic() - began
        while share() > 0 and time.monotonic() - began < 30:
            time.sleep(0.01)
        took = time.monotonic() - began
    finally:
        client.destroy()
    assert share() == 0
    with capsys.disabled():
        print(f"\nkilled in {accepted:.3f} s, nobody got it after {took:.2f} s, at one look a second")

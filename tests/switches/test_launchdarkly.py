from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
from ldclient import Context, LDClient
from ldclient.config import Config
from ldclient.integrations import Files

from tests.planted import MARK, plant
from tests.switches.documented import documented
from tests.switches.fault_proxy import Fault, FaultProxy
from tests.switches.kills import Killing, at, kill
from tests.switches.launchdarkly_server import (
    CHIEF,
    READER,
    SDK_KEY,
    TOKEN,
    LaunchDarklyServer,
)
from watcher.errors import ConfigError, SwitchError
from watcher.releases.shares import exposures
from watcher.switches import switch
from watcher.switches.launchdarkly import LaunchDarkly
from watcher.switches.launchdarkly.api import API_VERSION, LONGEST, SEMANTIC

PATIENCE = (2.0, 1.0)
RULES = [
    {"_id": "r", "variation": 0, "clauses": [{"attribute": "email", "op": "endsWith", "values": ["@shop.example"]}]}
]
STAFF = Context.builder("user-1").set("email", "ana@shop.example").build()
ANYBODY = Context.create("user-2")


def rollout(on: int, off: int, **more: Any) -> dict[str, Any]:
    weights = [{"variation": 0, "weight": on}, {"variation": 1, "weight": off}]
    return {"rollout": {"variations": weights, "bucketBy": "key", "contextKind": "user", **more}}


@dataclass
class Shop:
    """A LaunchDarkly with the flag `new-checkout`, and a folder for the token and the journal."""

    server: LaunchDarklyServer
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def switch(self, url: str | None = None, token: str = TOKEN, **more: Any) -> LaunchDarkly:
        secret = self.folder / "token"
        plant(secret, f"{token}\n")
        told = {"project": "shop", "environment": "production", "token_file": str(secret), **self.settings, **more}
        return LaunchDarkly(json.dumps({**told, "url": url or self.server.url}), PATIENCE)

    def kill(self, made: LaunchDarkly, feature: str = "new-checkout", **how: Any) -> Killing:
        return kill(made, feature, self.folder / "journal.db", **how)

    @property
    def changes(self) -> list[str]:
        """What really changed, by LaunchDarkly's own log."""
        headers = {"Authorization": TOKEN}
        items = requests.get(f"{self.server.url}/api/v2/auditlog", headers=headers, timeout=5).json()["items"]
        return [f"{each['kind']} {each['target']}" for each in reversed(items)]

    def as_a_person(self, path: str, **body: Any) -> None:
        answer = requests.post(
            f"{self.server.url}/api/v2/approval-requests/{path}", json=body, headers={"Authorization": CHIEF}, timeout=5
        )
        assert answer.status_code == 200, answer.text


OFF = "turnFlagOff proj/shop:env/production:flag/new-checkout"


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with LaunchDarklyServer() as server:
        server.add("new-checkout", rules=RULES, fallthrough=rollout(5_000, 95_000))
        yield Shop(server, tmp_path)


@pytest.fixture
def proxy(shop: Shop) -> Iterator[FaultProxy]:
    with FaultProxy(shop.server.url) as between:
        yield between


@contextmanager
def application(path: Path) -> Iterator[LDClient]:
    """An application that evaluates flags through LaunchDarkly's SDK."""
    source = Files.new_data_source(paths=[str(path)], auto_update=True, force_polling=True, poll_interval=0.2)
    client = LDClient(Config(SDK_KEY, update_processor_class=source, send_events=False), start_wait=5)
    try:
        assert client.is_initialized()
        yield client
    finally:
        client.close()


def before_long(condition: Callable[[], bool]) -> bool:
    for _ in range(250):
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_a_kill_reaches_an_application_whatever_it_falls_back_to(shop: Shop, tmp_path: Path) -> None:
    shop.server.mirror(tmp_path / "flags.json", "production")
    with application(tmp_path / "flags.json") as client:
        assert client.variation("new-checkout", STAFF, False) is True
        assert shop.kill(shop.switch()).state == "done"
        assert before_long(lambda: client.variation("new-checkout", STAFF, True) is False)
        assert client.variation("new-checkout", ANYBODY, True) is False
    assert shop.changes == [OFF]
    assert shop.server.audit[0]["comment"] == "errors tripled"


def test_another_environment_is_left_alone(shop: Shop) -> None:
    shop.switch().kill("new-checkout", "")
    assert not shop.switch().read("new-checkout").on
    assert shop.switch(environment="test").read("new-checkout").on


def test_a_flag_that_is_off_is_sent_nothing(shop: Shop, proxy: FaultProxy) -> None:
    made = shop.switch(proxy.url)
    made.kill("new-checkout", "")
    made.kill("new-checkout", "")
    assert proxy.writes == ["PATCH /api/v2/flags/shop/new-checkout?ignoreConflicts=true"]
    assert shop.changes == [OFF]


def test_nothing_turns_a_flag_on() -> None:
    assert [name for name in dir(LaunchDarkly) if not name.startswith("_")] == ["dry_run", "kill", "read"]


def test_a_reason_is_cut_to_what_the_api_takes(shop: Shop) -> None:
    shop.switch().kill("new-checkout", "é" * 9_000)
    assert shop.server.audit[0]["comment"] == "é" * (LONGEST - 1) + "…"


@pytest.mark.parametrize(
    ("here", "on", "share", "sticky", "shown"),
    [
        ({}, True, 1.0, None, "on, true, version 1"),
        ({"fallthrough": {"variation": 1}}, True, 0.0, None, "on, false, version 1"),
        ({"fallthrough": rollout(5_000, 95_000)}, True, 0.05, True, "on, 5 % true, 95 % false, version 1"),
        ({"fallthrough": rollout(12_500, 87_500)}, True, 0.125, True, "on, 12.5 % true, 87.5 % false, version 1"),
        ({"fallthrough": rollout(5_000, 5_000)}, True, None, True, "on, 5 % true, 5 % false, version 1"),
        (
            {"fallthrough": rollout(5_000, 95_000, experimentAllocation={"canReshuffle": True})},
            True, None, True, "on, 5 % true, 95 % false, version 1",
        ),
        ({"fallthrough": {}}, True, None, None, "on, nothing, version 1"),
        (
            {"rules": RULES, "fallthrough": rollout(5_000, 95_000)},
            True, None, None, "on, rules, targets or prerequisites, then 5 % true, 95 % false, version 1",
        ),
        ({"targets": [{"variation": 0, "values": ["a"]}]}, True, None, None, "on, rules, targets or prerequisites,"),
        ({"contextTargets": [{"variation": 0, "values": []}]}, True, 1.0, None, "on, true, version 1"),
        ({"prerequisites": [{"key": "cart", "variation": 0}]}, True, None, None, "on, rules, targets or prerequisites"),
        ({"on": False}, False, 0.0, None, "off, everybody gets false, version 1"),
        ({"on": False, "version": 7, "rules": RULES}, False, 0.0, None, "off, everybody gets false, version 7"),
        ({"on": False, "offVariation": None}, True, 0.0, None, "off, no off variation, version 1 (it has no off"),
        ({"on": False, "offVariation": 9}, True, 0.0, None, "off, no off variation, version 1 (it has no off"),
        ({"on": False, "offVariation": 0}, True, 1.0, None, "off, everybody gets true, version 1 (its off variation"),
        ({"archived": True}, True, 0.0, None, "on, true, version 1 (it is archived"),
        ({"offVariation": None, "fallthrough": rollout(5_000, 95_000)}, True, 0.05, True, "on, 5 % true, 95 % false"),
        ({"offVariation": 0, "fallthrough": rollout(5_000, 95_000)}, True, 0.05, True, "on, 5 % true, 95 % false"),
        ({"on": False, "archived": True}, True, 0.0, None, "off, everybody gets false, version 1 (it is archived"),
    ],
)  # fmt: skip
def test_what_a_flag_says(
    shop: Shop, here: dict[str, Any], on: bool, share: float | None, sticky: bool | None, shown: str
) -> None:
    shop.server.add("f", **here)
    state = shop.switch().read("f")
    assert (state.on, state.share, state.sticky) == (on, share, sticky)
    assert state.revision == str(here.get("version", 1))
    assert state.shown.startswith(shown)


def test_the_off_variation_of_a_flag_with_texts_may_be_any_of_them(shop: Shop) -> None:
    shop.server.add(
        "f", variations=("blue", "grey", {"colour": "x" * 99}), offVariation=2, fallthrough={"variation": 1}
    )
    assert shop.switch().read("f").shown == 'on, "grey", version 1'
    shop.switch().kill("f", "")
    assert shop.switch().read("f").shown.startswith('off, everybody gets {"colour": "xxxxx')


def test_turning_a_flag_on_and_off_is_noticed_as_a_release_and_its_end(shop: Shop) -> None:
    shop.server.add("f", on=False, fallthrough=rollout(5_000, 95_000))
    states = [shop.switch().read("f")]
    for change in ({"on": True}, {"fallthrough": rollout(50_000, 50_000)}, {"on": False}):
        shop.server.change("f", **change)
        states.append(shop.switch().read("f"))
    told = [exposures({"f": was}, {"f": now}, 0.0, ["f"])[0] for was, now in pairwise(states)]
    assert [(each.share, each.more, each.off) for each in told] == [
        (0.05, False, False), (0.5, True, False), (0.0, False, True),
    ]  # fmt: skip


def test_the_revision_differs_after_every_change(shop: Shop) -> None:
    before = shop.switch().read("new-checkout").revision
    shop.server.change("new-checkout", fallthrough=rollout(50_000, 50_000))
    between = shop.switch().read("new-checkout").revision
    shop.switch().kill("new-checkout", "")
    assert len({before, between, shop.switch().read("new-checkout").revision}) == 3


@pytest.mark.parametrize(
    ("here", "words"),
    [
        ({"offVariation": None}, "it has no off variation, .* set its off variation in LaunchDarkly"),
        ({"offVariation": 2}, "it has no off variation"),
        ({"offVariation": 0}, "its off variation is true, so everybody gets the feature while it is off"),
        ({"archived": True}, "it is archived, and applications get what their code falls back to; restore it"),
    ],
)
def test_a_kill_that_would_not_take_the_feature_from_users_is_not_sent(
    shop: Shop, here: dict[str, Any], words: str
) -> None:
    shop.server.add("f", **here)
    with pytest.raises(SwitchError, match=words) as raised:
        shop.switch().dry_run("f")
    assert raised.value.permanent
    killing = shop.kill(shop.switch(), "f")
    assert (killing.state, killing.pauses, shop.changes) == ("failed", [], [])
    assert "a kill would not help" in killing.error


def test_an_archived_flag_is_not_killed(shop: Shop) -> None:
    shop.server.archive("new-checkout")
    with pytest.raises(SwitchError, match="it is archived"):
        shop.switch().kill("new-checkout", "")


def test_without_an_off_variation_an_application_would_have_gone_on(shop: Shop, tmp_path: Path) -> None:
    shop.server.add("f", on=False, offVariation=None)
    shop.server.mirror(tmp_path / "flags.json", "production")
    with application(tmp_path / "flags.json") as client:
        assert client.variation("f", ANYBODY, True) is True


def test_a_dry_run_says_what_a_kill_sends_and_sends_nothing(shop: Shop, proxy: FaultProxy) -> None:
    made = shop.switch(proxy.url)
    would = f"PATCH {proxy.url}/api/v2/flags/shop/new-checkout: turnFlagOff in production"
    assert made.dry_run("new-checkout") == would
    made.kill("new-checkout", "")
    assert made.dry_run("new-checkout") == f"production is off already; nothing would be sent (if on: {would})"
    assert len(proxy.writes) == 1


def test_a_token_that_may_only_read_is_found_by_a_dry_run_and_given_up_by_a_kill(shop: Shop) -> None:
    made = shop.switch(token=READER)
    assert made.read("new-checkout").on
    with pytest.raises(
        SwitchError, match=r"may read the flag, and not turn it off; .*token whose role allows updateOn"
    ):
        made.dry_run("new-checkout")
    killing = shop.kill(made)
    assert (killing.state, killing.pauses, shop.changes) == ("failed", [], [])
    assert "HTTP 403" in killing.error
    assert "check the token's file and its rights" in killing.error


@pytest.mark.parametrize("token", [f"api-{MARK}-another", SDK_KEY, f"Bearer {TOKEN}", f"{MARK}ä"])
def test_a_token_that_is_not_accepted_is_given_up_at_once_and_never_shown(shop: Shop, token: str) -> None:
    killing = shop.kill(shop.switch(token=token))
    assert (killing.state, killing.pauses) == ("failed", [])
    assert "token" in killing.error
    assert token not in killing.error
    assert token not in repr(shop.switch(token=token))


def test_no_secret_is_shown_when_the_answer_repeats_it(shop: Shop, proxy: FaultProxy) -> None:
    proxy.fail(Fault(status=400, body=f"what is {TOKEN}?".encode(), reads=True))
    with pytest.raises(SwitchError, match="what is <secret>"):
        shop.switch(proxy.url).read("new-checkout")


@pytest.mark.parametrize(
    ("settings", "feature", "words"),
    [
        ({}, "new-chekout", "project 'shop' has no flag 'new-chekout' that the token may see; check the name of the"),
        ({}, "a/b?c", "has no flag 'a/b[?]c'"),
        ({}, "..", "'..' is no key of a project, environment or flag"),
        ({"project": "shoop"}, "new-checkout", "project 'shoop' has no flag 'new-checkout'"),
        ({"environment": "Production"}, "new-checkout", "no environment 'Production' .* key, not its name"),
    ],
)  # fmt: skip
def test_a_missing_flag_project_or_environment_is_given_up_at_once(
    shop: Shop, settings: dict[str, str], feature: str, words: str
) -> None:
    with pytest.raises(SwitchError, match=words) as raised:
        shop.switch(**settings).read(feature)
    assert raised.value.permanent
    killing = shop.kill(shop.switch(**settings), feature)
    assert (killing.state, killing.pauses, shop.changes) == ("failed", [], [])


def test_a_kill_whose_answer_is_lost_is_found_done(shop: Shop, proxy: FaultProxy) -> None:
    proxy.fail(Fault(applied=True, hang=4.0))
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, len(killing.pauses)) == ("done", 1)
    assert killing.entry.receipt is not None
    assert killing.entry.receipt["note"] == "already off"
    assert (len(proxy.writes), shop.changes) == (1, [OFF])


@pytest.mark.parametrize("status", [500, 502, 503, 409])
def test_a_failure_that_may_pass_is_tried_again(shop: Shop, proxy: FaultProxy, status: int) -> None:
    proxy.fail(Fault(status=status, body=b"upstream connect error"), Fault(applied=True))
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, len(killing.pauses), shop.changes) == ("done", 2, [OFF])


def test_retry_after_is_honoured(shop: Shop, proxy: FaultProxy) -> None:
    proxy.fail(Fault(status=429, retry_after="7"), Fault(status=429, retry_after="11"))
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, killing.pauses, shop.changes) == ("done", [7.0, 11.0], [OFF])


def test_the_end_of_a_rate_limit_is_told_by_launchdarkly_s_clock(shop: Shop) -> None:
    shop.server.limit(8.0)
    with pytest.raises(SwitchError, match=r"HTTP 429, .*exceeded the API rate limit") as raised:
        shop.switch().read("new-checkout")
    assert raised.value.retry_after is not None
    assert 7.0 <= raised.value.retry_after <= 9.0
    assert not raised.value.permanent
    shop.server.limit(3_600.0)
    with pytest.raises(SwitchError) as raised:
        shop.switch().read("new-checkout")
    assert raised.value.retry_after is None


def test_a_server_that_is_gone_may_come_back(shop: Shop, proxy: FaultProxy) -> None:
    proxy.stop()
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, len(killing.pauses), shop.changes) == ("intended", 3, [])
    assert "is it running?" in killing.error


def test_a_server_that_comes_back_is_killed_by_the_next_try(shop: Shop, proxy: FaultProxy) -> None:
    proxy.stop()
    killing = shop.kill(shop.switch(proxy.url), after=at(2, proxy.come_back))
    assert (killing.state, len(killing.pauses), shop.changes) == ("done", 2, [OFF])


def test_an_answer_that_says_it_is_still_on_is_not_believed_for_ever(shop: Shop, proxy: FaultProxy) -> None:
    proxy.fail(Fault(body=json.dumps(shop.server.shown("new-checkout")).encode()))
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, len(killing.pauses), shop.changes) == ("done", 1, [OFF])


def test_an_answer_that_says_off_while_users_still_get_it_is_not_believed(shop: Shop, proxy: FaultProxy) -> None:
    shop.server.add("gone", on=False)
    off = {**shop.server.shown("gone"), "key": "new-checkout"}
    proxy.fail(Fault(status=200, body=json.dumps(off).encode()))
    changes: list[list[str]] = []
    killing = shop.kill(shop.switch(proxy.url), after=lambda: changes.append(shop.changes))
    assert (killing.state, len(killing.pauses), len(proxy.writes)) == ("done", 1, 2)
    assert changes == [[], [OFF]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Sign in</html>", "answered with a web page instead of JSON"),
        (b"[]", "answered something else than LaunchDarkly does"),
        (b'{"key": "new-checkout", "variations": [], "environments": {"production": {"on": "false", "version": 1}}}',
         "something else than LaunchDarkly does, at 'environments.production.on'"),
        (b'{"key": "other", "variations": [], "environments": {}}', "answered with another flag than 'new-checkout'"),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_an_error(shop: Shop, proxy: FaultProxy, body: bytes, words: str) -> None:
    proxy.fail(Fault(body=body, reads=True))
    with pytest.raises(SwitchError, match=words):
        shop.switch(proxy.url).read("new-checkout")


def test_where_changes_need_an_approval_it_is_asked_for_once_and_people_are_told(shop: Shop) -> None:
    shop.server.required["production"] = True
    made = shop.switch(approval={"members": ["569f183514f4432160000007"], "teams": ["checkout"]})
    killing = shop.kill(made)
    [request] = shop.server.requests
    assert (killing.state, killing.pauses, shop.changes) == ("failed", [], [])
    assert "require approval: action 'updateOn' not allowed" in killing.error
    assert f"the request {request['_id']} was made, and a person has to approve it, and apply it" in killing.error
    assert killing.error.endswith(f"{shop.server.url}/shop/production/features/new-checkout")
    assert request["instructions"] == [{"kind": "turnFlagOff"}]
    assert request["description"] == "watcher: turn new-checkout off in production: errors tripled"
    assert (request["notifyMemberIds"], request["notifyTeamKeys"]) == (["569f183514f4432160000007"], ["checkout"])

    with pytest.raises(SwitchError, match="was there already, and a person has to approve it"):
        made.kill("new-checkout", "errors tripled")
    shop.as_a_person(f"{request['_id']}/reviews", kind="approve")
    with pytest.raises(SwitchError, match="a person has to apply it: it is approved"):
        made.kill("new-checkout", "errors tripled")
    assert len(shop.server.requests) == 1
    shop.as_a_person(f"{request['_id']}/apply")
    assert not made.read("new-checkout").on
    assert shop.changes == [OFF]


@pytest.mark.parametrize(
    "theirs",
    [
        {"instructions": [{"kind": "turnFlagOn"}]},
        {"instructions": [{"kind": "turnFlagOff"}, {"kind": "turnFlagOn"}]},
        {"executionDate": 1_999_999_999_000},
    ],
)
def test_another_request_is_not_taken_for_ours(shop: Shop, theirs: dict[str, Any]) -> None:
    shop.server.required["production"] = True
    answer = requests.post(
        f"{shop.server.url}/api/v2/projects/shop/flags/new-checkout/environments/production/approval-requests",
        json={"description": "later", "instructions": [{"kind": "turnFlagOff"}], **theirs},
        headers={"Authorization": TOKEN},
        timeout=5,
    )
    assert answer.status_code == 201
    with pytest.raises(SwitchError, match="was made, and a person has to approve it"):
        shop.switch().kill("new-checkout", "")
    assert len(shop.server.requests) == 2


def test_a_declined_request_is_not_waited_for(shop: Shop) -> None:
    shop.server.required["production"] = True
    for _ in range(2):
        with pytest.raises(SwitchError, match="was made, and a person has to approve it"):
            shop.switch().kill("new-checkout", "")
        shop.as_a_person(f"{shop.server.requests[-1]['_id']}/reviews", kind="decline")
    assert len(shop.server.requests) == 2


def test_a_request_whose_answer_is_lost_is_found_and_not_made_twice(shop: Shop, proxy: FaultProxy) -> None:
    shop.server.required["production"] = True
    proxy.fail(
        Fault(body=b'{"code": "method_not_allowed", "message": "no"}', status=405), Fault(applied=True, hang=4.0)
    )
    killing = shop.kill(shop.switch(proxy.url))
    assert (killing.state, len(killing.pauses), len(shop.server.requests)) == ("failed", 1, 1)
    assert "was there already" in killing.error


def test_a_request_that_cannot_be_made_says_why(shop: Shop, proxy: FaultProxy) -> None:
    shop.server.required["production"] = True
    refused = Fault(body=b'{"code": "method_not_allowed", "message": "no"}', status=405)
    proxy.fail(refused, Fault(status=403, body=b'{"code": "forbidden"}'))
    killing = shop.kill(shop.switch(proxy.url))
    assert killing.state == "failed"
    assert "a kill needs an approval (no), and it could not be asked for: POST" in killing.error
    assert "HTTP 403" in killing.error
    proxy.fail(refused, Fault(status=429, retry_after="9"))
    with pytest.raises(SwitchError) as raised:
        shop.switch(proxy.url).kill("new-checkout", "")
    assert (raised.value.retry_after, raised.value.permanent) == (9.0, False)


def test_a_request_in_a_system_outside_launchdarkly_is_named_by_its_own_address(shop: Shop) -> None:
    shop.server.required["production"] = True
    shop.server.outside = "https://changes.example/CHG1"
    with pytest.raises(SwitchError, match=r"approve it, and apply it: https://changes.example/CHG1$"):
        shop.switch().kill("new-checkout", "")


def test_a_405_that_is_not_from_launchdarkly_asks_for_nothing(shop: Shop, proxy: FaultProxy) -> None:
    proxy.fail(Fault(status=405, body=b"{}"))
    with pytest.raises(SwitchError, match="HTTP 405, and not from LaunchDarkly; check `url`"):
        shop.switch(proxy.url).kill("new-checkout", "")
    assert shop.server.requests == []


@pytest.mark.parametrize("tagged", [True, False])
def test_a_dry_run_fails_where_a_kill_would_only_ask_for_an_approval(shop: Shop, tagged: bool) -> None:
    shop.server.add("new-checkout", tags=("payments",))
    if tagged:
        shop.server.required_tags["production"] = ["payments"]
    else:
        shop.server.required["production"] = True
    with pytest.raises(SwitchError, match=r"production wants this approved: a kill would only ask for it; .*bypass"):
        shop.switch().dry_run("new-checkout")
    assert shop.switch(environment="test").dry_run("new-checkout").startswith("PATCH")
    if tagged:
        shop.server.add("search")
        assert shop.switch().dry_run("search").startswith("PATCH")
    chief = shop.switch(token=CHIEF, approval="bypass")
    assert chief.dry_run("new-checkout").startswith("PATCH")
    chief.kill("new-checkout", "")
    assert (shop.changes, shop.server.requests) == ([OFF], [])


def test_a_kill_does_not_wait_for_a_change_that_is_pending(shop: Shop) -> None:
    address = f"{shop.server.url}/api/v2/flags/shop/new-checkout"
    requests.post(
        f"{shop.server.url}/api/v2/projects/shop/flags/new-checkout/environments/production/approval-requests",
        json={"description": "later", "instructions": [{"kind": "turnFlagOff"}], "executionDate": 1_999_999_999_000},
        headers={"Authorization": TOKEN},
        timeout=5,
    ).raise_for_status()
    patch = {"environmentKey": "production", "instructions": [{"kind": "turnFlagOff"}]}
    headers = {"Authorization": TOKEN, "Content-Type": SEMANTIC}
    plain = requests.patch(address, data=json.dumps(patch), headers=headers, timeout=5)
    assert (plain.status_code, plain.json()["message"]) == (
        400,
        "Update would conflict with a pending approval request",
    )
    assert shop.kill(shop.switch()).state == "done"
    assert shop.changes == [OFF]


GOOD = {"project": "shop", "environment": "production", "token_file": "/run/secrets/launchdarkly"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("", r"kill.launchdarkly: expected settings such as \{project, environment, token_file, url, approval, ca"),
        ({**GOOD, "enviroment": "x"}, r"kill.launchdarkly.enviroment: unknown key; did you mean 'environment'\?"),
        ({"project": "shop", "token_file": "t"}, "kill.launchdarkly.environment: is missing"),
        ({**GOOD, "project": ""}, "kill.launchdarkly.project: String should have at least 1 character"),
        ({**GOOD, "url": "app.launchdarkly.com"}, "kill.launchdarkly.url: expected an address and nothing else"),
        ({**GOOD, "url": "https://app.launchdarkly.com/api/v2"}, "kill.launchdarkly.url: expected an address"),
        ({**GOOD, "url": "https://me:s3cr3t@app.launchdarkly.com"}, "kill.launchdarkly.url: expected an address"),
        ({**GOOD, "approval": {"teams": "checkout"}}, "kill.launchdarkly.approval.*: Input should be a valid list"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_key_when_the_switch_is_made(settings: str | dict[str, Any], words: str) -> None:
    written = settings if isinstance(settings, str) else json.dumps(settings)
    with pytest.raises(ConfigError, match=words) as raised:
        switch(f"launchdarkly:{written}")
    assert "s3cr3t" not in str(raised.value)


def test_placeholders_that_no_release_filled_yet_are_taken() -> None:
    made = switch(f"launchdarkly:{json.dumps({**GOOD, 'environment': '{version}'})}")
    assert repr(made) == "LaunchDarkly('https://app.launchdarkly.com', project='shop', environment='{version}')"


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, {}, 200, None),
        ({"Authorization": f"Bearer {TOKEN}"}, {}, 401, "unauthorized"),
        ({"Content-Type": "application/json"}, {}, 400, "invalid_request"),
        ({"LD-API-Version": "1"}, {}, 400, "invalid_request"),
        ({}, {"instructions": [{"kind": "turnOff"}]}, 400, "invalid_request"),
        ({}, {"instructions": []}, 400, "invalid_request"),
        ({}, {"environmentKey": None}, 400, "invalid_request"),
        ({}, {"environmentKey": "staging"}, 404, "not_found"),
    ],
)
def test_the_stand_in_refuses_what_launchdarkly_refuses(
    shop: Shop, headers: dict[str, str], body: dict[str, Any], status: int, code: str | None
) -> None:
    answer = requests.patch(
        f"{shop.server.url}/api/v2/flags/shop/new-checkout",
        data=json.dumps({"environmentKey": "production", "instructions": [{"kind": "turnFlagOff"}], **body}),
        headers={"Authorization": TOKEN, "Content-Type": SEMANTIC, "LD-API-Version": API_VERSION, **headers},
        timeout=5,
    )
    assert (answer.status_code, answer.json().get("code")) == (status, code)
    assert shop.changes == ([OFF] if status == 200 else [])


def test_the_settings_in_the_documentation_are_taken() -> None:
    [block] = documented("launchdarkly")
    made = switch(f"launchdarkly:{json.dumps(block)}")
    assert repr(made) == "LaunchDarkly('https://app.launchdarkly.com', project='shop', environment='production')"

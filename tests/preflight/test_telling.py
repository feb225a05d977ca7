from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.alerts.slack_server import SlackServer
from tests.preflight.world import NOW, World
from watcher.alerts import alerter
from watcher.model import Watch
from watcher.preflight import Line, Preflight, alert
from watcher.report import preflight_table
from watcher.report.preflight import CHECKS

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "preflight.schema.json").read_text())

ODD = Preflight(
    "shop/production/cart@2",
    (
        Line("rollback", "pass", "turning it off: [red]weight[/red] 5 -> 0"),
        Line("data", "warn", "a | b has no data", "check `a`"),
        Line("data", "fail", "\x1b[31mnothing\x1b[0m matches a{b=\"<c>\"} @team", "repair that"),
    ),
    NOW,
)  # fmt: skip


@pytest.fixture
def watch(world: World) -> Watch:
    """The watch of a release that has begun."""
    return world.begin(30).journal.watches()[0].watch


def test_what_is_missing_is_one_message_below_the_headline_that_calls_nobody(world: World, watch: Watch) -> None:
    world.without('    tell: ["#support"]\n').switch.broken = "HTTP 401; check the token's file"
    found = alert(watch, world.run(), NOW)
    assert found is not None
    assert (found.kind, found.state, found.urgent, found.release) == (
        "detail", "preflight", False, "shop/production/new-checkout@1.2.0",
    )  # fmt: skip
    assert found.title == "Preflight: 2 failed, 2 to look at: new-checkout 1.2.0 on shop/production"
    assert [line[0] for line in found.lines] == ["✗", "✗", "!", "!"]
    assert found.lines[0] == (
        "✗ Rollback without redeploying: the kill switch cannot be read: HTTP 401; check the token's file → repair "
        "that, or the settings of `kill`, before anybody sees the release; then run this again"
    )


def test_a_release_with_everything_in_place_is_no_message(world: World, watch: Watch) -> None:
    assert alert(watch, world.run(), NOW) is None


def test_the_same_release_is_told_once(world: World, watch: Watch) -> None:
    missing = Preflight(watch.release.id, (Line("data", "fail", "nothing", "look"),), NOW)
    first, second = (alert(watch, missing, at) for at in (NOW, NOW + 60))
    assert first is not None
    assert second is not None
    assert first.key == second.key == "shop/production/new-checkout@1.2.0|preflight"
    world.journal.intend([first], NOW)
    world.journal.intend([second], NOW + 60)
    assert [entry.action for entry in world.journal.actions()] == [first]


def test_slack_shows_it_with_what_to_do(watch: Watch) -> None:
    missing = Preflight(watch.release.id, (Line("data", "fail", "<!channel> has none", "look"),), NOW)
    told = alert(watch, missing, NOW)
    assert told is not None
    with SlackServer("#releases") as slack:
        alerter("slack", token=slack.token, channel="#releases", base_url=slack.base_url).deliver(told, None)
        [message] = slack.messages()
    assert message.shown.splitlines()[:2] == [
        "📋 Preflight: 1 failed: new-checkout 1.2.0 on shop/production",
        "✗ The rules have data: <!channel> has none → look",
    ]
    assert message.calls == []


def test_json_is_that_of_the_schema_and_every_line_that_did_not_pass_says_what_to_do(world: World) -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    worst = world.without('    tell: ["#support"]\n')
    worst.source.down, worst.switch.broken = "it is not there", "HTTP 401"
    for found in (ODD, worst.run()):
        jsonschema.validate(found.to_json(), SCHEMA)
    said = ODD.to_json()
    assert (said["schema"], said["release"], said["passed"]) == ("watcher/preflight/1", "shop/production/cart@2", False)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**said, "lines": [{"check": "data", "status": "fail", "said": "x", "do": ""}]}, SCHEMA)


def test_the_schema_knows_the_checks_there_are() -> None:
    known = SCHEMA["definitions"]["line"]["properties"]
    assert known["check"]["enum"] == list(CHECKS)
    assert known["status"]["enum"] == list(preflight_table.MARKS)


def test_a_terminal_shows_the_verdict_first_and_reads_without_colour() -> None:
    lines = preflight_table.text(ODD).splitlines()
    assert lines == [
        "FAILED  shop/production/cart@2: 1 of 2 checks failed",
        "",
        "Rollback without redeploying",
        "  ✓ pass turning it off: [red]weight[/red] 5 -> 0",
        "",
        "The rules have data",
        "  ! warn a | b has no data",
        "         → check `a`",
        '  ✗ fail  [31mnothing [0m matches a{b="<c>"} @team',
        "         → repair that",
    ]


def test_markdown_shows_what_was_found_as_it_stands_and_mentions_nobody() -> None:
    lines = preflight_table.markdown(ODD).splitlines()
    assert lines[0] == "**FAILED** shop/production/cart@<!-- -->2: 1 of 2 checks failed"
    assert (
        lines[4] == "| Rollback without redeploying | ✓ pass | turning it off: \\[red\\]weight\\[/red\\] 5 -&gt; 0 |  |"
    )
    assert lines[5] == "| The rules have data | ! warn | a \\| b has no data | check `a` |"
    assert "&lt;c&gt;" in lines[6]
    assert "@<!-- -->team" in lines[6]
    assert lines[6].startswith("|  | ✗ fail |")


def test_warnings_alone_are_a_pass() -> None:
    found = Preflight("shop/production/cart@2", (Line("data", "warn", "a", "b"), Line("stream", "pass", "c")), NOW)
    assert (found.failed, found.answer) == (False, "shop/production/cart@2: 2 checks passed, 1 with a warning")
    assert preflight_table.text(found).startswith("PASSED  ")

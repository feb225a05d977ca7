"""What a newcomer sees first: it must be true, and it must stay true."""

from __future__ import annotations

import difflib
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from watcher import oneoff
from watcher.config import load_installation, parse_moment
from watcher.demo import tour
from watcher.demo.folder import FLAGS_YAML, DemoFolder
from watcher.demo.shop import MINUTE, Shop, ShopSource, table
from watcher.errors import Refused, SourceRefused
from watcher.journal import Journal, Watched
from watcher.model import Alert, Kill, Look, Mode, Release, Request, Stage, Strategy, Verdict, Watch, labels
from watcher.sources.tidy import TidyTable
from watcher.switches.yaml_flags import YamlFlags

SEED = 7
START = 1_795_000_020.0 // MINUTE * MINUTE


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[DemoFolder, str]:
    """A tour that was run once: its folder, and what it printed."""
    folder, said = tmp_path_factory.mktemp("tour") / "a folder", StringIO()
    with redirect_stdout(said):
        tour.run(folder, SEED)
    return DemoFolder(folder), said.getvalue()


@pytest.fixture(scope="module")
def journal(played: tuple[DemoFolder, str]) -> Iterator[Journal]:
    with Journal.open(load_installation(played[0].config).journal) as opened:
        yield opened


def watched(journal: Journal, feature: str) -> tuple[Watched, Look]:
    [found] = [each for each in journal.watches() if each.watch.release.feature == feature]
    last = journal.last_look(found.watch.release.id)
    assert last is not None
    return found, last


def commands(said: str) -> list[str]:
    return [line.partition("  # ")[0].strip() for line in said.splitlines() if "watcher compare " in line]


def test_the_good_release_is_proven_healthy_on_every_required_rule(journal: Journal) -> None:
    found, last = watched(journal, "quick-pay")
    assert last.verdict.outcome == "healthy"
    assert {rule.name for rule in found.watch.rules if rule.required} <= {
        stream.rule for stream in last.verdict.streams if stream.outcome == "healthy"
    }


def test_the_bad_release_regresses_after_it_broke_and_is_killed_exactly_once(journal: Journal) -> None:
    found, last = watched(journal, "new-checkout")
    broke = found.watch.release.exposed_at + 12 * MINUTE
    decided = [stream.decided_at for stream in last.verdict.streams if stream.outcome == "regressed"]
    assert last.verdict.outcome == "regressed"
    assert decided
    assert all(at is not None and broke < at <= broke + 10 * MINUTE for at in decided)
    kills = [entry for entry in journal.actions() if isinstance(entry.action, Kill)]
    assert [(kill.action.feature, kill.state) for kill in kills if isinstance(kill.action, Kill)] == [
        ("new-checkout", "done")
    ]


def test_recovery_is_told_after_the_kill(journal: Journal, played: tuple[DemoFolder, str]) -> None:
    found, last = watched(journal, "new-checkout")
    assert (last.phase, found.status) == ("recovered", "recovered")
    told = [entry.action for entry in journal.actions(found.watch.release.id) if isinstance(entry.action, Alert)]
    assert "recovered" in [alert.state for alert in told]
    assert "back within the margin" in played[1]


def test_no_more_than_one_word_of_the_flags_file_differs_from_what_people_wrote(
    played: tuple[DemoFolder, str], tmp_path: Path
) -> None:
    people = DemoFolder.fresh(tmp_path / "people")
    people.open_flag("quick-pay", 50)
    people.open_flag("new-checkout", 20)
    pair = [folder.flags.read_text().splitlines() for folder in (people, played[0])]
    changed = [line for line in difflib.ndiff(*pair) if line[0] in "+-"]
    assert [line.split()[1:3] for line in changed] == [["enabled:", "true"], ["enabled:", "false"]]
    assert changed[0].partition("#")[2] == changed[1].partition("#")[2] != ""
    assert [YamlFlags(str(played[0].flags)).read(name).on for name in ("quick-pay", "new-checkout")] == [True, False]


def test_flags_that_were_on_before_are_not_released(journal: Journal) -> None:
    assert {each.watch.release.feature for each in journal.watches()} == {"quick-pay", "new-checkout"}


def test_the_printed_commands_reach_the_daemons_verdict(journal: Journal, played: tuple[DemoFolder, str]) -> None:
    printed = commands(played[1])
    assert len(printed) == 2
    for command, feature, code in zip(printed, ("quick-pay", "new-checkout"), (0, 1), strict=True):
        program, *words = shlex.split(command)
        assert program == "watcher"
        run = [sys.executable, "-m", "watcher", *words]
        answer = subprocess.run([*run, "--format", "json"], capture_output=True, text=True, check=False)
        assert answer.returncode == code, answer.stderr
        assert streams_of(json.loads(answer.stdout)) == streams_of_daemon(watched(journal, feature)[1])
    shown = subprocess.run(run, capture_output=True, text=True, check=False)
    assert shown.stdout.startswith("REGRESSED")


def streams_of(answer: dict[str, Any]) -> dict[str, tuple[str, float | None]]:
    return {
        each["rule"]: (each["outcome"], None if each["decided_at"] is None else parse_moment(each["decided_at"]))
        for each in answer["streams"]
    }


def streams_of_daemon(look: Look) -> dict[str, tuple[str, float | None]]:
    return {each.rule: (each.outcome.value, each.decided_at) for each in look.verdict.streams}


@pytest.mark.parametrize("feature", ["quick-pay", "new-checkout"])
def test_the_tables_carry_the_same_evidence_as_the_daemon_saw(
    journal: Journal, played: tuple[DemoFolder, str], feature: str
) -> None:
    found, last = watched(journal, feature)
    again = oneoff.compare(played[0].table(feature), rules=played[0].rules, warm_up="5m")
    dispersions = journal.calibrations(found.watch.release.id)
    for daemon, file in zip(last.verdict.streams, again.findings.verdict.streams, strict=True):
        assert evidence(file) == pytest.approx(evidence(daemon), abs=1e-9)
        assert again.findings.calibrations[file.rule].dispersion == dispersions[file.rule].dispersion
    assert dispersions["request-errors"].dispersion > 1
    assert not dispersions["request-errors"].assumed
    assert played[0].table(feature).stat().st_size < 8e6


def evidence(verdict: Verdict) -> tuple[float, float, float]:
    return verdict.log_e_regressed, verdict.log_e_healthy, verdict.threshold


def test_away_from_a_terminal_it_prints_few_and_plain_lines(played: tuple[DemoFolder, str]) -> None:
    said = played[1]
    assert "\x1b" not in said
    assert len(said.splitlines()) <= 100
    assert "-    enabled: true" in said
    assert "+    enabled: false" in said


def test_a_seed_tells_the_same_story_in_the_same_folder(played: tuple[DemoFolder, str]) -> None:
    place, said = played
    tables = [place.table(feature).read_bytes() for feature in ("quick-pay", "new-checkout")]
    again = StringIO()
    with redirect_stdout(again):
        tour.run(place.path, SEED)
    assert again.getvalue() == said
    assert [place.table(feature).read_bytes() for feature in ("quick-pay", "new-checkout")] == tables


def test_a_folder_that_no_demo_made_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "watcher.yaml").write_text("mine")
    with pytest.raises(Refused, match=r"no demo made.*--folder"):
        tour.run(tmp_path, SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["watcher.yaml"]
    assert (tmp_path / "watcher.yaml").read_text() == "mine"


def test_a_file_in_the_folders_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("mine")
    with pytest.raises(Refused, match="is a file"):
        DemoFolder.fresh(tmp_path / "demo")


def test_starting_anew_keeps_what_people_put_there(tmp_path: Path) -> None:
    place = DemoFolder.fresh(tmp_path / "demo")
    (place.path / "notes.txt").write_text("mine")
    place.open_flag("quick-pay", 50)
    DemoFolder.fresh(place.path)
    assert (place.path / "notes.txt").read_text() == "mine"
    assert place.flags.read_text() == FLAGS_YAML


def test_the_installation_is_armed_and_compares_users_with_and_without_the_flag(tmp_path: Path) -> None:
    [service] = load_installation(DemoFolder.fresh(tmp_path / "demo").config).services.values()
    [entry] = service.releases
    assert service.mode is Mode.ARMED
    assert entry.baseline == labels({"feature": "{feature}", "variant": "off"})
    assert {rule.name for rule in service.rules} >= {"request-errors", "checkout-completion", "page-load"}


# --- the shop ---


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    place = DemoFolder.fresh(tmp_path / "demo")
    place.open_flag("quick-pay", 25)
    return Shop(place.flags, START, 90, SEED)


def asked(shop: Shop, feature: str, start: float, end: float) -> Request:
    rules = load_installation(shop.flags_file.parents[1] / "watcher.yaml").services["shop"].rules
    arms = [labels({"feature": feature, "variant": variant}) for variant in ("off", "on")]
    return Request(rules, start, end, MINUTE, (), *arms)


def test_users_get_what_the_flags_file_says_at_that_minute(shop: Shop) -> None:
    shop.advance(START + 30 * MINUTE)
    YamlFlags(str(shop.flags_file)).kill("quick-pay", "test")
    shop.advance(START + 60 * MINUTE)
    seen = ShopSource(shop).observe(asked(shop, "quick-pay", START, shop.now))["request-errors"]
    assert seen.baseline is not None
    treated, control = seen.treatment.total.sum(axis=(0, 1)), seen.baseline.total.sum(axis=(0, 1))
    assert treated[:30].sum() / (treated + control)[:30].sum() == pytest.approx(0.25, abs=0.01)
    assert not treated[30:].any()


def test_orders_follow_the_start_of_their_checkout_by_minutes(shop: Shop) -> None:
    shop.advance(START + 60 * MINUTE)
    seen = ShopSource(shop).observe(asked(shop, "search-suggestions", START, shop.now))["checkout-completion"]
    rate = seen.treatment.events.sum(axis=(0, 1)) / seen.treatment.total.sum(axis=(0, 1))
    assert rate[0] < 0.02
    assert rate[30:].mean() == pytest.approx(0.72, abs=0.03)


def test_a_break_is_felt_only_by_those_who_have_the_feature(shop: Shop) -> None:
    shop.breaks["quick-pay"] = START + 30 * MINUTE
    shop.advance(START + 60 * MINUTE)
    seen = ShopSource(shop).observe(asked(shop, "quick-pay", START, shop.now))["request-errors"]
    assert seen.baseline is not None
    on, off = (arm.events.sum(axis=(0, 1)) / arm.total.sum(axis=(0, 1)) for arm in (seen.treatment, seen.baseline))
    assert on[30:].mean() / on[:30].mean() == pytest.approx(7, rel=0.2)
    assert off[30:].mean() / off[:30].mean() == pytest.approx(1, rel=0.2)


def test_a_table_of_the_shop_counts_what_its_source_counts(shop: Shop) -> None:
    shop.advance(START + 60 * MINUTE)
    request = asked(shop, "quick-pay", START + 20 * MINUTE, shop.now)
    [service] = load_installation(shop.flags_file.parents[1] / "watcher.yaml").services.values()
    watch = watch_of(request, exposed_at=START + 20 * MINUTE)
    written = TidyTable.of(table(shop, watch, shop.now), service.rules).observe(request)
    for rule, seen in ShopSource(shop).observe(request).items():
        assert seen.streams == written[rule].streams
        for arm in ("baseline", "treatment"):
            for counted in ("events", "total"):
                pair = [getattr(getattr(source, arm), counted) for source in (seen, written[rule])]
                np.testing.assert_array_equal(*pair)


def watch_of(request: Request, exposed_at: float) -> Watch:
    release = Release("shop", "production", "quick-pay", "1", Strategy.FLAG, (Stage(exposed_at),))
    return Watch(release, request.rules, baseline=request.baseline, treatment=request.treatment, history=20 * MINUTE)


def test_the_shop_has_no_answer_for_what_it_does_not_count(shop: Shop) -> None:
    shop.advance(START + 5 * MINUTE)
    with pytest.raises(SourceRefused, match="no series"):
        ShopSource(shop).observe(asked(shop, "gift-cards", START, shop.now))
    with pytest.raises(SourceRefused, match="present"):
        ShopSource(shop).observe(asked(shop, "quick-pay", START, shop.now + MINUTE))

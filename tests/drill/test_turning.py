"""A kill by hand beside everything that may happen meanwhile: the daemon, a pause, a broken switch, another kill."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from watcher.act import Outbox
from watcher.alerts.message import first_words
from watcher.config import Installation, load_installation
from watcher.daemon import Daemon
from watcher.drill import Flag, find, kill, rehearse, status, turning
from watcher.drill.flags import flags
from watcher.errors import SwitchError
from watcher.intake import take
from watcher.journal import LEASE, Journal, Pending
from watcher.model import Alert, Exposure, Kill, SwitchState
from watcher.switches import switch
from watcher.switches.yaml_flags import YamlFlags
from watcher.testing import MemoryAlerter, MemorySource

NOW = 1_795_168_800.0
"""2026-11-20."""
CONFIG = """\
metrics: {prometheus: http://127.0.0.1:9090}
services:
  shop:
    rules: [checkout]
    links: {runbook: https://wiki.example/shop}
    releases:
      - strategy: flag
        notice: {flags_file: flags.yaml, features: [cart, search]}
        arms: {baseline: {variant: "off"}, treatment: {variant: "on"}}
        kill: {yaml_flags: flags.yaml}
"""
FLAGS = "features:\n  cart: {enabled: true, rollout_percentage: 5}\n  search: {enabled: true}\n"
OFF = FLAGS.replace("true", "false", 1)
BROKEN = "features:\n  cart: &cart {enabled: true}\n  search: *cart\n"


class Shop:
    """An installation on files of its own, and what people were told by its daemon."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        (folder / "watcher.yaml").write_text(CONFIG)
        self.file, self.journal, self.told = folder / "flags.yaml", journal, MemoryAlerter()
        self.file.write_text(FLAGS)
        self.installation: Installation = load_installation(folder / "watcher.yaml")

    def flag(self, feature: str = "cart") -> Flag:
        return find(list(flags(self.installation, self.journal.watches())), feature)

    def kill(self, reason: str = "it is slow", now: float = NOW) -> turning.TurnedOff:
        return kill(self.flag(), self.journal, "ana", reason, now)

    def release(self) -> str:
        """Let the journal know that cart is being watched."""
        service = self.installation.services["shop"]
        exposure = Exposure("cart", "r1", NOW - 60.0)
        release = take(self.installation, self.journal, service, service.releases[0], exposure, "test").release
        assert release is not None
        return release

    def daemon(self) -> Daemon:
        outbox = Outbox(self.journal, switch, {"memory": self.told}, jitter=lambda: 0.0, stopwatch=lambda: 0.0)
        return Daemon(self.installation, self.journal, MemorySource({}), outbox)

    def kills(self) -> list[Pending]:
        return [entry for entry in self.journal.actions() if isinstance(entry.action, Kill)]

    def audited(self) -> list[str]:
        return [line.what for line in self.journal.audit_trail() if line.what != "release noticed"]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    with Journal.open(f"sqlite:///{tmp_path}/watcher.db") as journal:
        yield Shop(tmp_path, journal)


def by_watcher(shop: Shop, feature: str = "search") -> Kill:
    """A kill as the daemon decides it."""
    release = f"shop/production/{feature}@r1"
    return Kill(f"{release}|kill", release, f"yaml_flags:{shop.file}", feature, "errors tripled", NOW)


def words(told: Sequence[Alert]) -> list[str]:
    return [first_words(alert) for alert in told]


def test_a_kill_by_hand_is_intended_before_it_is_done_and_says_who_and_why(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    turn = YamlFlags.kill

    def watched(self: YamlFlags, feature: str, reason: str) -> None:
        seen.append([*shop.audited(), reason])
        turn(self, feature, reason)

    monkeypatch.setattr(YamlFlags, "kill", watched)
    off = shop.kill()
    assert (off.was, off.already) == ("enabled: true, rollout_percentage: 5", False)
    assert seen == [["kill by hand", "kill intended", "by hand by ana: it is slow"]]
    assert shop.file.read_text() == OFF
    [entry] = shop.kills()
    assert (entry.key, entry.release) == (f"shop/production/cart|kill by hand|{NOW:.3f}", "shop/production/cart")
    assert (entry.state, dict(entry.receipt or {})["read_back"]) == ("done", "off")


def test_a_kill_belongs_to_the_release_that_is_watched(shop: Shop) -> None:
    release = shop.release()
    shop.kill()
    assert [entry.release for entry in shop.kills()] == [release]
    assert [line.what for line in shop.journal.audit_trail(release)][-3:] == [
        "kill by hand",
        "kill intended",
        "kill done",
    ]


def test_killing_twice_is_two_decisions_and_one_change(shop: Shop) -> None:
    shop.kill()
    stamp = shop.file.stat()
    again = shop.kill(now=NOW + 0.01)
    assert (again.already, shop.file.stat().st_ino, shop.file.stat().st_mtime_ns) == (
        True,
        stamp.st_ino,
        stamp.st_mtime_ns,
    )
    assert [entry.state for entry in shop.kills()] == ["done", "done"]


def test_nothing_but_this_kill_is_done_whatever_else_is_due(shop: Shop) -> None:
    # A pause holds the daemon's own kill back; a person who turns off something else must not let it go.
    shop.journal.intend([by_watcher(shop)], NOW)
    shop.kill()
    assert [(entry.state, entry.attempts) for entry in shop.kills()] == [("intended", 0), ("done", 1)]
    assert shop.file.read_text() == OFF


def test_while_kills_are_paused_a_kill_by_hand_works_and_is_tried_again(shop: Shop) -> None:
    shop.journal.remember("pause", {"until": NOW + 3600, "reason": "a migration"})
    shop.journal.intend([by_watcher(shop)], NOW)
    daemon = shop.daemon()
    gone = shop.file.rename(shop.file.with_suffix(".away"))
    with pytest.raises(SwitchError, match=r"cart is NOT turned off: .*a daemon that runs .* tries again for 10 minute"):
        shop.kill()
    gone.rename(shop.file)
    daemon.act(NOW + 60)
    assert shop.file.read_text() == OFF
    assert [entry.state for entry in shop.kills()] == ["intended", "done"]
    assert shop.told.delivered == []


def test_a_daemon_that_took_the_kill_up_first_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, turns = threading.Event(), []

    class Slow(YamlFlags):
        def read(self, feature: str) -> SwitchState:
            reading.set()
            threading.Event().wait(0.2)
            return super().read(feature)

        def kill(self, feature: str, reason: str) -> None:
            turns.append(feature)
            super().kill(feature, reason)

    other = Outbox(shop.journal, lambda _: Slow(str(shop.file)), {})
    daemon = threading.Thread(target=other.turn_off, args=(NOW,))
    intend = shop.journal.intend

    def taken_at_once(actions: Sequence[Kill], at: float) -> None:
        intend(actions, at)
        daemon.start()
        assert reading.wait(10)

    monkeypatch.setattr(shop.journal, "intend", taken_at_once)
    off = shop.kill()
    daemon.join()
    assert (off.was, turns) == ("enabled: true, rollout_percentage: 5", ["cart"])
    [entry] = shop.kills()
    assert (entry.state, entry.attempts) == ("done", 1)
    assert shop.audited() == ["kill by hand", "kill intended", "kill done"]


def test_a_kill_by_hand_does_not_wait_for_a_daemon_whose_slack_hangs(shop: Shop) -> None:
    busy, answer = threading.Event(), threading.Event()

    class Hanging(MemoryAlerter):
        def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
            busy.set()
            assert answer.wait(10)
            return super().deliver(alert, headline)

    slack = Hanging()
    shop.journal.intend([Alert("a", "r", "headline", "watching", "Watching")], NOW)
    teller = threading.Thread(target=Outbox(shop.journal, switch, {"slack": slack}).tell, args=(NOW,))
    teller.start()
    assert busy.wait(10)
    assert shop.kill().was
    assert (shop.file.read_text(), slack.delivered) == (OFF, [])
    answer.set()
    teller.join(10)
    assert len(slack.delivered) == 1


def test_a_daemon_that_does_not_finish_is_not_waited_for_longer_than_a_slow_switch_takes(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    intend = shop.journal.intend

    def taken_at_once(actions: Sequence[Kill], at: float) -> None:
        intend(actions, at)
        assert shop.journal.claim(actions[0].key, at)

    monkeypatch.setattr(shop.journal, "intend", taken_at_once)
    monkeypatch.setattr(turning, "PATIENCE", 0.3)
    with pytest.raises(SwitchError, match=r"a daemon has been turning it off for 0\.3 s .*`watcher flags status cart`"):
        shop.kill()
    assert shop.file.read_text() == FLAGS


def test_a_kill_that_the_daemon_died_in_does_not_hold_up_one_by_hand(shop: Shop) -> None:
    shop.release()
    decided = by_watcher(shop, "cart")
    shop.journal.intend([decided], NOW)
    assert shop.journal.claim(decided.key, NOW)
    assert not shop.kill(now=NOW + 1).already
    changed = shop.file.stat().st_mtime_ns
    Outbox(shop.journal, switch, {}).turn_off(NOW + LEASE + 1)
    assert [dict(entry.receipt or {}).get("note") for entry in shop.kills()] == ["already off", None]
    assert shop.file.stat().st_mtime_ns == changed


def act(daemon: Daemon, now: float) -> None:
    """Do what is due, then tell what there is to tell of it."""
    daemon.act(now)
    daemon.tell(now)


@pytest.mark.parametrize("watched", [False, True])
def test_a_kill_that_cannot_work_is_given_up_at_once_and_the_daemon_tells_people(shop: Shop, watched: bool) -> None:
    name = "cart r1 on shop/production" if watched else "shop/production/cart"
    if watched:
        shop.release()
    shop.file.write_text(BROKEN)
    with pytest.raises(SwitchError, match=r"^cart is NOT turned off: .*shared through the anchor &cart") as caught:
        shop.kill()
    assert "tries again" not in str(caught.value)
    act(shop.daemon(), NOW + 1)
    told = [f"🚨 Kill failed: decided by hand, and NOT turned off: {name}"]
    assert words(shop.told.delivered) == told * (2 if watched else 1)
    assert "Decided by hand by ana: it is slow." in shop.told.delivered[0].lines
    assert shop.told.delivered[0].urgent


def test_a_daemon_that_starts_after_a_kill_without_a_release_failed_starts_and_tells_it_once(shop: Shop) -> None:
    shop.file.write_text(BROKEN)
    with pytest.raises(SwitchError):
        shop.kill()
    for _ in range(2):
        daemon = shop.daemon()
        daemon.start(NOW + 5)
        act(daemon, NOW + 6)
    assert len(shop.told.delivered) == 1


def test_two_kills_without_a_release_that_failed_are_two_messages(shop: Shop) -> None:
    shop.file.write_text(BROKEN)
    for minute in range(2):
        with pytest.raises(SwitchError):
            shop.kill(now=NOW + 60 * minute)
    act(shop.daemon(), NOW + 61)
    assert [alert.kind for alert in shop.told.delivered] == ["headline", "headline"]


def test_a_kill_that_the_daemon_gives_up_is_told(shop: Shop) -> None:
    gone = shop.file.rename(shop.file.with_suffix(".away"))
    with pytest.raises(SwitchError):
        shop.kill()
    daemon = shop.daemon()
    gone.rename(shop.file).write_text(BROKEN)
    act(daemon, NOW + 60)
    [alert] = shop.told.delivered
    assert "shared through the anchor" in alert.lines[0]


@pytest.mark.parametrize("break_it", [lambda file: file.write_text(BROKEN), lambda file: file.unlink(), None])
def test_a_drill_changes_nothing_and_is_on_record(shop: Shop, break_it: Callable[[Path], object] | None) -> None:
    if break_it is not None:
        break_it(shop.file)
        before = shop.file.read_bytes() if shop.file.exists() else None
        with pytest.raises(SwitchError) as caught:
            rehearse(shop.flag(), shop.journal, "ana", NOW)
        told = {"error": str(caught.value)}
        assert (shop.file.read_bytes() if shop.file.exists() else None) == before
    else:
        told = {"would": rehearse(shop.flag(), shop.journal, "ana", NOW)}
        assert told["would"].endswith("features.cart.enabled: true -> false")
        assert shop.file.read_text() == FLAGS
    [line] = shop.journal.audit_trail()
    assert (line.at, line.release, line.what) == (NOW, "shop/production/cart", "drill")
    assert line.detail == {"by": "ana", "flag": "cart", **told}
    assert shop.journal.actions() == []


def test_the_status_knows_the_kills_of_all_releases_of_a_flag_and_of_no_other(shop: Shop) -> None:
    release = shop.release()
    mine = by_watcher(shop, "cart")
    shop.journal.intend([mine, by_watcher(shop)], NOW)
    Outbox(shop.journal, switch, {}).turn_off(NOW, lambda action: action.key == mine.key)
    shop.journal.end_release(release, "recovered", "test", NOW + 1)
    shop.kill("once more", now=NOW + 2)
    found = status(shop.flag(), shop.journal)
    assert [(each.by, each.reason, each.entry.state) for each in found.kills] == [
        ("watcher", "errors tripled", "done"),
        ("ana", "once more", "done"),
    ]
    assert found.reading.state == SwitchState(False, 0.0, shown="enabled: false, rollout_percentage: 5")

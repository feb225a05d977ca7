"""A small company in which everything goes wrong: its daemon, its switch, its users, its people, and what was promised.

`World` moves it; every promise that can be broken at one moment is held at that moment (`_may_turn`), and those about
what is on record whenever somebody asks (`hold`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.trust.stand_ins import MINUTE, Died, Fuse, MortalJournal, TruePeople, TrueSwitch, Users
from watcher import intake, interlocks
from watcher.act import DECISION_TTL, Outbox
from watcher.config import Installation, load_installation
from watcher.daemon import Daemon
from watcher.journal import Journal, Pending
from watcher.model import BY_HAND, Alert, Kill, Look, Mode, Outcome, Promote
from watcher.policy import KILL_KEY

BEGINNING = 1_800_000_000.0
FEATURES = {"alpha": "one", "beta": "one", "gamma": "two", "delta": "three", "omega": "four"}
"""Which service each feature is of."""
FORBIDDEN = "delta"
"""What watcher may not turn off, armed or not."""

HEAD = """
journal: sqlite:///watcher.db
metrics: {prometheus: http://127.0.0.1:9090}
settle: 0s
"""
RULES = """
pack: shop
unit: instance
rules:
  - {name: errors, kind: ratio, bad: errors_total, total: requests_total, critical: true}
"""
SERVICE = """
  {name}:
    rules: [rules.yaml]
    mode: {mode}
    require_backtest: false
    watch_for: 3h
    warm_up: 0s
    releases:
      - strategy: flag
        notice: {{switch: true, features: [{features}]}}
        arms:
          baseline: {{variant: "off", feature: "{{feature}}"}}
          treatment: {{variant: "on", feature: "{{feature}}"}}
        split: {{assigned: sessions_total, share: switch}}
        kill: {{yaml_flags: flags.yaml}}
        promote: [10%, 25%, 50%]
        history: 1h
"""


def configured(folder: Path, mode: Mode) -> Installation:
    """Write and read watcher.yaml."""
    services = ""
    for name in dict.fromkeys(FEATURES.values()):
        features = ", ".join(feature for feature, owner in FEATURES.items() if owner == name)
        services += SERVICE.format(name=name, mode=mode.value, features=features)
    (folder / "rules.yaml").write_text(RULES)
    (folder / "flags.yaml").write_text("features: {}\n")
    named = "".join(
        f"  - {{switch: yaml_flags, feature: {feature}, environment: production}}\n"
        for feature in FEATURES
        if feature != FORBIDDEN
    )
    (folder / "watcher.yaml").write_text(f"{HEAD}may_turn_off:\n{named}services:\n{services}")
    return load_installation(folder / "watcher.yaml")


@dataclass
class World:
    """Everything there is; `seen` counts what happened, so that a run in which nothing did proves nothing."""

    folder: Path
    installations: dict[Mode, Installation]
    seen: Counter[str]
    mode: Mode = Mode.ARMED
    now: float = BEGINNING
    fuse: Fuse = field(default_factory=Fuse)
    intended: set[str] = field(default_factory=set)
    """Keys of the alerts that a transaction recorded."""
    decided: dict[str, Look] = field(default_factory=dict)
    """The look that decided each kill and promotion, as it was recorded."""
    paused_until: float = 0.0
    opened_at: int = 0
    """How many kills of its own watcher had decided when a person last opened the latch."""
    reopened: Counter[str] = field(default_factory=Counter)
    """How often people opened a feature again while watcher was still at turning it off."""
    crashes: int = 0
    broken: AssertionError | None = None
    """The promise that was broken at the switch."""
    accepted: set[str] = field(default_factory=set)
    _outcomes: dict[str, tuple[float, Outcome]] = field(default_factory=dict)
    _refusals: set[tuple[str, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.switch = TrueSwitch(self.fuse, self._may_turn)
        self.people = TruePeople(self.fuse)
        self.users = Users(BEGINNING - 7200.0, self.switch.on)
        self.person = Journal.open(self.url, check=False)
        self.journal: Journal | None = None
        self.start()
        self.step(1)

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'watcher.db'}"

    def start(self) -> None:
        """Begin a process on what the last one left; one that dies while it starts is started again."""
        while True:
            if self.journal is not None:
                self.journal.close()
            self.journal = Journal.open(self.url, check=False)
            mortal: Any = MortalJournal(self.journal, self.fuse, self._kept)
            outbox = Outbox(mortal, lambda _: self.switch, {"people": self.people}, stopwatch=lambda: 0.0)
            try:
                installation = self.installations[self.mode]
                self.daemon = Daemon(installation, mortal, self.users, outbox, switches=lambda _: self.switch)
                self.daemon.start(self.now)
            except Died:
                self._died()
            else:
                return

    def step(self, ticks: int, seconds: float = MINUTE) -> None:
        """Let time pass, one step of the daemon at a time; when it dies in one, it is started again."""
        for _ in range(ticks):
            self.now += seconds
            before = dict(self.switch.on)
            try:
                self.daemon.step(self.now)
            except Died:
                self._died()
                self.start()
            if self.broken is not None:
                raise self.broken
            self._nothing_was_turned_on(before)
            self.users.see(self.now)

    def open(self, feature: str, share: float) -> None:
        """Give a feature to users, as a person does."""
        if any(self._unfinished(feature)):
            self.reopened.update(entry.key for entry in self._unfinished(feature))
        self.switch.on[feature] = share
        self.users.see(self.now)

    def _unfinished(self, feature: str) -> list[Pending]:
        entries = [entry for entry in self.person.switched() if isinstance(entry.action, Kill)]
        return [e for e in entries if e.action.feature == feature and e.state in ("intended", "claimed")]

    def accept(self, release: str) -> None:
        """Take the harm of a release as intended."""
        intake.accept(self.person, release, "errors", "as intended", self.now, "ana")
        self.accepted.add(release)

    def kill_by_hand(self, feature: str) -> None:
        """Decide, as a person, that a feature is to be turned off; a daemon does it."""
        active = [each.watch for each in self.person.watches(active=True)]
        watch = next((watch for watch in active if watch.release.feature == feature), None)
        if watch is not None and watch.switch is not None:
            owner = watch.release.id
            self.person.intend(
                [Kill(f"{owner}{BY_HAND}{self.now:.3f}", owner, watch.switch, feature, "by hand by ana", self.now)],
                self.now,
            )
            self.seen["kill by hand"] += 1

    def pause(self, minutes: float) -> None:
        interlocks.pause(self.person, minutes * MINUTE, "a migration", "ana", self.now)
        self.paused_until = self.now + minutes * MINUTE

    def resume(self) -> None:
        interlocks.resume(self.person, "ana", self.now)
        self.paused_until = 0.0

    def open_latch(self) -> None:
        decided = len(self._own())
        if interlocks.open_latch(self.person, "one bad database", "ana", self.now):
            self.opened_at = decided
            self.seen["latch opened"] += 1

    def heal(self) -> None:
        """Let everything work again, until there is nothing left to do."""
        self.fuse.left, self.switch.fault, self.people.fault, self.users.server = None, "", "", ""
        for _ in range(40):
            self.step(1, 5 * MINUTE)
            if not self.person.unfinished():
                return
        raise AssertionError(f"never done: {self.person.unfinished()}")

    def _died(self) -> None:
        self.crashes += 1
        self.seen.update(f"died at the {where}" for where in self.fuse.died)
        self.fuse.died.clear()

    def _kept(self, method: str, args: tuple[Any, ...]) -> None:
        """Note which alerts a transaction promised to people, and what decided a kill; what is done must be so."""
        if method == "done":
            [entry] = [each for each in self.person.actions() if each.key == args[0]]
            off = not isinstance(entry.action, Kill) or entry.action.feature not in self.switch.on
            assert off, f"recorded as turned off, and is on: {entry}"
        actions = args[0].actions if method == "record_look" else args[0] if method == "intend" else ()
        self.intended |= {action.key for action in actions if isinstance(action, Alert)}
        if method == "record_look":
            self.decided |= {action.key: args[0] for action in actions if not isinstance(action, Alert)}

    def _may_turn(self, what: str, feature: str, shares: tuple[float, float] | None) -> str:
        """Hold what must be true at the moment at which a switch is about to be turned; return whose doing it is."""
        try:
            return self._turned_by(what, feature, shares)
        except AssertionError as broken:
            # The daemon goes on after whatever failed in one watch.
            self.broken = broken
            raise

    def _turned_by(self, what: str, feature: str, shares: tuple[float, float] | None) -> str:
        with Journal.open(self.url, check=False) as journal:
            entries = [entry for entry in journal.switched() if entry.kind == what and entry.state == "claimed"]
            entries = [entry for entry in entries if entry.action.feature == feature]
            assert len(entries) == 1, f"{what} of {feature} without a durable intent: {entries}"
            [entry] = entries
            action = entry.action
            assert not isinstance(action, Alert)
            assert self.now - action.decided_at <= DECISION_TTL, f"stale: {action}"
            self.seen[what] += 1
            if isinstance(action, Kill) and action.by_hand:
                return entry.key
            assert self.now >= self.paused_until, f"{what} of {feature} while paused"
            assert self.mode is Mode.ARMED, f"{what} of {feature} while the mode is {self.mode.value}"
            decided = self.decided[entry.key]
            watch = journal.watch(entry.release)
            assert decided.problem is None
            assert feature != FORBIDDEN
        kills = [own.created_at for own in self._own() if own.created_at <= entry.created_at][self.opened_at :]
        kills = kills[:-1] if isinstance(action, Kill) else kills
        runs = [kills[n : n + 3] for n in range(len(kills) - 2)]
        assert not any(max(run) - min(run) <= 3600.0 for run in runs), f"{what} of {feature} although latched: {kills}"
        if isinstance(action, Promote):
            assert decided.verdict.outcome is Outcome.HEALTHY
            assert shares is not None
            assert self.switch.on.get(feature) == shares[0] < shares[1]
            return entry.key
        assert watch.release.reversible
        assert self.users.mood(feature, decided.through) != "partial", "killed on an answer that was not whole"
        assert decided.verdict.outcome is Outcome.REGRESSED
        assert not {refusal for refusal in decided.refusals if refusal.action == "kill"}
        assert self.users.bad_blocks(feature, watch.release.exposed_at, decided.through) >= 2, "nobody was harmed"
        return entry.key

    def _own(self) -> list[Pending]:
        kills = [entry for entry in self.person.switched() if isinstance(entry.action, Kill)]
        return [entry for entry in kills if not entry.action.by_hand]

    def _nothing_was_turned_on(self, before: dict[str, float]) -> None:
        promoted = {(e.action.feature, e.action.share) for e in self.person.switched() if isinstance(e.action, Promote)}
        for feature, share in self.switch.on.items():
            assert feature in before, f"{feature} was turned on"
            assert share == before[feature] or (share > before[feature] and (feature, share) in promoted)

    def hold(self) -> None:
        """Hold what must be true of the record whenever somebody asks."""
        for entry in self.person.switched():
            if isinstance(entry.action, Kill):
                assert self.switch.effects[entry.key] <= 1 + self.reopened[entry.key], f"killed twice: {entry.key}"
        for watched in self.person.watches():
            release = watched.watch.release.id
            looks = self.person.looks(release)
            for look in looks[-1:]:
                through, outcome = self._outcomes.get(release, (0.0, look.outcome))
                assert look.through >= through, f"{release} went back"
                unsaid = outcome is Outcome.REGRESSED and look.outcome is not Outcome.REGRESSED
                assert not unsaid or release in self.accepted, f"regressed was un-said: {release}"
                self._outcomes[release] = (look.through, look.outcome)
                self.seen[look.outcome.value] += 1
            last = self.person.last_look(release)
            if last is not None and last.killed_at is not None:
                assert f"{release}{KILL_KEY}" in {entry.key for entry in self._own()}, "decided, and nowhere intended"
            for refusal in () if last is None else last.refusals:
                if (release, refusal.reason) not in self._refusals:
                    lines = [x.detail for x in self.person.audit_trail(release) if x.what == "refused"]
                    named = [(each["action"], each["reason"]) for each in lines]
                    assert (refusal.action, refusal.reason) in named, f"not on record: {refusal}"
                    self._refusals.add((release, refusal.reason))
                    self.seen[f"refused: {refusal.reason}"] += 1
        if interlocks.latched(self.person):
            self.seen["latched"] += 1

    def everybody_was_told(self) -> None:
        """Hold, once all is well again, that each alert was delivered, or a newer one in its place; few twice."""
        entries = [entry for entry in self.person.actions() if isinstance(entry.action, Alert)]
        original = {entry.key for entry in entries if entry.alerter is None}
        assert self.intended <= original, f"lost: {self.intended - original}"
        newest = {entry.action.release: entry.key for entry in entries if entry.kind == "headline" and entry.alerter}
        for entry in entries:
            assert entry.alerter is not None or entry.state in ("done", "superseded"), f"never addressed: {entry}"
            assert isinstance(entry.action, Alert)
            if entry.alerter is None or self.people.heard(entry.action):
                continue
            if entry.state == "failed" and entry.action.release in self.people.refused:
                continue
            assert entry.state == "superseded", f"never told: {entry}"
            assert entry.key != newest[entry.action.release], f"the newest was never told: {entry}"
        twice = sum(times - 1 for times in self.people.told.values())
        assert twice <= self.crashes + self.people.lost, f"{twice} doubles, {self.crashes} crashes"

    def close(self) -> None:
        self.person.close()
        if self.journal is not None:
            self.journal.close()

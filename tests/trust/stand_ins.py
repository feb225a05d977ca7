"""The outside of a daemon that nothing can be trusted in: a process that dies, a switch that lies, people who are told.

Each stand-in keeps what truly happened, which is what the promises are held against.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection

from watcher.comparison import SPLIT
from watcher.errors import AlertError, SourceDown, SourceRefused, SourceTooLarge, SwitchError
from watcher.journal import Journal
from watcher.model import Alert, Observations, Reach, Request, SwitchState
from watcher.testing import counts

MINUTE = 60.0


class Died(BaseException):
    """The process ends right here."""


@dataclass
class Fuse:
    """Kills the process at the n-th moment from now at which something durable is about to happen, or just has.

    `where` says at whose moments alone: the journal's (those of looks, and of decisions, apart), the switch's, the
    people's; empty: all of them.
    """

    left: int | None = None
    where: str = ""
    died: Counter[str] = field(default_factory=Counter)

    def burn(self, where: str) -> None:
        if self.left is None or self.where not in ("", where):
            return
        self.left -= 1
        if self.left < 0:
            self.left = None
            self.died[where] += 1
            raise Died

    def set(self, left: int, where: str = "") -> None:
        self.left, self.where = left, where


class MortalJournal:
    """A journal whose process may die before each of its transactions is durable, and after each thing that it does."""

    def __init__(self, journal: Journal, fuse: Fuse, kept: Callable[[str, tuple[Any, ...]], None]) -> None:
        self._journal, self._fuse, self._kept = journal, fuse, kept
        self._where, self._wrote, self._writing = "journal", False, journal._writing
        journal._writing = self._mortal

    @contextmanager
    def _mortal(self) -> Iterator[Connection]:
        with self._writing() as connection:
            yield connection
            # What is raised here takes the transaction back.
            self._fuse.burn(self._where)
        self._wrote = True

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._journal, name)
        if not callable(method):
            return method

        def done(*args: Any, **named: Any) -> Any:
            self._where, self._wrote = _moment(name, args), False
            answer = method(*args, **named)
            if self._wrote:
                self._kept(name, args)
                self._fuse.burn(self._where)
            return answer

        return done


def _moment(name: str, args: tuple[Any, ...]) -> str:
    if name != "record_look":
        return "journal"
    return "decision" if any(not isinstance(action, Alert) for action in args[0].actions) else "look"


@dataclass
class TrueSwitch:
    """Features that are on, each with its share; `fault` says how it goes wrong, `asked` is called before it acts."""

    fuse: Fuse
    asked: Callable[[str, str, tuple[float, float] | None], str]
    on: dict[str, float] = field(default_factory=dict)
    fault: str = ""
    effects: Counter[str] = field(default_factory=Counter)
    """How often users were taken off, by the key of the kill that was being done."""

    def read(self, feature: str) -> SwitchState:
        if self.fault in ("down", "refuses", "limits"):
            raise self._no()
        share = self.on.get(feature, 0.0)
        return SwitchState(feature in self.on, share, shown=f"{100 * share:g} %")

    def dry_run(self, feature: str) -> str:
        return f"{self.read(feature).shown} -> off"

    def kill(self, feature: str, reason: str) -> None:
        key = self.asked("kill", feature, None)
        assert feature in self.on, f"{feature} is off already, and was turned off"
        self.fuse.burn("switch")
        if self.fault == "kill refused":
            raise SwitchError("it says no", permanent=True)
        if self.fault != "lies" and self.on.pop(feature, None) is not None:
            self.effects[key] += 1
        self._answer()

    def promote(self, feature: str, since: float, share: float) -> None:
        self.asked("promote", feature, (since, share))
        self.fuse.burn("switch")
        if self.fault != "lies":
            self.on[feature] = share
        self._answer()

    def _answer(self) -> None:
        self.fuse.burn("switch")
        if self.fault == "loses answers":
            raise SwitchError("the connection ended before an answer came")

    def _no(self) -> SwitchError:
        wait = 90.0 if self.fault == "limits" else None
        return SwitchError(f"it {self.fault}", permanent=self.fault == "refuses", retry_after=wait)


@dataclass
class TruePeople:
    """People who are told; `fault` says how that goes wrong."""

    fuse: Fuse
    fault: str = ""
    told: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    """Answers that were lost after people had been told."""
    refused: set[str] = field(default_factory=set)
    """Releases of which something was refused for good."""
    messages: list[Alert] = field(default_factory=list)

    def heard(self, alert: Alert) -> bool:
        """Tell whether somebody was told: by itself, or with others in one message, word for word or as one of many."""
        own = [each for each in self.messages if each.release == alert.release]
        return any(
            each.key == alert.key or any(alert.title in line or line.startswith("And ") for line in each.lines)
            for each in own
        )

    def deliver(self, alert: Alert, headline: Mapping[str, str] | None) -> dict[str, str]:
        self.fuse.burn("people")
        if self.fault == "down":
            raise AlertError("it does not answer")
        if self.fault == "limits":
            raise AlertError("too many messages", retry_after=90.0)
        if self.fault == "refuses":
            self.refused.add(alert.release)
            raise AlertError("it says no", permanent=True)
        self.told[alert.key] += 1
        self.messages.append(alert)
        self.fuse.burn("people")
        if self.fault == "loses answers":
            self.lost += 1
            raise AlertError("the connection ended before an answer came")
        return {"ts": str(self.told.total())}

    def reach(self) -> Reach:
        return Reach("people")


@dataclass
class Users:
    """What users of each feature meet, from when on, and whether it can be measured: exact counts, without chance."""

    since: float
    on: Mapping[str, float]
    moods: dict[str, list[tuple[float, str]]] = field(default_factory=dict)
    exposed: dict[str, list[tuple[float, bool]]] = field(default_factory=dict)
    server: str = ""

    def see(self, now: float) -> None:
        """Note who has what from now on."""
        for feature in {*self.exposed, *self.on}:
            known = self.exposed.setdefault(feature, [])
            if (feature in self.on) != (known[-1][1] if known else False):
                known.append((now, feature in self.on))

    def change(self, feature: str, mood: str, now: float) -> None:
        self.moods.setdefault(feature, []).append((now, mood))

    def mood(self, feature: str, end: float) -> str:
        return next((mood for at, mood in reversed(self.moods.get(feature, ())) if at < end), "healthy")

    def bad_blocks(self, feature: str, start: float, end: float) -> int:
        """Return in how many blocks of (start, end] users met something bad."""
        ends = np.arange(np.floor(start / MINUTE) + 1, np.floor(end / MINUTE) + 1) * MINUTE
        return sum(self.mood(feature, float(each)) in ("bad", "partial") for each in ends)

    def observe(self, request: Request) -> dict[str, Observations]:
        if request.end - request.start > 86_400.0:
            raise SourceTooLarge("a day at most")
        if self.server:
            raise SourceDown("nobody answers") if self.server == "down" else SourceRefused("a bad query")
        feature = dict(request.treatment or ()).get("feature", "")
        return {rule.name: self._counted(rule.name, feature, request) for rule in request.rules}

    history = observe

    def _counted(self, rule: str, feature: str, request: Request) -> Observations:
        rows = list(self._rows(feature, request.ends.tolist()))
        moods = [mood for mood, _ in rows]
        sent = np.array([[control, treated] for _, (control, treated) in rows], dtype=float).reshape(-1, 2).T
        if rule == SPLIT:
            share = self.on.get(feature, 0.5)
            skew = np.array([0.5 if mood == "skewed" else 1.0 for mood in moods])
            users = np.round(1000 * share * skew) * (sent[1] > 0)
            rest = np.round(1000 * (1 - share)) * (sent[0] > 0)
            return counts(request.ends, (rest, rest), (users, users))
        units = np.array([[1, mood != "half", mood != "half"] for mood in moods], dtype=float).reshape(-1, 3).T
        rate = np.array([0.1 if mood in ("bad", "partial") else 0.01 for mood in moods])
        control, treated = sent[0] * np.ones((3, 1)), sent[1] * units
        found = counts(request.ends, (np.round(0.01 * control), control), (np.round(rate * treated), treated))
        return replace(found, partial="partial" in moods)

    def _rows(self, feature: str, ends: list[float]) -> Iterator[tuple[str, tuple[int, int]]]:
        for end in ends:
            mood = self.mood(feature, end)
            there = 400 if end > self.since and mood != "silent" else 0
            has = next((on for at, on in reversed(self.exposed.get(feature, ())) if at < end), False)
            yield mood, (there, there if has and mood != "absent" else 0)

"""The kill switch for everything that has a command: one takes users off, another says whether they are.

    command:
      kill: [kubectl, argo, rollouts, abort, "{feature}"]
      read: [kubectl, get, rollout, "{feature}", -o, "jsonpath={.status.abort}"]
      off: "true"
      on: ""

A command is a list: the program and its arguments, each of which arrives as it is. Nothing is known of it. That it may
run twice is therefore not assumed: it runs again only while the feature still reads as on.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from typing import Final

from watcher.errors import SwitchError
from watcher.model import SwitchState
from watcher.switches.command.processes import TimeLimit, run
from watcher.switches.command.settings import CommandSettings
from watcher.switches.settings import parsed
from watcher.switches.stated import quoted, stated, told_apart

READING: Final = 10.0
"""Seconds that a reading and a dry run may take, where a kill may take longer."""
PASSED: Final = ("PATH", "HOME", "LANG")
"""Variables of the environment that every command gets."""
POINTLESS: Final = frozenset({os.EX_USAGE, os.EX_NOPERM, os.EX_CONFIG, 126, 127})
"""Exit statuses that say that trying again cannot help; the last two are a shell's, for what it cannot run."""

_LONGEST_WORDS: Final = 300
_SHORTEST_SECRET: Final = 4


class Command:
    """Runs commands that take users off a feature, and that say whether they are.

    Args:
        settings: JSON object, see `CommandSettings`.

    Raises:
        ConfigError: the settings are wrong: named, with the fix.
    """

    def __init__(self, settings: str) -> None:
        self._settings = parsed("command", settings, CommandSettings)
        self._on = _matcher(self._settings.on, self._settings.on_pattern)
        self._off = _matcher(self._settings.off, self._settings.off_pattern)

    def __repr__(self) -> str:
        return f"Command({shlex.join(self._settings.kill)!r})"

    def read(self, feature: str) -> SwitchState:
        """Run the reading, and return what it says.

        Raises:
            SwitchError: it cannot be run, fails, is not done in time, or does not say so plainly.
        """
        said = self._run("read", self._settings.read, {"WATCHER_FEATURE": feature})
        where = _where("read", self._settings.read)
        if self._on is not None and self._off is not None:
            return told_apart(said, self._on, self._off, where)
        if said in ("on", "off"):
            return SwitchState(said == "on", None if said == "on" else 0.0, shown=said)
        try:
            found = None if "\n" in said else json.loads(said)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            expected = 'the word on, the word off, or one line of JSON such as {"on": true, "share": 0.05}'
            raise SwitchError(f"{where} says {quoted(said)}; expected {expected}")
        return stated(found, where)

    def dry_run(self, feature: str) -> str:
        """Say what a kill would run, after the reading, and after `dry_run` where there is one.

        Raises:
            SwitchError: the program is not there, the reading fails, or `dry_run` does.
        """
        state, kill = self.read(feature), self._settings.kill
        if shutil.which(kill[0], path=self._environment({})["PATH"]) is None:
            raise SwitchError(f"{_where('kill', kill)}: {_NOT_THERE}", permanent=True)
        tried = self._settings.dry_run
        if tried is not None:
            self._run("dry_run", tried, {"WATCHER_FEATURE": feature})
        how = f"{shlex.join(tried)} passed" if tried else "whether it may is not tried: no dry_run is set"
        if not state.on:
            return f"{feature} is off already (says {state.shown}); nothing would be run; {how}"
        return f"run {shlex.join(kill)} (says {state.shown}); {how}"

    def kill(self, feature: str, reason: str) -> None:
        """Run the command that takes users off; it finds the reason in its environment, as WATCHER_REASON.

        Raises:
            SwitchError: it cannot be run, fails, or is not done in time.
        """
        told = {"WATCHER_FEATURE": feature, "WATCHER_REASON": reason}
        self._run("kill", self._settings.kill, told)

    def _run(self, setting: str, argv: Sequence[str], told: Mapping[str, str]) -> str:
        """Run one of the commands; return what it says on its standard output."""
        limit = self._settings.timeout if setting == "kill" else min(self._settings.timeout, READING)
        where = _where(setting, argv)
        try:
            ended = run(argv, self._environment(told), limit)
        except (FileNotFoundError, NotADirectoryError):
            raise SwitchError(f"{where}: {_NOT_THERE}", permanent=True) from None
        except OSError as error:
            raise SwitchError(f"{where} cannot be run: {error.strerror}", permanent=True) from None
        except TimeLimit as late:
            words = self._words(late.err or late.out)
            raise SwitchError(f"{where} was not done within {limit:g} s, and was killed{words}") from None
        if ended.status:
            how = f"exit status {ended.status}" if ended.status > 0 else f"ended by {_signal(-ended.status)}"
            words = self._words(ended.err or ended.out)
            raise SwitchError(f"{where}: {how}{words}", permanent=ended.status in POINTLESS)
        return self._text(ended.out).strip()

    def _environment(self, told: Mapping[str, str]) -> dict[str, str]:
        lacking = [name for name in self._settings.env if name not in os.environ]
        if lacking:
            raise SwitchError(
                f"kill.command.env: {lacking[0]} is not set where watcher runs; set it, or leave it out", permanent=True
            )
        passed = {name: os.environ[name] for name in (*PASSED, *self._settings.env) if name in os.environ}
        plain = {name: text.replace("\0", " ").encode("utf-8", "replace").decode() for name, text in told.items()}
        return {"PATH": os.defpath, **passed, **plain}

    def _text(self, output: bytes) -> str:
        """Return what a command said, without the values of the variables that were passed to it by name."""
        text = output.decode("utf-8", "replace")
        values = (os.environ.get(name, "") for name in self._settings.env if name not in PASSED)
        for value in sorted(values, key=len, reverse=True):
            text = text.replace(value, "<secret>") if len(value) >= _SHORTEST_SECRET else text
        return text

    def _words(self, output: bytes) -> str:
        text = " ".join("".join(each if each.isprintable() else " " for each in self._text(output)).split())
        return f": {'...' * (len(text) > _LONGEST_WORDS)}{text[-_LONGEST_WORDS:]}" if text else ""


_NOT_THERE = "there is no such program; install it, put it on watcher's PATH, or write its absolute path"


def _where(setting: str, argv: Sequence[str]) -> str:
    return f"kill.command.{setting} ({argv[0]})"


def _matcher(text: str | None, pattern: str | None) -> re.Pattern[str] | None:
    if text is None:
        return None if pattern is None else re.compile(pattern)
    return re.compile(re.escape(text.strip()))


def _signal(number: int) -> str:
    names = {each.value: each.name for each in signal.Signals}
    return names.get(number, f"signal {number}")

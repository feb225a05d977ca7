"""The kill switch for blue-green: an entry of a map whose value names the backend that gets all requests.

    use_backend %[str(live),map(/etc/haproxy/live.map)]

A kill sets the value back to the backend before, if that is still there and healthy.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import PurePosixPath

from watcher.errors import SwitchError
from watcher.model import SwitchState
from watcher.switches.haproxy.runtime import Runtime, escaped
from watcher.switches.haproxy.saved import MapFile
from watcher.switches.haproxy.servers import backend_of

UNFILLED = re.compile(r"\{\w+\}")
"""A placeholder that no release has filled yet."""


class BlueGreen:
    """Gives all requests back to the backend that had them before.

    Args:
        runtime: the HAProxy.
        name: of the map: its path, or its file's name, with or without the ending.
        to: the backend to go back to.
        key: of the entry; None where the map has but one.
        map_file: the map's file on this machine; None: where HAProxy says it is.
    """

    def __init__(
        self, runtime: Runtime, name: str, to: str, key: str | None = None, map_file: str | None = None
    ) -> None:
        self._runtime, self.name, self.to = runtime, name, to
        self._key, self._map_file = key, map_file

    def __repr__(self) -> str:
        return f"BlueGreen({self._runtime.socket!r}, {self.name!r}, to {self.to!r})"

    def read(self, feature: str) -> SwitchState:
        """Tell which backend gets all requests; on is every other than the one to go back to.

        Raises:
            SwitchError: HAProxy cannot be asked, or has no such map or entry.
        """
        path, key, serving = self._now()
        on = serving != self.to
        lost = self._lost(path, key, serving)
        shown = f"{key}: {serving}"
        return SwitchState(on, float(on), serving=serving, shown=f"{shown}; {lost}" if lost else shown)

    def dry_run(self, feature: str) -> str:
        """Say what a kill would set, and whether that would survive a reload.

        Raises:
            SwitchError: a kill would fail: no such map, or the backend to go back to is gone or not healthy.
        """
        path, key, serving = self._now()
        if serving == self.to:
            lost = self._lost(path, key, serving)
            said = f"{path}: {key} is {serving} already; nothing would be sent"
            return f"{said}; {lost}" if lost else said
        file, why = self._file(path)
        why = why or (file.problem() if file else None)
        survival = f"saved in {file.path}" if file is not None and why is None else f"lost on reload: {why}"
        if UNFILLED.fullmatch(self.to):
            return f"{path}: {key}: {serving} -> {self.to}, once a release names it; {survival}"
        answering = self._answering()
        return f"{path}: {key}: {serving} -> {self.to} ({answering}); {survival}"

    def kill(self, feature: str, reason: str) -> None:
        """Set the value to the backend before.

        What a reload starts from is saved before anything changes, so that an answer that never comes leaves nothing
        unsaved. That it could not be saved does not stop a kill: `read` says so.

        Args:
            feature: not needed.
            reason: kept by the journal; HAProxy has no place for it.

        Raises:
            SwitchError: the other backend still gets all requests, and why.
        """
        path, key, serving = self._now()
        if serving == self.to:
            self._save(path, key, serving)
            return
        if UNFILLED.fullmatch(self.to):
            raise self._refused(f"the release does not say what was served before ({self.to})")
        self._answering()
        self._save(path, key, self.to)
        problem: SwitchError | None = None
        told = f"set map {escaped(path)} {escaped(key)} {self.to}"
        try:
            self._runtime.tell([told])
        except SwitchError as error:
            problem = error
        # A reload in between may have brought another map of that name.
        _, _, after = self._now()
        if after != self.to:
            # A reload must not do later what people were told was not done.
            self._save(path, key, after)
            raise problem or SwitchError(
                f"{self._runtime.socket}: HAProxy was told `{told}`, and {key} still reads {after}"
            )

    def _now(self) -> tuple[str, str, str]:
        """Return the map's name as HAProxy has it, the key of the entry, and its value."""
        path = self._path()
        found = entries(self._runtime, path)
        if self._key is None and len(found) == 1:
            return (path, *next(iter(found.items())))
        there = ", ".join(list(found)[:10]) or "none"
        if self._key is None:
            raise self._refused(f"map {path} has {len(found)} entries; name one with `key` (there is: {there})")
        if self._key not in found:
            raise self._refused(f"map {path} has no entry {self._key!r} (there is: {there})")
        return path, self._key, found[self._key]

    def _path(self) -> str:
        """Return the one map that the setting names."""
        paths = maps(self._runtime)
        called = [path for path in paths if path == self.name]
        called = called or [path for path in paths if self.name in names_of(path)]
        if len(called) == 1:
            return called[0]
        if called:
            raise self._refused(f"{self.name!r} names {len(called)} maps; give the path: {', '.join(called)}")
        raise self._refused(f"HAProxy has no map {self.name!r}; there is: {', '.join(paths) or 'none'}")

    def _answering(self) -> str:
        """Say who of the backend to go back to would answer.

        Raises:
            SwitchError: nobody would.
        """
        try:
            backend = backend_of(self._runtime, self.to)
        except SwitchError as error:
            if error.permanent and "find backend" in str(error):
                raise self._refused(f"{self.to} is gone: HAProxy has no such backend any more") from error
            raise
        states = ", ".join(
            f"{each.name} is {each.condition if not each.up or each.weight else 'without weight'}"
            for each in backend.servers
        )
        if backend.disabled:
            raise self._refused(f"{self.to} is gone: that backend is disabled")
        if not backend.takers:
            states = states or "it has no server"
            raise self._refused(f"{self.to} is no longer healthy: {states}; nobody would answer, so bring one up first")
        return states

    def _file(self, path: str) -> tuple[MapFile | None, str | None]:
        """Return the map's file on this machine, or why it is not known."""
        if self._map_file is not None:
            return MapFile(self._map_file), None
        if os.path.isabs(path) and os.path.isfile(path):
            return MapFile(path), None
        return None, f"{path} is not a file here; name it with `map_file`"

    def _save(self, path: str, key: str, serving: str) -> None:
        """Write the map's file, if it is known; what went wrong shows in what it holds."""
        file, _ = self._file(path)
        if file is not None:
            with suppress(OSError):
                file.write(key, serving)

    def _lost(self, path: str, key: str, serving: str) -> str:
        """Say what a reload would serve instead; empty where it would serve the same."""
        file, why = self._file(path)
        if file is None:
            return f"a reload may change that: {why}"
        try:
            kept = file.text(key)
        except OSError as error:
            return f"a reload may change that: {file.path} cannot be read: {error.strerror}"
        if kept == serving:
            return ""
        problem = file.problem()
        said = f"{file.path} says so" if problem is None else f"{file.path} says so ({problem})"
        return f"a reload brings back {kept or 'no entry'}: {said}"

    def _refused(self, why: str) -> SwitchError:
        return SwitchError(f"{self._runtime.socket}: {why}", permanent=True)


def names_of(path: str) -> tuple[str, str]:
    """Return what a map is called for short: its file's name, with and without the ending.

    >>> names_of("/etc/haproxy/live.map")
    ('live.map', 'live')
    >>> names_of("virt@live")  # a map without a file, from HAProxy 3.0 on
    ('live', 'live')
    """
    file = PurePosixPath(path.partition("@")[2] or path)
    return file.name, file.stem


def maps(runtime: Runtime) -> tuple[str, ...]:
    """Return the names of all maps, which are the paths of the files they were read from."""
    found = runtime.ask("show map")
    if not found.startswith("# id"):
        raise runtime.strange("show map")
    return tuple(name for name in re.findall(r"^-?\d+ \((.*?)\) ", found, re.M) if name)


def entries(runtime: Runtime, path: str) -> dict[str, str]:
    """Return keys and values of a map; of a key that stands there twice, the first counts."""
    found: dict[str, str] = {}
    for line in filter(None, runtime.ask(f"show map {escaped(path)}").splitlines()):
        pointer, _, rest = line.partition(" ")
        key, _, text = rest.partition(" ")
        if not pointer.startswith("0x") or not key:
            raise runtime.strange("show map")
        found.setdefault(key, text)
    return found

"""The kill switch for a canary: one server of a backend that gets its share by weight.

A kill sets its weight to 0. Where HAProxy keeps users on the server they had before (a cookie, a stick table), that
alone would leave them there: the server is put in maintenance as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Final

from watcher.errors import SwitchError
from watcher.model import SAME_SHARE, SwitchState
from watcher.switches.haproxy.runtime import Runtime
from watcher.switches.haproxy.saved import StateFile
from watcher.switches.haproxy.servers import Backend, Server, backend_of, state_of
from watcher.switches.haproxy.weights import READABLE, in_order, weights_for

_BY_USER: Final = ("source", "hdr", "url_param", "rdp-cookie", "hash")
"""Ways of balancing by which the same user comes to the same server."""
_UNWEIGHTED: Final = "first"
_NAMED: Final = 3
"""Servers beside the canary that are named one by one."""


class Canary:
    """Takes all requests from one server of a backend, and can give it more of them.

    Args:
        runtime: the HAProxy.
        backend: a backend's name.
        server: the canary's name in it.
        state_file: what `server-state-file` names; None: changes are lost on reload.
    """

    def __init__(self, runtime: Runtime, backend: str, server: str, state_file: str | None = None) -> None:
        self._runtime, self.backend, self.server = runtime, backend, server
        self._state = None if state_file is None else StateFile(state_file)

    def __repr__(self) -> str:
        return f"Canary({self._runtime.socket!r}, {self._name!r})"

    @property
    def _name(self) -> str:
        return f"{self.backend}/{self.server}"

    def read(self, feature: str) -> SwitchState:
        """Tell what the weights say: the canary's share of the requests of new users.

        It is on while it could get any, even if it is down. A weight that a reload would change is told of.

        Raises:
            SwitchError: HAProxy cannot be asked, or has no such server.
        """
        backend, canary = self._now()
        on = _is_on(backend, canary)
        lost = self._lost(canary, backend.keeps)
        shown = f"{_shown(backend, canary)}; {lost}" if lost else _shown(backend, canary)
        share = None if backend.balance == _UNWEIGHTED and canary.weight else _share(backend, canary)
        sticky = None if backend.keeps is None else backend.keeps or backend.balance.startswith(_BY_USER)
        return SwitchState(on, share, sticky=sticky, shown=shown)

    def dry_run(self, feature: str) -> str:
        """Say what a kill would set, and whether that would survive a reload.

        Raises:
            SwitchError: a kill would fail: no such server, too few rights, or nobody else to answer.
        """
        backend, canary = self._now()
        if not _is_on(backend, canary):
            said = f"{self._name} has weight 0 already; nothing would be sent"
            lost = self._lost(canary, backend.keeps)
            return f"{said}; {lost}" if lost else said
        restored = self._restored(backend, canary)
        self._runtime.check_admin()
        changes = [f"{self.backend}/{name}: weight 0 -> {weight}" for name, weight in restored.items()]
        changes += [f"{self._name}: weight {canary.weight} -> 0"] * (canary.weight > 0)
        changes += [f"{self._name}: into maintenance, for the users who are kept on it"] * bool(backend.keeps)
        return f"{', '.join(changes)} ({_shown(backend, canary)}); {self._survival(canary)}"

    def kill(self, feature: str, reason: str) -> None:
        """Set the canary's weight to 0; where nobody else has any, the others get theirs back first.

        What a reload starts from is saved before anything changes, so that an answer that never comes leaves nothing
        unsaved. That it could not be saved does not stop a kill: `read` says so.

        Args:
            feature: not needed.
            reason: kept by the journal; HAProxy has no place for it.

        Raises:
            SwitchError: the canary still gets requests, and why.
        """
        backend, canary = self._now()
        if not _is_on(backend, canary):
            if self._lost(canary, backend.keeps):
                self._save({})
            return
        restored = self._restored(backend, canary)
        self._runtime.check_admin()
        self._save({**restored, self.server: 0}, self.server if backend.keeps else None)
        try:
            if restored:
                self._set(backend, restored)
            self._set(backend, {self.server: 0}, maintenance=bool(backend.keeps))
        except SwitchError:
            # A reload must not do later what people were told was not done.
            self._save({})
            raise

    def promote(self, feature: str, since: float, share: float) -> None:
        """Raise the canary's share from `since` to `share`, in whole weights; at 1 all others get weight 0.

        Args:
            feature: not needed.
            since: the share it must have now.
            share: the share it gets.

        Raises:
            SwitchError: it has another share, or none, or no weights say so; or what was set did not hold.
        """
        backend, canary = self._now()
        found = _share(backend, canary)
        if not 0 < since < share <= 1:
            raise self._not_promoted(f"{100 * since:g} % to {100 * share:g} % is no raise")
        if found <= 0 or abs(found - since) >= SAME_SHARE:
            raise self._not_promoted(f"it is not at {100 * since:g} % any more ({_shown(backend, canary)})")
        if backend.balance == _UNWEIGHTED:
            raise self._not_promoted("`balance first` does not go by weights")
        beside = [each for each in backend.servers if each.backup == canary.backup and each != canary]
        others = {each.name: each.weight for each in beside if each.weight > 0}
        counted = {each.name for each in backend.takers} - {self.server}
        wanted = dict.fromkeys(others, 0)
        if share < 1:
            # Kept as it is otherwise: balancing by fixed weights takes a 0, and nothing else.
            wanted[self.server], stable = weights_for(share, others, counted)
            wanted |= stable
        self._runtime.check_admin()
        self._set(backend, wanted)
        self._save({})

    def _now(self) -> tuple[Backend, Server]:
        """Return the backend and the canary as they are."""
        backend = backend_of(self._runtime, self.backend)
        found = {server.name: server for server in backend.servers}
        if self.server not in found:
            raise SwitchError(
                f"{self._runtime.socket}: backend {self.backend} has no server {self.server!r}; "
                f"there is: {', '.join(found) or 'none'}",
                permanent=True,
            )
        return backend, found[self.server]

    def _restored(self, backend: Backend, canary: Server) -> dict[str, int]:
        """Return the weights that others must get back before the canary loses its own; mostly none.

        Raises:
            SwitchError: nobody would be left to answer.
        """
        others = [server for server in backend.servers if server != canary]
        active = [server for server in others if not server.backup]
        if any(server.up and server.weight > 0 for server in active):
            return {}
        configured = max((server.configured for server in active), default=0) or READABLE
        restored = {server.name: server.configured or configured for server in active if server.weight == 0}
        if not any(server.up and (server.weight or server.name in restored) for server in others):
            states = (
                ", ".join(f"{server.name} is {server.condition}" for server in others) or "there is no other server"
            )
            raise SwitchError(
                f"{self._name} is not taken off: nobody would be left to answer ({states}); bring another server up",
                permanent=True,
            )
        return restored

    def _set(self, before: Backend, weights: Mapping[str, int], maintenance: bool = False) -> None:
        """Set weights, and look whether they are there.

        An answer that never came is no failure where what was asked for is there.
        """
        now = {server.name: server.weight for server in before.servers}
        commands = [
            f"set server {self.backend}/{name} weight {weight}" for name, weight in in_order(now, weights, self.server)
        ]
        commands += [f"set server {self._name} state maint"] * maintenance
        problem: SwitchError | None = None
        try:
            if commands:
                self._runtime.tell(commands)
        except SwitchError as error:
            problem = error
        backend, canary = self._now()
        after = {server.name: server.weight for server in backend.servers if server.name in weights}
        if after != weights or (maintenance and not canary.maintenance):
            told = "; ".join(commands)
            raise problem or SwitchError(
                f"{self._name}: HAProxy was told `{told}`, and reads back as {_shown(backend, canary)}"
            )

    def _save(self, weights: Mapping[str, int], maintenance: str | None = None) -> None:
        """Write the state file, if there is one; what went wrong shows in what it holds."""
        if self._state is None:
            return
        with suppress(SwitchError, OSError):
            self._state.write(state_of(self._runtime), self.backend, weights, maintenance)

    def _lost(self, canary: Server, keeps: bool | None) -> str:
        """Say what a reload would change; empty where it would not."""
        if self._state is None:
            weight, maintenance, why = canary.configured, False, "no state_file"
        else:
            weight, maintenance, why = self._state.restores(self.backend, canary)
            why = f"{why} ({problem})" if (problem := self._state.problem()) else why
        if weight != canary.weight:
            return f"a reload brings back weight {weight}: {why}"
        return "" if weight or maintenance or not keeps else f"a reload lets users back who are kept on it: {why}"

    def _survival(self, canary: Server) -> str:
        if self._state is None:
            if canary.configured == 0:
                return "a reload keeps that: its configured weight is 0"
            return f"lost on reload: no state_file (it would bring back weight {canary.configured})"
        problem = self._state.problem()
        return f"lost on reload: {problem}" if problem else f"saved in {self._state.path}"

    def _not_promoted(self, why: str) -> SwitchError:
        return SwitchError(f"{self._name} is not promoted: {why}", permanent=True)


def _is_on(backend: Backend, canary: Server) -> bool:
    """Tell whether anybody gets the canary, or would if it were up."""
    return canary.weight > 0 or (bool(backend.keeps) and not canary.maintenance)


def _share(backend: Backend, canary: Server) -> float:
    """Return the canary's part of what new users ask for."""
    takers = backend.takers
    return canary.weight / sum(server.weight for server in takers) if canary in takers else 0.0


def _shown(backend: Backend, canary: Server) -> str:
    """Say the weights: `weight 5 of 100 (stable 95)`."""
    others = [server for server in backend.servers if server != canary and (not server.backup or server.up)]
    others = [server for server in others if not server.backup] or others
    total = canary.weight + sum(server.weight for server in backend.takers if server != canary)
    beside = ", ".join(_worded(server) for server in others)
    if len(others) > _NAMED:
        ups = [server for server in others if server.up]
        beside = f"{len(ups)} of {len(others)} others up, {sum(server.weight for server in ups)}"
    said = f"weight {canary.weight} of {total} ({beside or 'no other server'})"
    return said if canary.up else f"{said}, {canary.name} is {canary.condition}"


def _worded(server: Server) -> str:
    return f"{server.name} {server.weight}" if server.up else f"{server.name} {server.weight}, {server.condition}"

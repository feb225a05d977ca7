"""Backends, and the servers in them, as HAProxy shows them."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from watcher.errors import SwitchError
from watcher.switches.haproxy.runtime import Runtime

STATE_VERSION: Final = "1"
"""The format of `show servers state` that is understood: the only one there has been."""

_NUMBERS: Final = ("srv_op_state", "srv_admin_state", "srv_uweight", "srv_iweight")
_UP: Final = ("1", "2")
_STOPPING: Final = "3"
_MAINTENANCE: Final = 0x01 | 0x02 | 0x20
_DRAINING: Final = 0x08 | 0x10


@dataclass(frozen=True)
class Server:
    """A server of a backend: its weight now, and the one configured.

    `condition` is up, down, stopping, draining or in maintenance; only the last keeps everybody from it. A `backup`
    gets requests only while no other server takes them.
    """

    name: str
    weight: int
    configured: int
    condition: str
    backup: bool = False

    @property
    def up(self) -> bool:
        """Tell whether it takes requests, as far as its weight goes."""
        return self.condition == "up"

    @property
    def maintenance(self) -> bool:
        """Tell whether nobody gets to it, not even users who are kept on it."""
        return self.condition == "in maintenance"


@dataclass(frozen=True)
class Backend:
    """A backend: its servers, how it balances, and whether it keeps users on the server they had before.

    `balance` is empty, and `keeps` None, where the socket has too few rights to be told. `disabled` is a backend that
    the configuration has switched off.
    """

    name: str
    servers: tuple[Server, ...]
    balance: str
    keeps: bool | None
    disabled: bool = False

    @property
    def takers(self) -> tuple[Server, ...]:
        """Return the servers that new users are sent to: backups only where nobody else takes them."""
        ready = [server for server in self.servers if server.up and server.weight > 0]
        return tuple([server for server in ready if not server.backup] or ready)


def backend_of(runtime: Runtime, name: str) -> Backend:
    """Return a backend as it is now.

    Raises:
        SwitchError: it cannot be read; `permanent` where there is none of that name.
    """
    rows = state_rows(state_of(runtime, name), runtime.socket)
    table = runtime.ask(f"show stat {name} 6 -1").lstrip("# ")
    if not table.startswith("pxname,"):
        raise runtime.strange("show stat")
    shown = {row["svname"]: row for row in csv.DictReader(table.splitlines()) if row.get("svname")}
    whole = shown.pop("BACKEND", None)
    servers = tuple(
        _server(row, shown.get(row["srv_name"], {}).get("bck") == "1") for row in rows if row["be_name"] == name
    )
    balance = (whole or {}).get("algo") or ""
    if whole is None or not balance:
        return Backend(name, servers, balance, None, disabled=whole is None)
    cookie = bool(whole.get("cookie")) and any(row.get("cookie") for row in shown.values())
    return Backend(name, servers, balance, cookie or _remembers(runtime, name))


def state_of(runtime: Runtime, backend: str = "") -> str:
    """Return what a state file holds, of one backend or all.

    Raises:
        SwitchError: it cannot be read, or is something else.
    """
    found = runtime.ask(f"show servers state {backend}".rstrip())
    state_rows(found, runtime.socket)
    return found


def state_rows(text: str, source: str) -> list[dict[str, str]]:
    """Return the servers in what `show servers state` says, each by the names of its columns.

    Raises:
        SwitchError: it is something else.
    """
    lines = text.splitlines()
    columns = lines[1].removeprefix("# ").split() if len(lines) > 1 else []
    wanted = {"be_name", "srv_name", *_NUMBERS}
    rows = [dict(zip(columns, line.split(), strict=False)) for line in lines[2:] if line and not line.startswith("#")]
    whole = lines[:1] == [STATE_VERSION] and wanted <= set(columns)
    if not whole or not all(wanted <= set(row) and all(row[name].isdecimal() for name in _NUMBERS) for row in rows):
        raise SwitchError(f"{source}: this is not what `show servers state` says: is it HAProxy's?")
    return rows


def _server(row: Mapping[str, str], backup: bool) -> Server:
    state, admin = row["srv_op_state"], int(row["srv_admin_state"])
    condition = "up" if state in _UP else "stopping" if state == _STOPPING else "down"
    condition = "draining" if admin & _DRAINING else condition
    condition = "in maintenance" if admin & _MAINTENANCE else condition
    return Server(row["srv_name"], int(row["srv_uweight"]), int(row["srv_iweight"]), condition, backup)


def _remembers(runtime: Runtime, backend: str) -> bool:
    """Tell whether a stick table stores servers: the backend's own, or one that is no other backend's own."""
    tables = re.findall(r"^# table: (\S+?),", runtime.ask("show table"), re.M)
    if not tables:
        return False
    others = {row["be_name"] for row in state_rows(state_of(runtime), runtime.socket)} - {backend}
    # No server is below 0: the answer is a heading, or a refusal where the table stores no servers.
    return any(runtime.grants(f"show table {table} data.server_id lt 0") for table in tables if table not in others)

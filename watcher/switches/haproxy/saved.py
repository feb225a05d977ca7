"""What a reload of HAProxy starts from: a state file with the weights of servers, and map files.

A runtime change that stands in neither is gone with the next reload.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from watcher.errors import SwitchError
from watcher.switches.haproxy.servers import Server, state_rows
from watcher.switches.whole_file import TRIES, replaced, unwritable

FORCED: Final = 0x01
"""The administrative state of a server that somebody put in maintenance."""
_LINE = re.compile(rb"^(?P<lead>[ \t]*)(?P<key>[^\s#]\S*)(?P<gap>[ \t]+)(?P<text>.*?)(?P<end>[ \t\r]*)$", re.M)


class StateFile:
    """The file that `server-state-file` names, which servers are restored from."""

    def __init__(self, path: str) -> None:
        self.path = path

    def problem(self) -> str | None:
        """Return why it cannot be replaced, None where it can."""
        return unwritable(self.path)

    def write(self, dump: str, backend: str, weights: Mapping[str, int], maintenance: str | None = None) -> None:
        """Save the state of all servers, with other weights for some, and one of them in maintenance.

        Raises:
            OSError: the file or its folder does not allow it.
        """
        columns = dump.splitlines()[1].removeprefix("# ").split()
        at = {name: columns.index(name) for name in ("be_name", "srv_name", "srv_uweight", "srv_admin_state")}
        lines = []
        for line in dump.splitlines():
            row = line.split()
            if len(row) > max(at.values()) and row[at["be_name"]] == backend and not line.startswith("#"):
                name = row[at["srv_name"]]
                row[at["srv_uweight"]] = str(weights.get(name, row[at["srv_uweight"]]))
                if name == maintenance:
                    row[at["srv_admin_state"]] = str(int(row[at["srv_admin_state"]]) | FORCED)
                line = " ".join(row)
            lines.append(line + "\n")
        replaced(self.path, None, "".join(lines).encode())

    def restores(self, backend: str, server: Server) -> tuple[int, bool, str]:
        """Return the weight that a reload gives a server, whether it is in maintenance then, and why.

        A weight is restored only to a server whose configured weight is still the one it was saved with.
        """
        try:
            rows = state_rows(Path(self.path).read_text(encoding="utf-8", errors="replace"), self.path)
        except FileNotFoundError:
            return server.configured, False, f"{self.path} is missing"
        except OSError as error:
            return server.configured, False, f"{self.path} cannot be read: {error.strerror}"
        except SwitchError:
            return server.configured, False, f"{self.path} is no state file"
        for row in rows:
            if (row["be_name"], row["srv_name"]) == (backend, server.name):
                maintenance = bool(int(row["srv_admin_state"]) & FORCED)
                kept = int(row["srv_iweight"]) == server.configured
                return int(row["srv_uweight"]) if kept else server.configured, maintenance, f"{self.path} says so"
        return server.configured, False, f"{self.path} does not have {backend}/{server.name}"


class MapFile:
    """A file of keys and values that HAProxy reads when it starts; `#` begins a comment line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def problem(self) -> str | None:
        """Return why it cannot be replaced, None where it can."""
        return unwritable(self.path) if os.path.isfile(self.path) else f"{self.path} is missing"

    def text(self, key: str) -> str | None:
        """Return the value of a key, None where it has none.

        Raises:
            OSError: it cannot be read.
        """
        found = next(_lines_of(Path(self.path).read_bytes(), key), None)
        return None if found is None else found["text"].decode("utf-8", "replace")

    def write(self, key: str, text: str) -> None:
        """Set the value of a key, and nothing else; a key that is not there is added at the end.

        Raises:
            OSError: the file or its folder does not allow it, or others keep changing it.
        """
        for _ in range(TRIES):
            before = Path(self.path).read_bytes()
            after, found = before, list(_lines_of(before, key))
            for line in reversed(found):
                after = after[: line.start("text")] + text.encode() + after[line.end("text") :]
            if not found:
                after += (b"" if after.endswith(b"\n") or not after else b"\n") + f"{key} {text}\n".encode()
            if after == before or replaced(self.path, before, after):
                return
        raise OSError(0, "others keep changing it")


def _lines_of(content: bytes, key: str) -> Iterator[re.Match[bytes]]:
    return (line for line in _LINE.finditer(content) if line["key"] == key.encode())

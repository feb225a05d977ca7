"""HAProxy's runtime API: one line a connection over its stats socket, and answers that are text.

An answer has no status of its own. Asked for severities, HAProxy writes `[3]: No such server.` where it refuses: so a
refusal is told from an answer, whatever it says.
"""

from __future__ import annotations

import re
import socket as sockets
from collections.abc import Sequence
from contextlib import closing
from time import monotonic
from typing import Final

from watcher.errors import ConfigError, SwitchError

LARGEST: Final = 16 << 20
"""Bytes of an answer beyond which it is not read on."""
PATIENCE = 5.0
"""Seconds for one line and the whole of its answer."""

_SEVERITY = re.compile(r"^\[(\d)\]: ?", re.M)
_WARNING: Final = 4
_ADDRESS = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(?P<port>\d{1,5})")
_SPECIAL = re.compile(r"([\\; ])")


class Runtime:
    """Asks and tells one HAProxy; nothing is repeated here.

    Args:
        socket: the path of its stats socket, or host and port.

    Raises:
        ConfigError: neither.
    """

    def __init__(self, socket: str) -> None:
        self.socket = socket
        address = _ADDRESS.fullmatch(socket)
        if "/" not in socket and (address is None or int(address["port"]) > 65_535):
            example = "the path of HAProxy's stats socket, or host and port such as 127.0.0.1:9999"
            raise ConfigError(f"expected {example}; found {socket!r}", key="kill.haproxy.socket")
        self._address = None if address is None else (address["host"].strip("[]"), int(address["port"]))

    def ask(self, command: str) -> str:
        """Return the answer to a command that shows something.

        Raises:
            SwitchError: none in time, half of one, or a refusal.
        """
        answer = self._sent(command)
        refused = _SEVERITY.match(answer)
        if refused is not None and int(refused[1]) <= _WARNING:
            raise self._refused(answer[refused.end() :])
        # An empty line ends an answer, and is all of it where there is nothing to show.
        if not answer.endswith("\n\n") and answer != "\n":
            raise self._wrong(f"the answer to `{command}` was cut off")
        return answer[:-1]

    def tell(self, commands: Sequence[str]) -> None:
        """Have commands that change something carried out, one right after the other.

        Raises:
            SwitchError: no answer in time, or a refusal; the commands beside the refused one were carried out.
        """
        answer = self._sent(";".join(commands))
        refused = _SEVERITY.search(answer)
        if refused is not None:
            raise self._refused(answer[refused.end() :])
        if answer.strip():
            raise self.strange(commands[0])

    def grants(self, command: str) -> bool:
        """Tell whether a command that shows something is answered, rather than refused.

        Raises:
            SwitchError: neither.
        """
        try:
            self.ask(command)
        except SwitchError as error:
            if error.permanent:
                return False
            raise
        return True

    def check_admin(self) -> None:
        """Raise SwitchError unless the socket has the rights to change servers."""
        level = _SEVERITY.sub("", self.ask("show cli level")).strip()
        if level != "admin":
            raise self._rights(f"it has level {level[:20]}")

    def strange(self, command: str) -> SwitchError:
        """Return the error for an answer that HAProxy would not give."""
        return self._wrong(f"the answer to `{command}` is not HAProxy's: is this its stats socket?")

    def _sent(self, line: str) -> str:
        """Return what comes back for a line, up to the end of the connection."""
        late = monotonic() + PATIENCE
        pieces, size = [], 0
        try:
            with closing(self._connected()) as connection:
                connection.sendall(f"set severity-output number;{line}\n".encode())
                while piece := connection.recv(1 << 16):
                    pieces.append(piece)
                    size += len(piece)
                    if size > LARGEST:
                        raise SwitchError(f"{self.socket}: answered with more than {LARGEST >> 20} MiB", permanent=True)
                    if monotonic() > late:
                        raise TimeoutError
                    connection.settimeout(max(late - monotonic(), 0.001))
        except TimeoutError:
            raise self._wrong(f"no answer within {PATIENCE:g} s") from None
        except PermissionError:
            raise SwitchError(
                f"{self.socket}: watcher may not open the socket: give it to watcher's group, as in "
                "`stats socket ... mode 660 group watcher level admin`",
                permanent=True,
            ) from None
        except OSError as error:
            said = error.strerror or str(error)
            raise self._wrong(f"HAProxy cannot be reached: {said}; is it running with this `stats socket`?") from None
        # The first line answers the request for severities.
        return b"".join(pieces).decode("utf-8", "replace").removeprefix("\n")

    def _connected(self) -> sockets.socket:
        if self._address is not None:
            return sockets.create_connection(self._address, timeout=PATIENCE)
        connection = sockets.socket(sockets.AF_UNIX)
        try:
            connection.settimeout(PATIENCE)
            connection.connect(self.socket)
        except BaseException:
            connection.close()
            raise
        return connection

    def _refused(self, said: str) -> SwitchError:
        words = " ".join(said.partition("\n")[0].split())[:300]
        if words.startswith("Permission denied"):
            return self._rights("it answered: Permission denied")
        return SwitchError(f"{self.socket}: HAProxy says: {words}", permanent=True)

    def _rights(self, why: str) -> SwitchError:
        return SwitchError(f"{self.socket}: the socket needs `level admin` to change anything: {why}", permanent=True)

    def _wrong(self, problem: str) -> SwitchError:
        return SwitchError(f"{self.socket}: {problem}")


def escaped(word: str) -> str:
    r"""Return a word as the command line of the runtime API takes it.

    >>> print(escaped("/etc/my maps/live.map"))
    /etc/my\ maps/live.map
    """
    return _SPECIAL.sub(r"\\\1", word)

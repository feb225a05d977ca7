"""Commands of other programs: no shell, no input, few variables, little output, and an end in any case."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import IO, Final

LARGEST: Final = 1 << 16
"""Bytes of an output that are kept: the last ones."""

_PIPE: Final = 1 << 20
_PAUSE: Final = 0.01
_GRACE: Final = 1.0


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status (negative: the signal that ended it), and what it said."""

    status: int
    out: bytes
    err: bytes


class TimeLimit(Exception):
    """The command was not done in time, and was killed, with everything it had started.

    Args:
        out: what it had said on its standard output.
        err: and on the other one.
    """

    def __init__(self, out: bytes, err: bytes) -> None:
        self.out, self.err = out, err
        super().__init__()


def run(argv: Sequence[str], environment: Mapping[str, str], limit: float) -> Ended:
    """Run a command until it ends; what it leaves running in the background is not waited for.

    Args:
        argv: the program, found on the PATH of `environment`, and its arguments, as they are.
        environment: all of it.
        limit: seconds it may take.

    Raises:
        OSError: there is no such program, or it cannot be run.
        TimeLimit: it took longer. Its process group was killed, so that nothing of it takes effect later.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    said: dict[IO[bytes], bytes] = {process.stdout: b"", process.stderr: b""}
    try:
        in_time = _follow(process, said, monotonic() + limit)
    finally:
        _end(process)
        for pipe in said:
            pipe.close()
    if not in_time:
        raise TimeLimit(*said.values())
    return Ended(process.returncode, *said.values())


def _follow(process: subprocess.Popen[bytes], said: dict[IO[bytes], bytes], late: float) -> bool:
    """Collect what a command says until it ends; False when it is late."""
    with selectors.DefaultSelector() as ready:
        for pipe in said:
            ready.register(pipe, selectors.EVENT_READ, pipe)
        while True:
            # Asked first: what it said before it ended is in the pipes by now.
            ended = process.poll() is not None
            for key, _ in ready.select(0.0 if ended else _PAUSE):
                piece = os.read(key.fd, _PIPE)
                if not piece:
                    ready.unregister(key.fileobj)
                said[key.data] = (said[key.data] + piece)[-LARGEST:]
            if ended:
                return True
            if monotonic() > late:
                return False


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a command that has not ended, with its group."""
    # Before it is waited for, even one that has just ended still holds its group's number: no other is hit.
    if process.returncode is not None:
        return
    with suppress(PermissionError):  # it became another user's
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # nor does one end that a dead disk holds
        process.wait(_GRACE)

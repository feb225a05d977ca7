"""Files that people edit too, changed as a whole: a reader sees the old or the new one, and nobody's edit is lost."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from watcher.errors import SwitchError

LARGEST = 1 << 20
"""Bytes; a flags file beyond this is not one."""
TRIES = 5
"""How often a file that others keep changing is read anew before giving up."""

MOUNTS = Path("/proc/self/mountinfo")
"""Where Linux lists what is mounted."""

_RIGHTS: Final = "watcher needs write access to its folder, and the right to keep the file's owner"
_FOR_GOOD: Final = {
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: "give watcher a folder that it may write in",
    errno.EBUSY: "the file is mounted alone: mount its folder instead",
}
"""What the system refuses again however often it is asked, and what a person can do; all else may pass."""

_LATER = 10**9
"""Nanoseconds: a difference that every file system can express."""


def read(path: str) -> bytes:
    """Return what a flags file holds.

    Raises:
        SwitchError: it cannot be read, or is too large to be one.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        problem = f"{path}: the flags file cannot be read: {error.strerror}"
        raise SwitchError(problem, permanent=error.errno in _FOR_GOOD) from error
    if len(content) > LARGEST:
        raise SwitchError(f"{path}: more than {LARGEST >> 20} MiB is not a flags file; check the path")
    return content


def edit(path: str, change: Callable[[bytes], bytes | None]) -> bool:
    """Replace what a file holds by what `change` makes of it; None leaves it alone.

    When somebody changed the file since it was read, it is read and edited anew: their change is kept. (What is written
    between that last comparison and the replacement, microseconds later, is beyond what the file system lets us see.)

    Args:
        path: the file. A symbolic link is followed: what it points at is replaced, the link stays.
        change: pure; may be asked several times, and may raise SwitchError.

    Returns:
        False when others kept changing it, so that nothing was done.

    Raises:
        SwitchError: the folder or the file does not allow it.
    """
    for _ in range(TRIES):
        before = read(path)
        after = change(before)
        if after is None or _replace(path, before, after):
            return True
    return False


def check_replaceable(path: str) -> None:
    """See whether a file could be replaced.

    Raises:
        SwitchError: its folder cannot be written, or its owner not kept.
    """
    problem = unwritable(path)
    if problem is not None:
        raise SwitchError(f"{problem}; watcher needs to replace the file", permanent=True)


def unwritable(path: str) -> str | None:
    """Return why a file cannot be replaced, None where nothing is known to be in the way."""
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if os.path.isdir(target):
        return f"{path} is a folder"
    if not os.path.isdir(folder):
        return f"{path}: its folder is missing"
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
        return f"{path}: its folder cannot be written"
    if os.path.exists(target) and not _may_keep_owner(os.stat(target)):
        return f"{path}: it belongs to another user, and watcher could not leave it to them"
    if _is_mounted(target):
        return f"{path}: it is mounted alone, so that nothing can take its place: mount its folder instead"
    return None


def _is_mounted(target: str) -> bool:
    """Tell whether a file is a mount of its own; `os.path.ismount` knows of folders alone."""
    try:
        mounts = MOUNTS.read_bytes().splitlines()
    except OSError:
        return False  # not Linux
    # Blanks and backslashes stand there as octal numbers.
    points = (re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), each.split()[4]) for each in mounts)
    return os.fsencode(target) in points


def _may_keep_owner(found: os.stat_result) -> bool:
    mine = found.st_uid == os.geteuid() and found.st_gid in {os.getegid(), *os.getgroups()}
    return mine or os.geteuid() == 0


def replaced(path: str | Path, before: bytes | None, after: bytes) -> bool:
    """Replace a file's content, keeping its owner and its mode; False when it is no longer `before`.

    Args:
        path: a symbolic link is followed: what it points at is replaced, the link stays.
        before: what the file held when it was read; None replaces whatever is there, or makes the file.
        after: what it will hold.

    Raises:
        OSError: the folder or the file does not allow it; EBUSY where the file itself is mounted.
    """
    target = Path(os.path.realpath(path, strict=before is not None))
    kept = target.stat() if target.exists() else None
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(after)
            file.flush()
            _made_like(file.fileno(), kept)
            os.fsync(file.fileno())
        if before is not None and target.read_bytes() != before:
            return False
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(target.parent)
    return True


def _made_like(file: int, kept: os.stat_result | None) -> None:
    """Give a new file the owner and the mode of the one it replaces, and a later time."""
    made = os.fstat(file)
    if kept is not None and made.st_mtime_ns <= kept.st_mtime_ns:
        # Readers that poll take a file for new only when its time has grown, whatever the clocks say.
        os.utime(file, ns=(made.st_atime_ns, kept.st_mtime_ns + _LATER))
    if kept is not None and (made.st_uid, made.st_gid) != (kept.st_uid, kept.st_gid):
        os.fchown(file, kept.st_uid, kept.st_gid)
    os.fchmod(file, 0o644 if kept is None else stat.S_IMODE(kept.st_mode))


def _replace(path: str, before: bytes, after: bytes) -> bool:
    """Replace a file's content; False when it is no longer `before`.

    Raises:
        SwitchError: the folder or the file does not allow it.
    """
    try:
        return replaced(path, before, after)
    except OSError as error:
        fix = _FOR_GOOD.get(error.errno or 0, "")
        problem = f"{path}: the flags file cannot be replaced: {error.strerror}{fix and f'; {fix}'}"
        raise SwitchError(problem, permanent=bool(fix)) from error


def _sync_folder(folder: Path) -> None:
    """Make a replacement in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Replacing a file that others read and write, so that a reader sees the old content or the new."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path


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
            made = os.fstat(file.fileno())
            if kept is not None and (made.st_uid, made.st_gid) != (kept.st_uid, kept.st_gid):
                os.fchown(file.fileno(), kept.st_uid, kept.st_gid)
            os.fchmod(file.fileno(), 0o644 if kept is None else stat.S_IMODE(kept.st_mode))
            os.fsync(file.fileno())
        if before is not None and target.read_bytes() != before:
            return False
        os.replace(name, target)
    finally:
        Path(name).unlink(missing_ok=True)
    _sync_folder(target.parent)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a replacement in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Somebody else who edits a file at the worst moment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

import pytest


def before_replacing(monkeypatch: pytest.MonkeyPatch, edit: Callable[[int], object], times: int) -> None:
    """Let somebody edit the file after the switch has read it and prepared its replacement."""
    real, done = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal done
        real(handle)
        if stat.S_ISREG(os.fstat(handle).st_mode) and done < times:
            done += 1
            edit(done)

    monkeypatch.setattr(os, "fsync", fsync)

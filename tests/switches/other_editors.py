"""Somebody else who edits a file at the worst moment."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

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


def turning_back(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let somebody write the file as it was, right after the switch has replaced it."""
    real = os.replace

    def replace(source: str, target: Path) -> None:
        real(source, target)
        Path(target).write_text(text)

    monkeypatch.setattr(os, "replace", replace)

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.preflight.world import World
from watcher.journal import Journal


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world in which everything is in place."""
    with Journal.open(f"sqlite:///{tmp_path / 'watcher.db'}") as journal:
        yield World(tmp_path, journal)

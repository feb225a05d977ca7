"""Commands as kill switches: `switch` runs them, `settings` are theirs, `processes` keep them within bounds."""

from __future__ import annotations

from watcher.switches.command.switch import Command

__all__ = ["Command"]

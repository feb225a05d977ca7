"""Flags in Unleash: `switch` turns one off through the admin API, `answers` are what that API says."""

from __future__ import annotations

from watcher.switches.unleash.switch import Unleash

__all__ = ["Unleash"]

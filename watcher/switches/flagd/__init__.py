"""Flags that flagd serves from a file: `switch` turns one off, `file` knows one flag of it.

`written` finds the places of values in a file, so that a few words change and every other byte stays; `written_json`
and `written_yaml` know how.
"""

from __future__ import annotations

from watcher.switches.flagd.switch import Flagd

__all__ = ["Flagd"]

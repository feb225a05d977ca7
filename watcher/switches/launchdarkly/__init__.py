"""Flags in LaunchDarkly: `switch` turns one off, `api` is its REST API, `answers` are what that says."""

from __future__ import annotations

from watcher.switches.launchdarkly.switch import LaunchDarkly

__all__ = ["LaunchDarkly"]

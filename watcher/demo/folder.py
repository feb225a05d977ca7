"""The demo's folder: an installation as a team would keep it, which the tour then lives in."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from watcher.config import rule_pack_path
from watcher.errors import Refused

MARK = ".watcher-demo"
_MARK_TEXT = "This folder was made by `watcher demo`, which may start anew in it.\n"

WATCHER_YAML = """\
# The installation that `watcher demo` runs: everything is read by the real configuration loader.
journal: sqlite:///watcher.db          # next to this file

metrics:
  prometheus: http://127.0.0.1:9090    # the demo's shop answers in its place; no server is asked

may_turn_off:                          # by itself, in mode armed, and nothing else
  - {switch: yaml_flags, feature: search-suggestions, environment: production}
  - {switch: yaml_flags, feature: quick-pay, environment: production}
  - {switch: yaml_flags, feature: new-checkout, environment: production}

services:
  shop:
    environment: production
    rules: [rules/checkout.yaml]
    mode: armed                        # observe | recommend | armed: here watcher may turn a flag off
    tell: ["#support"]                 # who has to know of a release
    watch_for: 24h
    warm_up: 5m                        # right after exposure caches are cold: shown, not counted
    releases:
      - strategy: flag
        notice:
          flags_file: config/feature-flags.yaml
          features: [search-suggestions, quick-pay, new-checkout]
        arms:                          # users of the same feature, in the same minutes, without and with it
          baseline: {feature: "{feature}", variant: "off"}
          treatment: {feature: "{feature}", variant: "on"}
        kill: {yaml_flags: config/feature-flags.yaml}
        history: 12h                   # how much of the past to learn from
"""

FLAGS_YAML = """\
# Feature flags of the shop. People open flags here; watcher only ever turns one off.
features:
  search-suggestions:
    enabled: true
    description: "Suggestions while typing"
    rollout_percentage: 100  # everybody, since last month

  quick-pay:
    enabled: false
    description: "Pay with a saved card in one tap"
    rollout_percentage: 0

  # Ask the payments team before opening this one.
  new-checkout:
    enabled: false  # decided in the release meeting
    description: "New checkout flow with one-page payment"
    rollout_percentage: 0
"""


@dataclass(frozen=True)
class DemoFolder:
    """Where everything of a demo is."""

    path: Path

    @classmethod
    def fresh(cls, path: Path) -> DemoFolder:
        """Make the folder, or start anew in one that an earlier demo made; other files in it stay.

        Raises:
            Refused: something else is there.
        """
        if path.exists() and not path.is_dir():
            raise Refused(f"{path} is a file; name a folder for the demo with --folder")
        if path.is_dir() and any(path.iterdir()) and not (path / MARK).is_file():
            raise Refused(f"{path} has files that no demo made; name another folder with --folder, or an empty one")
        made = cls(path)
        try:
            for folder in (path, made.flags.parent, made.rules.parent, path / "data"):
                folder.mkdir(parents=True, exist_ok=True)
            (path / MARK).write_text(_MARK_TEXT, encoding="utf-8")
            for old in (*path.glob("watcher.db*"), *(path / "data").glob("*.csv")):
                old.unlink()
            made.config.write_text(WATCHER_YAML, encoding="utf-8")
            made.flags.write_text(FLAGS_YAML, encoding="utf-8")
            shutil.copyfile(rule_pack_path("checkout", path / "data"), made.rules)
        except OSError as error:
            raise Refused(f"{error.filename or path} cannot be written: {error.strerror}; use --folder") from error
        return made

    @property
    def config(self) -> Path:
        """The installation."""
        return self.path / "watcher.yaml"

    @property
    def flags(self) -> Path:
        """The feature flags."""
        return self.path / "config" / "feature-flags.yaml"

    @property
    def rules(self) -> Path:
        """The rule pack, as it ships."""
        return self.path / "rules" / "checkout.yaml"

    def table(self, feature: str) -> Path:
        """What was compared for the release of a feature."""
        return self.path / "data" / f"{feature}.csv"

    def open_flag(self, feature: str, percentage: int) -> None:
        """Turn a flag on for a percentage of users, as somebody with an editor would: two words change."""
        text = self.flags.read_text(encoding="utf-8")
        closed = rf"(\n  {feature}:\n    enabled: )false(.*?rollout_percentage: )0\b"
        opened, times = re.subn(closed, rf"\g<1>true\g<2>{percentage}", text, count=1, flags=re.DOTALL)
        assert times == 1, f"{feature} is not closed in {self.flags}"
        self.flags.write_text(opened, encoding="utf-8")

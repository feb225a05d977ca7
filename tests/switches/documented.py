"""The settings of a switch as docs/switches.md shows them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "switches.md"


def documented(name: str) -> list[Any]:
    """Return the settings of every example in the section of a switch."""
    [section] = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(encoding="utf-8"), re.M | re.S)
    blocks = re.findall(r"^```yaml\n(.*?)^```", section, re.M | re.S)
    return [YAML(typ="safe", pure=True).load(block)["kill"][name] for block in blocks]

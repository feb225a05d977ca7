"""Make the pictures of the README from one comparison of made-up data: `python scripts/pictures.py`.

The data are seeded, so the same versions of matplotlib and rich make the same files.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import watcher  # noqa: E402
from watcher.report import charts, terminal  # noqa: E402

DOCS = ROOT / "docs"
COMMAND = "watcher compare shop.csv --ratio errors/requests"
START, EXPOSED, BAD_FROM, END = (f"2026-11-20T{clock}Z" for clock in ("09:00", "10:00", "11:00", "13:00"))
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono"
REQUESTS = {"checkout": 150, "search": 240, "gift-cards": 6}
"""Per minute and pod."""


def shop() -> pd.DataFrame:
    """Return minutes of a shop whose release begins to fail in `checkout` an hour after exposure."""
    rng = np.random.default_rng(10)
    columns: dict[str, Any] = {
        "timestamp": pd.date_range(START, END, freq="1min", inclusive="right"),
        "arm": ["baseline", "treatment"],
        "feature": list(REQUESTS),
        "unit": ["pod-1", "pod-2", "pod-3"],
    }
    frame: pd.DataFrame = pd.MultiIndex.from_product(list(columns.values()), names=list(columns)).to_frame(index=False)
    failing = (frame["timestamp"] > BAD_FROM) & (frame["arm"] == "treatment") & (frame["feature"] == "checkout")
    frame["requests"] = rng.poisson(frame["feature"].map(REQUESTS))
    frame["errors"] = rng.binomial(frame["requests"], np.where(failing, 0.02, 0.01))
    frame["exposed_at"] = EXPOSED
    return frame


def compared() -> watcher.Comparison:
    """Return what the command says of the shop: the file's name is part of it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shop().to_csv("shop.csv", index=False)
        found = watcher.compare("shop.csv", ratio="errors/requests")
    assert isinstance(found, watcher.Comparison)
    return found


def screen(comparison: watcher.Comparison) -> str:
    """Return a terminal with the command and its answer, as SVG; no font is loaded from anywhere."""
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {COMMAND}", style="bold"), highlight=False)
    terminal.render(comparison.findings, console)
    drawn = console.export_svg(title="watcher compare", unique_id="watcher-compare")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S).replace("Fira Code", FONTS)
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def main() -> None:
    """Write docs/compare.svg, docs/effect.png, docs/arms.png and docs/forest.png."""
    comparison = compared()
    DOCS.mkdir(exist_ok=True)
    (DOCS / "compare.svg").write_text(screen(comparison), encoding="utf-8")
    for kind in ("effect", "arms", "forest"):
        (DOCS / f"{kind}.png").write_bytes(charts.to_png(comparison.chart(kind)))


if __name__ == "__main__":
    main()

"""Write the documentation of the Python API, from its docstrings, as HTML: `make api`. Nothing is fetched."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pdoc

import watcher

MODULES = (
    "watcher",
    "watcher.errors",
    "watcher.model",
    "watcher.report.findings",
    "watcher.report.past",
    "watcher.testing",
)
"""What is documented: what is imported from `watcher`, and where the things it hands out come from."""


def write(folder: Path) -> None:
    """Write a page a module, and an index, into a folder; it is made where it is missing."""
    for name in watcher.__all__:
        # What is loaded when it is first used can be seen only once it is there.
        setattr(watcher, name, getattr(watcher, name))
    pdoc.render.configure(docformat="google", show_source=False, footer_text=f"watcher {watcher.__version__}")
    alone = [spec for name in MODULES for spec in (name, rf"!{re.escape(name)}\..*")]
    pdoc.pdoc(*alone, output_directory=folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))

"""watcher: proves a release healthy, or says that it regressed and turns it off.

`watcher.compare(frame_or_path, ratio="errors/requests")` judges one release in a table or a file;
`watcher.backtest(frame_or_path, ratio="errors/requests")` says how good the rules would have been on past ones;
`watcher.open_journal("watcher.db")` looks again at what a daemon recorded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watcher.oneoff import Backtest, Comparison, Comparisons, Look, backtest, compare
    from watcher.records import Recorded, open_journal

__version__ = "0.1.0"
"""The version of watcher, by Semantic Versioning."""

__all__ = [
    "Backtest",
    "Comparison",
    "Comparisons",
    "Look",
    "Recorded",
    "__version__",
    "backtest",
    "compare",
    "open_journal",
]


def __getattr__(name: str) -> Any:
    """Load the library when it is first used, so that the command line starts at once."""
    if name in {"Recorded", "open_journal"}:
        from watcher import records

        return getattr(records, name)
    if name in __all__:
        from watcher import oneoff

        return getattr(oneoff, name)
    raise AttributeError(f"module 'watcher' has no attribute {name!r}")

"""watcher: proves a release healthy, or says that it regressed and turns it off.

`watcher.compare(frame_or_path, ratio="errors/requests")` judges one release in a table or a file;
`watcher.backtest(frame_or_path, ratio="errors/requests")` says how good the rules would have been on past ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from watcher.oneoff import Backtest, Comparison, backtest, compare

__version__ = "0.1.0"
__all__ = ["Backtest", "Comparison", "__version__", "backtest", "compare"]


def __getattr__(name: str) -> Any:
    """Load the library when it is first used, so that the command line starts at once."""
    if name in {"backtest", "compare", "Backtest", "Comparison"}:
        from watcher import oneoff

        return getattr(oneoff, name)
    raise AttributeError(f"module 'watcher' has no attribute {name!r}")

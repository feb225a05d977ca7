"""One comparison, now: the daemon's look over all blocks at once, for files, notebooks, CI and Prometheus.

And many, then: `past` runs the same looks over past releases.
"""

from watcher.oneoff.backtested import Backtest
from watcher.oneoff.found import Comparison, Comparisons, compare_source
from watcher.oneoff.past import backtest
from watcher.oneoff.shown import Look
from watcher.oneoff.table import compare

__all__ = ["Backtest", "Comparison", "Comparisons", "Look", "backtest", "compare", "compare_source"]

"""One comparison, now: the daemon's look over all blocks at once, for files, notebooks, CI and Prometheus."""

from watcher.oneoff.found import Comparison, Comparisons, compare_source
from watcher.oneoff.table import compare

__all__ = ["Comparison", "Comparisons", "compare", "compare_source"]

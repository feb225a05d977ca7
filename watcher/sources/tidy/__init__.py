"""Tidy tables: one row per time, arm and label set, from CSV, Parquet or a DataFrame.

A selector's metric is a column, or a value of the column `metric`; its matchers pick rows by label columns, and an
absent label is the empty string, as in Prometheus. A table is checked once, when a `TidyTable` is made of it; what is
kept are arrays sorted by time, from which any interval is counted without looking at the rest.

From a file to counts: `files` -> `frames` (one release, flat) -> `coded` (its `columns` as codes and numbers) ->
`rules` (the rows a rule reads; `buckets` for histograms) -> `counts` (cells of blocks). `table` is the source that
leads through all of it, `checks` refuses rows by file, row and column.
"""

from __future__ import annotations

from watcher.sources.tidy.files import read_table
from watcher.sources.tidy.frames import said_of_release, split_releases, values_of
from watcher.sources.tidy.table import TidyTable

__all__ = ["TidyTable", "read_table", "said_of_release", "split_releases", "values_of"]

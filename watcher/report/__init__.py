"""Everything people and programs read: terminal table, JSON, Markdown, HTML, charts and DataFrames.

Every report is a function of the same `Findings` and adds nothing to them: the wording comes from
`watcher.reasons`, the numbers from the verdicts. Drawing and DataFrames are in modules of their own, so that a
command that prints a table loads neither.
"""

from watcher.report.findings import Findings, Trace

__all__ = ["Findings", "Trace"]

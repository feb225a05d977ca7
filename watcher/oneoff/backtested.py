"""What a backtest found, for programs and for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from watcher.report import past_rows, past_table
from watcher.report.past import PastReleases

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Backtest(PastReleases):
    """Past releases, judged as they would have been, and what that says of the rules. Shows itself in a notebook."""

    def to_json(self) -> dict[str, Any]:
        """Return what `watcher backtest --format json` prints."""
        return past_rows.to_json(self)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per release."""
        return past_rows.to_frame(self)

    def chart(self, kind: Literal["alpha", "delay"] = "alpha") -> Figure:
        """Draw recall and false alarms against alpha, or how soon the bad releases were found.

        Args:
            kind: "alpha" or "delay".

        Raises:
            ValueError: no such chart.
        """
        # Most backtests draw nothing, and matplotlib takes long to import.
        from watcher.report import past_chart

        if kind == "alpha":
            return past_chart.alpha(self)
        if kind == "delay":
            return past_chart.delay(self)
        raise ValueError(f"there is no chart {kind!r}: choose alpha or delay")

    def _repr_html_(self) -> str:
        from watcher.report import past_page

        return past_page.snippet(self)

    def __repr__(self) -> str:
        return f"<Backtest: {past_table.headline(self)}>"

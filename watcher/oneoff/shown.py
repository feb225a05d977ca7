"""A look for notebooks: what one evaluation of a release said, decided and refused."""

from __future__ import annotations

import pandas as pd

from watcher import model, reasons
from watcher.report import frames


class Look(model.Look):
    """The record of one evaluation of a release. Shows itself in a notebook."""

    @classmethod
    def of(cls, look: model.Look) -> Look:
        """Return a look as one that shows itself."""
        return cls(**vars(look))

    def to_frame(self) -> pd.DataFrame:
        """Return one row per stream, the worst first: its outcome, effect, evidence and reason."""
        return frames.look(self)

    def _repr_html_(self) -> str:
        # Most looks are not shown, and jinja2 takes long to import.
        from watcher.report import html

        return html.look_snippet(self)

    def __repr__(self) -> str:
        return f"<Look {self.verdict.outcome.value} at {reasons.clock(self.at)}: {self.verdict.reason}>"

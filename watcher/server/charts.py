"""Pictures of releases, drawn when somebody looks: one after another, and the latest are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from watcher import recorded
from watcher.errors import DataError
from watcher.journal import Journal
from watcher.model import Labels, Watch
from watcher.oneoff.found import Chart
from watcher.oneoff.report import SHOWS
from watcher.report.drawing import to_svg
from watcher.report.explanation import subject
from watcher.report.pages import picture

KEPT: Final = 100
"""Pictures that are kept: about 5 MB."""

Key = tuple[str, str, Chart, str, Labels]


@dataclass(frozen=True)
class Charts:
    """Draws for several threads. One draws at a time: the daemon's looks come first, and share the interpreter."""

    _kept: OrderedDict[Key, str] = field(default_factory=OrderedDict)
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def drawn(self, journal: Journal, watch: Watch, kind: Chart, of: tuple[str, Labels]) -> str | None:
        """Return a picture as SVG; None where there is nothing to draw.

        Args:
            journal: where the release was recorded.
            watch: of the release.
            kind: what to draw.
            of: the rule and the labels of the stream; of no account for the forest.

        Raises:
            JournalError: it cannot be read.
        """
        key = (watch.release.id, journal.mark(watch.release.id), kind, *of)
        with self._turn:
            if key not in self._kept:
                svg = _drawn(journal, watch, kind, of)
                if svg is None:
                    return None
                self._kept[key] = svg
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


def _drawn(journal: Journal, watch: Watch, kind: Chart, of: tuple[str, Labels]) -> str | None:
    if kind == "forest":
        whole = recorded.verdict(journal, watch)
        return None if whole is None else picture(to_svg(whole.chart("forest")), SHOWS["forest"])
    found = recorded.comparison(journal, watch, of)
    places = [] if found is None else [(each.rule, each.labels) for each in found.findings.streams]
    if found is None or of not in places:
        return None
    place = places.index(of)
    try:
        svg = to_svg(found.chart(kind, place))
    except (DataError, ValueError, LookupError):
        # Observations are kept for thirty days, and not every stream has a picture of every kind.
        return None
    return picture(svg, f"{subject(found.findings, found.findings.streams[place])}: {SHOWS[kind]}")

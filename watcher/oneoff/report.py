"""The page on one comparison, with the pictures it can draw of it."""

from __future__ import annotations

from collections.abc import Iterator

from watcher.model import Kind
from watcher.oneoff.found import Chart, Comparison
from watcher.report import release_page
from watcher.report.drawing import to_svg
from watcher.report.explanation import subject
from watcher.report.pages import picture
from watcher.report.release_page import Beside, Drawn

SHOWS: dict[Chart, str] = {
    "effect": "Effect over time with its confidence sequence, and the evidence",
    "arms": "Both arms over time, with the moments of exposure and of the verdict",
    "shift": "Quantiles of the treatment against those of the baseline",
    "forest": "All effects of a release against their margins",
}


def report(found: Comparison, beside: Beside | None = None) -> str:
    """Return a page of HTML in one file; `beside` is what else is known of the release."""
    whole = found.explained()
    known = any(each.effect.estimate is not None for each in whole.streams)
    forest = picture(to_svg(found.chart("forest")), SHOWS["forest"]) if known else ""
    return release_page.page(whole, forest, _drawn(found), beside)


def _drawn(found: Comparison) -> Iterator[Drawn]:
    """Draw one stream after another, the worst first: what there is to see of each."""
    for place, verdict in enumerate(found.findings.streams):
        rule = found.findings.rule(verdict.rule)
        seen = None if rule is None else found.findings.observations.get(rule.name)
        if rule is None or seen is None or verdict.labels not in seen.streams or verdict.dormant:
            continue
        kinds: list[Chart] = ["effect", "arms"]
        if rule.kind is Kind.LATENCY and verdict.quantiles:
            kinds.append("shift")
        what = subject(found.findings, verdict)
        yield Drawn(
            verdict, tuple(picture(to_svg(found.chart(kind, place)), f"{what}: {SHOWS[kind]}") for kind in kinds)
        )

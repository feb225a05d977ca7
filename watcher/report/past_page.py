"""Past releases as HTML: a whole page in one file, and the piece of it that a notebook shows; no scripts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from jinja2 import Environment

from watcher import reasons
from watcher.report import past_chart
from watcher.report.cells import clipped
from watcher.report.drawing import to_svg
from watcher.report.json_report import iso
from watcher.report.past import PastRelease, PastReleases, Tallied
from watcher.report.past_table import LISTED, figures, headline, number, percent, score_cell, wait

SECTIONS = {
    "missed": ("Missed", "Known to be bad, and no alarm was raised before the horizon."),
    "false_alarm": ("False alarms", "Known to be fine, and an alarm was raised."),
    "alarm": ("Alarms without a label", "An alarm was raised, and nobody says what the release turned out to be."),
    "found": ("Found", "Known to be bad, and an alarm was raised."),
}
"""Kinds of releases that are shown one by one, in the order in which people want to see them."""

_UNUSED = re.compile(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</style>\s*</defs>", re.S)
_IDS = re.compile(r' id="(?![mp][0-9a-f]{6})[^"]*"')
_PLACES = re.compile(r' (?:d|x|y|width|height|transform|points)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{2,}")
_FONTS = re.compile(r"font-family: 'DejaVu Sans'[^;\"]*")
_NAMES = re.compile(r'(id="|href="#|url\(#)')


@dataclass(frozen=True)
class Margin:
    """What the same releases give with every margin so many times as large."""

    times: float
    found: PastReleases


def picture(svg: str, said: str) -> str:
    """Return an SVG that is lighter by a third, and says what it shows to those who cannot see it.

    Args:
        svg: as `to_svg` wrote it.
        said: what it shows.
    """
    svg = _FONTS.sub("font-family: inherit", _IDS.sub("", _UNUSED.sub("", svg)))
    svg = _PLACES.sub(lambda place: _LONG.sub(lambda number: f"{float(number[0]):.1f}", place[0]), svg)
    named = _TEMPLATES.from_string('<svg role="img" aria-label="{{ said }}" ').render(said=said)
    return svg.replace("<svg ", named, 1)


def _beside_others(pictures: Iterable[str]) -> list[str]:
    """Return pictures for one page: what each names inside itself gets a name that no other has."""
    return [_NAMES.sub(rf"\g<1>c{place}-", each) for place, each in enumerate(pictures)]


def page(found: PastReleases, margins: Sequence[Margin] = (), pictures: Mapping[str, str] | None = None) -> str:
    """Return a page of HTML that needs nothing beside itself.

    Args:
        found: the backtest.
        margins: what other margins would have given.
        pictures: SVGs by name of release; one without a picture is listed in a table.
    """
    charts = (
        picture(to_svg(past_chart.alpha(found)), "Recall and false alarms against alpha"),
        picture(to_svg(past_chart.delay(found)), "Share of bad releases found against minutes"),
    )
    alpha_chart, delay_chart, *rest = _beside_others([*charts, *(pictures or {}).values()])
    sections = _sections(found, dict(zip(pictures or {}, rest, strict=True)))
    return _PAGE.render(
        title=f"Backtest of {clipped(PurePath(found.name).name)}" if found.name else "Backtest",
        headline=headline(found),
        placebos=found.placebos,
        figures=figures(found),
        alphas=[(f"{each.alpha:g}", each.alpha == found.alpha, _outcome(each.tallied)) for each in found.alternatives],
        margins=[
            (_times(each.times), each.times == 1, [*_outcome(each.found.tallied()), _median(each.found)])
            for each in margins
        ],
        alpha_chart=alpha_chart,
        delay_chart=delay_chart,
        sections=sections,
        errors=[(clipped(row.release), row.reason) for row in found.of("error")],
        passed=[_cells(row) for row in found.of("passed", "unlabelled")],
        warnings=found.warnings,
    )


def _sections(found: PastReleases, drawn: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the kinds of releases that are shown one by one, with their charts as far as there are any."""
    sections: list[dict[str, Any]] = []
    for kind, (title, meaning) in SECTIONS.items():
        rows = found.of(kind)
        if rows:
            shown = [(_cells(row), drawn[row.release]) for row in rows if row.release in drawn]
            rest = [_cells(row) for row in rows if row.release not in drawn]
            texts = {"id": kind.replace("_", "-"), "title": title, "meaning": meaning}
            sections.append({**texts, "count": len(rows), "shown": shown, "rest": rest})
    return sections


def snippet(found: PastReleases) -> str:
    """Return summary, figures, misses and false alarms as one HTML element, for notebooks."""
    listed = [
        (name, [_cells(row) for row in found.of(kind)[:10]], len(found.of(kind)))
        for kind, name in LISTED.items()
        if found.of(kind)
    ]
    return _SNIPPET.render(headline=headline(found), figures=figures(found), listed=listed)


def _cells(row: PastRelease) -> dict[str, str]:
    return {
        "release": clipped(row.release),
        "outcome": row.alarm.replace("_", " ") or row.outcome.replace("_", " "),
        "exposed": (iso(row.exposed_at) or "").replace("T", " ").removesuffix("Z"),
        "after": wait(row.minutes_to_detect),
        "score": score_cell(row),
        "stream": clipped(row.top_stream),
        "reason": row.reason,
        "group": clipped(row.group),
    }


def _outcome(tallied: Tallied) -> list[str]:
    rate = tallied.false_alarms / tallied.fine if tallied.fine else None
    known = f"{tallied.found} of {tallied.bad}" if tallied.bad else "-"
    wrong = f"{tallied.false_alarms} of {tallied.fine}" if tallied.fine else "-"
    return [known, percent(tallied.recall), wrong, percent(rate), number(tallied.precision), number(tallied.f1)]


def _median(found: PastReleases) -> str:
    middle = found.minutes_to_detect(0.5)
    return "-" if middle is None else reasons.span(middle)


def _times(times: float) -> str:
    return {0.5: "half as large", 1: "as given", 2: "twice as large"}.get(times, f"{times:g} times as large")


_STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --page: #ffffff; --card: #f6f8fa;
  --mark: #ddf4ff; --bad: #bc4c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --page: #0d1117;
  --card: #151b23; --mark: #12263a; --bad: #f0883e; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.1rem; font-weight: 600; color: var(--faint); margin: 0; }
.answer { font-size: 1.6rem; line-height: 1.3; font-weight: 650; margin: .25rem 0 1.5rem; text-wrap: balance; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .25rem; border-top: 1px solid var(--line); padding-top: 1.5rem; }
h3 { font-size: 1rem; margin: 0; overflow-wrap: anywhere; }
p { margin: .25rem 0 .75rem; } .faint { color: var(--faint); } .warning { color: var(--bad); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--faint); padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; } tr.given { background: var(--mark); font-weight: 600; }
figure { margin: 1rem 0; } article { margin: 1.25rem 0; padding: 1rem; background: var(--card); border-radius: 8px;
  border: 1px solid var(--line); }
svg * { stroke-linejoin: round; }
svg { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; margin-top: .5rem; }
summary { cursor: pointer; padding: .5rem 0; } nav a { margin-right: 1rem; color: inherit; }
@media print { article { break-inside: avoid; } }
"""

_LISTING = """\
{% macro listing(rows, caption) %}
<div class="wide"><table>
<caption>{{ caption }}</caption>
<thead><tr><th scope="col">Release</th><th scope="col">Outcome</th><th scope="col">After</th>
<th scope="col">Score</th><th scope="col">Why</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.release }}</th><td>{{ row.outcome }}</td><td>{{ row.after }}</td>
<td>{{ row.score }}</td><td>{{ row.reason }}</td></tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
{% macro given(rows, first, caption, delay=false) %}
<div class="wide"><table>
<caption>{{ caption }}</caption>
<thead><tr><th scope="col">{{ first }}</th><th scope="col">Found</th><th scope="col">Recall</th>
<th scope="col">False alarms</th><th scope="col">Rate</th><th scope="col">Precision</th><th scope="col">F1</th>
{% if delay %}<th scope="col">Median time</th>{% endif %}</tr></thead>
<tbody>
{% for name, is_given, cells in rows %}
<tr{% if is_given %} class="given"{% endif %}>
<th scope="row">{{ name }}{% if is_given %} (this backtest){% endif %}</th>
{%- for cell in cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% endmacro %}
"""

_TEMPLATES = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_PAGE = _TEMPLATES.from_string(
    _LISTING
    + """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
"""
    + _STYLE
    + """\
</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p class="answer">{{ headline }}</p>
</header>
{% for warning in warnings %}<p class="warning">{{ warning }}</p>{% endfor %}
<dl>
{% for name, said in figures %}<dt>{{ name }}</dt><dd>{{ said }}</dd>
{% endfor %}
</dl>
{% if sections %}
<nav aria-label="Releases"><p>
{% for section in sections %}
<a href="#{{ section.id }}">{{ section.title }} ({{ section.count }})</a>
{% endfor %}</p></nav>
{% endif %}
<section aria-labelledby="alphas">
<h2 id="alphas">Other alphas</h2>
<p class="faint">Read off the scores: another alpha moves every threshold by log(alpha / other). That is approximate for
streams that are calibrated on placebos of their own history.</p>
{{ given(alphas, "Alpha", "What another chance of calling a good release regressed would have given") }}
<figure>{{ alpha_chart | safe }}</figure>
</section>
{% if margins %}
<section aria-labelledby="margins">
<h2 id="margins">Other margins</h2>
<p class="faint">The same releases judged again, with every margin half and twice as large.</p>
{{ given(margins, "Margin", "What other margins would have given", true) }}
</section>
{% endif %}
{% if not placebos %}
<section aria-labelledby="delay">
<h2 id="delay">Time to detect</h2>
<figure>{{ delay_chart | safe }}</figure>
</section>
{% endif %}
{% for section in sections %}
<section aria-labelledby="{{ section.id }}">
<h2 id="{{ section.id }}">{{ section.title }} ({{ section.count }})</h2>
<p class="faint">{{ section.meaning }}</p>
{% for row, picture in section.shown %}
<article>
<h3>{{ row.release }}</h3>
<p class="faint">{{ row.outcome }}{% if row.after != "-" %} after {{ row.after }}{% endif %},
exposed {{ row.exposed }} UTC, score {{ row.score }}{% if row.group %}, group {{ row.group }}{% endif %}</p>
<p>{{ row.reason }}</p>
<figure>{{ picture | safe }}</figure>
</article>
{% endfor %}
{% if section.rest %}{{ listing(section.rest, "Without a chart" if section.shown else section.title) }}{% endif %}
</section>
{% endfor %}
{% if errors %}
<section aria-labelledby="errors">
<h2 id="errors">Could not be judged ({{ errors | length }})</h2>
<ul>{% for release, reason in errors %}<li><strong>{{ release }}</strong> {{ reason }}</li>{% endfor %}</ul>
</section>
{% endif %}
{% if passed %}
<section aria-labelledby="passed">
<h2 id="passed">No alarm ({{ passed | length }})</h2>
<details><summary>All of them</summary>
{{ listing(passed, "Releases that raised no alarm, and are not known to be bad") }}
</details>
</section>
{% endif %}
</main>
</body>
</html>
"""
)

_SNIPPET = _TEMPLATES.from_string("""\
<div class="watcher" style="font-family: system-ui, sans-serif; font-size: 14px; max-width: 72em; line-height: 1.4">
<p style="margin: 0.4em 0"><strong>{{ headline }}</strong></p>
<table style="border-collapse: collapse; margin: 0.6em 0; font-size: 13px">
{% for name, said in figures %}
<tr><th scope="row" style="text-align: left; padding-right: 1em">{{ name }}</th>
<td style="text-align: left">{{ said }}</td></tr>
{% endfor %}
</table>
{% for name, rows, count in listed %}
<p style="margin: 0.4em 0"><strong>{{ name }} ({{ count }})</strong></p>
<ul style="margin: 0.2em 0">
{% for row in rows %}<li>{{ row.release }}: {{ row.reason }}</li>
{% endfor %}
{% if count > rows | length %}<li>and {{ count - rows | length }} more</li>{% endif %}
</ul>
{% endfor %}
</div>
""")

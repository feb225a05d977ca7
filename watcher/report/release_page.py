"""One release as a page of HTML in one file: the verdict, every rule, its pictures, and what all of it rests on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from watcher.model import Verdict
from watcher.report import explanation
from watcher.report.cells import headings, release_name, rows, stream_heading, when, word
from watcher.report.drawing import COLOURS
from watcher.report.findings import Findings
from watcher.report.pages import ENVIRONMENT, STYLE, beside_others

LARGEST: Final = 1_800_000
"""Bytes of a page, about; pictures beyond are left out."""

MOST_DETAILS: Final = 200
"""Streams whose derivation is written out."""


@dataclass(frozen=True)
class Drawn:
    """The pictures of one stream: SVG elements that say what they show."""

    verdict: Verdict
    pictures: tuple[str, ...]


def page(findings: Findings, forest: str, drawn: Iterator[Drawn]) -> str:
    """Return a page that needs nothing beside itself, and is no larger than about `LARGEST`.

    Args:
        findings: of the release, with traces where the derivation is to say how the evidence grew.
        forest: SVG of all effects; empty where there is none.
        drawn: pictures of streams, the worst first; taken for as long as there is room.
    """
    shown, pictures, size = list[tuple[Verdict, int]](), [forest] if forest else [], len(forest)
    for each in drawn:
        size += sum(map(len, each.pictures))
        if size > LARGEST:
            break
        pictures += each.pictures
        shown.append((each.verdict, len(each.pictures)))
    placed = beside_others(pictures)
    first = placed[:1] if forest else []
    rest = iter(placed[len(first) :])
    stream = stream_heading(findings)
    return _PAGE.render(
        title=release_name(findings) or "Release",
        word=word(findings.verdict.outcome),
        colour=COLOURS[findings.verdict.outcome],
        when=when(findings),
        reason=findings.verdict.reason,
        notes=_notes(findings),
        names=headings(stream),
        rows=[(row.dormant, row.outcome, row.cells(bool(stream))) for row in rows(findings)],
        colours=COLOURS,
        forest=first[0] if first else "",
        streams=[
            (explanation.subject(findings, verdict), verdict, [next(rest) for _ in range(many)])
            for verdict, many in shown
        ],
        assumed=explanation.assumptions(findings),
        details=_details(findings, findings.streams[:MOST_DETAILS]),
        left=max(len(findings.streams) - MOST_DETAILS, 0),
    )


def _notes(findings: Findings) -> list[tuple[str, str]]:
    alarms, warnings = explanation.alarms(findings), explanation.warnings(findings)
    return [("Alarm", line) for line in alarms] + [("Warning", line) for line in warnings]


def _details(findings: Findings, verdicts: Sequence[Verdict]) -> list[tuple[str, Verdict, list[tuple[str, str]]]]:
    return [(explanation.subject(findings, each), each, explanation.details(findings, each)) for each in verdicts]


_PAGE = ENVIRONMENT.from_string(
    """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ word }}: {{ title }}</title>
<style>
"""
    + STYLE
    + """\
.word { border-left: .5rem solid {{ colour }}; padding-left: .6rem; }
.dot::before { content: ""; display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .45em;
  background: var(--of); }
tr.idle { color: var(--faint); }
.cells td, .cells th { white-space: nowrap; overflow-wrap: normal; }
</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p class="answer word">{{ word }}{% if when %}, {{ when }}{% endif %}</p>
<p>{{ reason }}</p>
</header>
{% for kind, line in notes %}<p class="warning">{{ kind }}: {{ line }}</p>{% endfor %}
{% if rows %}
<section aria-labelledby="rules">
<h2 id="rules">Rules</h2>
<div class="wide" tabindex="0" role="region" aria-label="Every stream"><table class="cells">
<caption>Every stream, the worst first</caption>
<thead><tr>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for idle, outcome, cells in rows %}
<tr{% if idle %} class="idle"{% endif %}>
{%- for cell in cells %}
{%- if loop.first %}<th scope="row">{{ cell }}</th>
{%- elif cell == outcome.value %}<td class="dot" style="--of: {{ colours[outcome] }}">{{ cell }}</td>
{%- else %}<td>{{ cell }}</td>{% endif %}
{%- endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if forest %}<figure>{{ forest | safe }}</figure>{% endif %}
</section>
{% endif %}
{% if streams %}
<section aria-labelledby="pictures">
<h2 id="pictures">Over time</h2>
{% for subject, verdict, pictures in streams %}
<article>
<h3>{{ subject }}</h3>
<p class="faint">{{ verdict.reason }}</p>
{% for picture in pictures %}<figure>{{ picture | safe }}</figure>{% endfor %}
</article>
{% endfor %}
</section>
{% endif %}
<section aria-labelledby="why">
<h2 id="why">Why</h2>
{% if assumed %}<ul>{% for line in assumed %}<li>{{ line }}</li>{% endfor %}</ul>{% endif %}
{% for subject, verdict, facts in details %}
<details><summary>{{ subject }}: {{ verdict.outcome.value }}</summary>
<dl>{% for name, fact in facts %}<dt>{{ name }}</dt><dd>{{ fact }}</dd>
{% endfor %}</dl>
</details>
{% endfor %}
{% if left %}<p class="faint">and {{ left }} more, none worse</p>{% endif %}
</section>
</main>
</body>
</html>
"""
)

"""A self-contained piece of HTML: what a notebook shows for a comparison."""

from __future__ import annotations

from jinja2 import Environment

from watcher.report import explanation
from watcher.report.cells import MOST_ROWS, headings, headline, rows, stream_heading, word
from watcher.report.charts import forest
from watcher.report.drawing import COLOURS, to_svg
from watcher.report.findings import Findings

# Colours of text and lines follow the page, which may be dark; the chart brings its own light background.
_SNIPPET = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string("""\
<div class="watcher" style="font-family: system-ui, sans-serif; font-size: 14px; max-width: 72em; line-height: 1.4">
<p style="margin: 0.4em 0"><strong style="color: {{ colours[outcome] }}">{{ word }}</strong> {{ headline }}</p>
<p style="margin: 0.4em 0">{{ reason }}</p>
{% if rows %}
<table style="border-collapse: collapse; margin: 0.6em 0; font-size: 13px; font-variant-numeric: tabular-nums">
<thead><tr>
{% for name in names %}
<th scope="col" style="text-align: left; padding: 0.2em 1em 0.2em 0; border-bottom: 1px solid">{{ name }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for row in rows %}
<tr{% if row.dormant %} style="opacity: 0.55"{% endif %}>
{% for cell in row.texts %}
<td style="text-align: left; padding: 0.2em 1em 0.2em 0
{%- if cell == row.outcome.value and not row.dormant %}; color: {{ colours[row.outcome] }}{% endif %}">{{ cell }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
{% endif %}
{% if left > 0 %}<p style="margin: 0.4em 0">and {{ left }} more, none worse</p>{% endif %}
{% for kind, line in notes %}
<p style="margin: 0.2em 0; font-size: 13px"><strong>{{ kind }}</strong> {{ line }}</p>
{% endfor %}
{{ chart | safe }}
</div>
""")


def snippet(findings: Findings) -> str:
    """Return verdict, reason, table, notes and the forest of effects as one HTML element, without scripts."""
    stream = stream_heading(findings)
    shown = rows(findings)[:MOST_ROWS]
    return _SNIPPET.render(
        outcome=findings.verdict.outcome,
        colours=COLOURS,
        word=word(findings.verdict.outcome),
        headline=headline(findings),
        reason=findings.verdict.reason,
        names=headings(stream),
        rows=[{"outcome": row.outcome, "dormant": row.dormant, "texts": row.cells(bool(stream))} for row in shown],
        left=len(findings.streams) - len(shown),
        notes=_notes(findings),
        chart=_chart(findings),
    )


def _notes(findings: Findings) -> list[tuple[str, str]]:
    kinds = (
        ("Alarm", explanation.alarms(findings)),
        ("Warning", explanation.warnings(findings)),
        ("Assumes", explanation.assumptions(findings)),
    )
    return [(kind, line) for kind, lines in kinds for line in lines]


def _chart(findings: Findings) -> str:
    if all(verdict.effect.estimate is None for verdict in findings.streams):
        return ""
    # matplotlib escapes what it writes into an SVG.
    return to_svg(forest(findings)).replace("<svg ", '<svg style="max-width: 100%; height: auto" ', 1)

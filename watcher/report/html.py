"""Self-contained pieces of HTML: what a notebook shows for a comparison, and for a look."""

from __future__ import annotations

from jinja2 import Environment

from watcher import reasons
from watcher.model import Action, Alert, Kill, Look, Promote, Verdict
from watcher.report import explanation
from watcher.report.cells import MOST_ROWS, NOTHING, effect_cell, headings, headline, rows, stream_heading, word
from watcher.report.charts import forest
from watcher.report.drawing import COLOURS, to_svg
from watcher.report.findings import Findings, worst_first

# Colours of text and lines follow the page, which may be dark; the chart brings its own light background.
_ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
_SNIPPET = _ENVIRONMENT.from_string("""\
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


def look_snippet(look: Look) -> str:
    """Return when a look was, what it said of every stream, what it decided and what it refused, without a chart."""
    streams = worst_first(look.verdict.streams)
    return _SNIPPET.render(
        outcome=look.verdict.outcome,
        colours=COLOURS,
        word=word(look.verdict.outcome),
        headline=f"{look.release}, {reasons.clock(look.at)}, {look.phase}",
        reason=look.verdict.reason,
        names=["rule", "stream", "outcome", "effect (interval)", "log e of harm", "why"],
        rows=[_look_row(each) for each in streams[:MOST_ROWS]],
        left=len(streams) - MOST_ROWS,
        notes=_done(look),
        chart="",
    )


def _look_row(verdict: Verdict) -> dict[str, object]:
    labels = ", ".join("=".join(pair) for pair in verdict.labels) or NOTHING
    evidence = f"{verdict.log_e_regressed:.1f} of {verdict.threshold:.1f}" if verdict.threshold else NOTHING
    texts = [verdict.rule, labels, verdict.outcome.value, effect_cell(verdict.effect), evidence, verdict.reason]
    return {"outcome": verdict.outcome, "dormant": verdict.dormant, "texts": texts}


def _done(look: Look) -> list[tuple[str, str]]:
    """Return why the metrics could not be read, what was decided, and what was not done, as (kind, sentence)."""
    problem = [("Problem", look.problem)] if look.problem else []
    refused = [("Refused", f"{each.action}: {each.reason} {each.detail}".rstrip()) for each in look.refusals]
    # A message and what is added below it have one title.
    return problem + list(dict.fromkeys(map(_decided, look.actions))) + refused


def _decided(action: Action) -> tuple[str, str]:
    match action:
        case Alert():
            return "Told", action.title
        case Kill():
            return "Turned off", action.reason
        case Promote():
            return "Promoted", action.reason

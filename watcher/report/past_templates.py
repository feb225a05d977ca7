"""The templates of the page on past releases, and of the piece of it that a notebook shows."""

from __future__ import annotations

from watcher.report.pages import ENVIRONMENT, STYLE

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

PAGE = ENVIRONMENT.from_string(
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
    + STYLE
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

SNIPPET = ENVIRONMENT.from_string("""\
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

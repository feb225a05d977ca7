"""The templates of the page on a release, and of the one on a stream of it."""

from __future__ import annotations

from watcher.report.pages import ENVIRONMENT, HEAD, SERVED

_LOOKS = """\
.word { border-left: .5rem solid {{ colour }}; padding-left: .6rem; }
tr.idle { color: var(--faint); }
.cells td, .cells th { white-space: nowrap; overflow-wrap: normal; }
.cells a { color: inherit; }
.cells .of { padding-top: 1rem; color: var(--faint); font-weight: 400; }
.share { display: inline-block; height: .7em; background: var(--bar); margin-right: .4em; max-width: 10rem; }
.facts { margin: 0 0 1rem; }
"""

_MACROS = """\
{% macro line(each, colours, first) %}
<tr{% if each.idle %} class="idle"{% endif %}>
{%- for cell in each.cells %}
{%- if loop.first %}<th scope="row">{{ cell }}</th>
{%- elif each.link and loop.index == first %}<td><a href="{{ each.link }}">{{ cell }}</a></td>
{%- elif cell == each.outcome.value %}<td class="dot" style="--of: {{ colours[each.outcome] }}">
{%- if each.link and not first %}<a href="{{ each.link }}">{{ cell }}</a>{% else %}{{ cell }}{% endif %}</td>
{%- else %}<td>{{ cell }}</td>{% endif %}
{%- endfor %}</tr>
{% endmacro %}
"""

PAGE = ENVIRONMENT.from_string(
    _MACROS
    + HEAD
    + _LOOKS
    + """\
</style>
{% if live %}
"""
    + SERVED
    + """\
<script src="{{ live.script }}" defer></script>
{% endif %}
</head>
<body{% if live %} data-mark="{{ live.mark }}" data-every="{{ live.every }}"{% endif %}>
{% set first = 2 if names[1] != "outcome" else 0 %}
{% if live %}
<nav aria-label="Pages"><a href="{{ live.home }}">All releases</a></nav>
<p id="said" role="status" class="faint"></p>
{% endif %}
<main>
<header>
<h1>{{ title }}</h1>
<p class="answer word" id="answer">{{ word }}{% if when %}, {{ when }}{% endif %}</p>
<p>{{ reason }}</p>
</header>
{% for kind, text in notes %}<p class="warning">{{ kind }}: {{ text }}</p>{% endfor %}
{% if beside.facts or beside.links %}
<section aria-label="Facts" class="facts">
<dl>{% for name, fact in beside.facts %}<dt>{{ name }}</dt><dd>{{ fact }}</dd>
{% endfor %}
{% if beside.links %}<dt>see</dt><dd>
{%- for name, address in beside.links %}<a href="{{ address }}" rel="noreferrer">{{ name }}</a>
{%- if not loop.last %}, {% endif %}{% endfor %}</dd>{% endif %}</dl>
</section>
{% endif %}
{% if table %}
<section aria-labelledby="rules">
<h2 id="rules">Rules</h2>
<div class="wide" tabindex="0" role="group" aria-label="Every rule"><table class="cells">
<caption>Every rule, the worst first</caption>
<thead><tr>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
{% for group in table %}
<tbody>
{% for each in group.shown %}{{ line(each, colours, first) }}{% endfor %}
{% if group.folded %}<tr><td class="of" colspan="{{ names | length }}">{{ group.name }}: {{ group.counted }};
{{ group.folded | length }} more below, none worse</td></tr>{% endif %}
</tbody>
{% endfor %}
</table></div>
{% for group in table if group.folded %}
<details id="more-{{ loop.index }}"><summary>{{ group.name }}: {{ group.folded | length }} more streams</summary>
<div class="wide" tabindex="0" role="group" aria-label="More streams of {{ group.name }}"><table class="cells">
<thead><tr>{% for name in names %}<th scope="col">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>{% for each in group.folded %}{{ line(each, colours, first) }}{% endfor %}</tbody></table></div></details>
{% endfor %}
{% if forest %}<figure>{{ forest | safe }}</figure>{% endif %}
</section>
{% endif %}
{% if segments %}
<section aria-labelledby="where">
<h2 id="where">Where it is</h2>
<p class="faint">What each value adds to the bad events that the baseline's rate would have given the release.</p>
{% for name, label, lines in segments %}
<details id="by-{{ loop.index }}"{% if loop.first %} open{% endif %}><summary>{{ name }}</summary>
<div class="wide" tabindex="0" role="group" aria-label="{{ name }}"><table class="cells">
<thead><tr><th scope="col">{{ label }}</th><th scope="col">outcome</th><th scope="col">treatment</th>
<th scope="col">expected</th><th scope="col">added</th><th scope="col">of all that is added</th></tr></thead>
<tbody>{% for value, outcome, counted, expected, added, share in lines %}
<tr><th scope="row">{{ value }}</th><td class="dot" style="--of: {{ colours[outcome] }}">{{ outcome.value }}</td>
<td>{{ counted }}</td><td>{{ expected }}</td><td>{{ added }}</td>
<td>{% if share is not none %}<span class="share" style="width: {{ (share / 10) | round(1) }}rem"></span>
{{- share | round | int }} %{% endif %}</td></tr>
{% endfor %}</tbody></table></div></details>
{% endfor %}
</section>
{% endif %}
{% if streams %}
<section aria-labelledby="pictures">
<h2 id="pictures">Over time</h2>
{% for subject, verdict, pictures in streams %}
{% if loop.index <= most_open %}
<article>
<h3>{{ subject }}</h3>
<p class="faint">{{ verdict.reason }}</p>
{% for picture in pictures %}<figure>{{ picture | safe }}</figure>{% endfor %}
</article>
{% else %}
<details id="stream-{{ loop.index }}"><summary>{{ subject }}: {{ verdict.outcome.value }}</summary>
<p class="faint">{{ verdict.reason }}</p>
{% for picture in pictures %}<figure>{{ picture | safe }}</figure>{% endfor %}
</details>
{% endif %}
{% endfor %}
</section>
{% endif %}
{% if beside.stages %}
<section aria-labelledby="who">
<h2 id="who">Who has it</h2>
{% if beside.split %}<p>{{ beside.split }}</p>{% endif %}
<div class="wide"><table>
<caption>Stages of exposure</caption>
<thead><tr><th scope="col">from</th><th scope="col">share of the users</th></tr></thead>
<tbody>{% for at, share in beside.stages %}
<tr><th scope="row" class="at">{{ at }}</th><td>{{ share }}</td></tr>
{% endfor %}</tbody>
</table></div>
</section>
{% endif %}
{% if beside.done %}
<section aria-labelledby="done">
<h2 id="done">Done, refused and told</h2>
<div class="wide" tabindex="0" role="group" aria-label="Done, refused and told"><table>
<thead><tr><th scope="col">when</th><th scope="col">what</th></tr></thead>
<tbody>{% for at, said in beside.done %}<tr><th scope="row" class="at">{{ at }}</th><td>{{ said }}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}
{% if beside.checks %}
<section aria-labelledby="checklist">
<h2 id="checklist">Checklist</h2>
<div class="wide" tabindex="0" role="group" aria-label="Checklist"><table>
<caption>Gone through {{ beside.checked_at }}</caption>
<thead><tr><th scope="col">check</th><th scope="col">stands</th><th scope="col">found</th>
<th scope="col">what to do</th></tr></thead>
<tbody>{% for each in beside.checks %}<tr><th scope="row">{{ each.about }}</th><td>{{ each.status }}</td>
<td>{{ each.said }}</td><td>{{ each.do }}</td></tr>
{% endfor %}</tbody></table></div>
</section>
{% endif %}
{% if assumed or details %}
<section aria-labelledby="why">
<h2 id="why">Why</h2>
{% if assumed %}<ul>{% for text in assumed %}<li>{{ text }}</li>{% endfor %}</ul>{% endif %}
{% for subject, verdict, facts in details %}
<details><summary>{{ subject }}: {{ verdict.outcome.value }}</summary>
<dl>{% for name, fact in facts %}<dt>{{ name }}</dt><dd>{{ fact }}</dd>
{% endfor %}</dl>
</details>
{% endfor %}
{% if left and not live %}<p class="faint">and {{ left }} more, none worse</p>{% endif %}
</section>
{% endif %}
</main>
</body>
</html>
"""
)

STREAM = ENVIRONMENT.from_string(
    HEAD
    + _LOOKS
    + """\
</style>
"""
    + SERVED
    + """\
</head>
<body>
<nav aria-label="Pages"><a href="{{ release }}">The release</a></nav>
<main>
<header>
<h1>{{ title }}</h1>
<p class="answer word">{{ word }}</p>
<p>{{ verdict.reason }}</p>
</header>
{% for picture in pictures %}<figure>{{ picture | safe }}</figure>{% endfor %}
<section aria-labelledby="why">
<h2 id="why">Why</h2>
<dl>{% for name, fact in facts %}<dt>{{ name }}</dt><dd>{{ fact }}</dd>
{% endfor %}</dl>
</section>
</main>
</body>
</html>
"""
)

"""All releases as a page of HTML: those being watched and those whose watch is over, each with how it stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from watcher.model import Outcome
from watcher.report.cells import printable, word
from watcher.report.drawing import COLOURS
from watcher.report.pages import ENVIRONMENT, HEAD, SERVED


@dataclass(frozen=True)
class Entry:
    """A release on the list: what it is called and where it is, its page, how it stands, and when.

    Without a look, `outcome` is None.
    """

    name: str
    place: str
    address: str
    outcome: Outcome | None
    reason: str
    stands: str
    at: str


@dataclass(frozen=True)
class Listing:
    """What the page shows.

    `held` is what holds watcher back, if anything does. `named` is what the names of those shown have in common, and
    `older` the address of the next page of those whose watch is over; both may be empty.
    """

    now: Sequence[Entry]
    over: Sequence[Entry]
    held: Sequence[str] = ()
    named: str = ""
    older: str = ""


def page(listing: Listing, script: str, mark: str, every: float) -> str:
    """Return the page.

    Args:
        listing: what to show.
        script: address of what keeps it up to date.
        mark: changes whenever something on the page does.
        every: seconds after which to ask for it again.
    """
    worst = min((each.outcome for each in listing.now if each.outcome), key=list(Outcome).index, default=None)
    return _PAGE.render(
        word="Watcher" if worst is None else word(worst),
        title=f"{len(listing.now)} being watched",
        now=[_cells(each) for each in listing.now],
        over=[_cells(each) for each in listing.over],
        held=listing.held,
        named=listing.named,
        older=listing.older,
        script=script,
        mark=mark,
        every=every,
    )


def _cells(entry: Entry) -> dict[str, str]:
    """Return what the template shows of an entry, printable."""
    return {
        "name": printable(entry.name),
        "place": printable(entry.place),
        "address": entry.address,
        "outcome": "not looked at yet" if entry.outcome is None else entry.outcome.value,
        "colour": COLOURS[entry.outcome or Outcome.NO_DATA],
        "reason": printable(entry.reason),
        "stands": printable(entry.stands),
        "at": entry.at,
    }


_PAGE = ENVIRONMENT.from_string(
    """\
{% macro listing(entries, caption, at) %}
<div class="wide" tabindex="0" role="group" aria-label="{{ caption }}"><table>
<caption>{{ caption }}</caption>
<thead><tr><th scope="col">release</th><th scope="col">outcome</th><th scope="col">why</th>
<th scope="col">stands</th><th scope="col">{{ at }}</th></tr></thead>
<tbody>{% for each in entries %}
<tr><th scope="row"><a href="{{ each.address }}">{{ each.name }}</a> <span class="place">{{ each.place }}</span></th>
<td class="dot" style="--of: {{ each.colour }}">{{ each.outcome }}</td><td>{{ each.reason }}</td>
<td class="at">{{ each.stands }}</td><td class="at">{{ each.at }}</td></tr>
{% endfor %}</tbody></table></div>
{% endmacro %}
"""
    + HEAD
    + """\
th a { color: inherit; overflow-wrap: anywhere; }
tbody th { min-width: 11rem; }
.place { display: block; font-weight: 400; color: var(--faint); }
form { margin: 1rem 0; }
input, button { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: .3rem .6rem; }
</style>
"""
    + SERVED
    + """\
<script src="{{ script }}" defer></script>
</head>
<body data-mark="{{ mark }}" data-every="{{ every }}">
<p id="said" role="status" class="faint"></p>
<main>
<h1>watcher</h1>
<p class="answer" id="answer">{{ title }}</p>
{% for line in held %}<p class="warning">{{ line }}</p>{% endfor %}
<form action="/" role="search"><label for="q">Names that contain</label>
<input id="q" name="q" value="{{ named }}" maxlength="200"> <button>Show</button></form>
<section aria-labelledby="now"><h2 id="now">Now</h2>
{% if now %}{{ listing(now, "Releases being watched", "last look") }}
{% elif named %}<p>None that is being watched is called that.</p>
{% else %}<p>Nothing is being watched. A watch starts when a release is noticed as watcher.yaml says, or is told of:
<code>watcher release start FEATURE</code>.</p>{% endif %}
</section>
<section aria-labelledby="past"><h2 id="past">Past</h2>
{% if over %}{{ listing(over, "Releases whose watch is over, the latest first", "ended") }}
{% else %}<p>None{{ " is called that" if named }}.</p>{% endif %}
{% if older %}<nav aria-label="Older releases"><a href="{{ older }}" rel="next">Older</a></nav>{% endif %}
</section>
</main>
</body>
</html>
"""
)

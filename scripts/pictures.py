"""Make a picture of every face: those of the README into docs/, all others into build/pictures: `make pictures`.

What they show is made up and seeded, so the same versions of matplotlib, rich and Chromium make the same files.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from playwright.sync_api import Browser
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import watcher  # noqa: E402
from tests import showroom  # noqa: E402
from tests.alerts.slack_server import readable  # noqa: E402
from tests.servers import browser  # noqa: E402
from tests.servers.shop import free_port  # noqa: E402
from watcher import recorded  # noqa: E402
from watcher.alerts.message import message  # noqa: E402
from watcher.deeds import deeds  # noqa: E402
from watcher.journal import Journal  # noqa: E402
from watcher.oneoff import report  # noqa: E402
from watcher.report import charts, live, terminal  # noqa: E402
from watcher.sample import sample  # noqa: E402
from watcher.server import serving  # noqa: E402

DOCS, BUILT = ROOT / "docs", ROOT / "build" / "pictures"
WIDE, NARROW = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
COMMAND = "watcher compare shop.csv --ratio errors/requests"
START, EXPOSED, BAD_FROM, END = (f"2026-11-20T{clock}Z" for clock in ("09:00", "10:00", "11:00", "13:00"))
FONTS = "ui-monospace, Menlo, Consolas, DejaVu Sans Mono"
REQUESTS = {"checkout": 150, "search": 240, "gift-cards": 6}
"""Per minute and pod."""


def shop() -> pd.DataFrame:
    """Return minutes of a shop whose release begins to fail in `checkout` an hour after exposure."""
    rng = np.random.default_rng(10)
    columns: dict[str, Any] = {
        "timestamp": pd.date_range(START, END, freq="1min", inclusive="right"),
        "arm": ["baseline", "treatment"],
        "feature": list(REQUESTS),
        "unit": ["pod-1", "pod-2", "pod-3"],
    }
    frame: pd.DataFrame = pd.MultiIndex.from_product(list(columns.values()), names=list(columns)).to_frame(index=False)
    failing = (frame["timestamp"] > BAD_FROM) & (frame["arm"] == "treatment") & (frame["feature"] == "checkout")
    frame["requests"] = rng.poisson(frame["feature"].map(REQUESTS))
    frame["errors"] = rng.binomial(frame["requests"], np.where(failing, 0.02, 0.01))
    frame["exposed_at"] = EXPOSED
    return frame


def compared() -> watcher.Comparison:
    """Return what the command says of the shop: the file's name is part of it."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        shop().to_csv("shop.csv", index=False)
        found = watcher.compare("shop.csv", ratio="errors/requests")
    assert isinstance(found, watcher.Comparison)
    return found


def screen(command: str, draw: Callable[[Console], None]) -> str:
    """Return a terminal with a command and its answer, as SVG; no font is loaded from anywhere."""
    console = Console(record=True, width=112, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"), highlight=False)
    draw(console)
    name = " ".join(command.split()[:2])
    drawn = console.export_svg(title=name, unique_id=name.replace(" ", "-"))
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S).replace("Fira Code", FONTS)
    return "\n".join(line.rstrip() for line in drawn.splitlines()) + "\n"


def watched(journal: Journal, release: str) -> Callable[[Console], None]:
    """Return what draws `watcher watch` of a release."""
    found, last = journal.watched(release), journal.last_look(release, states=False)
    assert found is not None
    assert last is not None
    done = [f"{each.said}" for each in deeds(journal, release) if each.what != "told"]
    return lambda console: console.print(live.view(found.watch, last, done, 112, 24))


def pages(journal: Journal, bad: str, url: str) -> None:
    """Write what a browser shows: the page in every light, and the same in a file."""
    found = journal.watched(bad)
    assert found is not None
    whole = recorded.comparison(journal, found.watch)
    assert whole is not None
    file = BUILT / "release.html"
    file.write_text(report.report(whole, recorded.beside(journal, found, whole.look)), encoding="utf-8")
    views = {"list": f"{url}/", "release": f"{url}/releases/{bad}", "report": file.as_uri()}
    views["stream"] = f"{url}/streams/{bad}?rule=page-load&label=region%3Deu"
    with browser.running() as chromium:
        slack(chromium)
        for name, address in views.items():
            for colours, size in (("light", WIDE), ("dark", WIDE), ("dark", NARROW)):
                page = chromium.new_page(color_scheme=colours, viewport=size)
                page.goto(address)
                for picture in page.query_selector_all("img"):
                    picture.scroll_into_view_if_needed()
                page.wait_for_load_state("networkidle")
                page.evaluate("scrollTo(0, 0)")
                width = "wide" if size is WIDE else "narrow"
                page.screenshot(path=BUILT / f"{name}-{colours}-{width}.png", full_page=True)
                if (name, colours, width) == ("release", "light", "wide"):
                    page.screenshot(path=DOCS / "page.png")
                page.close()


_SLACK = Environment(autoescape=True).from_string("""\
<!doctype html><meta charset="utf-8"><style>
body { margin: 1rem; font: 15px/1.46 Lato, "Helvetica Neue", sans-serif; color: #1d1c1d; max-width: 44rem; }
h3 { font-size: 1.15rem; margin: .2rem 0; } p { white-space: pre-line; margin: .4rem 0; }
button { font: inherit; font-size: .85rem; font-weight: 700; padding: .25rem .8rem;
border-radius: 4px; background: #fff; border: 1px solid #bbb; margin-right: .4rem; }
.danger { background: #e01e5a; color: #fff; border-color: #e01e5a; }
.bar { border-left: 4px solid; padding-left: .7rem; color: #616061; font-size: .8rem; } article { margin: 1.6rem 0; }
</style>{% for message in messages %}<article>{% for block in message.blocks %}
{% if block.type == "header" %}<h3>{{ block.text.text }}</h3>
{% elif block.type == "section" %}<p>{{ plain(block.text.text) }}</p>
{% elif block.type == "actions" %}{% for each in block.elements %}
<button class="{{ each.style }}">{{ each.text.text }}</button>{% endfor %}
{% endif %}{% endfor %}{% for each in message.attachments %}
<div class="bar" style="border-color: {{ each.color }}">{% for block in each.blocks %}
{{ plain(block.elements[0].text) }}
{% endfor %}</div>{% endfor %}</article>{% endfor %}
""")


def slack(chromium: Browser) -> None:
    """Write what Slack would show of a few states, about: its blocks, without Slack's own looks."""
    states = ("watching", "regressed", "killed", "recovered", "no_data")
    shown = [message(sample(state, showroom.NOW), clickable=True) for state in states]
    page = chromium.new_page(viewport={"width": 760, "height": 900})
    page.set_content(_SLACK.render(messages=shown, plain=readable))
    page.screenshot(path=BUILT / "slack.png", full_page=True)
    page.close()


def main() -> None:
    """Write all of them; without a browser, those of the page stay as they are."""
    comparison = compared()
    BUILT.mkdir(parents=True, exist_ok=True)
    answer = screen(COMMAND, lambda console: terminal.render(comparison.findings, console))
    (DOCS / "compare.svg").write_text(answer, encoding="utf-8")
    for kind in ("effect", "arms", "forest"):
        (DOCS / f"{kind}.png").write_bytes(charts.to_png(comparison.chart(kind)))
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        installation = showroom.installed(Path(folder), port)
        with Journal.open(installation.journal) as journal:
            bad = showroom.furnish(journal, past=30)
            said = screen("watcher watch new-checkout", watched(journal, bad))
            (BUILT / "watch.svg").write_text(said, encoding="utf-8")
            if problem := browser.missing():
                sys.exit(f"no pictures of the page: {problem}")
            with serving(installation, journal, lambda: showroom.NOW):
                pages(journal, bad, f"http://127.0.0.1:{port}")


if __name__ == "__main__":
    main()

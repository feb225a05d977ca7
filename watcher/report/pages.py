"""What pages of HTML share: their looks, light and dark, and pictures that stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from jinja2 import Environment

STYLE = """\
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d1d9e0; --page: #ffffff; --card: #f6f8fa;
  --mark: #ddf4ff; --bad: #bc4c00; --bar: #d55e00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --faint: #9198a1; --line: #3d444d; --page: #0d1117;
  --card: #151b23; --mark: #12263a; --bad: #f0883e; } }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
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
figure img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 6px; }
.dot, .at { white-space: nowrap; }
.dot::before { content: ""; display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .45em;
  background: var(--of); }
summary { cursor: pointer; padding: .5rem 0; } nav a { margin-right: 1rem; color: inherit; }
body > nav, body > [role=status] { max-width: 72rem; margin: 0 auto; padding: 1rem 1.25rem 0; }
@media print { article { break-inside: avoid; } }
"""

HEAD = (
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
)
"""How a page about something begins, given its `word` and `title`; what follows may add to the style, and ends it."""

SERVED = '<link rel="icon" href="data:,">\n'
"""What a page that is served has in its head beside: without an icon of its own, every browser asks for one."""

ENVIRONMENT = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)

_UNUSED = re.compile(r"\s*<metadata>.*?</metadata>|\s*<defs>\s*<style.*?</style>\s*</defs>", re.S)
_IDS = re.compile(r' id="(?![mp][0-9a-f]{6})[^"]*"')
_PLACES = re.compile(r' (?:d|x|y|width|height|transform|points)="[^"]*"')
_LONG = re.compile(r"-?\d+\.\d{2,}")
_FONTS = re.compile(r"font-family: 'DejaVu Sans'[^;\"]*")
_NAMES = re.compile(r'(id="|href="#|url\(#)')


def picture(svg: str, said: str) -> str:
    """Return an SVG that is lighter by a third, and says what it shows to those who cannot see it.

    Args:
        svg: as `to_svg` wrote it.
        said: what it shows.
    """
    svg = _FONTS.sub("font-family: inherit", _IDS.sub("", _UNUSED.sub("", svg)))
    svg = _PLACES.sub(lambda place: _LONG.sub(lambda number: f"{float(number[0]):.1f}", place[0]), svg)
    named = ENVIRONMENT.from_string('<svg role="img" aria-label="{{ said }}" ').render(said=said)
    return svg.replace("<svg ", named, 1)


def beside_others(pictures: Iterable[str]) -> list[str]:
    """Return pictures for one page: what each names inside itself gets a name that no other has."""
    return [_NAMES.sub(rf"\g<1>c{place}-", each) for place, each in enumerate(pictures)]

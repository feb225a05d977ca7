"""The page: what there is to see of all releases, of one, and of one of its streams. Nothing on it changes anything."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Final, get_args
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from watcher import __version__, interlocks, recorded
from watcher.config import Installation
from watcher.deeds import stamp
from watcher.journal import Journal, Listed, Watched
from watcher.model import Kind, Labels, Outcome, Verdict, labels
from watcher.oneoff.found import Chart, Comparison
from watcher.oneoff.report import SHOWS
from watcher.report import explanation, listing_page, release_page
from watcher.report.listing_page import Entry, Listing
from watcher.report.pages import ENVIRONMENT
from watcher.report.release_page import Drawn, Live
from watcher.secrets import redacted
from watcher.server.api import number
from watcher.server.charts import Charts

MOST: Final = 50
"""Releases whose watch is over on one page."""
MOST_DRAWN: Final = 12
"""Streams whose pictures are on the page of a release, the worst; every other has a page of its own."""
EVERY: Final = (2.0, 15.0)
"""Seconds after which a page is asked for again: a third of a block, but no less and no more than these."""

_SCRIPT: Final = "/page.js"
_INCHES: Final[Mapping[Chart, tuple[float, float]]] = {"effect": (8.4, 5.4), "arms": (8.4, 3.9), "shift": (8.4, 4.3)}
"""Width and height of a picture before it is there, so that nothing jumps when it comes."""

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


@dataclass(frozen=True)
class Page:
    """Answers with pages, from the journal alone."""

    installation: Installation
    journal: Journal
    clock: Callable[[], float]
    charts: Charts = field(default_factory=Charts)

    async def script(self, _: Request) -> Response:
        """Answer with what keeps a page up to date."""
        text = files("watcher.server").joinpath("page.js").read_text(encoding="utf-8")
        return Response(text, media_type="text/javascript", headers=_HEADERS)

    async def listing(self, request: Request) -> Response:
        """Answer with all releases."""
        return await run_in_threadpool(self._listing, request)

    async def release(self, request: Request) -> Response:
        """Answer with one release."""
        return await run_in_threadpool(self._release, request)

    async def stream(self, request: Request) -> Response:
        """Answer with one stream of a release."""
        return await run_in_threadpool(self._stream, request)

    async def chart(self, request: Request) -> Response:
        """Answer with a picture, as SVG."""
        return await run_in_threadpool(self._chart, request)

    def _listing(self, request: Request) -> Response:
        now, named = self.clock(), request.query_params.get("q", "")[:200]
        held = [interlocks.held_back(self.journal, self.installation.file, now), interlocks.latched(self.journal)]
        said = tuple(str(each) for each in held if each)

        def written(mark: str) -> str:
            before = number(request.query_params.get("before", ""))
            active = sorted(self.journal.listed(True, 10 * MOST, named=named), key=_worst_first)
            over = self.journal.listed(False, MOST + 1, before, named)
            older = urlencode({"q": named, "before": over[MOST - 1].n}) if len(over) > MOST else ""
            listing = Listing(
                [_entry(each) for each in active],
                [_entry(each) for each in over[:MOST]],
                said,
                named,
                f"/?{older}" if older else "",
            )
            return listing_page.page(listing, _SCRIPT, mark, self._every())

        return _page(request, self.journal.mark() + "".join(said), written)

    def _release(self, request: Request) -> Response:
        watched = self._watched(request)
        release = watched.watch.release.id

        def written(mark: str) -> str:
            found = recorded.verdict(self.journal, watched.watch)
            told = recorded.beside(self.journal, watched, None if found is None else found.look)
            live = Live("/", _SCRIPT, mark, self._every(), lambda verdict: _stream(release, verdict))
            if found is None:
                return release_page.not_yet(watched.watch, told, live)
            known = any(each.effect.estimate is not None for each in found.findings.streams)
            forest = _image(found, "forest", mark) if known else ""
            return release_page.page(found.findings, forest, _drawn(found, mark), told, live)

        return _page(request, self.journal.mark(release), written)

    def _stream(self, request: Request) -> Response:
        watched = self._watched(request)
        release = watched.watch.release.id

        def written(mark: str) -> str:
            found = recorded.comparison(self.journal, watched.watch, _asked(request))
            verdict = None if found is None else _verdict(found, *_asked(request))
            if found is None or verdict is None:
                raise HTTPException(404, f"{release} has no such stream")
            pictures = [_image(found, kind, mark, verdict) for kind in _kinds(found, verdict)]
            return release_page.stream_page(found.explained_of(verdict), verdict, pictures, _address(release))

        return _page(request, self.journal.mark(release), written)

    def _chart(self, request: Request) -> Response:
        watched, kind = self._watched(request), request.path_params["kind"]
        if kind not in get_args(Chart):
            raise HTTPException(404, f"there is no picture {kind!r}; there is: {', '.join(get_args(Chart))}")
        svg = self.charts.drawn(self.journal, watched.watch, kind, _asked(request))
        if svg is None:
            raise HTTPException(404, "there is nothing to draw")
        return Response(svg, media_type="image/svg+xml", headers=_HEADERS | {"Cache-Control": "max-age=3600"})

    def _watched(self, request: Request) -> Watched:
        release = request.path_params["release"]
        found = self.journal.watched(release)
        if found is None:
            raise HTTPException(404, f"there is no release {release[:200]!r}; GET / lists all")
        return found

    def _every(self) -> float:
        least, most = EVERY
        return min(max(self.installation.block / 3, least), most)


def _page(request: Request, mark: str, written: Callable[[str], str]) -> Response:
    """Return a page, or that nothing changed since it was asked for last; `written` is given its mark."""
    tag = hashlib.sha256(f"{__version__} {mark} {request.url.query}".encode()).hexdigest()[:16]
    headers = {**_HEADERS, "ETag": f'"{tag}"'}
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(redacted(written(tag)), headers=headers)


def _entry(listed: Listed) -> Entry:
    over = listed.ended_at is not None
    at = listed.ended_at if over else listed.looked_at
    stands = listed.status if over else listed.phase or "waiting for the first look"
    reason = listed.reason or listed.end_reason or ""
    place, _, name = listed.release.rpartition("/")
    return Entry(name, place, _address(listed.release), listed.outcome, reason, stands, "" if at is None else stamp(at))


def _worst_first(listed: Listed) -> int:
    return len(Outcome) if listed.outcome is None else list(Outcome).index(listed.outcome)


def _address(release: str) -> str:
    return f"/releases/{quote(release)}"


def _stream(release: str, verdict: Verdict) -> str:
    return f"/streams/{quote(release)}?{_query(verdict)}"


def _query(verdict: Verdict) -> str:
    return urlencode([("rule", verdict.rule), *(("label", f"{name}={value}") for name, value in verdict.labels)])


def _asked(request: Request) -> tuple[str, Labels]:
    """Return the rule and the labels that a request names."""
    pairs = (each.partition("=") for each in request.query_params.getlist("label"))
    return request.query_params.get("rule", ""), labels({name: value for name, _, value in pairs})


def _verdict(found: Comparison, rule: str, own: Labels) -> Verdict | None:
    return next((each for each in found.findings.streams if (each.rule, each.labels) == (rule, own)), None)


def _kinds(found: Comparison, verdict: Verdict) -> list[Chart]:
    """Return what there is to see of a stream."""
    rule = found.findings.rule(verdict.rule)
    if rule is None or verdict.dormant:
        return []
    slower = rule.kind is Kind.LATENCY and verdict.quantiles
    return ["effect", "arms", *(("shift",) if slower else ())]


def _drawn(found: Comparison, mark: str) -> Iterator[Drawn]:
    for verdict in found.findings.streams[:MOST_DRAWN]:
        kinds = _kinds(found, verdict)
        if kinds:
            yield Drawn(verdict, tuple(_image(found, kind, mark, verdict) for kind in kinds))


_IMAGE = ENVIRONMENT.from_string(
    '<img src="{{ source }}" alt="{{ said }}" loading="lazy"{% if size %} width="{{ size[0] }}" height="{{ size[1] }}"'
    "{% endif %}>"
)


def _image(found: Comparison, kind: Chart, mark: str, verdict: Verdict | None = None) -> str:
    """Return a picture that is fetched when it comes into view; `mark` tells it from what it was before."""
    release = quote(found.findings.watch.release.id)
    about = "" if verdict is None else f"{explanation.subject(found.findings, verdict)}: "
    query = urlencode({"at": mark}) if verdict is None else f"{_query(verdict)}&{urlencode({'at': mark})}"
    source = f"/charts/{kind}/{release}?{query}"
    size = tuple(round(96 * inches) for inches in _INCHES.get(kind, ()))
    return _IMAGE.render(source=source, said=about + SHOWS[kind], size=size)

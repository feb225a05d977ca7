"""The page as people meet it: in a real Chromium, every view, light and dark, wide and narrow, with keys alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests import showroom
from tests.servers import browser as chromium
from tests.servers.conftest import Say, require
from tests.servers.shop import free_port
from watcher import recorded
from watcher.journal import Journal
from watcher.oneoff import report
from watcher.server import serving

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("browser")]

STREAMS = 500
MOST_BYTES = 300_000
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}

expect.set_options(timeout=60_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    require(chromium.missing())
    with chromium.running() as browser:
        yield browser


@dataclass
class Shown:
    """An installation that is served: where, its journal, and the release on it that broke."""

    url: str
    journal: Journal
    bad: str
    served: ExitStack


@contextmanager
def shown(folder: Path, past: int, features: int) -> Iterator[Shown]:
    port = free_port()
    installation = showroom.installed(folder, port)
    with Journal.open(installation.journal) as journal, ExitStack() as served:
        bad = showroom.furnish(journal, past, features)
        served.enter_context(serving(installation, journal, lambda: showroom.NOW))
        yield Shown(f"http://127.0.0.1:{port}", journal, bad, served)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with shown(tmp_path_factory.mktemp("shown"), past=60, features=2) as here:
        yield here


@contextmanager
def opened(browser: Browser, url: str, **given: object) -> Iterator[Page]:
    """Open a page that must not complain, and ask nobody but whoever served it."""
    context = browser.new_context(**given)  # type: ignore[arg-type]
    context.set_default_timeout(120_000)
    page, wrong = context.new_page(), list[str]()
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda asked: wrong.append(f"{asked.url}: {asked.failure}"))
    page.on("request", lambda asked: None if _near(asked.url, url) else wrong.append(f"asked {asked.url}"))
    try:
        page.goto(url, wait_until="load")
        yield page
        assert wrong == []
    finally:
        context.close()


def _near(asked: str, url: str) -> bool:
    return asked.startswith("data:") or asked.split("/")[:3] == url.split("/")[:3]


def look_over(page: Page) -> None:
    """Open what is folded, bring every picture into view, and look for what keeps people out."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
    for picture in page.query_selector_all("img"):
        picture.scroll_into_view_if_needed()
    drawn = "[...document.images].every((each) => each.complete && each.naturalWidth > 0)"
    until = time.monotonic() + 240.0
    while not page.evaluate(drawn):
        assert time.monotonic() < until, "pictures are missing"
        page.wait_for_timeout(100)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it must be scrolled sideways"


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_every_view_is_open_to_everybody(browser: Browser, here: Shown, colours: str, size: dict[str, int]) -> None:
    views = ["/", "/?q=feature", "/?q=nothing-like-that", f"/releases/{here.bad}"]
    views += ["/releases/shop/production/gift-cards@7", "/releases/shop/production/search@2.4"]
    views += [f"/streams/{here.bad}?rule=page-load&label=region%3Deu"]
    for view in views:
        with opened(browser, here.url + view, color_scheme=colours, viewport=size) as page:
            look_over(page)
            assert page.locator("h1").count() == 1


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_page_in_a_file_is_the_same_and_needs_nobody(
    browser: Browser, here: Shown, tmp_path: Path, colours: str
) -> None:
    watched = here.journal.watched(here.bad)
    assert watched is not None
    found = recorded.comparison(here.journal, watched.watch)
    assert found is not None
    path = tmp_path / "release.html"
    path.write_text(report.report(found, recorded.beside(here.journal, watched, found.look)), encoding="utf-8")
    assert path.stat().st_size < 2_000_000
    with opened(browser, path.as_uri(), color_scheme=colours, viewport=WIDE) as page:
        look_over(page)
        alone = page.locator("h2").all_inner_texts()
    with opened(browser, f"{here.url}/releases/{here.bad}", viewport=WIDE) as page:
        assert page.locator("h2").all_inner_texts() == alone


def test_what_changes_is_shown_without_a_reload_and_what_was_opened_stays_open(
    browser: Browser, tmp_path: Path
) -> None:
    with (
        shown(tmp_path, past=0, features=2) as here,
        opened(browser, f"{here.url}/releases/{here.bad}", viewport=WIDE) as page,
    ):
        page.evaluate("window.mine = true")
        folded = page.locator("details#more-1")
        folded.locator("summary").click()
        link = page.locator("a[href*='page-load']").first
        link.focus()
        here.journal.audit(showroom.NOW, here.bad, "accepted", {"rule": "errors", "by": "ann", "reason": "known"})
        expect(page.get_by_text("accepted: errors by ann: known")).to_be_visible()
        assert page.evaluate("window.mine"), "it was not loaded anew"
        assert folded.evaluate("(each) => each.open")
        assert link.evaluate("(each) => each === document.activeElement")


def test_a_page_whose_watcher_is_gone_says_that_it_is_old(browser: Browser, tmp_path: Path) -> None:
    with shown(tmp_path, past=0, features=2) as here:
        context = browser.new_context()
        page = context.new_page()
        page.goto(f"{here.url}/releases/{here.bad}")
        here.served.close()
        expect(page.get_by_role("status")).to_contain_text("Not up to date")
        expect(page.locator("#answer")).to_contain_text("REGRESSED")
        context.close()


def test_keys_alone_reach_everything(browser: Browser, here: Shown) -> None:
    with opened(browser, f"{here.url}/releases/{here.bad}", viewport=NARROW) as page:
        reached = set()
        for _ in range(60):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.outerHTML.slice(0, 90)"))
        for wanted in ("All releases", 'aria-label="Every rule"', "/streams/", "<summary>"):
            assert any(wanted in each for each in reached), wanted
        summary = page.locator("details#more-1 summary")
        summary.focus()
        page.keyboard.press("Enter")
        assert page.locator("details#more-1").evaluate("(each) => each.open")


def test_without_scripts_there_is_everything_but_news(browser: Browser, here: Shown) -> None:
    with opened(browser, f"{here.url}/releases/{here.bad}", java_script_enabled=False) as page:
        assert page.locator("h2").count() >= 6
        page.locator("img").first.scroll_into_view_if_needed()


def test_hundreds_of_streams_and_a_thousand_releases_stay_light(browser: Browser, tmp_path: Path, say: Say) -> None:
    with shown(tmp_path, past=1000, features=STREAMS // 9) as here:
        for name, path in (("a thousand releases", "/"), (f"{STREAMS} streams", f"/releases/{here.bad}")):
            with opened(browser, here.url + path, viewport=WIDE) as page:
                page.wait_for_load_state("networkidle")
                sizes = page.evaluate(
                    "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
                    ".map((each) => each.transferSize)"
                )
                say(f"page of {name}: {sum(sizes) / 1000:.0f} kB in {len(sizes)} requests at first view")
                assert sum(sizes) < MOST_BYTES
                assert len(sizes) < 8, "pictures wait until they come into view"
        with opened(browser, f"{here.url}/releases/{here.bad}", viewport=WIDE) as page:
            assert page.locator("tr").count() > STREAMS - 10
            look_over(page)

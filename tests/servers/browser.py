"""A real browser: Debian's Chromium, without a window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright


def missing() -> str | None:
    """Return why there is no browser here, if there is none."""
    return None if shutil.which("chromium") else "chromium is missing: make servers, as root"


@contextmanager
def running() -> Iterator[Browser]:
    """Start one, and end it."""
    with sync_playwright() as playwright:
        # Its sandbox needs rights that a container does not give; it opens nothing here but what the tests serve.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()

"""Chromium for the tests of the page, driven by Playwright: Playwright's own one, or the system's."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, Playwright, sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")


def chromium_path(playwright: Playwright) -> str | None:
    """Return where a Chromium is, None where there is none."""
    own = playwright.chromium.executable_path
    return own if Path(own).exists() else next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser | None]:
    """Start one, or yield None where there is none. While it runs, its thread can run no other event loop."""
    with sync_playwright() as playwright:
        path = chromium_path(playwright)
        if path is None:
            yield None
            return
        browser = playwright.chromium.launch(executable_path=path)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Watched:
    """Pages, and what must not happen on them: errors on the console, requests elsewhere, dialogs."""

    browser: Browser
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)

    def open(self, url: str, **options: Any) -> Page:
        context = self.browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
        page = context.new_page()
        page.set_default_timeout(60_000)  # a machine full of other work is no fault
        page.on(
            "console",
            lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: self.requests.append(request.url))
        page.goto(url)
        return page


def classify(page: Page, text: str) -> None:
    page.get_by_label("A line, a paragraph").fill(text)
    page.get_by_role("button", name="Classify", exact=True).click()


def classify_rows(page: Page, rows: str) -> None:
    page.get_by_label("Or paste rows").fill(rows)
    page.get_by_role("button", name="Classify all").click()

"""A real browser for tests of pages: Debian's Chromium, driven by Playwright, that opens files from disk."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium; the test is skipped where there is none, unless COLIGN_BROWSER says that there must be."""
    required = os.environ.get("COLIGN_BROWSER")
    path = shutil.which(required or "chromium")
    if path is None:
        assert not required, f"COLIGN_BROWSER is {required}, and there is no such program"
        pytest.skip("needs chromium (Debian's package); set COLIGN_BROWSER to another")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield opened
        opened.close()


class Opened:
    """A page opened from disk that remembers what it asked for and what went wrong."""

    def __init__(self, browser: Browser, folder: Path, **context: Any) -> None:
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **context})
        self.page: Page = self.context.new_page()
        self.index = (folder / "index.html").as_uri()
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: said.type == "error" and self.errors.append(said.text))

    def show(self, **state: Any) -> Page:
        """Open a view by its link, and wait until it is drawn."""
        link = "&".join(f"{name}={value}" for name, value in state.items())
        self.page.goto("about:blank")
        self.page.goto(f"{self.index}#{link}")
        return self.drawn()

    def drawn(self) -> Page:
        """The page once what its address says is drawn."""
        self.page.wait_for_function(
            "document.documentElement.dataset.drawn === (location.hash || '#')"
            " && !document.querySelector('[aria-busy]')"
        )
        return self.page

    def rows(self, caption: str) -> list[list[str]]:
        """Text of the cells of a table, by the beginning of its caption."""
        table = self.page.locator("table", has=self.page.locator("caption", has_text=caption)).first
        return table.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.children].map(cell => cell.textContent.trim()))"
        )

    def close(self) -> None:
        self.context.close()

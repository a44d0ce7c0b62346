"""Headless Chromium on the portal: whatever goes wrong in a page fails the test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, TimeoutError, sync_playwright

PAGES = ("overview", "models", "contributors", "privacy", "ledger", "institutions")
SCREENSHOTS = Path(__file__).parents[2] / "build" / "screenshots"
PATIENCE_MS = 60_000
TALLEST = 6000
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
_DONE = "[data-testid=stApp][data-test-script-state=notRunning]"
_CHART = "[data-testid=stVegaLiteChart]"
_TROUBLE = "[data-testid=stException], [data-testid=stAlert], .mp-notice.mp-bad"


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; without one the test is skipped, and says so."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine: `make chromium`, or install Debian's `chromium`")
    # A browser asks for proxies and its own settings in the environment: none is ours.
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_OPTIONS, env=kept)
        yield browser
        browser.close()


@dataclass
class Visitor:
    """One person at one screen. ``complaints`` is all that a browser's console would show."""

    page: Page
    site: str
    mode: str
    complaints: list[str]

    def open(self, path: str, name: str | None = None, *, calm: bool = True) -> None:
        """Opens a page and looks at it as a whole; with a name, keeps a screenshot."""
        self.page.goto(f"{self.site}/{path}")
        self.settled()
        if calm:
            assert not self.page.query_selector_all(_TROUBLE), self.page.inner_text("body")
        self.fits()
        if name:
            self.screenshot(name)
        assert not self.complaints, self.complaints

    def settled(self) -> None:
        """Waits until the page is drawn."""
        try:
            self.page.wait_for_selector("h1:visible", timeout=PATIENCE_MS)
            self.page.wait_for_selector(_DONE, timeout=PATIENCE_MS)
        except TimeoutError:
            self.screenshot("stuck")
            pytest.fail(f"{self.page.url} is not drawn: {self.page.inner_text('body')!r}, "
                        f"{self.complaints}")  # fmt: skip

    def drawn(self) -> None:
        """Waits until a chart is there, if the page has any."""
        if self.page.query_selector(_CHART):
            self.page.wait_for_selector(f"{_CHART} canvas, {_CHART} svg", timeout=PATIENCE_MS)

    def fits(self) -> None:
        """Nothing is wider than the screen."""
        wide = self.page.evaluate(
            "[document.documentElement, ...document.querySelectorAll('[data-testid=stMain]')]"
            ".some(e => e.scrollWidth > e.clientWidth)"
        )
        assert not wide, f"{self.page.url} scrolls sideways at {self.mode}"

    def says(self, text: str) -> None:
        """Waits until a text is there to be seen."""
        self.page.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)

    def screenshot(self, name: str) -> None:
        """Keeps the whole page as a picture."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        size = self.page.viewport_size
        assert size is not None
        tall = "document.querySelector('[data-testid=stMain]')?.scrollHeight ?? 0"
        height = min(TALLEST, max(size["height"], self.page.evaluate(tall)))
        self.page.set_viewport_size({"width": size["width"], "height": height})
        self.drawn()
        self.page.screenshot(path=SCREENSHOTS / f"{name}-{self.mode}.png", animations="disabled")
        self.page.set_viewport_size(size)


@contextmanager
def visitor(
    browser: Browser, site: str, width: int = 1280, scheme: str = "light"
) -> Iterator[Visitor]:
    """Somebody with a browser of their own: nothing is shared with another visitor."""
    height = 900 if width > 600 else 844
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    one = Visitor(page, site, f"{width}-{scheme}", [])
    page.on("console", lambda m: one.complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: one.complaints.append(str(error)))
    ours = (site, site.replace("http", "ws", 1), "data:", "blob:")
    page.on("request", lambda r: None if r.url.startswith(ours) else one.complaints.append(r.url))
    page.on("websocket", lambda w: None if w.url.startswith(ours) else one.complaints.append(w.url))
    try:
        yield one
    finally:
        context.close()

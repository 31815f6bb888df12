"""A real browser for tests of pages: Debian's chromium, headless, driven by playwright.

Each tab has a profile of its own and keeps a record of what the page asked for and complained
of. Where there is no browser the tests are skipped, but fail where M2HF_REQUIRE_CHROMIUM is 1.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

REQUIRED = "M2HF_REQUIRE_CHROMIUM"
DESKTOP, PHONE = (1280, 900), (360, 740)  # CSS pixels
LIMIT_MS = 60_000  # for what takes less than a second where the machine is idle
# It asks nobody anything by itself, so that what is asked for is the page's doing.
_QUIET = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass(eq=False)
class Tab:
    """An open page. requests: every URL that it asked for, but those with their data inside;
    complaints: errors and warnings on its console, and errors of its scripts."""

    page: "Page"
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window."""
        script = "document.scrollingElement.scrollWidth - window.innerWidth"
        return max(0, int(self.page.evaluate(script)))

    def focused(self) -> str:
        """What has the keyboard: its tag, and its id or class."""
        script = (
            "e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : e.className && '.' + e.className)"
        )
        return str(self.page.evaluate(f"({script})(document.activeElement)"))


@contextmanager
def chromium() -> "Iterator[Browser]":
    """The browser; skips or fails the test where there is none."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        _absent("playwright is not installed: pip install 'm2hf[dev]'")
    executable = shutil.which("chromium")
    if executable is None:
        _absent("no chromium on this machine: apt-get install chromium")
    with sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=executable,
            args=_QUIET,
            chromium_sandbox=os.geteuid() != 0,  # which root can't have
            timeout=LIMIT_MS,
        )
        with opened:
            yield opened


@contextmanager
def tab(browser: "Browser", size: tuple[int, int] = DESKTOP, dark: bool = False) -> Iterator[Tab]:
    """A new tab of `size` CSS pixels, in the light or the dark scheme."""
    width, height = size
    scheme = "dark" if dark else "light"
    with browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme
    ) as context:
        context.set_default_timeout(LIMIT_MS)
        opened = Tab(context.new_page())
        page = opened.page
        page.on("request", lambda asked: _note(opened.requests, asked.url))
        page.on("console", lambda said: _complain(opened, said.type, said.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        yield opened


def _note(requests: list[str], url: str) -> None:
    if not url.startswith(("data:", "blob:")):
        requests.append(url)


def _complain(opened: Tab, kind: str, text: str) -> None:
    if kind in ("error", "warning"):
        opened.complaints.append(f"{kind}: {text}")


def _absent(why: str) -> NoReturn:
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{why} ({REQUIRED} is 1)")
    pytest.skip(why)

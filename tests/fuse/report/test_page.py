"""A report in a real browser: no requests, opens fast with 1,000 queries, fits a phone, works by
keyboard."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from chromium import DESKTOP, PHONE, tab
from seen_run import SCENES, SeenRun

from m2hf.fuse.report.page import page
from m2hf.fuse.report.source import ReportSource

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MANY, FEW = 1000, 70
LIMIT_S = 20  # under 3 s on an idle machine
LIMIT_MB = 12  # of which 3 are thumbnails


def written(folder: Path, queries: int, odd: bool = False) -> Path:
    """odd: an id, a caption and strings without a line break, and a caption with a script."""
    names = [f"video{i:04d}" for i in range(queries)]
    captions = [f"{SCENES[i % 3]}, take {i}" for i in range(queries)]
    if odd:
        names[0], captions[0] = "W" * 300, "M" * 500
        captions[1] = "<script>document.title = 'owned'</script><img src=x onerror=alert(1)>"
    run = SeenRun(folder, names, captions, read="W" * 90 if odd else "OPEN")
    path = run.run / "report.html"
    path.write_text(
        page(ReportSource.open(run.manifest, run.store, run.run, None)), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("seen"), FEW, odd=True)


def test_it_opens_fast_at_a_thousand_queries(browser: "Browser", tmp_path: Path) -> None:
    report = written(tmp_path, MANY)
    assert report.stat().st_size < LIMIT_MB * 1e6
    with tab(browser) as opened:
        began = time.monotonic()
        opened.page.goto(report.as_uri())
        opened.page.locator("#q1 .truth").scroll_into_view_if_needed()
        assert time.monotonic() - began < LIMIT_S
        began = time.monotonic()
        opened.page.keyboard.press("Tab")  # makes the browser look for focusable elements
        assert time.monotonic() - began < LIMIT_S
        assert opened.page.locator("details.card").count() == MANY
        assert opened.page.locator("details.card[open]").count() == 50
        assert (opened.requests, opened.complaints) == ([report.as_uri()], [])


@pytest.mark.parametrize(("size", "dark"), [(DESKTOP, False), (PHONE, True)])
def test_it_makes_no_requests_and_fits(
    browser: "Browser", report: Path, size: tuple[int, int], dark: bool
) -> None:
    with tab(browser, size, dark) as opened:
        opened.page.goto(report.as_uri())
        thumbnail = "getComputedStyle(document.querySelector('.thumb')).backgroundImage"
        assert opened.page.evaluate(thumbnail).startswith('url("data:image/jpeg;base64,')
        opened.page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        assert opened.overflow() == 0
        assert opened.page.title() == "Report: seen test"
        back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert back == ("rgb(22, 24, 27)" if dark else "rgb(255, 255, 255)")
        assert (opened.requests, opened.complaints) == ([report.as_uri()], [])


def test_the_keyboard_reaches_everything(browser: "Browser", report: Path) -> None:
    with tab(browser) as opened:
        keys = opened.page.keyboard
        opened.page.goto(report.as_uri())
        keys.press("Tab")
        assert opened.focused() == "a.skip"
        keys.press("Enter")  # to the queries
        assert opened.focused() == "h2#queries"
        keys.press("Tab")
        assert opened.focused() == "input#filter"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert opened.page.evaluate(outline) == "solid"
        keys.type("nobody said")
        opened.page.locator("#found", has_text=f"0 of {FEW} queries").wait_for()
        opened.page.locator("#filter").fill("NOODLES,  take 67")
        opened.page.locator("#found", has_text=f"1 of {FEW} queries").wait_for()
        shown = opened.page.locator("details.card:visible")
        assert shown.count() == 1
        assert shown.locator("h3").inner_text().endswith("two people cook noodles, take 67")
        keys.press("Tab")
        assert opened.focused() == "summary"
        assert not shown.locator(".truth").is_visible()  # only the worst are open
        keys.press("Enter")
        assert "✔ ground truth" in shown.locator(".truth").inner_text()
        keys.press("Tab")
        assert opened.focused() == "summary"
        keys.press("Enter")
        whole = shown.locator(".tile details[open] > p")
        assert whole.count() == 1
        assert "W" * 90 in whole.inner_text()
        opened.page.locator("#filter").fill("")
        opened.page.locator("details.card").nth(1).wait_for()
        assert opened.complaints == []


def test_without_script_only_the_filter_is_missing(browser: "Browser", report: Path) -> None:
    text = report.read_text(encoding="utf-8").replace('"use strict";', '"use strict"; alert(1);')
    changed = report.with_name("changed.html")  # its script doesn't match the digest in the policy
    changed.write_text(text, encoding="utf-8")
    with tab(browser) as opened:
        opened.page.goto(changed.as_uri())
        assert any("Content Security Policy" in said for said in opened.complaints)
        assert not opened.page.locator("#filter").is_visible()
        assert opened.page.locator("details.card").first.is_visible()

"""The browser that tests of pages look with: it sees what a page asks for, and what goes wrong."""

from pathlib import Path
from typing import TYPE_CHECKING

from chromium import PHONE, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def test_a_tab_records_requests_complaints_and_overflow(browser: "Browser", tmp_path: Path) -> None:
    good, bad = tmp_path / "good.html", tmp_path / "bad.html"
    good.write_text("<!doctype html><title>x</title><button id=b>x</button>", encoding="utf-8")
    bad.write_text(
        "<!doctype html><img src=absent.png><p style='width: 500px'>x</p>"
        "<script>throw Error('wrong')</script>",
        encoding="utf-8",
    )
    with tab(browser) as opened:
        opened.page.goto(good.as_uri())
        opened.page.keyboard.press("Tab")
        assert opened.focused() == "button#b"
        assert (opened.requests, opened.complaints) == ([good.as_uri()], [])
        assert opened.overflow() == 0
    with tab(browser, PHONE, dark=True) as opened:
        opened.page.goto(bad.as_uri())
        assert opened.requests == [bad.as_uri(), (tmp_path / "absent.png").as_uri()]
        assert any("wrong" in said for said in opened.complaints)
        assert opened.overflow() > 100
        assert opened.page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")

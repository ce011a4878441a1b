"""The pictures of the coder's page in docs/: light, dark, narrow, with the search open, and its paper.

    python -m benchmarks.review_pictures

The embedded model codes the example notes as `generate --html` does; then decisions are made as a coder makes them.

Read next: tests/browser.py.
"""

import os
import sys
import tempfile
from pathlib import Path

from minscl import generate
from tests.browser import CHROMIUM, EXAMPLES, FLAGS, CoderPage, missing

DOCS = Path(__file__).parent.parent / "docs"
NOTES = ("note.txt", "diabetes_epilepsy.txt", "urinary_coronary.txt")


REJECTED = ("N18.6",)  # the note says "kidney disease", no stage


def decide(page: CoderPage) -> None:
    """Reject what the note does not say, add what it says with words selected in it."""
    page.set_reviewer()
    page.wait("app.search")
    for code in REJECTED:
        if code in page.codes():
            page.look_at(code)
            page.press("r")
    add(page, "I11.0", "uncontrolled hypertension")
    page.press("p", "1")
    page.select("Congestive heart failure")
    page.press("e")
    page.look_at("I34.0")
    page.press("a", "1")


def add(page: CoderPage, code: str, words: str) -> None:
    """Add `code`, with `words` of the note as its evidence."""
    page.select(words)
    page.press("/", *code, "Enter")
    page.wait("!document.querySelector('dialog')")


def take_pictures(browser, address: str) -> None:
    """Write docs/review_*.png and review_print.png, the first sheet as it is printed."""
    page = CoderPage(browser.new_context(offline=True, viewport={"width": 1280, "height": 760}), address)
    decide(page)
    page.select("mild-to-moderate mitral regurgitation")
    page.press("/")
    page.tab.screenshot(path=DOCS / "review_search.png")
    page.press("Escape")
    page.wait("!document.querySelector('dialog')")
    page.look_at("I11.0")
    page.tab.mouse.move(640, 5)
    page.tab.screenshot(path=DOCS / "review_light.png")
    page.tab.emulate_media(color_scheme="dark")
    page.tab.screenshot(path=DOCS / "review_dark.png")
    page.tab.emulate_media(color_scheme="light")
    page.tab.set_viewport_size({"width": 360, "height": 740})
    page.press("v")
    page.tab.screenshot(path=DOCS / "review_narrow.png")
    page.tab.emulate_media(media="print")
    page.tab.set_viewport_size({"width": 680, "height": 960})  # A4 less its margins
    page.tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.tab.locator("#print .sheet").screenshot(path=DOCS / "review_print.png")
    if page.complaints or page.outside_requests():
        raise SystemExit(f"the browser complains: {page.complaints} {page.outside_requests()}")


def main() -> None:
    """Code the examples and take the pictures."""
    if wanted := missing():
        sys.exit(f"benchmarks.review_pictures: {wanted}: not installed")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        path = Path(folder) / "page.html"
        os.chdir(EXAMPLES)  # a note's id is its path
        generate.main([*NOTES, "--html", str(path)])
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        take_pictures(browser, path.as_uri())
        browser.close()


if __name__ == "__main__":
    main()

"""Times of the coder's page in headless Chromium: opening a long note and many notes, scrolling, deciding, searching.

    python -m benchmarks.review [--write]

A page counts as shown in the frame after its first line of the note and its first card are there, from the start of the
navigation. A key of the search counts from the input event until the list of codes is laid out.

Read next: tests/browser.py; minscl/page/static/main.js.
"""

import argparse
import random
import tempfile
from pathlib import Path

from benchmarks.report import provenance, write_section
from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.page import page_html
from tests.browser import CHROMIUM, FLAGS, CoderPage, code_document, missing

WORDS, QUOTATIONS, NOTES = 50_000, 200, 500
QUERIES = (
    "heart failure with preserved ejection fraction",
    "fracture of left femur",
    "e11.65",
    "copd",
    "diabetis foot",
)
# Before the page's own scripts: when its first line and card have been drawn.
SHOWN = """
const look = () => {
  const isThere = document.querySelector("#note .line") && document.querySelector("#codes article, #no-codes");
  requestAnimationFrame(isThere ? () => setTimeout(() => { window.shownAt = performance.now(); }) : look);
};
look();
"""
SEARCH = """async (queries) => {
  const [input, times] = [document.querySelector("dialog input"), []];
  for (const query of queries) {
    for (let length = 1; length <= query.length; length += 1) {
      await new Promise(requestAnimationFrame);
      input.value = query.slice(0, length);
      const began = performance.now();
      input.dispatchEvent(new InputEvent("input"));
      document.querySelector("dialog").getBoundingClientRect(); // the list is laid out
      times.push(performance.now() - began);
    }
  }
  return times;
}"""
SCROLL = """async () => {
  const [pane, times] = [document.getElementById("note-pane"), []];
  let before = await new Promise(requestAnimationFrame);
  for (let place = 0; place < pane.scrollHeight; place += 600) {
    pane.scrollTop = place;
    const now = await new Promise(requestAnimationFrame);
    times.push(now - before);
    before = now;
  }
  return times;
}"""
STEPS = """async () => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (let index = 0; index < 60; index += 1) {
    await frame();
    const began = performance.now();
    run(["next", "accept", "reject", "undo"][index % 4]);
    await frame();
    times.push(performance.now() - began);
  }
  return times;
}"""


def long_note(book: CodeBook) -> CodedDocument:
    """WORDS words in lines of twelve, with QUOTATIONS quotations of a few words, five a code."""
    rng = random.Random(0)
    descriptions = " ".join(book.description(code) or "" for code in rng.sample(book.billable, WORDS // 5)).split()
    words = [f"{word}{number % 97}" if number % 5 == 0 else word for number, word in enumerate(descriptions[:WORDS])]
    text = "\n".join(" ".join(words[start : start + 12]) for start in range(0, len(words), 12))
    places = [text.index(" ", rng.randrange(len(text) - 200)) + 1 for _ in range(QUOTATIONS)]
    quotations = [text[place : text.index(" ", place + 20)] for place in places]
    codes = rng.sample(book.billable, QUOTATIONS // 5)
    return code_document(text, {code: quotations[place::40] for place, code in enumerate(codes)}, book, name="long")


def many_notes(book: CodeBook) -> list[CodedDocument]:
    """NOTES notes of 400 words, the first ones of the long note's text, with four codes each."""
    text = " ".join(long_note(book).text.split(" ")[:400])
    codes = {"I10": [text[10:40]], "E11.9": [text[90:120]], "J18.9": [text[200:230]], "R05.9": [text[300:330]]}
    first = code_document(text, codes, book, name="")
    return [CodedDocument(f"note-{number}", text, first.codes) for number in range(NOTES)]


def summary(times: list[float]) -> str:
    """Cells of a table: median, 95th percentile, slowest."""
    ordered = sorted(times)
    return " | ".join(f"{ordered[int(part * (len(ordered) - 1))]:.0f}" for part in (0.5, 0.95, 1))


def measure(browser, folder: Path, book: CodeBook) -> list[str]:
    """The rows of the table."""

    def open_page(documents: list[CodedDocument]) -> tuple[CoderPage, list[float]]:
        (folder / "page.html").write_text(page_html(documents, book))
        times = []
        for _ in range(3):
            context = browser.new_context(offline=True)
            context.add_init_script(SHOWN)
            page = CoderPage(context, (folder / "page.html").as_uri())
            page.wait("window.shownAt")
            times.append(page.tab.evaluate("() => shownAt"))
        page.wait("app.search")
        page.tab.evaluate("() => { app.reviewer = 'benchmark'; }")
        return page, times

    page, times = open_page([long_note(book)])
    rows = [f"| a note of {WORDS:,} words with {QUOTATIONS} quotations is shown | {summary(times)} |"]
    rows.append(f"| a frame while it is scrolled through | {summary(page.tab.evaluate(SCROLL))} |")
    rows.append(f"| next, accept, reject or undo in it, to the next frame | {summary(page.tab.evaluate(STEPS))} |")
    page.press("/")
    rows.append(f"| a key of the search, list laid out | {summary(page.tab.evaluate(SEARCH, QUERIES))} |")
    page, times = open_page(many_notes(book))
    rows.append(f"| a page of {NOTES} notes is shown | {summary(times)} |")
    return rows


def main() -> None:
    """Measure; with --write put the result into docs/benchmarks.md."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.review", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the section of docs/benchmarks.md")
    args = parser.parse_args()
    if wanted := missing():
        parser.exit(2, f"benchmarks.review: {wanted}: not installed\n")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        rows = measure(browser, Path(folder), CodeBook.load())
        section = [
            f"{provenance('playwright')}; Chromium {browser.version}",
            "",
            "| ms | median | 95% | slowest |",
            "|---|---|---|---|",
            *rows,
        ]
        browser.close()
    print("\n".join(section))
    if args.write:
        write_section("Review", section)


if __name__ == "__main__":
    main()

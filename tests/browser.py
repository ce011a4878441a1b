"""The coder's page in headless Chromium, for test_*_browser.py and the benchmarks: documents to review, a tab with what
a coder does in it, axe-core's accessibility rules.

conftest.py has the fixtures `browser` and `coder`. A test decides by keys and the mouse, and looks at what the page
shows; `state` reads what the page would write.
"""

import importlib.util
import shutil
from importlib import resources
from pathlib import Path

from minscl.data.checks import check_document
from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence

EXAMPLES = Path(__file__).parents[1] / "examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
REVIEWER = "Ann Coder"
# What a machine might have said of examples/note.txt: overlapping, denied and missing evidence, two codes that exclude
# each other, a heading instead of a code.
CODES = {
    "I11.0": ["Congestive heart failure", "uncontrolled hypertension"],
    "I50.9": ["heart failure", "preserved ejection fraction"],
    "I34.0": ["mild-to-moderate mitral regurgitation", "mitral regurgitation"],
    "R32": ["urinary incontinence"],
    "R07.9": ["chest pain"],
    "N39.41": ["urge incontinence"],
    "I10": ["history of hypertension"],
    "R60": ["Trace lower extremity edema"],
}
SCORES = (0.97, 0.91, 0.74, 0.66, 0.31, 0.12, 0.55, 0.4)


def missing() -> str:
    """What the tests in a browser want and this machine lacks; "" if nothing."""
    packages = [name for name in ("playwright", "axe_playwright_python") if importlib.util.find_spec(name) is None]
    return ", ".join([*packages, *([] if CHROMIUM else ["Chromium (Debian's package chromium)"])])


def code_document(text: str, codes: dict[str, list[str]], book: CodeBook, *, name: str) -> CodedDocument:
    """A coded document in which each quotation stands where the text has it first, checked as `generate` checks."""
    assignments = [
        Assignment(code, book.description(code) or "", tuple(quote(text, words) for words in quotations), score)
        for (code, quotations), score in zip(codes.items(), SCORES * len(codes), strict=False)
    ]
    return check_document(CodedDocument(name, text, tuple(assignments)), book)


def quote(text: str, words: str) -> Evidence:
    """`words` as evidence, where `text` has them first; without a place where it does not."""
    start = text.find(words)
    return Evidence(words, start, start + len(words), True) if start >= 0 else Evidence(words, None, None, False)


def example_documents(book: CodeBook) -> list[CodedDocument]:
    """The three example notes; the first has CODES, the second one code, the third none."""
    first, second, third = (EXAMPLES / name for name in ("note.txt", "diabetes_epilepsy.txt", "urinary_coronary.txt"))
    return [
        code_document(first.read_text(), CODES, book, name="note.txt"),
        code_document(second.read_text(), {"G40.909": ["epilepsy"]}, book, name=second.name),
        CodedDocument(third.name, third.read_text()),
    ]


# The first and last character of the words in the note, as rectangles on the screen.
FIND_WORDS = """words => {
  const walker = document.createTreeWalker(document.getElementById("note"), NodeFilter.SHOW_TEXT);
  const [places, all] = [[], []];
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    for (let index = 0; index < node.data.length; index += 1) places.push([node, index]);
    all.push(node.data);
  }
  const start = all.join("").indexOf(words);
  const boxOf = ([node, index]) => {
    const range = document.createRange();
    range.setStart(node, index);
    range.setEnd(node, index + 1);
    const { left, right, top, height } = range.getBoundingClientRect();
    return { left, right, middle: top + height / 2 };
  };
  places[start][0].parentElement.scrollIntoView({ block: "center" });
  return [places[start], places[start + words.length - 1]].map(boxOf);
}"""


# A page whose code set is still to come; it takes the browser seconds, and decisions do not need it.
NO_CODE_SET = """window.DecompressionStream = class {
  readable = new ReadableStream();
  writable = new WritableStream();
};"""


class CoderPage:
    """A tab with the coder's page, and a coder's hands. Playwright's page is `tab`."""

    def __init__(self, context, address: str):
        from playwright.sync_api import expect

        self.expect = expect
        self.tab = context.new_page()
        self.address = address.split("#")[0]
        self.requests: list[str] = []
        self.complaints: list[str] = []  # of the browser: errors, refused scripts and styles
        self.forgives = False  # what the browser complains about is part of the test
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.on("console", lambda message: self.complaints.append(message.text))
        self.tab.goto(address)

    def outside_requests(self) -> list[str]:
        """What was asked of anyone but the page's own server or file."""
        own = self.address.split("?")[0]
        own = own[: own.index("/", len("http://")) + 1] if own.startswith("http") else own
        return [url for url in self.requests if not url.startswith((own, "data:", "blob:"))]

    def wait(self, condition: str):
        """Wait until a JavaScript expression is true; the policy forbids Playwright's wait_for_function."""
        script = """async () => {
          const end = performance.now() + 30_000;
          while (!(%s)) {
            if (performance.now() > end) throw new Error("waited in vain");
            await new Promise((resolve) => setTimeout(resolve, 10));
          }
        }"""
        self.tab.evaluate(script % condition)

    def press(self, *keys: str):
        """Press keys, one after another, and wait for the next frame: what a closed dialog starts comes after it."""
        for key in keys:
            self.tab.keyboard.press(key)
        self.tab.evaluate("() => new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def name_reviewer(self):
        """Answer the question for the reviewer's name, and wait until it is gone."""
        self.tab.locator("dialog input").fill(REVIEWER)
        self.press("Enter")
        self.wait("!document.querySelector('dialog')")

    def set_reviewer(self):
        """Give the reviewer's name before anything is decided."""
        self.tab.locator("#reviewer").click()
        self.name_reviewer()

    def start_again(self):
        """The page as it was opened, without the second that its search takes to be built."""
        self.press("Escape")
        self.tab.emulate_media(media="screen", color_scheme="light")
        self.tab.set_viewport_size({"width": 1280, "height": 720})
        self.tab.evaluate("""() => {
          app.reviews.clear();
          showNote(0);
          showPane("note");
          say("");
          document.activeElement.blur();
        }""")

    def select(self, words: str):
        """Drag the mouse over `words` in the note."""
        first, last = self.tab.evaluate(FIND_WORDS, words)
        self.tab.mouse.move(first["left"] + 1, first["middle"])
        self.tab.mouse.down()
        self.tab.mouse.move(last["right"] - 1, last["middle"], steps=3)
        self.tab.mouse.up()

    def card(self, code: str):
        """The card of `code`, as Playwright's locator."""
        return self.tab.locator("#codes article", has=self.tab.locator("h3 .code", has_text=code)).first

    def look_at(self, code: str):
        """Click the card of `code`, which puts it in focus."""
        self.card(code).locator("h3").click()

    def codes(self) -> list[str]:
        """The codes in the list, from above."""
        return self.tab.locator("#codes h3 .code").all_inner_texts()

    def message(self) -> str:
        """What the page said last."""
        return self.tab.locator("#message").inner_text()

    @property
    def state(self) -> dict:
        """The shown note's state, as state.js has it."""
        return self.tab.evaluate("() => currentNote().review.state")

    def item(self, code: str) -> dict:
        """The code under review."""
        [item] = [item for item in self.state["codes"].values() if item["code"] == code]
        return item

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 A and AA and its best practices: rule and element."""
        script = (resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
        if not self.tab.evaluate("() => 'axe' in window"):
            self.tab.evaluate(script)
        result = self.tab.evaluate("() => axe.run(document, { resultTypes: ['violations'] })")
        return [
            f"{violation['id']}: {node['target']} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]

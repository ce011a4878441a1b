"""The coder's page in a real browser: what a note cannot do to it, and who can use it (axe-core's rules, contrast,
narrow screens, keyboard alone, long notes). Read test_page_browser.py first.
"""

import pytest

from minscl.data.icd import CodeBook
from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.page import page_html
from tests.browser import code_document

pytestmark = pytest.mark.browser

HOSTILE = (
    "</script><script>document.body.dataset.hacked = 1</script>\n"
    "<img src=x onerror='document.body.dataset.hacked = 1'> <svg onload=alert(1)> {{scripts}}\n"
    "pain\u202eniap\u202c zero\u200bwidth \u2066isolate\u2069 soft\u00adhyphen \ufeffmark bell\x07 \U0001f600 cough\n"
    "<!-- <script> --> &lt;b&gt; <a href='javascript:alert(1)'>here</a> </mark></div><style>*{display:none}</style>\n"
)


@pytest.fixture(scope="module")
def write_page(packed_code_set, tmp_path_factory):
    """write_page(documents) → address of a page with them."""

    def write(documents, **options) -> str:
        path = tmp_path_factory.mktemp("page") / "page.html"
        path.write_text(page_html(documents, CodeBook.load(), **options), "utf-8", "surrogatepass")
        return path.as_uri()

    return write


def test_a_hostile_note_stays_text(coder, write_page):
    """Guards markup in a note, its id, a description or a quotation that becomes markup; characters that turn the text
    round unseen; offsets that these shift."""
    evidence = tuple(
        Evidence(words, HOSTILE.index(words), HOSTILE.index(words) + len(words), True)
        for words in ("</script>", "\u202eniap\u202c", "cough", HOSTILE.split("\n")[1])
    )
    code = Assignment("R05.9", HOSTILE, evidence, 0.5, (HOSTILE,))
    page = coder(write_page([CodedDocument(HOSTILE, HOSTILE, (code,), warnings=(HOSTILE,))], about=HOSTILE))
    page.tab.on("dialog", lambda dialog: page.complaints.append("a dialog of the browser"))
    page.set_reviewer()
    text = page.tab.evaluate(
        "() => [...document.querySelectorAll('#note .line')].map((line) => line.textContent).join('')"
    )
    labels = page.tab.locator("#note .invisible-character").evaluate_all(
        "(boxes) => boxes.map((box) => [box.dataset.label, getComputedStyle(box, '::before').content])"
    )
    names = ["202E", "202C", "200B", "2066", "2069", "00AD", "FEFF", "0007"]
    assert labels == [[f"U+{name}", f'"U+{name}"'] for name in names]
    assert text == "".join(character for character in HOSTILE if f"{ord(character):04X}" not in names)
    assert page.item("R05.9")["evidence"][1]["start"] == HOSTILE.index("\u202e")
    page.select("cough")
    page.press("Delete", "e", "/", "Escape", "x", "Escape", "?", "Escape", "c", "Escape")
    page.tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    assert page.tab.evaluate("() => document.body.dataset.hacked ?? 'no'") == "no"
    assert page.tab.locator("img, svg, #note a, #note style, #codes a, #codes style, #print style").count() == 0
    shown = page.tab.locator("body").inner_text()
    assert not set(shown) & set("\u202e\u202c\u200b\u2066\u2069\ufeff\x07")
    assert page.tab.locator("#note .piece", has_text="cough").count() == 1


def test_the_policy_stops_what_would_get_in_all_the_same(coder, examples_page):
    """Guards a policy with a hole: a script, a handler or a request put into the page from inside acts."""
    page, refused = coder(examples_page[1], has_codes=False), []
    page.tab.on("requestfailed", lambda request: refused.append(request.failure))
    page.tab.evaluate("""async () => {
      const script = document.createElement("script");
      script.textContent = "document.body.dataset.hacked = 1";
      document.body.append(script);
      const frame = document.createElement("div");
      frame.innerHTML = "<img src='https://example.org/x.png' onerror='document.body.dataset.hacked = 1'>";
      document.body.append(frame);
      await fetch("https://example.org/").catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, 100));
    }""")
    assert page.tab.evaluate("() => document.body.dataset.hacked ?? 'no'") == "no"
    assert len(page.complaints) >= 3 and all("Content Security Policy" in text for text in page.complaints)
    assert len(page.outside_requests()) == len(refused) and set(refused) <= {"csp"}  # they never left the browser
    page.requests.clear()
    page.complaints.clear()


# The least contrast of text and its background, and its place; a background under a transparent one counts.
CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((value) => value / 255)
    .map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4))
    .reduce((sum, value, index) => sum + value * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (element) => {
    const [r, g, b, a = 1] = channels(getComputedStyle(element).backgroundColor);
    return a === 1 || !element.parentElement ? [r, g, b] : behind(element.parentElement);
  };
  let least = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (!hasText || !element.checkVisibility() || element.closest(":disabled, script, style, noscript")) continue;
    const [one, other] = [light(channels(getComputedStyle(element).color)), light(behind(element))];
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (ratio < least[0]) least = [ratio, `${element.className} ${element.textContent.slice(0, 40)}`];
  }
  return least;
}"""


@pytest.mark.parametrize(
    "scheme, width",
    [("light", 1280), *(pytest.param("dark", width, marks=pytest.mark.long) for width in (1280, 320))],
)
def test_accessibility(page, scheme, width):
    """Guards controls without a name and text that is too pale, with each dialog open: axe-core with all its rules, and
    the contrast of each text, where highlights lie on one another, too."""
    page.wait("app.search")
    page.press("j", "a", "j", "r", "j", "p", "j")  # R07.9: its category has other codes
    checked = {}

    def check(name):
        ratio, place = page.tab.evaluate(CONTRAST)
        checked[name] = page.violations() + ([] if ratio >= 4.5 else [f"contrast {ratio:.2f}: {place}"])

    page.tab.emulate_media(color_scheme=scheme)
    page.tab.set_viewport_size({"width": width, "height": 700})
    page.press("v")
    check("note")
    page.press("v")
    for title, keys in {"": [], "Add": ["/", *"diabetes"], "Change": ["c"], "Export": ["x"], "Keys": ["?"]}.items():
        page.press(*keys)
        assert page.tab.locator("h2:visible").last.inner_text().startswith(title), page.message()
        check(title or "codes")
        page.press("Escape")
    page.press("f")
    check("finish")
    page.press("Escape")
    assert {name: found for name, found in checked.items() if found} == {}


@pytest.mark.parametrize(
    "width, height",
    [(320, 568), pytest.param(640, 400, marks=pytest.mark.long), pytest.param(2560, 1300, marks=pytest.mark.long)],
)
def test_nothing_is_cut_off(page, width, height):
    """Guards a page that must be scrolled sideways on a narrow screen, or on one of 1,280 by 800 at a zoom of 200%, and
    buttons out of reach."""
    page.tab.set_viewport_size({"width": width, "height": height})
    for keys in ([], ["j"], ["v"], ["x"], ["Escape", "?"]):
        page.press(*keys)
        overflow = page.tab.evaluate("""() => [...document.querySelectorAll(
          "html, body, #bar, #note-pane, #code-pane, .card, dialog, .line")]
          .filter((element) => element.checkVisibility() && element.scrollWidth > element.clientWidth + 1)
          .map((element) => `${element.tagName}#${element.id}.${element.className} ${element.scrollWidth}`)""")
        assert overflow == [], keys
    page.press("Escape", "j", "a", "f")  # the most that the header says of a note
    page.tab.get_by_role("button", name="Finish it").click()
    page.tab.evaluate("() => showStatus('Kept in this browser; 12 decisions not downloaded', 0)")
    for button in page.tab.locator("#bar button:visible, #hints button:visible").all():
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= height
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2, 2.5.8


# What has the focus, and whether it or, for the note, its pane has an outline.
FOCUS = """() => {
  const { id, dataset, tagName } = document.activeElement;
  const frames = [document.activeElement, document.activeElement.closest("#note-pane")].filter(Boolean);
  const isSeen = frames.some((element) => getComputedStyle(element).outlineStyle !== "none");
  return [id || dataset.part || tagName, isSeen].join();
}"""


def test_the_keyboard_alone_does_everything(coder, examples_page):
    """Guards an act that wants a mouse: arrow keys select words, Tab reaches cards and quotations, and a closed dialog
    gives the focus back."""
    page = coder(examples_page[1], has_codes=False)
    page.press("a")
    page.name_reviewer()
    assert page.item("I11.0")["decision"] == "accepted"
    page.press("v", "ArrowRight", "Shift+ArrowRight", "e")
    added = [quotation for quotation in page.item("I11.0")["evidence"] if "grounded" not in quotation]
    assert len(added) == 1 and " " in added[0]["text"]
    page.press("v")
    assert page.tab.evaluate("() => document.activeElement.dataset.part") == "card"
    page.press("Tab")
    assert page.tab.evaluate("() => document.activeElement.dataset.part") == "quotation-0"
    page.press("Delete")
    page.press("?", "Escape")
    assert page.tab.evaluate("() => document.activeElement.closest('#codes') !== null")
    seen = set()
    page.tab.evaluate("() => document.activeElement.blur()")
    for _ in range(100):
        page.press("Tab")
        seen.add(page.tab.evaluate(FOCUS))
    assert {"documents,true", "reviewer,true", "to-export,true", "to-help,true", "note,true"} <= seen
    assert {"accept,true", "reject,true", "hint-search,true"} <= seen


@pytest.mark.long
def test_a_long_note_and_many_notes(coder, write_page):
    """Guards a page that builds everything at once, or loses its way in 50,000 words: the last quotation is found, and
    one of 500 notes is in the document. benchmarks/review.py has the times."""
    words = [f"word{number}" for number in range(50_000)]
    text = "\n".join(" ".join(words[start : start + 12]) for start in range(0, len(words), 12))
    quotations = [f"word{number} word{number + 1}" for number in range(120, 50_000, 252)]
    codes = {"I10": quotations[:100], "I50.9": quotations[100:]}
    book = CodeBook.load()
    long = code_document(text, codes, book, name="long")
    short = [CodedDocument(f"note-{number}", f"Note {number}: cough.") for number in range(499)]
    page = coder(write_page([long, *short]), has_codes=False)
    page.set_reviewer()
    page.look_at("I50.9")
    last = page.card("I50.9").locator(".quotation").last
    last.click()
    lit = page.tab.locator("#note .lit")
    assert lit.inner_text() == quotations[-1] and lit.is_visible()
    box = lit.bounding_box()
    assert 0 <= box["y"] < page.tab.viewport_size["height"]
    assert page.tab.locator("#note .line").count() == len(text.split("\n"))
    page.tab.locator("#document-filter").fill("note-321")
    page.tab.locator("#documents").select_option(label="323. note-321 – unfinished, 0 of 0 decided")
    assert page.tab.locator("#note").inner_text().strip() == "Note 321: cough."
    assert page.tab.locator("#note .line").count() == 1
    assert page.tab.evaluate("() => app.reviews.size") <= 3

"""The coder's page in a real browser: what is on the screen when one decides, note and codes on small windows, and what
a reload or a decision must not lose. Read test_page_browser.py first.
"""

import pytest

from minscl.data.icd import CodeBook
from minscl.data.types import CodedDocument
from minscl.page import page_html
from tests.browser import EXAMPLES, code_document

pytestmark = pytest.mark.browser

BIDI = "\u202e"
# Whether the element is in its pane and in the window.
IN_SIGHT = """(element) => {
  const pane = element.closest("section").getBoundingClientRect();
  const { top, bottom, height } = element.getBoundingClientRect();
  return height > 0 && top >= Math.max(0, pane.top) - 1 && bottom <= Math.min(innerHeight, pane.bottom) + 1;
}"""


def in_sight(locator) -> bool:
    """Whether the first of these elements can be seen without scrolling."""
    return locator.first.evaluate(IN_SIGHT)


def scroll(page, pane: str, share: float):
    """Scroll a pane to a share of the way down."""
    script = "(pane, share) => pane.scrollTo(0, share * (pane.scrollHeight - pane.clientHeight))"
    page.tab.locator(pane).evaluate(script, share)


@pytest.mark.parametrize("width, height", [(960, 470), (1280, 480), (683, 328), (320, 256)])
def test_low_windows_keep_note_codes_and_keys_in_reach(page, width, height):
    """Guards a zoomed page, a window of few lines, that is one long column: codes below the whole note, keys and
    messages out of sight."""
    page.tab.set_viewport_size({"width": width, "height": height})
    page.press("j", "a")
    assert page.item("I50.9")["decision"] == "accepted" and "I50.9" in page.message()
    for name in ("#message", "#hints button"):
        box = page.tab.locator(name).first.bounding_box()
        assert box["y"] >= 0 and box["y"] + box["height"] <= height
    assert page.tab.locator("#codes .current h3").bounding_box()["y"] < height - 60
    if width >= 900:  # both side by side
        note, codes = (page.tab.locator(name).bounding_box() for name in ("#note-pane", "#code-pane"))
        assert note["y"] == codes["y"] and codes["x"] >= note["x"] + note["width"] - 1
        assert note["height"] >= height - 80 and in_sight(page.tab.locator("#note .lit"))
    if height > 256:
        assert page.tab.evaluate("() => document.documentElement.scrollHeight <= innerHeight")


def test_note_and_codes_lead_to_each_other_where_one_is_shown(page):
    """Guards a narrow page that scrolls what it does not show: V, a click on a quotation or on marked words led to the
    top of the note, or nowhere."""
    page.tab.set_viewport_size({"width": 640, "height": 400})
    lit = page.tab.locator("#note .lit")
    page.press("j", "j", "j", "v")
    assert page.item("R32")["key"] == page.tab.evaluate("() => app.key") and in_sight(lit)
    page.press("v")
    scroll(page, "#code-pane", 0)
    page.card("I34.0").locator(".quotation").last.click()
    assert lit.all_inner_texts() == ["mitral regurgitation"] and in_sight(lit)
    assert page.tab.evaluate("() => document.activeElement.id") == "note"
    page.tab.locator("#note .piece", has_text="urinary incontinence").click()
    assert in_sight(page.card("R32").locator("h3"))
    assert page.tab.evaluate("() => document.activeElement.textContent") == "“urinary incontinence”"


def test_the_evidence_in_focus_is_scrolled_to_on_opening_and_on_every_click(page):
    """Guards lit evidence out of sight: at the start, and when one clicks a card or quotation that has the focus."""
    lit = page.tab.locator("#note .lit")
    assert in_sight(lit)
    for target in (page.card("I11.0").locator("h3"), page.card("I11.0").locator(".quotation").first):
        target.click()
        assert in_sight(lit)
        scroll(page, "#note-pane", 0)
        assert not in_sight(lit)
        target.click()
        assert in_sight(lit)


def test_buttons_and_other_keys_act_on_what_is_on_the_screen(page):
    """Guards Enter on a focused button that is scrolled away, and P and present on admission on a card out of sight."""
    page.card("I11.0").get_by_role("button", name="Accept").focus()
    scroll(page, "#code-pane", 1)
    page.tab.keyboard.down("Enter")
    page.press("Enter")  # repeats while it is held
    assert page.item("I11.0")["decision"] == "undecided" and "not on the screen" in page.message()
    page.press("Enter")  # the button kept the focus
    assert page.item("I11.0")["decision"] == "accepted"
    for key, name in (("p", "principal"), ("1", "poa")):
        page.look_at("I50.9")
        scroll(page, "#code-pane", 1)
        page.press(key)
        assert not page.item("I50.9")[name] and "not on the screen" in page.message()
        page.press(key)
        assert page.item("I50.9")[name]


def test_keys_that_change_a_code_show_it_first(page):
    """Guards evidence, order and decisions of a code that is scrolled away: E, Delete, Shift+J and K, redo, and an undo
    that accepts again; a key that is held goes no further than showing the card."""

    def press_off_screen(key):
        page.card("I11.0").locator(".quotation").first.evaluate("(element) => element.focus({ preventScroll: true })")
        if key == "e":
            page.select("chest pain")
        before = page.state
        scroll(page, "#code-pane", 1)
        page.press(key)
        assert page.state == before and "I11.0 was not on the screen" in page.message(), key
        assert in_sight(page.card("I11.0").locator("h3"))
        page.press(key)
        assert page.state != before, key

    for key in ("e", "Delete", "Shift+J", "Shift+K"):
        press_off_screen(key)
    page.press("a", "r", "u", "u")
    for key in ("Shift+U", "Control+y", "u"):
        press_off_screen(key)
    before = page.state
    scroll(page, "#code-pane", 1)
    for _ in range(3):
        page.tab.keyboard.down("Control")
        page.tab.keyboard.down("y")  # from the second on, repeats
    page.press("Shift")
    assert page.state == before
    page.tab.keyboard.up("y")
    page.tab.keyboard.up("Control")
    page.press("Shift+U")
    assert page.item("I11.0")["decision"] == "rejected"


def test_a_finished_note_opens_no_dialog_to_change_it(page):
    """Guards a coder who searches a code, and only then is told that the note is finished."""
    page.wait("app.search")
    page.press("f")
    page.tab.get_by_role("button", name="Finish it").click()
    page.wait("currentNote().review.state.finished")
    for key in ("/", "c", "e", "a", "Shift+J"):
        page.press("Escape", key)
        assert page.tab.locator("dialog").count() == 0
        if key != "e":
            assert "is finished" in page.message(), key


def test_a_card_taller_than_its_pane_shows_its_heading(page):
    """Guards a code accepted from the middle of its card, with code and description scrolled away."""
    page.tab.set_viewport_size({"width": 960, "height": 330})
    page.look_at("I11.0")
    heading = page.card("I11.0").locator("h3")
    page.card("I11.0").locator("summary").click()
    top = page.tab.locator("#code-pane").evaluate("(pane) => pane.querySelector('.card').offsetTop")
    page.tab.locator("#code-pane").evaluate("(pane, top) => pane.scrollTo(0, top)", top + 300)
    assert in_sight(heading)
    page.press("a")
    assert page.item("I11.0")["decision"] == "accepted"
    heading.evaluate("(heading) => { heading.parentElement.style.position = 'static'; }")
    page.tab.locator("#code-pane").evaluate("(pane, top) => pane.scrollTo(0, top)", top + 300)
    page.press("r")
    assert page.item("I11.0")["decision"] == "accepted" and in_sight(heading)


def test_unfolded_notes_stay_until_another_document_comes(page):
    """Guards notes of the Tabular List that fold at every decision."""
    page.wait("app.codeSet")
    notes = page.card("I11.0").locator("details")
    notes.locator("summary").click()
    for key in ("a", "u", "r"):
        page.press(key)
        assert notes.evaluate("(details) => details.open") and notes.locator("li").count() > 1
    page.press("n", "b")
    assert not notes.evaluate("(details) => details.open")


def test_next_goes_on_from_where_the_principal_diagnosis_was(page):
    """Guards a J after P that begins the list again, and a place that is remembered too long."""
    in_focus = page.tab.locator("#codes .current h3 .code")
    page.press("j", "j", "p", "j")
    assert page.codes()[0] == "I34.0" and in_focus.inner_text() == "R32"
    page.press("k", "p", "k")
    assert in_focus.inner_text() == "I11.0"  # which came before I50.9
    page.look_at("R32")
    page.press("p", "k")
    assert in_focus.inner_text() == "I34.0"
    page.look_at("R32")
    page.press("j")
    assert page.codes()[1] == in_focus.inner_text()


def test_finishing_asks_about_accepted_codes_that_are_not_valid(page):
    """Guards a finished note with a heading as a code that nobody was asked about."""
    page.wait("app.codeSet")
    page.look_at("R60")
    page.press("a", "f")
    assert "not valid as a code: R60 (needs more characters)" in page.tab.locator("dialog").inner_text()
    page.press("Escape")
    assert not page.state["finished"]


@pytest.mark.parametrize("width", [1280, 640])
def test_the_skip_link_is_first_and_keeps_the_note(coder, examples_page, width):
    """Guards a link to the codes that Tab comes to last, loses the note at a reload, or leads to a hidden pane."""
    page = coder(f"{examples_page[1]}#2", has_codes=False, viewport={"width": width, "height": 700})
    page.press("Tab")
    assert page.tab.evaluate("() => document.activeElement.className") == "skip"
    page.press("Enter")
    assert page.tab.evaluate("() => document.activeElement.closest('.current') !== null")
    assert in_sight(page.card("G40.909").locator("h3"))
    page.tab.reload()
    assert page.tab.locator("#note-title").inner_text() == examples_page[0][1].id


def test_letters_rest_after_a_reload_too(coder, examples_page):
    """Guards dictated words that decide after a reload, because single letters act again."""
    page = coder(examples_page[1], has_codes=False)
    page.press("?")
    page.tab.get_by_label("Single letters act").uncheck()
    page.tab.reload()
    page.press("j")
    assert page.tab.evaluate("() => app.key") == "0"
    page.press("Control+z")
    assert page.tab.locator("dialog").inner_text().startswith("Who reviews?")


def test_every_key_of_the_hint_bar_is_there(page):
    """Guards a bar without Delete, and one that takes a second row of a laptop's screen."""
    assert page.tab.locator("#hints kbd").all_inner_texts() == [*"ARU", "Shift+U", *"JKVE", "Delete", *"/CPF?"]
    rows = page.tab.locator("#hints button").evaluate_all("(buttons) => buttons.map((button) => button.offsetTop)")
    assert len(set(rows)) == 1


def test_codes_and_names_show_what_cannot_be_seen(coder, tmp_path):
    """Guards a code or a reviewer's name that turns the text of a card, a title or the printed summary round."""
    text = (EXAMPLES / "note.txt").read_text()
    document = code_document(text, {"I10": ["chest pain"]}, CodeBook.load(), name="note")
    record = document.to_dict()
    record["codes"][0]["code"] = f"I10{BIDI}"
    path = tmp_path / "page.html"
    path.write_text(page_html([CodedDocument.from_dict(record)], CodeBook.load()), "utf-8")
    page = coder(path.as_uri(), has_codes=False)
    page.press("a")
    page.tab.locator("dialog input").fill(f"Ann{BIDI} Coder")
    page.press("Enter")
    page.wait("!document.querySelector('dialog')")
    page.tab.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    shown = page.tab.evaluate("""() => {
      const parts = ["bar", "review", "print", "hints", "live"].map((id) => document.getElementById(id).outerHTML);
      return parts.join("");
    }""")
    assert shown.count("I10[U+202E]") >= 6 and "Ann[U+202E] Coder" in page.tab.locator("#print").text_content()
    assert BIDI not in shown and "accepted" in page.card("I10").inner_text()


def test_many_overlapping_quotations_leave_the_next_line_legible(coder, tmp_path):
    """Guards underlines, one for each of many overlapping quotations, that are drawn into the text below."""
    words = ["chronic", "systolic", "heart", "failure", "with", "reduced", "ejection", "fraction"]
    text = "\n".join([" ".join(words)] * 2)
    quotations = [" ".join(words[first:]) for first in range(8)]
    path = tmp_path / "page.html"
    path.write_text(
        page_html([code_document(text, {"I10": quotations}, CodeBook.load(), name="n")], CodeBook.load()), "utf-8"
    )
    page = coder(path.as_uri(), has_codes=False)
    layers = page.tab.locator("#note .layer").evaluate_all(
        "(layers) => layers.map((layer) => Math.round(layer.getBoundingClientRect().bottom))"
    )
    below = page.tab.evaluate("""() => {
      const range = document.createRange();
      range.selectNodeContents(document.querySelectorAll("#note .line")[1]);
      return range.getBoundingClientRect().top;
    }""")
    assert len(set(layers)) == 8 and max(layers) <= below + 1


def test_more_overlapping_quotations_than_underlines_are_counted_and_reached(coder, tmp_path):
    """Guards quotations that share the last underline, so that nobody sees that there are several."""
    words = [f"word{number}" for number in range(12)]
    text = f"{' '.join(words)}\n{' '.join(words)}"
    quotations = [" ".join(words[first:]) for first in range(12)]
    path = tmp_path / "page.html"
    document = code_document(text, {"I10": quotations[:6], "I50.9": quotations[6:]}, CodeBook.load(), name="n")
    path.write_text(page_html([document], CodeBook.load()), "utf-8")
    page = coder(path.as_uri(), has_codes=False)
    markers = page.tab.locator("#note .more-quotations")
    shown = markers.evaluate_all("(all) => all.map((one) => getComputedStyle(one, '::before').content)")
    assert shown == ['"+1"', '"+2"', '"+3"', '"+4"']
    assert markers.last.get_attribute("aria-label") == "4 more quotations here: I50.9"
    last, reached = page.tab.locator("#note .piece").last, set()
    for _ in range(12):
        last.click()
        reached.add(page.tab.evaluate("() => `${app.key}.${app.quotation}`"))
        lit = page.tab.locator("#note .layer.lit").last
        assert lit.evaluate("(layer) => getComputedStyle(layer).backgroundColor") == "rgb(255, 213, 74)"
    assert len(reached) == 12
    lines = "() => [...document.querySelectorAll('#note .line')].map((line) => line.textContent).join('')"
    assert page.tab.evaluate(lines) == text  # a marker is no text of the note
    assert page.violations() == []

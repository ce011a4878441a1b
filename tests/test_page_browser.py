"""The coder's page from the disk, in a real browser without a network: what a coder decides, undoes and adds.

test_page_browser_files.py has the files, test_page_browser_safety.py hostile notes and who can use the page,
test_review_browser.py the served page.
"""

import pytest

from tests.browser import CODES

pytestmark = pytest.mark.browser


def decisions(page) -> list[str]:
    """The decision on each code, in words as the cards show it."""
    return page.tab.locator("#codes .decision").all_inner_texts()


def test_decisions_by_key_and_undo_back_to_the_start_and_forth_again(page):
    """Guards a key that acts on another code than the one in focus, and an undo that forgets something."""
    start = page.state
    page.press("a", "j", "r", "j", "a", "1", "j", "r", "d", "Shift+J", "j", "a", "2", "Shift+K", "k", "k", "p")
    decided = page.state
    assert page.item("I11.0")["decision"] == "accepted" and page.item("I50.9")["decision"] == "rejected"
    assert page.item("I34.0")["principal"] and page.item("I34.0")["poa"] == "Y"
    assert page.codes()[0] == "I34.0" and decisions(page)[0] == "accepted"
    acts = page.tab.evaluate("() => currentNote().review.entries.length")

    def turn(*keys):
        for key in keys:
            page.press(key)
            if "not on the screen" in page.message():  # what accepts a code, or does it again, shows it first
                page.press(key)

    for _ in range(3):
        turn(*["u"] * acts)
        assert page.state == start
        assert page.tab.locator("#progress").inner_text() == f"0 of {len(CODES)} decided"
        page.press("u")
        assert page.message() == "Nothing to undo."
        turn(*["Control+Shift+Z", "Shift+U", "Control+y"] * (acts // 3), *["Shift+U"] * (acts % 3))
        assert page.state == decided
    page.press("Shift+U")
    assert page.message() == "Nothing to redo."
    page.press("Control+z", "r", "Shift+U")  # a new act ends what could be done again
    assert page.message() == "Nothing to redo."


def test_selected_words_become_evidence_at_python_s_places(page, examples_page):
    """Guards half words, evidence on the wrong code, and a quotation that cannot be taken away again."""
    page.look_at("I34.0")
    page.select("bnormal diastolic fillin")
    page.press("e")
    text, words = examples_page[0][0].text, "abnormal diastolic filling"
    start = text.index(words)
    evidence = page.item("I34.0")["evidence"]
    assert {"text": words, "start": start, "end": start + len(words)} in evidence and len(evidence) == 3
    lit = page.tab.locator("#note .piece", has=page.tab.locator(".lit")).all_inner_texts()
    assert lit == [words, "mild-to-moderate ", "mitral regurgitation"]
    page.press("e")
    assert page.message() == "Select words in the note first."
    page.card("I34.0").get_by_role("button", name=words).click()
    page.press("Delete")
    assert [quotation["text"] for quotation in page.item("I34.0")["evidence"]] == CODES["I34.0"]
    page.press("Delete", "Delete", "Delete")
    assert page.card("I34.0").get_by_text("No evidence is named.").is_visible()
    page.press("u", "u", "u")
    assert page.item("I34.0")["evidence"] == evidence


def test_note_and_codes_lead_to_each_other(page):
    """Guards highlights that say something about another code, and overlapping quotations one cannot be had of."""
    page.look_at("R32")
    assert page.tab.locator("#note .lit").all_inner_texts() == CODES["R32"]
    overlapping = page.tab.locator("#note .piece", has_text="mitral regurgitation")
    overlapping.click()
    first = page.tab.locator("#codes .quotations li.current").inner_text()
    overlapping.click()
    second = page.tab.locator("#codes .quotations li.current").inner_text()
    assert {first.split("”")[0], second.split("”")[0]} == {f"“{words}" for words in CODES["I34.0"]}
    assert page.tab.locator("#codes [aria-current] h3 .code").inner_text() == "I34.0"
    page.look_at("R60")
    assert page.tab.locator("#note .lit").first.is_visible()
    box, pane = (page.tab.locator(name).first.bounding_box() for name in ("#note .lit", "#note-pane"))
    assert pane["y"] <= box["y"] < pane["y"] + pane["height"]  # scrolled to


def test_words_say_what_colour_says(page):
    """Guards findings that only a colour tells: evidence not found or denied, a heading as a code, exclusions."""
    assert "not found in the note" in page.card("N39.41").inner_text()
    assert "denied" in page.card("R07.9").inner_text()
    assert "Not valid as a code" in page.card("R60").inner_text()
    assert "Excludes1" in page.card("R32").inner_text()
    card = page.card("I50.9")
    card.locator("summary").click()
    page.expect(card).to_contain_text("Code first")  # the notes are written where they are opened


def test_nothing_is_accepted_that_was_not_on_the_screen(page):
    """Guards a code accepted by a key while its card is scrolled away; there is no way to accept all."""
    page.look_at("I11.0")
    page.tab.locator("#code-pane").evaluate("(pane) => pane.scrollTo(0, pane.scrollHeight)")
    for key, expected in (("a", "undecided"), ("a", "accepted")):
        page.press(key)
        assert page.item("I11.0")["decision"] == expected, page.message()
    assert page.tab.get_by_text("all", exact=False).filter(has_text="Accept all").count() == 0
    page.tab.set_viewport_size({"width": 700, "height": 600})  # one pane: the note is shown, the codes are not
    page.look_at("I50.9") if page.card("I50.9").is_visible() else page.press("j")
    page.press("v") if page.tab.locator("#code-pane").is_visible() else None
    page.press("r")
    assert page.item("I50.9")["decision"] == "undecided" and "not on the screen" in page.message()


def test_search_adds_a_code_with_the_selected_words(page):
    """Guards a search that finds nothing without a network, and an added code without its evidence or its origin."""
    page.wait("app.search")
    page.select("Stable 2/6 systolic ejection murmur")
    page.press("/")
    field = page.tab.locator("dialog input")
    assert field.input_value() == "Stable 2/6 systolic ejection murmur"
    page.tab.keyboard.type("systolic murmur")
    options = page.tab.locator("dialog [role=option]")  # text_content: inner_text is "" until a row is laid out
    assert "R01.1" in options.all_text_contents()[0] and "Murmur" in options.first.locator(".where").text_content()
    page.press("Enter")
    item = page.item("R01.1")
    assert (item["decision"], item["added"]) == ("accepted", True)
    assert [quotation["text"] for quotation in item["evidence"]] == ["Stable 2/6 systolic ejection murmur"]
    assert "added by a reviewer" in page.card("R01.1").inner_text()
    page.press("/")
    page.tab.keyboard.type("i50.2")  # a code, and a heading: its codes are listed
    page.press("Enter")
    assert options.first.locator(".code").text_content() == "I50.20"
    page.press("ArrowDown", "Enter")
    assert page.codes()[-1] == "I50.21"
    page.press("/")
    page.tab.keyboard.type("I50.21")
    page.press("Enter")
    assert "in the list already" in page.message() and page.codes().count("I50.21") == 1


def test_a_code_is_changed_to_a_sibling_and_moved(page):
    """Guards a change that keeps the other code's score, a lost origin, and a principal diagnosis that is not first."""
    page.wait("app.codeSet")
    page.look_at("I50.9")
    page.press("c")
    assert "I50.9" not in page.tab.locator("dialog [role=option] .code").all_text_contents()
    page.tab.keyboard.type("acute on chronic diastolic")
    page.press("Enter")
    item = page.item("I50.33")
    assert (item["decision"], item["score"], item["added"]) == ("accepted", None, False)
    assert "changed from I50.9" in page.card("I50.33").inner_text()
    page.press("p")
    assert page.codes()[0] == "I50.33"
    page.look_at("R32")
    page.press("p", "Shift+J", "Shift+K")
    assert page.codes()[0] == "R32" and not page.item("I50.33")["principal"]
    assert page.message() == "The principal diagnosis stays first."
    page.look_at("R07.9")
    page.press("Shift+K")
    assert page.codes().index("R07.9") < page.codes().index("I34.0")
    page.press("3")
    assert "documentation insufficient" in page.card("R07.9").inner_text()
    page.press("0")
    assert page.item("R07.9")["poa"] is None


def test_large_and_single_categories_and_what_the_code_set_does_not_say(page):
    """Guards a list of 3,095 codes that takes a second to open, a dialog without any, and a page that does not say that
    it has no list of codes exempt from present-on-admission reporting."""
    page.wait("app.codeSet")
    page.tab.evaluate("() => { siblingDialog('S82.202A'); }")
    assert page.tab.locator("dialog [role=option]").count() == 200
    assert page.tab.locator("dialog .hit-count").inner_text().startswith("3095 codes; the first 200 are listed")
    page.tab.keyboard.type("S82.202D")
    assert page.tab.locator("dialog [role=option]").count() == 1
    page.press("Escape")
    page.look_at("I10")
    page.press("c")
    assert page.tab.locator("dialog").count() == 0 and "Category I10 has no other code" in page.message()
    page.press("?")
    assert "does not say which codes are exempt from present-on-admission" in page.tab.locator("dialog").inner_text()


def test_keys_rest_while_one_types(page):
    """Guards a reviewer's name with an A in it that accepts a code; and Ctrl+Z in a field, which undoes typing only."""
    page.press("a")
    decided = page.state
    page.press("/") if page.tab.evaluate("() => app.search !== null") else page.tab.locator("#reviewer").click()
    page.tab.keyboard.type("arpud123")
    page.press("Control+z", "Delete", "Escape")
    page.tab.locator("#documents").focus()
    page.press("a", "r")
    assert page.state == decided
    page.press("Escape", "Tab")
    page.press("u")
    assert page.state != decided

"""Coded documents for people: the table and the page show every quotation in its place, and nothing takes effect."""

import re
import time
from html import unescape

from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.infer.answer import filter_by_score
from minscl.infer.report import html_page, marked_text, text_table


def quote(text: str, *places: tuple[int, int]) -> tuple[Evidence, ...]:
    return tuple(Evidence(text[start:end], start, end, grounded=True) for start, end in places)


def test_overlapping_quotations_share_their_pieces():
    """Guards a piece that lacks the codes of the quotation around it, and text that is lost between two."""
    text = "acute on chronic\nheart failure"
    document = CodedDocument(
        "n",
        text,
        (Assignment("I50.23", "", quote(text, (0, 30), (9, 16))), Assignment("I50.9", "", quote(text, (17, 30)))),
    )
    page = marked_text(document)
    assert unescape(re.sub(r" ?<sup>.*?</sup>|<[^>]+>", "", page)) == text
    assert page == (
        '<mark title="I50.23">acute on </mark><mark title="I50.23">chronic<sup>I50.23</sup></mark>'
        '<mark title="I50.23">\n</mark>'
        '<mark title="I50.23, I50.9">heart failure<sup>I50.23</sup> <sup>I50.9</sup></mark>'
    )


def test_thousands_of_quotations_are_marked_in_little_time():
    """Guards every quotation compared with every piece of the note: 10 s for 9,000."""
    text = "pain " * 60_000
    places = [(start, start + 8) for start in range(0, 60_000, 6)]
    document = CodedDocument("n", text, (Assignment("R52", "Pain", quote(text, *places)),))
    start = time.process_time()
    assert marked_text(document).count("<sup>R52</sup>") == len(places)
    assert text_table(document).count("“") == len(places)
    assert time.process_time() - start < 3


def test_control_characters_take_no_effect():
    """Guards a note, an id or an answer that clears the screen, hides text from the page or turns its direction."""
    text = "pain\x1b[2J\x00 in\x85 the\u202e\tchest\r\n<b>"
    hostile = Evidence("\x1b]0;x\x07", None, None, grounded=False)
    codes = (Assignment("R52", "Pain\x1b[1m", (*quote(text, (0, 12)), hostile)),)
    document = CodedDocument("a\x1b[31m\n", text, codes, warnings=("not found in note: \x1b]0;x\x07",))
    for shown in (text_table(document), html_page([document])):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", shown.replace("\r\n", "\n"))
        assert r"pain\x1b[2J\x00 in" in re.sub("<[^>]+>", "", shown) and r"a\x1b[31m" in shown
    assert r"the\u202e" + "\tchest\r\n&lt;b&gt;" in marked_text(document)


def test_codes_below_the_threshold_are_not_nothing():
    """Guards "nothing to code was found" where 16 codes were left out, and "score below 0.25: K21.00 (0.25)"."""
    codes = (Assignment("K21.00", "", score=0.2499), Assignment("I10", "", score=0.1), Assignment("R52", "", score=0.0))
    document = filter_by_score(CodedDocument("n", "text", codes), 0.25)
    assert document.warnings == ("left out, score below 0.25: K21.00 (0.2499), I10 (0.10), R52 (0.00)",)
    for shown in (text_table(document), html_page([document])):
        assert "no code is left: 3 scored below the threshold" in shown and "nothing to code" not in shown
    assert "nothing to code was found" in text_table(CodedDocument("n", "text", (), warnings=()))

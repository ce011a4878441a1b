"""Coded documents as a table: every quotation in its place, and nothing takes effect. The page: test_page.py."""

import re
import time

from minscl.data.types import Assignment, CodedDocument, Evidence
from minscl.infer.answer import filter_by_score
from minscl.infer.report import text_table


def quote(text: str, *places: tuple[int, int]) -> tuple[Evidence, ...]:
    return tuple(Evidence(text[start:end], start, end, grounded=True) for start, end in places)


def test_thousands_of_quotations_are_shown_in_little_time():
    """Guards the lines of the note counted again for every quotation."""
    text = "pain " * 60_000
    places = [(start, start + 8) for start in range(0, 60_000, 6)]
    document = CodedDocument("n", text, (Assignment("R52", "Pain", quote(text, *places)),))
    start = time.process_time()
    assert text_table(document).count("“") == len(places)
    assert time.process_time() - start < 3


def test_control_characters_take_no_effect():
    """Guards an id, a quotation or an answer that clears the screen or turns its direction."""
    text = "pain\x1b[2J\x00 in\x85 the\u202e\tchest\r\n<b>"
    hostile = Evidence("\x1b]0;x\x07", None, None, grounded=False)
    codes = (Assignment("R52", "Pain\x1b[1m", (*quote(text, (0, 12)), hostile)),)
    document = CodedDocument("a\x1b[31m\n", text, codes, warnings=("not found in note: \x1b]0;x\x07",))
    table = text_table(document)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", table)
    assert r"pain\x1b[2J\x00 in" in table and r"a\x1b[31m" in table


def test_codes_below_the_threshold_are_not_nothing():
    """Guards "nothing to code was found" where 16 codes were left out, and "score below 0.25: K21.00 (0.25)"."""
    codes = (Assignment("K21.00", "", score=0.2499), Assignment("I10", "", score=0.1), Assignment("R52", "", score=0.0))
    document = filter_by_score(CodedDocument("n", "text", codes), 0.25)
    assert document.warnings == ("left out, score below 0.25: K21.00 (0.2499), I10 (0.10), R52 (0.00)",)
    table = text_table(document)
    assert "no code is left: 3 scored below the threshold" in table and "nothing to code" not in table
    assert "nothing to code was found" in text_table(CodedDocument("n", "text", (), warnings=()))
